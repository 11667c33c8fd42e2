"""The truth about a formula at given inputs, proven.

The truth comes from the cheapest enclosure that decides: the text over float64 intervals where the format
under judgement is so much coarser that their width does not matter, and over balls, at rising precision,
for all other elements. At a kink it is the Clarke interval between both one-sided derivatives.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gradcheck.arithmetic.ball import Ball, balls, precision, to_estimate
from gradcheck.arithmetic.rounded import Model, Rounded, rounded
from gradcheck.errors import Undecided, Unsupported
from gradcheck.formats import FLOAT64, Float64Array, Format
from gradcheck.oracles.bounds import Bounds, bounds
from gradcheck.oracles.query import Query, apply, at_kink, nudged, one_sided, subset, texts
from gradcheck.records import DERIVATIVE, VALUE, Estimate

__all__ = [
    "Bounds",
    "Query",
    "Truth",
    "apply",
    "apply_balls",
    "at_kink",
    "bounds",
    "confirmed",
    "texts",
    "truths",
]

PRECISIONS = (128, 256, 512, 1024, 2048, 4096, 8192)
# A truth is pinned down when its radius is below this share of the spacing of the judged format.
DECIDED = 2.0**-12
# Or, where the width of the bound is known, below this share of it.
_SHARE = 2.0**-20


@dataclass(frozen=True)
class Truth:
    """One output: every number between `lower` and `upper` is right; they are the same off the kinks."""

    lower: Estimate
    upper: Estimate
    decided: NDArray[np.bool_]


def truths(query: Query, widths: Sequence[Float64Array] | None = None) -> tuple[Truth, ...]:
    """Return the proven truth of every output of the query.

    `widths`, for formulas of several inputs, are the widths of the bounds that the truth is to be compared
    with: a result that cancels to zero is known well enough once its radius is a small share of these.
    """
    _, _, text = next(iter(texts(query.formula, query.order)))
    if query.formula.elementwise:
        return (_elementwise_truth(query, text),)
    if query.formula.extremes is not None and query.order == DERIVATIVE:
        found = [_several(query, extreme, widths) for extreme in query.formula.extremes]
    else:
        queries = [query]
        if at_kink(query).any():
            queries += [nudged(query, side) for side in (-1.0, 1.0)]
        found = [_several(each, text, widths) for each in queries]
    outputs = []
    for estimates, decided in zip(zip(*(e for e, _ in found), strict=True), _all(found), strict=True):
        outputs.append(Truth(_extreme(np.minimum, estimates), _extreme(np.maximum, estimates), decided))
    return tuple(outputs)


_Found = tuple[tuple[Estimate, ...], list[NDArray[np.bool_]]]


def _all(found: Sequence[_Found]) -> list[NDArray[np.bool_]]:
    masks = zip(*(pinned for _, pinned in found), strict=True)
    return [np.asarray(np.logical_and.reduce(each)) for each in masks]


def _several(query: Query, text: Callable[..., Any], widths: Sequence[Float64Array] | None) -> _Found:
    """Enclose every output and say which elements are pinned: by float64 intervals if these pin all of them,
    else by balls of rising precision.
    """
    if query.format.precision < 53:
        with suppress(Undecided, Unsupported):
            parts = apply(query, text, lambda array: rounded(array, Model(FLOAT64)))
            found = tuple(Estimate(*_from_interval(_interval(part))) for part in parts)
            pinned = _pinned_within(found, query.format, widths)
            if all(mask.all() for mask in pinned):
                return found, pinned
    for bits in PRECISIONS:
        found = apply_balls(query, text, bits)
        pinned = _pinned_within(found, query.format, widths)
        if all(mask.all() for mask in pinned):
            break
    return found, pinned


def _pinned_within(
    found: Sequence[Estimate], fmt: Format, widths: Sequence[Float64Array] | None
) -> list[NDArray[np.bool_]]:
    own = [_pinned(estimate, fmt) for estimate in found]
    if widths is None:
        return own
    shares = (np.where(np.isfinite(width), _SHARE * width, 0.0) for width in widths)
    return [mask | (e.radius <= share) for mask, e, share in zip(own, found, shares, strict=True)]


def _interval(value: Any) -> Rounded:
    return value if isinstance(value, Rounded) else rounded(value, Model(FLOAT64))


def apply_balls(query: Query, text: Callable[..., Any], bits: int) -> tuple[Estimate, ...]:
    """Evaluate a text of the query over balls of `bits` bits."""
    with precision(bits):
        return tuple(to_estimate(_ball(part)) for part in apply(query, text, balls))


def _ball(value: Any) -> Ball:
    return value if isinstance(value, Ball) else balls(value)


def _pinned(estimate: Estimate, fmt: Format) -> NDArray[np.bool_]:
    return np.asarray(estimate.radius <= _needed(estimate.high, fmt))


def _needed(high: Float64Array, fmt: Format) -> Float64Array:
    """Return the radius that decides; below float64's own range it cannot be expressed any finer."""
    return np.maximum(DECIDED * fmt.ulp(high), 2 * FLOAT64.least_subnormal)


