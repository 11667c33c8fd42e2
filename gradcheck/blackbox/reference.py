"""A function against a reference that its user names: a formula of the catalogue, or a NumPy function."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from gradcheck import cases, checks
from gradcheck.blackbox import points
from gradcheck.blackbox.clock import OutOfTime
from gradcheck.blackbox.oracle import Oracle
from gradcheck.blackbox.result import Checked, checked
from gradcheck.blackbox.seen import Problem, Seen
from gradcheck.blackbox.sizes import varied
from gradcheck.errors import GradcheckError, UsageError, unknown_name
from gradcheck.explain import code_for
from gradcheck.families import FAMILIES, build
from gradcheck.formats import Format, get_format
from gradcheck.formulas import get_formula
from gradcheck.records import Case, Cell, Evidence, Finding, Formula
from gradcheck.subjects import Implementation
from gradcheck.subjects.function import CallFailed, Point, Resizable, Vector, one, raised_by

_FORMATS = ("float64", "float32", "bfloat16", "float16")
_CHECKS: dict[str, Callable[..., Evidence]] = {
    "value": checks.value,
    "derivative": checks.derivative,
    "special": checks.special,
    "second": checks.second,
    "layout": checks.layout,
}
_EXAMPLES = {"value": 10, "derivative": 10, "second": 6, "special": 3, "layout": 1}
_ELEMENTS = 300
_LARGEST = 12
_ROUNDINGS = 256.0
_LEAST_NORMAL = 2.0**-1022
# What is legal at the lower end of the range, by name: whether subnormal numbers may become zero, when they
# are read and when they are results. Any order of sums, fused or not, is legal in both.
MODELS = {"gradual-underflow": False, "flush-to-zero": True}
_CONDITION = 64.0


def flush_of(model: str | None) -> bool | None:
    """Return whether a named arithmetic model flushes subnormal numbers; None for what the framework says."""
    if model is not None and model not in MODELS:
        raise unknown_name("model", str(model), MODELS)
    return None if model is None else MODELS[model]


def against(
    oracle: Oracle,
    subject: Any,
    reference: Any,
    options: Mapping[str, Any],
    cell: Cell,
    model: str | None = None,
) -> list[Checked]:
    """Compare with a reference and return the checks; `UsageError` for one that does not exist or fit."""
    flush = flush_of(model)
    if isinstance(reference, str):
        return list(_formula(oracle, subject, get_formula(reference), options, cell, flush))
    if not callable(reference):
        raise UsageError(
            f"reference: expected the name of a formula or a NumPy function, got {type(reference).__name__}"
        )
    started = time.monotonic()
    total, unfinished = Seen(), False
    try:
        floor = _LEAST_NORMAL if (subject.flushes if flush is None else flush) else 0.0
        for seen in _callable(oracle, reference, options, floor):
            total += seen
            if len(total.problems) >= 3:
                break
    except OutOfTime:
        unfinished = True
    return [checked(cell, total, time.monotonic() - started, unfinished, subject.program)]


# A NumPy function


def _callable(
    oracle: Oracle, reference: Callable[..., Any], options: Mapping[str, Any], floor: float
) -> Iterator[Seen]:
    function = oracle.function
    for family, point in points.points(function.point, function.inputs, oracle.limits, oracle.seed):
        oracle.clock.require()
        yield _values(function, oracle.within_range(function, point), family, reference, options, floor)
    for special in (np.nan, np.inf, -np.inf):
        yield _special(oracle, special, reference, options)
    for sized in varied(function, oracle.seed):
        oracle.clock.require()
        if sized is None:
            continue
        yield _values(sized.function, sized.function.point, sized.label, reference, options, floor)


def _values(
    function: Resizable,
    point: Point,
    family: str,
    reference: Callable[..., Any],
    options: Mapping[str, Any],
    floor: float = 0.0,
) -> Seen:
    """Compare values; those below `floor` may be zero."""
    try:
        got = one(function, point)
    except CallFailed:
        return Seen()
    arguments = function.arguments(point)
    try:
        expected, spread = _with_spread(reference, arguments, options, got.size)
    except UsageError:
        raise
    except Exception as error:
        return Seen(notes=(f"the reference fails ({family}): {raised_by(error)}",))
    with np.errstate(all="ignore"):
        scale = float(np.abs(expected[np.isfinite(expected)]).max(initial=0.0))
        allowed = (
            _ROUNDINGS * function.roundoff * np.maximum(np.abs(expected), scale * 2.0**-20)
            + _CONDITION * spread
            + floor
        )
        off = np.abs(got - expected)
        judged = np.isfinite(expected) & np.isfinite(spread)
        bad = judged & ~(off <= allowed)
    problems: tuple[Problem, ...] = ()
    if bad.any():
        worst = int(
            np.argmax(np.where(bad, np.where(np.isfinite(off), off / (allowed + 1e-300), np.inf), -1.0))
        )
        problems = (
            Problem(
                f"output[{worst}] is {got[worst]!r}, of the reference {expected[worst]!r} "
                f"± {allowed[worst]:.1e} ({family})",
                float(got[worst]),
                float(expected[worst]),
                float(off[worst]),
                float(allowed[worst]),
                row=worst,
                family=family,
                point=point,
                shapes=function.leaf_shapes,
                leaves=function.leaves,
            ),
        )
    return Seen(int(judged.sum()), cases=1, problems=problems, families={family: got.size})


def _special(
    oracle: Oracle, special: float, reference: Callable[..., Any], options: Mapping[str, Any]
) -> Seen:
    """Put one NaN or infinity into each input: NaN has to come out where it does of the reference."""
    function, rng, total = oracle.function, np.random.default_rng([oracle.seed, 95]), Seen()
    for place, x in enumerate(function.point):
        if not x.size:
            continue
        moved = x.copy()
        moved[rng.integers(x.size)] = special
        point = tuple(moved if k == place else old for k, old in enumerate(function.point))
        try:
            got = one(function, point)
            expected = _flat(reference(*function.arguments(point), **options), got.size)
        except Exception as error:
            total += Seen(notes=(f"{special} in {function.inputs[place].name}: {raised_by(error)}",))
            continue
        other = (np.isnan(got) != np.isnan(expected)) | (
            np.isinf(expected) & (got != expected) & ~np.isnan(got)
        )
        total += Seen(got.size, cases=1)
        for row in np.flatnonzero(other)[:1]:
            said = f"output[{row}] is {got[row]!r}, of the reference {expected[row]!r}"
            total += Seen(
                problems=(
                    Problem(
                        f"with {special} in {function.inputs[place].name}, {said}",
                        float(got[row]),
                        float(expected[row]),
                        family=str(special),
                        row=int(row),
                        point=point,
                        shapes=function.leaf_shapes,
                        leaves=function.leaves,
                    ),
                )
            )
    return total


def _with_spread(
    reference: Callable[..., Any], arguments: tuple[Any, ...], options: Mapping[str, Any], size: int
) -> tuple[Vector, Vector]:
    """Return the reference's values, and how far they move when its inputs do by a rounding error."""
    rng = np.random.default_rng(7)
    base = _flat(reference(*arguments, **options), size)
    spread = np.zeros(size)
    for _ in range(3):
        moved = tuple(
            a * (1 + rng.integers(-1, 2, a.shape) * 2.0**-52)
            if isinstance(a, np.ndarray) and a.dtype == np.float64
            else a
            for a in arguments
        )
        spread = np.maximum(spread, np.abs(_flat(reference(*moved, **options), size) - base))
    return base, spread


