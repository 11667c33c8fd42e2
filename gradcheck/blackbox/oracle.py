"""The checks of a black box, the most telling first, within a time that was given."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np

from gradcheck.blackbox import domains, jacobian, points
from gradcheck.blackbox.clock import Clock, OutOfTime
from gradcheck.blackbox.closely import CLOSE, Entry
from gradcheck.blackbox.differences import LADDER, noise_of, rounded, sides, step_sizes
from gradcheck.blackbox.jacobian import Memory
from gradcheck.blackbox.projection import signed
from gradcheck.blackbox.seen import Problem, Seen
from gradcheck.blackbox.sizes import Sized, varied
from gradcheck.subjects.function import (
    CallFailed,
    Function,
    Point,
    Remembered,
    Resizable,
    Vector,
    one,
    raised_by,
)
from gradcheck.subjects.probing import REFUSES, SAME, tolerance

# A Jacobian of more entries is compared by forms first; below, every entry is cheap enough.
_EVERY_ENTRY = 10_000
_MOST_ENTRIES = 2_000_000
_ROWS = 4
# So many times what the outputs are rounded by may lie between two gradients that are the same.
_ROUNDINGS = 64.0
_OF_OUTPUTS = 16.0
# So many points are compared in one check. If that took more than this part of the time entry by entry, they
# are compared by forms first.
_CASES = 24
_LONG = 0.1
# How many numbers are kept of what a function said, for a comparison that is taken up again.
_KEPT = 1_000_000
_COUNTS = (2, 10)
# What compares two modes of differentiation, and neither with the function itself.
_TWO_MODES = ("forward", "second cotangent")


@dataclass(frozen=True)
class Step:
    """One piece of a check's work; it is put off if it takes too long, unless the next ones need it.

    If one takes too long, those of its kin are expected to, if they are no lighter.
    """

    run: Callable[[], Seen]
    kin: str = ""
    weight: int = 0
    needed: bool = False


# A check; it is told what its last step saw, None if that was put off.
Steps = Generator[Step, Seen | None, None]


@dataclass
class Oracle:
    """One function under examination."""

    function: Resizable
    limits: tuple[domains.Domain | None, ...]
    seed: int
    clock: Clock
    probes: dict[str, Callable[..., Any]] = field(default_factory=dict)
    state: Callable[..., Any] | None = None
    memory: Memory = field(default_factory=Memory)
    put_off: dict[tuple[Any, ...], Function] = field(default_factory=dict)

    def steps(self, name: str) -> Steps:
        """Return the steps of a check."""
        own = {
            "jacobian": self.jacobian,
            "state": self.process,
            "values": self.values,
            "sizes": self.sizes,
            "second-order": self.second,
        }
        return own[name]() if name in own else self.probe(name)

    def example(self) -> Point:
        """Return the user's example with as many bits as a point has."""
        return tuple(rounded(x) for x in self.function.point)

    @contextlib.contextmanager
    def within(self, clock: Clock) -> Iterator[None]:
        """Let nothing run beyond a clock: between calls of the function `OutOfTime` is raised."""
        whole, self.clock = self.clock, clock
        pace = self.function.pace
        before, pace.tick = pace.tick, clock.require
        try:
            yield
        finally:
            self.clock, pace.tick = whole, before

    # Jacobians

    def compared(
        self,
        function: Resizable,
        point: Point,
        family: str,
        memory: Memory | None = None,
        what: str = "gradient",
        quick: bool | None = None,
        lenient: bool = False,
        scale: Vector | None = None,
    ) -> Seen:
        """Compare one Jacobian at one point; a point where the function raises is no case.

        `quick` is content with forms where they are sharp, False takes every entry unless they are too many.
        `lenient` takes a backward pass that raises for a refusal, too.
        """
        entries = function.size * sum(axes.size for axes in function.inputs)
        if quick is False and entries > _EVERY_ENTRY:
            return Seen()
        by_forms = entries > _EVERY_ENTRY if quick is None else quick
        if memory is None and len(function.inputs) == len(self.function.inputs):
            memory = Memory(typical=dict(self.memory.typical), vain=self.memory.vain)
        key = what, family, function.leaf_shapes, *(x.tobytes() for x in point)
        seen_before = self.put_off.pop(key, None) or self._remembered(function)
        try:
            with np.errstate(all="ignore"):
                found = jacobian.compare(
                    seen_before,
                    point,
                    self.seed,
                    memory=memory,
                    quick=by_forms,
                    tick=self.clock.require,
                    scale=scale,
                )
        except OutOfTime:
            # The next time it goes on from here.
            self.put_off[key] = seen_before
            raise
        except CallFailed as error:
            return self._raised(function, point, family, what, error, lenient)
        if memory is not None:
            self.memory.vain = memory.vain
        problems = tuple(self._problem(function, point, family, what, entry) for entry in found.wrong)
        missing = tuple(
            replace(problem, breach="missing") if self._place(function, problem) in found.missing else problem
            for problem in problems
        )
        return Seen(
            compared=found.entries,
            undecided=found.undecided,
            cases=1,
            problems=missing,
            notes=found.notes,
            resolution=found.resolution,
            families={family: found.entries},
        )

    @staticmethod
    def _remembered(function: Function) -> Function:
        """Return the function with a memory, where it does not take much."""
        numbers = function.size + sum(axes.size for axes in function.inputs)
        return Remembered(function, _KEPT) if numbers <= _EVERY_ENTRY else function

    def _overflowed(self, function: Resizable, point: Point, family: str) -> Seen:
        """An output that has become infinite at finite inputs did not get there with slopes of zero."""
        try:
            base = one(function, point)
            rows = np.flatnonzero(np.isinf(base))[:_ROWS]
            hot = np.zeros((len(rows), function.size))
            hot[np.arange(len(rows)), rows] = 1.0
            gradients = function.gradients(point, hot) if len(rows) else ()
        except CallFailed:
            return Seen()
        for k, row in enumerate(rows):
            if all(g is None or not g[k].any() for g in gradients):
                if self._flat(function, int(row)):
                    continue
                message = f"output[{row}] is infinite and all of its derivatives are zero ({family})"
                problem = Problem(
                    message,
                    0.0,
                    float("inf"),
                    row=int(row),
                    family=family,
                    point=point,
                    shapes=function.leaf_shapes,
                    leaves=function.leaves,
                )
                return Seen(problems=(problem,))
        return Seen()

    def _flat(self, function: Resizable, row: int) -> bool:
        """Whether an output has no slope at the example either: a function of steps has none anywhere."""
        hot = np.zeros((1, function.size))
        hot[0, row] = 1.0
        gradients = function.gradients(tuple(rounded(x) for x in function.point), hot)
        return not any(g is not None and g.any() for g in gradients)

    def _raised(
        self,
        function: Resizable,
        point: Point,
        family: str,
        what: str,
        error: CallFailed,
        lenient: bool,
    ) -> Seen:
        """A function may refuse a point; a backward pass that fails where the function answers is wrong."""
        said = raised_by(error.__cause__ or error)
        try:
            answers = bool(np.isfinite(one(function, point)).all())
        except CallFailed:
            answers = False
        if answers and self._differentiates(function, point):
            return Seen(notes=(f"{family}: a step leaves what the function accepts: {said}",))
        if not answers or what != "gradient" or lenient:
            return Seen(notes=(f"{family}: {said}",))
        problem = Problem(
            f"the function answers and the {what} fails ({family}): {said}",
            breach="raised",
            family=family,
            point=point,
            shapes=function.leaf_shapes,
            leaves=function.leaves,
        )
        return Seen(problems=(problem,))

    @staticmethod
    def _differentiates(function: Resizable, point: Point) -> bool:
        """Whether the backward pass works at the very point; then one of the steps around it was refused."""
        cotangents = np.ones((2, function.size))
        cotangents[1, 1:] = 0.0
        try:
            function.gradients(point, cotangents)
        except CallFailed:
            return False
        return True

    @staticmethod
    def _place(function: Resizable, problem: Problem) -> int:
        return next(k for k, axes in enumerate(function.inputs) if axes.name == problem.place)

    @staticmethod
    def _problem(function: Resizable, point: Point, family: str, what: str, entry: Entry) -> Problem:
        axes = function.inputs[entry.place]
        where = np.unravel_index(entry.column, axes.shape) if axes.shape else ()
        index = ", ".join(map(str, map(int, where)))
        kink = ", at a kink: outside of the slopes on both sides" if entry.kink else ""
        of = f"all of {axes.name} together" if entry.together else f"{axes.name}[{index}]"
        message = (
            f"d output[{entry.row}] / d {of} by the {what} is {entry.got!r}, "
            f"by differences {entry.expected!r} ± {entry.bound:.1e}{kink} ({family})"
        )
        return Problem(
            message,
            entry.got,
            entry.expected,
            entry.error,
            entry.bound,
            place=axes.name,
            index=entry.column,
            row=entry.row,
            value=float(point[entry.place][entry.column]),
            family=family,
            point=point,
            shapes=function.leaf_shapes,
            leaves=function.leaves,
        )

    def jacobian(self) -> Steps:
        """Every entry of the Jacobian at the example, reverse mode against differences."""
        yield Step(lambda: self.compared(self.function, self.example(), "as given", self.memory, quick=True))

    def values(self) -> Steps:
        """The Jacobian at other values: large, tiny, saturated, tied, at the points where code branches."""
        drawn = list(points.points(self.function.point, self.function.inputs, self.limits, self.seed))
        for quick in self._ways(self.function, _CASES):
            for number, (family, point) in enumerate(drawn):
                kin = "large" if "large" in family or family == "mixed" else ""
                yield Step(partial(self._at_values, family, point, quick), kin)
                if quick is not False:
                    yield Step(partial(self._overflowed, self.function, point, family), kin)
                if number % 4 == 0:
                    yield Step(partial(self._at_other_integers, number, family, point, quick), kin)

    def _ways(self, function: Resizable, cases: int) -> tuple[bool | None, ...]:
        """Return how points are compared: entry by entry, or first all of them by forms.

        Where a call takes long, or a function takes one point at a time, every entry of one Jacobian costs
        as much as the forms of a dozen.
        """
        try:
            function.values(_copies(function, 2))
            few, many = (_seconds(function, count) for count in _COUNTS)
        except CallFailed:
            return (None,)
        each = max(0.0, many - few) / (_COUNTS[1] - _COUNTS[0])
        taken = few + each * 2 * len(LADDER) * sum(x.size for x in function.point)
        return (True, False) if taken * cases > _LONG * self.clock.left() else (None,)

    def _at_values(self, family: str, point: Point, quick: bool | None) -> Seen:
        inside = self.within_range(self.function, point)
        return self.compared(self.function, inside, family, self.memory, quick=quick)

    def _at_other_integers(self, number: int, family: str, point: Point, quick: bool | None) -> Seen:
        other = self.function.with_other_integers(np.random.default_rng([self.seed, 91, number]))
        if other is None:
            return Seen()
        label = f"{family}, other integers"
        return self.compared(other, self.within_range(other, point), label, self.memory, quick=quick)

    def sizes(self) -> Steps:
        """The Jacobian at other sizes of every axis that the function lets vary."""
        tried = False
        for quick in self._ways(self.function, _CASES):
            for sized in varied(self.function, self.seed, self._small):
                if sized is None:
                    yield Step(Seen)
                    continue
                tried = True
                if self._small(sized.function) and self._fits(sized.function):
                    weight = sum(axes.size for axes in sized.function.inputs)
                    yield Step(partial(self._at_size, sized, quick), sized.axes, weight)
                    yield Step(partial(self._at_branches, sized, quick), sized.branches, weight)
        if not tried:
            yield Step(lambda: Seen(notes=("the function accepts no other size of any axis",)))

    def _at_size(self, sized: Sized, quick: bool | None) -> Seen:
        point = self._confined(sized.function)
        return self.compared(sized.function, point, sized.label, lenient=sized.unusual, quick=quick)

    def _at_branches(self, sized: Sized, quick: bool | None) -> Seen:
        branches = self.within_range(sized.function, self.family(sized.function, "branches"))
        if sum(x.size for x in branches) >= 200:
            return Seen()
        label = f"branches, {sized.label}"
        return self.compared(sized.function, branches, label, lenient=sized.unusual, quick=quick)

    def _fits(self, function: Resizable) -> bool:
        """Whether the domains of the inputs hold arrays of these shapes."""
        pairs = zip(self.limits, function.inputs, strict=True)
        return all(limit is None or limit.fits(axes.shape) for limit, axes in pairs)

    def _small(self, function: Resizable) -> bool:
        """Whether a Jacobian can be taken entry by entry, should that be needed."""
        return function.size * max(axes.size for axes in function.inputs) <= _MOST_ENTRIES

    def within_range(self, function: Resizable, point: Point) -> Point:
        """Return the point, folded into the range of the example where the function has no number at it."""
        try:
            if np.isfinite(one(function, point)).all():
                return point
        except CallFailed:
            pass
        return tuple(
            rounded(points.folded(x, example)) for x, example in zip(point, self.function.point, strict=True)
        )

    def _confined(self, function: Resizable) -> Point:
        made = []
        for x, axes, limit in zip(function.point, function.inputs, self.limits, strict=True):
            made.append(rounded(x if limit is None else limit.project(x, axes.shape)))
        return tuple(made)

    def family(self, function: Resizable, family: str) -> Point:
        """Return a point of a family, like the example."""
        rng = np.random.default_rng([self.seed, 51])
        return tuple(
            points.drawn(family, rng, x, axes, limit)
            for x, axes, limit in zip(function.point, function.inputs, self.limits, strict=True)
        )

    def second(self) -> Steps:
        """The gradient of the gradient: double backward against differences of the first gradient."""
        rng = np.random.default_rng([self.seed, 61])
        memory = Memory()
        if "second cotangent" in self.probes:
            seen = yield Step(partial(self._probed, "second cotangent", "as given", self.example()))
            if seen is not None and any(note.startswith(REFUSES) for note in seen.notes):
                return
        families = ("as given", "like", "branches", "saturated", "tiny", "large")
        along = [(family, signed(rng, (self.function.size,))) for family in families]
        for quick in self._ways(self.function.along(along[0][1]), len(along)):
            for family, cotangent in along:
                seen = yield Step(partial(self._second_at, family, cotangent, memory, quick))
                if family == "as given" and seen is not None and not seen.compared and seen.notes:
                    return

    def _second_at(self, family: str, cotangent: Vector, memory: Memory, quick: bool | None) -> Seen:
        gradient = self.function.along(cotangent)
        point = self.example() if family == "as given" else self.family(self.function, family)
        point = self.within_range(self.function, point)
        scale = self._natural(point, cotangent)
        seen = self.compared(
            gradient, point, family, memory, "double backward pass", scale=scale, quick=quick
        )
        if family == "as given" and seen.notes and not seen.compared:
            return Seen(notes=(f"no double backward pass: {seen.notes[0]}",))
        return seen

    def _natural(self, point: Point, cotangent: Vector) -> Vector | None:
        """Return the sizes that gradients have where nothing cancels: values over distances."""
        try:
            weighted = one(self.function, point) * cotangent
        except CallFailed:
            return None
        weight = float(np.linalg.norm(weighted[np.isfinite(weighted)]))
        return np.concatenate([weight / step_sizes(x) for x in point])

    # What the framework's machinery can break

    def probe(self, name: str) -> Steps:
        """Run one of the framework's probes at the example and at one other point."""
        example = self.example()
        yield Step(lambda: self._probed(name, "as given", self.within_range(self.function, example)))
        like = self.family(self.function, "like")
        yield Step(lambda: self._probed(name, "like", self.within_range(self.function, like)))

    def _probed(self, name: str, family: str, point: Point) -> Seen:
        try:
            one(self.function, point)
            self.function.gradients(point, np.ones((1, self.function.size)))
        except CallFailed as error:
            return Seen(notes=(f"{family}: {raised_by(error.__cause__ or error)}",))
        try:
            found = self._found(name, point, SAME)
            if _differs(found) and (coarse := self._coarse(point)) > SAME:
                found = self._found(name, point, coarse)
            if _differs(found) and name in _TWO_MODES and self._chooses(name, point):
                return Seen(cases=1, notes=(f"{family}: at kinks, two modes choose different slopes",))
            return self._told(found, family, point)
        except CallFailed as error:
            # Plain calls work here: what the probe does with them must work as well.
            said = raised_by(error.__cause__ or error)
            problem = Problem(
                f"{name}: {said}",
                breach="raised",
                family=family,
                point=point,
                shapes=self.function.leaf_shapes,
                leaves=self.function.leaves,
            )
            return Seen(problems=(problem,))

    def _found(self, name: str, point: Point, same: float) -> Any:
        with tolerance(same):
            return self.probes[name](self.function, point, self.seed)

    def _chooses(self, name: str, point: Point) -> bool:
        """Whether outputs bend at a point, and two modes agree beside it: there each may choose a slope."""
        beside, bends = [], False
        for place, x in enumerate(point):
            sizes = step_sizes(x)
            direction = signed(np.random.default_rng([self.seed, 95]), x.shape) * sizes
            ends = sides(self.function, point, place, direction)
            with np.errstate(all="ignore"):
                apart = np.abs(ends.right.value - ends.left.value)
                known = CLOSE * (ends.right.error + ends.left.error) + 1e-6 * np.abs(ends.right.value)
                bends |= bool((apart > known).any())
            beside.append(rounded(x + 2.0**-10 * direction))
        return bends and not _differs(self._found(name, tuple(beside), SAME))

    def _coarse(self, point: Point) -> float:
        """Return how closely gradients can agree of a function that rounds inside, relative to the largest.

        What the format of its outputs rounds is none of the gradients' affair.
        """
        base = np.abs(one(self.function, point))
        largest = float(base[np.isfinite(base)].max(initial=0.0))
        found = 0.0
        for place, x in enumerate(point):
            direction = signed(np.random.default_rng([self.seed, 93]), x.shape) * step_sizes(x)
            noise, _ = noise_of(self.function, point, place, direction)
            found = max(found, float(noise[np.isfinite(noise)].max(initial=0.0)))
        inside = found > _OF_OUTPUTS * self.function.roundoff * largest > 0
        return _ROUNDINGS * found / largest if inside else 0.0

    def process(self) -> Steps:
        """Inputs, earlier outputs, the process and repeated calls."""
        assert self.state is not None
        state, point = self.state, self.example()
        yield Step(
            lambda: self._told(state(self.function, point, self._another(), self.seed), "as given", point)
        )

    def _another(self) -> Point:
        """Return a point beside the example that the function accepts, the example itself if need be."""
        like = self.within_range(self.function, self.family(self.function, "like"))
        # What is like a positive definite matrix need not be one; a multiple of it is.
        for point in (like, tuple(rounded(x * 1.25) for x in self.example())):
            try:
                one(self.function, point)
                return point
            except CallFailed:
                continue
        return self.example()

    def _told(self, found: Any, family: str, point: Point) -> Seen:
        problems = tuple(
            Problem(
                f"{fault.message}: {fault.got!r}, not {fault.expected!r}"
                if not fault.breach
                else fault.message,
                fault.got,
                fault.expected,
                abs(fault.got - fault.expected) if not fault.breach else np.inf,
                breach=fault.breach,
                family=family,
                point=point,
                shapes=self.function.leaf_shapes,
                leaves=self.function.leaves,
            )
            for fault in found.faults
        )
        return Seen(
            found.compared, cases=1, problems=problems, notes=tuple(found.notes), families={family: 1}
        )


def _copies(function: Resizable, count: int) -> Point:
    return tuple(np.repeat(x[None], count, axis=0) for x in function.point)


def _seconds(function: Resizable, count: int) -> float:
    """Return how long a batch of so many points takes."""
    started = time.monotonic()
    function.values(_copies(function, count))
    return time.monotonic() - started


def _differs(found: Any) -> bool:
    """Whether numbers disagree; what is broken in another way is no matter of a tolerance."""
    return any(not fault.breach for fault in found.faults)
