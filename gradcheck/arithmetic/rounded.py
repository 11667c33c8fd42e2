"""Intervals of every value that a legal evaluation in a floating-point format can produce.

A `Rounded` array holds, per element, an interval [lo, hi] that contains the exact result of the text so
far *and* every result that can be computed in the declared arithmetic model: each operation rounded to
the format or kept in any wider one, contracted to a fused multiply-add or not, sums in any order,
elementary functions with any error up to the model's table. So a computed value outside [lo, hi] is the
work of no legal evaluation of the text, and hi - lo bounds the error of those that are.

Endpoints are float64. For float64 itself, one step outwards to the neighbouring number covers the rounding
of the endpoint and of the operation alike, since rounding is monotone. Sources: Higham, "Accuracy and
Stability of Numerical Algorithms", 2002, chapters 2-4; Rump, "Verification methods", 2010.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.lib.mixins import NDArrayOperatorsMixin
from numpy.typing import ArrayLike, NDArray
from scipy import special

from gradcheck.arithmetic.exact import Exact
from gradcheck.arithmetic.mask import BoolArray, Mask, as_mask
from gradcheck.arithmetic.structure import FILLS, JOINS, MOVES, clipped, fill_value, reduction
from gradcheck.errors import Unsupported
from gradcheck.formats import Format

Float64Array = NDArray[np.float64]

# Errors in ULP that elementary functions may have and still be called correct: the portable figures.
PORTABLE_ULPS: Mapping[Any, float] = MappingProxyType(
    {
        np.exp: 3,
        np.expm1: 3,
        np.log: 3,
        np.log1p: 2,
        np.sqrt: 3,
        np.tanh: 5,
        np.sinh: 5,
        np.cosh: 3,
        np.power: 4,
        np.cos: 3,
        np.sin: 3,
        special.erf: 16,
        special.erfc: 16,
        special.expit: 6,
        special.log_expit: 6,
    }
)


@dataclass(frozen=True)
class Model:
    """What a legal evaluation is: the narrowest format used, and the error of elementary functions.

    `flush` allows subnormal numbers to become zero, when they are read and when they are results. `height`
    bounds the height of the summation tree; None allows any order.
    """

    format: Format
    flush: bool = False
    height: int | None = None
    ulps: Mapping[Any, float] = field(default_factory=lambda: PORTABLE_ULPS)

    @property
    def floor(self) -> float:
        """The absolute error that underflow may add."""
        return self.format.least_normal if self.flush else self.format.eta


class Rounded(NDArrayOperatorsMixin):
    """An array of intervals of legal computed values; `nan` marks where NaN is legal too."""

    def __init__(
        self, lo: Float64Array, hi: Float64Array, model: Model, nan: BoolArray | None = None
    ) -> None:
        self.lo, self.hi, self.model, self.nan = lo, hi, model, nan

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the array."""
        return self.lo.shape

    @property
    def ndim(self) -> int:
        """The number of axes."""
        return self.lo.ndim

    @property
    def T(self) -> Rounded:
        """The transposed array."""
        return _map(np.transpose, self)

    def __getitem__(self, index: Any) -> Rounded:
        return _map(lambda part: np.asarray(part[index]), self)

    def stored(self) -> Rounded:
        """Return the interval after the result is rounded to the storage format."""
        lo, hi = self.model.format.round(self.lo), self.model.format.round(self.hi)
        return Rounded(np.minimum(lo, self.lo), np.maximum(hi, self.hi), self.model, self.nan)

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **keywords: Any) -> Any:
        if any(_foreign(value) for value in inputs):
            return NotImplemented
        if method != "__call__" or keywords:
            raise Unsupported(f"np.{ufunc.__name__}.{method} with {sorted(keywords)} over rounded values")
        with np.errstate(all="ignore"):
            if ufunc is np.power:
                return _power(lift(inputs[0], self.model), inputs[1])
            operands = [lift(value, self.model) for value in inputs]
            if ufunc in _COMPARISONS:
                return _COMPARISONS[ufunc](*operands)
            if ufunc in _MONOTONE:
                return _monotone(ufunc, operands[0])
            if ufunc not in _UFUNCS:
                raise Unsupported(f"np.{ufunc.__name__} is not known over rounded values")
            return _UFUNCS[ufunc](*operands)

    def __array_function__(self, function: Any, types: Any, arguments: Any, keywords: Any) -> Any:
        if any(_foreign(value) for value in arguments):
            return NotImplemented
        with np.errstate(all="ignore"):
            if function is np.where:
                return _where(arguments[0], *(lift(value, self.model) for value in arguments[1:]))
            if function in FILLS:
                constant = lift(fill_value(function, arguments, keywords), self.model)
                return _map(lambda part: np.full(self.shape, part), constant)
            if function in JOINS:
                return _join(function, [lift(part, self.model) for part in arguments[0]], keywords)
            if function in MOVES:
                rest = arguments[1:]
                return _map(lambda part: np.asarray(function(part, *rest, **keywords)), arguments[0])
            if function is np.clip:
                return clipped(self, arguments[1], arguments[2])
            if function in (np.sum, np.mean):
                return _sum(self, *arguments[1:], mean=function is np.mean, **keywords)
            if function is np.var:
                return variance(self, *reduction(arguments, keywords))
            if function in (np.max, np.min):
                return _map(lambda part: np.asarray(function(part, *arguments[1:], **keywords)), self)
            if function is np.einsum:
                spec, a, b = arguments
                a, b = lift(a, self.model), lift(b, self.model)
                return _bilinear(lambda p, q: np.einsum(spec, p, q), a, b, _contracted(spec, a, b))
        raise Unsupported(f"np.{function.__name__} is not known over rounded values")


