"""What may help: each remedy is applied to a copy of the user's own model, and its rate is measured there."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from gradcheck.errors import UsageError
from gradcheck.flow.measuring import Measurement
from gradcheck.flow.modules import gather, measured, torch_parts


@dataclass(frozen=True)
class Remedy:
    """One remedy and what it did: a measurement of the changed copies, or the reason why there is none.

    `changes` says what was done; `kind` is one of "initialisation", "normalisation", "residual",
    "activation".
    """

    kind: str
    changes: str
    measurement: Measurement | None
    reason: str = ""

    @property
    def rate(self) -> float:
        """The rate of the changed copies; NaN without a measurement."""
        return math.nan if self.measurement is None else self.measurement.rate

    def __str__(self) -> str:
        m = self.measurement
        if m is None:
            return f"{self.kind}: {self.changes}: not measured, {self.reason}"
        low, high = m.interval
        return (
            f"{self.kind}: {self.changes}: {m.verdict}, span {m.span:.2f}, rate {m.rate:+.4g} "
            f"[{low:+.4g}, {high:+.4g}], {m.seeds} networks"
        )


def try_remedies(
    build: Any, example: Any, *, seeds: int = 8, loss: Callable[..., Any] | None = None, seed: int = 0
) -> tuple[Remedy, ...]:
    """Measure every remedy on copies of what `build` makes, or of the module itself, which is not changed."""
    flow, remedies = torch_parts()
    done = []
    for kind, changes, change in _known(remedies):
        try:
            found = measured(gather(_changed(flow, build, change), example, seeds, loss, seed=seed))
        except UsageError as error:
            done.append(Remedy(kind, changes, None, str(error)))
        else:
            done.append(Remedy(kind, changes, found))
    return tuple(done)


def _known(remedies: Any) -> list[tuple[str, str, Callable[[Any], Any]]]:
    def both(first: Callable[[Any], Any], second: Callable[[Any], Any]) -> Callable[[Any], Any]:
        return lambda module: second(first(module))

    critical, orthogonal = remedies.critical_weights, remedies.orthogonal_weights
    return [
        ("initialisation", "Gaussian weights of variance 1/(fan_in E φ'²), biases 0", critical),
        ("initialisation", "orthogonal weights of gain 1/√(E φ'²), biases 0", orthogonal),
        ("normalisation", "batch norm after every layer but the last", remedies.normalisation("batch")),
        ("normalisation", "layer norm after every layer but the last", remedies.normalisation("layer")),
        ("residual", "x + layer(φ(x))", remedies.skips(1.0)),
        ("residual", "x + layer(φ(x))/√L", remedies.skips(None)),
        ("activation", "ReLU, weights as they are", remedies.activation("ReLU")),
        (
            "activation",
            "ReLU, with Gaussian weights of variance 2/fan_in",
            both(remedies.activation("ReLU"), critical),
        ),
        ("activation", "Tanh, weights as they are", remedies.activation("Tanh")),
        ("activation", "GELU, weights as they are", remedies.activation("GELU")),
    ]


def _changed(flow: Any, build: Any, change: Callable[[Any], Any]) -> Callable[[int], Any]:
    def made(seed: int) -> Any:
        module = flow.copied(flow.make(build, seed))
        return change(module)

    made.__qualname__ = "changed"
    return made
