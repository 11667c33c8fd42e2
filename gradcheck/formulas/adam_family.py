"""Adam and the methods that grew from it, as pure steps."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from gradcheck.arithmetic.exact import exact
from gradcheck.arithmetic.scalars import either, held_in, in_doubles, in_format, where_positive
from gradcheck.formats import FLOAT32
from gradcheck.formulas.optimizer_parts import (
    BELOW_ONE,
    DECAYS,
    EPSILONS,
    FAMILIES,
    FIRST_BETAS,
    FLAG,
    MAXIMIZE,
    RATES,
    SECOND_BETAS,
    STEPS,
    WEIGHT_DECAY,
    T,
    arrange,
    coupled,
    decayed,
    mean_of,
    mean_of_squares,
    numbers,
    scaled_ratio,
)
from gradcheck.formulas.parts import accepted, stable, unstable
from gradcheck.records import VALUE, Arrangement, Choose, Formula, Option

_LR = Option("lr", 1e-3, low=0.0, high=1e6)
_BETA1 = Option("beta1", 0.9, low=0.0, high=BELOW_ONE)
_BETA2 = Option("beta2", 0.999, low=0.0, high=BELOW_ONE)
_EPS = Option("eps", 1e-8, low=0.0, high=1e3)
_AMSGRAD = Option("amsgrad", False, choices=FLAG, structural=True)
_DECOUPLED = Option("decoupled", False, choices=FLAG, structural=True)
# Beside the corrected root (torch); under it; or beside the root before it is corrected ("epsilon hat" of
# Kingma & Ba's section 2, TensorFlow).
_PLACES = ("beside", "under", "uncorrected")
_PLACEMENT = Option("epsilon", "beside", choices=_PLACES, structural=True)
# AMSGrad keeps the largest average (Reddi et al. 2018, torch) or the largest corrected one (optax).
_MAXIMUM = Option("maximum", "raw", choices=("raw", "corrected"), structural=True)
_DRAWN = {
    "lr": RATES,
    "beta1": FIRST_BETAS,
    "beta2": SECOND_BETAS,
    "eps": EPSILONS,
    "weight_decay": DECAYS,
    "maximize": FLAG,
    "t": STEPS,
}


def _corrections(lr: Any, beta1: Any, beta2: Any, t: int) -> tuple[Any, Any, Any, Any, Any]:
    first, second = 1 - beta1**t, 1 - beta2**t
    return first, second, np.sqrt(second), lr / first, lr / first * np.sqrt(second)


def _adaptive(
    scalars: Any,
    weight: Any,
    gradient: Any,
    mean: Any,
    square: Any,
    largest: Any,
    lr: Any,
    beta1: Any,
    beta2: Any,
    eps: Any,
    weight_decay: Any,
    amsgrad: bool,
    maximize: bool,
    epsilon: str,
    maximum: str,
    decoupled: bool,
    t: int,
    early: bool = False,
) -> tuple[Any, Any, Any, Any]:
    g = coupled(weight, gradient, 0 if decoupled else weight_decay, maximize)
    m = mean_of(mean, g, beta1, early, scalars)
    v = mean_of_squares(square, g, beta2, scalars)
    first, second, root, step, whole = scalars(weight, _corrections, lr, beta1, beta2, t)
    used = v
    if amsgrad:
        largest = np.maximum(largest, v if maximum == "raw" else v / second)
        used = largest
    corrected = amsgrad and maximum == "corrected"
    if epsilon == "uncorrected":
        move = scaled_ratio(whole, m, np.sqrt(used) + eps)
    else:
        hat = used if corrected else used / second
        spread = np.sqrt(hat) if corrected else either(lambda: np.sqrt(used) / root, lambda: np.sqrt(hat))
        below = spread + eps if epsilon == "beside" else np.sqrt(hat + eps)
        if early:
            move = lr * (m / first) / below
        else:
            move = either(lambda: scaled_ratio(step, m, below), lambda: lr / first * m / below)
    if decoupled and weight_decay != 0:
        moved = either(
            lambda: decayed(weight, lr, weight_decay) - move,
            lambda: weight - (move + lr * weight_decay * weight),
        )
        return moved, m, v, largest
    return weight - move, m, v, largest


def _adam(
    weight: Any, gradient: Any, mean: Any, square: Any, largest: Any, **options: Any
) -> tuple[Any, Any, Any, Any]:
    """One step: m' = β₁m + (1-β₁)g, v' = β₂v + (1-β₂)g², w' = w - η m̂/(√v̂ + ε), with m̂ = m'/(1-β₁ᵗ).

    With `amsgrad` the largest v' so far stands for v'; it stays as it is without.
    """
    return _adaptive(in_doubles, weight, gradient, mean, square, largest, decoupled=False, **options)


def _adam_in_format(
    weight: Any, gradient: Any, mean: Any, square: Any, largest: Any, **options: Any
) -> tuple[Any, Any, Any, Any]:
    return _adaptive(in_format, weight, gradient, mean, square, largest, decoupled=False, **options)


def _adam_early(
    weight: Any, gradient: Any, mean: Any, square: Any, largest: Any, **options: Any
) -> tuple[Any, Any, Any, Any]:
    return _adaptive(
        in_doubles, weight, gradient, mean, square, largest, decoupled=False, early=True, **options
    )


_IN_FORMAT = "1 - beta and 1 - beta^t computed in the format of the arrays"
# m/(1-β₁ᵗ) overflows where the update is an ordinary number.
_EARLY = "the mean is corrected before it is multiplied by the rate"
_ADAM_INPUTS = ("weight", "gradient", "mean", "square", "largest")
_ADAM_KINDS = ("real", "real", "real", "nonnegative", "nonnegative")
_ADAM_OUTPUTS = ("weight", "mean", "square", "largest")
_ADAM_OPTIONS = (_LR, _BETA1, _BETA2, _EPS, WEIGHT_DECAY, _AMSGRAD, MAXIMIZE, _PLACEMENT, _MAXIMUM, T)
_SMALL_SQUARES = "(1-β₂)g² underflows for a small gradient, and so may ε in a 16-bit format"

ADAM = Formula(
    name="adam",
    title="Adam",
    equation="w' = w - η m̂/(√v̂ + ε), m̂ = m'/(1-β₁ᵗ), v̂ = v'/(1-β₂ᵗ)",
    source="Kingma & Ba, ICLR 2015, algorithm 1; AMSGrad: Reddi, Kale & Kumar, ICLR 2018, algorithm 2",
    value=_adam,
    inputs=_ADAM_INPUTS,
    outputs=_ADAM_OUTPUTS,
    kinds=_ADAM_KINDS,
    options=_ADAM_OPTIONS,
    variants=(accepted(VALUE, _IN_FORMAT, _adam_in_format), unstable(VALUE, _EARLY, _adam_early)),
    arrange=arrange(5, dict(**_DRAWN, amsgrad=FLAG)),
    families=FAMILIES,
    hazards=(_SMALL_SQUARES,),
    article="F14",
)


def _adamw(
    weight: Any, gradient: Any, mean: Any, square: Any, largest: Any, **options: Any
) -> tuple[Any, Any, Any, Any]:
    """One step of Adam, on weights that were first multiplied by 1 - ηλ: no average sees the decay."""
    return _adaptive(in_doubles, weight, gradient, mean, square, largest, decoupled=True, **options)


def _adamw_in_format(
    weight: Any, gradient: Any, mean: Any, square: Any, largest: Any, **options: Any
) -> tuple[Any, Any, Any, Any]:
    return _adaptive(in_format, weight, gradient, mean, square, largest, decoupled=True, **options)


def _adamw_early(
    weight: Any, gradient: Any, mean: Any, square: Any, largest: Any, **options: Any
) -> tuple[Any, Any, Any, Any]:
    return _adaptive(
        in_doubles, weight, gradient, mean, square, largest, decoupled=True, early=True, **options
    )


ADAMW = Formula(
    name="adamw",
    title="Adam with decoupled weight decay",
    equation="w' = (1 - ηλ)w - η m̂/(√v̂ + ε)",
    source="Loshchilov & Hutter, ICLR 2019, algorithm 2, with the decay scaled by the rate as torch does",
    value=_adamw,
    inputs=_ADAM_INPUTS,
    outputs=_ADAM_OUTPUTS,
    kinds=_ADAM_KINDS,
    options=_ADAM_OPTIONS,
    variants=(accepted(VALUE, _IN_FORMAT, _adamw_in_format), unstable(VALUE, _EARLY, _adamw_early)),
    arrange=arrange(5, dict(**_DRAWN, amsgrad=FLAG)),
    families=FAMILIES,
    hazards=(_SMALL_SQUARES,),
)


_SCHEDULE = exact("0.96")


def _momenta(beta1: Any, beta2: Any, momentum_decay: Any, t: int) -> tuple[Any, Any, Any, Any]:
    this = beta1 * (1 - _SCHEDULE ** (t * momentum_decay) / 2)
    following = beta1 * (1 - _SCHEDULE ** ((t + 1) * momentum_decay) / 2)
    second = 1 - beta2**t
    return this, following, second, np.sqrt(second)


def _accelerated(
    keep: Callable[[Any], Any],
    weight: Any,
    gradient: Any,
    mean: Any,
    square: Any,
    product: Any,
    lr: Any,
    beta1: Any,
    beta2: Any,
    eps: Any,
    weight_decay: Any,
    momentum_decay: Any,
    decoupled: bool,
    maximize: bool,
    t: int,
    weighted: bool = False,
) -> tuple[Any, Any, Any, Any]:
    g = coupled(weight, gradient, 0 if decoupled else weight_decay, maximize)
    this, following, second, root = in_doubles(weight, _momenta, beta1, beta2, momentum_decay, t)
    m, v = mean_of(mean, g, beta1, weighted), mean_of_squares(square, g, beta2)
    product = keep(keep(product) * keep(this))
    below = either(lambda: np.sqrt(v) / root, lambda: np.sqrt(v / second)) + eps
    ahead = lr * (1 - this) / (1 - product)
    behind = lr * following / (1 - product * following)
    start = decayed(weight, lr, weight_decay) if decoupled else weight
    moved = either(
        lambda: start - scaled_ratio(ahead, g, below) - scaled_ratio(behind, m, below),
        lambda: start - (ahead * g + behind * m) / below,
    )
    return moved, m, v, product


def _nadam(
    weight: Any, gradient: Any, mean: Any, square: Any, product: Any, **options: Any
) -> tuple[Any, Any, Any, Any]:
    """One step: P' = P μₜ, w' = w - η [(1-μₜ)/(1-P') g + μₜ₊₁/(1-P'μₜ₊₁) m'] / (√v̂ + ε).

    The momentum is μₜ = β₁(1 - 0.96^(tψ)/2); the product P of those so far is an array of shape ().
    """
    return _accelerated(lambda x: x, weight, gradient, mean, square, product, **options)


def _nadam_with_single_product(
    weight: Any, gradient: Any, mean: Any, square: Any, product: Any, **options: Any
) -> tuple[Any, Any, Any, Any]:
    kept = partial(held_in, FLOAT32)
    return _accelerated(kept, weight, gradient, mean, square, product, weighted=True, **options)


NADAM = Formula(
    name="nadam",
    title="Adam with Nesterov's momentum",
    equation="w' = w - η [(1-μₜ)/(1-P') g + μₜ₊₁/(1-P'μₜ₊₁) m'] / (√v̂ + ε), P' = P μₜ",
    source="Dozat, ICLR workshop 2016, with the momentum schedule of Sutskever et al. 2013",
    value=_nadam,
    inputs=("weight", "gradient", "mean", "square", "product"),
    outputs=("weight", "mean", "square", "product"),
    kinds=("real", "real", "real", "nonnegative", "unit"),
    options=(
        Option("lr", 2e-3, low=0.0, high=1e6),
        _BETA1,
        _BETA2,
        _EPS,
        WEIGHT_DECAY,
        Option("momentum_decay", 4e-3, low=0.0, high=1e3),
        _DECOUPLED,
        MAXIMIZE,
        T,
    ),
    variants=(unstable(VALUE, "the product of the momenta kept in float32", _nadam_with_single_product),),
    arrange=arrange(4, dict(**_DRAWN, momentum_decay=numbers("4e-3 1 1 0"), decoupled=FLAG), scalars=1),
    families=FAMILIES,
    hazards=(_SMALL_SQUARES,),
)


def _rectified(lr: Any, beta1: Any, beta2: Any, threshold: Any, t: int) -> tuple[Any, ...]:
    """Return 1-β₁ᵗ, √(1-β₂ᵗ), then (1, 0) or (0, r), then (η/(1-β₁ᵗ), 0) or (0, r η √(1-β₂ᵗ)/(1-β₁ᵗ))."""
    first, second = 1 - beta1**t, 1 - beta2**t
    most = 2 / (1 - beta2) - 1
    length = most - 2 * t * beta2**t / second
    above = length - threshold
    part = (length - 4) * (length - 2) * most / ((most - 4) * (most - 2) * length)
    # Below the threshold nothing is rectified; the other branch only has to be a number there.
    rectifier = np.sqrt(where_positive(above, part, exact(1)))
    root, zero = np.sqrt(second), exact(0)
    share = where_positive(above, zero, exact(1)), where_positive(above, rectifier, zero)
    plain = where_positive(above, zero, lr / first)
    return first, root, *share, plain, where_positive(above, lr * rectifier / first * root, zero)


def _rectified_step(
    early: bool,
    weight: Any,
    gradient: Any,
    mean: Any,
    square: Any,
    lr: Any,
    beta1: Any,
    beta2: Any,
    eps: Any,
    weight_decay: Any,
    threshold: Any,
    decoupled: bool,
    maximize: bool,
    t: int,
    reciprocal: bool = False,
) -> tuple[Any, Any, Any]:
    g = coupled(weight, gradient, 0 if decoupled else weight_decay, maximize)
    m, v = mean_of(mean, g, beta1, weighted=early), mean_of_squares(square, g, beta2)
    scalars = in_doubles(weight, _rectified, lr, beta1, beta2, threshold, t)
    first, root, unrectified, rectifier, plain, adaptive = scalars
    below = np.sqrt(v) + eps
    if reciprocal:
        move = (plain + 1 / (below / adaptive)) * m
    else:
        move = either(
            lambda: plain * m + scaled_ratio(adaptive, m, below),
            lambda: (m / first * lr if early else lr / first * m) * (unrectified + root / below * rectifier),
            lambda: (plain + 1 / below * adaptive) * m,
        )
    start = decayed(weight, lr, weight_decay) if decoupled else weight
    return start - move, m, v


def _radam_by_reciprocal(
    weight: Any, gradient: Any, mean: Any, square: Any, **options: Any
) -> tuple[Any, Any, Any]:
    return _rectified_step(False, weight, gradient, mean, square, reciprocal=True, **options)


def _radam(weight: Any, gradient: Any, mean: Any, square: Any, **options: Any) -> tuple[Any, Any, Any]:
    """One step: ρ = ρ∞ - 2tβ₂ᵗ/(1-β₂ᵗ); w' = w - η m̂ where ρ ≤ 5, else w - η r m̂ √(1-β₂ᵗ)/(√v' + ε).

    ρ∞ = 2/(1-β₂) - 1, r² = (ρ-4)(ρ-2)ρ∞ / ((ρ∞-4)(ρ∞-2)ρ). The paper has no ε and switches at 4.
    """
    return _rectified_step(False, weight, gradient, mean, square, **options)


def _radam_early(weight: Any, gradient: Any, mean: Any, square: Any, **options: Any) -> tuple[Any, Any, Any]:
    return _rectified_step(True, weight, gradient, mean, square, **options)


def _arrange_radam(choose: Choose) -> Arrangement:
    """Every other case is where ρ passes 5: between the fifth and the sixth step with β₂ near 1."""
    drawn = arrange(4, {**_DRAWN, "decoupled": FLAG})(choose)
    near, beta2, t = choose.choice(FLAG), choose.choice(numbers("0.999 0.99")), choose.choice((5, 5, 6))
    return replace(drawn, options={**drawn.options, **({"beta2": beta2, "t": t} if near else {})})


RADAM = Formula(
    name="radam",
    title="Rectified Adam",
    equation="w' = w - η r m̂ √(1-β₂ᵗ)/(√v' + ε) where ρₜ > 5, else w - η m̂",
    source="Liu et al., ICLR 2020, algorithm 2",
    value=_radam,
    inputs=("weight", "gradient", "mean", "square"),
    outputs=("weight", "mean", "square"),
    kinds=("real", "real", "real", "nonnegative"),
    options=(
        _LR,
        _BETA1,
        _BETA2,
        _EPS,
        WEIGHT_DECAY,
        Option("threshold", 5.0, low=4.0, high=5.0),
        _DECOUPLED,
        MAXIMIZE,
        T,
    ),
    variants=(
        unstable(VALUE, _EARLY, _radam_early),
        # (√v' + ε)(1-β₁ᵗ)/(η r √(1-β₂ᵗ)) overflows where its reciprocal is an ordinary number.
        unstable(VALUE, "the reciprocal of the root over the rate", _radam_by_reciprocal),
    ),
    arrange=_arrange_radam,
    families=FAMILIES,
    hazards=(_SMALL_SQUARES,),
)


def _rate_of_adamax(lr: Any, beta1: Any, t: int) -> tuple[Any, Any]:
    return lr / (1 - beta1**t), 1 - beta1**t


def _adamax(
    weight: Any,
    gradient: Any,
    mean: Any,
    norm: Any,
    *,
    lr: Any,
    beta1: Any,
    beta2: Any,
    eps: Any,
    weight_decay: Any,
    maximize: bool,
    t: int,
    weighted: bool = False,
) -> tuple[Any, Any, Any]:
    """One step: u' = max(β₂u, |g| + ε), w' = w - η/(1-β₁ᵗ) m'/u'. The paper has no ε."""
    g = coupled(weight, gradient, weight_decay, maximize)
    m = mean_of(mean, g, beta1, weighted)
    norm = np.maximum(beta2 * norm, np.abs(g) + eps)
    step, first = in_doubles(weight, _rate_of_adamax, lr, beta1, t)
    move = either(lambda: scaled_ratio(step, m, norm), lambda: scaled_ratio(lr / first, m, norm))
    return weight - move, m, norm


ADAMAX = Formula(
    name="adamax",
    title="Adam by the largest gradient",
    equation="u' = max(β₂u, |g| + ε), w' = w - η/(1-β₁ᵗ) m'/u'",
    source="Kingma & Ba, ICLR 2015, algorithm 2",
    value=_adamax,
    inputs=("weight", "gradient", "mean", "norm"),
    outputs=("weight", "mean", "norm"),
    kinds=("real", "real", "real", "nonnegative"),
    options=(Option("lr", 2e-3, low=0.0, high=1e6), _BETA1, _BETA2, _EPS, WEIGHT_DECAY, MAXIMIZE, T),
    variants=(stable(VALUE, "the mean as a weighted sum", partial(_adamax, weighted=True)),),
    arrange=arrange(4, dict(**_DRAWN)),
    families=FAMILIES,
)


def _printed_adam(
    weight: Any,
    gradient: Any,
    mean: Any,
    square: Any,
    *,
    lr: Any,
    beta1: Any,
    beta2: Any,
    eps: Any,
    rho: Any,
) -> tuple[Any, Any, Any]:
    """One step as the article prints it: w' = w - η/(√(v'/ρ) + ε) m', without a correction of the bias."""
    m, v = mean_of(mean, gradient, beta1), mean_of_squares(square, gradient, beta2)
    return weight - scaled_ratio(lr, m, np.sqrt(v / rho) + eps), m, v


PRINTED_ADAM = Formula(
    name="printed_adam",
    title="Adam as the article prints it",
    equation="w' = w - η/(√(v'/ρ) + ε) m'",
    source="the article, section 3.2.2; compare Kingma & Ba, ICLR 2015",
    value=_printed_adam,
    inputs=("weight", "gradient", "mean", "square"),
    outputs=("weight", "mean", "square"),
    kinds=("real", "real", "real", "nonnegative"),
    options=(_LR, _BETA1, _BETA2, _EPS, Option("rho", 1.0, low=2.0**-60, high=1e3)),
    arrange=arrange(
        4, dict(lr=RATES, beta1=FIRST_BETAS, beta2=SECOND_BETAS, eps=EPSILONS, rho=numbers("1 0.9 0.001"))
    ),
    families=FAMILIES,
    article="F15",
)

FORMULAS = (ADAM, ADAMW, NADAM, RADAM, ADAMAX, PRINTED_ADAM)
