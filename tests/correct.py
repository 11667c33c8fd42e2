"""Correct implementations in several independent ways: what the checker must not accuse.

Those marked naive are textbook forms: they may be called unstable, never wrong. All others are good to a few
ULP over the whole range of the format, with the limits at ±inf, NaN for NaN, and the sign of zero.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
from scipy import special

from gradcheck.formats import Format
from gradcheck.records import Array
from gradcheck.subjects.implementation import Implementation
from tests import honest as good
from tests.correct_elementwise import VARIANTS
from tests.honest import ELEMENTWISE, Function, Real, Triple, honest
from tests.lying import ALL, F16, F32, F64
from tests.variants import Correct, by_mpmath, extended, in_format

__all__ = ["CORRECT", "Correct"]


def _ground(formula: str) -> tuple[Correct, ...]:
    """Return what every formula has: the corpus's own form, in float64 and in the format, and by mpmath."""
    own = Correct(f"{formula}-split", formula, lambda fmt: honest(formula, fmt))
    inside = in_format(formula, "in-format", ELEMENTWISE[formula], (F32, F16), naive=False)
    if formula == "gelu_tanh":  # its second derivative multiplies a subnormal slope by a large square
        inside = _up_to(inside, 1)
    longer = () if formula == "gelu" else (extended(formula),)  # SciPy has no erfc of long doubles
    return (own, inside, by_mpmath(formula), *longer)


def _relaid(layout: str, array: Array) -> Array:
    """Return the same numbers in another memory layout."""
    if layout == "contiguous" or array.ndim == 0:
        return np.array(array)
    flat = np.zeros(2 * array.size + 1, array.dtype)
    view = flat[1 : 1 + array.size] if layout == "offset" else flat[: 2 * array.size : 2]
    view[...] = array.reshape(-1)
    return view if array.ndim == 1 else view.reshape(array.shape)


def _torch(formula: str, layout: str, form: str, formats: tuple[str, ...]) -> Correct:
    """Return torch's own function or module, its inputs laid out in memory as told."""

    def implement(fmt: Format) -> Implementation:
        from gradcheck.formulas import get_formula
        from gradcheck.subjects.torch import CPU

        inner = CPU.implement(get_formula(formula), fmt, form)

        def moved(arrays: tuple[Array, ...]) -> tuple[Array, ...]:
            return tuple(_relaid(layout, array) for array in arrays)

        assert inner.vjp is not None and inner.second is not None
        vjp, second = inner.vjp, inner.second
        return replace(
            inner,
            forward=lambda inputs, options: inner.forward(moved(inputs), options),
            vjp=lambda inputs, c, options: vjp(moved(inputs), *moved((c,)), options),
            second=lambda inputs, c, along, options: second(
                moved(inputs), *moved((c,)), moved(along), options
            ),
        )

    return Correct(f"{formula}-torch-{layout}-{form}", formula, implement, formats=formats)


LAYOUTS = (("contiguous", "function"), ("strided", "function"), ("offset", "module"))
TORCH_ORDERS: dict[
    str, int
] = {  # up to which order torch's own kernels are good to a few ULP, in all formats
    "relu": 2,
    "leaky_relu": 2,
    "hardtanh": 2,
    "relu6": 2,
    "elu": 2,
    "celu": 0,  # its gradient rounds alpha to float32, also in float64
    "selu": 2,
    "softplus": 1,
    "log_sigmoid": 1,
    "tanh": 0,
    "hardsigmoid": 0,
}


def _torches() -> tuple[Correct, ...]:
    """Return torch in several layouts, where what it computes is measured to be good."""
    return tuple(
        _up_to(_torch(formula, layout, form, ALL), order)
        for formula, order in TORCH_ORDERS.items()
        for layout, form in LAYOUTS
    )


def _up_to(variant: Correct, order: int) -> Correct:
    """Return the variant without its derivatives above an order."""

    def implement(fmt: Format) -> Implementation:
        whole = variant.implement(fmt)
        return replace(
            whole, vjp=whole.vjp if order >= 1 else None, second=whole.second if order >= 2 else None
        )

    return replace(variant, implement=implement)


def _output_slope(value: Function) -> Function:
    """Return y (1 - y) of a sigmoid's own output."""
    return lambda x: value(x) * (1 - value(x))


def _sigmoid_printed(x: Real) -> Real:
    return 1 / (1 + np.exp(-x))


def _softplus_printed(x: Real, beta: float = 1.0, threshold: float = 20.0) -> Real:
    return np.where(beta * x > threshold, x, np.log(1 + np.exp(beta * x)) / beta)


def _softplus_slope(x: Real, beta: float = 1.0, threshold: float = 20.0) -> Real:
    return np.where(beta * x > threshold, 1.0, _sigmoid_printed(beta * x))


def _gelu_erf(x: Real) -> Real:
    return 0.5 * x * (1 + special.erf(x * good.ROOT_HALF))


def _gelu_tanh_printed(x: Real) -> Real:
    return 0.5 * x * (1 + np.tanh(good.ROOT_2_OVER_PI * (x + good.GELU_CUBIC * (x * x * x))))


