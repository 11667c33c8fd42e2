"""How a liar is written down: an implementation that is wrong in one known way and otherwise good.

A fault lives in the value, the derivative, the second derivative, the treatment of layout, shape and format,
or at the special numbers (`where`). `expected` is "wrong" where no legal evaluation explains the fault, and
"unstable" where the fault is a poor form that a checker may know by name: any finding will do there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from gradcheck.formats import FORMATS, Format
from gradcheck.subjects.implementation import Implementation
from tests import honest as good
from tests.honest import ELEMENTWISE, Real, elementwise

F64, F32, F16, BF16 = (fmt.name for fmt in FORMATS)
ALL, WIDE, NARROW = (F64, F32, F16, BF16), (F64, F32), (F16, BF16)
SIZES = (1, 10, 1000)
Bend = Callable[..., Real]


@dataclass(frozen=True)
class Liar:
    """One wrong implementation: its fault, and the formats and sizes in which it must be caught.

    For functions of several arrays, a size is that of the batch. `options` are the ones that make the fault
    visible, where the defaults hide it: for the corpus's own test, the checker has to find its own.
    """

    name: str
    formula: str
    cause: str
    expected: str
    implement: Callable[[Format], Implementation]
    where: str
    formats: tuple[str, ...] = ALL
    sizes: tuple[int, ...] = SIZES
    options: Mapping[str, float] = field(default_factory=dict)


ORDERS = ("value", "derivative", "second")


def bent(
    formula: str,
    name: str,
    cause: str,
    order: str,
    bend: Bend,
    where: str = "",
    expected: str = "wrong",
    **rest: Any,
) -> Liar:
    """Return the liar whose `order` is `bend(x, honest result, **options)`; the other orders are honest."""
    triple = ELEMENTWISE[formula]

    def implement(fmt: Format) -> Implementation:
        parts = {each: getattr(triple, each) for each in ORDERS}
        straight = parts[order]
        parts[order] = lambda x, **options: bend(x, straight(x, **options), **options)
        return elementwise(formula, fmt, *(parts[each] for each in ORDERS))

    return Liar(f"{formula}-{name}", formula, cause, expected, implement, where or order, **rest)


def only_in(
    formats: tuple[str, ...], formula: str, name: str, cause: str, order: str, bend: Bend, **rest: Any
) -> Liar:
    """Return the liar that is bent in the given formats alone."""
    liar = bent(formula, name, cause, order, bend, **rest)

    def implement(fmt: Format) -> Implementation:
        return liar.implement(fmt) if fmt.name in formats else good.honest(formula, fmt)

    return replace(liar, implement=implement, formats=formats)


def in_format(
    formula: str, name: str, cause: str, order: str, bend: Callable[..., Real], **rest: Any
) -> Liar:
    """Return the liar whose bend is also told the format: bend(fmt, x, honest result, **options)."""
    liar = bent(formula, name, cause, order, lambda x, y, **_: y, **rest)

    def implement(fmt: Format) -> Implementation:
        return bent(formula, name, cause, order, lambda x, y, **o: bend(fmt, x, y, **o)).implement(fmt)

    return replace(liar, implement=implement)


def at(points: tuple[float, ...], lie: Any) -> Bend:
    """Return the bend that answers `lie` at exactly these points."""
    return lambda x, y, **_: np.where(np.isin(x, points), lie, y)


def when(region: Callable[[Real], Any], lie: Callable[..., Any]) -> Bend:
    """Return the bend that answers lie(x, y) wherever region(x) holds."""
    return lambda x, y, **_: np.where(region(x), lie(x, y), y)


def scaled(factor: float) -> Bend:
    """Return the bend that multiplies every result."""
    return lambda x, y, **_: y * factor


def swap(function: Callable[..., Any]) -> Bend:
    """Return the bend that answers another function of x."""
    return lambda x, y, **options: function(x, **options)
