"""Initial weights are drawn from the law that their rule states."""

from __future__ import annotations

import pytest


@pytest.mark.gradcheck("moments")
def test_initial_weights_are_drawn_from_their_law(cell, gradcheck_run):
    verdict = gradcheck_run.judge_initial(cell)
    assert not verdict.is_finding
