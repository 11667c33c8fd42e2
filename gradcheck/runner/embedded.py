"""A run inside somebody's own pytest: the report option, or the fixture alone."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from gradcheck import evidence
from gradcheck.document import RunInfo
from gradcheck.runner import environment, selftest
from gradcheck.runner.folder import EVIDENCE_FILE, RUN_FILE, prepare
from gradcheck.runner.plan import plan, select
from gradcheck.runner.session import RUN_VARIABLE, Session, get_profile, open_session
from gradcheck.runner.verify import now

EMBEDDED_VARIABLE = "GRADCHECK_EMBEDDED"
UNTAKEN = "no test of this pytest session checks it"


@dataclass(frozen=True)
class Embedded:
    """A run that a pytest session began, held until it is closed."""

    folder: Path
    store: evidence.Store

    @property
    def page(self) -> Path:
        """The report that the run ends with."""
        return self.folder / "index.html"


def begin(folder: Path, profile: str) -> Embedded:
    """Begin a run in `folder` and announce it to the workers of this session."""
    get_profile(profile)
    path = prepare(folder) / RUN_FILE
    tested = selftest.require(selftest.run())
    run = Embedded(path.parent, _create(path, profile, tested.record))
    os.environ.update({RUN_VARIABLE: str(path), EMBEDDED_VARIABLE: "1"})
    return run


def leave_out(session: Session, taken: Collection[str]) -> None:
    """Mark the planned cells that no test takes, so that only a cell that was taken and lost is missing."""
    for cell in session.plan:
        if not cell.reason and cell.id not in taken:
            session.store.mark_not_run(cell, UNTAKEN)


def end(run: Embedded) -> None:
    """Finish the run and write `evidence.json` and the report."""
    from gradcheck import report

    run.store.finish(now())
    document = run.store.document()
    evidence.export(document, run.folder / EVIDENCE_FILE)
    report.write(document, run.folder)


def close(run: Embedded) -> None:
    """Release the folder and leave the environment as it was."""
    for name in (RUN_VARIABLE, EMBEDDED_VARIABLE):
        os.environ.pop(name, None)
    run.store.close()


def unrecorded(profile: str) -> Session:
    """Return a session whose evidence nobody asked to keep: its file is gone when the process ends."""
    with tempfile.TemporaryDirectory(prefix="gradcheck-") as folder:
        path = Path(folder) / RUN_FILE
        _create(path, profile, {}).close()
        # The open connection keeps the data when the name goes.
        return open_session(path)


def _create(path: Path, profile: str, tested: Mapping[str, int]) -> evidence.Store:
    cells = plan(select())
    info = RunInfo(
        started=now(),
        profile=profile,
        seed=0,
        versions=environment.versions(),
        machine=environment.machine(),
        self_test=dict(tested),
    )
    return evidence.Store.create(path, info, cells)
