"""Networks of many settings run as one batch: they differ in σ_w and σ_b, and share everything else."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from gradcheck.flow.activations import get_activation
from gradcheck.flow.drawing import source
from gradcheck.flow.measuring import can_be_revealed, chunk
from gradcheck.flow.network import Network
from gradcheck.flow.passes import run, store_in
from gradcheck.flow.statistics import Statistics, summarise
from gradcheck.formats import FLOAT64

Float64Array = NDArray[np.float64]
Say = Callable[[int, int], None]
# Threads at most; NumPy lets go of the interpreter in nearly all that takes time here. Where matrices are
# drawn whole it multiplies them in threads of its own, and one thread here is enough.
THREADS = 2


@dataclass(frozen=True)
class Batch:
    """Networks of one specification at several points (σ_w, σ_b), from one seed."""

    network: Network
    weight: Float64Array
    bias: Float64Array
    seed: int


def with_deviations(network: Network, weight: float, bias: float) -> Network:
    """Return the network with σ_w and σ_b instead of what its rule and its gain say."""
    return replace(
        network,
        weight_variance=weight**2,
        bias_variance=bias**2,
        gain=1.0,
        bias=None,
        distribution=network.law,
    )


def batches(network: Network, weight: Float64Array, bias: Float64Array, seeds: int, seed: int) -> list[Batch]:
    """Return points in parts that fit into memory with `seeds` networks each."""
    base = with_deviations(network, 1.0, 1.0 if np.any(bias > 0) else 0.0)
    origin = source(base, seed, whole=not can_be_revealed(base), store=store_in(FLOAT64))
    points = max(1, chunk(base, origin) // seeds)
    # Every part has generators of its own, whatever runs beside it.
    return [
        Batch(base, weight[first : first + points], bias[first : first + points], seed + (first << 64))
        for first in range(0, len(weight), points)
    ]


def measure_points(parts: Sequence[Batch], seeds: int, say: Say) -> list[Statistics]:
    """Return the statistics of every point of every part, in order, over `seeds` networks each.

    `say(done, planned)` is told how many networks have been run.
    """
    return [
        summarise(gradient[:, place : place + seeds], forward[:, place : place + seeds])
        for gradient, forward in traces(parts, seeds, say)
        for place in range(0, gradient.shape[1], seeds)
    ]


def traces(parts: Sequence[Batch], seeds: int, say: Say) -> Iterator[tuple[Float64Array, Float64Array]]:
    """Yield per part ln ‖g‖² and ln of the mean square of the pre-activations, (layers, points · seeds)."""
    planned, done = sum(len(part.weight) for part in parts) * seeds, 0
    threads = THREADS if all(can_be_revealed(part.network) for part in parts) else 1
    with ThreadPoolExecutor(threads) as pool:
        for part, found in zip(parts, pool.map(lambda each: _trace(each, seeds), parts), strict=True):
            done += len(part.weight) * seeds
            say(done, planned)
            yield found


def _trace(part: Batch, seeds: int) -> tuple[Float64Array, Float64Array]:
    activation = get_activation(part.network.activation)
    plain = source(part.network, part.seed, whole=not can_be_revealed(part.network), store=store_in(FLOAT64))
    several = len(part.weight) > 1
    weight = np.repeat(part.weight, seeds) if several else part.weight
    bias = np.repeat(part.bias, seeds) if several else part.bias
    origin = replace(plain, deviations=(weight[:, None, None], bias[:, None]))
    together = len(weight) if several else min(seeds, chunk(part.network, plain))
    found = [
        run(part.network, origin, activation, min(together, len(part.weight) * seeds - first))
        for first in range(0, len(part.weight) * seeds, together)
    ]
    return (
        np.concatenate([each.gradient for each in found], axis=1),
        np.concatenate([each.forward for each in found], axis=1),
    )
