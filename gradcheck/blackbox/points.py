"""Where a black box is looked at: the example itself, other values of its kind, and values of other kinds."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from gradcheck.blackbox.differences import rounded
from gradcheck.cases import build
from gradcheck.errors import UsageError
from gradcheck.formats import get_format
from gradcheck.subjects.function import Axes, Point, Vector

# The points that code branches at, and their neighbours.
_BRANCHES = (0.0, -0.0, 1.0, -1.0, 0.5, -0.5, 2.0, -2.0, 3.0, -3.0, 6.0, -6.0, 20.0, -20.0)
# In the order in which they tell most. Of each family one point is taken, of "like" three.
FAMILIES = (
    "like", "branches", "grid", "saturated", "large", "tiny", "moderate", "ties", "offset", "like", "zeros",
    "far", "negated", "branches", "mixed", "very large", "very tiny", "thresholds", "like", "constant",
)  # fmt: skip
_SCALES = {"large": 2.0**13, "very large": 2.0**27, "tiny": 2.0**-13, "very tiny": 2.0**-27}
_BUILT = ("grid", "saturated", "moderate", "ties", "offset", "thresholds")


@dataclass(frozen=True)
class Domain:
    """What numbers an input takes; `project` maps any array into it."""

    name: str
    project: Callable[[Vector, tuple[int, ...]], Vector]


def _spd(x: Vector, shape: tuple[int, ...]) -> Vector:
    matrix = np.where(np.isfinite(x), np.clip(x, -1e6, 1e6), 0.0).reshape(shape)
    product = matrix @ np.swapaxes(matrix, -1, -2)
    return np.asarray(product + (1 + np.abs(product).max()) * np.eye(shape[-1]) / 4).ravel()


def _within(low: float, high: float) -> Callable[[Vector, tuple[int, ...]], Vector]:
    def fold(x: Vector, shape: tuple[int, ...]) -> Vector:
        width = high - low
        inside = (x > low) & (x < high)
        wrapped = low + np.mod(np.where(np.isfinite(x), x, 0.5), 1.0) * width
        return np.where(inside, x, np.clip(wrapped, low + width / 64, high - width / 64))

    return fold


def _beyond(low: float, high: float) -> Callable[[Vector, tuple[int, ...]], Vector]:
    """Return what mirrors numbers at the only finite bound; what rounds to the bound is moved off it."""
    bound, way = (low, 1.0) if math.isfinite(low) else (high, -1.0)

    def fold(x: Vector, shape: tuple[int, ...]) -> Vector:
        mirrored = bound + way * np.abs(np.where(np.isnan(x), bound + way, x) - bound)
        return np.where(way * (x - bound) > 0, x, np.where(mirrored == bound, bound + way, mirrored))

    return fold


def _positive(x: Vector, shape: tuple[int, ...]) -> Vector:
    return np.where(x == 0, 1.0, np.abs(x))


def domain_of(said: Any, place: str) -> Domain | None:
    """Return the domain that a user named: a text, a pair of bounds, or None; `UsageError` for others."""
    if said is None:
        return None
    if isinstance(said, Domain):
        return said
    if said == "positive":
        return Domain("positive", _positive)
    if said == "unit":
        return Domain("unit", _within(0.0, 1.0))
    if said == "spd":
        return Domain("spd", _spd)
    if isinstance(said, tuple) and len(said) == 2 and all(isinstance(v, int | float) for v in said):
        low, high = map(float, said)
        if low < high and math.isfinite(high - low):
            return Domain(f"{low} to {high}", _within(low, high))
        if low < high and (math.isfinite(low) or math.isfinite(high)):
            return Domain(f"{low} to {high}", _beyond(low, high))
    raise UsageError(
        f'{place}: expected a domain "positive", "unit", "spd" or a pair (low, high), of which one may be '
        f"infinite, got {said!r}"
    )


def domains(said: Any, inputs: tuple[Axes, ...]) -> tuple[Domain | None, ...]:
    """Return one domain per input from what a user gave: one for all, one per input, or by name."""
    if isinstance(said, Mapping):
        unknown = sorted(set(said) - {axes.name for axes in inputs})
        if unknown:
            names = ", ".join(axes.name for axes in inputs)
            raise UsageError(f"domain: there is no input {unknown[0]!r}; the inputs are {names}")
        return tuple(domain_of(said.get(axes.name), axes.name) for axes in inputs)
    if isinstance(said, list):
        if len(said) != len(inputs):
            raise UsageError(f"domain: expected {len(inputs)} entries, one per input, got {len(said)}")
        return tuple(domain_of(each, axes.name) for each, axes in zip(said, inputs, strict=True))
    return tuple(domain_of(said, axes.name) for axes in inputs)


def points(
    example: Point, inputs: tuple[Axes, ...], limits: tuple[Domain | None, ...], seed: int
) -> Iterator[tuple[str, Point]]:
    """Yield named points, the most telling first; every input is of the family, or one at a time."""
    yield "as given", tuple(rounded(x) for x in example)
    for number, family in enumerate(FAMILIES):
        rng = np.random.default_rng([seed, 31, number])
        every = tuple(
            drawn(family, rng, x, axes, limit) for x, axes, limit in zip(example, inputs, limits, strict=True)
        )
        yield family, every
        if len(example) > 1 and family in ("branches", "large", "zeros", "saturated"):
            for place in range(len(example)):
                others = tuple(rounded(x) if k != place else every[k] for k, x in enumerate(example))
                yield f"{family} {inputs[place].name}", others


def drawn(family: str, rng: np.random.Generator, example: Vector, axes: Axes, limit: Domain | None) -> Vector:
    """Return one input of a family, in its domain, with as many bits as a point has."""
    x = rounded(_drawn(family, rng, example))
    return x if limit is None else rounded(limit.project(x, axes.shape))


def _drawn(family: str, rng: np.random.Generator, example: Vector) -> Vector:
    n = example.size
    finite = example[np.isfinite(example)]
    if family == "like":
        return like(rng, finite, n)
    if family in _SCALES:
        return like(rng, finite, n) * _SCALES[family]
    if family == "hundreds":
        return like(rng, finite, n) * (800.0 / max(float(np.abs(finite).max(initial=0.0)), 1e-30))
    if family == "branches":
        near = np.array(_BRANCHES)[rng.integers(0, len(_BRANCHES), n)]
        step = rng.integers(-1, 2, n) * 2.0**-20 * (rng.random(n) < 0.5)
        return np.asarray(near + step)
    if family == "zeros":
        return np.where(rng.random(n) < 0.5, 0.0, like(rng, finite, n))
    if family == "far":
        return np.where(rng.random(n) < 0.5, -1, 1) * rng.uniform(15, 45, n)
    if family == "negated":
        return -like(rng, finite, n)
    if family == "mixed":
        return like(rng, finite, n) * np.exp2(rng.integers(-30, 31, n))
    if family == "constant":
        return np.full(n, rng.integers(1, 9) / 4.0)
    assert family in _BUILT, family
    return build(family, int(rng.integers(2**31)), n, get_format("float64"), (0.0,))


def like(rng: np.random.Generator, example: Vector, n: int) -> Vector:
    """Return numbers of the example's size and signs, in another order and slightly other."""
    if example.size == 0:
        return rng.normal(size=n)
    chosen = example[rng.integers(0, example.size, n)]
    return np.asarray(chosen * (1 + rng.uniform(-0.2, 0.2, n)))


def folded(x: Vector, example: Vector) -> Vector:
    """Return x with the numbers outside of the example's range moved into it."""
    finite = example[np.isfinite(example)]
    if not finite.size:
        return x
    low, high = float(finite.min()), float(finite.max())
    if not high > low:
        return np.full(x.size, low)
    inside = (x >= low) & (x <= high)
    wrapped = low + np.mod(np.where(np.isfinite(x), x, 0.5) * 0.6180339887, 1.0) * (high - low)
    return np.where(inside, x, wrapped)
