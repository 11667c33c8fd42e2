"""What the optimizers share: their options, the draws of these, averages that decay, and weight decay.

Every optimizer is a pure step (weight, gradient, state) -> (weight', state'). The number of the step is the
option `t`, 1 for the first one. Scalars of `t` alone are computed in doubles, as Python does.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from gradcheck.arithmetic.scalars import either, in_doubles
from gradcheck.records import Arrangement, Choose, Option

# Without exact zeros: an epsilon of zero is drawn too, and 0/0 has no value.
FAMILIES = ("plain", "plain", "moderate", "offset", "scaled")
STEPS = (1, 2, 3, 10, 10**3, 10**6)
# The range of a factor of an average that decays.
BELOW_ONE = 1 - 2.0**-53

T = Option("t", 1, low=1, high=2**53, structural=True)
WEIGHT_DECAY = Option("weight_decay", 0.0, low=0.0, high=1e3)
MAXIMIZE = Option("maximize", False, choices=(False, True), structural=True)
# Where epsilon stands: beside the root, or under it.
PLACEMENT = Option("epsilon", "beside", choices=("beside", "under"), structural=True)
# Whether the momentum buffer sums gradients (torch) or steps, the rate already in (Keras, Sutskever 2013).
VELOCITY = Option("velocity", False, choices=(False, True), structural=True)


def numbers(text: str) -> tuple[float, ...]:
    """Return the decimal numbers of a text, for lists of values to draw."""
    return tuple(float(word) for word in text.split())


FLAG = (False, True)
# What shows a mistake comes more often than what hides it.
RATES = numbers("1e-3 0.1 1 1 1 0")
DECAYS = numbers("0 0.01 0.5 0.5")
EPSILONS = numbers("1e-8 1e-3 0.25 0.25 0.25 0")
FIRST_BETAS = (*numbers("0.9 0.9 0.5 0.3 0"), 1 - 2.0**-20)
SECOND_BETAS = (*numbers("0.999 0.999 0.99 0.5 0"), 1 - 2.0**-20)


def arrange(
    inputs: int, values: Mapping[str, Sequence[Any]], scalars: int = 0
) -> Callable[[Choose], Arrangement]:
    """Return the rule that gives `inputs` arrays one shape, `scalars` more none, and draws the options."""

    def arranged(choose: Choose) -> Arrangement:
        flat = choose.choice(FLAG)
        shape = (choose.size(),) if flat else (choose.size(high=8), choose.size(high=8))
        options = {name: choose.choice(listed) for name, listed in values.items()}
        return Arrangement((*(shape,) * inputs, *((),) * scalars), options)

    return arranged


def first_state(name: str) -> float:
    """Return what every element of a state array is before the first step."""
    return 1.0 if name == "product" else 0.0


def coupled(weight: Any, gradient: Any, weight_decay: Any, maximize: bool) -> Any:
    """Return the gradient to descend along, with that of the L2 penalty (λ/2)|w|²."""
    if maximize:
        gradient = -gradient
    return gradient if weight_decay == 0 else gradient + weight_decay * weight


def _rest(beta: Any) -> tuple[Any]:
    return (1 - beta,)


def mean_of(
    average: Any, x: Any, beta: Any, weighted: bool = False, scalars: Callable[..., Any] = in_doubles
) -> Any:
    """Return βm + (1-β)x, as an interpolation from the nearer end or, with `weighted`, as a weighted sum.

    Beside an infinity these differ in what is NaN. `scalars` says where 1-β is computed.
    """
    (rest,) = scalars(average, _rest, beta)
    gap = x - average

    def total() -> Any:
        return beta * average + rest * x

    def from_average() -> Any:
        return average + rest * gap

    def from_x() -> Any:
        ends = (from_average,) if beta == 0.5 else ()
        return either(lambda: x - gap * (np.ones_like(average) - rest), lambda: x - beta * gap, *ends)

    near = from_average if beta > 0.5 else from_x
    return either(total, near) if weighted else either(near, total)


def mean_of_squares(average: Any, x: Any, beta: Any, scalars: Callable[..., Any] = in_doubles) -> Any:
    """Return βv + (1-β)x², with the factor before or after the square, or as an interpolation."""
    (rest,) = scalars(average, _rest, beta)

    def mean() -> Any:
        kept = beta * average
        return either(lambda: kept + rest * x * x, lambda: kept + rest * np.square(x))

    if beta < 0.5:
        return mean()
    return either(mean, lambda: np.maximum(average + rest * (np.square(x) - average), 0))


def decayed(weight: Any, lr: Any, weight_decay: Any) -> Any:
    """Return (1 - ηλ)w: decay that no gradient sees."""
    return either(lambda: (1 - lr * weight_decay) * weight, lambda: weight - lr * weight_decay * weight)


def scaled_ratio(scale: Any, numerator: Any, denominator: Any) -> Any:
    """Return scale · numerator / denominator, multiplied and divided in any order."""
    return either(
        lambda: scale * (numerator / denominator),
        lambda: scale * numerator / denominator,
        lambda: scale / denominator * numerator,
    )
