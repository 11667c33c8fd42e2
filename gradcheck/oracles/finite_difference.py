"""Finite differences with an error estimate: central and Richardson over a ladder of steps.

At step h the central difference (f(x+h) - f(x-h)) / d, d the distance that was really taken, is off by
h^2 M3 / 6 + E / h, where E bounds the noise of f. The estimate of its error is the difference between
neighbouring steps plus that rounding term; the answer is the rung whose estimate is smallest. Source:
Higham 2002, section 1.14; Ridders, Advances in Engineering Software 4, 1982.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

Float64Array = NDArray[np.float64]
Function = Callable[[Float64Array], Float64Array]

STEPS = tuple(2.0**-k for k in range(4, 40, 2))


@dataclass(frozen=True)
class Ladder:
    """Differences at each step (first axis) with the estimate of their errors, and the best of them."""

    steps: Float64Array
    differences: Float64Array
    estimates: Float64Array
    best: Float64Array
    error: Float64Array


def central(f: Function, x: Float64Array, noise: Float64Array, *, order: int = 2) -> Ladder:
    """Return the ladder of central differences of `f` at `x`; `order` 4 combines neighbouring steps.

    `noise` bounds the error of f near x, element by element.
    """
    values, distances, steps = [], [], []
    for step in STEPS:
        h = step * _scale(x)
        right, left = x + h, x - h
        distances.append(right - left)
        values.append((f(right) - f(left)) / (right - left))
        steps.append(h)
    differences = np.array(values)
    rounding = 2 * noise / (np.array(distances) / 2)
    if order == 4:
        # With steps a factor 4 apart the h^2 term drops out of (16 D(h/4) - D(h)) / 15.
        differences = (16 * differences[1:] - differences[:-1]) / 15
        rounding, steps = 2 * rounding[1:], steps[1:]
    return _best(np.array(steps), differences, rounding)


def one_sided(f: Function, x: Float64Array, side: float, noise: Float64Array) -> Ladder:
    """Return the ladder of differences that stay on one side of `x`, for points at a kink.

    Where f jumps at `x` they grow without end as the steps shrink: the error is infinite.
    """
    at = f(x)
    values, distances = [], []
    for step in STEPS:
        moved = x + side * step * _scale(x)
        distances.append(moved - x)
        values.append((f(moved) - at) / (moved - x))
    rounding = 2 * noise / np.abs(np.array(distances))
    ladder = _best(np.abs(np.array(distances)), np.array(values), rounding)
    change = np.abs(np.diff(ladder.differences, axis=0))
    jumps = (change[-1] > rounding[-1] + rounding[-2]) & (change[-1] > change[0])
    return replace(ladder, error=np.where(jumps, np.inf, ladder.error))


def _scale(x: Float64Array) -> Float64Array:
    """Return a power of two near |x|, at least 1/16, so that x + h is exact but for the last bits."""
    return np.asarray(2.0 ** np.round(np.log2(np.maximum(np.abs(x), 0.0625))))


def _best(steps: Float64Array, differences: Float64Array, rounding: Float64Array) -> Ladder:
    change = np.abs(np.diff(differences, axis=0))
    estimates = np.empty_like(differences)
    # The change to the next smaller step overestimates the truncation of the smaller one.
    estimates[1:] = change + rounding[1:]
    estimates[0] = np.inf
    estimates = np.where(np.isfinite(differences) & np.isfinite(estimates), estimates, np.inf)
    choice = np.argmin(estimates, axis=0)[None]
    best = np.take_along_axis(differences, choice, axis=0)[0]
    error = np.take_along_axis(estimates, choice, axis=0)[0]
    return Ladder(steps, differences, estimates, best, error)
