"""The smallest network that fails: Hypothesis draws networks, and shrinks the depth first, then the width.

Every layer has generators of its own, so a shallower network is the beginning of a deeper one and a failure
does not flicker while it shrinks. A network fails if the mean over its seeds does by three standard errors.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import Any

import numpy as np

from gradcheck.errors import UsageError, unknown_name
from gradcheck.flow.activations import get_activation
from gradcheck.flow.drawing import source
from gradcheck.flow.measuring import chunk, trace_network
from gradcheck.flow.network import Network
from gradcheck.flow.passes import run, store_in
from gradcheck.flow.statistics import DECADES, Estimate, over_networks
from gradcheck.flow.verdict import SICK
from gradcheck.formats import FORMATS, get_format

STANDARD_ERRORS = 3.0
# The share of a gradient's entries that are zero or infinite from which a format has failed.
FAILED = 0.5
WAYS = (*(fmt.name for fmt in FORMATS), "vanishing", "exploding")


@dataclass(frozen=True)
class Smallest:
    """The smallest failing network that was found, and how to see it fail again.

    `estimate` is what fails, with its standard error over `seeds` networks: the share of the first layer's
    entries that are zero or infinite in the format, or the decades of ‖g‖ lost or gained; `threshold` is what
    it passes by three standard errors. `shallower` and `narrower` are the same of the networks with one
    layer, one unit less (None at the least size): neither fails. `tried` counts networks.
    """

    network: Network
    fails_in: str
    estimate: Estimate
    threshold: float
    shallower: Estimate | None
    narrower: Estimate | None
    seeds: int
    seed: int
    tried: int

    @property
    def depth(self) -> int:
        """The number of layers."""
        return self.network.depth

    @property
    def width(self) -> int:
        """The number of units in a layer."""
        return self.network.width

    @property
    def replay(self) -> str:
        """A program that shows the failure again."""
        return (
            "from gradcheck.flow import Network, failure\n"
            f"network = {written(self.network)}\n"
            f"print(failure(network, {self.fails_in!r}, seeds={self.seeds}, seed={self.seed}))"
        )

    def __str__(self) -> str:
        what = "decades of ‖g‖" if self.fails_in in ("vanishing", "exploding") else "of the entries fail"
        return (
            f"{self.network.activation_name} fails in {self.fails_in} at depth {self.depth}, width "
            f"{self.width}: {self.estimate.value:.3g} ± {self.estimate.error:.2g} {what} "
            f"({self.estimate.count} networks)\n{self.replay}"
        )


def written(network: Network) -> str:
    """Return the expression that makes a network, defaults left out; a callable by its name."""
    plain = Network()
    given = []
    for name in Network.__dataclass_fields__:
        value = getattr(network, name)
        if value != getattr(plain, name):
            given.append(f"{name}={network.activation_name if callable(value) else repr(value)}")
    return f"Network({', '.join(given)})"


def failure(network: Network, fails_in: str, *, seeds: int = 16, seed: int = 0) -> Estimate:
    """Return how far a network fails, over `seeds` networks.

    For a format: the share of entries of the first layer's gradient that are zero or infinite when the
    backward pass runs in it. For "vanishing" and "exploding": the decades of ‖g‖ lost, gained, between the
    ends. Dead networks, which pass nothing in any format, are left out.
    """
    if fails_in not in WAYS:
        raise unknown_name("way to fail", fails_in, WAYS)
    activation = get_activation(network.activation)
    if fails_in in ("vanishing", "exploding"):
        wide = replace(network, format="float64")
        gradient = trace_network(wide, seeds, seed, activation, whole=True).gradient
        live = np.all(np.isfinite(gradient), axis=0)
        ends = (gradient[0] - gradient[-1]) * DECADES * (1 if fails_in == "exploding" else -1)
        return over_networks(ends[live])
    narrow = replace(network, format=fails_in)
    origin = source(narrow, seed, whole=True, store=store_in(get_format(fails_in)))
    together, shares = chunk(narrow, origin), []
    for start in range(0, seeds, together):
        trace = run(narrow, origin, activation, min(together, seeds - start), backward=True)
        shares.append((trace.zero[0] + trace.infinite[0])[trace.alive])
    return over_networks(np.concatenate(shares))


def threshold_of(fails_in: str) -> float:
    """Return what a failing network passes by three standard errors."""
    return SICK if fails_in in ("vanishing", "exploding") else FAILED


def surely(estimate: Estimate, fails_in: str, seeds: int) -> bool:
    """Whether the mean passes the threshold by three standard errors; half the networks must be alive."""
    return 2 * estimate.count >= seeds and estimate.value - STANDARD_ERRORS * estimate.error >= threshold_of(
        fails_in
    )


def find_smallest(
    activation: str | Callable[..., Any] | Sequence[str | Callable[..., Any]] = "sigmoid",
    init: str | Sequence[str] = "torch",
    fails_in: str = "float16",
    *,
    norm: str | Sequence[str | None] | None = None,
    max_depth: int = 64,
    min_width: int = 2,
    max_width: int = 32,
    seeds: int = 16,
    seed: int = 0,
    examples: int = 60,
    **fixed: Any,
) -> Smallest:
    """Find the smallest failing network: the least depth, and of that depth the least width.

    `activation`, `init` and `norm` are one choice each, or several to draw from. `fails_in` is a format,
    "vanishing" or "exploding". `fixed` are further fields of `Network`. `examples` bounds how many networks
    are drawn before shrinking. The same arguments give the same answer. Raises `UsageError` where no network
    fails.
    """
    choices = (_several(activation), _several(init), _several(norm))
    _refuse(fails_in, seeds, choices, fixed)
    known: dict[Network, Estimate] = {}

    def tried(network: Network) -> Estimate:
        if network not in known:
            known[network] = failure(network, fails_in, seeds=seeds, seed=seed)
        return known[network]

    def fails(network: Network) -> bool:
        return surely(tried(network), fails_in, seeds)

    found = _search(choices, fixed, (min_width, max_width, max_depth), examples, fails, seed)
    if found is None:
        raise UsageError(
            f"no network of depth ≤ {max_depth} and width ≤ {max_width} fails in {fails_in}; raise "
            "max_depth, or see measure(network).depth_limit for the depth at which one is expected to"
        )
    found = _descended(found, (min_width, max_width), fails)
    less = (_smaller(found, "depth", 2), _smaller(found, "width", min_width))
    shallower, narrower = (None if n is None else tried(n) for n in less)
    return Smallest(
        found, fails_in, tried(found), threshold_of(fails_in), shallower, narrower, seeds, seed, len(known)
    )


def _refuse(fails_in: str, seeds: int, choices: tuple[tuple[Any, ...], ...], fixed: dict[str, Any]) -> None:
    """Refuse what cannot be searched before anything is drawn; what is no network has its own message."""
    if fails_in not in WAYS:
        raise unknown_name("way to fail", fails_in, WAYS)
    if seeds < 3:
        raise UsageError(f"seeds: expected at least 3, for a mean with a standard error, got {seeds!r}")
    for activation, init, norm in itertools.product(*choices):
        Network(activation=activation, init=init, norm=norm, depth=2, width=2, **fixed)


def _several(value: Any) -> tuple[Any, ...]:
    return tuple(value) if isinstance(value, list | tuple) else (value,)


def _search(
    choices: tuple[tuple[Any, ...], ...],
    fixed: dict[str, Any],
    sizes: tuple[int, int, int],
    examples: int,
    fails: Callable[[Network], bool],
    seed: int,
) -> Network | None:
    from hypothesis import HealthCheck, Phase, find, settings
    from hypothesis import strategies as st
    from hypothesis.errors import NoSuchExample

    networks = st.builds(
        lambda depth, width, activation, init, norm: Network(
            activation=activation, init=init, norm=norm, depth=depth, width=width, **fixed
        ),
        st.integers(2, sizes[2]),
        st.integers(sizes[0], sizes[1]),
        *(st.sampled_from(each) for each in choices),
    )
    profile = settings(
        max_examples=examples,
        database=None,
        deadline=None,
        phases=(Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),
    )
    # The deepest network first: where it does not fail, few others do.
    for choice in range(len(choices[0])):
        deepest = Network(
            activation=choices[0][choice],
            init=choices[1][0],
            norm=choices[2][0],
            depth=sizes[2],
            width=sizes[1],
            **fixed,
        )
        if fails(deepest):
            break
    try:
        return find(networks, fails, settings=profile, random=Random(seed))
    except NoSuchExample:
        return deepest if fails(deepest) else None


def _smaller(network: Network, name: str, least: int) -> Network | None:
    value = getattr(network, name)
    return replace(network, **{name: value - 1}) if value > least else None


def _descended(network: Network, widths: tuple[int, int], fails: Callable[[Network], bool]) -> Network:
    """Return the least depth that still fails at some width, and of that depth the least width, step by step.

    Shrinking alone stops at a depth that is least for its own width; one layer less is tried at every third
    width or so, the widest first.
    """
    ladder = _ladder(*widths)[::-1]
    while network.depth > 2:
        shallower = (
            replace(network, depth=network.depth - 1, width=width) for width in (network.width, *ladder)
        )
        less = next((candidate for candidate in shallower if fails(candidate)), None)
        if less is None:
            break
        network = less
    while network.width > widths[0] and fails(replace(network, width=network.width - 1)):
        network = replace(network, width=network.width - 1)
    return network


def _ladder(low: int, high: int) -> list[int]:
    steps, width = [], low
    while width < high:
        steps.append(width)
        width = max(width + 1, width * 4 // 3)
    return [*steps, high]
