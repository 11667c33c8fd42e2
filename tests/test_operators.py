"""The explanations of the operator corpus: each is silent where there is nothing to explain."""

from __future__ import annotations

import math
import os
import time

import pytest
import torch

from benchmarks.oracle import crashes, explaining, explaining_calls, explanation, layouts, witness
from benchmarks.oracle.explanation import Call


def example(*shape):
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(*shape, dtype=torch.float64, generator=generator) + 0.5
    return x.requires_grad_()


class _Off(torch.autograd.Function):
    """The square, of which the gradient of the first element is off by one part in a thousand."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x * x

    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        off = torch.ones_like(x)
        off.view(-1)[0] = 1.001
        return 2 * x * g * off


def square(x):
    return x * x


def of_entry(f, *tensors, row=0, column=0, place=0):
    return explaining.wrong_entry(f, Call(tensors, row, place, column, math.nan))


def test_slopes_are_those_of_both_sides():
    x = torch.tensor([0.0, 2.0], dtype=torch.float64, requires_grad=True)
    at_kink = witness.slopes(torch.abs, (x,), 0, 0, 0)
    assert (at_kink.left, at_kink.right, at_kink.kink) == (-1.0, 1.0, True)
    smooth = witness.slopes(lambda x: x**3, (x,), 0, 1, 1)
    assert smooth.central == pytest.approx(12.0, rel=1e-7)
    assert not smooth.kink and not smooth.jump


def test_a_jump_is_told_from_a_steep_slope():
    x = torch.tensor([0.0], dtype=torch.float64, requires_grad=True)
    assert witness.slopes(torch.sign, (x,), 0, 0, 0).jump
    assert not witness.slopes(lambda x: torch.tanh(1e3 * x), (x,), 0, 0, 0).jump


def test_slopes_of_a_value_that_stands_still_in_rounding_are_not_taken_for_zero():
    x = torch.tensor([1.0], dtype=torch.float64, requires_grad=True)
    slopes = witness.slopes(lambda x: 1e6 + 1e-3 * x, (x,), 0, 0, 0)
    assert abs(slopes.central - 1e-3) <= 16 * slopes.error < 1e-3


def test_a_wrong_entry_is_a_defect_and_a_right_one_is_not_explained_away():
    x = example(3)
    assert of_entry(_Off.apply, x).kind == explanation.DEFECT
    assert of_entry(_Off.apply, x, row=1, column=1).kind == explanation.UNEXPLAINED
    assert of_entry(square, x).kind == explanation.UNEXPLAINED


def test_a_choice_at_a_kink_is_never_a_defect():
    x = torch.tensor([0.0, 1.0], dtype=torch.float64, requires_grad=True)
    assert of_entry(torch.relu, x).kind == explanation.UNEXPLAINED
    assert of_entry(lambda x: torch.relu(x) - 3 * torch.sigmoid(x), x).kind == explanation.UNEXPLAINED


def test_no_derivative_where_an_output_jumps():
    x = torch.tensor([0.0, 1.0], dtype=torch.float64, requires_grad=True)
    assert of_entry(lambda x: torch.sign(x) * torch.exp(x), x).kind == explanation.JUMP


def test_a_choice_among_ties_is_a_convention_only_if_the_sum_is_right():
    x = torch.tensor([1.0, 1.0, 1.0, 0.5], dtype=torch.float64, requires_grad=True)

    def mode(x):
        return torch.mode(x).values

    chosen = int(witness.gradients(mode, (x,), torch.ones(1))[0].argmax())
    assert of_entry(mode, x, column=chosen).kind == explanation.CONVENTION

    class Twice(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return torch.mode(x).values

        @staticmethod
        def backward(ctx, g):
            return g * torch.tensor([0.0, 1.0, 1.0, 0.0], dtype=torch.float64)

    assert of_entry(Twice.apply, x, column=2).kind == explanation.DEFECT


def unpooled(x, indices):
    return torch.nn.functional.max_unpool1d(x, indices, 2, 2)


def test_repeated_indices_are_a_convention_and_a_gather_that_forgets_to_add_is_not():
    x = example(1, 1, 3)
    repeated, distinct = torch.tensor([[[1, 1, 4]]]), torch.tensor([[[0, 3, 4]]])
    output = witness.value(unpooled, (x, repeated))
    row = int(torch.nonzero(output)[0])
    assert explaining.overwritten(unpooled, (x, repeated), row)
    assert not explaining.any_overwritten(unpooled, (x, distinct))
    assert explaining.collided(unpooled, (x, distinct)).kind == explanation.CONVENTION

    class Forgets(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x, indices):
            ctx.save_for_backward(indices)
            ctx.length = len(x)
            return x[indices]

        @staticmethod
        def backward(ctx, g):
            (indices,) = ctx.saved_tensors
            made = torch.zeros(ctx.length, dtype=g.dtype)
            made[indices] = g
            return made, None

    assert explaining.collided(Forgets.apply, (example(4), torch.tensor([0, 1, 2]))) is None


def test_a_call_that_reports_its_failure_is_told_by_its_status():
    good = (torch.eye(2, dtype=torch.float64) * 2).requires_grad_()
    bad = (-torch.eye(2, dtype=torch.float64)).requires_grad_()
    assert "failure" in explaining.reported(torch.linalg.cholesky_ex, (good,), (bad,))
    assert not explaining.reported(torch.linalg.cholesky_ex, (good,), (good,))
    assert not explaining.reported(torch.sort, (example(3),), (example(3),))


def test_a_raise_of_the_backward_pass_is_a_refusal_and_one_of_the_forward_pass_is_not():
    class Raises(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x.clone()

        @staticmethod
        def backward(ctx, g):
            raise ValueError("not written")

    def never(x):
        raise ValueError("no")

    assert explaining.refused(Raises.apply, (example(2),)).kind == explanation.REFUSAL
    assert explaining.refused(never, (example(2),)).kind == explanation.UNEXPLAINED
    assert explaining.refused(square, (example(2),)).kind == explanation.UNEXPLAINED


def test_an_answer_that_depends_on_memory_is_a_defect_unless_the_schema_addresses_memory():
    def reads(x):
        return torch.as_strided(x, (2,), (1,), x.storage_offset())

    assert explaining_calls.by_layout(reads, (example(2, 3),)).kind == explanation.DEFECT
    reads.aten = "as_strided"
    assert explaining_calls.by_layout(reads, (example(2, 3),)).kind == explanation.CONVENTION
    assert explaining_calls.by_layout(square, (example(2, 3),)).kind == explanation.UNEXPLAINED
    assert not layouts.addresses_memory(square)


# PyTorch's own forward mode calls what it deprecates.
deprecated = pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:DeprecationWarning")


@deprecated
def test_cotangents_formats_modes_and_batches_are_silent_about_what_is_right():
    x = example(2, 3)
    for way in ("by_cotangent", "by_format", "by_forward", "by_batch"):
        assert getattr(explaining_calls, way)(square, (x,)).kind == explanation.UNEXPLAINED, way


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_cotangents_of_a_narrow_output_are_ones_that_it_holds(dtype):
    x = example(2, 3)
    assert explaining_calls.by_cotangent(lambda x: x.to(dtype), (x,)).kind == explanation.UNEXPLAINED


class _Bent(torch.autograd.Function):
    """Not linear in its cotangent, wrong in forward mode, and wrong under vmap."""

    generate_vmap_rule = False

    @staticmethod
    def forward(x):
        return x * x

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.save_for_backward(inputs[0])
        ctx.save_for_forward(inputs[0])

    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        return 2 * x * torch.where(g.abs() > 100, 1.01 * g, g)

    @staticmethod
    def jvp(ctx, t):
        (x,) = ctx.saved_tensors
        return 3 * x * t


@deprecated
def test_cotangents_and_forward_mode_that_are_wrong_are_defects():
    x = example(2, 3)
    assert explaining_calls.by_cotangent(_Bent.apply, (x,)).kind == explanation.DEFECT
    assert explaining_calls.by_forward(_Bent.apply, (x,)).kind == explanation.DEFECT


def test_a_narrow_format_is_held_to_its_rounding():
    def naive(x):
        return torch.log1p(torch.exp(x))

    large = torch.tensor([100.0], dtype=torch.float32, requires_grad=True)
    assert explaining_calls.by_format(naive, (large,)).kind == explanation.DEFECT
    assert explaining_calls.by_format(torch.nn.functional.softplus, (large,)).kind == explanation.UNEXPLAINED


def test_a_buffer_is_what_is_written_and_never_read():
    def counts(x, seen):
        seen += x.detach().sum()
        return x * 2

    def reads(x, seen):
        seen += 1
        return x * seen

    buffer = torch.zeros((), dtype=torch.float64)
    assert explaining_calls.written(counts, (example(2), buffer)).kind == explanation.CONVENTION
    assert explaining_calls.written(reads, (example(2), buffer)).kind == explanation.DEFECT
    assert explaining_calls.written(lambda x, b: x + b, (example(2), buffer)).kind == explanation.UNEXPLAINED


def test_the_call_of_a_program_is_read_and_an_incomplete_one_is_not():
    program = """import torch
