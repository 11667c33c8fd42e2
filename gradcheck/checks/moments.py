"""Initial weights against their law: support, mean, variance, fourth moment and the whole distribution.

Every statistic is allowed to stray as far as a right sampler strays with a stated probability, and as far as
rounding moves it. So a run raises a false alarm with at most the probability that it was given, for all its
statistics together; the verdict's resolution is the relative error of the variance that it would have seen.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from gradcheck.compare import breach
from gradcheck.formats import Float64Array, Format, widen
from gradcheck.formulas.initialization import Initializer, Law, Shape, dirac
from gradcheck.oracles.concentration import (
    distance_from_uniform,
    distribution_radius,
    mean_radius,
    normal_reach,
)
from gradcheck.records import Evidence, Worst
from gradcheck.subjects.samplers import Sampler

FALSE_ALARM = 1e-6
"""The probability that a run accuses any right sampler, over all its cells, cases and statistics."""
# Support, mean, variance, fourth moment, distribution.
STATISTICS = 5


@dataclass(frozen=True)
class Draws:
    """One case: a weight of `shape` with these options, drawn `repeats` times from consecutive seeds."""

    shape: Shape
    options: Mapping[str, Any]
    seed: int
    repeats: int


@dataclass(frozen=True)
class Statistic:
    """What was found beside what the law says; `allowed` is how far apart they may be."""

    name: str
    got: float
    expected: float
    allowed: float

    @property
    def agrees(self) -> bool:
        """Whether it is as near as it has to be; NaN is not."""
        return abs(self.got - self.expected) <= self.allowed


@dataclass(frozen=True)
class Found:
    """What one case shows: its evidence, and the numbers as shares of their law, which all cases pool.

    `share_errors` says how far rounding may have moved each share.
    """

    evidence: Evidence
    shares: Float64Array
    share_errors: Float64Array


def moments(sampler: Sampler, initializer: Initializer, case: Draws, alarm: float) -> Found:
    """Draw the case and judge its statistics, with a probability of at most `alarm` of a false one."""
    empty = np.zeros(0)
    try:
        arrays = [
            sampler.draw(case.shape, case.options, case.seed + repeat) for repeat in range(case.repeats)
        ]
        wrong = _malformed(arrays, initializer, case, sampler.format)
    except (Exception, SystemExit) as error:
        note = f"{type(error).__name__}: {str(error)[:400]}"
        return Found(_described(breach("raised", 1, None, note), case, 0), empty, empty)
    if wrong is not None:
        return Found(_described(wrong, case, 0), empty, empty)
    x = widen(np.stack(arrays))
    if initializer.kind == "dirac":
        return Found(
            _described(_exact(x, dirac(case.shape, case.options["groups"])), case, x.size), empty, empty
        )
    if initializer.kind == "orthogonal":
        found = list(
            orthogonality(x, initializer.complete(dict(case.options))["gain"], sampler.format, alarm)
        )
        return Found(_described(judged(found), case, x.size), empty, empty)
    assert initializer.law is not None
    law = initializer.law(case.shape, **initializer.complete(dict(case.options)))
    law = law.restricted(normal_reach(x.size, alarm / STATISTICS))
    errors = rounding(x, law, sampler.format)
    found = list(statistics(x, errors, law, alarm))
    at = law.cdf(x)
    moved = np.maximum(law.cdf(x + errors) - at, at - law.cdf(x - errors))
    return Found(_described(judged(found), case, x.size), at.ravel(), moved.ravel())


def pooled(shares: Float64Array, errors: Float64Array, alarm: float) -> Evidence:
    """Judge the numbers of all cases together, as shares of their laws: uniform between 0 and 1.

    The resolution is the relative error of the variance that would be seen as surely as none is imagined.
    """
    law = Law(0.0, 1.0)
    found = list(statistics(shares, errors, law, alarm))
    return replace(judged(found), cases=1, resolution=_resolution(found[2], law, shares.size, alarm))


def rounding(x: Float64Array, law: Law, fmt: Format) -> Float64Array:
    """Return how far a legal sampler's numbers may be from those of the law.

    Scaling, shifting, storing and the bounds' own constants cost a unit roundoff each; a uniform generator
    gives no more significant bits than the format has.
    """
    off = 4 * fmt.roundoff * (np.abs(x) + abs(law.mean if law.std is not None else law.centre)) + fmt.eta
    return off + (fmt.roundoff * (law.high - law.low) if law.std is None else 0.0)


def statistics(x: Float64Array, errors: Float64Array, law: Law, alarm: float) -> Iterator[Statistic]:
    """Yield support, mean, variance, fourth moment and distribution of numbers drawn from a bounded law."""
    share, n = alarm / STATISTICS, x.size
    beyond = np.maximum(law.low - x, x - law.high) - errors
    yield Statistic("support", float(np.max(beyond, initial=0.0)), 0.0, 0.0)
    y = x - law.centre
    reach = max(law.high - law.centre, law.centre - law.low)
    for name, order in (("mean", 1), ("variance", 2), ("fourth moment", 4)):
        expected = law.moment(order) if order > 1 else 0.0
        spread = law.moment(2 * order) - expected**2
        # The mean of numbers of this law is centred up to the rounding of the quadrature.
        own = 2.0**-44 * reach**order
        moved = float(np.mean(_power(np.abs(y) + errors, order) - _power(np.abs(y), order)))
        allowed = mean_radius(n, spread, reach**order, share) + moved + own
        yield Statistic(name, float(np.mean(_power(y, order))), expected, allowed)
    at = law.cdf(x)
    moved = float(np.max(np.maximum(law.cdf(x + errors) - at, at - law.cdf(x - errors)), initial=0.0))
    distance = distance_from_uniform(at)
    yield Statistic("distribution", distance, 0.0, distribution_radius(n, share) + moved)


def _power(y: Float64Array, order: int) -> Float64Array:
    """Return y, y² or y⁴, by multiplication."""
    return y if order == 1 else np.square(y) if order == 2 else np.square(np.square(y))


def _resolution(variance: Statistic, law: Law, count: int, alarm: float) -> float:
    """Return d such that a variance off by a factor 1 + d would pass with a probability of at most the alarm.

    What is allowed and, on the other side, the strayings of a sample of the other variance lie between.
    """
    expected = law.moment(2)
    reach = max(law.high - law.centre, law.centre - law.low)
    radius = mean_radius(count, law.moment(4) - expected**2, reach**2, alarm / STATISTICS)
    return (variance.allowed + radius) / (expected - radius) if radius < expected else math.inf


def orthogonality(x: Float64Array, gain: float, fmt: Format, alarm: float) -> Iterator[Statistic]:
    """Yield how far the shorter side's rows or columns are from orthonormal, and two moments of Haar's law.

    Each of k reflectors of length m moves a vector by at most (4m + 30)u: its norm and its factor, and two
    products of length m. Uniformly distributed among the orthonormal ones, the k diagonal elements sum to 0
    with variance k/m, and an element's fourth power is 3/(m(m + 2)).
    """
    q = x.reshape(x.shape[0], x.shape[1], -1) / gain
    q = q if q.shape[1] >= q.shape[2] else np.swapaxes(q, 1, 2)
    repeats, m, k = q.shape
    column = k * (4 * m + 30) * fmt.roundoff
    gram = np.einsum("rik,ril->rkl", q, q)
    off = float(np.max(np.abs(gram - np.eye(k)), initial=0.0))
    yield Statistic("orthonormality", off, 0.0, 2 * column + column**2)
    share = alarm / 2
    trace = np.trace(q, axis1=1, axis2=2)
    yield Statistic(
        "mean of the trace", float(np.mean(trace)), 0.0, mean_radius(repeats, k / m, k, share) + k * column
    )
    fourth = np.mean(q**4, axis=(1, 2))
    expected = 3.0 / (m * (m + 2))
    # Between 0 and 1/m with this mean, nothing varies more than by the product of both distances.
    allowed = mean_radius(repeats, expected * (1.0 / m - expected), 1.0 / m, share) + 4 * column
    yield Statistic("fourth moment", float(np.mean(fourth)), expected, allowed)


def _malformed(arrays: list[Any], initializer: Initializer, case: Draws, fmt: Format) -> Evidence | None:
    shape = (case.shape[0],) if initializer.target == "bias" else case.shape
    for array in map(np.asarray, arrays):
        if array.shape != shape:
            return breach("shape", 1, None, f"expected shape {shape}, got {array.shape}")
        if array.dtype != fmt.dtype:
            return breach("format", 1, None, f"expected {fmt.name}, got {array.dtype}")
    return None


def _exact(x: Float64Array, expected: Float64Array) -> Evidence:
    wrong = ~(x == expected)
    found = Evidence(compared=int(x.size), cases=1)
    if not wrong.any():
        return found
    index = int(np.argmax(wrong))
    right = float(np.broadcast_to(expected, x.shape).ravel()[index])
    got = float(x.ravel()[index])
    worst = Worst((), got, right, abs(got - right), 0.0, math.inf, index, int(x.size), "element")
    return replace(
        found, outside_stable=1, outside_accepted=1, outside_unstable=int(wrong.sum()), worst=worst
    )


def judged(found: list[Statistic]) -> Evidence:
    """Return the evidence of some statistics; the worst one is the furthest beyond what is allowed."""
    wrong = sum(not one.agrees for one in found)
    ranked = [_worst(one) for one in found]
    return Evidence(
        compared=len(found),
        outside_stable=wrong,
        outside_accepted=wrong,
        outside_unstable=wrong,
        cases=1,
        worst=max(ranked, key=lambda one: one.severity, default=None),
        label="of the variance",
    )


def _worst(one: Statistic) -> Worst:
    error = abs(one.got - one.expected)
    return Worst((), one.got, one.expected, error, one.allowed, 0.0, 0, 1, one.name)


def _described(evidence: Evidence, case: Draws, size: int) -> Evidence:
    worst = evidence.worst
    if worst is not None:
        where = f"{worst.context} of {size} numbers, shape {'x'.join(map(str, case.shape))}, seed {case.seed}"
        worst = replace(worst, context=where)
    families = {"x".join(map(str, case.shape)): size}
    return replace(evidence, worst=worst, options=dict(case.options), families=families, cases=1)
