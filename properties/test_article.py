"""The article's formulas as printed, each beside its reference on the domain that the article means."""

from __future__ import annotations

import math

import pytest
from hypothesis import strategies as st

from gradcheck import article, claim, derivative, formulas

ANY = st.floats(-1e4, 1e4)


def vectors(least: int) -> st.SearchStrategy[dict[str, list[float]]]:
    """Draw inputs and weights of one length, at least `least`."""
    number = st.floats(-8, 8)
    return st.integers(least, 6).flatmap(
        lambda n: st.fixed_dictionaries(
            {
                "x": st.lists(number, min_size=n, max_size=n),
                "w": st.lists(number, min_size=n, max_size=n),
            }
        )
    )


@claim(id="F01", neuron=vectors(2), b=st.floats(-8, 8))
def preactivation(np, x, w, b):
    return article.printed_preactivation(x, w, b), formulas.preactivation(x, w, b)


@claim(id="F02", neuron=vectors(1), b=st.floats(-8, 8))
def neuron_slope(np, x, w, b):
    slope = derivative(formulas.sigmoid)
    return article.printed_neuron_slope(x, w, b), slope(formulas.preactivation(x, w, b))


@claim(id="F07", x=ANY)
def relu(np, x):
    return article.printed_relu(x), formulas.relu(x)


@claim(id="F07.derivative", x=st.floats(-1e4, 0, exclude_max=True))
def relu_slope(np, x):
    return np.zeros_like(x), derivative(article.printed_relu)(x)


@claim(id="F08", x=ANY)
def sigmoid(np, x):
    return article.printed_sigmoid(x), formulas.sigmoid(x)


@claim(id="F08.limits", x=st.floats(1e3, 1e300))
def limits_of_exp(np, x):
    return float(np.exp(-np.inf)) == 0 and math.isinf(np.exp(np.inf)) and bool(np.exp(-x) < 1e-300)


@claim(id="F08.derivative", x=ANY)
def sigmoid_slope(np, x):
    return article.printed_sigmoid_slope(x), derivative(formulas.sigmoid)(x)


@claim(id="F09", x=ANY, alpha=st.floats(0, 1, exclude_min=True, exclude_max=True))
def leaky_relu(np, x, alpha):
    return article.printed_leaky_relu(x, alpha), formulas.leaky_relu(x, alpha)


MEASURED = (preactivation, neuron_slope, relu, relu_slope, sigmoid, limits_of_exp, sigmoid_slope, leaky_relu)


@pytest.mark.parametrize("item", MEASURED, ids=lambda item: item.id)
def test_a_printed_formula_is_measured_on_its_domain(item, gradcheck_run):
    measured = gradcheck_run.measure(item)
    assert measured is None or measured.compared > 0


def test_claims_of_a_user_are_measured(gradcheck_run):
    for item in gradcheck_run.user_claims():
        assert gradcheck_run.measure(item).id == item.id
