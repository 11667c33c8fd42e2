"""Good optimizer steps, written from the papers: plain float64, scalars in double precision."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tests.honest import Many


def descent(weight: Any, gradient: Any, decay: float, maximize: bool) -> Any:
    """Return the gradient to go down along, the penalty's included."""
    down = -gradient if maximize else gradient
    return down if decay == 0 else down + decay * weight


def kept(weight: Any, lr: float, decay: float) -> Any:
    """Return the weight after decay that no gradient sees; without decay, an infinite one stays."""
    return weight if decay == 0 else weight - lr * decay * weight


def _sgd(
    weight: Any,
    gradient: Any,
    buffer: Any,
    *,
    lr: float = 1e-3,
    momentum: float = 0.0,
    dampening: float = 0.0,
    weight_decay: float = 0.0,
    nesterov: bool = False,
    maximize: bool = False,
    velocity: bool = False,
    t: int = 1,
) -> Any:
    g = descent(weight, gradient, weight_decay, maximize)
    if momentum == 0:
        return weight - lr * g, buffer
    rate, pushed = (1.0, lr * g) if velocity else (lr, g)
    buffer = pushed if t == 1 else momentum * buffer + (1 - dampening) * pushed
    return weight - rate * (pushed + momentum * buffer if nesterov else buffer), buffer


def _adagrad(
    weight: Any,
    gradient: Any,
    total: Any,
    *,
    lr: float = 1e-2,
    lr_decay: float = 0.0,
    weight_decay: float = 0.0,
    eps: float = 1e-10,
    maximize: bool = False,
    epsilon: str = "beside",
    t: int = 1,
) -> Any:
    g = descent(weight, gradient, weight_decay, maximize)
    total = total + g * g
    root = np.sqrt(total) + eps if epsilon == "beside" else np.sqrt(total + eps)
    return weight - lr / (1 + (t - 1) * lr_decay) * (g / root), total


def _rmsprop(
    weight: Any,
    gradient: Any,
    square: Any,
    mean: Any,
    buffer: Any,
    *,
    lr: float = 1e-2,
    alpha: float = 0.99,
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    momentum: float = 0.0,
    centered: bool = False,
    maximize: bool = False,
    epsilon: str = "beside",
    velocity: bool = False,
) -> Any:
    g = descent(weight, gradient, weight_decay, maximize)
    square = alpha * square + (1 - alpha) * g * g
    mean = alpha * mean + (1 - alpha) * g if centered else mean
    spread = square - mean * mean if centered else square
    move = g / (np.sqrt(spread) + eps if epsilon == "beside" else np.sqrt(spread + eps))
    if momentum == 0:
        return weight - lr * move, square, mean, buffer
    if velocity:
        buffer = momentum * buffer + lr * move
        return weight - buffer, square, mean, buffer
    buffer = momentum * buffer + move
    return weight - lr * buffer, square, mean, buffer


def _adadelta(
    weight: Any,
    gradient: Any,
    square: Any,
    moved: Any,
    *,
    lr: float = 1.0,
    rho: float = 0.9,
    eps: float = 1e-6,
    weight_decay: float = 0.0,
    maximize: bool = False,
) -> Any:
    g = descent(weight, gradient, weight_decay, maximize)
    square = rho * square + (1 - rho) * g * g
    delta = np.sqrt(moved + eps) / np.sqrt(square + eps) * g
    return weight - lr * delta, square, rho * moved + (1 - rho) * delta * delta


def adaptive(
    decoupled: bool,
    weight: Any,
    gradient: Any,
    mean: Any,
    square: Any,
    largest: Any,
    *,
    lr: float = 1e-3,
    beta1: float = 0.9,
    beta2: float = 0.999,
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    amsgrad: bool = False,
    maximize: bool = False,
    epsilon: str = "beside",
    maximum: str = "raw",
    t: int = 1,
) -> Any:
    """Adam's step, its weight decay in the gradient or beside it."""
    g = descent(weight, gradient, 0.0 if decoupled else weight_decay, maximize)
    mean = beta1 * mean + (1 - beta1) * g
    square = beta2 * square + (1 - beta2) * g * g
    first, second = less_power(beta1, t), less_power(beta2, t)
    corrected = square / second
    if amsgrad:
        largest = np.maximum(largest, square if maximum == "raw" else corrected)
        corrected = largest / second if maximum == "raw" else largest
    move = lr / first * mean
    if epsilon == "beside":
        move = move / (np.sqrt(corrected) + eps)
    elif epsilon == "under":
        move = move / np.sqrt(corrected + eps)
    else:
        move = move * np.sqrt(second) / (np.sqrt(largest if amsgrad else square) + eps)
    start = kept(weight, lr, weight_decay) if decoupled else weight
    return start - move, mean, square, largest


