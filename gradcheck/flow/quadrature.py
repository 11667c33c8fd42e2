"""Integrals of piecewise smooth functions, many at once, each with a bound of its own error.

Every interval between two edges is integrated by Gauss' rule with 24 nodes; the difference to the rule
with 16 estimates its error, from above where the rules converge. Intervals that are not done are halved.
Source: Davis & Rabinowitz, Methods of Numerical Integration, 1984, chapter 6.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Float64Array = NDArray[np.float64]
IntegerArray = NDArray[np.intp]
# f(x, row): x (m, nodes) and the row (m, 1) of every interval; returns (k, m, nodes).
Integrand = Callable[[Float64Array, IntegerArray], Float64Array]

_FINE = np.polynomial.legendre.leggauss(24)
_COARSE = np.polynomial.legendre.leggauss(16)
_NODES = np.concatenate([_FINE[0], _COARSE[0]])
_HALVINGS = 40
_MOST_INTERVALS = 50_000
_AT_ONCE = 4_096
# Of the integral of |f|: what an interval may be off, and what rounding adds in the end.
ALLOWED, _ROUNDING = 2.0**-52, 2.0**-50


@dataclass(frozen=True)
class Integrals:
    """Integrals of k functions in each row: `value` and `error`, both of shape (k, rows)."""

    value: Float64Array
    error: Float64Array


def integrate(
    function: Integrand, edges: Float64Array, cancelled: ArrayLike = 0.0, allowed: float = ALLOWED
) -> Integrals:
    """Return the integrals of `function` from the first to the last of each row's `edges` (rows, edges).

    The edges of a row do not fall; equal ones are one edge. `cancelled` (k, rows) is the integral of what
    cancels inside the function itself: its rounding cannot be integrated away. An interval is done when
    its error is below the share `allowed` of the integral of |f|. The error is the sum over the intervals
    of the difference between two rules, and 2⁻⁵⁰ of the integral of |f| and of what cancels, for
    rounding.
    """
    rows = len(edges)
    low, high = edges[:, :-1].ravel(), edges[:, 1:].ravel()
    row = np.repeat(np.arange(rows), edges.shape[1] - 1)
    kept = high > low
    low, high, row = low[kept], high[kept], row[kept]
    value = error = size = np.zeros((1, rows))
    for halving in range(_HALVINGS + 1):
        sums, off, weight = _both_rules(function, low, high, row)
        if halving == 0:
            size = _per_row(weight, row, rows) + np.asarray(cancelled, dtype=np.float64)
            value, error = np.zeros_like(size), np.zeros_like(size)
        last = halving == _HALVINGS or 2 * len(low) > _MOST_INTERVALS
        done = np.all(off <= allowed * size[:, row], axis=0) | last
        value = value + _per_row(sums[:, done], row[done], rows)
        error = error + _per_row(off[:, done], row[done], rows)
        if done.all():
            break
        low, high, row = low[~done], high[~done], row[~done]
        middle = 0.5 * (low + high)
        low, high = np.concatenate([low, middle]), np.concatenate([middle, high])
        row = np.concatenate([row, row])
    return Integrals(value, error + _ROUNDING * size)


def _both_rules(
    function: Integrand, low: Float64Array, high: Float64Array, row: IntegerArray
) -> tuple[Float64Array, Float64Array, Float64Array]:
    """Return per interval the fine rule, its distance to the coarse one, and the fine rule of |f|."""
    parts = []
    for start in range(0, len(low), _AT_ONCE):
        piece = slice(start, start + _AT_ONCE)
        half = 0.5 * (high[piece] - low[piece])[:, None]
        x = low[piece][:, None] + half * (1.0 + _NODES)
        with np.errstate(all="ignore"):
            f = function(x, row[piece][:, None]) * half
            fine, coarse = f[..., : len(_FINE[0])], f[..., len(_FINE[0]) :]
            total = fine @ _FINE[1]
            parts.append((total, np.abs(total - coarse @ _COARSE[1]), np.abs(fine) @ _FINE[1]))
    sums, off, weight = (np.concatenate(part, axis=1) for part in zip(*parts, strict=True))
    return sums, np.where(np.isnan(off), np.inf, off), weight


def _per_row(values: Float64Array, row: IntegerArray, rows: int) -> Float64Array:
    return np.array([np.bincount(row, weights=line, minlength=rows) for line in values])


def edges_around(low: Float64Array, high: Float64Array, points: Float64Array) -> Float64Array:
    """Return edges (rows, n) from `low` to `high` (rows), with the `points` between them."""
    inside = np.clip(np.broadcast_to(points, (len(low), np.shape(points)[-1])), low[:, None], high[:, None])
    return np.sort(np.concatenate([low[:, None], inside, high[:, None]], axis=1), axis=1)
