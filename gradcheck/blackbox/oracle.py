"""The checks of a black box, the most telling first, within a time that was given."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from gradcheck.blackbox import domains, jacobian, points, sizes
from gradcheck.blackbox.closely import CLOSE, Entry
from gradcheck.blackbox.differences import noise_of, rounded, sides, step_sizes
from gradcheck.blackbox.projection import signed
from gradcheck.blackbox.seen import Problem, Seen
from gradcheck.subjects.function import CallFailed, Point, Resizable, one, raised_by
from gradcheck.subjects.probing import REFUSES, SAME, tolerance

# A Jacobian of more entries is compared by forms first; below, every entry is cheap enough.
_EVERY_ENTRY = 10_000
_MOST_ENTRIES = 2_000_000
_ROWS = 4
# So many times what the outputs are rounded by may lie between two gradients that are the same.
_ROUNDINGS = 64.0
_OF_OUTPUTS = 16.0
# What compares two modes of differentiation, and neither with the function itself.
_TWO_MODES = ("forward", "second cotangent")


class OutOfTime(Exception):
    """The time that was given is over."""


@dataclass
class Clock:
    """When to stop. `share` gives a check its part of what is left."""

    end: float

    def left(self) -> float:
        """Return the seconds left."""
        return self.end - time.monotonic()

    def require(self) -> None:
        """Raise `OutOfTime` if nothing is left."""
        if self.left() <= 0:
            raise OutOfTime

    def part(self, share: float) -> Clock:
        """Return a clock that stops after a share of what is left."""
        return Clock(time.monotonic() + share * max(0.0, self.left()))


@dataclass
class Oracle:
    """One function under examination."""

    function: Resizable
    limits: tuple[domains.Domain | None, ...]
    seed: int
    clock: Clock
    probes: dict[str, Callable[..., Any]] = field(default_factory=dict)
    state: Callable[..., Any] | None = None
    memory: jacobian.Memory = field(default_factory=jacobian.Memory)

    def example(self) -> Point:
        """Return the user's example with as many bits as a point has."""
        return tuple(rounded(x) for x in self.function.point)

    # Jacobians

    def compared(
        self,
        function: Resizable,
        point: Point,
        family: str,
        memory: jacobian.Memory | None = None,
        what: str = "gradient",
        quick: bool | None = None,
        lenient: bool = False,
    ) -> Seen:
        """Compare one Jacobian at one point; a point where the function raises is no case.

        `lenient` takes a backward pass that raises for a refusal, too.
        """
        entries = function.size * sum(axes.size for axes in function.inputs)
        by_forms = entries > _EVERY_ENTRY if quick is None else quick
        if memory is None and len(function.inputs) == len(self.function.inputs):
            memory = jacobian.Memory(typical=dict(self.memory.typical))
        try:
            with np.errstate(all="ignore"):
                found = jacobian.compare(
                    function, point, self.seed, memory=memory, quick=by_forms, tick=self.clock.require
                )
        except CallFailed as error:
            return self._raised(function, point, family, what, error, lenient)
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

    def jacobian(self) -> Seen:
        """Every entry of the Jacobian at the example, reverse mode against differences."""
        return self.compared(self.function, self.example(), "as given", self.memory, quick=True)

    def values(self) -> Iterator[Seen]:
        """The Jacobian at other values: large, tiny, saturated, tied, at the points where code branches."""
        drawn = points.points(self.function.point, self.function.inputs, self.limits, self.seed)
        for number, (family, point) in enumerate(drawn):
            self.clock.require()
            yield self.compared(self.function, self.within(self.function, point), family, self.memory)
            yield self._overflowed(self.function, point, family)
            other = self.function.with_other_integers(np.random.default_rng([self.seed, 91, number]))
            if other is not None and number % 4 == 0:
                label = f"{family}, other integers"
                yield self.compared(other, self.within(other, point), label, self.memory)

    def sizes(self) -> Iterator[Seen]:
        """The Jacobian at other sizes of every axis that the function lets vary."""
        tried = False
        for sized in sizes.varied(self.function, self.seed):
            tried = True
            self.clock.require()
            if self._dense(sized.function) or not self._fits(sized.function):
                continue
            point = self._confined(sized.function)
            yield self.compared(sized.function, point, sized.label, lenient=sized.unusual)
            branches = self.within(sized.function, self.family(sized.function, "branches"))
            if sum(x.size for x in branches) < 200:
                label = f"branches, {sized.label}"
                yield self.compared(sized.function, branches, label, lenient=sized.unusual)
        if not tried:
            yield Seen(notes=("the function accepts no other size of any axis",))

    def _fits(self, function: Resizable) -> bool:
        """Whether the domains of the inputs hold arrays of these shapes."""
        pairs = zip(self.limits, function.inputs, strict=True)
        return all(limit is None or limit.fits(axes.shape) for limit, axes in pairs)

    def _dense(self, function: Resizable) -> bool:
        """Whether a Jacobian is too large to be taken entry by entry, should that be needed."""
        return function.size * max(axes.size for axes in function.inputs) > _MOST_ENTRIES

    def within(self, function: Resizable, point: Point) -> Point:
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

    def second(self) -> Iterator[Seen]:
        """The gradient of the gradient: double backward against differences of the first gradient."""
        rng = np.random.default_rng([self.seed, 61])
        memory = jacobian.Memory()
        if "second cotangent" in self.probes:
            seen = self._probed("second cotangent", "as given", self.example())
            yield seen
            if any(note.startswith(REFUSES) for note in seen.notes):
                return
        for number, family in enumerate(("as given", "like", "branches", "saturated", "tiny", "large")):
            self.clock.require()
            cotangent = signed(rng, (self.function.size,))
            gradient = self.function.along(cotangent)
            point = self.example() if not number else self.family(self.function, family)
            point = self.within(self.function, point)
            seen = self.compared(gradient, point, family, memory, "double backward pass")
            if not number and seen.notes and not seen.compared:
                yield Seen(notes=(f"no double backward pass: {seen.notes[0]}",))
                return
            yield seen

    # What the framework's machinery can break

    def probe(self, name: str) -> Iterator[Seen]:
        """Run one of the framework's probes at the example and at one other point."""
        for family in ("as given", "like"):
            self.clock.require()
            point = self.example() if family == "as given" else self.family(self.function, family)
            point = self.within(self.function, point)
            yield self._probed(name, family, point)

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

    def process(self) -> Seen:
        """Inputs, earlier outputs, the process and repeated calls."""
        assert self.state is not None
        point = self.example()
        return self._told(self.state(self.function, point, self._another(), self.seed), "as given", point)

    def _another(self) -> Point:
        """Return a point beside the example that the function accepts, the example itself if need be."""
        like = self.within(self.function, self.family(self.function, "like"))
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


def _differs(found: Any) -> bool:
    """Whether numbers disagree; what is broken in another way is no matter of a tolerance."""
    return any(not fault.breach for fault in found.faults)
