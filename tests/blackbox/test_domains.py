"""What numbers an input takes: names, bounds, strategies; everything that is drawn lies within."""

from __future__ import annotations

import math

import hypothesis.extra.numpy as arrays
import numpy as np
import pytest
import torch
from hypothesis import strategies as st

import gradcheck
from gradcheck.blackbox.domains import domain_of
from gradcheck.errors import UsageError

SECONDS = 60.0


def example(*shape: int, seed: int = 1) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) + 0.5


@pytest.mark.parametrize(
    ("domain", "low", "high"),
    [("positive", 0, math.inf), ("unit", 0, 1), ((0.25, 2), 0.25, 2), ((0.25, math.inf), 0.25, math.inf),
     ((-math.inf, 2), -math.inf, 2), (st.floats(0.3, 1.9), 0.3, 1.9)],
)  # fmt: skip
def test_what_is_drawn_lies_within(domain, low, high):
    limit = domain_of(domain, "x", 0, (3, 4))
    for numbers in (np.linspace(-3, 3, 12), np.geomspace(1e-30, 1e30, 12), np.zeros(12)):
        drawn = limit.project(numbers, (3, 4))
        assert drawn.shape == (12,) and (drawn >= low).all() and (drawn <= high).all()


def test_a_fault_outside_of_the_domain_is_none_and_one_inside_is_found():
    class Off(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return x**2

        @staticmethod
        def backward(ctx, g):
            (x,) = ctx.saved_tensors
            return g * 2 * x * torch.where((x > 3) | (x < 0), 1.01, 1.0)

    same = {"checks": ("jacobian", "values"), "max_seconds": SECONDS}
    for inside in ("unit", (0.0, 3.0), st.floats(0.1, 2.9)):
        x = example(4) / 2
        assert not gradcheck.check(Off.apply, x, domain=inside, **same).findings, inside
    for outside in (None, "positive", (0.0, 4.0), (0.0, math.inf), st.floats(0.1, 4.0)):
        assert gradcheck.check(Off.apply, example(4), domain=outside, **same).findings, outside


def wrong_for_class_seven(logits, at):
    class Picked(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x, at):
            ctx.save_for_backward(at)
            ctx.shape = x.shape
            return x.gather(-1, at)

        @staticmethod
        def backward(ctx, g):
            (at,) = ctx.saved_tensors
            return torch.zeros(ctx.shape, dtype=g.dtype).scatter_add(-1, at, g * (1 + 0.1 * (at == 7))), None

    return Picked.apply(logits, at)


@pytest.mark.parametrize("domain", [[None, "index(10)"], {"input 1": "index(10)"}, {"at": "index(10)"},
                                    "index(10)", [None, st.integers(0, 9)]])  # fmt: skip
def test_whole_numbers_are_drawn_from_their_domain(domain):
    logits, at = example(6, 10), torch.tensor([[0, 1], [2, 1], [0, 0], [1, 2], [2, 2], [1, 1]])
    same = {"checks": ("values",), "max_seconds": SECONDS}
    assert not gradcheck.check(wrong_for_class_seven, logits, at, **same).findings
    assert gradcheck.check(wrong_for_class_seven, logits, at, domain=domain, **same).findings


def test_whole_numbers_of_numpy():
    def pick(table, rows):
        assert rows.size == 0 or (rows.min() >= 0 and rows.max() < 5)
        return table[rows]

    def pull(inputs, g):
        table = np.zeros_like(inputs[0])
        np.add.at(table, inputs[1], g * (1 + 0.1 * (inputs[1] == 4))[:, None])
        return table, None

    table, rows = np.random.default_rng(0).normal(size=(5, 2)), np.array([0, 1, 1])
    same = {"vjp": pull, "checks": ("jacobian", "values"), "max_seconds": SECONDS}
    assert not gradcheck.check(pick, table, rows, **same).findings
    assert gradcheck.check(pick, table, rows, domain={"rows": "index(5)"}, **same).findings


def test_positive_definite_matrices_only():
    matrix = example(3, 3)
    result = gradcheck.check(
        lambda a: torch.linalg.cholesky((a + a.mT) / 2),
        matrix @ matrix.mT + torch.eye(3, dtype=torch.float64),
        domain="spd", checks=("jacobian", "values", "sizes"), max_seconds=SECONDS,
    )  # fmt: skip
    assert not result.findings and result.compared > 100, result


def test_a_strategy_of_arrays_keeps_its_structure():
    seen = []

    def of_sorted(x):
        if not isinstance(x, torch.Tensor) or not torch._C._functorch.is_batchedtensor(x):
            seen.append(x.detach().double().numpy().copy())
        return torch.cumsum(x, -1)

    domain = arrays.arrays(np.float64, (4,), elements=st.floats(0.5, 2.0)).map(np.sort)
    x = torch.tensor([0.5, 0.75, 1.0, 1.5], dtype=torch.float64)
    result = gradcheck.check(of_sorted, x, domain=domain, checks=("values", "sizes"), max_seconds=SECONDS)
    assert not result.findings and result.compared, result
    assert all(array.shape == (4,) for array in seen)


def test_a_strategy_draws_the_same_for_the_same_seed():
    x = np.arange(6.0)
    first, again, other = (
        domain_of(st.floats(-5, 5), "x", seed, (6,)).project(x, (6,)) for seed in (1, 1, 2)
    )
    assert np.array_equal(first, again) and not np.array_equal(first, other)


def test_a_list_of_domains_is_for_the_inputs_and_not_for_parameters():
    with torch.random.fork_rng(devices=[]):
        layer = torch.nn.Linear(3, 2).double()
    result = gradcheck.check(layer, example(4, 3), domain=["positive"], checks=("jacobian", "values"))
    assert not result.findings, result


X = example(3)


@pytest.mark.parametrize(
    ("domain", "complaint"),
    [
        ("positve", "did you mean 'positive'"),
        ("index", r"did you mean 'index\(10\)'"),
        (["index(0)"], "expected a domain, got 'index.0.'"),
        ((2, 1), "low < high"),
        ((math.nan, 1), "low < high"),
        ((1, 2, 3), "a pair"),
        (3.5, "a pair"),
        (["unit", "unit"], "expected 1 entries, one per input, got 2"),
        ({"z": "unit"}, "there is no input 'z'"),
        ("spd", r"square matrices \(..., n, n\), got shape \(3,\)"),
        ("index(4)", "for whole numbers, and there is no input of them"),
        (["index(4)"], "for whole numbers, and this input has real ones"),
        ((2.0, 3.0), "the example has .* not in its domain"),
        (st.text(min_size=1), r"input 0: the strategy gives .*\(str\); expected a number or an array"),
        (st.sampled_from([1.0, math.nan]), "allow_nan=False"),
        (st.nothing(), "the strategy draws nothing"),
        (arrays.arrays(np.float64, (2,), elements=st.floats(0, 1)), r"shape \(2,\); expected"),
        (st.just([1.0, [2.0]]), "expected a number or an array"),
        (st.one_of(st.just(1.0), st.just(np.ones(3))), "numbers and arrays"),
    ],
    ids=str,
)  # fmt: skip
def test_what_is_no_domain_gets_a_clear_answer(domain, complaint):
    with pytest.raises(UsageError, match=complaint):
        gradcheck.check(torch.exp, X, domain=domain, checks="jacobian")


def test_whole_numbers_need_a_domain_of_whole_numbers():
    at = torch.tensor([0, 12])
    with pytest.raises(UsageError, match=r"such as \"index\(10\)\""):
        gradcheck.check(lambda x, at: x[at % 3], X, at, domain=[None, "unit"])
    with pytest.raises(UsageError, match="the example has 12"):
        gradcheck.check(lambda x, at: x[at % 3], X, at, domain=[None, "index(10)"])
