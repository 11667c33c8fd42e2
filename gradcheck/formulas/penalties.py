"""Penalties on weights: what is added to a loss, or taken off the weights, so that they stay small.

Shapes: w any, the penalties are scalars. The gradient-norm penalty is that of a network with one hidden
layer, x (N, n), y (N, m), w1 (h, n), w2 (m, h).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from gradcheck.formulas.parts import kinks_at, magnitude, stable, unstable
from gradcheck.records import DERIVATIVE, VALUE, Arrangement, Choose, Formula, Option

_MAGNITUDES = ("plain", "moderate", "grid", "offset", "scaled", "large mean", "ties", "constant", "kinks")
_DECAYS = tuple(share / 1000 for share in (0, 1, 10, 100, 1000, 4000))
_DECAY = Option("decay", 0.01, low=0.0, high=1e4)


def _of_weight(choose: Choose) -> tuple[int, ...]:
    shape: tuple[int, ...] = choose.choice(((choose.size(),), (choose.size(), choose.size())))
    return shape


def _arrange_weight(choose: Choose) -> Arrangement:
    """A vector or a matrix of weights, with a factor that people use."""
    return Arrangement((_of_weight(choose),), {"decay": choose.choice(_DECAYS)})


def _l2_penalty(w: Any, *, decay: Any) -> Any:
    """Value (λ/2) Σw²; its gradient is λw."""
    return decay * np.sum(np.square(w)) * 0.5


def _l2_penalty_vjp(inputs: tuple[Any], cotangent: Any, *, decay: Any) -> tuple[Any]:
    (w,) = inputs
    return (cotangent * decay * w,)


def _l2_penalty_vjp_halved(inputs: tuple[Any], cotangent: Any, *, decay: Any) -> tuple[Any]:
    (w,) = inputs
    return (cotangent * (decay * 0.5) * (2 * w),)


def _l2_penalty_scaled_first(w: Any, *, decay: Any) -> Any:
    return decay * 0.5 * np.sum(np.square(w))


L2_PENALTY = Formula(
    name="l2_penalty",
    title="L2 penalty (weight decay)",
    equation="(λ/2) Σ w²",
    source="Hoerl & Kennard, Technometrics 12, 1970; Krogh & Hertz, NIPS 1991",
    value=_l2_penalty,
    vjp=_l2_penalty_vjp,
    inputs=("w",),
    options=(_DECAY,),
    variants=(
        stable(VALUE, "λ/2 first", _l2_penalty_scaled_first),
        unstable(DERIVATIVE, "(λ/2)(2w)", _l2_penalty_vjp_halved),
    ),
    arrange=_arrange_weight,
    families=_MAGNITUDES,
    hazards=("w² overflows and underflows where λw²/2 may not; so does 2w in the gradient",),
    article="F11",
)


def _l1_penalty(w: Any, *, decay: Any) -> Any:
    """Value λ Σ|w|; its gradient is λ sign(w), anything from -λ to λ at 0."""
    return decay * np.sum(np.abs(w))


def _l1_penalty_vjp(inputs: tuple[Any], cotangent: Any, *, decay: Any) -> tuple[Any]:
    (w,) = inputs
    return (cotangent * decay * np.sign(w),)


def _l1_penalty_vjp_by_comparison(inputs: tuple[Any], cotangent: Any, *, decay: Any) -> tuple[Any]:
    """As the reference, but 0 at NaN, for which no comparison holds."""
    (w,) = inputs
    sign = np.where(w > 0, np.ones_like(w), np.where(w < 0, -np.ones_like(w), np.zeros_like(w)))
    return (cotangent * decay * sign,)


def _at_zero(inputs: tuple[Any], **_: Any) -> Any:
    return inputs[0] == 0


L1_PENALTY = Formula(
    name="l1_penalty",
    title="L1 penalty",
    equation="λ Σ |w|",
    source="Tibshirani, Journal of the Royal Statistical Society B 58, 1996",
    value=_l1_penalty,
    vjp=_l1_penalty_vjp,
    inputs=("w",),
    options=(_DECAY,),
    variants=(stable(DERIVATIVE, "the sign by comparisons", _l1_penalty_vjp_by_comparison),),
    arrange=_arrange_weight,
    families=(*_MAGNITUDES, "subnormal"),
    kinks=kinks_at(0.0),
    touching=_at_zero,
    analytic=False,
    article="F11",
)


def _arrange_decoupled(choose: Choose) -> Arrangement:
    options = {
        "rate": choose.choice((1, 10, 100, 500, 1000, 1000)) / 1000,
        "decay": choose.choice((*_DECAYS[:-2], 0.5, 0.5)),
    }
    return Arrangement((_of_weight(choose),), options)


def _decoupled_decay(w: Any, *, rate: Any, decay: Any) -> Any:
    """Value (1 - ηλ) w: the step that AdamW takes apart from the gradient's; its slope is 1 - ηλ."""
    return w * (1 - rate * decay)


