"""Good convolutions, poolings, dropout and the residual connection, by sums over the offsets of a kernel."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np

from tests.honest import Many, Real

Offset = tuple[int, ...]
_NUMPY_MODE = {"reflect": "reflect", "replicate": "edge", "circular": "wrap"}


def pair(value: Any, axes: int) -> tuple[int, ...]:
    """Return one number per axis."""
    return (value,) * axes if isinstance(value, int) else tuple(value)


@dataclass(frozen=True)
class Slide:
    """How a kernel slides along the spatial axes: lengths, kernel, stride, dilation, padding, windows."""

    lengths: Offset
    kernel: Offset
    stride: Offset
    dilation: Offset
    before: Offset
    after: Offset
    outputs: Offset

    def offsets(self) -> Iterator[Offset]:
        """Yield the places of the kernel, the last axis fastest."""
        return product(*map(range, self.kernel))

    def slices(self, offset: Offset) -> tuple[slice, ...]:
        """Return what every window meets at a place of the kernel, in the padded input."""
        rows = zip(offset, self.stride, self.dilation, self.outputs, strict=True)
        return tuple(slice(k * d, k * d + (n - 1) * s + 1, s) for k, s, d, n in rows)


def slide(
    shape: Offset, kernel: Offset, stride: Any, padding: Any, dilation: Any, ceil_mode: bool = False
) -> Slide:
    """Return how the kernel slides over x of this shape; a last partial window if `ceil_mode` has one."""
    axes = len(shape) - 2
    strides, dilations = pair(stride, axes), pair(dilation, axes)
    spans = [d * (k - 1) for k, d in zip(kernel, dilations, strict=True)]
    if padding == "same":
        before = [span // 2 for span in spans]
        after = [span - span // 2 for span in spans]
    else:
        before = list(pair(0 if padding == "valid" else padding, axes))
        after = list(before)
    outputs = []
    for i, length in enumerate(shape[2:]):
        free = length + before[i] + after[i] - spans[i] - 1
        count = free // strides[i] + 1
        if ceil_mode and free % strides[i] and count * strides[i] < length + before[i]:
            count += 1
        outputs.append(count)
    return Slide(tuple(shape[2:]), kernel, strides, dilations, tuple(before), tuple(after), tuple(outputs))


def padded(x: Any, at: Slide, mode: str = "zeros", fill: float = 0.0) -> Any:
    """Return x with what stands beside it, and with `fill` as far as a partial window reaches."""
    around = [(0, 0), (0, 0), *zip(at.before, at.after, strict=True)]
    if mode == "zeros":
        wide = np.pad(x, around, constant_values=fill)
    else:
        wide = np.pad(x, around, mode=_NUMPY_MODE[mode])  # type: ignore[call-overload]
    rows = zip(at.outputs, at.stride, at.dilation, at.kernel, wide.shape[2:], strict=True)
    beyond = [max((n - 1) * s + d * (k - 1) + 1 - length, 0) for n, s, d, k, length in rows]
    return np.pad(wide, [(0, 0), (0, 0), *((0, b) for b in beyond)], constant_values=fill)


def unpadded(g: Any, at: Slide, mode: str = "zeros") -> Any:
    """Return the gradient of x from that of the padded x: what stands twice gets both shares."""
    for axis, (length, before, after) in enumerate(zip(at.lengths, at.before, at.after, strict=True), 2):
        moved = np.moveaxis(g, axis, 0)[: length + before + after]
        if mode == "zeros":
            moved = moved[before : before + length]
        else:
            own = np.pad(np.arange(length), (before, after), mode=_NUMPY_MODE[mode])  # type: ignore[call-overload]
            total = np.zeros((length, *moved.shape[1:]), g.dtype)
            np.add.at(total, own, moved)
            moved = total
        g = np.moveaxis(moved, 0, axis)
    return g


def _split(array: Any, groups: int, axis: int) -> Any:
    """Split an axis into (groups, rest)."""
    shape = array.shape
    return array.reshape(*shape[:axis], groups, shape[axis] // groups, *shape[axis + 1 :])


def convolve(
    x: Any,
    weight: Any,
    bias: Any,
    *,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
    padding_mode: str = "zeros",
) -> Any:
    """y[n,o,p] = b[o] + Σ_k w[o,:,k] x[n,:,p s + k d]."""
    at = slide(x.shape, weight.shape[2:], stride, padding, dilation)
    wide = _split(padded(x, at, padding_mode), groups, 1)
    total = np.zeros((x.shape[0], weight.shape[0], *at.outputs), np.result_type(x, weight, bias))
    for offset in at.offsets():
        w = _split(weight[(..., *offset)], groups, 0)
        part = wide[(slice(None), slice(None), slice(None), *at.slices(offset))]
        total += np.einsum("ngc...,goc->ngo...", part, w).reshape(total.shape)
    return total + bias.reshape(-1, *(1 for _ in at.outputs))


def convolve_vjp(
    inputs: Sequence[Any],
    c: Any,
    *,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
    padding_mode: str = "zeros",
) -> tuple[Any, Any, Any]:
    """Gradients by the same walk over the kernel."""
    x, weight, _ = inputs
    at = slide(x.shape, weight.shape[2:], stride, padding, dilation)
    wide = _split(padded(x, at, padding_mode), groups, 1)
    kind = np.result_type(x, weight, c)
    back, dw = np.zeros(wide.shape, kind), np.zeros(weight.shape, kind)
    outer = _split(c, groups, 1)
    for offset in at.offsets():
        w = _split(weight[(..., *offset)], groups, 0)
        place = (slice(None), slice(None), slice(None), *at.slices(offset))
        back[place] += np.einsum("ngo...,goc->ngc...", outer, w)
        met = wide[place]
        flat = (a.reshape(*a.shape[:3], -1) for a in (outer, met))
        dw[(..., *offset)] = np.einsum("ngop,ngcp->goc", *flat).reshape(weight.shape[:2])
    back = back.reshape(x.shape[0], x.shape[1], *back.shape[3:])
    return unpadded(back, at, padding_mode), dw, c.sum(axis=(0, *range(2, c.ndim)))


def _pool(x: Any, kernel_size: Any, stride: Any, padding: Any, dilation: Any, ceil_mode: bool) -> Slide:
    kernel = pair(kernel_size, x.ndim - 2)
    return slide(x.shape, kernel, kernel if stride is None else stride, padding, dilation, ceil_mode)


def _stack(wide: Any, at: Slide) -> Any:
    return np.stack([wide[(slice(None), slice(None), *at.slices(offset))] for offset in at.offsets()])


def max_pool(
    x: Real,
    *,
    kernel_size: Any = 2,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
) -> Real:
    """The largest element of every window."""
    at = _pool(x, kernel_size, stride, padding, dilation, ceil_mode)
    return _stack(padded(x, at, fill=-math.inf), at).max(axis=0)


def max_pool_chosen(
    x: Real,
    *,
    kernel_size: Any = 2,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
) -> tuple[Slide, Any, Any]:
    """Return the walk, the members of every window, and the one kept: the first largest, or the last NaN."""
    at = _pool(x, kernel_size, stride, padding, dilation, ceil_mode)
    members = _stack(padded(x, at, fill=-math.inf), at)
    real = _stack(padded(np.ones_like(x), at), at) > 0
    with np.errstate(invalid="ignore"):
        first = np.argmax((members == members.max(axis=0)) & real, axis=0)
    odd = np.isnan(members)
    last = len(members) - 1 - np.argmax(odd[::-1], axis=0)
    return at, members, np.where(odd.any(axis=0), last, first)


def scattered(shares: Sequence[Real], x: Real, at: Slide) -> Real:
    """Return the gradient of x from one share per place of the kernel."""
    back = np.zeros_like(padded(x, at))
    for offset, part in zip(at.offsets(), shares, strict=True):
        back[(slice(None), slice(None), *at.slices(offset))] += part
    return unpadded(back, at)


def max_pool_vjp(inputs: Sequence[Real], c: Real, **options: Any) -> tuple[Real]:
    """Hand the cotangent to the element that is kept."""
    at, members, chosen = max_pool_chosen(inputs[0], **options)
    return (scattered([np.where(chosen == i, c, 0.0) for i in range(len(members))], inputs[0], at),)


def pool_counts(at: Slide, count_include_pad: bool) -> Real:
    """Return how many elements every window has, with those of the padding or without."""
    inner = np.full((1, 1, *at.lengths), 1.0)
    return _stack(padded(inner, at, fill=0.0) if not count_include_pad else _ones(at), at).sum(axis=0)


def _ones(at: Slide) -> Real:
    """Return 1 in the input and its padding, and 0 as far as a partial window reaches beyond."""
    around = [n + b + a for n, b, a in zip(at.lengths, at.before, at.after, strict=True)]
    whole = np.zeros(padded(np.zeros((1, 1, *at.lengths)), at).shape)
    whole[(0, 0, *(slice(n) for n in around))] = 1.0
    return whole


def avg_pool(
    x: Any,
    *,
    kernel_size: Any = 2,
    stride: Any = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Any:
    """The mean of every window."""
    at = _pool(x, kernel_size, stride, padding, 1, ceil_mode)
    divisor = pool_counts(at, count_include_pad) if divisor_override is None else divisor_override
    return _stack(padded(x, at), at).sum(axis=0) / divisor


def avg_pool_vjp(
    inputs: Sequence[Any],
    c: Any,
    *,
    kernel_size: Any = 2,
    stride: Any = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> tuple[Any]:
    """Hand every element of a window the same share."""
    at = _pool(inputs[0], kernel_size, stride, padding, 1, ceil_mode)
    divisor = pool_counts(at, count_include_pad) if divisor_override is None else divisor_override
    return (scattered([c / divisor for _ in at.offsets()], inputs[0].real, at),)


def _dropout(x: Any, mask: Any, *, p: float = 0.5) -> Any:
    return x * mask * (0.0 if p == 1 else 1.0 / (1.0 - p))


LAYERS: dict[str, Many] = {
    "conv1d": Many(convolve, convolve_vjp),
    "conv2d": Many(convolve, convolve_vjp),
    "max_pool1d": Many(max_pool, max_pool_vjp, lambda inputs, c, d, **o: (np.zeros_like(inputs[0]),)),
    "max_pool2d": Many(max_pool, max_pool_vjp, lambda inputs, c, d, **o: (np.zeros_like(inputs[0]),)),
    "avg_pool1d": Many(avg_pool, avg_pool_vjp),
    "avg_pool2d": Many(avg_pool, avg_pool_vjp),
    "dropout": Many(_dropout, lambda inputs, c, p=0.5: (_dropout(c, inputs[1], p=p), None)),  # type: ignore[return-value,arg-type]
    "residual": Many(
        lambda x, branch, scale=1.0: x + scale * branch, lambda inputs, c, scale=1.0: (c * 1.0, scale * c)
    ),
}
