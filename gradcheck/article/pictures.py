"""Pictures of the article's formulas, as series of numbers that were computed, not drawn by hand.

Each function takes nothing and returns a `Picture`; the report draws it. Where a picture is about arithmetic,
its series are computed in the format that it names.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from gradcheck import formulas
from gradcheck.arithmetic.plain import evaluate
from gradcheck.article.printed import printed_leaky_relu, printed_sigmoid_slope
from gradcheck.formats import FLOAT16, FLOAT32, FLOAT64


@dataclass(frozen=True)
class Axis:
    """What an axis shows, and whether its numbers are exponents of ten."""

    label: str
    decades: bool = False


@dataclass(frozen=True)
class Series:
    """One line: its name and its points (x, y); on an axis of decades these are logarithms."""

    label: str
    points: tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class Picture:
    """Lines over one pair of axes, with a sentence about what they show."""

    title: str
    x: Axis
    y: Axis
    series: tuple[Series, ...]
    caption: str

    @property
    def record(self) -> dict[str, Any]:
        """The picture as plain lists and dictionaries."""
        return asdict(self)


def line(label: str, x: Any, y: Any) -> Series:
    """Return the series of the finite points among x and y."""
    pairs = zip(np.asarray(x, np.float64).tolist(), np.asarray(y, np.float64).tolist(), strict=True)
    return Series(label, tuple((a, b) for a, b in pairs if np.isfinite(a) and np.isfinite(b)))


def decades(values: Any) -> Any:
    """Return log10 of positive numbers; what is zero or less has none and is left out of a line."""
    with np.errstate(all="ignore"):
        array = np.asarray(values, np.float64)
        return np.where(array > 0, np.log10(array), np.nan)


def sigmoid_slope() -> Picture:
    """The slope of the sigmoid as printed, y(1 - y), in float32, beside the slope itself."""
    x = np.linspace(-40, 110, 601)
    single = x.astype(np.float32)
    printed = evaluate(printed_sigmoid_slope, FLOAT32, single)
    slope = evaluate(formulas.sigmoid.derivative, FLOAT64, single.astype(np.float64))  # type: ignore[arg-type]
    return Picture(
        "A slope that vanishes by arithmetic alone",
        Axis("x"),
        Axis("σ'(x)", decades=True),
        (line("σ(x)σ(−x)", x, decades(slope)), line("y(1 − y), float32", x, decades(printed))),
        "Rebuilt from the rounded value y the slope is zero once y rounds to 1, where the true one is still "
        "a normal number: the line of y(1 − y) ends there.",
    )


def leaky_relu() -> Picture:
    """Leaky ReLU as printed, max(αx, max(0, x)), beside the reference, α = 0.2."""
    x = np.linspace(-4, 2, 121)
    alpha = 0.2
    return Picture(
        "The printed leaky ReLU does not leak",
        Axis("x"),
        Axis("y at α = 0.2"),
        (
            line("x, or αx below 0", x, formulas.leaky_relu(x, alpha)),
            line("max(αx, max(0, x))", x, printed_leaky_relu(x, alpha)),
        ),
        "For 0 < α < 1 the inner max(0, x) is never below αx, so α never acts and the printed form is ReLU.",
    )


def one_pass_variance() -> Picture:
    """Relative error of the variance of 1,000 numbers in float32, by two ways, over mean/deviation."""
    rng = np.random.default_rng(0)
    noise = rng.normal(size=1000)
    ratios = 10.0 ** np.arange(0, 6.01, 0.25)
    errors: dict[str, list[float]] = {"two passes": [], "E[x²] − E[x]²": []}
    for ratio in ratios:
        x = (noise + ratio).astype(np.float32)
        exact = float(np.var(x.astype(np.float64)))
        mean = np.mean(x)
        ways = {"two passes": np.mean(np.square(x - mean)), "E[x²] − E[x]²": np.mean(x * x) - mean * mean}
        for name, value in ways.items():
            errors[name].append(max(abs(float(value) - exact) / exact, 1e-9))
    return Picture(
        "The variance of a batch by two ways, float32",
        Axis("mean / deviation", decades=True),
        Axis("relative error", decades=True),
        tuple(line(name, decades(ratios), decades(values)) for name, values in errors.items()),
        "The difference of two large means loses twice as many digits as the mean has more than the "
        "deviation; from a ratio of a few thousand on nothing is left of it.",
    )


def first_steps() -> Picture:
    """Adam's step and the printed one, in units of the rate, for a gradient that is always 1."""
    steps = np.arange(1, 61)
    columns: dict[str, list[float]] = {"Adam": [], "as printed, ρ = 1": []}
    zero = np.zeros(1)
    adam, printed = (zero,) * 4, (zero,) * 3
    for t in steps.tolist():
        before = adam[0], printed[0]
        adam = formulas.adam(adam[0], np.ones(1), *adam[1:], t=t, lr=1.0)
        printed = formulas.printed_adam(printed[0], np.ones(1), *printed[1:], lr=1.0)
        columns["Adam"].append(float(before[0][0] - adam[0][0]))
        columns["as printed, ρ = 1"].append(float(before[1][0] - printed[0][0]))
    return Picture(
        "Without the correction of its averages Adam starts too fast",
        Axis("step"),
        Axis("step / rate"),
        tuple(line(name, steps, values) for name, values in columns.items()),
        "Both averages start at zero, the second far more slowly: the printed step is at first "
        "(1 − β₁)/√(1 − β₂) ≈ 3.16 times the rate, grows from there, and takes thousands of steps to forget "
        "it.",
    )


