"""The truth about a formula at given inputs, proven, and the bounds of its legal evaluations.

The truth comes from the cheapest enclosure that decides: the text over float64 intervals where the format
under judgement is so much coarser that their width does not matter, and over balls, at rising precision,
for all other elements. At a kink it is the Clarke interval between both one-sided derivatives.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gradcheck.arithmetic.ball import Ball, balls, precision, to_estimate
from gradcheck.arithmetic.dual import Dual
from gradcheck.arithmetic.rounded import Model, Rounded, rounded
from gradcheck.formats import FLOAT64, Format
from gradcheck.records import DERIVATIVE, SECOND, VALUE, Estimate, Formula, Standing

Float64Array = NDArray[np.float64]

PRECISIONS = (128, 256, 512, 1024, 2048, 4096, 8192)
# A truth is pinned down when its radius is below this share of the spacing of the judged format.
DECIDED = 2.0**-12


@dataclass(frozen=True)
class Query:
    """What is asked: a formula's value, gradient or second-order gradient at `inputs`.

    `inputs` are float64 arrays of numbers of `format`. For the derivative `cotangent` scales it (elementwise)
    or is the vector of the vector-Jacobian product; for the second order `directions`, one array per input,
    are the vector that the gradient is contracted with.
    """

    formula: Formula
    order: int
    format: Format
    inputs: tuple[Float64Array, ...]
    options: Mapping[str, Any]
    cotangent: Float64Array | None = None
    directions: tuple[Float64Array, ...] = ()

    @property
    def factor(self) -> Float64Array | None:
        """What an elementwise derivative is multiplied by; directions are powers of two, so it is exact."""
        if self.cotangent is None or self.order == VALUE:
            return None
        return self.cotangent * self.directions[0] if self.order == SECOND else self.cotangent


@dataclass(frozen=True)
class Truth:
    """One output: every number between `lower` and `upper` is right; they are the same off the kinks."""

    lower: Estimate
    upper: Estimate
    decided: NDArray[np.bool_]


@dataclass(frozen=True)
class Bounds:
    """Intervals of legal computed values of one output: of the stable texts, of these and the accepted ones,
    and of each unstable text by name.
    """

    stable: Rounded
    accepted: Rounded
    unstable: tuple[tuple[str, Rounded], ...]


def texts(formula: Formula, order: int) -> Iterator[tuple[str, Standing, Callable[..., Any]]]:
    """Yield (name, standing, text) of every listed way to compute `order` of the formula."""
    main = (formula.value, formula.derivative, formula.second)[order] if formula.elementwise else None
    if not formula.elementwise:
        main = formula.value if order == VALUE else formula.vjp
    if main is not None:
        yield "reference", Standing.STABLE, main
    # The second order of several inputs is the dual of a gradient's text, or a text of its own.
    wanted = (order,) if formula.elementwise or order < SECOND else (DERIVATIVE, SECOND)
    for variant in formula.variants:
        if variant.order in wanted:
            yield variant.name, variant.standing, variant.text


def apply(query: Query, text: Callable[..., Any], lift: Callable[[Float64Array], Any]) -> tuple[Any, ...]:
    """Evaluate one text of the query in the arithmetic that `lift` brings its arrays into."""
    options = query.formula.complete(query.options)
    inputs = [lift(array) for array in query.inputs]
    cotangent = lift(query.cotangent) if query.cotangent is not None and query.order else None
    tangents = [lift(direction) for direction in query.directions]
    names = _parameters(text)
    if query.formula.elementwise and cotangent is not None and "cotangent" in names:
        # A text that multiplies by the cotangent early rounds and overflows elsewhere.
        along = {"direction": tangents[0]} if "direction" in names else {}
        return (_shaped(text(*inputs, cotangent=cotangent, **along, **options), query),)
    if query.formula.elementwise or query.order == VALUE:
        result = text(*inputs, **options)
        factor = query.factor
        return (_shaped(result, query) if factor is None else _shaped(result, query) * lift(factor),)
    if query.order == DERIVATIVE:
        return tuple(text(tuple(inputs), cotangent, **options))
    if "directions" in names:
        return tuple(text(tuple(inputs), cotangent, tuple(tangents), **options))
    duals = tuple(Dual(value, tangent) for value, tangent in zip(inputs, tangents, strict=True))
    gradients = text(duals, cotangent, **options)
    return tuple(_tangent(gradient) for gradient in gradients)


@cache
def _parameters(text: Callable[..., Any]) -> frozenset[str]:
    return frozenset(inspect.signature(text).parameters)


def _tangent(gradient: Any) -> Any:
    if not isinstance(gradient, Dual):
        return 0 * gradient
    return 0 * gradient.value if gradient.tangent is None else gradient.tangent


def _shaped(result: Any, query: Query) -> Any:
    """Spread a constant derivative over the shape of the input."""
    if query.formula.elementwise and result.shape != query.inputs[0].shape:
        return np.broadcast_to(result, query.inputs[0].shape)
    return result


def bounds(query: Query, model: Model) -> tuple[Bounds, ...]:
    """Return the intervals of legal computed values, one `Bounds` per output."""
    found = [
        (name, standing, _around_kinks(query, text, model))
        for name, standing, text in texts(query.formula, query.order)
    ]
    slopes = _kink_intervals(query, model)
    outputs = []
    for index in range(len(found[0][2])):
        by_standing = {standing: [r[index] for _, s, r in found if s is standing] for standing in Standing}
        stable = _hull([*by_standing[Standing.STABLE]])
        if slopes is not None:
            stable = _at_kinks(stable, slopes)
        finish = _finish if query.order else (lambda interval: interval)
        stable = finish(stable)
        neighbours = _of_neighbours(query, model, stable)
        accepted = _hull([stable, *neighbours, *(finish(r) for r in by_standing[Standing.ACCEPTED])])
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
        return Rounded(low, high, model)

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
        queries += [_nudged(query, side) for side in (-1.0, 1.0)]
    results = [apply(each, text, lambda array: rounded(array, model)) for each in queries]
    return (
        results[0] if len(results) == 1 else tuple(_hull(list(parts)) for parts in zip(*results, strict=True))
    )


def _finish(interval: Rounded) -> Rounded:
    """Allow one more rounding: the cotangent may be multiplied in at any place of the product."""
    one = Rounded(np.asarray(1.0), np.asarray(np.nextafter(1.0, 2.0)), interval.model)
    product: Rounded = interval * one
    return product


def _hull(intervals: list[Rounded]) -> Rounded:
    first = intervals[0]
    for other in intervals[1:]:
        nan = first.nan if other.nan is None else other.nan if first.nan is None else first.nan | other.nan
        first = Rounded(np.minimum(first.lo, other.lo), np.maximum(first.hi, other.hi), first.model, nan)
    return first


def at_kink(query: Query) -> NDArray[np.bool_]:
    """Return where an input sits exactly on a kink of the formula."""
    kinks = query.formula.kinks
    if kinks is None or query.order == VALUE:
        return np.zeros(query.inputs[0].shape, dtype=bool)
    points = [float(point) for point in kinks(**query.formula.complete(query.options))]
    return np.asarray(np.isin(query.inputs[0], points))


def _one_sided(query: Query, side: float, lift: Callable[[Float64Array], Any]) -> Any:
    """Return the one-sided derivative of the value text, of first or second order, times the factor."""
    x = lift(query.inputs[0])
    seed = lift(np.full(query.inputs[0].shape, side))
    options = query.formula.complete(query.options)
    if query.order == DERIVATIVE:
        slope = _tangent(query.formula.value(Dual(x, seed), **options)) * lift(np.asarray(side))
    else:
        outer = Dual(Dual(x, seed), Dual(seed, None))
        slope = _second_tangent(query.formula.value(outer, **options))
    slope = _shaped(slope, query)
    return slope if query.factor is None else slope * lift(query.factor)


def _second_tangent(result: Any) -> Any:
    """Return the tangent of the tangent; a result that lost one on the way is constant along it."""
    if isinstance(result, Dual) and result.tangent is not None:
        return _tangent(result.tangent)
    while isinstance(result, Dual):
        result = result.value
    return 0 * result


def _nudged(query: Query, side: float) -> Query:
    """Move the first input off the kink by the least step, for formulas of several inputs."""
    x = query.inputs[0]
    moved = np.where(at_kink(query), np.nextafter(x, side * np.inf), x)
    return Query(
        query.formula,
        query.order,
        query.format,
        (moved, *query.inputs[1:]),
        query.options,
        query.cotangent,
        query.directions,
    )


def _subset(query: Query, where: NDArray[np.bool_]) -> Query:
    def pick(array: Float64Array | None) -> Float64Array | None:
        return None if array is None else array[where]

    return Query(
        query.formula,
        query.order,
        query.format,
        tuple(array[where] for array in query.inputs),
        query.options,
        pick(query.cotangent),
        tuple(direction[where] for direction in query.directions),
    )


def _kink_intervals(query: Query, model: Model) -> Any:
    """Return (where, per output the hull of both one-sided intervals there); None without kinks."""
    where = at_kink(query)
    if not where.any():
        return None
    if query.formula.elementwise:
        part = _subset(query, where)
        sides = [_one_sided(part, side, lambda array: rounded(array, model)) for side in (-1.0, 1.0)]
        return where, _hull(sides)
    return None


def _at_kinks(stable: Rounded, slopes: Any) -> Rounded:
    where, hull = slopes
    lo, hi = np.array(stable.lo), np.array(stable.hi)
    lo[where], hi[where] = np.minimum(lo[where], hull.lo), np.maximum(hi[where], hull.hi)
    return Rounded(lo, hi, stable.model, stable.nan)


def truths(query: Query) -> tuple[Truth, ...]:
    """Return the proven truth of every output of the query."""
    _, _, text = next(iter(texts(query.formula, query.order)))
    if query.formula.elementwise:
        return (_elementwise_truth(query, text),)
    plain = apply_balls(query, text, PRECISIONS[0])
    bits = 1
    while not all(_pinned(estimate, query.format).all() for estimate in plain) and bits < len(PRECISIONS):
        plain = apply_balls(query, text, PRECISIONS[bits])
        bits += 1
    if not at_kink(query).any():
        return tuple(Truth(e, e, _pinned(e, query.format)) for e in plain)
    sides = [apply_balls(_nudged(query, side), text, PRECISIONS[bits - 1]) for side in (-1.0, 1.0)]
    return tuple(
        Truth(_extreme(np.minimum, options), _extreme(np.maximum, options), _pinned(options[0], query.format))
        for options in zip(plain, *sides, strict=True)
    )


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
        (estimate,) = apply_balls(_subset(flat, open_elements), text, bits)
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
    part = _subset(query, where)
    with precision(PRECISIONS[1]):
        sides = [to_estimate(_ball(_one_sided(part, side, balls))) for side in (-1.0, 1.0)]
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
    return _subset(query, np.ones(query.inputs[0].shape, dtype=bool))


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
        return to_estimate(_ball(_one_sided(query, 1.0, balls)))


def confirmed(query: Query) -> Estimate:
    """Return an enclosure that does not use the derivative's own text: the value text over duals of balls.

    The precision rises until every element is far below the spacing of float64.
    """
    columns = np.full((3, query.inputs[0].size), np.nan)
    columns[2] = np.inf
    open_elements = np.ones(query.inputs[0].size, dtype=bool)
    flat = _flattened(query)
    for bits in (384, 1536, 6144, 24576):
        estimate = _confirmed_at(_subset(flat, open_elements), bits)
        columns[:, open_elements] = estimate.high, estimate.low, estimate.radius
        needed = 2.0**-62 * np.abs(columns[0]) + 2 * FLOAT64.least_subnormal
        open_elements = ~(columns[2] <= needed)
        if not open_elements.any():
            break
    shape = query.inputs[0].shape
    return Estimate(*(column.reshape(shape) for column in columns))
