"""Correct implementations of formulas of several inputs, in independent ways: none may be accused.

Those marked naive may be called unstable, never wrong.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from scipy import linalg, special

from gradcheck.formats import Format
from gradcheck.records import Array
from gradcheck.subjects.implementation import Implementation
from tests.correct_torch import TORCH
from tests.honest import Many, Real
from tests.honest_clipping import shrunk
from tests.honest_families import FAMILIES, honest_family, implementation
from tests.honest_normalization import batch_norm_vjp, layer_norm_vjp, others, over_channel
from tests.honest_optimizers import descent
from tests.lying import ALL, BF16, WIDE
from tests.variants import Correct


def _other(formula: str, name: str, value: Any = None, vjp: Any = None, **rest: Any) -> Correct:
    """Return the variant that has another value or another vjp, in float64, rounded once."""
    good = FAMILIES[formula]
    many = replace(good, value=value or good.value, vjp=vjp or good.vjp)
    return Correct(f"{formula}-{name}", formula, lambda fmt: implementation(formula, fmt, many), **rest)


def _welford(rows: Real) -> tuple[Real, Real]:
    """Return mean and mean square deviation of the columns, one row after another."""
    mean, total = np.zeros(rows.shape[1]), np.zeros(rows.shape[1])
    for count, row in enumerate(rows, 1):
        step = row - mean
        mean = mean + step / count
        total = total + step * (row - mean)
    return mean, total / len(rows)


def _summed(rows: Real) -> tuple[Real, Real]:
    """Return the same by sums that are rounded once."""
    n = len(rows)
    mean = np.array([math.fsum(column) / n for column in rows.T])
    rest = np.array([math.fsum(column - m) / n for column, m in zip(rows.T, mean, strict=True)])
    away = rows - mean - rest
    return mean + rest, np.array([math.fsum(column * column) / n for column in away.T])


Moments = Callable[[Real], tuple[Real, Real]]


def _standard(rows: Real, moments: Moments, eps: float) -> Real:
    mean, variance = moments(rows)
    return (rows - mean) / np.sqrt(variance + eps)


def _batch_norm_by(moments: Moments) -> Callable[..., Real]:
    def value(x: Real, weight: Real, bias: Real, *, eps: float = 1e-5, affine: bool = True) -> Real:
        last = np.moveaxis(x, 1, -1)
        y = _standard(last.reshape(-1, x.shape[1]), moments, eps).reshape(last.shape)
        return np.moveaxis(y * weight + bias if affine else y, -1, 1)

    return value


def _layer_norm_by(moments: Moments) -> Callable[..., Real]:
    def value(x: Real, weight: Real, bias: Real, *, eps: float = 1e-5, axes: int = 1) -> Real:
        length = math.prod(x.shape[x.ndim - axes :])
        y = _standard(x.reshape(-1, length).T, moments, eps).T.reshape(x.shape)
        return y * weight + bias

    return value


def _batch_norm_pull(inputs: Any, c: Real, *, eps: float = 1e-5, affine: bool = True) -> Any:
    """Go back step by step: through the quotient, the variance and the mean."""
    x, weight, _ = inputs
    axes, n = others(x), x.size // x.shape[1]
    g = c * over_channel(weight, x) if affine else c
    d = x - x.mean(axis=axes, keepdims=True)
    d = d - d.mean(axis=axes, keepdims=True)
    s = np.sqrt((d * d).mean(axis=axes, keepdims=True) + eps)
    of_s = -(g * (d / s)).sum(axis=axes, keepdims=True) / s
    of_d = g / s + of_s / s * d / n
    return (
        of_d - of_d.mean(axis=axes, keepdims=True),
        *batch_norm_vjp(inputs, c, eps=eps, affine=affine)[1:],
    )


def _layer_norm_pull(inputs: Any, c: Real, *, eps: float = 1e-5, axes: int = 1) -> Any:
    """Multiply by the matrix (I - 1/n - y yᵀ/n) of every row."""
    x, weight, _ = inputs
    n = math.prod(trailing_shape := x.shape[x.ndim - axes :])
    rows, pulls = x.reshape(-1, n), (c * weight).reshape(-1, n)
    found = []
    for row, pull in zip(rows, pulls, strict=True):
        d = row - row.mean()
        d = d - d.mean()
        r = 1.0 / math.sqrt((d @ d) / n + eps)
        matrix = np.eye(n) - np.ones((n, n)) / n - np.outer(d * r, d * r) / n
        found.append(r * (matrix @ pull))
    dx = np.reshape(found, (*x.shape[: x.ndim - axes], *trailing_shape))
    return (dx, *layer_norm_vjp(inputs, c, eps=eps, axes=axes)[1:])


def _softmax_pairs(x: Real, *, axis: int = -1) -> Real:
    """Return 1 / Σ_j exp(x_j - x_i)."""
    last = np.moveaxis(x, axis, -1)
    with np.errstate(over="ignore", invalid="ignore"):
        y = 1.0 / np.exp(last[..., None, :] - last[..., :, None]).sum(axis=-1)
    # What is -inf has no share, if anything else has one.
    none = (last == -math.inf) & np.any(last > -math.inf, axis=-1, keepdims=True)
    return np.moveaxis(np.where(none & ~np.isnan(last).any(axis=-1, keepdims=True), 0.0, y), -1, axis)


def _softmax_matrix(inputs: Any, c: Real, *, axis: int = -1) -> Any:
    """Multiply by diag y - y yᵀ."""
    y = np.moveaxis(special.softmax(inputs[0], axis=axis), axis, -1)
    pulled = np.moveaxis(c, axis, -1)
    matrix = y[..., :, None] * (np.eye(y.shape[-1]) - y[..., None, :])
    return (np.moveaxis((matrix @ pulled[..., None])[..., 0], -1, axis),)


def _norms_by(norm: Callable[..., Any]) -> Callable[..., Any]:
    def value(g: Real, *, max_norm: float = 1.0, p: float = 2.0, epsilon: float = 1e-6) -> Any:
        return shrunk(g, np.longdouble(norm(g.ravel(), p)), max_norm, epsilon)

    return value


def _by_blas(g: Real, p: float) -> Any:
    if not np.all(np.isfinite(g)) or g.size == 0:
        return np.linalg.norm(g, p) if g.size else 0.0
    if p in (1.0, 2.0):
        return linalg.norm(g, p)
    return np.linalg.norm(g.astype(np.longdouble), p)


def _by_logarithms(g: Real, p: float) -> Any:
    """Return exp(log Σ exp(p log|g|) / p) in long doubles; powers themselves are never formed."""
    sizes = np.log(np.abs(g).astype(np.longdouble))
    if p == math.inf or not np.all(sizes < math.inf) or np.all(sizes == -math.inf):
        return np.abs(g).max(initial=0.0) if not np.any(np.isnan(g)) else math.nan
    top = sizes.max()
    return np.exp(top + np.log(np.exp(p * (sizes - top)).sum()) / np.longdouble(p))


def _by_halves(g: Real, p: float) -> Any:
    """Join the norms of the two halves."""
    if g.size <= 1:
        return np.abs(g).astype(np.longdouble).sum()
    left, right = _by_halves(g[: g.size // 2], p), _by_halves(g[g.size // 2 :], p)
    if p == 2.0:
        return np.hypot(left, right)
    low, high = min(left, right), max(left, right)
    if p == math.inf or not 0 < high < math.inf:
        return high if p == math.inf else left + right
    return high * (1 + (low / high) ** np.longdouble(p)) ** (1 / np.longdouble(p))


def _adam_by_rate(w: Any, g: Any, mean: Any, square: Any, largest: Any, **o: Any) -> Any:
    """Take the step with both corrections in the rate and in eps, and the averages as interpolations."""
    g = descent(w, g, o.get("weight_decay", 0.0), o.get("maximize", False))
    beta1, beta2, t = o.get("beta1", 0.9), o.get("beta2", 0.999), o.get("t", 1)
    first, second = 1 - np.longdouble(beta1) ** t, 1 - np.longdouble(beta2) ** t
    m = mean + (1 - beta1) * (g - mean) if beta1 >= 0.5 else beta1 * mean + (1 - beta1) * g
    v = beta2 * square + (1 - beta2) * g * g
    if o.get("amsgrad", False):
        largest = np.maximum(largest, v if o.get("maximum", "raw") == "raw" else (v / second).astype(v.dtype))
    raw = o.get("maximum", "raw") == "raw" or not o.get("amsgrad", False)
    used = largest if o.get("amsgrad", False) else v
    scale = np.sqrt(second) if raw else np.longdouble(1)
    eps, place = o.get("eps", 1e-8), o.get("epsilon", "beside")
    if place == "uncorrected":
        move = m * np.sqrt(second) / (np.sqrt(used) + eps)
    elif place == "under":
        move = m * scale / np.sqrt(used + eps * scale * scale)
    else:
        move = m * scale / (np.sqrt(used) + eps * scale)
    return w - o.get("lr", 1e-3) / first * move, m, v, largest


def _long(formula: str) -> Correct:
    """Return the variant that computes in long doubles."""
    good = FAMILIES[formula]

    def up(array: Any) -> Any:
        return np.asarray(array, np.longdouble)

    many = Many(
        lambda *inputs, **o: good.value(*map(up, inputs), **o),
        lambda inputs, c, **o: good.vjp(tuple(map(up, inputs)), up(c), **o),
    )

    def implement(fmt: Format) -> Implementation:
        return replace(implementation(formula, fmt, many), second=None)

    return Correct(f"{formula}-long-double", formula, implement)


def relaid(layout: str, array: Array) -> Array:
    """Return the same numbers in another memory layout."""
    if layout == "channels-last" and array.ndim == 4:
        return np.ascontiguousarray(array.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
    if layout == "strided" and array.ndim:
        whole = np.zeros((*array.shape[:-1], 2 * array.shape[-1]), array.dtype)
        whole[..., ::2] = array
        return whole[..., ::2]
    return np.array(array)


def _moved(formula: str, layout: str, formats: tuple[str, ...] = ALL, naive: bool = False) -> Correct:
    """Return torch's own kernels in the format itself, on arrays laid out as told."""

    def implement(fmt: Format) -> Implementation:
        from gradcheck.formulas import get_formula
        from gradcheck.subjects.torch import CPU

        inner = CPU.implement(get_formula(formula), fmt)
        # Some processors' dot products of bfloat16, which torch convolves by, read subnormal numbers as zero.
        flushes = formula == "conv2d" and fmt.name == BF16

        def moved(arrays: tuple[Array, ...]) -> tuple[Array, ...]:
            return tuple(relaid(layout, array) for array in arrays)

        vjp = inner.vjp
        return replace(
            inner,
            forward=lambda inputs, options: inner.forward(moved(inputs), options),
            vjp=None if vjp is None else lambda inputs, c, options: vjp(moved(inputs), *moved((c,)), options),
            second=None,
            flushes=flushes,
        )

    return Correct(f"{formula}-torch-{layout}", formula, implement, naive, formats)


