"""Right and wrong JAX operations: what is wrong, and the checks that look for such a cause."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax


@dataclass(frozen=True)
class Operation:
    """A function with example inputs; `checks` of a wrong one are those that look for its cause."""

    name: str
    f: Callable[..., Any]
    inputs: tuple[Any, ...]
    checks: tuple[str, ...] = ()
    keywords: dict[str, Any] = field(default_factory=dict)


def normal(*shape: int, seed: int = 0, scale: float = 1.0) -> jax.Array:
    return jnp.asarray(scale * np.random.default_rng(seed).normal(size=shape), jnp.float32)


def custom_vjp(forward: Callable[..., Any], backward: Callable[..., Any]) -> Any:
    """The operation with all of its inputs saved; `backward(inputs, cotangent)` returns the gradients."""
    f = jax.custom_vjp(forward)
    f.defvjp(lambda *inputs: (forward(*inputs), inputs), lambda saved, g: backward(saved, g))
    return f


def custom_jvp(forward: Callable[..., Any], push: Callable[..., Any]) -> Any:
    """The operation of one input whose tangent is `push(x, t)`."""
    f = jax.custom_jvp(forward)
    f.defjvp(lambda primals, tangents: (forward(*primals), push(*primals, *tangents)))
    return f


WRONG: list[Operation] = []
RIGHT: list[Operation] = []
VALUES = ("jacobian", "values")


def wrong(name: str, f: Any, *inputs: Any, checks: tuple[str, ...], **keywords: Any) -> None:
    WRONG.append(Operation(name, f, inputs, checks, keywords))


def right(name: str, f: Any, *inputs: Any, **keywords: Any) -> None:
    RIGHT.append(Operation(name, f, inputs, (), keywords))


X, M = normal(3, 4), normal(4, 3, seed=1)

# Any input.
wrong(
    "cube with a factor a part in 10^6 off",
    custom_vjp(lambda x: x**3, lambda s, g: (3.000003 * g * s[0] ** 2,)),
    X,
    checks=("jacobian",),
)
wrong("sign of the second input", custom_vjp(lambda x, y: x - y, lambda s, g: (g, g)), X, X, checks=VALUES)
wrong(
    "softmax without the row sum",
    custom_vjp(lambda x: jax.nn.softmax(x), lambda s, g: (g * jax.nn.softmax(s[0]),)),
    X,
    checks=VALUES,
)
wrong(
    "tangent of tanh without the square",
    custom_jvp(jnp.tanh, lambda x, t: t * (1 - jnp.tanh(x))),
    X,
    checks=("jacobian",),
)
wrong(
    "matmul with the operand not transposed, square",
    custom_vjp(lambda x, w: x @ w, lambda s, g: (g @ s[1], s[0].T @ g)),
    normal(3, 3),
    normal(3, 3, seed=2),
    checks=("jacobian",),
)
wrong("a detached input", lambda x, y: x * lax.stop_gradient(y), X, X, checks=("jacobian",))
wrong(
    "one entry in the last place",
    custom_vjp(jnp.sin, lambda s, g: ((g * jnp.cos(s[0])).at[-1, -1].multiply(1 + 1e-6),)),
    X,
    checks=("jacobian",),
)
wrong(
    "an input used twice, counted once",
    custom_vjp(lambda x: x * jnp.flip(x), lambda s, g: (g * jnp.flip(s[0]),)),
    X,
    checks=("jacobian",),
)
# Some values.
wrong(
    "beyond six",
    custom_vjp(lambda x: x**2, lambda s, g: (2 * g * s[0] * jnp.where(s[0] > 6, 1.01, 1.0),)),
    X,
    checks=("values",),
)
wrong(
    "a branch that is NaN where it is not taken",
    lambda x: jnp.where(x > 0, jnp.sqrt(x), 0.5 * x),
    jnp.abs(X) + 0.5,
    checks=("values",),
)
wrong(
    "clipped for large inputs",
    custom_vjp(jnp.exp, lambda s, g: (g * jnp.minimum(jnp.exp(s[0]), 1e3),)),
    X,
    checks=("values",),
)
wrong(
    "relu with a slope of one for negative numbers near zero",
    custom_vjp(lambda x: jnp.maximum(x, 0), lambda s, g: (jnp.where(s[0] > -1e-2, g, 0.0),)),
    X + 3,
    checks=("values",),
)
wrong(
    "a maximum that forgets ties",
    custom_vjp(lambda x: x.max(), lambda s, g: (g * (s[0] == s[0].max()),)),
    X,
    checks=("values",),
)
wrong("a logarithm that guards its slope", lambda x: custom_log(x), jnp.abs(X) + 0.5, checks=("values",))
custom_log = custom_vjp(jnp.log, lambda s, g: (g / jnp.maximum(s[0], 1e-3),))
# Some shapes.
wrong("one row too many in the mean", custom_vjp(
    lambda x: x.mean(0), lambda s, g: (jnp.broadcast_to(g / max(len(s[0]), 3), s[0].shape),)), X,
    checks=("sizes",))  # fmt: skip
wrong(
    "a single column",
    custom_vjp(
        lambda x: jnp.cumsum(x, -1),
        lambda s, g: (jnp.cumsum(g[..., ::-1], -1)[..., ::-1] * (0.5 if g.shape[-1] == 1 else 1.0),),
    ),
    X,
    checks=("sizes",),
)
wrong(
    "odd lengths",
    custom_vjp(lambda x: x * 2, lambda s, g: (g * (2.0 if g.shape[-1] % 2 == 0 else 2.001),)),
    X,
    checks=("sizes",),
)
# Some formats.
wrong(
    "a constant of float32 in float64",
    lambda x: x * jnp.asarray(jnp.float32(0.1), x.dtype) ** 2 if x.dtype == jnp.float64 else x * 0.02,
    X,
    checks=("formats",),
)
wrong(
    "a value that is scaled in float16",
    lambda x: jnp.tanh(x) * (1.5 if x.dtype == jnp.float16 else 1.0),
    X,
    checks=("formats",),
)
wrong(
    "a bfloat16 gradient that is doubled",
    custom_vjp(jnp.sin, lambda s, g: (g * jnp.cos(s[0]) * (2 if g.dtype == jnp.bfloat16 else 1),)),
    X,
    checks=("formats",),
)
# The cotangent.
wrong(
    "the cotangent's sign alone",
    custom_vjp(jnp.sin, lambda s, g: (jnp.sign(g) * jnp.cos(s[0]),)),
    X,
    checks=("cotangents",),
)
wrong(
    "the cotangent is clipped",
    custom_vjp(jnp.sin, lambda s, g: (jnp.clip(g, -10, 10) * jnp.cos(s[0]),)),
    X,
    checks=("cotangents",),
)
wrong(
    "the cotangent is averaged",
    custom_vjp(lambda x: x * 3, lambda s, g: (3 * jnp.broadcast_to(g.mean(), g.shape),)),
    X,
    checks=("cotangents", "jacobian"),
)
# Second order.
wrong(
    "the first gradient detached",
    custom_vjp(lambda x: x**3, lambda s, g: (lax.stop_gradient(3 * s[0] ** 2) * g,)),
    X,
    checks=("second-order",),
)


@jax.custom_vjp
def wrong_slope(x: Any) -> Any:
    return jnp.cos(x)


wrong_slope.defvjp(lambda x: (jnp.cos(x), x), lambda x, g: (g * x * 1.001,))
wrong(
    "a gradient with a wrong one of its own",
    custom_vjp(jnp.sin, lambda s, g: (g * wrong_slope(s[0]),)),
    X,
    checks=("second-order",),
)
wrong("a second tangent that is halved", custom_jvp(
    jnp.exp, lambda x, t: t * custom_jvp(jnp.exp, lambda y, u: 0.5 * u * jnp.exp(y))(x)), X,
    checks=("second-order",))  # fmt: skip


# Batches and modes.
@jax.custom_batching.custom_vmap
def wrong_batch(x: Any) -> Any:
    return jnp.sin(x)


@wrong_batch.def_vmap
def _of_batch(axis_size: int, in_batched: Any, x: Any) -> Any:
    return jnp.sin(x) + 1e-3, in_batched[0]


wrong(
    "a rule for batches that adds something",
    custom_vjp(wrong_batch, lambda s, g: (g * jnp.cos(s[0]),)),
    X,
    checks=("batched",),
)
wrong(
    "a program that differs from its operations",
    lambda x: jnp.sin(x) * (1.001 if isinstance(x, jax.core.Tracer) else 1.0),
    X,
    checks=("state",),
)


class Counting:
    """A function that counts its calls, and answers otherwise from the fifth on."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, x: Any) -> Any:
        self.calls += 1
        return x * (1 + 1e-3 * (self.calls > 5))


