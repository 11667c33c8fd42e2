"""The plugin is light, idle unless used, and writes a report where it is asked for one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from gradcheck.evidence import Store

RECORDING = """
import pytest
from gradcheck.records import Evidence

@pytest.mark.gradcheck("value")
def test_values(cell, gradcheck_run):
    gradcheck_run.record(cell, Evidence(compared=5, cases=1))
"""


def run_pytest(folder: Path, *arguments: str, **changes: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments, str(folder)],
        capture_output=True,
        text=True,
        check=False,
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1", **changes},
    )


@pytest.fixture
def without_torch(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A folder to search first, in which torch is missing: what it can do takes seconds to find out."""
    folder = tmp_path_factory.mktemp("without")
    (folder / "torch.py").write_text("raise ModuleNotFoundError('No module named torch', name='torch')")
    return str(folder)


def test_an_idle_plugin_imports_nothing_heavy(tmp_path: Path) -> None:
    (tmp_path / "test_nothing.py").write_text(
        "import sys\n\ndef test_it():\n"
        "    assert not {'numpy', 'torch', 'flint', 'scipy', 'hypothesis'} & set(sys.modules)\n"
        "    assert 'gradcheck.pytest_plugin' in sys.modules\n"
    )
    done = run_pytest(tmp_path)
    assert done.returncode == 0, done.stdout


def test_the_fixture_works_without_a_report(tmp_path: Path, without_torch: str) -> None:
    (tmp_path / "test_values.py").write_text(RECORDING)
    done = run_pytest(tmp_path, "-k", "relu and numpy", PYTHONPATH=without_torch)
    assert done.returncode == 0, done.stdout
    assert not {path.suffix for path in tmp_path.rglob("*")} & {".sqlite", ".json", ".html"}


@pytest.mark.parametrize("workers", [(), ("-n", "2")], ids=["alone", "two workers"])
def test_a_report_tells_what_was_taken_from_what_was_not(
    tmp_path: Path, without_torch: str, workers: tuple[str, ...]
) -> None:
    (tmp_path / "test_values.py").write_text(RECORDING)
    out = tmp_path / "out"
    # The processes of two workers would find out three times over what torch can do.
    path = {"PYTHONPATH": without_torch} if workers else {}
    done = run_pytest(tmp_path, "--gradcheck-report", str(out), "-k", "softsign and numpy", *workers, **path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert str(out / "index.html") in done.stdout
    with Store.open(out / "run.sqlite") as store:
        document = store.document()
    assert {check.id for check in document.checks} == {
        f"softsign/numpy/{name}/value" for name in ("float64", "float32", "float16", "bfloat16")
    }
    assert not document.missing
    assert "no test of this pytest session checks it" in {cell.reason for cell in document.not_run}


def test_the_profile_option_sets_what_hypothesis_draws(tmp_path: Path) -> None:
    (tmp_path / "test_profile.py").write_text(
        "import hypothesis\n\ndef test_it():\n    assert hypothesis.settings.default.max_examples == 5\n"
    )
    assert run_pytest(tmp_path, "--gradcheck-profile", "quick").returncode == 0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [(("--gradcheck-profile", "quik"), "quick"), (("--gradcheck-report", "/proc/self/x"), "cannot write")],
    ids=["profile", "folder"],
)
def test_what_cannot_be_used_is_a_usage_error(tmp_path: Path, arguments: tuple[str, ...], words: str) -> None:
    (tmp_path / "test_nothing.py").write_text("def test_it():\n    pass\n")
    done = run_pytest(tmp_path, *arguments)
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    assert words in done.stderr
    assert "Traceback" not in done.stderr
