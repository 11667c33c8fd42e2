"""The child runs under its own settings, is killed with all it started, and its status is never a verdict."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path

import pytest

from gradcheck.document import RunInfo
from gradcheck.evidence import Store
from gradcheck.records import Cell
from gradcheck.runner import launch
from gradcheck.runner.locate import ini, properties

CELLS = tuple(Cell("relu", "numpy", "float64", check) for check in ("value", "derivative"))
RECORDING = """
import pytest
from gradcheck.records import Evidence

@pytest.mark.gradcheck("value", "derivative")
def test_it(cell, gradcheck_run):
    gradcheck_run.record(cell, Evidence(compared=5, cases=1))
"""


@pytest.fixture
def run(tmp_path: Path) -> Path:
    path = tmp_path / "out" / "run.sqlite"
    info = RunInfo(started="", profile="quick", seed=0, versions={}, machine={})
    Store.create(path, info, CELLS).close()
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "files"
    made.mkdir()
    ini(made).write_text(ini(properties()).read_text())
    return made


def recorded(run: Path) -> int:
    with Store.open(run) as store:
        return store.progress()[0]


def go(run: Path, folder: Path, patience: float = 40.0) -> launch.Ended:
    return launch.run_properties(run, jobs=1, folder=folder, patience=patience)


def test_every_planned_cell_is_recorded(run: Path, folder: Path) -> None:
    (folder / "test_all.py").write_text(RECORDING)
    ended = go(run, folder)
    assert (ended.how, ended.status) == ("finished", 0), ended.log.read_text()
    assert recorded(run) == 2


def test_the_callers_pytest_settings_do_not_reach_the_child(
    run: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTEST_ADDOPTS", "--collect-only -k nothing")
    monkeypatch.setenv("PYTEST_PLUGINS", "no_such_plugin")
    monkeypatch.setenv("PYTHONOPTIMIZE", "2")
    monkeypatch.setenv("CI", "true")
    (folder.parent / "pytest.ini").write_text("[pytest]\naddopts = --no-such-option\n")
    (folder / "test_all.py").write_text(
        RECORDING
        + "\ndef test_surroundings():\n    import hypothesis, os, sys\n"
        + "    assert 'CI' not in os.environ and sys.flags.optimize == 0\n"
        + "    assert hypothesis.settings.default.max_examples == 5\n"
        + "    assert os.environ['OMP_NUM_THREADS'] == '1'\n"
    )
    ended = go(run, folder)
    assert ended.status == 0, ended.log.read_text()
    assert recorded(run) == 2


def test_a_worker_that_dies_costs_its_own_cell_alone(run: Path, folder: Path) -> None:
    dying = RECORDING.replace(
        "    gradcheck_run",
        "    if cell.check == 'value':\n        import os; os._exit(0)\n    gradcheck_run",
    )
    (folder / "test_all.py").write_text(dying)
    assert go(run, folder).how == "finished"
    assert recorded(run) == 1


def test_a_hung_child_is_ended(run: Path, folder: Path) -> None:
    (folder / "test_all.py").write_text("import time\n\ndef test_hang():\n    time.sleep(600)\n")
    begun = time.monotonic()
    assert go(run, folder, patience=3.0).how == "hung"
    assert time.monotonic() - begun < 30


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interruption_kills_everything_that_was_started(
    run: Path, folder: Path, number: signal.Signals
) -> None:
    note = folder / "pid"
    (folder / "test_all.py").write_text(
        "import subprocess, time\n\ndef test_long():\n    child = subprocess.Popen(['sleep', '600'])\n"
        f"    open({str(note)!r}, 'w').write(str(child.pid))\n    time.sleep(600)\n"
    )

    def interrupt() -> None:
        while not (note.exists() and note.read_text()):
            time.sleep(0.05)
        os.kill(os.getpid(), number)

    threading.Thread(target=interrupt, daemon=True).start()
    assert go(run, folder, patience=60.0).how == "interrupted"
    deadline = time.monotonic() + 5
    while alive(int(note.read_text())) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not alive(int(note.read_text()))


def test_a_check_that_is_not_planned_costs_nothing(run: Path, folder: Path) -> None:
    (folder / "test_all.py").write_text(RECORDING)
    (folder / "test_more.py").write_text(RECORDING.replace('"value", "derivative"', '"second"'))
    ended = go(run, folder)
    assert (ended.how, ended.status) == ("finished", 0), ended.log.read_text()
    assert recorded(run) == 2
