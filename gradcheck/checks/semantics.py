"""What a formula may return at zeros, infinities and NaN: exact sets, no tolerance.

The accepted set at such a point holds the mathematical limit and what the listed texts give in IEEE
arithmetic; for a derivative also what differentiating the textbook formula in IEEE arithmetic gives. The
sign of a zero value at a zero is that of the limit or of the reference, or free where the formula is
exactly zero beside it; the sign of a zero gradient means nothing.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gradcheck.arithmetic.dual import Dual
from gradcheck.arithmetic.plain import evaluate
from gradcheck.arithmetic.rounded import Model
from gradcheck.formats import Format
from gradcheck.oracles.truth import Query, bounds, texts, truths
from gradcheck.records import DERIVATIVE, VALUE, Formula, Options, Standing

Float64Array = NDArray[np.float64]


@dataclass(frozen=True)
class Semantics:
    """The answers at one point: limit and textbook are shown, `accepted` and `unstable` decide.

    `interval` holds the finite answers that rounding makes of a finite limit.
    """

    format: Format
    point: float
    limit: float
    textbook: float
    accepted: tuple[float, ...]
    unstable: tuple[tuple[str, float], ...]
    interval: tuple[float, float] | None

    def judge(self, got: float, factor: float, signed_zero: bool) -> tuple[bool, str]:
        """Return whether `got` is accepted, and the unstable text that explains it if only that does."""
        slack = (0.0, 0.0) if factor == 1 else (2 * self.format.roundoff, self.format.least_subnormal)
        if any(_same(got, value, factor, signed_zero, slack) for value in self.accepted):
            return True, ""
        if self.interval is not None:
            low, high = sorted((self.interval[0] * factor, self.interval[1] * factor))
            wide = slack[0] * max(abs(low), abs(high)) + slack[1]
            if low - wide <= got <= high + wide and not (got == 0 and signed_zero):
                return True, ""
        for name, value in self.unstable:
            if _same(got, value, factor, signed_zero, slack):
                return False, name
        return False, ""


def _same(got: float, value: float, factor: float, signed_zero: bool, slack: tuple[float, float]) -> bool:
    """Compare exactly; a finite product with a cotangent may be rounded (`slack`: relative, absolute)."""
    expected = value * factor
    if math.isnan(expected) or math.isnan(got):
        return math.isnan(expected) and math.isnan(got)
    if got == 0 and expected == 0 and signed_zero:
        return math.copysign(1, got) == math.copysign(1, expected)
    return got == expected or abs(got - expected) <= slack[0] * abs(expected) + slack[1] < math.inf


def semantics(formula: Formula, order: int, fmt: Format, options: Options, point: float) -> Semantics:
    """Return what `formula` (order 0, 1 or 2) may answer at a zero, an infinity or NaN."""
    return _semantics(formula, order, fmt, tuple(sorted(options.items())), repr(point))


@lru_cache(maxsize=4096)
def _semantics(formula: Formula, order: int, fmt: Format, options: Any, text: str) -> Semantics:
    point = float(text)
    given = dict(options)
    complete = formula.complete(given)
    array = np.array([point]).astype(fmt.dtype)
    answers = [
        (name, standing, float(evaluate(source, fmt, array, **complete).astype(np.float64).ravel()[0]))
        for name, standing, source in texts(formula, order)
    ]
    textbook = _textbook(formula, order, fmt, array, complete)
    limit, interval = _limit(formula, order, fmt, given, point)
    accepted = {repr(v): v for _, s, v in answers if s is not Standing.UNSTABLE}
    accepted |= {repr(v): v for v in (limit, textbook)}
    unstable = [(name, v) for name, s, v in answers if s is Standing.UNSTABLE]
    if order == VALUE and math.isinf(point) and limit == 0:
        # A limit of zero is approached from one side, which some texts keep and others do not.
        accepted |= {"0.0": 0.0, "-0.0": -0.0}
    if order and math.isnan(point) and formula.kinks is not None and formula.limits is not None:
        # No comparison holds for NaN, so a piecewise slope is that of whichever branch is written last.
        accepted |= {repr(v): float(fmt.round(v)) for v in formula.limits(**complete)[order]}
    if order == VALUE and point == 0 and limit == 0:
        # The sign of zero is the limit's or the reference's; any other text that loses it is unstable there.
        unstable += [(name, v) for name, s, v in (*answers, ("textbook", None, textbook)) if v == 0]
        accepted = {repr(v): v for v in (limit, answers[0][2])}
        if _flat_at_zero(formula, fmt, given, point):
            accepted = {"0.0": 0.0, "-0.0": -0.0}
    return Semantics(fmt, point, limit, textbook, tuple(accepted.values()), tuple(unstable), interval)


def _textbook(formula: Formula, order: int, fmt: Format, array: Any, options: Any) -> float:
    source = formula.textbook or formula.value
    if order == VALUE:
        return float(evaluate(source, fmt, array, **options).astype(np.float64).ravel()[0])
    with np.errstate(all="ignore"):
        x = array.astype(np.float64)
        one = np.ones_like(x)
        seed = Dual(x, one) if order == DERIVATIVE else Dual(Dual(x, one), Dual(one))
        result = source(seed, **options)
        for _ in range(order):
            result = getattr(result, "tangent", None)
        while isinstance(result, Dual):
            result = result.value
        return 0.0 if result is None else float(np.asarray(result).ravel()[0])


def _limit(
    formula: Formula, order: int, fmt: Format, options: Options, point: float
) -> tuple[float, tuple[float, float] | None]:
    """Return the mathematical limit at the point and, if it is finite, what rounding makes of it."""
    if math.isnan(point):
        return math.nan, None
    if math.isinf(point):
        if formula.limits is None:
            return math.nan, None
        limit = float(formula.limits(**formula.complete(options))[order][int(point > 0)])
        if not math.isfinite(limit):
            return limit, None
        # Not the largest number itself, where an intermediate sum may overflow and the bound says little.
        x = np.array([math.copysign(fmt.largest / 4, point)])
        (bound,) = bounds(_query(formula, order, fmt, options, x), Model(fmt))
        low, high = float(bound.accepted.lo[0]), float(bound.accepted.hi[0])
        rounded = float(fmt.round(limit))
        return rounded, (low, high) if low <= rounded <= high else (rounded, rounded)
    x = np.array([point])
    (truth,) = truths(_query(formula, order, fmt, options, x))
    (bound,) = bounds(_query(formula, order, fmt, options, x), Model(fmt))
    value = float(truth.lower.high[0])
    if value == 0 and order == VALUE:
        value = math.copysign(0.0, _beside(formula, fmt, options, point))
    return value, (float(bound.accepted.lo[0]), float(bound.accepted.hi[0]))


def _query(formula: Formula, order: int, fmt: Format, options: Options, x: Float64Array) -> Query:
    ones = np.ones_like(x)
    return Query(formula, order, fmt, (x,), options, ones if order else None, (ones,) if order else ())


def _beside(formula: Formula, fmt: Format, options: Options, point: float) -> float:
    """Return the value at the least normal number on the side that the sign of zero names."""
    # Not the least subnormal: in float64 the truth beside it may itself underflow, and would count as flat.
    x = np.array([math.copysign(fmt.least_normal, point)])
    (truth,) = truths(_query(formula, VALUE, fmt, options, x))
    return float(truth.lower.high[0])


def _flat_at_zero(formula: Formula, fmt: Format, options: Options, point: float) -> bool:
    """Whether the formula is exactly zero on that side of zero, so that its sign there means nothing."""
    return _beside(formula, fmt, options, point) == 0
