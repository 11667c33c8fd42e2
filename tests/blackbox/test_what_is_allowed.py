"""What a black box may do without being accused, beside what looks like it and is wrong."""

from __future__ import annotations

import pytest
import torch
from torch.autograd import Function

import gradcheck
from tests.blackbox.corpus.correct import CORRECT, regimes

D = torch.float64


def drawn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=D)


def hilbert(n):
    k = torch.arange(1, n + 1, dtype=D)
    return 1 / (k[:, None] + k - 1)


def checks_of(result):
    return {finding.cell.check for finding in result.findings}


class SineOfConstants(Function):
    """Takes a cotangent with any stride of zero for one number."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x.sin()

    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        return x.cos() * (g.reshape(-1)[0] if 0 in g.stride() else g)


class Moments(Function):
    """The gradient of either output is lost where the other is not used, unless `careful`."""

    @staticmethod
    def forward(ctx, x, careful):
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(x)
        ctx.careful = careful
        return x.mean(-1), x.var(-1, unbiased=False)

    @staticmethod
    def backward(ctx, mean, variance):
        (x,) = ctx.saved_tensors
        if (mean is None or variance is None) and not ctx.careful:
            return None, None
        total = torch.zeros_like(x)
        if mean is not None:
            total = total + mean[..., None]
        if variance is not None:
            total = total + 2 * variance[..., None] * (x - x.mean(-1, keepdim=True))
        return total / x.shape[-1], None


def test_a_cotangent_may_be_expanded_along_one_axis():
    x = drawn(3, 4)
    assert gradcheck.check(torch.sin, x, checks=("cotangents",)).ok
    assert checks_of(gradcheck.check(SineOfConstants.apply, x, checks=("cotangents",))) == {"cotangents"}


@pytest.mark.parametrize("careful", [True, False])
def test_one_of_several_outputs_may_be_used_alone(careful):
    def f(x):
        return Moments.apply(x, careful)

    result = gradcheck.check(f, drawn(3, 5), checks=("cotangents",))
    assert checks_of(result) == (set() if careful else {"cotangents"})


def test_what_rounds_to_float32_inside_is_compared_as_coarsely():
    def f(x):
        return torch.tanh(x.float() * 1.5).to(x.dtype)

    assert not gradcheck.check(f, drawn(3, 3), max_seconds=60).findings


def test_held_inputs_are_rounded_to_a_narrow_format_too():
    b = drawn(5).requires_grad_()
    assert not gradcheck.check(torch.linalg.solve, hilbert(5), b, checks=("formats",)).findings


@pytest.mark.parametrize("right", [True, False])
def test_a_sum_that_swallows_small_numbers_still_has_its_slope(right):
    slope = 1.5 if right else 1.4

    class Sum(Function):
        @staticmethod
        def forward(ctx, x):
            return (x + 1e8) - 1e8 + 0.5 * x

        @staticmethod
        def backward(ctx, g):
            return g * slope

    result = gradcheck.check(Sum.apply, drawn(5), checks=("values",), max_seconds=60)
    assert bool(result.findings) is not right


@pytest.mark.parametrize("right", [True, False])
def test_among_many_equal_elements_one_may_be_chosen(right):
    class Middle(Function):
        @staticmethod
        def forward(ctx, x):
            value, index = x.median(-1)
            ctx.save_for_backward(index, x)
            return value

        @staticmethod
        def backward(ctx, g):
            index, x = ctx.saved_tensors
            grad = torch.zeros_like(x).scatter(-1, index[..., None], g[..., None])
            return grad if right else (x == x.gather(-1, index[..., None])) * g[..., None]

    x = torch.tensor([[1.0, 2.0, 2.0, 2.0, 2.0, 2.0, 2.0, 2.0, 3.0] * 9], dtype=D)
    result = gradcheck.check(Middle.apply, x, checks=("jacobian",), max_seconds=60)
    assert result.ok is right and not result.unfinished


def test_equal_elements_of_a_smooth_function_leave_no_choice():
    class Turned(Function):
        @staticmethod
        def forward(ctx, x, weight):
            ctx.save_for_backward(x, weight)
            return (x**2 * weight).sum()

        @staticmethod
        def backward(ctx, g):
            x, weight = ctx.saved_tensors
            return g * 2 * x * weight.flip(0), g * x**2

    x, weight = torch.ones(4, dtype=D), torch.arange(1.0, 5.0, dtype=D)
    assert gradcheck.check(Turned.apply, x, weight, checks=("jacobian",)).findings


def test_steps_of_a_rounding_function_at_large_numbers_are_not_resolved():
    assert not gradcheck.check(
        lambda x: torch.round(4 * x) / 4 + x**2, drawn(5), checks=("values",), max_seconds=60
    ).findings


def test_two_modes_may_choose_different_slopes_at_a_kink():
    x, weight = torch.tensor([[-1.0, 0.0, 2.0], [0.0, 0.5, 0.0]], dtype=D), drawn(3, seed=1)
    result = gradcheck.check(torch.nn.functional.prelu, x, weight, checks=("forward", "second-order"))
    assert not result.findings, result


def attention_by_hand(q, k, v):
    scores = q @ k.mT / q.shape[-1] ** 0.5
    weights = (scores - scores.amax(-1, keepdim=True)).exp()
    return weights / weights.sum(-1, keepdim=True) @ v


class Once(Function):
    """Attention whose gradient is computed in another format than the inputs have, if they are float32."""

    @staticmethod
    def forward(ctx, q, k, v, inside, factor):
        ctx.save_for_backward(q, k, v)
        ctx.inside, ctx.factor = inside, factor
        return attention_by_hand(q, k, v)

    @staticmethod
    def backward(ctx, g):
        single = g.dtype is torch.float32
        kind = ctx.inside if single else g.dtype
        with torch.enable_grad():
            held = [x.detach().to(kind).requires_grad_() for x in ctx.saved_tensors]
            grads = torch.autograd.grad(attention_by_hand(*held), held, g.to(kind))
        factor = ctx.factor if single else 1.0
        return *((factor * x).to(g.dtype) for x in grads), None, None


@pytest.mark.parametrize(
    "inside, factor, right",
    [
        (torch.float32, 1.0, True),
        (torch.float32, 1 + 2e-3, False),
        (torch.bfloat16, 1.0, False),
        (torch.float16, 1.0, False),
    ],
)
def test_errors_of_float32_may_be_those_of_its_roundings_near_by(inside, factor, right):
    call = scores_of_some_hundreds()
    result = gradcheck.check(
        lambda q, k, v: Once.apply(q, k, v, inside, factor),
        *call.inputs,
        checks=("formats",),
        max_seconds=60.0,
    )
    assert bool(result.findings) is not right, result


def scores_of_some_hundreds():
    """Return a right call of attention, of which gradients in float32 lose what the scores do."""
    operation = next(each for each in CORRECT if each.name == "by-hand-attention")
    return next(regime for regime in regimes(operation) if regime.name == "size 0").make()


def test_an_attention_with_scores_of_some_hundreds_is_right_in_float32():
    call = scores_of_some_hundreds()
    assert gradcheck.check(call.f, *call.inputs, checks=("formats",), max_seconds=60.0).ok
