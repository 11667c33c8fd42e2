"""The store of a run: one SQLite file that holds the plan first, then a complete record per cell.

A record is one transaction: it exists completely or not at all, whatever dies in between. Several processes
record at once; one process at a time may create or hold a run. The file is checked at the door: SQLite would
open an empty file as an empty database, and that must not read as a run without findings.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import time
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any, Self

import msgspec

from gradcheck import files
from gradcheck.document import SCHEMA_VERSION, ClaimRecord, Document, FindingRecord, RunInfo
from gradcheck.encoding import (
    check_record,
    clean,
    dumps,
    evidence_from_json,
    evidence_to_json,
    finding_record,
    loads,
    not_run_record,
)
from gradcheck.errors import StorageError, UsageError
from gradcheck.explain import code_for
from gradcheck.files import storage
from gradcheck.known import KnownList
from gradcheck.records import Cell, Evidence, Finding, Verdict

BUSY_SECONDS = 60.0
LARGEST_VALUE = 64 * 2**20
# At most one planned check in fifty may end without an answer.
UNDECIDED_SHARE = 50
NO_RECORD = "no record: the process that ran it ended first"

_TABLES = f"""
PRAGMA application_id = {files.APPLICATION_ID};
PRAGMA user_version = {files.USER_VERSION};
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE cells (
    position INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, formula TEXT NOT NULL, subject TEXT NOT NULL,
    format TEXT NOT NULL, check_name TEXT NOT NULL, reason TEXT NOT NULL);
CREATE TABLE records (
    cell TEXT PRIMARY KEY REFERENCES cells (id), evidence TEXT NOT NULL, seconds REAL NOT NULL);
CREATE TABLE findings (
    cell TEXT NOT NULL REFERENCES records (cell) DEFERRABLE INITIALLY DEFERRED, code TEXT NOT NULL,
    evidence TEXT NOT NULL, message TEXT NOT NULL, reproduction TEXT NOT NULL, confirmation TEXT NOT NULL,
    PRIMARY KEY (cell, code));
