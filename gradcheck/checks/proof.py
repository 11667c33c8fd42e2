"""Our own derivatives against the derivative of the value's text, both enclosed by balls.

The hand-written text is the claim, the dual over balls is the truth; disjoint enclosures refute the claim.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gradcheck.arithmetic.ball import balls, precision, to_estimate
from gradcheck.arithmetic.dual import Dual
from gradcheck.cases import binades, cotangents
from gradcheck.checks.examine import numbers
from gradcheck.compare import breach
from gradcheck.formats import FLOAT64, Float64Array, widen
from gradcheck.oracles.truth import Query, apply_balls, at_kink, confirmed, truths
from gradcheck.records import DERIVATIVE, SECOND, Case, Estimate, Evidence, Formula, Worst

# The contraction with a whole Jacobian is enclosed at these precisions, until every element is pinned down.
BITS = (384, 1536, 6144)
# Enclosures are compared once their relative widths are below this.
_PINNED = 2.0**-60


@dataclass(frozen=True)
class _Pair:
    """A claim and a truth for the same numbers; `label` says which derivative they are."""

    label: str
    points: Float64Array
    claim: Estimate
    truth: Estimate


def proof(formula: Formula, case: Case) -> Evidence:
    """Compare every derivative text of the formula with the dual of its value, at the case's points."""
    total = Evidence()
    for pair in _elementwise(formula, case) if formula.elementwise else _several(formula, case):
        total = total.merge(_compared(pair, case))
    inputs = np.concatenate([widen(array).ravel() for array in case.inputs])
    return replace(
        total,
        cases=1,
        vacuous_cases=int(total.compared == 0),
        families={case.family: total.compared},
        binades=binades(inputs),
        specials=case.specials,
        label="proven",
        options=dict(case.options),
    )


def _scale(pair: _Pair) -> Float64Array:
    return np.asarray(np.maximum(np.abs(pair.truth.high), FLOAT64.least_normal))


def _is_pinned(pair: _Pair) -> NDArray[np.bool_]:
    # Each of both radii may be two of the least numbers that float64 can express.
    limit = _PINNED * _scale(pair) + 4 * FLOAT64.least_subnormal
    return np.asarray(pair.claim.radius + pair.truth.radius <= limit)


def _compared(pair: _Pair, case: Case) -> Evidence:
    radius = pair.claim.radius + pair.truth.radius
    difference = (pair.claim.high - pair.truth.high) + (pair.claim.low - pair.truth.low)
    scale, pinned = _scale(pair), _is_pinned(pair)
    # The difference of two sums of doubles is itself off by a few units of its terms' last places.
    allowed = radius + 2.0**-100 * scale
    # Disjoint enclosures refute, however wide they are; agreement needs narrow ones.
    wrong = (np.abs(difference) > allowed) | (pinned & ~(np.abs(difference) <= allowed))
    decided = pinned | wrong
    largest = float(np.max(np.abs(pair.truth.high), initial=0.0))
    found = Evidence(
        compared=int(decided.sum()),
        undecided=int((~decided).sum()),
        resolution=float(np.max(allowed[pinned], initial=0.0)) / largest if largest else 0.0,
    )
    if not wrong.any():
        return found
    index = int(np.argmax(wrong))
    error = float(np.abs(difference[index]))
    worst = Worst(
        (float(pair.points[index]),),
        float(pair.claim.high[index]),
        float(pair.truth.high[index]),
        error,
        float(allowed[index]),
        error / float(FLOAT64.ulp(pair.truth.high[index])),
        index,
        int(wrong.size),
        pair.label,
    )
    return found.merge(replace(breach("proof", int(wrong.sum()), worst), compared=0))


