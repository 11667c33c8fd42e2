"""From bounds to counts: which elements no legal evaluation explains, and the worst of them.

Knows no formula. A NaN never passes: an element is inside an interval only if a comparison says so.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gradcheck.arithmetic.rounded import Rounded, hull
from gradcheck.formats import Format
from gradcheck.oracles.truth import Bounds, Truth
from gradcheck.records import Evidence, Verdict, Worst

Float64Array = NDArray[np.float64]
BoolArray = NDArray[np.bool_]


@dataclass(frozen=True)
class Outcome:
    """Per element: whether it was compared, how far it is off, and which rung explains it.

    `rung` is 0 inside the stable texts' bound, 1 inside the accepted ones', 2 inside an unstable one's,
    3 beyond all.
    """

    compared: BoolArray
    undecided: BoolArray
    error: Float64Array
    bound: Float64Array
    ulp: Float64Array
    expected: Float64Array
    rung: NDArray[np.int8]
    explained_by: tuple[str, ...]
    reference_fault: BoolArray


def within(got: Float64Array, interval: Rounded, extra: Float64Array) -> BoolArray:
    """Return where `got` lies in the interval, widened by `extra`; NaN only where NaN is legal."""
    inside = (got >= interval.lo - extra) & (got <= interval.hi + extra)
    if interval.nan is not None:
        inside = inside | (np.isnan(got) & interval.nan)
    return np.asarray(inside)


def judge(got: Float64Array, truth: Truth, bounds: Bounds, fmt: Format) -> Outcome:
    """Compare every element of one output with its truth and the bounds of its legal evaluations."""
    with np.errstate(all="ignore"):
        radius = np.where(truth.decided, np.maximum(truth.lower.radius, truth.upper.radius), 0.0)
        error, expected = _error(got, truth, fmt)
        rung = np.full(got.shape, 3, dtype=np.int8)
        names = []
        for name, interval in bounds.unstable:
            reach = hull(bounds.accepted, interval)
            explained = (rung == 3) & within(got, reach, radius)
            if (explained & ~within(got, bounds.accepted, radius)).any():
                names.append(name)
            rung[explained] = 2
        rung[within(got, bounds.accepted, radius)] = 1
        rung[within(got, bounds.stable, radius)] = 0
        # A number between both one-sided derivatives is right by definition.
        rung[(error == 0) & np.isfinite(got)] = 0
        widest = bounds.accepted
        for _, interval in bounds.unstable:
            widest = hull(widest, interval)
        shown = np.where(rung >= 3, _width(widest, truth), _width(bounds.accepted, truth))
        bound = np.where(rung == 0, _width(bounds.stable, truth), shown) + radius
        error = np.where((rung == 0) & ~np.isfinite(got), 0.0, error)
        ulp = error / fmt.ulp(expected)
        fault = truth.decided & ~_encloses(bounds, truth, radius)
        return Outcome(
            truth.decided, ~truth.decided, error, bound, ulp, expected, rung, tuple(names), np.asarray(fault)
        )


def _error(got: Float64Array, truth: Truth, fmt: Format) -> tuple[Float64Array, Float64Array]:
    """Return the distance to the nearest right number, and that number."""
    below = (truth.lower.high - got) + truth.lower.low
    above = (got - truth.upper.high) - truth.upper.low
    error = np.maximum(np.maximum(below, above), 0.0)
    same = (got == truth.lower.high) & (truth.lower.low == 0) | (got == truth.upper.high) & (
        truth.upper.low == 0
    )
    error = np.where(same, 0.0, error)
    expected = np.where(below > 0, truth.lower.high, truth.upper.high)
    return np.where(np.isnan(got), np.inf, error), expected


def _width(interval: Rounded, truth: Truth) -> Float64Array:
    up = (interval.hi - truth.upper.high) - truth.upper.low
    down = (truth.lower.high - interval.lo) + truth.lower.low
    return np.asarray(np.nan_to_num(np.maximum(np.maximum(up, down), 0.0), nan=np.inf, posinf=np.inf))


def _encloses(bounds: Bounds, truth: Truth, radius: Float64Array) -> BoolArray:
    """Whether every text's interval contains the truth, as it must if the texts are the same function."""
    result = np.ones(truth.lower.high.shape, dtype=bool)
    for interval in (bounds.stable, *(r for _, r in bounds.unstable)):
        beyond = np.abs(truth.lower.high) > interval.model.format.largest
        above = (interval.hi - truth.lower.high) - truth.lower.low >= -radius
        below = (truth.upper.high - interval.lo) + truth.upper.low >= -radius
        legal = np.zeros(beyond.shape, bool) if interval.nan is None else interval.nan
        result &= beyond | (above & below) | legal
    return result


