"""Gradient clipping: by value, by norm, by the norm of several arrays together, and unit by unit.

A norm is taken of the shares of the largest magnitude, s (Σ |g/s|^p)^(1/p), whose powers neither overflow nor
lose what matters to underflow; the plain root of a sum of powers does both, and is listed as unstable.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import reduce
from typing import Any

import numpy as np

from gradcheck.arithmetic.exact import exact
from gradcheck.formats import Format
from gradcheck.formulas.parts import accepted, unstable, zero
from gradcheck.records import VALUE, Arrangement, Choose, Formula, Option

_MAGNITUDES = ("plain", "moderate", "grid", "offset", "scaled", "ties", "constant", "kinks", "subnormal")
_ANY = (*_MAGNITUDES, "extremes", "log-uniform")
_MAX_NORMS = tuple(share / 1000 for share in (0, 1, 100, 250, 1000, 4000, 2**23))
_ORDERS = (2.0, 2.0, 2.0, 1.0, 1.5, 3.0, math.inf)


def _clip_by_value(g: Any, *, threshold: Any) -> Any:
    """Value min(max(g, -c), c); its slope is 1 between -c and c and 0 outside."""
    return np.clip(g, -threshold, threshold)


def _clip_by_value_derivative(g: Any, *, threshold: Any) -> Any:
    return np.where(np.abs(g) < threshold, np.ones_like(g), np.zeros_like(g))


def _clip_by_value_kinks(*, threshold: Any) -> tuple[float, ...]:
    end = float(threshold)
    return (-end, end) if math.isfinite(end) else ()


def _clip_by_value_limits(*, threshold: Any) -> tuple[tuple[float, float], ...]:
    end = float(threshold)
    slope = 1.0 if math.isinf(end) else 0.0
    return (-end, end), (slope, slope), (0.0, 0.0)


CLIP_BY_VALUE = Formula(
    name="clip_by_value",
    title="Gradient clipping by value",
    equation="min(max(g, -c), c)",
    source="Mikolov, Statistical Language Models Based on Neural Networks, Brno, 2012",
    value=_clip_by_value,
    derivative=_clip_by_value_derivative,
    second=zero,
    inputs=("g",),
    options=(Option("threshold", 1.0, low=0.0, high=1e4, infinite=True),),
    kinks=_clip_by_value_kinks,
    limits=_clip_by_value_limits,
    analytic=False,
    article="F13",
)


def _greatest(size: Any, axis: int | None = None) -> Any:
    """The largest of some magnitudes; 0 of none."""
    keep = axis is not None
    pick = np.sum if 0 in size.shape else np.max
    return pick(size, axis=axis, keepdims=keep)


def _sum_of_powers(size: Any, p: float, axis: int | None = None) -> Any:
    keep = axis is not None
    if p == 1:
        return np.sum(size, axis=axis, keepdims=keep)
    powers = np.square(size) if p == 2 else size**p
    # A sum of powers is no less than 0, which an interval that overflowed does not know.
    return np.maximum(np.sum(powers, axis=axis, keepdims=keep), 0)


def _root(total: Any, p: float) -> Any:
    if p == 1:
        return total
    if p == 2:
        return np.sqrt(total)
    return total ** (1 / exact(p))


def _shares(parts: Sequence[Any], p: float, axis: int | None = None) -> tuple[Any, Any, Any]:
    """The largest magnitude s (1 if there is none), |g|/s of every part, and the norm of these."""
    sizes = [np.abs(part) for part in parts]
    largest = reduce(np.maximum, [_greatest(size, axis) for size in sizes])
    scale = _positive(largest)
    shares = [size / scale for size in sizes]
    if p == math.inf:
        return scale, shares, largest / scale
    return scale, shares, _root(reduce(np.add, [_sum_of_powers(share, p, axis) for share in shares]), p)


def _plain_norm(parts: Sequence[Any], p: float, axis: int | None = None) -> Any:
    """The norm of the norms of the parts, each the root of a plain sum of powers."""
    if p == math.inf:
        return reduce(np.maximum, [_greatest(np.abs(part), axis) for part in parts])
    norms = [_root(_sum_of_powers(np.abs(part), p, axis), p) for part in parts]
    return norms[0] if len(norms) == 1 else _root(reduce(np.add, [_sum_of_powers(n, p) for n in norms]), p)


def _positive(divisor: Any) -> Any:
    """The divisor, 1 in place of 0: the norm of nothing but zeros, which are not clipped. NaN stays NaN."""
    return np.where(divisor == 0, np.ones_like(divisor), divisor)


def _clipped(parts: Sequence[Any], max_norm: Any, p: float, epsilon: Any) -> tuple[Any, ...]:
    """Every part times min(1, c / (‖g‖ + ε)), as (g/s) (c / (‖g/s‖ + ε/s)), and the norm ‖g‖ of all."""
    scale, _, ratio = _shares(parts, p)
    norm = scale * ratio
    factor = max_norm / _positive(ratio + epsilon / scale)
    keep = norm + epsilon <= max_norm
    return (*(np.where(keep, part, part / scale * factor) for part in parts), norm)


def _clipped_by_the_larger(parts: Sequence[Any], max_norm: Any, p: float, epsilon: Any) -> tuple[Any, ...]:
    scale, _, ratio = _shares(parts, p)
    norm = scale * ratio
    return (*(part * max_norm / np.maximum(norm + epsilon, max_norm) for part in parts), norm)


def _plainly_clipped(parts: Sequence[Any], max_norm: Any, p: float, epsilon: Any) -> tuple[Any, ...]:
    norm = _plain_norm(parts, p)
    factor = np.minimum(max_norm / (norm + epsilon), 1)
    return (*(part * factor for part in parts), norm)


def _clipped_by_reciprocal(parts: Sequence[Any], max_norm: Any, p: float, epsilon: Any) -> tuple[Any, ...]:
    norm = _plain_norm(parts, p)
    factor = np.minimum(np.reciprocal(norm + epsilon) * max_norm, 1)
    return (*(part * factor for part in parts), norm)


_LARGER = "g c / max(‖g‖ + ε, c)"
_PLAINLY = "a plain sum of powers, one factor c/‖g‖"
_RECIPROCALLY = "a plain sum of powers, one factor c (1/‖g‖)"
_NORM_OPTIONS = (
    Option("max_norm", 1.0, low=0.0, high=1e30, infinite=True),
    Option("p", 2.0, low=1.0, high=64.0, infinite=True, structural=True),
    Option("epsilon", 1e-6, low=0.0, high=1e-3),
)
_NORM_HAZARDS = (
    "a sum of squares overflows and underflows where the norm does neither",
    "a norm of zero: 0/0 without the constant in the denominator",
    "one infinite or NaN element makes the norm of everything infinite or NaN",
)


def _norm_choices(choose: Choose) -> dict[str, Any]:
    return {"max_norm": choose.choice(_MAX_NORMS), "p": choose.choice(_ORDERS)}


def _of_some_norm(
    inputs: tuple[Any, ...], options: Mapping[str, Any], fmt: Format, seed: int
) -> tuple[Any, ...]:
    """In a quarter of the cases the norm is near the threshold, in more than that its square overflows."""
    most, threshold = max(np.max(np.abs(g), initial=0.0) for g in inputs), options["max_norm"]
    if most > 0 and (seed % 4 == 1 or (options["p"] == 2 and seed % 4 == 0)):
        return tuple(g / most * fmt.largest**0.75 for g in inputs)
    if most == 0 or seed % 4 != 3:
        return inputs
    _, _, ratio = _shares(inputs, options["p"])
    wanted = threshold * (0.75 if seed // 4 % 4 == 3 else 1.5)
    return tuple(g / most / ratio * wanted for g in inputs)


def _arrange_one(choose: Choose) -> Arrangement:
    shape = choose.choice(((choose.size(),), (choose.size(1, 6), choose.size(1, 6))))
    return Arrangement((shape,), _norm_choices(choose))


def _clip_by_norm(g: Any, *, max_norm: Any, p: float, epsilon: Any) -> Any:
    """Value g min(1, c / (‖g‖ + ε)) in the p-norm; ε is 0 in the paper and 1e-6 in some libraries."""
    return _clipped((g,), max_norm, p, epsilon)[0]


def _clip_by_norm_by_the_larger(g: Any, *, max_norm: Any, p: float, epsilon: Any) -> Any:
    return _clipped_by_the_larger((g,), max_norm, p, epsilon)[0]


def _clip_by_norm_plainly(g: Any, *, max_norm: Any, p: float, epsilon: Any) -> Any:
    return _plainly_clipped((g,), max_norm, p, epsilon)[0]


def _clip_by_norm_reciprocally(g: Any, *, max_norm: Any, p: float, epsilon: Any) -> Any:
    return _clipped_by_reciprocal((g,), max_norm, p, epsilon)[0]


CLIP_BY_NORM = Formula(
    name="clip_by_norm",
    title="Gradient clipping by norm",
    equation="g min(1, c / (‖g‖ₚ + ε))",
    source="Pascanu, Mikolov & Bengio, ICML 2013, arXiv:1211.5063",
    value=_clip_by_norm,
    inputs=("g",),
    options=_NORM_OPTIONS,
    variants=(
        accepted(VALUE, _LARGER, _clip_by_norm_by_the_larger),
        unstable(VALUE, _PLAINLY, _clip_by_norm_plainly),
        unstable(VALUE, _RECIPROCALLY, _clip_by_norm_reciprocally),
    ),
    arrange=_arrange_one,
    fit=_of_some_norm,
    families=_ANY,
    analytic=False,
    hazards=_NORM_HAZARDS,
    article="F13",
)


def _arrange_three(choose: Choose) -> Arrangement:
    shapes = ((choose.size(1, 16),), (choose.size(1, 4), choose.size(1, 4)), ())
    return Arrangement(shapes, _norm_choices(choose))


def _clip_by_global_norm(a: Any, b: Any, c: Any, *, max_norm: Any, p: float, epsilon: Any) -> Any:
    """Values a, b and c times min(1, c / (‖(a, b, c)‖ + ε)), and the norm of all three together."""
    return _clipped((a, b, c), max_norm, p, epsilon)


def _clip_by_global_norm_by_the_larger(
    a: Any, b: Any, c: Any, *, max_norm: Any, p: float, epsilon: Any
) -> Any:
    return _clipped_by_the_larger((a, b, c), max_norm, p, epsilon)


def _clip_by_global_norm_plainly(a: Any, b: Any, c: Any, *, max_norm: Any, p: float, epsilon: Any) -> Any:
    return _plainly_clipped((a, b, c), max_norm, p, epsilon)


def _clip_by_global_norm_reciprocally(
    a: Any, b: Any, c: Any, *, max_norm: Any, p: float, epsilon: Any
) -> Any:
    return _clipped_by_reciprocal((a, b, c), max_norm, p, epsilon)


CLIP_BY_GLOBAL_NORM = Formula(
    name="clip_by_global_norm",
    title="Gradient clipping by the norm of all arrays together",
    equation="gᵢ min(1, c / (‖(g₁, …, gₖ)‖ₚ + ε))",
    source="Pascanu, Mikolov & Bengio, ICML 2013, arXiv:1211.5063",
    value=_clip_by_global_norm,
    inputs=("a", "b", "c"),
    outputs=("a", "b", "c", "norm"),
    options=_NORM_OPTIONS,
    variants=(
        accepted(VALUE, _LARGER, _clip_by_global_norm_by_the_larger),
        unstable(VALUE, _PLAINLY, _clip_by_global_norm_plainly),
        unstable(VALUE, _RECIPROCALLY, _clip_by_global_norm_reciprocally),
    ),
    arrange=_arrange_three,
    fit=_of_some_norm,
    families=(*_MAGNITUDES, "extremes"),
    analytic=False,
    hazards=_NORM_HAZARDS,
    article="F13",
)


def _arrange_units(choose: Choose) -> Arrangement:
    shape = (choose.size(1, 12), choose.size(1, 16))
    options = {
        "clipping": choose.choice((10, 100, 1000)) / 1000,
        "eps": choose.choice((1, 0, 100)) / 1000,
    }
    return Arrangement((shape, shape), options)


def _adaptive_clip(g: Any, w: Any, *, clipping: Any, eps: Any) -> Any:
    """Value: each row of g times min(1, λ max(‖w‖, ε) / ‖g‖) of the same row of w, both (O, I)."""
    scale_w, _, ratio_w = _shares((w,), 2.0, axis=1)
    limit = np.maximum(scale_w * clipping * ratio_w, eps * clipping)
    scale, _, ratio = _shares((g,), 2.0, axis=1)
    return np.where(scale * ratio <= limit, g, g / scale * (limit / _positive(ratio)))


def _adaptive_clip_plainly(g: Any, w: Any, *, clipping: Any, eps: Any) -> Any:
    limit = np.maximum(_plain_norm((w,), 2.0, axis=1), eps) * clipping
    norm = _plain_norm((g,), 2.0, axis=1)
    return np.where(norm <= limit, g, g * (limit / norm))


ADAPTIVE_CLIP = Formula(
    name="adaptive_clip",
    title="Adaptive gradient clipping, unit by unit",
    equation="gᵢ min(1, λ max(‖wᵢ‖, ε) / ‖gᵢ‖)",
    source="Brock, De, Smith & Simonyan, arXiv:2102.06171, 2021",
    value=_adaptive_clip,
    inputs=("g", "w"),
    options=(Option("clipping", 0.01, low=0.0, high=1e3), Option("eps", 1e-3, low=0.0, high=1.0)),
    variants=(unstable(VALUE, "plain sums of squares, one factor", _adaptive_clip_plainly),),
    arrange=_arrange_units,
    families=_ANY,
    analytic=False,
    hazards=_NORM_HAZARDS[:1],
    article="F13",
)

FORMULAS = (CLIP_BY_VALUE, CLIP_BY_NORM, CLIP_BY_GLOBAL_NORM, ADAPTIVE_CLIP)
