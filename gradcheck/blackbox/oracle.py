"""One function under examination: its Jacobian at any point, by reverse mode and by differences."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from gradcheck.blackbox import domains, jacobian, points
from gradcheck.blackbox.clock import Clock, OutOfTime
from gradcheck.blackbox.closely import Entry
from gradcheck.blackbox.differences import rounded
from gradcheck.blackbox.jacobian import Memory
from gradcheck.blackbox.seen import Problem, Seen
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

# A Jacobian of more entries is compared by forms first; below, every entry is cheap enough.
_EVERY_ENTRY = 10_000
_MOST_ENTRIES = 2_000_000
_ROWS = 4
# How many numbers are kept of what a function said, for a comparison that is taken up again.
_KEPT = 1_000_000


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

    def overflowed(self, function: Resizable, point: Point, family: str) -> Seen:
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

    def fits(self, function: Resizable) -> bool:
        """Whether the domains of the inputs hold arrays of these shapes."""
        pairs = zip(self.limits, function.inputs, strict=True)
        return all(limit is None or limit.fits(axes.shape) for limit, axes in pairs)

    def small(self, function: Resizable) -> bool:
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

    def confined(self, function: Resizable) -> Point:
        """Return the example of a function in the domains of its inputs."""
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
