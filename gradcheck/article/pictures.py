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
from gradcheck.formats import FLOAT32, FLOAT64


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


# The picture of a row of the article, by the row's id.
PICTURES: dict[str, Callable[[], Picture]] = {
    "F08": sigmoid_slope,
    "F09": leaky_relu,
    "F12": one_pass_variance,
}


def rows_with_a_picture() -> Sequence[str]:
    """Return the ids of the rows that have one."""
    return tuple(PICTURES)
