"""Inputs to try: families of values, shapes, layouts, options and cotangents, drawn by Hypothesis.

Hypothesis draws the family, a seed and the options; the arrays are built from these. Drawing arrays
element by element gives few distinct values beyond a hundred elements.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray

from gradcheck.families import (
    FAMILIES,
    ROUND_NUMBERS,
    Float64Array,
    build,
    signs,
    special_values,
)
from gradcheck.formats import Format, widen
from gradcheck.records import Arrangement, Array, Case, Choose, Formula, Option

SIZES = (0, 1, 2, 3, 7, 8, 64, 65)
LAYOUTS = ("scalar", "contiguous", "strided", "offset", "reversed", "read-only", "matrix", "transposed")


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
    return np.asarray(signs(rng, shape) * 2.0 ** rng.integers(-1, 2, shape)).astype(fmt.dtype)


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


# So many cases in a row share out every decision among themselves.
_BLOCK = 16
_QUARTER = 4


class _Dice:
    """Decisions of a case by one seed, shared out among the 16 cases whose seeds differ in the last digit.

    Drawn one by one, Hypothesis would make many cases nearly alike; drawn independently, a value of an option
    with a share of a tenth would be missing from a fifth of all runs. Of every decision, each of the 16 cases
    takes another sixteenth of what may come up, each four in a row another quarter; which one is random, and
    independent of other decisions, but the first case is the same for all seeds that end in 0. Each decision
    takes as many random numbers whatever the answer, so that the same seed with a smaller `largest` decides
    alike, on smaller arrays.
    """

    def __init__(self, seed: int, largest: int) -> None:
        self._block, self._place = divmod(seed, _BLOCK)
        self._random, self._largest, self._count = random.Random(seed), largest, 0

    def _share(self) -> float:
        """Return the next number of [0, 1)."""
        self._count += 1
        return (_shares(self._block, self._count)[self._place] + self._random.random()) / _BLOCK

    def size(self, low: int = 1, high: int | None = None) -> int:
        most = max(low, self._largest if high is None else min(high, self._largest))
        common = [n for n in SIZES if low <= n <= most]
        place = 2 * self._share()
        if common and place < 1:
            return common[int(place * len(common))]
        return self._between(place % 1, low, most)

    def integer(self, low: int, high: int) -> int:
        return self._between(self._share(), low, high)

    def choice(self, options: Sequence[Any]) -> Any:
        return options[int(self._share() * len(options))]

    def option(self, option: Option) -> Any:
        """Return one option: its default, an end of its range, or anything inside."""
        kind, place = self._share(), self._share()
        if option.choices:
            return option.choices[int(place * len(option.choices))]
        if option.low is None or option.high is None or kind < 0.35:
            return option.default
        if kind < 0.6:
            return type(option.default)(option.low if kind < 0.5 else option.high)
        # Half of the rest near the default's own size, where an option is used.
        high = option.high if kind < 0.8 else min(option.high, max(option.low, 4 * abs(option.default) + 1))
        inside = float(f"{option.low + place * (high - option.low):.4g}")
        return min(max(inside, float(option.low)), float(option.high))

    @staticmethod
    def _between(place: float, low: int, high: int) -> int:
        return low + int(place * (high - low + 1))


@lru_cache(maxsize=4096)
def _shares(block: int, decision: int) -> tuple[int, ...]:
    """Return the sixteenth that each case of a block takes of a decision.

    Four in a row take one of each quarter, and all that took the same quarter another quarter of that.
    """
    first, rest = random.Random(decision), random.Random(block << 32 | decision)
    start = first.randrange(_BLOCK)
    quarters = [_permuted(rest) for _ in range(_QUARTER)]
    parts = [_permuted(rest) for _ in range(_QUARTER)]
    _lead_with(quarters[0], start // _QUARTER)
    # Where there are two cases only, they take different halves.
    if quarters[0][1] // 2 == quarters[0][0] // 2:
        quarters[0][1], quarters[0][2] = quarters[0][2], quarters[0][1]
    _lead_with(parts[start // _QUARTER], start % _QUARTER)
    return tuple(
        _QUARTER * quarter + parts[quarter][row] for row, group in enumerate(quarters) for quarter in group
    )


def _permuted(source: random.Random) -> list[int]:
    return source.sample(range(_QUARTER), _QUARTER)


def _lead_with(order: list[int], value: int) -> None:
    """Swap so that `value` comes first."""
    place = order.index(value)
    order[0], order[place] = order[place], order[0]


class Smallest:
    """The least of every choice: what a trial call is made with."""

    def size(self, low: int = 1, high: int | None = None) -> int:
        """Return the least length, 2 if that is allowed."""
        return max(low, 2 if high is None else min(2, high))

    def integer(self, low: int, high: int) -> int:
        """Return the lower end."""
        return low

    def choice(self, options: Sequence[Any]) -> Any:
        """Return the first."""
        return options[0]


def arranged(formula: Formula, choose: Choose) -> Arrangement:
    """Return shapes and structural options of a case, by the formula's own rule or by its named axes."""
    if formula.arrange is not None:
        return formula.arrange(choose)
    lengths = {name: choose.size() for name in sorted({name for axes in formula.axes for name in axes})}
    return Arrangement(tuple(tuple(lengths[name] for name in axes) for axes in formula.axes))


