"""Subtract a mean, divide by a deviation: the computation that every normalisation shares, and its programs.

A rule gives the `View` of an array: its shape while computing, the axes over which elements share a mean m
and a variance v, and where the parameters lie. Each builder below returns a text for such a rule; what a text
does at v + ε = 0, where the formula is 0/0, is what its inverse deviation says.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from gradcheck.arithmetic.affine import affine
from gradcheck.arithmetic.exact import exact
from gradcheck.formulas.parts import accepted, stable, unstable
from gradcheck.records import DERIVATIVE, SECOND, VALUE, Text, Variant

Shape = tuple[int, ...]
Moments = Callable[[Any, Shape], tuple[Any, Any]]
Inverse = Callable[[Any, Any], Any]


@dataclass(frozen=True)
class View:
    """How an array is normalised: reshaped to `shape`, over `axes`.

    Weight and bias are spread as `parameters`, their gradients are sums over the axes `summed`; without
    `affine` there are none.
    """

    shape: Shape
    axes: Shape
    parameters: Shape
    summed: Shape
    affine: bool = True


Rule = Callable[..., View]


def two_pass(x: Any, axes: Shape) -> tuple[Any, Any]:
    """Mean, and variance by any stable method."""
    return np.mean(x, axis=axes, keepdims=True), np.var(x, axis=axes, keepdims=True)


def one_pass(x: Any, axes: Shape) -> tuple[Any, Any]:
    """Mean, and variance as E[x²] - E[x]²; what is clipped at 0 lies within the interval of what is not."""
    m = np.mean(x, axis=axes, keepdims=True)
    return m, np.mean(np.square(x), axis=axes, keepdims=True) - np.square(m)


def inverse_deviation(v: Any, eps: Any) -> Any:
    """1/√(v + ε), and 0 where v + ε = 0: then (x - m)/√(v + ε) is its limit for ε → 0."""
    s = v + eps
    positive = s > 0
    return np.where(positive, 1 / np.sqrt(np.where(positive, s, 1)), np.zeros_like(s))


def bare_inverse_deviation(v: Any, eps: Any) -> Any:
    """1/√(v + ε), infinite where v + ε = 0."""
    return 1 / np.sqrt(v + eps)


def by_channel(shape: Shape) -> Shape:
    """The shape that spreads one number per channel, the second axis, over an array."""
    return (1, shape[1], *(1 for _ in shape[2:]))


def _direct(x: Any, m: Any, r: Any, w: Any, b: Any) -> Any:
    y = (x - m) * r
    return y if w is None else y * w + b


def _scale_and_shift(x: Any, m: Any, r: Any, w: Any, b: Any) -> Any:
    return affine(x, m, r) if w is None else affine(x, m, r * w, b)


def _shift_then_parameters(x: Any, m: Any, r: Any, w: Any, b: Any) -> Any:
    y = affine(x, m, r)
    return y if w is None else y * w + b


def value_text(
    rule: Rule,
    moments: Moments = two_pass,
    inverse: Inverse = inverse_deviation,
    applied: Callable[..., Any] = _direct,
) -> Text:
    """Return the text of the value for a rule."""

    def value(x: Any, weight: Any, bias: Any, *, eps: Any, **options: Any) -> Any:
        """Value y = γ(x - m)/√(v + ε) + β."""
        view = rule(x.shape, **options)
        z = np.reshape(x, view.shape)
        m, v = moments(z, view.axes)
        w, b = (np.reshape(p, view.parameters) if view.affine else None for p in (weight, bias))
        return np.reshape(applied(z, m, inverse(v, eps), w, b), x.shape)

    return value


def _centred_gradient(x: Any, m: Any, r: Any, c: Any, w: Any, axes: Shape) -> tuple[Any, Any]:
    """The gradient dx = r(g - mean g - y mean(g y)), g = cγ, y = (x - m)r; dγ is the sum of c y."""
    g = c if w is None else c * w
    y = (x - m) * r
    along = np.mean(g * y, axis=axes, keepdims=True)
    return r * (g - np.mean(g, axis=axes, keepdims=True) - y * along), c * y


def _projected_gradient(x: Any, m: Any, r: Any, c: Any, w: Any, axes: Shape) -> tuple[Any, Any]:
    """The gradient dx = γr(c - mean c - (x - m)k), k = mean(c(x - m)) r²: one weight per mean."""
    d = x - m
    k = np.mean(c * d, axis=axes, keepdims=True) * r * r
    dx = (c - np.mean(c, axis=axes, keepdims=True) - d * k) * r
    return dx if w is None else dx * w, c * d * r


def _expanded_gradient(x: Any, m: Any, r: Any, c: Any, w: Any, axes: Shape) -> tuple[Any, Any]:
    """The gradient dx = r g + (x b - m b) - r mean g, b = (m mean g - mean(g x)) r³, uncentred."""
    g = c if w is None else c * w
    mean = np.mean(g, axis=axes, keepdims=True)
    b = (mean * m - np.mean(g * x, axis=axes, keepdims=True)) * r * r * r
    return r * g + affine(x, m, b, -(mean * r)), c * affine(x, m, r)


def vjp_text(
    rule: Rule,
    moments: Moments = two_pass,
    inverse: Inverse = inverse_deviation,
    gradient: Callable[..., tuple[Any, Any]] = _centred_gradient,
) -> Text:
    """Return the text of the vector-Jacobian product for a rule."""

    def vjp(inputs: tuple[Any, ...], cotangent: Any, *, eps: Any, **options: Any) -> tuple[Any, ...]:
        """Gradients dx = r(g - mean g - y mean(g y)), g = cγ; dγ = Σ c y; dβ = Σ c."""
        x, weight, bias = inputs
        view = rule(x.shape, **options)
        z, c = np.reshape(x, view.shape), np.reshape(cotangent, view.shape)
        m, v = moments(z, view.axes)
        w = np.reshape(weight, view.parameters) if view.affine else None
        dz, slope = gradient(z, m, inverse(v, eps), c, w, view.axes)
        dx = np.reshape(dz, x.shape)
        if not view.affine:
            return dx, np.zeros_like(weight), np.zeros_like(bias)
        return dx, _gathered(slope, view, weight.shape), _gathered(c, view, bias.shape)

    return vjp


def _gathered(terms: Any, view: View, shape: Shape) -> Any:
    return np.reshape(np.sum(terms, axis=view.summed) if view.summed else terms, shape)


def second_text(rule: Rule) -> Text:
    """Return the text of the double backward pass that forms r³ before it meets what makes it moderate."""

    def second(
        inputs: tuple[Any, ...], cotangent: Any, directions: tuple[Any, ...], *, eps: Any, **options: Any
    ) -> tuple[Any, ...]:
        """The gradient of <h, dx> + <e, dγ>: with d = x - m and g = cγ, in x it is
        r³(d(Σh Σg/n - Σgh + 3r² Σgd Σhd/n) + Σhd(mean g - g) + Σgd(mean h - h))/n, and the vjp of y at ce.
        """
        x, weight, bias = inputs
        view = rule(x.shape, **options)
        z, c, h = (np.reshape(array, view.shape) for array in (x, cotangent, directions[0]))
        m, v = two_pass(z, view.axes)
        d, r = z - m, inverse_deviation(v, eps)
        g = c * np.reshape(weight, view.parameters) if view.affine else c
        count = _count(view)
        sums = [np.sum(terms, axis=view.axes, keepdims=True) for terms in (g, h, g * h, g * d, h * d)]
        total_g, total_h, total_gh, total_gd, total_hd = sums
        cube, square = r * r * r, r * r
        inner = total_g * total_h / count - total_gh + square * total_gd * total_hd * (exact(3) / count)
        dx = d * cube * inner / count
        dx = dx + total_hd * cube / count * (total_g / count - g)
        dx = dx + total_gd * cube / count * (total_h / count - h)
        if not view.affine:
            return np.reshape(dx, x.shape), np.zeros_like(weight), np.zeros_like(bias)
        ce = c * np.reshape(directions[1], view.parameters)
        dx = dx + _through(ce, d, r, cube, view.axes, count)
        slope = c * _through(h, d, r, cube, view.axes, count)
        return np.reshape(dx, x.shape), _gathered(slope, view, weight.shape), np.zeros_like(bias)

    return second


def _through(c: Any, d: Any, r: Any, cube: Any, axes: Shape, count: int) -> Any:
    """The vjp r c - r Σc/n - d r³ Σcd/n of y = d r, which is its jvp as well."""
    total, along = (np.sum(terms, axis=axes, keepdims=True) for terms in (c, c * d))
    return c * r - r * total / count - d * cube * along / count


def expanded_second_text(rule: Rule, *, divided: bool) -> Text:
    """Return the text that differentiates the expanded gradient through m and r, with r³ by itself.

    r³ is `divided` by n before it meets anything else, which loses what is subnormal, or the products are,
    which may overflow before that.
    """

    def second(
        inputs: tuple[Any, ...], cotangent: Any, directions: tuple[Any, ...], *, eps: Any, **options: Any
    ) -> tuple[Any, ...]:
        """The gradient of rΣgh + bQ - rGH/n + e·dγ, b = (mG - Σgx)r³/n, Q = Σhx - mH, G = Σg, H = Σh:
        what it gives to x itself, to m (a mean of x), and to r (whose derivative is -r³(x - m)/n).
        """
        x, weight, bias = inputs
        view = rule(x.shape, **options)
        z, c, h = (np.reshape(array, view.shape) for array in (x, cotangent, directions[0]))
        m, v = two_pass(z, view.axes)
        r = inverse_deviation(v, eps)
        g, ce = (c * np.reshape(array, view.parameters) for array in (weight, directions[1]))
        count = _count(view)
        sums = [
            np.sum(part, axis=view.axes, keepdims=True) for part in (g, h, g * h, g * z, h * z, ce, ce * z)
        ]
        total_g, total_h, total_gh, total_gz, total_hz, total_ce, total_cez = sums
        cube, late = (r * r * r / count, 1) if divided else (r * r * r, count)
        q, b = total_hz - m * total_h, (m * total_g - total_gz) * cube / late
        to_m = cube * total_g * q / late - b * total_h - r * total_ce
        to_r = total_gh - total_g * total_h / count + (total_cez - m * total_ce)
        to_r = to_r + r * r * (m * total_g - total_gz) * q * (exact(3) / count)
        dx = b * h - cube * q * g / late + r * ce + to_m / count - to_r * cube * (z - m) / late
        slope = c * (r * h - affine(z, m, cube * q / late) - total_h * r / count)
        return np.reshape(dx, x.shape), _gathered(slope, view, weight.shape), np.zeros_like(bias)

    return second


def _count(view: View) -> int:
    return math.prod(view.shape[axis] for axis in view.axes)


def variants(rule: Rule, *, per_mean: bool) -> tuple[Variant, ...]:
    """Return the other programs in use; `per_mean` says that all elements of a mean share one weight."""
    projected = (stable(DERIVATIVE, "projected", vjp_text(rule, gradient=_projected_gradient)),)
    return (
        stable(VALUE, "x·a + b", value_text(rule, applied=_scale_and_shift)),
        stable(VALUE, "(x·r - m·r)γ + β", value_text(rule, applied=_shift_then_parameters)),
        accepted(VALUE, "0/0", value_text(rule, inverse=bare_inverse_deviation)),
        unstable(VALUE, "E[x²] - E[x]²", value_text(rule, one_pass, bare_inverse_deviation)),
        *(projected if per_mean else ()),
        stable(DERIVATIVE, "expanded", vjp_text(rule, gradient=_expanded_gradient)),
        accepted(DERIVATIVE, "0/0", vjp_text(rule, inverse=bare_inverse_deviation)),
        unstable(DERIVATIVE, "E[x²] - E[x]²", vjp_text(rule, one_pass, bare_inverse_deviation)),
        unstable(SECOND, "r³ by itself", second_text(rule)),
    )
