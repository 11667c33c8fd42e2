"""The folder of a run, known to be writable before any work is done."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from gradcheck.errors import StorageError

RUN_FILE = "run.sqlite"
EVIDENCE_FILE = "evidence.json"
LOG_FILE = "run.log"


def prepare(folder: Path) -> Path:
    """Create `folder` if need be and prove that it takes files; a `StorageError` says what is wrong."""
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
