"""How much faster many networks are measured at once than one at a time with hooks in PyTorch.

Run as a script: prints, per width, the median over pairs of runs of the ratio of the two times, with weights
drawn whole and with only their products drawn. Both sides draw He-initialised ReLU networks in float64, run
them forward and backward for a Gaussian cotangent, and keep ln ‖g‖² of every layer.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from functools import partial

import torch
from torch import nn

from gradcheck.flow import Network, measure

DEPTH, NETWORKS, PAIRS = 30, 24, 5


def with_hooks(width: int, seed: int) -> list[float]:
    torch.manual_seed(seed)
    kept: list[float] = []
    parts: list[nn.Module] = []
    for layer in range(DEPTH):
        linear = nn.Linear(width, width, bias=False, dtype=torch.float64)
        nn.init.kaiming_normal_(linear.weight)
        linear.register_forward_hook(partial(_hooked, kept))
        parts += [linear] if layer == DEPTH - 1 else [linear, nn.ReLU()]
    output = nn.Sequential(*parts)(torch.randn(1, width, dtype=torch.float64))
    output.backward(torch.randn_like(output))
    return kept


def _hooked(kept: list[float], module: nn.Module, inputs: object, output: torch.Tensor) -> None:
    output.register_hook(lambda g: kept.append(float(g.square().sum().log())))


def one_at_a_time(width: int) -> None:
    for seed in range(NETWORKS):
        with_hooks(width, seed)


def seconds(run: Callable[[], object]) -> float:
    begun = time.perf_counter()
    run()
    return time.perf_counter() - begun


def ratio(width: int, *, whole: bool) -> float:
    """Return the median over pairs of (time one at a time)/(time at once)."""
    network = Network(activation="relu", init="kaiming", depth=DEPTH, width=width)
    at_once = partial(measure, network, seeds=NETWORKS, whole=whole)
    at_once()
    with_hooks(width, 0)
    return statistics.median(seconds(partial(one_at_a_time, width)) / seconds(at_once) for _ in range(PAIRS))


if __name__ == "__main__":
    torch.set_num_threads(1)
    print(f"depth {DEPTH}, {NETWORKS} networks, median of {PAIRS} pairs: time one at a time / time at once")
    for width in (64, 128, 256):
        products, whole = ratio(width, whole=False), ratio(width, whole=True)
        print(f"width {width:4}: products {products:6.1f}, whole {whole:6.1f}")