def _flat(result: Any, size: int) -> Vector:
    parts = result if isinstance(result, tuple | list) else (result,)
    flat = np.concatenate([np.asarray(part, dtype=np.float64).ravel() for part in parts])
    if flat.size != size:
        raise UsageError(f"the reference returns {flat.size} numbers, the function {size}: they do not fit")
    return flat


# A formula of the catalogue


def _formula(
    oracle: Oracle,
    subject: Any,
    formula: Formula,
    options: Mapping[str, Any],
    cell: Cell,
    flush: bool | None = None,
) -> Iterator[Checked]:
    fixed = _fixed(formula, options)
    function = oracle.function
    if len(function.leaves) < len(formula.inputs):
        raise UsageError(
            f"reference={formula.name!r} takes {', '.join(formula.inputs)}: got {len(function.leaves)} inputs"
        )
    for name in _FORMATS:
        fmt = get_format(name)
        implementation = _implementation(function, formula, fmt, fixed, subject)
        if implementation is None:
            continue
        if flush is not None:
            implementation = replace(implementation, flushes=flush)
        for check in _CHECKS:
            if check in ("second", "layout") and (name != "float64" or not formula.differentiable):
                continue
            if check in ("derivative", "second") and not formula.differentiable:
                continue
            if oracle.clock.left() <= 0:
                unfinished = Evidence(black_box=True, unfinished=True)
                yield Checked(Cell(cell.formula, cell.subject, name, check), unfinished)
                continue
            done = _judged(oracle, implementation, formula, fmt, check, fixed, cell)
            if done is not None:
                yield done


