"""One comparison: an implementation, a case, an order; out comes evidence."""

from __future__ import annotations

import math
import traceback
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gradcheck.arithmetic.plain import evaluate
from gradcheck.cases import binades, cotangents, directions
from gradcheck.checks.reference import Reference, reference
from gradcheck.checks.semantics import semantics
from gradcheck.compare import breach, judge, to_evidence
from gradcheck.formats import FORMATS, Format, widen
from gradcheck.oracles.truth import Query, texts
from gradcheck.records import DERIVATIVE, SECOND, VALUE, Case, Evidence, Formula, Worst
from gradcheck.subjects.implementation import Implementation

Float64Array = NDArray[np.float64]

_FLUSHES = "subnormal numbers may become zero, as the subject declares"
# What a formula lets an implementation refuse is no breach, and nothing is compared.
REFUSED = Evidence(notes=("some cases were refused with an error, which the formula allows there",))
_TRACEBACK_LIMIT = 1200
_MESSAGE_LIMIT = 400
_STORED = frozenset(fmt.dtype for fmt in FORMATS)


def examine(implementation: Implementation, formula: Formula, case: Case, order: int) -> Evidence:
    """Compare one output of the implementation (0 value, 1 gradient, 2 second order) on one case."""
    evidence = _examined(implementation, formula, case, order)
    inputs = np.concatenate([widen(a).ravel() for a in case.inputs])
    return replace(
        evidence,
        cases=1,
        vacuous_cases=int(bool(evidence.vacuous_cases) or near_constant(inputs)),
        families={case.family: evidence.compared},
        binades=binades(inputs),
        specials=case.specials,
        options=dict(case.options),
        notes=(*evidence.notes, *((_FLUSHES,) if implementation.flushes else ())),
    )


def near_constant(values: Float64Array) -> bool:
    """Whether a draw of some size hardly varies, so that it tests next to nothing."""
    return values.size >= 16 and np.unique(values).size <= 2


def _examined(implementation: Implementation, formula: Formula, case: Case, order: int) -> Evidence:
    cotangent, along = factors(formula, case, order)
    handed = (*case.inputs, *([] if cotangent is None else [cotangent]), *along)
    # What is judged are copies: an implementation that writes to its inputs is held to what it was given.
    kept = tuple(array.copy() for array in handed)
    count = len(case.inputs)
    given = replace(case, inputs=kept[:count])
    try:
        outputs = called(implementation, formula, case, order, cotangent, along)
        expected = _expected_shapes(formula, given, order)
        if len(outputs) != len(expected):
            what = "gradients" if order else "results"
            note = f"expected a tuple of {len(expected)} {what}, got {len(outputs) or 'none'}"
            return breach("shape", 1, first_input(given), note)
        read = [_as_array(o, shape, case.format, order) for o, shape in zip(outputs, expected, strict=True)]
    except (Exception, SystemExit) as error:
        if formula.may_refuse(given):
            return REFUSED
        size = int(math.prod(case.inputs[0].shape))
        return breach("raised", max(size, 1), first_input(given), shown(error))
    given_factors = (None, ()) if cotangent is None else (kept[count], kept[count + 1 :])
    evidence = _compared(formula, given, order, outputs, read, implementation.flushes, *given_factors)
    if any(array.tobytes() != copy.tobytes() for array, copy in zip(handed, kept, strict=True)):
        evidence = evidence.merge(breach("mutation", 1, first_input(given), "an input was written to"))
    if any(_shares(output, array) for output in outputs for array in case.inputs):
        note = "the result shares memory with an input: writing to one changes the other"
        evidence = evidence.merge(breach("mutation", 1, first_input(given), note))
    return evidence


def factors(formula: Formula, case: Case, order: int) -> tuple[Any, tuple[Any, ...]]:
    """Return the cotangent and the directions; those that the case lacks are drawn from its seed."""
    if order == VALUE:
        return None, ()
    cotangent = case.cotangent
    if cotangent is None:
        cotangent = cotangents(case.seed, _output_shapes(formula, case)[0], case.format)
    if order == DERIVATIVE:
        return cotangent, ()
    drawn = (directions(case.seed + k, a.shape, case.format) for k, a in enumerate(case.inputs))
    return cotangent, case.directions or tuple(drawn)


