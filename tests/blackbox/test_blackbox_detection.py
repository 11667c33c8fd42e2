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
# Checks do not depend on one another: what some of them find, all of them find.
BY_CAUSE = {
    "any input": ("jacobian", "values", "sizes"),
    "some values": ("jacobian", "values"),
    "some shapes": ("sizes",),
    "some layouts": ("layouts", "cotangents"),
    "some formats": ("formats",),
    "cotangent": ("jacobian", "cotangents", "batched"),
    "options": ("jacobian", "values"),
    "second order": ("second-order",),
    "state": ("state",),
}
# Operations that the corpus takes for right and PyTorch 2.13 has wrong, as plain PyTorch shows: the slope of
# celu and hardsigmoid has a constant of float32, that of hypot is NaN at the origin, mish's second one for
# large inputs, gelu loses its left tail, and batch_norm of (N, C) reads a weight as if it had no strides.
DEFECTS = (
    "celu",
    "gelu",
    "hardsigmoid",
    "hypot",
    "mish",
    "module-batch-norm-evaluated",
    "module-batch-norm-untracked",
)


@pytest.fixture(autouse=True)
def one_thread():
    """Small operations are slower on many threads, and the workers share the cores."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def caught(operation):
    """Whether the checks that look for such a cause find it, or else all of them do."""
    call = operation.make()
    first = BY_CAUSE.get(operation.cause)
    if first is not None and not {"reference", "vjp"} & set(call.keywords):
        if gradcheck.check(call.f, *call.inputs, checks=first, max_seconds=SECONDS).findings:
            return True
        call = operation.make()
    return bool(gradcheck.check(call.f, *call.inputs, max_seconds=SECONDS, **call.keywords).findings)


@pytest.mark.parametrize("operation", WRONG_BY_HAND, ids=lambda operation: operation.name)
def test_a_wrong_operation_is_caught(operation):
    assert caught(operation)


@pytest.mark.parametrize("operation", WRONG_BY_MUTATION[::6], ids=lambda operation: operation.name)
def test_a_mutant_is_caught(operation):
    assert caught(operation)


def of_right_ones():
    """One regime of every sixth operation, another one each time."""
    for number, operation in enumerate(CORRECT[::6]):
        if operation.name in DEFECTS:
            continue
        each = list(regimes(operation))
        yield pytest.param(each[number % len(each)], id=f"{operation.name}-{each[number % len(each)].name}")


@pytest.mark.parametrize("regime", list(of_right_ones()))
def test_a_right_operation_is_not_accused(regime):
    call = regime.make()
    result = gradcheck.check(call.f, *call.inputs, max_seconds=SECONDS, **call.keywords)
    accused = [finding for finding in result.findings if finding.evidence.verdict != "unstable"]
    assert not accused, result


@pytest.mark.parametrize("name", [name for name in DEFECTS if name in {each.name for each in CORRECT}])
def test_a_defect_of_pytorch_is_found(name):
    (operation,) = (each for each in CORRECT if each.name == name)
    calls = [regime.make() for regime in regimes(operation)]
    assert any(gradcheck.check(c.f, *c.inputs, max_seconds=SECONDS, **c.keywords).findings for c in calls)
