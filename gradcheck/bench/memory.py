"""What a call holds at once, each kind of memory by the record that knows it.

NumPy reports the data of its arrays to Python's `tracemalloc`, so that its peak is exact. PyTorch has an
allocator of its own, whose record its profiler reads; JAX says what a compiled program needs. Where a checker
uses several of these, the resident size of the process is sampled instead: coarse, but nothing hides from it.
"""

from __future__ import annotations

import contextlib
import resource
import threading
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path

BY_TRACE, BY_ALLOCATOR, BY_COMPILER = "tracemalloc", "torch's allocator", "the compiler"
_PERIOD = 0.002


def traced(call: Callable[[], object]) -> int:
    """Return the most bytes that Python and NumPy held at once for a call, its result included."""
    if tracemalloc.is_tracing():
        return -1
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        kept = call()
        most = tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()
    del kept
    return max(most, 0)


def resident() -> int:
    """Return the resident size of this process in bytes; the largest it had, where there is no /proc."""
    try:
        return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * resource.getpagesize()
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


@contextlib.contextmanager
def sampled() -> Iterator[list[int]]:
    """Sample the resident size every two milliseconds, and once before and after."""
    found, over = [resident()], threading.Event()

    def sample() -> None:
        while not over.wait(_PERIOD):
            found.append(resident())

    thread = threading.Thread(target=sample, daemon=True)
    thread.start()
    try:
        yield found
    finally:
        over.set()
        thread.join()
        found.append(resident())
