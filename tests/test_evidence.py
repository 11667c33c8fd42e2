"""The store keeps every record whole, whatever dies, and refuses what is not a run."""

from __future__ import annotations

import json
import math
import os
import signal
import sqlite3
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gradcheck import evidence, files
from gradcheck.document import RunInfo
from gradcheck.encoding import LONGEST_TEXT, evidence_from_json, evidence_to_json
from gradcheck.errors import LockedError, StorageError, UsageError
from gradcheck.evidence import Store, exit_code, export, to_json
from gradcheck.known import KnownEntry, KnownList
from gradcheck.records import Cell, Evidence, Finding, Worst
from tests import runs
from tests.runs import ACCURATE, RAISED, RUN, VACUOUS, WRONG, cell, finding, plan

HERE = Path(__file__).resolve().parent.parent


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "run.sqlite"


@pytest.fixture
def store(path: Path) -> Iterator[Store]:
    with Store.create(path, RUN, plan(4)) as made:
        yield made


def accepting(found: Finding, versions: str = ">=2.13,<2.14") -> KnownList:
    return KnownList((KnownEntry(found.id, found.cell.id, found.cell.subject, versions, "seen"),))


def run_python(program: str, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", program, *arguments], cwd=HERE, stdout=subprocess.PIPE, text=True
    )


def execute(path: Path, statement: str, *values: Any) -> None:
    connection = sqlite3.connect(path)
    with connection:
        connection.execute(statement, values)
    connection.close()


# What is written is what is read


@example((-0.0, math.inf), math.copysign(math.nan, -1.0), -0.0, math.nan, 2**60)
@given(
    st.tuples(st.floats(), st.floats()),
    st.floats(),
    st.floats(),
    st.floats(0) | st.just(math.nan),
    st.integers(0, 2**60),
)
def test_evidence_survives_exactly(
    inputs: tuple[float, ...], got: float, expected: float, size: float, count: int
) -> None:
    worst = Worst(inputs, got, expected, size, size, size, 3, 8, "strided")
    written = replace(WRONG, compared=count, ulp=size, resolution=size, worst=worst, options={"alpha": "0.5"})
    read = evidence_from_json(evidence_to_json(written))
    assert repr(read) == repr(written)


def test_evidence_of_numpy_numbers_is_written_as_plain_ones() -> None:
    numbers = Worst(
        (np.float32(0.5),), np.float64(1), np.float64(1), np.float64(0), np.float64(0), np.float64(0)
    )
    counted = Evidence(compared=np.int64(3), cases=1, breaches={"nan": np.int64(2)}, worst=numbers)
    read = evidence_from_json(evidence_to_json(counted))
    assert (read.compared, read.breaches, read.worst) == (
        3,
        {"nan": 2},
        Worst((0.5,), 1.0, 1.0, 0.0, 0.0, 0.0),
    )


def test_the_plan_is_there_before_any_record(store: Store, path: Path) -> None:
    assert store.cells() == tuple(plan(4))
    assert store.recorded() == 0
    document = store.document()
    assert (document.run.planned, document.run.recorded, document.run.not_run) == (4, 0, 0)
    assert [item.id for item in document.missing] == [item.id for item in plan(4)]
    assert document.exit_code == 3
    assert store.run_info() == RUN


def test_planned_is_recorded_and_not_run_and_missing(store: Store) -> None:
    first, second, third, fourth = store.cells()
    store.record(first, ACCURATE, seconds=0.5)
    store.mark_not_run(second, "no GPU")
    store.record(third, ACCURATE)
    document = store.document()
    assert [item.id for item in document.checks] == [first.id, third.id]
    assert [(item.id, item.reason) for item in document.not_run] == [(second.id, "no GPU")]
    assert [item.id for item in document.missing] == [fourth.id]
    assert store.cells()[1].reason == "no GPU"
    assert document.checks[0].seconds == 0.5
    assert store.recorded() == document.run.recorded == 2