def _elementwise(formula: Formula, case: Case) -> Iterator[_Pair]:
    x = widen(case.inputs[0]).ravel()
    x = x[np.isfinite(x)]
    ones = np.ones_like(x)
    for order, text in ((DERIVATIVE, formula.derivative), (SECOND, formula.second)):
        if text is None:
            continue
        query = Query(formula, order, FLOAT64, (x,), case.options, ones, (ones,) if order == SECOND else ())
        smooth = ~at_kink(query)
        part = Query(
            formula,
            order,
            FLOAT64,
            (x[smooth],),
            case.options,
            ones[smooth],
            (ones[smooth],) if order == SECOND else (),
        )
        (claimed,) = truths(part)
        yield _Pair(f"derivative of order {order}", x[smooth], claimed.lower, confirmed(part))


def _several(formula: Formula, case: Case) -> Iterator[_Pair]:
    """Build the whole Jacobian by unit tangents, contract it, and compare with the vjp text."""
    inputs = tuple(numbers(array) for array in case.inputs)
    options = formula.complete(case.options)
    shape = np.shape(formula.value(*inputs, **options))
    cotangent = widen(cotangents(case.seed, shape, FLOAT64))
    smooth = _smooth(formula, case, inputs, cotangent)
    for bits in BITS:
        pairs = list(_pairs(formula, inputs, smooth, cotangent, options, bits))
        if all(_is_pinned(pair).all() for pair in pairs):
            break
    yield from pairs


def _pairs(
    formula: Formula,
    inputs: tuple[Any, ...],
    smooth: list[NDArray[np.bool_]],
    cotangent: Float64Array,
    options: Any,
    bits: int,
) -> Iterator[_Pair]:
    assert formula.vjp is not None
    with precision(bits):
        lifted = [array if array.dtype.kind in "iub" else balls(array) for array in inputs]
        claims = formula.vjp(tuple(lifted), balls(cotangent), **options)
        for place, kept in zip(formula.differentiated, smooth, strict=True):
            array = inputs[place]
            columns = [
                _column(formula, lifted, place, index, cotangent, options)
                for index in np.ndindex(array.shape)
            ]
            fields = ("high", "low", "radius")
            flat = kept.ravel()
            truth = Estimate(*(np.array([getattr(c, f) for c in columns]).ravel()[flat] for f in fields))
            one = to_estimate(claims[place])
            claim = Estimate(*(np.broadcast_to(getattr(one, f), array.shape).ravel()[flat] for f in fields))
            yield _Pair(f"gradient of {formula.inputs[place]}", array.ravel()[flat], claim, truth)


def _column(
    formula: Formula, lifted: list[Any], place: int, index: Any, cotangent: Float64Array, options: Any
) -> Estimate:
    """Return the cotangent times one column of the Jacobian, from a unit tangent."""
    seed = np.zeros(lifted[place].shape)
    seed[index] = 1.0
    duals = list(lifted)
    duals[place] = Dual(lifted[place], balls(seed))
    result = formula.value(*duals, **options)
    tangent = result.tangent if isinstance(result, Dual) else None
    if tangent is None:
        return to_estimate(balls(0.0))
    return to_estimate(np.sum(tangent * balls(cotangent)) if cotangent.shape else tangent * balls(cotangent))


def _smooth(
    formula: Formula, case: Case, inputs: tuple[Any, ...], cotangent: Float64Array
) -> list[NDArray[np.bool_]]:
    """Return, per gradient, where it is unique: off the kinks, and the same by every choice at a tie."""
    masks = [np.ones(inputs[place].shape, bool) for place in formula.differentiated]
    query = Query(formula, DERIVATIVE, FLOAT64, inputs, case.options, cotangent)
    if formula.extremes is not None:
        low, high = (apply_balls(query, text, BITS[0]) for text in formula.extremes)
        return [np.asarray(a.high == b.high) for a, b in zip(low, high, strict=True)]
    touched = at_kink(query)
    if touched.any() and formula.touching is not None:
        # A kink between inputs is one for each of them, at every place that it reaches.
        return [np.zeros_like(mask) for mask in masks]
    if 0 in formula.differentiated:
        masks[0] = ~touched
    return masks
