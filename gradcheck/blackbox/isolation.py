"""A check in a process of its own: what crashes or hangs there is a finding here."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from multiprocessing.connection import Connection
from typing import Any

from gradcheck.blackbox import programs
from gradcheck.blackbox.result import Checked, Result
from gradcheck.errors import UsageError
from gradcheck.explain import code_for
from gradcheck.records import Cell, Evidence, Finding, Verdict

# Beyond the time that was asked for: what a native call may take to return.
_GRACE = 10.0


def isolated(f: Callable[..., Any], inputs: Sequence[Any], arguments: Mapping[str, Any]) -> Result:
    """Run `check` in a child, killed with all that it started when its time is over."""
    if not hasattr(os, "fork"):
        raise UsageError("isolate: this system cannot fork; run the check without isolate")
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    child = context.Process(target=_child, args=(sender, f, inputs, dict(arguments)))
    started = time.monotonic()
    child.start()
    sender.close()
    end = started + float(arguments["max_seconds"]) * 1.5 + _GRACE
    answer: Any = None
    while time.monotonic() < end:
        if receiver.poll(0.05):
            try:
                answer = receiver.recv()
            except EOFError:
                # The other end is closed: the child is dying.
                child.join(5)
            break
        if not child.is_alive():
            break
    seconds = time.monotonic() - started
    alive = child.is_alive() and answer is None
    _kill(child.pid)
    child.join(5)
    if isinstance(answer, Result):
        return answer
    if isinstance(answer, tuple) and len(answer) == 2:
        kind, text = answer
        raise UsageError(text) if kind == "usage" else RuntimeError(text)
    return _ended(f, "hung" if alive else "died", child.exitcode, seconds, arguments)


def _child(sender: Connection, f: Any, inputs: Sequence[Any], arguments: dict[str, Any]) -> None:
    os.setsid()
    torch = sys.modules.get("torch")
    if torch is not None:
        # The pool of threads of the parent did not come along, and a parallel region would wait for it.
        torch.set_num_threads(1)
    from gradcheck.blackbox.api import check

    try:
        answer: Any = check(f, *inputs, **arguments)
    except UsageError as error:
        answer = ("usage", str(error))
    except BaseException as error:
        answer = ("raised", f"{type(error).__name__}: {error}")
    sender.send(answer)
    sender.close()


def _kill(pid: int | None) -> None:
    if pid is None:
        return
    try:
        os.killpg(pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            return


def _ended(f: Any, how: str, status: int | None, seconds: float, arguments: Mapping[str, Any]) -> Result:
    name = programs.name_of(f)
    cell = Cell(name, str(arguments.get("framework") or "process"), "float64", "state")
    if how == "hung":
        evidence = Evidence(black_box=True, unfinished=True, notes=("a call did not return in time",))
        return Result(name, cell.subject, (Checked(cell, evidence, (), seconds),), seconds)
    told = (
        f"signal {signal.Signals(-status).name}" if status is not None and status < 0 else f"status {status}"
    )
    evidence = Evidence(black_box=True, breaches={"crashed": 1}, cases=1)
    code = code_for("state", Verdict.INCONSISTENT, evidence.breaches)
    finding = Finding(code, cell, evidence, f"{name} ended its process with {told}", "")
    return Result(name, cell.subject, (Checked(cell, evidence, (finding,), seconds),), seconds)
