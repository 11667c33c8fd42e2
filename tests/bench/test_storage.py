"""Saved runs are pytest-benchmark's, comparisons say what changed, and other machines are kept apart."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from gradcheck.bench import storage
from gradcheck.bench.document import NOTHING, TORCH, BenchDocument, Lane, Measurement, Task
from gradcheck.bench.timing import estimate
from gradcheck.errors import StorageError, UsageError

MACHINE = {"cpu": "one", "isa": "avx2", "cores": "2", "architecture": "x86_64", "gpu": "none"}


def measurement(scale: float = 1.0, noisy: str = "", formula: str = "relu") -> Measurement:
    data = tuple(scale * (1 + k / 1000) for k in range(9))
    return Measurement(
        Task(formula, "float32", 1000), Lane(TORCH), 1000, estimate(data), NOTHING, 9, 3, 8000, 0.1,
        noisy=noisy, data=data,
    )  # fmt: skip


def document(*found: Measurement) -> BenchDocument:
    return BenchDocument("2026-01-01T00:00:00+00:00", 1.0, "quick", {}, MACHINE, measurements=found)


def verdict(then: Measurement, now: Measurement) -> str:
    saved = storage.to_pytest_benchmark(document(then))
    (change,) = storage.compare(document(now), saved, "before", Path("x")).changes
    return change.verdict


def test_runs_are_numbered_in_the_folder_of_the_interpreter(tmp_path: Path) -> None:
    first, second = (storage.save(document(measurement()), "before", tmp_path) for _ in range(2))
    assert (first.name, second.name) == ("0001_before.json", "0002_before.json")
    assert storage.find("before", tmp_path) == second
    assert storage.find("0001", tmp_path) == first


def test_pytest_benchmark_compares_them(tmp_path: Path) -> None:
    storage.save(document(measurement()), "before", tmp_path)
    storage.save(document(measurement(2.0)), "after", tmp_path)
    command = [sys.executable, "-m", "pytest_benchmark", "--storage", f"file://{tmp_path}", "compare"]
    done = subprocess.run([*command, "--group-by=name"], capture_output=True, text=True, check=True)
    assert "relu[torch-float32-1000-forward-1t-1]" in done.stdout
    assert "0001_before" in done.stdout
    assert "0002_after" in done.stdout


def test_the_folder_is_the_one_that_pytest_benchmark_takes() -> None:
    from pytest_benchmark.utils import get_machine_id

    assert storage._system() == get_machine_id()


def test_the_figures_are_those_of_pytest_benchmark() -> None:
    from pytest_benchmark.stats import Stats

    data = [1.0, 2.0, 4.0, 7.0, 11.0, 50.0, 3.0]
    stats = Stats()
    for value in data:
        stats.update(value)
    ours = storage.statistics_of(data, 1)
    assert set(stats.as_dict()) | {"data", "iterations"} == set(ours)
    for name in ("min", "max", "mean", "stddev", "rounds", "median", "total", "ops"):
        assert ours[name] == pytest.approx(getattr(stats, name))


@pytest.mark.parametrize("name", ["", "../up", "a b", ".hidden", "x" * 200])
def test_a_name_that_is_no_file_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match="such as before"):
        storage.checked_name(name)


def test_an_unknown_name_lists_the_saved_ones(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="none is saved"):
        storage.find("before", tmp_path)
    storage.save(document(measurement()), "before", tmp_path)
    with pytest.raises(UsageError, match="did you mean 'before'"):
        storage.find("befor", tmp_path)
    with pytest.raises(UsageError, match="known: before"):
        storage.find("zzz", tmp_path)


def test_what_is_no_saved_run_is_refused(tmp_path: Path) -> None:
    for text in ("{", "[]", '{"benchmarks": [{}]}'):
        (tmp_path / "x.json").write_text(text)
        with pytest.raises(StorageError, match="expected a run saved by --save"):
            storage.load(tmp_path / "x.json")


@pytest.mark.parametrize(
    ("then", "now", "said"),
    [
        (measurement(), measurement(1.5), "slower"),
        (measurement(), measurement(0.5), "faster"),
        (measurement(), measurement(1.1), "the same"),
        (measurement(), measurement(), "the same"),
        (measurement(), measurement(2.0, noisy="loud"), "noisy"),
        (measurement(noisy="loud"), measurement(2.0), "noisy"),
    ],
)
def test_a_change_needs_more_than_two_runs_may_differ(then: Measurement, now: Measurement, said: str) -> None:
    assert verdict(then, now) == said


def test_intervals_that_touch_are_no_change() -> None:
    wide = tuple(1 + k / 10 for k in range(9))
    then = replace(measurement(), data=wide, seconds=estimate(wide))
    assert verdict(then, measurement(1.65)) == "the same"


def test_what_is_new_and_what_is_gone_is_said() -> None:
    saved = storage.to_pytest_benchmark(document(measurement(formula="elu")))
    found = storage.compare(document(measurement()), saved, "before", Path("x"))
    assert {(c.name.partition("[")[0], c.verdict) for c in found.changes} == {
        ("relu", "new"),
        ("elu", "gone"),
    }
    assert all(math.isnan(c.factor) for c in found.changes)


def test_another_machine_is_refused_or_marked() -> None:
    saved = storage.to_pytest_benchmark(document(measurement()))
    other = {**MACHINE, "cpu": "another", "cores": "64"}
    with pytest.raises(UsageError, match=r"cpu: one then, another now; cores: 2 then, 64 now"):
        storage.refuse_foreign(saved, "before", other, force=False)
    storage.refuse_foreign(saved, "before", other, force=True)
    storage.refuse_foreign(saved, "before", MACHINE, force=False)
    found = storage.compare(replace(document(measurement()), machine=other), saved, "before", Path("x"))
    assert found.differs


def test_other_versions_are_no_other_machine_and_are_said() -> None:
    saved = storage.to_pytest_benchmark(replace(document(measurement()), versions={"torch": "2.12"}))
    now = replace(document(measurement()), versions={"torch": "2.13"})
    storage.refuse_foreign(saved, "before", MACHINE, force=False)
    found = storage.compare(now, saved, "before", Path("x"))
    assert found.differs == ()
    assert found.versions == ("torch: 2.12 then, 2.13 now",)


def test_a_run_of_unknown_origin_is_another_machines() -> None:
    saved = storage.to_pytest_benchmark(document(measurement()))
    del saved["machine_info"]["gradcheck"]
    with pytest.raises(UsageError, match="another machine"):
        storage.refuse_foreign(saved, "before", MACHINE, force=False)


def test_the_file_is_json_without_nan(tmp_path: Path) -> None:
    path = storage.save(document(measurement()), "before", tmp_path)

    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    json.loads(path.read_text(), parse_constant=refuse)
