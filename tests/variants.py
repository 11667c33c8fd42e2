"""How a correct variant is written down, and the ways of making one that every formula has."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from gradcheck.formats import Format
from gradcheck.records import Array, Options
from gradcheck.subjects.implementation import Implementation
from tests.honest import ELEMENTWISE, Function, Real, Triple, elementwise
from tests.lying import ALL
from tests.truth import KINKS, exact


@dataclass(frozen=True)
class Correct:
    """One correct implementation of a formula. A slow one goes element by element: give it small arrays."""

    name: str
    formula: str
    implement: Callable[[Format], Implementation]
    naive: bool = False
    formats: tuple[str, ...] = ALL
    slow: bool = False


def in_float64(
    formula: str, name: str, value: Function, derivative: Function, second: Function | None
) -> Correct:
    """Return the variant that computes in float64 and rounds once."""
    return Correct(
        f"{formula}-{name}", formula, lambda fmt: elementwise(formula, fmt, value, derivative, second)
    )


def in_format(formula: str, name: str, triple: Triple, formats: tuple[str, ...], naive: bool) -> Correct:
    """Return the variant whose every operation is rounded to the format, as NumPy does on its own types."""

    def run(function: Function, x: Array, options: Options) -> Array:
        with np.errstate(all="ignore"):
            return np.asarray(function(x, **options)).astype(x.dtype)

    def implement(fmt: Format) -> Implementation:
        def vjp(inputs: tuple[Array, ...], c: Array, options: Options) -> tuple[Array | None, ...]:
            with np.errstate(all="ignore"):
                return (np.asarray(c * run(triple.derivative, inputs[0], options)),)

        def second(
            inputs: tuple[Array, ...], c: Array, directions: tuple[Array, ...], options: Options
        ) -> tuple[Array | None, ...]:
            with np.errstate(all="ignore"):
                return (np.asarray(c * run(triple.second, inputs[0], options) * directions[0]),)

        return Implementation(
            formula, "corpus", fmt, lambda inputs, options: run(triple.value, inputs[0], options), vjp, second
        )

    return Correct(f"{formula}-{name}", formula, implement, naive, formats)


def extended(formula: str) -> Correct:
    """Return the variant that computes in the platform's long double."""
    triple = ELEMENTWISE[formula]

    def long(function: Function) -> Function:
        return lambda x, **options: function(x.astype(np.longdouble), **options)

    parts = (long(triple.value), long(triple.derivative), long(triple.second))
    return in_float64(formula, "long-double", *parts)


def by_mpmath(formula: str) -> Correct:
    """Return the variant that rounds 40 digits; zeros, kinks, infinities and NaN are taken as known."""
    triple = ELEMENTWISE[formula]

    def function(order: int, known: Function) -> Function:
        def at(x: Real, **options: float) -> Real:
            result = np.array(known(x, **options), dtype=np.float64, ndmin=x.ndim)
            special_points = (x == 0) | np.isin(x, KINKS.get(formula, ())) | ~np.isfinite(x)
            for index in np.ndindex(x.shape):
                if not special_points[index]:
                    precise = float(exact(formula, order, float(x[index]), **options))
                    # Where 40 digits end in zero, the sign is still known.
                    result[index] = np.copysign(precise, result[index]) if precise == 0 else precise
            return result

        return at

    parts = [
        function(order, known) for order, known in enumerate((triple.value, triple.derivative, triple.second))
    ]
    return replace(in_float64(formula, "mpmath", *parts), slow=True)
