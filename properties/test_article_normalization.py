"""What the article says of batch normalisation."""

from __future__ import annotations

import pytest
from hypothesis import strategies as st

from gradcheck import article, claim, formulas

NUMBER = st.floats(-8, 8)
EPS = st.floats(1e-6, 1)


def batch(least):
    """Draw a batch of samples with features, and scale and shift of every feature."""
    sizes = st.tuples(st.integers(least, 4), st.integers(1, 3))
    return sizes.flatmap(
        lambda n: st.fixed_dictionaries(
            {
                "x": st.lists(st.lists(NUMBER, min_size=n[1], max_size=n[1]), min_size=n[0], max_size=n[0]),
                "weight": st.lists(NUMBER, min_size=n[1], max_size=n[1]),
                "bias": st.lists(NUMBER, min_size=n[1], max_size=n[1]),
            }
        )
    )


@claim(id="F12", share=0.5, drawn=batch(2), eps=EPS)
def normalization(np, x, weight, bias, eps):
    return article.printed_batch_norm(x, weight, bias, eps), formulas.batch_norm(x, weight, bias, eps=eps)


def by_axis(over, **_):
    return over


@claim(
    id="C11",
    share=0.4,
    condition=article.Classes(by_axis),
    over=st.sampled_from(["one feature, over the batch", "one sample, over its features"]),
    x=st.lists(st.lists(NUMBER, min_size=2, max_size=2), min_size=1, max_size=4),
    gamma=NUMBER,
    beta=NUMBER,
    eps=EPS,
)
def distribution(np, over, x, gamma, beta, eps):
    axis = 0 if over == "one feature, over the batch" else 1
    like = x[0] * 0
    y = formulas.batch_norm(x, like + gamma, like + beta, eps=eps)
    mean, variance = np.mean(y, axis=axis), np.var(y, axis=axis)
    spread = np.var(x, axis=axis)
    return (mean, variance), (0 * mean + beta, np.square(gamma) * spread / (spread + eps))


def by_size(x, **_):
    return "a batch of one" if len(x) == 1 else "batches of two or more"


@claim(
    id="C11.one",
    share=0.4,
    condition=article.Classes(by_size),
    x=st.lists(st.integers(-8, 8).map(float), min_size=1, max_size=4, unique=True),
    eps=EPS,
)
def samples_apart(np, x, eps):
    column = np.expand_dims(x, 1)
    inputs = column, np.ones_like(column[0]), np.zeros_like(column[0])
    y = formulas.batch_norm(*inputs, eps=eps)
    slope, _, _ = formulas.batch_norm.vjp(inputs, column, eps=eps, affine=True)
    return bool(np.sum(np.square(y)) > 0) and bool(np.sum(np.square(slope)) > 0)


MEASURED = (normalization, distribution, samples_apart)


@pytest.mark.parametrize("item", MEASURED, ids=lambda item: item.id)
def test_what_is_said_of_batch_normalization_is_measured(item, gradcheck_run):
    measured = gradcheck_run.measure(item)
    assert measured is None or measured.compared > 0
