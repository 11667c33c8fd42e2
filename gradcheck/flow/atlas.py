"""Maps of a network's gradients over two of its parameters: what theory says beside what is measured.

The planes are σ_w × σ_b (log10 of the factor per layer, the gain of the weights taken into σ_w), gain ×
depth and batch × depth (decades of ‖g‖ from the output to the first layer). Every point of a map has
networks of its own; those of many points are run together, as one batch whose members differ in σ_w and σ_b.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from gradcheck.errors import UsageError, unknown_name
from gradcheck.flow.activations import get_activation
from gradcheck.flow.critical import critical_line, gains
from gradcheck.flow.many import Batch, Say, batches, measure_points, traces, with_deviations
from gradcheck.flow.measuring import LEAST_BATCH
from gradcheck.flow.network import Network
from gradcheck.flow.prediction import predict_network
from gradcheck.flow.settling import OSCILLATES, settle
from gradcheck.flow.statistics import DECADES, Estimate, Statistics, over_networks, summarise
from gradcheck.flow.verdict import expected_steps

Float64Array = NDArray[np.float64]
Range = tuple[float, float]

PLANES = ("weights", "gain-depth", "batch-depth")
MOST_GRID, LEAST_SEEDS = 200, 2
WIDEST_BATCH, DEEPEST = 128, 60


@dataclass(frozen=True)
class Atlas:
    """One map. Rows of `predicted`, `measured` and `errors` belong to `ys`, columns to `xs`.

    `errors` are standard errors of `measured` over `seeds` networks per point; NaN where every network is
    dead. `exact` says that the prediction holds at this width; otherwise it is a limit of wide layers.
    `critical` are the lines (x, y) on which theory says that nothing changes. `dead` and `broken` count
    networks of all points.
    """

    plane: str
    network: Network
    xs: tuple[float, ...]
    ys: tuple[float, ...]
    predicted: Float64Array
    measured: Float64Array
    errors: Float64Array
    exact: bool
    critical: tuple[tuple[Float64Array, Float64Array], ...]
    seeds: int
    seed: int
    dead: int
    broken: int
    seconds: float


@dataclass(frozen=True)
class _Axes:
    """The points of a map."""

    xs: Float64Array
    ys: Float64Array


def make_atlas(
    network: Network,
    plane: str = "weights",
    *,
    grid: int = 40,
    seeds: int = 16,
    seed: int = 0,
    x: Range | None = None,
    y: Range | None = None,
    say: Say | None = None,
) -> Atlas:
    """Return the map of a plane with `grid` × `grid` points, `seeds` networks at each.

    `network` says what all points have in common; the two parameters of the plane replace its own. `x` and
    `y` are the ends of the axes, chosen around the critical line without them. `say(done, planned)` is told
    how many networks have been run. Raises `UsageError` for a plane that this network has not.
    """
    _check(network, plane, grid, seeds)
    begun = time.perf_counter()
    axes = _axes(network, plane, grid, x, y)
    makers = {"weights": _weights, "gain-depth": _gain_depth, "batch-depth": _batch_depth}
    predicted, measured, errors, exact, lost = makers[plane](network, axes, seeds, seed, say or _silent)
    return Atlas(
        plane=plane,
        network=network,
        xs=tuple(map(float, axes.xs)),
        ys=tuple(map(float, axes.ys)),
        predicted=predicted,
        measured=measured,
        errors=errors,
        exact=exact,
        critical=_critical(network, plane, axes, predicted),
        seeds=seeds,
        seed=seed,
        dead=lost[0],
        broken=lost[1],
        seconds=time.perf_counter() - begun,
    )


def _silent(done: int, planned: int) -> None:
    return None


def _check(network: Network, plane: str, grid: int, seeds: int) -> None:
    if plane not in PLANES:
        raise unknown_name("plane", plane, PLANES)
    if not 2 <= grid <= MOST_GRID:
        raise UsageError(f"grid: expected 2 to {MOST_GRID} points along an axis, got {grid}")
    if seeds < LEAST_SEEDS:
        raise UsageError(f"seeds: expected at least {LEAST_SEEDS}, for a standard error, got {seeds}")
    if network.kind != "dense" or network.format != "float64":
        raise UsageError("an atlas is drawn of dense networks in float64; measure(network) takes any other")
    if isinstance(network.residual, str) and plane != "weights":
        raise UsageError(f"residual={network.residual!r} changes along the depth: give the scale as a number")
    if plane == "weights" and network.norm == "batch":
        raise UsageError(
            "batch norm takes the scale of the weights out: the plane of weights is flat; "
            "choose the plane batch-depth"
        )
    if plane == "batch-depth" and network.norm not in (None, "batch"):
        raise UsageError(f"norm={network.norm!r} does not look at the batch; choose another plane")


def _axes(network: Network, plane: str, grid: int, x: Range | None, y: Range | None) -> _Axes:
    for word, ends in (("x", x), ("y", y)):
        if ends is not None and not (0 <= ends[0] < ends[1] < math.inf):
            raise UsageError(f"{word}: expected ends 0 <= low < high, got {ends[0]:g} and {ends[1]:g}")
    if plane == "weights":
        low, high = x or _around_critical(network)
        # A variance of 0 passes no gradient; the axis begins one step above it.
        xs = np.linspace(low or high / grid, high, grid)
        return _Axes(xs, np.linspace(*(y or (0.0, 1.5)), grid))
    depths = _whole(y or (2, DEEPEST), grid, "depth", 2, geometric=False)
    if plane == "gain-depth":
        middle = gains(network.activation).backward
        low, high = x or (0.6 * middle, 1.6 * middle)
        return _Axes(np.linspace(low or high / grid, high, grid), depths)
    return _Axes(_whole(x or (LEAST_BATCH, WIDEST_BATCH), grid, "batch", LEAST_BATCH), depths)


def _around_critical(network: Network) -> Range:
    """Return deviations of the weights around those with χ = 1, or around 1/√E φ'² at q = 1."""
    line = critical_line(network.activation, np.geomspace(1e-3, 30.0, 40))
    inside = np.sqrt(line.weight_variance[np.isfinite(line.weight_variance)])
    least = float(np.min(inside)) if len(inside) else gains(network.activation).backward
    return 0.3 * least, 2.7 * least


