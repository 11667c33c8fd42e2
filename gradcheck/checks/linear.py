"""Laws of linear layers that need no reference: a matrix, its transpose, and the mass of a gradient.

What is linear in its first input is a matrix, and unit vectors show it. Value and gradient are then held to
the bounds of a product with that matrix, which any order of the sums satisfies.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from gradcheck.arithmetic.ball import balls, precision, to_estimate
from gradcheck.arithmetic.rounded import Model, Rounded, rounded
from gradcheck.checks.examine import factors
from gradcheck.compare import judge, to_evidence
from gradcheck.formats import Float64Array, Format, widen
from gradcheck.oracles.truth import Bounds, Truth
from gradcheck.records import DERIVATIVE, Array, Case, Estimate, Evidence, Formula
from gradcheck.subjects.implementation import Implementation

_BITS = 256


def matrix_of(function: Callable[[Array], Any], shape: tuple[int, ...], fmt: Format) -> Float64Array:
    """Return the matrix of a linear function of arrays of `shape`, a column per unit vector."""
    columns = []
    for place in range(math.prod(shape)):
        unit = np.zeros(math.prod(shape), fmt.dtype)
        unit[place] = 1
        columns.append(widen(np.asarray(function(unit.reshape(shape)))).ravel())
    return np.stack(columns, axis=1)


def linear(implementation: Implementation, formula: Formula, case: Case) -> Evidence:
    """Compare the value with A x, and the gradient of the first input with Aᵀ c, A shown by unit vectors.

    Of a layer that uses each element at most once per output: a convolution padded with zeros, average
    pooling. The parameters of the case are taken at multiples of 1/8 and an input called bias at zero, so
    that the entries of A are exact in every format.
    """
    case, matrix, cotangent = _prepared(implementation, formula, case)
    x = widen(case.inputs[0]).ravel()
    y = np.asarray(implementation.forward(case.inputs, case.options))
    model = Model(case.format, implementation.flushes)
    total = _held(widen(y).ravel(), matrix, x, case, model, "A x")
    if implementation.vjp is not None:
        gradient = implementation.vjp(case.inputs, cotangent, case.options)[0]
        total = total.merge(
            _held(
                widen(np.asarray(gradient)).ravel(), matrix.T, widen(cotangent).ravel(), case, model, "Aᵀ c"
            )
        )
    return _once(total, case)


def adjoint(implementation: Implementation, formula: Formula, case: Case) -> Evidence:
    """Compare <f(x), c> with <x, f*(c)>, each exact for the arrays that were returned.

    They differ by at most Σ|c|·B + Σ|x|·B', B and B' the bounds of f(x) = A x and of f*(c) = Aᵀ c, for the
    same layers as `linear`.
    """
    assert implementation.vjp is not None
    case, matrix, cotangent = _prepared(implementation, formula, case)
    x, c = widen(case.inputs[0]).ravel(), widen(cotangent).ravel()
    y = widen(np.asarray(implementation.forward(case.inputs, case.options))).ravel()
    back = widen(np.asarray(implementation.vjp(case.inputs, cotangent, case.options)[0])).ravel()
    model = Model(case.format, implementation.flushes)
    room = np.abs(c) @ _width(matrix, x, model) + np.abs(x) @ _width(matrix.T, c, model)
    with precision(_BITS):
        left, right = (to_estimate(np.sum(balls(a) * balls(b))) for a, b in ((y, c), (x, back)))
    # The room is itself a float64 sum of at most so many rounded terms.
    room *= 1 + 4 * (x.size + c.size + 4) * 2.0**-53
    interval = Rounded(
        np.atleast_1d(left.high - room), np.atleast_1d(left.high + room), Model(case.format), None
    )
    return _once(
        _judged(np.atleast_1d(right.high), _flat(left), interval, case, "<f(x), c> = <x, f*(c)>"), case
    )


def mass(implementation: Implementation, formula: Formula, case: Case) -> Evidence:
    """Compare the sum of the gradient of a pooling with the sum of the cotangent, channel by channel.

    It holds for max pooling, and for average pooling whose divisor counts the elements that there are. Each
    element of the gradient is a sum over its windows, so all of them together err by no more than a sum over
    all windows.
    """
    assert implementation.vjp is not None
    cotangent, _ = factors(formula, case, DERIVATIVE)
    gradient = widen(np.asarray(implementation.vjp(case.inputs, cotangent, case.options)[0]))
    planes = case.inputs[0].shape[0] * case.inputs[0].shape[1]
    c = widen(cotangent).reshape(planes, -1)
    with precision(_BITS):
        arrays: tuple[Any, ...] = (balls(gradient.reshape(planes, -1)), balls(c))
        got, truth = (to_estimate(np.sum(array, axis=1)) for array in arrays)
    # A share is a quotient of its own: one more rounding, and one more that may underflow, per window and
    # element of it.
    model, size = Model(case.format), np.sum(np.abs(c), axis=1)
    room = (c.shape[1] + 2) * (model.format.roundoff + 2.0**-52) * size + gradient.size * c.shape[
        1
    ] * model.floor
    interval = Rounded(truth.high - room, truth.high + room, model, None)
    return _once(_judged(got.high, truth, interval, case, "the gradient's mass"), case)


def _prepared(
    implementation: Implementation, formula: Formula, case: Case
) -> tuple[Case, Float64Array, Array]:
    """Return the case with exact parameters, its matrix, and the cotangent."""
    parameters = []
    for name, array in list(zip(formula.inputs, case.inputs, strict=True))[1:]:
        eighths = np.round(8 * np.clip(widen(array), -1, 1)) / 8
        parameters.append((0 * eighths if name == "bias" else eighths).astype(case.format.dtype))
    case = replace(case, inputs=(case.inputs[0], *parameters))

    def function(x: Array) -> Any:
        return implementation.forward((x, *parameters), case.options)

    matrix = matrix_of(function, case.inputs[0].shape, case.format)
    return case, matrix, factors(formula, case, DERIVATIVE)[0]


def _product(matrix: Any, vector: Any) -> Any:
    return np.matmul(matrix, vector)


def _width(matrix: Float64Array, vector: Float64Array, model: Model) -> Float64Array:
    interval = _product(*(rounded(array, model) for array in (matrix, vector))).stored()
    return np.asarray(interval.hi - interval.lo)


def _held(
    got: Float64Array, matrix: Float64Array, vector: Float64Array, case: Case, model: Model, what: str
) -> Evidence:
    with precision(_BITS):
        truth = to_estimate(_product(balls(matrix), balls(vector)))
    interval = _product(*(rounded(array, model) for array in (matrix, vector))).stored()
    return _judged(got, truth, interval, case, what)


def _judged(got: Float64Array, truth: Estimate, interval: Rounded, case: Case, what: str) -> Evidence:
    decided = np.ones(got.shape, dtype=bool)
    outcome = judge(got, Truth(truth, truth, decided), Bounds(interval, interval, ()), case.format)
    return to_evidence(outcome, got, (), f"{what} {case.detail}".strip())


def _flat(estimate: Estimate) -> Estimate:
    return Estimate(*(np.atleast_1d(part) for part in (estimate.high, estimate.low, estimate.radius)))


def _once(total: Evidence, case: Case) -> Evidence:
    vacuous = min(total.vacuous_cases, 1)
    return replace(
        total,
        cases=1,
        vacuous_cases=vacuous,
        families={case.family: total.compared},
        options=dict(case.options),
    )
