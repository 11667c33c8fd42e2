"""Small runs of the real thing: every kind of lane is timed, or says why it is not."""

from __future__ import annotations

import math
import time
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch

from gradcheck.bench import accuracy, running, suite
from gradcheck.bench.contenders import CannotRun, Prepared, Yours, disagreement, prepare
from gradcheck.bench.document import (
    BACKWARD,
    COMPILED,
    FOREACH,
    FORWARD,
    FUSED,
    JIT,
    LOOP,
    NUMPY,
    SCIPY,
    TORCH,
    YOURS,
    BenchDocument,
    Lane,
    Task,
)
from gradcheck.bench.plan import PROFILES, Group, Selection
from gradcheck.bench.problems import problem
from gradcheck.bench.running import Request
from gradcheck.bench.timing import Sampled, Settings
from gradcheck.document import CheckRecord, Document, RunInfo
from gradcheck.formats import FLOAT32, get_format
from gradcheck.formulas import get_formula
from gradcheck.subjects import torch_bench
from tests.bench import own

TINY = Settings(1e-5, 7, 7, 0.0)


def measured(group: Group, yours: Yours | None = None) -> tuple[list, list, list]:
    visit = running.visit_group(group, TINY, (), {}, yours)
    return visit.measured, visit.left, visit.warnings


def prepared(lane: Lane, task: Task, yours: Yours | None = None) -> Prepared:
    given = problem(get_formula(task.formula), get_format(task.format), task.size, task.direction)
    return prepare(lane, task, given, yours)


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Request:
    monkeypatch.setitem(PROFILES, "quick", replace(PROFILES["quick"], settings=TINY, costs=0.5))
    monkeypatch.setattr("gradcheck.bench.bandwidth.SIZES", (1 << 12, 1 << 14))
    monkeypatch.chdir(tmp_path)
    asked = Selection(formulas=("relu",), sizes=(64,))
    return Request(asked, "quick", reports=tmp_path, saved=tmp_path / "saved", costs=False)


def test_the_reference_and_its_peers_are_timed_with_ratios() -> None:
    group = Group(Task("sigmoid", "float64", 64), (Lane(NUMPY), Lane(SCIPY), Lane(TORCH), Lane(JIT, 0)))
    found, missing, _ = measured(group)
    by = {m.lane.implementation: m for m in found}
    assert {NUMPY, SCIPY, TORCH} <= set(by)
    assert math.isnan(by[NUMPY].ratio.median)
    assert by[TORCH].ratio.median > 0
    assert by[TORCH].traffic == 2 * 8 * 64
    assert all(m.peak >= 64 * 8 for m in found if m.lane.implementation != JIT)
    assert set(by) | {each.lane.implementation for each in missing} == {NUMPY, SCIPY, TORCH, JIT}


@pytest.mark.parametrize("name", ["gelu", "prelu", "cross_entropy", "batch_norm"])
def test_all_compute_the_same_thing(name: str) -> None:
    for direction in (FORWARD, BACKWARD):
        task = Task(name, "float64", 256, direction)
        mine, theirs = prepared(Lane(NUMPY), task), prepared(Lane(TORCH), task)
        assert disagreement(theirs, mine) == ""
        for a, b in zip(mine.outputs, theirs.outputs, strict=True):
            assert (a is None) == (b is None)
            if a is not None and b is not None:
                # Whether it is the same formula, not how well it is computed: that is for `verify` to judge.
                np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("form", [LOOP, FOREACH, FUSED])
def test_a_step_moves_every_tensor_each_time(form: str) -> None:
    given = problem(get_formula("adam"), FLOAT32, 1000, FORWARD)
    call = torch_bench.step(given.formula, form.removeprefix("torch-"), *given.inputs[:2], given.options, 10)
    parameters = call.__self__.param_groups[0]["params"]
    assert [len(p) for p in parameters] == [100] * 10
    before = torch.cat([p.detach().clone() for p in parameters])
    call()
    moved = before - torch.cat([p.detach() for p in parameters])
    # Adam's first step is lr in the direction of the gradient.
    expected = 1e-3 * torch.sign(torch.from_numpy(given.inputs[1]))
    torch.testing.assert_close(moved, expected, rtol=1e-2, atol=1e-6)


def test_clipping_clips_to_the_norm() -> None:
    gradient = np.full(100, 3.0, np.float32)
    options = {"max_norm": 1.0, "p": 2.0}
    norm = torch_bench.clip(get_formula("clip_by_norm"), "foreach", gradient, options, 4)()
    assert float(norm) == pytest.approx(30.0)


