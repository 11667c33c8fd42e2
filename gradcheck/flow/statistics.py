"""From ln ‖g_l‖² of many networks to a rate, a factor, a span, and what they are worth.

All arrays are (layers, networks), the layer next to the input first; a step goes one layer towards the input.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import special

Array = NDArray[Any]
# The layers next to the output, where the gradient has not yet the shape that the weights give it.
READOUT = 3
# A layer belongs to the transient while its step differs from the usual one by more than this, or by four
# standard errors where those are larger.
SETTLED = 0.01
STANDARD_ERRORS = 4.0
# Decades of ‖g‖ per unit of ln ‖g‖².
DECADES = 0.5 / math.log(10.0)


@dataclass(frozen=True)
class Estimate:
    """A mean over networks, its standard error, and how many networks it rests on."""

    value: float
    error: float
    count: int

    def interval(self, level: float = 0.95) -> tuple[float, float]:
        """Return Student's interval; infinite for a single network."""
        if self.count < 2:
            return -math.inf, math.inf
        reach = float(special.stdtrit(self.count - 1, 0.5 + level / 2)) * self.error
        return self.value - reach, self.value + reach

    def probability_between(self, low: float, high: float) -> float:
        """Return how probable it is that the truth lies between; NaN for a single network."""
        if self.count < 2:
            return math.nan
        if self.error == 0:
            return float(low <= self.value < high)
        below, above = ((end - self.value) / self.error for end in (low, high))
        return float(special.stdtr(self.count - 1, above) - special.stdtr(self.count - 1, below))


@dataclass(frozen=True)
class Statistics:
    """What ‖g‖ does on its way through the layers.

    `rate` is E of the change of ln ‖g‖² per layer towards the input, over the layers `first` … `last`
    (counted from 0), which leave out the readout and the forward transient. `factor` is the mean of
    ‖g_{l-1}‖²/‖g_l‖² over the same layers and all networks, dead ones counted as 0 where they die. `span` is
    the change of log10 ‖g‖ between the two layers `between` which it differs most; negative where it is lost.
    `end_to_end` is that between the ends. `dispersion` is β = Var ln ‖g‖² gained from end to end, over
    networks, and `gained` the same per layer within the window. `heaviest` is the share of the largest ratio
    in the factor's sum.
    """

    rate: Estimate
    factor: Estimate
    span: Estimate
    end_to_end: Estimate
    dispersion: float
    gained: float
    heaviest: float
    first: int
    last: int
    between: tuple[int, int]
    typical: tuple[float, ...]
    typical_errors: tuple[float, ...]
    dead: int
    broken: int
    count: int

    @property
    def steps(self) -> int:
        """How many layers the rate is measured over."""
        return self.last - self.first


def over_networks(values: Array) -> Estimate:
    """Return mean and standard error of independent values."""
    count = len(values)
    error = float(np.std(values, ddof=1)) / math.sqrt(count) if count > 1 else math.inf
    return Estimate(float(np.mean(values)) if count else math.nan, error, count)


def steady(rows: Array) -> int:
    """Return the first layer from which on the steps of `rows` (layers, networks) are the usual ones."""
    steps = np.diff(rows, axis=0)
    if len(steps) < 2:
        return 0
    means = np.mean(steps, axis=1)
    errors = np.std(steps, axis=1, ddof=1) / math.sqrt(steps.shape[1]) if steps.shape[1] > 1 else 0 * means
    usual = float(np.median(means[len(means) // 2 :]))
    unusual = np.abs(means - usual) > np.maximum(SETTLED, STANDARD_ERRORS * errors)
    half = len(steps) // 2
    return int(np.max(np.flatnonzero(unusual[:half]), initial=-1)) + 1


def window(gradient: Array, forward: Array, readout: int = READOUT) -> tuple[int, int]:
    """Return the first and last layer that the rate is measured between, at least one step apart.

    A network too shallow for both ends to be left out keeps the readout, then the transient.
    """
    last = len(gradient) - 1
    inner = max(last - readout, 1)
    finite = np.all(np.isfinite(forward), axis=0)
    start = steady(gradient[: inner + 1])
    if np.any(finite):
        start = max(start, min(steady(forward[:, finite]), last // 2))
    if inner - start >= 2:
        return start, inner
    return (start, last) if last - start >= 2 else (0, last)


def summarise(gradient: Array, forward: Array) -> Statistics:
    """Return the statistics of ln ‖g‖² of every layer and network.

    A network is dead if some layer's gradient is exactly zero, broken if one is infinite or NaN, or the
    values of some layer (`forward`, ln of their mean square) are; both are left out of everything but the
    counts and, the dead ones, the factor.
    """
    rows = np.concatenate([gradient, forward])
    failed = np.any(np.isnan(rows) | (rows == np.inf), axis=0)
    dead = np.any(gradient == -np.inf, axis=0) & ~failed
    live = ~dead & ~failed
    r = gradient[:, live]
    if not r.shape[1]:
        return _nothing(gradient, int(np.sum(dead)), int(np.sum(failed)))
    first, last = window(r, forward[:, live])
    # Sums over layers of the networks' own differences: residuals of neighbouring layers are not independent.
    slopes = (r[first] - r[last]) / (last - first)
    ratios = np.exp(r[first:last] - r[first + 1 : last + 1])
    factor = over_networks(np.mean(ratios, axis=0))
    alive = r.shape[1] / (r.shape[1] + int(np.sum(dead)))
    survival = alive ** (1.0 / (len(gradient) - 1))
    typical = np.mean(r, axis=1)
    low, high = _between(typical)
    ends = r[0] - r[-1]
    return Statistics(
        rate=over_networks(slopes),
        factor=Estimate(factor.value * survival, factor.error * survival, factor.count),
        span=over_networks((r[low] - r[high]) * DECADES),
        end_to_end=over_networks(ends * DECADES),
        dispersion=_variance(ends),
        gained=_variance(slopes) * (last - first),
        heaviest=float(np.max(ratios) / np.sum(ratios)),
        first=first,
        last=last,
        between=(low, high),
        typical=tuple(map(float, typical)),
        typical_errors=tuple(over_networks(row).error for row in r),
        dead=int(np.sum(dead)),
        broken=int(np.sum(failed)),
        count=int(gradient.shape[1]),
    )


def _variance(values: Array) -> float:
    return float(np.var(values, ddof=1)) if len(values) > 1 else math.nan


def _between(typical: Array) -> tuple[int, int]:
    """Return the two layers, the one nearer to the input first, between which ‖g‖ changes most."""
    change = np.triu(np.abs(typical[:, None] - typical[None, :]), 1)
    low, high = np.unravel_index(int(np.argmax(change)), change.shape)
    return (int(low), int(high)) if low < high else (0, len(typical) - 1)


def _nothing(gradient: Array, dead: int, failed: int) -> Statistics:
    layers, count = gradient.shape
    none, last = Estimate(math.nan, math.nan, 0), layers - 1
    return Statistics(
        rate=none,
        factor=Estimate(0.0, math.nan, 0) if dead and not failed else none,
        span=none,
        end_to_end=none,
        dispersion=math.nan,
        gained=math.nan,
        heaviest=math.nan,
        first=0,
        last=last,
        between=(0, last),
        typical=(math.nan,) * layers,
        typical_errors=(math.nan,) * layers,
        dead=dead,
        broken=failed,
        count=count,
    )
