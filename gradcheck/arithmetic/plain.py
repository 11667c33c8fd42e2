"""A text evaluated in a storage format itself.

float64 and float32 are NumPy's own. The 16-bit formats go through `Stored`: every operation is computed
in float32 and rounded to the format, because SciPy and mixed operands would silently widen them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.lib.mixins import NDArrayOperatorsMixin
from scipy import special

from gradcheck.arithmetic.exact import Exact
from gradcheck.arithmetic.structure import FILLS, JOINS, MOVES, fill_value
from gradcheck.errors import Unsupported
from gradcheck.formats import Format

# SciPy's own float32 code flushes subnormal results, which would be no fault of the text.
_SPECIAL = frozenset({special.erf, special.erfc, special.expit, special.log_expit})
_REDUCTIONS = frozenset({np.sum, np.mean, np.var, np.max, np.min})


class Stored(NDArrayOperatorsMixin):
    """An array of a 16-bit format, held as the float32 numbers that it can represent."""

    def __init__(self, data: Any, fmt: Format) -> None:
        self.format = fmt
        self.data = np.asarray(data).astype(fmt.dtype).astype(np.float32)

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the array."""
        return tuple(self.data.shape)

    @property
    def ndim(self) -> int:
        """The number of axes."""
        return self.data.ndim

    @property
    def T(self) -> Stored:
        """The transposed array."""
        return Stored(self.data.T, self.format)

    def __getitem__(self, index: Any) -> Stored:
        return Stored(self.data[index], self.format)

    def _plain(self, value: Any) -> Any:
        if isinstance(value, Stored):
            return value.data
        if isinstance(value, Exact):
            return np.float32(value.nearest(self.format.dtype))
        if isinstance(value, np.ndarray) and value.dtype.kind not in "biu":
            return value.astype(np.float32)
        return value

    def _wrap(self, result: Any) -> Any:
        return result if np.asarray(result).dtype == bool else Stored(result, self.format)

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **keywords: Any) -> Any:
        if method != "__call__" or keywords:
            raise Unsupported(f"np.{ufunc.__name__}.{method} with {sorted(keywords)} in a 16-bit format")
        plain = [self._plain(value) for value in inputs]
        if ufunc in _SPECIAL:
            plain = [value.astype(np.float64) for value in plain]
        return self._wrap(ufunc(*plain))

    def __array_function__(self, function: Any, types: Any, arguments: Any, keywords: Any) -> Any:
        if function in FILLS:
            constant = self._plain(fill_value(function, arguments, keywords))
            return Stored(np.full(self.shape, constant, np.float32), self.format)
        if function in JOINS:
            return Stored(function([self._plain(part) for part in arguments[0]], **keywords), self.format)
        if function in MOVES or function in _REDUCTIONS or function in (np.where, np.clip, np.einsum):
            return self._wrap(function(*(self._plain(value) for value in arguments), **keywords))
        raise Unsupported(f"np.{function.__name__} in a 16-bit format")


def evaluate(text: Callable[..., Any], fmt: Format, *arrays: Any, **options: Any) -> Any:
    """Return `text(*arrays, **options)` computed in `fmt`: an array of its storage type, or several."""
    with np.errstate(all="ignore"):
        result = text(*(_admitted(array, fmt) for array in arrays), **options)
        if isinstance(result, tuple):
            return tuple(None if part is None else _store(part, fmt, arrays) for part in result)
        return _store(result, fmt, arrays)


def _admitted(array: Any, fmt: Format) -> Any:
    """Return the array in the format; integers are indices and stay what they are."""
    if np.asarray(array).dtype.kind in "iub":
        return np.asarray(array)
    return Stored(array, fmt) if fmt.bits == 16 else np.asarray(array, fmt.dtype)


def _store(result: Any, fmt: Format, inputs: tuple[Any, ...]) -> Any:
    """Return the array in its storage type; one that is an input, or a part of it, as a copy."""
    array = np.asarray(result.data if isinstance(result, Stored) else result)
    lent = any(np.may_share_memory(array, given) for given in inputs)
    return array.astype(fmt.dtype, copy=lent)
