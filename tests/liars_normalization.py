"""Liars about normalisations and softmax."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tests.honest_normalization import (
    batch_norm,
    batch_norm_running,
    centred,
    elements,
    group_norm,
    grouped,
    layer_norm,
    leading,
    normalized,
    others,
    over_channel,
    pulled,
    root_mean_square,
    stable_softmax,
    trailing,
)
from tests.lying import F16, F32, F64, Liar
from tests.lying_families import Part, gradient, ignoring, inside, instead, only, output, told, with_options

SHORT = (F64, F32, F16)


def _spread(x: Any, axes: tuple[int, ...], ddof: int = 0) -> Any:
    """Return √v, with n - ddof as the divisor."""
    d = centred(x, axes)
    return np.sqrt((d * d).sum(axis=axes, keepdims=True) / max(elements(x, axes) - ddof, 1))


def _affine(y: Any, x: Any, weight: Any, bias: Any, affine: bool = True) -> Any:
    return y * over_channel(weight, x) + over_channel(bias, x) if affine else y


def _unbiased(x: Any, weight: Any, bias: Any, *, eps: float, affine: bool) -> Any:
    s = _spread(x, others(x), 1)
    return _affine(centred(x, others(x)) / np.sqrt(s * s + eps), x, weight, bias, affine)


def _outside(x: Any, weight: Any, bias: Any, *, eps: float, affine: bool) -> Any:
    return _affine(centred(x, others(x)) / (_spread(x, others(x)) + eps), x, weight, bias, affine)


def _one_pass(x: Any, weight: Any, bias: Any, *, eps: float, affine: bool) -> Any:
    """E[x²] - E[x]², in the format."""
    m = x.mean(axis=others(x), keepdims=True, dtype=x.dtype)
    v = (x * x).mean(axis=others(x), keepdims=True, dtype=x.dtype) - m * m
    return _affine((x - m) / np.sqrt(v + x.dtype.type(eps)), x, weight, bias, affine)


def _batch_pull(drop: str) -> Part:
    """Return the gradient of x without one of its terms."""

    def change(inputs: Sequence[Any], c: Any, g: Any, *, eps: float, affine: bool) -> Any:
        x, weight, _ = inputs
        y, r = normalized(x, others(x), eps)
        h = c * over_channel(weight, x) if affine else c
        mean, slope = (h.mean(axis=others(x), keepdims=True), (h * y).mean(axis=others(x), keepdims=True))
        n = elements(x, others(x))
        return {
            "mean": r * (h - y * slope),
            "slope": r * (h - mean),
            "both": r * h,
            "undivided": r * (h - n * mean - y * n * slope),
            "eps": pulled(h, centred(x, others(x)) / _spread(x, others(x)), r, others(x)),
            "unweighted": pulled(c, y, r, others(x)),
        }[drop]

    return change


def _first_axis_only(x: Any, weight: Any, bias: Any, *, eps: float, affine: bool) -> Any:
    return _affine(normalized(x, (0,), eps)[0], x, weight, bias, affine)


BATCH: tuple[Liar, ...] = (
    instead("batch_norm", "unbiased", "normalises by the variance over n-1", "value", _unbiased),
    instead("batch_norm", "eps-outside", "eps stands beside the root", "value", _outside),
    inside("batch_norm", "one-pass", "the variance is E[x²] - E[x]²", "value", _one_pass, formats=SHORT),
    gradient(
        "batch_norm", "without-mean", "the gradient through the mean is missing", 0, _batch_pull("mean")
    ),
    gradient(
        "batch_norm", "without-slope", "the gradient through the variance is missing", 0, _batch_pull("slope")
    ),
    gradient(
        "batch_norm", "fixed-statistics", "mean and variance count as constants", 0, _batch_pull("both")
    ),
    gradient(
        "batch_norm", "undivided", "the two means of the gradient are sums", 0, _batch_pull("undivided")
    ),
    gradient("batch_norm", "pull-without-eps", "the gradient's x̂ has no eps", 0, _batch_pull("eps")),
    gradient(
        "batch_norm",
        "pull-unweighted",
        "the gradient of x misses the weight",
        0,
        _batch_pull("unweighted"),
    ),
    gradient(
        "batch_norm",
        "weight-of-x",
        "the weight's gradient takes x instead of x̂",
        1,
        lambda i, c, g, affine, **o: (c * i[0]).sum(axis=others(c)) if affine else g[1],
    ),
    gradient(
        "batch_norm",
        "bias-mean",
        "the bias gradient is a mean over the batch",
        2,
        lambda i, c, g, **o: g[2] / len(c),
    ),
    instead("batch_norm", "batch-only", "places have statistics of their own", "value", _first_axis_only),
    told("batch_norm", "always-affine", "affine is ignored", "value", ignoring(affine=True)),
    told(
        "batch_norm",
        "batch-of-one",
        "a batch of one gives the bias",
        "value",
        only(lambda x, *a, **o: len(x) == 1, lambda inner, *a, **o: 0.0 * inner(*a, **o)),
    ),
    told("batch_norm", "usual-eps", "eps is 1e-5 whatever is asked for", "value", ignoring(eps=1e-5)),
    told(
        "batch_norm",
        "second-fixed",
        "the second derivative in x is 0",
        "second",
        lambda inner, i, c, d, **o: inner(i, c, (0.0 * d[0], *d[1:]), **o),
    ),
)


def _running_unbiased(inputs: Sequence[Any], good: Sequence[Any], **o: Any) -> Any:
    x = inputs[0]
    n = elements(x, others(x))
    still = batch_norm_running(0.0 * x, *inputs[1:], **o)[1]
    return still + (good[1] - still) * (n - 1) / n


def _cumulative_from(start: int) -> Part:
    def lie(inner: Part, *arrays: Any, cumulative: bool, count: int, **o: Any) -> Any:
        share = {"momentum": 1.0 / (count + start), "momentum_of": "batch"} if cumulative else {}
        return inner(*arrays, **{**o, **share, "cumulative": False, "count": count})

    return lie


STATISTICS: tuple[Liar, ...] = (
    output("batch_norm_running", "biased", "the running variance is over n", 1, _running_unbiased),
    told(
        "batch_norm_running",
        "momentum-reversed",
        "momentum weighs the other side",
        "value",
        with_options(lambda o: {"momentum": 1.0 - o["momentum"]}),
    ),
    told(
        "batch_norm_running",
        "batch-convention",
        "momentum_of is ignored",
        "value",
        ignoring(momentum_of="batch"),
    ),
    told(
        "batch_norm_running",
        "cumulative-late",
        "the cumulative share is 1/(n+2)",
        "value",
        _cumulative_from(2),
    ),
    told(
        "batch_norm_running", "never-cumulative", "cumulative is ignored", "value", ignoring(cumulative=False)
    ),
    output(
        "batch_norm_running",
        "deviation",
        "the running variance takes a deviation",
        1,
        lambda i, good, **o: np.sqrt(good[1]),
    ),
    instead(
        "batch_norm_eval",
        "eps-outside",
        "eps stands beside the root",
        "value",
        lambda x, w, b, m, v, *, eps, affine: _affine(
            (x - over_channel(m, x)) / (np.sqrt(over_channel(v, x)) + eps), x, w, b, affine
        ),
    ),
    gradient(
        "batch_norm_eval",
        "training",
        "the gradient is that of training",
        0,
        lambda i, c, g, **o: g[0] - g[0].mean(axis=others(c), keepdims=True),
    ),
    gradient(
        "batch_norm_eval",
        "weight-uncentred",
        "the weight's gradient forgets the mean",
        1,
        lambda i, c, g, *, eps, affine: (
            (c * i[0] / np.sqrt(over_channel(i[4], c) + eps)).sum(axis=others(c)) if affine else g[1]
        ),
    ),
    told(
        "batch_norm_eval",
        "own-statistics",
        "normalises by the batch's own statistics",
        "value",
        lambda inner, x, w, b, m, v, **o: batch_norm(x, w, b, **o),
    ),
)


def _layer_pull(inputs: Sequence[Any], c: Any, g: Any, *, eps: float, axes: int) -> Any:
    """Forget the second term."""
    x, weight, _ = inputs
    _, r = normalized(x, trailing(x, axes), eps)
    h = c * weight
    return r * (h - h.mean(axis=trailing(x, axes), keepdims=True))


def _narrow_mean(x: Any, weight: Any, bias: Any, *, eps: float, axes: int) -> Any:
    """Round the mean to the format before it is subtracted."""
    m = x.mean(axis=trailing(x, axes), keepdims=True)
    wide = (x - m).astype(np.float64)
    r = 1.0 / np.sqrt((wide * wide).mean(axis=trailing(x, axes), keepdims=True) + eps)
    return wide * r * weight + bias


def _even_unbiased(inner: Part, x: Any, weight: Any, bias: Any, *, eps: float, axes: int) -> Any:
    n = elements(x, trailing(x, axes))
    if n % 2:
        return inner(x, weight, bias, eps=eps, axes=axes)
    s = _spread(x, trailing(x, axes), 1)
    return centred(x, trailing(x, axes)) / np.sqrt(s * s + eps) * weight + bias


def _interleaved(inner: Part, x: Any, weight: Any, bias: Any, *, groups: int, eps: float) -> Any:
    """Group the channels 0, g, 2g... instead of neighbours."""
    order = np.arange(x.shape[1]).reshape(-1, groups).T.ravel()
    back = np.argsort(order)
    return inner(x[:, order], weight[order], bias[order], groups=groups, eps=eps)[:, back]


def _group_pull(inputs: Sequence[Any], c: Any, g: Any, *, groups: int, eps: float) -> Any:
    x, weight, _ = inputs
    z = grouped(x, groups)
    _, r = normalized(z, tuple(range(2, z.ndim)), eps)
    return (grouped(c * over_channel(weight, x), groups) * r).reshape(x.shape)


def _rms_pull(inputs: Sequence[Any], c: Any, g: Any, *, eps: float, axes: int) -> Any:
    return c * inputs[1] / root_mean_square(inputs[0], axes, eps)


LAYERS: tuple[Liar, ...] = (
    told("layer_norm", "last-axis", "only the last axis counts", "value", ignoring(axes=1)),
    told("layer_norm", "usual-eps", "eps is 1e-5 whatever is asked for", "value", ignoring(eps=1e-5)),
    gradient("layer_norm", "without-slope", "the gradient misses its second term", 0, _layer_pull),
    gradient(
        "layer_norm",
        "weight-mean",
        "the weight's gradient is a mean",
        1,
        lambda i, c, g, **o: g[1] / max(elements(c, leading(c, o["axes"])), 1),
    ),
    told(
        "layer_norm", "even-unbiased", "an even number of elements is taken less one", "value", _even_unbiased
    ),
    told(
        "rms_norm",
        "centred",
        "subtracts the mean",
        "value",
        lambda inner, x, w, **o: inner(centred(x, trailing(x, o["axes"])), w, **o),
    ),
    gradient("rms_norm", "without-slope", "the gradient misses its second term", 0, _rms_pull),
    instead(
        "rms_norm",
        "sum",
        "divides by the root of the sum",
        "value",
        lambda x, w, *, eps, axes: x / np.sqrt((x * x).sum(axis=trailing(x, axes), keepdims=True) + eps) * w,
    ),
    told(
        "rms_norm",
        "weight-plus-one",
        "scales by 1 + weight",
        "value",
        lambda inner, x, w, **o: inner(x, 1.0 + w, **o),
    ),
    told("group_norm", "one-group", "groups are ignored", "value", ignoring(groups=1)),
    told("group_norm", "interleaved", "groups are of every g-th channel", "value", _interleaved),
    gradient("group_norm", "fixed-statistics", "mean and variance count as constants", 0, _group_pull),
    gradient(
        "group_norm",
        "bias-last-sample",
        "the bias gradient takes the last sample alone",
        2,
        lambda i, c, g, **o: c[-1].reshape(c.shape[1], -1).sum(axis=1),
    ),
    instead(
        "instance_norm",
        "layer",
        "channels share their statistics",
        "value",
        lambda x, w, b, *, eps: group_norm(x, w, b, groups=1, eps=eps),
    ),
    instead(
        "instance_norm",
        "batch",
        "samples share their statistics",
        "value",
        lambda x, w, b, *, eps: batch_norm(x, w, b, eps=eps),
    ),
    told(
        "instance_norm",
        "last-axis",
        "only the last axis counts",
        "value",
        lambda inner, x, w, b, *, eps: _affine(
            layer_norm(x, np.ones(x.shape[-1]), np.zeros(x.shape[-1]), eps=eps), x, w, b
        ),
    ),
)


def _raw_softmax(x: Any, *, axis: int) -> Any:
    e = np.exp(x)
    return e / e.sum(axis=axis, keepdims=True)


def _raw_log_softmax(x: Any, *, axis: int) -> Any:
    return x - np.log(np.exp(x).sum(axis=axis, keepdims=True))


def _log_of_softmax(x: Any, *, axis: int) -> Any:
    e = np.exp(x - x.max(axis=axis, keepdims=True))
    return np.log(e / e.sum(axis=axis, keepdims=True))


SOFTMAX: tuple[Liar, ...] = (
    gradient(
        "softmax",
        "diagonal",
        "the Jacobian misses its second term",
        0,
        lambda i, c, g, *, axis: stable_softmax(i[0], axis) * c,
    ),
    gradient(
        "softmax",
        "of-sigmoid",
        "the Jacobian is the diagonal y (1 - y)",
        0,
        lambda i, c, g, *, axis: c * stable_softmax(i[0], axis) * (1 - stable_softmax(i[0], axis)),
    ),
    gradient(
        "softmax",
        "transposed-sum",
        "the sum is over y alone",
        0,
        lambda i, c, g, *, axis: stable_softmax(i[0], axis) * (c - c.mean(axis=axis, keepdims=True)),
    ),
    inside("softmax", "unshifted", "the largest is not subtracted", "value", _raw_softmax, formats=SHORT),
    told("softmax", "last-axis", "the axis is ignored", "value", ignoring(axis=-1)),
    told(
        "softmax",
        "negative-axis",
        "a negative axis counts from the front",
        "value",
        with_options(lambda o: {"axis": -1 - o["axis"] if o["axis"] < 0 else o["axis"]}),
    ),
    told(
        "softmax",
        "second-zero",
        "the second derivative is 0",
        "second",
        lambda inner, *a, **o: tuple(0 * g for g in inner(*a, **o)),
    ),
    told(
        "softmax",
        "everywhere-1/32",
        "relative error of 1/32 in half precision",
        "value",
        lambda inner, *a, **o: inner(*a, **o) * (1 + 1 / 32),
        formats=(F16,),
    ),
    inside(
        "log_softmax", "unshifted", "the largest is not subtracted", "value", _raw_log_softmax, formats=SHORT
    ),
    inside(
        "log_softmax", "of-softmax", "is the logarithm of softmax", "value", _log_of_softmax, formats=SHORT
    ),
    gradient(
        "log_softmax",
        "mean",
        "the gradient takes the mean of the cotangent",
        0,
        lambda i, c, g, *, axis: c - stable_softmax(i[0], axis) * c.mean(axis=axis, keepdims=True),
    ),
    gradient(
        "log_softmax",
        "one-hot",
        "the gradient is right for a single cotangent only",
        0,
        lambda i, c, g, *, axis: c - stable_softmax(i[0], axis) * c,
    ),
    told(
        "logsumexp",
        "unreturned",
        "the largest is not added again",
        "value",
        lambda inner, x, *, axis: inner(x, axis=axis) - x.max(axis=axis),
    ),
    told(
        "logsumexp",
        "base-two",
        "the logarithm is to base 2",
        "value",
        lambda inner, x, *, axis: x.max(axis=axis) + (inner(x, axis=axis) - x.max(axis=axis)) / np.log(2.0),
    ),
    gradient(
        "logsumexp",
        "to-largest",
        "the largest takes the whole gradient",
        0,
        lambda i, c, g, *, axis: np.expand_dims(c, axis) * (i[0] == i[0].max(axis=axis, keepdims=True)),
    ),
    told(
        "logsumexp",
        "pair-only",
        "two elements are summed as if the larger stood alone",
        "value",
        only(lambda x, *, axis: x.shape[axis] == 2, lambda inner, x, *, axis: x.max(axis=axis)),
    ),
)

NORMALIZATION_LIARS: tuple[Liar, ...] = (*BATCH, *STATISTICS, *LAYERS, *SOFTMAX)
# Crude, and legal: the assumed arithmetic lets a mean and a difference round to their format.
NARROW_NORMALIZATION: tuple[Liar, ...] = (
    inside(
        "layer_norm",
        "narrow-mean",
        "the mean and the differences are rounded to 16 bits",
        "value",
        _narrow_mean,
        formats=(F16,),
    ),
)
