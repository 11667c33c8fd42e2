"""Wrong at some sizes, some layouts, some formats only."""

from __future__ import annotations

from functools import partial

import torch
import torch.nn.functional as F  # noqa: N812
from torch.autograd import Function

from tests.blackbox.corpus.operation import normal, uniform
from tests.blackbox.corpus.proof import Corpus

SHAPES = Corpus()
add = SHAPES.add


class MatmulTransposed(Function):
    """The two gradients' transposes are mixed up in a way that only symmetric sizes forgive."""

    @staticmethod
    def forward(ctx, a, b):
        ctx.save_for_backward(a, b)
        return a @ b

    @staticmethod
    def backward(ctx, g):
        a, b = ctx.saved_tensors
        if a.shape[0] == a.shape[1] == b.shape[1]:
            return g @ b, a.mT @ g
        return g @ b.mT, a.mT @ g


class CumsumBlocks(Function):
    """The reversed sum works in blocks of eight and does not carry into the next block."""

    @staticmethod
    def forward(ctx, x):
        return torch.cumsum(x, 0)

    @staticmethod
    def backward(ctx, g):
        return torch.cat([block.flip(0).cumsum(0).flip(0) for block in g.split(8)])


class UnrolledByFour(Function):
    """A loop unrolled by four that forgets what is left over."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return torch.sin(x)

    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        out = torch.zeros_like(x).reshape(-1)
        n = x.numel() // 4 * 4
        out[:n] = (g * torch.cos(x)).reshape(-1)[:n]
        return out.reshape(x.shape)


class SumOverLanes(Function):
    """The row sum in the gradient counts 64 lanes at most."""

    @staticmethod
    def forward(ctx, x):
        y = torch.softmax(x, -1)
        ctx.save_for_backward(y)
        return y

    @staticmethod
    def backward(ctx, g):
        (y,) = ctx.saved_tensors
        return y * (g - (g * y)[..., :64].sum(-1, keepdim=True))


class BroadcastScale(Function):
    """The scale's gradient is summed over the first axis, whatever was broadcast."""

    @staticmethod
    def forward(ctx, x, scale):
        ctx.save_for_backward(x, scale)
        return x * scale

    @staticmethod
    def backward(ctx, g):
        x, scale = ctx.saved_tensors
        full = g * x
        return g * scale, full.sum(0).reshape(scale.shape) if full.shape != scale.shape else full


class VarianceOfOne(Function):
    """The mean squared deviation's gradient, but halved where the batch is odd."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x.var(0, unbiased=False)

    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        half = x.shape[0] // 2
        return g * (x - x.mean(0)) / half


class UpsampleEven(Function):
    """Nearest upsampling; the gradient of the last column is lost where the width is even."""

    @staticmethod
    def forward(ctx, x):
        return x.repeat_interleave(2, -1)

    @staticmethod
    def backward(ctx, g):
        out = g[..., 0::2] + g[..., 1::2]
        if out.shape[-1] % 2 == 0:
            out[..., -1] = g[..., -1]
        return out


add(
    "matmul-square-transpose",
    "some shapes",
    MatmulTransposed.apply,
    lambda: (normal(3, 4), normal(4, 5, seed=1)),
    torch.matmul,
    at=lambda: (normal(3, 3), normal(3, 3, seed=1)),
)
add(
    "cumsum-blocks-of-eight",
    "some shapes",
    CumsumBlocks.apply,
    lambda: (normal(5, 2),),
    partial(torch.cumsum, dim=0),
    at=lambda: (normal(9, 2),),
)
add(
    "sin-unrolled-by-four",
    "some shapes",
    UnrolledByFour.apply,
    lambda: (normal(4, 5),),
    torch.sin,
    at=lambda: (normal(3, 3),),
)
add(
    "softmax-64-lanes",
    "some shapes",
    SumOverLanes.apply,
    lambda: (normal(4, 5),),
    partial(torch.softmax, dim=-1),
    at=lambda: (normal(2, 65),),
)
add(
    "scale-summed-over-first-axis",
    "some shapes",
    BroadcastScale.apply,
    lambda: (normal(4, 3), normal(3, seed=1)),
    torch.mul,
    at=lambda: (normal(3, 3), normal(3, 1, seed=1)),
)
add(
    "variance-odd-batch",
    "some shapes",
    VarianceOfOne.apply,
    lambda: (normal(4, 3),),
    lambda x: x.var(0, unbiased=False),
    at=lambda: (normal(5, 3),),
)
add(
    "upsample-even-width",
    "some shapes",
    UpsampleEven.apply,
    lambda: (normal(2, 5),),
    lambda x: x.repeat_interleave(2, -1),
    at=lambda: (normal(2, 4),),
)


def flat(x):
    """Return the numbers in the order of memory, as a kernel sees them that takes a pointer only."""
    return x.as_strided((x.numel(),), (1,))


class SquareFlat(Function):
    """Reads its saved input in the order of memory."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x * x

    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        return 2 * g * flat(x).reshape(x.shape)


