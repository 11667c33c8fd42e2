"""The residual connection, and dropout with a given mask: values by hand, edges, proofs, liars."""

from __future__ import annotations

from dataclasses import replace

import hypothesis
import numpy as np
import pytest

from gradcheck import cases, checks
from gradcheck.errors import UsageError
from gradcheck.formats import BFLOAT16, FLOAT32, FLOAT64
from gradcheck.formulas import dropout, residual
from gradcheck.records import Evidence, Verdict
from gradcheck.subjects.numpy import NUMPY
from gradcheck.subjects.torch import CPU

DRAWS = hypothesis.settings(max_examples=8, derandomize=True, database=None, deadline=None)


def seen(check, formula, fmt, implementation=None, largest=9):
    total = Evidence()

    def run(case):
        nonlocal total
        given = () if implementation is None else (implementation,)
        total = total.merge(check(*given, formula, case))

    hypothesis.given(cases.several_inputs(formula, fmt, largest))(DRAWS(run))()
    return total


def test_a_residual_connection_by_hand():
    x, branch = np.array([[1.0, -2.0]]), np.array([[0.5, 4.0]])
    assert residual(x, branch).tolist() == [[1.5, 2.0]]
    assert residual(x, branch, scale=-2.0).tolist() == [[0.0, -10.0]]
    gradients = residual.vjp((x, branch), np.array([[3.0, 5.0]]), **residual.complete({"scale": -2.0}))
    assert [g.tolist() for g in gradients] == [[[3.0, 5.0]], [[-6.0, -10.0]]]


def test_a_residual_connection_broadcasts_nothing():
    with pytest.raises(UsageError, match="broadcast"):
        residual(np.ones((2, 3)), np.ones((2, 1)))
    with pytest.raises(UsageError, match="scale"):
        residual(np.ones((1, 1)), np.ones((1, 1)), scale=float("nan"))


def test_dropout_by_hand():
    x, mask = np.array([[1.0, -2.0, 3.0]]), np.array([[1.0, 0.0, 1.0]])
    assert dropout(x, mask, p=0.75).tolist() == [[4.0, 0.0, 12.0]]
    assert dropout(x, np.ones_like(x), p=0.0).tolist() == x.tolist()
    assert not dropout(x, mask, p=1.0).any()
    gradient, none = dropout.vjp((x, mask), np.array([[1.0, 1.0, 0.5]]), **dropout.complete({"p": 0.5}))
    assert gradient.tolist() == [[2.0, 0.0, 1.0]] and none is None


@pytest.mark.parametrize("p", [-0.1, 1.5, float("nan")])
def test_a_probability_lies_between_zero_and_one(p):
    with pytest.raises(UsageError, match="p="):
        dropout(np.ones((1, 1)), np.ones((1, 1)), p=p)


@pytest.mark.parametrize("formula", [residual, dropout], ids=lambda f: f.name)
def test_the_gradients_are_proven(formula):
    found = seen(checks.proof, formula, FLOAT64, largest=3)
    assert found.verdict is Verdict.ACCURATE and not found.undecided


@pytest.mark.parametrize("fmt", [FLOAT32, BFLOAT16], ids=lambda f: f.name)
def test_right_programs_pass_in_silence(fmt):
    for formula, subject in ((residual, NUMPY), (residual, CPU), (dropout, NUMPY)):
        for check in (checks.value, checks.derivative):
            assert seen(check, formula, fmt, subject.implement(formula, fmt)).verdict is Verdict.ACCURATE


def test_a_program_in_double_and_one_with_the_scale_inside_pass_too():
    right = NUMPY.implement(residual, FLOAT32)
    for forward in (
        lambda i, o: (i[0].astype(float) + o["scale"] * i[1].astype(float)).astype(np.float32),
        lambda i, o: i[0] - np.float32(-o["scale"]) * i[1],
    ):
        assert seen(checks.value, residual, FLOAT32, replace(right, forward=forward)).verdict.passed


@pytest.mark.parametrize(
    "lie",
    [
        lambda i, c, o: (c, c),
        lambda i, c, o: (np.float32(o["scale"]) * c, np.float32(o["scale"]) * c),
        lambda i, c, o: (np.zeros_like(c), np.float32(o["scale"]) * c),
        lambda i, c, o: (c.T.reshape(c.shape), np.float32(o["scale"]) * c),
    ],
    ids=["no scale", "scale on both", "no skip", "transposed"],
)
def test_wrong_gradients_of_a_residual_connection_are_told(lie):
    made = replace(NUMPY.implement(residual, FLOAT32), vjp=lambda i, c, o: tuple(map(np.array, lie(i, c, o))))
    assert seen(checks.derivative, residual, FLOAT32, made).verdict is Verdict.WRONG
