"""The intervals of legal computed values of a query, over all listed texts of its formula."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gradcheck.arithmetic.rounded import Model, Rounded, as_interval, hull, read, rounded
from gradcheck.formats import Float64Array
from gradcheck.oracles.query import Query, apply, at_kink, nudged, one_sided, subset, texts
from gradcheck.records import DERIVATIVE, Standing


@dataclass(frozen=True)
class Bounds:
    """Intervals of legal computed values of one output: of the stable texts, of these and the accepted ones,
    and of each unstable text by name.
    """

    stable: Rounded
    accepted: Rounded
    unstable: tuple[tuple[str, Rounded], ...]


def bounds(query: Query, model: Model) -> tuple[Bounds, ...]:
    """Return the intervals of legal computed values, one `Bounds` per output."""
    found = [
        (name, standing, _around_kinks(query, text, model))
        for name, standing, text in texts(query.formula, query.order)
    ]
    if query.formula.extremes is not None and query.order == DERIVATIVE:
        ends = (_around_kinks(query, text, model) for text in query.formula.extremes)
        found += [("a choice at a kink", Standing.STABLE, end) for end in ends]
    slopes = _kink_intervals(query, model)
    outputs = []
    for index in range(len(found[0][2])):
        by_standing = {standing: [r[index] for _, s, r in found if s is standing] for standing in Standing}
        stable = hull(*by_standing[Standing.STABLE])
        if slopes is not None:
            stable = _at_kinks(stable, slopes)
        finish = _finish if query.order else (lambda interval: interval)
        stable = finish(stable)
        neighbours = _of_neighbours(query, model, stable)
        accepted = hull(stable, *neighbours, *(finish(r) for r in by_standing[Standing.ACCEPTED]))
        unstable = [(name, finish(r[index])) for name, s, r in found if s is Standing.UNSTABLE]
        outputs.append(
            Bounds(stable.stored(), accepted.stored(), tuple((name, r.stored()) for name, r in unstable))
        )
    return tuple(outputs)


def _of_neighbours(query: Query, model: Model, stable: Rounded) -> list[Rounded]:
    """Return the interval of the reference at inputs within four unit roundoffs: backward stability.

    An evaluation that is exact for an input so near is as good as its input allows. It does not hold where
    the reference is exact, nor within reach of a kink, where a neighbour has another slope. 16-bit formats
    are computed in float32, so their neighbours are those of float32.
    """
    if not query.formula.elementwise:
        return []
    _, _, text = next(iter(texts(query.formula, query.order)))

    def lift(array: Float64Array) -> Rounded:
        if array is not query.inputs[0]:
            return rounded(array, model)
        largest = model.format.largest
        with np.errstate(over="ignore"):
            step = 2.0 ** (2 - max(query.format.precision, 24)) * np.abs(array)
            low, high = (np.clip(array + side * step, -largest, largest) for side in (-1, 1))
        return read(low, high, model)

    (near,) = apply(query, text, lift)
    near = _finish(_finish(near))
    kept = (stable.lo == stable.hi) | _near_kink(query)
    return [Rounded(np.where(kept, stable.lo, near.lo), np.where(kept, stable.hi, near.hi), model, near.nan)]


def _near_kink(query: Query) -> NDArray[np.bool_]:
    x = query.inputs[0]
    near = np.zeros(x.shape, dtype=bool)
    if query.formula.kinks is not None:
        for point in query.formula.kinks(**query.formula.complete(query.options)):
            near |= np.abs(x - float(point)) <= 16 * query.format.ulp(float(point))
    return near


def _around_kinks(query: Query, text: Callable[..., Any], model: Model) -> tuple[Any, ...]:
    """Evaluate a text; with several inputs, at a kink, also on both sides of it."""
    queries = [query]
    if not query.formula.elementwise and at_kink(query).any():
        queries += [nudged(query, side) for side in (-1.0, 1.0)]
    results = [
        tuple(as_interval(part, model) for part in apply(each, text, lambda array: rounded(array, model)))
        for each in queries
    ]
    return results[0] if len(results) == 1 else tuple(hull(*parts) for parts in zip(*results, strict=True))


def _finish(interval: Rounded) -> Rounded:
    """Allow one more rounding: the cotangent may be multiplied in at any place of the product."""
    one = Rounded(np.asarray(1.0), np.asarray(np.nextafter(1.0, 2.0)), interval.model)
    product: Rounded = interval * one
    return product


def _kink_intervals(query: Query, model: Model) -> Any:
    """Return (where, per output the hull of both one-sided intervals there); None without kinks."""
    where = at_kink(query)
    if not where.any():
        return None
    if query.formula.elementwise:
        part = subset(query, where)
        sides = [one_sided(part, side, lambda array: rounded(array, model)) for side in (-1.0, 1.0)]
        return where, hull(*sides)
    return None


def _at_kinks(stable: Rounded, slopes: Any) -> Rounded:
    where, hull = slopes
    lo, hi = np.array(stable.lo), np.array(stable.hi)
    lo[where], hi[where] = np.minimum(lo[where], hull.lo), np.maximum(hi[where], hull.hi)
    return Rounded(lo, hi, stable.model, stable.nan)
