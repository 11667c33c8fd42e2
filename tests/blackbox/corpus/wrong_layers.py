"""Wrong softmaxes, norms, and modules with parameters."""

from __future__ import annotations

from functools import partial

import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn
from torch.autograd import Function

from tests.blackbox.corpus.operation import full, normal
from tests.blackbox.corpus.proof import Corpus

LAYERS = Corpus()
add = LAYERS.add


class SoftmaxDiagonal(Function):
    @staticmethod
    def forward(ctx, x):
        y = torch.softmax(x, -1)
        ctx.save_for_backward(y)
        return y

    @staticmethod
    def backward(ctx, g):
        (y,) = ctx.saved_tensors
        return g * y * (1 - y)


class LogSoftmaxMean(Function):
    @staticmethod
    def forward(ctx, x):
        y = torch.log_softmax(x, -1)
        ctx.save_for_backward(y)
        return y

    @staticmethod
    def backward(ctx, g):
        (y,) = ctx.saved_tensors
        return g - y.exp() * g.mean(-1, keepdim=True)


class LogsumexpUnshifted(Function):
    """The value is shifted by the maximum, the gradient is not."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return torch.logsumexp(x, -1)

    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        e = torch.exp(x)
        return g.unsqueeze(-1) * e / e.sum(-1, keepdim=True)


class SoftmaxAbsolute(Function):
    """The maximum is taken over the whole array: rows far below it lose all their digits."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return torch.softmax(x, -1)

    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        e = torch.exp(x - x.max())
        y = e / e.sum(-1, keepdim=True)
        return y * (g - (g * y).sum(-1, keepdim=True))


class LayerNormNoMean(Function):
    """The term of the mean's own derivative is missing."""

    @staticmethod
    def forward(ctx, x):
        rstd = torch.rsqrt(x.var(-1, unbiased=False, keepdim=True) + 1e-5)
        y = (x - x.mean(-1, keepdim=True)) * rstd
        ctx.save_for_backward(y, rstd)
        return y

    @staticmethod
    def backward(ctx, g):
        y, rstd = ctx.saved_tensors
        return rstd * (g - y * (g * y).mean(-1, keepdim=True))


class LayerNormEps(Function):
    """The backward forgets epsilon: it shows where a row is nearly constant."""

    @staticmethod
    def forward(ctx, x, eps):
        ctx.save_for_backward(x)
        return F.layer_norm(x, x.shape[-1:], eps=eps)

    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        rstd = torch.rsqrt(x.var(-1, unbiased=False, keepdim=True))
        y = (x - x.mean(-1, keepdim=True)) * rstd
        return rstd * (g - g.mean(-1, keepdim=True) - y * (g * y).mean(-1, keepdim=True)), None


class RmsNormWidth(Function):
    """The mean's divisor is the number of rows, which is right for square inputs only."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x * torch.rsqrt((x * x).mean(-1, keepdim=True) + 1e-6)

    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        r = torch.rsqrt((x * x).mean(-1, keepdim=True) + 1e-6)
        return r * g - r**3 * x * (g * x).sum(-1, keepdim=True) / x.shape[0]


class BatchNormBessel(Function):
    """The variance in the gradient is divided by n - 1."""

    @staticmethod
    def forward(ctx, x):
        y = F.batch_norm(x, None, None, training=True, eps=1e-5)
        ctx.save_for_backward(x)
        return y

    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        rstd = torch.rsqrt(x.var(0) + 1e-5)
        y = (x - x.mean(0)) * rstd
        return rstd * (g - g.mean(0) - y * (g * y).mean(0))


class GroupNormOneSample(Function):
    """Sums the weight's gradient over the places of the last sample only."""

    @staticmethod
    def forward(ctx, x, weight):
        ctx.save_for_backward(x, weight)
        return F.group_norm(x, 2, weight)

    @staticmethod
    def backward(ctx, g):
        x, weight = ctx.saved_tensors
        with torch.enable_grad():
            z = x.detach().requires_grad_()
            y = F.group_norm(z, 2)
            (dx,) = torch.autograd.grad(y, z, g * weight[:, None])
        return dx, (g * y.detach())[-1].sum(-1)


