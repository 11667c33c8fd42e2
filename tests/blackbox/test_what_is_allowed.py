"""What a black box may do without being accused, beside what looks like it and is wrong."""

from __future__ import annotations

import pytest
import torch
from torch.autograd import Function

import gradcheck

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
