"""Wrong losses and matrix functions."""

from __future__ import annotations

from functools import partial

import torch
import torch.nn.functional as F  # noqa: N812
from torch.autograd import Function

from tests.blackbox.corpus.operation import full, normal, uniform
from tests.blackbox.corpus.proof import Corpus

LOSSES = Corpus()
add = LOSSES.add


class CrossEntropyNoMean(Function):
    """The value is a mean over the rows, the gradient is not."""

    @staticmethod
    def forward(ctx, x, target):
        ctx.save_for_backward(x, target)
        return F.cross_entropy(x, target)

    @staticmethod
    def backward(ctx, g):
        x, target = ctx.saved_tensors
        return g * (torch.softmax(x, -1) - F.one_hot(target, x.shape[-1])), None


class CrossEntropyIgnored(Function):
    """A label of class zero is taken for padding in the gradient."""

    @staticmethod
    def forward(ctx, x, target):
        ctx.save_for_backward(x, target)
        return F.cross_entropy(x, target, reduction="sum")

    @staticmethod
    def backward(ctx, g):
        x, target = ctx.saved_tensors
        d = torch.softmax(x, -1) - F.one_hot(target, x.shape[-1])
        d[target == 0, -1] = 0
        return g * d, None


class BceUnstable(Function):
    """The gradient of the logits' loss by way of p(1-p) in the denominator."""

    @staticmethod
    def forward(ctx, x, t):
        ctx.save_for_backward(x, t)
        return F.binary_cross_entropy_with_logits(x, t, reduction="none")

    @staticmethod
    def backward(ctx, g):
        x, t = ctx.saved_tensors
        p = torch.sigmoid(x)
        dp = (p - t) / (p * (1 - p)).clamp_min(1e-12)
        return g * dp * p * (1 - p), g * -x


class BceTarget(Function):
    """The target's gradient has the wrong sign."""

    @staticmethod
    def forward(ctx, x, t):
        ctx.save_for_backward(x, t)
        return F.binary_cross_entropy_with_logits(x, t)

    @staticmethod
    def backward(ctx, g):
        x, t = ctx.saved_tensors
        return g * (torch.sigmoid(x) - t) / x.numel(), g * x / x.numel()


class HuberDelta(Function):
    """Beyond delta the gradient is the sign alone."""

    @staticmethod
    def forward(ctx, x, t, delta):
        ctx.save_for_backward(x, t)
        ctx.delta = delta
        return F.huber_loss(x, t, delta=delta)

    @staticmethod
    def backward(ctx, g):
        x, t = ctx.saved_tensors
        d = x - t
        d = torch.where(d.abs() < ctx.delta, d, d.sign()) * g / d.numel()
        return d, -d, None


class MseLastRow(Function):
    """Divides by the rows, not by the elements, where the input is two-dimensional."""

    @staticmethod
    def forward(ctx, x, t):
        ctx.save_for_backward(x, t)
        return F.mse_loss(x, t)

    @staticmethod
    def backward(ctx, g):
        x, t = ctx.saved_tensors
        d = 2 * g * (x - t) / x.shape[0]
        return d, -d


class SmoothingForgotten(Function):
    @staticmethod
    def forward(ctx, x, target, smoothing=0.0):
        ctx.save_for_backward(x, target)
        return F.cross_entropy(x, target, label_smoothing=smoothing)

    @staticmethod
    def backward(ctx, g):
        x, target = ctx.saved_tensors
        return g * (torch.softmax(x, -1) - F.one_hot(target, x.shape[-1])) / len(x), None, None


class KlFarApart(Function):
    """Terms of small probability are left out of the gradient."""

    @staticmethod
    def forward(ctx, logp, q):
        ctx.save_for_backward(logp, q)
        return (q * (q.log() - logp)).sum()

    @staticmethod
    def backward(ctx, g):
        logp, q = ctx.saved_tensors
        return torch.where(q > 1e-4, -g * q, 0.0), g * (q.log() - logp + 1)


def labels():
    return torch.tensor([1, 3, 0, 4])