def rounded(values: ArrayLike, model: Model) -> Rounded:
    """Return the inputs of an evaluation: numbers of the format, known exactly."""
    array = np.asarray(values, dtype=np.float64)
    return read(array, array, model)


def read(lo: Float64Array, hi: Float64Array, model: Model) -> Rounded:
    """Return what is read where lo to hi is stored: with `flush`, any number as small as a subnormal one.

    A comparison with zero may then go either way, as it does where the number is read as zero.
    """
    if not model.flush:
        return Rounded(lo, hi, model)
    size = np.maximum(np.abs(lo), np.abs(hi))
    small = (size < model.format.least_normal) & (size > 0)
    return Rounded(np.where(small, -size, lo), np.where(small, size, hi), model)


def as_interval(value: Any, model: Model) -> Rounded:
    """Return the result of a text as intervals; plain numbers, which a constant text gives, are exact."""
    return value if isinstance(value, Rounded) else rounded(value, model)


def hull(first: Rounded, *others: Rounded) -> Rounded:
    """Return the smallest intervals that hold all of the given ones; NaN is legal where any allows it."""
    for other in others:
        nan = first.nan if other.nan is None else other.nan if first.nan is None else first.nan | other.nan
        first = Rounded(np.minimum(first.lo, other.lo), np.maximum(first.hi, other.hi), first.model, nan)
    return first


def lift(value: Any, model: Model) -> Rounded:
    """Return a constant or an array as `Rounded`; a constant that the format cannot hold is rounded."""
    if isinstance(value, Rounded):
        return value
    if isinstance(value, Exact):
        nearest = np.asarray(float(value))
        if value.rational is not None and value.rational == _fraction(float(nearest)):
            return _representable(nearest, model)
        return _round(nearest, nearest, model, np.nextafter(nearest, -np.inf), np.nextafter(nearest, np.inf))
    return _representable(np.asarray(value, dtype=np.float64), model)


def _fraction(value: float) -> Any:
    from fractions import Fraction

    return Fraction(value) if np.isfinite(value) else None


def _representable(array: Float64Array, model: Model) -> Rounded:
    if not array.ndim and np.isfinite(array) and model.format.round(array) != array:
        return _round(array, array, model)
    return Rounded(array, array, model)