_LEAKED: list[Any] = []


def leaking(x: Any) -> Any:
    total = x + (_LEAKED[-1] if _LEAKED else 0.0) * 0
    _LEAKED.append(x)
    return total


def setting(x: Any) -> Any:
    jax.config.update("jax_numpy_rank_promotion", "raise")
    return x * 2


wrong("a function that counts", Counting(), X, checks=("state",))
wrong("a function that draws random numbers", lambda x: x * np.random.normal(), X, checks=("state",))
wrong("a function that keeps what it traced", leaking, X, checks=("state",))
wrong("a function that changes JAX's settings", setting, X, checks=("state",))
# Consistent but wrong: a reference tells.
wrong("softplus with an offset", lambda x: jax.nn.softplus(x) + 1e-6, X, checks=("reference",),
      reference="softplus")  # fmt: skip
wrong("a leaky relu of another slope", lambda x: jax.nn.leaky_relu(x, 0.02), X, checks=("reference",),
      reference="leaky_relu", options={"negative_slope": 0.01})  # fmt: skip
wrong("a NumPy reference", jnp.exp2, X, checks=("reference",), reference=np.exp)
# Containers.
wrong("one part of a tree",
      custom_vjp(lambda p: {"y": p["w"] * p["b"][0]},
                 lambda s, g: ({"w": g["y"] * s[0]["b"][0], "b": [g["y"]]},)),
      {"w": X, "b": [X + 1]}, checks=("jacobian",))  # fmt: skip

