"""Cells about initial weights: the plan of them, and one cell from its draws to the record."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import hypothesis
import numpy as np
from hypothesis import strategies as st

from gradcheck.cases import option_values
from gradcheck.checks.moments import FALSE_ALARM, Draws, Found, moments, pooled
from gradcheck.explain import code_for
from gradcheck.formats import Format, get_format
from gradcheck.formulas.initialization import Initializer, get_initializer
from gradcheck.records import Cell, Evidence, Finding, Verdict
from gradcheck.subjects import samplers

if TYPE_CHECKING:
    from gradcheck.runner.session import Session

CHECK = "moments"
# Numbers of one case: enough that its own statistics see a wrong fan, few enough to be sorted in no time.
NUMBERS = 20_000
_MOST_DRAWS = 200
# Half of a run's cases: what they show is pooled.
_SHARE = 0.5


def cells(initializers: tuple[Initializer, ...], formats: tuple[Format, ...]) -> Iterator[Cell]:
    """Yield what the samplers are checked for."""
    for initializer in initializers:
        for subject in samplers.SUBJECTS:
            for fmt in formats:
                reason = samplers.reason(subject, initializer, fmt)
                yield Cell(initializer.name, subject, fmt.name, CHECK, reason)


def draws(initializer: Initializer) -> st.SearchStrategy[Draws]:
    """Draw a weight's shape, the options, and a seed; small weights are drawn more often."""

    @st.composite
    def case(draw: Callable[..., Any]) -> Draws:
        options = {option.name: draw(option_values(option)) for option in initializer.options}
        bias = initializer.target == "bias"
        most = 24 if initializer.kind == "orthogonal" else 64
        out = draw(st.integers(200, 1000) if bias else st.integers(2, most))
        if initializer.kind == "dirac":
            out *= options["groups"]
        least, longest = initializer.axes
        kernel = draw(st.integers(max(0, least - 2), longest - 2))
        sizes = st.integers(1, 3 if initializer.kind == "orthogonal" else 5)
        shape = (out, draw(st.integers(1, most)), *(draw(sizes) for _ in range(kernel)))
        size = out if bias else math.prod(shape)
        repeats = 1 if initializer.kind == "dirac" else max(1, min(_MOST_DRAWS, math.ceil(NUMBERS / size)))
        return Draws(shape, options, draw(st.integers(0, 2**31 - 1)), repeats)

    return case()


def judge(session: Session, cell: Cell) -> Verdict:
    """Draw the cases of one cell, judge each and all together, record the evidence, return the verdict.

    The run's probability of a false alarm is shared out evenly among its cells, and among a cell's cases and
    their pool.
    """
    started = time.perf_counter()
    initializer = get_initializer(cell.formula)
    sampler = samplers.get_sampler(cell.subject, initializer, get_format(cell.format))
    settings = session.profile.settings(session.explore)
    examples = max(4, round(_SHARE * settings.max_examples))
    alarm = FALSE_ALARM / max(1, len(session.cells(CHECK))) / (examples + 1)
    collected: list[tuple[Draws, Found]] = []

    def run(case: Draws) -> None:
        collected.append((case, moments(sampler, initializer, case, alarm)))

    bounded = hypothesis.settings(settings, max_examples=examples)
    hypothesis.given(draws(initializer))(bounded(run))()
    # Hypothesis may go beyond what it was asked for; the alarm was shared out for so many cases.
    kept = collected[:examples]
    evidence = summed([found for _, found in kept], alarm)
    findings: tuple[Finding, ...] = ()
    if evidence.verdict.is_finding:
        wrong = next((case for case, found in kept if found.evidence.verdict.is_finding), kept[0][0])
        findings = (_finding(cell, evidence, sampler, wrong),)
    session.record(cell, evidence, findings, time.perf_counter() - started)
    return evidence.verdict


def summed(found: list[Found], alarm: float) -> Evidence:
    """Return the evidence of all cases and of their pool, whose resolution is the cell's."""
    total = Evidence()
    for one in found:
        total = total.merge(one.evidence)
    shares = np.concatenate([one.shares for one in found])
    if not shares.size:
        return total
    pool = pooled(shares, np.concatenate([one.share_errors for one in found]), alarm)
    note = (
        f"a run accuses a right sampler with a probability of at most {FALSE_ALARM:g}; of {shares.size} "
        f"numbers pooled, a variance off by {100 * pool.resolution:.2g} % would have been seen as surely"
    )
    return replace(total.merge(pool), resolution=pool.resolution, notes=(*total.notes, note))


def _finding(cell: Cell, evidence: Evidence, sampler: samplers.Sampler, case: Draws) -> Finding:
    worst = evidence.worst
    code = code_for(cell.check, evidence.verdict, evidence.breaches)
    program = sampler.reproduce(case.shape, case.options, case.seed) if sampler.reproduce else ""
    if worst is None:
        return Finding(code, cell, evidence, f"{cell.id}: {', '.join(evidence.breaches)}", program)
    message = (
        f"{cell.formula} of {cell.subject} in {cell.format}: {worst.context or 'all numbers pooled'} is "
        f"{worst.got:.6g}, where {worst.expected:.6g} is right and {worst.bound:.3g} allowed."
    )
    return Finding(code, cell, evidence, message, program)
