"""Measurements of a PyTorch function that share no code with the checker: slopes, gradients, their noise.

A function is `f(*tensors)`; all its floating outputs together are one vector. An entry of its Jacobian is
named by the place of the tensor, the flat index in it, and the row of the output.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch

Tensors = Sequence[Any]
# Exponents of the steps: finer and longer than any ladder of the checker.
_LADDER = tuple(range(4, 46))
_EPS = 2.0**-52


@dataclass(frozen=True)
class Slopes:
    """The slopes on both sides and between them, how far to trust each, and whether the output jumps."""

    left: float
    right: float
    central: float
    error: float
    jump: bool

    @property
    def kink(self) -> bool:
        """Whether the sides differ by more than they are uncertain."""
        apart = abs(self.right - self.left)
        return apart > 100 * self.error + 1e-6 * max(abs(self.left), abs(self.right))


def flat(result: Any) -> Any:
    """Return all floating outputs as one vector."""
    given = result if isinstance(result, tuple | list) else (result,)
    parts = [o.reshape(-1).double() for o in given if isinstance(o, torch.Tensor) and o.is_floating_point()]
    return torch.cat(parts)


def value(f: Callable[..., Any], tensors: Tensors) -> Any:
    """Return the outputs without a graph."""
    with torch.no_grad():
        return flat(f(*(t.detach().clone() for t in tensors)))


def gradients(f: Callable[..., Any], tensors: Tensors, cotangent: Any) -> list[Any]:
    """Return the vector-Jacobian product by plain PyTorch, None for what is not differentiated."""
    leaves = [t.detach().clone().requires_grad_(t.requires_grad) for t in tensors]
    wanted = [leaf for leaf in leaves if leaf.requires_grad]
    output = flat(f(*leaves))
    found = iter(torch.autograd.grad(output, wanted, cotangent.to(output.dtype), allow_unused=True))
    made = []
    for leaf in leaves:
        one = next(found) if leaf.requires_grad else None
        made.append(torch.zeros_like(leaf) if leaf.requires_grad and one is None else one)
    return made


def hot(f: Callable[..., Any], tensors: Tensors, row: int, factor: float = 1.0) -> Any:
    """Return the cotangent that picks one output."""
    cotangent = torch.zeros_like(value(f, tensors))
    cotangent[row] = factor
    return cotangent


def entry(f: Callable[..., Any], tensors: Tensors, place: int, column: int, row: int) -> float:
    """Return one entry of the Jacobian by plain PyTorch."""
    return float(gradients(f, tensors, hot(f, tensors, row))[place].reshape(-1)[column])


def moved(tensors: Tensors, place: int, column: int, by: float) -> list[Any]:
    """Return the tensors with one element moved."""
    made = [t.detach().clone() for t in tensors]
    made[place].view(-1)[column] += by
    return made


def slopes(f: Callable[..., Any], tensors: Tensors, place: int, column: int, row: int) -> Slopes:
    """Return the slopes of one output along one element, from 42 halvings of the step.

    Of each family of quotients that one is taken whose neighbours are closest; their distance is its error.
    Central ones are also taken without their error in the square of the step, where that settles better.
    """
    contiguous = [t.detach().contiguous() for t in tensors]
    size = _size(contiguous[place], column)
    base = float(value(f, contiguous)[row])
    sides: dict[float, list[float]] = {1.0: [], -1.0: []}
    between, changes, rounding = [], [], []
    for exponent in _LADDER:
        ends = {}
        for sign, quotients in sides.items():
            there = moved(contiguous, place, column, sign * size * 2.0**-exponent)
            taken = float(there[place].view(-1)[column] - contiguous[place].view(-1)[column])
            try:
                ends[sign] = float(value(f, there)[row]), taken
            except Exception:
                ends[sign] = math.nan, taken
            quotients.append((ends[sign][0] - base) / taken if taken else math.nan)
        distance = ends[1.0][1] - ends[-1.0][1]
        between.append((ends[1.0][0] - ends[-1.0][0]) / distance if distance else math.nan)
        largest = max(abs(base), *(abs(end) for end, _ in ends.values() if math.isfinite(end)))
        rounding.append(4 * _EPS * largest / (size * 2.0**-exponent))
        changes.append(max(abs(ends[1.0][0] - base), abs(ends[-1.0][0] - base)))
    right, right_error = settled(sides[1.0], rounding)
    left, left_error = settled(sides[-1.0], rounding)
    central, error = min(
        settled(between, rounding),
        settled(
            [(4 * fine - wide) / 3 for wide, fine in pairwise(between)],
            [2 * each for each in rounding[1:]],
        ),
        key=lambda found: found[1],
    )
    jump = _jumps(changes, base)
    smooth = abs(right - left) <= 100 * (right_error + left_error) and not jump
    return Slopes(left, right, central, error if smooth else max(error, right_error, left_error), jump)


def settled(quotients: Sequence[float], rounding: Sequence[float]) -> tuple[float, float]:
    """Return the quotient that differs least from both of its neighbours, and its error with its rounding."""
    best, least = math.nan, math.inf
    for k in range(1, len(quotients) - 1):
        apart = max(abs(quotients[k - 1] - quotients[k]), abs(quotients[k + 1] - quotients[k]))
        if apart + rounding[k] < least:
            best, least = quotients[k], apart + rounding[k]
    return best, least


def _jumps(changes: Sequence[float], base: float) -> bool:
    """Whether the output changes by the same amount however small the step."""
    last = [c for c in changes[-8:] if math.isfinite(c)]
    return len(last) == 8 and min(last) > 0.9 * max(last) and min(last) > 1e-9 * max(abs(base), 1e-300)


def _size(x: Any, column: int) -> float:
    own = abs(float(x.view(-1)[column]))
    finite = x[torch.isfinite(x) & (x != 0)].abs()
    usual = float(finite.double().log2().mean().exp2()) if finite.numel() else 1.0
    return 2.0 ** math.floor(math.log2(max(own, usual, 1e-290)))


def noise(f: Callable[..., Any], tensors: Tensors, place: int, column: int, row: int) -> float:
    """Return how far an entry moves by rounding alone.

    Inputs move by a few units in the last place; and the cotangent is scaled, which changes nothing but how
    products round.
    """
    base = entry(f, tensors, place, column, row)
    generator = torch.Generator().manual_seed(0)
    spread = 0.0
    for attempt in range(24):
        given = [t.detach().clone().requires_grad_(t.requires_grad) for t in tensors]
        for x in given:
            if x.requires_grad and attempt % 2:
                with torch.no_grad():
                    x *= 1 + torch.randint(-4, 5, x.shape, generator=generator) * _EPS
        factor = 1.0 if attempt % 2 else 1.0 + (attempt + 1) / 37.0
        there = gradients(f, given, hot(f, given, row, factor))[place].reshape(-1)[column] / factor
        if math.isfinite(float(there)):
            spread = max(spread, abs(float(there) - base))
    return spread


def nearby(f: Callable[..., Any], tensors: Tensors, place: int, column: int, row: int) -> tuple[float, float]:
    """Return the least and the largest slope at points beside this one: Clarke's set, as far as seen."""
    generator = torch.Generator().manual_seed(1)
    found = []
    for _ in range(48):
        given = [t.detach().clone() for t in tensors]
        for x, t in zip(given, tensors, strict=True):
            if t.requires_grad:
                scale = max(float(t.detach().abs().double().mean()) if t.numel() else 1.0, 2.0**-20)
                x += (
                    (2 * torch.rand(x.shape, generator=generator, dtype=torch.float64) - 1) * scale * 2.0**-20
                )
        size = _size(given[place], column) * 2.0**-30
        ends = [float(value(f, moved(given, place, column, sign * size))[row]) for sign in (1, -1)]
        slope = (ends[0] - ends[1]) / (2 * size)
        if math.isfinite(slope):
            found.append(slope)
    return (min(found), max(found)) if found else (math.nan, math.nan)


def torch_agrees(f: Callable[..., Any], tensors: Tensors) -> bool | None:
    """Return whether `torch.autograd.gradcheck` passes the very call; None where it cannot judge it."""
    given = [t.detach().clone().requires_grad_(t.requires_grad) for t in tensors]
    if any(t.is_floating_point() and t.dtype != torch.float64 for t in given):
        return None
    try:
        return bool(torch.autograd.gradcheck(f, tuple(given), raise_exception=False, nondet_tol=1e-12))
    except Exception:
        return None
