"""The depth at which a format can no longer hold the gradient: predicted from the rate, confirmed by running
it.

For a cotangent of unit entries the entries of the gradient after d layers are close to Gaussian, of a
deviation s that changes by exp(rate/2) per layer. An entry becomes zero below half the least subnormal θ,
infinite beyond the largest number (and half a step) Θ: shares erf(θ/(s√2)) and erfc(Θ/(s√2)). Half are zero
at θ = 0.6745 s. One infinite entry makes infinite or NaN whatever it is multiplied into, so half have failed
one layer after the first of n entries overflows, which is as likely as not at erf(Θ/(s√2))ⁿ = 1/2.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from scipy import special

from gradcheck.errors import UsageError
from gradcheck.flow.activations import get_activation
from gradcheck.flow.drawing import source
from gradcheck.flow.network import Network
from gradcheck.flow.passes import run, store_in
from gradcheck.flow.statistics import Statistics
from gradcheck.formats import Format, get_format

# The median of |N(0, 1)|.
HALF = float(special.ndtri(0.75))
# Beyond so many layers a rate tells nothing about a real network.
DEEPEST = 1_000_000
# What the weights of one network may take while a format is run.
MOST_BYTES = 1 << 30


@dataclass(frozen=True)
class Shares:
    """Shares of the entries of a gradient that are zero, subnormal, and infinite or NaN, at one depth."""

    depth: int
    zero: float
    subnormal: float
    infinite: float

    @property
    def failed(self) -> float:
        """The share of entries that hold no number at all."""
        return self.zero + self.infinite


@dataclass(frozen=True)
class FormatLimit:
    """Where one format fails. A depth counts layers; the gradient of the first one has passed depth - 1.

    `depth` is the least at which half the entries are zero or infinite, `subnormal` that at which half are
    below the least normal number; None where the rate leads to neither. `cause` is "zero", "infinite" or "".
    `deviation` is the standard deviation of `depth` between networks, in layers. `extrapolated` says that the
    measured network is not as deep. `shares` are those at the depths that were measured.
    """

    format: str
    depth: int | None
    subnormal: int | None
    cause: str
    deviation: float
    extrapolated: bool
    shares: tuple[Shares, ...]


@dataclass(frozen=True)
class FormatRun:
    """What running a backward pass in a format showed, beside what was predicted from the rate in float64."""

    limit: FormatLimit
    depth: int | None
    ran: int
    networks: int
    shares: tuple[Shares, ...]

    @property
    def confirmed(self) -> bool:
        """Whether the depth seen lies within one layer and four deviations of the prediction."""
        if self.depth is None or self.limit.depth is None:
            return self.depth is None and (self.limit.depth is None or self.limit.depth > self.ran)
        return abs(self.depth - self.limit.depth) <= 1 + 4 * self.limit.deviation


def overflow(fmt: Format) -> float:
    """Return the least magnitude that rounds to infinity."""
    return float(np.ldexp(2.0 - 2.0**-fmt.precision, fmt.emax)) if fmt.emax < 1023 else math.inf


def shares_at(depth: int, deviation: float, fmt: Format) -> Shares:
    """Return the shares of Gaussian entries of a deviation that fail in a format."""
    if not deviation > 0:
        return Shares(depth, 1.0, 0.0, 0.0)
    unit = deviation * math.sqrt(2.0)
    zero = float(special.erf(fmt.eta / unit))
    subnormal = float(special.erf(fmt.least_normal / unit)) - zero
    return Shares(depth, zero, subnormal, float(special.erfc(overflow(fmt) / unit)))


def format_limit(statistics: Statistics, sizes: tuple[float, ...], name: str) -> FormatLimit:
    """Return where a format fails, from what was measured in float64.

    `sizes` are the numbers of entries per layer that are not zero by themselves.
    """
    fmt = get_format(name)
    logs = _deviations(statistics, sizes)
    last = len(logs) - 1
    shares = tuple(shares_at(last - place + 1, _exp(logs[place]), fmt) for place in range(last, -1, -1))
    low, high = math.log(fmt.eta) - math.log(HALF), math.log(fmt.largest) - math.log(_largest(sizes))
    zero, infinite = _reached(logs, statistics, low, -1), _reached(logs, statistics, high, 1)
    infinite = None if infinite is None else infinite + 1
    found = min((d for d in (zero, infinite) if d is not None), default=None)
    rate = statistics.rate.value
    spread = 0.0
    if found is not None and rate and math.isfinite(statistics.gained):
        spread = math.sqrt(max(statistics.gained, 0.0) * found) / abs(rate)
    return FormatLimit(
        format=name,
        depth=found,
        subnormal=_reached(logs, statistics, math.log(fmt.least_normal / HALF), -1),
        cause="" if found is None else "zero" if found == zero else "infinite",
        deviation=spread,
        extrapolated=found is not None and found > last + 1,
        shares=shares,
    )


def _deviations(statistics: Statistics, sizes: tuple[float, ...]) -> list[float]:
    """Return ln s of the entries of every layer, for a cotangent of unit entries."""
    means = [r - math.log(max(n, 1.0)) for r, n in zip(statistics.typical, sizes, strict=True)]
    return [(mean - means[-1]) / 2 for mean in means]


def _largest(sizes: tuple[float, ...]) -> float:
    """Return the median of the largest of n magnitudes |N(0, 1)|, n the usual size of a layer."""
    n = max(float(np.median(sizes)), 1.0)
    return float(-special.ndtri(-special.expm1(-math.log(2.0) / n) / 2))


def _exp(value: float) -> float:
    return 0.0 if math.isnan(value) else math.exp(min(max(value, -745.0), 709.0))


def _reached(logs: list[float], statistics: Statistics, target: float, sign: int) -> int | None:
    """Return the least depth at which ln s is beyond the target, by extrapolation past the last layer."""
    last = len(logs) - 1
    for place in range(last, -1, -1):
        if sign * logs[place] >= sign * target:
            return last - place + 1
    low, high = statistics.rate.interval()
    certain = high < 0 if sign < 0 else low > 0
    if not certain:
        return None
    steps = (target - logs[0]) / (statistics.rate.value / 2)
    return last + 1 + math.ceil(steps) if steps < DEEPEST else None


def run_format(network: Network, limit: FormatLimit, *, networks: int = 16, seed: int = 0) -> FormatRun:
    """Run the backward pass in a format, deep enough to see it fail, and return what was seen.

    Networks that are dead in any format are left out.

    Weights and cotangent are numbers of the format, every product is accumulated in float32 (float64 for
    float64) and rounded. Raises `UsageError` where the depth would take more memory than `MOST_BYTES`.
    """
    depth = network.depth
    if limit.depth is not None:
        depth = max(depth, math.ceil(limit.depth + 3 + 4 * limit.deviation))
    size = network.width * network.fan_in * 4
    if depth * size > MOST_BYTES:
        raise UsageError(
            f"running {limit.format} to depth {depth} at width {network.width} takes "
            f"{depth * size >> 20} MiB for one network, more than {MOST_BYTES >> 20}; take a smaller width"
        )
    deep = replace(network, depth=depth, format=limit.format, residual=network.branch_scale)
    origin = source(deep, seed, whole=True, store=store_in(get_format(limit.format)))
    activation = get_activation(network.activation)
    together = max(1, min(networks, MOST_BYTES // (8 * depth * size)))
    rows, seen = [], []
    for start in range(0, networks, together):
        trace = run(deep, origin, activation, min(together, networks - start), backward=True)
        rows.append(np.stack([trace.zero, trace.subnormal, trace.infinite])[:, ::-1, trace.alive])
    found = np.concatenate(rows, axis=2)
    for failed in (found[0] + found[2]).T:
        at = np.flatnonzero(failed >= 0.5)
        seen.append(float(at[0] + 1) if len(at) else math.inf)
    middle = float(np.median(seen)) if seen else math.inf
    means = np.mean(found, axis=2) if seen else np.full(found.shape[:2], math.nan)
    shares = tuple(Shares(d + 1, *map(float, means[:, d])) for d in range(depth))
    return FormatRun(limit, round(middle) if math.isfinite(middle) else None, depth, len(seen), shares)
