"""Right autograd functions, written by hand; their texts are what the mutations start from.

Each saves inputs and outputs only, so that its second derivative is right as well.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F  # noqa: N812
from torch.autograd import Function


class Gelu(Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return 0.5 * x * (1 + torch.erf(x / math.sqrt(2)))

    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        cdf = 0.5 * (1 + torch.erf(x / math.sqrt(2)))
        return g * (cdf + x * torch.exp(-0.5 * x * x) / math.sqrt(2 * math.pi))


class Silu(Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x * torch.sigmoid(x)

    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        s = torch.sigmoid(x)
        return g * s * (1 + x * torch.sigmoid(-x))


class Tanh(Function):
    @staticmethod
    def forward(ctx, x):
        y = torch.tanh(x)
        ctx.save_for_backward(y)
        return y

    @staticmethod
    def backward(ctx, g):
        (y,) = ctx.saved_tensors
        return g * (1 - y**2)


class Sigmoid(Function):
    @staticmethod
    def forward(ctx, x):
        y = torch.sigmoid(x)
        ctx.save_for_backward(y)
        return y

    @staticmethod
    def backward(ctx, g):
        (y,) = ctx.saved_tensors
        return g * y * (1 - y)


class Softplus(Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x.clamp_min(0) + torch.log1p(torch.exp(-x.abs()))

    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        return g * torch.sigmoid(x)


class Mish(Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x * torch.tanh(F.softplus(x))

    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        t = torch.tanh(F.softplus(x))
        return g * (t + x * (1 - t * t) * torch.sigmoid(x))


class LeakyRelu(Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return torch.where(x > 0, x, 0.1 * x)

    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        return torch.where(x > 0, g, 0.1 * g)


class Elu(Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return torch.where(x > 0, x, 1.5 * torch.expm1(x.clamp_max(0)))

    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        return torch.where(x > 0, g, 1.5 * g * torch.exp(x.clamp_max(0)))


class Softsign(Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x / (1 + x.abs())

    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        return g / (1 + x.abs()) ** 2


class LogCosh(Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x.abs() + F.softplus(-2 * x.abs()) - math.log(2)

    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        return g * torch.tanh(x)


class Softmax(Function):
    @staticmethod
    def forward(ctx, x):
        y = torch.softmax(x, -1)
        ctx.save_for_backward(y)
        return y

    @staticmethod
    def backward(ctx, g):
        (y,) = ctx.saved_tensors
        return y * (g - (g * y).sum(-1, keepdim=True))


class LogSoftmax(Function):
    @staticmethod
    def forward(ctx, x):
        y = torch.log_softmax(x, -1)
        ctx.save_for_backward(y)
        return y

    @staticmethod
    def backward(ctx, g):
        (y,) = ctx.saved_tensors
        return g - torch.exp(y) * g.sum(-1, keepdim=True)


class Logsumexp(Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return torch.logsumexp(x, -1)

    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        return g.unsqueeze(-1) * torch.softmax(x, -1)


class Linear(Function):
    @staticmethod
    def forward(ctx, x, weight, bias):
        ctx.save_for_backward(x, weight)
        return x @ weight.mT + bias

    @staticmethod
    def backward(ctx, g):
        x, weight = ctx.saved_tensors
        return g @ weight, g.mT @ x, g.sum_to_size(g.shape[-1])


class Matmul(Function):
    @staticmethod
    def forward(ctx, a, b):
        ctx.save_for_backward(a, b)
        return a @ b

    @staticmethod
    def backward(ctx, g):
        a, b = ctx.saved_tensors
        return g @ b.mT, a.mT @ g


class Outer(Function):
    @staticmethod
    def forward(ctx, a, b):
        ctx.save_for_backward(a, b)
        return torch.outer(a, b)

    @staticmethod
    def backward(ctx, g):
        a, b = ctx.saved_tensors
        return g @ b, g.mT @ a


class LayerNorm(Function):
    @staticmethod
    def forward(ctx, x, gain, bias):
        ctx.save_for_backward(x, gain)
        return F.layer_norm(x, x.shape[-1:], gain, bias, 1e-5)

    @staticmethod
    def backward(ctx, g):
        x, gain = ctx.saved_tensors
        centred = x - x.mean(-1, keepdim=True)
        rstd = torch.rsqrt((centred**2).mean(-1, keepdim=True) + 1e-5)
        y = centred * rstd
        h = g * gain
        dx = rstd * (h - h.mean(-1, keepdim=True) - y * (h * y).mean(-1, keepdim=True))
        return dx, (g * y).sum_to_size(gain.shape), g.sum_to_size(gain.shape)


class RmsNorm(Function):
    @staticmethod
    def forward(ctx, x, gain):
        ctx.save_for_backward(x, gain)
        return gain * x * torch.rsqrt((x**2).mean(-1, keepdim=True) + 1e-6)

    @staticmethod
    def backward(ctx, g):
        x, gain = ctx.saved_tensors
        rstd = torch.rsqrt((x**2).mean(-1, keepdim=True) + 1e-6)
        y, h = x * rstd, g * gain
        return rstd * (h - y * (h * y).mean(-1, keepdim=True)), (g * y).sum_to_size(gain.shape)


class Attention(Function):
    @staticmethod
    def forward(ctx, q, k, v):
        ctx.save_for_backward(q, k, v)
        return torch.softmax(q @ k.mT / math.sqrt(q.shape[-1]), -1) @ v

    @staticmethod
    def backward(ctx, g):
        q, k, v = ctx.saved_tensors
        scale = 1 / math.sqrt(q.shape[-1])
        p = torch.softmax(scale * (q @ k.mT), -1)
        dp = g @ v.mT
        ds = scale * p * (dp - (dp * p).sum(-1, keepdim=True))
        return ds @ k, ds.mT @ q, p.mT @ g


class SquaredError(Function):
    @staticmethod
    def forward(ctx, x, target):
        ctx.save_for_backward(x, target)
        return ((x - target) ** 2).mean()

    @staticmethod
    def backward(ctx, g):
        x, target = ctx.saved_tensors
        d = 2 * g * (x - target)
        d = d / d.numel()
        return d.sum_to_size(x.shape), -d.sum_to_size(target.shape)


class LogitsLoss(Function):
    @staticmethod
    def forward(ctx, x, target):
        ctx.save_for_backward(x, target)
        return F.binary_cross_entropy_with_logits(x, target, reduction="none").sum(-1)

    @staticmethod
    def backward(ctx, g):
        x, target = ctx.saved_tensors
        g = g.unsqueeze(-1)
        return g * (torch.sigmoid(x) - target), -g * x


class Huber(Function):
    @staticmethod
    def forward(ctx, x, target):
        ctx.save_for_backward(x, target)
        return F.huber_loss(x, target, reduction="none", delta=0.75)

    @staticmethod
    def backward(ctx, g):
        x, target = ctx.saved_tensors
        d = g * (x - target).clamp(-0.75, 0.75)
        return d, -d


class Cosine(Function):
    @staticmethod
    def forward(ctx, a, b):
        if a.shape != b.shape:
            raise ValueError("expected two arrays of one shape")
        ctx.save_for_backward(a, b)
        return (a * b).sum(-1) / (a.norm(dim=-1) * b.norm(dim=-1))

    @staticmethod
    def backward(ctx, g):
        a, b = ctx.saved_tensors
        p, q = a.norm(dim=-1, keepdim=True), b.norm(dim=-1, keepdim=True)
        u, v = a / p, b / q
        c = (u * v).sum(-1, keepdim=True)
        g = g.unsqueeze(-1)
        return g * (v - c * u) / p, g * (u - c * v) / q


class Cumsum(Function):
    @staticmethod
    def forward(ctx, x):
        return torch.cumsum(x, -1)

    @staticmethod
    def backward(ctx, g):
        return g.flip(-1).cumsum(-1).flip(-1)


class Inverse(Function):
    @staticmethod
    def forward(ctx, a):
        y = torch.linalg.inv(a)
        ctx.save_for_backward(y)
        return y

    @staticmethod
    def backward(ctx, g):
        (y,) = ctx.saved_tensors
        return -(y.mT @ g @ y.mT)


class Convolution(Function):
    @staticmethod
    def forward(ctx, x, weight):
        ctx.save_for_backward(x, weight)
        return F.conv1d(x, weight)

    @staticmethod
    def backward(ctx, g):
        x, weight = ctx.saved_tensors
        dx = F.conv_transpose1d(g, weight)
        dw = F.conv1d(x.transpose(0, 1), g.transpose(0, 1)).transpose(0, 1)
        return dx, dw


class AveragePairs(Function):
    @staticmethod
    def forward(ctx, x):
        n = x.shape[-1] - x.shape[-1] % 2
        ctx.left = x.shape[-1] % 2
        return 0.5 * (x[..., 0:n:2] + x[..., 1:n:2])

    @staticmethod
    def backward(ctx, g):
        return F.pad(0.5 * g.repeat_interleave(2, -1), (0, ctx.left))


class Difference(Function):
    @staticmethod
    def forward(ctx, x):
        return x[..., 1:] - x[..., :-1]

    @staticmethod
    def backward(ctx, g):
        return F.pad(g, (1, 0)) - F.pad(g, (0, 1))


class Quadratic(Function):
    @staticmethod
    def forward(ctx, x, a):
        ctx.save_for_backward(x, a)
        return x @ a @ x

    @staticmethod
    def backward(ctx, g):
        x, a = ctx.saved_tensors
        return g * (a @ x + a.mT @ x), g * torch.outer(x, x)


class Distances(Function):
    @staticmethod
    def forward(ctx, x, y):
        ctx.save_for_backward(x, y)
        return ((x[:, None] - y) ** 2).sum(-1)

    @staticmethod
    def backward(ctx, g):
        x, y = ctx.saved_tensors
        d = 2 * g[..., None] * (x[:, None] - y)
        return d.sum(1), -d.sum(0)


class Scale(Function):
    @staticmethod
    def forward(ctx, x, scale):
        ctx.save_for_backward(x, scale)
        return x * scale

    @staticmethod
    def backward(ctx, g):
        x, scale = ctx.saved_tensors
        return (g * scale).sum_to_size(x.shape), (g * x).sum_to_size(scale.shape)


class SineCosine(Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return torch.sin(x), torch.cos(x)

    @staticmethod
    def backward(ctx, gs, gc):
        (x,) = ctx.saved_tensors
        return gs * torch.cos(x) - gc * torch.sin(x)
