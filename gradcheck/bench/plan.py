"""The declared subset of the grid formula × implementation × format × size × direction × threads.

The full product would take hours. Every formula is timed once in float32 at 100,000 elements, in both
directions; sizes, threads and other formats are walked through for a few formulas that stand for the rest;
compiled forms are timed at one size in float32.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from gradcheck.bench.document import (
    BACKWARD,
    COMPILED,
    FOREACH,
    FORWARD,
    FUSED,
    JIT,
    LOOP,
    NUMPY,
    SCIPY,
    TORCH,
    YOURS,
    Lane,
    NotRun,
    Task,
)
from gradcheck.bench.timing import Settings
from gradcheck.errors import UsageError, unknown_name
from gradcheck.formats import get_format
from gradcheck.formulas import CATALOGUE, FAMILIES
from gradcheck.records import Formula

MAIN_SIZE = 100_000
LEAST_SIZE, MOST_SIZE = 16, 100_000_000
# From here on a second thread can pay for itself.
_THREADED = 100_000
# Formulas that stand for the rest: little arithmetic and much, rows, columns, a loss, steps.
CORE = ("relu", "gelu", "tanh", "softmax", "layer_norm", "batch_norm", "cross_entropy", "sgd", "adam")
COMPILES = (
    "gelu", "mish", "softplus", "softmax", "log_softmax", "layer_norm", "batch_norm", "rms_norm",
    "cross_entropy", "mse_loss", "huber_loss", "dense",
)  # fmt: skip
# Texts that unfold every window need many times their input, and a Kronecker product the square of it.
_LARGEST = {
    **dict.fromkeys(("conv1d", "conv2d", "max_pool1d", "max_pool2d", "avg_pool1d", "avg_pool2d"), 1_000_000),
    "kronecker_penalty": 1_000,
}
OPTIMIZERS = frozenset(f.name for f in FAMILIES["optimizers"])
SCHEDULES = frozenset(f.name for f in FAMILIES["schedules"])
CLIPPED = ("clip_by_value", "clip_by_norm", "clip_by_global_norm")
# Rough seconds, only to share out the budget: an element through a NumPy text, through anything else, and the
# time that it takes to make a compiled form.
_TEXT, _KERNEL, _CALL, _COMPILATION = 60e-9, 4e-9, 50e-6, 12.0
_DEAR = {
    "conv1d": 20,
    "conv2d": 60,
    "max_pool2d": 4,
    "avg_pool2d": 4,
    "dense": 20,
    "gradient_norm_penalty": 4,
}


@dataclass(frozen=True)
class Profile:
    """How much is measured, in seconds: `budget` for the groups, `costs` for the suite's own cost.

    The latter is that of the first `operations`, at each number of `inputs`.
    """

    name: str
    budget: float
    settings: Settings
    core_sizes: tuple[int, ...]
    compiled: tuple[str, ...]
    more_formats: bool
    costs: float
    inputs: tuple[int, ...]
    operations: int


PROFILES = {
    "quick": Profile(
        name="quick",
        budget=135.0,
        settings=Settings(sample=0.001, rounds=11, least=7, seconds=0.6),
        core_sizes=(1_000, 1_000_000),
        compiled=(),
        more_formats=False,
        costs=25.0,
        inputs=(16, 256),
        operations=1,
    ),
    "full": Profile(
        name="full",
        budget=900.0,
        settings=Settings(sample=0.004, rounds=25, least=7, seconds=3.0),
        core_sizes=(1_000, 10_000, 1_000_000, 10_000_000),
        compiled=COMPILES,
        more_formats=True,
        costs=240.0,
        inputs=(16, 64, 256, 1024),
        operations=3,
    ),
}


@dataclass(frozen=True)
class Group:
    """Lanes that are timed in turn on one task; the first is what the ratios are over."""

    task: Task
    lanes: tuple[Lane, ...]


@dataclass(frozen=True)
class Selection:
    """What was asked for; empty means the declared subset. `like` is the formula of a user's function."""

    formulas: tuple[str, ...] = ()
    sizes: tuple[int, ...] = ()
    formats: tuple[str, ...] = ()
    directions: tuple[str, ...] = (FORWARD, BACKWARD)
    like: str = ""
    cores: int = 1
    cuda: bool = False


def read_sizes(text: str) -> tuple[int, ...]:
    """Return the sizes that text such as `1e3,1e5` names."""
    expected = (
        f"--size {text!r}: expected whole numbers from {LEAST_SIZE} to {MOST_SIZE:,}, such as 1e3,1e5,1e7"
    )
    found = []
    for part in text.split(","):
        try:
            value = float(part.strip().replace("_", ""))
        except ValueError:
            raise UsageError(expected) from None
        if not (LEAST_SIZE <= value <= MOST_SIZE and value == int(value)):
            raise UsageError(expected)
        found.append(int(value))
    return tuple(dict.fromkeys(found))


