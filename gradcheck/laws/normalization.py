"""Laws of normalisation: what it does not see, and what its gradient therefore cannot contain."""

from __future__ import annotations

from typing import Any

import numpy as np

from gradcheck.laws.law import Law, Speaker, on_grid

_ALL = ("batch_norm", "layer_norm", "group_norm", "instance_norm")
_SHIFT = 2.0
_SCALE = 4.0


def a_shift_of_the_input_changes_nothing(f: Speaker, inputs: Any, options: Any) -> Any:
    """Adding one number to the whole input leaves the result as it is."""
    x = on_grid(inputs[0])
    return f.value(x + _SHIFT, *inputs[1:], **options), f.value(x, *inputs[1:], **options)


def a_scale_of_the_input_changes_nothing(f: Speaker, inputs: Any, options: Any) -> Any:
    """Multiplying the input by s, and ε by s², leaves the result as it is."""
    x, eps = on_grid(inputs[0]), options.get("eps", 1e-5)
    wider = {**options, "eps": eps * _SCALE**2}
    return f.value(_SCALE * x, *inputs[1:], **wider), f.value(x, *inputs[1:], **options)


def _others(x: Any) -> tuple[int, ...]:
    return tuple(axis for axis in range(x.ndim) if axis != 1)


def _gradient(f: Speaker, inputs: Any, options: Any) -> tuple[Any, Any]:
    cotangent = f.numbers(inputs[0].shape)
    return cotangent, f.vjp(inputs, cotangent, **options)


def the_gradient_of_a_channel_sums_to_zero(f: Speaker, inputs: Any, options: Any) -> Any:
    """No gradient goes in the direction of a shift: Σ dx = 0 over the batch."""
    _, (dx, *_) = _gradient(f, inputs, options)
    total = np.sum(dx, axis=_others(dx))
    return total, np.zeros_like(total), np.sum(np.abs(dx), axis=_others(dx))


def the_gradient_along_the_result_is_what_epsilon_leaves(f: Speaker, inputs: Any, options: Any) -> Any:
    """Σ dx x̂ = γ Σ(c x̂) ε/(v + ε)^(3/2) over the batch: next to no gradient in the direction of a scale."""
    x, weight, bias = inputs
    options = {**options, "affine": True}
    cotangent, (dx, *_) = _gradient(f, inputs, options)
    plain = f.value(x, np.ones_like(weight), np.zeros_like(bias), **options)
    axes = _others(x)
    eps = f.lift(np.asarray(options.get("eps", 1e-5)))
    wide = np.var(f.lift(x), axis=axes) + eps
    rest = f.lift(weight) * np.sum(f.lift(cotangent) * plain, axis=axes) * eps / (wide * np.sqrt(wide))
    product = dx * plain
    return np.sum(product, axis=axes), rest, np.sum(np.abs(product), axis=axes)


def the_gradient_of_the_shift_is_the_sum_of_the_cotangent(f: Speaker, inputs: Any, options: Any) -> Any:
    """dβ = Σ c over the batch."""
    cotangent, (_, _, shift) = _gradient(f, inputs, {**options, "affine": True})
    total = np.sum(f.lift(cotangent), axis=_others(cotangent))
    return shift, total, np.sum(np.abs(f.lift(cotangent)), axis=_others(cotangent))


def the_gradient_of_the_scale_is_the_sum_of_c_x_hat(f: Speaker, inputs: Any, options: Any) -> Any:
    """dγ = Σ c x̂ over the batch."""
    options = {**options, "affine": True}
    cotangent, (_, scale, _) = _gradient(f, inputs, options)
    plain = f.value(inputs[0], np.ones_like(inputs[1]), np.zeros_like(inputs[2]), **options)
    product = f.lift(cotangent) * plain
    axes = _others(product)
    return scale, np.sum(product, axis=axes), np.sum(np.abs(product), axis=axes)


_BATCH = ("batch_norm",)
LAWS = (
    Law(_ALL, a_shift_of_the_input_changes_nothing),
    Law((*_ALL, "rms_norm"), a_scale_of_the_input_changes_nothing),
    Law(_BATCH, the_gradient_of_a_channel_sums_to_zero, gradient=True),
    Law(_BATCH, the_gradient_along_the_result_is_what_epsilon_leaves, gradient=True),
    Law(_BATCH, the_gradient_of_the_shift_is_the_sum_of_the_cotangent, gradient=True),
    Law(_BATCH, the_gradient_of_the_scale_is_the_sum_of_c_x_hat, gradient=True),
)
