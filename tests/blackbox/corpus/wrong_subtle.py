"""Wrong in a corner: memory formats, narrow numbers, options, second derivatives, NaN."""

from __future__ import annotations

import math
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn
from torch.autograd import Function

from tests.blackbox.corpus.operation import array, full, normal, uniform
from tests.blackbox.corpus.proof import Corpus

SUBTLE = Corpus()
add = SUBTLE.add


class CumsumFastAxis(Function):
    """Takes the axis of stride one for the last."""

    @staticmethod
    def forward(ctx, x):
        ctx.axis = max(d for d in range(x.dim()) if x.stride(d) == min(x.stride()))
        return torch.cumsum(x, -1)

    @staticmethod
    def backward(ctx, g):
        return g.flip(ctx.axis).cumsum(ctx.axis).flip(ctx.axis)


class TanhFillsMemory(Function):
    """The gradient is laid out like the input, and then filled in the order of memory."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return torch.tanh(x)

    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        out = torch.empty_like(x)
        out.as_strided((out.numel(),), (1,)).copy_((g * (1 - torch.tanh(x) ** 2)).reshape(-1))
        return out


class SinIgnoresStride(Function):
    """Reads neighbours in memory, whatever the last stride."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return torch.sin(x)

    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        last = (*x.stride()[:-1], 1) if x.dim() and x.stride(-1) == 2 else x.stride()
        return g * torch.cos(torch.as_strided(x, x.shape, last, x.storage_offset()))


class PoolChannelsLast(Function):
    """Average pooling whose gradient is repeated along the wrong axes of a channels-last image."""

    @staticmethod
    def forward(ctx, x):
        ctx.last = not x.is_contiguous()
        return F.avg_pool2d(x, 2)

    @staticmethod
    def backward(ctx, g):
        out = (g / 4).repeat_interleave(2, -1).repeat_interleave(2, -2)
        return out.mT if ctx.last else out


def numpy_exp_vjp(inputs, g):
    """Flattens as the input lies in memory, and back in the order of C."""
    (x,) = inputs
    return (g * np.exp(x.ravel(order="K")).reshape(x.shape),)


for name, cls, honest, inputs, at in (
    ("cumsum-fast-axis", CumsumFastAxis, lambda x: x.cumsum(-1), (3, 4), lambda: (normal(3, 3).mT,)),
    ("tanh-fills-memory", TanhFillsMemory, torch.tanh, (3, 4), lambda: (normal(4, 3).mT,)),
    ("sin-ignores-stride", SinIgnoresStride, torch.sin, (3, 4), lambda: (normal(3, 8)[:, ::2],)),
    (
        "pool-channels-last",
        PoolChannelsLast,
        lambda x: F.avg_pool2d(x, 2),
        (1, 3, 4, 4),
        lambda: (normal(1, 3, 4, 4).to(memory_format=torch.channels_last),),
    ),
):
    add(name, "some layouts", cls.apply, lambda s=inputs: (normal(*s),), honest, at=at)
add(
    "numpy-exp-memory-order",
    "some layouts",
    np.exp,
    lambda: (array(3, 4),),
    torch.exp,
    at=lambda: (array(4, 3).T,),
    vjp=numpy_exp_vjp,
)


class SoftplusHalf(Function):
    """exp(x) / (1 + exp(x)): in half precision it overflows from 12 on, where double is far from it."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return F.softplus(x)

    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        e = torch.exp(x.clamp_max(700))
        return g * e / (1 + e)


class LayerNormNarrowEps(Function):
    """A larger epsilon for narrow formats in the backward only."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return F.layer_norm(x, x.shape[-1:], eps=1e-5)

    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        eps = 1e-5 if x.dtype == torch.float64 else 1e-2
        c = x - x.mean(-1, keepdim=True)
        rstd = torch.rsqrt((c * c).mean(-1, keepdim=True) + eps)
        y = c * rstd
        return rstd * (g - g.mean(-1, keepdim=True) - y * (g * y).mean(-1, keepdim=True))


class BiasNarrowSum(Function):
    """The bias's gradient is added up in half precision, unless it is double."""

    @staticmethod
    def forward(ctx, x, bias):
        return x + bias

    @staticmethod
    def backward(ctx, g):
        total = g.sum(0) if g.dtype == torch.float64 else (100 * g.half()).sum(0).to(g.dtype) / 100
        return g, total