def _round(
    lo: Float64Array,
    hi: Float64Array,
    model: Model,
    below: Float64Array | None = None,
    above: Float64Array | None = None,
    *,
    units: float = 1.0,
    slack: float | Float64Array = 0.0,
    exact_zero: BoolArray | None = None,
    nan: BoolArray | None = None,
    underflows: bool = True,
) -> Rounded:
    """Widen [lo, hi] by `units` unit roundoffs of the format and by what float64 itself got wrong.

    `slack` is the relative error of lo and hi themselves beyond one rounding; `exact_zero` marks results
    that are exactly zero in every evaluation.
    """
    fmt = model.format
    stepped = fmt.precision == 53 and units == 1.0
    relative = slack if stepped else units * fmt.roundoff + slack
    floor = model.floor if underflows or model.flush else 0.0
    if not stepped:
        low, high = lo - relative * _finite_size(lo), hi + relative * _finite_size(hi)
    else:
        low, high = lo, hi
    low, high = np.nextafter(low, -np.inf), np.nextafter(high, np.inf)
    if (underflows and fmt.precision != 53) or model.flush:
        low, high = low - floor, high + floor
    if below is not None:
        low = np.minimum(low, below)
    if above is not None:
        high = np.maximum(high, above)
    # Rounding never changes a sign (that of an endpoint which underflowed to zero is its sign bit); an
    # endpoint beyond the largest number may become infinite.
    low = np.where(np.signbit(lo), low, np.maximum(low, 0.0))
    high = np.where(np.signbit(hi), np.minimum(high, 0.0), high)
    low = np.where(low < -fmt.largest, -np.inf, low)
    high = np.where(high > fmt.largest, np.inf, high)
    low = np.where(np.isposinf(low), np.nextafter(np.inf, 0), low)
    high = np.where(np.isneginf(high), np.nextafter(-np.inf, 0), high)
    if exact_zero is not None:
        low, high = np.where(exact_zero, 0.0, low), np.where(exact_zero, 0.0, high)
    return Rounded(low, high, model, nan)


def _finite_size(end: Float64Array) -> Float64Array:
    """Return |end|, or 0 for an infinite endpoint, which no widening moves."""
    return np.where(np.isinf(end), 0.0, np.abs(end))


def _or(*flags: BoolArray | None) -> BoolArray | None:
    present = [flag for flag in flags if flag is not None]
    if not present:
        return None
    result = present[0]
    for flag in present[1:]:
        result = result | flag
    return result if result.any() else None


def _map(function: Callable[[Any], Any], value: Rounded) -> Rounded:
    lo = function(value.lo)
    hi = lo if value.hi is value.lo else function(value.hi)
    return Rounded(
        lo, hi, value.model, None if value.nan is None else function(_spread(value.nan, value.shape))
    )


def _spread(flag: BoolArray, shape: tuple[int, ...]) -> BoolArray:
    return np.broadcast_to(flag, shape)


def _join(function: Any, parts: list[Rounded], keywords: dict[str, Any]) -> Rounded:
    nan = None
    if any(part.nan is not None for part in parts):
        flags = [np.zeros(p.shape, bool) if p.nan is None else _spread(p.nan, p.shape) for p in parts]
        nan = function(flags, **keywords)
    lo, hi = (function([getattr(part, end) for part in parts], **keywords) for end in ("lo", "hi"))
    return Rounded(lo, hi, parts[0].model, nan)


def _add(a: Rounded, b: Rounded) -> Rounded:
    lo, hi = a.lo + b.lo, a.hi + b.hi
    clash = np.isnan(lo) | np.isnan(hi)
    clash |= np.isposinf(a.hi) & np.isneginf(b.lo) | np.isneginf(a.lo) & np.isposinf(b.hi)
    lo, hi = np.where(np.isnan(lo), -np.inf, lo), np.where(np.isnan(hi), np.inf, hi)
    zero = (a.lo == 0) & (a.hi == 0) & (b.lo == 0) & (b.hi == 0)
    # A sum of two numbers of a format never underflows.
    result = _round(lo, hi, a.model, nan=_or(a.nan, b.nan, clash), exact_zero=zero, underflows=False)
    return _unchanged_by_zero(result, a, b)


def _unchanged_by_zero(result: Rounded, a: Rounded, b: Rounded) -> Rounded:
    """Adding an exact zero changes nothing, so nothing is rounded."""
    for kept, other in ((a, b), (b, a)):
        zero = (other.lo == 0) & (other.hi == 0)
        if zero.any():
            result = Rounded(
                np.where(zero, kept.lo, result.lo), np.where(zero, kept.hi, result.hi), a.model, result.nan
            )
    return result


