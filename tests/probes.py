"""Fixed inputs on which the corpus is measured, apart from the way in which the checker draws its own."""

from __future__ import annotations

from functools import cache

import numpy as np

from gradcheck.formats import Format
from gradcheck.records import Array
from tests.honest import Real, rounded
from tests.truth import KINKS

POINTS = (0.0, 0.25, 0.5, 1.0, 1.5, 2.0, 3.0, 5.0, 6.0, 7.0, 8.0, 10.0, 20.0, 40.0, 0.8125, 2.171875, 1.6875)


@cache
def grid(count: int = 60) -> Real:
    """Return finite float64 points: dense around 0, log-uniform magnitudes of both signs, round numbers."""
    generator = np.random.default_rng(20)
    magnitudes = np.concatenate(
        [
            10.0 ** generator.uniform(-12, 3, count),
            10.0 ** generator.uniform(-3, 1.5, 2 * count),
            generator.uniform(0, 8, 2 * count),
            np.array(POINTS),
        ]
    )
    return np.unique(np.concatenate([magnitudes, -magnitudes]))


def edges(fmt: Format) -> Real:
    """Return the ends of the format's range, as float64."""
    ends = [
        fmt.least_subnormal,
        64 * fmt.least_subnormal,
        fmt.least_normal / 3,
        fmt.least_normal,
        fmt.largest / 8,
        fmt.largest,
    ]
    return np.array([0.0, *ends, -0.0, *(-end for end in ends)])


@cache
def pool(formula: str, fmt: Format, count: int = 60) -> Array:
    """Return the probe inputs of a formula in a format, shuffled: grid, edges, kinks, infinities and NaN."""
    if fmt.bits == 16:
        with np.errstate(invalid="ignore"):
            values = np.asarray(fmt.all_values(), dtype=np.float64)
    else:
        special = [*KINKS.get(formula, ()), np.inf, -np.inf, np.nan]
        values = np.concatenate([grid(count), edges(fmt), np.array(special)])
    return rounded(fmt, np.random.default_rng(7).permutation(values))