def test_every_part_of_a_record_is_published(path: Path) -> None:
    with runs.full(path) as store:
        document = store.document()
    by_cell = {item.check: item for item in document.findings}
    gelu = by_cell["gelu/torch-cpu/float32/value"]
    assert (gelu.code, gelu.verdict, gelu.known, gelu.confirmation) == (
        "VALUE-WRONG",
        "wrong",
        False,
        {"mpmath": "-0.0"},
    )
    assert [number.value for number in gelu.inputs] == ["-5.5", "0.1"]
    assert (gelu.got.hex, gelu.expected.hex, gelu.ulp, gelu.bound) == ("nan", "-0x0.0p+0", "inf", 5e-324)
    assert by_cell["tanh/torch-cpu/float32/value"].input.value == ""
    assert [item.verdict for item in document.checks] == [
        "agrees",
        "inconclusive",
        "wrong",
        "vacuous",
        "accurate",
        "unstable",
        "wrong",
    ]
    wrong = document.checks[2]
    assert (wrong.options, wrong.binades, wrong.notes) == (
        {"alpha": "0.5", "mode": "tanh"},
        {"-3": 5},
        ["seen twice"],
    )
    assert document.claims == [msgspec.structs.replace(runs.CLAIM, resolution="inf")]
    assert document.artifacts == {"step": {"gelu": {"x": 1.0, "series": {"central": [[0.5, "inf", "nan"]]}}}}
    assert document.run.finished == "2026-01-01T00:01:00Z"
    assert document.run.self_test == {"good": 30, "bad": 30}


def test_a_later_record_replaces_the_earlier_one_with_its_findings(store: Store) -> None:
    first = store.cells()[0]
    store.record(first, WRONG, [finding(first, WRONG), finding(first, WRONG, "LAYOUT-WRONG")])
    assert [item.code for item in store.document().findings] == ["LAYOUT-WRONG", "VALUE-WRONG"]
    for _ in range(2):
        store.record(first, ACCURATE)
        document = store.document()
        assert (document.findings, [item.verdict for item in document.checks]) == ([], ["accurate"])


def test_a_record_of_a_cell_that_was_not_run_makes_it_recorded(store: Store) -> None:
    first = store.cells()[0]
    store.mark_not_run(first, "no GPU")
    store.record(first, ACCURATE)
    assert store.document().not_run == []
    assert store.document().run.recorded == 1


def test_what_was_seen_is_not_taken_back(store: Store) -> None:
    first = store.cells()[0]
    store.record(first, WRONG, [finding(first, WRONG)])
    with pytest.raises(UsageError, match="recorded already"):
        store.mark_not_run(first, "no GPU")
    assert len(store.document().findings) == 1


def test_the_verdict_follows_the_stored_counts(store: Store, path: Path) -> None:
    first = store.cells()[0]
    store.record(first, ACCURATE)
    assert store.document().checks[0].verdict == "accurate"
    changed = json.loads(evidence_to_json(ACCURATE)) | {"outside_unstable": 1}
    execute(path, "UPDATE records SET evidence = ?", json.dumps(changed))
    document = store.document()
    assert document.checks[0].verdict == "wrong"
    assert [(item.code, item.check) for item in document.findings] == [("VALUE-WRONG", first.id)]


def test_a_wrong_check_is_a_finding_even_if_nobody_made_one(path: Path) -> None:
    with Store.create(path, RUN, plan(1)) as store:
        store.record(store.cells()[0], RAISED)
        document = store.document()
    assert [item.code for item in document.findings] == ["SUBJECT-RAISED"]
    assert document.exit_code == 1


# The exit code


@pytest.mark.parametrize(
    ("planned", "missing", "unknown", "stale", "undecided", "code"),
    [
        (100, 0, 0, 0, 0, 0),
        (100, 0, 0, 0, 2, 0),
        (100, 0, 0, 0, 3, 1),
        (149, 0, 0, 0, 3, 1),
        (150, 0, 0, 0, 3, 0),
        (1, 0, 0, 0, 1, 1),
        (100, 0, 1, 0, 0, 1),
        (100, 0, 0, 1, 0, 1),
        (100, 1, 0, 0, 0, 3),
        (100, 1, 1, 1, 9, 3),
    ],
)
def test_the_exit_code_follows_the_rules(
    planned: int, missing: int, unknown: int, stale: int, undecided: int, code: int
) -> None:
    assert exit_code(planned, missing, unknown, stale, undecided) == code


def test_a_known_finding_stays_a_finding_and_passes(path: Path) -> None:
    with Store.create(path, RUN, plan(1)) as store:
        found = finding(store.cells()[0], WRONG)
        store.record(found.cell, WRONG, [found])
        known, unknown = store.document(accepting(found)), store.document(accepting(found, ">=2.14"))
    assert (known.findings[0].known, known.findings[0].reason, known.exit_code) == (True, "seen", 0)
    assert known.checks[0].verdict == "wrong"
    assert (unknown.findings[0].known, unknown.findings[0].reason, unknown.exit_code) == (False, "", 1)
    assert unknown.stale_known == []


