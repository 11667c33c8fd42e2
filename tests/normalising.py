"""Normalisations written in other ways: correct ones, and ones that are wrong in a way that is known."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from gradcheck import cases
from gradcheck.formats import Format
from gradcheck.records import Array, Case, Formula
from gradcheck.subjects.implementation import Implementation

Moments = Callable[[Array], tuple[Array, Array]]


class Seeded:
    """Decides shapes from a seed, within what a formula allows."""

    def __init__(self, seed: int, largest: int = 33) -> None:
        self._rng, self._largest = np.random.default_rng(seed), largest

    def size(self, low: int = 1, high: int | None = None) -> int:
        most = self._largest if high is None else min(high, self._largest)
        return int(self._rng.integers(low, max(low, most) + 1))

    def integer(self, low: int, high: int) -> int:
        return int(self._rng.integers(low, high + 1))

    def choice(self, options: Any) -> Any:
        return options[int(self._rng.integers(len(options)))]


def drawn(formula: Formula, fmt: Format, family: str, seed: int, **fixed: Any) -> Case:
    """Return a case of a family, with the arranged options but for those that are fixed."""
    arrangement = cases.arranged(formula, Seeded(seed))
    defaults = {option.name: option.default for option in formula.options}
    options = {**defaults, **arrangement.options, **fixed}
    inputs = cases.inputs_of(formula, fmt, family, seed, arrangement, options)
    return Case(family, fmt, inputs, None, options, seed)


def two_pass(x: Array) -> tuple[Array, Array]:
    """Mean and variance of the columns, one after the other."""
    count = x.dtype.type(len(x))
    m = np.add.reduce(x, axis=0) / count
    d = x - m
    return m, np.add.reduce(d * d, axis=0) / count


def welford(x: Array) -> tuple[Array, Array]:
    """Mean and variance of the columns by Welford's updates, row after row."""
    one = x.dtype.type
    m, total = np.array(x[0]), np.zeros_like(x[0])
    for k in range(1, len(x)):
        d = x[k] - m
        m = m + d / one(k + 1)
        total = total + d * (x[k] - m)
    return m, total / one(len(x))


def one_pass(x: Array) -> tuple[Array, Array]:
    """E[x²] - E[x]², cut off at 0."""
    count = x.dtype.type(len(x))
    m = np.add.reduce(x, axis=0) / count
    return m, np.maximum(np.add.reduce(x * x, axis=0) / count - m * m, 0)


def columns(x: Array) -> Array:
    """The values of a channel below each other."""
    return np.ascontiguousarray(np.moveaxis(x, 1, -1)).reshape(-1, x.shape[1])


def rows(x: Array, axes: int) -> Array:
    """The values of a layer below each other."""
    width = int(np.prod(x.shape[x.ndim - axes :]))
    return np.ascontiguousarray(x.reshape(-1, width).T)


Apply = Callable[..., Array]
Slope = Callable[..., Array]


def direct(x: Array, m: Array, v: Array, w: Array, b: Array, eps: Any) -> Array:
    """γ(x - m)/√(v + ε) + β as it is written."""
    return (x - m) / np.sqrt(v + eps) * w + b


def scale_and_shift(x: Array, m: Array, v: Array, w: Array, b: Array, eps: Any) -> Array:
    """One multiplication per element."""
    a = w / np.sqrt(v + eps)
    return x * a + (b - m * a)


def gradient(x: Array, m: Array, v: Array, g: Array, eps: Any) -> Array:
    """dx for a cotangent g of (x - m)/√(v + ε)."""
    r = 1 / np.sqrt(v + eps)
    y = (x - m) * r
    return r * (g - two_pass(g)[0] - y * two_pass(g * y)[0])


def batch_norm(
    fmt: Format, moments: Moments, apply: Apply = direct, slope: Slope = gradient
) -> Implementation:
    """Batch normalisation of given moments, value and gradient."""

    def spread(x: Array, flat: Array) -> Array:
        shape = (x.shape[0], *x.shape[2:], x.shape[1])
        return np.ascontiguousarray(np.moveaxis(flat.reshape(shape), -1, 1))

    def parts(inputs: Any, options: Mapping[str, Any]) -> Any:
        x, w, b = inputs
        flat, one = columns(x), x.dtype.type
        m, v = moments(flat)
        affine = options["affine"]
        return x, flat, m, v, w if affine else one(1), b if affine else one(0), one(options["eps"])

    def forward(inputs: Any, options: Mapping[str, Any]) -> Array:
        with np.errstate(all="ignore"):
            x, flat, m, v, w, b, eps = parts(inputs, options)
            return spread(x, apply(flat, m, v, w, b, eps))

    def vjp(inputs: Any, cotangent: Array, options: Mapping[str, Any]) -> tuple[Array | None, ...]:
        with np.errstate(all="ignore"):
            x, flat, m, v, w, _, eps = parts(inputs, options)
            c = columns(cotangent)
            dx = spread(x, slope(flat, m, v, c * w, eps))
            if not options["affine"]:
                return dx, None, None
            y = (flat - m) / np.sqrt(v + eps)
            return dx, np.add.reduce(c * y, axis=0), np.add.reduce(c, axis=0)

    return Implementation("batch_norm", "test", fmt, forward, vjp)


def layer_norm(fmt: Format, moments: Moments, apply: Apply = direct) -> Implementation:
    """Layer normalisation of given moments, value and gradient."""

    def flattened(inputs: Any, options: Mapping[str, Any]) -> Any:
        x, w, b = inputs
        flat = rows(x, options["axes"])
        return x, flat, *moments(flat), w.reshape(-1, 1), b.reshape(-1, 1), x.dtype.type(options["eps"])

    def forward(inputs: Any, options: Mapping[str, Any]) -> Array:
        with np.errstate(all="ignore"):
            x, flat, m, v, w, b, eps = flattened(inputs, options)
            return np.ascontiguousarray(apply(flat, m, v, w, b, eps).T).reshape(x.shape)

    def vjp(inputs: Any, cotangent: Array, options: Mapping[str, Any]) -> tuple[Array | None, ...]:
        with np.errstate(all="ignore"):
            x, flat, m, v, w, _, eps = flattened(inputs, options)
            c = rows(cotangent, options["axes"])
            dx = np.ascontiguousarray(gradient(flat, m, v, c * w, eps).T).reshape(x.shape)
            y = (flat - m) / np.sqrt(v + eps)
            shape = inputs[1].shape
            return dx, np.add.reduce(c * y, axis=1).reshape(shape), np.add.reduce(c, axis=1).reshape(shape)

    return Implementation("layer_norm", "test", fmt, forward, vjp)
