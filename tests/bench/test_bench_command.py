"""The command, from its arguments to its files."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest

from gradcheck import cli
from gradcheck.bench.plan import PROFILES
from gradcheck.bench.timing import Settings

ROOT = Path(__file__).parents[2]


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    tiny = replace(PROFILES["quick"], settings=Settings(1e-5, 7, 7, 0.0))
    monkeypatch.setitem(PROFILES, "quick", tiny)
    monkeypatch.setattr("gradcheck.bench.bandwidth.SIZES", (1 << 12, 1 << 14))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(ROOT), *sys.path])
    return tmp_path


def run(*arguments: str) -> int:
    return cli._run(["bench", "--profile", "quick", "--size", "64", *arguments])


def test_a_run_is_saved_compared_and_reported(small: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--formula", "relu", "--save", "before") == 0
    assert run("--formula", "relu", "--compare", "before") == 0
    said = capsys.readouterr().out
    assert "relu float32 64 forward" in said
    assert "× numpy" in said
    assert list(small.glob(".benchmarks/*/0001_before.json"))
    assert "What changed since before" in (small / "reports" / "bench.html").read_text()
    assert (small / "reports" / "bench.json").is_file()


def test_ones_own_function_stands_beside_the_others(small: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("tests.bench.own:gelu", "--like", "gelu", "--forward") == 0
    said = capsys.readouterr().out
    assert "yours" in said
    assert "backward" not in said


def test_only_gradients(small: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--formula", "tanh", "--backward", "--format", "float64") == 0
    said = capsys.readouterr().out
    assert "tanh float64 64 backward" in said
    assert "forward" not in said


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--formula", "geluu"), "did you mean 'gelu'"),
        (("--format", "float31"), "did you mean 'float32'"),
        (("--size", "lots"), "such as 1e3,1e5,1e7"),
        (("--save", "../up"), "such as before"),
        (("--compare", "before"), "none is saved"),
        (("tests.bench.own:gelu",), "needs --like NAME"),
        (("--like", "gelu"), "needs the function"),
        (("tests.bench.own:gelu", "--like", "geluu"), "did you mean 'gelu'"),
        (("tests.bench.own:missing", "--like", "gelu"), "has no missing"),
        (("tests.bench.own:gelu", "--like", "gelu", "--formula", "relu"), "--like names its formula"),
    ],
)
def test_a_usage_error_says_what_would_have_been_right(
    small: Path, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], said: str
) -> None:
    assert run(*arguments) == 2
    assert said in capsys.readouterr().err
    assert not (small / "reports").exists()


def test_the_profiles_offered_are_those_that_exist() -> None:
    from gradcheck.cli_bench import PROFILES as OFFERED

    assert set(OFFERED) == set(PROFILES)


def test_a_verification_report_links_to_the_benchmark_beside_it() -> None:
    from gradcheck.document import Document, RunInfo
    from gradcheck.report.page import render

    document = Document(1, RunInfo("", "ci", 0, {}, {}), [], [], [])
    assert 'href="bench.html"' in render(document, bench=True)
    assert 'href="bench.html"' not in render(document)
