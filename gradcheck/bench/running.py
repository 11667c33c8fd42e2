"""A run: the copy bandwidth first, then group after group until the plan or its budget ends, and all again.

Within a few seconds a time hardly varies, while the next run, with its arrays elsewhere in memory, may find
another. So each group is visited twice, minutes apart and with new arrays, half of the rounds each time.
"""

from __future__ import annotations

import contextlib
import math
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from gradcheck.bench import accuracy, bandwidth, storage, suite
from gradcheck.bench.contenders import CannotRun, Prepared, Yours, disagreement, prepare
from gradcheck.bench.document import (
    NOTHING,
    NUMPY,
    YOURS,
    ArithmeticRate,
    Bandwidth,
    BenchDocument,
    CheckCost,
    Measurement,
    NotRun,
)
from gradcheck.bench.plan import PROFILES, Group, Profile, Selection, plan, within
from gradcheck.bench.problems import Problem, problem, traffic
from gradcheck.bench.timing import REPRODUCES, Sampled, Settings, estimate, interleave, noise, ratios
from gradcheck.errors import MissingDependencyError, unknown_name
from gradcheck.formats import get_format
from gradcheck.formulas import get_formula
from gradcheck.runner import environment
from gradcheck.subjects import torch_bench

Say = Callable[[str], None]
_ONE_VISIT = "timed in one visit: the budget was spent before the second"
# Seconds from which a call that is ready is kept for the second visit.
_DEAR = 1.0


@dataclass(frozen=True)
class Request:
    """What a run measures, what it is compared with, and where the accuracy of verification is read."""

    selection: Selection = field(default_factory=Selection)
    profile: str = "full"
    yours: Yours | None = None
    compare: str = ""
    force: bool = False
    reports: Path = Path("reports")
    saved: Path = storage.FOLDER
    budget: float = 0.0
    costs: bool = True
    arguments: tuple[str, ...] = ()


def run(request: Request, say: Say = lambda sentence: None) -> BenchDocument:
    """Measure what was asked for and return the document; a comparison that is refused is refused first."""
    if request.profile not in PROFILES:
        raise unknown_name("profile", request.profile, PROFILES)
    profile = PROFILES[request.profile]
    budget = request.budget or profile.budget
    begun, started = time.monotonic(), datetime.now(UTC).isoformat(timespec="seconds")
    # Loaded first, so that the machine is described as PyTorch sees it.
    absent = torch_bench.absence()
    if request.yours is not None and request.yours.framework == "torch" and absent:
        raise MissingDependencyError(absent)
    machine = {**environment.machine(), "threads": _threads(absent)}
    path, saved = _saved(request, machine)
    cuda = not absent and not torch_bench.absence("cuda")
    asked = replace(request.selection, cores=environment.cores(), cuda=cuda)
    # The plan is made before anything is measured: a name that does not exist costs no time.
    groups, over = within(plan(profile, asked), profile, budget)
    known, verified = accuracy.load(request.reports)
    busy = _busy(asked.cores)
    with _threads_restored(absent):
        copies = bandwidths(asked, profile.settings, absent)
        say(f"copy bandwidth: {_rates(copies)}")
        found, not_run, warned = _groups(groups, profile, request, copies, known, begun + budget, say)
        checks, rates = _costs(profile, request, say) if request.costs else ((), ())
    document = BenchDocument(
        started=started,
        seconds=time.monotonic() - begun,
        profile=profile.name,
        versions=environment.versions(),
        machine=machine,
        arguments=request.arguments,
        measurements=found,
        not_run=(*not_run, *over),
        bandwidths=copies,
        checks=checks,
        rates=rates,
        warnings=(*busy, *warned, *_noisy(found), *_noisy_copies(copies)),
        accuracy_of=verified,
    )
    if saved is None:
        return document
    return replace(document, comparison=storage.compare(document, saved, request.compare, path))


def _saved(request: Request, machine: Mapping[str, str]) -> tuple[Path, dict[str, Any] | None]:
    """Return the run to compare with, None where none was asked for; another machine's is refused."""
    if not request.compare:
        return Path(), None
    path = storage.find(request.compare, request.saved)
    saved = storage.load(path)
    storage.refuse_foreign(saved, request.compare, machine, request.force)
    return path, saved


