"""Directional derivatives of a black box by central differences on a ladder of steps, each with its error.

Steps are powers of two times the size of the element, and points have `POINT_BITS` significant bits, so that
x ± h is stored exactly and the distance taken is the distance meant. Two neighbouring steps give a Richardson
value free of the h² term; the difference of neighbouring Richardson values, plus the rounding error of the
outputs over the step, estimates its error. Every entry takes the step that suits it best.

Sources: Richardson 1911; Curtis, Powell & Reid 1974 for the perturbation of many columns at once.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gradcheck.blackbox.sets import Sets
from gradcheck.subjects.function import Function, Point, Vector, repeated

Rows = slice | list[int] | NDArray[np.int64]

POINT_BITS = 32
# Exponents of the steps. The first is for functions that round coarsely inside.
LADDER = (3, 6, 10, 14, 18)
FINE = tuple(range(2, 50, 3))
COARSE = tuple(range(2, 23, 2))
FAR = (2, 3, 4, 5, 6, 7, 8)
# How many numbers of a batch are held at once, inputs and outputs together.
MOST_NUMBERS = 4_000_000
_ROUNDINGS = 4.0
_BEYOND = 4.0
_POINTS = 9


@dataclass(frozen=True)
class Slope:
    """A derivative and an estimate of its error, element by element; `jump` marks where there is none."""

    value: Vector
    error: Vector
    jump: NDArray[np.bool_] | None = None


def rounded(x: Vector) -> Vector:
    """Return the numbers with as many significant bits as a point has."""
    fraction, exponent = np.frexp(x)
    with np.errstate(all="ignore"):
        return np.asarray(np.ldexp(np.rint(np.ldexp(fraction, POINT_BITS)), exponent - POINT_BITS))


def step_sizes(x: Vector) -> Vector:
    """Return the size that steps of each element are measured by: its own, or that of its neighbours."""
    size = np.abs(x)
    finite = size[np.isfinite(size) & (size > 0)]
    typical = np.exp2(np.rint(np.log2(finite).sum() / finite.size)) if finite.size else 1.0
    scale = np.maximum(np.where(np.isfinite(size), size, 1.0), typical)
    return np.exp2(np.floor(np.log2(np.maximum(scale, 1e-290))))


def along(
    function: Function,
    point: Point,
    place: int,
    directions: Vector | Sets,
    ladder: tuple[int, ...] = LADDER,
    noise: Vector | float = 0.0,
    sizes: Vector | float = 1.0,
    tick: Callable[[], None] = lambda: None,
) -> Slope:
    """Return the derivatives of all outputs along directions of one input, (C, n) in and (C, m) out.

    `noise` is that of the outputs where it was measured; their rounding is always counted. `tick` is called
    between calls of the function, and may raise.

    `sizes` are what the elements of all directions are multiplied by. A direction holds the signed size of
    each element's step at h = 1; what is returned is the derivative with respect to h.
    """
    count = len(directions)
    per = max(1, MOST_NUMBERS // max(1, sum(x.size for x in point) + function.size) // (2 * len(ladder)))
    parts = []
    for start in range(0, count, per):
        tick()
        some = (
            directions.rows(start, start + per) if isinstance(directions, Sets) else directions[start:][:per]
        )
        parts.append(_along(function, point, place, some * sizes, ladder, noise))
    if not parts:
        empty = np.zeros((0, function.size))
        return Slope(empty, empty)
    return Slope(np.concatenate([p.value for p in parts]), np.concatenate([p.error for p in parts]))


def _along(
    function: Function,
    point: Point,
    place: int,
    directions: Vector,
    ladder: tuple[int, ...],
    noise: Vector | float,
) -> Slope:
    steps = np.exp2(-np.array(ladder, dtype=float))
    count, levels = len(directions), len(ladder)
    batch = repeated(point, 2 * levels * count)
    signed = np.concatenate([steps, -steps])
    moved = point[place] + signed[:, None, None] * directions
    batch[place] = moved.reshape(2 * levels * count, -1)
    outputs = function.values(tuple(batch)).reshape(2, levels, count, function.size)
    with np.errstate(all="ignore"):
        return _best(outputs, steps[:, None, None], function.roundoff, noise)


def _best(outputs: Vector, steps: Vector, roundoff: float, noise: Vector | float) -> Slope:
    """Choose, element by element, the Richardson value with the smallest estimated error."""
    up, down = outputs
    central = (up - down) / (2 * steps)
    size = np.maximum(np.abs(up), np.abs(down))
    rounding = _ROUNDINGS * np.maximum(roundoff * size, noise) / steps
    better, apart = extrapolated(central, steps.ravel(), 2)
    return chosen(better, apart, rounding[1:])


@dataclass(frozen=True)
class Sides:
    """The derivatives along one direction: of both sides together, from the right, from the left."""

    middle: Slope
    right: Slope
    left: Slope


def sides(
    function: Function,
    point: Point,
    place: int,
    direction: Vector,
    ladder: tuple[int, ...] = FINE,
    noise: Vector | float = 0.0,
    rows: Rows = slice(None),
) -> Sides:
    """Return the derivatives of the outputs at `rows` along one direction, and from either side of it."""
    steps = np.exp2(-np.array(ladder, dtype=float))
    shifts = np.concatenate([[0.0], steps, -steps])
    found = outputs_at(function, point, place, shifts, direction, rows)
    base, up, down = found[:1], found[1 : 1 + len(steps)], found[1 + len(steps) :]
    with np.errstate(all="ignore"):
        middle = _best(np.stack([up, down]), steps[:, None], function.roundoff, noise)
        right = _side(base, up, steps, function.roundoff, noise)
        left = _side(base, down, -steps, function.roundoff, noise)
    return Sides(middle, right, left)


def _side(base: Vector, there: Vector, signed: Vector, roundoff: float, noise: Vector | float) -> Slope:
    steps = np.abs(signed)[:, None]
    quotient = (there - base) / signed[:, None]
    size = np.maximum(np.abs(there), np.abs(base))
    rounding = _ROUNDINGS * np.maximum(roundoff * size, noise) / steps
    better, apart = extrapolated(quotient, np.abs(signed), 1)
    slope = chosen(better, apart, rounding[1:])
    return Slope(slope.value, slope.error, _jumps(base, there, roundoff))


def _jumps(base: Vector, there: Vector, roundoff: float) -> NDArray[np.bool_]:
    """Return which outputs change by the same amount however small the step: they jump at the point."""
    moved = np.abs(there[-4:] - base)
    rounding = 64 * roundoff * np.maximum(np.abs(there).max(axis=0), np.abs(base[0]))
    still = moved.min(axis=0) > 0.9 * moved.max(axis=0)
    return np.asarray(still & (moved.min(axis=0) > rounding))


def outputs_at(
    function: Function, point: Point, place: int, shifts: Vector, direction: Vector, rows: Rows = slice(None)
) -> Vector:
    """Return the outputs at `rows` where one input is shifted along a direction, (B, m) for B shifts."""
    per = max(1, MOST_NUMBERS // max(1, sum(x.size for x in point) + function.size))
    parts = []
    for start in range(0, len(shifts), per):
        some = shifts[start : start + per]
        batch = repeated(point, len(some))
        batch[place] = point[place] + some[:, None] * direction
        with np.errstate(all="ignore"):
            parts.append(function.values(tuple(batch))[:, rows])
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


def extrapolated(quotients: Vector, steps: Vector, power: int, orders: int = 1) -> tuple[Vector, Vector]:
    """Return Richardson values of quotients with an error in powers of step^power, and the last corrections.

    The steps lie along the first axis, and each order makes it one shorter. Source: Richardson 1911.
    """
    apart = np.zeros_like(quotients)
    for order in range(1, orders + 1):
        ratio = (steps[:-order] / steps[order:]) ** power
        correction = (quotients[1:] - quotients[:-1]) / (ratio - 1).reshape(-1, *(1,) * (quotients.ndim - 1))
        quotients, apart = quotients[1:] + correction, np.abs(correction)
    return quotients, apart


def chosen(better: Vector, apart: Vector, rounding: Vector) -> Slope:
    """Choose, element by element, the value whose error is smallest.

    Its error is how far the next one lies, and every finer one beyond its own rounding: a coarse step may
    agree with its neighbour and both miss what happens closer to the point.
    """
    levels = len(better)
    value = np.where(np.isfinite(better[0]), better[0], np.nan)
    least = np.full(value.shape, np.inf)
    reach = _BEYOND * rounding
    for k in range(levels):
        # The finest has no finer neighbour; what diverges must not settle there.
        neighbour = better[k + 1] if k + 1 < levels else better[max(k - 1, 0)]
        change = np.abs(neighbour - better[k])
        if k + 1 == levels:
            change = np.maximum(change, apart[k])
        if k + 2 < levels:
            beyond = np.abs(better[k + 2 :] - better[k]) - reach[k + 2 :]
            change = np.maximum(change, beyond.max(axis=0))
        error = change + rounding[k]
        # An error that is no number is not smaller than anything.
        take = (error < least) & np.isfinite(better[k])
        value = np.where(take, better[k], value)
        least = np.where(take, error, least)
    return Slope(value, least)


def noise_of(
    function: Function,
    point: Point,
    place: int,
    direction: Vector,
    exponents: tuple[int, ...] = (-44, -34, -26, -18, -12),
    rows: Rows = slice(None),
) -> tuple[Vector, NDArray[np.bool_]]:
    """Return the noise of the outputs at `rows` from differences of high order on closely spaced points.

    What is smooth vanishes in them, what is noise does not. Where the function stands still over the closest
    points it may round coarsely inside, and wider ones tell how coarsely; or it may be flat, and end there.
    The second result says where that is open. Source: Moré & Wild 2011, "Estimating computational noise".
    """
    tables = _tables(function, point, place, direction, exponents, rows)
    least = np.zeros(tables.shape[2])
    open_ = np.ones(tables.shape[2], dtype=bool)
    still = np.zeros(tables.shape[2], dtype=bool)
    for number, values in enumerate(tables):
        found, moves, quantum = _noise(values)
        take = open_ & moves
        least[take] = found[take]
        if number:
            still |= take
            least[take] = np.maximum(found, quantum)[take]
        open_ &= ~take
    return least, still


def noise_at(
    function: Function,
    point: Point,
    place: int,
    direction: Vector,
    exponents: tuple[int, ...],
    rows: Rows = slice(None),
) -> Vector:
    """Return the largest noise over several spacings: at one of them coarse roundings do not look even."""
    tables = _tables(function, point, place, direction, exponents, rows)
    largest = np.zeros(tables.shape[2])
    for values in tables:
        found, moves, _ = _noise(values)
        largest = np.maximum(largest, np.where(moves, found, 0.0))
    return largest


def _tables(
    function: Function, point: Point, place: int, direction: Vector, exponents: tuple[int, ...], rows: Rows
) -> Vector:
    """Return the outputs on closely spaced points, (exponents, points, m)."""
    spacing = np.exp2(np.array(exponents, dtype=float))
    shifts = np.outer(spacing, np.arange(_POINTS)).ravel()
    found = outputs_at(function, point, place, shifts, direction, rows)
    return found.reshape(len(exponents), _POINTS, -1)


def _noise(values: Vector) -> tuple[Vector, NDArray[np.bool_], Vector]:
    """Return the noise of evenly spaced values (points, m), where they move at all, and the least move."""
    with np.errstate(all="ignore"):
        levels = []
        table = values
        for order in range(1, 6):
            table = np.diff(table, axis=0)
            if order >= 3:
                gamma = math.factorial(order) ** 2 / math.factorial(2 * order)
                levels.append(np.sqrt(gamma * np.mean(table**2, axis=0)))
        found = np.min(levels, axis=0)
        steps = np.abs(np.diff(values, axis=0))
        moves = (steps != 0).any(axis=0) & np.isfinite(found)
        # Equal steps have no noise in their differences, and may be one coarse rounding each.
        quantum = np.where(steps > 0, steps, np.inf).min(axis=0)
    return found, moves, quantum
