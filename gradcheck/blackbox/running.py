"""The checks of a function, one after the other, within the time that there is.

A check is a series of steps, so many of which are its plan. Each check has its share of the time for the
plan; a step that takes too much of it is put off until the others are done. Checks that are short of their
plan go on with what all of them have left, and what is left after that is for the steps beyond the plans.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Sequence

from gradcheck.blackbox.clock import Clock, OutOfTime
from gradcheck.blackbox.oracle import Oracle
from gradcheck.blackbox.result import Checked, checked
from gradcheck.blackbox.seen import NOTHING, Problem, Seen, Step, Steps
from gradcheck.blackbox.shrinking import shrunk
from gradcheck.records import Cell
from gradcheck.subjects.function import CallFailed, raised_by

# The share of the time left that a check may take at first.
_SHARES = {
    "layouts": 0.4,
    "formats": 0.4,
    "subsets": 0.4,
    "reference": 0.5,
    "values": 0.45,
    "sizes": 0.6,
    "second-order": 1.0,
}
_SHARE = 0.5
# So many cases are the plan of a check that has no natural end; more are tried while its time lasts, and what
# was left is told.
_PLANNED = {"formats": 9, "values": 12, "sizes": 16, "second-order": 3}
# A step of such a check that takes more than its part of the time, so many times, is put off.
_STEP = 1.0
# More findings of one check tell nothing new.
_ENOUGH = 3


def share_of(oracle: Oracle, name: str) -> Clock:
    """Return the clock of a check: its share of what is left."""
    return oracle.clock.part(_SHARES.get(name, _SHARE))


class Run:
    """One check at work: its steps, what they saw, and those that are yet to be done."""

    def __init__(self, oracle: Oracle, cell: Cell, steps: Steps) -> None:
        self.oracle, self.cell, self.steps = oracle, cell, steps
        self.total, self.seconds = NOTHING, 0.0
        self.late: deque[Step] = deque()
        self.next: Step | None = None
        self.begun = self.over = self.fell = False
        self.plan = _PLANNED.get(cell.check, math.inf)
        self.patience = _STEP / self.plan if math.isfinite(self.plan) else math.inf
        self.slow: dict[str, int] = {}

    @property
    def done(self) -> bool:
        """Whether nothing is left to do, or enough was found."""
        nothing = self.over and self.next is None and not self.late
        return nothing or self.fell or len(self.total.problems) >= _ENOUGH

    @property
    def short(self) -> bool:
        """Whether more time would help: neither finished nor ended by what was found."""
        return not self.done and not self.total.problems and self.total.cases < self.plan

    def go(self, clock: Clock, beyond: bool = False) -> None:
        """Take steps until the plan is done, and `beyond`, or the clock's time is over."""
        started = time.monotonic()
        whole = max(0.0, clock.left())
        try:
            while not self.done and clock.left() > 0:
                planned = self.total.cases < self.plan
                if not (planned or beyond):
                    break
                self._step(clock, clock.within(self.patience * whole) if planned else clock)
        except CallFailed as error:
            # A check that the function brought down: what it raised is the finding.
            said = raised_by(error.__cause__ or error)
            self.total += Seen(problems=(Problem(said, breach="raised"),))
            self.fell = True
        self.seconds += time.monotonic() - started

    def _step(self, clock: Clock, limit: Clock) -> None:
        if self.next is None and not self.over:
            self._advance(None)
        step = self.next
        if step is not None and step.weight >= self.slow.get(step.kin, step.weight + 1):
            self._put_off(step)
            return
        if step is None:
            if not self.late:
                return
            step, limit = self._late(), clock
        try:
            with self.oracle.within(clock if step.needed else limit):
                seen = step.run()
        except OutOfTime:
            if step is not self.next:
                self.late.appendleft(step)
            elif clock.left() > 0:
                if step.kin:
                    self.slow[step.kin] = min(step.weight, self.slow.get(step.kin, step.weight))
                self._put_off(step)
            return
        self.total += seen
        if step is self.next:
            self._advance(seen)

    def _late(self) -> Step:
        """Take a step that was put off; those of a slow kin come last."""
        step = next((each for each in self.late if each.kin not in self.slow), self.late[0])
        self.late.remove(step)
        return step

    def _put_off(self, step: Step) -> None:
        self.late.append(step)
        self._advance(None)

    def _advance(self, seen: Seen | None) -> None:
        """Ask for the next step; the one before saw this, or was put off."""
        try:
            self.next = self.steps.send(seen if self.begun else None)
        except StopIteration:
            self.next, self.over = None, True
        self.begun = True

    def shrink(self) -> None:
        """Look for what was found in a smaller example."""
        if self.total.problems and self.oracle.clock.left() > 0:
            started = time.monotonic()
            self.total = shrunk(self.oracle, self.total)
            self.seconds += time.monotonic() - started

    def checked(self, program: Callable[[Problem], str]) -> Checked:
        """Return the check with its verdict; one that was not finished says so."""
        unfinished = not self.done and self.total.cases < self.plan
        if not self.done and not unfinished:
            note = f"{self.total.cases} cases in the time that there was; max_seconds allows more"
            self.total += Seen(notes=(note,))
        return checked(self.cell, self.total, self.seconds, unfinished, program)


def again(oracle: Oracle, runs: Sequence[Run]) -> None:
    """Let checks that are short of their plan go on with the time that is left, then all others."""
    while oracle.clock.left() > 0 and (waiting := [run for run in runs if run.short]):
        for number, run in enumerate(waiting):
            _further(run, oracle.clock.part(1 / (len(waiting) - number)))
    for run in runs:
        if not run.done and not run.total.problems:
            _further(run, share_of(oracle, run.cell.check))


def _further(run: Run, clock: Clock) -> None:
    run.go(clock, beyond=not run.short)
    run.shrink()
