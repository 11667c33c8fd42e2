"""Cells whose process died: each is run again in a process of its own, which tells who ended it.

A subject that crashes takes the worker with it, and its cell has no record. In the second run every call of
the subject is written down before it is made; if the process ends within one, that call is the finding.
Where it does not end, the cell has its record, and the first death was something else's, lack of memory say.
"""

from __future__ import annotations

import json
import os
import signal
import tempfile
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from gradcheck.evidence import Store
from gradcheck.explain import code_for
from gradcheck.records import ORDER_NAMES, Cell, Evidence, Finding, Options
from gradcheck.subjects import Implementation

TRACE_VARIABLE = "GRADCHECK_TRACE"
# More than these have another cause than subjects that crash, and would take too long one by one.
MOST = 64
_LONGEST_PROGRAM = 20_000

Again = Callable[[Cell, Path], int | None]


def traced(implementation: Implementation) -> Implementation:
    """Return the implementation, which notes every call before it makes it where the environment says so."""
    path = os.environ.get(TRACE_VARIABLE)
    if path is None:
        return implementation
    forms = dict(zip(ORDER_NAMES, ("forward", "vjp", "second"), strict=True))
    calls = {form: (what, getattr(implementation, form)) for what, form in forms.items()}
    noting: dict[str, Any] = {
        form: partial(_noting, Path(path), implementation, what, call)
        for form, (what, call) in calls.items()
        if call is not None
    }
    return replace(implementation, **noting)


def _noting(path: Path, implementation: Implementation, what: str, call: Any, inputs: Any, *rest: Any) -> Any:
    cotangent, along, options = _told(rest)
    note = {
        "what": what,
        "shapes": [list(array.shape) for array in inputs],
        "options": {name: repr(value) for name, value in options.items()},
        "program": _program(implementation, what, inputs, cotangent, options, along),
    }
    path.write_text(json.dumps(note), "utf-8")
    try:
        return call(inputs, *rest)
    finally:
        path.unlink(missing_ok=True)


def _told(rest: tuple[Any, ...]) -> tuple[Any, tuple[Any, ...], Options]:
    """Return cotangent, directions and options of a call of any of the three kinds."""
    *factors, options = rest
    return (factors[0] if factors else None), (factors[1] if len(factors) > 1 else ()), options


def _program(
    implementation: Implementation, what: str, inputs: Any, cotangent: Any, options: Options, along: Any
) -> str:
    if implementation.reproduce is None:
        return ""
    try:
        program = implementation.reproduce(what, inputs, cotangent, options, directions=along)
    except Exception:
        # A note without a program is still a note; the call itself must be made.
        return ""
    return program if len(program) <= _LONGEST_PROGRAM else ""


def settle(store: Store, again: Again) -> None:
    """Run the planned cells without a record again, one by one, and record those that end their process.

    `again(cell, trace)` makes a run of the one cell with the calls noted at `trace`, and returns the exit
    status of its process, negative for a signal, or None where it was cut short.
    """
    recorded = {check.id for check in store.document().checks}
    missing = [cell for cell in store.cells() if not cell.reason and cell.id not in recorded]
    if len(missing) > MOST:
        return
    with tempfile.TemporaryDirectory(prefix="gradcheck-") as folder:
        trace = Path(folder) / "call.json"
        for cell in missing:
            trace.unlink(missing_ok=True)
            status = again(cell, trace)
            if status is None:
                return
            if trace.exists():
                _record(store, cell, status, json.loads(trace.read_text("utf-8")))


def _record(store: Store, cell: Cell, status: int, note: dict[str, Any]) -> None:
    ended = _ended(status)
    evidence = Evidence(
        breaches={"crashed": 1},
        cases=1,
        options=note["options"],
        notes=(f"the call ended its process: {ended}",),
    )
    shapes = ", ".join("×".join(map(str, shape)) or "scalar" for shape in note["shapes"])
    options = ", ".join(f"{name}={value}" for name, value in note["options"].items())
    message = (
        f"{cell.formula} ({note['what']}) of {cell.subject} in {cell.format} ended its process, {ended}, "
        f"for inputs of shape {shapes}" + (f" with {options}." if options else ".")
    )
    code = code_for(cell.check, evidence.verdict, evidence.breaches)
    finding = Finding(code, cell, evidence, message, note["program"])
    confirmation = {finding.id: {"a process of its own": ended}}
    store.record(cell, evidence, (finding,), 0.0, confirmation)


def _ended(status: int) -> str:
    if status >= 0:
        return f"exit status {status}"
    try:
        return f"signal {signal.Signals(-status).name}"
    except ValueError:
        return f"signal {-status}"
