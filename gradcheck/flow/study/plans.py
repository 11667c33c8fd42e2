"""How a row of the theory is measured: sizes, depth, the layers that are read, and how many networks.

A mean over S networks of L steps has the relative error √(v/(LS)), v the variance of ln ‖g‖² that a layer
adds (5/n for ReLU, 2/n for linear networks); a variance over S·L steps has √(2/(SL)), a share p has
√((1 - p)/(pS)). An extrapolation 2m(2n) - m(n) doubles the error of the wide one. S is chosen from these
for a relative error of `TARGET`; where v is not known it is measured on `PILOT` networks first, and falls as
1/n. Of several sizes with shares w each gets S in proportion to w √v.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np

from gradcheck.flow.activations import get_activation
from gradcheck.flow.measuring import predicted, trace_network
from gradcheck.flow.network import Network
from gradcheck.flow.passes import Trace
from gradcheck.flow.prediction import Prediction, predict
from gradcheck.flow.statistics import READOUT
from gradcheck.flow.study.readings import BLOCK, READERS, Reading

TARGET, LARGEST_ERROR = 0.0045, 0.005
PILOT = 48
# The factor of a layer is that of the limit where it is as near.
SETTLED = 3e-4
STEPS = 20
MOST = 200_000
RARE, CHEAP = 100, 500


@dataclass(frozen=True)
class Size:
    """One network of a plan, the window that is read, and the share of its reading in the result.

    The shares of a plan add up to 1; those that cancel an error are negative.
    """

    network: Network
    first: int
    last: int
    share: float = 1.0


def seed_of(seed: int, *place: int) -> int:
    """Return the root of one measurement, so that no two share their numbers."""
    return int(np.random.SeedSequence((seed, *place)).generate_state(1)[0])


def is_whole(network: Network) -> bool:
    """Whether matrices must be drawn whole: only Gaussian ones met by few inputs need not."""
    return not (
        network.kind == "dense" and network.law == "gaussian" and 4 * network.examples <= network.width
    )


@lru_cache(maxsize=3)
def traced(network: Network, seeds: int, seed: int) -> Trace:
    """Return what the layers of `seeds` networks showed; kept for the rows that read the same networks."""
    return trace_network(network, seeds, seed, get_activation(network.activation), whole=is_whole(network))


def sizes(
    arguments: Mapping[str, Any], quantity: str, limit: bool, *, batch: bool = True
) -> tuple[Size, ...]:
    """Return the one network of an exact row, or those of a limit, the narrow ones first.

    `batch` False says that the limit is also one of many inputs.
    """
    network = Network(**arguments)
    if not limit:
        return (sized(network, quantity, 1.0),)
    # A limit is that of any law of the weights; it takes biases as Gaussian.
    network = replace(network, distribution="gaussian" if network.law == "uniform" else network.distribution)
    shares = [(network, 1.0)]
    if network.norm == "batch" and not batch:
        # The error falls as 1/(B - 3), where inputs are few beside units: 7e-4 is left of it.
        shares = [
            (replace(network, batch=b), s) for b, s in zip((8, 32), extrapolation(1 / 5, 1 / 29), strict=True)
        ]
    return tuple(
        sized(replace(n, width=width), quantity, outer * inner)
        for n, outer in shares
        for width, inner in _widths(n, quantity)
    )


def _widths(network: Network, quantity: str) -> tuple[tuple[int, float], ...]:
    """Return two widths and their shares, for an error that falls as 1/n."""
    wide, k = network.width, 2
    if network.norm == "batch":
        # Inputs must be few beside units.
        wide = 2 * wide
    elif network.kind == "conv":
        # Maps cost much: far apart, so that errors grow less.
        k = 4
    elif quantity == "dispersion":
        # The error of β at width n is 20/n² for ReLU: wide layers, and far apart, so that errors grow less.
        wide, k = wide * 3 // 2, 4
    narrow = wide // k
    first, second = extrapolation(1 / narrow, 1 / wide)
    return ((narrow, first), (wide, second))


def extrapolation(first: float, second: float) -> tuple[float, float]:
    """Return the shares of two readings whose errors are proportional to `first` and `second`."""
    return -second / (first - second), first / (first - second)


def sized(network: Network, quantity: str, share: float) -> Size:
    """Give a limit the depth at which it has settled and `STEPS` steps are left."""
    if quantity in ("dispersion", "retained"):
        return Size(network, 0, network.depth - 1, share)
    first = 0
    if network.norm is None and network.residual is None and network.kind == "dense":
        first = _transient(network)
        if share != 1:
            network = replace(network, depth=max(network.depth, first + READOUT + STEPS + 1))
    return Size(network, first, network.depth - 1 - READOUT, share)


def _transient(network: Network) -> int:
    """Return how many layers at the input are farther than `SETTLED` from the limit: it nears as χ∥^l."""
    start = law_of(replace(network, depth=2), path=True)
    if start is None or not 0 < start.factor < math.inf or start.path[0] == start.factor:
        return 0
    away = abs(math.log(start.path[0] / start.factor)) + 0.1
    return max(0, math.ceil(math.log(SETTLED / away) / math.log(min(max(start.stability, 1e-3), 0.99))))


@lru_cache(maxsize=512)
def law_of(network: Network, path: bool = False) -> Prediction | None:
    """Return what theory says of a network; of plain ones without single layers, unless `path`."""
    if path or network.norm is not None or network.residual is not None or network.kind != "dense":
        return predicted(network)
    return predict(
        network.activation,
        network.sigma_w2,
        network.sigma_b2,
        network.width,
        keep=network.keep,
        weights=network.law,
    )


def needed(sizes: Sequence[Size], quantity: str, exact: float, seed: int) -> tuple[int, ...]:
    """Return how many networks of every size give `TARGET` together."""
    parts = [
        abs(size.share) * math.sqrt(v)
        for size, v in zip(sizes, _of_one(sizes, quantity, exact, seed), strict=True)
    ]
    total = math.fsum(parts)
    if quantity == "dead":
        # Enough networks of the rarer kind for their number to be nearly normal.
        return (max(math.ceil(parts[0] ** 2 / TARGET**2), math.ceil(RARE / min(exact, 1 - exact))),)
    return tuple(
        max(_fewest(size.network), min(MOST, math.ceil(part * total / TARGET**2)))
        for size, part in zip(sizes, parts, strict=True)
    )


def _fewest(network: Network) -> int:
    """Return how many networks cost nothing: those of which two vectors per layer are drawn."""
    return PILOT if is_whole(network) or network.examples > 1 else CHEAP


def _of_one(sizes: Sequence[Size], quantity: str, exact: float, seed: int) -> list[float]:
    """Return the relative variance of what one network of each size contributes."""
    lengths = [size.last - size.first for size in sizes]
    if exact == 0 and quantity == "log_variance":
        return [0.0] * len(sizes)
    if quantity in ("log_variance", "dispersion"):
        # Sums of steps are more heavy-tailed than normal numbers, whose variance this is with 2.
        return [2.6 / (length // (BLOCK if quantity == "log_variance" else 1)) for length in lengths]
    if quantity == "dead":
        return [(1 - exact) / exact]
    laws = [law_of(size.network) for size in sizes]
    if quantity in ("factor", "log_mean") and all(
        p is not None and math.isfinite(p.log_variance) for p in laws
    ):
        return [p.log_variance / length for p, length in zip(laws, lengths, strict=True) if p is not None]
    found: dict[int | None, float] = {}
    result = []
    for size in sizes:
        network = size.network
        if network.batch not in found:
            pilot = READERS[quantity](traced(network, PILOT, seed_of(seed, 1)), size.first, size.last)
            found[network.batch] = 1.5 * pilot.networks * (pilot.error / pilot.value) ** 2 * network.width
        result.append(found[network.batch] / network.width)
    return result


def read(size: Size, quantity: str, networks: int, seed: int) -> Reading:
    """Return one reading of a size."""
    return READERS[quantity](traced(size.network, networks, seed), size.first, size.last)
