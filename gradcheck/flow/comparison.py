"""Measured beside predicted: rows that hold at a width are judged there, limits by extrapolating from two
widths.

A limit's error at width N falls as 1/N, so 2 m(2N) - m(N) has none of that order. Batch norm over five inputs
or fewer is not judged: its ratios have no variance, and a sample mean says nothing.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from gradcheck.errors import UsageError
from gradcheck.flow.measuring import LEAST_BATCH, Measurement, measure_network
from gradcheck.flow.network import Network
from gradcheck.flow.prediction import Prediction
from gradcheck.flow.statistics import Estimate, Statistics
from gradcheck.flow.verdict import ROUNDING, expected_rate, step_factors


@dataclass(frozen=True)
class Comparison:
    """One number, measured and predicted. `quantity` is "factor" or "rate".

    `z` is the distance in standard errors, NaN where it is not `judged` (`reason` says why). `widths` are the
    widths that were measured, two for a limit; `networks` how many were drawn at each.
    """

    quantity: str
    measured: float
    error: float
    expected: float
    exact: bool
    widths: tuple[int, ...]
    networks: int
    judged: bool = True
    reason: str = ""

    @property
    def z(self) -> float:
        """(measured - expected) over the standard error, rounding included."""
        if not self.judged:
            return math.nan
        rounding = ROUNDING * max(1.0, abs(self.expected))
        return (self.measured - self.expected) / math.hypot(self.error, rounding)

    def __str__(self) -> str:
        how = "exact" if self.exact else f"limit, from widths {' and '.join(map(str, self.widths))}"
        z = f"z = {self.z:+.2f}" if self.judged else f"not judged: {self.reason}"
        measured = f"{self.quantity:<7}{self.measured:.5g} ± {self.error:.2g}"
        return f"{measured}, predicted {self.expected:.5g} ({how}), {z}"


def compare(network: Network, *, seeds: int = 64, seed: int = 0) -> tuple[Comparison, Comparison]:
    """Return factor and rate of a network beside what is predicted.

    Raises `UsageError` where no law is known.
    """
    first = measure_network(network, seeds, seed)
    p = first.predicted
    if p is None:
        raise UsageError(f"no law is known for {first.subject}; measure(network) stands alone")
    second = None
    if not (p.exact and p.log_exact):
        second = measure_network(replace(network, width=2 * network.width), seeds, seed + 1)
    return (
        _row("factor", network, p.exact, first, second, seeds),
        _row("rate", network, p.log_exact, first, second, seeds),
    )


def _row(
    quantity: str, network: Network, exact: bool, first: Measurement, second: Measurement | None, seeds: int
) -> Comparison:
    p = first.predicted
    assert p is not None
    own = _estimate(quantity, first.statistics)
    expected, value, error = _expected(quantity, p, first.statistics), own.value, own.error
    widths: tuple[int, ...] = (network.width,)
    if not exact and second is not None and second.predicted is not None:
        wide = _estimate(quantity, second.statistics)
        value, error = 2 * wide.value - own.value, math.hypot(2 * wide.error, own.error)
        expected = 2 * _expected(quantity, second.predicted, second.statistics) - expected
        widths = (network.width, 2 * network.width)
    reason = ""
    if network.norm == "batch" and network.examples < LEAST_BATCH:
        reason = f"ratios over a batch of {network.examples} have no variance"
    return Comparison(quantity, value, error, expected, exact, widths, seeds, not reason, reason)


def _estimate(quantity: str, statistics: Statistics) -> Estimate:
    return statistics.factor if quantity == "factor" else statistics.rate


def _expected(quantity: str, p: Prediction, statistics: Statistics) -> float:
    if quantity == "rate":
        return expected_rate(p, statistics)
    factors = step_factors(p, len(statistics.typical))[statistics.first : statistics.last]
    return math.fsum(factors) / len(factors)
