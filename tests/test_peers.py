from __future__ import annotations

import importlib.util
import os

import numpy as np
import pytest
import torch

from benchmarks.oracle import detect, peers, processes
from tests.blackbox.corpus.operation import Call, array, normal


class SineOff(torch.autograd.Function):
    """Off by a tenth; its double backward is off as well."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return torch.sin(x)

    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        return 1.1 * g * torch.cos(x)


class SineDetached(torch.autograd.Function):
    """Right at first order; the derivative of the gradient is lost."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return torch.sin(x)

    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        return g * torch.cos(x.detach())


FIRST = [name for name in peers.PEERS if "gradgrad" not in name and "order 2" not in name]
SECOND = [name for name in peers.PEERS if name not in FIRST]


def example():
    return (normal(3, 2),)


@pytest.fixture(params=list(peers.PEERS))
def peer(request):
    if why := peers.missing(request.param):
        assert peers.ask(request.param, Call(torch.sin, example())) == why
        pytest.skip(why)
    return request.param


def test_peer_passes_what_is_right(peer):
    assert peers.ask(peer, Call(torch.sin, example())) == peers.PASSED
    assert peers.ask(peer, Call(lambda a, b: (a @ b, a.sum()), (normal(2, 3), normal(3, 2)))) == peers.PASSED


def test_peer_catches_what_is_wrong(peer):
    wrong = SineDetached if peer in SECOND else SineOff
    assert peers.ask(peer, Call(wrong.apply, example())) == peers.CAUGHT


def test_peer_differentiates_a_modules_parameters(peer):
    class Module(torch.nn.Module):
        def __init__(self, f):
            super().__init__()
            self.f, self.weight = f, torch.nn.Parameter(normal(2, seed=1))

        def forward(self, x):
            return x * self.f(self.weight)

    assert peers.ask(peer, Call(Module(torch.sin), example())) == peers.PASSED
    wrong = SineDetached if peer in SECOND else SineOff
    assert peers.ask(peer, Call(Module(wrong.apply), example())) == peers.CAUGHT


def test_peer_takes_a_numpy_pair(peer):
    right = Call(np.sin, (array(3, 2),), {"vjp": lambda inputs, g: (g * np.cos(inputs[0]),)})
    off = Call(np.sin, (array(3, 2),), {"vjp": lambda inputs, g: 1.1 * g * np.cos(inputs[0])})
    if peer in SECOND:
        assert peers.ask(peer, right).startswith((peers.NOT_APPLICABLE, peers.CAUGHT))
    else:
        assert peers.ask(peer, right) == peers.PASSED
        assert peers.ask(peer, off) == peers.CAUGHT


def test_whole_numbers_and_single_precision_are_prepared():
    call = Call(lambda x, k: x[k], (normal(4, dtype=torch.float32), torch.tensor([2, 0])))
    given = peers.prepared(call)
    assert [x.dtype for x in given.leaves] == [torch.float64]
    assert peers.ask("torch gradcheck", call) == peers.PASSED


def test_an_operation_that_raises_is_not_applicable(peer):
    def refuses(x):
        raise ValueError("no")

    assert peers.ask(peer, Call(refuses, example())) == f"{peers.NOT_APPLICABLE}: ValueError: no"


def test_what_is_not_installed_is_said_to_be_so(monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "jax" else find(name))
    said = peers.ask("jax check_grads, order 1", Call(torch.sin, example()))
    assert said == "not run: jax is not installed"


def test_flat_second_derivative_is_that_of_differences():
    flat = peers.Flat(Call(lambda a, b: torch.tanh(a) * b, (normal(3), normal(3, seed=1))))
    rng = np.random.default_rng(0)
    g, v, step = rng.normal(size=3), rng.normal(size=6), 1e-6
    by_input, by_cotangent = flat.second(flat.x, g, v)
    dx, dg = rng.normal(size=6), rng.normal(size=3)
    up, down = (flat.product(flat.x + s * dx, g + s * dg) @ v for s in (step, -step))
    assert by_input @ dx + by_cotangent @ dg == pytest.approx((up - down) / (2 * step), rel=1e-7)


def test_bounds_are_those_of_clopper_and_pearson():
    assert detect.upper_bound(0, 100) == pytest.approx(1 - 0.025 ** (1 / 100))
    assert detect.upper_bound(3, 3) == 1
    assert detect.lower_bound(100, 100) == pytest.approx(0.025 ** (1 / 100))


def test_tasks_are_kept_apart_and_within_the_time():
    seen = []

    def changes():
        seen.append(1)
        return len(seen)

    def dies():
        os._exit(3)

    def lasts():
        while True:
            pass

    tasks = [("a", changes), ("b", changes), ("dies", dies), ("lasts", lasts)]
    answers = {key: answer for key, answer, _ in processes.run(tasks, jobs=2, seconds=1.0)}
    assert answers == {"a": 1, "b": 1, "dies": processes.DIED, "lasts": processes.OVER}


def test_report_counts_by_cause_and_tells_alarms_from_what_is_apart():
    def said(verdict, *findings):
        return {"verdict": verdict, "findings": list(findings), "unfinished": []}

    one = "torch gradcheck"
    bad = [
        {
            "name": "a",
            "cause": "state",
            "ours": said("inconsistent", "x"),
            "seconds": 1,
            "peers": {one: peers.PASSED},
        },
        {
            "name": "b",
            "cause": "options",
            "ours": said("consistent"),
            "seconds": 2,
            "peers": {one: peers.CAUGHT},
        },
        {
            "name": "c",
            "cause": "options",
            "ours": said("unstable", "x"),
            "seconds": 2,
            "peers": {one: processes.OVER},
        },
    ]
    good = [
        {"name": "d", "ours": said("unstable", "x"), "seconds": 1, "peers": {one: peers.PASSED}},
        {"name": "e", "ours": said("wrong", "x"), "seconds": 1, "peers": {one: peers.NOT_APPLICABLE}},
        {"name": "f", "ours": None, "seconds": 0, "peers": {one: peers.CAUGHT}},
    ]
    report = detect.report_of(bad, good)
    total = report["wrong by cause"][-1]
    assert (total["number"], total[detect.OURS], total["any peer"], total["by a peer, not by ours"]) == (
        3,
        2,
        1,
        1,
    )
    assert total[one] == {"caught": 1, "passed": 1, "not applicable": 1}
    assert [m["name"] for m in report["missed"]] == ["b"]
    mine, theirs = report["right"][detect.OURS], report["right"][one]
    assert (mine["alarms"], mine["calls"], mine["unstable"]) == (1, 2, 1)
    assert (theirs["alarms"], theirs["calls"], theirs["not applicable"]) == (1, 2, 1)
    assert "missed by ours (1)" in detect.table(report)