def _decoupled_decay_vjp(inputs: tuple[Any], cotangent: Any, *, rate: Any, decay: Any) -> tuple[Any]:
    return (cotangent * (1 - rate * decay),)


def _decoupled_decay_rounded(w: Any, *, rate: Any, decay: Any) -> Any:
    return w * _rounded_factor(w, rate, decay)


def _decoupled_decay_rounded_vjp(inputs: tuple[Any], cotangent: Any, *, rate: Any, decay: Any) -> tuple[Any]:
    return (cotangent * _rounded_factor(inputs[0], rate, decay),)


def _rounded_factor(w: Any, rate: Any, decay: Any) -> Any:
    """1 - ηλ, every operation rounded; the arrays of ones keep the options from being computed exactly."""
    one = np.ones_like(w)
    return one - (one * rate) * (one * decay)


def _decoupled_decay_difference(w: Any, *, rate: Any, decay: Any) -> Any:
    return w - (w * decay) * rate


DECOUPLED_DECAY = Formula(
    name="decoupled_decay",
    title="Decoupled weight decay",
    equation="(1 - ηλ) w",
    source="Loshchilov & Hutter, arXiv:1711.05101, 2019",
    value=_decoupled_decay,
    vjp=_decoupled_decay_vjp,
    inputs=("w",),
    options=(Option("rate", 1e-3, low=0.0, high=1.0), Option("decay", 0.01, low=0.0, high=1.0)),
    variants=(
        stable(VALUE, "1 - ηλ rounded twice", _decoupled_decay_rounded),
        stable(VALUE, "w - ηλw", _decoupled_decay_difference),
        stable(DERIVATIVE, "1 - ηλ rounded twice", _decoupled_decay_rounded_vjp),
    ),
    arrange=_arrange_decoupled,
    families=(*_MAGNITUDES, "subnormal", "log-uniform"),
    hazards=("1 - ηλ cancels where ηλ is near 1",),
    article="F11",
)


def _arrange_network(choose: Choose) -> Arrangement:
    batch, inputs, hidden, outputs = (choose.size(1, 4) for _ in range(4))
    return Arrangement(((batch, inputs), (batch, outputs), (hidden, inputs), (outputs, hidden)))


def _slope_of_tanh(z: Any, a: Any) -> Any:
    """Slope 4e/(1 + e)², e = exp(-2|z|), of tanh: a normal number wherever the slope is one."""
    e = np.exp(-2 * magnitude(z))
    return 4 * e / np.square(1 + e)


def _slope_of_result(z: Any, a: Any) -> Any:
    """Slope 1 - a² of tanh from its result: 0 once a rounds to 1."""
    return 1 - np.square(a)


def _gradients(x: Any, y: Any, w1: Any, w2: Any, slope: Any) -> dict[str, Any]:
    """The gradients g1, g2 of J = mean (w2 tanh(w1 x) - y)², and what they are made of."""
    z = np.matmul(x, np.swapaxes(w1, 0, 1))
    a = np.tanh(z)
    s = slope(z, a)
    e = np.matmul(a, np.swapaxes(w2, 0, 1)) - y
    delta = e * 2 / math.prod(y.shape)
    d = np.matmul(delta, w2)
    b = d * s
    g1, g2 = np.matmul(np.swapaxes(b, 0, 1), x), np.matmul(np.swapaxes(delta, 0, 1), a)
    return {"a": a, "s": s, "delta": delta, "d": d, "g1": g1, "g2": g2}


def _gradient_norm_penalty(x: Any, y: Any, w1: Any, w2: Any) -> Any:
    """Value Σ ‖∂J/∂W‖² over both layers of J = mean (W₂ tanh(W₁x) - y)²; its gradient is 2Hg."""
    of = _gradients(x, y, w1, w2, _slope_of_tanh)
    return np.sum(np.square(of["g1"])) + np.sum(np.square(of["g2"]))


