"""All entries of a Jacobian at once, by bilinear forms whose error is known.

v·J·d is one vector-Jacobian product times d, and one directional derivative times v. A projection test with a
loose tolerance misses a single wrong entry among a thousand. Here the derivative along d comes from a ladder
of steps with an error estimate of some 1e-12, and all factors lie between 1/2 and 1: an error of 1e-7 of the
largest entry, in one entry or in all, exceeds what is allowed. Where the estimate is not that small, or the
two sides differ, nothing is concluded, and the entries are compared one by one.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gradcheck.blackbox import differences
from gradcheck.subjects.function import Function, Point, Vector, repeated

# Three vectors on each side make nine forms. An error spread over many entries may cancel in one of them:
# with a chance of 1e-2 if it is 1e-7 of the largest entry, and of less if it is larger.
FORMS = 3
LADDER = (5, 9, 13, 17)
SEEN = 1e-7
_ALLOWED = 8.0
_ROUNDING = 2e-11
_LEAST_FACTORS = 0.25
_NEARLY = 4.0


@dataclass(frozen=True)
class Projected:
    """Whether all forms of one input agree, and the smallest error of one entry that would have shown."""

    agrees: bool
    entries: int
    resolution: float
    close: bool = False


def signed(rng: np.random.Generator, shape: tuple[int, ...]) -> Vector:
    """Return random factors of both signs between 1/2 and 1, with few bits, so that products are exact."""
    numbers = rng.integers(128, 257, shape) / 256.0
    return np.where(rng.random(shape) < 0.5, -numbers, numbers)


def project(function: Function, point: Point, seed: int) -> list[Projected] | None:
    """Return what the forms say about each input; None where the outputs are not finite."""
    rng = np.random.default_rng([seed, 21])
    factors = signed(rng, (FORMS, function.size))
    slopes = [_derivatives(function, point, place, factors, rng) for place in range(len(point))]
    if any(slope is None for slope in slopes):
        return None
    steepest = int(np.argmax(np.max([s.steep for s in slopes if s is not None], axis=0)))
    hot = np.zeros((1, function.size))
    hot[0, steepest] = 1.0
    gradients = function.gradients(point, np.concatenate([factors, hot]))
    return [
        _compared(slope, gradient, function.size)
        for slope, gradient in zip(slopes, gradients, strict=True)
        if slope is not None
    ]


@dataclass(frozen=True)
class _Slopes:
    """v·J·d of every pair, (D, V), with its error; the directions (D, n); each output's steepest slope."""

    value: Vector
    error: Vector
    directions: Vector
    sizes: Vector
    steep: Vector


def _derivatives(
    function: Function, point: Point, place: int, factors: Vector, rng: np.random.Generator
) -> _Slopes | None:
    sizes = differences.step_sizes(point[place])
    directions = signed(rng, (FORMS, sizes.size)) * sizes
    steps = np.exp2(-np.array(LADDER, dtype=float))
    shape = 2, len(steps), FORMS
    batch = repeated(point, int(np.prod(shape)))
    way = np.concatenate([steps, -steps])
    moved = point[place] + way[:, None, None] * directions
    batch[place] = moved.reshape(len(batch[place]), -1)
    with np.errstate(all="ignore"):
        outputs = function.values(tuple(batch)).reshape(*shape, function.size)
        if not np.isfinite(outputs).all():
            return None
        up, down = outputs
        central = (up - down) / (2 * steps[:, None, None])
        forms = central @ factors.T
        size = np.sqrt((np.maximum(np.abs(up), np.abs(down)) ** 2).sum(-1))
        rounding = 4 * function.roundoff * size / steps[:, None]
        ratio = (steps[:-1] / steps[1:])[:, None, None] ** 2
        better = (ratio * forms[1:] - forms[:-1]) / (ratio - 1)
        spread = np.broadcast_to(rounding[1:, :, None], better.shape)
        slope = differences.chosen(better, np.abs(np.diff(forms, axis=0)) / ratio, spread)
    return _Slopes(slope.value, slope.error, directions, sizes, np.abs(central[1]).max(axis=0))


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
