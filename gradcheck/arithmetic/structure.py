"""NumPy calls that only move elements: the same for every component of every arithmetic."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

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
