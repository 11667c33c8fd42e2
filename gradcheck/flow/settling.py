"""Where the variance of the pre-activations settles: fixed points of q' = σ_w² E φ² + σ_b², E over N(0, q).

A map that nowhere falls moves q from its start towards the nearest fixed point in the direction of its first
step, or without end; that fixed point is bracketed on a grid and found by Newton's method. Any other map
is run. Source: Poole, Lahiri, Raghu, Sohl-Dickstein & Ganguli, arXiv:1606.05340, 2016; Schoenholz,
Gilmer, Ganguli & Sohl-Dickstein, arXiv:1611.01232, 2017.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gradcheck.flow.activations import Activation
from gradcheck.flow.moments import Moments, moments

Float64Array = NDArray[np.float64]

SETTLES, STAYS, VANISHES, GROWS, OSCILLATES = "settles", "stays", "vanishes", "grows", "oscillates"
_CORE = 10.0 ** (np.arange(-24, 25) / 4)
_LOW = 10.0 ** np.arange(-24, -6, 3)
_HIGH = 10.0 ** np.arange(9, 25, 3)
_EDGE = np.array([1e-24, 1e-20, 1e20, 1e24])
# A step of the map below this share of q is rounding.
_STILL = 1e-13
_NEWTON, _RUNS, _KEPT = 80, 400, 64


@dataclass(frozen=True)
class Settled:
    """Where layers settle, for every pair of variances; arrays of one shape.

    `q` is the fixed point, 0 or inf where the variance vanishes or grows without end. `factor` is χ =
    σ_w² E φ'² there, `stability` χ∥ = σ_w² d(E φ²)/dq, `error` bounds the error of the factor, `outcome`
    says what q does.
    """

    q: Float64Array
    factor: Float64Array
    stability: Float64Array
    error: Float64Array
    outcome: NDArray[np.str_]


def settle(
    activation: Activation, weight_variance: ArrayLike, bias_variance: ArrayLike = 0.0, start: float = 1.0
) -> Settled:
    """Return where q settles from `start`, for arrays of σ_w² and σ_b² that broadcast together."""
    w, b = np.broadcast_arrays(*(np.asarray(v, dtype=np.float64) for v in (weight_variance, bias_variance)))
    found = _homogeneous if activation.slopes is not None else _general
    q, factor, stability, error, outcome = found(activation, w.ravel(), b.ravel(), start)
    shaped = [part.reshape(w.shape) for part in (q, factor, stability, error)]
    return Settled(shaped[0], shaped[1], shaped[2], shaped[3], outcome.reshape(w.shape))


Found = tuple[Float64Array, Float64Array, Float64Array, Float64Array, NDArray[np.str_]]


def _homogeneous(activation: Activation, w: Float64Array, b: Float64Array, start: float) -> Found:
    """The map is q' = χq + σ_b² with χ = σ_w²(a² + b²)/2, for slopes a and b."""
    assert activation.slopes is not None
    chi = w * 0.5 * (activation.slopes[0] ** 2 + activation.slopes[1] ** 2)
    still = np.abs(chi - 1) <= 4 * 2.0**-52
    with np.errstate(divide="ignore", invalid="ignore"):
        q = np.where(still, np.where(b == 0, start, np.inf), np.where(chi < 1, b / (1 - chi), np.inf))
    outcome = np.where(q == 0, VANISHES, np.where(q == np.inf, GROWS, np.where(still, STAYS, SETTLES)))
    return q, chi, chi, chi * 2.0**-50, outcome


@lru_cache(maxsize=64)
def _walk(activation: Activation, start: float, way: int, far: bool) -> Moments:
    """Return the moments from `start` on, upwards (`way` 1) or downwards, `far` to the ends of the grid."""
    grid = np.concatenate([_LOW, _CORE, _HIGH]) if far else _CORE
    beyond = grid[grid > start] if way > 0 else grid[grid < start][::-1]
    return moments(activation, np.append(start, beyond))


