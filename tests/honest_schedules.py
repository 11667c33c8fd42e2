"""Good schedules of the learning rate, in closed form."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from tests.honest import Many


def cosine(rate: Any, low: float, t: int, period: int) -> Any:
    """Return the half cosine from the rate down to `low`."""
    return low + (rate - low) * math.cos(math.pi * t / (2 * period)) ** 2


def restarted(t: int, period: int, factor: int) -> tuple[int, int]:
    """Return the step of the period that runs, and its length."""
    while t >= period:
        t, period = t - period, period * factor
    return t, period


def warm(start: float, end: float, length: int, t: int) -> float:
    """Return the factor of a linear warm-up."""
    return start + (end - start) * min(t, length) / length


def _one_cycle(
    rate: Any,
    *,
    up: float = 0.25,
    div: float = 25.0,
    final_div: float = 1e4,
    total: int = 64,
    strategy: str = "cos",
    t: int = 0,
) -> Any:
    top = up * total - 1
    low = rate / div
    bottom = low / final_div
    before, after, done = (low, rate, t / top) if t <= top else (rate, bottom, (t - top) / (total - 1 - top))
    share = math.sin(math.pi * done / 2) ** 2 if strategy == "cos" else done
    return before * (1 - share) + after * share


def _chain(
    rate: Any,
    *,
    start: float = 1 / 3,
    length: int = 5,
    period: int = 10,
    gamma: float = 0.1,
    chained: bool = False,
    t: int = 0,
) -> Any:
    if chained:
        return rate * warm(start, 1.0, length, t) * gamma**t
    return rate * warm(start, 1.0, length, t) if t < length else cosine(rate, 0.0, t - length, period)


def _no_gradient(inputs: Sequence[Any], c: Any, **_: Any) -> tuple[Any, ...]:
    return ()


_VALUES: dict[str, Callable[..., Any]] = {
    "step_lr": lambda rate, gamma=0.1, step_size=1, t=0: rate * gamma ** (t // step_size),
    "multi_step_lr": lambda rate, gamma=0.1, milestones=(1, 2), t=0: (
        rate * gamma ** len([m for m in milestones if m <= t])
    ),
    "exponential_lr": lambda rate, gamma=0.1, t=0: rate * gamma**t,
    "cosine_annealing_lr": lambda rate, eta_min=0.0, period=10, t=0: cosine(rate, eta_min, t, period),
    "cosine_warm_restarts": lambda rate, eta_min=0.0, period=10, factor=1, t=0: cosine(
        rate, eta_min, *restarted(t, period, factor)
    ),
    "linear_lr": lambda rate, start=1 / 3, end=1.0, length=5, t=0: rate * warm(start, end, length, t),
    "one_cycle_lr": _one_cycle,
    "warm_up_chain": _chain,
}
SCHEDULES: dict[str, Many] = {name: Many(value, _no_gradient) for name, value in _VALUES.items()}
