"""Explain a user's own model: where its gradient leaves what its weights predict, and what would help."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from gradcheck.errors import UsageError
from gradcheck.flow.activations import activation_formulas, get_activation
from gradcheck.flow.measuring import Measurement
from gradcheck.flow.modules import Gathered, gather, measured, torch_parts
from gradcheck.flow.remedies import Remedy, try_remedies
from gradcheck.flow.safety import FormatSafety, format_safety
from gradcheck.flow.statistics import over_networks
from gradcheck.flow.verdict import surely_differs

# The norm that clipping is tried with, as a share of the norm of all gradients together.
CLIPPED_TO = 0.1
# How often chance makes some layer of a healthy model seem to leave its prediction.
CHANCE = 1e-3


@dataclass(frozen=True)
class Step:
    """What the gradient does between two layers, towards the input, and what their weights predict.

    `measured` is the change of E ln ‖g‖² from the layer `above` to the layer `name`, `error` its standard
    error. `predicted` is ln(σ_w² E φ'²), of the weights' own mean square and the pre-activations' own mean
    and variance, less (3κ - 1)/(2n) for the typical network of width n, κ = E φ'⁴/(E φ'²)²; `slack` is that
    correction, the accuracy of the prediction. NaN where the way between the layers is not known: a function
    in between, say.
    """

    name: str
    above: str
    measured: float
    error: float
    predicted: float
    slack: float


@dataclass(frozen=True)
class Training:
    """Decades between the first and the last weight, of the gradient and of what reaches the weights.

    `clipped` is the same after clipping by the global norm, `sgd` and `adam` that of the first step over its
    rate. Clipping multiplies all layers alike; Adam divides each by its own size, which hides the difference
    while the gradient is larger than its ε.
    """

    first: str
    last: str
    gradient: float
    clipped: float
    sgd: float
    adam: float

    @property
    def clipping_helps(self) -> bool:
        """Whether clipping changes the ratio of first to last by more than rounding."""
        return not abs(self.clipped - self.gradient) <= 1e-9 * (1 + abs(self.gradient))

    @property
    def adam_hides(self) -> bool:
        """Whether Adam's steps differ by less than half as many decades as the gradients do."""
        return abs(self.gradient) >= 1 and abs(self.adam) <= abs(self.gradient) / 2


@dataclass(frozen=True)
class Diagnosis:
    """Everything that is known of one model's gradients.

    `leaves_at` is the layer, going from the output, at which ln ‖g‖² surely leaves the prediction; "" if
    none. `dead` and `saturated` are layers with the share of such units, the worst first.
    """

    measurement: Measurement
    steps: tuple[Step, ...]
    leaves_at: str
    dead: tuple[tuple[str, float], ...]
    saturated: tuple[tuple[str, float], ...]
    formats: tuple[FormatSafety, ...]
    training: Training | None
    remedies: tuple[Remedy, ...]

    @property
    def best(self) -> Remedy | None:
        """The remedy with the smallest span; None if none was measured."""
        tried = [
            (r.measurement.span, place) for place, r in enumerate(self.remedies) if r.measurement is not None
        ]
        finite = [pair for pair in tried if math.isfinite(pair[0])]
        return self.remedies[min(finite)[1]] if finite else None

    def __str__(self) -> str:
        from gradcheck.flow.text import explain_diagnosis

        return explain_diagnosis(self)


def diagnose(
    build: Any,
    example_input: Any,
    *,
    seeds: int = 8,
    loss: Callable[..., Any] | None = None,
    remedies: bool = True,
    seed: int = 0,
) -> Diagnosis:
    """Diagnose an `nn.Module`, or what `build(seed) -> nn.Module` makes; the model itself is left as it was.

    `loss(output)` is the real loss; without it the cotangent is Gaussian with unit entries. `remedies` says
    whether they are measured, each on copies. Raises `UsageError` for what cannot be measured.
    """
    gathered = gather(build, example_input, seeds, loss, seed=seed)
    measurement = measured(gathered)
    steps = _steps(gathered)
    rows = measurement.layers
    return Diagnosis(
        measurement=measurement,
        steps=steps,
        leaves_at=_leaves_at(gathered, steps),
        dead=_worst([(row.name, row.dead) for row in rows]),
        saturated=_worst([(row.name, row.saturated) for row in rows]),
        formats=format_safety(build, example_input, gathered, loss, seed),
        training=_training(build, example_input, loss, seed),
        remedies=try_remedies(build, example_input, seeds=seeds, loss=loss, seed=seed) if remedies else (),
    )


