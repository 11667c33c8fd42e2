"""What is read off many random networks: one number with its standard error, judged in log space.

Networks are independent, so every standard error is that of a mean over networks; layers of one network need
not be independent.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gradcheck.flow.document import Row, judged
from gradcheck.flow.passes import Trace

Array = NDArray[Any]
# Steps per block of a variance: a block's sum also carries what neighbouring steps have in common.
BLOCK = 2
# What 64 layers of float64 arithmetic may be off by, relative.
ROUNDING = 2.0**-46


@dataclass(frozen=True)
class Reading:
    """A number, its standard error, and how many networks it rests on."""

    value: float
    error: float
    networks: int


def mean_of(values: Array) -> Reading:
    """Return the mean of independent values."""
    count = len(values)
    error = float(np.std(values, ddof=1)) / math.sqrt(count) if count > 1 else math.inf
    return Reading(float(np.mean(values)), error, count)


def steps(trace: Trace, first: int, last: int) -> Array:
    """Return ln ‖g_l‖²/‖g_{l+1}‖², (steps, networks), for l from `first` to `last` - 1, counted from 0.

    Where the gradient has died a step is -inf, above that layer NaN.
    """
    with np.errstate(invalid="ignore"):
        return np.asarray(trace.gradient[first:last] - trace.gradient[first + 1 : last + 1])


def factor(trace: Trace, first: int, last: int) -> Reading:
    """Return E R, R = ‖g_l‖²/‖g_{l+1}‖²: 0 where a gradient dies, and no ratio after that."""
    ratios = np.exp(steps(trace, first, last))
    return mean_of(np.nanmean(ratios[:, ~np.isnan(ratios[0]) | ~np.isnan(ratios[-1])], axis=0))


def log_mean(trace: Trace, first: int, last: int) -> Reading:
    """Return E ln R over the networks that are alive."""
    return mean_of(np.mean(_alive(steps(trace, first, last)), axis=0))


def log_variance(trace: Trace, first: int, last: int, block: int = BLOCK) -> Reading:
    """Return the variance that ln ‖g‖² gains per step, from sums over blocks of steps."""
    rows = _alive(steps(trace, first, last))
    blocks = len(rows) // block
    sums = np.sum(rows[: blocks * block].reshape(blocks, block, -1), axis=1)
    count = sums.shape[1]
    squares = np.square(sums - np.mean(sums, axis=1, keepdims=True)) * (count / (count - 1) / block)
    return mean_of(np.mean(squares, axis=0))


def dispersion(trace: Trace, first: int, last: int) -> Reading:
    """Return the variance of ln ‖g_1‖²/‖g_L‖²: that of single steps, which are independent, added up."""
    per_step = log_variance(trace, first, last, block=1)
    return Reading(per_step.value * (last - first), per_step.error * (last - first), per_step.networks)


def second_moment(trace: Trace, first: int, last: int) -> Reading:
    """Return E R²/(E R)²; the error is that of its linear part."""
    ratios = np.exp(_alive(steps(trace, first, last)))
    one, two = np.mean(ratios, axis=0), np.mean(np.square(ratios), axis=0)
    mean, square = float(np.mean(one)), float(np.mean(two))
    error = mean_of(two / mean**2 - 2 * square / mean**3 * one).error
    return Reading(square / mean**2, error, len(one))


def dead(trace: Trace, first: int, last: int) -> Reading:
    """Return the share of networks whose first gradient is exactly 0."""
    gone = np.any(trace.gradient == -np.inf, axis=0)
    share = float(np.mean(gone))
    return Reading(share, math.sqrt(share * (1 - share) / len(gone)), len(gone))


def forward(trace: Trace, first: int, last: int) -> Reading:
    """Return the mean square of the pre-activations, over the layers of the window."""
    return mean_of(np.mean(np.exp(trace.forward[first : last + 1]), axis=0))


def retained(trace: Trace, first: int, last: int) -> Reading:
    """Return E ‖g_1‖²/‖g_L‖²: the direction of a Gaussian cotangent is independent of its norm."""
    return mean_of(np.exp(trace.gradient[0] - trace.gradient[-1]))


READERS: dict[str, Callable[[Trace, int, int], Reading]] = {
    "factor": factor,
    "log_mean": log_mean,
    "log_variance": log_variance,
    "dispersion": dispersion,
    "second_moment": second_moment,
    "dead": dead,
    "forward": forward,
    "retained": retained,
}


def _alive(rows: Array) -> Array:
    return rows[:, np.all(np.isfinite(rows), axis=0)]


def combined(readings: Sequence[Reading], shares: Sequence[float]) -> Reading:
    """Return Σ share · reading of independent readings."""
    pairs = list(zip(readings, shares, strict=True))
    value = math.fsum(share * reading.value for reading, share in pairs)
    error = math.sqrt(math.fsum((share * reading.error) ** 2 for reading, share in pairs))
    return Reading(value, error, sum(reading.networks for reading in readings))


def judged_log(
    name: str,
    reading: Reading,
    exact: float,
    exact_error: float = 0.0,
    *,
    logarithm: bool = False,
    **more: Any,
) -> Row:
    """Return the row that is judged by z = ln(measured/exact)/(error of ln measured).

    `logarithm` says that the number is a logarithm already, `exact` 0 that there is none to take. A reading
    that is the same for all networks, but for rounding, is judged and involves no chance.
    """
    absolute = logarithm or exact == 0
    rounded = reading.error <= ROUNDING * (1.0 if absolute else abs(reading.value))
    more["normal"] = more.get("normal", True) and not rounded
    if absolute:
        error = math.hypot(reading.error, ROUNDING)
        return judged(name, reading.value, error, exact, exact_error, seeds=reading.networks, **more)
    if not reading.value > 0:
        return judged(name, reading.value, reading.error, exact, exact_error, seeds=reading.networks, **more)
    relative = math.hypot(reading.error / reading.value, ROUNDING)
    made = judged(
        name,
        math.log(reading.value),
        relative,
        math.log(exact),
        exact_error / exact,
        seeds=reading.networks,
        **more,
    )
    return replace(
        made,
        measured=reading.value,
        standard_error=relative * reading.value,
        exact=exact,
        exact_error=exact_error,
    )
