"""The laws that every implementation of a formula obeys, cell by cell of the plan."""

from __future__ import annotations

import pytest

from gradcheck import checks
from gradcheck.formulas import get_formula


@pytest.mark.gradcheck("value")
def test_values_lie_where_a_legal_evaluation_can_reach(cell, gradcheck_run):
    verdict = gradcheck_run.judge(cell, checks.value, exhaustive=True)
    assert not verdict.is_finding


@pytest.mark.gradcheck("derivative")
def test_gradients_lie_where_a_legal_evaluation_can_reach(cell, gradcheck_run):
    verdict = gradcheck_run.judge(cell, checks.derivative, exhaustive=True)
    assert not verdict.is_finding


@pytest.mark.gradcheck("second")
def test_gradients_of_gradients_lie_where_a_legal_evaluation_can_reach(cell, gradcheck_run):
    verdict = gradcheck_run.judge(cell, checks.second)
    assert not verdict.is_finding


@pytest.mark.gradcheck("module")
def test_modules_obey_the_same_bounds_as_functions(cell, gradcheck_run):
    verdict = gradcheck_run.judge(cell, checks.module, share=0.25)
    assert not verdict.is_finding


@pytest.mark.gradcheck("loop", "foreach")
def test_in_place_forms_obey_the_same_bounds_as_functions(cell, gradcheck_run):
    verdict = gradcheck_run.judge(cell, checks.module, share=0.25)
    assert not verdict.is_finding


@pytest.mark.gradcheck("layout")
def test_size_and_layout_of_an_array_do_not_change_a_verdict(cell, gradcheck_run):
    # One array of an elementwise formula has every size; shapes of several inputs are drawn case by case.
    share = 0.15 if get_formula(cell.formula).elementwise else 0.5
    verdict = gradcheck_run.judge(cell, checks.layout, share=share)
    assert not verdict.is_finding


@pytest.mark.gradcheck("special")
def test_zeros_infinities_and_nan_give_accepted_answers(cell, gradcheck_run):
    verdict = gradcheck_run.judge(cell, checks.special, share=0.25)
    assert not verdict.is_finding


@pytest.mark.gradcheck("dropout")
def test_dropout_obeys_the_mask_that_it_shows(cell, gradcheck_run):
    verdict = gradcheck_run.judge(cell, checks.dropout, share=0.25)
    assert not verdict.is_finding


@pytest.mark.gradcheck("proof")
def test_derivative_texts_are_the_derivative_of_the_value_text(cell, gradcheck_run):
    verdict = gradcheck_run.judge(cell, checks.proof)
    assert not verdict.is_finding


@pytest.mark.gradcheck("witness")
def test_finite_differences_and_complex_steps_agree_with_the_derivative(cell, gradcheck_run):
    verdict = gradcheck_run.judge(cell, checks.witness)
    assert not verdict.is_finding