def _negative(a: Rounded) -> Rounded:
    lo = -a.hi
    return Rounded(lo, lo if a.lo is a.hi else -a.lo, a.model, a.nan)


def _subtract(a: Rounded, b: Rounded) -> Rounded:
    return _add(a, _negative(b))


def _products(a: Rounded, b: Rounded) -> tuple[Float64Array, Float64Array]:
    if a.lo is a.hi and b.lo is b.hi:
        product = _times(a.lo, b.lo)
        return product, product
    if a.lo is a.hi or b.lo is b.hi:
        point, wide = (a, b) if a.lo is a.hi else (b, a)
        first, second = _times(point.lo, wide.lo), _times(point.lo, wide.hi)
        return np.minimum(first, second), np.maximum(first, second)
    corners = [_times(p, q) for p in (a.lo, a.hi) for q in (b.lo, b.hi)]
    low = np.minimum(np.minimum(corners[0], corners[1]), np.minimum(corners[2], corners[3]))
    high = np.maximum(np.maximum(corners[0], corners[1]), np.maximum(corners[2], corners[3]))
    return low, high


def _times(p: Float64Array, q: Float64Array) -> Float64Array:
    """Multiply endpoints; 0 times infinity bounds to 0, since NaN is kept apart."""
    product = p * q
    return np.where(np.isnan(product), 0.0, product) if np.isnan(product).any() else product


def _multiply(a: Rounded, b: Rounded) -> Rounded:
    lo, hi = _products(a, b)
    zero = (a.lo == 0) & (a.hi == 0) | (b.lo == 0) & (b.hi == 0)
    clash = _contains_zero(a) & _reaches_infinity(b) | _contains_zero(b) & _reaches_infinity(a)
    nan = _or(a.nan, b.nan, clash)
    result = _round(lo, hi, a.model, exact_zero=zero, nan=nan)
    if any(not p.ndim and p.lo is p.hi and _power_of_two(float(p.lo)) for p in (a, b)):
        return _kept_where_normal(result, lo, hi)
    return result


def _kept_where_normal(result: Rounded, lo: Float64Array, hi: Float64Array) -> Rounded:
    """A power of two scales exactly wherever the product is a normal number of the format."""
    fmt = result.model.format
    ends = [np.abs(lo), np.abs(hi)]
    normal = [(end >= fmt.least_normal) & (end <= fmt.largest) for end in ends]
    exact = normal[0] & normal[1]
    return Rounded(np.where(exact, lo, result.lo), np.where(exact, hi, result.hi), result.model, result.nan)


def _power_of_two(value: float) -> bool:
    return abs(float(np.frexp(value)[0])) == 0.5


def _contains_zero(a: Rounded) -> BoolArray:
    return np.asarray((a.lo <= 0) & (a.hi >= 0))


def _reaches_infinity(a: Rounded) -> BoolArray:
    return np.asarray(np.isinf(a.lo) | np.isinf(a.hi))


def _reciprocal(a: Rounded) -> Rounded:
    return _divide(lift(1.0, a.model), a)


def _divide(a: Rounded, b: Rounded) -> Rounded:
    corners = [p / q for p in (a.lo, a.hi) for q in (b.lo, b.hi)]
    corners = [np.where(np.isnan(corner), 0.0, corner) for corner in corners]
    lo = np.minimum(np.minimum(corners[0], corners[1]), np.minimum(corners[2], corners[3]))
    hi = np.maximum(np.maximum(corners[0], corners[1]), np.maximum(corners[2], corners[3]))
    pole = _contains_zero(b)
    if pole.any():
        numerator_positive, numerator_negative = a.hi > 0, a.lo < 0
        up = pole & (numerator_positive & (b.hi >= 0) | numerator_negative & (b.lo <= 0))
        down = pole & (numerator_negative & (b.hi >= 0) | numerator_positive & (b.lo <= 0))
        lo, hi = np.where(down, -np.inf, lo), np.where(up, np.inf, hi)
    clash = pole & _contains_zero(a) | _reaches_infinity(a) & _reaches_infinity(b)
    zero = (a.lo == 0) & (a.hi == 0) & ~pole
    return _round(lo, hi, a.model, exact_zero=zero, nan=_or(a.nan, b.nan, clash))


