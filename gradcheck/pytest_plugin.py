"""The pytest plugin: evidence of a test run, for the report.

It does nothing, and imports nothing heavy, unless one of its options, its fixture or its marker is used.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from gradcheck.runner.embedded import Embedded
    from gradcheck.runner.session import Session

RUN_VARIABLE = "GRADCHECK_RUN"
_SESSION = pytest.StashKey["Session"]()
_EMBEDDED = pytest.StashKey["Embedded"]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options."""
    group = parser.getgroup("gradcheck", "numerical verification")
    group.addoption(
        "--gradcheck-report",
        metavar="DIR",
        default=None,
        help="collect the evidence of this test run and write run.sqlite, evidence.json and index.html to DIR",
    )
    group.addoption(
        "--gradcheck-profile",
        metavar="NAME",
        default=None,
        help="quick, ci or thorough: how much each property draws",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Declare the marker, open the run that a parent process announced, or begin one for the report option."""
    config.addinivalue_line(
        "markers",
        "gradcheck(check): run once for every planned cell of this check, passed as the argument `cell`",
    )
    folder, profile = config.getoption("--gradcheck-report"), config.getoption("--gradcheck-profile")
    worker = hasattr(config, "workerinput")
    if folder is not None and not worker and RUN_VARIABLE not in os.environ:
        from gradcheck.runner import embedded

        begun = _usage(embedded.begin, Path(folder), profile or "ci", config.args)
        config.stash[_EMBEDDED] = begun
        os.environ[RUN_VARIABLE] = str(begun.path)
    if profile is not None or RUN_VARIABLE in os.environ:
        _load_profile(config)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Give a test that is marked `gradcheck("value")` the planned cells of that check, one after another."""
    marker = metafunc.definition.get_closest_marker("gradcheck")
    if marker is None or "cell" not in metafunc.fixturenames:
        return
    cells = [cell for check in marker.args for cell in _session(metafunc.config).cells(check)]
    metafunc.parametrize("cell", cells, ids=[cell.id for cell in cells])


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
        terminalreporter.write_line(f"gradcheck report: {begun.path.with_name('index.html')}")


def pytest_unconfigure(config: pytest.Config) -> None:
    """Leave the environment as it was and release the folder."""
    begun = config.stash.get(_EMBEDDED, None)
    if begun is not None:
        os.environ.pop(RUN_VARIABLE, None)
        begun.close()


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