def matching(patterns: Sequence[str]) -> tuple[Formula, ...]:
    """Return the formulas whose names match any pattern; one that matches none is a `UsageError`."""
    names = [formula.name for formula in CATALOGUE]
    for pattern in patterns:
        if not fnmatch.filter(names, pattern):
            raise unknown_name("formula", pattern, names)
    wanted = patterns or ("*",)
    return tuple(f for f in CATALOGUE if any(fnmatch.fnmatchcase(f.name, p) for p in wanted))


def plan(profile: Profile, asked: Selection) -> tuple[Group, ...]:
    """Return the groups in the order in which they are worth their time."""
    formulas = matching((asked.like,) if asked.like else asked.formulas)
    for name in asked.formats:
        get_format(name)
    tasks = dict.fromkeys(_tasks(profile, asked, formulas))
    return tuple(Group(task, lanes_of(task, profile, asked)) for task in tasks)


def _tasks(profile: Profile, asked: Selection, formulas: Sequence[Formula]) -> Iterable[Task]:
    formats = asked.formats or ("float32",)
    if asked.sizes or asked.like:
        sizes = asked.sizes or (MAIN_SIZE, *profile.core_sizes)
        yield from _product(formulas, formats, sorted(sizes), asked.directions)
        return
    core = [f for f in formulas if f.name in CORE]
    yield from _product(core, formats, (MAIN_SIZE, *profile.core_sizes), asked.directions)
    yield from _product(formulas, formats, (MAIN_SIZE,), asked.directions)
    if profile.more_formats and not asked.formats:
        yield from _product(formulas, ("float64",), (MAIN_SIZE,), asked.directions[:1])
        yield from _product(core, ("float64",), profile.core_sizes[-1:], asked.directions)
        yield from _product(core, ("bfloat16",), (MAIN_SIZE,), asked.directions)


def _product(
    formulas: Sequence[Formula], formats: Sequence[str], sizes: Sequence[int], directions: Sequence[str]
) -> Iterable[Task]:
    for fmt in formats:
        for size in sizes:
            for formula in formulas:
                for direction in directions:
                    if direction == FORWARD or formula.differentiable:
                        most = _LARGEST.get(formula.name, MOST_SIZE)
                        yield Task(formula.name, fmt, min(size, most), direction)


def lanes_of(task: Task, profile: Profile, asked: Selection) -> tuple[Lane, ...]:
    """Return the lanes of a task, the reference first; which of them exist shows when they are made."""
    many = (asked.cores,) if asked.cores > 1 and task.size >= _THREADED else ()
    threads = (1, *many)
    lanes = [Lane(NUMPY)]
    if task.formula in OPTIMIZERS:
        forms = [
            Lane(form, t, tensors=n) for form in (LOOP, FOREACH, FUSED) for n in (1, 100) for t in threads
        ]
        return (*lanes, *forms)
    if task.formula in SCHEDULES:
        return tuple(lanes)
    if task.direction == FORWARD:
        lanes.append(Lane(SCIPY))
    lanes += [Lane(TORCH, t) for t in threads]
    if asked.cuda:
        lanes.append(Lane(TORCH, 0, "cuda"))
    if task.formula in CLIPPED and task.direction == FORWARD:
        lanes += [Lane(form, t, tensors=n) for form in (LOOP, FOREACH) for n in (1, 100) for t in threads]
    if task.format == "float32" and task.size == MAIN_SIZE and (task.formula in profile.compiled):
        lanes.append(Lane(COMPILED))
    lanes.append(Lane(JIT, 0))
    if asked.like:
        lanes.append(Lane(YOURS))
    return tuple(lanes)


def cost(group: Group, profile: Profile) -> float:
    """Return about how many seconds a group takes, at most what a group may take and its preparation."""
    settings, task = profile.settings, group.task
    passes = 2 if task.direction == BACKWARD else 1
    text = task.size * _TEXT * passes * _DEAR.get(task.formula, 1)
    calls = [text if lane.implementation == NUMPY else task.size * _KERNEL * passes for lane in group.lanes]
    compiled = sum(lane.implementation == COMPILED for lane in group.lanes) * _COMPILATION
    sample = [max(settings.sample, call + _CALL) for call in calls]
    # Two calls to warm up, one for the memory, and as many rounds as fit, at least the fewest.
    rounds = min(settings.rounds, max(settings.least, int(settings.seconds / sum(sample))))
    return sum(sample) * (rounds + 3) + compiled


def within(
    groups: Sequence[Group], profile: Profile, budget: float
) -> tuple[tuple[Group, ...], tuple[NotRun, ...]]:
    """Return the groups that fit the budget by their estimated cost, in order, and the others as not run."""
    kept: list[Group] = []
    left: list[NotRun] = []
    spent = 0.0
    for group in groups:
        estimate = cost(group, profile)
        if spent + estimate <= budget or not kept:
            spent += estimate
            kept.append(group)
            continue
        why = f"about {estimate:.0f} s, over what is left of the budget of {budget:.0f} s"
        left += [NotRun(group.task, lane, why) for lane in group.lanes]
    return tuple(kept), tuple(left)
