"""Laws of losses and penalties."""

from __future__ import annotations

from typing import Any

import numpy as np

from gradcheck.laws.law import Law, Speaker

_REGRESSION = ("mse_loss", "l1_loss", "huber_loss", "smooth_l1_loss")
_BINARY = ("binary_cross_entropy", "binary_cross_entropy_with_logits")


def equal_batches_average_to_the_gradient_of_all(f: Speaker, inputs: Any, options: Any) -> Any:
    """The gradients of both halves, each of its own mean loss, make the gradient of the mean over all."""
    half = inputs[0].shape[0] // 2 if inputs[0].ndim else 0
    if not half:
        return None
    options = {**options, "reduction": "mean"}
    one = np.ones(())

    def slope(part: slice) -> Any:
        given = [array[part] if array.ndim else array for array in inputs]
        return f.vjp(given, one, **options)[0]

    halves = np.concatenate([slope(slice(0, half)), slope(slice(half, 2 * half))], axis=0)
    return 2 * slope(slice(0, 2 * half)), halves


def the_mean_is_the_sum_over_the_number(f: Speaker, inputs: Any, options: Any) -> Any:
    """Both reductions differ by the number of elements."""
    if not inputs[0].size:
        return None
    mean, total = (f.value(*inputs, **{**options, "reduction": how}) for how in ("mean", "sum"))
    return mean * inputs[0].size, total


def the_gradient_of_a_sample_sums_to_zero(f: Speaker, inputs: Any, options: Any) -> Any:
    """Cross-entropy does not see a shift of all classes."""
    gradient = f.vjp(inputs, np.ones(()), **{**options, "reduction": "sum"})[0]
    classes = min(1, inputs[0].ndim - 1)
    total = np.sum(gradient, axis=classes)
    return total, np.zeros_like(total), np.sum(np.abs(gradient), axis=classes)


def the_weights_along_their_gradient_give_twice_the_penalty(f: Speaker, inputs: Any, options: Any) -> Any:
    """Σ w ∂w = 2 Ω: the penalty is homogeneous of degree 2."""
    (gradient,) = f.vjp(inputs, np.ones(()), **options)
    return np.sum(gradient * f.lift(inputs[0])), 2 * f.value(*inputs, **options)


def the_weights_along_their_gradient_give_the_penalty(f: Speaker, inputs: Any, options: Any) -> Any:
    """Σ w ∂w = Ω: the penalty is homogeneous of degree 1."""
    (gradient,) = f.vjp(inputs, np.ones(()), **options)
    return np.sum(gradient * f.lift(inputs[0])), f.value(*inputs, **options)


LAWS = (
    Law(_REGRESSION, equal_batches_average_to_the_gradient_of_all, gradient=True),
    Law(_REGRESSION, the_mean_is_the_sum_over_the_number),
    Law(("cross_entropy",), the_gradient_of_a_sample_sums_to_zero, gradient=True),
    Law(("l2_penalty",), the_weights_along_their_gradient_give_twice_the_penalty, gradient=True),
    Law(("l1_penalty",), the_weights_along_their_gradient_give_the_penalty, gradient=True),
)
