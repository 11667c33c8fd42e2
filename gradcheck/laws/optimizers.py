"""Laws between optimizers: what one becomes when a number of it is 0, and how far a step can go.

The factors are those at which every number of a law is a power of two times a drawn one: nothing is rounded
that the law does not speak of.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from gradcheck.laws.law import Law, Speaker

_PLAIN = {"weight_decay": 0.0, "maximize": False}
_ADAM = {**_PLAIN, "amsgrad": False, "beta1": 0.5, "beta2": 0.75, "t": 1}


def a_scale_of_the_gradients_does_not_change_the_step(f: Speaker, inputs: Any, options: Any) -> Any:
    """With the state of gradients s times as large, and ε as well, the step is the same."""
    options = {**options, **_PLAIN}
    weight, gradient, mean, *squares = inputs
    scaled = weight, 4 * gradient, 4 * mean, *(16 * square for square in squares)
    # Beside the root epsilon scales as a gradient does, under it as a square.
    factor = 16 if options.get("epsilon") == "under" else 4
    larger = {**options, "eps": factor * options.get("eps", 1e-8)}
    return f.value(*scaled, **larger)[0], f.value(*inputs, **options)[0]


def without_momentum_adam_is_rmsprop_with_a_corrected_rate(f: Speaker, inputs: Any, options: Any) -> Any:
    """β₁ = 0: RMSProp with η √(1 - β₂ᵗ) and ε √(1 - β₂ᵗ), here √(1 - 0.75) = 1/2."""
    lr, eps = options.get("lr", 1e-3), options.get("eps", 1e-8)
    weight, gradient, _, square, _ = inputs
    zero = np.zeros_like(weight)
    adam = f.value(*inputs, **{**_ADAM, "beta1": 0.0, "lr": lr, "eps": eps})
    other = {**_PLAIN, "lr": lr / 2, "eps": eps / 2, "alpha": 0.75}
    return adam[0], f.of("rmsprop").value(weight, gradient, square, zero, zero, **other)[0]


def the_printed_step_is_adams_after_the_substitution(f: Speaker, inputs: Any, options: Any) -> Any:
    """ρ = 1 - β₂ᵗ, and η/(1 - β₁ᵗ) for η, here 1/4 and 2η."""
    lr, eps = options.get("lr", 1e-3), options.get("eps", 1e-8)
    printed = f.value(*inputs, lr=2 * lr, eps=eps, beta1=0.5, beta2=0.75, rho=0.25)
    adam = f.of("adam").value(*inputs, np.zeros_like(inputs[0]), **{**_ADAM, "lr": lr, "eps": eps})
    return printed[0], adam[0]


def without_decay_adamw_is_adam(f: Speaker, inputs: Any, options: Any) -> Any:
    """Decoupled decay of 0 leaves nothing but Adam."""
    options = {**options, "weight_decay": 0.0}
    return f.value(*inputs, **options)[0], f.of("adam").value(*inputs, **options)[0]


def l2_decay_is_decoupled_decay(f: Speaker, inputs: Any, options: Any) -> Any:
    """For plain descent: w - η(g + λw) = (1 - ηλ)w - ηg."""
    lr, decay = min(options.get("lr", 1e-3), 1.0), 0.25
    weight, gradient, _ = inputs
    plain = {"lr": lr, "momentum": 0.0, "dampening": 0.0, "nesterov": False, "maximize": False}
    coupled = f.value(*inputs, **plain, weight_decay=decay)[0]
    decayed = f.of("decoupled_decay").value(weight, rate=lr, decay=decay)
    return coupled, decayed - lr * f.lift(gradient), np.abs(f.lift(weight)) + np.abs(lr * f.lift(gradient))


def ascent_is_descent_along_the_negative_gradient(f: Speaker, inputs: Any, options: Any) -> Any:
    """`maximize` turns the gradient round."""
    weight, gradient, *state = inputs
    up = f.value(*inputs, **{**options, "maximize": True})[0]
    return up, f.value(weight, -gradient, *state, **{**options, "maximize": False})[0]


def no_step_is_longer_than_its_bound(f: Speaker, inputs: Any, options: Any) -> Any:
    """Two steps from nothing: by Cauchy and Schwarz |Δ| ≤ η (1-β₁)/(1-β₁ᵗ) √((1-β₂ᵗ)/(1-β₂) Σ (β₁²/β₂)ⁱ)."""
    lr = options.get("lr", 1e-3)
    zero = np.zeros_like(inputs[0])
    # Gradients of the size of 1/4 to 2: an average of 0 would divide 0 by 0.
    gradients = [f.numbers(zero.shape, k) for k in (1, 2)]
    gradients = [np.where(gradient == 0, 0.25, gradient) for gradient in gradients]
    options = {**_ADAM, "lr": lr, "eps": 0.0}
    _, mean, square, _ = f.value(zero, gradients[0], zero, zero, zero, **options)
    step, *_ = f.value(zero, gradients[1], mean, square, zero, **{**options, "t": 2})
    # (1-β₁)/(1-β₁²) = 2/3; (1-β₂²)/(1-β₂) = 7/4; 1 + β₁²/β₂ = 4/3.
    bound = f.lift(np.asarray(2 * lr)) / 3 * np.sqrt(f.lift(np.asarray(7.0)) / 3)
    return np.abs(step), bound + np.zeros_like(step)


LAWS = (
    Law(("adam", "adamw"), a_scale_of_the_gradients_does_not_change_the_step),
    Law(("adam",), without_momentum_adam_is_rmsprop_with_a_corrected_rate),
    Law(("printed_adam",), the_printed_step_is_adams_after_the_substitution),
    Law(("adamw",), without_decay_adamw_is_adam),
    Law(("sgd",), l2_decay_is_decoupled_decay),
    Law(("sgd", "adam", "adagrad", "rmsprop"), ascent_is_descent_along_the_negative_gradient),
    Law(("adam",), no_step_is_longer_than_its_bound, at_most=True),
)
