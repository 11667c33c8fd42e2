"""`gradcheck.check_optimizer`: what it answers, what it leaves alone, what it refuses."""

from __future__ import annotations

import contextlib
import io
import json
import os
import random

import numpy as np
import pytest
import torch

import gradcheck
from gradcheck.blackbox.optimizer import CHECKS
from gradcheck.errors import UsageError
from gradcheck.records import Verdict
from tests.blackbox.corpus import wrong_optimizers as wrong
from tests.blackbox.corpus.right_optimizers import RIGHT_OPTIMIZERS
from tests.blackbox.corpus.wrong_optimizers import WRONG_OPTIMIZERS

# Machines are shared and slow: what a check finds must not depend on how fast it is.
SECONDS = 60.0
# `python -m benchmarks.oracle.optimizers` meets all of them, with default settings.
SAMPLE = RIGHT_OPTIMIZERS[::6]
# A check of its own finds what all of them find, and these few are met by all.
WHOLE = WRONG_OPTIMIZERS[::16]


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def adam(params):
    return torch.optim.Adam(params, lr=0.01)


@pytest.fixture(scope="module")
def of_adam():
    return gradcheck.check_optimizer(adam, reference="adam", options={"lr": 0.01}, max_seconds=SECONDS)


@pytest.mark.parametrize("case", WRONG_OPTIMIZERS, ids=lambda case: case.name)
def test_a_wrong_optimizer_is_found(case):
    result = gradcheck.check_optimizer(case.make, case.reference, checks=case.by, max_seconds=4.0)
    assert result.findings and not result.ok, (case.why, str(result))


@pytest.mark.parametrize("case", WHOLE, ids=lambda case: case.name)
def test_a_wrong_optimizer_is_found_by_default(case):
    result = gradcheck.check_optimizer(case.make, case.reference, max_seconds=SECONDS)
    assert result.findings and not result.ok, (case.why, str(result))


@pytest.mark.parametrize("case", SAMPLE, ids=lambda case: case.name)
def test_a_right_optimizer_is_left_in_peace(case):
    result = gradcheck.check_optimizer(case.make, case.reference, case.options, max_seconds=SECONDS)
    found = {finding.code for finding in result.findings}
    assert found <= case.codes, str(result)
    assert bool(found) == bool(case.defect) and result.ok == (not found), str(result)


def test_what_pytorch_has_wrong_shows_in_plain_pytorch():
    def leaf(*numbers):
        return torch.nn.Parameter(torch.tensor(numbers, dtype=torch.float64))

    gradient, w = torch.ones(1, dtype=torch.float64), leaf(1.0)
    w.grad = gradient
    optimizer = torch.optim.SGD([w], lr=0.1, momentum=0.9, nesterov=True, foreach=True)
    for _ in range(2):
        optimizer.step()
    assert gradient.item() != 1.0

    memory = torch.full((4,), 7.0, dtype=torch.float64)
    w = torch.nn.Parameter(memory[::2])
    w.grad = torch.ones(2, dtype=torch.float64)
    torch.optim.Adam([w], fused=True).step()
    assert memory[1].item() != 7.0 and memory[2].item() == 7.0

    w = leaf(0.0)
    w.grad = torch.ones(1, dtype=torch.float64)
    optimizer = torch.optim.NAdam([w])
    optimizer.step()
    again = torch.optim.NAdam([leaf(0.0)])
    again.load_state_dict(optimizer.state_dict())
    kinds = [next(iter(o.state.values()))["mu_product"].dtype for o in (optimizer, again)]
    assert kinds == [torch.float32, torch.float64]

    w, late = leaf(1.0), leaf(1.0)
    optimizer = torch.optim.SGD([w, late], lr=0.1, momentum=0.9, fused=True)
    w.grad = torch.ones(1, dtype=torch.float64)
    optimizer.step()
    late.grad = torch.ones(1, dtype=torch.float64)
    with pytest.raises(TypeError, match="NoneType"):
        optimizer.step()

    ends = []
    for foreach in (False, True):
        w = leaf(1.0)
        optimizer = torch.optim.ASGD([w], lr=0.01, foreach=foreach)
        for _ in range(3):
            w.grad = torch.full((1,), 0.5, dtype=torch.float64)
            optimizer.step()
        ends.append(w.item())
    assert abs(ends[0] - ends[1]) > 1e-10

    w = leaf()
    w.grad = torch.zeros(0, dtype=torch.float64)
    with pytest.raises(ZeroDivisionError):
        torch.optim.Adafactor([w]).step()


