"""Floating-point formats: unit roundoff, range, distance in units in the last place.

A format is described by its precision p (significant bits, the hidden one included) and its exponent
range; everything else follows. Source: IEEE 754-2019, section 3; bfloat16 as in Intel's 2018 definition.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import ml_dtypes
import numpy as np
from numpy.typing import ArrayLike, NDArray

from gradcheck.errors import unknown_name

Float64Array = NDArray[np.float64]


@dataclass(frozen=True)
class Format:
    """One binary floating-point format.

    `precision` counts significant bits; `emin` and `emax` are the exponents of the least normal number
    2**emin and of the binade that holds the largest number.
    """

    name: str
    precision: int
    emin: int
    emax: int

    @cached_property
    def dtype(self) -> np.dtype[np.generic]:
        """The NumPy type that stores this format."""
        return np.dtype(ml_dtypes.bfloat16 if self.name == "bfloat16" else self.name)

    @property
    def bits(self) -> int:
        """The size of one number in bits."""
        return self.dtype.itemsize * 8

    @property
    def roundoff(self) -> float:
        """The unit roundoff u = 2**-p: the largest relative error of rounding to nearest."""
        return 2.0**-self.precision

    @property
    def least_subnormal(self) -> float:
        """The smallest positive number."""
        return float(np.ldexp(1.0, self.emin - self.precision + 1))

    @property
    def eta(self) -> float:
        """Half the least subnormal (the least subnormal itself where float64 cannot hold the half)."""
        return float(np.ldexp(1.0, max(self.emin - self.precision, -1074)))

    @property
    def least_normal(self) -> float:
        """The smallest positive number of full precision."""
        return float(np.ldexp(1.0, self.emin))

    @property
    def largest(self) -> float:
        """The largest finite number."""
        return float(np.ldexp(2.0 - 2.0 ** (1 - self.precision), self.emax))

    def ulp(self, value: ArrayLike) -> Float64Array:
        """Return the distance between neighbouring numbers of this format around `value`.

        Below the least normal number it is the least subnormal; beyond the largest, that of the last binade.
        """
        magnitude = np.abs(np.asarray(value, dtype=np.float64))
        bounded = np.clip(np.nan_to_num(magnitude, nan=1.0), self.least_normal, self.largest)
        exponent = np.frexp(bounded)[1] - 1
        return np.asarray(np.ldexp(1.0, exponent - self.precision + 1), dtype=np.float64)

    def round(self, value: ArrayLike) -> Float64Array:
        """Return `value` rounded to the nearest number of this format, as float64."""
        with np.errstate(all="ignore"):
            return np.asarray(np.asarray(value, dtype=np.float64).astype(self.dtype), dtype=np.float64)

    def all_values(self) -> NDArray[np.generic]:
        """Return every bit pattern of a 16-bit format, in the order of the patterns."""
        if self.bits != 16:
            raise ValueError(f"only 16-bit formats are enumerated, got {self.name} ({self.bits} bits)")
        return np.arange(2**16, dtype=np.uint32).astype(np.uint16).view(self.dtype)


FLOAT64 = Format("float64", 53, -1022, 1023)
FLOAT32 = Format("float32", 24, -126, 127)
FLOAT16 = Format("float16", 11, -14, 15)
BFLOAT16 = Format("bfloat16", 8, -126, 127)
FORMATS = (FLOAT64, FLOAT32, FLOAT16, BFLOAT16)


def get_format(name: str) -> Format:
    """Return the format called `name`; an unknown name is a `UsageError` that offers the closest ones."""
    for candidate in FORMATS:
        if candidate.name == name:
            return candidate
    raise unknown_name("format", name, (f.name for f in FORMATS))


def widen(array: ArrayLike) -> Float64Array:
    """Return an array of any format as float64; signalling NaNs become quiet without a warning."""
    with np.errstate(invalid="ignore"):
        return np.asarray(np.asarray(array), dtype=np.float64)


def to_hex(value: float) -> str:
    """Return the exact hexadecimal text of a float; inf and nan as those words."""
    number = float(value)
    return number.hex() if np.isfinite(number) else str(number)


def from_hex(text: str) -> float:
    """Return the float that `to_hex` wrote."""
    return float.fromhex(text)
