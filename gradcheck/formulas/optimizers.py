"""Optimizers as pure steps: gradient descent with momentum, and methods that divide by averaged squares.

The family of Adam has a file of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from gradcheck.arithmetic.scalars import either, in_doubles
from gradcheck.formats import Format
from gradcheck.formulas import adam_family
from gradcheck.formulas.optimizer_parts import (
    BELOW_ONE,
    DECAYS,
    EPSILONS,
    FAMILIES,
    FLAG,
    MAXIMIZE,
    PLACEMENT,
    RATES,
    STEPS,
    VELOCITY,
    WEIGHT_DECAY,
    T,
    arrange,
    coupled,
    mean_of,
    mean_of_squares,
    numbers,
    scaled_ratio,
)
from gradcheck.records import Arrangement, Choose, Formula, Option


def _sgd(
    weight: Any,
    gradient: Any,
    buffer: Any,
    *,
    lr: Any,
    momentum: Any,
    dampening: Any,
    weight_decay: Any,
    nesterov: bool,
    maximize: bool,
    velocity: bool,
    t: int,
) -> tuple[Any, Any]:
    """One step: b' = μb + (1-τ)g, b' = g in the first one; w' = w - ηb', with Nesterov w - η(g + μb').

    With `velocity` the rate is in the buffer: b' = μb + ηg, w' = w - b', with Nesterov w - (ηg + μb').
    """
    g = coupled(weight, gradient, weight_decay, maximize)
    if momentum == 0:
        return weight - lr * g, buffer
    new = lr * g if velocity else g
    if t > 1:
        kept, scale = momentum * buffer, (1 - dampening) * lr if velocity else 1 - dampening
        buffer = either(lambda: kept + scale * g, lambda: kept + (1 - dampening) * new)
    else:
        buffer = new
    step = new + momentum * buffer if nesterov else buffer
    return weight - (step if velocity else lr * step), buffer


def _arrange_sgd(choose: Choose) -> Arrangement:
    """Nesterov's form goes with momentum and without dampening."""
    form = choose.choice((*("plain", "momentum"), *("dampened", "nesterov") * 3))
    drawn = arrange(
        3,
        dict(
            lr=RATES,
            momentum=numbers("0.9 0.5"),
            dampening=numbers("0.5 0.5 1"),
            weight_decay=DECAYS,
            maximize=FLAG,
            t=(1, 1, 2, 10**6),
        ),
    )(choose)
    options = {**drawn.options, "nesterov": form == "nesterov"}
    if form == "plain":
        options["momentum"] = 0.0
    elif form != "dampened":
        options["dampening"] = 0.0
    return Arrangement(drawn.shapes, options)


SGD = Formula(
    name="sgd",
    title="Stochastic gradient descent with momentum",
    equation="b' = μb + (1-τ)g, w' = w - ηb'; Nesterov: w' = w - η(g + μb')",
    source="Polyak, USSR Comp. Math. 4, 1964; Sutskever et al., ICML 2013 (the rate inside the buffer)",
    value=_sgd,
    inputs=("weight", "gradient", "buffer"),
    outputs=("weight", "buffer"),
    options=(
        Option("lr", 1e-3, low=0.0, high=1e6),
        Option("momentum", 0.0, low=0.0, high=10.0),
        Option("dampening", 0.0, low=-10.0, high=10.0),
        WEIGHT_DECAY,
        Option("nesterov", False, choices=FLAG, structural=True),
        MAXIMIZE,
        VELOCITY,
        T,
    ),
    arrange=_arrange_sgd,
    families=FAMILIES,
    article="F06",
)


def _annealed(lr: Any, decay: Any, t: int) -> tuple[Any]:
    return (lr / (1 + (t - 1) * decay),)


def _adagrad(
    weight: Any,
    gradient: Any,
    total: Any,
    *,
    lr: Any,
    lr_decay: Any,
    weight_decay: Any,
    eps: Any,
    maximize: bool,
    epsilon: str,
    t: int,
) -> tuple[Any, Any]:
    """One step: s' = s + g², w' = w - η_t g/(√s' + ε), η_t = η/(1 + (t-1)d)."""
    g = coupled(weight, gradient, weight_decay, maximize)
    total = total + np.square(g)
    (step,) = in_doubles(weight, _annealed, lr, lr_decay, t)
    root = np.sqrt(total) + eps if epsilon == "beside" else np.sqrt(total + eps)
    return weight - scaled_ratio(step, g, root), total


ADAGRAD = Formula(
    name="adagrad",
    title="AdaGrad",
    equation="s' = s + g², w' = w - η/(1 + (t-1)d) · g/(√s' + ε)",
    source="Duchi, Hazan & Singer, JMLR 12, 2011, figure 1 (where δ stands beside the root)",
    value=_adagrad,
    inputs=("weight", "gradient", "total"),
    outputs=("weight", "total"),
    kinds=("real", "real", "nonnegative"),
    options=(
        Option("lr", 1e-2, low=0.0, high=1e6),
        Option("lr_decay", 0.0, low=0.0, high=1e3),
        WEIGHT_DECAY,
        Option("eps", 1e-10, low=0.0, high=1e3),
        MAXIMIZE,
        PLACEMENT,
        T,
    ),
    arrange=arrange(
        3,
        dict(
            lr=RATES, lr_decay=numbers("0 0.01 1"), weight_decay=DECAYS, eps=EPSILONS, maximize=FLAG, t=STEPS
        ),
    ),
    families=FAMILIES,
    hazards=("the square of a small gradient underflows",),
    article="F16",
)