def _absolute(a: Rounded) -> Rounded:
    low, high = np.abs(a.lo), np.abs(a.hi)
    lo = np.where(_contains_zero(a), 0.0, np.minimum(low, high))
    return Rounded(lo, lo if a.lo is a.hi else np.maximum(low, high), a.model, a.nan)


def _square(a: Rounded) -> Rounded:
    magnitude = _absolute(a)
    zero = (a.lo == 0) & (a.hi == 0)
    return _round(magnitude.lo**2, magnitude.hi**2, a.model, exact_zero=zero, nan=a.nan)


_LONG_POWER = 8


def _power(a: Rounded, exponent: Any) -> Rounded:
    n = exponent
    if not isinstance(n, int) or not 1 <= n <= _LONG_POWER:
        return _real_power(a, lift(exponent, a.model))
    result = a
    for _ in range(n - 1):
        result = _square(a) if result is a and n == 2 else _multiply(result, a)
    return result


def _real_power(a: Rounded, exponent: Rounded) -> Rounded:
    """Bound b^e for b >= 0: monotone in each of both, so its extremes are at the corners."""
    if np.any(a.lo < 0):
        raise Unsupported("a rounded value that may be negative, to a power that is no small positive int")
    corners = [np.power(base, power) for base in (a.lo, a.hi) for power in (exponent.lo, exponent.hi)]
    lo = np.minimum(np.minimum(corners[0], corners[1]), np.minimum(corners[2], corners[3]))
    hi = np.maximum(np.maximum(corners[0], corners[1]), np.maximum(corners[2], corners[3]))
    units = 2.0 * a.model.ulps[np.power]
    slack = 2.0 * PORTABLE_ULPS[np.power] * 2.0**-53
    zero = (a.lo == 0) & (a.hi == 0) & (exponent.lo > 0)
    return _round(lo, hi, a.model, units=units, slack=slack, exact_zero=zero, nan=_or(a.nan, exponent.nan))


def _wave(ufunc: Any) -> Callable[[Rounded], Rounded]:
    """Bound sine or cosine: Lipschitz with constant 1, within [-1, 1]."""

    def wave(a: Rounded) -> Rounded:
        centre = a.lo + (a.hi - a.lo) / 2
        radius = np.maximum(a.hi - centre, centre - a.lo) + 4 * 2.0**-53 * np.abs(centre)
        middle = ufunc(centre)
        units, slack = 2.0 * a.model.ulps[ufunc], 2.0 * PORTABLE_ULPS[ufunc] * 2.0**-53
        result = _round(middle - radius, middle + radius, a.model, units=units, slack=slack, nan=a.nan)
        return Rounded(np.clip(result.lo, -1.0, 1.0), np.clip(result.hi, -1.0, 1.0), a.model, result.nan)

    return wave


def _monotone(ufunc: Any, a: Rounded) -> Rounded:
    low, high = _MONOTONE[ufunc]
    endpoint = _erfc if ufunc is special.erfc else ufunc
    first = endpoint(a.lo)
    second = first if a.lo is a.hi else endpoint(a.hi)
    lo, hi = (first, second) if ufunc is not special.erfc else (second, first)
    nan = np.isnan(lo) | np.isnan(hi)
    lo, hi = np.where(np.isnan(lo), low, lo), np.where(np.isnan(hi), high, hi)
    ulps = 2.0 * a.model.ulps[ufunc]
    # NumPy's and SciPy's own float64 functions are given the same table for the endpoints.
    slack: Any = 2.0 * PORTABLE_ULPS[ufunc] * 2.0**-53
    zero = (a.lo == 0) & (a.hi == 0) if ufunc in _VANISH_AT_ZERO else None
    if ufunc is special.erfc:
        slack = np.where(lo < _SMALL_ERFC, slack + _ERFC_TAIL_ERROR, slack)
    result = _round(lo, hi, a.model, units=ulps, slack=slack, exact_zero=zero, nan=_or(a.nan, nan))
    if a.model.format.precision == 53:
        result = _subnormal_slack(result, ulps)
    return Rounded(np.clip(result.lo, low, high), np.clip(result.hi, low, high), a.model, result.nan)


