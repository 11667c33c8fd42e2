"""What the article says of training: gradient descent, mini-batches, clipping."""

from __future__ import annotations

import pytest
from hypothesis import strategies as st

from gradcheck import claim, derivative, formulas
from gradcheck.article import AtMost, Classes, printed_clip, printed_cut, printed_sgd, undecidable

NUMBER = st.floats(-8, 8)
POSITIVE = st.floats(0.125, 8)
GRADIENT = st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=6)


def lists(*names, least=1):
    """Draw lists of numbers of one length, one for each name."""
    return st.integers(least, 5).flatmap(
        lambda n: st.fixed_dictionaries({name: st.lists(NUMBER, min_size=n, max_size=n) for name in names})
    )


@claim(id="F06", drawn=lists("weight", "gradient"), lr=POSITIVE)
def step(np, weight, gradient, lr):
    weight_after, _ = formulas.sgd(weight, gradient, 0 * weight, lr=lr)
    return printed_sgd(weight, gradient, lr), weight_after


def samples():
    """Draw a linear problem of one feature, its weight, and a batch that is no larger than the data."""
    return st.integers(1, 6).flatmap(
        lambda n: st.fixed_dictionaries(
            {
                "x": st.lists(NUMBER, min_size=n, max_size=n),
                "target": st.lists(NUMBER, min_size=n, max_size=n),
                "weight": NUMBER,
                "size": st.integers(1, n).map(str),
            }
        )
    )


def by_batch(x, size, **_):
    return "a ragged last batch" if len(x) % int(size) else "equal batches"


def slope_of_mean_loss(np, x, target, weight):
    of_output, _ = formulas.mse_loss.vjp((x * weight, target), np.ones_like(weight), reduction="mean")
    return np.sum(of_output * x)


@claim(id="F06.batches", share=0.4, condition=Classes(by_batch), problem=samples())
def batches(np, x, target, weight, size):
    starts = range(0, x.shape[0], int(size))
    parts = [slice(start, start + int(size)) for start in starts]
    slopes = [slope_of_mean_loss(np, x[part], target[part], weight) for part in parts]
    return np.mean(np.stack(slopes)), slope_of_mean_loss(np, x, target, weight)


@claim(id="F13", g=GRADIENT, threshold=POSITIVE)
def clipping(np, g, threshold):
    return printed_clip(g, threshold), formulas.clip_by_value(g, threshold)


@claim(id="F13.above", g=GRADIENT, threshold=POSITIVE)
def cutting(np, g, threshold):
    return printed_cut(g, threshold), formulas.clip_by_value(g, threshold)


@claim(id="C04", share=0.4, units=lists("z", "c"), threshold=POSITIVE)
def clipping_bounds_and_revives_nothing(np, z, c, threshold):
    slope = derivative(formulas.relu)(z)
    g = c * slope
    clipped = [formulas.clip_by_norm(g, threshold), formulas.clip_by_value(g, threshold)]
    dead = [np.where(z < 0, np.abs(each), 0 * z) for each in clipped]
    norms = [np.sum(np.square(each)) for each in clipped]
    return AtMost((*norms, *dead), (np.sum(np.square(g)), np.sum(np.square(g)), 0.0, 0.0))


MEASURED = (step, batches, clipping, cutting, clipping_bounds_and_revives_nothing, undecidable(id="C06"))


@pytest.mark.parametrize("item", MEASURED, ids=lambda item: item.id)
def test_what_is_said_of_training_is_measured(item, gradcheck_run):
    measured = gradcheck_run.measure(item)
    assert measured is None or measured.compared > 0 or measured.verdict == "undecidable"