def _whole(ends: Range, grid: int, word: str, least: int, *, geometric: bool = True) -> Float64Array:
    low, high = (round(end) for end in ends)
    if low < least:
        why = "; ratios of fewer have no variance" if word == "batch" else ""
        raise UsageError(f"{word}: expected whole numbers of at least {least}, got {low}{why}")
    made = np.geomspace(low, high, grid) if geometric else np.linspace(low, high, grid)
    return np.unique(np.round(made))


Found = tuple[Float64Array, Float64Array, Float64Array, bool, tuple[int, int]]


def _weights(network: Network, axes: _Axes, seeds: int, seed: int, say: Say) -> Found:
    """The factor per layer over σ_w and σ_b."""
    weight, bias = (part.ravel() for part in np.meshgrid(axes.xs, axes.ys))
    shape = (len(axes.ys), len(axes.xs))
    predicted, exact = _factors(network, weight, bias)
    statistics = measure_points(batches(network, weight, bias, seeds, seed), seeds, say)
    factors = np.array([each.factor.value for each in statistics])
    errors = np.array([each.factor.error for each in statistics])
    with np.errstate(all="ignore"):
        measured = np.where(factors > 0, np.log10(factors), math.nan)
        errors = np.where(factors > 0, errors / factors / math.log(10), math.nan)
        logs = np.log10(predicted)
    return logs.reshape(shape), measured.reshape(shape), errors.reshape(shape), exact, _lost(statistics)


def _gain_depth(network: Network, axes: _Axes, seeds: int, seed: int, say: Say) -> Found:
    """Decades of ‖g‖ between the ends, over the gain and the depth."""
    deviation, bias = math.sqrt(network.sigma_w2), math.sqrt(network.sigma_b2)
    weight = deviation / network.gain * axes.xs
    depths = [int(depth) for depth in axes.ys]
    deep = replace(network, depth=max(depths))
    predictions = [predict_network(with_deviations(deep, w, bias)) for w in weight.tolist()]
    steps = np.array([np.cumsum(expected_steps(p, max(depths))) for p in predictions])
    predicted = np.array([steps[:, depth - 2] * DECADES for depth in depths])
    biases = np.full_like(weight, bias)
    parts = [
        part
        for place, depth in enumerate(depths)
        for part in batches(replace(network, depth=depth), weight, biases, seeds, seed + (place << 40))
    ]
    statistics = measure_points(parts, seeds, say)
    ends = [each.end_to_end for each in statistics]
    exact = all(p.log_exact for p in predictions)
    return predicted, *_values(ends, predicted.shape), exact, _lost(statistics)


