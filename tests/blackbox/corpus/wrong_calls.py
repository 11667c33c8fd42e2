"""Wrong in how they treat the cotangent, their own memory, and the state of the process."""

from __future__ import annotations

from functools import partial

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn
from torch.autograd import Function

from tests.blackbox.corpus.operation import Call, array, normal
from tests.blackbox.corpus.proof import Corpus, drawn
from tests.blackbox.corpus.wrong_shapes import across, expanded

CALLS = Corpus()
add = CALLS.add


class IgnoresCotangent(Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return torch.sin(x)

    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        return torch.cos(x)


class CotangentMean(Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x * x

    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        return 2 * x * g.mean()


class CotangentSign(Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x.abs()

    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        return g.abs() * x.sign()


class CotangentFirst(Function):
    """The first number of the cotangent stands for all: right after .sum() and .mean()."""

    @staticmethod
    def forward(ctx, x):
        y = torch.sigmoid(x)
        ctx.save_for_backward(y)
        return y

    @staticmethod
    def backward(ctx, g):
        (y,) = ctx.saved_tensors
        return g.reshape(-1)[0] * y * (1 - y)


class CotangentClipped(Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return F.softplus(x)

    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        return g.clamp(-10, 10) * torch.sigmoid(x)


class CotangentStride(Function):
    """An expanded cotangent (stride zero) is taken for its sum."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return torch.exp(x)

    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        if g.dim() and 0 in g.stride():
            g = g.sum().expand(g.shape)
        return g * torch.exp(x)


class CotangentTransposed(Function):
    """A transposed cotangent is made contiguous by a view of its memory."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return torch.tanh(x)

    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        if not g.is_contiguous() and g.dim() == 2 and g.mT.is_contiguous():
            g = g.mT.reshape(g.shape)
        return g * (1 - torch.tanh(x) ** 2)


class SecondOutputForgotten(Function):
    """Two outputs; the second's cotangent is dropped."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return torch.sin(x), torch.cos(x)

    @staticmethod
    def backward(ctx, gs, gc):
        (x,) = ctx.saved_tensors
        return gs * torch.cos(x)


class ZeroCotangent(Function):
    """Divides by the cotangent's norm and multiplies it back: NaN where it is zero."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x**3

    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        return (g / g.norm()) * 3 * x * x * g.norm()


class MutatesCotangent(Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x.clamp_min(0)

    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        return g.masked_fill_(x <= 0, 0)


def large(y, seed):
    return 100 * drawn(y, seed)


def zero(y, seed):
    return torch.zeros_like(y)


for name, cls, honest, cotangent in (
    ("sin-ignores-cotangent", IgnoresCotangent, torch.sin, drawn),
    ("square-cotangent-mean", CotangentMean, torch.square, drawn),
    ("abs-cotangent-sign", CotangentSign, torch.abs, drawn),
    ("sigmoid-first-cotangent", CotangentFirst, torch.sigmoid, drawn),
    ("softplus-clips-cotangent", CotangentClipped, F.softplus, large),
    ("exp-expanded-cotangent", CotangentStride, torch.exp, expanded),
    ("tanh-transposed-cotangent", CotangentTransposed, torch.tanh, across),
    ("sine-cosine-second-output", SecondOutputForgotten, lambda x: (x.sin(), x.cos()), drawn),
    ("cube-zero-cotangent", ZeroCotangent, lambda x: x**3, zero),
):
    add(name, "cotangent", cls.apply, lambda: (normal(3, 4, seed=8),), honest, cotangent=cotangent)


def cotangent_changed(call: Call) -> float:
    x = call.inputs[0].requires_grad_()
    y = call.f(x)
    g = drawn(y.detach(), 0)
    before = g.clone()
    y.backward(g)
    return float((g - before).abs().max())


add(
    "relu-mutates-cotangent",
    "cotangent",
    MutatesCotangent.apply,
    lambda: (normal(3, 4, seed=8),),
    what="state",
    witness=cotangent_changed,
)


class KeepsCotangent(Function):
    """Writes every gradient into one buffer and hands that out."""

    buffer: torch.Tensor | None = None

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return 2 * x

    @staticmethod
    def backward(ctx, g):
        if KeepsCotangent.buffer is None or KeepsCotangent.buffer.shape != g.shape:
            KeepsCotangent.buffer = torch.zeros_like(g)
        KeepsCotangent.buffer.copy_(g).mul_(2)
        return KeepsCotangent.buffer


def handed_out(call: Call) -> float:
    x = call.inputs[0].requires_grad_()
    (first,) = torch.autograd.grad(call.f(x), x, torch.ones_like(x))
    before = first.clone()
    torch.autograd.grad(call.f(x), x, 3 * torch.ones_like(x))
    return float((first - before).abs().max())


add(
    "double-hands-out-its-buffer",
    "cotangent",
    KeepsCotangent.apply,
    lambda: (normal(3, 4),),
    what="state",
    witness=handed_out,
)


class GradientAccumulates(nn.Module):
    """Keeps a running gradient and returns the sum of all so far."""

    def forward(self, x):
        module = self

        class Apply(Function):
            @staticmethod
            def forward(ctx, x):
                ctx.save_for_backward(x)
                return x * x

            @staticmethod
            def backward(ctx, g):
                (x,) = ctx.saved_tensors
                old = getattr(module, "old", None)
                new = 2 * g * x
                if old is not None and old.shape == new.shape:
                    new = new + old
                module.old = new.detach()
                return new

        return Apply.apply(x)


def shifts_input(x):
    x -= x.max(-1, keepdim=True).values
    return x.exp() / x.exp().sum(-1, keepdim=True)


def shifts_data(x):
    x.data.sub_(x.data.mean())
    return x * x


def seeds(x):
    torch.manual_seed(0)
    return x * torch.rand(x.shape, dtype=x.dtype)


def changes_dtype(x):
    torch.set_default_dtype(torch.float64)
    return torch.sin(x) * torch.ones(())


def turns_off_gradients(x):
    y = x * x
    torch.set_grad_enabled(False)
    return y


def rounds_anyhow(x):
    return x * (1 + 1e-6 * torch.rand_like(x))


def training_dropout(x):
    return F.dropout(torch.sin(x), 0.5, training=True)


class CachedByShape:
    """Keeps the first result for every shape."""

    def __init__(self):
        self.cache: dict[torch.Size, torch.Tensor] = {}

    def __call__(self, x):
        if x.shape not in self.cache:
            self.cache[x.shape] = torch.sigmoid(x.detach())
        s = self.cache[x.shape].to(x.dtype)
        return x * s


class CountsCalls:
    """Warms up: the scale depends on how often it was called."""

    def __init__(self):
        self.calls = 0

    def __call__(self, x):
        self.calls += 1
        return torch.tanh(x) * min(1.0, self.calls / 10)


class ReusesBuffer:
    """Writes every result of one shape into one buffer."""

    def __init__(self):
        self.buffers: dict[tuple[int, ...], np.ndarray] = {}

    def __call__(self, x):
        buffer = self.buffers.setdefault(x.shape, np.empty_like(x))
        np.multiply(x, x, out=buffer)
        return buffer


class RunningNorm(nn.Module):
    """Normalises by statistics that each call moves, in evaluation as well."""

    def __init__(self):
        super().__init__()
        self.register_buffer("mean", torch.zeros(4))

    def forward(self, x):
        self.mean.lerp_(x.detach().mean(0).to(self.mean.dtype), 0.1)
        return x * 2 - self.mean.to(x.dtype)


def numpy_sorts_in_place(x):
    x.sort(axis=-1)
    return np.cumsum(x, axis=-1)


def input_changed(call: Call) -> float:
    x = call.inputs[0]
    before = x.copy() if isinstance(x, np.ndarray) else x.clone()
    call.f(x)
    return float(abs(x - before).max())


def second_value(call: Call) -> float:
    x = call.inputs[0]
    first, second = (call.f(x).detach().clone() for _ in range(2))
    return float((second - first).abs().max())


def second_gradient(call: Call) -> float:
    x = call.inputs[0].requires_grad_()
    first, second = (torch.autograd.grad(call.f(x).sum(), x)[0] for _ in range(2))
    return float((first - second).abs().max())


def first_value_kept(call: Call) -> float:
    x = call.inputs[0]
    first = call.f(x)
    before = np.array(first)
    call.f(x + 1)
    return float(abs(np.array(first) - before).max())


def other_value(call: Call) -> float:
    x = call.inputs[0]
    call.f(x)
    return float((call.f(x + 1) - torch.nn.functional.silu(x + 1)).abs().max())


def world_changed(call: Call) -> float:
    kept = torch.get_default_dtype(), torch.is_grad_enabled(), torch.get_rng_state()
    torch.set_default_dtype(torch.float32)
    torch.manual_seed(12345)
    before = torch.get_default_dtype(), torch.is_grad_enabled(), torch.get_rng_state()
    try:
        call.f(*call.inputs)
        after = torch.get_default_dtype(), torch.is_grad_enabled(), torch.get_rng_state()
    finally:
        torch.set_default_dtype(kept[0])
        torch.set_grad_enabled(kept[1])
        torch.set_rng_state(kept[2])
    return float(before[:2] != after[:2] or not torch.equal(before[2], after[2]))


def example():
    return (normal(3, 4, seed=9),)


state = partial(add, cause="state", what="state")
state("softmax-shifts-input", f=shifts_input, inputs=example, witness=input_changed)
state("square-centres-data", f=shifts_data, inputs=example, witness=input_changed)
state("noise-seeds-globally", f=seeds, inputs=example, witness=world_changed)
state("sine-default-dtype", f=changes_dtype, inputs=example, witness=world_changed)
state("square-gradients-off", f=turns_off_gradients, inputs=example, witness=world_changed)
state("identity-random-last-digits", f=rounds_anyhow, inputs=example, witness=second_value)
state("sine-training-dropout", f=training_dropout, inputs=example, witness=second_value)
state("silu-cached-by-shape", f=CachedByShape, factory=True, inputs=example, witness=other_value)
state("tanh-counts-calls", f=CountsCalls, factory=True, inputs=example, witness=second_value)
state("module-running-mean", f=RunningNorm, inputs=example, witness=second_value)
state("module-gradient-accumulates", f=GradientAccumulates, inputs=example, witness=second_gradient)
state(
    "numpy-square-reused-buffer",
    f=ReusesBuffer,
    factory=True,
    inputs=lambda: (array(3, 4),),
    witness=first_value_kept,
    vjp=lambda inputs, g: (2 * g * inputs[0],),
)


def sorted_sum_vjp(inputs, g):
    (x,) = inputs
    order = np.argsort(x, axis=-1, kind="stable")
    back = np.flip(np.cumsum(np.flip(g, -1), -1), -1)
    out = np.empty_like(x)
    np.put_along_axis(out, order, back, -1)
    return (out,)


state(
    "numpy-sorts-in-place",
    f=numpy_sorts_in_place,
    inputs=lambda: (array(3, 4),),
    witness=input_changed,
    vjp=sorted_sum_vjp,
)
