from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from gradcheck.checks import derivative, module, second, value
from gradcheck.formats import BFLOAT16, FLOAT32, FLOAT64, FORMATS
from gradcheck.formulas import get_formula
from gradcheck.records import Case, Verdict
from gradcheck.subjects.numpy import NUMPY

TANH = get_formula("tanh")
X = np.linspace(-3, 3, 33)


def subject(name="tanh", fmt=FLOAT32, **changes):
    return replace(NUMPY.implement(get_formula(name), fmt), **changes)


def case_of(fmt=FLOAT32, x=X, **more):
    x = np.asarray(x).astype(fmt.dtype)
    return Case("plain", fmt, (x,), np.full(x.shape, -0.75).astype(fmt.dtype), **more)


@pytest.mark.parametrize("fmt", FORMATS, ids=lambda fmt: fmt.name)
@pytest.mark.parametrize("check", [value, derivative, second, module])
def test_a_right_implementation_passes_in_silence(check, fmt):
    evidence = check(subject(fmt=fmt), TANH, case_of(fmt))
    assert evidence.verdict.passed and not evidence.breaches
    assert evidence.compared == X.size * (2 if check is module else 1)


@pytest.mark.parametrize("place", [0, 16, 32])
@pytest.mark.parametrize("off", [1e-4, np.nan, np.inf])
def test_one_wrong_element_is_told_with_its_place(place, off):
    right = subject()

    def forward(inputs, options):
        output = right.forward(inputs, options).copy()
        output[place] += np.float32(off)
        return output

    evidence = value(subject(forward=forward), TANH, case_of())
    assert evidence.verdict is Verdict.WRONG and evidence.outside_unstable == 1
    assert evidence.worst.input == (float(np.float32(X[place])),)


@pytest.mark.parametrize(
    "wrong", [lambda g, c: g * 1.01, lambda g, c: g / c, lambda g, c: -g, lambda g, c: g * c]
)
@pytest.mark.parametrize("check", ["vjp", "second"])
def test_a_wrong_gradient_is_told(wrong, check):
    right = getattr(subject(), check)
    spoiled = subject(**{check: lambda inputs, c, *rest: (wrong(right(inputs, c, *rest)[0], c),)})
    run = derivative if check == "vjp" else second
    assert run(spoiled, TANH, case_of()).verdict is Verdict.WRONG