def called(
    implementation: Implementation,
    formula: Formula,
    case: Case,
    order: int,
    cotangent: Any,
    along: tuple[Any, ...],
) -> tuple[Any, ...]:
    """Return the outputs, without the gradients of inputs that have none, whatever is said about them."""
    if order == VALUE:
        value: Any = implementation.forward(case.inputs, case.options)
        return tuple(value) if isinstance(value, tuple | list) else (value,)
    if order == DERIVATIVE:
        assert implementation.vjp is not None
        outputs: Any = implementation.vjp(case.inputs, cotangent, case.options)
    else:
        assert implementation.second is not None
        outputs = implementation.second(case.inputs, cotangent, along, case.options)
    if not isinstance(outputs, tuple | list):
        return ()
    if len(outputs) != len(formula.inputs):
        return tuple(outputs)
    return tuple(outputs[place] for place in formula.differentiated)


def shown(error: BaseException) -> str:
    """Return the error and the end of its traceback, in bounded length, also if it cannot be printed."""
    lines = traceback.format_exception(error)
    return f"{lines[-1].strip()[:_MESSAGE_LIMIT]}\n{''.join(lines)[-_TRACEBACK_LIMIT:]}"


def _shares(output: Any, array: Any) -> bool:
    return isinstance(output, np.ndarray) and output.size > 0 and bool(np.may_share_memory(output, array))


def first_input(case: Case, where: int = 0) -> Worst:
    """Return the element of every input at a place, as the worst one of something that has no result."""
    flat = [widen(a).ravel() for a in case.inputs]
    point = tuple(float(a[where]) for a in flat if a.size > where)
    return Worst(point, math.nan, math.nan, math.inf, 0.0, math.inf, where, int(flat[0].size))


def _compared(
    formula: Formula,
    case: Case,
    order: int,
    outputs: tuple[Any, ...],
    read: list[tuple[Float64Array | None, tuple[str, str] | None]],
    flush: bool,
    cotangent: Any,
    along: tuple[Any, ...],
) -> Evidence:
    expected_shapes = _expected_shapes(formula, case, order)
    total = Evidence()
    arrays = [array for array, _ in read]
    for _, problem in read:
        if problem is not None:
            kind, note = problem
            total = total.merge(breach(kind, 1, first_input(case), note))
    if formula.elementwise:
        (array,) = arrays
        missing = bool(order) and outputs[0] is None
        if missing:
            array = np.zeros(expected_shapes[0])
        if array is not None:
            found = _elementwise(formula, case, order, array, cotangent, along, flush)
            total = total.merge(_as_missing(found) if missing else found)
        return total
    inputs = tuple(numbers(a) for a in case.inputs)
    query = Query(
        formula, order, case.format, inputs, case.options, _double(cotangent), _doubles(along), flush
    )
    known = reference(query if order else replace(query, cotangent=None, directions=()))
    for place, (array, truth, bound) in enumerate(zip(arrays, known.truths, known.bounds, strict=True)):
        missing = bool(order) and outputs[place] is None
        got = np.zeros(expected_shapes[place]) if missing else array
        if got is None:
            continue
        outcome = judge(got, truth, bound, case.format)
        name = output_name(formula, order, place)
        found = to_evidence(outcome, got, inputs, f"{name} {case.detail}".strip())
        total = total.merge(_as_missing(found) if missing else found)
    return total


def output_name(formula: Formula, order: int, place: int) -> str:
    """Return what a person calls the result at `place`; nothing for the value of a single output."""
    if order:
        return f"gradient of {formula.inputs[formula.differentiated[place]]}"
    return formula.outputs[place] if len(formula.outputs) > 1 else ""


