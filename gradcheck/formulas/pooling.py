"""Pooling over one and two spatial axes: the largest element of every window, or its mean."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gradcheck.errors import UsageError
from gradcheck.formulas.windows import Axis, Table, Windows, gathered, per_axis, tabulate
from gradcheck.records import Arrangement, Choose, Formula, Option


@dataclass(frozen=True, eq=False)
class Pools:
    """The windows of a pooling without their padding, over a flattened input.

    `members[j]` is the j-th element of every window, in the order of the axes. Where a window has fewer than
    others, its first element stands again and `own[j]` is False. `places[l, m]` says where element l stands
    in the members, flattened; one past their end where it stands in fewer windows than others.
    """

    outputs: tuple[int, ...]
    members: Table
    own: NDArray[np.bool_]
    places: Table


def _max_pool(x: Any, *, kernel_size: Any, stride: Any, padding: Any, dilation: Any, ceil_mode: bool) -> Any:
    """y[n,c,p] = max_k x[n,c,p·stride + k·dilation - padding], over the elements that there are.

    x (N, C, *L); y (N, C, *outputs). A stride of None is the kernel's size. With `ceil_mode` a last window
    need not be full, but starts inside the input or its left padding.
    """
    pools = _pools(x.shape, kernel_size, stride, padding, dilation, ceil_mode)
    return np.reshape(np.max(_members(x, pools), axis=2), (*x.shape[:2], *pools.outputs))


def _max_pool_vjp(
    inputs: tuple[Any],
    cotangent: Any,
    *,
    kernel_size: Any,
    stride: Any,
    padding: Any,
    dilation: Any,
    ceil_mode: bool,
) -> tuple[Any]:
    """dx[l] = Σ dy[p] over the windows that keep element l: the first of the largest, or the last NaN."""
    (x,) = inputs
    pools = _pools(x.shape, kernel_size, stride, padding, dilation, ceil_mode)
    outer = _beside_members(cotangent)
    shares = [np.where(mask, outer, np.zeros_like(outer)) for mask in _kept(_members(x, pools), pools)]
    return (_returned(np.concatenate(shares, axis=2), pools, x.shape),)


def _lowest(inputs: tuple[Any], cotangent: Any, **options: Any) -> tuple[Any]:
    """The least generalised gradient: each element of a tie takes dy where that is negative, else nothing."""
    return _at_ties(inputs, cotangent, np.minimum(cotangent, 0), **options)


def _highest(inputs: tuple[Any], cotangent: Any, **options: Any) -> tuple[Any]:
    """The greatest generalised gradient: each element of a tie takes dy where that is positive."""
    return _at_ties(inputs, cotangent, np.maximum(cotangent, 0), **options)


def _at_ties(inputs: tuple[Any], cotangent: Any, shared: Any, **options: Any) -> tuple[Any]:
    (x,) = inputs
    pools = _pools(x.shape, **options)
    members = _members(x, pools)
    zeros = np.zeros_like(members)
    largest = (members >= np.max(members, axis=2, keepdims=True)) & pools.own
    count = np.sum(np.where(largest, np.ones_like(members), zeros), axis=2, keepdims=True)
    share = np.where(count < 1.5, _beside_members(cotangent), _beside_members(shared))
    return (_returned(np.where(largest, share, zeros), pools, x.shape),)


def _average_pool(
    x: Any,
    *,
    kernel_size: Any,
    stride: Any,
    padding: Any,
    ceil_mode: bool,
    count_include_pad: bool,
    divisor_override: int | None = None,
) -> Any:
    """y[n,c,p] = (1/m) Σ_k x[n,c,p·stride + k - padding], m the number of elements, padding counted or not.

    x (N, C, *L); y (N, C, *outputs). A last window that is not full counts what is inside the padded input.
    """
    at = _averaged(x.shape, kernel_size, stride, padding, ceil_mode)
    total = np.sum(gathered(_flat(x), at.elements), axis=-1)
    mean = total / _divisor(at, count_include_pad, divisor_override)
    return np.reshape(mean, (*x.shape[:2], *at.outputs))


def _average_pool_vjp(
    inputs: tuple[Any],
    cotangent: Any,
    *,
    kernel_size: Any,
    stride: Any,
    padding: Any,
    ceil_mode: bool,
    count_include_pad: bool,
    divisor_override: int | None = None,
) -> tuple[Any]:
    """dx[l] = Σ dy[p] / m over the windows that hold element l."""
    (x,) = inputs
    at = _averaged(x.shape, kernel_size, stride, padding, ceil_mode)
    shares = _flat(cotangent) / _divisor(at, count_include_pad, divisor_override)
    return (np.reshape(np.sum(gathered(shares, at.windows), axis=-1), x.shape),)


def _flat(array: Any) -> Any:
    return np.reshape(array, (*array.shape[:2], math.prod(array.shape[2:])))


def _members(array: Any, pools: Pools) -> Any:
    """Return (N, C, members, windows)."""
    return np.take(_flat(array), pools.members, axis=-1)


def _beside_members(array: Any) -> Any:
    return _flat(array)[:, :, None, :]


def _kept(members: Any, pools: Pools) -> list[Any]:
    """Return, per member, where a scan keeps it: a larger one replaces what was kept, and so does a NaN."""
    steps = [members[:, :, place : place + 1] for place in range(len(pools.members))]
    best = steps[0]
    replaces: list[Any] = [pools.own[:1]]
    for place, step in enumerate(steps[1:], start=1):
        mask = ((step > best) | (step != step)) & pools.own[place : place + 1]
        best = np.where(mask, step, best)
        replaces.append(mask)
    kept, later = [replaces[-1]], replaces[-1]
    for mask in replaces[-2::-1]:
        kept.append(mask & ~later)
        later = mask | later
    return kept[::-1]


def _returned(shares: Any, pools: Pools, shape: tuple[int, ...]) -> Any:
    """Sum what each element gets from the windows that it stands in."""
    flat = np.reshape(shares, (*shape[:2], pools.members.size))
    return np.reshape(np.sum(gathered(flat, pools.places), axis=-1), shape)


def _divisor(at: Windows, count_include_pad: bool, divisor_override: int | None) -> Any:
    """Return one divisor, or one per window in a type that widens no float format."""
    if divisor_override is not None:
        if not isinstance(divisor_override, int) or divisor_override == 0:
            raise UsageError(f"divisor_override={divisor_override!r}, expected an integer other than 0")
        return divisor_override
    count = at.padded if count_include_pad else (at.elements < at.size).sum(axis=-1)
    return count.astype(np.int16)


def _pools(
    shape: tuple[int, ...], kernel_size: Any, stride: Any, padding: Any, dilation: Any, ceil_mode: bool
) -> Pools:
    return _pooled(_axes(shape, kernel_size, stride, padding, dilation, ceil_mode))


def _averaged(
    shape: tuple[int, ...], kernel_size: Any, stride: Any, padding: Any, ceil_mode: bool
) -> Windows:
    return tabulate(_axes(shape, kernel_size, stride, padding, 1, ceil_mode))


def _axes(
    shape: tuple[int, ...], kernel_size: Any, stride: Any, padding: Any, dilation: Any, ceil_mode: bool
) -> tuple[Axis, ...]:
    count = len(shape) - 2
    if count < 1:
        raise UsageError(f"x of shape {shape}: expected (N, C, ...)")
    kernels = per_axis("kernel_size", kernel_size, count, 1)
    strides = kernels if stride is None else per_axis("stride", stride, count, 1)
    paddings, dilations = per_axis("padding", padding, count, 0), per_axis("dilation", dilation, count, 1)
    if any(2 * pad > kernel for pad, kernel in zip(paddings, kernels, strict=True)):
        raise UsageError(f"padding={padding!r}, expected at most half of kernel_size={kernel_size!r}")
    rows = zip(shape[2:], kernels, strides, paddings, dilations, strict=True)
    return tuple(Axis(n, k, s, pad, pad, gap, bool(ceil_mode)) for n, k, s, pad, gap in rows)


@lru_cache(maxsize=512)
def _pooled(axes: tuple[Axis, ...]) -> Pools:
    at = tabulate(axes)
    real = at.elements < at.size
    if not real.any(axis=1).all():
        raise UsageError("a window holds padding alone, and nothing is the largest of no elements")
    most = int(real.sum(axis=1).max())
    order = np.argsort(~real, axis=1, kind="stable")[:, :most]
    own = np.take_along_axis(real, order, axis=1)
    members = np.take_along_axis(at.elements, order, axis=1)
    members = np.where(own, members, members[:, :1])
    rank = np.pad(np.cumsum(real, axis=1) - 1, ((0, 1), (0, 1)))
    count = len(members)
    places = np.where(at.windows < count, rank[at.windows, at.slots] * count + at.windows, members.size)
    return Pools(at.outputs, members.T, own.T, places)


def _arranged(choose: Choose, axes: int, longest: int, dilated: bool) -> dict[str, Any]:
    """Return the lengths of the spatial axes and the options that go with them."""
    ceil_mode = choose.choice((False, True))
    default_stride = choose.choice((False, False, True))
    rows = [_axis(choose, longest, dilated) for _ in range(axes)]
    lengths, kernel, strides, paddings, dilations = (tuple(row) for row in zip(*rows, strict=True))
    options: dict[str, Any] = {
        "kernel_size": kernel if axes > 1 else kernel[0],
        "stride": None if default_stride else strides if axes > 1 else strides[0],
        "padding": paddings if axes > 1 else paddings[0],
        "ceil_mode": ceil_mode,
    }
    if dilated:
        options["dilation"] = dilations if axes > 1 else dilations[0]
    return {"shape": (choose.size(high=3), choose.size(high=3), *lengths), "options": options}


def _axis(choose: Choose, longest: int, dilated: bool) -> tuple[int, int, int, int, int]:
    """Return length, kernel, stride, padding and dilation that go together."""
    kernel, stride = choose.size(high=4), choose.integer(1, 4)
    dilation = choose.integer(1, 3) if dilated else 1
    span = dilation * (kernel - 1) + 1
    padding = choose.integer(0, kernel // 2)
    # No gap of the kernel is wider than the input, so no window holds padding alone.
    least = max(span - 2 * padding, dilation)
    return least + choose.size(high=longest) - 1, kernel, stride, padding, dilation


def _max_arranged(choose: Choose, axes: int, longest: int) -> Arrangement:
    drawn = _arranged(choose, axes, longest, dilated=True)
    return Arrangement((drawn["shape"],), drawn["options"])


def _average_arranged(choose: Choose, axes: int, longest: int) -> Arrangement:
    drawn = _arranged(choose, axes, longest, dilated=False)
    more: dict[str, Any] = {"count_include_pad": choose.choice((True, False))}
    if axes > 1:
        more["divisor_override"] = choose.choice((None, None, 1, 3, 10))
    return Arrangement((drawn["shape"],), {**drawn["options"], **more})


_BOOL = (False, True)
_KERNEL = Option("kernel_size", 2, structural=True)
_STRIDE = Option("stride", None, structural=True)
_PADDING = Option("padding", 0, structural=True)
_CEIL = Option("ceil_mode", False, choices=_BOOL, structural=True)
_MAX_OPTIONS = (_KERNEL, _STRIDE, _PADDING, Option("dilation", 1, structural=True), _CEIL)
_AVERAGE_OPTIONS = (
    *(_KERNEL, _STRIDE, _PADDING, _CEIL),
    Option("count_include_pad", True, choices=_BOOL, structural=True),
)
# Ties count twice: they are where implementations of a maximum differ.
_EXACT_FAMILIES = ("plain", "ties", "moderate", "grid", "ties", "offset", "scaled", "subnormal")
_SUM_FAMILIES = ("plain", "moderate", "grid", "offset", "scaled", "large mean", "subnormal")
_LARGEST_HAZARDS = ("equal elements of a window share no single gradient", "NaN in a window")

MAX_POOL1D = Formula(
    name="max_pool1d",
    title="Max pooling over one axis",
    equation="y[n,c,p] = max_k x[n,c,p·s + k·d - q]",
    source="Ranzato, Huang, Boureau & LeCun, CVPR 2007",
    value=_max_pool,
    vjp=_max_pool_vjp,
    options=_MAX_OPTIONS,
    hazards=_LARGEST_HAZARDS,
    arrange=lambda choose: _max_arranged(choose, 1, longest=20),
    families=_EXACT_FAMILIES,
    extremes=(_lowest, _highest),
)

MAX_POOL2D = Formula(
    name="max_pool2d",
    title="Max pooling over two axes",
    equation="y[n,c,p,q] = max_kl x[n,c,p·s + k·d - a, q·t + l·e - b]",
    source="Ranzato, Huang, Boureau & LeCun, CVPR 2007",
    value=_max_pool,
    vjp=_max_pool_vjp,
    options=_MAX_OPTIONS,
    hazards=_LARGEST_HAZARDS,
    arrange=lambda choose: _max_arranged(choose, 2, longest=6),
    families=_EXACT_FAMILIES,
    extremes=(_lowest, _highest),
)

AVG_POOL1D = Formula(
    name="avg_pool1d",
    title="Average pooling over one axis",
    equation="y[n,c,p] = (1/m) Σ_k x[n,c,p·s + k - q]",
    source="LeCun, Bottou, Bengio & Haffner, Proceedings of the IEEE 86, 1998",
    value=_average_pool,
    vjp=_average_pool_vjp,
    options=_AVERAGE_OPTIONS,
    hazards=("what the divisor counts at the border",),
    arrange=lambda choose: _average_arranged(choose, 1, longest=20),
    families=_SUM_FAMILIES,
)

AVG_POOL2D = Formula(
    name="avg_pool2d",
    title="Average pooling over two axes",
    equation="y[n,c,p,q] = (1/m) Σ_kl x[n,c,p·s + k - a, q·t + l - b]",
    source="LeCun, Bottou, Bengio & Haffner, Proceedings of the IEEE 86, 1998",
    value=_average_pool,
    vjp=_average_pool_vjp,
    options=(*_AVERAGE_OPTIONS, Option("divisor_override", None, structural=True)),
    hazards=("what the divisor counts at the border",),
    arrange=lambda choose: _average_arranged(choose, 2, longest=6),
    families=_SUM_FAMILIES,
)

FORMULAS = (MAX_POOL1D, MAX_POOL2D, AVG_POOL1D, AVG_POOL2D)
