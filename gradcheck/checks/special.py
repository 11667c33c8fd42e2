"""The table of answers at zeros, infinities, NaN and the extremes of the format."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from gradcheck.checks.examine import examine
from gradcheck.checks.poisoned import kinds_of_answers
from gradcheck.checks.semantics import semantics
from gradcheck.families import special_values
from gradcheck.formats import Format, widen
from gradcheck.records import DERIVATIVE, VALUE, Case, Evidence, Formula
from gradcheck.subjects.implementation import Implementation


@dataclass(frozen=True)
class Row:
    """What an implementation answers at one special point, beside what it may answer."""

    at: str
    order: str
    limit: str
    textbook: str
    got: str
    accepted: bool


def special(implementation: Implementation, formula: Formula, case: Case) -> Evidence:
    """Examine value and gradient at the nine special points, with the options of the case; one by one too.

    A formula of several inputs gets each of them at one place of one of its inputs.
    """
    if not formula.elementwise:
        return poisoned(implementation, formula, case)
    fmt, options = case.format, case.options
    points = np.array(special_values(fmt)).astype(fmt.dtype)
    total = Evidence()
    for order in (VALUE, DERIVATIVE) if implementation.vjp else (VALUE,):
        for array in (points, *(points[k : k + 1] for k in range(points.size))):
            total = total.merge(examine(implementation, formula, _case(array, fmt, options), order))
    return replace(total, cases=1, vacuous_cases=int(total.compared == 0), label="exhaustive")


def poisoned(implementation: Implementation, formula: Formula, case: Case) -> Evidence:
    """Put an infinity, NaN or an extreme number at one place of one input and compare what it does.

    Which input takes which number goes round, from case to case and from one number to the next.

    A result is finite, infinite of one sign, or NaN: it has to be what one of the formula's listed texts
    gives there in IEEE arithmetic. Finite results are held to the bound wherever it says anything.
    """
    total = Evidence()
    for order, part in spoilt_cases(implementation, formula, case):
        total = total.merge(kinds_of_answers(implementation, formula, part, order))
    families = {case.family: total.compared}
    return replace(total, cases=1, vacuous_cases=int(total.compared == 0), families=families)


def spoilt_cases(implementation: Implementation, formula: Formula, case: Case) -> Iterator[tuple[int, Case]]:
    """Yield the cases, with their orders, that `poisoned` makes of one."""
    kinds = [formula.kind(k) for k in range(len(case.inputs))]
    taking = [k for k, kind in enumerate(kinds) if case.inputs[k].size and (k == 0 or kind in _TAKING)]
    for order in (VALUE, DERIVATIVE) if implementation.vjp else (VALUE,):
        for place, point in enumerate(_points(case)):
            if not taking or not _is_asked(formula, point):
                continue
            k = taking[(case.seed + place) % len(taking)]
            spoilt = case.inputs[k].copy()
            spoilt.flat[(case.seed + place) % spoilt.size] = point
            inputs = (*case.inputs[:k], spoilt, *case.inputs[k + 1 :])
            told = f"{point!r} for {formula.inputs[k]} in {case.detail}"
            part = replace(case, inputs=inputs, specials=1, detail=told)
            yield order, part


# Beside the first input. A parameter may meet padding, where 0 · NaN need not be computed, and numbers of the
# other kinds have a range.
_TAKING = ("real",)


def _points(case: Case) -> tuple[float, ...]:
    """Return NaN, one infinity and one of the other special numbers; the seed picks, case by case."""
    rest = tuple(point for point in special_values(case.format) if math.isfinite(point))
    return math.nan, math.inf if case.seed % 2 else -math.inf, rest[case.seed // 2 % len(rest)]


def _is_asked(formula: Formula, point: float) -> bool:
    """Whether a formula says anything at the point: outside its domain an implementation may refuse."""
    low, high = formula.domain
    return low <= point <= high or (math.isnan(point) and math.isinf(low) and math.isinf(high))


def _case(array: Any, fmt: Format, options: Any) -> Case:
    ones = np.ones(array.shape).astype(fmt.dtype)
    return Case("special", fmt, (array,), ones, options, specials=int(array.size))


def table(implementation: Implementation, formula: Formula, fmt: Format, options: Any) -> list[Row]:
    """Return the table of values and slopes at the special points, each evaluated on its own."""
    rows = []
    for order, name in ((VALUE, "value"), (DERIVATIVE, "derivative")):
        if order and implementation.vjp is None:
            continue
        for point in special_values(fmt):
            case = _case(np.array([point]).astype(fmt.dtype), fmt, options)
            rows.append(_row(implementation, formula, case, order, name, point))
    return rows


def _row(
    implementation: Implementation, formula: Formula, case: Case, order: int, name: str, point: float
) -> Row:
    fmt, options = case.format, case.options
    known = semantics(formula, order, fmt, options, point) if _is_exact(point) else None
    try:
        if order == VALUE:
            output: Any = implementation.forward(case.inputs, options)
        else:
            assert implementation.vjp is not None and case.cotangent is not None
            (output,) = implementation.vjp(case.inputs, case.cotangent, options)
        got = "none" if output is None else repr(float(widen(output).ravel()[0]))
    except Exception as error:
        got = type(error).__name__
    refused = examine(implementation, formula, case, order).verdict.is_finding
    limit, textbook = (repr(known.limit), repr(known.textbook)) if known else ("finite", "finite")
    return Row(_label(point, fmt), name, limit, textbook, got, not refused)


def _is_exact(point: float) -> bool:
    return point == 0 or not math.isfinite(point)


def _label(point: float, fmt: Format) -> str:
    if math.isnan(point):
        return "nan"
    sign = "-" if math.copysign(1, point) < 0 else "+"
    names = {0.0: "0", math.inf: "inf", fmt.largest: "largest", fmt.least_subnormal: "least subnormal"}
    return sign + names[abs(point)]