def test_what_torch_holds_is_what_its_allocator_gave() -> None:
    x = torch.ones(1000)

    def call() -> torch.Tensor:
        first = x + 1
        return first * 2

    # A Python number becomes a tensor of a few bytes.
    assert 2 * 4000 <= torch_bench.allocated(call) < 2 * 4000 + 50
    assert torch_bench.allocated(lambda: x.add_(0)) < 100


def test_a_compilation_that_fails_is_not_run_with_its_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(function: object) -> object:
        raise RuntimeError("\nBackend compiler failed: no C++ compiler\nlong trace")

    monkeypatch.setattr(torch_bench, "compiled", refuse)
    group = Group(Task("relu", "float32", 64), (Lane(NUMPY), Lane(COMPILED)))
    found, missing, _ = measured(group)
    assert [m.lane.implementation for m in found] == [NUMPY]
    assert missing[0].reason == "RuntimeError: Backend compiler failed: no C++ compiler"


@pytest.mark.parametrize(
    ("lane", "task", "said"),
    [
        (Lane(TORCH), Task("dropout", "float32", 64), "torch does not provide dropout"),
        (Lane(SCIPY), Task("relu", "float32", 64), "scipy does not provide relu"),
        (Lane(FUSED), Task("nadam", "float32", 64), "torch has no fused nadam"),
        (Lane(LOOP), Task("printed_adam", "float32", 64), "torch has no optimizer for printed_adam"),
        (Lane(YOURS), Task("relu", "float32", 64), "no function was given"),
    ],
)
def test_what_is_not_there_says_so(lane: Lane, task: Task, said: str) -> None:
    with pytest.raises(CannotRun, match=said):
        prepared(lane, task)


def test_without_a_gpu_its_lane_is_not_run() -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    with pytest.raises(CannotRun, match="no CUDA device"):
        prepared(Lane(TORCH, 0, "cuda"), Task("relu", "float32", 64))


def test_ones_own_function_is_timed_in_both_directions() -> None:
    yours = Yours("tests.bench.own:gelu", own.gelu)
    for direction in (FORWARD, BACKWARD):
        group = Group(Task("gelu", "float32", 64, direction), (Lane(NUMPY), Lane(YOURS)))
        found, missing, warnings = measured(group, yours)
        assert [m.lane.implementation for m in found] == [NUMPY, YOURS]
        assert not missing
        assert not warnings


@pytest.mark.parametrize(
    ("function", "said"), [(own.relu_for_gelu, "is off by"), (own.half, "returns an array of shape")]
)
def test_another_formulas_time_does_not_pass_for_this_ones(function: object, said: str) -> None:
    group = Group(Task("gelu", "float32", 64), (Lane(NUMPY), Lane(YOURS)))
    _, _, warnings = measured(group, Yours("own:other", function))  # type: ignore[arg-type]
    assert said in warnings[0]
    assert warnings[0].startswith("own:other beside gelu, forward: ")


def test_ones_own_error_is_the_reason() -> None:
    group = Group(Task("gelu", "float32", 64), (Lane(NUMPY), Lane(YOURS)))
    _, missing, _ = measured(group, Yours("own:broken", own.broken))
    assert missing[0].reason == "RuntimeError: no kernel for this"


def test_a_numpy_function_has_values_only() -> None:
    yours = Yours("own:numpy_relu", own.numpy_relu, "numpy")
    assert prepared(Lane(YOURS), Task("relu", "float32", 64), yours).outputs[0] is not None
    with pytest.raises(CannotRun, match="has no gradient"):
        prepared(Lane(YOURS), Task("relu", "float32", 64, BACKWARD), yours)


def test_a_run_is_a_document_that_survives_json(tiny: Request) -> None:
    before = torch_bench.threads()
    document = running.run(tiny)
    assert {m.task.direction for m in document.measurements} == {FORWARD, BACKWARD}
    assert all(math.isfinite(m.limit) for m in document.measurements if m.lane.threads == 1)
    assert document.machine["cores"]
    again = BenchDocument.from_json(document.to_json())
    assert again.to_json() == document.to_json()
    assert again.measurements[1].ratio == document.measurements[1].ratio
    assert torch_bench.threads() == before


def test_a_text_that_is_no_document_is_refused() -> None:
    for text in ("", "[]", '{"schema_version": 99}', '{"schema_version": 1}'):
        with pytest.raises(ValueError, match=r"document|schema"):
            BenchDocument.from_json(text)


