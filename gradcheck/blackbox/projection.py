"""All entries of a Jacobian at once, by bilinear forms whose error is known.

v·J·d is one vector-Jacobian product times d, and one directional derivative times v. A projection test with a
loose tolerance misses a single wrong entry among a thousand. Here the derivative along d comes from a ladder
of steps with an error estimate of some 1e-12, and all factors lie between 1/2 and 1: an error of 1e-7 of the
largest entry, in one entry or in all, exceeds what is allowed. Where the estimate is not that small, or the
two sides differ, other steps are taken, and then nothing is concluded: the entries are compared one by one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache, reduce

import numpy as np

from gradcheck.blackbox import differences
from gradcheck.subjects.function import Function, Point, Vector, repeated

# Three vectors on each side make nine forms. An error spread over many entries may cancel in one of them:
# with a chance of 1e-2 if it is 1e-7 of the largest entry, and of less if it is larger.
FORMS = 3
SEEN = 1e-7
_ALLOWED = 8.0
_ROUNDING = 5e-12
_LEAST_FACTORS = 0.25
_NEARLY = 4.0
# An input on which nothing depends, the bias of the keys in an attention say, has gradients that are rounding
# errors: below this share of the largest output over the input's size. Errors are then relative to that.
_NOTHING = 1e-12
_OF_NATURAL = 1e-9
_FACTORS = np.concatenate([np.arange(-256, -127), np.arange(128, 257)]) / 256.0
# How many factors of a seed are kept.
_KEPT = 6_144
# How many numbers of a batch are held at once, inputs and outputs together.
_HELD = 500_000


@dataclass(frozen=True)
class _Way:
    """Exponents of the steps, and how often they are extrapolated."""

    ladder: tuple[int, ...]
    orders: int


# What is smooth over a sixteenth of its inputs is known best from wide steps, extrapolated twice. Near kinks
# short steps see one side of them, and a wide one that is mixed in would spoil it.
_SMOOTH = _Way((4, 6, 8, 10), 2)
_SHORT = _Way((5, 9, 13, 17), 1)


@dataclass(frozen=True)
class Projected:
    """Whether all forms of one input agree, and the smallest error of one entry that would have shown.

    It is `settled` that they do not where there is no gradient and the function moves.
    """

    agrees: bool
    entries: int
    resolution: float
    close: bool = False
    settled: bool = False


def signed(rng: np.random.Generator, shape: tuple[int, ...]) -> Vector:
    """Return random factors of both signs between 1/2 and 1, with few bits, so that products are exact."""
    return _FACTORS[rng.integers(0, len(_FACTORS), shape)]


def _drawn(seed: int, count: int) -> Vector:
    """Return so many factors of a seed; the first few thousand are drawn once for all checks."""
    if count <= _KEPT:
        return _first(seed)[:count]
    return signed(np.random.default_rng([seed, 21]), (count,))


@lru_cache(maxsize=64)
def _first(seed: int) -> Vector:
    factors = signed(np.random.default_rng([seed, 21]), (_KEPT,))
    factors.flags.writeable = False
    return factors


def project(function: Function, point: Point, seed: int) -> list[Projected] | None:
    """Return what the forms say about each input; None where the outputs are not finite."""
    every = tuple(range(len(point)))
    said: dict[int, Projected] = {}
    if len(every) > 1:
        # All inputs are moved at once: where that is sharp enough for each of them, it costs as much as one.
        said = _attempt(function, point, [every], seed, _SMOOTH) or {}
        if _left(said, every):
            short = _attempt(function, point, [every], seed, _SHORT) or {}
            said |= {place: form for place, form in short.items() if form.agrees}
    alone = _attempt(function, point, _left(said, every), seed, _SMOOTH)
    if alone is None:
        return None
    said |= alone
    for attempt in (0, 1):
        # The second time, the largest entry was met badly by chance: other forms may be sharp enough.
        left = [(k,) for (k,) in _left(said, every) if attempt == 0 or said[k].close]
        if left:
            said |= _attempt(function, point, left, seed + attempt, _SHORT) or {}
    return [said[place] for place in every]


def _left(said: dict[int, Projected], every: Sequence[int]) -> list[tuple[int, ...]]:
    """Return the inputs, each alone, about which nothing was concluded."""
    open_ = [place for place in every if place not in said or not (said[place].agrees or said[place].settled)]
    return [(place,) for place in open_]


def _attempt(
    function: Function, point: Point, groups: Sequence[tuple[int, ...]], seed: int, way: _Way
) -> dict[int, Projected] | None:
    """Return what the forms say, the inputs of each group moved together."""
    if not groups:
        return {}
    count = sum(function.inputs[place].size for group in groups for place in group)
    drawn = _drawn(seed, FORMS * (function.size + count))
    factors, drawn = _taken(drawn, function.size)
    slopes = {}
    for group in groups:
        directions, sizes = {}, {}
        for place in group:
            signs, drawn = _taken(drawn, function.inputs[place].size)
            sizes[place] = differences.step_sizes(point[place])
            directions[place] = signs * sizes[place]
        slope = _derivatives(function, point, directions, sizes, factors, way)
        if slope is None:
            return None
        slopes[group] = slope
    steepest = int(np.argmax(reduce(np.maximum, (slope.steep for slope in slopes.values()))))
    hot = np.zeros((1, function.size))
    hot[0, steepest] = 1.0
    gradients = function.gradients(point, np.concatenate([factors, hot]))
    said: dict[int, Projected] = {}
    for slope in slopes.values():
        said |= _compared(slope, point, gradients, function.size)
    return said


def _taken(drawn: Vector, size: int) -> tuple[Vector, Vector]:
    """Split the factors of `FORMS` vectors off."""
    return drawn[: FORMS * size].reshape(FORMS, size), drawn[FORMS * size :]


@dataclass(frozen=True)
class _Slopes:
    """v·J·d of every pair, (D, V), with its error; the directions, (D, n) for each input, and its step sizes.

    `steep` are the steepest slopes of each output, `natural` the largest output.
    """

    value: Vector
    error: Vector
    directions: dict[int, Vector]
    sizes: dict[int, Vector]
    steep: Vector
    natural: float


def _derivatives(
    function: Function,
    point: Point,
    directions: dict[int, Vector],
    sizes: dict[int, Vector],
    factors: Vector,
    way: _Way,
) -> _Slopes | None:
    steps = np.exp2(-np.array(way.ladder, dtype=float))
    ways = {
        place: (steps[:, None, None] * each).reshape(-1, point[place].size)
        for place, each in directions.items()
    }
    count = len(steps) * FORMS
    forms = np.empty((count, FORMS))
    size = np.empty(count)
    steep = np.zeros(function.size)
    held = sum(x.size for x in point) + function.size
    per = max(1, _HELD // (2 * held))
    with np.errstate(all="ignore"):
        for start in range(0, count, per):
            part = slice(start, start + per)
            some = min(per, count - start)
            batch = repeated(point, 2 * some)
            for place, way_of in ways.items():
                batch[place] = np.concatenate([point[place] + way_of[part], point[place] - way_of[part]])
            outputs = function.values(tuple(batch)).reshape(2, some, function.size)
            up, down = outputs
            # The two sides are subtracted before they are projected: their sums would cancel.
            moved = up - down
            if not np.isfinite(moved).all():
                return None
            forms[part] = moved @ factors.T
            size[part] = np.sqrt(np.einsum("sij,sij->si", outputs, outputs).max(axis=0))
            np.maximum(steep, np.abs(moved).max(axis=0), out=steep)
        forms = forms.reshape(len(steps), FORMS, FORMS) / (2 * steps[:, None, None])
        rounding = (4 * function.roundoff) * size.reshape(len(steps), FORMS, 1) / steps[:, None, None]
        better, apart = differences.extrapolated(forms, steps, 2, way.orders)
        slope = differences.chosen(better, apart, rounding[way.orders :])
    return _Slopes(slope.value, slope.error, directions, sizes, steep, float(np.abs(up).max()))


def _compared(
    slopes: _Slopes, point: Point, gradients: tuple[Vector | None, ...], outputs: int
) -> dict[int, Projected]:
    """Return for each input that was moved whether the forms agree, and how small an error would show."""
    places = list(slopes.directions)
    if len(places) == 1 and gradients[places[0]] is None:
        still = not _moves(slopes)
        return {places[0]: Projected(still, outputs * point[places[0]].size, 0.0, settled=not still)}
    if all(gradients[place] is None for place in places) and _moves(slopes):
        # Which of them move is for a closer look; the forms have nothing more to say.
        return {
            place: Projected(False, outputs * point[place].size, np.inf, settled=True) for place in places
        }
    with np.errstate(all="ignore"):
        products, squares = np.zeros((FORMS, FORMS)), np.zeros((FORMS, FORMS))
        largest, reach = dict.fromkeys(places, 0.0), dict.fromkeys(places, 0.0)
        for place, directions in slopes.directions.items():
            gradient = gradients[place]
            if gradient is None:
                continue
            products += directions @ gradient[:FORMS].T
            squares += ((directions[:, None] * gradient[None, :FORMS]) ** 2).sum(-1)
            size = np.abs(gradient * slopes.sizes[place]).max(axis=1)
            largest[place], reach[place] = float(size[FORMS]), float(size.max())
        allowed = _ALLOWED * slopes.error + _ROUNDING * np.sqrt(squares)
        agrees = bool((np.abs(products - slopes.value) <= allowed).all())
        least = float(allowed.max()) / _LEAST_FACTORS
    said = {}
    for place in places:
        resolution = least / largest[place] if largest[place] > 0 else np.inf
        if reach[place] <= _NOTHING * slopes.natural and least < _OF_NATURAL * slopes.natural:
            resolution = 0.0
        close = agrees and SEEN <= resolution < _NEARLY * SEEN
        entries = outputs * point[place].size
        said[place] = Projected(agrees and resolution < SEEN, entries, resolution, close=close)
    return said


def _moves(slopes: _Slopes) -> bool:
    return bool((np.abs(slopes.value) > _ALLOWED * slopes.error).any())