def test_a_right_optimizer_is_accurate_against_its_reference(of_adam):
    assert of_adam.ok, of_adam
    judged = [each for each in of_adam.checks if each.cell.check in ("trajectory", "machine")]
    assert [each.cell.format for each in judged] == ["float64", "float64", "float32", "bfloat16"]
    assert all(each.evidence.verdict is Verdict.ACCURATE for each in judged)
    assert of_adam.verdict is Verdict.CONSISTENT and of_adam.resolution < 0.1
    assert judged[0].evidence.resolution < 1e-12 and judged[0].evidence.compared > 500
    assert of_adam.unfinished == ()


def test_without_a_reference_it_is_consistent_at_best():
    result = gradcheck.check_optimizer(adam, max_seconds=SECONDS)
    assert result.ok and result.verdict is Verdict.CONSISTENT
    assert {each.cell.check for each in result.checks} == set(CHECKS) - {"trajectory", "machine", "long-run"}


def test_the_json_is_that_of_the_evidence():
    def off(params):
        return wrong.OffByOne(params)

    result = gradcheck.check_optimizer(off, "adam", checks="trajectory", max_seconds=SECONDS)
    said = json.loads(result.to_json())
    assert said["verdict"] == "wrong" and said["ok"] is False
    assert said["findings"][0]["code"] == "TRAJECTORY-WRONG"
    assert str(result).startswith("OffByOne against adam (torch): wrong")


def printed(program: str) -> list[str]:
    assert "gradcheck" not in program
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        exec(program, {})
    return out.getvalue().splitlines()


@pytest.mark.parametrize(
    ("kind", "check", "options"),
    [
        ("OffByOne", "trajectory", {}),
        ("AfterTen", "trajectory", {}),
        ("LastOfMany", "trajectory", {}),
        ("Single", "trajectory", {}),
        ("FirstGroup", "machine", {}),
        ("RateOnce", "machine", {}),
        ("Maximize", "machine", {"weight_decay": 0.1}),
    ],
)
def test_the_program_of_a_finding_shows_it_without_this_package(kind, check, options):
    made = getattr(wrong, kind)
    result = gradcheck.check_optimizer(
        lambda params: made(params, **options), "adam", checks=check, max_seconds=SECONDS
    )
    (finding,) = [f for f in result.findings if f.code.endswith("-WRONG")][:1]
    worst = finding.evidence.worst
    said = printed(finding.reproduction)
    assert float(said[-2].split()[-1]) == worst.got
    assert said[-1] == f"should be: {worst.expected!r}"
    assert worst.ulp > 1 and abs(worst.got - worst.expected) > worst.bound


@pytest.mark.parametrize(
    ("kind", "check"),
    [
        ("Unsaved", "resumed"),
        ("FirstGroup", "groups"),
        ("LateGroup", "groups"),
        ("GlobalCount", "alone"),
        ("Strided", "layouts"),
        ("Foreach", "forms"),
        ("SharedDefaults", "update"),
    ],
)
def test_the_program_of_a_broken_law_shows_both_runs(kind, check):
    made = getattr(wrong, kind)
    result = gradcheck.check_optimizer(lambda params: made(params), checks=check, max_seconds=SECONDS)
    finding = next(f for f in result.findings if f.evidence.worst is not None)
    said = [line for line in printed(finding.reproduction) if line.startswith("weight")]
    assert len(said) == 2
    got = float(said[1].split()[-1])
    assert got != float(said[0].split()[-1])
    assert got == finding.evidence.worst.got


def test_an_example_is_small():
    result = gradcheck.check_optimizer(
        lambda params: wrong.EpsInside(params), "adam", checks="trajectory", max_seconds=SECONDS
    )
    (finding,) = result.findings
    assert "1 steps, 1 elements" in finding.message
    assert finding.evidence.worst.size == 1


def test_nothing_of_the_caller_is_changed():
    def rude(params):
        torch.manual_seed(0)
        np.random.seed(0)
        random.seed(0)
        torch.set_default_dtype(torch.float64)
        torch.set_grad_enabled(True)
        os.environ["A_RUDE_OPTIMIZER"] = "1"
        return torch.optim.SGD(params, lr=0.1)

    def process():
        numbers = torch.random.get_rng_state().sum().item(), np.random.get_state()[1].sum(), random.getstate()
        return (*numbers, torch.get_default_dtype(), torch.is_grad_enabled(), dict(os.environ), os.getcwd())

    before = process()
    gradcheck.check_optimizer(rude, checks=("update", "resumed"), max_seconds=SECONDS)
    assert process() == before


def test_the_same_call_gives_the_same_answer():
    def sgd(params):
        return torch.optim.SGD(params, lr=0.1, momentum=0.5)

    once, again = (gradcheck.check_optimizer(sgd, "sgd", max_seconds=SECONDS) for _ in range(2))
    assert [c.evidence for c in again.checks] == [c.evidence for c in once.checks]
    other = gradcheck.check_optimizer(sgd, "sgd", max_seconds=SECONDS, seed=1)
    assert other.ok and [c.evidence for c in other.checks] != [c.evidence for c in once.checks]