def less_power(beta: float, t: int) -> Any:
    """Return 1 - β^t."""
    return 1.0 if beta == 0 else -np.expm1(t * np.log(beta))


def _adam(*arrays: Any, **options: Any) -> Any:
    return adaptive(False, *arrays, **options)


def _adamw(*arrays: Any, **options: Any) -> Any:
    return adaptive(True, *arrays, **options)


def momentum_at(beta1: float, t: int, decay: float) -> float:
    """Return the momentum of NAdam's step t."""
    return float(beta1 * (1 - 0.5 * 0.96 ** (t * decay)))


def _nadam(
    weight: Any,
    gradient: Any,
    mean: Any,
    square: Any,
    product: Any,
    *,
    lr: float = 2e-3,
    beta1: float = 0.9,
    beta2: float = 0.999,
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    momentum_decay: float = 4e-3,
    decoupled: bool = False,
    maximize: bool = False,
    t: int = 1,
) -> Any:
    g = descent(weight, gradient, 0.0 if decoupled else weight_decay, maximize)
    mean = beta1 * mean + (1 - beta1) * g
    square = beta2 * square + (1 - beta2) * g * g
    now, then = momentum_at(beta1, t, momentum_decay), momentum_at(beta1, t + 1, momentum_decay)
    product = product * now
    root = np.sqrt(square / less_power(beta2, t)) + eps
    ahead = (1 - now) / (1 - product) * g + then / (1 - product * then) * mean
    start = kept(weight, lr, weight_decay) if decoupled else weight
    return start - lr * ahead / root, mean, square, product


def rectifier(beta2: float, t: int, threshold: float = 5.0) -> float | None:
    """Return RAdam's r, or nothing where the variance is not tractable."""
    most = 2 / (1 - beta2) - 1
    length = most - 2 * t * beta2**t / float(less_power(beta2, t))
    if length <= threshold:
        return None
    return float(np.sqrt((length - 4) * (length - 2) * most / ((most - 4) * (most - 2) * length)))


def _radam(
    weight: Any,
    gradient: Any,
    mean: Any,
    square: Any,
    *,
    lr: float = 1e-3,
    beta1: float = 0.9,
    beta2: float = 0.999,
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    threshold: float = 5.0,
    decoupled: bool = False,
    maximize: bool = False,
    t: int = 1,
) -> Any:
    g = descent(weight, gradient, 0.0 if decoupled else weight_decay, maximize)
    mean = beta1 * mean + (1 - beta1) * g
    square = beta2 * square + (1 - beta2) * g * g
    move = lr / less_power(beta1, t) * mean
    r = rectifier(beta2, t, threshold)
    if r is not None:
        move = move * r * np.sqrt(less_power(beta2, t)) / (np.sqrt(square) + eps)
    start = kept(weight, lr, weight_decay) if decoupled else weight
    return start - move, mean, square


def _adamax(
    weight: Any,
    gradient: Any,
    mean: Any,
    norm: Any,
    *,
    lr: float = 2e-3,
    beta1: float = 0.9,
    beta2: float = 0.999,
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    maximize: bool = False,
    t: int = 1,
) -> Any:
    g = descent(weight, gradient, weight_decay, maximize)
    mean = beta1 * mean + (1 - beta1) * g
    norm = np.maximum(beta2 * norm, np.abs(g) + eps)
    return weight - lr / less_power(beta1, t) * mean / norm, mean, norm


def _printed_adam(
    weight: Any,
    gradient: Any,
    mean: Any,
    square: Any,
    *,
    lr: float = 1e-3,
    beta1: float = 0.9,
    beta2: float = 0.999,
    eps: float = 1e-8,
    rho: float = 1.0,
) -> Any:
    mean = beta1 * mean + (1 - beta1) * gradient
    square = beta2 * square + (1 - beta2) * gradient * gradient
    return weight - lr * mean / (np.sqrt(square / rho) + eps), mean, square


def _no_gradient(inputs: Sequence[Any], c: Any, **_: Any) -> tuple[Any, ...]:
    return ()


OPTIMIZERS: dict[str, Many] = {
    name: Many(step, _no_gradient)
    for name, step in {
        "sgd": _sgd,
        "adagrad": _adagrad,
        "rmsprop": _rmsprop,
        "adadelta": _adadelta,
        "adam": _adam,
        "adamw": _adamw,
        "nadam": _nadam,
        "radam": _radam,
        "adamax": _adamax,
        "printed_adam": _printed_adam,
    }.items()
}
