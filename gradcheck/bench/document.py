"""What a run of `gradcheck bench` measured: what bench.json holds and what the page is made from.

A time is in seconds, a size in bytes. What was not measured is NaN, or -1 where it is a count.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from gradcheck.encoding import document_from_json, document_to_json

SCHEMA_VERSION = 1
FORWARD, BACKWARD = "forward", "backward"
NUMPY, SCIPY, TORCH, COMPILED, JIT, YOURS = "numpy", "scipy", "torch", "torch.compile", "jax.jit", "yours"
LOOP, FOREACH, FUSED = "torch-loop", "torch-foreach", "torch-fused"


@dataclass(frozen=True)
class Estimate:
    """A median with an interval that holds the true median in `coverage` of all runs, whatever the law."""

    median: float
    low: float
    high: float
    coverage: float


NOTHING = Estimate(math.nan, math.nan, math.nan, math.nan)


@dataclass(frozen=True)
class Lane:
    """One implementation under one setting: what is timed against others.

    `threads` is 0 where the library decides by itself.
    """

    implementation: str
    threads: int = 1
    device: str = "cpu"
    tensors: int = 1

    @property
    def label(self) -> str:
        """The lane in words: `torch, 2 threads, 100 tensors`."""
        parts = [self.implementation]
        if self.device != "cpu":
            parts.append(self.device)
        if self.threads != 1 and self.device == "cpu":
            parts.append(f"{self.threads} threads" if self.threads else "its own threads")
        if self.tensors != 1:
            parts.append(f"{self.tensors} tensors")
        return ", ".join(parts)


@dataclass(frozen=True)
class Task:
    """One formula in one format, at one size, in one direction; `size` is what was asked for."""

    formula: str
    format: str
    size: int
    direction: str = FORWARD

    @property
    def label(self) -> str:
        """The task in words."""
        return f"{self.formula} {self.format} {self.size:,} {self.direction}"


@dataclass(frozen=True)
class Measurement:
    """What one lane of one task took.

    `seconds` is the time of one call. `ratio` is that time over the first lane's of the same task, round by
    round; `noisy` says why neither should be relied on, "" if they can be. `traffic` is the least that has to
    be read and written, `limit` the seconds that a copy of as many bytes takes. `peak` is what the call held
    at once beyond its inputs, found as `peak_by` says. `ulp` is the largest error that verification found.
    """

    task: Task
    lane: Lane
    elements: int
    seconds: Estimate
    ratio: Estimate
    rounds: int
    loops: int
    traffic: int
    limit: float
    peak: int = -1
    peak_by: str = ""
    ulp: float = math.nan
    verdict: str = ""
    setup: float = 0.0
    noisy: str = ""
    data: tuple[float, ...] = ()

    @property
    def name(self) -> str:
        """The name that is the same in every run."""
        task, lane = self.task, self.lane
        threads = f"{lane.threads}t" if lane.device == "cpu" else lane.device
        parts = (lane.implementation, task.format, str(task.size), task.direction, threads, str(lane.tensors))
        return f"{task.formula}[{'-'.join(parts)}]"

    @property
    def rate(self) -> float:
        """Elements a second."""
        return self.elements / self.seconds.median

    @property
    def share(self) -> float:
        """How much of the copy bandwidth the least traffic makes use of: 1 is the limit."""
        return self.limit / self.seconds.median


@dataclass(frozen=True)
class NotRun:
    """A lane that was planned and not timed, and why."""

    task: Task
    lane: Lane
    reason: str


@dataclass(frozen=True)
class Bandwidth:
    """A copy: `bytes` read and written together, in `seconds`."""

    device: str
    threads: int
    bytes: int
    seconds: Estimate

    @property
    def rate(self) -> float:
        """Bytes a second."""
        return self.bytes / self.seconds.median


@dataclass(frozen=True)
class CheckCost:
    """What one checker took for one operation with so many inputs; `failed` says why it has no time."""

    operation: str
    inputs: int
    checker: str
    seconds: Estimate = NOTHING
    ratio: Estimate = NOTHING
    peak: int = -1
    failed: str = ""


@dataclass(frozen=True)
class ArithmeticRate:
    """How many elements a second an arithmetic evaluates a formula on."""

    arithmetic: str
    formula: str
    elements: int
    seconds: Estimate

    @property
    def rate(self) -> float:
        """Elements a second."""
        return self.elements / self.seconds.median


@dataclass(frozen=True)
class Change:
    """One lane then and now; `verdict` is "faster", "slower", "the same", "noisy", "new" or "gone"."""

    name: str
    before: float
    after: float
    verdict: str

    @property
    def factor(self) -> float:
        """The time now over the time then."""
        return self.after / self.before


@dataclass(frozen=True)
class Comparison:
    """What changed since a saved run; `differs` and `versions` name what the machines have not in common."""

    name: str
    saved: str
    changes: tuple[Change, ...]
    differs: tuple[str, ...] = ()
    versions: tuple[str, ...] = ()


@dataclass(frozen=True)
class BenchDocument:
    """A whole run. `started` is an ISO 8601 instant."""

    started: str
    seconds: float
    profile: str
    versions: Mapping[str, str]
    machine: Mapping[str, str]
    arguments: tuple[str, ...] = ()
    measurements: tuple[Measurement, ...] = ()
    not_run: tuple[NotRun, ...] = ()
    bandwidths: tuple[Bandwidth, ...] = ()
    checks: tuple[CheckCost, ...] = ()
    rates: tuple[ArithmeticRate, ...] = ()
    warnings: tuple[str, ...] = ()
    accuracy_of: str = ""
    comparison: Comparison | None = None

    def to_json(self) -> str:
        """Return the document as JSON text."""
        return document_to_json(self, SCHEMA_VERSION)

    @classmethod
    def from_json(cls, text: str | bytes) -> BenchDocument:
        """Return the document that JSON text holds; `ValueError` for any other text."""
        return document_from_json(text, cls, SCHEMA_VERSION, "a document of a benchmark")