@lru_cache(maxsize=64)
def _edge(activation: Activation) -> Moments:
    return moments(activation, _EDGE)


def _general(activation: Activation, w: Float64Array, b: Float64Array, start: float) -> Found:
    q, outcome = np.full(len(w), start), np.full(len(w), STAYS, dtype="<U10")
    first = w * moments(activation, [start]).square + b - start
    for way, rows in (
        (1, np.flatnonzero(first > _STILL * start)),
        (-1, np.flatnonzero(first < -_STILL * start)),
    ):
        if not len(rows):
            continue
        walk, step, place = _crossings(activation, w[rows], b[rows], start, way)
        crossed = place > 0
        falls = _falls_by(walk)[np.where(crossed, place, len(walk.q) - 1)]
        outcome[rows] = np.where(crossed, SETTLES, GROWS if way > 0 else VANISHES)
        outcome[rows[falls]] = OSCILLATES
        q[rows] = math.inf if way > 0 else 0.0
        found = crossed & ~falls
        q[rows[found]] = _newton(activation, w[rows[found]], b[rows[found]], walk, step[found], place[found])
    return _read(activation, w, b, q, outcome, start)


def _crossings(
    activation: Activation, w: Float64Array, b: Float64Array, start: float, way: int
) -> tuple[Moments, Float64Array, NDArray[np.intp]]:
    """Return the walk from `start`, (q' - q)/q along it, and the place where its sign has changed.

    The place is 0 where the sign does not change by more than rounding could. The walk goes on beyond the
    core of the grid only if somebody has not crossed there.
    """
    for far in (False, True):
        walk = _walk(activation, start, way, far)
        step = (w[:, None] * walk.square + b[:, None] - walk.q) / walk.q
        place = np.argmax(way * step < -_STILL, axis=1)
        if np.all(place > 0):
            break
    return walk, step, place


def _falls_by(walk: Moments) -> NDArray[np.bool_]:
    """Whether the variance map falls anywhere up to each place of the walk."""
    rate = walk.square_rate
    falls = rate < -2 * walk.errors["square_rate"] - 1e-12 * np.max(np.abs(rate))
    return np.asarray(np.logical_or.accumulate(falls))


def _newton(
    activation: Activation,
    w: Float64Array,
    b: Float64Array,
    walk: Moments,
    step: Float64Array,
    place: NDArray[np.intp],
) -> Float64Array:
    """Return the root of σ_w² E φ² + σ_b² - q between every place of the walk and the one before it."""
    rows = np.arange(len(w))
    before, after = step[rows, place - 1], step[rows, place]
    ends = np.stack([walk.q[place - 1], walk.q[place]])
    q = ends[0] * (ends[1] / ends[0]) ** np.clip(before / (before - after), 0.05, 0.95)
    low, high = np.min(ends, axis=0), np.max(ends, axis=0)
    active = rows
    for _ in range(_NEWTON):
        if not len(active):
            break
        at = moments(activation, q[active])
        off = w[active] * at.square + b[active] - q[active]
        low[active] = np.where(off >= 0, q[active], low[active])
        high[active] = np.where(off <= 0, q[active], high[active])
        with np.errstate(all="ignore"):
            moved = q[active] - off / (w[active] * at.square_rate - 1)
        inside = (moved > low[active]) & (moved < high[active])
        moved = np.where(inside, moved, np.sqrt(low[active] * high[active]))
        # Newton's method squares the error: a step below the root of rounding is the last one.
        last = np.abs(moved - q[active]) <= 1e-9 * q[active]
        last |= (np.abs(off) <= 2.0**-52 * q[active]) | (high[active] <= low[active] * (1 + 2.0**-51))
        q[active] = np.where(np.abs(off) <= 2.0**-52 * q[active], q[active], moved)
        active = active[~last]
    return np.asarray(q)


