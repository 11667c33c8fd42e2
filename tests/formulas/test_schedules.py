"""Schedules: rates by hand, the form from step to step, torch's own schedulers, and liars."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import hypothesis
import numpy as np
import pytest

from gradcheck import checks, formulas
from gradcheck.arithmetic.ball import balls, precision
from gradcheck.cases import several_inputs
from gradcheck.errors import UsageError
from gradcheck.formats import FLOAT32, FLOAT64
from gradcheck.formulas import schedules
from gradcheck.records import Evidence, Formula, Verdict
from gradcheck.subjects.implementation import Implementation
from gradcheck.subjects.torch_schedules import SCHEDULES

SETTINGS = hypothesis.settings(
    max_examples=20,
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=list(hypothesis.HealthCheck),
)
RATE = np.array([1.0, 0.5])


def examined(formula: Formula, forward: Any) -> Evidence:
    made = Implementation(formula.name, "test", FLOAT64, forward)
    total = Evidence()

    def run(case: Any) -> None:
        nonlocal total
        total = total.merge(checks.value(made, formula, case))

    hypothesis.given(several_inputs(formula, FLOAT64, 4))(SETTINGS(run))()
    return total


@pytest.mark.parametrize(
    ("name", "options", "expected"),
    [
        ("step_lr", {"gamma": 0.5, "step_size": 2, "t": 5}, 0.25),
        ("step_lr", {"gamma": 0.5, "step_size": 2, "t": 1}, 1.0),
        ("multi_step_lr", {"gamma": 0.5, "milestones": (1, 3, 3), "t": 3}, 0.125),
        ("exponential_lr", {"gamma": 0.5, "t": 3}, 0.125),
        ("exponential_lr", {"gamma": 0.0, "t": 0}, 1.0),
        ("cosine_annealing_lr", {"period": 4, "t": 2}, 0.5),
        ("cosine_annealing_lr", {"period": 4, "t": 4, "eta_min": 0.25}, 0.25),
        ("cosine_annealing_lr", {"period": 4, "t": 8}, 1.0),
        ("cosine_warm_restarts", {"period": 4, "t": 4}, 1.0),
        ("cosine_warm_restarts", {"period": 2, "factor": 2, "t": 4}, 0.5),
        ("linear_lr", {"start": 0.5, "length": 4, "t": 2}, 0.75),
        ("linear_lr", {"start": 0.5, "length": 4, "t": 9}, 1.0),
        ("one_cycle_lr", {"up": 0.25, "div": 4.0, "total": 64, "t": 0}, 0.25),
        ("one_cycle_lr", {"up": 0.25, "div": 4.0, "total": 64, "t": 15}, 1.0),
        ("one_cycle_lr", {"up": 0.25, "div": 4.0, "final_div": 2.0, "total": 64, "t": 63}, 0.125),
        ("one_cycle_lr", {"up": 0.25, "strategy": "linear", "div": 4.0, "total": 64, "t": 5}, 0.5),
        ("warm_up_chain", {"start": 0.5, "length": 4, "period": 4, "t": 2}, 0.75),
        ("warm_up_chain", {"start": 0.5, "length": 4, "period": 4, "t": 6}, 0.5),
        ("warm_up_chain", {"start": 0.5, "length": 4, "gamma": 0.5, "chained": True, "t": 2}, 0.1875),
    ],
)
def test_rates_by_hand(name: str, options: dict[str, Any], expected: float) -> None:
    got = formulas.get_formula(name)(RATE, **options)
    np.testing.assert_allclose(got, RATE * expected if "eta_min" not in options else expected, rtol=1e-15)


@pytest.mark.parametrize("formula", schedules.FORMULAS, ids=lambda f: f.name)
def test_the_forms_from_step_to_step_are_the_closed_form(formula: Formula) -> None:
    def run(case: Any) -> None:
        with precision(512):
            given = [balls(a) for a in case.inputs]
            options = formula.complete({**case.options, "t": min(case.options["t"], 24)})
            for variant in formula.variants:
                pairs = zip(
                    formula.value(*given, **options).data,
                    variant.text(*given, **options).data,
                    strict=True,
                )
                # After the bottom of a cosine the quotient is 0/0 on paper.
                assert all(a.overlaps(b) or not b.is_finite() for a, b in pairs), variant.name

    hypothesis.given(several_inputs(formula, FLOAT64, 3))(SETTINGS(run))()


@pytest.mark.parametrize("formula", schedules.FORMULAS, ids=lambda f: f.name)
def test_the_schedulers_of_torch_pass(formula: Formula) -> None:
    assert examined(formula, SCHEDULES.implement(formula, FLOAT64).forward).verdict.passed


def test_a_rate_is_judged_in_float64_alone() -> None:
    assert SCHEDULES.reason(formulas.step_lr, FLOAT64, "value") == ""
    assert "Python float" in SCHEDULES.reason(formulas.step_lr, FLOAT32, "value")


@pytest.mark.parametrize("formula", schedules.FORMULAS, ids=lambda f: f.name)
def test_a_schedule_that_is_a_step_late_is_caught(formula: Formula) -> None:
    def late(inputs: Any, options: Any) -> Any:
        return formula.value(*inputs, **formula.complete({**options, "t": options["t"] + 1}))

    assert examined(formula, late).verdict is Verdict.WRONG


def test_a_cosine_without_its_floor_is_caught() -> None:
    def floorless(inputs: Any, options: Any) -> Any:
        return inputs[0] * (1 + math.cos(math.pi * options["t"] / options["period"])) / 2

    assert examined(formulas.cosine_annealing_lr, floorless).verdict is Verdict.WRONG


@pytest.mark.parametrize("bad", [{"t": -1}, {"gamma": math.nan}, {"gamma": -0.5}, {"step_size": 0}])
def test_options_without_sense_are_refused(bad: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        formulas.step_lr(RATE, **bad)


def test_a_reproduction_prints_the_rates() -> None:
    made = SCHEDULES.implement(formulas.warm_up_chain, FLOAT64)
    assert made.reproduce is not None
    options = {o.name: o.default for o in formulas.warm_up_chain.options} | {"t": 7}
    printed: list[str] = []
    exec(made.reproduce("value", (RATE,), None, options), {"print": lambda lines: printed.extend(lines)})
    assert [float.fromhex(line) for line in printed] == made.forward((RATE,), options).tolist()
    assert replace(made).options == {}
