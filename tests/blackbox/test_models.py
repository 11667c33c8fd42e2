"""The arithmetic model of the check against a reference: what may happen to subnormal numbers."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import gradcheck
from gradcheck.errors import UsageError

X = torch.tensor([0.5, -1.25, 2.0], dtype=torch.float64)
SAME = {"checks": "reference", "max_seconds": 60.0}


def flushing(x):
    tiny = torch.finfo(x.dtype).tiny
    return torch.where(x.abs() < tiny, 0.0 * x, torch.relu(x))


def test_a_function_that_flushes_is_found_unless_it_is_declared():
    result = gradcheck.check(flushing, X, reference="relu", **SAME)
    assert result.findings, result
    assert gradcheck.check(flushing, X, reference="relu", model="gradual-underflow", **SAME).findings
    declared = gradcheck.check(flushing, X, reference="relu", model="flush-to-zero", **SAME)
    assert not [finding for finding in declared.findings if finding.cell.check == "value"], declared


def test_a_model_hides_no_other_fault():
    result = gradcheck.check(lambda x: flushing(x) + 1e-9, X, reference="relu", model="flush-to-zero", **SAME)
    assert "VALUE-WRONG" in {finding.code for finding in result.findings}
    wrong = gradcheck.check(torch.exp2, X, reference=np.exp, model="flush-to-zero", **SAME)
    assert wrong.findings


@pytest.mark.parametrize(
    ("keywords", "complaint"),
    [
        (
            {"reference": "relu", "model": "flush-zero"},
            "unknown model 'flush-zero': did you mean 'flush-to-zero'",
        ),
        ({"reference": "relu", "model": "ieee"}, "known: flush-to-zero, gradual-underflow"),
        ({"model": "flush-to-zero"}, "give reference= as well"),
    ],
)
def test_what_is_no_model_gets_a_clear_answer(keywords, complaint):
    with pytest.raises(UsageError, match=complaint):
        gradcheck.check(torch.relu, X, **keywords)
