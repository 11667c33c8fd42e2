"""The reference texts of this package themselves, computed in NumPy in each storage format.

That they agree with their own exact evaluation is not a matter of course: a text that cancels or overflows
is a fault of the catalogue, and shows up here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from gradcheck.errors import UsageError, unknown_name
from gradcheck.formats import Format
from gradcheck.records import Array, Formula, Options
from gradcheck.subjects.implementation import Implementation, bind

Text = Callable[..., Any]


@dataclass(frozen=True)
class NumpySubject:
    """Our own texts in plain NumPy."""

    name: str = "numpy"

    def checks(self, formula: Formula) -> tuple[str, ...]:
        """Return the checks for which the formula has a text."""
        derivative = ("derivative",) if formula.differentiable else ()
        second = ("second",) if formula.second else ()
        return ("value", *derivative, *second, "layout", "special")

    def reason(self, formula: Formula, fmt: Format, check: str) -> str:
        """Return nothing for any check that this subject has: every text runs in every format."""
        return "" if check in self.checks(formula) else f"no text of {formula.name} for {check}"

    def implement(self, formula: Formula, fmt: Format, form: str = "function") -> Implementation:
        """Return the texts, evaluated in `fmt`."""
        if form != "function":
            raise unknown_name("form", form, ("function",))
        return Implementation(
            formula=formula.name,
            subject=self.name,
            format=fmt,
            forward=partial(_forward, formula, fmt),
            vjp=partial(_vjp, formula, fmt) if formula.differentiable else None,
            second=partial(_second, formula, fmt) if formula.second else None,
            reproduce=partial(_reproduce, formula, fmt),
        )


def _forward(formula: Formula, fmt: Format, inputs: tuple[Array, ...], options: Options) -> Any:
    value: Any = _evaluate(formula.value, fmt, tuple(bind(formula, inputs, {}).values()), formula, options)
    return value


def _vjp(
    formula: Formula, fmt: Format, inputs: tuple[Array, ...], cotangent: Array, options: Options
) -> tuple[Array | None, ...]:
    result = _evaluate(
        _vjp_text(formula), fmt, (*bind(formula, inputs, {}).values(), cotangent), formula, options
    )
    return result if isinstance(result, tuple) else (result,)


def _second(
    formula: Formula,
    fmt: Format,
    inputs: tuple[Array, ...],
    cotangent: Array,
    directions: tuple[Array, ...],
    options: Options,
) -> tuple[Array | None, ...]:
    return (_evaluate(_second_text(formula), fmt, (*inputs, cotangent, *directions), formula, options),)


def _evaluate(text: Text, fmt: Format, arrays: tuple[Array, ...], formula: Formula, options: Options) -> Any:
    from gradcheck.arithmetic.plain import evaluate

    return evaluate(text, fmt, *arrays, **formula.complete(options))


def _vjp_text(formula: Formula) -> Text:
    derivative, vjp = formula.derivative, formula.vjp
    if derivative is not None:
        return lambda x, cotangent, **options: cotangent * derivative(x, **options)
    if vjp is not None:
        return lambda *arrays, **options: tuple(vjp(arrays[:-1], arrays[-1], **options))
    raise UsageError(f"{formula.name} has no derivative")


def _second_text(formula: Formula) -> Text:
    second = formula.second
    if second is None:
        raise UsageError(f"{formula.name} has no second derivative")
    return lambda x, cotangent, direction, **options: cotangent * direction * second(x, **options)


def _reproduce(
    formula: Formula,
    fmt: Format,
    what: str,
    inputs: tuple[Array, ...],
    cotangent: Array | None,
    options: Options,
    directions: tuple[Array, ...] = (),
) -> str:
    """Return a program of plain NumPy that prints what was got, every array as a list of hex numbers."""
    from gradcheck.subjects.trace import program

    arrays: dict[str, Array] = bind(formula, inputs, {})
    complete = formula.complete(options)
    if what == "value":
        return program(formula.value, fmt, arrays, complete)
    if cotangent is None or what not in ("derivative", "second"):
        raise UsageError(f"what={what!r} with cotangent={cotangent!r}: expected value, derivative or second")
    arrays["cotangent"] = cotangent
    if what == "derivative":
        return program(_vjp_text(formula), fmt, arrays, complete)
    arrays["direction"] = directions[0] if directions else np.ones(inputs[0].shape, inputs[0].dtype)
    return program(_second_text(formula), fmt, arrays, complete)


NUMPY = NumpySubject()

__all__ = ["NUMPY", "NumpySubject"]
