"""Convolution over one and two spatial axes, as networks use the word: a correlation, with a bias."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from gradcheck.errors import UsageError
from gradcheck.formulas.parts import BIAS_FIRST, stable
from gradcheck.formulas.windows import PADDING_MODES, Axis, Windows, gathered, per_axis, tabulate
from gradcheck.records import VALUE, Arrangement, Choose, Formula, Option

_SAME, _VALID = "same", "valid"


def _convolution(
    x: Any,
    weight: Any,
    bias: Any,
    *,
    stride: Any,
    padding: Any,
    dilation: Any,
    groups: int,
    padding_mode: str,
) -> Any:
    """y[n,o,p] = b[o] + Σ_{c,k} w[o,c,k] x[n,c,p·stride + k·dilation - padding], c over the group of o.

    x (N, C, *L), weight (O, C/groups, *K), bias (O,); y (N, O, *outputs). `padding` is what is added before
    and after every axis, "valid" for nothing, "same" for as many outputs as inputs.
    """
    at = _geometry(x.shape, weight.shape, stride, padding, dilation, groups, padding_mode)
    y = np.einsum("ngckp,gock->ngop", _patches(x, at, groups), _grouped(weight, groups))
    y = np.reshape(y, (*x.shape[:1], *weight.shape[:1], *at.outputs))
    return y + np.reshape(bias, _over_channels(bias, at))


def _bias_first(
    x: Any,
    weight: Any,
    bias: Any,
    *,
    stride: Any,
    padding: Any,
    dilation: Any,
    groups: int,
    padding_mode: str,
) -> Any:
    """The same with b as one more term of the sum: what starts from the bias rounds it with every term."""
    at = _geometry(x.shape, weight.shape, stride, padding, dilation, groups, padding_mode)
    patches, kernels = _patches(x, at, groups), _grouped(weight, groups)
    terms = np.reshape(patches, (*patches.shape[:2], _rest(patches, 2, 4), *patches.shape[4:]))
    factors = np.reshape(kernels, (*kernels.shape[:2], _rest(kernels, 2, 4)))
    terms = np.concatenate([np.ones_like(terms[:, :, :1]), terms], axis=2)
    factors = np.concatenate([np.reshape(bias, (*kernels.shape[:2], 1)), factors], axis=2)
    y = np.einsum("ngjp,goj->ngop", terms, factors)
    return np.reshape(y, (*x.shape[:1], *weight.shape[:1], *at.outputs))


def _convolution_vjp(
    inputs: tuple[Any, Any, Any],
    cotangent: Any,
    *,
    stride: Any,
    padding: Any,
    dilation: Any,
    groups: int,
    padding_mode: str,
) -> tuple[Any, Any, Any]:
    """dx[n,c,l] = Σ w[o,c,k] dy[n,o,p] over every (p, k) that meets l; dw[o,c,k] = Σ x dy; db = Σ dy."""
    x, weight, _ = inputs
    at = _geometry(x.shape, weight.shape, stride, padding, dilation, groups, padding_mode)
    kernels = _grouped(weight, groups)
    outer = np.reshape(cotangent, _shape_by_group(cotangent, groups))
    meeting = np.einsum("ngolm,goclm->ngcl", gathered(outer, at.windows), gathered(kernels, at.slots))
    by_weight = np.einsum("ngckp,ngop->gock", _patches(x, at, groups), outer)
    by_bias = np.sum(cotangent, axis=(0, *range(2, cotangent.ndim)))
    return np.reshape(meeting, x.shape), np.reshape(by_weight, weight.shape), by_bias


def _patches(array: Any, at: Windows, groups: int) -> Any:
    """Return what every window sees: (N, groups, C/groups, slots, windows)."""
    return gathered(np.reshape(array, _shape_by_group(array, groups)), at.elements.T)


def _grouped(kernels: Any, groups: int) -> Any:
    """Return the weight as (groups, O/groups, C/groups, slots)."""
    shape = kernels.shape
    return np.reshape(kernels, (groups, shape[0] // groups, shape[1], math.prod(shape[2:])))


def _shape_by_group(array: Any, groups: int) -> tuple[int, ...]:
    batch, channels, *lengths = array.shape
    return batch, groups, channels // groups, math.prod(lengths)


def _rest(array: Any, start: int, stop: int) -> int:
    return math.prod(array.shape[start:stop])


def _over_channels(array: Any, at: Windows) -> tuple[int, ...]:
    return (*array.shape, *(1 for _ in at.outputs))


def _geometry(
    shape: tuple[int, ...],
    kernel: tuple[int, ...],
    stride: Any,
    padding: Any,
    dilation: Any,
    groups: int,
    padding_mode: str,
) -> Windows:
    axes = len(shape) - 2
    if axes < 1 or len(kernel) != len(shape):
        raise UsageError(
            f"x of shape {shape} and weight of shape {kernel}: expected (N, C, ...), (O, C, ...)"
        )
    if not isinstance(groups, int) or groups < 1 or kernel[0] % groups or shape[1] != kernel[1] * groups:
        raise UsageError(
            f"groups={groups!r} with x of shape {shape} and weight of shape {kernel}: expected C = groups · "
            f"{kernel[1]} channels and O divisible by groups"
        )
    strides, dilations = per_axis("stride", stride, axes, 1), per_axis("dilation", dilation, axes, 1)
    around = _around(padding, kernel[2:], strides, dilations)
    rows = zip(shape[2:], kernel[2:], strides, around, dilations, strict=True)
    return tabulate(tuple(Axis(n, k, s, *sides, d) for n, k, s, sides, d in rows), padding_mode)


def _around(
    padding: Any, kernel: tuple[int, ...], strides: tuple[int, ...], dilations: tuple[int, ...]
) -> list[tuple[int, int]]:
    """Return what is added before and after every axis."""
    if padding == _VALID:
        return [(0, 0) for _ in kernel]
    if padding == _SAME:
        if any(stride != 1 for stride in strides):
            raise UsageError(f'padding="same" with stride={strides}: expected a stride of 1')
        spans = [d * (k - 1) for k, d in zip(kernel, dilations, strict=True)]
        return [(span // 2, span - span // 2) for span in spans]
    return [(each, each) for each in per_axis("padding", padding, len(kernel), 0)]


def _arranged(choose: Choose, axes: int, longest: int, widest: int) -> Arrangement:
    mode = choose.choice(PADDING_MODES)
    groups = choose.choice((1, 1, 2, 3))
    rows = [_axis(choose, mode, longest, widest) for _ in range(axes)]
    lengths, kernel, strides, paddings, dilations = (tuple(row) for row in zip(*rows, strict=True))
    inner, outer, batch = (choose.size(high=4 - axes) for _ in range(3))
    padding: Any = paddings if axes > 1 else paddings[0]
    named = choose.choice((None, None, None, _SAME, _VALID))
    if named is not None and (named == _SAME or mode == "zeros"):
        # With "same" every stride is 1, and the input is longer than what a mode may add beside it.
        padding = named
        strides = strides if named == _VALID else (1,) * axes
        lengths = tuple(n + d * (k - 1) for n, k, d in zip(lengths, kernel, dilations, strict=True))
    options = {
        "stride": strides if axes > 1 else strides[0],
        "padding": padding,
        "dilation": dilations if axes > 1 else dilations[0],
        "groups": groups,
        "padding_mode": mode,
    }
    channels, results = groups * inner, groups * outer
    shapes = ((batch, channels, *lengths), (results, inner, *kernel), (results,))
    return Arrangement(shapes, options)


def _axis(choose: Choose, mode: str, longest: int, widest: int) -> tuple[int, int, int, int, int]:
    """Return length, kernel, stride, padding and dilation that go together."""
    kernel, stride, dilation = choose.size(high=widest), choose.integer(1, 3), choose.integer(1, 3)
    span = dilation * (kernel - 1) + 1
    padding = choose.integer(0, span)
    beside = {"zeros": 1, "replicate": 1, "circular": padding, "reflect": padding + 1}[mode]
    least = max(span - 2 * padding, beside, 1)
    return least + choose.size(high=longest) - 1, kernel, stride, padding, dilation


def _options(axes: int) -> tuple[Option, ...]:
    def each(value: int) -> Any:
        return (value,) * axes if axes > 1 else value

    return (
        Option("stride", each(1), structural=True),
        Option("padding", each(0), structural=True),
        Option("dilation", each(1), structural=True),
        Option("groups", 1, structural=True),
        Option("padding_mode", "zeros", choices=PADDING_MODES, structural=True),
    )


_VARIANTS = (stable(VALUE, BIAS_FIRST, _bias_first),)
_FAMILIES = ("plain", "moderate", "grid", "offset", "kinks", "scaled", "subnormal")
_HAZARDS = ("sums of terms of both signs cancel", "16-bit formats need a wider accumulator")

CONV1D = Formula(
    name="conv1d",
    title="Convolution over one axis",
    equation="y[n,o,p] = b[o] + Σ w[o,c,k] x[n,c,p·s + k·d - q]",
    source="LeCun, Bottou, Bengio & Haffner, Proceedings of the IEEE 86, 1998",
    value=_convolution,
    vjp=_convolution_vjp,
    inputs=("x", "weight", "bias"),
    options=_options(1),
    variants=_VARIANTS,
    hazards=_HAZARDS,
    arrange=lambda choose: _arranged(choose, 1, longest=12, widest=5),
    kinds=("real", "parameter", "parameter"),
    families=_FAMILIES,
)

CONV2D = Formula(
    name="conv2d",
    title="Convolution over two axes",
    equation="y[n,o,p,q] = b[o] + Σ w[o,c,k,l] x[n,c,p·s + k·d - a, q·t + l·e - b]",
    source="LeCun, Bottou, Bengio & Haffner, Proceedings of the IEEE 86, 1998",
    value=_convolution,
    vjp=_convolution_vjp,
    inputs=("x", "weight", "bias"),
    options=_options(2),
    variants=_VARIANTS,
    hazards=_HAZARDS,
    arrange=lambda choose: _arranged(choose, 2, longest=5, widest=3),
    kinds=("real", "parameter", "parameter"),
    families=_FAMILIES,
)

FORMULAS = (CONV1D, CONV2D)
