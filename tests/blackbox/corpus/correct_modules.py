"""Right modules with parameters, and right pairs of a NumPy forward and its vjp."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from scipy import special
from torch import nn

from tests.blackbox.corpus.operation import array, normal
from tests.blackbox.corpus.right import BOTH, Rights

MODULES = Rights()
add = MODULES.add

TINY = (1e-8,)


class SelfAttention(nn.Module):
    def __init__(self):
        super().__init__()
        self.attention = nn.MultiheadAttention(4, 2, batch_first=True)

    def forward(self, x):
        return self.attention(x, x, x, need_weights=False)[0]


class Perceptron(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Linear(3, 5), nn.ReLU(), nn.Dropout(0.5), nn.Linear(5, 2))
        self.eval()


class Residual(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm, self.inner, self.outer = nn.LayerNorm(4), nn.Linear(4, 8), nn.Linear(8, 4)

    def forward(self, x):
        return x + self.outer(F.gelu(self.inner(self.norm(x))))


class ConvolutionBlock(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Conv2d(2, 3, 3, padding=1), nn.GroupNorm(1, 3), nn.SiLU(), nn.AvgPool2d(2))


class EvaluatedNorm(nn.BatchNorm1d):
    def __init__(self):
        super().__init__(3)
        self.running_mean.copy_(torch.tensor([0.1, -0.2, 0.3]))
        self.running_var.copy_(torch.tensor([0.5, 1.5, 2.0]))
        self.eval()


class UntrackedNorm(nn.BatchNorm1d):
    def __init__(self):
        super().__init__(3, track_running_stats=False)


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.cell = nn.GRUCell(3, 4)

    def forward(self, x):
        state = torch.zeros(x.shape[0], 4, dtype=x.dtype)
        for step in range(x.shape[1]):
            state = self.cell(x[:, step], state)
        return state


class Tokens(nn.Module):
    def __init__(self):
        super().__init__()
        self.table, self.head = nn.Embedding(6, 4), nn.Linear(4, 3)

    def forward(self, tokens):
        return self.head(torch.tanh(self.table(tokens)).mean(1))


class Frozen(nn.Module):
    """A layer whose weight does not learn, on purpose."""

    def __init__(self):
        super().__init__()
        self.inner, self.outer = nn.Linear(3, 4), nn.Linear(4, 2)
        self.inner.requires_grad_(False)

    def forward(self, x):
        return self.outer(torch.tanh(self.inner(x)))


class Shared(nn.Module):
    """One weight used twice."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.arange(9.0).reshape(3, 3) / 9)

    def forward(self, x):
        return torch.tanh(x @ self.weight) @ self.weight.T


class Slope(nn.PReLU):
    def __init__(self):
        super().__init__(3, 0.2)


class Ffn(nn.TransformerEncoderLayer):
    def __init__(self):
        super().__init__(4, 2, 8, dropout=0.1, batch_first=True, activation="gelu")
        self.eval()


class Dense(nn.Linear):
    def __init__(self):
        super().__init__(3, 4)


class TwoInputs(nn.Bilinear):
    def __init__(self):
        super().__init__(3, 2, 4)


def batch(*shape):
    return lambda: (normal(*shape),)


add("module-linear", Dense, batch(5, 3), batch(1, 3), batch(2, 4, 3), scales=BOTH, ties=True)
add("module-perceptron", Perceptron, batch(5, 3), batch(1, 3), scales=BOTH)
add("module-residual", Residual, batch(5, 4), batch(1, 4), batch(2, 3, 4), scales=TINY)
add("module-convolution", ConvolutionBlock, batch(2, 2, 6, 6), batch(1, 2, 4, 4), scales=TINY, ties=True)
add("module-batch-norm-evaluated", EvaluatedNorm, batch(6, 3), batch(1, 3), scales=BOTH, ties=True)
add("module-batch-norm-untracked", UntrackedNorm, batch(6, 3), batch(4, 3), scales=TINY)
add("module-self-attention", SelfAttention, batch(2, 3, 4), batch(1, 1, 4), scales=TINY, ties=True)
add("module-transformer-layer", Ffn, batch(2, 3, 4), batch(1, 2, 4), scales=TINY)
add("module-recurrent", Recurrent, batch(2, 3, 3), batch(1, 1, 3), scales=TINY, ties=True)
add("module-tokens", Tokens, lambda: (torch.tensor([[1, 2, 2], [5, 0, 1]]),), lambda: (torch.tensor([[0]]),))
add("module-frozen", Frozen, batch(5, 3), batch(1, 3), ties=True)
add("module-shared-weight", Shared, batch(5, 3), batch(1, 3), ties=True)
add("module-prelu", Slope, batch(5, 3), batch(1, 3), kinks=(0,), ties=True, scales=BOTH)
add(
    "module-bilinear",
    TwoInputs,
    lambda: (normal(5, 3), normal(5, 2, seed=1)),
    lambda: (normal(1, 3), normal(1, 2, seed=1)),
    scales=BOTH,
)


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def softmax_vjp(inputs, g):
    y = softmax(inputs[0])
    return (y * (g - (g * y).sum(-1, keepdims=True)),)