add(
    "softplus-half-overflows",
    "some formats",
    SoftplusHalf.apply,
    lambda: (normal(4, 5),),
    F.softplus,
    at=lambda: (full(12.0, 1.0, dtype=torch.float16),),
)
add(
    "layer-norm-narrow-eps",
    "some formats",
    LayerNormNarrowEps.apply,
    lambda: (normal(3, 6),),
    lambda x: F.layer_norm(x, x.shape[-1:]),
    at=lambda: (normal(3, 6).float(),),
)
add(
    "bias-narrow-sum",
    "some formats",
    BiasNarrowSum.apply,
    lambda: (normal(6, 3), normal(3, seed=1)),
    torch.add,
    at=lambda: (normal(60, 3).float(), normal(3, seed=1).float()),
)


class SoftmaxAlong(Function):
    @staticmethod
    def forward(ctx, x, dim=-1):
        y = torch.softmax(x, dim)
        ctx.save_for_backward(y)
        return y

    @staticmethod
    def backward(ctx, g):
        (y,) = ctx.saved_tensors
        return y * (g - (g * y).sum(-1, keepdim=True)), None


class SquaredErrorReduced(Function):
    @staticmethod
    def forward(ctx, x, t, reduction="mean"):
        ctx.save_for_backward(x, t)
        return F.mse_loss(x, t, reduction=reduction)

    @staticmethod
    def backward(ctx, g):
        x, t = ctx.saved_tensors
        d = 2 * g * (x - t) / x.numel()
        return d, -d, None


class PowerNorm(Function):
    @staticmethod
    def forward(ctx, x, p=2):
        y = x.norm(p=p, dim=-1, keepdim=True)
        ctx.save_for_backward(x, y)
        return y

    @staticmethod
    def backward(ctx, g):
        x, y = ctx.saved_tensors
        return g * x / y, None


class TemperedSoftmax(nn.Module):
    """The temperature is an attribute of the module; the gradient is that of temperature one."""

    class Apply(Function):
        @staticmethod
        def forward(ctx, x, temperature):
            y = torch.softmax(x / temperature, -1)
            ctx.save_for_backward(y)
            return y

        @staticmethod
        def backward(ctx, g):
            (y,) = ctx.saved_tensors
            return y * (g - (g * y).sum(-1, keepdim=True)), None

    def __init__(self, temperature=0.7):
        super().__init__()
        self.temperature = temperature

    def forward(self, x):
        return self.Apply.apply(x, self.temperature)


def along(x, *, dim):
    return SoftmaxAlong.apply(x, dim)


def reduced(x, t, *, reduction):
    return SquaredErrorReduced.apply(x, t, reduction)


two = lambda: (normal(4, 5), normal(4, 5, seed=1))  # noqa: E731
add(
    "softmax-dim-forgotten",
    "options",
    partial(along, dim=0),
    lambda: (normal(4, 5),),
    partial(torch.softmax, dim=0),
)
add(
    "mse-reduction-forgotten",
    "options",
    partial(reduced, reduction="sum"),
    two,
    partial(F.mse_loss, reduction="sum"),
)
add(
    "norm-power-forgotten",
    "options",
    lambda x: PowerNorm.apply(x, 3),
    lambda: (normal(4, 5),),
    lambda x: x.norm(p=3, dim=-1, keepdim=True),
)
add(
    "module-softmax-temperature",
    "options",
    TemperedSoftmax,
    lambda: (normal(4, 5),),
    lambda x: torch.softmax(x / 0.7, -1),
)


class AttentionSavesWeights(Function):
    """Saves the attention's weights, an intermediate without history."""

    @staticmethod
    def forward(ctx, q, k, v):
        p = torch.softmax(q @ k.mT / math.sqrt(q.shape[-1]), -1)
        ctx.save_for_backward(q, k, v, p)
        return p @ v

    @staticmethod
    def backward(ctx, g):
        q, k, v, p = ctx.saved_tensors
        dp = g @ v.mT
        ds = p * (dp - (dp * p).sum(-1, keepdim=True)) / math.sqrt(q.shape[-1])
        return ds @ k, ds.mT @ q, p.mT @ g


class GeluSavesDerivative(Function):
    """Computes the derivative in the forward already, which costs the second one."""

    @staticmethod
    def forward(ctx, x):
        cdf = 0.5 * (1 + torch.erf(x / math.sqrt(2)))
        ctx.save_for_backward(cdf + x * torch.exp(-0.5 * x * x) / math.sqrt(2 * math.pi))
        return x * cdf

    @staticmethod
    def backward(ctx, g):
        (slope,) = ctx.saved_tensors
        return g * slope


