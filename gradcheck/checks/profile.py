"""How the error of an implementation runs over the inputs of a 16-bit format, for a chart."""

from __future__ import annotations

import numpy as np

from gradcheck.checks.reference import reference
from gradcheck.compare import judge
from gradcheck.formats import widen
from gradcheck.oracles.truth import Query
from gradcheck.records import VALUE, Case, Formula
from gradcheck.subjects.implementation import Implementation

BINS = 96


def error_profile(
    implementation: Implementation, formula: Formula, case: Case, order: int
) -> dict[str, list[float]]:
    """Return the largest error in ULP in each of 96 equally filled bins of the ordered inputs."""
    x = widen(case.inputs[0])
    finite = np.isfinite(x)
    if order == VALUE:
        got, cotangent = implementation.forward(case.inputs, case.options), None
    else:
        assert implementation.vjp is not None and case.cotangent is not None
        (gradient,) = implementation.vjp(case.inputs, case.cotangent, case.options)
        assert gradient is not None
        got = gradient
        cotangent = widen(case.cotangent)[finite]
    query = Query(formula, order, case.format, (x[finite],), case.options, cotangent)
    known = reference(query)
    outcome = judge(widen(got)[finite], known.truths[0], known.bounds[0], case.format)
    ulp = np.nan_to_num(outcome.ulp, nan=0.0, posinf=float(2**case.format.precision))
    order_of_inputs = np.argsort(x[finite], kind="stable")
    places = np.array_split(order_of_inputs, BINS)
    return {
        "x": [float(np.median(x[finite][place])) for place in places],
        "ulp": [float(ulp[place].max()) for place in places],
    }
