"""How far a sample's moments and distribution may stray, with a stated probability of straying further.

The bounds hold for every size of the sample; none is an approximation for large ones. Sources: Bernstein's
inequality as in Boucheron, Lugosi & Massart, "Concentration Inequalities", 2013, theorem 2.10; Massart, "The
tight constant in the Dvoretzky-Kiefer-Wolfowitz inequality", Annals of Probability 18, 1990.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy import special


def mean_radius(count: int, variance: float, span: float, alarm: float) -> float:
    """Return t with P(|mean - expectation| > t) <= alarm for `count` independent numbers of this variance,
    none further than `span` from its expectation.
    """
    log = math.log(2.0 / alarm)
    return math.sqrt(2.0 * variance * log / count) + span * log / (3.0 * count)


def distribution_radius(count: int, alarm: float) -> float:
    """Return t with P(sup |F_n - F| > t) <= alarm for the empirical distribution F_n of `count` numbers."""
    return math.sqrt(math.log(2.0 / alarm) / (2.0 * count))


def normal_reach(count: int, alarm: float) -> float:
    """Return c such that one of `count` standard normal numbers is beyond ±c with probability <= alarm."""
    return float(-special.ndtri(alarm / (2.0 * count)))


def distance_from_uniform(values: NDArray[np.float64]) -> float:
    """Return sup |F_n(t) - t| of numbers between 0 and 1 (Kolmogorov's statistic)."""
    ordered = np.sort(values.ravel())
    steps = np.arange(ordered.size + 1) / ordered.size
    return float(max(np.max(steps[1:] - ordered), np.max(ordered - steps[:-1])))
