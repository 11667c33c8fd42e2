"""Which elements of an input every window of a convolution or a pooling meets, as tables of indices.

All spatial axes are flattened to one, so a text reads the same for one axis and for two: it gathers by a
table, and its gradient gathers by the inverse table.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gradcheck.errors import UsageError

Table = NDArray[np.int64]

PADDING_MODES = ("zeros", "reflect", "replicate", "circular")
_NUMPY_MODE = {"reflect": "reflect", "replicate": "edge", "circular": "wrap"}


@dataclass(frozen=True, eq=False)
class Windows:
    """Windows over an input of `size` elements.

    `elements[p, k]` is the element at slot k of window p, `size` where there is none. `windows[l, m]` and
    `slots[l, m]` are the places that element l has in windows, the number of windows and of slots where
    it has fewer than others. `padded[p]` counts the slots of window p inside the padded input.
    """

    size: int
    outputs: tuple[int, ...]
    elements: Table
    windows: Table
    slots: Table
    padded: Table


@dataclass(frozen=True)
class Axis:
    """One spatial axis: its length, the kernel's, and how the kernel moves."""

    length: int
    kernel: int
    stride: int
    before: int
    after: int
    dilation: int
    ceil: bool = False

    @property
    def outputs(self) -> int:
        """The number of windows. A last one that is not full starts inside the input or its left padding."""
        free = self.length + self.before + self.after - self.dilation * (self.kernel - 1) - 1
        count = (free + (self.stride - 1 if self.ceil else 0)) // self.stride + 1
        late = self.ceil and (count - 1) * self.stride >= self.length + self.before
        return count - 1 if late else count


def per_axis(name: str, value: Any, axes: int, least: int) -> tuple[int, ...]:
    """Return one integer per axis of an option that is one integer or one per axis."""
    given = (value,) * axes if isinstance(value, int) else value
    wanted = "an integer" if axes == 1 else f"an integer or {axes} of them"
    if isinstance(given, tuple | list) and len(given) == axes and all(_is_size(v, least) for v in given):
        return tuple(given)
    raise UsageError(f"{name}={value!r}, expected {wanted}, at least {least}")


def _is_size(value: Any, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


@lru_cache(maxsize=512)
def tabulate(axes: tuple[Axis, ...], mode: str = "zeros") -> Windows:
    """Return the tables of the windows along `axes`, the input padded in one of `PADDING_MODES`."""
    if mode not in PADDING_MODES:
        raise UsageError(f"padding_mode={mode!r} is none of {', '.join(map(repr, PADDING_MODES))}")
    for axis in axes:
        _check(axis, mode)
    size = math.prod(axis.length for axis in axes)
    found = _joined([_along(axis, mode) for axis in axes], [axis.length for axis in axes])
    elements = np.where(found < 0, size, found)
    windows, slots = _inverse(elements, size)
    padded = _joined([_inside(axis) for axis in axes], [1] * len(axes))
    outputs = tuple(axis.outputs for axis in axes)
    return Windows(size, outputs, elements, windows, slots, (padded >= 0).sum(axis=-1))


def _check(axis: Axis, mode: str) -> None:
    span, padded = axis.dilation * (axis.kernel - 1) + 1, axis.length + axis.before + axis.after
    if axis.length < 1 or axis.kernel < 1 or span > padded:
        raise UsageError(f"a kernel that spans {span} elements does not fit into {padded} with padding")
    most = {"zeros": math.inf, "replicate": math.inf, "circular": axis.length, "reflect": axis.length - 1}
    if max(axis.before, axis.after) > most[mode]:
        raise UsageError(f"padding={axis.before} of mode {mode!r}: at most {most[mode]} beside {axis.length}")


def _along(axis: Axis, mode: str) -> Table:
    """Return the element of this axis at each slot of each window; -1 where there is none."""
    own = np.arange(axis.length)
    around = (axis.before, axis.after)
    if mode == "zeros":
        padded = np.pad(own, around, constant_values=-1)
    else:
        padded = np.pad(own, around, mode=_NUMPY_MODE[mode])  # type: ignore[call-overload]
    return _windows(axis, padded)


def _inside(axis: Axis) -> Table:
    """Return 0 at each slot that is inside the padded input, -1 at the others."""
    return _windows(axis, np.zeros(axis.length + axis.before + axis.after, dtype=np.int64))


def _windows(axis: Axis, padded: Table) -> Table:
    starts = axis.stride * np.arange(axis.outputs)
    places = starts[:, None] + axis.dilation * np.arange(axis.kernel)
    beyond = max(int(places.max()) + 1 - padded.size, 0)
    return np.asarray(np.pad(padded, (0, beyond), constant_values=-1)[places])


def _joined(parts: Sequence[Table], lengths: Sequence[int]) -> Table:
    """Combine one table per axis into one about flattened axes, windows by slots."""
    total = parts[0]
    for part, length in zip(parts[1:], lengths[1:], strict=True):
        left, right = total[:, None, :, None], part[None, :, None, :]
        both = np.where((left < 0) | (right < 0), -1, left * length + right)
        total = both.reshape(total.shape[0] * part.shape[0], -1)
    return total


def _inverse(elements: Table, size: int) -> tuple[Table, Table]:
    """Return the windows and the slots in which each element of the input stands."""
    count, slots = elements.shape
    flat = elements.ravel()
    order = np.argsort(flat, kind="stable")
    order = order[flat[order] < size]
    owner = flat[order]
    rank = np.arange(order.size) - np.searchsorted(owner, np.arange(size))[owner]
    table = np.full((size, max(int(rank.max(initial=0)) + 1, 1)), count * slots)
    table[owner, rank] = order
    return table // slots, np.where(table == count * slots, slots, table % slots)


def gathered(x: Any, table: Table) -> Any:
    """Return x[..., table] of a flattened array, zero where the table points one past its end."""
    return np.take(np.concatenate([x, np.zeros_like(x[..., :1])], axis=-1), table, axis=-1)