def inputs_of(
    formula: Formula, fmt: Format, family: str, seed: int, arrangement: Arrangement, options: dict[str, Any]
) -> tuple[Array, ...]:
    """Return arrays of the arranged shapes, each with the kind of numbers that its input takes."""
    arrays: list[Array] = []
    for place, shape in enumerate(arrangement.shapes):
        kind, size = formula.kind(place), math.prod(shape)
        values = _of_kind(kind, family, seed + place, size, fmt, arrangement.classes, options)
        arrays.append(values.reshape(shape) if kind == "index" else values.reshape(shape).astype(fmt.dtype))
    if formula.fit is None:
        return tuple(arrays)
    with np.errstate(all="ignore"):
        fitted = formula.fit(tuple(widen(array) for array in arrays), options, fmt, seed)
        return tuple(np.clip(fmt.round(part), -fmt.largest, fmt.largest).astype(fmt.dtype) for part in fitted)


def _of_kind(
    kind: str, family: str, seed: int, size: int, fmt: Format, classes: int, options: dict[str, Any]
) -> NDArray[Any]:
    rng = np.random.default_rng([seed, 4])
    if kind == "index":
        drawn = rng.integers(0, classes, size)
        ignored = options.get("ignore_index")
        if ignored is None:
            return drawn
        chosen = np.where(rng.random(size) < 0.4, int(ignored), drawn)
        # The first one always counts: a mean over nothing is 0/0, and no number to compare with.
        first = np.where(drawn[:1] == ignored, (drawn[:1] + 1) % classes, drawn[:1])
        return np.concatenate([first, chosen[1:]])
    if kind == "mask":
        return (rng.random(size) < 0.7).astype(np.float64)
    if kind == "count":
        return rng.integers(0, 50, size).astype(np.float64)
    if kind in ("unit", "distribution"):
        values = np.where(rng.random(size) < 0.2, rng.integers(0, 2, size), rng.random(size))
        return fmt.round(values)
    if kind == "interior":
        near_zero = 2.0 ** -rng.uniform(0.01, min(-fmt.emin, 30), size)
        # One in eight anywhere above 0: the logarithm of the smaller ones is beyond any usual floor.
        least = 2.0 ** -rng.uniform(0.01, -fmt.emin + fmt.precision - 1, size)
        near_zero = np.where(rng.random(size) < 0.25, least, near_zero)
        near_one = 1 - 2.0 ** -rng.uniform(1, min(fmt.precision - 1, 30), size)
        return fmt.round(np.where(rng.random(size) < 0.5, near_zero, near_one))
    if kind == "parameter":
        return build("plain", seed, size, fmt, (0.0,))
    values = build(family, seed, size, fmt, (0.0,))
    if kind in ("positive", "nonnegative"):
        values = np.abs(values)
        return np.maximum(values, fmt.least_normal) if kind == "positive" else values
    return values


def several_inputs(
    formula: Formula, fmt: Format, largest: int, *, fixed: dict[str, Any] | None = None
) -> st.SearchStrategy[Case]:
    """Draw a case of a formula of several inputs, with axes of 1 to `largest` elements.

    Cases that one strategy draws in a row share out every decision, see `_Dice`; a number that comes up again
    gives the same case again.
    """
    seeds: dict[int, int] = {}
    block = 0

    def make(number: int) -> Case:
        nonlocal block
        if number not in seeds:
            place = len(seeds) % _BLOCK
            # The first number is always 0, and says nothing.
            block = number if place == 1 else block
            seeds[number] = block * _BLOCK + place
        return several_case(formula, fmt, largest, seeds[number], fixed)

    return st.integers(0, 2**28 - 1).map(make)


def several_case(
    formula: Formula, fmt: Format, largest: int, seed: int, fixed: dict[str, Any] | None = None
) -> Case:
    """Return the case of a seed; with a smaller `largest`, the same options and family on smaller arrays."""
    dice = _Dice(seed, largest)
    family = dice.choice(formula.families or _MULTIPLE)
    drawn = {option.name: dice.option(option) for option in formula.options}
    arrangement = arranged(formula, dice)
    options = {**drawn, **(fixed or {}), **arrangement.options}
    arrays = inputs_of(formula, fmt, family, seed, arrangement, options)
    detail = " ".join("x".join(map(str, shape)) or "scalar" for shape in arrangement.shapes)
    return Case(family, fmt, arrays, None, options, seed, detail=detail)


def smallest(formula: Formula, fmt: Format) -> Case:
    """Return one small case with the default options, for a trial call."""
    if formula.elementwise:
        return Case("trial", fmt, (np.linspace(-0.75, 0.5, 2).astype(fmt.dtype),))
    arrangement = arranged(formula, Smallest())
    options = {option.name: option.default for option in formula.options} | dict(arrangement.options)
    return Case("trial", fmt, inputs_of(formula, fmt, "plain", 0, arrangement, options), None, options)


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
    if layout == "channels-last" and values.ndim == 4:
        return np.ascontiguousarray(values.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
    # A copy of a scalar would be a scalar, which has no flags.
    copy = np.array(values, order="C")
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
