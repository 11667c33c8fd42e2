"""Optimizers over many steps and in a user's hands: honest ones pass, every kind of liar is caught."""

from __future__ import annotations

from typing import Any

import hypothesis
import numpy as np
import pytest

from gradcheck import formulas
from gradcheck.cases import several_inputs
from gradcheck.checks.machine import machine
from gradcheck.checks.trajectory import trajectory
from gradcheck.formats import BFLOAT16, FLOAT32, FLOAT64, Format
from gradcheck.records import Evidence, Formula, Verdict
from gradcheck.subjects.implementation import Implementation
from gradcheck.subjects.numpy import NUMPY
from gradcheck.subjects.optimizer_run import PureRun, fresh_state
from gradcheck.subjects.torch_optim import FOREACH, FUSED, LOOP
from gradcheck.subjects.torch_run import TorchRun

SETTINGS = hypothesis.settings(
    max_examples=3,
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=list(hypothesis.HealthCheck),
)


def followed(formula: Formula, made: Implementation, count: int = 2) -> Evidence:
    """What the trajectory check sees over `count` drawn cases."""
    total = Evidence()

    def run(case: Any) -> None:
        nonlocal total
        total = total.merge(trajectory(made, formula, case))

    drawn = several_inputs(formula, made.format, 4, fixed=dict(made.options))
    hypothesis.given(drawn)(hypothesis.settings(SETTINGS, max_examples=count)(run))()
    return total


class Liar(PureRun):
    """A run of the reference's own steps that misbehaves on one event."""

    wrong = ""

    def step(self, gradients: Any) -> None:
        if self.wrong == "no gradient is a zero":
            gradients = tuple(
                np.zeros_like(self.weights[k]) if g is None else g for k, g in enumerate(gradients)
            )
        super().step(gradients)
        if self.wrong == "writes to the gradient":
            for gradient in gradients:
                if gradient is not None:
                    gradient += 1

    def set_rate(self, place: int, rate: float) -> None:
        if self.wrong != "keeps its rate":
            super().set_rate(place, rate)

    def options(self, place: int) -> dict[str, Any]:
        of = 0 if self.wrong == "one group for all" else place
        late = self.wrong == "a step late"
        options = super().options(place) | {k: v for k, v in self.groups[of].items() if k != "t"}
        return {**options, **({"t": options["t"] + 1} if late else {})}

    def restored(self, through_a_file: bool) -> Any:
        again = liar(self.wrong)(self.implementation, self.formula, self)
        if self.wrong == "forgets its state":
            again.states = [fresh_state(self.formula, weight) for weight in again.weights]
        if self.wrong == "forgets its count":
            again.counts = [0 for _ in again.counts]
        return again


def liar(wrong: str) -> Any:
    """Return what begins or goes on with a run that lies so."""

    def begin(implementation: Implementation, formula: Formula, run: PureRun) -> Liar:
        made = Liar(implementation, formula, tuple(run.weights), tuple(run.groups), tuple(run.states))
        made.counts, made.wrong = list(run.counts), wrong
        return made

    return begin


def lying(formula: Formula, fmt: Format, wrong: str) -> Implementation:
    pure = NUMPY.implement(formula, fmt)

    def begin(*arguments: Any) -> Liar:
        return liar(wrong)(pure, formula, PureRun(pure, formula, *arguments))

    return Implementation(formula.name, "liar", fmt, pure.forward, begin=begin)


EVENTS = (
    "no gradient is a zero",
    "writes to the gradient",
    "keeps its rate",
    "one group for all",
    "a step late",
    "forgets its state",
    "forgets its count",
)


@pytest.mark.parametrize("wrong", EVENTS)
def test_a_liar_about_events_is_caught(wrong: str) -> None:
    seen = machine(
        lying(formulas.adam, FLOAT32, wrong),
        formulas.adam,
        hypothesis.settings(SETTINGS, max_examples=12),
        shortenings=2,
    )
    assert seen.evidence.verdict is Verdict.WRONG, wrong
    expected = {"no gradient": "state", "forgets": "state", "writes": "mutation"}
    kinds = [kind for start, kind in expected.items() if wrong.startswith(start)]
    assert set(kinds) <= set(seen.evidence.breaches)


@pytest.mark.parametrize("fmt", [FLOAT32, BFLOAT16], ids=lambda f: f.name)
@pytest.mark.parametrize("name", ["sgd", "adam", "nadam"])
def test_the_reference_passes_its_own_machine(name: str, fmt: Format) -> None:
    formula = formulas.get_formula(name)
    seen = machine(NUMPY.implement(formula, fmt), formula, SETTINGS)
    assert seen.evidence.verdict is Verdict.ACCURATE and not seen.program


@pytest.mark.parametrize("name", ["sgd", "adam", "rmsprop"])
def test_torch_passes_the_machine_through_files_and_formats(name: str) -> None:
    formula = formulas.get_formula(name)
    seen = machine(LOOP.implement(formula, FLOAT32), formula, SETTINGS)
    assert seen.evidence.verdict.passed


def test_the_program_of_a_run_does_what_the_run_did() -> None:
    groups = tuple(
        {"lr": rate, "beta1": 0.5, **LOOP.implement(formulas.adam, FLOAT32).options} for rate in (0.5, 0.25)
    )
    weights = (np.ones(3, np.float32), np.full((2, 2), 2.0, np.float32))
    run: Any = TorchRun("loop", formulas.adam, weights, groups)
    run.step(tuple(np.full_like(w, 0.5) for w in weights))
    run.set_rate(1, 0.125)
    run = run.restored(True)
    run.step((None, np.full_like(weights[1], 0.25)))
    run = run.converted(FLOAT64)
    run.step(tuple(np.ones(w.shape) for w in weights))
    assert (run.taken(0), run.taken(1)) == (2, 3)
    space: dict[str, Any] = {}
    exec(run.program(), space)
    for place in (0, 1):
        again = space[f"w{place}"].detach().numpy()
        assert again.dtype == np.float64 and again.tobytes() == run.weight(place).tobytes()


def test_a_state_from_the_first_step_is_loaded_as_it_is() -> None:
    weight = (np.ones(2, np.float32),)
    states = ((np.full(2, 0.5, np.float32), np.full(2, 0.25, np.float32), np.zeros(2, np.float32)),)
    options = ({**LOOP.implement(formulas.adam, FLOAT32).options},)
    run = TorchRun("loop", formulas.adam, weight, options, states, 10**6)
    assert run.taken(0) == 10**6
    assert [a.tobytes() for a in run.state(0)] == [a.tobytes() for a in states[0]]


@pytest.mark.parametrize("subject", [LOOP, FOREACH, FUSED], ids=lambda s: s.form)
def test_trajectories_of_torch_pass(subject: Any) -> None:
    assert followed(formulas.adamw, subject.implement(formulas.adamw, FLOAT32)).verdict.passed


@pytest.mark.parametrize("wrong", ["a step late"])
def test_a_trajectory_that_counts_wrong_is_caught(wrong: str) -> None:
    assert followed(formulas.adam, lying(formulas.adam, FLOAT64, wrong)).verdict is Verdict.WRONG


def test_a_product_of_momenta_in_float32_is_named() -> None:
    seen = followed(formulas.nadam, LOOP.implement(formulas.nadam, FLOAT64))
    assert seen.verdict is Verdict.UNSTABLE
    assert seen.explained_by == ("the product of the momenta kept in float32",)
