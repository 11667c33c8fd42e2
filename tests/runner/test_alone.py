"""A call that ends its process is a finding with the program that shows it; a death by chance is none."""

from __future__ import annotations

from pathlib import Path

import pytest

from gradcheck.document import RunInfo
from gradcheck.evidence import Store
from gradcheck.records import Cell
from gradcheck.runner import alone, launch
from gradcheck.runner.locate import ini, properties

CELLS = tuple(Cell("relu", "numpy", "float64", check) for check in ("value", "derivative", "layout"))
# The subject of the one cell ends its process in some way; the other cells are recorded.
FILE = """
import os, signal
import numpy as np
import pytest
from dataclasses import replace
from pathlib import Path
from gradcheck.records import Evidence
from gradcheck.runner.alone import traced
from gradcheck.runner.judging import bench

def deadly(inputs, *rest):
    {ending}
    return np.zeros(3)

@pytest.mark.gradcheck("value", "derivative", "layout")
def test_it(cell, gradcheck_run):
    if cell.check == "derivative":
        made = traced(replace(bench(cell).implementation, vjp=deadly))
        made.vjp((np.ones(3),), np.ones(3), {{}})
    gradcheck_run.record(cell, Evidence(compared=5, cases=1))
"""


def made(folder: Path, ending: str) -> Path:
    """A run of which one cell dies as `ending` says, up to the end of its child process."""
    path = folder / "out" / "run.sqlite"
    info = RunInfo(started="", profile="quick", seed=0, versions={}, machine={})
    Store.create(path, info, CELLS).close()
    files = folder / "files"
    files.mkdir()
    ini(files).write_text(ini(properties()).read_text())
    (files / "test_all.py").write_text(FILE.format(ending=ending))
    launch.run_properties(path, jobs=1, folder=files, patience=60.0)
    return path


def settled(path: Path) -> Store:
    """The run, after its missing cells were run alone."""

    def again(cell: Cell, trace: Path) -> int | None:
        files = path.parent.parent / "files"
        ended = launch.run_properties(path, 0, folder=files, patience=60.0, only=cell.id, trace=trace)
        return ended.status if ended.how == "finished" else None

    store = Store.open(path, write=True)
    alone.settle(store, again)
    return store


@pytest.mark.parametrize(
    ("ending", "told"),
    [
        ("os.kill(os.getpid(), signal.SIGSEGV)", "signal SIGSEGV"),
        ("os.abort()", "signal SIGABRT"),
        ("os._exit(0)", "exit status 0"),
    ],
)
def test_a_call_that_ends_its_process_is_a_finding(tmp_path: Path, ending: str, told: str) -> None:
    path = made(tmp_path, ending)
    with Store.open(path) as before:
        assert [cell.check for cell in before.document().missing] == ["derivative"]
    with settled(path) as store:
        document = store.document()
    assert document.missing == []
    (finding,) = document.findings
    assert (finding.code, finding.check) == ("SUBJECT-CRASHED", CELLS[1].id)
    assert told in finding.message and "shape 3" in finding.message
    assert "numpy" in finding.reproduction
    assert finding.confirmation == {"a process of its own": told}
    verdicts = {check.check: check.verdict for check in document.checks}
    assert verdicts == {"value": "accurate", "derivative": "wrong", "layout": "accurate"}


def test_a_death_that_does_not_come_again_leaves_a_record(tmp_path: Path) -> None:
    mark = tmp_path / "died"
    once = (
        f"Path({str(mark)!r}).exists() or (Path({str(mark)!r}).touch(), os.kill(os.getpid(), signal.SIGKILL))"
    )
    path = made(tmp_path, once)
    assert mark.exists()
    with settled(path) as store:
        document = store.document()
    assert document.missing == [] and document.findings == []


def test_a_process_that_dies_outside_of_a_call_accuses_nobody(tmp_path: Path) -> None:
    info = RunInfo(started="", profile="quick", seed=0, versions={}, machine={})
    path = tmp_path / "run.sqlite"
    Store.create(path, info, CELLS[:1]).close()
    with Store.open(path, write=True) as store:
        alone.settle(store, lambda cell, trace: -9)
        assert [cell.check for cell in store.document().missing] == ["value"]


def test_many_missing_cells_have_another_cause(tmp_path: Path) -> None:
    cells = tuple(Cell(f"f{n}", "numpy", "float64", "value") for n in range(alone.MOST + 1))
    path = tmp_path / "run.sqlite"
    Store.create(path, RunInfo(started="", profile="quick", seed=0, versions={}, machine={}), cells).close()
    asked: list[str] = []

    def again(cell: Cell, trace: Path) -> int:
        asked.append(cell.id)
        return 0

    with Store.open(path, write=True) as store:
        alone.settle(store, again)
    assert asked == []