def _gradient_norm_penalty_of_result(x: Any, y: Any, w1: Any, w2: Any) -> Any:
    of = _gradients(x, y, w1, w2, _slope_of_result)
    return np.sum(np.square(of["g1"])) + np.sum(np.square(of["g2"]))


def _hessian_vector(inputs: Any, cotangent: Any, slope: Any) -> tuple[None, None, Any, Any]:
    """The gradient 2Hg of the squared norm, by going back through the gradient: u = 2cg is its adjoint."""
    x, y, w1, w2 = inputs
    of = _gradients(x, y, w1, w2, slope)
    a, s, delta, d = of["a"], of["s"], of["delta"], of["d"]
    u1, u2 = of["g1"] * 2 * cotangent, of["g2"] * 2 * cotangent
    of_b = np.matmul(x, np.swapaxes(u1, 0, 1))
    of_d, of_s = of_b * s, of_b * d
    of_delta = np.matmul(of_d, np.swapaxes(w2, 0, 1)) + np.matmul(a, np.swapaxes(u2, 0, 1))
    of_e = of_delta * 2 / math.prod(y.shape)
    of_a = np.matmul(delta, u2) + np.matmul(of_e, w2) - 2 * a * of_s
    of_w2 = np.matmul(np.swapaxes(delta, 0, 1), of_d) + np.matmul(np.swapaxes(of_e, 0, 1), a)
    return None, None, np.matmul(np.swapaxes(of_a * s, 0, 1), x), of_w2


def _gradient_norm_penalty_vjp(inputs: Any, cotangent: Any) -> tuple[None, None, Any, Any]:
    return _hessian_vector(inputs, cotangent, _slope_of_tanh)


def _gradient_norm_penalty_vjp_of_result(inputs: Any, cotangent: Any) -> tuple[None, None, Any, Any]:
    return _hessian_vector(inputs, cotangent, _slope_of_result)


GRADIENT_NORM_PENALTY = Formula(
    name="gradient_norm_penalty",
    title="Penalty on the norm of the weights' gradient",
    equation="Σ ‖∂J/∂W‖², J = mean (W₂ tanh(W₁x) - y)²",
    source="Barrett & Dherin, arXiv:2009.11162, 2021; Zhao, Zhang & Hu, arXiv:2202.03599, 2022",
    value=_gradient_norm_penalty,
    vjp=_gradient_norm_penalty_vjp,
    inputs=("x", "y", "w1", "w2"),
    variants=(
        unstable(VALUE, "tanh' = 1 - a²", _gradient_norm_penalty_of_result),
        unstable(DERIVATIVE, "tanh' = 1 - a²", _gradient_norm_penalty_vjp_of_result),
    ),
    arrange=_arrange_network,
    kinds=("real", "real", "parameter", "parameter"),
    families=("plain", "grid", "kinks", "ties"),
    constants=("x", "y"),
    hazards=("1 - a² is 0 once tanh rounds to 1, where its slope is a normal number",),
    article="F10",
)


def _kronecker_penalty(w: Any, *, decay: Any) -> Any:
    """Value λ Σ |∂wᵢⱼ/∂wᵢⱼ|: the derivative of a number in itself is 1, so this is λ times the size of w."""
    return np.reshape(np.full_like(w, decay * math.prod(w.shape)), (-1,))[0]


def _kronecker_penalty_vjp(inputs: tuple[Any], cotangent: Any, **_: Any) -> tuple[Any]:
    return (np.zeros_like(inputs[0]),)


def _kronecker_penalty_summed(w: Any, *, decay: Any) -> Any:
    return decay * np.sum(np.ones_like(w))


KRONECKER_PENALTY = Formula(
    name="kronecker_penalty",
    title="Penalty on the weights' derivatives in themselves",
    equation="λ Σ |∂wᵢⱼ/∂wᵢⱼ| = λ · size",
    source="the derivative of a number in itself; compare with Krogh & Hertz, NIPS 1991, for weight decay",
    value=_kronecker_penalty,
    vjp=_kronecker_penalty_vjp,
    inputs=("w",),
    options=(_DECAY,),
    variants=(stable(VALUE, "a sum of ones", _kronecker_penalty_summed),),
    arrange=_arrange_weight,
    families=("plain", "grid", "scaled", "ties"),
    article="F11",
)

FORMULAS = (L2_PENALTY, L1_PENALTY, DECOUPLED_DECAY, GRADIENT_NORM_PENALTY, KRONECKER_PENALTY)
