"""The pytest plugin: evidence of a test run, for the report.

It does nothing, and imports nothing heavy, unless one of its options, its fixture or its marker is used.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from gradcheck.records import Cell
    from gradcheck.runner.embedded import Embedded
    from gradcheck.runner.session import Session

# As in gradcheck.runner, which is not imported before it is needed.
RUN_VARIABLE = "GRADCHECK_RUN"
EMBEDDED_VARIABLE = "GRADCHECK_EMBEDDED"
ONLY_VARIABLE = "GRADCHECK_ONLY"
_SESSION: pytest.StashKey[Session] = pytest.StashKey()
_EMBEDDED: pytest.StashKey[Embedded] = pytest.StashKey()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options."""
    group = parser.getgroup("gradcheck", "numerical verification")
    group.addoption(
        "--gradcheck-report",
        metavar="DIR",
        default=None,
        help="collect the evidence of this test run; write run.sqlite, evidence.json, index.html to DIR",
    )
    group.addoption(
        "--gradcheck-profile",
        metavar="NAME",
        default=None,
        help="quick, ci or thorough: how much each property draws",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Declare the marker; join the run that a parent process announced, or begin one for the report."""
    config.addinivalue_line(
        "markers",
        "gradcheck(check): run once for every planned cell of this check, passed as the argument `cell`",
    )
    folder, profile = config.getoption("--gradcheck-report"), config.getoption("--gradcheck-profile")
    worker = hasattr(config, "workerinput")
    if folder is not None and not worker and RUN_VARIABLE not in os.environ:
        from gradcheck.runner import embedded

        config.stash[_EMBEDDED] = _usage(embedded.begin, Path(folder), profile or "ci")
    if profile is not None or RUN_VARIABLE in os.environ:
        _load_profile(config)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Give a test that is marked `gradcheck("value")` the planned cells of that check, one after another."""
    marker = metafunc.definition.get_closest_marker("gradcheck")
    if marker is None or "cell" not in metafunc.fixturenames:
        return
    cells = [cell for check in marker.args for cell in _session(metafunc.config).cells(check)]
    metafunc.parametrize("cell", cells, ids=[cell.id for cell in cells])


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the cells of one formula side by side: they share the truth of the same cases.

    A run of one cell leaves everything else out.
    """
    if ONLY_VARIABLE in os.environ:
        only = os.environ[ONLY_VARIABLE]
        items[:] = [item for item in items if (alone := _cell(item)) and alone.id == only]
    if RUN_VARIABLE in os.environ:
        items.sort(key=lambda item: cell.formula if (cell := _cell(item)) else "")


def pytest_collection_finish(session: pytest.Session) -> None:
    """Say which planned cells no test of this session takes, where the session is the run."""
    if EMBEDDED_VARIABLE not in os.environ:
        return
    from gradcheck.runner import embedded

    taken = {cell.id for item in session.items if (cell := _cell(item))}
    embedded.leave_out(_session(session.config), taken)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Write the report, where the option asked for one."""
    begun = session.config.stash.get(_EMBEDDED, None)
    if begun is not None:
        from gradcheck.runner import embedded

        embedded.end(begun)


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """Say where the report is."""
    begun = config.stash.get(_EMBEDDED, None)
    if begun is not None:
        terminalreporter.write_line(f"gradcheck report: {begun.page}")


def pytest_unconfigure(config: pytest.Config) -> None:
    """Release the folder and leave the environment as it was."""
    begun = config.stash.get(_EMBEDDED, None)
    if begun is not None:
        from gradcheck.runner import embedded

        embedded.close(begun)


@pytest.fixture(scope="session")
def gradcheck_run(request: pytest.FixtureRequest) -> Session:
    """The run that this test belongs to: its cells, its profile, and the store that takes the evidence."""
    return _session(request.config)


def _session(config: pytest.Config) -> Session:
    if _SESSION not in config.stash:
        from gradcheck.runner import embedded, session

        profile = config.getoption("--gradcheck-profile")
        config.stash[_SESSION] = session.session_from_environment() or embedded.unrecorded(profile or "ci")
    return config.stash[_SESSION]


def _cell(item: pytest.Item) -> Cell | None:
    """Return the planned cell that a test was given; a test of a check that is not planned has none."""
    from gradcheck.records import Cell

    spec = getattr(item, "callspec", None)
    given = spec.params.get("cell") if spec else None
    return given if isinstance(given, Cell) else None


def _load_profile(config: pytest.Config) -> None:
    """Make the profile's settings the default of every property in this process."""
    from hypothesis import settings

    from gradcheck.runner.session import get_profile

    name = config.getoption("--gradcheck-profile")
    if name is not None:
        chosen = _usage(get_profile, name).settings()
    else:
        run = _session(config)
        chosen = run.profile.settings(run.explore)
    settings.register_profile("gradcheck", chosen)
    settings.load_profile("gradcheck")


def _usage(call: Any, *arguments: Any) -> Any:
    from gradcheck.errors import GradcheckError

    try:
        return call(*arguments)
    except GradcheckError as error:
        raise pytest.UsageError(str(error)) from error
