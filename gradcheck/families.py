"""Families of values, built from a seed: what a formula meets in a network, and where code goes wrong."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from gradcheck.formats import Format

Float64Array = NDArray[np.float64]
Generator = np.random.Generator
Family = Callable[[Generator, int, Format, Float64Array], Float64Array]

# Points that code likes to branch at.
ROUND_NUMBERS = (0.5, -0.5, 1.0, -1.0, 2.0, -2.0, 3.0, -3.0, 6.0, -6.0)


def special_values(fmt: Format) -> tuple[float, ...]:
    """Return the nine points where implementations differ most: zeros, infinities, NaN, extremes."""
    return (
        0.0,
        -0.0,
        math.inf,
        -math.inf,
        math.nan,
        fmt.largest,
        -fmt.largest,
        fmt.least_subnormal,
        -fmt.least_subnormal,
    )


def signs(rng: Generator, size: int | tuple[int, ...]) -> Float64Array:
    """Return random ones of both signs."""
    return np.asarray(rng.choice(np.array([-1.0, 1.0]), size))


def _plain(rng: Generator, size: int, fmt: Format, kinks: Float64Array) -> Float64Array:
    return np.asarray(rng.normal(size=size) * 2.0 ** rng.uniform(-2, 3))


def _log_uniform(rng: Generator, size: int, fmt: Format, kinks: Float64Array) -> Float64Array:
    lowest = fmt.emin - fmt.precision + 1
    exponents = rng.uniform(lowest, fmt.emax + 0.999, size)
    return np.asarray(signs(rng, size) * np.ldexp(2.0 ** (exponents % 1), np.floor(exponents).astype(int)))


def _moderate(rng: Generator, size: int, fmt: Format, kinks: Float64Array) -> Float64Array:
    return signs(rng, size) * 2.0 ** rng.uniform(-26, 7, size)


def _saturated(rng: Generator, size: int, fmt: Format, kinks: Float64Array) -> Float64Array:
    return signs(rng, size) * rng.uniform(4, 60, size)


def _thresholds(rng: Generator, size: int, fmt: Format, kinks: Float64Array) -> Float64Array:
    """Around the points where exp, its square or a Gaussian over- or underflows or is absorbed by 1."""
    logs = np.log(2.0) * np.array([fmt.emax, -fmt.emin, fmt.precision, -fmt.emin + fmt.precision])
    points = np.concatenate([logs, logs / 2, np.sqrt(2 * logs), np.sqrt(logs)])
    return np.asarray(signs(rng, size) * rng.choice(points, size) * rng.uniform(0.85, 1.1, size))


def _around_kinks(rng: Generator, size: int, fmt: Format, kinks: Float64Array) -> Float64Array:
    points = rng.choice(np.concatenate([kinks, [0.0]]), size)
    steps = rng.integers(-4, 5, size) * np.where(points == 0, fmt.least_subnormal, fmt.ulp(points))
    near = points * (1 + rng.normal(size=size) * 1e-3) + rng.normal(size=size) * 1e-3
    return np.where(rng.random(size) < 0.5, points + steps, near)


def _subnormal(rng: Generator, size: int, fmt: Format, kinks: Float64Array) -> Float64Array:
    return signs(rng, size) * rng.uniform(0, 4, size) * fmt.least_normal


def _grid(rng: Generator, size: int, fmt: Format, kinks: Float64Array) -> Float64Array:
    return rng.integers(-64, 65, size) / 8.0


def _offset(rng: Generator, size: int, fmt: Format, kinks: Float64Array) -> Float64Array:
    return np.asarray(rng.choice([-1.0, 1.0]) * 10.0 ** rng.uniform(0, 3) + rng.normal(size=size))


def _scaled(rng: Generator, size: int, fmt: Format, kinks: Float64Array) -> Float64Array:
    """Of one magnitude, anywhere where squares neither over- nor underflow in the format."""
    reach = 0.9 * math.log10(2.0) * min(fmt.emax, -fmt.emin) / 2
    return np.asarray(rng.normal(size=size) * 10.0 ** rng.uniform(-min(reach, 30), min(reach, 30)))


def _large_mean(rng: Generator, size: int, fmt: Format, kinks: Float64Array) -> Float64Array:
    """Mean over deviation up to a million, but never so much that the format drops the deviation."""
    reach = min(6.0, (fmt.precision - 4) * math.log10(2.0))
    return np.asarray(rng.choice([-1.0, 1.0]) * 10.0 ** rng.uniform(0, reach) + rng.normal(size=size))


def _ties(rng: Generator, size: int, fmt: Format, kinks: Float64Array) -> Float64Array:
    return np.asarray(rng.integers(-1, 3, size) * 0.5, dtype=np.float64)


def _constant(rng: Generator, size: int, fmt: Format, kinks: Float64Array) -> Float64Array:
    return np.full(size, rng.integers(-8, 9) / 4.0)


def _extremes(rng: Generator, size: int, fmt: Format, kinks: Float64Array) -> Float64Array:
    """Where a product with a small constant, a square or a cube over- or underflows."""
    shares = fmt.largest / np.array([1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0, 16.0, 32.0])
    small = fmt.least_normal * np.array([1.0, 2.0, 3.0, 6.0, 16.0])
    powers = [fmt.largest ** (1 / 2), fmt.largest ** (1 / 3), fmt.least_normal ** (1 / 2)]
    points = rng.choice(np.concatenate([shares, small, powers]), size)
    return np.asarray(signs(rng, size) * points * rng.uniform(0.7, 1.0, size))


FAMILIES: dict[str, Family] = {
    "plain": _plain,
    "log-uniform": _log_uniform,
    "moderate": _moderate,
    "saturated": _saturated,
    "thresholds": _thresholds,
    "kinks": _around_kinks,
    "subnormal": _subnormal,
    "extremes": _extremes,
    "grid": _grid,
    "offset": _offset,
}
# For formulas of several inputs that name them.
MORE_FAMILIES: dict[str, Family] = {
    "scaled": _scaled,
    "large mean": _large_mean,
    "ties": _ties,
    "constant": _constant,
}


def build(family: str, seed: int, size: int, fmt: Format, kinks: tuple[float, ...]) -> Float64Array:
    """Return `size` finite numbers of `fmt` of the family, the same for the same arguments."""
    rng = np.random.default_rng(seed)
    points = np.array([k for k in kinks if np.isfinite(k)], dtype=np.float64)
    draw = FAMILIES.get(family) or MORE_FAMILIES[family]
    values = fmt.round(draw(rng, size, fmt, points))
    return np.clip(values, -fmt.largest, fmt.largest)
