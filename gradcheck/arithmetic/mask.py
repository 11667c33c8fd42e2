"""Three-valued comparisons: an enclosure may be surely less, surely not, or undecided."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gradcheck.errors import Undecided, Unsupported

BoolArray = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Mask:
    """`yes` where a condition surely holds, `maybe` where it may hold (so `yes` implies `maybe`)."""

    yes: BoolArray
    maybe: BoolArray

    def __and__(self, other: Any) -> Mask:
        right = as_mask(other)
        return Mask(self.yes & right.yes, self.maybe & right.maybe)

    def __or__(self, other: Any) -> Mask:
        right = as_mask(other)
        return Mask(self.yes | right.yes, self.maybe | right.maybe)

    def __invert__(self) -> Mask:
        return Mask(~self.maybe, ~self.yes)

    __rand__ = __and__
    __ror__ = __or__

    def __bool__(self) -> bool:
        if self.yes.all():
            return True
        if not self.maybe.any() or (self.maybe.size == 1 == self.yes.size and not self.maybe.all()):
            return False
        raise Undecided("a branch depends on a comparison that the enclosures do not decide")

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **keywords: Any) -> Any:
        if ufunc in (np.logical_and, np.bitwise_and) and method == "__call__":
            return as_mask(inputs[0]) & inputs[1]
        if ufunc in (np.logical_or, np.bitwise_or) and method == "__call__":
            return as_mask(inputs[0]) | inputs[1]
        if ufunc in (np.logical_not, np.invert) and method == "__call__":
            return ~self
        return NotImplemented

    def __array_function__(self, function: Any, types: Any, arguments: Any, keywords: Any) -> Any:
        others = [value for value in arguments if not isinstance(value, Mask)]
        for value in others:
            implementation = getattr(type(value), "__array_function__", None)
            if implementation is not None and not isinstance(value, np.ndarray):
                return implementation(value, function, types, arguments, keywords)
        raise Unsupported(
            f"np.{function.__name__} of a comparison and plain numbers: the arithmetic is unknown; "
            "write np.full_like(x, constant) for a constant branch"
        )


def as_mask(value: Any) -> Mask:
    """Return a mask; a boolean array is certain."""
    if isinstance(value, Mask):
        return value
    array = np.asarray(value, dtype=bool)
    return Mask(array, array)
