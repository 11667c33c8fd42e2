"""Interleaved timing: A B C A B C …, ratios round by round, medians with intervals that assume no law.

What else the machine does slows neighbours in time alike, so the ratio of two calls in the same round is far
steadier than the ratio of two medians.
"""

from __future__ import annotations

import contextlib
import gc
import math
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from gradcheck.bench.document import NOTHING, Estimate

CONFIDENCE = 0.95
# Two runs on one machine have to agree to this. An interval that is not clearly narrower is marked: it is
# that of one run, and the median of the next may lie beside it.
REPRODUCES = 0.15
WIDEST = 0.10
# A call in one thread that got less of a processor than this was waiting for others.
LEAST_SHARE = 0.85
_MOST_LOOPS = 1_000_000
# So many times as long as a sample has to be, it is long whatever interrupted it.
_SURELY = 50


@dataclass(frozen=True)
class Clock:
    """The two clocks, in seconds: `wall` is monotonic, `processor` counts what the process used."""

    wall: Callable[[], float] = time.perf_counter
    processor: Callable[[], float] = time.process_time


@dataclass(frozen=True)
class Timed:
    """A call to time. `before` runs ahead of every sample, outside of it (a number of threads, say).

    `measure(loops)` returns the seconds of so many calls where something else than the wall's clock knows
    them, such as the events of a GPU. `single` says that the call keeps to one thread.
    """

    call: Callable[[], object]
    before: Callable[[], None] = lambda: None
    measure: Callable[[int], float] | None = None
    single: bool = True


@dataclass(frozen=True)
class Settings:
    """How long a sample takes at least, and how many rounds there are: as many as `seconds` allow."""

    sample: float = 0.002
    rounds: int = 25
    least: int = 7
    seconds: float = 2.0

    def half(self) -> Settings:
        """Return the settings of one of two visits."""
        return replace(self, rounds=-(-self.rounds // 2), least=-(-self.least // 2), seconds=self.seconds / 2)


@dataclass(frozen=True)
class Sampled:
    """Seconds of one call, round by round, and what share of a processor each sample got."""

    data: tuple[float, ...]
    loops: int
    shares: tuple[float, ...] = field(default=())


def interleave(timed: Sequence[Timed], settings: Settings, clock: Clock | None = None) -> tuple[Sampled, ...]:
    """Return the samples of every call, taken in turn; garbage is collected before and not during."""
    clock = clock or Clock()
    begun = clock.wall()
    loops = [calibrate(each, settings.sample, clock) for each in timed]
    found: list[list[tuple[float, float]]] = [[] for _ in timed]
    with collected():
        for count in range(settings.rounds):
            if count >= settings.least and clock.wall() - begun > settings.seconds:
                break
            for each, number, samples in zip(timed, loops, found, strict=True):
                each.before()
                samples.append(_sample(each, number, clock))
    return tuple(
        Sampled(tuple(s for s, _ in samples), number, tuple(share for _, share in samples))
        for samples, number in zip(found, loops, strict=True)
    )


def calibrate(timed: Timed, least: float, clock: Clock) -> int:
    """Return how many calls in a row take at least `least` seconds; the first call only warms up."""
    timed.before()
    timed.call()
    loops = 1
    while True:
        taken = _sample(timed, loops, clock)[0] * loops
        if least <= taken < _SURELY * least:
            # What was interrupted looks long: it has to be long twice.
            taken = min(taken, _sample(timed, loops, clock)[0] * loops)
        if taken >= least or loops >= _MOST_LOOPS:
            return loops
        # A tenth more than what is needed, and never more than tenfold on the word of a short sample.
        wanted = math.ceil(1.1 * least / taken * loops) if taken > 0 else 10 * loops
        loops = min(max(wanted, loops + 1), 10 * loops, _MOST_LOOPS)


def _sample(timed: Timed, loops: int, clock: Clock) -> tuple[float, float]:
    """Return the seconds of one call and the share of a processor."""
    if timed.measure is not None:
        return timed.measure(loops) / loops, 1.0
    call, repeats = timed.call, range(loops)
    used, begun = clock.processor(), clock.wall()
    for _ in repeats:
        call()
    wall, processor = clock.wall() - begun, clock.processor() - used
    return wall / loops, processor / wall if wall > 0 else 1.0


@contextlib.contextmanager
def collected() -> Iterator[None]:
    """Collect garbage now, and not in this block."""
    enabled = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def estimate(values: Sequence[float], confidence: float = CONFIDENCE) -> Estimate:
    """Return the median with the narrowest symmetric pair of order statistics of this confidence.

    Of n independent samples, the number below the true median is binomial, B(n, ½): the interval from the
    k-th smallest to the k-th largest holds it with probability 1 - 2 P(B < k). Fewer than six samples do not
    reach 95 %: then the interval is from the least to the largest, and `coverage` says what it is worth.
    """
    ordered = sorted(values)
    n = len(ordered)
    if n == 0:
        return NOTHING
    k, outside = 1, 2 * 0.5**n
    below = outside
    while k < n // 2:
        below += 2 * math.comb(n, k) * 0.5**n
        if below > 1 - confidence:
            break
        k, outside = k + 1, below
    middle = statistics.median(ordered)
    return Estimate(middle, ordered[k - 1], ordered[n - k], max(0.0, 1 - outside))


def ratios(sampled: Sampled, to: Sampled) -> Estimate:
    """Return the ratio of two calls, from their ratios in the same round."""
    return estimate([a / b for a, b in zip(sampled.data, to.data, strict=True)])


def noise(sampled: Sampled, ratio: Estimate, single: bool = True) -> str:
    """Return why these numbers may not come out again within 15 %, "" if they should."""
    found = ratio if not math.isnan(ratio.median) else estimate(sampled.data)
    if found.coverage < CONFIDENCE - 0.02:
        return f"{len(sampled.data)} rounds are too few for an interval of {CONFIDENCE:.0%}"
    if not found.high <= (1 + WIDEST) * found.low:
        return f"the interval spans a factor of {found.high / found.low:.2f}"
    if single and sampled.shares and (share := statistics.median(sampled.shares)) < LEAST_SHARE:
        return f"the process got {share:.0%} of a processor"
    return ""
