"""`gradcheck.check`: what it answers, what it leaves alone, what it refuses."""

from __future__ import annotations

import functools
import json

import numpy as np
import pytest
import torch
from torch.autograd import Function
from torch.autograd.function import once_differentiable

import gradcheck
from gradcheck.errors import UsageError
from gradcheck.records import Verdict

# What these tests assert does not depend on how busy the machine is.
check = functools.partial(gradcheck.check, max_seconds=120)
assert_correct = functools.partial(gradcheck.assert_correct, max_seconds=120)


class Cube(Function):
    """x³, with a gradient that is wrong where x exceeds `beyond`."""

    beyond = 6.0

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x**3

    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        return 3 * g * x**2 * torch.where(x > Cube.beyond, 1.001, 1.0)


def example(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def test_a_right_function_is_consistent():
    result = check(torch.tanh, example(3, 4))
    assert result.ok and bool(result), result
    assert result.verdict is Verdict.CONSISTENT
    assert result.findings == () and result.unfinished == ()
    assert result.resolution < 1e-7
    assert result.compared > 1_000


def test_a_fault_at_other_values_is_found_shrunk_and_reproduced():
    result = check(Cube.apply, example(3, 4), checks=("jacobian", "values"))
    assert not result.ok and result.verdict is Verdict.INCONSISTENT
    (finding,) = result.findings
    assert finding.code == "VALUES-INCONSISTENT"
    worst = finding.evidence.worst
    assert worst is not None and worst.input[0] > 6 and worst.size == 1
    # What is expected is a difference quotient, good to nine digits; the program computes the same gradient.
    assert worst.got == pytest.approx(1.001 * worst.expected, rel=1e-6)
    program = finding.reproduction.replace("f = ...", "f = Cube.apply")
    assert "import gradcheck" not in program
    said: dict[str, object] = {"Cube": Cube, "print": lambda *words: said.setdefault("said", words)}
    exec(program, said)
    assert said["said"][1] == pytest.approx(worst.got, rel=1e-12)


def test_the_classical_check_is_one_of_them():
    result = check(Cube.apply, example(3, 4), checks="jacobian")
    assert result.ok
    assert [each.cell.check for each in result.checks] == ["jacobian"]


def test_the_json_is_that_of_the_evidence():
    result = check(Cube.apply, 7 + example(2).abs(), checks="jacobian")
    said = json.loads(result.to_json())
    assert said["verdict"] == "inconsistent" and said["ok"] is False
    (told,) = said["checks"]
    assert (told["check"], told["verdict"], told["format"]) == ("jacobian", "inconsistent", "float64")
    assert said["findings"][0]["code"] == "JACOBIAN-INCONSISTENT"
    assert str(result).startswith("Cube.apply (torch): inconsistent")


def test_assert_correct_says_the_same():
    assert_correct(torch.sin, example(3), checks="jacobian")
    with pytest.raises(AssertionError, match="JACOBIAN-INCONSISTENT"):
        assert_correct(Cube.apply, 7 + example(2).abs(), checks="jacobian")


def test_a_reference_of_the_catalogue_judges_values():
    def tall(x):
        return torch.nn.functional.softplus(x) + 1e-9

    assert check(tall, example(3, 4), checks="jacobian").ok
    result = check(tall, example(3, 4), reference="softplus", checks=("jacobian", "reference"))
    assert result.verdict is Verdict.WRONG
    assert "VALUE-WRONG" in {finding.code for finding in result.findings}


def test_a_reference_takes_its_options():
    def leaky(x):
        return torch.nn.functional.leaky_relu(x, 0.25)

    same = {"reference": "leaky_relu", "checks": ("reference",)}
    assert check(leaky, example(3, 4), options={"negative_slope": 0.25}, **same).ok
    assert check(leaky, example(3, 4), options={"negative_slope": 0.2}, **same).findings
    with pytest.raises(UsageError, match="has no option 'alpha'"):
        check(leaky, example(3, 4), options={"alpha": 0.25}, **same)


def test_a_numpy_reference():
    assert check(torch.exp, example(3), reference=np.exp, checks="reference").ok
    assert check(torch.exp, example(3), reference=np.exp2, checks="reference").findings


def test_a_numpy_pair():
    def square(x):
        return x * x

    def right(inputs, cotangent):
        return (2 * inputs[0] * cotangent,)

    def wrong(inputs, cotangent):
        return (inputs[0] * cotangent,)

    x = np.random.default_rng(0).normal(size=(3, 4))
    assert check(square, x, vjp=right).ok
    found = check(square, x, vjp=wrong)
    assert found.findings[0].code == "JACOBIAN-INCONSISTENT"
    assert "vjp" in found.findings[0].reproduction


def test_nested_arguments_modules_and_parameters():
    def weighted(pair, *, scale):
        return {"sum": pair[0] + scale["by"] * pair[1]}

    assert check(weighted, (example(3), example(3)), scale={"by": example(3)}).ok
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Tanh(), torch.nn.Linear(4, 2)).double()
    result = check(model, example(5, 3), checks=("jacobian", "values", "subsets"))
    assert result.ok, result


def test_what_the_caller_has_stays_as_it_was():
    x = example(3).requires_grad_()
    (x * 2).sum().backward()
    grad, version = x.grad.clone(), x._version
    torch.manual_seed(5)
    before = torch.random.get_rng_state(), torch.get_default_dtype(), torch.is_grad_enabled()
    check(torch.nn.functional.dropout, x, checks=("state", "jacobian"))
    assert torch.equal(x.grad, grad) and x._version == version and x.requires_grad
    assert torch.equal(torch.random.get_rng_state(), before[0])
    assert (torch.get_default_dtype(), torch.is_grad_enabled()) == before[1:]


