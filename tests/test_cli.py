"""The command line: fast help, one clear message per error, the exit codes of the contract."""

from __future__ import annotations

import fcntl
import os
import resource
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from gradcheck import catalogue, cli, terminal
from gradcheck.document import RunInfo
from gradcheck.evidence import Store
from gradcheck.explain import CODES, Explanation
from gradcheck.flow.codes import FLOW_CODES
from gradcheck.records import Cell, Evidence, Finding, Worst

Call = Callable[..., subprocess.CompletedProcess[str]]
HEAVY = {"numpy", "torch", "scipy", "hypothesis", "pytest", "flint", "rich", "msgspec", "jinja2"}


def gradcheck(*arguments: str, **changes: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "gradcheck", *arguments],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1", **changes},
    )


@pytest.fixture
def called(capsys: pytest.CaptureFixture[str]) -> Call:
    """Call the command line in this process: it ends before any run begins, which would need its own."""

    def call(*arguments: str) -> subprocess.CompletedProcess[str]:
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            cli.main(arguments)
        assert isinstance(ended.value.code, int)
        return subprocess.CompletedProcess(arguments, ended.value.code, *capsys.readouterr())

    return call


def refused(done: subprocess.CompletedProcess[str], code: int, *words: str) -> None:
    """One line on stderr, no traceback, the right code, and what the user needs to know."""
    assert done.returncode == code, done.stderr
    assert done.stderr.startswith("gradcheck: error: ")
    assert done.stderr.count("\n") == 1
    for word in words:
        assert word in done.stderr


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A finished run with one finding and hostile text in it."""
    path = tmp_path / "run.sqlite"
    cell = Cell("relu", "numpy", "float64", "value")
    worst = Worst((1.0,), 2.0, 1.0, 1.0, 0.0, 4.5e15)
    evidence = Evidence(compared=1, cases=1, outside_unstable=1, worst=worst)
    hostile = "first\x1b[31m line \u202e\n::error::second\0 <script>"
    finding = Finding("VALUE-WRONG", cell, evidence, hostile, "print(1)")
    with Store.create(path, RunInfo("2026-01-01T00:00:00Z", "quick", 0, {}, {}), [cell]) as store:
        store.record(cell, evidence, [finding])
        store.finish("2026-01-01T00:00:01Z")
    return path


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys\nfrom gradcheck import cli\n"
        "try:\n    cli.main(['verify', '--help'])\nexcept SystemExit as ended:\n    assert ended.code == 0\n"
        f"sys.exit(repr({HEAVY!r} & set(sys.modules)) if {HEAVY!r} & set(sys.modules) else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_help_takes_less_than_three_tenths_of_a_second() -> None:
    # Of the processor: how busy the machine is says nothing about the command.
    def seconds() -> float:
        begun = resource.getrusage(resource.RUSAGE_CHILDREN)
        assert gradcheck("--help").returncode == 0
        ended = resource.getrusage(resource.RUSAGE_CHILDREN)
        return ended.ru_utime - begun.ru_utime + ended.ru_stime - begun.ru_stime

    assert min(seconds() for _ in range(5)) < 0.3


def test_the_profiles_offered_are_those_that_exist() -> None:
    from gradcheck.runner.session import PROFILES

    assert tuple(profile.name for profile in PROFILES) == cli.PROFILES


@pytest.mark.parametrize("what", cli.LISTS)
def test_every_list_can_be_printed(called: Call, what: str) -> None:
    done = called("list", what)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()


@pytest.mark.parametrize("explanation", (*CODES, *FLOW_CODES), ids=lambda explanation: explanation.code)
def test_every_code_of_formulas_and_of_gradients_is_explained(called: Call, explanation: Explanation) -> None:
    done = called("explain", explanation.code.lower())
    assert (done.returncode, done.stdout) == (0, str(explanation))


def test_the_codes_of_formulas_and_of_gradients_are_listed_once_each() -> None:
    every = [*CODES, *FLOW_CODES]
    assert catalogue.names("codes") == {each.code: each.summary for each in every}
    assert len({each.code for each in every}) == len(every)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("verfy",), ["verify"]),
        (("verify", "--profle", "ci"), ["--profile"]),
        (("verify", "--profile", "fast"), ["quick", "ci", "thorough"]),
        (("verify", "--jobs", "0"), ["--jobs"]),
        (("verify", "--seed", "-1"), ["--seed"]),
        (("verify", "--formula", "gelo"), ["'gelu'"]),
        (("verify", "--subject", "torhc-cpu"), ["'torch-cpu'"]),
        (("verify", "--format", "float31"), ["'float32'"]),
        (("verify", "--check", "valu"), ["'value'"]),
        (("verify", "--claims", "no/such.py"), ["no/such.py", "No such file"]),
        (("verify", "--known", "no/such.toml"), ["no/such.toml"]),
        (("explain", "VALUE-WRON"), ["'VALUE-WRONG'"]),
        (("explain", "flow-deaf"), ["'FLOW-DEAD'"]),
        (("list", "formula"), ["formulas"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_a_usage_error_says_what_would_have_been_right(
    called: Call, arguments: tuple[str, ...], words: list[str]
) -> None:
    refused(called(*arguments), cli.USAGE, *words)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("from gradcheck import claim\n\ndef broken(:\n", ["line 3"]),
        ("import gradcheck\nfoo()\n", ["line 2", "NameError", "foo"]),
        ("raise SystemExit(0)\n", ["exit"]),
        ("x = 1\n", ["no claim"]),
        ("import no_such_module\n", ["line 1", "no_such_module"]),
    ],
    ids=["syntax", "name", "exit", "no claim", "import"],
)
def test_a_claims_file_with_an_error_is_refused_with_its_line(
    tmp_path: Path, text: str, words: list[str]
) -> None:
    claims = tmp_path / "claims.py"
    claims.write_text(text)
    out = tmp_path / "out"
    refused(gradcheck("verify", "--claims", str(claims), "--out", str(out)), cli.USAGE, "claims.py", *words)
    assert not out.exists()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "there is none"),
        (b"", "empty"),
        (b"not a database", "expected a run file"),
        (b"SQLite format 3\0" + b"\0" * 40, "expected a run file"),
    ],
    ids=["missing", "empty", "garbage", "truncated"],
)
def test_what_is_no_run_file_is_refused(
    called: Call, tmp_path: Path, content: bytes | None, words: str
) -> None:
    path = tmp_path / "other.sqlite"
    if content is not None:
        path.write_bytes(content)
    refused(called("report", str(path)), cli.STORAGE, "other.sqlite", words)


def test_a_foreign_database_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.sqlite"
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE t (x)")
    connection.commit()
    connection.close()
    refused(gradcheck("report", str(path)), cli.STORAGE, "another SQLite database")


def test_a_folder_that_cannot_be_written_is_found_out_first(called: Call, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    begun = called("verify", "--out", str(tmp_path / "file" / "reports"))
    refused(begun, cli.STORAGE, "--out")
    assert begun.stdout == ""


def test_a_folder_that_another_run_holds_is_refused_and_left_alone(tmp_path: Path, run: Path) -> None:
    before = run.read_bytes()
    with (run.parent / "run.sqlite.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        done = gradcheck("verify", "--formula", "relu", "--subject", "numpy", "--out", str(run.parent))
    refused(done, cli.LOCKED, "--out")
    assert run.read_bytes() == before


def test_without_the_truth_engine_nothing_is_judged(tmp_path: Path) -> None:
    (tmp_path / "flint.py").write_text("raise ModuleNotFoundError('No module named flint', name='flint')")
    done = gradcheck("verify", "--out", str(tmp_path / "out"), PYTHONPATH=str(tmp_path))
    refused(done, cli.UNTRUSTWORTHY, "flint")


def test_a_run_is_rendered_again(tmp_path: Path, run: Path) -> None:
    done = gradcheck("report", str(run), "--out", str(tmp_path / "again"))
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "again" / "index.html").stat().st_size > 1000
    assert str(tmp_path / "again" / "index.html") in done.stdout


def test_rendering_imports_no_numerics(run: Path) -> None:
    code = (
        f"import sys\nfrom gradcheck import cli\ntry:\n    cli.main(['report', {str(run)!r}])\n"
        "except SystemExit as ended:\n    assert ended.code == 0\n"
        "sys.exit(bool({'numpy', 'torch', 'flint'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_run_is_printed_as_json(called: Call, run: Path) -> None:
    import json

    done = called("report", str(run), "--json")
    assert json.loads(done.stdout)["findings"][0]["code"] == "VALUE-WRONG"
    assert not (run.parent / "index.html").exists()


def test_an_unknown_finding_is_refused(called: Call, run: Path) -> None:
    refused(called("replay", "F-000000", "--run", str(run)), cli.USAGE, "F-000000", "known: F-")


def test_the_summary_of_hostile_text_is_inert(run: Path) -> None:
    import io

    from rich.console import Console

    with Store.open(run) as store:
        document = store.document()
    for is_terminal in (True, False):
        stream = io.StringIO()
        out = Console(file=stream, force_terminal=is_terminal, color_system=None, markup=False, width=200)
        terminal.summarise(out, document, "reports/\x1b[2Jindex.html")
        printed = stream.getvalue()
        assert document.findings[0].id in printed
        assert "\x1b[2J" not in printed and "\u202e" not in printed and "\0" not in printed


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("\x1b[31mred", "\\x1b[31mred"),
        ("a\nb", "a\\x0ab"),
        ("\u202eabc", "\\u202eabc"),
        ("nul\0", "nul\\x00"),
        ("lone \ud800", "lone \\ud800"),
        ("::error::x", "\\:\\:error::x"),
        ("a ##[error]x", "a # #[error]x"),
        ("x" * 500, "x" * 400 + "… (100 more characters)"),
        ("plain σ(x) → 1", "plain σ(x) → 1"),
    ],
)
def test_foreign_text_becomes_inert(given: str, shown: str) -> None:
    assert terminal.inert(given) == shown


def test_a_finding_that_has_gone_is_said_to_be_gone(run: Path) -> None:
    with Store.open(run) as store:
        (finding,) = store.document().findings
    done = gradcheck("replay", finding.id, "--run", str(run))
    assert done.returncode == cli.OK, done.stdout + done.stderr
    assert "print(1)" in done.stdout and "gone" in done.stdout
    assert "\x1b" not in done.stdout and "\u202e" not in done.stdout


def test_a_run_leaves_a_store_an_export_and_a_page(tmp_path: Path) -> None:
    only = ("--formula", "relu", "--subject", "numpy", "--format", "float64", "--check", "value")
    done = gradcheck("verify", "--profile", "quick", *only, "--jobs", "1", "--out", str(tmp_path))
    assert done.returncode == cli.OK, done.stdout + done.stderr
    assert done.stderr == ""
    assert {"run.sqlite", "evidence.json", "index.html"} <= {path.name for path in tmp_path.iterdir()}
    with Store.open(tmp_path / "run.sqlite") as store:
        document = store.document()
    assert [check.id for check in document.checks] == ["relu/numpy/float64/value"]
    assert document.run.self_test == {"good": 30, "bad": 30, "misjudged": 0}
    assert document.run.finished


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_leaves_a_report_that_says_so(tmp_path: Path, number: signal.Signals) -> None:
    arguments = ("verify", "--profile", "thorough", "--formula", "gelu", "--subject", "numpy", "--jobs", "1")
    command = [sys.executable, "-m", "gradcheck", *arguments, "--out", str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as started:
        assert started.stdout is not None
        while started.stdout.readline() != "gradcheck: checks\n":
            assert started.poll() is None
        time.sleep(1)
        started.send_signal(number)
        output, errors = started.communicate(timeout=60)
    assert started.returncode == cli.INTERRUPTED, errors
    assert "interrupted" in output
    assert errors == ""
    assert (tmp_path / "index.html").is_file()
    with Store.open(tmp_path / "run.sqlite") as store:
        document = store.document()
    assert document.missing and not document.run.finished


def test_the_headline_names_every_reason(run: Path) -> None:
    with Store.open(run) as store:
        document = store.document()
    assert terminal.headline(document) == "failed: 1 new finding"
