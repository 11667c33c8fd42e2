"""Wrong activations and elementwise functions, as people write them by hand."""

from __future__ import annotations

import math
from functools import partial

import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn
from torch.autograd import Function

from tests.blackbox.corpus.operation import normal
from tests.blackbox.corpus.proof import Corpus

ACTIVATIONS = Corpus()
add = ACTIVATIONS.add


class GeluWithoutDensity(Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return 0.5 * x * (1 + torch.erf(x / math.sqrt(2)))

    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        return g * 0.5 * (1 + torch.erf(x / math.sqrt(2)))


class SiluSign(Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x * torch.sigmoid(x)

    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        s = torch.sigmoid(x)
        return g * s * (1 - x * (1 - s))


class TanhOfInput(Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return torch.tanh(x)

    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        return g * (1 - x * x)


class GeluRoundedConstant(Function):
    """The density's factor 1/sqrt(2 pi), cut after six digits."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return 0.5 * x * (1 + torch.erf(x / math.sqrt(2)))

    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        cdf = 0.5 * (1 + torch.erf(x / math.sqrt(2)))
        return g * (cdf + x * 0.398942 * torch.exp(-0.5 * x * x))


class MishTinyOffset(Function):
    """A guard against dividing by zero that is not needed, and moves the gradient by a part in a million."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x * torch.tanh(F.softplus(x))

    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        t = torch.tanh(F.softplus(x))
        return g * (t + x * (1 - t * t + 1e-6) * torch.sigmoid(x))


class SigmoidLastElement(Function):
    """The last element of a flattened buffer keeps its cotangent."""

    @staticmethod
    def forward(ctx, x):
        y = torch.sigmoid(x)
        ctx.save_for_backward(y)
        return y

    @staticmethod
    def backward(ctx, g):
        (y,) = ctx.saved_tensors
        out = (g * y * (1 - y)).reshape(-1).clone()
        out[-1] = g.reshape(-1)[-1]
        return out.reshape(g.shape)


for name, cls, honest in (
    ("gelu-without-density", GeluWithoutDensity, F.gelu),
    ("silu-sign", SiluSign, F.silu),
    ("tanh-of-input", TanhOfInput, torch.tanh),
    ("gelu-rounded-constant", GeluRoundedConstant, F.gelu),
    ("mish-tiny-offset", MishTinyOffset, F.mish),
    ("sigmoid-last-element", SigmoidLastElement, torch.sigmoid),
):
    add(name, "any input", cls.apply, lambda: (normal(4, 5),), honest)


class LeakySlopeForgotten(Function):
    @staticmethod
    def forward(ctx, x, slope=0.01):
        ctx.save_for_backward(x)
        return torch.where(x > 0, x, slope * x)

    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        return torch.where(x > 0, g, 0.01 * g), None


class EluAlpha(Function):
    @staticmethod
    def forward(ctx, x, alpha=1.0):
        y = torch.where(x > 0, x, alpha * torch.expm1(x))
        ctx.save_for_backward(y)
        return y

    @staticmethod
    def backward(ctx, g):
        (y,) = ctx.saved_tensors
        return torch.where(y > 0, g, g * (y + 1)), None


class SoftplusBeta(Function):
    @staticmethod
    def forward(ctx, x, beta=1.0):
        ctx.save_for_backward(x)
        return torch.log1p(torch.exp(beta * x)) / beta

    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        return g * torch.sigmoid(x), None


class Swish(nn.Module):
    """The module's beta is a plain attribute, and the hand-written gradient does not know it."""

    class Apply(Function):
        @staticmethod
        def forward(ctx, x, beta):
            ctx.save_for_backward(x)
            return x * torch.sigmoid(beta * x)

        @staticmethod
        def backward(ctx, g):
            (x,) = ctx.saved_tensors
            s = torch.sigmoid(x)
            return g * (s + x * s * (1 - s)), None

    def __init__(self, beta=1.702):
        super().__init__()
        self.beta = beta

    def forward(self, x):
        return self.Apply.apply(x, self.beta)


class ScaledTanh(Function):
    @staticmethod
    def forward(ctx, x, scale, slope):
        y = scale * torch.tanh(slope * x)
        ctx.save_for_backward(y)
        ctx.scale = scale
        return y

    @staticmethod
    def backward(ctx, g):
        (y,) = ctx.saved_tensors
        return g * ctx.scale * (1 - (y / ctx.scale) ** 2), None, None


def with_slope(x, *, slope=0.2):
    return LeakySlopeForgotten.apply(x, slope)


for name, f, honest in (
    (
        "leaky-relu-slope-forgotten",
        partial(with_slope, slope=0.25),
        partial(F.leaky_relu, negative_slope=0.25),
    ),
    ("elu-alpha-forgotten", lambda x: EluAlpha.apply(x, 1.5), partial(F.elu, alpha=1.5)),
    ("softplus-beta-forgotten", lambda x: SoftplusBeta.apply(x, 2.0), partial(F.softplus, beta=2.0)),
    ("swish-module-beta-forgotten", Swish, lambda x: x * torch.sigmoid(1.702 * x)),
    (
        "scaled-tanh-slope-forgotten",
        lambda x: ScaledTanh.apply(x, 1.7159, 2 / 3),
        lambda x: 1.7159 * torch.tanh(2 / 3 * x),
    ),
):
    add(name, "options", f, lambda: (normal(4, 5, seed=2),), honest)


class TanhDetached(Function):
    @staticmethod
    def forward(ctx, x):
        y = torch.tanh(x)
        ctx.save_for_backward(y)
        return y

    @staticmethod
    def backward(ctx, g):
        (y,) = ctx.saved_tensors
        return g * (1 - y.detach() ** 2)


class SoftsignIntermediate(Function):
    """Saves an intermediate, which has no history: the second derivative is lost."""

    @staticmethod
    def forward(ctx, x):
        d = 1 + x.abs()
        ctx.save_for_backward(d)
        return x / d

    @staticmethod
    def backward(ctx, g):
        (d,) = ctx.saved_tensors
        return g / d**2


class SquareOnContext(Function):
    """The input kept on the context by hand, detached."""

    @staticmethod
    def forward(ctx, x):
        ctx.x = x.detach()
        return x**2

    @staticmethod
    def backward(ctx, g):
        return 2 * g * ctx.x


class SigmoidSecond(Function):
    """A backward that is a function of its own, with a wrong derivative of its own."""

    class Backward(Function):
        @staticmethod
        def forward(ctx, g, y):
            ctx.save_for_backward(g, y)
            return g * y * (1 - y)

        @staticmethod
        def backward(ctx, gg):
            g, y = ctx.saved_tensors
            return gg * y * (1 - y), gg * g * (1 - y)

    @staticmethod
    def forward(ctx, x):
        y = torch.sigmoid(x)
        ctx.save_for_backward(y)
        return y

    @staticmethod
    def backward(ctx, g):
        (y,) = ctx.saved_tensors
        return SigmoidSecond.Backward.apply(g, y)


class SoftplusSecondSmall(Function):
    """The second derivative off by a part in a million."""

    class Backward(Function):
        @staticmethod
        def forward(ctx, g, x):
            ctx.save_for_backward(g, x)
            return g * torch.sigmoid(x)

        @staticmethod
        def backward(ctx, gg):
            g, x = ctx.saved_tensors
            s = torch.sigmoid(x)
            return gg * s, gg * g * s * (1 - s) * (1 + 1e-6)

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return F.softplus(x, threshold=40)

    @staticmethod
    def backward(ctx, g):
        return SoftplusSecondSmall.Backward.apply(g, *ctx.saved_tensors)


for name, cls, honest in (
    ("tanh-detached", TanhDetached, torch.tanh),
    ("softsign-saves-intermediate", SoftsignIntermediate, F.softsign),
    ("square-on-context", SquareOnContext, torch.square),
    ("sigmoid-second-factor", SigmoidSecond, torch.sigmoid),
    ("softplus-second-small", SoftplusSecondSmall, partial(F.softplus, threshold=40)),
):
    add(name, "second order", cls.apply, lambda: (normal(3, 4, seed=3),), honest, what="second")


def gelu_cubic(x):
    return 0.5 * x * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def gelu_quick(x):
    return x * torch.sigmoid(1.702 * x)


def silu_cut(x):
    return x * torch.sigmoid(x.clamp(-20, 20) * 0.99999)


def softplus_base_two(x):
    return torch.log2(1 + torch.exp(x))


def softplus_small(x):
    return torch.log(1 + 5e-7 + torch.exp(x))


def mish_swapped(x):
    return x * F.softplus(torch.tanh(x))


def selu_short(x):
    return 1.0507 * torch.where(x > 0, x, 1.6733 * torch.expm1(x))


def hardswish_unscaled(x):
    return x * F.relu6(x + 3) / 6.000001


def gelu_tanh_digit(x):
    return 0.5 * x * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044751 * x**3)))


for name, f, reference, honest in (
    ("gelu-by-tanh", gelu_cubic, "gelu", F.gelu),
    ("gelu-quick", gelu_quick, "gelu", F.gelu),
    ("silu-nearly", silu_cut, "silu", F.silu),
    ("softplus-base-two", softplus_base_two, "softplus", F.softplus),
    ("softplus-tiny-offset", softplus_small, "softplus", F.softplus),
    ("mish-swapped", mish_swapped, "mish", F.mish),
    ("selu-short-constants", selu_short, "selu", F.selu),
    ("hardswish-divisor", hardswish_unscaled, "hardswish", F.hardswish),
    ("gelu-tanh-digits", gelu_tanh_digit, "gelu_tanh", partial(F.gelu, approximate="tanh")),
):
    add(
        name,
        "consistent but wrong",
        f,
        lambda: (normal(4, 5, seed=4),),
        honest,
        what="value",
        reference=reference,
    )
