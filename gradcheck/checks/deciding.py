"""Whether a claim holds at one example: both sides over balls, no tolerance.

Disjoint enclosures refute; enclosures that overlap and are far narrower than any format uphold.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from gradcheck.arithmetic.ball import Ball, balls, precision, to_estimate
from gradcheck.arithmetic.exact import Exact
from gradcheck.arithmetic.mask import Mask
from gradcheck.article.claims import AtMost, Claim
from gradcheck.errors import Undecided, UsageError
from gradcheck.formats import FLOAT64
from gradcheck.records import Estimate

Variables = dict[str, Any]
PRECISIONS = (128, 512, 2048, 8192)
_PINNED = 2.0**-60
_FEW = 6


def holds_at(claim: Claim, variables: Variables) -> tuple[bool | None, float]:
    """Return whether the claim holds at one example (None: undecided), and the resolution of that."""
    if claim.plain:
        return _truth_value(claim, claim.function(np, **variables)), 0.0
    if not all(np.all(np.isfinite(_numbers(value))) for value in variables.values()):
        return _holds_in_ieee(claim, variables), 0.0
    for bits in PRECISIONS:
        with precision(bits):
            holds, resolution = _asked(claim, variables)
        if holds is not None:
            return holds, resolution
    return None, math.inf


def _asked(claim: Claim, variables: Variables) -> tuple[bool | None, float]:
    """Ask once, at the precision in force."""
    try:
        answer = claim.function(np, **{name: lifted(value) for name, value in variables.items()})
        if isinstance(answer, bool | np.bool_ | Mask):
            return bool(answer), 0.0
    except Undecided:
        return None, math.inf
    compare = _at_most if isinstance(answer, AtMost) else _equal
    left, right = sides(claim, answer)
    decided = [compare(a, b) for a, b in zip(left, right, strict=True)]
    if any(holds is False for holds, _ in decided):
        return False, 0.0
    if all(holds for holds, _ in decided):
        return True, max((resolution for _, resolution in decided), default=0.0)
    return None, math.inf


def numbers_at(claim: Claim, variables: Variables) -> tuple[str, str] | None:
    """Return the first few numbers of both sides at an example as text; None if it has none to show."""
    if claim.plain or not all(np.all(np.isfinite(_numbers(value))) for value in variables.values()):
        return None
    with precision(PRECISIONS[0]):
        answer = claim.function(np, **{name: lifted(value) for name, value in variables.items()})
        if isinstance(answer, bool | np.bool_ | Mask):
            return None
        left, right = (
            [float(number) for part in side for number in _estimate(part).high.ravel()]
            for side in sides(claim, answer)
        )
    return _shown(left), _shown(right)


def _shown(values: list[float]) -> str:
    return ", ".join(f"{value:.6g}" for value in values[:_FEW]) + (", …" if len(values) > _FEW else "")


def _truth_value(claim: Claim, answer: Any) -> bool:
    if not isinstance(answer, bool | np.bool_):
        raise UsageError(
            f"claim {claim.id}: a plain claim answers True or False, got {type(answer).__name__}"
        )
    return bool(answer)


def _holds_in_ieee(claim: Claim, variables: Variables) -> bool:
    with np.errstate(all="ignore"):
        answer = claim.function(np, **{name: np.asarray(_numbers(v)) for name, v in variables.items()})
        if isinstance(answer, bool | np.bool_):
            return bool(answer)
        left, right = sides(claim, answer)
        if isinstance(answer, AtMost):
            return all(bool(np.all(a <= b)) for a, b in zip(left, right, strict=True))
        return all(np.array_equal(a, b, equal_nan=True) for a, b in zip(left, right, strict=True))


def sides(claim: Claim, answer: Any) -> tuple[list[Any], list[Any]]:
    """Return what was printed and its reference, each as a list of results."""
    if isinstance(answer, AtMost):
        answer = (answer.left, answer.right)
    if not isinstance(answer, tuple) or len(answer) != 2:
        raise UsageError(
            f"claim {claim.id}: the function must return (printed, reference), AtMost or a bool, "
            f"got {type(answer).__name__}"
        )
    left, right = (list(side) if isinstance(side, tuple | list) else [side] for side in answer)
    if len(left) != len(right):
        raise UsageError(f"claim {claim.id}: {len(left)} printed results beside {len(right)} references")
    return left, right


def _equal(left: Any, right: Any) -> tuple[bool | None, float]:
    """Equal unless the enclosures are disjoint; undecided while they are wide."""
    a, b = _estimate(left), _estimate(right)
    if a.high.shape != b.high.shape:
        return False, 0.0
    return _pinned(a, b, np.abs(_difference(a, b)))


def _at_most(left: Any, right: Any) -> tuple[bool | None, float]:
    """No element of the left is surely above its neighbour; one number on the right bounds them all."""
    a, b = _estimate(left), _estimate(right)
    difference = _difference(a, b)
    broadcast = Estimate(*(np.broadcast_to(part, difference.shape) for part in (b.high, b.low, b.radius)))
    return _pinned(a, broadcast, difference)


def _difference(a: Estimate, b: Estimate) -> Any:
    return (a.high - b.high) + (a.low - b.low)


def _pinned(a: Estimate, b: Estimate, excess: Any) -> tuple[bool | None, float]:
    radius = a.radius + b.radius
    if np.any(np.isnan(a.radius) | np.isnan(b.radius) | ~np.isfinite(radius)):
        return None, math.inf
    scale = np.maximum(np.abs(a.high), np.abs(b.high))
    # The difference of two sums of doubles is itself off by a few units of its terms' last places.
    slack = 2.0**-100 * scale
    if np.any(excess > radius + slack):
        return False, 0.0
    # An estimate is no finer than the least number of float64, which tells nothing about its relative error.
    largest = float(np.max(scale, initial=0.0))
    seen = max(largest, FLOAT64.least_normal / _PINNED)
    # What is surely below needs no narrow enclosure.
    narrow = (radius <= _PINNED * scale + 1e-320) | (excess < -(radius + slack))
    if np.all(narrow):
        return True, float(np.max(radius + slack, initial=0.0)) / seen if largest else 0.0
    return None, math.inf


def _estimate(value: Any) -> Estimate:
    if isinstance(value, Ball):
        return to_estimate(value)
    if isinstance(value, Exact):
        return to_estimate(balls(0.0) + value)
    return to_estimate(balls(value))


def _numbers(value: Any) -> Any:
    return np.asarray(value, dtype=np.float64) if isinstance(value, int | float | list | tuple) else 0.0


def lifted(value: Any) -> Any:
    """Return a number or a list of numbers as exact balls; anything else as it is."""
    if isinstance(value, bool | str) or not isinstance(value, int | float | list | tuple):
        return value
    return balls(np.asarray(value, dtype=np.float64))