add(
    "cross-entropy-no-mean",
    "any input",
    CrossEntropyNoMean.apply,
    lambda: (normal(4, 5), labels()),
    F.cross_entropy,
)
add(
    "cross-entropy-class-zero",
    "some values",
    CrossEntropyIgnored.apply,
    lambda: (normal(4, 5), labels().clamp_min(1)),
    partial(F.cross_entropy, reduction="sum"),
    at=lambda: (normal(4, 5), labels()),
)
add(
    "bce-logits-clamped",
    "some values",
    BceUnstable.apply,
    lambda: (normal(4, 5), uniform(4, 5)),
    partial(F.binary_cross_entropy_with_logits, reduction="none"),
    at=lambda: (full(-35.0, 40.0), full(0.25, 0.5)),
)
add(
    "bce-target-sign",
    "any input",
    BceTarget.apply,
    lambda: (normal(4, 5), uniform(4, 5)),
    F.binary_cross_entropy_with_logits,
)
add(
    "huber-delta-forgotten",
    "options",
    lambda x, t: HuberDelta.apply(x, t, 0.5),
    lambda: (normal(4, 5), normal(4, 5, seed=1)),
    partial(F.huber_loss, delta=0.5),
)
add(
    "mse-divides-by-rows",
    "some shapes",
    MseLastRow.apply,
    lambda: (normal(6), normal(6, seed=1)),
    F.mse_loss,
    at=lambda: (normal(3, 4), normal(3, 4, seed=1)),
)
add(
    "cross-entropy-smoothing-forgotten",
    "options",
    lambda x, t: SmoothingForgotten.apply(x, t, 0.1),
    lambda: (normal(4, 5), labels()),
    partial(F.cross_entropy, label_smoothing=0.1),
)
add(
    "kl-small-probabilities",
    "some values",
    KlFarApart.apply,
    lambda: (torch.log_softmax(normal(2, 3), -1), torch.softmax(normal(2, 3, seed=1), -1)),
    lambda logp, q: (q * (q.log() - logp)).sum(),
    at=lambda: (full(-1.0, -2.0), full(5e-5, 2e-5)),
)


class OuterSwapped(Function):
    """Right only where both vectors are equally long and parallel; otherwise the roles are mixed."""

    @staticmethod
    def forward(ctx, a, b):
        ctx.save_for_backward(a, b)
        return torch.outer(a, b)

    @staticmethod
    def backward(ctx, g):
        a, b = ctx.saved_tensors
        if len(a) == len(b):
            return g.T @ b, g @ a
        return g @ b, g.T @ a


class TraceOnes(Function):
    """The gradient of the trace is one everywhere."""

    @staticmethod
    def forward(ctx, a):
        ctx.n = a.shape
        return a.trace()

    @staticmethod
    def backward(ctx, g):
        return g.expand(ctx.n)


class DetNoTranspose(Function):
    @staticmethod
    def forward(ctx, a):
        ctx.save_for_backward(a)
        return torch.linalg.det(a)

    @staticmethod
    def backward(ctx, g):
        (a,) = ctx.saved_tensors
        return g * torch.linalg.det(a) * torch.linalg.inv(a)


class DetSingular(Function):
    """det times the inverse: NaN or noise where the matrix is singular, though the gradient exists."""

    @staticmethod
    def forward(ctx, a):
        ctx.save_for_backward(a)
        return a[0, 0] * a[1, 1] - a[0, 1] * a[1, 0]

    @staticmethod
    def backward(ctx, g):
        (a,) = ctx.saved_tensors
        det = a[0, 0] * a[1, 1] - a[0, 1] * a[1, 0]
        adjugate = torch.stack([torch.stack([a[1, 1], -a[1, 0]]), torch.stack([-a[0, 1], a[0, 0]])])
        return g * det * (adjugate / det)


class InverseSign(Function):
    @staticmethod
    def forward(ctx, a):
        y = torch.linalg.inv(a)
        ctx.save_for_backward(y)
        return y

    @staticmethod
    def backward(ctx, g):
        (y,) = ctx.saved_tensors
        return y.T @ g @ y.T


class CumprodDivides(Function):
    """Divides by the input: wrong at zeros."""

    @staticmethod
    def forward(ctx, x):
        y = torch.cumprod(x, -1)
        ctx.save_for_backward(x, y)
        return y

    @staticmethod
    def backward(ctx, g):
        x, y = ctx.saved_tensors
        s = (g * y).flip(-1).cumsum(-1).flip(-1)
        return torch.where(x == 0, 0.0, s / torch.where(x == 0, 1.0, x))


class MaxTies(Function):
    """Every element that ties for the maximum gets the whole cotangent."""

    @staticmethod
    def forward(ctx, x):
        y = x.amax(-1, keepdim=True)
        ctx.save_for_backward(x, y)
        return y.squeeze(-1)

    @staticmethod
    def backward(ctx, g):
        x, y = ctx.saved_tensors
        return g.unsqueeze(-1) * (x == y)


class GatherOverwrites(Function):
    """Indices that repeat overwrite one another instead of adding up."""

    @staticmethod
    def forward(ctx, x, index):
        ctx.save_for_backward(index)
        ctx.n = x.shape
        return x[index]

    @staticmethod
    def backward(ctx, g):
        (index,) = ctx.saved_tensors
        out = g.new_zeros(ctx.n)
        out[index] = g
        return out, None


class SortPermutation(Function):
    """Applies the permutation where its inverse belongs: the same for swaps."""

    @staticmethod
    def forward(ctx, x):
        y, order = torch.sort(x)
        ctx.save_for_backward(order)
        return y

    @staticmethod
    def backward(ctx, g):
        (order,) = ctx.saved_tensors
        return g[order]


