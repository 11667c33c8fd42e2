"""Where a black box is looked at: the example itself, other values of its kind, and values of other kinds."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from gradcheck.blackbox.differences import rounded
from gradcheck.blackbox.domains import Domain
from gradcheck.families import build
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
