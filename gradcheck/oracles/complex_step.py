"""The complex step: Im f(x + ih) / h, no cancellation, for texts that are analytic as written.

Truncation is h^2 |f'''| / 6, nothing at h = 2**-100; rounding is a few units. Source: Squire & Trapp,
SIAM Review 40, 1998.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

Float64Array = NDArray[np.float64]

STEP = 2.0**-100


def complex_step(text: Callable[..., Any], x: Float64Array, step: float = STEP) -> Float64Array:
    """Return the derivative of `text` at `x` in float64; `text` must be analytic along its own code."""
    with np.errstate(all="ignore"):
        return np.asarray(np.imag(text(x + 1j * step)) / step)
