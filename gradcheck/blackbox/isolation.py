"""A check in a process of its own: what crashes or hangs there is a finding here.

The function is run in another process as well, a fresh interpreter with other hashes of text where it can be
imported there, and both must give the same bits.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from gradcheck.blackbox import elsewhere, programs
from gradcheck.blackbox.result import Checked, Result, checked
from gradcheck.blackbox.seen import Problem, Seen
from gradcheck.errors import UsageError
from gradcheck.explain import code_for
from gradcheck.records import Cell, Evidence, Finding, Verdict
from gradcheck.subjects.function import CallFailed

# Beyond the time that was asked for: what a native call may take to return.
_GRACE = 10.0


def isolated(
    f: Callable[..., Any],
    inputs: Sequence[Any],
    arguments: Mapping[str, Any],
    call: Callable[[elsewhere.Task], tuple[Result, Any]] | None = None,
) -> Result:
    """Run `check`, or another `call`, in a child, killed with all that it started when its time is over."""
    if not hasattr(os, "fork"):
        raise UsageError("isolate: this system cannot fork; run the check without isolate")
    task = elsewhere.Task(f, tuple(inputs), dict(arguments))
    started = time.monotonic()
    end = started + float(arguments["max_seconds"]) * 1.5 + _GRACE
    watched = "state" in arguments["checks"]
    if elsewhere.forbids_forks():
        first: Any = None if call is not None else elsewhere.fresh(task, "both")
        if first is None:
            raise UsageError(
                "isolate: a process that runs JAX cannot be forked, and the function cannot be imported in a "
                "fresh one; define it in a module, or run the check without isolate"
            )
    else:
        first = elsewhere.forked(call or both, task)
    second = None
    if watched:
        second = elsewhere.fresh(task, "answers") or elsewhere.forked(elsewhere.answers, task)
    try:
        answer = first.wait(end)
        hung = answer is None and first.alive()
        seconds = time.monotonic() - started
        told = second.wait(end) if second is not None and _finished(answer) else None
    finally:
        first.kill()
        if second is not None:
            second.kill()
    if answer is None:
        return _ended(f, "hung" if hung else "died", first.status(), seconds, arguments)
    kind, content = answer
    if kind == "usage":
        raise UsageError(content)
    if kind == "raised":
        raise RuntimeError(content)
    result, own = content
    return result if second is None else _with_process(result, own, told, second.how)


def _finished(answer: Any) -> bool:
    return isinstance(answer, tuple) and answer[0] == "answer"


def both(task: elsewhere.Task) -> tuple[Result, Any]:
    """Return the result of the check and, if it looked at the state, the answers of this process."""
    from gradcheck.blackbox.api import check

    result = check(task.f, *task.inputs, **task.arguments)
    if not any(each.cell.check == "state" for each in result.checks):
        return result, None
    try:
        return result, elsewhere.answers(task)
    except (UsageError, CallFailed):
        return result, None


def _with_process(result: Result, own: Any, told: Any, how: str) -> Result:
    """Return the result with what another process answered as a part of its check of the state."""
    made = []
    for each in result.checks:
        if each.cell.check != "state" or own is None:
            made.append(each)
            continue
        evidence = each.evidence
        if told is None:
            note = f"the function did not answer in another process ({how}) in time"
            late = replace(evidence, unfinished=True, notes=(*evidence.notes, note))
            made.append(replace(each, evidence=late))
            continue
        kind, content = told
        if kind != "answer":
            note = f"not in another process ({how}): {content}"
            made.append(replace(each, evidence=replace(evidence, notes=(*evidence.notes, note))))
            continue
        problems, compared = elsewhere.compared(own, content, how)
        made.append(_added(each, problems, compared))
    return replace(result, checks=tuple(made))


def _added(each: Checked, problems: Sequence[Problem], compared: int) -> Checked:
    seen = Seen(compared=compared, problems=tuple(problems), cases=2)
    own = checked(each.cell, seen, 0.0, False, lambda problem: "")
    merged = each.evidence.merge(own.evidence)
    findings = (*each.findings, *(new for new in own.findings if new.code not in _codes(each.findings)))
    return replace(each, evidence=merged, findings=findings)


def _codes(findings: Sequence[Finding]) -> set[str]:
    return {finding.code for finding in findings}


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
