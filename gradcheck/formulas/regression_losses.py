"""Losses of a real prediction: squared, absolute, Huber's, and the smooth absolute one."""

from __future__ import annotations

from typing import Any

import numpy as np

from gradcheck.arithmetic.exact import exact
from gradcheck.formulas.parts import accepted, stable
from gradcheck.formulas.reductions import REDUCTION, alike, count, reduced, share, some_axes
from gradcheck.records import DERIVATIVE, Arrangement, Choose, Formula, Option

_PAIR = ("x", "target")
_FAMILIES = ("plain", "moderate", "grid", "ties", "kinks", "offset", "scaled")
HALF = exact(1) / 2
_SHARED_FIRST = "the n-th part is taken before the cotangent"


def _portion(factor: int, like: Any, reduction: str) -> Any:
    """Return what every loss is multiplied by: the factor, or its n-th part for a mean of n."""
    return exact(factor) / count(like.shape) if reduction == "mean" else factor


def _mse(x: Any, target: Any, *, reduction: str) -> Any:
    """Value (x - t)², reduced."""
    return reduced(np.square(x - target), reduction)


def _mse_vjp(inputs: tuple[Any, Any], cotangent: Any, *, reduction: str) -> tuple[Any, Any]:
    """Gradients ±2c(x - t), c shared out."""
    x, target = inputs
    g = share(cotangent, x, reduction) * 2 * (x - target)
    return g, -g


def _mse_vjp_shared_first(inputs: tuple[Any, Any], cotangent: Any, *, reduction: str) -> tuple[Any, Any]:
    x, target = inputs
    g = _portion(2, x, reduction) * (x - target) * cotangent
    return g, -g


MSE_LOSS = Formula(
    name="mse_loss",
    title="Mean squared error",
    equation="(x - t)²",
    source="Legendre, Nouvelles méthodes pour la détermination des orbites des comètes, 1805",
    value=_mse,
    vjp=_mse_vjp,
    inputs=_PAIR,
    options=(REDUCTION,),
    arrange=alike(2),
    families=_FAMILIES,
    variants=(accepted(DERIVATIVE, _SHARED_FIRST, _mse_vjp_shared_first),),
    hazards=("the square overflows where the difference is still finite",),
)


def _apart(inputs: tuple[Any, Any]) -> Any:
    """Return x - t and |x - t|, the latter without a kink in its enclosure of 0."""
    d = inputs[0] - inputs[1]
    return d, np.abs(d)


def _l1(x: Any, target: Any, *, reduction: str) -> Any:
    """Value |x - t|, reduced."""
    return reduced(np.abs(x - target), reduction)


def _l1_vjp(inputs: tuple[Any, Any], cotangent: Any, *, reduction: str) -> tuple[Any, Any]:
    """Gradients ±c sign(x - t), c shared out; at x = t any number between -c and c."""
    x, target = inputs
    g = share(cotangent, x, reduction) * np.sign(x - target)
    return g, -g


def _sign(d: Any) -> Any:
    """The sign by comparisons, none of which holds for NaN."""
    one, nothing = np.full_like(d, 1), np.full_like(d, 0)
    return np.where(d > 0, one, np.where(d < 0, -one, nothing))


def _l1_vjp_by_comparison(inputs: tuple[Any, Any], cotangent: Any, *, reduction: str) -> tuple[Any, Any]:
    d = inputs[0] - inputs[1]
    g = share(cotangent, d, reduction) * _sign(d)
    return g, -g


def _equal(inputs: tuple[Any, Any], *, reach: float = 0.0, **_: Any) -> Any:
    return np.abs(inputs[0] - inputs[1]) <= reach


L1_LOSS = Formula(
    name="l1_loss",
    title="Mean absolute error",
    equation="|x - t|",
    source="Laplace, Sur les degrés mesurés des méridiens, 1793",
    value=_l1,
    vjp=_l1_vjp,
    inputs=_PAIR,
    options=(REDUCTION,),
    arrange=alike(2),
    families=_FAMILIES,
    touching=_equal,
    variants=(stable(DERIVATIVE, "the sign by comparisons, 0 for NaN", _l1_vjp_by_comparison),),
    hazards=("the gradient does not vanish with the error",),
)


def _huber(x: Any, target: Any, *, delta: Any, reduction: str) -> Any:
    """Value (x - t)²/2 where |x - t| <= δ, δ(|x - t| - δ/2) beyond."""
    d, a = _apart((x, target))
    return reduced(np.where(a < delta, HALF * d * d, delta * (a - HALF * delta)), reduction)


def _huber_vjp(inputs: tuple[Any, Any], cotangent: Any, *, delta: Any, reduction: str) -> tuple[Any, Any]:
    """Gradients ±c (x - t) inside, ±cδ sign(x - t) beyond."""
    d, a = _apart(inputs)
    g = share(cotangent, d, reduction) * np.where(a < delta, d, delta * np.sign(d))
    return g, -g


