"""Where the formulas are looked at: the whole range of a format, its edges, kinks and roots."""

from __future__ import annotations

from typing import Any

import numpy as np

from gradcheck.formats import Format
from gradcheck.formulas import CATALOGUE
from gradcheck.records import Formula

# The activations; clipping by value is elementwise too, and has tests of its own.
ELEMENTWISE = tuple(f for f in CATALOGUE if f.elementwise and f.inputs == ("x",))
SEVERAL = tuple(formula for formula in CATALOGUE if not formula.elementwise)
# Where a derivative of some formula is zero, or a branch begins.
SPECIAL = (
    *(0.0, 1.0, 3.0, 6.0, 1.4142, 2.3994, 20.0),
    *(-0.7518, -1.1924, -1.2785, -1.4142, -1.5, -2.2557, -2.3994),
    # Where e^-2u overflows in float32 while the tanh form of GELU is still a normal number.
    -10.07,
)


def points(fmt: Format, seed: int, count: int = 60) -> Any:
    """Return finite numbers of the format as float64: log-uniform, tails, plain, special, the edges."""
    generator = np.random.default_rng(seed)
    exponents = generator.uniform(fmt.emin - fmt.precision + 1, fmt.emax, count)
    signs = generator.choice([-1.0, 1.0], count)
    tail = np.log(fmt.largest) * 1.2
    edges = np.array([fmt.largest, 0.75 * fmt.largest, fmt.least_normal, fmt.least_subnormal, *SPECIAL])
    drawn = np.concatenate(
        [
            signs * np.exp2(exponents),
            generator.uniform(-tail, tail, count),
            generator.normal(0, 2, count),
            edges,
            -edges,
        ]
    )
    rounded = fmt.round(drawn)
    return rounded[np.isfinite(rounded)]


def settings(formula: Formula) -> list[dict[str, float]]:
    """Return the default options and both ends of every option's range."""
    default = {option.name: float(option.default) for option in formula.options}
    ends = [
        {**default, option.name: float(end)}
        for option in formula.options
        for end in (option.low, option.high)
        if end is not None
    ]
    return [default, *ends]


def off_kinks(formula: Formula, x: Any, options: dict[str, float]) -> Any:
    """Return the points that are no kinks."""
    kinks = formula.kinks(**formula.complete(options)) if formula.kinks else ()
    return x[~np.isin(x, kinks)]