def numbers(array: Any) -> Any:
    """Return the numbers of an input in float64; indices stay integers."""
    return array if array.dtype.kind in "iub" else widen(array)


def _as_missing(found: Evidence) -> Evidence:
    """A gradient of None stands for zero; where the truth is not zero it is missing."""
    if not found.outside_stable:
        return found
    return replace(found, breaches={**found.breaches, "missing": found.outside_stable})


def _double(array: Any) -> Any:
    return None if array is None else widen(array)


def _doubles(arrays: tuple[Any, ...]) -> tuple[Float64Array, ...]:
    return tuple(widen(array) for array in arrays)


def _expected_shapes(formula: Formula, case: Case, order: int) -> list[tuple[int, ...]]:
    if order == VALUE:
        return _output_shapes(formula, case)
    return [tuple(np.shape(case.inputs[place])) for place in formula.differentiated]


def _output_shapes(formula: Formula, case: Case) -> list[tuple[int, ...]]:
    if formula.elementwise:
        return [tuple(np.shape(case.inputs[0]))]
    with np.errstate(all="ignore"):
        result = formula.value(*(numbers(a) for a in case.inputs), **formula.complete(case.options))
    parts = result if isinstance(result, tuple) else (result,)
    return [tuple(np.shape(part)) for part in parts]


def _as_array(
    output: Any, shape: tuple[int, ...], fmt: Format, order: int
) -> tuple[Float64Array | None, tuple[str, str] | None]:
    """Return the output in float64 and what is wrong with its shape or format, if anything.

    None stands for a gradient of zero. Raises what the output raises when it is read.
    """
    if output is None:
        return None, None if order else ("shape", f"expected an array of shape {shape}, got None")
    array = np.asarray(output)
    if array.shape != shape:
        return None, ("shape", f"expected shape {shape}, got {array.shape}")
    if isinstance(output, np.ma.MaskedArray):
        return None, ("format", f"expected {fmt.name}, got a masked array")
    if array.dtype == fmt.dtype:
        return widen(array), None
    problem = ("format", f"expected {fmt.name}, got {array.dtype}")
    numeric = array.dtype.kind in "fiub" or array.dtype in _STORED
    return (widen(array) if numeric else None), problem


def _elementwise(
    formula: Formula,
    case: Case,
    order: int,
    got: Float64Array,
    cotangent: Any,
    along: tuple[Any, ...],
    flush: bool,
) -> Evidence:
    x = widen(case.inputs[0]).ravel()
    flat = got.ravel()
    factor = None if order == VALUE else _double(cotangent).ravel()
    step = _doubles(along)[0].ravel() if order == SECOND else None
    special = ~np.isfinite(x)
    total = Evidence()
    if (~special).any():
        query = Query(
            formula,
            order,
            case.format,
            (x[~special],),
            case.options,
            None if factor is None else factor[~special],
            () if step is None else (step[~special],),
            flush,
        )
        known = reference(query)
        total = _finite(known, flat[~special], x[~special], case, order, _context(case))
        if order == VALUE:
            total = total.merge(_zero_signs(formula, known, flat[~special], x[~special], case))
    scale = np.ones_like(x) if factor is None else factor if step is None else factor * step
    exact = special | ((x == 0) & (order == VALUE))
    if exact.any():
        total = total.merge(
            _exactly(formula, case, order, x[exact], flat[exact], scale[exact], special[exact])
        )
    return total


def _context(case: Case) -> str:
    return case.detail or (case.layout if case.layout != "contiguous" else "")


def _finite(
    known: Reference, got: Float64Array, x: Float64Array, case: Case, order: int, context: str
) -> Evidence:
    (truth,), (bound,) = known.truths, known.bounds
    outcome = judge(got, truth, bound, case.format)
    ordinary = np.abs(x) < case.format.largest
    evidence = to_evidence(outcome, got, (x,), context, ordinary)
    if order == VALUE and near_constant(truth.lower.high):
        # Saturated throughout: a constant would pass.
        evidence = replace(evidence, vacuous_cases=1)
    wrong = outcome.compared & (outcome.rung >= 3)
    flushed = wrong & (got == 0) & (np.abs(truth.lower.high) < case.format.least_normal)
    if wrong.any() and flushed.sum() == wrong.sum():
        evidence = replace(evidence, breaches={**evidence.breaches, "flushed": int(flushed.sum())})
    return evidence