f = ...  # the function under test
x0 = torch.tensor([1.0, 2.0]).requires_grad_()
y = f(x0)
(g,) = torch.autograd.grad(flat[1], (x0,), allow_unused=True)
print('reverse mode:', None if g is None else g.reshape(-1)[0].item())
print('should be:', 4.5)
"""
    call = explanation.call_of(program)
    assert (call.row, call.place, call.column, call.expected) == (1, 0, 0, 4.5)
    assert explanation.call_of(program.replace("torch.tensor([1.0, 2.0]).requires_grad_()", "...")) is None
    assert explanation.call_of("") is None


def test_a_call_that_ends_or_hangs_its_process_is_found_without_the_checker():
    def dies(x):
        if len(x) == 3:
            os.abort()
        return x * 2

    def hangs(x):
        if len(x) == 3:
            time.sleep(60)
        return x * 2

    def check(g):
        for n in (2, 3):
            g(example(n))

    assert "SIGABRT" in crashes.explained(check, dies, 20.0)
    assert "float64 (3,)" in crashes.explained(check, dies, 20.0)
    assert "do not return" in crashes.explained(check, hangs, 2.0)
    assert not crashes.explained(check, lambda x: x * 2, 20.0)


def test_slopes_of_a_smooth_function_are_known_to_ten_digits():
    x = torch.tensor([0.7, -1.3], dtype=torch.float64, requires_grad=True)
    slopes = witness.slopes(torch.exp, (x,), 0, 0, 0)
    assert abs(slopes.central - math.exp(0.7)) <= slopes.error < 1e-9 and not slopes.kink


def test_a_power_of_two_that_does_not_scale_a_gradient_is_a_defect():
    class Grainy(torch.autograd.Function):
        """Adds to its gradient what is lost beside a large cotangent."""

        @staticmethod
        def forward(ctx, x):
            return 2 * x

        @staticmethod
        def backward(ctx, g):
            return 2 * g + 1e-7

    x = torch.tensor([0.7, -1.3], dtype=torch.float64, requires_grad=True)
    weights = torch.ones(2, dtype=torch.float64)
    found = explaining_calls._scaled(Grainy.apply, (x,), weights)
    assert found is not None and found.kind == explanation.DEFECT
    assert explaining_calls._scaled(torch.tanh, (x,), weights) is None


def test_what_no_difference_can_tell_of_is_explained_by_its_format_or_its_kinks():
    x = torch.tensor([0.7, -1.3], dtype=torch.float64, requires_grad=True)
    zero = torch.zeros(2, dtype=torch.float64, requires_grad=True)
    assert explaining.undecided(lambda x: x.bfloat16(), (x,), "jacobian").kind == explanation.ROUNDING
    assert explaining.undecided(torch.relu, (zero,), "jacobian").kind == explanation.JUMP
    assert explaining.undecided(torch.relu, (zero,), "second-order").kind == explanation.JUMP
    assert explaining.undecided(torch.tanh, (x,), "jacobian").kind == explanation.UNEXPLAINED
