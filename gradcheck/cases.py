"""Inputs to try: families of values, shapes, layouts, options and cotangents, drawn by Hypothesis.

Hypothesis draws the family, a seed and the options; the arrays are built from these. Drawing arrays
element by element gives few distinct values beyond a hundred elements.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray

from gradcheck.formats import Format, widen
from gradcheck.records import Array, Case, Formula, Option

Float64Array = NDArray[np.float64]
Generator = np.random.Generator
Family = Callable[[Generator, int, Format, Float64Array], Float64Array]

SIZES = (0, 1, 2, 3, 7, 8, 64, 65)
# Points that code likes to branch at.
ROUND_NUMBERS = (0.5, -0.5, 1.0, -1.0, 2.0, -2.0, 3.0, -3.0, 6.0, -6.0)
LAYOUTS = ("scalar", "contiguous", "strided", "offset", "reversed", "read-only", "matrix", "transposed")


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


def _signs(rng: Generator, size: int | tuple[int, ...]) -> Float64Array:
    return np.asarray(rng.choice(np.array([-1.0, 1.0]), size))


def _plain(rng: Generator, size: int, fmt: Format, kinks: Float64Array) -> Float64Array:
    return np.asarray(rng.normal(size=size) * 2.0 ** rng.uniform(-2, 3))


def _log_uniform(rng: Generator, size: int, fmt: Format, kinks: Float64Array) -> Float64Array:
    lowest = fmt.emin - fmt.precision + 1
    exponents = rng.uniform(lowest, fmt.emax + 0.999, size)
    return np.asarray(_signs(rng, size) * np.ldexp(2.0 ** (exponents % 1), np.floor(exponents).astype(int)))


def _moderate(rng: Generator, size: int, fmt: Format, kinks: Float64Array) -> Float64Array:
    return _signs(rng, size) * 2.0 ** rng.uniform(-26, 7, size)


def _saturated(rng: Generator, size: int, fmt: Format, kinks: Float64Array) -> Float64Array:
    return _signs(rng, size) * rng.uniform(4, 60, size)


def _thresholds(rng: Generator, size: int, fmt: Format, kinks: Float64Array) -> Float64Array:
    """Around the points where exp, its square or a Gaussian over- or underflows or is absorbed by 1."""
    logs = np.log(2.0) * np.array([fmt.emax, -fmt.emin, fmt.precision, -fmt.emin + fmt.precision])
    points = np.concatenate([logs, logs / 2, np.sqrt(2 * logs), np.sqrt(logs)])
    return np.asarray(_signs(rng, size) * rng.choice(points, size) * rng.uniform(0.85, 1.1, size))


def _around_kinks(rng: Generator, size: int, fmt: Format, kinks: Float64Array) -> Float64Array:
    points = rng.choice(np.concatenate([kinks, [0.0]]), size)
    steps = rng.integers(-4, 5, size) * np.where(points == 0, fmt.least_subnormal, fmt.ulp(points))
    near = points * (1 + rng.normal(size=size) * 1e-3) + rng.normal(size=size) * 1e-3
    return np.where(rng.random(size) < 0.5, points + steps, near)


def _subnormal(rng: Generator, size: int, fmt: Format, kinks: Float64Array) -> Float64Array:
    return _signs(rng, size) * rng.uniform(0, 4, size) * fmt.least_normal


def _grid(rng: Generator, size: int, fmt: Format, kinks: Float64Array) -> Float64Array:
    return rng.integers(-64, 65, size) / 8.0


def _offset(rng: Generator, size: int, fmt: Format, kinks: Float64Array) -> Float64Array:
    return np.asarray(rng.choice([-1.0, 1.0]) * 10.0 ** rng.uniform(0, 3) + rng.normal(size=size))


def _extremes(rng: Generator, size: int, fmt: Format, kinks: Float64Array) -> Float64Array:
    """Where a product with a small constant, a square or a cube over- or underflows."""
    shares = fmt.largest / np.array([1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0, 16.0, 32.0])
    small = fmt.least_normal * np.array([1.0, 2.0, 3.0, 6.0, 16.0])
    powers = [fmt.largest ** (1 / 2), fmt.largest ** (1 / 3), fmt.least_normal ** (1 / 2)]
    points = rng.choice(np.concatenate([shares, small, powers]), size)
    return np.asarray(_signs(rng, size) * points * rng.uniform(0.7, 1.0, size))


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


def build(family: str, seed: int, size: int, fmt: Format, kinks: tuple[float, ...]) -> Float64Array:
    """Return `size` finite numbers of `fmt` of the family, the same for the same arguments."""
    rng = np.random.default_rng(seed)
    points = np.array([k for k in kinks if np.isfinite(k)], dtype=np.float64)
    values = fmt.round(FAMILIES[family](rng, size, fmt, points))
    return np.clip(values, -fmt.largest, fmt.largest)


def _with_specials(
    values: Float64Array, seed: int, fmt: Format, kinks: tuple[float, ...]
) -> tuple[Float64Array, int]:
    """Replace a few elements, at seeded places, by special values, round ones, kinks and their neighbours."""
    if values.size < 2:
        return values, 0
    rng = np.random.default_rng([seed, 1])
    exact = fmt.round(np.array([k for k in kinks if np.isfinite(k)]))
    beside = [exact, exact - fmt.ulp(exact), exact + fmt.ulp(exact)]
    specials = np.concatenate([special_values(fmt), ROUND_NUMBERS, fmt.round(np.concatenate(beside))])
    count = min(values.size // 2, specials.size)
    places = rng.choice(values.size, count, replace=False)
    mixed = values.copy()
    mixed.ravel()[places] = rng.permutation(specials)[:count]
    return mixed, count


def cotangents(seed: int, shape: tuple[int, ...], fmt: Format) -> Array:
    """Return signed random factors of moderate size, one in fifty exactly zero."""
    rng = np.random.default_rng([seed, 2])
    values = rng.normal(size=shape) * 2.0 ** rng.integers(-2, 3, shape)
    values = np.where(rng.random(shape) < 0.02, 0.0, values)
    return np.asarray(values).astype(fmt.dtype)


def directions(seed: int, shape: tuple[int, ...], fmt: Format) -> Array:
    """Return signed powers of two, so that a product with them is exact."""
    rng = np.random.default_rng([seed, 3])
    return np.asarray(_signs(rng, shape) * 2.0 ** rng.integers(-1, 2, shape)).astype(fmt.dtype)


def option_values(option: Option, varied: bool = False) -> st.SearchStrategy[Any]:
    """Draw one option: its default, or anything in its valid range; `varied` leaves the default out."""
    if option.choices:
        return st.sampled_from(option.choices)
    if option.low is None or option.high is None:
        return st.just(option.default)
    drawn = st.floats(option.low, option.high, allow_subnormal=False).map(lambda v: float(f"{v:.4g}"))
    inside = drawn.map(lambda v: min(max(v, float(option.low or 0)), float(option.high or 0)))
    return inside if varied else st.one_of(st.just(option.default), inside)


def options_of(
    formula: Formula, fixed: dict[str, Any] | None = None, varied: bool = False
) -> st.SearchStrategy[dict[str, Any]]:
    """Draw all options of a formula; those that the implementation fixes keep their value."""
    fixed = fixed or {}
    drawn = {
        option.name: st.just(fixed[option.name]) if option.name in fixed else option_values(option, varied)
        for option in formula.options
    }
    return st.fixed_dictionaries(drawn)


def _points(formula: Formula, options: dict[str, Any]) -> tuple[float, ...]:
    return tuple(float(k) for k in formula.kinks(**formula.complete(options))) if formula.kinks else ()


def elementwise(
    formula: Formula,
    fmt: Format,
    size: int,
    *,
    fixed: dict[str, Any] | None = None,
    specials: bool = True,
    varied: bool = False,
) -> st.SearchStrategy[Case]:
    """Draw a case of `size` elements for a formula of one input; `varied` leaves default options out."""

    def make(family: str, seed: int, options: dict[str, Any]) -> Case:
        kinks = _points(formula, options)
        values = build(family, seed, size, fmt, kinks)
        mixed, count = _with_specials(values, seed, fmt, kinks) if specials else (values, 0)
        array = mixed.astype(fmt.dtype)
        return Case(family, fmt, (array,), cotangents(seed, array.shape, fmt), options, seed, specials=count)

    seeds = st.integers(0, 2**32 - 1)
    return st.builds(make, st.sampled_from(sorted(FAMILIES)), seeds, options_of(formula, fixed, varied))


def exhaustive(formula: Formula, fmt: Format, options: dict[str, Any], seed: int = 0) -> Case:
    """Return the case of every number of a 16-bit format, NaN payloads included."""
    values = fmt.all_values()
    nonfinite = int((~np.isfinite(widen(values))).sum())
    return Case(
        "exhaustive",
        fmt,
        (values,),
        cotangents(seed, values.shape, fmt),
        options,
        seed,
        specials=nonfinite + 2,
    )


_MULTIPLE = ("plain", "moderate", "grid", "offset", "kinks")


def several_inputs(
    formula: Formula, fmt: Format, largest: int, *, fixed: dict[str, Any] | None = None
) -> st.SearchStrategy[Case]:
    """Draw a case of a formula of several inputs, with axes of 1 to `largest` elements."""
    names = sorted({name for axes in formula.axes for name in axes})

    def make(family: str, seed: int, lengths: dict[str, int], options: dict[str, Any]) -> Case:
        shapes = [tuple(lengths[name] for name in axes) for axes in formula.axes]
        arrays = []
        for place, shape in enumerate(shapes):
            flat = build(family, seed + place, math.prod(shape), fmt, (0.0,))
            arrays.append(flat.reshape(shape).astype(fmt.dtype))
        detail = " ".join("x".join(map(str, shape)) or "scalar" for shape in shapes)
        return Case(family, fmt, tuple(arrays), None, options, seed, detail=detail)

    length = st.one_of(st.sampled_from([n for n in SIZES if 0 < n <= largest]), st.integers(1, largest))
    return st.builds(
        make,
        st.sampled_from(_MULTIPLE),
        st.integers(0, 2**32 - 1),
        st.fixed_dictionaries({name: length for name in names}),
        options_of(formula, fixed),
    )


def laid_out(values: Array, layout: str) -> Array:
    """Return an array with the values of the flat `values`, stored in the layout."""
    n = values.size
    if layout == "strided":
        buffer = np.zeros(2 * n + 1, values.dtype)
        buffer[1::2] = values
        return buffer[1::2]
    if layout == "offset":
        buffer = np.zeros(n + 3, values.dtype)
        buffer[3:] = values
        return buffer[3:]
    if layout == "reversed":
        return values[::-1].copy()[::-1]
    if layout == "read-only":
        copy = values.copy()
        copy.flags.writeable = False
        return copy
    if layout in ("matrix", "transposed"):
        rows = max(d for d in range(1, math.isqrt(max(n, 1)) + 1) if n % d == 0)
        matrix = values.reshape(rows, n // rows)
        return matrix.copy() if layout == "matrix" else np.ascontiguousarray(matrix.T).T
    return values.reshape(()).copy() if layout == "scalar" else values.copy()


def laid_out_axes(values: Array, layout: str) -> Array:
    """Return an array of the same shape and values, stored in the layout."""
    if layout == "strided" and values.ndim:
        buffer = np.zeros((*values.shape[:-1], 2 * values.shape[-1]), values.dtype)
        buffer[..., ::2] = values
        return buffer[..., ::2]
    if layout == "offset":
        return laid_out(values.ravel(), "offset").reshape(values.shape)
    if layout == "transposed" and values.ndim:
        return np.asfortranarray(values)
    copy = values.copy()
    copy.flags.writeable = layout != "read-only"
    return copy


def layouts(size: int, negative_strides: bool) -> Iterator[str]:
    """Yield the layouts that exist for `size` elements."""
    for layout in LAYOUTS:
        if (layout == "scalar" and size != 1) or (layout == "reversed" and not negative_strides):
            continue
        yield layout


def binades(values: Float64Array) -> dict[str, int]:
    """Count finite values by bands of eight binades, zeros and non-finite ones apart."""
    flat = widen(values).ravel()
    counts: dict[str, int] = {}
    finite = flat[np.isfinite(flat) & (flat != 0)]
    bands = np.floor((np.frexp(finite)[1] - 1) / 8).astype(int) * 8
    for band, count in zip(*np.unique(bands, return_counts=True), strict=True):
        counts[f"2^{band}"] = int(count)
    for name, where in (("0", flat == 0), ("non-finite", ~np.isfinite(flat))):
        if where.any():
            counts[name] = int(where.sum())
    return counts
