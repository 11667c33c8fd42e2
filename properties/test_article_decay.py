"""What the article says of weight decay, each beside the reference of the literature."""

from __future__ import annotations

import pytest
from hypothesis import strategies as st

from gradcheck import article, claim, formulas

NUMBER = st.floats(-2, 2, allow_subnormal=False)
DECAY = st.floats(1e-3, 1)


def matrix(rows, columns):
    row = st.lists(NUMBER, min_size=columns, max_size=columns)
    return st.lists(row, min_size=rows, max_size=rows)


def network():
    """Draw a network with one hidden layer and the data that it is to fit."""
    size = st.integers(1, 2)
    return st.tuples(size, size, size, size).flatmap(
        lambda n: st.fixed_dictionaries(
            {
                "x": matrix(n[0], n[1]),
                "y": matrix(n[0], n[3]),
                "w1": matrix(n[2], n[1]),
                "w2": matrix(n[3], n[2]),
            }
        )
    )


@claim(id="F10", share=0.15, drawn=network(), decay=DECAY)
def weight_decay(np, x, y, w1, w2, decay):
    decayed = formulas.l2_penalty(w1, decay=decay) + formulas.l2_penalty(w2, decay=decay)
    return article.printed_weight_decay(x, y, w1, w2), decayed


@claim(id="F10.gradient", share=0.1, drawn=network(), decay=DECAY)
def slope_of_weight_decay(np, x, y, w1, w2, decay):
    return article.printed_weight_decay_slope(x, y, w1, w2), (decay * w1, decay * w2)


@claim(id="F11", w=matrix(2, 3), decay=DECAY)
def regularizer(np, w, decay):
    return article.printed_regularizer(w, decay), formulas.l2_penalty(w, decay=decay)


@claim(id="F11.gradient", share=0.4, w=matrix(2, 3), decay=DECAY)
def slope_of_regularizer(np, w, decay):
    (decayed,) = formulas.l2_penalty.vjp((w,), np.ones_like(decay), decay=decay)
    return article.printed_regularizer_slope(w, decay), decayed


def by_optimizer(optimizer, **_):
    return optimizer


@claim(
    id="F11.decoupled",
    share=0.3,
    condition=article.Classes(by_optimizer),
    optimizer=st.sampled_from(["SGD", "Adam"]),
    weight=st.lists(NUMBER, min_size=2, max_size=2),
    gradient=st.lists(NUMBER, min_size=2, max_size=2),
    lr=DECAY,
    decay=DECAY,
)
def coupled_decay(np, optimizer, weight, gradient, lr, decay):
    shrunk = formulas.decoupled_decay(weight, rate=lr, decay=decay)

    def step(w, weight_decay):
        zero = 0 * w
        if optimizer == "SGD":
            return formulas.sgd(w, gradient, zero, lr=lr, weight_decay=weight_decay)[0]
        return formulas.adam(w, gradient, zero, zero, zero, lr=lr, weight_decay=weight_decay)[0]

    return step(weight, decay), step(shrunk, 0 * decay)


@claim(
    id="C10",
    share=0.4,
    x=st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=2),
    target=st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=2),
    weight=st.floats(-8, 8),
    lr=st.floats(1e-3, 1),
    decay=st.floats(0, 1),
    threshold=st.floats(1, 1e6),
)
def bound_of_gradient(np, x, target, weight, lr, decay, threshold):
    def slope(w):
        of_output, _ = formulas.mse_loss.vjp((x * w, target), np.ones_like(w), reduction="mean")
        return np.sum(of_output * x)

    for _ in range(3):
        weight, _ = formulas.sgd(weight, slope(weight), 0 * weight, lr=lr, weight_decay=decay)
    return article.AtMost(np.abs(slope(weight)), threshold)


MEASURED = (
    weight_decay,
    slope_of_weight_decay,
    regularizer,
    slope_of_regularizer,
    coupled_decay,
    bound_of_gradient,
)


@pytest.mark.parametrize("item", MEASURED, ids=lambda item: item.id)
def test_what_is_said_of_weight_decay_is_measured(item, gradcheck_run):
    measured = gradcheck_run.measure(item)
    assert measured is None or measured.compared > 0
