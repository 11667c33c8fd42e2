"""All entries of a Jacobian at once, by bilinear forms whose error is known.

v·J·d is one vector-Jacobian product times d, and one directional derivative times v. A projection test with a
loose tolerance misses a single wrong entry among a thousand. Here the derivative along d comes from a ladder
of steps with an error estimate of some 1e-12, and all factors lie between 1/2 and 1: an error of 1e-7 of the
largest entry, in one entry or in all, exceeds what is allowed. Where the estimate is not that small, or the
two sides differ, other steps are taken, and then nothing is concluded: the entries are compared one by one.
"""

from __future__ import annotations

from collections.abc import Iterable
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
    """Whether all forms of one input agree, and the smallest error of one entry that would have shown."""

    agrees: bool
    entries: int
    resolution: float
    close: bool = False


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
    said = _attempt(function, point, range(len(point)), seed, _SMOOTH)
    if said is None:
        return None
    for attempt in (0, 1):
        # The second time, the largest entry was met badly by chance: other forms may be sharp enough.
        left = [k for k, form in said.items() if not form.agrees and (attempt == 0 or form.close)]
        if left:
            said |= _attempt(function, point, left, seed + attempt, _SHORT) or {}
    return [said[place] for place in range(len(point))]


def _attempt(
    function: Function, point: Point, places: Iterable[int], seed: int, way: _Way
) -> dict[int, Projected] | None:
    places = list(places)
    drawn = _drawn(seed, FORMS * (function.size + sum(function.inputs[place].size for place in places)))
    factors, drawn = _taken(drawn, function.size)
    slopes = {}
    for place in places:
        directions, drawn = _taken(drawn, function.inputs[place].size)
        slope = _derivatives(function, point, place, factors, directions, way)
        if slope is None:
            return None
        slopes[place] = slope
    steepest = int(np.argmax(reduce(np.maximum, (slope.steep for slope in slopes.values()))))
    hot = np.zeros((1, function.size))
    hot[0, steepest] = 1.0
    gradients = function.gradients(point, np.concatenate([factors, hot]))
    return {place: _compared(slope, gradients[place], function.size) for place, slope in slopes.items()}


def _taken(drawn: Vector, size: int) -> tuple[Vector, Vector]:
    """Split the factors of `FORMS` vectors off."""
    return drawn[: FORMS * size].reshape(FORMS, size), drawn[FORMS * size :]


@dataclass(frozen=True)
class _Slopes:
    """v·J·d of every pair, (D, V), with its error; the directions (D, n); each output's steepest slope."""

    value: Vector
    error: Vector
    directions: Vector
    sizes: Vector
    steep: Vector


def _derivatives(
    function: Function, point: Point, place: int, factors: Vector, signs: Vector, way: _Way
) -> _Slopes | None:
    sizes = differences.step_sizes(point[place])
    directions = signs * sizes
    steps = np.exp2(-np.array(way.ladder, dtype=float))
    ways = (steps[:, None, None] * directions).reshape(-1, sizes.size)
    forms = np.empty((len(ways), FORMS))
    size = np.empty(len(ways))
    steep = np.zeros(function.size)
    held = sum(x.size for x in point) + function.size
    per = max(1, _HELD // (2 * held))
    with np.errstate(all="ignore"):
        for start in range(0, len(ways), per):
            part = slice(start, start + per)
            some = ways[part]
            batch = repeated(point, 2 * len(some))
            batch[place] = np.concatenate([point[place] + some, point[place] - some])
            outputs = function.values(tuple(batch)).reshape(2, len(some), function.size)
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
    return _Slopes(slope.value, slope.error, directions, sizes, steep)


def _compared(slopes: _Slopes, gradient: Vector | None, outputs: int) -> Projected:
    entries = outputs * slopes.sizes.size
    if gradient is None:
        still = not (np.abs(slopes.value) > _ALLOWED * slopes.error).any()
        return Projected(still, entries, 0.0)
    with np.errstate(all="ignore"):
        products = slopes.directions @ gradient[:FORMS].T
        scale = np.sqrt(((slopes.directions[:, None] * gradient[None, :FORMS]) ** 2).sum(-1))
        allowed = _ALLOWED * slopes.error + _ROUNDING * scale
        largest = float(np.abs(gradient[FORMS] * slopes.sizes).max())
        fits = np.abs(products - slopes.value) <= allowed
        resolution = float(allowed.max()) / _LEAST_FACTORS / largest if largest > 0 else np.inf
    agrees = bool(fits.all())
    close = agrees and SEEN <= resolution < _NEARLY * SEEN
    return Projected(agrees and resolution < SEEN, entries, resolution, close=close)