def _rmsprop(
    weight: Any,
    gradient: Any,
    square: Any,
    mean: Any,
    buffer: Any,
    *,
    lr: Any,
    alpha: Any,
    eps: Any,
    weight_decay: Any,
    momentum: Any,
    centered: bool,
    maximize: bool,
    epsilon: str,
    velocity: bool,
) -> tuple[Any, Any, Any, Any]:
    """One step: v' = αv + (1-α)g², m' = αm + (1-α)g, b' = μb + g/(√(v' - m'²) + ε), w' = w - ηb'.

    Without `centered` m' stays out, without momentum b. With `velocity` the rate is in the buffer.
    """
    g = coupled(weight, gradient, weight_decay, maximize)
    square = mean_of_squares(square, g, alpha)
    spread = square
    if centered:
        mean = mean_of(mean, g, alpha)
        spread = square - np.square(mean)
    root = np.sqrt(spread) + eps if epsilon == "beside" else np.sqrt(spread + eps)
    if momentum == 0:
        return weight - scaled_ratio(lr, g, root), square, mean, buffer
    if velocity:
        buffer = momentum * buffer + scaled_ratio(lr, g, root)
        return weight - buffer, square, mean, buffer
    buffer = momentum * buffer + g / root
    return weight - lr * buffer, square, mean, buffer


def _above_the_mean(
    inputs: tuple[Any, ...], options: Mapping[str, Any], fmt: Format, seed: int
) -> tuple[Any, ...]:
    """Averages over the same gradients have v ≥ m²; where both are close, trajectories take them."""
    weight, gradient, square, mean, buffer = inputs
    most = fmt.largest**0.5 / 4
    mean = np.clip(mean, -most, most)
    # A square that underflows is below that of its mean.
    mean = np.where(2 * np.square(mean) < fmt.least_normal, 0.0, mean)
    return weight, gradient, square + 2 * np.square(mean), mean, buffer


def _arrange_rmsprop(choose: Choose) -> Arrangement:
    """Centered, an α of 0 leaves nothing to divide by."""
    drawn = arrange(
        5,
        dict(
            lr=RATES,
            alpha=numbers("0.99 0.9 0.5 0"),
            eps=EPSILONS,
            weight_decay=DECAYS,
            momentum=numbers("0 0.9 0.5"),
            centered=FLAG,
            maximize=FLAG,
        ),
    )(choose)
    options = dict(drawn.options)
    if options["centered"] and options["alpha"] == 0:
        options["alpha"] = 0.5
    return Arrangement(drawn.shapes, options)


RMSPROP = Formula(
    name="rmsprop",
    title="RMSProp",
    equation="v' = αv + (1-α)g², b' = μb + g/(√(v' - m'²) + ε), w' = w - ηb'",
    source="Tieleman & Hinton, Coursera lecture 6.5, 2012; centered: Graves, arXiv:1308.0850, 2013, eq. 38",
    value=_rmsprop,
    inputs=("weight", "gradient", "square", "mean", "buffer"),
    outputs=("weight", "square", "mean", "buffer"),
    kinds=("real", "real", "nonnegative", "real", "real"),
    options=(
        Option("lr", 1e-2, low=0.0, high=1e6),
        Option("alpha", 0.99, low=0.0, high=BELOW_ONE),
        Option("eps", 1e-8, low=0.0, high=1e3),
        WEIGHT_DECAY,
        Option("momentum", 0.0, low=0.0, high=10.0),
        Option("centered", False, choices=FLAG, structural=True),
        MAXIMIZE,
        PLACEMENT,
        VELOCITY,
    ),
    arrange=_arrange_rmsprop,
    families=FAMILIES,
    fit=_above_the_mean,
    hazards=("centered: the difference of the squares cancels",),
    article="F16",
)


def _adadelta(
    weight: Any,
    gradient: Any,
    square: Any,
    moved: Any,
    *,
    lr: Any,
    rho: Any,
    eps: Any,
    weight_decay: Any,
    maximize: bool,
) -> tuple[Any, Any, Any]:
    """One step: v' = ρv + (1-ρ)g², δ = √(d + ε)/√(v' + ε) · g, d' = ρd + (1-ρ)δ², w' = w - ηδ."""
    g = coupled(weight, gradient, weight_decay, maximize)
    square = mean_of_squares(square, g, rho)
    delta = scaled_ratio(np.sqrt(moved + eps), g, np.sqrt(square + eps))
    moved = mean_of_squares(moved, delta, rho)
    return weight - lr * delta, square, moved


ADADELTA = Formula(
    name="adadelta",
    title="AdaDelta",
    equation="v' = ρv + (1-ρ)g², δ = √(d+ε)/√(v'+ε) g, d' = ρd + (1-ρ)δ², w' = w - ηδ",
    source="Zeiler, arXiv:1212.5701, 2012, algorithm 1 (with η = 1)",
    value=_adadelta,
    inputs=("weight", "gradient", "square", "moved"),
    outputs=("weight", "square", "moved"),
    kinds=("real", "real", "nonnegative", "nonnegative"),
    options=(
        Option("lr", 1.0, low=0.0, high=1e6),
        Option("rho", 0.9, low=0.0, high=BELOW_ONE),
        Option("eps", 1e-6, low=0.0, high=1e3),
        WEIGHT_DECAY,
        MAXIMIZE,
    ),
    arrange=arrange(
        4, dict(lr=RATES, rho=numbers("0.9 0.95 0.5 0"), eps=EPSILONS, weight_decay=DECAYS, maximize=FLAG)
    ),
    families=FAMILIES,
)

FORMULAS = (SGD, ADAGRAD, RMSPROP, ADADELTA, *adam_family.FORMULAS)
