"""Optimizers over many steps and in the hands of a user, cell by cell of the plan."""

from __future__ import annotations

import pytest

from gradcheck import checks


@pytest.mark.gradcheck("trajectory")
def test_every_step_of_a_run_lies_where_a_legal_evaluation_can_reach(cell, gradcheck_run):
    verdict = gradcheck_run.judge(cell, checks.trajectory, share=0.125)
    assert not verdict.is_finding


@pytest.mark.gradcheck("machine")
def test_no_event_disturbs_an_optimizer(cell, gradcheck_run):
    verdict = gradcheck_run.judge_machine(cell)
    assert not verdict.is_finding