def _zero_signs(
    formula: Formula, known: Reference, got: Float64Array, x: Float64Array, case: Case
) -> Evidence:
    """A result that underflows to zero has the sign of the truth, or the one that a listed text gives."""
    (truth,) = known.truths
    sign = np.sign(truth.lower.high)
    bad = (got == 0) & (sign != 0) & (x != 0) & truth.decided & (np.copysign(1.0, got) != sign)
    if not bad.any():
        return Evidence()
    options = formula.complete(case.options)
    for _, _, text in texts(formula, VALUE):
        answer = widen(evaluate(text, case.format, x[bad], **options))
        bad[bad] = (answer != 0) | (np.signbit(answer) != np.signbit(got[bad]))
        if not bad.any():
            return Evidence()
    index = int(np.argmax(bad))
    point = (float(x[index]),)
    expected = float(truth.lower.high[index])
    ulp = abs(expected) / float(case.format.ulp(expected))
    worst = Worst(
        point,
        float(got[index]),
        expected,
        abs(expected),
        abs(expected),
        ulp,
        index,
        int(x.size),
        "sign of zero",
    )
    return replace(breach("zero sign", int(bad.sum()), worst), compared=0)


def _exactly(
    formula: Formula,
    case: Case,
    order: int,
    x: Float64Array,
    got: Float64Array,
    scale: Float64Array,
    nonfinite: NDArray[np.bool_],
) -> Evidence:
    """Compare at zeros, infinities and NaN with the exact set of accepted answers."""
    unstable, explained, breaches = 0, set[str](), dict[str, int]()
    worst: Worst | None = None
    for index, (point, value, factor) in enumerate(
        zip(x.tolist(), got.tolist(), scale.tolist(), strict=True)
    ):
        table = semantics(formula, order, case.format, case.options, point)
        accepted, name = table.judge(value, factor, order == VALUE)
        if accepted:
            continue
        expected = table.limit * factor
        kind = _kind(point, value, expected)
        if name:
            unstable += 1
            explained.add(name)
        else:
            breaches[kind] = breaches.get(kind, 0) + 1
        if worst is None or (not name and sum(breaches.values()) == 1):
            worst = Worst((point,), value, expected, math.inf, 0.0, math.inf, index, x.size)
    return Evidence(
        compared=int(nonfinite.sum()),
        cases=1,
        outside_stable=unstable,
        outside_accepted=unstable,
        breaches=breaches,
        worst=worst,
        explained_by=tuple(sorted(explained)),
    )


def _kind(point: float, got: float, expected: float) -> str:
    if math.isnan(got) or math.isnan(point):
        return "nan"
    return "zero sign" if got == 0 and expected == 0 else "infinity"


Examine = Callable[[Implementation, Formula, Case], Evidence]


def value(implementation: Implementation, formula: Formula, case: Case) -> Evidence:
    """Compare the value."""
    return examine(implementation, formula, case, VALUE)


def derivative(implementation: Implementation, formula: Formula, case: Case) -> Evidence:
    """Compare the vector-Jacobian product with the case's cotangent."""
    return examine(implementation, formula, case, DERIVATIVE)


def second(implementation: Implementation, formula: Formula, case: Case) -> Evidence:
    """Compare the gradient of the gradient."""
    return examine(implementation, formula, case, SECOND)


def module(implementation: Implementation, formula: Formula, case: Case) -> Evidence:
    """Compare value and gradient of the module form."""
    total = examine(implementation, formula, case, VALUE)
    if implementation.vjp is not None:
        total = total.merge(examine(implementation, formula, case, DERIVATIVE))
    return replace(total, cases=1, vacuous_cases=min(total.vacuous_cases, 1))
