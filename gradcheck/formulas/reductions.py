"""What the losses share: the three ways to reduce them, and the shapes and options of a draw."""

from __future__ import annotations

from typing import Any

import numpy as np

from gradcheck.records import Arrangement, Choose, Option

REDUCTION = Option("reduction", "mean", choices=("mean", "sum", "none"), structural=True)
# The last axis is as long as the run asks for; the others only repeat it.
ROWS = 3


def reduced(losses: Any, reduction: str) -> Any:
    """Return the losses themselves, their sum, or their mean."""
    if reduction == "none":
        return losses
    return np.mean(losses) if reduction == "mean" else np.sum(losses)


def share(cotangent: Any, like: Any, reduction: str) -> Any:
    """Return the gradient with respect to each loss: a mean of n losses hands each of them an n-th."""
    return cotangent / count(like.shape) if reduction == "mean" else cotangent


def count(shape: tuple[int, ...]) -> int:
    """Return the number of elements of a shape."""
    total = 1
    for length in shape:
        total *= length
    return total


def some_axes(choose: Choose) -> tuple[int, ...]:
    """Return a shape of one to three axes."""
    leading = choose.integer(0, 2)
    return (*(choose.size(high=ROWS) for _ in range(leading)), choose.size())


def alike(inputs: int) -> Any:
    """Return the arrangement of inputs that all have the same shape."""

    def arrange(choose: Choose) -> Arrangement:
        shape = some_axes(choose)
        return Arrangement((shape,) * inputs)

    return arrange


def class_axis(shape: tuple[int, ...]) -> int:
    """Return the axis of the classes: 1, or 0 where there is one sample only."""
    return min(len(shape) - 1, 1)


def total(terms: Any, axis: int) -> Any:
    """Return the sum along an axis, which stays."""
    return np.sum(terms, axis=axis, keepdims=True)


def column(weight: Any, shape: tuple[int, ...]) -> Any:
    """Return the weight of every class along the axis of the classes."""
    axis = class_axis(shape)
    return np.reshape(weight, (shape[axis],) + (1,) * (len(shape) - 1 - axis))


def scores_shape(choose: Choose) -> tuple[int, ...]:
    """Return the shape of a batch, of a batch of sequences or of one sample; classes on axis 1 or 0."""
    classes, form = choose.size(low=2, high=17), choose.choice(("batch", "sequences", "sample"))
    if form == "sample":
        return (classes,)
    batch = (choose.size(low=2, high=5), classes)
    return batch if form == "batch" else (*batch, choose.size(high=3))