def _textbook(formula: str, value: Function, derivative: Function | None = None) -> Correct:
    """Return the printed form in the arithmetic of the format; derivatives not given are good ones."""
    triple = ELEMENTWISE[formula]
    naive = Triple(value, derivative or triple.derivative, triple.second)
    return in_format(formula, "textbook", naive, (F64, F32, F16), naive=True)


TEXTBOOK = (
    _textbook("sigmoid", _sigmoid_printed, _output_slope(_sigmoid_printed)),
    _textbook("tanh", np.tanh, lambda x: 1 - np.tanh(x) * np.tanh(x)),
    _textbook("log_sigmoid", lambda x: np.log(_sigmoid_printed(x)), lambda x: 1 - _sigmoid_printed(x)),
    _textbook("softplus", _softplus_printed, _softplus_slope),
    _textbook("silu", lambda x: x / (1 + np.exp(-x))),
    _textbook("mish", lambda x: x * np.tanh(np.log(1 + np.exp(x)))),
    _textbook("gelu", _gelu_erf),
    _textbook("gelu_tanh", _gelu_tanh_printed),
    _textbook("elu", lambda x, alpha=1.0: np.where(x > 0, x, alpha * (np.exp(np.minimum(x, 0)) - 1))),
    _textbook(
        "celu", lambda x, alpha=1.0: np.where(x > 0, x, alpha * (np.exp(np.minimum(x, 0) / alpha) - 1))
    ),
    _textbook(
        "selu",
        lambda x: np.where(
            x > 0, good.SELU_SCALE * x, good.SELU_SCALE * good.SELU_ALPHA * (np.exp(np.minimum(x, 0)) - 1)
        ),
    ),
    _textbook("hardsigmoid", lambda x: np.clip(x / 6 + 0.5, 0, 1)),
    _textbook("hardswish", lambda x: x * np.clip(x + 3, 0, 6) / 6),
    _textbook("softsign", lambda x: x / (1 + np.abs(x)), lambda x: 1 / np.square(1 + np.abs(x))),
)


def _neuron_by_fsum(x: Real, w: Real, b: Real) -> Real:
    """Return the neuron with sums that are rounded once."""
    sums = [math.fsum([*(row * w).tolist(), float(b)]) for row in x]
    return special.expit(np.array(sums, dtype=np.float64))


def _onto_bias(x: Real, weight: Real, bias: Real) -> Real:
    """Return the affine map with one product after another added to the bias, as some BLAS kernels do."""
    total = bias + np.zeros((*x.shape[:-1], *weight.shape[:-1]))
    for k in range(x.shape[-1]):
        total = total + np.multiply.outer(x[..., k], weight[..., k])
    return total


def _several() -> tuple[Correct, ...]:
    """Return functions of several arrays: in float64, by explicit sums, and torch."""
    explicit = {
        "prelu": replace(good.PRELU, value=lambda x, weight: np.maximum(x, 0) + weight * np.minimum(x, 0)),
        "preactivation": replace(
            good.SEVERAL["preactivation"], value=lambda x, w, b: (x * w).sum(axis=1) + b
        ),
        "neuron": replace(
            good.SEVERAL["neuron"], value=lambda x, w, b: special.expit(b + np.einsum("ij,j->i", x, w))
        ),
        "dense": replace(
            good.SEVERAL["dense"],
            value=lambda x, weight, bias: (x[:, None, :] * weight[None]).sum(axis=2) + bias,
            vjp=lambda inputs, c: (
                np.einsum("ij,jk->ik", c, inputs[1]),
                (c[:, :, None] * inputs[0][:, None, :]).sum(axis=0),
                np.einsum("ij->j", c),
            ),
        ),
    }

    def by(many: good.Many, formula: str) -> Callable[[Format], Implementation]:
        return lambda fmt: good.several(formula, fmt, many)

    own = [Correct(f"{f}-matmul", f, by(good.SEVERAL[f], f)) for f in explicit]
    other = [Correct(f"{f}-sums", f, by(many, f)) for f, many in explicit.items()]
    onto = {
        "preactivation": replace(good.SEVERAL["preactivation"], value=_onto_bias),
        "neuron": good.Many(
            lambda x, w, b: good.logistic(_onto_bias(x, w, b)),
            lambda inputs, c: good.SEVERAL["preactivation"].vjp(
                inputs, c * good.logistic_slope(_onto_bias(*inputs))
            ),
        ),
        "dense": replace(good.SEVERAL["dense"], value=_onto_bias),
    }
    other += [Correct(f"{f}-onto-bias", f, by(many, f)) for f, many in onto.items()]
    summed = replace(good.SEVERAL["neuron"], value=_neuron_by_fsum)
    other.append(Correct("neuron-fsum", "neuron", by(summed, "neuron")))
    torch = [_torch(f, layout, form, ALL) for f in ("prelu", "dense") for layout, form in LAYOUTS]
    return (*own, *other, *torch, *(_torch("preactivation", *LAYOUTS[i], ALL) for i in (0, 1)))


CORRECT: tuple[Correct, ...] = (
    *(variant for formula in ELEMENTWISE for variant in _ground(formula)),
    *VARIANTS,
    *_torches(),
    *TEXTBOOK,
    *_several(),
)