def _stepped(formula: str, form: str) -> Correct:
    """Return torch's optimizer of this form, one step."""

    def implement(fmt: Format) -> Implementation:
        from gradcheck.formulas import get_formula
        from gradcheck.subjects import torch_optim

        inner = getattr(torch_optim, form).implement(get_formula(formula), fmt)
        # The lists' form adds Nesterov's momentum to the gradient's own array: here its numbers are judged.
        return replace(
            inner,
            forward=lambda inputs, options: inner.forward(tuple(a.copy() for a in inputs), options),
        )

    return Correct(f"{formula}-torch-{form.lower()}", formula, implement, True, WIDE)


LAID_OUT = ("contiguous", "strided", "channels-last")
INDEPENDENT: tuple[Correct, ...] = (
    _other("batch_norm", "welford", _batch_norm_by(_welford)),
    _other("batch_norm", "fsum", _batch_norm_by(_summed), _batch_norm_pull),
    _other("layer_norm", "welford", _layer_norm_by(_welford)),
    _other("layer_norm", "fsum", _layer_norm_by(_summed), _layer_norm_pull),
    _other("softmax", "pairs", _softmax_pairs, _softmax_matrix),
    _other("softmax", "scipy", lambda x, axis=-1: special.softmax(x, axis=axis)),
    _other("log_softmax", "scipy", lambda x, axis=-1: special.log_softmax(x, axis=axis)),
    _other("logsumexp", "scipy", lambda x, axis=-1: special.logsumexp(x, axis=axis)),
    _other("clip_by_norm", "blas", _norms_by(_by_blas)),
    _other("clip_by_norm", "logarithms", _norms_by(_by_logarithms)),
    _other("clip_by_norm", "halves", _norms_by(_by_halves)),
    _other("adam", "by-rate", _adam_by_rate),
    *(_moved(f, layout) for f in ("batch_norm", "conv2d") for layout in LAID_OUT),
    *(_moved(f, layout) for f in ("layer_norm", "softmax", "max_pool2d") for layout in LAID_OUT[:2]),
    *(_stepped(f, form) for f in ("adam", "adamw") for form in ("LOOP", "FOREACH", "FUSED")),
    *(_stepped(f, "FOREACH") for f in ("sgd", "adagrad", "rmsprop", "adadelta", "nadam", "radam", "adamax")),
)
NOT_LONG = {"gradient_norm_penalty", "clip_by_norm", "clip_by_global_norm", "adaptive_clip"}

CORRECT_FAMILIES: tuple[Correct, ...] = (
    *(Correct(f"{f}-float64", f, lambda fmt, f=f: honest_family(f, fmt)) for f in FAMILIES),
    *(_long(f) for f in FAMILIES if f not in NOT_LONG),
    *INDEPENDENT,
    *TORCH,
)