# Right ones.
for each in (
    "relu",
    "relu6",
    "sigmoid",
    "softplus",
    "soft_sign",
    "silu",
    "log_sigmoid",
    "leaky_relu",
    "hard_sigmoid",
    "hard_silu",
    "hard_tanh",
    "elu",
    "celu",
    "selu",
    "gelu",
    "mish",
    "softmax",
    "log_softmax",
    "standardize",
    "squareplus",
    "sparse_plus",
    "logsumexp",
    "glu",
):
    if hasattr(jax.nn, each):
        right(f"jax.nn.{each}", getattr(jax.nn, each), X)
for each in (
    "sin",
    "cos",
    "tanh",
    "exp",
    "expm1",
    "square",
    "abs",
    "sinh",
    "arctan",
    "arcsinh",
    "cumsum",
    "cumprod",
    "sort",
    "ravel",
    "negative",
    "sign",
    "prod",
    "max",
    "min",
    "mean",
    "var",
    "sum",
    "logaddexp.reduce",
):
    if "." not in each:
        right(f"jnp.{each}", getattr(jnp, each), X)
for each in ("log", "sqrt", "log1p", "cbrt", "reciprocal"):
    right(f"jnp.{each}", getattr(jnp, each), jnp.abs(X) + 0.5, domain="positive")