@pytest.mark.parametrize(
    ("act", "stale"),
    [
        (lambda store, of: store.record(of, ACCURATE), True),
        (lambda store, of: store.record(of, VACUOUS), False),
        (lambda store, of: store.mark_not_run(of, "no GPU"), False),
        (lambda store, of: None, False),
    ],
    ids=["passed", "vacuous", "not run", "missing"],
)
def test_a_known_entry_is_stale_only_if_its_cell_was_decided(
    path: Path, act: Callable[[Store, Cell], None], stale: bool
) -> None:
    with Store.create(path, RUN, plan(2)) as store:
        first, second = store.cells()
        store.record(second, ACCURATE)
        act(store, first)
        document = store.document(accepting(finding(first, WRONG)))
        elsewhere = store.document(accepting(finding(cell("gelu"), WRONG)))
    assert bool(document.stale_known) is stale
    assert elsewhere.stale_known == []
    if stale:
        assert document.exit_code == 1 and first.id in document.stale_known[0]


def test_claims_never_change_the_exit_code(path: Path) -> None:
    with Store.create(path, RUN, plan(1)) as store:
        store.record(store.cells()[0], ACCURATE)
        store.claim(runs.CLAIM)
        assert store.document().exit_code == 0


def test_what_is_not_run_with_a_reason_passes(path: Path) -> None:
    with Store.create(path, RUN, [cell("gelu"), cell("silu", reason="no GPU")]) as store:
        store.record(cell("gelu"), ACCURATE)
        assert store.document().exit_code == 0


# The export


def test_the_same_records_in_any_order_give_the_same_bytes(tmp_path: Path) -> None:
    texts = []
    for name, step in (("one", 1), ("two", -1)):
        left_out = [cell("silu", reason="no GPU"), cell("gelu", reason="no GPU"), cell("tanh"), cell("elu")]
        with Store.create(tmp_path / name, RUN, [*plan(4), *left_out][::step]) as store:
            for of in plan(4)[::step]:
                store.record(
                    of, WRONG, [finding(of, WRONG, code) for code in ("LAYOUT-WRONG", "VALUE-WRONG")[::step]]
                )
            for kind in ("step", "special")[::step]:
                store.artifact(kind, "k", {"b": 1, "a": 2} if step == 1 else {"a": 2, "b": 1})
            texts.append(to_json(store.document()))
    assert texts[0] == texts[1]


def test_the_export_is_what_the_document_says(path: Path, tmp_path: Path) -> None:
    with runs.full(path) as store:
        document = store.document()
    export(document, tmp_path / "new folder" / "evidence.json")
    text = (tmp_path / "new folder" / "evidence.json").read_text(encoding="utf-8")
    assert text == to_json(document)
    assert json.loads(text)["exit_code"] == document.exit_code
    assert sorted(item.name for item in (tmp_path / "new folder").iterdir()) == ["evidence.json"]


