"""What the operators of PyTorch's database taught the checker, each with a liar that it must still find."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

import gradcheck
from gradcheck.blackbox.domains import domain_of


def example(*shape, low=-2.0, high=2.0):
    generator = torch.Generator().manual_seed(0)
    return low + (high - low) * torch.rand(*shape, dtype=torch.float64, generator=generator)


def found(f, *inputs, checks, **same):
    return [f.message for f in gradcheck.check(f, *inputs, checks=checks, max_seconds=20, **same).findings]


@pytest.mark.parametrize("said", [(1, math.inf), (-math.inf, -2.0), (-1, math.inf), (0.0, math.inf)])
def test_a_domain_with_one_infinite_bound_holds_all_that_is_drawn(said):
    limit = domain_of(said, "x")
    assert limit is not None
    drawn = np.array([-1e9, -3.0, -2.0, -1.0, -0.5, 0.0, 1.0, 1.5, 2.0, 1e9, np.nan, 0.5])
    folded = limit.project(drawn, drawn.shape)
    inside = (drawn > said[0]) & (drawn < said[1])
    assert (folded > said[0]).all() and (folded < said[1]).all()
    assert inside.any() and (folded[inside] == drawn[inside]).all()


@pytest.mark.parametrize("said", [(-math.inf, math.inf), (math.inf, 1.0), (math.nan, math.inf), (2, 1)])
def test_a_domain_without_a_finite_bound_is_refused(said):
    with pytest.raises(gradcheck.UsageError, match="of which one may be infinite"):
        domain_of(said, "x")


def test_acosh_is_looked_at_above_one_only():
    class Off(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return torch.acosh(x)

        @staticmethod
        def backward(ctx, g):
            (x,) = ctx.saved_tensors
            return g / torch.sqrt((x * x - 1).abs()) * torch.where(x > 1e3, 1.01, 1.0)

    x = example(5, low=1.5, high=4.0)
    assert not found(torch.acosh, x, checks=("values",), domain=(1, math.inf))
    assert found(Off.apply, x, checks=("values",), domain=(1, math.inf))


class _ToHalf(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.half()

    @staticmethod
    def backward(ctx, g):
        return g.double() * torch.where(g.abs() > 8, 1.5, 1.0)


def test_cotangents_of_a_half_precision_output_stay_in_its_range():
    assert not found(lambda x: x.half(), example(4), checks=("cotangents",))
    assert found(_ToHalf.apply, example(4), checks=("cotangents",))


class _ToBrain(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.bfloat16()

    @staticmethod
    def backward(ctx, g):
        return g.double() * torch.where(g.abs() > 1, 1.01, 1.0)


def test_sums_of_cotangents_of_a_bfloat16_output_are_exact():
    assert not found(lambda x: x.bfloat16(), example(6), checks=("cotangents",))
    assert found(_ToBrain.apply, example(6), checks=("cotangents",))


def test_an_input_that_is_not_differentiated_never_requires_a_gradient():
    def f(x, mean):
        assert not mean.requires_grad, "the mean is a buffer"
        return x * mean

    x, mean = example(4).requires_grad_(), example(4)
    assert not found(f, x, mean, checks=("state",))


class _ImmutableZero(torch.autograd.Function):
    """The gradient is a tensor that nothing can be added to."""

    @staticmethod
    def forward(ctx, x):
        return torch.sign(x)

    @staticmethod
    def backward(ctx, g):
        return torch._efficientzerotensor(g.shape, dtype=g.dtype)


def test_gradients_that_cannot_be_added_up_are_a_finding_and_no_crash():
    x = example(4)
    assert any(
        "cannot be added up" in said for said in found(_ImmutableZero.apply, x, checks=("cotangents",))
    )
    assert not found(torch.sign, x, checks=("cotangents",))


def test_an_infinite_value_of_a_function_of_steps_has_slope_zero():
    x, y = example(4), example(4, low=0.5, high=2.0)
    assert not found(lambda x, y: torch.floor(x / y), x, y, checks=("values",))


class _Overflows(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return torch.exp(x)

    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        return g * torch.where(x > 709, 0.0, torch.exp(x))


def test_an_infinite_value_of_a_function_with_slopes_has_no_slope_zero():
    assert found(_Overflows.apply, 300 * example(6), checks=("values",))


def _positive_weights(x, fails):
    if (x < 0).any():
        raise ValueError("negative weights")

    class Root(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return x * x

        @staticmethod
        def backward(ctx, g):
            (x,) = ctx.saved_tensors
            if fails and (x > 1e3).any():
                raise ValueError("too large for the backward pass")
            return 2 * g * x

    return Root.apply(x)


def test_a_step_that_the_function_refuses_is_no_failure_of_its_backward_pass():
    x = example(5, low=0.1, high=2.0)
    assert not found(lambda x: _positive_weights(x, False), x, checks=("values",))
    said = found(lambda x: _positive_weights(x, True), x, checks=("values",))
    assert any("too large for the backward pass" in each for each in said)


def test_another_point_beside_a_positive_definite_matrix_is_one_that_is_accepted():
    a = example(4, 4)
    spd = a @ a.T + torch.eye(4, dtype=torch.float64)
    assert not found(torch.linalg.cholesky, spd, checks=("state",))


def test_a_refused_storage_offset_is_told_and_is_no_fault():
    def f(x):
        return torch.view_as_real(torch.view_as_complex(x))

    result = gradcheck.check(f, example(3, 2), checks=("layouts",))
    assert not result.findings
    assert any("storage_offset" in note for each in result.checks for note in each.evidence.notes)


def test_a_gradient_that_cancels_to_nothing_is_compared_above_its_rounding():
    x = example(3, 2)
    checks = ("cotangents", "second-order", "forward")
    assert not found(torch.corrcoef, x, checks=checks)


class _AlmostConstant(torch.autograd.Function):
    """A value of ten with slopes of 1e-6, of which a scaled cotangent loses one part in a thousand."""

    @staticmethod
    def forward(ctx, x):
        return 10 + 1e-6 * x

    @staticmethod
    def backward(ctx, g):
        return 1e-6 * g * torch.where(g.abs() > 10, 1.001, 1.0)


def test_a_small_gradient_beside_a_large_value_is_still_compared():
    assert found(_AlmostConstant.apply, example(4), checks=("cotangents",))


class _Strided(torch.autograd.Function):
    """The backward pass forgets the rows of an expanded input."""

    @staticmethod
    def forward(ctx, x):
        ctx.expanded = x.stride(0) == 0
        return 3 * x

    @staticmethod
    def backward(ctx, g):
        return 2 * g if ctx.expanded else 3 * g


def test_an_expanded_input_is_compared_where_it_is_an_input_of_the_function():
    a = example(3, 3) + 3 * torch.eye(3, dtype=torch.float64)
    assert not found(torch.logdet, a @ a.T, checks=("layouts",))
    assert found(_Strided.apply, example(3, 3), checks=("layouts",))
