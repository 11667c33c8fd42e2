"""x a + (b - m a): how kernels apply (x - m) a + b with one multiplication per element.

As an interval the text itself would be useless: it forgets that both products hold the same a, so an error
of a would count |x| + |m| times, where in every evaluation it counts |x - m| times.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from gradcheck.arithmetic.dual import Dual
from gradcheck.arithmetic.rounded import Rounded, lift


def affine(x: Any, m: Any, a: Any, b: Any = None) -> Any:
    """Return x a + (b - m a), or x a - m a without b, evaluated in just this way.

    Over rounded values it is (x - m) a + b for the numbers m and a that were computed, plus one rounding of
    each product, of their difference and of the sum: u(2|x a| + 3|m a| + 2|b|) + 2η, and a little more.
    """
    parts = [part for part in (x, m, a, b) if part is not None]
    if any(isinstance(part, Dual) for part in parts):
        return _dual([part if isinstance(part, Dual) else Dual(part) for part in parts])
    models = [part.model for part in parts if isinstance(part, Rounded)]
    if models:
        return _rounded([lift(part, models[0]) for part in parts])
    return x * a - m * a if b is None else x * a + (b - m * a)


def _dual(parts: list[Dual]) -> Dual:
    x, m, a, *rest = parts
    value = affine(x.value, m.value, a.value, *(part.value for part in rest))
    terms = [part.tangent for part in rest if part.tangent is not None]
    if x.tangent is not None or m.tangent is not None:
        moved = (np.zeros_like(part.value) if part.tangent is None else part.tangent for part in (x, m))
        dx, dm = moved
        terms.append(affine(dx, dm, a.value))
    if a.tangent is not None:
        terms.append(affine(x.value, m.value, a.tangent))
    if not terms:
        return Dual(value)
    return Dual(value, sum(terms[1:], terms[0]) + np.zeros_like(value))


def _rounded(parts: list[Rounded]) -> Rounded:
    """Bound the true product by intervals, which rounds a few times more, and add what is larger here."""
    x, m, a, *rest = parts
    model = x.model
    result = sum(rest, (x - m) * a)
    with np.errstate(all="ignore"):
        sizes = [np.maximum(np.abs(part.lo), np.abs(part.hi)) for part in parts]
        products = 2 * sizes[0] * sizes[2] + 3 * sizes[1] * sizes[2] + sum(2 * size for size in sizes[3:])
        lost = (model.format.roundoff * products + 2 * model.floor) * (1 + 16 * model.format.roundoff)
        lost = np.where(np.isnan(lost) | (products > model.format.largest), np.inf, lost)
        low, high = result.lo - lost, result.hi + lost
        unknown = np.isnan(low) | np.isnan(high)
    low, high = np.where(unknown, -np.inf, low), np.where(unknown, np.inf, high)
    infinite = np.isinf(lost)
    nan = infinite if result.nan is None else result.nan | infinite
    return Rounded(low, high, model, nan if nan.any() else None)
