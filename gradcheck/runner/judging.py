"""One cell from the first case to the record: draw, examine, simplify, confirm, record."""

from __future__ import annotations

import contextlib
import itertools
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import hypothesis
import mpmath
import numpy as np
from hypothesis.strategies import SearchStrategy

from gradcheck import cases
from gradcheck.checks.examine import examine, factors
from gradcheck.checks.poisoned import kinds_of_answers
from gradcheck.checks.profile import error_profile
from gradcheck.checks.semantics import semantics
from gradcheck.checks.special import spoilt_cases
from gradcheck.checks.special import table as special_table
from gradcheck.checks.witness import step_series
from gradcheck.compare import relative
from gradcheck.explain import code_for
from gradcheck.formats import Format, get_format, widen
from gradcheck.formulas import get_formula
from gradcheck.oracles import second_truth
from gradcheck.oracles.truth import Query, at_kink, confirmed
from gradcheck.records import (
    DERIVATIVE,
    ORDER_NAMES,
    SECOND,
    VALUE,
    Case,
    Cell,
    Evidence,
    Finding,
    Formula,
    Verdict,
    Worst,
)
from gradcheck.runner.alone import traced
from gradcheck.subjects import Implementation, get_subject
from gradcheck.subjects.implementation import FORMS

if TYPE_CHECKING:
    from gradcheck.runner.session import Session

# Where the chart of error against step is drawn: inside every formula's bend, away from every kink.
_SEEN_FROM = -0.7
ORDERS = {name: order for order, name in enumerate(ORDER_NAMES)}
Examine = Callable[[Case], Evidence]


@dataclass(frozen=True)
class Bench:
    """A cell made concrete: its formula, its format and the implementation, if it has one."""

    cell: Cell
    formula: Formula
    format: Format
    implementation: Implementation | None

    @property
    def defaults(self) -> dict[str, Any]:
        """The default options, those that the implementation fixes at its own values."""
        fixed = dict(self.implementation.options) if self.implementation else {}
        return {**{o.name: o.default for o in self.formula.options}, **fixed}


def bench(cell: Cell) -> Bench:
    """Return what the names of a cell stand for."""
    formula, fmt = get_formula(cell.formula), get_format(cell.format)
    if cell.subject == "reference":
        return Bench(cell, formula, fmt, None)
    form = cell.check if cell.check in FORMS else "function"
    return Bench(cell, formula, fmt, traced(get_subject(cell.subject).implement(formula, fmt, form)))


