"""Good clipping by norms, and penalties: norms in long doubles, whose squares do not overflow here."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from tests.honest import Many, Real


def norm_of(parts: Sequence[Any], p: float = 2.0) -> Any:
    """Return the p-norm of all elements of several arrays, in long doubles."""
    flat = np.abs(np.concatenate([np.ravel(part) for part in parts]).astype(np.longdouble))
    if p == math.inf or flat.size == 0:
        return flat.max(initial=0.0)
    top = flat.max()
    if not 0 < top < math.inf:
        return flat.sum()
    return top * ((flat / top) ** np.longdouble(p)).sum() ** (1 / np.longdouble(p))


def shrunk(part: Any, norm: Any, max_norm: float, epsilon: float) -> Any:
    """Return the array times min(1, c / (norm + ε))."""
    factor = np.longdouble(max_norm) / (norm + np.longdouble(epsilon))
    return part * np.minimum(factor, 1.0)


def clip_by_norm(g: Real, *, max_norm: float = 1.0, p: float = 2.0, epsilon: float = 1e-6) -> Any:
    """One array."""
    return shrunk(g, norm_of((g,), p), max_norm, epsilon)


def clip_by_global_norm(
    a: Real, b: Real, c: Real, *, max_norm: float = 1.0, p: float = 2.0, epsilon: float = 1e-6
) -> tuple[Any, ...]:
    """Three arrays by their common norm, which is returned too."""
    norm = norm_of((a, b, c), p)
    return (*(shrunk(part, norm, max_norm, epsilon) for part in (a, b, c)), norm)


def row_norms(w: Any) -> Any:
    """Return the 2-norm of every row."""
    long = np.asarray(w, np.longdouble)
    return np.sqrt((long * long).sum(axis=1, keepdims=True))


def adaptive_clip(g: Real, w: Real, *, clipping: float = 0.01, eps: float = 1e-3) -> Any:
    """Every row of g, to at most λ times the norm of the row of w."""
    most = np.longdouble(clipping) * np.maximum(row_norms(w), np.longdouble(eps))
    norm = row_norms(g)
    return np.where(norm <= most, g, g * (most / np.where(norm == 0, 1.0, norm)))


def network(x: Any, y: Any, w1: Any, w2: Any) -> tuple[Any, ...]:
    """Return the parts of a two-layer network and the gradients of its mean squared error."""
    a = np.tanh(x @ w1.T)
    delta = 2.0 * (a @ w2.T - y) / y.size
    z = x @ w1.T
    e = np.exp(-2.0 * z * np.where(z.real < 0, -1.0, 1.0))
    b = (delta @ w2) * (4.0 * e / (1.0 + e) ** 2)
    return a, delta, b, b.T @ x, delta.T @ a


def penalty(x: Any, y: Any, w1: Any, w2: Any) -> Any:
    """Return the squared norm of these gradients."""
    *_, g1, g2 = network(x, y, w1, w2)
    return (g1 * g1).sum() + (g2 * g2).sum()


def penalty_vjp(inputs: Sequence[Any], c: Any) -> tuple[Any, ...]:
    """Return 2 c H g, the product with the Hessian taken by a complex step through the gradients."""
    x, y, w1, w2 = inputs
    *_, g1, g2 = network(x, y, w1, w2)
    step = 2.0**-100
    *_, h1, h2 = network(x, y, w1 + 1j * step * g1, w2 + 1j * step * g2)
    return None, None, 2.0 * c * np.imag(h1) / step, 2.0 * c * np.imag(h2) / step


def _no_gradient(inputs: Sequence[Any], c: Any, **_: Any) -> tuple[Any, ...]:
    return ()


def _zeros(inputs: Sequence[Any], *_: Any, **__: Any) -> tuple[Any, ...]:
    return tuple(np.zeros_like(x) for x in inputs)


CLIPPINGS: dict[str, Many] = {
    "clip_by_norm": Many(clip_by_norm, _no_gradient),
    "clip_by_global_norm": Many(clip_by_global_norm, _no_gradient),
    "adaptive_clip": Many(adaptive_clip, _no_gradient),
    "l2_penalty": Many(
        lambda w, decay=0.01: decay / 2 * (w * w).sum(),
        lambda inputs, c, decay=0.01: (c * decay * inputs[0],),
    ),
    "l1_penalty": Many(
        lambda w, decay=0.01: decay * np.abs(w).sum(),
        lambda inputs, c, decay=0.01: (c * decay * np.sign(inputs[0]),),
        _zeros,
    ),
    "decoupled_decay": Many(
        lambda w, rate=1e-3, decay=0.01: w - rate * decay * w,
        lambda inputs, c, rate=1e-3, decay=0.01: (c * (1.0 - rate * decay) * np.ones_like(inputs[0]),),
    ),
    "gradient_norm_penalty": Many(penalty, penalty_vjp),
    "kronecker_penalty": Many(lambda w, decay=0.01: np.asarray(decay * w.size), _zeros, _zeros),
}
