"""Laws of activation functions: their symmetries."""

from __future__ import annotations

from typing import Any

import numpy as np

from gradcheck.laws.law import Law, Speaker, finite


def the_function_is_odd(f: Speaker, inputs: Any, options: Any) -> Any:
    """f(-x) = -f(x)."""
    x = finite(inputs[0])
    return f.value(-x, **options), -f.value(x, **options)


def the_function_and_its_mirror_image_sum_to_one(f: Speaker, inputs: Any, options: Any) -> Any:
    """f(x) + f(-x) = 1."""
    x = finite(inputs[0])
    total = f.value(x, **options) + f.value(-x, **options)
    return total, np.ones_like(total)


def the_function_less_its_mirror_image_is_the_input(f: Speaker, inputs: Any, options: Any) -> Any:
    """f(x) - f(-x) = x."""
    x = finite(inputs[0])
    return f.value(x, **options) - f.value(-x, **options), f.lift(x)


def applying_it_again_changes_nothing(f: Speaker, inputs: Any, options: Any) -> Any:
    """f(f(x)) = f(x)."""
    once = f.value(finite(inputs[0]), **options)
    return f.value(once, **options), once


LAWS = (
    Law(("tanh", "softsign"), the_function_is_odd),
    Law(("sigmoid", "hardsigmoid"), the_function_and_its_mirror_image_sum_to_one),
    Law(("relu", "gelu", "gelu_tanh", "silu"), the_function_less_its_mirror_image_is_the_input),
    Law(("relu", "relu6", "hardtanh"), applying_it_again_changes_nothing),
)
