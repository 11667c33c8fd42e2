"""The folder of a run: one run at a time, and known to be writable before any work is done."""

from __future__ import annotations

import contextlib
import fcntl
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from gradcheck.errors import LockedError, StorageError

RUN_FILE = "run.sqlite"
EVIDENCE_FILE = "evidence.json"
LOCK_FILE = ".lock"


def prepare(folder: Path) -> Path:
    """Create `folder` if need be and prove that files can be written there; a `StorageError` says what is wrong."""
    try:
        folder = folder.absolute()
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as probe:
            probe.write(b"\0" * 4096)
            probe.flush()
            os.fsync(probe.fileno())
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise StorageError(
            f"cannot write to the report folder {str(folder)!r}: {reason}; choose another with --out"
        ) from error
    return folder


@contextlib.contextmanager
def held(folder: Path) -> Iterator[Path]:
    """Hold `folder` for one run; a `LockedError` if another process does.

    The lock is the kernel's and ends with the process, so that a killed run blocks nobody.
    """
    folder = prepare(folder)
    try:
        lock = (folder / LOCK_FILE).open("w", encoding="utf-8")
    except OSError as error:
        raise StorageError(f"cannot open {str(folder / LOCK_FILE)!r}: {error.strerror}") from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise LockedError(
                f"another run holds {str(folder)!r}; wait for it or choose another folder with --out"
            ) from error
        yield folder
