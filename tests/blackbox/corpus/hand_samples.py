"""Inputs of the functions written by hand: the user's example first, then other values and other sizes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from tests.blackbox.corpus import hand_functions as h
from tests.blackbox.corpus.operation import normal, uniform

# Kind of sample and its inputs; every function has "plain" and "shapes", most have "values".
Samples = dict[str, Callable[[], tuple[Any, ...]]]


def tall(*shape: int, seed: int = 0) -> torch.Tensor:
    """Return numbers of many magnitudes and both signs, none of them zero."""
    return normal(*shape, seed=seed) * 10.0 ** uniform(*shape, low=-3.0, high=1.5, seed=seed + 7)


def elementwise() -> Samples:
    return {
        "plain": lambda: (normal(4, 5),),
        "values": lambda: (tall(40),),
        "shapes": lambda: (normal(3, 1, 2),),
    }


def binary() -> Samples:
    return {
        "plain": lambda: (normal(4, 5), normal(4, 5, seed=1)),
        "values": lambda: (tall(3, 4), tall(3, 4, seed=1)),
        "shapes": lambda: (normal(1, 3), normal(1, 3, seed=1)),
    }


def of(*sizes: tuple[tuple[int, ...], ...]) -> Samples:
    def make(shapes: tuple[tuple[int, ...], ...], draw: Callable[..., torch.Tensor]) -> Callable[[], Any]:
        return lambda: tuple(draw(*shape, seed=k) for k, shape in enumerate(shapes))

    plain, other = sizes
    return {"plain": make(plain, normal), "values": make(plain, tall), "shapes": make(other, normal)}


def invertible(n: int) -> torch.Tensor:
    return normal(n, n) + 3 * torch.eye(n, dtype=torch.float64)


SAMPLES: dict[type, Samples] = {
    **{
        f: elementwise()
        for f in (
            *(
                h.Gelu,
                h.Silu,
                h.Tanh,
                h.Sigmoid,
                h.Softplus,
                h.Mish,
                h.LeakyRelu,
                h.Elu,
                h.Softsign,
                h.LogCosh,
            ),
            *(h.SineCosine, h.Cumsum),
        )
    },
    **{f: of(((3, 5),), ((1, 9),)) for f in (h.Softmax, h.LogSoftmax, h.Logsumexp)},
    h.Linear: of(((5, 3), (4, 3), (4,)), ((1, 3), (3, 3), (3,))),
    h.Matmul: of(((3, 4), (4, 2)), ((3, 3), (3, 3))),
    h.Outer: of(((3,), (4,)), ((3,), (3,))),
    h.LayerNorm: of(((3, 6), (6,), (6,)), ((1, 5), (5,), (5,))),
    h.RmsNorm: of(((3, 6), (6,)), ((4, 4), (4,))),
    h.Attention: of(((2, 3, 4), (2, 5, 4), (2, 5, 3)), ((1, 1, 2), (1, 3, 2), (1, 3, 2))),
    **{f: binary() for f in (h.SquaredError, h.LogitsLoss, h.Huber, h.Cosine)},
    h.Inverse: {"plain": lambda: (invertible(4),), "shapes": lambda: (invertible(2),)},
    h.Convolution: of(((2, 3, 7), (4, 3, 3)), ((1, 1, 4), (1, 1, 1))),
    h.AveragePairs: of(((2, 6),), ((2, 5),)),
    h.Difference: of(((2, 6),), ((1, 2),)),
    h.Quadratic: of(((4,), (4, 4)), ((1,), (1, 1))),
    h.Distances: of(((3, 2), (4, 2)), ((3, 2), (3, 2))),
    h.Scale: of(((4, 3), (3,)), ((1, 3), (3,))),
}
