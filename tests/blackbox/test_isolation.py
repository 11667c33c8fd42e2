"""With `isolate` the function is run in a second process, and both must give the same bits."""

from __future__ import annotations

import os
import time

import numpy as np
import pytest
import torch

import gradcheck
from gradcheck.blackbox import elsewhere
from tests.blackbox import process_functions as functions

X = torch.tensor([[0.5, -1.25, 2.0], [0.75, 3.0, -0.5]], dtype=torch.float64)
SAME = {"isolate": True, "checks": ("state", "jacobian"), "max_seconds": 60.0}


@pytest.mark.parametrize(
    "name", ["by_hash", "by_order_of_a_set", "by_process", "by_address", "by_environment"]
)
def test_what_depends_on_the_process_is_found(name):
    f = getattr(functions, name)
    here = gradcheck.check(f, X, checks=SAME["checks"], max_seconds=60.0)
    assert not here.findings, here
    if name == "by_order_of_a_set":
        # One order in two is that of the other process as well.
        assert not gradcheck.check(f, X, **SAME).unfinished
        return
    result = gradcheck.check(f, X, **SAME)
    assert [finding.code for finding in result.findings] == ["STATE-INCONSISTENT"], result
    assert "in a fresh interpreter" in result.findings[0].message


def test_a_gradient_that_depends_on_the_process_is_found():
    result = gradcheck.check(functions.Scaled.apply, X, **SAME)
    assert [finding.code for finding in result.findings] == ["STATE-INCONSISTENT"], result
    assert "the gradient of input 0" in result.findings[0].message
    result = gradcheck.check(functions.square, X.numpy(), vjp=functions.pull_by_hash, **SAME)
    assert "STATE-INCONSISTENT" in {finding.code for finding in result.findings}, result


def test_what_does_not_depend_on_it_passes():
    assert gradcheck.check(functions.right, X, **SAME).ok
    assert gradcheck.check(functions.square, X.numpy(), vjp=functions.pull, **SAME).ok
    result = gradcheck.check(functions.square, X.numpy(), vjp=functions.pull, **SAME)
    (state,) = (each for each in result.checks if each.cell.check == "state")
    here = gradcheck.check(functions.square, X.numpy(), vjp=functions.pull, checks=SAME["checks"])
    assert state.evidence.compared > here.checks[0].evidence.compared


def test_a_function_that_cannot_be_imported_is_run_in_a_forked_process():
    pid = os.getpid()
    result = gradcheck.check(lambda x: x * (1 + (os.getpid() - pid) / 2**20), X, **SAME)
    assert [finding.code for finding in result.findings] == ["STATE-INCONSISTENT"], result
    assert "in a forked process" in result.findings[0].message
    assert gradcheck.check(lambda x: x * 2, X, **SAME).ok


def test_without_the_check_of_the_state_there_is_no_second_process(monkeypatch):
    monkeypatch.setattr(elsewhere, "answers", None)
    monkeypatch.setattr(elsewhere, "fresh", None)
    assert gradcheck.check(torch.tanh, X, isolate=True, checks="jacobian", max_seconds=60.0).ok


def test_bits_are_compared_and_what_does_not_repeat_itself_is_not_held_to_them():
    one = np.array([1.0, np.nan, 0.0])
    near = one * (1 + 2.0**-50)
    assert elsewhere.compared({"y": [one] * 3}, {"y": [one.copy()] * 3}, "it") == ([], 3)
    assert len(elsewhere.compared({"y": [one] * 3}, {"y": [near] * 3}, "it")[0]) == 1
    assert elsewhere.compared({"y": [one, near, one]}, {"y": [near] * 3}, "it")[0] == []
    assert len(elsewhere.compared({"y": [one, near, one]}, {"y": [1.1 * one] * 3}, "it")[0]) == 1
    assert len(elsewhere.compared({"y": [one]}, {"y": [np.array([1.0, np.nan, -0.0])]}, "it")[0]) == 1


def test_a_second_process_that_hangs_leaves_the_check_unfinished(monkeypatch):
    monkeypatch.setattr("gradcheck.blackbox.isolation._GRACE", 2.0)
    monkeypatch.setattr(elsewhere, "fresh", lambda task, what: None)
    own, forked = os.getpid(), elsewhere.forked

    def slow(call, task):
        return forked((lambda task: time.sleep(60)) if call is elsewhere.answers else call, task)

    monkeypatch.setattr(elsewhere, "forked", slow)
    result = gradcheck.check(torch.tanh, X, isolate=True, checks=("state",), max_seconds=2.0)
    assert os.getpid() == own and not result.findings and result.unfinished == ("state",), result