def test_isolated_a_crash_is_a_finding():
    class Ending(torch.optim.SGD):
        def step(self, closure=None):
            os._exit(3)

    crashed = gradcheck.check_optimizer(lambda p: Ending(p, lr=0.1), isolate=True)
    assert [f.code for f in crashed.findings] == ["SUBJECT-CRASHED"]
    whole = gradcheck.check_optimizer(adam, isolate=True, checks="resumed", max_seconds=SECONDS)
    assert whole.ok and [each.cell.check for each in whole.checks] == ["resumed"]
    with pytest.raises(UsageError, match="got NoneType"):
        gradcheck.check_optimizer(lambda p: None, isolate=True)


def test_what_the_time_does_not_allow_is_unfinished():
    result = gradcheck.check_optimizer(adam, "adam", max_seconds=0.01)
    assert not result.ok and result.unfinished and result.verdict is Verdict.INCONCLUSIVE


def test_options_are_taken_from_the_optimizer():
    made = gradcheck.check_optimizer(
        lambda params: torch.optim.Adam(params, lr=0.25, betas=(0.5, 0.75)),
        "adam",
        checks="trajectory",
        max_seconds=SECONDS,
    )
    assert made.ok and "taken from the optimizer: beta1=0.5, beta2=0.75, lr=0.25" in str(made)


class Forgetful(torch.optim.Optimizer):
    """Steps other parameters than the ones it is given."""

    def __init__(self, params):
        super().__init__([torch.nn.Parameter(torch.ones(2))], {"lr": 0.1})

    def step(self, closure=None):
        raise AssertionError("never called")


def fails(params):
    raise KeyError("no such option")


def complex_ones(params):
    return torch.optim.SGD([torch.nn.Parameter(torch.ones(2, dtype=torch.complex64))], lr=0.1)


@pytest.mark.parametrize(
    ("make", "more", "says"),
    [
        (3, {}, "make: expected a function of the parameters"),
        (torch.nn.Linear, {}, "Linear is no subclass of torch.optim.Optimizer"),
        (lambda params: "adam", {}, "expected a torch.optim.Optimizer, got str"),
        (lambda params: None, {}, "got NoneType"),
        (fails, {}, "make fails for a list of two parameters: KeyError"),
        (lambda: None, {}, "make fails for a list of two parameters: TypeError"),
        (Forgetful, {}, "one of 1 others"),
        (complex_ones, {}, "torch.complex64"),
        (adam, {"reference": "adm"}, "did you mean 'adam'"),
        (adam, {"reference": "gelu"}, "unknown optimizer 'gelu'"),
        (adam, {"reference": 3}, "reference: expected the name of an optimizer"),
        (adam, {"options": {"lr": 0.01}}, "name one, reference='adam'"),
        (adam, {"reference": "adam", "options": {"beta": 0.9}}, "did you mean 'beta"),
        (adam, {"reference": "adam", "options": {"t": 3}}, "unknown option of adam 't'"),
        (adam, {"reference": "adam", "options": {"betas": 0.9}}, "expected 2 numbers, got 0.9"),
        (adam, {"reference": "adam", "options": {"lr": -1.0}}, "lr of adam is a number from 0.0"),
        (adam, {"reference": "adam", "options": {"amsgrad": "yes"}}, "one of False, True"),
        (adam, {"reference": "adam", "options": {"lr": float("nan")}}, "got nan"),
        (
            adam,
            {"reference": "adam", "options": {"lr": 0.5}},
            "lr=0.5, but make gives an optimizer with lr=0.01",
        ),
        (adam, {"checks": "trajectory"}, "needs the argument reference="),
        (adam, {"checks": "updat"}, "did you mean 'update'"),
        (adam, {"checks": ()}, "expected at least one name"),
        (adam, {"max_seconds": 0}, "max_seconds: expected a positive number"),
    ],
)
def test_what_cannot_be_checked_is_told(make, more, says):
    with pytest.raises(UsageError) as told:
        gradcheck.check_optimizer(make, **more)
    assert says in str(told.value)


def test_an_optimizer_that_raises_or_does_nothing_is_a_finding():
    class Broken(torch.optim.SGD):
        def step(self, closure=None):
            raise RuntimeError("not today")

    class Idle(torch.optim.SGD):
        def step(self, closure=None):
            return None if closure is None else closure()

    raised = gradcheck.check_optimizer(lambda p: Broken(p, lr=0.1), max_seconds=SECONDS)
    assert [f.code for f in raised.findings] == ["SUBJECT-RAISED"] and not raised.ok
    assert "RuntimeError: not today" in raised.findings[0].message
    idle = gradcheck.check_optimizer(lambda p: Idle(p, lr=0.1), checks="update", max_seconds=SECONDS)
    assert "no weight moves" in idle.findings[0].message