def test_only_what_requires_gradients_is_differentiated():
    x, target = example(3, 4).requires_grad_(), example(3, 4)
    result = check(torch.nn.functional.mse_loss, x, target, checks="jacobian")
    assert result.ok and result.compared == 12


def test_no_time_leaves_checks_unfinished():
    result = check(torch.nn.MultiheadAttention(8, 2).double(), *[example(3, 2, 8)] * 3, max_seconds=0.2)
    assert result.unfinished and not result.ok
    assert result.verdict is Verdict.INCONCLUSIVE
    assert "max_seconds" in str(result)


@pytest.mark.parametrize(
    ("call", "complaint"),
    [
        (lambda: check(torch.tanh), "expected at least one array or tensor"),
        (lambda: check(torch.tanh, torch.tensor([1, 2])), "at least one floating-point tensor"),
        (lambda: check(lambda x: None, example(2)), "returns at least one floating-point tensor"),
        (lambda: check(lambda x: x.long(), example(2)), "nothing can be differentiated"),
        (lambda: check(3, example(2)), "expected a function"),
        (lambda: check(torch.tanh, example(2), checks="jacobain"), "did you mean 'jacobian'"),
        (lambda: check(torch.tanh, example(2), checks=()), "at least one name"),
        (lambda: check(torch.tanh, example(2), max_seconds=0), "positive number of seconds"),
        (lambda: check(torch.tanh, example(2), domain="real"), "expected a domain"),
        (lambda: check(torch.tanh, example(2), domain={"y": "unit"}), "there is no input 'y'"),
        (lambda: check(torch.tanh, example(2), reference="gelo"), "did you mean 'gelu"),
        (lambda: check(torch.tanh, example(2), framework="mxnet"), "unknown framework"),
        (lambda: check(np.tanh, np.ones(3)), "expected vjp="),
        (lambda: check(torch.tanh, torch.ones(2, dtype=torch.complex64)), "is complex"),
        (lambda: check(torch.tanh, torch.ones(2).to_sparse()), "pass a dense one"),
        (lambda: check(lambda x: 1 / 0, example(2)), "fails at the example inputs: ZeroDivision"),
        (lambda: check(lambda x: exit(3), example(2)), "fails at the example inputs: SystemExit"),
        (lambda: check(torch.tanh, example(2), np.ones(2)), "inputs of several frameworks"),
    ],
)
def test_what_cannot_be_checked_gets_a_clear_answer(call, complaint):
    with pytest.raises(UsageError, match=complaint):
        call()


def test_isolated_a_crash_is_a_finding_and_a_hang_is_unfinished():
    import os
    import time

    crashed = check(lambda x: os.abort(), example(2), isolate=True)
    assert [finding.code for finding in crashed.findings] == ["SUBJECT-CRASHED"]
    assert "SIGABRT" in crashed.findings[0].message
    hung = check(lambda x: time.sleep(60), example(2), isolate=True, max_seconds=0.1)
    assert hung.unfinished and not hung.ok
    assert check(torch.tanh, example(2), isolate=True, checks="jacobian").ok


def test_a_mistake_of_the_checker_is_not_laid_at_the_functions_door(monkeypatch):
    from gradcheck.blackbox.oracle import Oracle

    def broken(self, *args, **named):
        raise AttributeError("a mistake in the checker")

    monkeypatch.setattr(Oracle, "compared", broken)
    with pytest.raises(AttributeError, match="a mistake in the checker"):
        check(torch.tanh, example(2), checks="jacobian")


def test_isolated_after_parallel_work_there_is_no_deadlock():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        torch.tanh(torch.randn(1000, 1000)).sum()
        wide = torch.rand(300, 400, dtype=torch.float64) + 0.5
        assert check(torch.log, wide, isolate=True, checks="jacobian").ok
    finally:
        torch.set_num_threads(before)


def test_a_format_in_which_a_steep_function_is_off_is_found():
    def f(x):
        return torch.exp(x) * (1.5 if x.dtype == torch.float16 else 1.0)

    (finding,) = check(f, example(3, 4), checks="formats").findings
    assert finding.code == "FORMATS-INCONSISTENT" and "float16" in finding.message
    assert check(torch.exp, example(3, 4), checks="formats").ok


class NearlyTanh(Function):
    """Tanh with a gradient that is off by 1e-7 of its largest element, at one place or at all."""

    @staticmethod
    def forward(ctx, x, place):
        ctx.save_for_backward(x)
        ctx.place = place
        return torch.tanh(x)

    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        slope = 1 - torch.tanh(x) ** 2
        off = torch.zeros_like(slope)
        off[ctx.place] = 1e-7 * slope.max()
        return g * (slope + off), None


@pytest.mark.parametrize("place", [0, 17, 500, 1023, slice(None)])
def test_an_error_of_1e_7_of_the_largest_entry_is_found_in_one_of_a_thousand_and_in_all(place):
    (finding,) = check(lambda x: NearlyTanh.apply(x, place), example(1024), checks="jacobian").findings
    worst = finding.evidence.worst
    # Shrunk to one element, the largest one is that element's own.
    assert worst is not None and 0.5e-7 < worst.error < 1.01e-7


class Detached(Function):
    """A sum of squares whose gradient forgets that it depends on the cotangent."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return (x**2).sum()

    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        return 2 * g.detach() * x.detach()


def test_a_gradient_that_is_silently_detached_is_found_and_one_that_refuses_is_not():
    (finding,) = check(Detached.apply, example(4), checks="second-order").findings
    assert "detached" in finding.message and finding.code == "GRADIENT-MISSING"
    Once = type("Once", (Detached,), {"backward": staticmethod(once_differentiable(Detached.backward))})
    assert not check(Once.apply, example(4), checks="second-order").findings
