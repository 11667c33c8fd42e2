"""Liars about convolution, pooling, dropout and the residual connection."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from gradcheck.records import Options
from gradcheck.subjects.implementation import Implementation
from tests.honest_layers import (
    convolve,
    convolve_vjp,
    max_pool_chosen,
    padded,
    pair,
    pool_counts,
    scattered,
    slide,
)
from tests.lying import F16, Liar
from tests.lying_families import (
    Part,
    from_arrays,
    gradient,
    ignoring,
    inside,
    instead,
    only,
    told,
    with_options,
)


def _bent(change: Part) -> Part:
    """Return the lie that calls the good function on other inputs: change(x, weight, bias) of them."""
    return lambda inner, *inputs, **options: inner(*change(*inputs), **options)


def _same_shape(change: Part) -> Part:
    """Return the lie that takes other options where the result has the same shape, else the good ones."""

    def lie(inner: Part, x: Any, *rest: Any, **options: Any) -> Any:
        right = inner(x, *rest, **options)
        try:
            other = inner(x, *rest, **{**options, **change(options)})
        except ValueError:
            return right
        return other if other.shape == right.shape else right

    return lie


def _undilated(inner: Part, x: Any, weight: Any, bias: Any, **options: Any) -> Any:
    at = slide(x.shape, weight.shape[2:], options["stride"], options["padding"], options["dilation"])
    found = inner(x, weight, bias, **{**options, "dilation": 1 if x.ndim == 3 else (1, 1)})
    return found[(slice(None), slice(None), *(slice(n) for n in at.outputs))] if _covers(found, at) else found


def _covers(found: Any, at: Any) -> bool:
    return all(n >= m for n, m in zip(found.shape[2:], at.outputs, strict=True))


def _strideless_input(inputs: Sequence[Any], c: Any, g: Any, **options: Any) -> Any:
    """Put every share where a stride of 1 would have it."""
    x, weight, bias = inputs
    at = slide(x.shape, weight.shape[2:], options["stride"], options["padding"], options["dilation"])
    if options["padding"] == "same" or all(s == 1 for s in at.stride):
        return g[0]
    ones = options | {"stride": (1,) * len(at.stride) if x.ndim > 3 else 1}
    dense = np.zeros(convolve(x, weight, bias, **ones).shape)
    dense[(slice(None), slice(None), *(slice(n) for n in at.outputs))] = c
    return convolve_vjp(inputs, dense, **ones)[0]


def _strideless_weight(inputs: Sequence[Any], c: Any, g: Any, **options: Any) -> Any:
    x, weight, bias = inputs
    if options["stride"] == 1:
        return g[1]
    ones = options | {"stride": 1}
    dense = np.zeros(convolve(x, weight, bias, **ones).shape)
    dense[..., : c.shape[-1]] = c
    return convolve_vjp(inputs, dense, **ones)[1]


def _crosswise(inner: Part, x: Any, weight: Any, bias: Any, **options: Any) -> Any:
    """Give every group the channels of the next one."""
    return inner(np.roll(x, weight.shape[1], axis=1), weight, bias, **options)


def _extra_before(inner: Part, x: Any, weight: Any, bias: Any, **options: Any) -> Any:
    """Pad the odd element of "same" before instead of after."""
    if options.get("padding") != "same":
        return inner(x, weight, bias, **options)
    flip = tuple(range(2, x.ndim))
    return np.flip(inner(np.flip(x, flip), np.flip(weight, flip), bias, **options), flip)


def _group_of_first(inputs: Sequence[Any], c: Any, g: Any, **options: Any) -> Any:
    """Take the cotangent of the first group for the weights of all."""
    groups = options["groups"]
    share = c[:, : c.shape[1] // groups]
    return convolve_vjp(inputs, np.concatenate([share] * groups, axis=1), **options)[1]


def _in_half(x: Any, weight: Any, bias: Any, **options: Any) -> Any:
    """Round after every product, in the arrays' own format."""
    at = slide(x.shape, weight.shape[2:], options["stride"], options["padding"], options["dilation"])
    wide, groups = padded(x, at, options["padding_mode"]), options["groups"]
    total = np.zeros((x.shape[0], weight.shape[0], *at.outputs), x.dtype)
    inner, outer = weight.shape[1], weight.shape[0] // groups
    for offset in at.offsets():
        part = wide[(slice(None), slice(None), *at.slices(offset))]
        for o in range(weight.shape[0]):
            for i in range(inner):
                total[:, o] += part[:, o // outer * inner + i] * weight[(o, i, *offset)]
    return total + bias.reshape(-1, *(1 for _ in at.outputs))


CONVOLUTIONS: tuple[Liar, ...] = (
    told(
        "conv1d", "flipped", "the kernel runs backwards", "value", _bent(lambda x, w, b: (x, w[..., ::-1], b))
    ),
    told(
        "conv2d",
        "one-flip",
        "the kernel's rows run backwards",
        "value",
        _bent(lambda x, w, b: (x, w[:, :, ::-1], b)),
    ),
    told(
        "conv2d",
        "transposed",
        "a square kernel is transposed",
        "value",
        only(
            lambda x, w, b, **o: w.shape[2] == w.shape[3],
            _bent(lambda x, w, b: (x, np.swapaxes(w, 2, 3), b)),
        ),
    ),
    told("conv1d", "undilated", "dilation changes the shape of the result only", "value", _undilated),
    told("conv1d", "zeros-only", "every padding mode is zeros", "value", ignoring(padding_mode="zeros")),
    told(
        "conv2d",
        "replicates-circle",
        "circular padding repeats the edge",
        "value",
        only(lambda *a, **o: o["padding_mode"] == "circular", ignoring(padding_mode="replicate")),
    ),
    gradient(
        "conv2d",
        "bias-first-column",
        "the bias gradient misses the sum over the last axis",
        2,
        lambda i, c, g, **o: c[..., 0].sum(axis=(0, 2)),
    ),
    gradient(
        "conv1d",
        "bias-first-sample",
        "the bias gradient takes the first sample alone",
        2,
        lambda i, c, g, **o: c[0].sum(axis=-1),
    ),
    gradient(
        "conv1d",
        "bias-mean",
        "the bias gradient is a mean over the batch",
        2,
        lambda i, c, g, **o: g[2] / len(c),
    ),
    told("conv1d", "crosswise", "every group reads the next group's channels", "value", _crosswise),
    gradient("conv2d", "input-strideless", "the input's gradient forgets the stride", 0, _strideless_input),
    gradient(
        "conv1d", "weight-strideless", "the weight's gradient forgets the stride", 1, _strideless_weight
    ),
    told("conv2d", "same-before", 'the odd element of "same" goes before', "value", _extra_before),
    told(
        "conv2d",
        "pairs-swapped",
        "the paddings of the two axes are swapped, where that fits",
        "value",
        _same_shape(
            lambda o: {
                "padding": o["padding"][::-1] if isinstance(o["padding"], tuple) else o["padding"],
                "dilation": o["dilation"][::-1],
            }
        ),
    ),
    told(
        "conv1d",
        "single-without-bias",
        "a batch of one gets no bias",
        "value",
        only(lambda x, w, b, **o: len(x) == 1, _bent(lambda x, w, b: (x, w, 0 * b))),
    ),
    told(
        "conv1d",
        "reflect-once",
        "the gradient of reflected elements is lost",
        "vjp",
        only(lambda *a, **o: o["padding_mode"] == "reflect", ignoring(padding_mode="zeros")),
    ),
    gradient("conv2d", "weight-of-first-group", "dW of all groups comes from the first", 1, _group_of_first),
    told(
        "conv2d",
        "second-zero",
        "the mixed second derivative is 0",
        "second",
        lambda inner, *a, **o: tuple(0 * g for g in inner(*a, **o)),
    ),
)


def _last_window_full(inner: Part, x: Any, **options: Any) -> Any:
    """Move a last partial window back until it is full."""
    y = inner(x, **options)
    k, s = options["kernel_size"], options["stride"] or options["kernel_size"]
    span = options["dilation"] * (k - 1) + 1
    reached = (y.shape[-1] - 1) * s + span - options["padding"]
    if options["ceil_mode"] and reached > x.shape[-1] + options["padding"] and span <= x.shape[-1]:
        y[..., -1] = x[..., x.shape[-1] - span :: options["dilation"]].max(axis=-1)
    return y


def _at_ties(weigh: Part) -> Part:
    """Return the gradient that gives every largest element weigh(c, how many there are, is it the first)."""

    def vjp(inputs: Sequence[Any], c: Any, **options: Any) -> Any:
        at, members, chosen = max_pool_chosen(inputs[0], **options)
        ties = members == members.max(axis=0)
        count = ties.sum(axis=0)
        shares = [np.where(ties[i], weigh(c, count, chosen == i), 0.0) for i in range(len(members))]
        return (scattered(shares, inputs[0], at),)

    return vjp


def _assigned(inputs: Sequence[Any], c: Any, **options: Any) -> Any:
    """Let a later window overwrite what an earlier one gave."""
    at, _, chosen = max_pool_chosen(inputs[0], **options)
    back = np.zeros_like(padded(inputs[0], at))
    for i, offset in enumerate(at.offsets()):
        place = (slice(None), slice(None), *at.slices(offset))
        back[place] = np.where(chosen == i, c, back[place])
    inner = tuple(slice(b, b + n) for b, n in zip(at.before, at.lengths, strict=True))
    return (back[(slice(None), slice(None), *inner)],)


def _zero_padded(x: Any, **options: Any) -> Any:
    at, _, _ = max_pool_chosen(x, **options)
    wide = padded(x, at, fill=0.0)
    return np.max([wide[(slice(None), slice(None), *at.slices(o))] for o in at.offsets()], axis=0)


def _transposed_index(inputs: Sequence[Any], c: Any, **options: Any) -> Any:
    """Read the index of the largest element column by column."""
    at, members, chosen = max_pool_chosen(inputs[0], **options)
    rows, columns = at.kernel
    other = chosen % columns * rows + chosen // columns
    return (scattered([np.where(other == i, c, 0.0) for i in range(len(members))], inputs[0], at),)


def _full_divisor(inner: Part, x: Any, **options: Any) -> Any:
    k = options["kernel_size"]
    at = slide(x.shape, pair(k, 1), options["stride"] or k, options["padding"], 1, options["ceil_mode"])
    return inner(x, **options) * pool_counts(at, options["count_include_pad"]) / k


def _without_last(inner: Part, inputs: Sequence[Any], c: Any, **options: Any) -> Any:
    shorter = c.copy()
    shorter[..., -1] = 0.0
    return inner(inputs, shorter, **options)


def _row_squared(inner: Part, x: Any, **options: Any) -> Any:
    if options.get("divisor_override") is not None:
        return inner(x, **options)
    rows, columns = pair(options["kernel_size"], 2)
    return inner(x, **options) * columns / rows


POOLINGS: tuple[Liar, ...] = (
    told("max_pool1d", "last-full", "a last partial window is moved back", "value", _last_window_full),
    instead("max_pool1d", "zero-padded", "the padding takes part as 0", "value", _zero_padded),
    told(
        "max_pool1d",
        "starts-at-zero",
        "the search starts at 0, so that windows of negative numbers give 0",
        "value",
        lambda inner, x, **o: np.maximum(inner(x, **o), 0.0),
    ),
    instead(
        "max_pool2d",
        "ties-to-none",
        "tied elements get nothing",
        "vjp",
        _at_ties(lambda c, n, first: np.where(n > 1, 0.0, c)),
        # Each element's gradient is one that a choice at a tie can give; that all are, breaks the sum.
        where="law",
    ),
    instead(
        "max_pool1d",
        "ties-to-all",
        "every tied element gets the whole gradient",
        "vjp",
        _at_ties(lambda c, n, first: c),
        where="law",
    ),
    instead(
        "max_pool2d",
        "ties-doubled",
        "the first of tied elements gets twice the gradient",
        "vjp",
        _at_ties(lambda c, n, first: np.where(first, np.where(n > 1, 2.0, 1.0) * c, 0.0)),
    ),
    told("max_pool1d", "last-dropped", "the last window hands nothing back", "vjp", _without_last),
    instead("max_pool1d", "assigned", "overlapping windows overwrite each other", "vjp", _assigned),
    instead("max_pool2d", "transposed-index", "the index is read column by column", "vjp", _transposed_index),
    told(
        "max_pool2d",
        "undilated",
        "dilation is 1 where the shape does not tell",
        "value",
        _same_shape(lambda o: {"dilation": (1, 1)}),
    ),
    told(
        "max_pool2d",
        "largest-magnitude",
        "the largest magnitude wins in a batch of one",
        "value",
        only(lambda x, **o: len(x) == 1, lambda inner, x, **o: inner(np.abs(x), **o)),
    ),
    told(
        "avg_pool1d", "counts-padding", "padding is always counted", "value", ignoring(count_include_pad=True)
    ),
    told(
        "avg_pool1d",
        "partial-by-all",
        "a partial window is divided by the kernel's size",
        "value",
        _full_divisor,
    ),
    told(
        "avg_pool2d", "own-divisor", "divisor_override is ignored", "value", ignoring(divisor_override=None)
    ),
    told(
        "avg_pool2d",
        "gradient-undivided",
        "the gradient is not divided",
        "vjp",
        ignoring(divisor_override=1, count_include_pad=True),
    ),
    told(
        "avg_pool1d",
        "gradient-counts-padding",
        "the gradient always counts the padding",
        "vjp",
        ignoring(count_include_pad=True),
    ),
    told("avg_pool2d", "row-squared", "divides by the square of the kernel's height", "value", _row_squared),
    told("avg_pool2d", "last-dropped", "the last column of windows hands nothing back", "vjp", _without_last),
    told(
        "avg_pool1d",
        "even-shift",
        "an even kernel is one element off",
        "value",
        only(
            lambda x, **o: o["kernel_size"] % 2 == 0,
            lambda inner, x, **o: inner(np.concatenate([x[..., 1:], x[..., -1:]], axis=-1), **o),
        ),
    ),
)


def _on_p(change: Part) -> Part:
    return lambda inner, *a, p=0.5, **o: inner(*a, p=p, **o) * change(p)


def _into_argument(good: Implementation, inputs: tuple[Any, ...], options: Options) -> Any:
    found = good.forward(inputs, options)
    np.copyto(inputs[0], found)
    return found


def _by_memory(good: Implementation, inputs: tuple[Any, ...], options: Options) -> Any:
    """Read the input in the order of its memory, whatever its strides say."""
    first = inputs[0].ravel(order="K").reshape(inputs[0].shape)
    return good.forward((first, *inputs[1:]), options)


def _gradient_scaled(change: Part) -> Part:
    return lambda i, c, g, p=0.5, **o: g[0] * change(p)


OTHERS: tuple[Liar, ...] = (
    told("dropout", "unscaled", "1/(1-p) is missing", "value", lambda inner, x, mask, p=0.5: x * mask),
    told(
        "dropout",
        "by-p",
        "divides by p",
        "value",
        lambda inner, x, mask, p=0.5: x * mask / p if p else x * mask,
    ),
    told(
        "dropout",
        "not-inverted",
        "is scaled down by 1-p",
        "value",
        lambda inner, x, mask, p=0.5: x * mask * (1 - p),
    ),
    gradient("dropout", "gradient-unscaled", "the gradient misses 1/(1-p)", 0, lambda i, c, g, **o: c * i[1]),
    gradient(
        "dropout",
        "gradient-unmasked",
        "the gradient misses the mask",
        0,
        lambda i, c, g, p=0.5: c / (1 - p) if p < 1 else 0 * c,
    ),
    told(
        "dropout",
        "all-dropped",
        "p = 1 gives 0/0",
        "value",
        lambda inner, x, mask, p=0.5: x * mask / np.float64(1 - p),
        options={"p": 1.0},
    ),
    told(
        "residual",
        "sign",
        "the scale loses its sign",
        "value",
        with_options(lambda o: {"scale": abs(o["scale"])}),
    ),
    gradient(
        "residual", "branch-unscaled", "the branch's gradient is not scaled", 1, lambda i, c, g, **o: 1.0 * c
    ),
    gradient("residual", "through-branch", "x gets both gradients", 0, lambda i, c, g, **o: g[0] + g[1]),
    told(
        "residual",
        "zero-moved",
        "an x of exactly 0 drops the branch",
        "value",
        lambda inner, x, branch, **o: np.where(x == 0, 0.0, inner(x, branch, **o)),
    ),
    from_arrays("residual", "in-place", "the sum is written into x", _into_argument),
    from_arrays("conv2d", "by-memory", "x is read in the order of its memory", _by_memory),
    from_arrays("avg_pool2d", "by-memory", "x is read in the order of its memory", _by_memory),
    told(
        "max_pool1d",
        "hides-nan",
        "a NaN in a window is passed over",
        "value",
        lambda inner, x, **o: inner(np.where(np.isnan(x), -math.inf, x), **o),
        where="special",
    ),
    told(
        "conv1d",
        "cuts-infinity",
        "an infinite product is the largest number",
        "value",
        lambda inner, *a, **o: np.nan_to_num(inner(*a, **o)),
        where="special",
    ),
)

LAYER_LIARS: tuple[Liar, ...] = (*CONVOLUTIONS, *POOLINGS, *OTHERS)
# Crude, and legal: the assumed arithmetic lets a sum round to its format after every term.
NARROW_LAYERS: tuple[Liar, ...] = (
    inside("conv2d", "narrow-sums", "sums of 16-bit numbers in 16 bits", "value", _in_half, formats=(F16,)),
)
