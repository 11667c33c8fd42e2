"""Wrong convolutions, pools and attention."""

from __future__ import annotations

import math
from functools import partial

import torch
import torch.nn.functional as F  # noqa: N812
from torch.autograd import Function

from tests.blackbox.corpus.operation import full, normal
from tests.blackbox.corpus.proof import Corpus

WINDOWS = Corpus()
add = WINDOWS.add


class ConvNoFlip(Function):
    """The input's gradient is a convolution with the kernel not turned round: right for symmetric ones."""

    @staticmethod
    def forward(ctx, x, weight):
        ctx.save_for_backward(x, weight)
        return F.conv1d(x, weight)

    @staticmethod
    def backward(ctx, g):
        x, weight = ctx.saved_tensors
        dx = F.conv1d(F.pad(g, (weight.shape[-1] - 1,) * 2), weight.transpose(0, 1))
        return dx, torch.nn.grad.conv1d_weight(x, weight.shape, g)


class ConvStride(Function):
    """The last places, which a stride leaves over, get the gradient of their neighbours."""

    @staticmethod
    def forward(ctx, x, weight):
        ctx.save_for_backward(x, weight)
        return F.conv2d(x, weight, stride=2)

    @staticmethod
    def backward(ctx, g):
        x, weight = ctx.saved_tensors
        dx = F.conv_transpose2d(g, weight, stride=2)
        missing = x.shape[-1] - dx.shape[-1]
        dx = F.pad(dx, (0, missing, 0, x.shape[-2] - dx.shape[-2]), mode="replicate")
        return dx, torch.nn.grad.conv2d_weight(x, weight.shape, g, stride=2)


class AveragePoolEdge(Function):
    """Divides by the full window in the gradient, though the value's padded places do not count."""

    @staticmethod
    def forward(ctx, x):
        ctx.size = x.shape[-1]
        return F.avg_pool1d(x, 3, 1, 1, count_include_pad=False)

    @staticmethod
    def backward(ctx, g):
        ones = torch.ones(g.shape[1], 1, 3, dtype=g.dtype) / 3
        return F.conv1d(g, ones, padding=1, groups=g.shape[1])


class MaxPoolTies(Function):
    """Every place that ties for the maximum gets the whole gradient."""

    @staticmethod
    def forward(ctx, x):
        y = F.max_pool1d(x, 2)
        ctx.save_for_backward(x, y)
        return y

    @staticmethod
    def backward(ctx, g):
        x, y = ctx.saved_tensors
        n = 2 * y.shape[-1]
        mask = x[..., :n] == y.repeat_interleave(2, -1)
        return F.pad(g.repeat_interleave(2, -1) * mask, (0, x.shape[-1] - n))


class AttentionScale(Function):
    """The scale is missing in the key's gradient."""

    @staticmethod
    def forward(ctx, q, k, v):
        p = torch.softmax(q @ k.mT / math.sqrt(q.shape[-1]), -1)
        ctx.save_for_backward(q, k, v, p)
        return p @ v

    @staticmethod
    def backward(ctx, g):
        q, k, v, p = ctx.saved_tensors
        dp = g @ v.mT
        ds = p * (dp - (dp * p).sum(-1, keepdim=True))
        return ds @ k / math.sqrt(q.shape[-1]), ds.mT @ q, p.mT @ g


class AttentionCausal(Function):
    """The mask of the gradient lets one place too many through where there are more keys than queries."""

    @staticmethod
    def scores(q, k, offset):
        mask = torch.ones(q.shape[-2], k.shape[-2], dtype=torch.bool).tril(offset)
        return (q @ k.mT / math.sqrt(q.shape[-1])).masked_fill(~mask, -torch.inf)

    @staticmethod
    def forward(ctx, q, k, v):
        ctx.save_for_backward(q, k, v)
        return torch.softmax(AttentionCausal.scores(q, k, 0), -1) @ v

    @staticmethod
    def backward(ctx, g):
        q, k, v = ctx.saved_tensors
        p = torch.softmax(AttentionCausal.scores(q, k, k.shape[-2] - q.shape[-2]), -1)
        dp = g @ v.mT
        ds = p * (dp - (dp * p).sum(-1, keepdim=True)) / math.sqrt(q.shape[-1])
        return ds @ k, ds.mT @ q, p.mT @ g


def causal(q, k, v):
    return F.scaled_dot_product_attention(q, k, v, is_causal=True)


def heads(rows, keys):
    return lambda: (normal(2, rows, 4), normal(2, keys, 4, seed=1), normal(2, keys, 4, seed=2))


add(
    "conv1d-kernel-not-flipped",
    "any input",
    ConvNoFlip.apply,
    lambda: (normal(2, 3, 7), normal(4, 3, 3, seed=1)),
    F.conv1d,
)
add(
    "conv2d-left-over-places",
    "some shapes",
    ConvStride.apply,
    lambda: (normal(1, 2, 7, 7), normal(3, 2, 3, 3, seed=1)),
    partial(F.conv2d, stride=2),
    at=lambda: (normal(1, 2, 8, 8), normal(3, 2, 3, 3, seed=1)),
)
add(
    "avg-pool-edges",
    "any input",
    AveragePoolEdge.apply,
    lambda: (normal(2, 3, 6),),
    lambda x: F.avg_pool1d(x, 3, 1, 1, count_include_pad=False),
)
add(
    "max-pool-ties-twice",
    "some values",
    MaxPoolTies.apply,
    lambda: (normal(2, 3, 6),),
    lambda x: F.max_pool1d(x, 2),
    at=lambda: (full(1.0, 1.0, 0.0, 2.0).reshape(1, 1, 4),),
)
add(
    "attention-key-scale",
    "any input",
    AttentionScale.apply,
    heads(3, 5),
    F.scaled_dot_product_attention,
)
add("attention-causal-offset", "some shapes", AttentionCausal.apply, heads(4, 4), causal, at=heads(3, 5))
