"""Run the property files in a pytest of their own, which nothing outside can bend."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from gradcheck.runner import locate
from gradcheck.runner.alone import TRACE_VARIABLE
from gradcheck.runner.folder import LOG_FILE
from gradcheck.runner.session import CLAIMS_VARIABLE, ONLY_VARIABLE, RUN_VARIABLE

POLL_SECONDS = 0.2
GRACE_SECONDS = 3.0

# Removed, since each changes what pytest, Python or Hypothesis do: CI and its kin make Hypothesis load a
# profile of its own, PYTHONOPTIMIZE strips assertions, PYTHONWARNINGS turns warnings into errors or silence.
REMOVED = (
    "PYTEST_ADDOPTS",
    "PYTEST_PLUGINS",
    "PYTHONOPTIMIZE",
    "PYTHONWARNINGS",
    "PYTHONINSPECT",
    "PYTHONSTARTUP",
    ONLY_VARIABLE,
    TRACE_VARIABLE,
    "CI",
    "TF_BUILD",
    "BUILDKITE",
    "CIRCLECI",
    "CIRRUS_CI",
    "CODEBUILD_BUILD_ID",
    "GITHUB_ACTIONS",
    "GITLAB_CI",
    "HEROKU_TEST_RUN_ID",
    "TEAMCITY_VERSION",
    "bamboo.buildKey",
    "__TOX_ENVIRONMENT_VARIABLE_ORIGINAL_CI",
)

# The cores are shared out by worker; threads within a worker would fight over them and change sum orders.
SET = {
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "NUMEXPR_NUM_THREADS": "1",
    # JAX takes every accelerator that it finds, and most of its memory, unless it is told not to.
    "JAX_PLATFORMS": "cpu",
    "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
    "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
    "PYTHONHASHSEED": "0",
    "PYTHONSAFEPATH": "1",
    "PYTHONUTF8": "1",
}


@dataclass(frozen=True)
class Ended:
    """How the child ended. Only "finished" says that it did so by itself; its status is never a verdict."""

    how: str
    status: int | None
    log: Path


def command(folder: Path, jobs: int, seed: int | None = None) -> list[str]:
    """Return the command line; `seed` is given for a run that explores."""
    plugins = ("xdist.plugin", "_hypothesis_pytestplugin", "gradcheck.pytest_plugin", "no:cacheprovider")
    return [
        sys.executable,
        "-P",
        "-m",
        "pytest",
        *("-c", str(locate.ini(folder)), "--rootdir", str(folder)),
        *(part for name in plugins for part in ("-p", name)),
        # Of xdist's schedulers that keep neighbours together, this one survives a worker that dies.
        *("-n", str(jobs), "--dist", "worksteal", "--max-worker-restart", "64"),
        *("-q", "--tb=short", "--color=no", "--import-mode=importlib"),
        *(() if seed is None else (f"--hypothesis-seed={seed}",)),
        str(folder),
    ]


def environment(
    run: Path, claims: tuple[Path, ...], scratch: Path, surroundings: Mapping[str, str] | None = None
) -> dict[str, str]:
    """Return the environment of the child, made from `surroundings` (this process's, if not given)."""
    base = os.environ if surroundings is None else surroundings
    return {
        **{
            name: value
            for name, value in base.items()
            if name not in (*REMOVED, ONLY_VARIABLE, TRACE_VARIABLE)
        },
        **SET,
        "HYPOTHESIS_STORAGE_DIRECTORY": str(scratch),
        RUN_VARIABLE: str(run),
        CLAIMS_VARIABLE: os.pathsep.join(str(path) for path in claims),
    }


def run_properties(
    run: Path,
    jobs: int,
    seed: int | None = None,
    claims: tuple[Path, ...] = (),
    patience: float = 600.0,
    progress: Callable[[], int] = lambda: 0,
    folder: Path | None = None,
    only: str = "",
    trace: Path | None = None,
) -> Ended:
    """Run the property files (those in `folder`, if given) against the run file at `run` and wait.

    `only` is the id of a cell that is run alone, without workers, its output added to the log; `trace` is
    where the calls of its subject are noted before they are made.

    `progress` is called several times a second and returns the number of records so far. The result is
    "finished", "interrupted" (Ctrl-C or SIGTERM) or "hung" (no new record for `patience` seconds); in the
    last two the whole process group is killed.
    """
    folder = folder or locate.properties()
    log = run.with_name(LOG_FILE)
    alone = {} if trace is None else {ONLY_VARIABLE: only, TRACE_VARIABLE: str(trace)}
    mode = "wb" if trace is None else "ab"
    with tempfile.TemporaryDirectory(prefix="gradcheck-") as scratch, log.open(mode) as output:
        child = subprocess.Popen(
            command(folder, jobs, seed),
            env=environment(run, claims, Path(scratch)) | alone,
            cwd=scratch,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            how = _wait(child, patience, progress)
        except KeyboardInterrupt:
            how = "interrupted"
        finally:
            _kill(child)
    return Ended(how, child.returncode, log)


def _wait(child: subprocess.Popen[bytes], patience: float, progress: Callable[[], int]) -> str:
    seen, since = -1, time.monotonic()
    with _termination_as_interrupt():
        while child.poll() is None:
            recorded = progress()
            if recorded != seen:
                seen, since = recorded, time.monotonic()
            if time.monotonic() - since > patience:
                return "hung"
            time.sleep(POLL_SECONDS)
        progress()
    return "finished"


@contextlib.contextmanager
def _termination_as_interrupt() -> Iterator[None]:
    """Treat SIGTERM like Ctrl-C, so that a job that is cancelled leaves a partial report and no processes."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    previous = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)


def _kill(child: subprocess.Popen[bytes]) -> None:
    """End the child and whatever it has started, forked daemons included."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(child.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(GRACE_SECONDS)
