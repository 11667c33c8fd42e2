"""Other sizes of a function's inputs: which axes it lets vary, found by trying."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np

from gradcheck.errors import UsageError
from gradcheck.subjects.function import CallFailed, Resizable

# One, few, odd and even, around the widths of vector units.
SIZES = (1, 2, 3, 5, 8, 9, 4, 7, 16, 17, 33, 64, 65, 130)
# How many numbers the inputs and the outputs may have.
_MOST = 20_000
_OUTPUTS = 2_000_000
Axis = tuple[int, int]


@dataclass(frozen=True)
class Sized:
    """A function at other sizes, and what was changed, in words; `axes` are those that were made longer.

    An unusual shape, with an axis more or less, may be accepted by the forward pass by accident.
    """

    function: Resizable
    label: str
    axes: str = ""
    unusual: bool = False

    @property
    def branches(self) -> str:
        """What this is called at the points that code branches at."""
        return self.axes and f"branches, {self.axes}"


def varied(
    function: Resizable, seed: int, fits: Callable[[Resizable], bool] = lambda sized: sized.size <= _OUTPUTS
) -> Iterator[Sized | None]:
    """Yield the function at other sizes: every set of axes that may vary together, at every size.

    Axes of one length may have to change together (the inner axes of a product); each is tried alone first.
    Beyond a size that does not fit, axes are not made longer. None is yielded for what was tried in vain, so
    that the caller can look at the clock.
    """
    shapes = function.leaf_shapes
    free = [
        (leaf, axis)
        for leaf, shape in enumerate(shapes)
        if not function.fixed[leaf]
        for axis in range(len(shape))
    ]
    by_length: dict[int, list[Axis]] = defaultdict(list)
    for leaf, axis in free:
        by_length[shapes[leaf][axis]].append((leaf, axis))
    sets: list[tuple[Axis, ...]] = []
    parts: set[tuple[Axis, ...]] = set()
    for axes in by_length.values():
        sets += [(axis,) for axis in axes]
        parts |= {(axis,) for axis in axes if len({leaf for leaf, _ in axes}) > 1}
        if len(axes) > 1:
            sets.append(tuple(axes))
            sets += [pair for pair in _pairs(axes) if len(axes) > 2]
    accepted = []
    for chosen in sets:
        if _accepts(function, chosen, shapes, seed):
            accepted.append(chosen)
        yield None
    too_long: dict[tuple[Axis, ...], int] = {}
    for size in function.lengths or SIZES:
        for chosen in accepted:
            if size >= too_long.get(chosen, size + 1):
                continue
            made = _at(function, chosen, size, seed)
            if made is not None and not fits(made.function):
                too_long[chosen] = size
            elif made is not None and chosen in parts:
                # One of several equal axes alone: what is accepted may be broadcast by accident.
                made = replace(made, unusual=True)
            yield made
    yield from _squares(function, accepted, shapes, seed)
    yield from _reshaped(function, seed)


def _pairs(axes: list[Axis]) -> Iterator[tuple[Axis, ...]]:
    for k, first in enumerate(axes):
        for second in axes[k + 1 :]:
            if first[0] != second[0]:
                yield (first, second)


def _accepts(
    function: Resizable, axes: tuple[Axis, ...], shapes: tuple[tuple[int, ...], ...], seed: int
) -> bool:
    length = shapes[axes[0][0]][axes[0][1]]
    return any(_at(function, axes, length + more, seed) is not None for more in (1, 2))


def _at(function: Resizable, axes: tuple[Axis, ...], size: int, seed: int) -> Sized | None:
    shapes = [list(shape) for shape in function.leaf_shapes]
    for leaf, axis in axes:
        shapes[leaf][axis] = size
    made = _made(function, tuple(tuple(shape) for shape in shapes), seed, size)
    if made is None:
        return None
    label = ", ".join(f"axis {axis} of {function.leaf_names[leaf]}" for leaf, axis in axes)
    return Sized(made, f"{label} of length {size}", axes=label if size > 1 else "")


def _made(function: Resizable, wanted: tuple[tuple[int, ...], ...], seed: int, size: int) -> Resizable | None:
    """Return the function with these shapes, or None where it does not accept them."""
    if wanted == function.leaf_shapes or sum(int(np.prod(s)) for s in wanted) > _MOST:
        return None
    try:
        made = function.resized(wanted, np.random.default_rng([seed, size, len(wanted[0])]))
        return None if made.size == 0 and function.size > 0 else made
    except (CallFailed, UsageError):
        return None


def _squares(
    function: Resizable,
    accepted: list[tuple[Axis, ...]],
    shapes: tuple[tuple[int, ...], ...],
    seed: int,
) -> Iterator[Sized | None]:
    """Yield sizes at which two axes that differ are equal: a transpose that is missing hides there."""
    lengths = sorted({shapes[leaf][axis] for axes in accepted for leaf, axis in axes})
    for axes in accepted:
        for length in lengths:
            if length not in SIZES:
                yield _at(function, axes, length, seed)


def _reshaped(function: Resizable, seed: int) -> Iterator[Sized | None]:
    """Yield equal lengths everywhere, and one axis more or less: broadcasting and flattening hide there."""
    shapes, fixed = function.leaf_shapes, function.fixed
    deepest = max((len(s) for s, f in zip(shapes, fixed, strict=True) if not f), default=0)
    tried = []
    for n in (3, 2):
        equal = tuple(s if f else (n,) * len(s) for s, f in zip(shapes, fixed, strict=True))
        tried.append((equal, f"all axes of length {n}"))
        for leaf, shape in enumerate(equal):
            if not fixed[leaf] and shape and len(shape) < deepest:
                for other in ((*shape, 1), (1, *shape)):
                    changed = (*equal[:leaf], other, *equal[leaf + 1 :])
                    tried.append((changed, f"{function.leaf_names[leaf]} of shape {other}, all other {n}"))
    for label, change in (
        ("one more axis in front", lambda s: (3, *s)),
        ("one more axis behind", lambda s: (*s, 2)),
        ("the first axis left out", lambda s: s[1:]),
    ):
        tried.append((tuple(s if f else change(s) for s, f in zip(shapes, fixed, strict=True)), label))
    for leaf, shape in enumerate(shapes):
        if not fixed[leaf] and len(shapes) > 1:
            for other in ((*shape, 1), (1, *shape), shape[1:]):
                changed = (*shapes[:leaf], other, *shapes[leaf + 1 :])
                tried.append((changed, f"{function.leaf_names[leaf]} of shape {other}"))
    for wanted, label in tried:
        made = _made(function, wanted, seed, 3)
        yield None if made is None else Sized(made, label, unusual=True)
