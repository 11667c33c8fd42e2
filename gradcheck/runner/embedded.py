"""A run inside somebody's own pytest: the report option, or the fixture alone."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from gradcheck import evidence
from gradcheck.document import RunInfo
from gradcheck.records import Cell
from gradcheck.runner import environment, locate, selftest
from gradcheck.runner.folder import EVIDENCE_FILE, RUN_FILE, held
from gradcheck.runner.plan import plan, select
from gradcheck.runner.session import Session, get_profile, open_session
from gradcheck.runner.verify import now


@dataclass(frozen=True)
class Embedded:
    """A run that a pytest session began; `resources` holds its folder until the session is over."""

    path: Path
    resources: contextlib.ExitStack

    def close(self) -> None:
        """Release the folder."""
        self.resources.close()


def begin(folder: Path, profile: str, arguments: Iterable[str]) -> Embedded:
    """Begin a run in `folder`; it plans the whole catalogue if the property files are among the arguments."""
    get_profile(profile)
    with contextlib.ExitStack() as stack:
        path = stack.enter_context(held(folder)) / RUN_FILE
        tested = selftest.require(selftest.run())
        _create(path, profile, plan(select()) if _holds_properties(arguments) else (), tested.record)
        return Embedded(path, stack.pop_all())


def end(run: Embedded) -> None:
    """Close the run and write `evidence.json` and the report."""
    from gradcheck import report

    store = evidence.Store.open(run.path, write=True)
    try:
        store.finish(now())
        document = store.document()
    finally:
        store.close()
    evidence.export(document, run.path.with_name(EVIDENCE_FILE))
    report.write(document, run.path.parent)


def unrecorded(profile: str) -> Session:
    """Return a session whose evidence nobody asked to keep; its file goes when the process ends."""
    folder = Path(tempfile.mkdtemp(prefix="gradcheck-"))
    path = folder / RUN_FILE
    _create(path, profile, plan(select()), {})
    session = open_session(path)
    for item in folder.iterdir():
        item.unlink()  # the open connection keeps the data; the name is not needed
    folder.rmdir()
    return session


def _create(path: Path, profile: str, cells: tuple[Cell, ...], tested: dict[str, int]) -> None:
    info = RunInfo(
        started=now(),
        profile=profile,
        seed=0,
        versions=environment.versions(),
        machine=environment.machine(),
        self_test=tested,
    )
    evidence.Store.create(path, info, cells).close()


def _holds_properties(arguments: Iterable[str]) -> bool:
    folder = locate.properties().resolve()
    given = [Path(argument.partition("::")[0]).resolve() for argument in arguments]
    return any(folder == path or folder in path.parents or path in folder.parents for path in given)