@contextlib.contextmanager
def _threads_restored(absent: str) -> Iterator[None]:
    """Leave PyTorch's number of threads as it was."""
    before = 0 if absent else torch_bench.threads()
    try:
        yield
    finally:
        if before:
            torch_bench.set_threads(before)


def _costs(
    profile: Profile, request: Request, say: Say
) -> tuple[tuple[CheckCost, ...], tuple[ArithmeticRate, ...]]:
    say("the cost of the suite itself")
    settings = replace(profile.settings, seconds=profile.costs / 16)
    operations = tuple(torch_bench.OPERATIONS)[: profile.operations]
    found = tuple(suite.costs(profile.costs, settings, profile.inputs, operations))
    return found, suite.rates(settings)


def _threads(absent: str) -> str:
    asked = os.environ.get("OMP_NUM_THREADS", "not set")
    return f"OMP_NUM_THREADS {asked}" + ("" if absent else f", torch {torch_bench.threads()}")


def _rates(copies: Iterable[Bandwidth]) -> str:
    return ", ".join(
        f"{b.rate / 1e9:.1f} GB/s at {b.bytes / 2**20:.3g} MiB" for b in copies if b.threads == 1
    )


def bandwidths(asked: Selection, settings: Settings, absent: str) -> tuple[Bandwidth, ...]:
    """Return the copy bandwidth in one thread, in all of them, and on the GPU, where each is there."""
    found = bandwidth.measure(bandwidth.numpy_copy, settings)
    if absent:
        return found
    many = partial(torch_bench.copy, "cpu")
    if asked.cores > 1:
        all_of_them = partial(torch_bench.set_threads, asked.cores)
        found += bandwidth.measure(many, settings, threads=asked.cores, before=all_of_them)
    if asked.cuda:
        on_device = partial(torch_bench.copy, "cuda")
        found += bandwidth.measure(
            on_device, settings, threads=0, device="cuda", seconds=torch_bench.device_seconds
        )
    return found


def _groups(
    groups: Sequence[Group],
    profile: Profile,
    request: Request,
    copies: Sequence[Bandwidth],
    known: accuracy.Found,
    ends: float,
    say: Say,
) -> tuple[tuple[Measurement, ...], tuple[NotRun, ...], tuple[str, ...]]:
    visits: list[Visit] = []
    left: list[NotRun] = []
    settings = profile.settings.half()
    for place, group in enumerate(groups):
        if time.monotonic() > ends and visits:
            left += [NotRun(group.task, lane, "the budget was spent before its turn") for lane in group.lanes]
            continue
        say(f"{place + 1}/{len(groups)} {group.task.label}")
        visits.append(visit_group(group, settings, copies, known, request.yours))
        left += visits[-1].left
    found: list[Measurement] = []
    for place, visit in enumerate(visits):
        spent = time.monotonic() > ends
        if not spent:
            say(f"{place + 1}/{len(visits)} {visit.group.task.label}, again")
        found += once(visit) if spent else again(visit, settings, request.yours)
    warned = [warning for visit in visits for warning in visit.warnings]
    return tuple(found), tuple(left), tuple(dict.fromkeys(warned))


@dataclass(frozen=True)
class Visit:
    """What the first visit to a group found: the samples of each measurement, and what could not be timed.

    `ready` are its calls where it takes long to make them; else they are made anew.
    """

    group: Group
    measured: list[Measurement]
    samples: tuple[Sampled, ...]
    single: tuple[bool, ...]
    left: list[NotRun]
    warnings: list[str]
    ready: list[Prepared]


def once(visit: Visit) -> list[Measurement]:
    """Return the measurements of a group for whose second visit there was no time: they are marked."""
    return [replace(each, noisy=each.noisy or _ONE_VISIT) for each in visit.measured]