def test_a_failed_export_leaves_the_old_file(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "evidence.json"
    target.write_text("old", encoding="utf-8")
    with runs.full(path) as store:
        document = store.document()

    def fail(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(StorageError, match=r"cannot write .*evidence\.json': No space left"):
        export(document, target)
    assert target.read_text(encoding="utf-8") == "old"
    assert not list(tmp_path.glob(".*"))


def test_hostile_text_is_inert_in_the_store_and_the_export(path: Path) -> None:
    hostile = "<script>\0\x1b[31m\u202e\ud800 ../../x ::error:: '; DROP TABLE cells; --"
    with Store.create(path, RUN, plan(1)) as store:
        of = store.cells()[0]
        long = Finding("VALUE-WRONG", of, WRONG, hostile, "x" * 10_000_000)
        store.record(of, replace(WRONG, notes=(hostile,), options={hostile: hostile}), [long])
        store.artifact(hostile, hostile, [hostile])
        document = store.document()
    (found,) = json.loads(to_json(document))["findings"]
    assert found["message"] == hostile.replace("\ud800", "\\ud800")
    assert len(found["reproduction"]) == LONGEST_TEXT
    assert found["reproduction"].endswith("[cut]")


@pytest.mark.parametrize("data", [object(), {"x": {1, 2}}, [b"bytes"], lambda: None])
def test_an_artifact_that_json_cannot_hold_is_refused(store: Store, data: Any) -> None:
    with pytest.raises(UsageError, match="artifact step/gelu: expected data that JSON can hold"):
        store.artifact("step", "gelu", data)


def test_artifacts_hold_arrays_and_huge_numbers(store: Store) -> None:
    store.artifact(
        "ulp_profile", "k", {"x": np.array([1.5, np.inf]), "n": np.int64(3), "big": 10**30, "y": True}
    )
    assert store.document().artifacts["ulp_profile"]["k"] == {
        "x": [1.5, "inf"],
        "n": 3,
        "big": str(10**30),
        "y": True,
    }


# What cannot be recorded


def test_a_cell_outside_the_plan_is_refused(store: Store) -> None:
    with pytest.raises(UsageError, match="'gelu/torch-cpu/float32/value' is not in the plan"):
        store.record(cell("gelu"), ACCURATE)
    with pytest.raises(UsageError, match="is not in the plan"):
        store.mark_not_run(cell("gelu"), "why")
    assert store.recorded() == 0


@pytest.mark.parametrize(
    ("findings", "confirmation", "complaint"),
    [
        ([finding(cell("gelu"), WRONG)], {}, "a finding of gelu/.* cannot be recorded with f00000"),
        ([finding(plan(1)[0], ACCURATE)], {}, "evidence that is 'accurate' is no finding"),
        ([], {"VALUE-WRONG": {"mpmath": "0"}}, "confirmation of 'VALUE-WRONG', which is no finding"),
    ],
)
def test_a_finding_that_does_not_belong_is_refused(
    store: Store, findings: list[Finding], confirmation: dict[str, dict[str, str]], complaint: str
) -> None:
    with pytest.raises(UsageError, match=complaint):
        store.record(store.cells()[0], WRONG, findings, confirmation=confirmation)
    assert store.recorded() == 0


def test_a_check_that_is_not_run_needs_a_reason(store: Store) -> None:
    with pytest.raises(UsageError, match="needs a reason, got reason=' '"):
        store.mark_not_run(store.cells()[0], " ")


@pytest.mark.parametrize(
    ("cells", "complaint"), [([], "the plan is empty"), (plan(2) + plan(1), "names 'f00000/.*' twice")]
)
def test_a_plan_that_is_no_plan_is_refused(path: Path, cells: list[Cell], complaint: str) -> None:
    with pytest.raises(UsageError, match=complaint):
        Store.create(path, RUN, cells)
    assert not path.exists()


def test_a_description_that_would_not_read_back_is_refused(path: Path) -> None:
    with pytest.raises(UsageError, match="the description of the run cannot be stored"):
        Store.create(path, msgspec.structs.replace(RUN, seed=2**70), plan(1))
    assert not path.exists()


def test_a_store_that_was_opened_to_read_does_not_write(path: Path, store: Store) -> None:
    with Store.open(path) as reader, pytest.raises(StorageError, match="was opened to read"):
        reader.record(reader.cells()[0], ACCURATE)
    assert store.recorded() == 0


# Files that are no run


def truncated(path: Path, keep: float) -> None:
    with Store.create(path, RUN, plan(500)):
        pass
    os.truncate(path, int(path.stat().st_size * keep))


def foreign(path: Path) -> None:
    execute(path, "CREATE TABLE accounts (id)")


def newer(path: Path) -> None:
    with Store.create(path, RUN, plan(1)):
        pass
    execute(path, "PRAGMA user_version = 99")


def overwritten(path: Path) -> None:
    with Store.create(path, RUN, plan(500)):
        pass
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(b"\xa5" * 20_000)


NO_RUNS: dict[str, tuple[Callable[[Path], Any], str]] = {
    "missing": (lambda path: None, "there is none"),
    "folder": (lambda path: path.mkdir(), "got a folder"),
    "empty": (lambda path: path.touch(), "got an empty file"),
    "text": (
        lambda path: path.write_text('{"schema_version": 1}'),
        "got a file that begins with b'{\"schema",
    ),
    "zeros": (lambda path: path.write_bytes(bytes(10_000)), "got a file that begins with"),
    "header only": (lambda path: path.write_bytes(b"SQLite format 3\0"), "got a truncated SQLite database"),
    "pipe": (os.mkfifo, "got a device or a pipe"),
    "foreign": (foreign, "got another SQLite database"),
    "newer": (newer, "expected run file version 1, got 99; upgrade gradcheck"),
    "half": (lambda path: truncated(path, 0.5), "it is truncated: expected [0-9]+ bytes, got [0-9]+"),
    "almost whole": (lambda path: truncated(path, 0.99), "it is truncated"),
    "overwritten": (overwritten, "the file is damaged"),
}


@pytest.mark.parametrize("kind", NO_RUNS)
def test_what_is_no_run_is_refused_and_left_alone(path: Path, kind: str) -> None:
    make, complaint = NO_RUNS[kind]
    make(path)
    before = path.read_bytes() if path.is_file() else None
    with pytest.raises(StorageError, match=complaint) as refused:
        Store.open(path).document()
    assert str(path) in str(refused.value)
    assert (path.read_bytes() if path.is_file() else None) == before


@pytest.mark.parametrize("kind", ["folder", "empty", "text", "zeros", "header only", "pipe", "foreign"])
def test_a_new_run_does_not_replace_what_is_no_run(path: Path, kind: str) -> None:
    NO_RUNS[kind][0](path)
    before = path.read_bytes() if path.is_file() else None
    with pytest.raises(StorageError, match=r"cannot replace .*run\.sqlite"):
        Store.create(path, RUN, plan(1))
    assert (path.read_bytes() if path.is_file() else None) == before
    path.rmdir() if path.is_dir() else path.unlink()
    with Store.create(path, RUN, plan(1)) as store:
        assert store.recorded() == 0


@pytest.mark.parametrize("kind", ["newer", "half", "overwritten"])
def test_a_new_run_replaces_a_damaged_run(path: Path, kind: str) -> None:
    NO_RUNS[kind][0](path)
    with Store.create(path, RUN, plan(3)) as store:
        assert len(store.cells()) == 3


def test_a_link_is_not_replaced(path: Path, tmp_path: Path) -> None:
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StorageError, match="it is a link"):
        Store.create(path, RUN, plan(1))
    assert path.is_symlink() and not (tmp_path / "elsewhere").exists()


@pytest.mark.parametrize("name", ["file/run.sqlite", "x" * 300, "a\0b"])
def test_a_path_that_cannot_be_written_is_a_storage_error(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").write_text("a file, not a folder", encoding="utf-8")
    with pytest.raises(StorageError):
        Store.create(tmp_path / name, RUN, plan(1))
    with pytest.raises(StorageError):
        Store.open(tmp_path / name)


@pytest.mark.parametrize("name", ["run ?mode=memory#%20.sqlite", "räger.sqlite"])
def test_an_odd_file_name_is_a_file_name(tmp_path: Path, name: str) -> None:
    with Store.create(tmp_path / name, RUN, plan(1)):
        pass
    with Store.open(tmp_path / name) as store:
        assert store.recorded() == 0
    assert (tmp_path / name).is_file()


@pytest.mark.parametrize(
    "text",
    ["", "null", "[]", "{}", "NaN", '{"compared": 1e999}', "[" * 200_000, "9" * 5000, '{"compared": "many"}'],
)
def test_hostile_content_is_refused_at_once(path: Path, store: Store, text: str) -> None:
    store.record(store.cells()[0], ACCURATE)
    execute(path, "UPDATE records SET evidence = ?", text)
    begun = time.monotonic()
    with pytest.raises(StorageError, match="unexpected content"):
        store.document()
    assert time.monotonic() - begun < 1.0


@pytest.mark.parametrize("text", ["{", "[" * 200_000, "nan"])
def test_hostile_artifacts_are_refused(path: Path, store: Store, text: str) -> None:
    store.artifact("step", "gelu", [])
    execute(path, "UPDATE artifacts SET data = ?", text)
    with pytest.raises(StorageError, match="unexpected content"):
        store.document()


def test_a_huge_value_is_refused(path: Path, store: Store) -> None:
    store.artifact("step", "gelu", [])
    execute(path, "UPDATE artifacts SET data = zeroblob(?)", evidence.LARGEST_VALUE + 1)
    with pytest.raises(StorageError, match="larger than a run file may hold"):
        store.document()


def test_a_run_without_its_description_is_refused(path: Path, store: Store) -> None:
    execute(path, "DELETE FROM meta")
    with pytest.raises(StorageError, match="the description of the run is missing"):
        store.document()


# Replacement, locks, processes


def test_a_new_run_replaces_an_old_one_with_all_its_files(path: Path) -> None:
    with runs.full(path):
        pass
    with Store.create(path, RUN, plan(2)) as store:
        assert store.cells() == tuple(plan(2))
        assert store.document().artifacts == {}


def test_a_log_left_by_a_killed_run_does_not_leak_into_the_next(path: Path) -> None:
    program = (
        "import os, sys; from tests import runs; from pathlib import Path\n"
        "runs.full(Path(sys.argv[1])); os.kill(os.getpid(), 9)"
    )
    with run_python(program, str(path)) as killed_run:
        assert killed_run.wait() == -signal.SIGKILL
    assert path.with_name("run.sqlite-wal").stat().st_size > 0
    with Store.open(path) as killed:
        assert killed.recorded() == 7
    with Store.create(path, RUN, plan(2)) as store:
        assert store.cells() == tuple(plan(2))
    with Store.open(path) as again:
        assert again.cells() == tuple(plan(2))


def test_a_failed_creation_leaves_the_old_run(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with runs.full(path) as store:
        before = to_json(store.document())

    def fail(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(StorageError, match="No space left on device"):
        Store.create(path, RUN, plan(2))
    monkeypatch.undo()
    with Store.open(path) as old:
        assert to_json(old.document()) == before
    assert not list(path.parent.glob(".*new"))


def test_a_closed_run_is_one_file(path: Path) -> None:
    with runs.full(path):
        pass
    assert sorted(item.name for item in path.parent.iterdir()) == ["run.sqlite", "run.sqlite.lock"]


def test_a_second_run_is_locked_out_until_the_first_ends(path: Path) -> None:
    with Store.create(path, RUN, plan(1)) as store:
        with pytest.raises(LockedError, match=f"process {os.getpid()} is writing the run"):
            Store.create(path, RUN, plan(2))
        with pytest.raises(LockedError):
            Store.open(path, write=True, hold=True)
        assert len(store.cells()) == 1
        with Store.open(path, write=True) as worker:
            worker.record(worker.cells()[0], ACCURATE)
        assert store.recorded() == 1
    with Store.create(path, RUN, plan(2)) as store:
        assert len(store.cells()) == 2


def test_the_lock_ends_with_a_killed_holder(path: Path) -> None:
    program = (
        "import sys, time; from tests.runs import RUN, plan; from gradcheck.evidence import Store\n"
        "store = Store.create(sys.argv[1], RUN, plan(1)); print('held', flush=True); time.sleep(60)"
    )
    with run_python(program, str(path)) as holder:
        assert holder.stdout is not None and holder.stdout.readline() == "held\n"
        with pytest.raises(LockedError, match=f"process {holder.pid} "):
            Store.create(path, RUN, plan(2))
        holder.kill()
    with Store.create(path, RUN, plan(2)) as store:
        assert len(store.cells()) == 2


WORKER = """
import sys
import threading
from tests.runs import WRONG, finding
from gradcheck.evidence import Store

path, offset, step = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
store = Store.open(path, write=True)
print("ready", flush=True)
for of in store.cells()[offset::step]:
    found = [finding(of, WRONG, code) for code in ("VALUE-WRONG", "LAYOUT-WRONG", "SHAPE-WRONG")]
    store.record(of, WRONG, found, 0.25)
print("done", flush=True)
"""


def assert_whole(path: Path) -> int:
    """Return how many records there are, each with everything that belongs to it."""
    with Store.open(path) as store:
        document = store.document()
    for check in document.checks:
        assert (check.compared, check.verdict, check.seconds) == (WRONG.compared, "wrong", 0.25)
    of_findings = [item.check for item in document.findings]
    assert of_findings == [check.id for check in document.checks for _ in range(3)]
    assert len(document.checks) + len(document.missing) == document.run.planned
    return len(document.checks)


def test_two_processes_record_at_once(path: Path) -> None:
    count = 300
    with Store.create(path, RUN, plan(count)) as store:
        workers = [run_python(WORKER, str(path), str(offset), "2") for offset in range(2)]
        assert [worker.communicate()[0].split() for worker in workers] == [["ready", "done"]] * 2
        assert store.recorded() == count
    assert assert_whole(path) == count


def test_two_processes_that_record_the_same_cells_leave_one_record_each(path: Path) -> None:
    with Store.create(path, RUN, plan(60)):
        workers = [run_python(WORKER, str(path), "0", "1") for _ in range(2)]
        assert [worker.communicate()[0].split() for worker in workers] == [["ready", "done"]] * 2
    assert assert_whole(path) == 60


@pytest.mark.parametrize("delay", [0.0, 0.03, 0.09])
def test_a_record_exists_completely_or_not_at_all_after_kill(path: Path, delay: float) -> None:
    count = 20_000
    with Store.create(path, RUN, plan(count)):
        with run_python(WORKER, str(path), "0", "1") as worker:
            assert worker.stdout is not None and worker.stdout.readline() == "ready\n"
            with Store.open(path) as watcher:
                while watcher.recorded() == 0:
                    time.sleep(0.001)
            time.sleep(delay)
            worker.kill()
        assert worker.returncode == -signal.SIGKILL
        recorded = assert_whole(path)
    assert 0 < recorded < count


def test_a_run_that_was_killed_resumes_to_the_same_evidence(tmp_path: Path) -> None:
    texts = []
    for name in ("whole", "killed"):
        path = tmp_path / name / "run.sqlite"
        with Store.create(path, RUN, plan(400)):
            pass
        worker = run_python(WORKER, str(path), "0", "1")
        if name == "killed":
            with Store.open(path) as watcher:
                while watcher.recorded() < 5:
                    time.sleep(0.001)
            worker.kill()
        worker.communicate()
        with Store.open(path, write=True, hold=True) as store:
            done = {item.id for item in store.document().checks}
            assert (len(done) < 400) is (name == "killed")
            for of in store.cells():
                if of.id not in done:
                    found = [
                        finding(of, WRONG, code) for code in ("VALUE-WRONG", "LAYOUT-WRONG", "SHAPE-WRONG")
                    ]
                    store.record(of, WRONG, found, 0.25)
            texts.append(to_json(store.document()))
    assert texts[0] == texts[1]


def test_a_full_disk_leaves_no_half_record(path: Path) -> None:
    program = """
import resource, sys
from tests.runs import WRONG, finding
from gradcheck.errors import StorageError
from gradcheck.evidence import Store

with Store.open(sys.argv[1], write=True) as store:
    resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, 400_000))
    try:
        for of in store.cells():
            found = [finding(of, WRONG, code) for code in ("VALUE-WRONG", "LAYOUT-WRONG", "SHAPE-WRONG")]
            store.record(of, WRONG, found, 0.25)
    except StorageError as error:
        print(error)
"""
    with Store.create(path, RUN, plan(1000)):
        said = run_python(program, str(path)).communicate()[0]
    assert said.startswith("cannot record f0") and str(path) in said
    assert 0 < assert_whole(path) < 1000


def test_several_processes_may_open_a_closed_run_to_write_at_once(path: Path) -> None:
    with Store.create(path, RUN, plan(40)):
        pass
    workers = [run_python(WORKER, str(path), str(offset), "4") for offset in range(4)]
    assert [worker.communicate()[0].split() for worker in workers] == [["ready", "done"]] * 4
    assert assert_whole(path) == 40


def test_the_run_file_says_whose_it_is(path: Path, store: Store) -> None:
    header = path.read_bytes()[:100]
    assert struct.unpack_from(">I", header, 68)[0] == files.APPLICATION_ID
    assert struct.unpack_from(">I", header, 60)[0] == files.USER_VERSION


def test_the_description_of_a_run_survives(path: Path) -> None:
    info = RunInfo(
        "now", "thorough", 2**32, {"torch": "x"}, {"isa": "\u202e"}, explore=True, self_test={"good": 1}
    )
    with Store.create(path, info, plan(1)) as store:
        assert store.run_info() == info


@pytest.mark.parametrize("begin", ["BEGIN", "BEGIN IMMEDIATE", "BEGIN EXCLUSIVE"])
def test_opening_to_write_waits_for_who_is_busy_with_a_closed_run(path: Path, begin: str) -> None:
    with Store.create(path, RUN, plan(1)):
        pass
    busy = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    busy.execute(begin)
    busy.execute("SELECT count(*) FROM meta").fetchall()
    release = threading.Timer(0.3, busy.execute, ["COMMIT"])
    release.start()
    with Store.open(path, write=True) as store:
        store.record(store.cells()[0], ACCURATE)
    release.join()
    busy.close()
