"""The limit of the machine: how fast memory is copied, at sizes from the caches to far beyond them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from gradcheck.bench.document import Bandwidth
from gradcheck.bench.timing import Clock, Settings, Timed, estimate, interleave

# Bytes of one array: the first fits a first-level cache, the last no cache that is common.
SIZES = (1 << 13, 1 << 15, 1 << 18, 1 << 21, 1 << 24, 1 << 27)
Copy = Callable[[int], Callable[[], object]]


def numpy_copy(size: int) -> Callable[[], object]:
    """Return a call that copies an array of so many bytes, memory that is there already to memory that is."""
    source, target = np.ones(size // 8), np.zeros(size // 8)
    return lambda: np.copyto(target, source)


def measure(
    copy: Copy,
    settings: Settings,
    *,
    threads: int = 1,
    device: str = "cpu",
    before: Callable[[], None] = lambda: None,
    seconds: Callable[[Callable[[], object], int], float] | None = None,
    sizes: Sequence[int] = SIZES,
    clock: Clock | None = None,
) -> tuple[Bandwidth, ...]:
    """Return what copies of every size take. A copy reads and writes, so its traffic is twice its size.

    `seconds(call, loops)` times calls where the wall's clock does not, as on a GPU.
    """
    found = []
    for size in sizes:
        # One size after the other: a large copy would drive the small ones out of the caches.
        call = copy(size)
        (samples,) = interleave([Timed(call, before, _bound(seconds, call), threads == 1)], settings, clock)
        found.append(Bandwidth(device, threads, 2 * size, estimate(samples.data)))
    return tuple(found)


def _bound(
    seconds: Callable[[Callable[[], object], int], float] | None, call: Callable[[], object]
) -> Callable[[int], float] | None:
    return None if seconds is None else lambda loops: seconds(call, loops)


def limit(traffic: int, bandwidths: Sequence[Bandwidth], threads: int, device: str) -> float:
    """Return the seconds in which a copy moves `traffic` bytes; NaN where no copy was measured for this.

    Between the sizes that were measured, and beyond them, the rate is interpolated over the logarithm of the
    size and held constant.
    """
    known = sorted(
        (b.bytes, b.rate)
        for b in bandwidths
        if b.device == device and (b.threads == threads or device != "cpu")
    )
    if not known or traffic <= 0:
        return math.nan
    sizes, rates = zip(*known, strict=True)
    return traffic / float(np.interp(math.log(traffic), np.log(sizes), rates))
