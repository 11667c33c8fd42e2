"""What the last verification found of an implementation's accuracy, to stand beside its speed."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import msgspec

from gradcheck import evidence
from gradcheck.bench.document import BACKWARD, FOREACH, FUSED, LOOP, NUMPY, SCIPY, TORCH, Lane, Task
from gradcheck.document import Document
from gradcheck.errors import GradcheckError

NOT_MEASURED = "not measured"
Found = Mapping[tuple[str, str, str, str], tuple[float, str]]
# The lane as the verification calls it. Compiled programs are others than those that are verified.
_SUBJECTS = {
    NUMPY: "numpy", SCIPY: "scipy", TORCH: "torch-cpu", LOOP: "torch-optim", FOREACH: "torch-optim-foreach",
    FUSED: "torch-optim-fused",
}  # fmt: skip


def load(folder: Path) -> tuple[Found, str]:
    """Return the largest errors by formula, subject, format and check, and where they come from.

    Both are empty where the folder holds no finished run that can be read.
    """
    for name, read in (("evidence.json", _published), ("run.sqlite", _stored)):
        path = folder / name
        if not path.is_file():
            continue
        try:
            document = read(path)
        except (GradcheckError, msgspec.MsgspecError, OSError, ValueError):
            continue
        found = {
            (r.formula, r.subject, r.format, r.check): (float(r.ulp), r.verdict)
            for r in document.checks
            if r.compared
        }
        return found, f"{path}, {document.run.started}"
    return {}, ""


def _published(path: Path) -> Document:
    return msgspec.json.decode(path.read_bytes(), type=Document)


def _stored(path: Path) -> Document:
    store = evidence.Store.open(path)
    try:
        return store.document(None)
    finally:
        store.close()


def of(found: Found, task: Task, lane: Lane) -> tuple[float, str]:
    """Return the largest error in ULP and the verdict; NaN and `not measured` where nothing is known."""
    subject = _SUBJECTS.get(lane.implementation, "")
    if lane.device != "cpu" and subject:
        subject = f"torch-{lane.device}"
    check = "derivative" if task.direction == BACKWARD else "value"
    return found.get((task.formula, subject, task.format, check), (math.nan, NOT_MEASURED))
