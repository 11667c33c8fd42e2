"""NumPy calls that only move elements: the same for every component of every arithmetic."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from gradcheck.errors import Unsupported

MOVES = frozenset(
    {
        np.reshape,
        np.ravel,
        np.transpose,
        np.swapaxes,
        np.moveaxis,
        np.expand_dims,
        np.squeeze,
        np.broadcast_to,
        np.flip,
        np.take,
        np.repeat,
        np.roll,
        np.pad,
        np.take_along_axis,
        sliding_window_view,
    }
)
JOINS = frozenset({np.concatenate, np.stack})
FILLS: dict[Any, float | None] = {np.zeros_like: 0.0, np.ones_like: 1.0, np.full_like: None}


def clipped(x: Any, low: Any, high: Any) -> Any:
    """Return `np.clip(x, low, high)` in whatever arithmetic `x` is of."""
    return np.minimum(np.maximum(x, low), high)


def fill_value(function: Any, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
    """Return the constant that a call of `zeros_like`, `ones_like` or `full_like` asks for."""
    constant = FILLS[function]
    if constant is not None:
        return constant
    return arguments[1] if len(arguments) > 1 else keywords["fill_value"]


def folded(pick: Callable[[Any, Any], Any], x: Any, axis: Any, keepdims: bool) -> Any:
    """Return `pick` folded over one axis, several or all, where NumPy cannot reduce the arithmetic."""
    axes = range(x.ndim) if axis is None else axis if isinstance(axis, tuple) else (axis,)
    for one in sorted(each % x.ndim for each in axes):
        x = _fold(pick, x, one)
    if keepdims:
        return x
    kept = [length for place, length in enumerate(x.shape) if place not in {a % x.ndim for a in axes}]
    return np.reshape(x, tuple(kept))


def _fold(pick: Callable[[Any, Any], Any], x: Any, axis: int) -> Any:
    """Fold by halves, which takes a logarithm of the length in steps; the axis stays, with length 1."""
    before = (slice(None),) * axis
    while x.shape[axis] > 1:
        half = x.shape[axis] // 2
        first, second = x[(*before, slice(0, half))], x[(*before, slice(half, 2 * half))]
        rest = x[(*before, slice(2 * half, None))]
        x = pick(first, second)
        x = np.concatenate([x, rest], axis=axis) if rest.shape[axis] else x
    return x


def reduction(arguments: tuple[Any, ...], keywords: dict[str, Any]) -> tuple[Any, bool]:
    """Return the axis and keepdims of a call such as `np.max(x, axis, keepdims=True)`."""
    axis = arguments[1] if len(arguments) > 1 else keywords.get("axis")
    unknown = set(keywords) - {"axis", "keepdims"}
    if unknown or len(arguments) > 2:
        raise Unsupported(f"a reduction with {sorted(unknown) or 'three positional arguments'}")
    return axis, bool(keywords.get("keepdims", False))