def _read(
    activation: Activation,
    w: Float64Array,
    b: Float64Array,
    q: Float64Array,
    outcome: NDArray[np.str_],
    start: float,
) -> Found:
    factor, stability, error = np.zeros((3, len(w)))
    for ends, near, far in ((VANISHES, 0, 1), (GROWS, 3, 2)):
        rows = outcome == ends
        if rows.any():
            edge = _edge(activation)
            limit, before = float(edge.slope_square[near]), float(edge.slope_square[far])
            limit, off = _limit(limit, before)
            factor[rows], error[rows] = w[rows] * limit, w[rows] * (off + edge.errors["slope_square"][near])
            stability[rows] = w[rows] * edge.square_rate[near]
    rows = (outcome == SETTLES) | (outcome == STAYS)
    if rows.any():
        at = moments(activation, q[rows])
        factor[rows], stability[rows] = w[rows] * at.slope_square, w[rows] * at.square_rate
        with np.errstate(divide="ignore"):
            off = (w[rows] * at.errors["square"] + 2.0**-51 * q[rows]) / np.abs(1 - stability[rows])
        # At the edge of stability the root is known to the square root of rounding only.
        off = np.minimum(off, 1e-6 * q[rows])
        error[rows] = w[rows] * (at.errors["slope_square"] + np.abs(at.slope_rate) * off)
    for row in np.flatnonzero(outcome == OSCILLATES):
        run = _run(activation, float(w[row]), float(b[row]), start)
        q[row], factor[row], stability[row], error[row], outcome[row] = run
    return q, factor, stability, error, outcome


def _limit(last: float, before: float) -> tuple[float, float]:
    """Return the limit of a moment from its last two values, four decades apart, and how far off that may be.

    What still changes like a power goes to 0 or without end.
    """
    if last == math.inf or last > 1.5 * before:
        return math.inf, 0.0
    return (0.0, 0.0) if 1.5 * last < before else (last, abs(last - before))


def _run(activation: Activation, w: float, b: float, start: float) -> tuple[float, float, float, float, str]:
    """Iterate a map that falls somewhere; where it does not settle, the factor is that of a mean layer."""
    q, path = start, []
    for _ in range(_RUNS):
        if not 1e-24 < q < 1e24:
            break
        at = moments(activation, [q])
        path.append((q, w * at.slope_square[0], w * at.square_rate[0], w * at.errors["slope_square"][0]))
        moved = w * float(at.square[0]) + b
        if abs(moved - q) <= 2.0**-48 * q:
            break
        q = moved
    if not 1e-24 < q < 1e24:
        edge, near = _edge(activation), 0 if q < 1 else 3
        limits = w * float(edge.slope_square[near]), w * float(edge.square_rate[near])
        return (0.0 if near == 0 else math.inf), *limits, limits[0] * 2.0**-40, (VANISHES, GROWS)[near > 0]
    if len(path) < _RUNS:
        last = path[-1]
        return (
            last[0],
            last[1],
            last[2],
            last[3] + abs(path[-2][1] - last[1]) if len(path) > 1 else last[3],
            SETTLES,
        )
    tail = np.array(path[-_KEPT:])
    mean = float(np.exp(np.mean(np.log(tail[:, 1]))))
    halves = [float(np.exp(np.mean(np.log(half)))) for half in np.array_split(tail[:, 1], 2)]
    return (
        float(np.mean(tail[:, 0])),
        mean,
        float(np.mean(tail[:, 2])),
        abs(halves[0] - halves[1]),
        OSCILLATES,
    )


def variance_path(
    activation: Activation, weight_variance: float, bias_variance: float, start: float, depth: int
) -> Float64Array:
    """Return q of the layers 1 … depth, for pre-activations of variance `start` in the first."""
    path = np.empty(depth)
    q = start
    for layer in range(depth):
        path[layer] = q
        if activation.slopes is not None:
            square = 0.5 * q * (activation.slopes[0] ** 2 + activation.slopes[1] ** 2)
        else:
            square = float(moments(activation, [q]).square[0]) if 0 < q < math.inf else q
        q = weight_variance * square + bias_variance
    return path