# SciPy's erfc flushes subnormal results to zero, so far in the tail the endpoints are erfcx(x) exp(-x^2);
# rounding x^2 there costs up to x^2 = 745 unit roundoffs.
_SMALL_ERFC = 1e-290
_ERFC_TAIL_ERROR = 1024 * 2.0**-53


def _erfc(x: Float64Array) -> Float64Array:
    value = special.erfc(x)
    small = value < _SMALL_ERFC
    if not np.any(small):
        return np.asarray(value)
    tail = special.erfcx(np.where(small, x, 27.0)) * np.exp(-np.square(x))
    return np.asarray(np.where(small, tail, value))


def _subnormal_slack(result: Rounded, ulps: float) -> Rounded:
    """In float64's subnormal range an error of some ULP is absolute."""
    tiny = ulps * 2.0**-1074
    lo, hi = result.lo, result.hi
    lo = np.where((np.abs(lo) < 2.0**-1000) & (lo != 0), lo - tiny, lo)
    hi = np.where((np.abs(hi) < 2.0**-1000) & ((hi != 0) | (lo != 0)), hi + tiny, hi)
    return Rounded(lo, hi, result.model, result.nan)


def _cosh(a: Rounded) -> Rounded:
    magnitude = _absolute(a)
    slack = 2.0 * PORTABLE_ULPS[np.cosh] * 2.0**-53
    ulps = 2.0 * a.model.ulps[np.cosh]
    return _round(np.cosh(magnitude.lo), np.cosh(magnitude.hi), a.model, units=ulps, slack=slack, nan=a.nan)


def _extreme(ufunc: Any) -> Callable[[Rounded, Rounded], Rounded]:
    def extreme(a: Rounded, b: Rounded) -> Rounded:
        return Rounded(ufunc(a.lo, b.lo), ufunc(a.hi, b.hi), a.model, _or(a.nan, b.nan))

    return extreme


def _sign(a: Rounded) -> Rounded:
    return Rounded(np.sign(a.lo), np.sign(a.hi), a.model, a.nan)


def _where(mask: Any, a: Rounded, b: Rounded) -> Rounded:
    decided = as_mask(mask)
    yes, maybe = decided.yes, decided.maybe
    lo, hi = np.where(maybe, a.lo, b.lo), np.where(maybe, a.hi, b.hi)
    nan = None
    if a.nan is not None or b.nan is not None:
        left = np.zeros((), bool) if a.nan is None else a.nan
        right = np.zeros((), bool) if b.nan is None else b.nan
        nan = np.where(yes, left, np.where(maybe, left | right, right))
    split = maybe & ~yes
    if split.any():
        lo, hi = np.where(split, np.minimum(a.lo, b.lo), lo), np.where(split, np.maximum(a.hi, b.hi), hi)
    return Rounded(lo, hi, a.model, nan)


def _additions(model: Model, count: int) -> int:
    return count if model.height is None else min(count, model.height)


def _sum(a: Rounded, axis: Any = None, keepdims: bool = False, *, mean: bool = False) -> Rounded:
    keywords = {"axis": axis, "keepdims": keepdims}
    lo, hi = np.asarray(np.sum(a.lo, **keywords)), np.asarray(np.sum(a.hi, **keywords))
    size = np.sum(np.maximum(np.abs(a.lo), np.abs(a.hi)), **keywords)
    count = a.lo.size // max(lo.size, 1)
    error = max(_additions(a.model, count - 1), 0) * a.model.format.roundoff + 2 * count * 2.0**-53
    lo, hi = lo - error * size, hi + error * size
    lost = np.isnan(lo) | np.isnan(hi) | (size > a.model.format.largest)
    lo, hi = np.where(lost, -np.inf, lo), np.where(lost, np.inf, hi)
    nan = None if a.nan is None else np.any(_spread(a.nan, a.shape), **keywords)
    total = Rounded(lo, hi, a.model, _or(nan, lost))
    return _divide(total, lift(float(count), a.model)) if mean else total


