"""Learning-rate schedules in closed form: the rate at step t, 0 for the first one, of one or several groups.

torch multiplies its way from step to step instead; where it does, that is a text of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from gradcheck.arithmetic.exact import PI, exact
from gradcheck.arithmetic.scalars import either, in_doubles, where_positive
from gradcheck.formulas.optimizer_parts import numbers
from gradcheck.formulas.parts import accepted
from gradcheck.records import VALUE, Arrangement, Choose, Formula, Option

_T = Option("t", 0, low=0, high=2**53, structural=True)
_GAMMAS = numbers("0.1 0.9 0.5 1")
_TIMES = (0, 1, 2, 3, 4, 5, 7, 8, 9, 12, 16, 20, 24, 32, 60)
_FAMILIES = ("plain", "moderate", "scaled")


_Marks = Callable[[Mapping[str, Any]], Sequence[int]]


def _arrange(values: Mapping[str, Sequence[Any]], marks: _Marks) -> Callable[[Choose], Arrangement]:
    """Every other step is at, before or after one where the schedule turns."""

    def arranged(choose: Choose) -> Arrangement:
        options = {name: choose.choice(listed) for name, listed in values.items()}
        shape = (choose.size(high=4),)
        turn = choose.choice(marks(options)) + choose.choice((0, 0, 0, -1, 1))
        t = choose.choice((options["t"], turn))
        return Arrangement((shape,), {**options, "t": min(max(t, 0), options.get("total", 2**53) - 1)})

    return arranged


def _schedule(
    name: str,
    title: str,
    equation: str,
    source: str,
    value: Any,
    options: Any,
    drawn: Any,
    *variants: Any,
    marks: _Marks = lambda options: (0,),
) -> Formula:
    return Formula(
        name=name,
        title=title,
        equation=equation,
        source=source,
        value=value,
        inputs=("rate",),
        outputs=("rate",),
        kinds=("nonnegative",),
        options=(*options, _T),
        variants=variants,
        # An infinite rate, or none at all, is no rate.
        domain=(-(2.0**1000), 2.0**1000),
        arrange=_arrange(drawn, marks),
        families=_FAMILIES,
        article="F19",
    )


_STEPWISE = "multiplied from step to step"
_GAMMA = Option("gamma", 0.1, low=0.0, high=1.0)


def _power(gamma: Any, count: int) -> tuple[Any]:
    return (gamma**count if count else exact(1),)


def _decayed(rate: Any, gamma: Any, count: int) -> Any:
    (factor,) = in_doubles(rate, _power, gamma, count)
    return factor * rate


def _multiplied(rate: Any, gamma: Any, count: int) -> Any:
    for _ in range(count):
        rate = gamma * rate
    return rate


def _step_lr(rate: Any, *, gamma: Any, step_size: int, t: int) -> Any:
    """Rate η γ^⌊t/s⌋."""
    return _decayed(rate, gamma, t // step_size)


STEP_LR = _schedule(
    "step_lr",
    "Step decay",
    "η_t = η γ^⌊t/s⌋",
    "torch.optim.lr_scheduler.StepLR, 2.13",
    _step_lr,
    (_GAMMA, Option("step_size", 1, low=1, high=2**53, structural=True)),
    {"gamma": _GAMMAS, "step_size": (1, 2, 5), "t": _TIMES},
    accepted(
        VALUE,
        _STEPWISE,
        lambda rate, *, gamma, step_size, t: _multiplied(rate, gamma, t // step_size),
    ),
    marks=lambda options: (options["step_size"], 3 * options["step_size"]),
)


def _passed(milestones: tuple[int, ...], t: int) -> int:
    return sum(milestone <= t for milestone in milestones)


def _multi_step_lr(rate: Any, *, gamma: Any, milestones: tuple[int, ...], t: int) -> Any:
    """Rate η γ^k, with k milestones passed by step t."""
    return _decayed(rate, gamma, _passed(milestones, t))


MULTI_STEP_LR = _schedule(
    "multi_step_lr",
    "Decay at milestones",
    "η_t = η γ^#{milestones ≤ t}",
    "torch.optim.lr_scheduler.MultiStepLR, 2.13",
    _multi_step_lr,
    (_GAMMA, Option("milestones", (1, 2), structural=True)),
    {"gamma": _GAMMAS, "milestones": ((2, 5), (1, 3, 3, 20), (8,)), "t": _TIMES},
    accepted(
        VALUE,
        _STEPWISE,
        lambda rate, *, gamma, milestones, t: _multiplied(rate, gamma, _passed(milestones, t)),
    ),
    marks=lambda options: options["milestones"],
)


def _exponential_lr(rate: Any, *, gamma: Any, t: int) -> Any:
    """Rate η γᵗ."""
    return _decayed(rate, gamma, t)


EXPONENTIAL_LR = _schedule(
    "exponential_lr",
    "Exponential decay",
    "η_t = η γᵗ",
    "torch.optim.lr_scheduler.ExponentialLR, 2.13",
    _exponential_lr,
    (_GAMMA,),
    {"gamma": _GAMMAS, "t": _TIMES},
    accepted(VALUE, _STEPWISE, lambda rate, *, gamma, t: _multiplied(rate, gamma, t)),
)


def _half_cosine(rate: Any, t: int, period: int) -> Any:
    (factor,) = in_doubles(rate, lambda pi: ((1 + np.cos(pi * t / period)) / 2,), PI)
    return factor


def _annealed(rate: Any, eta_min: Any, t: int, period: int) -> Any:
    return eta_min + (rate - eta_min) * _half_cosine(rate, t, period)


def _cosine_annealing_lr(rate: Any, *, eta_min: Any, period: int, t: int) -> Any:
    """Rate η_min + (η - η_min)(1 + cos(πt/T))/2, which goes up again beyond T."""
    return _annealed(rate, eta_min, t, period)


def _cosine_from_step_to_step(rate: Any, *, eta_min: Any, period: int, t: int) -> Any:
    now = rate
    for k in range(1, t + 1):
        if (k - 1 - period) % (2 * period) == 0:
            now = now + (rate - eta_min) * (1 - _half_cosine(rate, 1, period))
        else:
            ratio = _half_cosine(rate, k, period) / _half_cosine(rate, k - 1, period)
            now = ratio * (now - eta_min) + eta_min
    return now


_ETA_MIN = Option("eta_min", 0.0, low=0.0, high=1e6)
_PERIOD = Option("period", 10, low=1, high=2**53, structural=True)
_FLOORS = numbers("0 0.001 0.5")

COSINE_ANNEALING_LR = _schedule(
    "cosine_annealing_lr",
    "Cosine annealing",
    "η_t = η_min + (η - η_min)(1 + cos(πt/T))/2",
    "Loshchilov & Hutter, ICLR 2017, equation 5, without restarts",
    _cosine_annealing_lr,
    (_ETA_MIN, _PERIOD),
    {"eta_min": _FLOORS, "period": (1, 4, 10, 50), "t": _TIMES},
    accepted(VALUE, _STEPWISE, _cosine_from_step_to_step),
    marks=lambda options: (options["period"], 2 * options["period"]),
)


def _since_restart(t: int, first: int, factor: int) -> tuple[int, int]:
    """Return the steps since the last restart, and the length of the period."""
    while t >= first:
        t, first = t - first, first * factor
    return t, first


def _cosine_warm_restarts(rate: Any, *, eta_min: Any, period: int, factor: int, t: int) -> Any:
    """Rate of cosine annealing that begins anew after T, then after T·f, T·f², ... steps."""
    return _annealed(rate, eta_min, *_since_restart(t, period, factor))


COSINE_WARM_RESTARTS = _schedule(
    "cosine_warm_restarts",
    "Cosine annealing with warm restarts",
    "η_t = η_min + (η - η_min)(1 + cos(πt'/T_i))/2, T_i = T fⁱ",
    "Loshchilov & Hutter, ICLR 2017, equation 5",
    _cosine_warm_restarts,
    (_ETA_MIN, _PERIOD, Option("factor", 1, low=1, high=2**20, structural=True)),
    {"eta_min": _FLOORS, "period": (1, 4, 10), "factor": (1, 2, 3), "t": _TIMES},
    marks=lambda options: tuple(k * options["period"] for k in (1, 1, 1 + options["factor"])),
)


def _line(start: Any, end: Any, length: int, t: int) -> tuple[Any]:
    return (start + (end - start) * min(t, length) / length,)


def _linear_lr(rate: Any, *, start: Any, end: Any, length: int, t: int) -> Any:
    """Rate η (a + (b - a) min(t, n)/n)."""
    (factor,) = in_doubles(rate, _line, start, end, length, t)
    return factor * rate


def _climb(start: Any, end: Any, length: int, k: int) -> tuple[Any]:
    return (1 + (end - start) / (length * start + (k - 1) * (end - start)),)


def _linear_from_step_to_step(rate: Any, *, start: Any, end: Any, length: int, t: int) -> Any:
    rate = start * rate
    for k in range(1, min(t, length) + 1):
        (factor,) = in_doubles(rate, _climb, start, end, length, k)
        rate = factor * rate
    return rate


_START = Option("start", 1 / 3, low=2.0**-60, high=1.0)
_LENGTH = Option("length", 5, low=1, high=2**53, structural=True)
_STARTS = numbers("0.25 0.001 1")

LINEAR_LR = _schedule(
    "linear_lr",
    "Linear warm-up or decay",
    "η_t = η (a + (b - a) min(t, n)/n)",
    "torch.optim.lr_scheduler.LinearLR, 2.13",
    _linear_lr,
    (_START, Option("end", 1.0, low=0.0, high=1.0), _LENGTH),
    {"start": _STARTS, "end": numbers("1 0.5 0"), "length": (1, 5, 16), "t": _TIMES},
    accepted(VALUE, _STEPWISE, _linear_from_step_to_step),
    marks=lambda options: (options["length"],),
)


def _shares(pi: Any, up: Any, total: int, cosine: bool, t: int) -> tuple[Any, Any, Any]:
    """Return how far step t is past the top, and how much of the climb and of the fall is still to come."""
    top, last = up * total - 1, total - 1
    climbed, fallen = t / top, (t - top) / (last - top)
    if cosine:
        return t - top, (1 + np.cos(pi * climbed)) / 2, (1 + np.cos(pi * fallen)) / 2
    return t - top, 1 - climbed, 1 - fallen


def _one_cycle_lr(rate: Any, *, up: Any, div: Any, final_div: Any, total: int, strategy: str, t: int) -> Any:
    """Rate from η/d up to η over a share of the steps, then down to η/(d f), on cosines or on lines."""
    past, climb, fall = in_doubles(rate, _shares, PI, up, total, strategy == "cos", t)
    low = rate / div
    least = low / final_div
    rising = either(lambda: rate + (low - rate) * climb, lambda: low + (rate - low) * (1 - climb))
    falling = either(lambda: least + (rate - least) * fall, lambda: rate + (least - rate) * (1 - fall))
    return where_positive(past, falling, rising)


ONE_CYCLE_LR = _schedule(
    "one_cycle_lr",
    "One cycle",
    "η_t = η c(t), from η/d to η and down to η/(d f)",
    "Smith & Topin, arXiv:1708.07120, 2018; in two phases as torch.optim.lr_scheduler.OneCycleLR, 2.13",
    _one_cycle_lr,
    (
        Option("up", 0.25, low=2.0**-10, high=1.0),
        Option("div", 25.0, low=1.0, high=1e6),
        Option("final_div", 1e4, low=1.0, high=1e9),
        Option("total", 64, low=2, high=2**53, structural=True),
        Option("strategy", "cos", choices=("cos", "linear"), structural=True),
    ),
    {
        "up": numbers("0.25 0.5"),
        "div": numbers("25 10"),
        "final_div": numbers("1e4 1"),
        "total": (64,),
        "strategy": ("cos", "linear"),
        "t": _TIMES,
    },
    marks=lambda options: (options["total"] - 1, int(options["up"] * options["total"]) - 1),
)


def _warm_up_chain(
    rate: Any, *, start: Any, length: int, period: int, gamma: Any, chained: bool, t: int
) -> Any:
    """Rate of a linear warm-up, then of cosine annealing; with `chained` times γᵗ, without annealing."""
    if chained:
        return _decayed(_linear_lr(rate, start=start, end=exact(1), length=length, t=t), gamma, t)
    if t < length:
        return _linear_lr(rate, start=start, end=exact(1), length=length, t=t)
    return _annealed(rate, exact(0), t - length, period)


def _chain_from_step_to_step(
    rate: Any, *, start: Any, length: int, period: int, gamma: Any, chained: bool, t: int
) -> Any:
    if chained:
        now = start * rate
        for k in range(1, t + 1):
            (factor,) = in_doubles(rate, _climb, start, exact(1), length, k)
            now = gamma * (factor * now if k <= length else now)
        return now
    if t < length:
        return _linear_from_step_to_step(rate, start=start, end=exact(1), length=length, t=t)
    return _cosine_from_step_to_step(rate, eta_min=exact(0), period=period, t=t - length)


WARM_UP_CHAIN = _schedule(
    "warm_up_chain",
    "Warm-up before another schedule",
    "η_t = η (a + (1 - a)t/n) for t < n, then cosine annealing; chained: times γᵗ",
    "Goyal et al., arXiv:1706.02677, 2017, section 2.2",
    _warm_up_chain,
    (
        _START,
        _LENGTH,
        _PERIOD,
        _GAMMA,
        Option("chained", False, choices=(False, True), structural=True),
    ),
    {
        "start": _STARTS,
        "length": (1, 5, 16),
        "period": (4, 10, 50),
        "gamma": _GAMMAS,
        "chained": (False, True),
        "t": _TIMES,
    },
    accepted(VALUE, _STEPWISE, _chain_from_step_to_step),
    marks=lambda options: (options["length"], options["length"] + options["period"]),
)

FORMULAS = (
    STEP_LR,
    MULTI_STEP_LR,
    EXPONENTIAL_LR,
    COSINE_ANNEALING_LR,
    COSINE_WARM_RESTARTS,
    LINEAR_LR,
    ONE_CYCLE_LR,
    WARM_UP_CHAIN,
)
