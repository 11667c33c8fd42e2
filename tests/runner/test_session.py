"""Profiles leave nothing to the surroundings, and a session reads its run from the store."""

from __future__ import annotations

from pathlib import Path

import hypothesis
import pytest

from gradcheck.document import RunInfo
from gradcheck.errors import UsageError
from gradcheck.evidence import Store
from gradcheck.records import Cell, Evidence
from gradcheck.runner.session import PROFILES, RUN_VARIABLE, get_profile, session_from_environment

CELLS = (Cell("relu", "numpy", "float64", "value"), Cell("relu", "numpy", "float16", "value", "no such type"))


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "run.sqlite"
    info = RunInfo(started="", profile="quick", seed=7, versions={}, machine={}, explore=True)
    Store.create(path, info, CELLS).close()
    monkeypatch.setenv(RUN_VARIABLE, str(path))
    return path


@pytest.mark.parametrize("profile", PROFILES, ids=lambda profile: profile.name)
def test_settings_do_not_depend_on_the_profile_in_force(profile) -> None:
    before = profile.settings()
    other = hypothesis.settings(
        max_examples=1, derandomize=not before.derandomize, deadline=1, stateful_step_count=3,
        print_blob=True, report_multiple_bugs=True, verbosity=hypothesis.Verbosity.quiet,
        phases=(hypothesis.Phase.explicit,), suppress_health_check=list(hypothesis.HealthCheck),
        database=None,
    )  # fmt: skip
    hypothesis.settings.register_profile("other", other)
    now = hypothesis.settings.get_current_profile_name()
    try:
        hypothesis.settings.load_profile("other")
        assert repr(profile.settings()) == repr(before)
        assert repr(hypothesis.settings()) != repr(before)
    finally:
        hypothesis.settings.load_profile(now)


def test_only_an_exploration_is_random() -> None:
    assert get_profile("ci").settings().derandomize
    assert not get_profile("ci").settings(explore=True).derandomize


def test_an_unknown_profile_is_refused() -> None:
    with pytest.raises(UsageError, match="did you mean 'quick'"):
        get_profile("quik")


def test_outside_a_run_there_is_no_session(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(RUN_VARIABLE, raising=False)
    assert session_from_environment() is None


def test_the_session_is_that_of_the_run(run: Path) -> None:
    session = session_from_environment()
    assert session is not None
    assert (session.profile.name, session.seed, session.explore) == ("quick", 7, True)
    assert session.cells("value") == CELLS[:1]
    assert session.cells("derivative") == ()
    session.store.close()


def test_what_a_session_records_is_in_the_store(run: Path) -> None:
    session = session_from_environment()
    assert session is not None
    session.record(CELLS[0], Evidence(compared=3, cases=1))
    session.store.close()
    with Store.open(run) as store:
        assert [record.compared for record in store.document().checks] == [3]
