"""Wrong pairs of a NumPy forward and its vjp, and functions that are not the formula they are said to be."""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from scipy import special
from torch import nn

from tests.blackbox.corpus.operation import array, full, normal
from tests.blackbox.corpus.proof import Corpus

NUMPY = Corpus()
add = NUMPY.add


def linear(x, w):
    return x @ w.T


def linear_vjp_transposed(inputs, g):
    x, w = inputs
    return g @ w, (x.T @ g).reshape(w.shape)


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def softmax_vjp_rows(inputs, g):
    """The sum runs over all rows: right for one row."""
    y = softmax(inputs[0])
    return (y * (g - (g * y).sum()),)


def logistic(x):
    return special.expit(x)


def logistic_vjp_series(inputs, g):
    """A series of the sigmoid's derivative, good within a millionth for |x| < 0.1 only."""
    (x,) = inputs
    return (g * (0.25 - x**2 / 16 + x**4 / 96),)


def mean_rows(x):
    return x.mean(0)


def mean_rows_vjp(inputs, g):
    (x,) = inputs
    return (np.broadcast_to(g / x.shape[1], x.shape),)


def logsumexp(x):
    return special.logsumexp(x, -1)


def logsumexp_vjp_naive(inputs, g):
    (x,) = inputs
    with np.errstate(over="ignore", invalid="ignore"):
        e = np.exp(x)
        return (g[..., None] * e / e.sum(-1, keepdims=True),)


def huber(x):
    return np.where(np.abs(x) < 4, x * x / 2, 4 * (np.abs(x) - 2))


def huber_vjp(inputs, g):
    (x,) = inputs
    return (g * np.where(x < 4, np.where(x > -4, x, 4.0), 4.0),)


def distance(x, y):
    d = x - y
    return np.sqrt((d * d).sum(-1))


def distance_vjp(inputs, g):
    """The second input's gradient has lost its minus."""
    x, y = inputs
    u = (x - y) / distance(x, y)[..., None] * g[..., None]
    return u, u


def layer_norm(x, gain):
    c = x - x.mean(-1, keepdims=True)
    return gain * c / np.sqrt((c * c).mean(-1, keepdims=True) + 1e-5)


def layer_norm_vjp(inputs, g):
    """Right but for one entry of the gain's gradient, which is off by a part in a million."""
    x, gain = inputs
    c = x - x.mean(-1, keepdims=True)
    r = 1 / np.sqrt((c * c).mean(-1, keepdims=True) + 1e-5)
    y, h = c * r, g * gain
    dgain = (g * y).sum(0)
    dgain[-1] *= 1 + 1e-6
    return r * (h - h.mean(-1, keepdims=True) - y * (h * y).mean(-1, keepdims=True)), dgain


def cumulative(x):
    return np.cumsum(x)


def cumulative_vjp(inputs, g):
    """Right up to 16 elements."""
    out = np.cumsum(g[::-1])[::-1].copy()
    out[16:] = g[16:]
    return (out,)


for name, cause, f, vjp, inputs, honest, at in (
    (
        "numpy-linear-reshaped",
        "any input",
        linear,
        linear_vjp_transposed,
        lambda: (array(5, 3), array(4, 3, seed=1)),
        F.linear,
        None,
    ),
    (
        "numpy-softmax-all-rows",
        "some shapes",
        softmax,
        softmax_vjp_rows,
        lambda: (array(1, 5),),
        lambda x: x.softmax(-1),
        lambda: (array(3, 5),),
    ),
    (
        "numpy-sigmoid-series",
        "any input",
        logistic,
        logistic_vjp_series,
        lambda: (array(4),),
        torch.sigmoid,
        None,
    ),
    (
        "numpy-mean-other-axis",
        "some shapes",
        mean_rows,
        mean_rows_vjp,
        lambda: (array(4, 4),),
        lambda x: x.mean(0),
        lambda: (array(4, 3),),
    ),
    (
        "numpy-logsumexp-overflows",
        "some values",
        logsumexp,
        logsumexp_vjp_naive,
        lambda: (array(3, 4),),
        lambda x: x.logsumexp(-1),
        lambda: (np.array([[720.0, 700.0]]),),
    ),
    (
        "numpy-huber-negative-side",
        "some values",
        huber,
        huber_vjp,
        lambda: (array(3, 4),),
        lambda x: F.huber_loss(x, torch.zeros_like(x), delta=4.0, reduction="none"),
        lambda: (np.array([-5.0, 1.0]),),
    ),
    (
        "numpy-distance-minus",
        "any input",
        distance,
        distance_vjp,
        lambda: (array(3, 4), array(3, 4, seed=1)),
        lambda x, y: (x - y).norm(dim=-1),
        None,
    ),
    (
        "numpy-layer-norm-one-entry",
        "any input",
        layer_norm,
        layer_norm_vjp,
        lambda: (array(3, 6), array(6, seed=1)),
        lambda x, w: F.layer_norm(x, x.shape[-1:], w),
        None,
    ),
    (
        "numpy-cumsum-sixteen",
        "some shapes",
        cumulative,
        cumulative_vjp,
        lambda: (array(7),),
        lambda x: x.cumsum(0),
        lambda: (array(19),),
    ),
):
    add(name, cause, f, inputs, honest, at=at, vjp=vjp)