def linear_vjp(inputs, g):
    x, w, _ = inputs
    return g @ w, g.T @ x, g.sum(0)


def sine_cosine_vjp(inputs, g):
    (x,) = inputs
    return (g[0] * np.cos(x) - g[1] * np.sin(x),)


def layer_norm(x, gain):
    c = x - x.mean(-1, keepdims=True)
    return gain * c / np.sqrt((c * c).mean(-1, keepdims=True) + 1e-5)


def layer_norm_vjp(inputs, g):
    x, gain = inputs
    c = x - x.mean(-1, keepdims=True)
    r = 1 / np.sqrt((c * c).mean(-1, keepdims=True) + 1e-5)
    y, h = c * r, g * gain
    dx = r * (h - h.mean(-1, keepdims=True) - y * (h * y).mean(-1, keepdims=True))
    return dx, (g * y).reshape(-1, x.shape[-1]).sum(0)


def inverse(x):
    if x.ndim != 2:
        raise ValueError("expected one matrix")
    return np.linalg.inv(x)


def inverse_vjp(inputs, g):
    y = np.linalg.inv(inputs[0])
    return (-(y.T @ g @ y.T),)


def highest_vjp(inputs, g):
    (x,) = inputs
    out = np.zeros_like(x)
    np.put_along_axis(out, x.argmax(-1)[..., None], g[..., None], -1)
    return (out,)


def square_loss_vjp(inputs, g):
    x, t = inputs
    d = 2 * g * (x - t) / x.size
    return d, -d


def pairs(*shapes):
    return lambda: tuple(array(*shape, seed=k) for k, shape in enumerate(shapes))


whole = {"scales": BOTH, "ties": True}
line, one, cube = pairs((3, 4)), pairs((1,)), pairs((2, 3, 2))
for name, f, vjp, options in (
    ("relu", lambda x: np.maximum(x, 0), lambda i, g: (g * (i[0] > 0),), whole | {"kinks": (0,)}),
    ("sigmoid", special.expit, lambda i, g: (g * special.expit(i[0]) * special.expit(-i[0]),), whole),
    ("tanh", np.tanh, lambda i, g: (g * (1 - np.tanh(i[0]) ** 2),), whole),
    ("abs", np.abs, lambda i, g: (g * np.sign(i[0]),), whole | {"kinks": (0,)}),
    ("softplus", lambda x: np.logaddexp(x, 0), lambda i, g: (g * special.expit(i[0]),), whole),
    (
        "clip",
        lambda x: np.clip(x, -1, 1),
        lambda i, g: (g * (np.abs(i[0]) <= 1),),
        whole | {"kinks": (-1, 1)},
    ),
    ("sine-cosine", lambda x: (np.sin(x), np.cos(x)), sine_cosine_vjp, whole),
    ("sum", lambda x: x.sum(), lambda i, g: (np.broadcast_to(g, i[0].shape),), whole),
    ("softmax", softmax, softmax_vjp, whole),
    ("highest", lambda x: x.max(-1), highest_vjp, whole | {"kinks": (0,)}),
):
    add(f"numpy-{name}", f, line, one, cube, vjp=vjp, **options)
add(
    "numpy-linear",
    lambda x, w, b: x @ w.T + b,
    pairs((5, 3), (4, 3), (4,)),
    pairs((1, 3), (3, 3), (3,)),
    vjp=linear_vjp,
    **whole,
)
add("numpy-layer-norm", layer_norm, pairs((3, 6), (6,)), pairs((1, 4), (4,)), vjp=layer_norm_vjp, ties=True)
add(
    "numpy-inverse",
    inverse,
    lambda: (array(3, 3) + 3 * np.eye(3),),
    lambda: (array(2, 2) + 3 * np.eye(2),),
    vjp=inverse_vjp,
    scales=BOTH,
)
add(
    "numpy-squared-error",
    lambda x, t: ((x - t) ** 2).mean(),
    pairs((4, 3), (4, 3)),
    pairs((1,), (1,)),
    vjp=square_loss_vjp,
    **whole,
)
add(
    "numpy-log",
    np.log,
    lambda: (np.exp(array(3, 4)),),
    lambda: (np.exp(array(7)),),
    vjp=lambda i, g: (g / i[0],),
    scales=BOTH,
)
add(
    "numpy-cumulative-sum",
    lambda x: np.cumsum(x, -1),
    line,
    pairs((2, 19)),
    vjp=lambda i, g: (np.flip(np.cumsum(np.flip(g, -1), -1), -1),),
    **whole,
)