def _worst(shares: Sequence[tuple[str, float]]) -> tuple[tuple[str, float], ...]:
    found = [(name, share) for name, share in shares if share > 0]
    return tuple(sorted(found, key=lambda pair: -pair[1]))


def _steps(gathered: Gathered) -> tuple[Step, ...]:
    """Return the steps from the output to the input."""
    gradient, names = gathered.rows("gradient"), gathered.names
    live = np.all(np.isfinite(gradient), axis=0)
    found = []
    for place in range(len(names) - 2, -1, -1):
        own = over_networks(gradient[place, live] - gradient[place + 1, live])
        laws = [
            _law(r.calls, gathered.columns[place][k], gathered.columns[place + 1][k])
            for k, r in enumerate(gathered.records)
        ]
        predicted = float(np.mean([law[0] for law in laws]))
        slack = float(np.max([law[1] for law in laws]))
        found.append(Step(names[place], names[place + 1], own.value, own.error, predicted, slack))
    return tuple(found)


def _law(calls: Sequence[Any], own: Any, above: Any) -> tuple[float, float]:
    """Return ln of the predicted factor on ‖g‖² from a call back to the one below it, and its slack."""
    nothing = (math.nan, math.nan)
    total, call = 0.0, above
    while True:
        if call.source < 0 or not math.isfinite(call.log_gain):
            return nothing
        total += call.log_gain + math.log(call.passing)
        if call.source < 0 or calls[call.source] is own:
            break
        # What only prepares a normalisation is passed through; any other layer is one that was not asked for.
        if not calls[call.source].into_norm or call.through != "linear":
            return nothing
        call = calls[call.source]
    if call.through != "linear" and call.through not in activation_formulas():
        return nothing
    second, fourth = slope_moments(call.through, own.mean, own.variance)
    if second <= 0:
        return nothing
    spread = (3 * fourth / second**2 - 1) / (2 * own.units)
    return total + math.log(second) - spread / 2, spread


def slope_moments(activation: str, mean: float, variance: float) -> tuple[float, float]:
    """Return E φ'² and E φ'⁴ over N(mean, variance), by the midpoint rule over ±9 deviations."""
    edges = np.linspace(-9.0, 9.0, 20001)
    t = 0.5 * (edges[1:] + edges[:-1])
    weights = np.exp(-np.square(t) / 2)
    slope = get_activation(activation).derivative(mean + math.sqrt(max(variance, 0.0)) * t)
    weights = weights / np.sum(weights)
    return float(np.sum(weights * slope**2)), float(np.sum(weights * slope**4))


def _leaves_at(gathered: Gathered, steps: Sequence[Step]) -> str:
    """Return the first layer from the output where ln ‖g‖² surely is not what it should be.

    Judged are the step from the layer above, which a single odd layer shows in, and the sum of all steps so
    far, which small differences add up in. Student's t with as many networks as there are; all tests together
    err in one of 1/`CHANCE` models.
    """
    gradient, names = gathered.rows("gradient"), gathered.names
    live = np.all(np.isfinite(gradient), axis=0)
    start, expected, slack = len(names) - 1, 0.0, 0.0
    chance = CHANCE / (2 * len(steps))
    for place, step in zip(range(len(names) - 2, -1, -1), steps, strict=True):
        if math.isnan(step.predicted):
            start, expected, slack = place, 0.0, 0.0
            continue
        expected, slack = expected + step.predicted, slack + step.slack
        for above, law, doubt in ((place + 1, step.predicted, step.slack), (start, expected, slack)):
            seen = over_networks(gradient[place, live] - gradient[above, live])
            if surely_differs(seen, law, doubt, chance):
                return names[place]
    return ""


def _training(build: Any, example: Any, loss: Callable[..., Any] | None, seed: int) -> Training | None:
    flow, remedies = torch_parts()
    with flow.as_before():
        try:
            module = flow.make(build, seed)
            names, found = remedies.update_norms(module, example, seed, loss, CLIPPED_TO)
        except (UsageError, RuntimeError):
            return None
    spans = {way: (norms[0] - norms[-1]) / math.log(10.0) for way, norms in found.items()}
    if not all(math.isfinite(span) for span in spans.values()):
        return None
    return Training(names[0], names[-1], spans["gradient"], spans["clipped"], spans["SGD"], spans["Adam"])