def draw(bench: Bench, elements: int, *, varied: bool = False) -> SearchStrategy[Case]:
    """Return the strategy of cases for a cell; `varied` draws no default options."""
    fixed = dict(bench.implementation.options) if bench.implementation else {}
    if bench.formula.elementwise:
        return cases.elementwise(bench.formula, bench.format, elements, fixed=fixed, varied=varied)
    return cases.several_inputs(bench.formula, bench.format, min(33, max(2, elements // 30)), fixed=fixed)


def collect(session: Session, strategy: SearchStrategy[Case], check: Examine, share: float = 1.0) -> Evidence:
    """Draw cases with the run's settings and merge what the check sees of each."""
    total = Evidence()
    settings = session.profile.settings(session.explore)
    examples = max(2, round(settings.max_examples * share))

    def run(case: Case) -> None:
        nonlocal total
        total = total.merge(check(case))

    hypothesis.given(strategy)(hypothesis.settings(settings, max_examples=examples)(run))()
    return total


def judge(
    session: Session, cell: Cell, check: Callable[..., Evidence], share: float, exhaustive: bool
) -> Verdict:
    """Take one cell through everything; see `Session.judge`."""
    started = time.perf_counter()
    concrete = bench(cell)
    subject = () if concrete.implementation is None else (concrete.implementation,)
    base = None
    if cell.check in FORMS:
        base = get_subject(cell.subject).implement(concrete.formula, concrete.format)

    def examined(case: Case) -> Evidence:
        found = check(*subject, concrete.formula, case)
        if base is None:
            return found
        return relative(found, check(base, concrete.formula, case), "the function")

    elements = (
        session.profile.elements if concrete.implementation else max(40, session.profile.elements // 10)
    )
    # With few cases, chance would decide whether an option is ever other than its default: draw others only,
    # and take the first case with the defaults as well.
    few = share < 1 and bool(concrete.formula.options)
    default: list[Case] = []

    failing: list[Case] = []

    def noted(case: Case) -> Evidence:
        found = examined(case)
        if found.verdict.is_finding:
            failing.append(case)
        return found

    def both(case: Case) -> Evidence:
        if default or not few:
            return noted(case)
        # Structural options go with the shapes of the case and stay.
        kept = {o.name: case.options[o.name] for o in concrete.formula.options if o.structural}
        default.append(replace(case, options={**concrete.defaults, **kept}))
        return noted(case).merge(noted(default[0]))

    strategy = draw(concrete, elements, varied=few)
    evidence = collect(session, strategy, both, share)
    if exhaustive and concrete.format.bits == 16 and concrete.formula.elementwise:
        every = cases.exhaustive(concrete.formula, concrete.format, concrete.defaults)
        evidence = replace(evidence.merge(examined(every)), label="exhaustive")
        _draw_profile(session, concrete, every)
    _tabulate(session, concrete)
    smallest: Case | None = None
    if evidence.verdict.is_finding and not concrete.formula.elementwise:
        smallest = _smaller(concrete, failing, evidence.verdict, examined)
        evidence = evidence if smallest is None else _worst_of(evidence, examined(smallest))
    return record(session, concrete, evidence, started, smallest, failing)


def _smaller(bench: Bench, failing: list[Case], verdict: Verdict, check: Examine) -> Case | None:
    """Return the least case with the verdict: of those that came up, or the same one on smaller arrays."""
    with_verdict = [case for case in failing if check(case).verdict is verdict]
    if not with_verdict:
        return None
    least = min(with_verdict, key=_size)
    fixed = dict(bench.implementation.options) if bench.implementation else {}
    for largest in (1, 2, 3, 5, 8):
        candidate = cases.several_case(bench.formula, bench.format, largest, least.seed, fixed)
        if _size(candidate) >= _size(least):
            break
        if check(candidate).verdict is verdict:
            return candidate
    return least


def _size(case: Case) -> int:
    return sum(array.size for array in case.inputs)


def _worst_of(evidence: Evidence, smallest: Evidence) -> Evidence:
    return replace(evidence, worst=smallest.worst or evidence.worst, options=smallest.options)


def _draw_profile(session: Session, bench: Bench, case: Case) -> None:
    """Keep how the error runs over all inputs, for the report; a subject that fails has none."""
    assert bench.implementation is not None
    with contextlib.suppress(Exception):
        profile = error_profile(bench.implementation, bench.formula, case, ORDERS[bench.cell.check])
        session.store.artifact("ulp_profile", bench.cell.id, profile)


def _tabulate(session: Session, bench: Bench) -> None:
    """Keep the table of special answers, or the error of the witnesses against the step."""
    tabular = bench.formula.elementwise and bench.implementation is not None
    if bench.cell.check == "special" and tabular:
        assert bench.implementation is not None
        rows = special_table(bench.implementation, bench.formula, bench.format, bench.defaults)
        session.store.artifact("special", bench.cell.id, [asdict(row) for row in rows])
    if bench.cell.check == "witness" and bench.formula.elementwise:
        session.store.artifact("step", bench.formula.name, step_series(bench.formula, _SEEN_FROM))


def record(
    session: Session,
    bench: Bench,
    evidence: Evidence,
    started: float,
    smallest: Case | None = None,
    failing: Sequence[Case] = (),
) -> Verdict:
    """Simplify and confirm what was found, and write it with the evidence.

    `smallest` is the least case that shows it; an elementwise formula has it looked for in the `failing`.
    """
    findings: tuple[Finding, ...] = ()
    confirmations: dict[str, dict[str, str]] = {}
    if evidence.verdict.is_finding:
        evidence, simplified = _simplified(bench, evidence)
        if not simplified and smallest is None:
            evidence, smallest = _one_element(bench, evidence, failing)
        finding = _finding(bench, evidence, smallest)
        findings = (finding,)
        confirmations[finding.id] = _confirmation(bench, evidence, smallest)
    session.record(bench.cell, evidence, findings, time.perf_counter() - started, confirmations)
    return evidence.verdict


def _finding(bench: Bench, evidence: Evidence, smallest: Case | None = None) -> Finding:
    cell, worst = bench.cell, evidence.worst
    code = code_for(cell.check, evidence.verdict, evidence.breaches)
    if worst is None:
        return Finding(code, cell, evidence, f"{cell.id}: {', '.join(evidence.breaches)}", "")
    point = ", ".join(repr(x) for x in worst.input)
    what = worst.context or cell.check
    by = f"; explained by {' or '.join(evidence.explained_by)}" if evidence.explained_by else ""
    shown = dict(evidence.options)
    with_options = f" with {', '.join(f'{k}={v}' for k, v in shown.items())}" if shown else ""
    whose = f"{cell.formula} ({what}) of {cell.subject} in {cell.format}{with_options}"
    if math.isnan(worst.got) and math.isnan(worst.expected):
        # An exception, a wrong shape or an input that was written to: there are no numbers to compare.
        told = "; ".join((", ".join(evidence.breaches), *evidence.notes[:1]))
        message = f"{whose} at ({point}): {told.partition(chr(10))[0]}."
    else:
        message = (
            f"{whose} answers {worst.got!r} at ({point}), where {worst.expected!r} is right: "
            f"{worst.ulp:.3g} ULP off, {worst.bound:.3g} allowed{by}."
        )
    return Finding(code, cell, evidence, message, _reproduction(bench, evidence, smallest))


def _reproduction(bench: Bench, evidence: Evidence, smallest: Case | None = None) -> str:
    implementation, worst = bench.implementation, evidence.worst
    if implementation is None or implementation.reproduce is None or worst is None:
        return ""
    if smallest is not None:
        order, case = _as_handed(bench, implementation, worst, smallest)
        cotangent, along = factors(bench.formula, case, order)
        return implementation.reproduce(
            ORDER_NAMES[order], case.inputs, cotangent, case.options, directions=along
        )
    if not bench.formula.elementwise or not worst.input:
        return ""
    count = max(1, min(worst.size, 65)) if "needs" in worst.context else 1
    array = np.full(count, worst.input[0]).astype(bench.format.dtype)
    ones = np.ones(array.shape).astype(bench.format.dtype)
    what = ORDER_NAMES[_order_of(bench, worst)]
    options = dict(evidence.options) or bench.defaults
    return implementation.reproduce(what, (array,), None if what == "value" else ones, options)


def _as_handed(bench: Bench, implementation: Implementation, worst: Worst, case: Case) -> tuple[int, Case]:
    """Return the order and the case that the implementation was handed: maybe with a special number in it."""
    if bench.cell.check != "special" or bench.formula.elementwise:
        return _order_of(bench, worst), case
    failing = []
    for order, part in spoilt_cases(implementation, bench.formula, case):
        seen = kinds_of_answers(implementation, bench.formula, part, order)
        if seen.verdict.is_finding and seen.worst is not None:
            failing.append((seen.worst.context != worst.context, order, part))
    _, order, part = min(failing, key=lambda found: found[0], default=(True, _order_of(bench, worst), case))
    return order, part


def _order_of(bench: Bench, worst: Worst) -> int:
    if bench.cell.check in ORDERS:
        return ORDERS[bench.cell.check]
    if "gradient of" in worst.context:
        return DERIVATIVE
    return next((k for k in (SECOND, DERIVATIVE) if ORDER_NAMES[k] in worst.context), VALUE)


def _confirmation(bench: Bench, evidence: Evidence, smallest: Case | None = None) -> dict[str, str]:
    """Ask two engines that did not take part: balls of the value text's dual, and mpmath.

    The factors of a derivative are those of the `smallest` case, else one.
    """
    worst, formula = evidence.worst, bench.formula
    if worst is None or not formula.elementwise or len(worst.input) != 1:
        return {}
    x, order = worst.input[0], _order_of(bench, worst)
    options = dict(evidence.options) or bench.defaults
    if not math.isfinite(x):
        known = semantics(formula, order, bench.format, options, x)
        return {"limit": repr(known.limit), "textbook in IEEE arithmetic": repr(known.textbook)}
    point = np.array([x])
    cotangent, along = np.ones(1), np.ones(1)
    if smallest is not None and order:
        factor, steps = factors(formula, smallest, order)
        cotangent, along = widen(factor).ravel(), widen(steps[0]).ravel() if steps else along
    query = Query(formula, order, bench.format, (point,), options, cotangent, (along,))
    if at_kink(query)[0]:
        return {}
    ball = confirmed(query)
    answers = {"ball": f"{float(ball.high[0])!r} ± {float(abs(ball.low[0]) + ball.radius[0]):.1e}"}
    try:
        scale = mpmath.mpf(float(cotangent[0])) * mpmath.mpf(float(along[0]))
        answers["mpmath"] = mpmath.nstr(scale * second_truth.derivative(formula, x, order, options), 25)
    except OverflowError as error:
        answers["mpmath"] = f"gives no answer here: {error}"
    return answers


def _simplified(bench: Bench, evidence: Evidence) -> tuple[Evidence, bool]:
    """Replace the worst element by the simplest input that still has the same verdict, if one is found.

    The factors of a derivative are one there. Says also whether it was found.
    """
    worst, implementation = evidence.worst, bench.implementation
    if implementation is None or worst is None or not bench.formula.elementwise or len(worst.input) != 1:
        return evidence, False
    orders = _orders(bench, implementation)
    attempts = [bench.defaults, dict(evidence.options)]
    for size in (1, 2, 3, 8, 65):
        for options in attempts[: 1 if attempts[0] == attempts[1] else 2]:
            for order in orders:
                found = _first_failure(bench, evidence, worst.input[0], size, options, order)
                if found is not None:
                    return replace(evidence, worst=found, options=options), True
    return evidence, False


def _orders(bench: Bench, implementation: Implementation) -> list[int]:
    if implementation.vjp is None:
        return [VALUE]
    return [ORDERS[bench.cell.check]] if bench.cell.check in ORDERS else [VALUE, DERIVATIVE]


def _one_element(bench: Bench, evidence: Evidence, failing: Sequence[Case]) -> tuple[Evidence, Case | None]:
    """Return one element of a failing case that fails alone, with its factors, if there is one."""
    implementation, formula = bench.implementation, bench.formula
    if implementation is None or not formula.elementwise:
        return evidence, None
    for case, order in itertools.product(failing[:_CASES_TRIED], _orders(bench, implementation)):
        seen = examine(implementation, formula, case, order)
        if seen.verdict is not evidence.verdict or seen.worst is None or len(seen.worst.input) != 1:
            continue
        cotangent, along = factors(formula, case, order)
        x = case.inputs[0].ravel()
        for place in np.flatnonzero(widen(x) == seen.worst.input[0])[:_PLACES_TRIED]:
            only = slice(place, place + 1)
            given = [array.ravel()[only] for array in (cotangent, *along) if array is not None]
            factor, steps = (given[0], tuple(given[1:])) if given else (None, ())
            one = Case(case.family, case.format, (x[only],), factor, case.options, directions=steps)
            alone = examine(implementation, formula, one, order)
            if alone.verdict is evidence.verdict and alone.worst is not None:
                words = [
                    f"{n} {float(widen(a)[0])!r}" for n, a in zip(_FACTORS[: len(given)], given, strict=True)
                ]
                told = replace(alone.worst, context=", ".join((ORDER_NAMES[order], *words)))
                return replace(evidence, worst=told, options=dict(case.options)), one
    return evidence, None


_CASES_TRIED, _PLACES_TRIED = 4, 16
_FACTORS = ("cotangent", "direction")


def _first_failure(
    bench: Bench, evidence: Evidence, x: float, size: int, options: dict[str, Any], order: int
) -> Worst | None:
    implementation, fmt = bench.implementation, bench.format
    assert implementation is not None
    for candidate in simpler(x, fmt):
        array = np.full(size, candidate).astype(fmt.dtype)
        ones = np.ones(size).astype(fmt.dtype)
        case = Case("simplified", fmt, (array,), ones, options, directions=(ones,))
        seen = examine(implementation, bench.formula, case, order)
        same_kind = set(seen.breaches) >= {k for k in evidence.breaches if k in ("raised", "shape", "format")}
        if seen.verdict is evidence.verdict and seen.worst is not None and same_kind:
            needs = "" if size == 1 else f"; needs {size} elements"
            return replace(seen.worst, context=f"{ORDER_NAMES[order]}{needs}")
    return None


_SIMPLEST = tuple(
    sign * size for size in (1.0, 2.0, 0.5, 3.0, 4.0, 8.0, 16.0, 32.0, 64.0) for sign in (1, -1)
)


def simpler(x: float, fmt: Format) -> Iterator[float]:
    """Yield numbers of the format near or simpler than `x`, the simplest first, `x` itself last.

    They are small round numbers, then x with its significand cut to fewer bits, the fewest first.
    """
    yield from _SIMPLEST
    if not math.isfinite(x) or x == 0:
        yield x
        return
    mantissa, exponent = math.frexp(x)
    seen = set(_SIMPLEST)
    for bits in (*range(1, min(12, fmt.precision)), fmt.precision):
        scaled = mantissa * 2**bits
        for whole in (math.trunc(scaled), math.trunc(scaled) + (1 if x > 0 else -1)):
            with np.errstate(over="ignore"):
                candidate = float(widen(fmt.round(np.ldexp(float(whole), exponent - bits))))
            if math.isfinite(candidate) and candidate not in seen and candidate != 0:
                seen.add(candidate)
                yield candidate
    yield x