def step_over_scale() -> Picture:
    """Adam's step after ten equal gradients of one size, in units of the rate, by format."""
    sizes = 10.0 ** np.arange(-46.0, 6.01, 0.5)
    lines = []
    for fmt in (FLOAT64, FLOAT32, FLOAT16):
        inside = sizes[(sizes <= fmt.largest) & (sizes >= fmt.least_subnormal)]
        gradient = inside.astype(fmt.dtype)
        state = (np.zeros_like(gradient),) * 4
        for t in range(1, 11):
            before = state[0]
            state = formulas.adam(before, gradient, *state[1:], t=t, lr=1.0)
        with np.errstate(all="ignore"):
            moved = np.abs((state[0] - before).astype(np.float64))
        lines.append(line(fmt.name, np.log10(inside), decades(moved)))
    return Picture(
        "What Adam makes of a gradient's size",
        Axis("gradient", decades=True),
        Axis("step / rate", decades=True),
        tuple(lines),
        "The step does not depend on the gradient's size while that is far above ε = 1e-8; below, it shrinks "
        "in proportion. In float16 ε is zero and (1 − β₂)g² underflows for small gradients: the step is no "
        "finite number there, and the line begins where it is one.",
    )


def schedules() -> Picture:
    """The rate of five schedules over sixty steps, from a base rate of 1."""
    steps = range(61)
    choices: tuple[tuple[str, Any, dict[str, Any]], ...] = (
        ("step", formulas.step_lr, {"step_size": 15, "gamma": 0.5}),
        ("exponential", formulas.exponential_lr, {"gamma": 0.95}),
        ("cosine", formulas.cosine_annealing_lr, {"period": 60}),
        ("cosine, restarts", formulas.cosine_warm_restarts, {"period": 20}),
        ("linear", formulas.linear_lr, {"start": 0.1, "length": 30}),
    )
    lines = []
    for label, formula, options in choices:
        rates = [float(formula(np.float64(1.0), t=t, **options)) for t in steps]
        lines.append(line(label, list(steps), rates))
    return Picture(
        "Five schedules of the learning rate",
        Axis("step"),
        Axis("rate / base rate"),
        tuple(lines),
        "Each is a closed form of the step; PyTorch's own recursions are held to it step by step.",
    )


# The picture of a row of the article, by the row's id.
PICTURES: dict[str, Callable[[], Picture]] = {
    "F08": sigmoid_slope,
    "F09": leaky_relu,
    "F12": one_pass_variance,
    "F15": first_steps,
    "F19": schedules,
    "C14": step_over_scale,
}


def rows_with_a_picture() -> Sequence[str]:
    """Return the ids of the rows that have one."""
    return tuple(PICTURES)
