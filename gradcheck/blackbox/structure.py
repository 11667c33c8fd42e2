"""Which outputs can depend on which inputs: found by perturbing slabs, verified by random probes.

A full Jacobian costs one evaluation per column only if nothing is known. For an elementwise operation one
evaluation gives all of it, for a row-wise one as many as a row has columns. Each axis of an input is put
into one class:

separable   every output depends on elements with one coordinate on this axis;
windowed    every output depends on few neighbouring coordinates;
mixed       anything else.

Coordinates are told apart by their bits: for each bit, the elements whose coordinate has it are perturbed,
then those whose coordinate has not. An output that reacts to both depends on two coordinates, and any two
coordinates differ in some bit, so that one single breach by one element shows. Columns that no output can see
together share a colour and are perturbed at once; outputs that share no input share a cotangent.
Source: Curtis, Powell & Reid 1974.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gradcheck.blackbox.differences import MOST_NUMBERS, step_sizes
from gradcheck.blackbox.sets import Index, Sets
from gradcheck.subjects.function import Axes, CallFailed, Function, Point, Vector, one, repeated

# A reaction smaller than this, relative to the output, is rounding: batches may sum in another order.
_QUIET = 1e-13
# A Jacobian of so few entries is taken as it is: looking for structure would cost as much.
_FEW = 64
# Each probe sees a single breach with probability 1/4: the chance to miss one is (3/4)^50 = 6e-7.
PROBES = 50
_WINDOWS = (8, 32)
# A Jacobian without structure is not taken beyond so many entries.
MOST_ENTRIES = 4_000_000


@dataclass(frozen=True)
class Structure:
    """How the Jacobian of one input is compressed.

    `directions` are the columns that are perturbed together; `column` (C, m) which of each set an output
    sees, -1 for none; `groups` the outputs that share a cotangent; `kind` names the classes of the axes;
    `probed` is how many random probes found no breach.
    """

    directions: Sets
    column: Index
    groups: Sets
    kind: str
    probed: int = 0

    @property
    def colours(self) -> int:
        """The number of columns that have to be taken one after the other."""
        return len(self.directions)


def dense(inputs: int, outputs: int) -> Structure:
    """Return the structure of a Jacobian about which nothing is known."""
    column = np.repeat(np.arange(inputs)[:, None], outputs, axis=1)
    return Structure(_each(inputs), column, _each(outputs), "dense")


def _each(count: int) -> Sets:
    return Sets(np.arange(count), count)


def sampled(columns: Index, inputs: int, outputs: int) -> Structure:
    """Return the structure in which some columns are taken, and nothing is known."""
    labels = np.full(inputs, -1)
    labels[columns] = np.arange(len(columns))
    column = np.repeat(columns[:, None], outputs, axis=1)
    return Structure(Sets(labels, len(columns)), column, _each(outputs), "sampled")


def find(function: Function, point: Point, place: int, seed: int) -> Structure | None:
    """Return the structure of the Jacobian with respect to one input, near a point.

    Where nothing is known and the entries are more than can be taken one by one, there is none.
    """
    axes = function.inputs[place]
    n, m = axes.size, function.size
    if n * m <= _FEW or m <= 1 or n <= 1:
        return dense(n, m)
    rng = np.random.default_rng([seed, 11, place])
    reacts = _Reactions(function, point, place, rng)
    try:
        classes = [_classify(reacts, axes, axis, function.output_shapes) for axis in range(len(axes.shape))]
        built = None if all(kind.name == "mixed" for kind in classes) else _build(axes, classes, m)
        if built is not None and _verified(reacts, axes, classes):
            return built
    except CallFailed:
        # The function refuses perturbed inputs: a matrix is then no longer positive definite, say.
        pass
    return dense(n, m) if n * m <= MOST_ENTRIES else None


@dataclass(frozen=True)
class _Axis:
    """The class of an axis; `low` (m,) is the coordinate, or the first of the window, that an output sees."""

    name: str
    low: Index
    width: int


class _Reactions:
    """Which outputs react when a set of elements is perturbed."""

    def __init__(self, function: Function, point: Point, place: int, rng: np.random.Generator) -> None:
        self._function, self._point, self._place = function, point, place
        x = point[place]
        # To the other side of zero, and away from an even function's equal value: that leaves a flat part.
        far = np.where(x == 0, step_sizes(x), -x) * rng.uniform(1.1, 2.4, x.size)
        near = x * rng.uniform(1.1, 1.6, x.size) + (x == 0) * step_sizes(x)
        self._moved = far if self._accepts(far) else near

    def _accepts(self, moved: Vector) -> bool:
        """Whether the function is defined there; one that raises or has no number is not."""
        point = list(self._point)
        point[self._place] = moved
        try:
            there = one(self._function, tuple(point))
        except CallFailed:
            return False
        return bool((np.isnan(there) <= np.isnan(one(self._function, self._point))).all())

    def __call__(self, masks: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Return, for each mask (P, n), which outputs (P, m) react."""
        count = len(masks)
        held = sum(x.size for x in self._point) + self._function.size
        per = max(2, MOST_NUMBERS // max(1, held))
        parts = [self._some(masks[start : start + per]) for start in range(0, count, per)]
        return np.concatenate(parts)

    def _some(self, masks: NDArray[np.bool_]) -> NDArray[np.bool_]:
        batch = repeated(self._point, len(masks) + 1)
        x = self._point[self._place]
        with np.errstate(all="ignore"):
            batch[self._place][1:] = np.where(masks, self._moved, x)
            outputs = self._function.values(tuple(batch))
            base, moved = outputs[:1], outputs[1:]
            floor = _QUIET * np.maximum(np.abs(base), np.abs(moved))
            quiet = (np.abs(moved - base) <= floor) | (moved == base) | (np.isnan(moved) & np.isnan(base))
            return np.asarray(~quiet)


def _classify(reacts: _Reactions, axes: Axes, axis: int, output_shapes: tuple[tuple[int, ...], ...]) -> _Axis:
    length, shape = axes.shape[axis], axes.shape
    coordinate = np.broadcast_to(
        np.arange(length).reshape([-1 if k == axis else 1 for k in range(len(shape))]), shape
    ).ravel()
    if length == 1:
        probe = reacts(np.ones((1, coordinate.size), dtype=bool))
        return _Axis("separable", np.zeros(probe.shape[1], dtype=np.int64), 1)
    bits = range(math.ceil(math.log2(length)))
    masks = np.array([(coordinate >> bit) & 1 == value for bit in bits for value in (1, 0)])
    seen = reacts(masks).reshape(len(bits), 2, -1)
    if not (seen[:, 0] & seen[:, 1]).any():
        low = np.minimum(sum(seen[bit, 0].astype(np.int64) << bit for bit in bits), length - 1)
        silent = np.asarray(~(seen[:, 0] | seen[:, 1]).all(axis=0))
        return _Axis("separable", _by_analogy(np.asarray(low), silent, length, output_shapes), 1)
    for period in _WINDOWS:
        found = _window(reacts, coordinate, length, period)
        if found is not None:
            return _Axis("windowed", found, period)
    return _Axis("mixed", np.zeros(seen.shape[2], dtype=np.int64), length)


def _by_analogy(
    low: Index, silent: NDArray[np.bool_], length: int, output_shapes: tuple[tuple[int, ...], ...]
) -> Index:
    """Give outputs that reacted to nothing the coordinate that their neighbours have."""
    if not silent.any() or len(output_shapes) != 1:
        return low
    for coordinate, extent in zip(np.indices(output_shapes[0]), output_shapes[0], strict=True):
        flat = coordinate.ravel()
        if extent == length and (low == flat)[~silent].all():
            return np.where(silent, flat, low)
    return low


def _window(reacts: _Reactions, coordinate: Index, length: int, period: int) -> Index | None:
    """Return where the window of each output begins, if none is wider than half a period."""
    if length < 3 * period:
        return None
    half = period // 2
    residues = reacts(np.array([coordinate % period == r for r in range(period)]))
    if (residues.sum(0) > half).any():
        return None
    blocks = reacts(np.array([coordinate // (period // 2) == b for b in range(-(-length // (period // 2)))]))
    if (blocks.sum(0) > 2).any():
        return None
    first = np.where(blocks.any(0), blocks.argmax(0), 0)
    two = blocks.sum(0) == 2
    if (two & ~blocks[np.minimum(first + 1, len(blocks) - 1), np.arange(blocks.shape[1])]).any():
        return None
    # All coordinates lie in two neighbouring blocks of half a period: a period from the first of them.
    return np.asarray(first * half, dtype=np.int64)


def _build(axes: Axes, classes: list[_Axis], outputs: int) -> Structure | None:
    """Return the compression that the classes of the axes allow, or None if it saves nothing."""
    shape = axes.shape
    spans = [1 if c.name == "separable" else c.width for c in classes]
    colours = math.prod(spans)
    n = axes.size
    if colours * 2 > n or colours * outputs > 16 * MOST_NUMBERS:
        return None
    grid = np.unravel_index(np.arange(n), shape)
    own = np.zeros(n, dtype=np.int64)
    for c, span, coordinate in zip(classes, spans, grid, strict=True):
        part = np.zeros(n, dtype=np.int64) if c.name == "separable" else coordinate % span
        own = own * span + part
    parts = np.unravel_index(np.arange(colours), spans)
    flat = np.zeros((colours, outputs), dtype=np.int64)
    outside = np.zeros((colours, outputs), dtype=bool)
    for c, span, part, length in zip(classes, spans, parts, shape, strict=True):
        if c.name == "separable":
            where = np.broadcast_to(c.low[None], flat.shape)
        elif c.name == "mixed":
            where = np.broadcast_to(part[:, None], flat.shape)
        else:
            where = c.low[None] + (part[:, None] - c.low[None]) % span
        outside |= where >= length
        flat = flat * length + np.minimum(where, length - 1)
    column = np.where(outside, -1, flat)
    kind = ", ".join(c.name for c in classes)
    return Structure(Sets(own, colours), column, _output_groups(classes, outputs), kind, PROBES)


def _output_groups(classes: list[_Axis], outputs: int) -> Sets:
    """Return which outputs may share a cotangent: those whose inputs are apart."""
    cell = np.zeros(outputs, dtype=np.int64)
    parity = np.zeros(outputs, dtype=np.int64)
    for c in classes:
        if c.name == "mixed":
            continue
        block = c.low if c.name == "separable" else c.low // c.width
        _, rank = np.unique(block, return_inverse=True)
        cell = cell * (int(rank.max()) + 1) + rank
        if c.name == "windowed":
            # A window reaches at most into the next block.
            parity = parity * 2 + block % 2
    _, cell = np.unique(cell, return_inverse=True)
    order = np.lexsort((np.arange(outputs), cell))
    starts = np.searchsorted(cell[order], np.arange(cell.max() + 1))
    rank = np.empty(outputs, dtype=np.int64)
    rank[order] = np.arange(outputs) - starts[cell[order]]
    _, colour = np.unique(rank * (int(parity.max()) + 1) + parity, return_inverse=True)
    return Sets(colour, int(colour.max()) + 1)


def _verified(reacts: _Reactions, axes: Axes, classes: list[_Axis]) -> bool:
    """Whether no output reacts to elements that it does not depend on, in random halves of the input."""
    grid = np.unravel_index(np.arange(axes.size), axes.shape)
    rng = np.random.default_rng(axes.size)
    chosen = np.ones((PROBES, axes.size), dtype=bool)
    reached = np.zeros((PROBES, len(classes[0].low)), dtype=bool)
    # A set of boxes, one half of the coordinates of one axis that is not mixed: an output whose own
    # coordinates are not in it must not react.
    usable = [k for k, c in enumerate(classes) if c.name != "mixed"]
    for probe in range(PROBES):
        axis = usable[probe % len(usable)]
        c, length = classes[axis], axes.shape[axis]
        half = rng.random(length) < 0.5
        chosen[probe] = half[grid[axis]]
        offsets = np.arange(c.width if c.name == "windowed" else 1)
        seen = np.minimum(c.low[:, None] + offsets, length - 1)
        reached[probe] = half[seen].any(axis=1)
    return not (reacts(chosen) & ~reached).any()
