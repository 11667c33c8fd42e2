"""Right at first order, wrong in the derivative of the gradient."""

from __future__ import annotations

from functools import partial

import torch
from torch.autograd import Function

from tests.blackbox.corpus.operation import normal
from tests.blackbox.corpus.proof import Corpus

SECOND = Corpus()
add = SECOND.add


def example():
    return (normal(3, 4, seed=9),)


class OuterSecondHalved(Function):
    """Right at first order; the mixed second derivative is halved."""

    class Backward(Function):
        @staticmethod
        def forward(ctx, g, a, b):
            ctx.save_for_backward(g, a, b)
            return g @ b, a @ g

        @staticmethod
        def backward(ctx, ga, gb):
            g, a, b = ctx.saved_tensors
            return torch.outer(ga, b) + torch.outer(a, gb), 0.5 * g @ gb, 0.5 * ga @ g

    @staticmethod
    def forward(ctx, a, b):
        ctx.save_for_backward(a, b)
        return torch.outer(a, b)

    @staticmethod
    def backward(ctx, g):
        return OuterSecondHalved.Backward.apply(g, *ctx.saved_tensors)


class MatmulNumpyBackward(Function):
    """The backward goes through NumPy: its own derivative is silently lost."""

    @staticmethod
    def forward(ctx, a, b):
        ctx.save_for_backward(a, b)
        return a @ b

    @staticmethod
    def backward(ctx, g):
        a, b = (t.detach().numpy() for t in ctx.saved_tensors)
        h = g.detach().numpy()
        return torch.from_numpy(h @ b.T), torch.from_numpy(a.T @ h)


class LogSoftmaxNoGrad(Function):
    """The softmax in the gradient is computed without history."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return torch.log_softmax(x, -1)

    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        with torch.no_grad():
            p = torch.softmax(x, -1)
        return g - p * g.sum(-1, keepdim=True)


for name, cls, honest, inputs in (
    ("outer-mixed-second-halved", OuterSecondHalved, torch.outer, lambda: (normal(3), normal(4, seed=1))),
    (
        "matmul-backward-by-numpy",
        MatmulNumpyBackward,
        torch.matmul,
        lambda: (normal(3, 4), normal(4, 2, seed=1)),
    ),
    ("log-softmax-no-grad", LogSoftmaxNoGrad, partial(torch.log_softmax, dim=-1), example),
):
    add(name, "second order", cls.apply, inputs, honest, what="second")