CREATE TABLE claims (id TEXT PRIMARY KEY, record TEXT NOT NULL);
CREATE TABLE artifacts (kind TEXT NOT NULL, key TEXT NOT NULL, data TEXT NOT NULL, PRIMARY KEY (kind, key));
"""
_EMPTY: Mapping[str, Mapping[str, str]] = MappingProxyType({})


class Store:
    """A run file, open. Made by `create` or `open`; a context manager that closes it."""

    def __init__(self, path: Path, connection: sqlite3.Connection, write: bool, lock: int | None) -> None:
        self.path = path
        self._connection = connection
        self._writes = write
        self._lock = lock

    @classmethod
    def create(cls, path: str | Path, run: RunInfo, cells: Iterable[Cell]) -> Self:
        """Write a new run file with its whole plan, and hold it until `close`.

        A run file of an earlier run is replaced, in one step and only when the new one is complete. Raises
        `StorageError` where anything else is in the way or nothing can be written, `LockedError` while
        another process holds the run, `UsageError` for a plan that is empty or names a cell twice.
        """
        path = Path(path)
        plan = _distinct(cells)
        description = _checked_json(run, "the description of the run")
        with storage(path, "create the run file"):
            path.parent.mkdir(parents=True, exist_ok=True)
        lock = files.hold(path)
        try:
            files.refuse_foreign(path)
            files.replace_database(path, lambda new: _write_plan(new, description, plan))
            return cls(path, _connect(path, write=True), True, lock)
        except BaseException:
            os.close(lock)
            raise

    @classmethod
    def open(cls, path: str | Path, write: bool = False, hold: bool = False) -> Self:
        """Open an existing run file, to read or to add records; `hold` keeps other runs away until `close`.

        Raises `StorageError` for anything but a complete run file that this version can read.
        """
        path = Path(path)
        files.require_run_file(path)
        lock = files.hold(path) if hold else None
        try:
            return cls(path, _connect(path, write), write, lock)
        except BaseException:
            if lock is not None:
                os.close(lock)
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def run_info(self) -> RunInfo:
        """Return what was run, without the counts of the records."""
        with self._reading() as connection:
            return _run_info(connection)

    def cells(self) -> tuple[Cell, ...]:
        """Return the plan, in its order; a cell that is not run carries its reason."""
        with self._reading() as connection:
            return _plan(connection)

    def recorded(self) -> int:
        """Return how many cells have a record."""
        with self._reading() as connection:
            return int(connection.execute("SELECT count(*) FROM records").fetchone()[0])

    def record(
        self,
        cell: Cell,
        evidence: Evidence,
        findings: Iterable[Finding] = (),
        seconds: float = 0.0,
        confirmation: Mapping[str, Mapping[str, str]] = _EMPTY,
    ) -> None:
        """Write what the check of `cell` saw, with its findings, all or nothing; a later record replaces it.

        `confirmation` holds, by the id or the code of a finding, what second engines said about it. Raises
        `UsageError` for a cell that is not in the plan and a finding that is not of this cell.
        """
        rows = _finding_rows(cell, findings, confirmation)
        text = evidence_to_json(evidence)
        name = clean(cell.id)
        with self._writing(f"record {cell.id}") as connection:
            changed = connection.execute("UPDATE cells SET reason = '' WHERE id = ?", (name,))
            if not changed.rowcount:
                raise UsageError(f"cell={cell.id!r} is not in the plan of {self.path}")
            connection.execute(
                "INSERT OR REPLACE INTO records VALUES (?, ?, ?)", (name, text, float(seconds))
            )
            connection.execute("DELETE FROM findings WHERE cell = ?", (name,))
            connection.executemany("INSERT OR REPLACE INTO findings VALUES (?, ?, ?, ?, ?, ?)", rows)

    def plan_more(self, cells: Iterable[Cell]) -> None:
        """Add cells to the plan that were not known when the run began; those that are in it stay."""
        rows = [
            (clean(c.id), *map(clean, (c.formula, c.subject, c.format, c.check, c.reason))) for c in cells
        ]
        with self._writing("add to the plan") as connection:
            connection.executemany("INSERT OR IGNORE INTO cells VALUES (NULL, ?, ?, ?, ?, ?, ?)", rows)

    def progress(self) -> tuple[int, int]:
        """Return how many cells have a record, and how many are to have one."""
        with self._reading() as connection:
            wanted = connection.execute("SELECT count(*) FROM cells WHERE reason = ''").fetchone()[0]
            return int(connection.execute("SELECT count(*) FROM records").fetchone()[0]), int(wanted)

    def mark_not_run(self, cell: Cell, reason: str) -> None:
        """Say why a planned cell is not run; `UsageError` if it is recorded, unplanned or has no reason."""
        if not reason.strip():
            raise UsageError(f"{cell.id}: a check that is not run needs a reason, got reason={reason!r}")
        name = clean(cell.id)
        with self._writing(f"mark {cell.id}") as connection:
            if connection.execute("SELECT 1 FROM records WHERE cell = ?", (name,)).fetchone():
                raise UsageError(f"{cell.id} is recorded already, and what was seen is not taken back")
            changed = connection.execute("UPDATE cells SET reason = ? WHERE id = ?", (clean(reason), name))
            if not changed.rowcount:
                raise UsageError(f"cell={cell.id!r} is not in the plan of {self.path}")

    def claim(self, record: ClaimRecord) -> None:
        """Write what measuring a claim gave; a later record of the same claim replaces it."""
        row = (clean(record.id), _checked_json(record, f"claim {record.id}"))
        with self._writing(f"record claim {record.id}") as connection:
            connection.execute("INSERT OR REPLACE INTO claims VALUES (?, ?)", row)

    def artifact(self, kind: str, key: str, data: Any) -> None:
        """Write data for a chart or table; `UsageError` if JSON cannot hold it."""
        try:
            text = dumps(data)
        except (RecursionError, UsageError) as error:
            raise UsageError(f"artifact {kind}/{key}: {error}") from None
        with self._writing(f"write artifact {kind}/{key}") as connection:
            row = (clean(kind), clean(key), text)
            connection.execute("INSERT OR REPLACE INTO artifacts VALUES (?, ?, ?)", row)

    def finish(self, finished: str) -> None:
        """Write when the run ended; without it the document has an empty `finished`."""
        with self._writing("finish the run") as connection:
            connection.execute("INSERT OR REPLACE INTO meta VALUES ('finished', ?)", (clean(finished),))

    def document(self, known: KnownList | None = None) -> Document:
        """Return the run as it is published, sorted by ids, with the exit code that `exit_code` gives it."""
        with self._reading() as connection:
            return _document(connection, known or KnownList())

    def close(self) -> None:
        """Close the file and let others hold it; the holder leaves one file that is complete by itself."""
        if self._lock is not None:
            # Fails while a worker still has the file open; its write-ahead log then stays beside it.
            with contextlib.suppress(sqlite3.Error):
                self._connection.execute("PRAGMA journal_mode = DELETE")
        self._connection.close()
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    @contextlib.contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        with storage(self.path, "read the run file"), _transaction(self._connection, "BEGIN"):
            yield self._connection

    @contextlib.contextmanager
    def _writing(self, doing: str) -> Iterator[sqlite3.Connection]:
        if not self._writes:
            raise StorageError(
                f"cannot {doing}: {str(self.path)!r} was opened to read; open it with write=True"
            )
        with storage(self.path, doing), _transaction(self._connection, "BEGIN IMMEDIATE"):
            yield self._connection


def exit_code(planned: int, missing: int, unknown: int, stale: int, undecided: int) -> int:
    """Return the exit code of a run that counted these.

    3 if a planned check has no record, whatever else was found, since such a run is not complete; 1 for a
    finding that is not known, a stale known entry, or more than 2 % of the plan vacuous or inconclusive.
    """
    if missing:
        return 3
    return 1 if unknown or stale or undecided * UNDECIDED_SHARE > planned else 0


def to_json(document: Document) -> str:
    """Return a document as JSON text in a fixed order: the content of `evidence.json`."""
    text = msgspec.json.encode(document, order="deterministic")
    return msgspec.json.format(text, indent=1).decode("utf-8") + "\n"


def to_json_text(data: object) -> str:
    """Return plain data as JSON text in a fixed order."""
    text = msgspec.json.encode(data, order="deterministic")
    return msgspec.json.format(text, indent=1).decode("utf-8") + "\n"


def export(document: Document, path: str | Path) -> None:
    """Write a document as JSON; the file at `path` is replaced in one step or not at all."""
    files.write_atomically(Path(path), to_json(document).encode("utf-8"))


@cache
def schema() -> dict[str, Any]:
    """Return the JSON Schema of `evidence.json`."""
    text = (Path(__file__).parent / "schema" / "evidence.schema.json").read_bytes()
    loaded: dict[str, Any] = msgspec.json.decode(text)
    return loaded


def _distinct(cells: Iterable[Cell]) -> list[Cell]:
    plan: dict[str, Cell] = {}
    for cell in cells:
        if plan.setdefault(clean(cell.id), cell) is not cell:
            raise UsageError(f"the plan names {cell.id!r} twice")
    if not plan:
        raise UsageError("the plan is empty: nothing would be checked; widen the selection")
    return list(plan.values())


def _checked_json(value: RunInfo | ClaimRecord, what: str) -> str:
    """Return JSON text that is known to read back: what is written once must not fail every later reader."""
    text = dumps(value)
    try:
        loads(text, type(value))
    except ValueError as error:
        raise UsageError(f"{what} cannot be stored: {error}") from None
    return text


def _write_plan(path: Path, description: str, plan: list[Cell]) -> None:
    connection = sqlite3.connect(path, isolation_level=None)
    try:
        # The file is synchronised as a whole before it takes its place; until then it needs no safety.
        connection.executescript("PRAGMA synchronous = OFF; PRAGMA journal_mode = MEMORY;" + _TABLES)
        with _transaction(connection, "BEGIN"):
            connection.execute("INSERT INTO meta VALUES ('run', ?)", (description,))
            rows = (
                (clean(c.id), *map(clean, (c.formula, c.subject, c.format, c.check, c.reason))) for c in plan
            )
            connection.executemany("INSERT INTO cells VALUES (NULL, ?, ?, ?, ?, ?, ?)", rows)
    finally:
        connection.close()


def _connect(path: Path, write: bool) -> sqlite3.Connection:
    with storage(path, "open the run file"):
        address = f"{path.absolute().as_uri()}?mode={'rw' if write else 'ro'}"
        connection = sqlite3.connect(address, uri=True, timeout=BUSY_SECONDS, isolation_level=None)
        try:
            connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, LARGEST_VALUE)
            connection.execute("PRAGMA foreign_keys = ON")
            if write:
                # A power cut may lose the last records, which are then missing; it cannot tear one.
                connection.execute("PRAGMA synchronous = NORMAL")
                _use_log(connection)
            else:
                files.require_sound(path, connection)
        except BaseException:
            connection.close()
            raise
        return connection


def _use_log(connection: sqlite3.Connection) -> None:
    """Switch to the write-ahead log; SQLite does not wait by itself when several processes do so at once."""
    deadline = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
            time.sleep(0.02)


@contextlib.contextmanager
def _transaction(connection: sqlite3.Connection, begin: str) -> Iterator[None]:
    connection.execute(begin)
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        # SQLite has rolled back by itself after some errors, such as a full disk.
        with contextlib.suppress(sqlite3.Error):
            connection.execute("ROLLBACK")
        raise


def _finding_rows(
    cell: Cell, findings: Iterable[Finding], confirmation: Mapping[str, Mapping[str, str]]
) -> list[tuple[str, ...]]:
    rows, unused = [], set(confirmation)
    for finding in findings:
        if finding.cell.id != cell.id:
            raise UsageError(f"a finding of {finding.cell.id} cannot be recorded with {cell.id}")
        if not finding.evidence.verdict.is_finding:
            raise UsageError(
                f"{finding.id}: evidence that is {finding.evidence.verdict.value!r} is no finding"
            )
        unused -= {finding.id, finding.code}
        confirmed = confirmation.get(finding.id, confirmation.get(finding.code, {}))
        texts = finding.message, finding.reproduction
        evidence = evidence_to_json(finding.evidence)
        rows.append((*map(clean, (cell.id, finding.code)), evidence, *map(clean, texts), dumps(confirmed)))
    if unused:
        raise UsageError(
            f"{cell.id}: confirmation of {sorted(unused)[0]!r}, which is no finding of this cell"
        )
    return rows


def _run_info(connection: sqlite3.Connection) -> RunInfo:
    meta = dict(connection.execute("SELECT key, value FROM meta"))
    if "run" not in meta:
        raise ValueError("the description of the run is missing")
    run = loads(meta["run"], RunInfo)
    return msgspec.structs.replace(run, finished=meta.get("finished", run.finished))


def _plan(connection: sqlite3.Connection) -> tuple[Cell, ...]:
    columns = "SELECT formula, subject, format, check_name, reason FROM cells ORDER BY position"
    return tuple(Cell(*row) for row in connection.execute(columns))


def _document(connection: sqlite3.Connection, known: KnownList) -> Document:
    run = _run_info(connection)
    plan = {cell.id: cell for cell in sorted(_plan(connection), key=lambda cell: cell.id)}
    seen, seconds = {}, {}
    for cell, evidence, taken in connection.execute("SELECT cell, evidence, seconds FROM records"):
        seen[cell], seconds[cell] = evidence_from_json(evidence), taken
    findings = _findings(connection, plan, seen, known, run)
    without = [cell for cell in plan.values() if cell.id not in seen]
    verdicts = {cell: evidence.verdict for cell, evidence in seen.items()}
    undecided = {c for c, verdict in verdicts.items() if verdict in (Verdict.VACUOUS, Verdict.INCONCLUSIVE)}
    # A quick run draws too little to tell that a finding has gone.
    decided = set() if run.profile == "quick" else set(seen) - undecided
    stale = known.stale({finding.id for finding in findings}, decided, run.versions, _features(run))
    missing = [not_run_record(cell, NO_RECORD) for cell in without if not cell.reason]
    not_run = [not_run_record(cell, cell.reason) for cell in without if cell.reason]
    counts = {"planned": len(plan), "recorded": len(seen), "not_run": len(not_run)}
    unknown = sum(not finding.known for finding in findings)
    return Document(
        schema_version=SCHEMA_VERSION,
        run=msgspec.structs.replace(run, **counts),
        checks=[check_record(plan[cell], seen[cell], seconds[cell]) for cell in sorted(seen)],
        findings=findings,
        claims=[
            loads(text, ClaimRecord)
            for (text,) in connection.execute("SELECT record FROM claims ORDER BY id")
        ],
        not_run=not_run,
        missing=missing,
        stale_known=[str(entry) for entry in stale],
        artifacts=_artifacts(connection),
        exit_code=exit_code(len(plan), len(missing), unknown, len(stale), len(undecided)),
    )


def _findings(
    connection: sqlite3.Connection,
    plan: Mapping[str, Cell],
    seen: Mapping[str, Evidence],
    known: KnownList,
    run: RunInfo,
) -> list[FindingRecord]:
    found: dict[tuple[str, str], tuple[Finding, dict[str, str]]] = {}
    for cell, code, evidence, message, reproduction, confirmed in connection.execute(
        "SELECT * FROM findings"
    ):
        finding = Finding(code, plan[cell], evidence_from_json(evidence), message, reproduction)
        found[cell, code] = finding, loads(confirmed, dict[str, str])
    told = {cell for cell, _ in found}
    for cell, evidence in seen.items():
        # What fails must be read by a person, also where whoever recorded it made no finding of it.
        if evidence.verdict.is_finding and cell not in told:
            code = code_for(plan[cell].check, evidence.verdict, evidence.breaches)
            message = f"The counts of this check make it {evidence.verdict.value}; no example was recorded."
            found[cell, code] = Finding(code, plan[cell], evidence, message, ""), {}
    return [
        finding_record(
            finding, known.match(finding.id, finding.cell.id, run.versions, _features(run)), confirmed
        )
        for _, (finding, confirmed) in sorted(found.items())
    ]


def _features(run: RunInfo) -> str:
    return run.machine.get("features", "")


def _artifacts(connection: sqlite3.Connection) -> dict[str, dict[str, Any]]:
    artifacts: dict[str, dict[str, Any]] = {}
    for kind, key, data in connection.execute("SELECT kind, key, data FROM artifacts ORDER BY kind, key"):
        artifacts.setdefault(kind, {})[key] = loads(data, object)
    return artifacts