def _elementwise_truth(query: Query, text: Callable[..., Any]) -> Truth:
    """Enclose every element: first by float64 intervals (for coarser formats), the rest by balls."""
    flat = _flattened(query)
    size = flat.inputs[0].size
    columns = np.full((3, size), np.nan)
    columns[2] = np.inf
    open_elements = np.ones(size, dtype=bool)
    if query.format.precision < 53:
        columns[:, :] = _from_interval(apply(flat, text, lambda array: rounded(array, Model(FLOAT64)))[0])
        open_elements = ~(columns[2] <= _needed(columns[0], query.format))
    for bits in PRECISIONS:
        if not open_elements.any():
            break
        (estimate,) = apply_balls(subset(flat, open_elements), text, bits)
        columns[:, open_elements] = estimate.high, estimate.low, estimate.radius
        open_elements = ~(columns[2] <= _needed(columns[0], query.format))
    shape = query.inputs[0].shape
    lower = Estimate(*(column.reshape(shape) for column in columns))
    decided = ~open_elements.reshape(shape)
    where = at_kink(query)
    if not where.any():
        return Truth(lower, lower, decided)
    return _with_clarke(query, lower, decided, where)


def _with_clarke(query: Query, off: Estimate, decided: NDArray[np.bool_], where: NDArray[np.bool_]) -> Truth:
    part = subset(query, where)
    with precision(PRECISIONS[1]):
        sides = [to_estimate(_ball(one_sided(part, side, balls))) for side in (-1.0, 1.0)]
    lower, upper = _extreme(np.minimum, sides), _extreme(np.maximum, sides)
    ends = []
    for extreme in (lower, upper):
        columns = [np.array(column) for column in (off.high, off.low, off.radius)]
        for column, new in zip(columns, (extreme.high, extreme.low, extreme.radius), strict=True):
            column[where] = new
        ends.append(Estimate(*columns))
    decided = decided | where
    return Truth(ends[0], ends[1], decided)


def _extreme(choose: Any, estimates: Sequence[Estimate]) -> Estimate:
    """Return the smallest or largest of several estimates, element by element."""
    first = estimates[0]
    for other in estimates[1:]:
        take = choose(first.high, other.high) != first.high
        first = Estimate(
            np.where(take, other.high, first.high),
            np.where(take, other.low, first.low),
            np.maximum(first.radius, other.radius),
        )
    return first


def _flattened(query: Query) -> Query:
    return subset(query, np.ones(query.inputs[0].shape, dtype=bool))


def _from_interval(interval: Rounded) -> Float64Array:
    """Return centre, rest and radius of float64 intervals; an unbounded one has an infinite radius."""
    with np.errstate(all="ignore"):
        centre = interval.lo + (interval.hi - interval.lo) / 2
        radius = np.maximum(interval.hi - centre, centre - interval.lo) * (1 + 2.0**-50)
        unknown = ~np.isfinite(interval.lo) | ~np.isfinite(interval.hi) | ~np.isfinite(centre)
        if interval.nan is not None:
            unknown |= interval.nan
        return np.stack([centre, np.zeros_like(centre), np.where(unknown, np.inf, radius)])


def _confirmed_at(query: Query, bits: int) -> Estimate:
    with precision(bits):
        if query.order == VALUE:
            return to_estimate(_ball(apply(query, query.formula.value, balls)[0]))
        return to_estimate(_ball(one_sided(query, 1.0, balls)))


def confirmed(query: Query) -> Estimate:
    """Return an enclosure that does not use the derivative's own text: the value text over duals of balls.

    The precision rises until every element is far below the spacing of float64.
    """
    columns = np.full((3, query.inputs[0].size), np.nan)
    columns[2] = np.inf
    open_elements = np.ones(query.inputs[0].size, dtype=bool)
    flat = _flattened(query)
    for bits in (384, 1536, 6144, 24576):
        estimate = _confirmed_at(subset(flat, open_elements), bits)
        columns[:, open_elements] = estimate.high, estimate.low, estimate.radius
        needed = 2.0**-62 * np.abs(columns[0]) + 2 * FLOAT64.least_subnormal
        open_elements = ~(columns[2] <= needed)
        if not open_elements.any():
            break
    shape = query.inputs[0].shape
    return Estimate(*(column.reshape(shape) for column in columns))