def to_evidence(
    outcome: Outcome,
    got: Float64Array,
    inputs: tuple[Float64Array, ...],
    context: str,
    ordinary: BoolArray | None = None,
) -> Evidence:
    """Count an outcome. `inputs` that have the shape of `got` give the worst element's own input.

    The resolution is taken over the `ordinary` elements: one extreme input would dwarf all others.
    """
    compared = outcome.compared
    rung = np.where(compared, outcome.rung, 0)
    finite = compared & np.isfinite(outcome.bound)
    if ordinary is not None and (finite & ordinary).any():
        finite &= ordinary
    largest = _largest(np.abs(outcome.expected), finite & np.isfinite(outcome.expected))
    widest = _largest(outcome.bound, finite)
    resolution = widest / largest if largest > 0 else (0.0 if widest == 0 else math.inf)
    vacuous = not compared.any() or not finite.any() or (widest >= largest and widest > 0 and resolution != 0)
    breaches = {"reference": int(outcome.reference_fault.sum())} if outcome.reference_fault.any() else {}
    return Evidence(
        compared=int(compared.sum()),
        outside_stable=int((rung >= 1).sum()),
        outside_accepted=int((rung >= 2).sum()),
        outside_unstable=int((rung >= 3).sum()),
        breaches=breaches,
        undecided=int(outcome.undecided.sum()),
        cases=1,
        vacuous_cases=int(vacuous),
        ulp=_largest(outcome.ulp, compared),
        resolution=0.0 if vacuous else resolution,
        worst=_worst(outcome, got, inputs, rung, context),
        explained_by=outcome.explained_by,
    )


def _largest(values: Float64Array, where: BoolArray) -> float:
    return float(np.max(values, where=where, initial=0.0)) if where.any() else 0.0


def _worst(
    outcome: Outcome, got: Float64Array, inputs: tuple[Float64Array, ...], rung: Any, context: str
) -> Worst | None:
    if not outcome.compared.any():
        return None
    with np.errstate(all="ignore"):
        ratio = np.where(outcome.error == 0, 0.0, outcome.error / outcome.bound)
    ratio = np.where(np.isnan(ratio), np.inf, ratio)
    rungs = np.where(outcome.compared, rung, -1)
    index = int(np.argmax(np.where(rungs == rungs.max(), ratio, -1.0)))
    point = tuple(float(a.ravel()[index]) for a in inputs if a.shape == got.shape)

    def pick(values: Float64Array) -> float:
        return float(values.ravel()[index])

    return Worst(
        point,
        pick(got),
        pick(outcome.expected),
        pick(outcome.error),
        pick(outcome.bound),
        pick(outcome.ulp),
        index,
        int(got.size),
        context,
    )


def breach(kind: str, count: int, worst: Worst | None = None, note: str = "") -> Evidence:
    """Return evidence of `count` breaches of the semantics called `kind`."""
    return Evidence(
        compared=count, breaches={kind: count}, cases=1, worst=worst, notes=(note,) if note else (), ulp=0.0
    )


def with_context(evidence: Evidence, context: str) -> Evidence:
    """Return the evidence with a word about where its worst element was seen."""
    if evidence.worst is None or not context:
        return evidence
    return replace(evidence, worst=replace(evidence.worst, context=context))


def relative(evidence: Evidence, base: Evidence, name: str) -> Evidence:
    """Return the evidence of a variation of something else, which has its own verdict, judged beside it.

    Where both are unstable by the same texts, the variation changes nothing: it agrees, and a note says
    so. Anything wrong stays wrong.
    """
    same = set(evidence.explained_by) <= set(base.explained_by)
    if evidence.verdict is not Verdict.UNSTABLE or base.verdict is not Verdict.UNSTABLE or not same:
        return evidence
    note = f"as unstable as {name}, by the same text: {', '.join(evidence.explained_by)}"
    return replace(evidence, outside_accepted=0, explained_by=(), notes=(*evidence.notes, note))
