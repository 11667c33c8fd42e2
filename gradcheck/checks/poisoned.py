"""What one special number among ordinary ones does to the results of a formula of several inputs."""

from __future__ import annotations

import itertools
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gradcheck.arithmetic.plain import evaluate
from gradcheck.arithmetic.rounded import Model, Rounded
from gradcheck.arithmetic.scalars import other_way
from gradcheck.checks.examine import REFUSED, called, factors, first_input, numbers, output_name, shown
from gradcheck.checks.reference import key_of
from gradcheck.compare import breach
from gradcheck.errors import GradcheckError
from gradcheck.formats import FLOAT64, Float64Array, Format, widen
from gradcheck.oracles.truth import Query, bounds, texts
from gradcheck.records import DERIVATIVE, VALUE, Case, Evidence, Formula, Worst
from gradcheck.subjects.implementation import Implementation

FINITE, PLUS, MINUS, NAN = 1, 2, 4, 8
_WORDS = {FINITE: "a number", PLUS: "inf", MINUS: "-inf", NAN: "nan"}
# A text may say that one of its results is reached by several ways; beside an infinity these differ.
_WAYS = (0, 1)


def kinds_of_answers(implementation: Implementation, formula: Formula, case: Case, order: int) -> Evidence:
    """Compare which results are finite, infinite and NaN with what the listed texts give."""
    cotangent, _ = factors(formula, case, order)
    try:
        outputs = called(implementation, formula, case, order, cotangent, ())
    except (Exception, SystemExit) as error:
        if formula.may_refuse(case):
            return REFUSED
        return breach("raised", 1, first_input(case), shown(error))
    accepted, examples, intervals = _known(formula, case, order, cotangent, implementation.flushes)
    finite = all(np.isfinite(widen(a)).all() for a in case.inputs if a.dtype.kind not in "iub")
    total = Evidence()
    for place, (output, allowed) in enumerate(zip(outputs, accepted, strict=True)):
        got = np.zeros(allowed.shape) if output is None else widen(output)
        if got.shape != allowed.shape:
            return breach("shape", 1, first_input(case), f"expected shape {allowed.shape}, got {got.shape}")
        if intervals is not None and finite:
            allowed = allowed | _overflows(intervals[place])
        wrong = (_kind(got) & allowed) == 0
        if intervals is not None:
            low, high = intervals[place].lo, intervals[place].hi
            wrong |= np.isfinite(got) & ~((got >= low) & (got <= high))
        right = _Right(allowed, examples[place], output_name(formula, order, place))
        total = total.merge(_counted(got, wrong, case, right))
    return total


@dataclass(frozen=True)
class _Right:
    """What is right of one output: the kinds, as bits, and the numbers that one listed text gives."""

    kinds: NDArray[np.int64]
    example: Float64Array
    name: str

    def told(self, index: int) -> str:
        kinds = int(self.kinds.ravel()[index])
        return " or ".join(word for kind, word in _WORDS.items() if kinds & kind)


_Known = tuple[list[NDArray[np.int64]], list[Float64Array], list[Rounded] | None]
# Subjects meet the same cases one after another, and what is legal there is the same for all.
_KEPT = 160
_MEMORY: OrderedDict[Any, _Known] = OrderedDict()


def _known(formula: Formula, case: Case, order: int, cotangent: Any, flush: bool) -> _Known:
    inputs = tuple(numbers(array) for array in case.inputs)
    weight = None if cotangent is None else widen(cotangent)
    query = Query(formula, order, case.format, inputs, case.options, weight, flush=flush)
    key = key_of(query)
    if key not in _MEMORY:
        _MEMORY[key] = *_accepted(formula, case, order, cotangent), _intervals(query)
        if len(_MEMORY) > _KEPT:
            _MEMORY.popitem(last=False)
    _MEMORY.move_to_end(key)
    return _MEMORY[key]


