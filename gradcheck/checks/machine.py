"""An optimizer in the hands of a user: steps, gradients of zero or none, other rates, saving, another format.

Hypothesis draws the order of events. After every step each weight is judged from what the optimizer itself
held before it, so no event can hide behind another.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import hypothesis
import numpy as np
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    precondition,
    rule,
    run_state_machine_as_test,
)

from gradcheck.cases import several_inputs
from gradcheck.checks.examine import examine, first_input
from gradcheck.checks.trajectory import before, outcome, same, undefined
from gradcheck.compare import breach
from gradcheck.families import build
from gradcheck.formats import FORMATS, Format, widen
from gradcheck.records import VALUE, Array, Case, Evidence, Formula, Verdict
from gradcheck.subjects.implementation import Implementation
from gradcheck.subjects.optimizer_run import begin

LARGEST = 17
EVENTS = 8
# After the first failure so many more runs may look for fewer events: an answer that differs from run to run
# would keep Hypothesis busy for minutes.
SHORTENINGS = 12
RATES = (0.0, 0.125, 0.001)


class _EnoughError(BaseException):
    """Ends the search for fewer events; Hypothesis takes any other kind for one more failure."""


@dataclass
class Log:
    """What all machines of a check saw together; the program and the case are those of the last failure."""

    evidence: Evidence = field(default_factory=Evidence)
    program: str = ""
    case: Case | None = None
    failed: Evidence | None = None
    left: int = SHORTENINGS

    def take(self, found: Evidence, case: Case, program: Callable[[], str]) -> None:
        """Add evidence; a finding ends the machine, and Hypothesis looks for fewer events that lead to it."""
        self.evidence = self.evidence.merge(found)
        if found.verdict.is_finding:
            lines = program()
            serious = found.verdict is Verdict.WRONG
            known = self.failed is not None and self.failed.verdict is Verdict.WRONG
            if (serious, -len(lines)) >= (known, -len(self.program)) or self.failed is None:
                self.failed, self.case, self.program = found, case, lines
            raise AssertionError(f"{found.verdict.value}: {case.detail}")


@dataclass(frozen=True)
class Seen:
    """The evidence of a check of events, with the shortest program found that shows its failure."""

    evidence: Evidence
    program: str
    case: Case | None


def machine(
    implementation: Implementation,
    formula: Formula,
    settings: hypothesis.settings,
    shortenings: int = SHORTENINGS,
) -> Seen:
    """Run the machines that `settings` allow; nothing that they meet is raised.

    After a failure `shortenings` more runs look for fewer events that lead to it.
    """
    log = Log(left=shortenings)
    shorter = hypothesis.settings(settings, stateful_step_count=EVENTS)
    kind = machine_of(implementation, formula, log)
    try:
        run_state_machine_as_test(kind, settings=shorter)
    except (Exception, _EnoughError):
        # The log holds what failed. An error of this machinery itself is no evidence about the subject.
        if log.failed is None:
            raise
    total = replace(log.evidence, vacuous_cases=int(log.evidence.compared == 0), cases=1)
    if log.failed is not None:
        total = replace(total, worst=log.failed.worst, options=log.failed.options)
    return Seen(total, log.program, log.case)


def machine_of(implementation: Implementation, formula: Formula, log: Log) -> type[RuleBasedStateMachine]:
    """Return the machine of one implementation, which writes to `log`."""
    drawn = several_inputs(formula, implementation.format, LARGEST, fixed=dict(implementation.options))
    seeds = st.integers(0, 2**32 - 1)

    class OptimizerMachine(RuleBasedStateMachine):
        @initialize(cases=st.lists(drawn, min_size=1, max_size=2), first=st.sampled_from(FORMATS))
        def start(self, cases: list[Case], first: Format) -> None:
            log.left -= log.failed is not None
            if log.left < 0:
                raise _EnoughError
            self.cases = cases
            self.format = implementation.format
            self.stepped = False
            self.options = [{**case.options, **implementation.options} for case in cases]
            weights = tuple(case.inputs[0] for case in cases)
            self.run = begin(implementation, formula, weights, tuple(self.options))
            with np.errstate(over="ignore"):
                narrow = tuple(weight.astype(first.dtype) for weight in weights)
            if self.run.convertible and all(np.isfinite(widen(weight)).all() for weight in narrow):
                self.format = first
                self.run = begin(implementation, formula, narrow, tuple(self.options))

        @rule(seed=seeds)
        def step(self, seed: int) -> None:
            self._step(self._gradients(seed))

        @rule(seed=seeds, place=st.integers(0, 1))
        def step_with_a_zero_gradient(self, seed: int, place: int) -> None:
            given = self._gradients(seed)
            place %= len(given)
            given[place] = np.zeros_like(given[place])
            self._step(given)

        @rule(seed=seeds, place=st.integers(0, 1))
        def step_without_a_gradient(self, seed: int, place: int) -> None:
            given: list[Array | None] = [*self._gradients(seed)]
            given[place % len(given)] = None
            self._step(given)

        # Every other event is followed by a step, which shows what it did.
        @rule(place=st.integers(0, 1), rate=st.sampled_from(RATES), seed=seeds)
        def change_the_rate(self, place: int, rate: float, seed: int) -> None:
            place %= len(self.cases)
            self.options[place]["lr"] = rate
            self.run.set_rate(place, rate)
            self._step(self._gradients(seed))

        @precondition(lambda self: self.stepped)
        @rule(through_a_file=st.booleans(), seed=seeds)
        def save_and_restore(self, through_a_file: bool, seed: int) -> None:
            held = self._held()
            self.run = self.run.restored(through_a_file)
            self._unchanged(held, range(len(held)), "after it was restored")
            self._step(self._gradients(seed))

        @precondition(lambda self: self.format is not implementation.format)
        @rule(seed=seeds)
        def change_the_format(self, seed: int) -> None:
            """Go on in the format of the cell; steps before that are another cell's."""
            fmt = implementation.format
            if any(np.abs(a.astype(np.float64)).max(initial=0) > fmt.largest for a in self._arrays()):
                return
            self.format = fmt
            self.run = self.run.converted(fmt)
            self._step(self._gradients(seed))

        def _arrays(self) -> list[Array]:
            places = range(len(self.cases))
            return [array for k in places for array in (self.run.weight(k), *self.run.state(k))]

        def _gradients(self, seed: int) -> list[Array]:
            shapes = [case.inputs[0].shape for case in self.cases]
            return [
                build("plain", seed + place, int(np.prod(shape)), self.format, (0.0,))
                .reshape(shape)
                .astype(self.format.dtype)
                for place, shape in enumerate(shapes)
            ]

        def _held(self) -> list[tuple[tuple[Array, ...], int]]:
            places = range(len(self.cases))
            return [((self.run.weight(k), *self.run.state(k)), self.run.taken(k)) for k in places]

        def _case(self, place: int, inputs: tuple[Array, ...], gradient: Array, detail: str) -> Case:
            given = before(formula, self.run, place, self.options[place])
            arrays = (inputs[0], gradient, *inputs[1:])
            return replace(self.cases[place], format=self.format, inputs=arrays, options=given, detail=detail)

        def _step(self, given: Any) -> None:
            self.stepped = True
            held = self._held()
            if self.format is not implementation.format:
                self.run.step(tuple(given))
                return
            kept = [None if gradient is None else gradient.copy() for gradient in given]
            cases = [
                self._case(k, held[k][0], np.zeros(1) if g is None else g, f"weight {k} of {len(kept)}")
                for k, g in enumerate(kept)
            ]
            error: list[BaseException] = []
            try:
                self.run.step(tuple(given))
            except Exception as raised:
                error.append(raised)
            for place, gradient in enumerate(kept):
                if gradient is None:
                    self._unchanged(held, (place,), "without a gradient")
                    continue
                log.take(self._judged(cases[place], place, error), cases[place], self.run.program)
                if given[place].tobytes() != gradient.tobytes():
                    found = breach("mutation", 1, first_input(cases[place]), "the gradient was written to")
                    log.take(found, cases[place], self.run.program)

        def _judged(self, case: Case, place: int, error: list[BaseException]) -> Evidence:
            if not error and undefined(formula, case):
                return Evidence()

            def forward(*_: Any) -> tuple[Array, ...]:
                for raised in error:
                    raise raised
                return outcome(self.run, place, self.format)

            stepped = replace(implementation, format=self.format, forward=forward)
            return examine(stepped, formula, case, VALUE)

        def _unchanged(self, held: Any, places: Any, when: str) -> None:
            for place in places:
                arrays, taken = held[place]
                now = (self.run.weight(place), *self.run.state(place))
                case = self._case(place, arrays, np.zeros(1), f"weight {place} {when}")
                kept = same(arrays, now) and taken == self.run.taken(place)
                note = f"weight or state changed {when}"
                found = Evidence() if kept else breach("state", 1, first_input(case), note)
                log.take(found, case, self.run.program)

    return OptimizerMachine
