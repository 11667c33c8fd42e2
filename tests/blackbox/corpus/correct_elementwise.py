"""Right elementwise functions: PyTorch's own, and compositions as users write them."""

from __future__ import annotations

import math
from functools import partial

import torch
import torch.nn.functional as F  # noqa: N812

from tests.blackbox.corpus.right import Rights

ELEMENTWISE = Rights()
one = ELEMENTWISE.elementwise

HUGE, TINY = (1e8,), (1e-8,)

one("relu", F.relu, (0,), reference="relu")
one("relu6", F.relu6, (0, 6), reference="relu6")
one("leaky-relu", partial(F.leaky_relu, negative_slope=0.2), (0,))
one("elu", partial(F.elu, alpha=1.3), (0,))
one("celu", partial(F.celu, alpha=0.7), (0,))
one("selu", F.selu, (0,), reference="selu")
one("gelu", F.gelu, (0,), reference="gelu")
one("gelu-tanh", partial(F.gelu, approximate="tanh"), (0,), reference="gelu_tanh")
one("silu", F.silu, reference="silu")
one("mish", F.mish, reference="mish")
one("softplus", F.softplus, (0, 20), reference="softplus")
one("softsign", F.softsign, (0,), reference="softsign")
one("sigmoid", torch.sigmoid, reference="sigmoid")
one("tanh", torch.tanh, reference="tanh")
one("log-sigmoid", F.logsigmoid, (0,), reference="log_sigmoid")
one("hardtanh", partial(F.hardtanh, min_val=-0.5, max_val=1.5), (-0.5, 1.5))
one("hardsigmoid", F.hardsigmoid, (-3, 3), reference="hardsigmoid")
one("hardswish", F.hardswish, (-3, 3), reference="hardswish")
one("softshrink", F.softshrink, (-0.5, 0.5))
one("tanhshrink", F.tanhshrink, scales=HUGE)
one("abs", torch.abs, (0,))
one("square", torch.square)
one("cube", lambda x: x**3)
one("clamp", lambda x: x.clamp(-1, 1), (-1, 1))
one("clamp-min", lambda x: x.clamp_min(0.25), (0.25,))
one("exp", torch.exp, scales=TINY)
one("expm1", torch.expm1, scales=TINY)
one("sin", torch.sin)
one("cos", torch.cos)
one("atan", torch.atan)
one("asinh", torch.asinh)
one("erf", torch.erf)
one("erfc", torch.erfc)
one("sinc", torch.sinc, scales=TINY)
one("log1p-square", lambda x: torch.log1p(x * x))
one("logaddexp-zero", lambda x: torch.logaddexp(x, torch.zeros_like(x)))
one("where", lambda x: torch.where(x > 0, x, 0.1 * x), (0,))
one("positive-part-squared", lambda x: x.clamp_min(0) ** 2, (0,))
one("maximum-of-two-lines", lambda x: torch.maximum(2 * x, 1 - x), (1 / 3,))
one("safe-log1p", lambda x: torch.where(x > 0, torch.log1p(x.clamp_min(0)), 0.0), (0,))
one("negative", torch.neg)
one("scaled", lambda x: 3.7 * x - 0.2)
one("reciprocal-of-square", lambda x: 1 / (1 + x * x))
one("log-cosh", lambda x: torch.logaddexp(x, -x) - math.log(2), scales=HUGE)
one("swish-beta", lambda x, beta=1.7: x * torch.sigmoid(beta * x))
one("cosine-window", lambda x: 0.5 * (1 + torch.cos(math.pi * x.clamp(-1, 1))), (-1, 1))
one("constant-zero-times", lambda x: 0 * x)
one("detached-scale", lambda x: x * math.sqrt(2.0))
one("two-outputs", lambda x: (x.sin(), x.cos()))
one("three-outputs", lambda x: (2 * x, x.sum(), x.square().sum()))
one("tuple-with-constant", lambda x: (x * x, 2 * x))

one("log", torch.log, interval=(0.1, 3))
one("log2", torch.log2, interval=(0.1, 3))
one("log1p", torch.log1p, interval=(-0.8, 3))
one("sqrt", torch.sqrt, interval=(0.1, 3))
one("rsqrt", torch.rsqrt, interval=(0.1, 3))
one("reciprocal", torch.reciprocal, interval=(0.2, 3))
one("acos", torch.acos, interval=(-0.9, 0.9))
one("asin", torch.asin, interval=(-0.9, 0.9))
one("atanh", torch.atanh, interval=(-0.9, 0.9))
one("acosh", torch.acosh, interval=(1.2, 4))
one("logit", torch.logit, interval=(0.1, 0.9))
one("tan", torch.tan, interval=(-1.2, 1.2))
one("power", lambda x: x**2.5, interval=(0.1, 3))
one("lgamma", torch.lgamma, interval=(0.3, 4))
one("digamma", torch.digamma, interval=(0.5, 4))
one("entropy", lambda x: -torch.special.xlogy(x, x), interval=(0.05, 1))
one("erfinv", torch.erfinv, interval=(-0.8, 0.8))
one("cube-root", lambda x: x.sign() * x.abs() ** (1 / 3), interval=(0.2, 3))


def in_place_inside(x):
    """Changes only what it made itself."""
    y = x * 2
    y += 1
    y.mul_(3)
    return torch.sin(y).mul_(0.5)


def filled_by_rows(x):
    out = torch.zeros_like(x)
    out[..., ::2] = x[..., ::2].sin()
    out[..., 1::2] = x[..., 1::2].cos()
    return out


one("in-place-inside", in_place_inside)
one("filled-by-slices", filled_by_rows)
