"""The cells of optimizers in a user's hands: run the machines, write down what they saw."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING

import hypothesis

from gradcheck.checks.machine import machine
from gradcheck.records import Cell, Verdict
from gradcheck.runner.judging import bench, record

if TYPE_CHECKING:
    from gradcheck.runner.session import Session

# One machine takes eight events of up to three judged steps each: as much work as several cases.
_SHARE = 8


def judge(session: Session, cell: Cell) -> Verdict:
    """Take one cell through its machines; a finding is reproduced by the program of the shortest run."""
    started = time.perf_counter()
    concrete = bench(cell)
    assert concrete.implementation is not None
    settings = session.profile.settings(session.explore)
    fewer = hypothesis.settings(settings, max_examples=max(3, settings.max_examples // _SHARE))
    seen = machine(concrete.implementation, concrete.formula, fewer)
    if seen.program:
        kept = replace(concrete.implementation, reproduce=lambda *_, **__: seen.program)
        concrete = replace(concrete, implementation=kept)
    return record(session, concrete, seen.evidence, started, seen.case)