def _batch_depth(network: Network, axes: _Axes, seeds: int, seed: int, say: Say) -> Found:
    """Decades of ‖g‖ over so many layers back from the output, with batch norm over so many inputs."""
    depths, batches = [int(depth) for depth in axes.ys], [int(batch) for batch in axes.xs]
    deepest = max(depths)
    made = [replace(network, norm="batch", batch=batch, depth=deepest) for batch in batches]
    predictions = [predict_network(each) for each in made]
    steps = np.array([np.cumsum(expected_steps(p, deepest)[::-1]) for p in predictions])
    predicted = np.array([steps[:, depth - 2] * DECADES for depth in depths])
    weight, bias = (np.full(1, math.sqrt(v)) for v in (network.sigma_w2, network.sigma_b2))
    parts = [Batch(each, weight, bias, seed + (place << 40)) for place, each in enumerate(made)]
    columns, lost = [], np.zeros(2, dtype=np.int64)
    for gradient, forward in traces(parts, seeds, say):
        statistics = summarise(gradient, forward)
        lost += (statistics.dead, statistics.broken)
        own = gradient[:, np.all(np.isfinite(gradient), axis=0)]
        columns.append([over_networks((own[deepest - depth] - own[-1]) * DECADES) for depth in depths])
    ends = [columns[column][row] for row in range(len(depths)) for column in range(len(batches))]
    exact = all(p.log_exact for p in predictions)
    return predicted, *_values(ends, predicted.shape), exact, (int(lost[0]), int(lost[1]))


def _values(ends: Sequence[Estimate], shape: tuple[int, ...]) -> tuple[Float64Array, Float64Array]:
    return (
        np.array([end.value for end in ends]).reshape(shape),
        np.array([end.error for end in ends]).reshape(shape),
    )


def _lost(statistics: Sequence[Statistics]) -> tuple[int, int]:
    return sum(each.dead for each in statistics), sum(each.broken for each in statistics)


def _factors(network: Network, weight: Float64Array, bias: Float64Array) -> tuple[Float64Array, bool]:
    """Return the predicted factor for every pair of deviations, and whether it holds at this width."""
    activation = get_activation(network.activation)
    one = predict_network(with_deviations(network, float(weight[0]), float(bias[0])))
    if network.norm is not None or network.residual is not None:
        found = [
            predict_network(with_deviations(network, w, b)).factor
            for w, b in zip(weight.tolist(), bias.tolist(), strict=True)
        ]
        return np.array(found), one.exact
    start = weight**2 + bias**2
    square = weight**2 / network.keep
    low, high = (settle(activation, square, bias**2, float(end)) for end in (start.min(), start.max()))
    factor = low.factor.copy()
    # A map of q that nowhere falls keeps the order of its starts: where both ends settle alike, so does
    # every start between.
    apart = (low.outcome != high.outcome) | ~(np.abs(low.factor - high.factor) <= low.error + high.error)
    apart |= low.outcome == OSCILLATES
    for place in np.flatnonzero(apart):
        own = settle(activation, square[place], bias[place] ** 2, float(start[place]))
        factor[place] = float(own.factor)
    return factor, one.exact


def _critical(
    network: Network, plane: str, axes: _Axes, predicted: Float64Array
) -> tuple[tuple[Float64Array, Float64Array], ...]:
    """Return the lines on which nothing changes: in closed form for a plain network's σ_w and σ_b.

    Where the closed form is one point (homogeneous activations), and in the other planes, the line is where
    the predicted map changes its sign, between neighbouring points of a row.
    """
    if plane == "weights" and network.norm is None and network.residual is None and network.keep == 1:
        line = critical_line(network.activation, np.geomspace(1e-4, 1e3, 400))
        x, y = np.sqrt(line.weight_variance), np.sqrt(line.bias_variance)
        inside = (x >= axes.xs[0]) & (x <= axes.xs[-1]) & (y >= axes.ys[0]) & (y <= axes.ys[-1])
        inside &= line.stability < 1
        if np.any(inside) and np.ptp(x[inside]) > 1e-9 * axes.xs[-1]:
            # Below its end the factor passes 1 in a jump from one fixed point to another.
            below = axes.ys < np.min(y[inside])
            jumps = sign_changes(axes.xs, axes.ys[below], predicted[below])
            return ((x[inside], y[inside]), *jumps)
    return sign_changes(axes.xs, axes.ys, predicted)


def sign_changes(
    xs: Float64Array, ys: Float64Array, values: Float64Array
) -> tuple[tuple[Float64Array, Float64Array], ...]:
    """Return the line through the first change of sign of every row, by linear interpolation."""
    points = []
    for y, row in zip(ys, values, strict=True):
        known = np.isfinite(row[:-1]) & np.isfinite(row[1:]) & (row[1:] != row[:-1])
        places = np.flatnonzero(known & (row[:-1] < 0) & (row[1:] >= 0))
        if len(places):
            k = int(places[0])
            points.append((xs[k] - row[k] * (xs[k + 1] - xs[k]) / (row[k + 1] - row[k]), y))
    if len(points) < 2:
        return ()
    x, y = np.array(points).T
    return ((x, y),)
