"""Numbers that a program computes once, beside its arrays, and results that it may reach by several ways.

An optimizer divides a thousand arrays by `1 - beta**t`, which Python computes in doubles, whatever the
format of the arrays: a relative error of u64 beta^t / (1 - beta^t). An exact number would allow too little
there, and the format of the arrays far too much.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import numpy as np

from gradcheck.arithmetic.ball import Ball
from gradcheck.arithmetic.exact import Exact
from gradcheck.arithmetic.rounded import Model, Rounded, hull, lift
from gradcheck.formats import FLOAT32, FLOAT64, Format

Scalars = Callable[..., Any]


def in_doubles(like: Any, text: Scalars, *numbers: Any) -> tuple[Any, ...]:
    """Return the scalars `text(*numbers)`, computed in doubles, for arithmetic with the array `like`.

    Over rounded values each is the interval of what doubles may give, rounded to the format of the array or
    not; in every other arithmetic it is exact.
    """
    return _computed(FLOAT64, like, text, numbers)


def in_format(like: Any, text: Scalars, *numbers: Any) -> tuple[Any, ...]:
    """Return the scalars `text(*numbers)`, computed in the format of `like`, 16-bit formats in float32."""
    wide = isinstance(like, Rounded) and like.model.format.precision == FLOAT64.precision
    return _computed(FLOAT64 if wide else FLOAT32, like, text, numbers)


def _computed(fmt: Format, like: Any, text: Scalars, numbers: tuple[Any, ...]) -> tuple[Any, ...]:
    if not isinstance(like, Rounded):
        found = tuple(text(*numbers))
        # A scalar beside a 16-bit array is not rounded to 16 bits, where 1/(1 - beta) may overflow.
        return tuple(np.float32(float(part)) for part in found) if _narrow(like) else found
    model = Model(fmt, like.model.flush, None, like.model.ulps)
    given = (lift(number, model) if isinstance(number, Exact) else number for number in numbers)
    return tuple(_stored(lift(part, model), like.model) for part in text(*given))


def _narrow(like: Any) -> bool:
    """Whether an array is of a 16-bit format, computed with or written down."""
    fmt = getattr(like, "format", None) or getattr(getattr(like, "program", None), "format", None)
    return isinstance(fmt, Format) and fmt.bits == 16


def _stored(scalar: Rounded, model: Model) -> Rounded:
    """Return the interval of a scalar that is used as it is, rounded to float32, or to the format."""
    formats = (model.format, FLOAT32) if model.format.bits == 16 else (model.format,)
    lo = np.minimum.reduce([scalar.lo, *(fmt.round(scalar.lo) for fmt in formats)])
    hi = np.maximum.reduce([scalar.hi, *(fmt.round(scalar.hi) for fmt in formats)])
    return Rounded(lo, hi, model, scalar.nan)


def where_positive(scalar: Any, yes: Any, no: Any) -> Any:
    """Return `yes` where a scalar is positive and `no` where it is not; both where doubles do not decide."""
    if isinstance(scalar, Rounded):
        above: Any = scalar > 0
        return np.where(above, lift(yes, scalar.model), lift(no, scalar.model))  # type: ignore[call-overload]
    return yes if float(scalar) > 0 else no


def either(*ways: Callable[[], Any]) -> Any:
    """Return a result that a program may compute by any of several ways, the same one on paper.

    Over rounded values that is the hull of what all of them may give; anywhere else the first way's result,
    or the one that `other_way` asks for: no other is computed. Over balls the ways are held against each
    other: disjoint enclosures raise `ArithmeticError`.
    """
    first = ways[0]()
    if isinstance(first, Rounded):
        for way in ways[1:]:
            first = hull(first, lift(way(), first.model))
        return first
    if isinstance(first, Ball):
        for way in ways[1:]:
            if not np.all(_overlap(first.data, way().data)):
                raise ArithmeticError("two ways to compute one result are disjoint: they are not the same")
        return first
    asked = min(_WAY.get(), len(ways) - 1)
    return ways[asked]() if asked else first


_WAY: ContextVar[int] = ContextVar("_WAY", default=0)


@contextmanager
def other_way(number: int) -> Iterator[None]:
    """Inside the block, plain results are reached by the way of this number, or the last one there is."""
    token = _WAY.set(number)
    try:
        yield
    finally:
        _WAY.reset(token)


_overlap = np.frompyfunc(lambda a, b: a.overlaps(b), 2, 1)


def held_in(fmt: Format, x: Any) -> Any:
    """Return `x` after it was kept in `fmt` for a while, where that is narrower than its own format."""
    if not isinstance(x, Rounded) or fmt.precision >= x.model.format.precision:
        return x
    lo, hi = fmt.round(x.lo), fmt.round(x.hi)
    return Rounded(np.minimum(lo, x.lo), np.maximum(hi, x.hi), x.model, x.nan)
