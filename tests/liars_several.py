"""Liars about functions of several arrays: PReLU, the neuron and the dense layer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from gradcheck.formats import Format
from gradcheck.subjects.implementation import Implementation
from tests.honest import SEVERAL, Many, Real, logistic, several
from tests.lying import ALL, F64, SIZES, WIDE, Liar

Part = Callable[..., Any]


def part(
    formula: str,
    name: str,
    cause: str,
    order: str,
    lie: Part,
    formats: tuple[str, ...] = ALL,
    sizes: tuple[int, ...] = SIZES,
) -> Liar:
    """Return the liar whose `order` (value, vjp or second) is `lie(honest function, *arguments)`."""

    def implement(fmt: Format) -> Implementation:
        straight = SEVERAL[formula]
        parts: dict[str, Any] = {each: getattr(straight, each) for each in ("value", "vjp", "second")}
        inner = parts[order]
        parts[order] = lambda *arguments, **options: lie(inner, *arguments, **options)
        return several(formula, fmt, Many(**parts))

    where = "derivative" if order == "vjp" else order
    return Liar(f"{formula}-{name}", formula, cause, "wrong", implement, where, formats, sizes)


def replaced(index: int, change: Callable[[Sequence[Real], Real, Sequence[Real]], Any]) -> Part:
    """Return the lie that replaces gradient number `index` by change(inputs, cotangent, honest gradients)."""

    def vjp(inner: Part, inputs: Sequence[Real], c: Real, *rest: Any) -> Sequence[Real]:
        gradients = list(inner(inputs, c, *rest))
        gradients[index] = change(inputs, c, gradients)
        return gradients

    return vjp


def _spoil_one(inner: Part, *inputs: Real) -> Real:
    """Get a single entry of the result wrong."""
    result = inner(*inputs)
    if result.size:
        result.reshape(-1)[result.size // 2] *= 1.5
    return result


def _fill(like: Real, value: Any) -> Real:
    return np.full(np.shape(like), value)


PRELU = (
    part(
        "prelu",
        "weight-from-all",
        "the weight's gradient takes positive inputs too",
        "vjp",
        replaced(
            1,
            lambda inputs, c, g: (
                (c * inputs[0]).sum() if inputs[1].ndim == 0 else (c * inputs[0]).sum(axis=0)
            ),
        ),
    ),
    part(
        "prelu",
        "weight-first-only",
        "the weight's gradient takes the first row alone",
        "vjp",
        replaced(
            1,
            lambda inputs, c, g: (
                (c * np.minimum(inputs[0], 0))[:1].sum(axis=0).reshape(g[1].shape)
                if inputs[1].ndim
                else (c * np.minimum(inputs[0], 0)).reshape(-1)[:1].sum()
            ),
        ),
        sizes=(10, 1000),
    ),
    part(
        "prelu",
        "weight-sign",
        "the weight's gradient has the wrong sign",
        "vjp",
        replaced(1, lambda inputs, c, g: -g[1]),
    ),
    part(
        "prelu",
        "ignores-weight",
        "the weight is always 1/4",
        "value",
        lambda inner, x, weight: inner(x, _fill(weight, 0.25)),
    ),
    part(
        "prelu",
        "channel-0",
        "the weight of channel 0 serves every channel",
        "value",
        lambda inner, x, weight: inner(x, _fill(weight, weight.reshape(-1)[0]) if weight.size else weight),
        sizes=(10, 1000),
    ),
    part(
        "prelu",
        "slope-beyond",
        "the input's gradient is the weight on both sides",
        "vjp",
        replaced(0, lambda inputs, c, g: c * inputs[1]),
    ),
    part(
        "prelu",
        "second-zero",
        "the mixed second derivative is 0",
        "second",
        lambda inner, *arguments: [g * 0.0 for g in inner(*arguments)],
    ),
)

NEURON = (
    part("preactivation", "without-bias", "the bias is missing", "value", lambda inner, x, w, b: x @ w),
    part(
        "preactivation",
        "weight-sign",
        "the weight's gradient uses |x|",
        "vjp",
        replaced(1, lambda inputs, c, g: c @ np.abs(inputs[0])),
    ),
    part(
        "neuron",
        "drops-last-feature",
        "the last feature is not summed",
        "value",
        lambda inner, x, w, b: logistic(x[:, :-1] @ w[:-1] + b),
    ),
    part(
        "neuron",
        "without-slope",
        "the factor sigma'(z) is missing",
        "vjp",
        lambda inner, inputs, c: SEVERAL["preactivation"].vjp(inputs, c),
    ),
    part(
        "neuron",
        "bias-first-only",
        "the bias gradient takes the first sample alone",
        "vjp",
        replaced(
            2, lambda inputs, c, g: SEVERAL["neuron"].vjp(inputs, np.where(np.arange(c.size) == 0, c, 0.0))[2]
        ),
        sizes=(10, 1000),
    ),
    part(
        "neuron",
        "everywhere-1e-10",
        "relative error 1e-10",
        "value",
        lambda inner, *inputs: inner(*inputs) * (1 + 1e-10),
        formats=(F64,),
    ),
)

DENSE = (
    part(
        "dense", "without-bias", "the bias is missing", "value", lambda inner, x, weight, bias: x @ weight.T
    ),
    part(
        "dense",
        "bias-mean",
        "the bias gradient is a mean over the batch",
        "vjp",
        replaced(2, lambda inputs, c, g: g[2] / max(len(c), 1)),
        sizes=(10, 1000),
    ),
    part(
        "dense",
        "weight-flipped",
        "the weight's gradient has its columns reversed",
        "vjp",
        replaced(1, lambda inputs, c, g: g[1][:, ::-1]),
        sizes=(10, 1000),
    ),
    part(
        "dense",
        "input-sign",
        "the input's gradient has the wrong sign",
        "vjp",
        replaced(0, lambda inputs, c, g: -g[0]),
    ),
    part("dense", "one-entry", "a single entry of the result is wrong", "value", _spoil_one),
    part(
        "dense",
        "remainder",
        "the features beyond a multiple of 4 are not summed",
        "value",
        lambda inner, x, weight, bias: inner(
            x[:, : x.shape[1] // 4 * 4], weight[:, : x.shape[1] // 4 * 4], bias
        ),
        sizes=(1, 10),
    ),
    part(
        "dense",
        "weight-one-entry",
        "a single entry of the weight's gradient is wrong",
        "vjp",
        replaced(1, lambda inputs, c, g: _spoil_one(lambda: g[1])),
        formats=WIDE,
    ),
)

SEVERAL_LIARS: tuple[Liar, ...] = (*PRELU, *NEURON, *DENSE)
