"""Softmax and its logarithms: values by hand, edges, proofs, right programs in silence, liars caught."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import scipy.special
import torch

from gradcheck import checks
from gradcheck.formats import BFLOAT16, FLOAT16, FLOAT32, FLOAT64
from gradcheck.formulas import log_softmax, logsumexp, softmax
from gradcheck.formulas.softmax import FORMULAS
from gradcheck.records import DERIVATIVE, SECOND, VALUE, Case, Verdict
from gradcheck.subjects.numpy import NUMPY
from gradcheck.subjects.scipy import SCIPY
from gradcheck.subjects.torch import CPU
from tests.formulas.losing import apart, seen, standing_in

INF, NAN = math.inf, math.nan
GOOD = (Verdict.ACCURATE, Verdict.AGREES)


def test_values_by_hand() -> None:
    x = np.array([0.0, math.log(3.0)])
    assert softmax(x) == pytest.approx([0.25, 0.75], rel=1e-15)
    assert log_softmax(x) == pytest.approx([-math.log(4), math.log(0.75)], rel=1e-15)
    assert float(logsumexp(x)) == pytest.approx(math.log(4), rel=1e-15)
    assert softmax(np.array([1000.0, 1000.0])).tolist() == [0.5, 0.5]
    assert float(logsumexp(np.array([-1000.0, -1000.0]))) == pytest.approx(math.log(2) - 1000, rel=1e-15)


def test_the_axis_is_the_one_that_sums_to_one() -> None:
    x = np.arange(24.0).reshape(2, 3, 4) % 7
    for axis in (-3, -1, 0, 1, 2):
        assert np.sum(softmax(x, axis=axis), axis=axis) == pytest.approx(1.0)
        assert logsumexp(x, axis=axis) == pytest.approx(scipy.special.logsumexp(x, axis=axis))


def test_one_element_has_all_the_weight_and_no_rows_are_no_rows() -> None:
    one = np.array([-7.5])
    assert softmax(one).tolist() == [1.0] and log_softmax(one).tolist() == [0.0]
    assert float(logsumexp(one)) == -7.5
    for formula in (softmax, log_softmax):
        assert formula(np.zeros((0, 3))).shape == (0, 3)
    assert logsumexp(np.zeros((0, 3))).shape == (0,)
    with pytest.raises(ValueError, match="zero-size"):
        softmax(np.zeros((3, 0)))


def test_infinities_have_their_limits() -> None:
    with np.errstate(all="ignore"):
        assert float(logsumexp(np.array([INF, 0.0]))) == INF
        assert float(logsumexp(np.array([-INF, -INF]))) == -INF
        assert float(logsumexp(np.array([-INF, 2.0]))) == 2.0
        assert np.isnan(logsumexp(np.array([NAN, INF])))
        assert np.isnan(softmax(np.array([INF, 0.0]))).all()
        assert np.isnan(softmax(np.array([-INF, -INF]))).all()
        assert softmax(np.array([-INF, 0.0])).tolist() == [0.0, 1.0]
        assert log_softmax(np.array([-INF, 0.0])).tolist() == [-INF, 0.0]


def test_a_gradient_by_hand() -> None:
    assert softmax.vjp is not None and log_softmax.vjp is not None and logsumexp.vjp is not None
    x, c = np.array([0.0, math.log(3.0)]), np.array([1.0, 0.0])
    assert softmax.vjp((x,), c, axis=-1)[0] == pytest.approx([3 / 16, -3 / 16], rel=1e-14)
    assert log_softmax.vjp((x,), c, axis=-1)[0] == pytest.approx([0.75, -0.75], rel=1e-14)
    assert logsumexp.vjp((x,), np.float64(2.0), axis=-1)[0] == pytest.approx([0.5, 1.5], rel=1e-14)


@pytest.mark.parametrize("formula", FORMULAS, ids=lambda f: f.name)
def test_the_gradient_is_proven_and_witnessed(formula) -> None:
    proven = seen(checks.proof, formula, FLOAT64, largest=3)
    assert proven.verdict is Verdict.ACCURATE and proven.compared > 20
    assert seen(checks.witness, formula, FLOAT64, largest=3, draws=20).verdict is Verdict.ACCURATE


@pytest.mark.parametrize("order", (VALUE, DERIVATIVE, SECOND))
@pytest.mark.parametrize("formula", FORMULAS, ids=lambda f: f.name)
def test_every_text_is_the_same_function(formula, order) -> None:
    assert apart(formula, order) == []


def by_fsum(x, *, axis):
    """One row after the other, summed exactly."""

    def row(values):
        m = float(max(values))
        e = [math.exp(float(v) - m) for v in values]
        return np.array(e) / math.fsum(e)

    return np.apply_along_axis(row, axis, x)


def by_longdouble(x, *, axis):
    wide = np.asarray(x, np.float64).astype(np.longdouble)
    e = np.exp(wide - np.max(wide, axis=axis, keepdims=True))
    return np.asarray(e / np.sum(e, axis=axis, keepdims=True), np.float64)


def by_logsumexp(x, *, axis):
    return np.exp(x - scipy.special.logsumexp(x, axis=axis, keepdims=True))


def by_float32(x, *, axis):
    e = np.exp(x - np.max(x, axis=axis, keepdims=True))
    return e / np.sum(e, axis=axis, keepdims=True)


@pytest.mark.parametrize("fmt", (FLOAT64, FLOAT32), ids=lambda f: f.name)
@pytest.mark.parametrize("right", (by_fsum, by_longdouble, by_logsumexp, by_float32))
def test_right_programs_of_other_kinds_stay_silent(right, fmt) -> None:
    found = seen(checks.value, softmax, fmt, standing_in(softmax, fmt, right), largest=33)
    assert found.verdict in GOOD, found.worst


@pytest.mark.parametrize("fmt", (FLOAT64, BFLOAT16), ids=lambda f: f.name)
@pytest.mark.parametrize("formula", FORMULAS, ids=lambda f: f.name)
def test_torch_and_our_own_text_stay_silent(formula, fmt) -> None:
    for subject, several in ((NUMPY, (checks.derivative,)), (CPU, (checks.second, checks.layout))):
        for check in several:
            found = seen(check, formula, fmt, subject.implement(formula, fmt), draws=8)
            # The bounds of a second derivative in bfloat16 are often as wide as what is there.
            good = (*GOOD, Verdict.VACUOUS) if (check, fmt) == (checks.second, BFLOAT16) else GOOD
            assert found.verdict in good, (subject.name, check.__name__, found.worst)


@pytest.mark.parametrize("formula", FORMULAS, ids=lambda f: f.name)
def test_special_numbers_do_what_a_listed_text_does(formula) -> None:
    for subject in (NUMPY, CPU, SCIPY):
        found = seen(checks.special, formula, FLOAT32, subject.implement(formula, FLOAT32), draws=2)
        assert found.verdict is Verdict.ACCURATE, (subject.name, found.worst)


@pytest.mark.parametrize("size", (1000, 1_000_000))
def test_long_rows_stay_silent_and_a_lost_tail_does_not(size) -> None:
    values = np.random.default_rng(3).normal(size=(1, size)).astype(np.float32)
    case = Case("plain", FLOAT32, (values,), None, {"axis": 1}, 3)
    for forward in (
        by_longdouble,
        by_float32,
        lambda x, axis: torch.softmax(torch.from_numpy(x), axis).numpy(),
    ):
        found = checks.value(standing_in(softmax, FLOAT32, forward), softmax, case)
        assert found.verdict in GOOD, found.worst

    def tail_lost(x, *, axis):
        return np.where(np.arange(size) < size - 1, by_longdouble(x, axis=axis), 0)

    assert checks.value(standing_in(softmax, FLOAT32, tail_lost), softmax, case).verdict is Verdict.WRONG


LIARS = {
    "another axis": (softmax, lambda x, *, axis: by_float32(x, axis=0), None),
    "no shift": (softmax, lambda x, *, axis: np.exp(x) / np.sum(np.exp(x), axis=axis, keepdims=True), None),
    "base two": (softmax, lambda x, *, axis: by_float32(x * np.float32(0.693), axis=axis), None),
    "the sum without the largest": (
        softmax,
        lambda x, *, axis: (
            np.exp(x - np.max(x, axis=axis, keepdims=True))
            / np.maximum(
                np.sum(np.exp(x - np.max(x, axis=axis, keepdims=True)), axis=axis, keepdims=True) - 1, 1
            )
        ),
        None,
    ),
    "the Jacobian's diagonal alone": (
        softmax,
        None,
        lambda inputs, c, *, axis: (by_float32(inputs[0], axis=axis) * c,),
    ),
    "y(1 - y) as for a sigmoid": (
        softmax,
        None,
        lambda inputs, c, *, axis: (
            c * by_float32(inputs[0], axis=axis) * (1 - by_float32(inputs[0], axis=axis)),
        ),
    ),
    "no sum of the cotangent": (
        log_softmax,
        None,
        lambda inputs, c, *, axis: (c - by_float32(inputs[0], axis=axis) * c,),
    ),
    "log10": (log_softmax, lambda x, *, axis: np.log10(by_longdouble(x, axis=axis)), None),
    "the maximum is not added back": (
        logsumexp,
        lambda x, *, axis: scipy.special.logsumexp(x, axis=axis) - np.max(x, axis=axis),
        None,
    ),
}


@pytest.mark.parametrize("name", LIARS)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_liars_are_caught(name) -> None:
    formula, forward, vjp = LIARS[name]
    check = checks.value if forward is not None else checks.derivative
    found = seen(check, formula, FLOAT32, standing_in(formula, FLOAT32, forward, vjp), draws=20)
    assert found.verdict.is_finding


def test_the_unstable_text_is_named() -> None:
    def printed(x, *, axis):
        with np.errstate(all="ignore"):
            return np.exp(x) / np.sum(np.exp(x), axis=axis, keepdims=True)

    case = Case("offset", FLOAT32, (np.array([100.0, 101.0], np.float32),), None, {"axis": 0})
    found = checks.value(standing_in(softmax, FLOAT32, printed), softmax, case)
    assert found.verdict is Verdict.UNSTABLE and found.explained_by == ("e^x / Σ e^x, overflows",)


def test_16_bits_are_held_to_a_bound_that_says_something() -> None:
    for fmt in (FLOAT16, BFLOAT16):
        found = seen(checks.value, replace(softmax, families=("plain",)), fmt, CPU.implement(softmax, fmt))
        assert found.verdict in GOOD and 0 < found.resolution < 0.5
