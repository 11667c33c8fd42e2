"""A whole run: self-test, plan, child process, store, report."""

from __future__ import annotations

import json
import operator
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from gradcheck import evidence, report
from gradcheck.article import CLAIMS
from gradcheck.checks.claims import load_claims
from gradcheck.document import Document, NotRunRecord, RunInfo
from gradcheck.errors import UsageError
from gradcheck.known import KnownList
from gradcheck.records import Cell
from gradcheck.runner import alone, environment, launch, locate, selftest
from gradcheck.runner.describe import describe
from gradcheck.runner.folder import EVIDENCE_FILE, RUN_FILE, prepare
from gradcheck.runner.plan import plan, select
from gradcheck.runner.session import get_profile

INTERRUPTED = 130


@dataclass(frozen=True)
class Request:
    """What was asked for. A seed makes the run explore; without one it is derandomised."""

    profile: str = "ci"
    formulas: tuple[str, ...] = ()
    subjects: tuple[str, ...] = ()
    formats: tuple[str, ...] = ()
    checks: tuple[str, ...] = ()
    seed: int | None = None
    claims: tuple[Path, ...] = ()
    known: Path | None = None
    out: Path = Path("reports")
    jobs: int = field(default_factory=environment.cores)


@dataclass(frozen=True)
class Watch:
    """What is told while a run goes on: `phase(sentence)` and `progress(recorded, planned)`."""

    phase: Callable[[str], None] = lambda sentence: None
    progress: Callable[[int, int], None] = lambda recorded, planned: None


@dataclass(frozen=True)
class Outcome:
    """The run as it ended. `note` says what cut it short, if anything did."""

    document: Document
    page: Path
    log: Path
    note: str = ""


def fresh_seed() -> int:
    """Return a seed for a run that explores and was given none."""
    return secrets.randbelow(2**32)


def verify(request: Request, watch: Watch | None = None) -> Outcome:
    """Make a run and write its report; everything that can be refused is refused before any work is done."""
    watch = watch or Watch()
    profile = get_profile(request.profile)
    selection = select(request.formulas, request.subjects, request.formats, request.checks)
    claims = tuple(_loadable(path) for path in request.claims)
    known = _known(request.known)
    folder = prepare(request.out)
    watch.phase("self-test")
    tested = selftest.require(selftest.run())
    watch.phase("plan")
    cells = plan(selection)
    expected = _expected_claims(cells, claims)
    path = folder / RUN_FILE
    with evidence.Store.create(path, _info(request, tested), cells) as store:
        for population, counts in _rates().items():
            store.artifact("rates", population, counts)
        for kind, entries in zip(("formula", "row"), describe({cell.formula for cell in cells}), strict=True):
            for key, entry in entries.items():
                store.artifact(kind, key, entry)

        def progress() -> int:
            recorded, wanted = store.progress()
            watch.progress(recorded, wanted)
            return recorded

        watch.phase("checks")
        ended = launch.run_properties(path, request.jobs, request.seed, claims, profile.patience, progress)
        if ended.how == "finished" and operator.lt(*store.progress()):
            watch.phase("checks that ended their process, one by one")
            alone.settle(store, partial(_again, path, request, claims, profile.patience))
        watch.phase("report")
        return _conclude(store, known, folder, ended, expected)


def _again(
    path: Path, request: Request, claims: tuple[Path, ...], patience: float, cell: Cell, trace: Path
) -> int | None:
    """Run one cell in a process of its own; None if that was cut short."""
    ended = launch.run_properties(path, 0, request.seed, claims, patience, only=cell.id, trace=trace)
    return ended.status if ended.how == "finished" else None


def _expected_claims(cells: tuple[Cell, ...], files: tuple[Path, ...]) -> dict[str, str]:
    """Return id -> formula of every claim that the run has to measure."""
    formulas = {cell.formula for cell in cells}
    of_article = {text.id: text.formula for text in CLAIMS if text.formula in formulas}
    return {**of_article, **{claim.id: "" for path in files for claim in load_claims(path)}}


def _with_missing_claims(document: Document, expected: dict[str, str]) -> Document:
    """A claim without a record is missing like any other planned check."""
    measured = {claim.id for claim in document.claims}
    missing = [
        NotRunRecord(id, formula, "article", "", "claim", evidence.NO_RECORD)
        for id, formula in expected.items()
        if id not in measured
    ]
    if not missing:
        return document
    return msgspec.structs.replace(document, missing=[*document.missing, *missing], exit_code=3)


def _conclude(
    store: evidence.Store,
    known: KnownList | None,
    folder: Path,
    ended: launch.Ended,
    expected: dict[str, str],
) -> Outcome:
    if ended.how == "finished":
        store.finish(now())
    document = _with_missing_claims(store.document(known), expected)
    if ended.how == "interrupted":
        document = msgspec.structs.replace(document, exit_code=INTERRUPTED)
    evidence.export(document, folder / EVIDENCE_FILE)
    page = report.write(document, folder)
    return Outcome(document, page, ended.log, _note(document, ended))


def _note(document: Document, ended: launch.Ended) -> str:
    if ended.how == "interrupted":
        return "interrupted: this report is incomplete"
    if ended.how == "hung":
        return f"ended because nothing was recorded for too long; the child's output is in {ended.log}"
    if document.missing:
        return (
            f"the child process ended with status {ended.status} before every check was recorded; "
            f"its output is in {ended.log}"
        )
    return ""


def replay(cell: Cell, info: RunInfo, out: Path) -> Outcome:
    """Run the one cell again, with the profile and the seed of the run that `info` describes."""
    return verify(
        Request(
            profile=info.profile,
            formulas=(cell.formula,),
            subjects=(cell.subject,),
            formats=(cell.format,),
            checks=(cell.check,),
            seed=info.seed if info.explore else None,
            out=out,
            jobs=1,
        )
    )


def _info(request: Request, tested: selftest.SelfTest) -> RunInfo:
    return RunInfo(
        started=now(),
        profile=request.profile,
        seed=request.seed or 0,
        explore=request.seed is not None,
        versions=environment.versions(),
        machine=environment.machine(),
        self_test=tested.record,
    )


def now() -> str:
    """Return the time, as runs carry it."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _rates() -> dict[str, Any]:
    """Return how often the checks erred on the corpora of right and wrong code, as last measured."""
    path = locate.properties() / "rates.json"
    return dict(json.loads(path.read_text("utf-8"))) if path.exists() else {}


def _known(path: Path | None) -> KnownList | None:
    chosen = path or locate.known(locate.properties())
    return None if chosen is None else KnownList.load(chosen)


def _loadable(path: Path) -> Path:
    """Return `path` in full if claims can be read from it; a `UsageError` names file, line and reason."""
    try:
        path.read_bytes()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise UsageError(f"claims file {str(path)!r} cannot be read: {reason}") from error
    load_claims(path.resolve())
    return path.resolve()
