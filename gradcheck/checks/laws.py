"""Laws: relations that any right implementation obeys, decided without a tolerance.

The reference is asked over balls: enclosures of both sides that are disjoint break the law. An implementation
is asked in its own format: the difference of both sides has to lie where the difference of two legal
evaluations can. So an implementation that is off by a constant everywhere, in the value and in its gradient
alike, is seen by what does not fit together.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from gradcheck.arithmetic.ball import Ball, balls, precision, to_estimate
from gradcheck.arithmetic.rounded import Model, Rounded, rounded
from gradcheck.cases import binades
from gradcheck.checks.examine import REFUSED, called, first_input, numbers, shown
from gradcheck.checks.legal import RUNGS, evaluated, judged_rungs, legal_answers
from gradcheck.compare import breach, within
from gradcheck.errors import GradcheckError, Undecided
from gradcheck.formats import FLOAT64, Float64Array, Format, widen
from gradcheck.laws import Law, Speaker, laws_of
from gradcheck.oracles.query import texts
from gradcheck.oracles.truth import PRECISIONS
from gradcheck.records import VALUE, Case, Evidence, Formula, Worst
from gradcheck.subjects import SUBJECTS, Implementation
from gradcheck.subjects.numpy import NUMPY

_PINNED = 2.0**-60


class Unanswerable(GradcheckError):
    """A law asks for a number that the format does not hold, or an option that is fixed at another value."""


def law(*given: Any) -> Evidence:
    """Check every law of the formula on a case: `law(implementation, formula, case)`.

    Without an implementation, `law(formula, case)`, the reference itself is asked.
    """
    *implementation, formula, case = given
    total = Evidence()
    for each in laws_of(formula.name):
        if implementation:
            total = total.merge(obeyed(each, implementation[0], formula, case))
        else:
            total = total.merge(proven(each, formula, case))
    values = np.concatenate([numbers(array).ravel().astype(np.float64) for array in case.inputs])
    return replace(
        total,
        cases=1,
        vacuous_cases=int(total.compared == 0),
        families={case.family: total.compared},
        binades=binades(values),
        specials=case.specials,
        options=dict(case.options),
    )


def _inputs(case: Case) -> tuple[Any, ...]:
    return tuple(numbers(array) for array in case.inputs)


def obeyed(each: Law, implementation: Implementation, formula: Formula, case: Case) -> Evidence:
    """Ask an implementation, and compare with what legal evaluations can differ by."""
    if each.gradient and implementation.vjp is None:
        return Evidence()
    answer = _own_answers(implementation, case.format)
    speaker = Speaker(formula, answer, lambda array: array, case.seed)
    try:
        with np.errstate(all="ignore"):
            found = each.sides(speaker, _inputs(case), dict(case.options))
    except Unanswerable:
        return Evidence()
    except (Exception, SystemExit) as error:
        if formula.may_refuse(case):
            return REFUSED
        return _named(breach("raised", 1, first_input(case), shown(error)), each)
    if found is None:
        return Evidence()
    with np.errstate(all="ignore"):
        got = _Sides(widen(found[0]), widen(found[1]), found[2:])
        return _within_reach(each, got, formula, case, implementation.flushes)


@dataclass(frozen=True)
class _Sides:
    left: Any
    right: Any
    scale: tuple[Any, ...]

    @property
    def difference(self) -> Any:
        return self.left - self.right


def _within_reach(each: Law, got: _Sides, formula: Formula, case: Case, flush: bool) -> Evidence:
    """Judge the difference rung by rung; the next one is only asked for what the last does not explain."""
    names: tuple[str, ...] = ()
    rung: Any = None
    interval: Any = None
    for height, name in judged_rungs(formula):
        legal = _legal(each, formula, case, name, flush)
        if legal.difference.shape != got.difference.shape:
            note = f"{each.sentence}: sides of shape {got.difference.shape}, not {legal.difference.shape}"
            return _named(breach("shape", 1, first_input(case), note), each)
        reach = _reach(each, legal.difference)
        inside = within(got.difference, reach, np.zeros(()))
        if rung is None:
            rung, interval = np.where(inside, 0, RUNGS), reach
            scale = _largest(legal)
        elif (fresh := inside & (rung == RUNGS)).any():
            rung = np.where(fresh, height, rung)
            names += (name,) if height == RUNGS - 1 else ()
        if not (rung == RUNGS).any():
            break
    return _named(_counted(got, rung, interval, scale, names, case), each)


def _legal(each: Law, formula: Formula, case: Case, rung: str, flush: bool) -> _Sides:
    """Return both sides over the intervals of legal evaluations of one rung."""
    model = Model(FLOAT64)
    answers = legal_answers(case.format, rung, flush=flush)
    speaker = Speaker(formula, answers, lambda array: rounded(array, model), case.seed)
    found = each.sides(speaker, _inputs(case), dict(case.options))
    assert found is not None
    left, right, *scale = (part if isinstance(part, Rounded) else rounded(part, model) for part in found)
    return _Sides(left, right, tuple(scale))


def _reach(each: Law, difference: Rounded) -> Rounded:
    if not each.at_most:
        return difference
    least = np.full(difference.shape, -np.inf)
    return Rounded(least, np.maximum(difference.hi, 0.0), difference.model, difference.nan)


def _largest(legal: _Sides) -> float:
    parts = legal.scale or (legal.left, legal.right)
    ends = [np.maximum(np.abs(part.lo), np.abs(part.hi)) for part in parts]
    return max((float(np.max(end, where=np.isfinite(end), initial=0.0)) for end in ends), default=0.0)


def _counted(
    got: _Sides, rung: Any, interval: Rounded, scale: float, names: tuple[str, ...], case: Case
) -> Evidence:
    difference = np.abs(got.difference)
    width = np.maximum(interval.hi, np.where(np.isneginf(interval.lo), 0.0, -interval.lo))
    seen = np.isfinite(width)
    # An interval that says nothing about a number says nothing about a law.
    rung = np.where(seen, rung, 0)
    # Nor does one as wide as anything that is compared: the others still do.
    telling = seen & ((width < scale) | (width == 0))
    widest = float(np.max(width, where=telling, initial=0.0))
    resolution = widest / scale if scale else 0.0
    worst = None
    if seen.any():
        ratio = np.where(seen, np.nan_to_num(difference / np.where(width > 0, width, 1e-320), nan=np.inf), -1)
        index = int(np.argmax(np.where(rung == rung.max(), ratio, -1)))
        pick = [
            float(np.broadcast_to(part, difference.shape).ravel()[index]) for part in (got.left, got.right)
        ]
        error = float(difference.ravel()[index])
        bound = float(np.broadcast_to(width, difference.shape).ravel()[index])
        ulp = error / float(case.format.ulp(pick[1]))
        point = first_input(case).input
        worst = Worst(point, pick[0], pick[1], error, bound, ulp, index, int(difference.size))
    return Evidence(
        compared=int((telling | (rung > 0)).sum()),
        outside_stable=int((rung >= 1).sum()),
        outside_accepted=int((rung >= 2).sum()),
        outside_unstable=int((rung >= RUNGS).sum()),
        ulp=worst.ulp if worst else 0.0,
        resolution=resolution,
        worst=worst,
        explained_by=names,
    )


def _named(evidence: Evidence, each: Law) -> Evidence:
    if evidence.worst is None:
        return evidence
    return replace(evidence, worst=replace(evidence.worst, context=each.sentence))


def _own_answers(implementation: Implementation, fmt: Format) -> Callable[..., tuple[Any, ...]]:
    """Return what the implementation says; about other formulas its subject is asked, or the reference."""
    subject = next((s for s in SUBJECTS if s.name == implementation.subject), NUMPY)

    def answer(formula: Formula, order: int, inputs: Any, cotangent: Any, options: Any) -> tuple[Any, ...]:
        whose = implementation
        if formula.name != implementation.formula:
            able = subject if "value" in subject.checks(formula) else NUMPY
            whose = able.implement(formula, fmt)
        if any(options.get(name, value) != value for name, value in whose.options.items()):
            raise Unanswerable(f"{whose.subject} fixes {', '.join(whose.options)} of {formula.name}")
        arrays = tuple(_stored(array, fmt) for array in inputs)
        case = Case("law", fmt, arrays, None, options)
        factor = None if order == VALUE else _stored(cotangent, fmt)
        return tuple(widen(part) for part in called(whose, formula, case, order, factor, ()))

    return answer


def _stored(array: Any, fmt: Format) -> Any:
    if array.dtype.kind in "iub":
        return array
    with np.errstate(all="ignore"):
        kept = np.asarray(array).astype(fmt.dtype)
    if not np.array_equal(widen(kept), array, equal_nan=True):
        raise Unanswerable(f"a law asks about numbers that {fmt.name} does not hold")
    return kept


def proven(each: Law, formula: Formula, case: Case) -> Evidence:
    """Ask the reference over balls, at rising precision until both sides are pinned."""
    if each.gradient and not formula.differentiable:
        return Evidence()
    inputs = _inputs(case)
    wrong = pinned = np.zeros(0, bool)
    difference = scale = np.zeros(0)
    for bits in PRECISIONS:
        with precision(bits):
            speaker = Speaker(formula, _true_answers, balls, case.seed)
            try:
                found = each.sides(speaker, inputs, dict(case.options))
            except Undecided:
                continue
            if found is None:
                return Evidence()
            parts = [part if isinstance(part, Ball) else balls(part) for part in found]
            estimate = to_estimate(parts[0] - parts[1])
            scales = [np.abs(to_estimate(part).high) for part in parts[2:] or parts[:2]]
        difference = estimate.high + estimate.low
        scale = np.broadcast_to(np.maximum.reduce(np.broadcast_arrays(*scales)), difference.shape)
        beyond = difference if each.at_most else np.abs(difference)
        wrong = beyond > estimate.radius
        narrow = estimate.radius <= _PINNED * scale + 4 * FLOAT64.least_subnormal
        pinned = wrong | narrow | (each.at_most & (beyond < -estimate.radius))
        if pinned.all():
            break
    return _named(_proven(wrong, pinned, difference, scale, case), each)


def _proven(wrong: Any, pinned: Any, difference: Float64Array, scale: Float64Array, case: Case) -> Evidence:
    # Where the truth is undefined, as 0/0 is, there is no law.
    defined = np.isfinite(scale) & np.isfinite(difference)
    found = Evidence(
        compared=int((pinned & defined).sum()), undecided=int((~pinned & defined).sum()), label="proven"
    )
    wrong = wrong & defined
    if not wrong.any():
        return found
    index = int(np.argmax(wrong))
    error = float(np.abs(difference.ravel()[index]))
    ulp = error / float(FLOAT64.ulp(scale.ravel()[index]))
    worst = Worst(first_input(case).input, error, 0.0, error, 0.0, ulp, index, int(wrong.size))
    return found.merge(replace(breach("law", int(wrong.sum()), worst), compared=0))


def _true_answers(formula: Formula, order: int, inputs: Any, cotangent: Any, options: Any) -> tuple[Any, ...]:
    lifted = tuple(_ball(array) for array in inputs)
    _, _, text = next(iter(texts(formula, order)))
    return evaluated(formula, order, text, lifted, None if cotangent is None else _ball(cotangent), options)


def _ball(array: Any) -> Any:
    return array if isinstance(array, Ball) or array.dtype.kind in "iub" else balls(array)
