from __future__ import annotations

import math

import numpy as np
import pytest

from gradcheck.checks.semantics import semantics
from gradcheck.formats import BFLOAT16, FLOAT16, FLOAT32, FLOAT64, FORMATS
from gradcheck.formulas import CATALOGUE, get_formula
from gradcheck.records import DERIVATIVE, SECOND, VALUE, Formula, Standing, Variant

INF, NAN = math.inf, math.nan


def accepts(name, order, point, got, *, fmt=FLOAT32, factor=1.0, options=None):
    table = semantics(get_formula(name), order, fmt, options or {}, point)
    return table.judge(got, factor, order == VALUE)


@pytest.mark.parametrize("fmt", FORMATS, ids=lambda fmt: fmt.name)
@pytest.mark.parametrize(
    ("name", "order", "point", "got"),
    [
        ("relu", VALUE, INF, INF),
        ("relu", VALUE, NAN, NAN),
        ("relu", DERIVATIVE, 0.0, 0.0),
        ("relu", DERIVATIVE, INF, 1.0),
        ("sigmoid", VALUE, INF, 1.0),
        ("sigmoid", VALUE, -INF, 0.0),
        ("sigmoid", VALUE, 0.0, 0.5),
        ("sigmoid", DERIVATIVE, -INF, 0.0),
        ("tanh", VALUE, -INF, -1.0),
        ("tanh", VALUE, -0.0, -0.0),
        ("softplus", VALUE, -INF, 0.0),
        ("elu", VALUE, -INF, -1.0),
        ("gelu", VALUE, INF, INF),
        ("log_sigmoid", VALUE, -INF, -INF),
    ],
)
def test_the_limit_is_accepted(name, order, point, got, fmt):
    assert accepts(name, order, point, got, fmt=fmt) == (True, "")


@pytest.mark.parametrize(
    ("name", "order", "point", "got"),
    [
        ("relu", VALUE, INF, NAN),
        ("relu", VALUE, NAN, 0.0),
        ("relu", DERIVATIVE, INF, 0.0),
        ("sigmoid", VALUE, INF, 0.999),
        ("sigmoid", VALUE, -INF, NAN),
        ("sigmoid", VALUE, 0.0, 0.0),
        ("sigmoid", DERIVATIVE, INF, 1.0),
        ("tanh", VALUE, -INF, 1.0),
        ("tanh", VALUE, -0.0, 1e-30),
        ("softplus", VALUE, INF, 3.4e38),
        ("elu", VALUE, -INF, 0.0),
        ("gelu", VALUE, INF, 0.0),
    ],
)
def test_what_is_not_in_the_set_is_refused(name, order, point, got):
    assert accepts(name, order, point, got) == (False, "")


def test_the_sign_of_zero_is_that_of_the_limit():
    assert accepts("tanh", VALUE, -0.0, -0.0)[0] and accepts("tanh", VALUE, 0.0, 0.0)[0]
    assert not accepts("tanh", VALUE, -0.0, 0.0)[0] and not accepts("tanh", VALUE, 0.0, -0.0)[0]


def test_the_sign_of_zero_is_free_where_the_formula_is_zero_beside_it():
    assert accepts("relu", VALUE, -0.0, 0.0)[0] and accepts("relu", VALUE, -0.0, -0.0)[0]


def test_the_sign_of_a_zero_gradient_means_nothing():
    assert accepts("relu", DERIVATIVE, -INF, -0.0)[0] and accepts("relu", DERIVATIVE, -INF, 0.0)[0]


def test_a_limit_of_zero_is_reached_with_either_sign():
    assert accepts("sigmoid", VALUE, -INF, -0.0)[0] and accepts("sigmoid", VALUE, -INF, 0.0)[0]


def test_an_unstable_text_is_named():
    formula = Formula(
        "half",
        "",
        "",
        "",
        lambda x: x / 2,
        derivative=lambda x: 0.5 + 0 * x,
        variants=(Variant("x - x/2", VALUE, Standing.UNSTABLE, lambda x: x - x / 2),),
        limits=lambda: ((-INF, INF), (0.5, 0.5), (0.0, 0.0)),
    )
    assert semantics(formula, VALUE, FLOAT32, {}, INF).judge(INF, 1.0, True) == (True, "")
    assert semantics(formula, VALUE, FLOAT32, {}, INF).judge(NAN, 1.0, True) == (False, "x - x/2")
    assert semantics(formula, VALUE, FLOAT32, {}, INF).judge(0.0, 1.0, True) == (False, "")


def test_a_gradient_is_scaled_by_its_cotangent():
    third = float(np.float32(1 / 3))
    assert accepts("sigmoid", DERIVATIVE, 0.0, third / 4, factor=third)[0]
    assert accepts("sigmoid", DERIVATIVE, 0.0, float(np.nextafter(np.float32(third / 4), 1)), factor=third)[0]
    assert not accepts("sigmoid", DERIVATIVE, 0.0, third / 4 * (1 + 1e-4), factor=third)[0]
    assert not accepts("sigmoid", DERIVATIVE, 0.0, -third / 4, factor=third)[0]
    assert accepts("relu", DERIVATIVE, INF, -2.0, factor=-2.0)[0]


def test_options_move_the_limit():
    assert accepts("elu", VALUE, -INF, -0.5, options={"alpha": 0.5})[0]
    assert not accepts("elu", VALUE, -INF, -1.0, options={"alpha": 0.5})[0]


@pytest.mark.parametrize("fmt", [FLOAT64, FLOAT16, BFLOAT16], ids=lambda fmt: fmt.name)
def test_every_formula_accepts_its_own_limit_and_nothing_far_from_it(fmt):
    for formula in CATALOGUE:
        if not formula.elementwise:
            continue
        for order in (VALUE, DERIVATIVE, SECOND):
            if order == SECOND and formula.second is None:
                continue
            for point in (INF, -INF):
                table = semantics(formula, order, fmt, {}, point)
                assert table.judge(table.limit, 1.0, order == VALUE) == (True, ""), (
                    formula.name,
                    order,
                    point,
                )
                assert not table.judge(12345.0, 1.0, order == VALUE)[0], (formula.name, order, point)