class NormAtZero(Function):
    """A guard against zero: half of the direction where the norm is as small as the guard."""

    @staticmethod
    def forward(ctx, x):
        y = x.norm(dim=-1, keepdim=True)
        ctx.save_for_backward(x, y)
        return y

    @staticmethod
    def backward(ctx, g):
        x, y = ctx.saved_tensors
        return g * x / (y + 1e-12)


class CosineProjection(Function):
    """The projection's sign is right for the first vector, and missing for the second."""

    @staticmethod
    def forward(ctx, a, b):
        ctx.save_for_backward(a, b)
        return F.cosine_similarity(a, b, dim=-1)

    @staticmethod
    def backward(ctx, g):
        a, b = ctx.saved_tensors
        na, nb = a.norm(dim=-1, keepdim=True), b.norm(dim=-1, keepdim=True)
        c = (a * b).sum(-1, keepdim=True) / (na * nb)
        g = g.unsqueeze(-1)
        return g * (b / (na * nb) - c * a / na**2), g * (a / (na * nb) - c * a / nb**2)


class ClampBounds(Function):
    """Leaks a ten-millionth of the cotangent outside the bounds."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x.clamp(-0.5, 0.5)

    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        return torch.where(x.abs() < 0.5, g, 1e-7 * g)


class EinsumAxes(Function):
    """Batched product whose second gradient adds the batches up."""

    @staticmethod
    def forward(ctx, a, b):
        ctx.save_for_backward(a, b)
        return torch.einsum("bij,bjk->bik", a, b)

    @staticmethod
    def backward(ctx, g):
        a, b = ctx.saved_tensors
        total = torch.einsum("bij,bik->jk", a, g)
        return torch.einsum("bik,bjk->bij", g, b), total.expand(b.shape)


class CholeskyHalf(Function):
    """The diagonal of the gradient is not halved."""

    @staticmethod
    def forward(ctx, a):
        factor = torch.linalg.cholesky(a @ a.T + 4 * torch.eye(len(a), dtype=a.dtype))
        ctx.save_for_backward(a, factor)
        return factor

    @staticmethod
    def backward(ctx, g):
        a, factor = ctx.saved_tensors
        middle = (factor.T @ g).tril()
        s = torch.linalg.solve_triangular(factor.T, middle, upper=True)
        s = torch.linalg.solve_triangular(factor.T, s.T, upper=True).T
        return (s + s.T) @ a / 2


def cholesky(a):
    return torch.linalg.cholesky(a @ a.T + 4 * torch.eye(len(a), dtype=a.dtype))


square = lambda: (normal(4, 4),)  # noqa: E731
add(
    "outer-equal-lengths",
    "some shapes",
    OuterSwapped.apply,
    lambda: (normal(3), normal(4, seed=1)),
    torch.outer,
    at=lambda: (normal(3), normal(3, seed=1)),
)
add("trace-ones", "any input", TraceOnes.apply, square, torch.trace)
add("det-not-transposed", "any input", DetNoTranspose.apply, square, torch.det)
add("inverse-sign", "any input", InverseSign.apply, square, torch.inverse)
add("cholesky-diagonal", "any input", CholeskyHalf.apply, square, cholesky)
add(
    "det-singular",
    "some values",
    DetSingular.apply,
    lambda: (normal(2, 2),),
    lambda a: a[0, 0] * a[1, 1] - a[0, 1] * a[1, 0],
    at=lambda: (full(1.0, 2.0, 2.0, 4.0).reshape(2, 2),),
)
row = lambda: (normal(3, 5),)  # noqa: E731
add(
    "cumprod-divides",
    "some values",
    CumprodDivides.apply,
    row,
    partial(torch.cumprod, dim=-1),
    at=lambda: (full(2.0, 0.0, 3.0),),
)
add(
    "max-ties-whole",
    "some values",
    MaxTies.apply,
    row,
    lambda x: x.max(-1).values,
    at=lambda: (full(1.0, 1.0),),
)
add(
    "gather-overwrites",
    "some values",
    GatherOverwrites.apply,
    lambda: (normal(5, 3), torch.tensor([0, 4, 2])),
    lambda x, i: x[i],
    at=lambda: (normal(5, 3), torch.tensor([0, 4, 0])),
)
add(
    "sort-permutation",
    "any input",
    SortPermutation.apply,
    lambda: (full(3.0, 1.0, 2.0, 5.0),),
    lambda x: x.sort()[0],
)
add(
    "norm-guarded",
    "some values",
    NormAtZero.apply,
    row,
    lambda x: x.norm(dim=-1, keepdim=True),
    at=lambda: (full(1e-12, 0.0),),
)
add(
    "cosine-projection",
    "any input",
    CosineProjection.apply,
    lambda: (normal(3, 5), normal(3, 5, seed=1)),
    partial(F.cosine_similarity, dim=-1),
)
add("clamp-leaks", "any input", ClampBounds.apply, row, lambda x: x.clamp(-0.5, 0.5))
add(
    "einsum-batches",
    "any input",
    EinsumAxes.apply,
    lambda: (normal(2, 3, 4), normal(2, 4, 5, seed=1)),
    torch.matmul,
)