def variance(a: Rounded, axis: Any = None, keepdims: bool = False) -> Rounded:
    """Bound the variance mean((x - m)^2) of any stable method: two passes, or Welford's updates.

    With u the unit roundoff, h the height of the summation tree and M = mean |x|: the computed mean is off by
    dm <= (h + 1)u M + u|m|, which enters the variance v squared, and each square costs a few roundoffs:
    relative (h + 6)u. Welford's relative error hu kappa, kappa^2 = 1 + m^2/v, is allowed as well. An
    uncertainty r of the elements moves v by at most 2 sqrt(v) rms(r) + mean(r^2). Source: Chan, Golub &
    LeVeque, The American Statistician 37, 1983; Higham 2002, section 1.9.
    """
    keep: dict[str, Any] = {"axis": axis, "keepdims": keepdims}
    fmt, floor = a.model.format, a.model.floor
    centre = a.lo + (a.hi - a.lo) / 2
    radius = np.maximum(a.hi - centre, centre - a.lo)
    mean = np.mean(centre, axis=axis, keepdims=True)
    # A second pass leaves of the mean's own error in float64 little more than its last rounding.
    mean = mean + np.mean(centre - mean, axis=axis, keepdims=True)
    apart = np.abs(centre - mean)
    value = np.asarray(np.mean(np.square(apart), **keep))
    count = a.lo.size // max(value.size, 1)
    size = np.mean(np.abs(centre) + radius, **keep)
    middle = np.abs(np.mean(centre, **keep))
    height = _additions(a.model, count)
    own = (count + 8) * 2.0**-53
    inexact = 4 * 2.0**-53 * (middle + (count + 4) * 2.0**-53 * size)
    shift = fmt.roundoff * ((height + 1) * size + middle) + inexact + count * floor
    two_pass = (height + 6) * fmt.roundoff * value + np.square(shift)
    welford = (height + 3) * fmt.roundoff * np.sqrt(value) * np.sqrt(value + np.square(middle))
    uncertain = np.mean(np.square(radius), **keep)
    moved = 2 * np.sqrt(value) * np.sqrt(uncertain) + uncertain
    own_error = 2 * own * value + np.square(inexact)
    error = np.maximum(two_pass, welford + np.square(shift)) + moved * (1 + 2 * own) + own_error + 4 * floor
    lo, hi = np.maximum(value - error, 0.0), value + error
    furthest = 2 * np.max(apart + radius, **keep) if a.lo.size else np.zeros(value.shape)
    lost = np.isnan(hi) | (np.maximum(np.square(furthest), count * hi) > fmt.largest)
    lo, hi = np.where(lost, 0.0, lo), np.where(lost, np.inf, hi)
    nan = None if a.nan is None else np.any(_spread(a.nan, a.shape), **keep)
    return Rounded(np.asarray(lo), np.asarray(hi), a.model, _or(nan, lost))


def _contracted(spec: str, a: Rounded, b: Rounded) -> int:
    left, output = spec.replace(" ", "").split("->")
    sizes: dict[str, int] = {}
    for letters, operand in zip(left.split(","), (a, b), strict=True):
        sizes.update(zip(letters, operand.shape, strict=True))
    return int(np.prod([size for letter, size in sizes.items() if letter not in output]))


def _bilinear(product: Callable[[Any, Any], Any], a: Rounded, b: Rounded, count: int) -> Rounded:
    """Bound a sum of `count` products per element, in any order, fused or not."""
    fmt = a.model.format
    centre_a, centre_b = (a.lo + a.hi) / 2, (b.lo + b.hi) / 2
    # The centre itself is rounded, so the radius reaches one unit further.
    radius_a = (a.hi - a.lo) / 2 * (1 + 2.0**-50) + np.where(a.lo == a.hi, 0.0, np.spacing(np.abs(centre_a)))
    radius_b = (b.hi - b.lo) / 2 * (1 + 2.0**-50) + np.where(b.lo == b.hi, 0.0, np.spacing(np.abs(centre_b)))
    middle = product(centre_a, centre_b)
    size = product(np.abs(centre_a) + radius_a, np.abs(centre_b) + radius_b)
    spread = product(np.abs(centre_a), radius_b) + product(radius_a, np.abs(centre_b) + radius_b)
    depth = _additions(a.model, count)
    own = 4 * (count + 2) * 2.0**-53
    error = spread * (1 + own) + (depth * fmt.roundoff + own) * size + 2 * count * a.model.floor
    lo, hi = np.asarray(middle - error), np.asarray(middle + error)
    lost = np.isnan(lo) | np.isnan(hi) | (np.asarray(size) > fmt.largest)
    lo, hi = np.where(lost, -np.inf, lo), np.where(lost, np.inf, hi)
    return Rounded(lo, hi, a.model, _or(lost, *_met(product, a, b)))


