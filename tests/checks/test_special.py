from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from gradcheck.checks import special
from gradcheck.checks.special import table
from gradcheck.families import special_values
from gradcheck.formats import FLOAT16, FLOAT32, FORMATS
from gradcheck.formulas import get_formula
from gradcheck.records import Case, Verdict
from gradcheck.subjects.numpy import NUMPY


def case_of(fmt):
    return Case("special", fmt, (np.zeros(1, fmt.dtype),))


def answering(name, at, answer, fmt=FLOAT32):
    """The right implementation, but for its answer at one point."""
    right = NUMPY.implement(get_formula(name), fmt)

    def forward(inputs, options):
        x = inputs[0].astype(np.float64)
        here = np.isnan(x) if math.isnan(at) else (x == at) & (np.signbit(x) == np.signbit(at))
        return np.where(here, fmt.dtype.type(answer), right.forward(inputs, options)).astype(fmt.dtype)

    return replace(right, forward=forward)


@pytest.mark.parametrize("fmt", FORMATS, ids=lambda fmt: fmt.name)
@pytest.mark.parametrize("name", ["relu", "sigmoid", "tanh", "elu", "hardtanh", "softsign"])
def test_a_right_implementation_passes_in_silence(name, fmt):
    formula = get_formula(name)
    evidence = special(NUMPY.implement(formula, fmt), formula, case_of(fmt))
    assert not evidence.verdict.is_finding, evidence
    assert evidence.compared > 0


@pytest.mark.parametrize(
    ("name", "at", "answer"),
    [
        ("relu", math.nan, 0.0),
        ("relu", math.inf, math.nan),
        ("relu", -math.inf, -math.inf),
        ("hardtanh", FLOAT32.least_subnormal, 0.0),
        ("softsign", -0.0, 0.0),
        ("softsign", math.inf, 0.99),
        ("hardtanh", FLOAT32.largest, 0.99),
        ("hardtanh", math.inf, math.nan),
        ("tanh", math.nan, 1.0),
        ("tanh", math.inf, 0.5),
        ("sigmoid", -math.inf, 1.0),
        ("sigmoid", 0.0, 0.0),
        ("softplus", -FLOAT32.largest, 1.0),
        ("elu", FLOAT32.largest, math.inf),
    ],
)
def test_one_wrong_answer_is_told(name, at, answer):
    evidence = special(answering(name, at, answer), get_formula(name), case_of(FLOAT32))
    assert evidence.verdict is Verdict.WRONG


@pytest.mark.parametrize(
    ("name", "at", "answer", "text"),
    [
        ("tanh", math.inf, math.nan, "(e^x - e^-x)/(e^x + e^-x)"),
        ("tanh", -0.0, 0.0, "(e^x - e^-x)/(e^x + e^-x)"),
        ("sigmoid", math.inf, math.nan, "e^x/(1 + e^x)"),
        ("relu", FLOAT32.largest, math.inf, "(x + |x|)/2, overflows"),
    ],
)
def test_an_answer_of_an_unstable_text_is_told_and_the_text_named(name, at, answer, text):
    evidence = special(answering(name, at, answer), get_formula(name), case_of(FLOAT32))
    assert evidence.verdict is Verdict.UNSTABLE
    assert text in evidence.explained_by


def test_an_answer_that_is_wrong_in_company_only_is_told():
    right = NUMPY.implement(get_formula("tanh"), FLOAT32)

    def forward(inputs, options):
        output = right.forward(inputs, options)
        return np.full_like(output, np.nan) if output.size > 1 and np.isnan(output).any() else output

    assert (
        special(replace(right, forward=forward), get_formula("tanh"), case_of(FLOAT32)).verdict
        is Verdict.WRONG
    )


def test_a_gradient_of_nan_at_infinity_is_told():
    right = NUMPY.implement(get_formula("hardtanh"), FLOAT32)

    def vjp(inputs, cotangent, options):
        with np.errstate(invalid="ignore"):
            return (inputs[0] * 0 + right.vjp(inputs, cotangent, options)[0],)

    evidence = special(replace(right, vjp=vjp), get_formula("hardtanh"), case_of(FLOAT32))
    assert evidence.verdict is Verdict.WRONG and evidence.breaches["nan"] >= 2


@pytest.mark.parametrize("fmt", [FLOAT32, FLOAT16], ids=lambda fmt: fmt.name)
def test_the_table_has_a_row_for_every_point_and_order(fmt):
    formula = get_formula("tanh")
    rows = table(NUMPY.implement(formula, fmt), formula, fmt, {})
    assert len(rows) == 2 * len(special_values(fmt))
    assert all(row.accepted for row in rows)
    assert {row.at for row in rows} >= {"+0", "-0", "+inf", "-inf", "nan", "+largest", "-least subnormal"}
    (at_infinity,) = [row for row in rows if row.at == "+inf" and row.order == "value"]
    assert (at_infinity.limit, at_infinity.got) == ("1.0", "1.0")


@pytest.mark.parametrize("name", ["hardtanh", "tanh"])
def test_the_table_shows_what_is_refused(name):
    rows = table(answering(name, math.inf, math.nan), get_formula(name), FLOAT32, {})
    assert [(row.at, row.order, row.got) for row in rows if not row.accepted] == [("+inf", "value", "nan")]


def test_the_table_names_an_exception():
    def forward(inputs, options):
        raise OverflowError("no")

    formula = get_formula("tanh")
    rows = table(replace(NUMPY.implement(formula, FLOAT32), forward=forward, vjp=None), formula, FLOAT32, {})
    assert {row.got for row in rows} == {"OverflowError"} and not any(row.accepted for row in rows)
