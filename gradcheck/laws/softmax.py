"""Laws of softmax, its logarithm and the logarithm of the sum of exponentials."""

from __future__ import annotations

from typing import Any

import numpy as np

from gradcheck.laws.law import Law, Speaker, on_grid

_SHIFT = 4.0


def a_shift_changes_nothing(f: Speaker, inputs: Any, options: Any) -> Any:
    """Adding one number to all elements leaves the result as it is."""
    x = on_grid(inputs[0])
    return f.value(x + _SHIFT, **options), f.value(x, **options)


def a_shift_comes_out_again(f: Speaker, inputs: Any, options: Any) -> Any:
    """Adding a number to all elements adds it to the result."""
    x = on_grid(inputs[0])
    return f.value(x + _SHIFT, **options), f.value(x, **options) + _SHIFT


def the_shares_sum_to_one(f: Speaker, inputs: Any, options: Any) -> Any:
    """A softmax is a distribution."""
    total = np.sum(f.value(*inputs, **options), axis=options["axis"])
    return total, np.ones_like(total)


def the_exponentials_sum_to_one(f: Speaker, inputs: Any, options: Any) -> Any:
    """The exponential of log-softmax is a distribution."""
    total = np.sum(np.exp(f.value(*inputs, **options)), axis=options["axis"])
    return total, np.ones_like(total)


def the_jacobian_is_diag_y_minus_y_y_transposed(f: Speaker, inputs: Any, options: Any) -> Any:
    """The gradient is y c - y Σ c y."""
    y = f.value(*inputs, **options)
    cotangent = f.numbers(inputs[0].shape)
    (gradient,) = f.vjp(inputs, cotangent, **options)
    c = f.lift(cotangent)
    return gradient, y * c - y * np.sum(c * y, axis=options["axis"], keepdims=True), np.abs(y * c)


def the_gradient_sums_to_zero(f: Speaker, inputs: Any, options: Any) -> Any:
    """No gradient goes in the direction of a shift."""
    (gradient,) = f.vjp(inputs, f.numbers(inputs[0].shape), **options)
    total = np.sum(gradient, axis=options["axis"])
    return total, np.zeros_like(total), np.sum(np.abs(gradient), axis=options["axis"])


LAWS = (
    Law(("softmax", "log_softmax"), a_shift_changes_nothing),
    Law(("logsumexp",), a_shift_comes_out_again),
    Law(("softmax",), the_shares_sum_to_one),
    Law(("log_softmax",), the_exponentials_sum_to_one),
    Law(("softmax",), the_jacobian_is_diag_y_minus_y_y_transposed, gradient=True),
    Law(("softmax", "log_softmax"), the_gradient_sums_to_zero, gradient=True),
)
