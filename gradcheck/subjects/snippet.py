"""Pieces of the programs that reproduce a finding without this package."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from gradcheck.formats import to_hex
from gradcheck.records import Array

_SPELLED_OUT = 4


def numbers(array: Array) -> str:
    """Return a Python list that holds the elements of `array`, in C order, exactly."""
    with np.errstate(invalid="ignore"):  # widening a signalling NaN
        values = np.asarray(array, dtype=np.float64).ravel().tolist()
    words = [to_hex(value) for value in values]
    if len(words) <= _SPELLED_OUT:
        return "[" + ", ".join(f'float.fromhex("{word}")' for word in words) + "]"
    return f'[float.fromhex(word) for word in "{" ".join(words)}".split()]'


def scalar(value: Any) -> str:
    """Return Python source of an option: exact, and valid for infinities and NaN as well."""
    if isinstance(value, float) and not math.isfinite(value):
        return f'float("{value}")'
    return repr(value)


def assignments(options: dict[str, Any]) -> list[str]:
    """Return one assignment per option."""
    return [f"{name} = {scalar(value)}" for name, value in options.items()]


def numpy_array(name: str, array: Array) -> str:
    """Return the assignment that makes `array` again in NumPy."""
    if array.dtype.kind in "iub":
        return f"{name} = np.array({array.tolist()}, dtype=np.{array.dtype.name})"
    dtype = array.dtype.name if array.dtype.name == "bfloat16" else f"np.{array.dtype.name}"
    reshape = "" if array.ndim == 1 else f".reshape({array.shape})"
    return f"{name} = np.array({numbers(array)}, dtype={dtype}){reshape}"


NUMPY_SHOW = "print([v.hex() for v in np.asarray({name}).astype(np.float64).ravel().tolist()])"