@pytest.mark.parametrize(
    ("breach", "forward"),
    [
        ("shape", lambda x: np.tanh(x)[:-1]),
        ("shape", lambda x: np.tanh(x)[None]),
        ("shape", lambda x: np.float32(0.5)),
        ("format", lambda x: np.tanh(x).astype(np.float64)),
        ("format", lambda x: np.tanh(x).astype(np.complex64)),
        ("format", lambda x: np.array([object()] * x.size)),
        ("format", lambda x: np.array(["0.5"] * x.size)),
        ("raised", lambda x: 1 // 0),
        ("mutation", lambda x: np.tanh(x, out=x)),
        ("mutation", lambda x: x[...]),
    ],
)
def test_shape_format_mutation_and_exceptions_are_told(breach, forward):
    evidence = value(subject(forward=lambda inputs, options: forward(inputs[0])), TANH, case_of())
    assert evidence.verdict is Verdict.WRONG and breach in evidence.breaches


def test_a_gradient_that_writes_to_its_cotangent_is_told():
    right = subject().vjp

    def vjp(inputs, cotangent, options):
        gradients = right(inputs, cotangent, options)
        cotangent *= 2
        return gradients

    assert "mutation" in derivative(subject(vjp=vjp), TANH, case_of()).breaches


@pytest.mark.parametrize("gradients", [(), (np.zeros(33), np.zeros(33)), np.zeros(33), None, 3.0])
def test_a_wrong_number_of_gradients_is_told(gradients):
    evidence = derivative(subject(vjp=lambda *given: gradients), TANH, case_of())
    assert evidence.verdict is Verdict.WRONG and {"shape", "raised"} & set(evidence.breaches)


def test_a_missing_gradient_is_told_where_the_truth_is_not_zero():
    spoiled = subject(vjp=lambda *given: (None,))
    assert "missing" in derivative(spoiled, TANH, case_of()).breaches
    flat = subject("relu", vjp=lambda *given: (None,))
    assert not derivative(flat, get_formula("relu"), case_of(x=-1 - np.abs(X))).breaches


def test_a_zero_of_the_wrong_sign_is_told():
    x = np.array([-1e-40, 1e-40, 0.5])
    lost = subject(
        forward=lambda inputs, options: np.where(
            np.abs(inputs[0]) < 1e-38, -inputs[0] * 0, np.tanh(inputs[0])
        )
    )
    assert value(lost, TANH, case_of(x=x)).verdict is Verdict.WRONG
    assert value(subject(), TANH, case_of(x=x)).verdict.passed


def test_flushed_subnormal_numbers_are_named():
    hardtanh = get_formula("hardtanh")
    x = np.array([1e-40, -2e-41, 0.5])
    flush = subject(
        "hardtanh",
        forward=lambda inputs, options: np.where(np.abs(inputs[0]) < 1e-38, 0 * inputs[0], inputs[0]),
    )
    assert value(flush, hardtanh, case_of(x=x)).breaches["flushed"] == 2
    assert not value(subject("hardtanh"), hardtanh, case_of(x=x)).breaches


@pytest.mark.parametrize("fmt", [FLOAT64, BFLOAT16], ids=lambda fmt: fmt.name)
def test_evidence_says_what_was_drawn(fmt):
    evidence = value(
        subject("elu", fmt), get_formula("elu"), case_of(fmt, options={"alpha": 0.5}, specials=2)
    )
    assert evidence.families == {"plain": 33} and evidence.cases == 1
    assert evidence.options == {"alpha": 0.5} and evidence.specials == 2
    assert sum(evidence.binades.values()) == 33


def test_a_draw_that_is_saturated_throughout_tests_nothing() -> None:
    x = np.linspace(40.0, 60.0, 64)
    case = Case("saturated", FLOAT64, (x,), np.ones(64), {})
    sigmoid = get_formula("sigmoid")
    implementation = NUMPY.implement(sigmoid, FLOAT64)
    assert value(implementation, sigmoid, case).verdict is Verdict.VACUOUS
    wider = replace(case, inputs=(np.linspace(-10.0, 60.0, 64),))
    assert value(implementation, sigmoid, wider).verdict.passed


@pytest.mark.parametrize("name", ["relu", "tanh"])
def test_subnormal_numbers_may_become_zero_only_where_that_is_declared(name):
    case = case_of(x=[FLOAT32.least_subnormal, -FLOAT32.least_normal / 2, 0.5, 3.0])
    right = subject(name)

    def flushing(inputs, options):
        return right.forward((np.where(np.abs(inputs[0]) < FLOAT32.least_normal, 0, inputs[0]),), options)

    assert value(replace(right, forward=flushing), get_formula(name), case).verdict.is_finding
    declared = replace(right, forward=flushing, flushes=True)
    seen = value(declared, get_formula(name), case)
    assert seen.verdict is Verdict.ACCURATE and "declares" in seen.notes[0]
    off = replace(declared, forward=lambda *given: flushing(*given) * np.float32(1.001))
    assert value(off, get_formula(name), case).verdict is Verdict.WRONG


def test_what_a_formula_lets_be_refused_may_be_refused_but_not_answered_wrongly():
    batch_norm = get_formula("batch_norm")
    one = np.full((1, 3), 2.0), np.full(3, 1.5), np.full(3, 0.5)
    options = {"eps": 1e-3, "affine": True}

    def refuse(inputs, options):
        raise ValueError("more than one value per channel, please")

    def lie(inputs, options):
        return 0 * inputs[0]

    case = Case("plain", FLOAT64, one, options=options)
    verdicts = {
        forward: value(subject("batch_norm", FLOAT64, forward=forward), batch_norm, case).verdict
        for forward in (refuse, lie)
    }
    assert verdicts == {refuse: Verdict.VACUOUS, lie: Verdict.WRONG}
    assert "refused" in value(subject("batch_norm", FLOAT64, forward=refuse), batch_norm, case).notes[0]
    two = replace(case, inputs=(np.array([[1.0, 2, 3], [4, 5, 7]]), *one[1:]))
    assert value(subject("batch_norm", FLOAT64, forward=refuse), batch_norm, two).verdict is Verdict.WRONG