def _overflows(interval: Rounded) -> NDArray[np.int64]:
    """Return the kinds that overflow makes legal: whether a partial sum overflows depends on its order."""
    kinds = np.where(np.isposinf(interval.hi), PLUS, 0) | np.where(np.isneginf(interval.lo), MINUS, 0)
    return np.asarray(kinds if interval.nan is None else kinds | np.where(interval.nan, NAN, 0))


def _counted(got: Float64Array, wrong: NDArray[np.bool_], case: Case, right: _Right) -> Evidence:
    if not wrong.any():
        return Evidence(compared=int(got.size), cases=1)
    index = int(np.argmax(wrong))
    worst = Worst(
        tuple(float(v) for v in _spoilt(case).ravel()[:8]),
        float(got.ravel()[index]),
        float(right.example.ravel()[index]),
        np.inf,
        0.0,
        np.inf,
        index,
        int(got.size),
        f"{right.name} {case.detail}: {right.told(index)}".strip(),
    )
    kinds = _kind(got)[wrong]
    kind = "nan" if (kinds == NAN).any() else "infinity"
    return breach(kind, int(wrong.sum()), worst)


def _spoilt(case: Case) -> Float64Array:
    """Return the first input that holds a number that is not finite, or the first one."""
    wide = [widen(array) for array in case.inputs]
    return next((array for array in wide if not np.isfinite(array).all()), wide[0])


def _kind(values: Float64Array) -> NDArray[np.int64]:
    kinds = np.where(np.isnan(values), NAN, np.where(np.isfinite(values), FINITE, PLUS))
    return np.asarray(np.where(np.isneginf(values), MINUS, kinds))


def _accepted(
    formula: Formula, case: Case, order: int, cotangent: Any
) -> tuple[list[NDArray[np.int64]], list[Float64Array]]:
    """Return, per output, the kinds of answers that any listed text gives, as bits, and what the first gives.

    A legal evaluation may also keep every operation in a wider format and round the result: a partial sum
    that overflows in the format does not overflow there.
    """
    found: list[NDArray[np.int64]] = []
    examples: list[Float64Array] = []
    listed = [text for _, _, text in texts(formula, order)]
    if order == DERIVATIVE and formula.extremes is not None:
        listed += formula.extremes
    for text, fmt, way in itertools.product(listed, dict.fromkeys((case.format, FLOAT64)), _WAYS):
        with other_way(way):
            parts = _answers(formula, case, order, cotangent, text, fmt)
        answers = [case.format.round(widen(part)) for part in parts]
        examples = examples or answers
        kinds = [_kind(answer) for answer in answers]
        found = kinds if not found else [a | b for a, b in zip(found, kinds, strict=True)]
    return found, examples


def _answers(
    formula: Formula, case: Case, order: int, cotangent: Any, text: Any, fmt: Format
) -> tuple[Any, ...]:
    options = formula.complete(case.options)
    inputs = tuple(numbers(array) for array in case.inputs)
    if order == VALUE:
        result = evaluate(text, fmt, *inputs, **options)
        return result if isinstance(result, tuple) else (result,)
    gradients = evaluate(_flat(text), fmt, *inputs, widen(cotangent), **options)
    return tuple(gradients[place] for place in formula.differentiated)


def _flat(text: Any) -> Any:
    return lambda *arrays, **options: tuple(text(arrays[:-1], arrays[-1], **options))


def _intervals(query: Query) -> list[Rounded] | None:
    """Return the intervals of legal results; none where an arithmetic does not take the special number."""
    try:
        legal = bounds(query, Model(query.format, query.flush))
    except GradcheckError:
        return None
    result = []
    for bound in legal:
        low, high, nan = bound.accepted.lo, bound.accepted.hi, bound.accepted.nan
        for _, interval in bound.unstable:
            low, high = np.minimum(low, interval.lo), np.maximum(high, interval.hi)
        low, high = np.where(np.isnan(low), -np.inf, low), np.where(np.isnan(high), np.inf, high)
        result.append(Rounded(low, high, bound.accepted.model, nan))
    return result
