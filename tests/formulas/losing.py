"""What the tests of softmax and the losses share: drawn cases, stand-ins for implementations, equal texts."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import hypothesis
import numpy as np

from gradcheck import cases
from gradcheck.arithmetic.ball import balls, precision, to_estimate
from gradcheck.cases import Smallest, arranged, cotangents, directions, inputs_of
from gradcheck.checks.examine import numbers
from gradcheck.formats import FLOAT64, Format, widen
from gradcheck.oracles.query import Query, apply, texts
from gradcheck.records import DERIVATIVE, SECOND, VALUE, Evidence, Formula
from gradcheck.subjects.implementation import Implementation
from gradcheck.subjects.numpy import NUMPY

BITS = 2048


def seen(
    check: Any,
    formula: Formula,
    fmt: Format,
    implementation: Implementation | None = None,
    largest: int = 9,
    draws: int = 12,
) -> Evidence:
    """What a check makes of a few drawn cases."""
    total = Evidence()

    def run(case: Any) -> None:
        nonlocal total
        given = () if implementation is None else (implementation,)
        total = total.merge(check(*given, formula, case))

    settings = hypothesis.settings(max_examples=draws, derandomize=True, database=None, deadline=None)
    hypothesis.given(cases.several_inputs(formula, fmt, largest))(settings(run))()
    return total


def standing_in(formula: Formula, fmt: Format, forward: Any = None, vjp: Any = None) -> Implementation:
    """An implementation of plain functions of arrays and options; what is not given is our own."""
    base = NUMPY.implement(formula, fmt)
    if forward is not None:
        own = forward
        base = replace(
            base, forward=lambda inputs, options: _stored(own(*inputs, **_full(formula, options)), fmt)
        )
    if vjp is not None:
        base = replace(
            base,
            vjp=lambda inputs, c, options: tuple(
                None if part is None else _stored(part, fmt)
                for part in vjp(inputs, c, **_full(formula, options))
            ),
        )
    return base


def _full(formula: Formula, options: Any) -> dict[str, Any]:
    return {option.name: option.default for option in formula.options} | dict(options)


def _stored(result: Any, fmt: Format) -> Any:
    return np.asarray(result).astype(fmt.dtype)


def queries(formula: Formula, order: int, count: int = 6) -> list[Query]:
    """Small cases of moderate numbers, at which every text of the order is the same function."""
    found = []

    def keep(case: Any) -> None:
        inputs = tuple(numbers(array) for array in case.inputs)
        with np.errstate(all="ignore"):
            shape = np.shape(formula.value(*inputs, **formula.complete(case.options)))
        cotangent = widen(cotangents(case.seed, shape, FLOAT64))
        along = tuple(widen(directions(case.seed, a.shape, FLOAT64)) for a in inputs)
        along = along if order == SECOND else ()
        given = None if order == VALUE else cotangent
        found.append(Query(formula, order, FLOAT64, inputs, case.options, given, along))

    settings = hypothesis.settings(max_examples=count, derandomize=True, database=None, deadline=None)
    plain = replace(formula, families=("plain",))
    hypothesis.given(cases.several_inputs(plain, FLOAT64, 3))(settings(keep))()
    return found


def apart(formula: Formula, order: int) -> list[str]:
    """The names of the texts whose enclosures do not meet the reference's, or are too wide to tell."""
    names = []
    for query in queries(formula, order):
        with precision(BITS):
            answers = [
                (name, [_estimate(part) for part in apply(query, text, balls)])
                for name, _, text in texts(formula, order)
            ]
        (_, reference), *others = answers
        for name, found in others:
            for a, b in zip(reference, found, strict=True):
                distance = np.abs((a.high - b.high) + (a.low - b.low))
                wide = 2.0**-90 * (np.abs(a.high) + 1) + a.radius + b.radius
                if (
                    not (distance <= wide).all()
                    or not (a.radius + b.radius < 2.0**-80 * (np.abs(a.high) + 1)).all()
                ):
                    names.append(name)
    return sorted(set(names))


def _estimate(value: Any) -> Any:
    return to_estimate(
        value if hasattr(value, "data") and not isinstance(value, np.ndarray) else balls(value)
    )


__all__ = [
    "DERIVATIVE",
    "SECOND",
    "VALUE",
    "Smallest",
    "apart",
    "arranged",
    "inputs_of",
    "seen",
    "standing_in",
]