def erf_gelu(x):
    return 0.5 * x * (1 + special.erf(x / math.sqrt(2)))


def rms(x):
    return x / np.sqrt((x * x).mean(-1, keepdims=True) + 1e-6)


def rms_eps_outside(x):
    return x / (torch.sqrt((x * x).mean(-1, keepdim=True)) + 1e-6)


def log_cosh(x):
    return np.logaddexp(x, -x) - math.log(2)


def log_cosh_naive(x):
    """Overflows to infinity beyond 710; everything smaller is right."""
    return torch.log(torch.cosh(x))


def variance_biased(x):
    return x.var(-1, unbiased=False)


def attention_unscaled(q, k, v):
    return torch.softmax(q @ k.mT, -1) @ v


def attention(q, k, v):
    s = q @ np.swapaxes(k, -1, -2) / math.sqrt(q.shape[-1])
    return softmax(s) @ v


class TanhGelu(nn.Module):
    def forward(self, x):
        return F.gelu(x, approximate="tanh")


def rotate(x):
    """Rotary pairs: the second half's sine has the wrong sign."""
    a, b = x.chunk(2, -1)
    return torch.cat([a * math.cos(0.3) - b * math.sin(0.3), b * math.cos(0.3) - a * math.sin(0.3)], -1)


def rotated(x):
    a, b = np.split(x, 2, -1)
    return np.concatenate([a * math.cos(0.3) - b * math.sin(0.3), b * math.cos(0.3) + a * math.sin(0.3)], -1)


def torch_rotated(x):
    return torch.from_numpy(rotated(x.detach().numpy()))


def example():
    return (normal(3, 6, seed=5),)


def consistent(name, f, reference, honest, inputs=example, at=None):
    add(name, "consistent but wrong", f, inputs, honest, at=at, what="value", reference=reference)


consistent("module-gelu-by-tanh", TanhGelu, erf_gelu, F.gelu)
consistent("rms-eps-outside", rms_eps_outside, rms, lambda x: F.rms_norm(x, x.shape[-1:], eps=1e-6))
consistent(
    "log-cosh-overflows",
    log_cosh_naive,
    log_cosh,
    lambda x: torch.logaddexp(x, -x) - math.log(2),
    at=lambda: (full(800.0, 1.0),),
)
consistent("variance-biased", variance_biased, lambda x: x.var(-1, ddof=1), lambda x: x.var(-1))
consistent("rotary-sine-sign", rotate, rotated, torch_rotated)
consistent(
    "attention-unscaled",
    attention_unscaled,
    attention,
    F.scaled_dot_product_attention,
    lambda: (normal(2, 3, 4), normal(2, 5, 4, seed=1), normal(2, 5, 4, seed=2)),
)


def silu_pair(x):
    return x * special.expit(1.001 * x)


def silu_pair_vjp(inputs, g):
    (x,) = inputs
    s = special.expit(1.001 * x)
    return (g * (s + 1.001 * x * s * (1 - s)),)


add(
    "numpy-silu-steeper",
    "consistent but wrong",
    silu_pair,
    lambda: (array(3, 4),),
    F.silu,
    what="value",
    reference="silu",
    vjp=silu_pair_vjp,
)