add(
    "softmax-diagonal-only",
    "any input",
    SoftmaxDiagonal.apply,
    lambda: (normal(3, 5),),
    partial(F.softmax, dim=-1),
)
add(
    "log-softmax-mean",
    "any input",
    LogSoftmaxMean.apply,
    lambda: (normal(3, 5),),
    partial(F.log_softmax, dim=-1),
)
add(
    "logsumexp-gradient-overflows",
    "some values",
    LogsumexpUnshifted.apply,
    lambda: (normal(3, 5),),
    partial(torch.logsumexp, dim=-1),
    at=lambda: (full(800.0, 1.0, 799.0).reshape(1, 3),),
)
add(
    "softmax-one-maximum",
    "some values",
    SoftmaxAbsolute.apply,
    lambda: (normal(3, 5),),
    partial(F.softmax, dim=-1),
    at=lambda: (full(0.0, 1.0, 900.0, 901.0).reshape(2, 2),),
)
add(
    "layer-norm-mean-term",
    "any input",
    LayerNormNoMean.apply,
    lambda: (normal(3, 6),),
    lambda x: F.layer_norm(x, x.shape[-1:]),
)
add(
    "layer-norm-eps-forgotten",
    "options",
    lambda x: LayerNormEps.apply(x, 0.1),
    lambda: (normal(3, 6),),
    lambda x: F.layer_norm(x, x.shape[-1:], eps=0.1),
)
add(
    "rms-norm-divisor",
    "some shapes",
    RmsNormWidth.apply,
    lambda: (normal(5, 5),),
    lambda x: F.rms_norm(x, x.shape[-1:], eps=1e-6),
    at=lambda: (normal(3, 6),),
)
add(
    "batch-norm-bessel",
    "any input",
    BatchNormBessel.apply,
    lambda: (normal(7, 3),),
    lambda x: F.batch_norm(x, None, None, training=True),
)
add(
    "group-norm-weight-of-last-sample",
    "some shapes",
    GroupNormOneSample.apply,
    lambda: (normal(1, 4, 3), normal(4, seed=1)),
    lambda x, w: F.group_norm(x, 2, w),
    at=lambda: (normal(2, 4, 3), normal(4, seed=1)),
)


class LinearNoBatchSum(Function):
    """The bias gets the gradient of the first row: right for a batch of one."""

    @staticmethod
    def forward(ctx, x, weight, bias):
        ctx.save_for_backward(x, weight)
        return x @ weight.T + bias

    @staticmethod
    def backward(ctx, g):
        x, weight = ctx.saved_tensors
        return g @ weight, g.T @ x, g[0]


class LinearBiasMean(Function):
    @staticmethod
    def forward(ctx, x, weight, bias):
        ctx.save_for_backward(x, weight)
        return x @ weight.T + bias

    @staticmethod
    def backward(ctx, g):
        x, weight = ctx.saved_tensors
        return g @ weight, g.T @ x, g.mean(0)


class DetachedScale(nn.Module):
    """The learned scale is read through .data and never learns."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.tensor([1.5, 0.5, 2.0]))

    def forward(self, x):
        return x * self.scale.data


class HonestScale(nn.Module):
    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.tensor([1.5, 0.5, 2.0]))

    def forward(self, x):
        return x * self.scale


class HandLinear(nn.Module):
    """A module whose weight gradient is averaged over the batch."""

    class Apply(Function):
        @staticmethod
        def forward(ctx, x, weight):
            ctx.save_for_backward(x, weight)
            return x @ weight.T

        @staticmethod
        def backward(ctx, g):
            x, weight = ctx.saved_tensors
            return g @ weight, g.T @ x / x.shape[0]

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.arange(12.0).reshape(4, 3) / 7)

    def forward(self, x):
        return self.Apply.apply(x, self.weight)


class HonestLinear(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.arange(12.0).reshape(4, 3) / 7)

    def forward(self, x):
        return F.linear(x, self.weight)


class PreluOneGradient(nn.Module):
    """PReLU whose slope gets no share of the last channel."""

    class Apply(Function):
        @staticmethod
        def forward(ctx, x, slope):
            ctx.save_for_backward(x, slope)
            return torch.where(x > 0, x, slope * x)

        @staticmethod
        def backward(ctx, g):
            x, slope = ctx.saved_tensors
            ds = (g * torch.where(x > 0, 0.0, x)).sum(0)
            ds[-1] = 0
            return g * torch.where(x > 0, 1.0, slope), ds

    def __init__(self):
        super().__init__()
        self.slope = nn.Parameter(torch.tensor([0.25, 0.1, 0.3]))

    def forward(self, x):
        return self.Apply.apply(x, self.slope)


class HonestPrelu(nn.Module):
    def __init__(self):
        super().__init__()
        self.slope = nn.Parameter(torch.tensor([0.25, 0.1, 0.3]))

    def forward(self, x):
        return F.prelu(x, self.slope)


add(
    "linear-bias-first-row",
    "some shapes",
    LinearNoBatchSum.apply,
    lambda: (normal(1, 3), normal(4, 3, seed=1), normal(4, seed=2)),
    F.linear,
    at=lambda: (normal(5, 3), normal(4, 3, seed=1), normal(4, seed=2)),
)
add(
    "linear-bias-mean",
    "any input",
    LinearBiasMean.apply,
    lambda: (normal(5, 3), normal(4, 3, seed=1), normal(4, seed=2)),
    F.linear,
)
add("module-scale-detached", "any input", DetachedScale, lambda: (normal(4, 3),), HonestScale)
add("module-linear-averaged", "any input", HandLinear, lambda: (normal(5, 3),), HonestLinear)
add("module-prelu-last-channel", "any input", PreluOneGradient, lambda: (normal(5, 3),), HonestPrelu)