def test_when_the_budget_is_spent_the_rest_is_not_run(tiny: Request, monkeypatch: pytest.MonkeyPatch) -> None:
    real = running.visit_group

    def slow(*arguments: object) -> object:
        time.sleep(0.3)
        return real(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(running, "visit_group", slow)
    document = running.run(
        replace(tiny, budget=0.2, selection=Selection(formulas=("relu",), sizes=(64, 128)))
    )
    assert document.measurements
    assert any("budget" in each.reason for each in document.not_run)
    assert all(each.noisy for each in document.measurements)


def test_a_group_is_visited_twice_and_what_differs_between_the_visits_is_noise() -> None:
    group = Group(Task("relu", "float64", 64), (Lane(NUMPY), Lane(TORCH)))
    visit = running.visit_group(group, TINY, (), {}, None)
    both = running.again(visit, TINY, None)
    assert [m.rounds for m in both] == [2 * m.rounds for m in visit.measured]
    assert both[1].data[: visit.measured[1].rounds] == visit.measured[1].data
    # The same visit with a lane that took three times as long, evenly.
    slower = Sampled(tuple(3 * s for s in visit.samples[1].data), 1, visit.samples[1].shares)
    uneven = running.again(replace(visit, samples=(visit.samples[0], slower)), TINY, None)
    assert "the interval spans a factor of" in uneven[1].noisy
    assert all(m.noisy for m in running.once(visit))


def test_what_is_dear_to_make_is_kept_for_the_second_visit(monkeypatch: pytest.MonkeyPatch) -> None:
    group = Group(Task("relu", "float64", 64), (Lane(NUMPY), Lane(TORCH)))
    assert not running.visit_group(group, TINY, (), {}, None).ready
    monkeypatch.setattr(running, "_DEAR", -1.0)
    visit = running.visit_group(group, TINY, (), {}, None)
    monkeypatch.setattr(running, "prepare", None)
    assert [m.lane for m in running.again(visit, TINY, None)] == list(group.lanes)


def test_accuracy_is_that_of_the_verification() -> None:
    found = {("gelu", "torch-cpu", "float32", "derivative"): (1.5, "accurate")}
    assert accuracy.of(found, Task("gelu", "float32", 64, BACKWARD), Lane(TORCH)) == (1.5, "accurate")
    for lane in (Lane(COMPILED), Lane(NUMPY), Lane(TORCH, 0, "cuda"), Lane(YOURS)):
        ulp, said = accuracy.of(found, Task("gelu", "float32", 64, BACKWARD), lane)
        assert math.isnan(ulp)
        assert said == accuracy.NOT_MEASURED


def test_accuracy_is_read_from_the_published_run(tmp_path: Path) -> None:
    def record(formula: str, compared: int, ulp: float | str) -> CheckRecord:
        return CheckRecord(
            f"{formula}/numpy/float32/value", formula, "numpy", "float32", "value", "accurate", compared,
            "largest found", ulp, 1e-7,
        )  # fmt: skip

    checks = [record("relu", 100, 0.0), record("gelu", 100, "inf"), record("mish", 0, 0.0)]
    document = Document(1, RunInfo("2026-01-01", "ci", 0, {}, {}), checks, [], [])
    (tmp_path / "evidence.json").write_bytes(msgspec.json.encode(document))
    found, source = accuracy.load(tmp_path)
    assert found == {
        ("relu", "numpy", "float32", "value"): (0.0, "accurate"),
        ("gelu", "numpy", "float32", "value"): (math.inf, "accurate"),
    }
    assert source == f"{tmp_path / 'evidence.json'}, 2026-01-01"


def test_without_a_verification_no_accuracy_is_known(tmp_path: Path) -> None:
    assert accuracy.load(tmp_path) == ({}, "")
    (tmp_path / "evidence.json").write_text("{")
    (tmp_path / "run.sqlite").write_text("no database")
    assert accuracy.load(tmp_path) == ({}, "")


def test_the_suite_and_its_peers_are_timed_or_say_why_not() -> None:
    found = list(suite.costs(60.0, TINY, (8,), ("tanh",)))
    assert {c.checker for c in found} == set(suite.CHECKERS)
    timed = {c.checker for c in found if not c.failed}
    assert {suite.OURS_JACOBIAN, suite.SLOW, suite.FAST, suite.SCIPY} <= timed
    assert all(c.seconds.median > 0 for c in found if not c.failed)


def test_the_cost_of_the_suite_has_its_own_budget() -> None:
    found = list(suite.costs(-1.0, TINY, (8, 16), ("tanh",)))
    assert [c.failed for c in found] == ["the -1 s for the cost of the suite were over"] * 2


def test_each_arithmetic_has_a_rate() -> None:
    found = suite.rates(Settings(1e-5, 1, 1, 0.0), count=16)
    assert {r.arithmetic for r in found} == {"plain", "rounded", "ball", "dual over balls"}
    assert all(r.rate > 0 for r in found)
