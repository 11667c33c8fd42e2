"""Laws of gradient clipping: a projection that only ever shortens."""

from __future__ import annotations

from typing import Any

import numpy as np

from gradcheck.laws.law import Law, Speaker, finite


def _exact(options: dict[str, Any], formula: str) -> dict[str, Any]:
    """Without the epsilon beside the norm clipping is a projection."""
    return {**options, "epsilon": 0.0} if formula == "clip_by_norm" else options


def clipping_again_changes_nothing(f: Speaker, inputs: Any, options: Any) -> Any:
    """The result of clipping is clipped."""
    options = _exact(options, f.formula.name)
    once = f.value(finite(inputs[0]), **options)
    return f.value(once, **options), once


def what_is_zero_stays_zero(f: Speaker, inputs: Any, options: Any) -> Any:
    """No clipping moves a zero: it cannot revive a gradient that has vanished."""
    kept = f.numbers(inputs[0].shape) > 0
    gradient = np.where(kept, finite(inputs[0]), 0.0)
    clipped = f.value(gradient, *inputs[1:], **options)
    first = clipped[0] if isinstance(clipped, tuple) else clipped
    return np.where(kept, np.zeros_like(first), first), np.zeros_like(first), np.abs(first)


def no_element_changes_its_sign(f: Speaker, inputs: Any, options: Any) -> Any:
    """The product of every element with its clipped one is no less than 0."""
    gradient = finite(inputs[0])
    product = f.value(gradient, **options) * f.lift(np.sign(gradient))
    return -product, np.zeros_like(product), np.abs(product)


def no_element_grows(f: Speaker, inputs: Any, options: Any) -> Any:
    """Every element is at most as large as before."""
    gradient = finite(inputs[0])
    return np.abs(f.value(gradient, **options)), f.lift(np.abs(gradient))


def two_gradients_come_no_further_apart(f: Speaker, inputs: Any, options: Any) -> Any:
    """Clipping by value is non-expansive, element by element."""
    gradient = finite(inputs[0])
    other = f.numbers(gradient.shape, 1)
    apart = np.abs(f.value(gradient, **options) - f.value(other, **options))
    return apart, np.abs(f.lift(gradient) - f.lift(other))


def the_direction_is_kept(f: Speaker, inputs: Any, options: Any) -> Any:
    """Clipping by norm keeps the ratio of neighbouring elements: y_i g_j = y_j g_i."""
    gradient = np.ravel(finite(inputs[0]))
    clipped = f.value(gradient, **options)
    return clipped * f.lift(np.roll(gradient, 1)), np.roll(clipped, 1) * f.lift(gradient)


def the_norm_is_at_most_the_threshold(f: Speaker, inputs: Any, options: Any) -> Any:
    """The Euclidean norm of what is clipped by it is at most the threshold."""
    gradient, threshold = finite(inputs[0]), options.get("max_norm", 1.0)
    if not np.isfinite(threshold):
        return None
    clipped = f.value(gradient, **{**options, "p": 2.0})
    bound = f.lift(np.asarray(threshold))
    # Relative to the threshold, so that squares stay in range.
    share = clipped / bound if threshold > 0 else clipped
    return np.sum(np.square(share)), f.lift(np.asarray(float(threshold > 0)))


def all_arrays_shrink_by_one_factor(f: Speaker, inputs: Any, options: Any) -> Any:
    """Global clipping keeps the ratio of elements of different arrays."""
    a, b = (np.ravel(finite(array)) for array in inputs[:2])
    if not a.size or not b.size:
        return None
    first, second, *_ = f.value(a, b, finite(inputs[2]), **options)
    return first[:1] * f.lift(b), f.lift(a[:1]) * second


LAWS = (
    Law(("clip_by_value", "clip_by_norm"), clipping_again_changes_nothing),
    Law(("clip_by_value", "clip_by_norm", "adaptive_clip"), what_is_zero_stays_zero),
    Law(("clip_by_value", "clip_by_norm"), no_element_changes_its_sign, at_most=True),
    Law(("clip_by_value", "clip_by_norm"), no_element_grows, at_most=True),
    Law(("clip_by_value",), two_gradients_come_no_further_apart, at_most=True),
    Law(("clip_by_norm",), the_direction_is_kept),
    Law(("clip_by_norm",), the_norm_is_at_most_the_threshold, at_most=True),
    Law(("clip_by_global_norm",), all_arrays_shrink_by_one_factor),
)