for each in ("erf", "erfc", "digamma", "lgamma", "rsqrt", "logistic"):
    positive = each in ("digamma", "lgamma", "rsqrt")
    right(f"lax.{each}", getattr(lax, each), jnp.abs(X) + 0.5 if positive else X,
          **({"domain": "positive"} if positive else {}))  # fmt: skip
right("jnp.matmul", jnp.matmul, X, M)
right("jnp.einsum", lambda x, y: jnp.einsum("ij,jk->ki", x, y), X, M)
right("jnp.maximum", jnp.maximum, X, X + 1)
right("jnp.hypot", lambda x, y: jnp.sqrt(x * x + y * y + 1), X, X)
right("jnp.linalg.inv", lambda x: jnp.linalg.inv(x + 4 * jnp.eye(3)), normal(3, 3))
right(
    "jnp.linalg.solve", lambda a, b: jnp.linalg.solve(a @ a.T + jnp.eye(len(a)), b), normal(3, 3), normal(3)
)
right("jnp.linalg.cholesky", lambda a: jnp.linalg.cholesky(a @ a.T + jnp.eye(len(a))), normal(3, 3))
right("jnp.linalg.slogdet", lambda a: jnp.linalg.slogdet(a @ a.T + jnp.eye(len(a)))[1], normal(3, 3))
right("jnp.linalg.norm", lambda x: jnp.linalg.norm(x + 3), X)
right("jnp.linalg.qr", lambda a: jnp.abs(jnp.linalg.qr(a + 3 * jnp.eye(3))[1]), normal(3, 3))
right("lax.scan", lambda x: lax.scan(lambda c, e: (jnp.tanh(c + e), c * e), x[0], x), X)
right("lax.cond", lambda x: lax.cond(x.sum() > 0, jnp.sin, jnp.cos, x), X)
right("lax.fori_loop", lambda x: lax.fori_loop(0, 3, lambda k, y: jnp.sin(y) + k, x), X)
right("lax.map", lambda x: lax.map(lambda row: row * row.sum(), x), X)
right("lax.conv", lambda x, w: lax.conv(x, w, (1, 1), "SAME"), normal(1, 2, 4, 4), normal(3, 2, 3, 3, seed=3))
right("lax.dynamic_slice", lambda x: lax.dynamic_slice(x, (1, 1), (2, 2)), normal(3, 4))
right("an embedding", lambda table, rows: table[rows], normal(5, 3), jnp.asarray([0, 2, 4, 2]))
right("a scatter", lambda x, at: jnp.zeros(7).at[at].add(x), normal(4), jnp.asarray([0, 2, 2, 6]))
right("jitted", jax.jit(lambda x: jnp.sin(x) * x), X)
right("vmapped", jax.vmap(lambda row: row / (1 + row @ row)), X)
right("checkpointed", jax.checkpoint(lambda x: jnp.sin(jnp.sin(x))), X)
right("a static argument", functools.partial(jax.jit, static_argnums=1)(lambda x, n: x**n), X, 3)
right("a custom_vjp cube", custom_vjp(lambda x: x**3, lambda s, g: (3 * g * s[0] ** 2,)), X)
right("a custom_jvp tanh", custom_jvp(jnp.tanh, lambda x, t: t * (1 - jnp.tanh(x) ** 2)), X)
right("a custom_vjp product", custom_vjp(lambda x, w: x @ w, lambda s, g: (g @ s[1].T, s[0].T @ g)), X, M)
right("Python's control flow", lambda x: x * 2 if x[0, 0] > 0 else x * 3, jnp.abs(X) + 0.5, domain="positive")
right("trees", lambda p, *, scale: {"y": [p["w"] * scale, p["b"][0].sum()], "n": jnp.arange(3)},
      {"w": X, "b": (X, None)}, scale=X)  # fmt: skip
right("a double where", lambda x: jnp.where(x > 0, jnp.sqrt(jnp.where(x > 0, x, 1.0)), 0.0), X)
