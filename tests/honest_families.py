"""Good implementations of the formulas of several inputs: float64 NumPy, rounded once to the format.

Second derivatives come from a complex step through the gradient: the Hessian is symmetric, so what
`second` asks for is the change of the gradient along the directions, Im vjp(x + ihd)/h, without cancellation.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from gradcheck import formulas
from gradcheck.formats import Format
from gradcheck.records import Array, Options
from gradcheck.subjects.implementation import Implementation, plain_options
from tests.honest import Many, rounded, wide
from tests.honest_clipping import CLIPPINGS
from tests.honest_layers import LAYERS
from tests.honest_losses import CONSTANTS, LOSSES
from tests.honest_normalization import NORMALIZATIONS
from tests.honest_optimizers import OPTIMIZERS
from tests.honest_schedules import SCHEDULES

_STEP = 2.0**-100
WITHOUT_GRADIENT = {*CLIPPINGS, *OPTIMIZERS, *SCHEDULES, "batch_norm_running"} - {"l2_penalty", "l1_penalty"}
WITHOUT_GRADIENT -= {"decoupled_decay", "gradient_norm_penalty", "kronecker_penalty"}
# Their gradients are themselves complex steps, which do not nest.
WITHOUT_SECOND = WITHOUT_GRADIENT | {"gradient_norm_penalty"}
# The places of inputs that are not differentiated.
FIXED: dict[str, tuple[int, ...]] = {
    "dropout": (1,),
    "batch_norm_eval": (3, 4),
    "gradient_norm_penalty": (0, 1),
    **CONSTANTS,
}


def by_complex_step(vjp: Callable[..., Sequence[Any]], fixed: tuple[int, ...]) -> Callable[..., Any]:
    """Return the gradient of sum_k <d_k, vjp_k> from the vjp."""

    def second(inputs: Sequence[Any], c: Any, directions: Sequence[Any], **options: Any) -> Any:
        moved = tuple(
            x if place in fixed else x + 1j * (_STEP * d)
            for place, (x, d) in enumerate(zip(inputs, directions, strict=True))
        )
        found = vjp(moved, c, **options)
        return tuple(None if g is None else np.imag(g) / _STEP for g in found)

    return second


def _finished(formula: str, many: Many) -> Many:
    if many.second is not None or formula in WITHOUT_SECOND:
        return many
    return replace(many, second=by_complex_step(many.vjp, FIXED.get(formula, ())))


FAMILIES: dict[str, Many] = {
    formula: _finished(formula, many)
    for formula, many in {
        **LAYERS,
        **NORMALIZATIONS,
        **LOSSES,
        **CLIPPINGS,
        **OPTIMIZERS,
        **SCHEDULES,
    }.items()
}


def _all(fmt: Format, results: Any) -> Any:
    if isinstance(results, tuple | list):
        return tuple(None if each is None else rounded(fmt, each) for each in results)
    return rounded(fmt, results)


def completed(formula: str, options: Options) -> dict[str, Any]:
    """Return every option of the formula: the given ones over its defaults."""
    if all(each.name != formula for each in formulas.CATALOGUE):
        return dict(options)
    return plain_options(formulas.get_formula(formula), options)


def implementation(formula: str, fmt: Format, many: Many) -> Implementation:
    """Return the implementation that float64 functions describe, each result rounded once."""

    def forward(inputs: tuple[Array, ...], options: Options) -> Any:
        with np.errstate(all="ignore"):
            return _all(fmt, many.value(*map(wide, inputs), **completed(formula, options)))

    def vjp(inputs: tuple[Array, ...], c: Array, options: Options) -> tuple[Array | None, ...]:
        with np.errstate(all="ignore"):
            return tuple(
                _all(fmt, many.vjp(tuple(map(wide, inputs)), wide(c), **completed(formula, options)))
            )

    def second(
        inputs: tuple[Array, ...], c: Array, directions: tuple[Array, ...], options: Options
    ) -> tuple[Array | None, ...]:
        assert many.second is not None
        arguments = tuple(map(wide, inputs)), wide(c), tuple(map(wide, directions))
        with np.errstate(all="ignore"):
            return tuple(_all(fmt, many.second(*arguments, **completed(formula, options))))

    differentiable = formula not in WITHOUT_GRADIENT
    return Implementation(
        formula=formula,
        subject="corpus",
        format=fmt,
        forward=forward,
        vjp=vjp if differentiable else None,
        second=second if differentiable and many.second is not None else None,
    )


def honest_family(formula: str, fmt: Format) -> Implementation:
    """Return the good implementation of a formula of several inputs."""
    return implementation(formula, fmt, FAMILIES[formula])