def _fixed(formula: Formula, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return every option of the formula at the value that the function has."""
    known = {option.name: option.default for option in formula.options}
    for name in options:
        if name not in known:
            raise UsageError(
                f"reference {formula.name!r} has no option {name!r}; it has {sorted(known) or 'none'}"
            )
    return {**known, **options}


def _implementation(
    function: Any, formula: Formula, fmt: Format, fixed: Mapping[str, Any], subject: Any
) -> Implementation | None:
    """Return the function as an implementation of the formula, or None where it refuses the format."""
    made = subject.implementation(formula, fmt, dict(fixed))
    if made is None:
        return None
    implementation: Implementation = made
    try:
        case = _cases(formula, fmt, fixed, 1, 2)[0]
        implementation.forward(case.inputs, case.options)
    except (UsageError, IndexError):
        raise
    except Exception:
        return None
    return implementation


def _cases(
    formula: Formula, fmt: Format, fixed: Mapping[str, Any], count: int, largest: int = _LARGEST
) -> list[Case]:
    """Return cases of the formula in which its options are those of the function."""
    found: list[Case] = []
    families = sorted(FAMILIES)
    for seed in range(40 * count):
        if formula.elementwise:
            rng = np.random.default_rng([seed, 81])
            family = families[seed % len(families)]
            kinks = formula.kinks(**formula.complete(dict(fixed))) if formula.kinks else ()
            points_of = tuple(float(k) for k in kinks)
            values = build(family, int(rng.integers(2**31)), _ELEMENTS, fmt, points_of)
            array = values.astype(fmt.dtype)
            found.append(
                Case(family, fmt, (array,), cases.cotangents(seed, array.shape, fmt), dict(fixed), seed)
            )
        else:
            case = cases.several_case(formula, fmt, largest, seed, dict(fixed))
            same = all(case.options.get(name) == value for name, value in fixed.items())
            if same:
                found.append(case)
        if len(found) >= count:
            break
    if not found:
        raise UsageError(
            f"reference {formula.name!r}: no case has the options {dict(fixed)}; are they in their ranges?"
        )
    return found


def _judged(
    oracle: Oracle,
    implementation: Implementation,
    formula: Formula,
    fmt: Format,
    check: str,
    fixed: Mapping[str, Any],
    cell: Cell,
) -> Checked | None:
    started = time.monotonic()
    if (check in ("derivative", "second") and implementation.vjp is None) or (
        check == "second" and implementation.second is None
    ):
        return None
    evidence, worst_case = Evidence(), None
    unfinished = False
    for case in _cases(formula, fmt, fixed, _EXAMPLES[check]):
        if oracle.clock.left() <= 0:
            unfinished = True
            break
        try:
            seen = _CHECKS[check](implementation, formula, case)
        except GradcheckError as error:
            raise UsageError(f"reference {formula.name!r}: {error}") from error
        evidence = evidence.merge(seen)
        if seen.verdict.is_finding and worst_case is None:
            worst_case = case
    if unfinished and not evidence.verdict.is_finding:
        evidence = replace(evidence, unfinished=True, black_box=True)
    own = Cell(cell.formula, cell.subject, fmt.name, check)
    findings: tuple[Finding, ...] = ()
    if evidence.verdict.is_finding:
        code = code_for(check, evidence.verdict, evidence.breaches)
        findings = (Finding(code, own, evidence, _message(own, evidence, formula, fixed), ""),)
    return Checked(own, evidence, findings, time.monotonic() - started)


def _message(cell: Cell, evidence: Evidence, formula: Formula, fixed: Mapping[str, Any]) -> str:
    worst = evidence.worst
    options = f" with {', '.join(f'{k}={v}' for k, v in fixed.items())}" if fixed else ""
    by = f"; explained by {' or '.join(evidence.explained_by)}" if evidence.explained_by else ""
    if worst is None:
        return f"{cell.formula} is not {formula.name}{options}: {', '.join(evidence.breaches)}"
    at = ", ".join(repr(x) for x in worst.input)
    return (
        f"the {worst.context or cell.check} in {cell.format} is {worst.got!r} at ({at}), where {formula.name}"
        f"{options} is {worst.expected!r}: {worst.ulp:.3g} ULP off, {worst.bound:.3g} allowed{by}"
    )