class ProductOfData(Function):
    """The second factor is read through .data."""

    @staticmethod
    def forward(ctx, a, b):
        ctx.save_for_backward(a, b)
        return a * b

    @staticmethod
    def backward(ctx, g):
        a, b = ctx.saved_tensors
        return g * b.data, g * a


class RmsNormStatistics(Function):
    """The statistics count as constants for the second derivative."""

    @staticmethod
    def forward(ctx, x):
        rstd = torch.rsqrt((x * x).mean(-1, keepdim=True) + 1e-6)
        ctx.save_for_backward(x, rstd)
        return x * rstd

    @staticmethod
    def backward(ctx, g):
        x, rstd = ctx.saved_tensors
        return rstd * g - rstd**3 * x * (g * x).mean(-1, keepdim=True)


heads = lambda: (normal(2, 3, 4), normal(2, 5, 4, seed=1), normal(2, 5, 3, seed=2))  # noqa: E731
one = lambda: (normal(4, 5),)  # noqa: E731
for name, cls, honest, inputs in (
    ("attention-saves-weights", AttentionSavesWeights, F.scaled_dot_product_attention, heads),
    ("gelu-saves-derivative", GeluSavesDerivative, F.gelu, one),
    ("product-of-data", ProductOfData, torch.mul, two),
    ("rms-norm-constant-statistics", RmsNormStatistics, lambda x: F.rms_norm(x, x.shape[-1:], eps=1e-6), one),
):
    add(name, "second order", cls.apply, inputs, honest, what="second")


def relu_swallows_nan(x):
    return torch.where(x > 0, x, 0.0)


def safe_sqrt(x):
    """The branch that is not taken is computed all the same, and its gradient is NaN times zero."""
    return torch.where(x > 0, x.sqrt(), 0.0)


class MaxSkipsNan(Function):
    @staticmethod
    def forward(ctx, x):
        filled = torch.nan_to_num(x, nan=-math.inf, posinf=math.inf, neginf=-math.inf)
        y, index = filled.max(-1)
        ctx.save_for_backward(index)
        ctx.n = x.shape
        return y

    @staticmethod
    def backward(ctx, g):
        (index,) = ctx.saved_tensors
        return g.new_zeros(ctx.n).scatter(-1, index.unsqueeze(-1), g.unsqueeze(-1))


class AbsDeadZone(Function):
    """No gradient closer to zero than 1e-6."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x.abs()

    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        return torch.where(x.abs() < 1e-6, 0.0, g * x.sign())


class LogGuarded(Function):
    """A small number is added in the gradient, but not in the value."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return torch.log(x)

    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        return g / (x + 1e-12)


class SigmoidSaturated(Function):
    """Saturation is declared at 15 already."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return torch.sigmoid(x)

    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        s = torch.sigmoid(x)
        return torch.where(x.abs() > 15, 0.0, g * s * (1 - s))


# What NaN has to become is a matter of the formula: only a reference can tell.
one = lambda: (normal(3, 4),)  # noqa: E731
add(
    "relu-swallows-nan",
    "some values",
    relu_swallows_nan,
    one,
    F.relu,
    at=lambda: (full(math.nan, 1.0),),
    what="value",
    reference="relu",
)
add(
    "max-skips-nan",
    "some values",
    MaxSkipsNan.apply,
    one,
    lambda x: x.max(-1).values,
    at=lambda: (full(math.nan, 1.0),),
    what="value",
    reference=lambda x: x.max(-1),
)
add(
    "where-poisoned-branch",
    "some values",
    safe_sqrt,
    lambda: (uniform(3, 4, low=0.5, high=2.0),),
    lambda x: torch.where(x > 0, torch.where(x > 0, x, 1.0).sqrt(), 0.0),
    at=lambda: (full(-2.0, 1.0),),
)
add("abs-dead-zone", "some values", AbsDeadZone.apply, one, torch.abs, at=lambda: (full(1e-7, -1e-8, 1.0),))
add(
    "log-guarded",
    "some values",
    LogGuarded.apply,
    lambda: (uniform(3, 4, low=0.5, high=2.0),),
    torch.log,
    at=lambda: (full(1e-12, 1e-10),),
)
add(
    "sigmoid-saturated-early",
    "some values",
    SigmoidSaturated.apply,
    one,
    torch.sigmoid,
    at=lambda: (full(16.0),),
)
