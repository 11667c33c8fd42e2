"""Activations as the theory needs them: value, derivative, the kinks, and how well the derivative is known.

A name of the catalogue brings its own derivative and kinks. A callable is differentiated by the complex
step if its text is analytic, by duals if it is made of what they know, by differences otherwise; each way is
held to differences before it is used. Kinks are found by bisection of the cells in which the slope
changes most.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gradcheck.arithmetic.dual import derivative
from gradcheck.errors import UsageError, unknown_name
from gradcheck.formulas import CATALOGUE
from gradcheck.oracles.complex_step import complex_step
from gradcheck.oracles.finite_difference import Ladder, central
from gradcheck.records import Formula

Float64Array = NDArray[np.float64]
Function = Callable[[Float64Array], Float64Array]

_REACH, _CELLS, _BISECTIONS = 32.0, 4096, 44
# A slope that still changes by this share of the largest one, over 2⁻⁵⁰, jumps there.
_JUMP = 1e-7


@dataclass(frozen=True)
class Activation:
    """An activation φ of one number.

    `derivative` is φ', at a kink one of its one-sided values. `kinks` are the points where φ' jumps,
    `jumps` those where φ itself does: there φ' has no value, and automatic differentiation takes none.
    `method` says where φ' is from, `relative_error` bounds its error relative to |φ'|; differences have
    `noise`, an estimate of the absolute error at every point, instead. `slopes` are (left, right) if φ(x)
    = left·x for x < 0, right·x for x > 0; otherwise None.
    """

    name: str
    value: Function
    derivative: Function
    kinks: tuple[float, ...] = ()
    jumps: tuple[float, ...] = ()
    relative_error: float = 0.0
    noise: Function | None = None
    method: str = "formula"
    slopes: tuple[float, float] | None = None

    @property
    def breaks(self) -> tuple[float, ...]:
        """Every point at which an integral must be split."""
        return tuple(sorted({*self.kinks, *self.jumps}))


def activation_formulas() -> dict[str, Formula]:
    """Return the elementwise formulas of the catalogue that are activations, by name."""
    return {f.name: f for f in CATALOGUE if f.elementwise and f.inputs == ("x",)}


def get_activation(activation: str | Callable[..., Any] | Activation, **options: Any) -> Activation:
    """Return the activation of a name of the catalogue, of "linear", or of a callable over float64 arrays.

    Raises `UsageError` for an unknown name (with the closest ones), for what is no callable, and for a
    callable that does not map arrays of numbers elementwise to finite numbers.
    """
    if isinstance(activation, Activation):
        return activation
    if isinstance(activation, Formula):
        activation = activation.name
    if isinstance(activation, str):
        return _named(activation, tuple(sorted(options.items())))
    if not callable(activation):
        raise UsageError(
            f"activation: expected a name or a callable over float64 arrays, got {type(activation).__name__}"
        )
    return _of_callable(activation, options)


@lru_cache(maxsize=256)
def _named(name: str, options: tuple[tuple[str, Any], ...]) -> Activation:
    """Return the activation of a name; one object for equal arguments, so that its moments are kept."""
    if name in ("linear", "identity") and not options:
        return Activation("linear", lambda x: x * 1.0, np.ones_like, slopes=(1.0, 1.0))
    known = activation_formulas()
    if name not in known:
        raise unknown_name("activation", name, (*known, "linear"))
    return _of_formula(known[name], dict(options))


def _of_formula(formula: Formula, options: dict[str, Any]) -> Activation:
    complete = formula.complete(options)
    slope = formula.derivative
    if slope is None:
        raise UsageError(
            f"activation: {formula.name} is not elementwise; take one of {list(activation_formulas())}"
        )

    def value(x: Float64Array) -> Float64Array:
        return np.asarray(formula.value(x, **complete), dtype=np.float64)

    def first(x: Float64Array) -> Float64Array:
        return np.asarray(slope(x, **complete), dtype=np.float64)

    kinks = formula.kinks(**complete) if formula.kinks else ()
    return Activation(formula.name, value, first, tuple(map(float, kinks)), slopes=_slopes(value))


def _of_callable(function: Callable[..., Any], options: dict[str, Any]) -> Activation:
    name = str(getattr(function, "__name__", type(function).__name__))

    def text(x: Any) -> Any:
        return function(x, **options)

    value = _admitted(text, name)
    steps, places = _probes(value)
    slope, noise, method = _derivative_of(text, value, steps)
    kinks = _found(slope, _JUMP * (float(np.max(np.abs(slope(places)))) or 1.0))
    jumps = _found(value, _JUMP * (float(np.max(np.abs(value(steps)))) or 1.0))
    kinks = tuple(k for k in kinks if all(abs(k - j) > 1e-6 for j in jumps))
    exact = 0.0 if noise else 2.0**-48
    return Activation(name, value, slope, kinks, jumps, exact, noise, method, _slopes(value))


def _admitted(text: Callable[[Any], Any], name: str) -> Function:
    """Return the callable over float64 arrays of any shape, after it has met a few."""

    def value(x: Float64Array) -> Float64Array:
        with np.errstate(all="ignore"):
            return np.asarray(text(x), dtype=np.float64)

    x = np.linspace(-4.0, 4.0, 12).reshape(3, 4)
    try:
        y = value(x.copy())
    except Exception as error:
        raise UsageError(
            f"activation: {name} must take a float64 array and return one of the same shape; "
            f"it raised {type(error).__name__}: {error}"
        ) from error
    if y.shape != x.shape:
        raise UsageError(
            f"activation: {name} must return an array of its input's shape; got {y.shape} for {x.shape}"
        )
    if not np.isfinite(y).all():
        where = float(x[~np.isfinite(y)][0])
        raise UsageError(
            f"activation: {name} must be finite; at {where!r} it is {float(y[~np.isfinite(y)][0])!r}"
        )
    if not np.array_equal(y.ravel(), value(x.ravel()), equal_nan=True) or not np.array_equal(
        y[:1, :1], value(x[:1, :1])
    ):
        raise UsageError(f"activation: {name} must act on every element by itself; it depends on the array")
    return value


def _probes(value: Function) -> tuple[Float64Array, Float64Array]:
    """Return points on a grid that no round number lies on, and their midpoints."""
    x = np.linspace(-_REACH, _REACH, _CELLS + 1) + 1e-3 / np.pi
    return x, 0.5 * (x[1:] + x[:-1])


def _derivative_of(
    text: Callable[[Any], Any], value: Function, x: Float64Array
) -> tuple[Function, Function | None, str]:
    """Return φ', its noise if it is made of differences, and how it was made; differences at `x` decide."""
    ladder = _differences(value, x)
    largest = float(np.max(np.abs(ladder.best))) or 1.0
    settled = ladder.error < 1e-5 * largest

    def agrees(slope: Function) -> bool:
        try:
            found = slope(x)
        except Exception:  # a text that an arithmetic cannot run: another way is tried
            return False
        off = np.abs(found - ladder.best)[settled]
        return found.shape == x.shape and bool(np.all(off <= 8 * ladder.error[settled] + 1e-14 * largest))

    def by_step(z: Float64Array) -> Float64Array:
        return np.asarray(complex_step(text, z), dtype=np.float64)

    def by_dual(z: Float64Array) -> Float64Array:
        with np.errstate(all="ignore"):
            return np.asarray(derivative(text)(z), dtype=np.float64) + np.zeros_like(z)

    if agrees(by_step):
        return by_step, None, "complex step"
    if agrees(by_dual):
        return by_dual, None, "duals"
    return lambda z: _differences(value, z).best, lambda z: _differences(value, z).error, "differences"