def again(visit: Visit, settings: Settings, yours: Yours | None) -> list[Measurement]:
    """Time the lanes of a group once more, with new arrays, and return the measurements of both visits."""
    task, lanes = visit.group.task, [each.lane for each in visit.measured]
    with np.errstate(all="ignore"):
        try:
            given = problem(get_formula(task.formula), get_format(task.format), task.size, task.direction)
            ready = visit.ready or [prepare(lane, task, given, yours) for lane in lanes]
        except CannotRun:
            return once(visit)
        found = interleave([each.timed for each in ready], settings)
    both = [
        Sampled(a.data + b.data, a.loops, a.shares + b.shares)
        for a, b in zip(visit.samples, found, strict=True)
    ]
    based = bool(lanes) and lanes[0].implementation == NUMPY
    merged = []
    for first, samples, single in zip(visit.measured, both, visit.single, strict=True):
        ratio = ratios(samples, both[0]) if based and samples is not both[0] else NOTHING
        merged.append(
            replace(
                first,
                seconds=estimate(samples.data),
                ratio=ratio,
                rounds=len(samples.data),
                noisy=noise(samples, ratio, single),
                data=samples.data,
            )
        )
    return merged


def visit_group(
    group: Group,
    settings: Settings,
    copies: Sequence[Bandwidth],
    known: accuracy.Found,
    yours: Yours | None,
) -> Visit:
    """Time the lanes of one group in turn."""
    task = group.task
    formula = get_formula(task.formula)
    given = problem(formula, get_format(task.format), task.size, task.direction)
    ready: list[Prepared] = []
    left: list[NotRun] = []
    # Overflow and NaN are part of what is timed, and no news.
    with np.errstate(all="ignore"):
        for lane in group.lanes:
            try:
                ready.append(prepare(lane, task, given, yours))
            except CannotRun as error:
                left.append(NotRun(task, lane, str(error)))
        found = interleave([each.timed for each in ready], settings)
    moved = traffic(given, ready[0].outputs) if ready else 0
    # Every ratio is over the reference; without it there is none.
    base = found[0] if ready and ready[0].lane.implementation == NUMPY else None
    measured = [
        _measurement(group, each, samples, base, given, moved, copies, known)
        for each, samples in zip(ready, found, strict=True)
    ]
    mine = next((each for each in ready if each.lane.implementation == YOURS), None)
    off = "" if mine is None or yours is None else disagreement(mine, ready[0])
    warnings = [f"{yours.address} beside {task.formula}, {task.direction}: {off}"] if off and yours else []
    dear = any(each.setup > _DEAR for each in ready)
    single = tuple(each.timed.single for each in ready)
    return Visit(group, measured, found, single, left, warnings, ready if dear else [])


def _measurement(
    group: Group,
    ready: Prepared,
    samples: Sampled,
    base: Sampled | None,
    given: Problem,
    moved: int,
    copies: Sequence[Bandwidth],
    known: accuracy.Found,
) -> Measurement:
    task, lane = group.task, ready.lane
    ratio = NOTHING if base is None or samples is base else ratios(samples, base)
    ulp, verdict = accuracy.of(known, task, lane)
    # A library that chooses its threads itself may use all of them.
    threads = lane.threads or max((b.threads for b in copies), default=1)
    return Measurement(
        task=task,
        lane=lane,
        elements=given.elements,
        seconds=estimate(samples.data),
        ratio=ratio,
        rounds=len(samples.data),
        loops=samples.loops,
        traffic=moved,
        limit=bandwidth.limit(moved, copies, threads, lane.device),
        peak=ready.peak,
        peak_by=ready.peak_by,
        ulp=ulp,
        verdict=verdict,
        setup=ready.setup,
        noisy=noise(samples, ratio, ready.timed.single),
        data=samples.data,
    )


def _busy(cores: int) -> tuple[str, ...]:
    """Return a warning where others were computing when the run began."""
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else math.nan
    if load > 0.5 * cores:
        return (f"the machine was busy when the run began: a load of {load:.1f} on {cores} cores",)
    return ()


def _noisy_copies(copies: Sequence[Bandwidth]) -> tuple[str, ...]:
    """Return a warning where the limit itself is not sharp."""
    spread = [b for b in copies if not b.seconds.high <= (1 + REPRODUCES) * b.seconds.low]
    if not spread:
        return ()
    return (f"{len(spread)} of {len(copies)} copies are noisy: shares of the limit are rough",)


def _noisy(found: Sequence[Measurement]) -> tuple[str, ...]:
    count = sum(bool(each.noisy) for each in found)
    if not count:
        return ()
    return (
        f"{count} of {len(found)} measurements are noisy: they may not come out again within 15 %; close "
        "other programs and run again",
    )