def _huber_vjp_shared_first(
    inputs: tuple[Any, Any], cotangent: Any, *, delta: Any, reduction: str
) -> tuple[Any, Any]:
    d, a = _apart(inputs)
    n = _portion(1, d, reduction)
    g = np.where(a < delta, n * d * cotangent, n * np.sign(d) * cotangent * delta)
    return g, -g


def _at_delta(inputs: tuple[Any, Any], *, delta: Any, reach: float = 0.0, **_: Any) -> Any:
    return np.abs(np.abs(inputs[0] - inputs[1]) - delta) <= reach


HUBER_LOSS = Formula(
    name="huber_loss",
    title="Huber's loss",
    equation="(x - t)²/2 where |x - t| < δ, else δ(|x - t| - δ/2)",
    source="Huber, Robust estimation of a location parameter, Annals of Mathematical Statistics 35, 1964",
    value=_huber,
    vjp=_huber_vjp,
    inputs=_PAIR,
    options=(Option("delta", 1.0, 0.125, 8.0), REDUCTION),
    arrange=alike(2),
    families=_FAMILIES,
    touching=_at_delta,
    variants=(accepted(DERIVATIVE, _SHARED_FIRST, _huber_vjp_shared_first),),
    hazards=("the second derivative jumps at |x - t| = δ",),
)


def _over(d: Any, beta: Any) -> Any:
    """Return d/β; 0 for β = 0, where no |d| is below β."""
    return np.zeros_like(d) if beta == 0 else d / beta


def _smooth_l1(x: Any, target: Any, *, beta: Any, reduction: str) -> Any:
    """Value (x - t)²/2β where |x - t| < β, |x - t| - β/2 beyond; β = 0 is the absolute error."""
    d, a = _apart((x, target))
    return reduced(np.where(a < beta, _over(HALF * d * d, beta), a - HALF * beta), reduction)


def _smooth_l1_vjp(inputs: tuple[Any, Any], cotangent: Any, *, beta: Any, reduction: str) -> tuple[Any, Any]:
    """Gradients ±c (x - t)/β inside, ±c sign(x - t) beyond."""
    d, a = _apart(inputs)
    g = share(cotangent, d, reduction) * np.where(a < beta, _over(d, beta), np.sign(d))
    return g, -g


def _smooth_l1_vjp_shared_first(
    inputs: tuple[Any, Any], cotangent: Any, *, beta: Any, reduction: str
) -> tuple[Any, Any]:
    d, a = _apart(inputs)
    n = _portion(1, d, reduction)
    g = np.where(a < beta, _over(n * d * cotangent, beta), n * np.sign(d) * cotangent)
    return g, -g


def _smooth_l1_vjp_by_comparison(
    inputs: tuple[Any, Any], cotangent: Any, *, beta: Any, reduction: str
) -> tuple[Any, Any]:
    d, a = _apart(inputs)
    g = share(cotangent, d, reduction) * np.where(a < beta, _over(d, beta), _sign(d))
    return g, -g


def _at_beta(inputs: tuple[Any, Any], *, beta: Any, reach: float = 0.0, **_: Any) -> Any:
    return np.abs(np.abs(inputs[0] - inputs[1]) - beta) <= reach


def _with_beta(choose: Choose) -> Arrangement:
    """Half of the draws take β = 1 or β = 0; a β that a format rounds to 0 would be a third matter."""
    shape = some_axes(choose)
    beta = choose.choice((1.0, 0.0, 0.0, 0.25)) if choose.integer(0, 1) else choose.integer(1, 128) / 16
    return Arrangement((shape, shape), {"beta": beta})


SMOOTH_L1_LOSS = Formula(
    name="smooth_l1_loss",
    title="Smooth absolute error",
    equation="(x - t)²/2β where |x - t| < β, else |x - t| - β/2",
    source="Girshick, Fast R-CNN, ICCV 2015",
    value=_smooth_l1,
    vjp=_smooth_l1_vjp,
    inputs=_PAIR,
    options=(Option("beta", 1.0, 0.0, 8.0), REDUCTION),
    arrange=_with_beta,
    families=(*_FAMILIES, "ties"),
    touching=_at_beta,
    variants=(
        accepted(DERIVATIVE, _SHARED_FIRST, _smooth_l1_vjp_shared_first),
        stable(DERIVATIVE, "the sign by comparisons, 0 for NaN", _smooth_l1_vjp_by_comparison),
    ),
    hazards=("d²/2β overflows where β is small and |x - t| is still below it", "β = 0 has a kink at 0"),
)

FORMULAS = (MSE_LOSS, L1_LOSS, HUBER_LOSS, SMOOTH_L1_LOSS)