def _differences(value: Function, x: Float64Array) -> Ladder:
    return central(value, x, 2.0**-51 * (np.abs(value(x)) + np.abs(x)), order=4)


def _found(function: Function, least: float) -> tuple[float, ...]:
    """Return the points where `function` jumps by more than `least`, to 2⁻⁵⁰ of the reach.

    All cells of a grid are bisected at once, each towards the half over which the function changes more.
    Where it is smooth the change shrinks with the cell; where it jumps, it stays.
    """
    edges = np.linspace(-_REACH, _REACH, _CELLS + 1) - 2.0**-9 / np.pi
    low, high = edges[:-1], edges[1:]
    at_low, at_high = function(low), function(high)
    for _ in range(_BISECTIONS):
        middle = 0.5 * (low + high)
        at_middle = function(middle)
        left = np.abs(at_middle - at_low) > np.abs(at_high - at_middle)
        low, high = np.where(left, low, middle), np.where(left, middle, high)
        at_low, at_high = np.where(left, at_low, at_middle), np.where(left, at_middle, at_high)
    jumps = np.abs(at_high - at_low) > least
    return tuple(_rounded(float(x)) for x in 0.5 * (low + high)[jumps])


def _rounded(x: float) -> float:
    """Return the shortest decimal within the width of the last cell: kinks are where people put them."""
    for digits in range(13):
        if abs(round(x, digits) - x) < 4e-14 * max(1.0, abs(x)):
            return round(x, digits) + 0.0
    return x


def _slopes(value: Function) -> tuple[float, float] | None:
    """Return (left, right) if the function is linear on both sides of 0, to rounding, over 80 binades."""
    x = np.ldexp(np.linspace(1.0, 1.9, 10), np.arange(-40, 41)[:, None]).ravel()
    right, left = value(x) / x, value(-x) / -x
    unit = 4 * 2.0**-52
    sides = (left, right)
    if not all(np.isfinite(side).all() for side in sides):
        return None
    if all(np.ptp(side) <= unit * np.max(np.abs(side)) for side in sides):
        return float(np.median(left)), float(np.median(right))
    return None
