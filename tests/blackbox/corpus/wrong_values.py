"""Activations that are wrong at some values: far out, saturated, tiny, or exactly at a special place."""

from __future__ import annotations

import math
from functools import partial

import torch
import torch.nn.functional as F  # noqa: N812
from torch.autograd import Function

from tests.blackbox.corpus.operation import full, normal, uniform
from tests.blackbox.corpus.proof import Corpus

VALUES = Corpus()
add = VALUES.add


class SoftplusCut(Function):
    """Beyond six the gradient is taken to be one."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return F.softplus(x, threshold=40)

    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        return torch.where(x > 6, g, g * torch.sigmoid(x))


class SoftplusOverflow(Function):
    """exp(x) / (1 + exp(x)) overflows to NaN beyond 709."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return F.softplus(x)

    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        return g * torch.exp(x) / (1 + torch.exp(x))


class ReluAtZero(Function):
    """Twice the cotangent at exactly zero, where both halves count."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x.clamp_min(0)

    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        return g * (x >= 0) + g * (x == 0)


class HardtanhInside(Function):
    """Lets the gradient through beyond the upper bound."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x.clamp(-4.5, 4.5)

    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        return g * (x > -4.5)


class SwallowsNan(Function):
    """A gradient that is cleaned: infinities and NaN become numbers."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return torch.exp(x)

    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        return torch.nan_to_num(g * torch.exp(x), nan=0.0, posinf=0.0)


class SqrtGuard(Function):
    """The gradient's denominator is clamped, and so wrong for tiny arguments."""

    @staticmethod
    def forward(ctx, x):
        y = torch.sqrt(x)
        ctx.save_for_backward(y)
        return y

    @staticmethod
    def backward(ctx, g):
        (y,) = ctx.saved_tensors
        return g / (2 * y.clamp_min(1e-3))


class LogSigmoidSaturates(Function):
    """1 - sigmoid(x) cancels to zero for large arguments."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return F.logsigmoid(x)

    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        return g * (1 - torch.sigmoid(x))


class SincAtZero(Function):
    """sin(x)/x near zero without its series: the gradient is set to one there, and is zero."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return torch.where(x == 0, torch.ones_like(x), torch.sin(x) / torch.where(x == 0, 1.0, x))

    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        safe = torch.where(x == 0, 1.0, x)
        return g * torch.where(x == 0, 1.0, (x * torch.cos(x) - torch.sin(x)) / (safe * safe))


class SiluFarLeft(Function):
    """The gradient far on the left is cut to zero at -20, where it is still 4e-8."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return F.silu(x)

    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        s = torch.sigmoid(x)
        return torch.where(x < -20, 0.0, g * s * (1 + x * (1 - s)))


class CubeFarLeft(Function):
    """Beyond ten the square is written as x |x|, which loses the sign."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x**3

    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        return 3 * g * x * torch.where(x.abs() > 10, x.abs(), x)


for name, cls, honest, place in (
    ("softplus-cut-at-six", SoftplusCut, partial(F.softplus, threshold=40), full(7.0, 6.5)),
    ("softplus-gradient-overflows", SoftplusOverflow, F.softplus, full(800.0, 1.0)),
    ("relu-twice-at-zero", ReluAtZero, F.relu, full(0.0, 1.0)),
    ("hardtanh-one-side", HardtanhInside, partial(F.hardtanh, min_val=-4.5, max_val=4.5), full(5.0, 1.0)),
    ("sinc-gradient-at-zero", SincAtZero, lambda x: torch.sinc(x / math.pi), full(0.0, 1.0)),
    ("silu-far-left", SiluFarLeft, F.silu, full(-21.0, -25.0)),
    ("cube-far-left", CubeFarLeft, lambda x: x**3, full(-11.0, 1.0)),
):
    add(name, "some values", cls.apply, lambda: (normal(4, 5, seed=1),), honest, at=lambda p=place: (p,))
add(
    "exp-cleans-infinity",
    "some values",
    SwallowsNan.apply,
    lambda: (normal(4, 5, seed=1),),
    torch.exp,
    at=lambda: (full(720.0, 1.0),),
)
# A slope far below the last digit of the usual ones: only a reference can tell.
add(
    "log-sigmoid-cancels",
    "some values",
    LogSigmoidSaturates.apply,
    lambda: (normal(4, 5, seed=1),),
    F.logsigmoid,
    at=lambda: (full(38.0, 40.0),),
    reference="log_sigmoid",
)
add(
    "sqrt-clamped-denominator",
    "some values",
    SqrtGuard.apply,
    lambda: (uniform(3, 4, low=0.5, high=2.0),),
    torch.sqrt,
    at=lambda: (full(1e-8, 1.0),),
)
