"""The oracle on its corpus: wrong operations are caught by the documented call, right ones left in peace.

The corpus was written by somebody who had not read the checker. Of the mutants and of the right operations a
fixed sample is met here; `python -m benchmarks.oracle.detect` meets all of them, and the peers.
"""

from __future__ import annotations

import pytest
import torch

import gradcheck
from tests.blackbox.corpus.correct import CORRECT, regimes
from tests.blackbox.corpus.wrong_by_hand import WRONG_BY_HAND
from tests.blackbox.corpus.wrong_by_mutation import WRONG_BY_MUTATION

# Machines are shared and slow: what a check finds must not depend on how fast it is.
SECONDS = 60.0
# The rest of the checks would only find the same fault again.
BY_CAUSE = {
    "any input": ("jacobian", "values", "sizes"),
    "second order": ("jacobian", "second-order"),
    "some formats": ("jacobian", "formats"),
    "cotangent": ("jacobian", "cotangents", "batched", "forward", "subsets", "second-order"),
}


@pytest.fixture(autouse=True)
def one_thread():
    """Small operations are slower on many threads, and the workers share the cores."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("operation", WRONG_BY_HAND, ids=lambda operation: operation.name)
def test_a_wrong_operation_is_caught(operation):
    call = operation.make()
    first = BY_CAUSE.get(operation.cause)
    if first is not None and "reference" not in call.keywords and "vjp" not in call.keywords:
        if gradcheck.check(call.f, *call.inputs, checks=first, max_seconds=SECONDS, **call.keywords).findings:
            return
        call = operation.make()
    result = gradcheck.check(call.f, *call.inputs, max_seconds=SECONDS, **call.keywords)
    assert result.findings, result


@pytest.mark.parametrize("operation", WRONG_BY_MUTATION[::4], ids=lambda operation: operation.name)
def test_a_mutant_is_caught(operation):
    call = operation.make()
    result = gradcheck.check(call.f, *call.inputs, max_seconds=SECONDS, **call.keywords)
    assert result.findings, result


def of_right_ones():
    """One regime of every fourth operation, another one each time."""
    for number, operation in enumerate(CORRECT[::4]):
        each = list(regimes(operation))
        yield pytest.param(each[number % len(each)], id=f"{operation.name}-{each[number % len(each)].name}")


@pytest.mark.parametrize("regime", list(of_right_ones()))
def test_a_right_operation_is_not_accused(regime):
    call = regime.make()
    result = gradcheck.check(call.f, *call.inputs, max_seconds=SECONDS, **call.keywords)
    accused = [finding for finding in result.findings if finding.evidence.verdict != "unstable"]
    assert not accused, result
