"""The checks that compare Jacobians, as steps: at the example, other values, other sizes, of the gradient."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Generator
from functools import partial

import numpy as np

from gradcheck.blackbox import narrow, points
from gradcheck.blackbox.differences import LADDER, step_sizes
from gradcheck.blackbox.jacobian import Memory
from gradcheck.blackbox.machinery import probe, probed, process
from gradcheck.blackbox.oracle import Oracle
from gradcheck.blackbox.projection import signed
from gradcheck.blackbox.seen import Seen, Step, Steps
from gradcheck.blackbox.sizes import Sized, varied
from gradcheck.subjects.function import CallFailed, Point, Resizable, Vector, one
from gradcheck.subjects.probing import REFUSES

# So many points are compared in one check. If that took more than this part of the time entry by entry, they
# are compared by forms first.
_CASES = 24
_LONG = 0.1
_COUNTS = (2, 10)
# How all points are compared, one way after the other: by forms, entry by entry, or as their number suggests.
Ways = tuple[bool | None, ...]


def steps_of(oracle: Oracle, name: str) -> Steps:
    """Return the steps of a check."""
    return _OWN[name](oracle) if name in _OWN else probe(oracle, name)


def jacobian(oracle: Oracle) -> Steps:
    """Every entry of the Jacobian at the example, reverse mode against differences."""
    yield Step(
        lambda: oracle.compared(oracle.function, oracle.example(), "as given", oracle.memory, quick=True)
    )


def values(oracle: Oracle) -> Steps:
    """The Jacobian at other values: large, tiny, saturated, tied, at the points where code branches."""
    drawn = list(points.points(oracle.function.point, oracle.function.inputs, oracle.limits, oracle.seed))
    for quick in (yield from _ways(oracle, oracle.function, _CASES)):
        for number, (family, point) in enumerate(drawn):
            kin = "large" if "large" in family or family == "mixed" else ""
            yield Step(partial(_at_values, oracle, family, point, quick), kin)
            if quick is not False:
                yield Step(partial(oracle.overflowed, oracle.function, point, family), kin)
            if number % 4 == 0:
                yield Step(partial(_at_other_integers, oracle, number, family, point, quick), kin)


def _ways(oracle: Oracle, function: Resizable, cases: int) -> Generator[Step, Seen | None, Ways]:
    """Return how points are compared: entry by entry, or first all of them by forms.

    Where a call takes long, or a function takes one point at a time, every entry of one Jacobian costs
    as much as the forms of a dozen.
    """
    seconds: list[float] = []
    yield Step(partial(_timed, function, seconds), needed=True)
    if not seconds:
        return (None,)
    few, many = seconds
    each = max(0.0, many - few) / (_COUNTS[1] - _COUNTS[0])
    taken = few + each * 2 * len(LADDER) * sum(x.size for x in function.point)
    return (True, False) if taken * cases > _LONG * oracle.clock.left() else (None,)


def _timed(function: Resizable, seconds: list[float]) -> Seen:
    """Note how long batches of few and of more points take; nothing for a function that fails."""
    with contextlib.suppress(CallFailed):
        function.values(_copies(function, 2))
        seconds[:] = [_seconds(function, count) for count in _COUNTS]
    return Seen()


def _at_values(oracle: Oracle, family: str, point: Point, quick: bool | None) -> Seen:
    inside = oracle.within_range(oracle.function, point)
    return oracle.compared(oracle.function, inside, family, oracle.memory, quick=quick)


def _at_other_integers(oracle: Oracle, number: int, family: str, point: Point, quick: bool | None) -> Seen:
    other = oracle.function.with_other_integers(np.random.default_rng([oracle.seed, 91, number]))
    if other is None:
        return Seen()
    label = f"{family}, other integers"
    return oracle.compared(other, oracle.within_range(other, point), label, oracle.memory, quick=quick)


def sizes(oracle: Oracle) -> Steps:
    """The Jacobian at other sizes of every axis that the function lets vary."""
    tried = False
    for quick in (yield from _ways(oracle, oracle.function, _CASES)):
        for sized in varied(oracle.function, oracle.seed, oracle.small):
            if sized is None:
                yield Step(Seen)
                continue
            tried = True
            if oracle.small(sized.function) and oracle.fits(sized.function):
                weight = sum(axes.size for axes in sized.function.inputs)
                yield Step(partial(_at_size, oracle, sized, quick), sized.axes, weight)
                yield Step(partial(_at_branches, oracle, sized, quick), sized.branches, weight)
    if not tried:
        yield Step(lambda: Seen(notes=("the function accepts no other size of any axis",)))


def _at_size(oracle: Oracle, sized: Sized, quick: bool | None) -> Seen:
    point = oracle.confined(sized.function)
    return oracle.compared(sized.function, point, sized.label, lenient=sized.unusual, quick=quick)


def _at_branches(oracle: Oracle, sized: Sized, quick: bool | None) -> Seen:
    branches = oracle.within_range(sized.function, oracle.family(sized.function, "branches"))
    if sum(x.size for x in branches) >= 200:
        return Seen()
    label = f"branches, {sized.label}"
    return oracle.compared(sized.function, branches, label, lenient=sized.unusual, quick=quick)


def second(oracle: Oracle) -> Steps:
    """The gradient of the gradient: double backward against differences of the first gradient."""
    rng = np.random.default_rng([oracle.seed, 61])
    memory = Memory()
    if "second cotangent" in oracle.probes:
        seen = yield Step(partial(probed, oracle, "second cotangent", "as given", oracle.example()))
        if seen is not None and any(note.startswith(REFUSES) for note in seen.notes):
            return
    families = ("as given", "like", "branches", "saturated", "tiny", "large")
    along = [(family, signed(rng, (oracle.function.size,))) for family in families]
    for quick in (yield from _ways(oracle, oracle.function.along(along[0][1]), len(along))):
        for family, cotangent in along:
            seen = yield Step(partial(_second_at, oracle, family, cotangent, memory, quick))
            if family == "as given" and seen is not None and not seen.compared and seen.notes:
                return


def _second_at(oracle: Oracle, family: str, cotangent: Vector, memory: Memory, quick: bool | None) -> Seen:
    gradient = oracle.function.along(cotangent)
    point = oracle.example() if family == "as given" else oracle.family(oracle.function, family)
    point = oracle.within_range(oracle.function, point)
    scale = _natural(oracle, point, cotangent)
    seen = oracle.compared(gradient, point, family, memory, "double backward pass", scale=scale, quick=quick)
    if family == "as given" and seen.notes and not seen.compared:
        return Seen(notes=(f"no double backward pass: {seen.notes[0]}",))
    return seen


def _natural(oracle: Oracle, point: Point, cotangent: Vector) -> Vector | None:
    """Return the sizes that gradients have where nothing cancels: values over distances."""
    try:
        weighted = one(oracle.function, point) * cotangent
    except CallFailed:
        return None
    weight = float(np.linalg.norm(weighted[np.isfinite(weighted)]))
    return np.concatenate([weight / step_sizes(x) for x in point])


def _copies(function: Resizable, count: int) -> Point:
    return tuple(np.repeat(x[None], count, axis=0) for x in function.point)


def _seconds(function: Resizable, count: int) -> float:
    """Return how long a batch of so many points takes."""
    started = time.monotonic()
    function.values(_copies(function, count))
    return time.monotonic() - started


_OWN: dict[str, Callable[[Oracle], Steps]] = {
    "jacobian": jacobian,
    "state": process,
    "values": values,
    "sizes": sizes,
    "second-order": second,
    "formats": narrow.formats,
}