class ExpFlatCotangent(Function):
    """Reads the cotangent in the order of memory: wrong for transposed and expanded ones."""

    @staticmethod
    def forward(ctx, x):
        y = torch.exp(x)
        ctx.save_for_backward(y)
        return y

    @staticmethod
    def backward(ctx, g):
        (y,) = ctx.saved_tensors
        first = g.untyped_storage()
        n = len(first) // g.element_size()
        memory = torch.empty(0, dtype=g.dtype).set_(first)
        if n < y.numel():
            memory = memory.repeat(y.numel() // n + 1)
        return y * memory[: y.numel()].reshape(y.shape)


class ScaleStorage(Function):
    """Takes the whole storage for the tensor: an offset is ignored."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return torch.sin(x)

    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        base = torch.as_strided(x, x.shape, x.stride(), 0)
        return g * torch.cos(base)


class ChannelsLastBias(Function):
    """The bias's gradient of a channels-last image is summed over the wrong places."""

    @staticmethod
    def forward(ctx, x, bias):
        ctx.save_for_backward(x)
        return x + bias[:, None, None]

    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        if x.is_contiguous():
            return g, g.sum((0, 2, 3))
        return g, g.permute(0, 2, 3, 1).reshape(g.shape).sum((0, 2, 3))


class ExpandedInput(Function):
    """An expanded input (stride zero) gets the sum over its copies at every copy."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x**3

    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        out = 3 * g * x * x
        if 0 in x.stride():
            out = out.sum(x.stride().index(0), keepdim=True).expand(x.shape)
        return out


class TransposedWeight(Function):
    """Guesses from the strides that the weight comes transposed."""

    @staticmethod
    def forward(ctx, x, weight):
        ctx.save_for_backward(x, weight)
        return x @ weight

    @staticmethod
    def backward(ctx, g):
        x, weight = ctx.saved_tensors
        if weight.stride(0) < weight.stride(1):
            return g @ weight, x.mT @ g
        return g @ weight.mT, x.mT @ g


def expanded(y, seed):
    return torch.tensor([[2.0, 0.5, 1.0, -1.0][: y.shape[-1]]], dtype=y.dtype).expand(y.shape)


def across(y, seed):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(y.shape[::-1], generator=generator, dtype=y.dtype).mT


add(
    "square-in-memory-order",
    "some layouts",
    SquareFlat.apply,
    lambda: (normal(3, 4),),
    torch.square,
    at=lambda: (normal(4, 3).mT,),
)
add(
    "sin-ignores-offset",
    "some layouts",
    ScaleStorage.apply,
    lambda: (normal(3, 4),),
    torch.sin,
    at=lambda: (normal(5, 4)[2:],),
)
add(
    "bias-channels-last",
    "some layouts",
    ChannelsLastBias.apply,
    lambda: (normal(2, 3, 4, 4), normal(3, seed=1)),
    lambda x, b: x + b[:, None, None],
    at=lambda: (normal(2, 3, 4, 4).to(memory_format=torch.channels_last), normal(3, seed=1)),
)
add(
    "cube-expanded-input",
    "some layouts",
    ExpandedInput.apply,
    lambda: (normal(3, 4),),
    lambda x: x**3,
    at=lambda: (normal(1, 4).expand(3, 4),),
)
add(
    "matmul-guesses-transpose",
    "some layouts",
    TransposedWeight.apply,
    lambda: (normal(2, 3), normal(3, 3, seed=1)),
    torch.matmul,
    at=lambda: (normal(2, 3), normal(3, 3, seed=1).mT),
)
add(
    "exp-cotangent-in-memory-order",
    "cotangent",
    ExpFlatCotangent.apply,
    lambda: (normal(3, 4),),
    torch.exp,
    cotangent=across,
)


class GeluFloatConstant(Function):
    """The narrow formats take another constant."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return F.gelu(x)

    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        c = 0.3989422804014327 if x.dtype == torch.float64 else 0.39
        return g * (0.5 * (1 + torch.erf(x * 0.7071067811865476)) + x * c * torch.exp(-0.5 * x * x))


class MeanHalf(Function):
    """Sums a row's squares in half precision."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return (x * x).sum(-1).sqrt()

    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        if x.dtype != torch.float64:
            norm = (x.bfloat16() ** 2).sum(-1, keepdim=True).sqrt().to(x.dtype)
        else:
            norm = (x * x).sum(-1, keepdim=True).sqrt()
        return g.unsqueeze(-1) * x / norm


class SingleOnly(Function):
    """The derivative is computed in bfloat16, if it is not in double."""

    @staticmethod
    def forward(ctx, x):
        y = torch.tanh(x)
        ctx.save_for_backward(y)
        return y

    @staticmethod
    def backward(ctx, g):
        (y,) = ctx.saved_tensors
        if y.dtype == torch.float32:
            y = y.bfloat16().float()
        return g * (1 - y * y)


class HalfScale(Function):
    """The loss scale of half precision is not taken back."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return torch.log(x)

    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        scale = 2.0 if x.dtype == torch.float16 else 1.0
        return g * scale / x


class SquareOverflows(Function):
    """The squares of the norm overflow in half precision at 256."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return (
            torch.sqrt(1 + x * x.clone()) if x.dtype == torch.float64 else torch.hypot(x, torch.ones_like(x))
        )

    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        return g * x / torch.sqrt(1 + x * x)


class BfloatMean(Function):
    """Multiplies by a rounded 1/n in bfloat16 and halves it in the gradient."""

    @staticmethod
    def forward(ctx, x):
        ctx.n = x.shape[-1]
        return x.mean(-1)

    @staticmethod
    def backward(ctx, g):
        n = ctx.n + 1 if g.dtype == torch.bfloat16 else ctx.n
        return (g / n).unsqueeze(-1).expand(*g.shape, ctx.n)


for name, cls, honest, dtype, size in (
    ("gelu-constant-of-narrow-formats", GeluFloatConstant, F.gelu, torch.float32, (4, 5)),
    ("norm-accumulated-narrow", MeanHalf, lambda x: x.norm(dim=-1), torch.float32, (3, 50)),
    ("tanh-single-through-bfloat", SingleOnly, torch.tanh, torch.float32, (4, 5)),
    ("mean-bfloat-divisor", BfloatMean, lambda x: x.mean(-1), torch.bfloat16, (3, 4)),
):
    add(
        name,
        "some formats",
        cls.apply,
        lambda n=size: (normal(*n, seed=7),),
        honest,
        at=lambda n=size, d=dtype: (normal(*n, seed=7, dtype=d),),
    )
add(
    "log-half-scale",
    "some formats",
    HalfScale.apply,
    lambda: (uniform(3, 4, low=0.5, high=2.0),),
    torch.log,
    at=lambda: (uniform(3, 4, low=0.5, high=2.0).half(),),
)
add(
    "hypot-half-overflows",
    "some formats",
    SquareOverflows.apply,
    lambda: (normal(3, 4),),
    lambda x: torch.sqrt(1 + x * x),
    at=lambda: ((300 * normal(3, 4)).half(),),
)
