"""The laws of the formulas, cell by cell of the plan: what a law says is the name of its function."""

from __future__ import annotations

import pytest

from gradcheck import checks


@pytest.mark.gradcheck("law")
def test_every_implementation_obeys_the_laws_of_its_formula(cell, gradcheck_run):
    verdict = gradcheck_run.judge(cell, checks.law, share=0.25)
    assert not verdict.is_finding