def _met(product: Callable[[Any, Any], Any], a: Rounded, b: Rounded) -> list[BoolArray]:
    """Return where a sum of products has a term with a factor that may be NaN."""
    ones = np.ones(a.shape), np.ones(b.shape)
    flags = [None if part.nan is None else _spread(part.nan, part.shape).astype(float) for part in (a, b)]
    left = [] if flags[0] is None else [np.asarray(product(flags[0], ones[1]) > 0)]
    return left if flags[1] is None else [*left, np.asarray(product(ones[0], flags[1]) > 0)]


def _matmul(a: Rounded, b: Rounded) -> Rounded:
    return _bilinear(np.matmul, a, b, a.shape[-1])


_UFUNCS: dict[Any, Callable[..., Rounded]] = {
    np.add: _add,
    np.subtract: _subtract,
    np.multiply: _multiply,
    np.true_divide: _divide,
    np.negative: _negative,
    np.positive: lambda a: a,
    np.absolute: _absolute,
    np.square: _square,
    np.reciprocal: _reciprocal,
    np.maximum: _extreme(np.maximum),
    np.minimum: _extreme(np.minimum),
    np.sign: _sign,
    np.cosh: _cosh,
    np.cos: _wave(np.cos),
    np.sin: _wave(np.sin),
    np.matmul: _matmul,
}
# Increasing functions (erfc decreases) and their ranges.
_MONOTONE: dict[Any, tuple[float, float]] = {
    np.exp: (0.0, np.inf),
    np.expm1: (-1.0, np.inf),
    np.log: (-np.inf, np.inf),
    np.log1p: (-np.inf, np.inf),
    np.sqrt: (0.0, np.inf),
    np.tanh: (-1.0, 1.0),
    np.sinh: (-np.inf, np.inf),
    special.erf: (-1.0, 1.0),
    special.erfc: (0.0, 2.0),
    special.expit: (0.0, 1.0),
    special.log_expit: (-np.inf, 0.0),
}
_VANISH_AT_ZERO = frozenset({np.expm1, np.log1p, np.sqrt, np.tanh, np.sinh, special.erf})


def _less(a: Rounded, b: Rounded) -> Mask:
    return _undecided_at_nan(Mask(np.asarray(a.hi < b.lo), np.asarray(a.lo < b.hi)), a, b)


def _less_equal(a: Rounded, b: Rounded) -> Mask:
    return _undecided_at_nan(Mask(np.asarray(a.hi <= b.lo), np.asarray(a.lo <= b.hi)), a, b)


def _equal(a: Rounded, b: Rounded) -> Mask:
    points = (a.lo == a.hi) & (b.lo == b.hi) & (a.lo == b.lo)
    return _undecided_at_nan(Mask(np.asarray(points), np.asarray((a.lo <= b.hi) & (b.lo <= a.hi))), a, b)


def _undecided_at_nan(mask: Mask, a: Rounded, b: Rounded) -> Mask:
    nan = _or(a.nan, b.nan)
    return mask if nan is None else Mask(mask.yes & ~nan, mask.maybe | nan)


_COMPARISONS: dict[Any, Callable[[Rounded, Rounded], Mask]] = {
    np.less: _less,
    np.less_equal: _less_equal,
    np.greater: lambda a, b: _less(b, a),
    np.greater_equal: lambda a, b: _less_equal(b, a),
    np.equal: _equal,
    np.not_equal: lambda a, b: ~_equal(a, b),
}


def _foreign(value: Any) -> bool:
    plain = (Rounded, Exact, np.ndarray, np.generic, int, float, Mask, tuple, list, str, type(None))
    return not isinstance(value, plain) and hasattr(type(value), "__array_ufunc__")
