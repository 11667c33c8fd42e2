"""Measure a random network: what its gradients do on the way through the layers, and what that is worth."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from gradcheck.errors import UsageError
from gradcheck.flow.activations import Activation, get_activation
from gradcheck.flow.drawing import Source, source
from gradcheck.flow.limits import FormatLimit, format_limit
from gradcheck.flow.network import Network
from gradcheck.flow.passes import Trace, joined, run, store_in
from gradcheck.flow.prediction import Prediction, predict_network
from gradcheck.flow.statistics import DECADES, Statistics, over_networks, summarise
from gradcheck.flow.verdict import FlowFinding, FlowVerdict, findings_of, judge
from gradcheck.formats import FORMATS, get_format

# Below so many values the ratios of batch norm have no variance: they need B - 5 > 0 degrees of freedom.
LEAST_BATCH = 6
# What the arrays of the networks that are held at once may take.
CHUNK_BYTES = 1 << 25


@dataclass(frozen=True)
class LayerRow:
    """One layer, over all networks that are neither dead nor broken; the first is next to the input.

    `gradient` is the mean of log10 ‖g‖ and `error` its standard error, `change` the decades gained from the
    layer above (towards the output) to this one, `weight_gradient` the mean of log10 ‖∂/∂W‖. `forward` is the
    mean square of the pre-activations. The other numbers are shares: of `dead` and `saturated` units, and of
    entries that are `zero`, `subnormal` and `infinite` in the network's format.
    """

    name: str
    kind: str
    gradient: float
    error: float
    change: float
    weight_gradient: float
    forward: float
    dead: float
    saturated: float
    zero: float
    subnormal: float
    infinite: float


@dataclass(frozen=True)
class Measurement:
    """What the gradients of a network do, with what it rests on.

    `factor` is the mean of ‖g_{l-1}‖²/‖g_l‖², `rate` the slope of E ln ‖g_l‖² per layer towards the input and
    `interval` its 95 % interval over networks; `span` the decades of ‖g‖ lost or gained. `depth_limit` gives
    per format the depth at which half the gradient's entries are zero or infinite, for a cotangent of unit
    entries; `limits` says more. `dispersion` is β = Var ln ‖g‖² between networks, end to end. `confidence` is
    the probability that more networks would confirm the verdict; NaN for one network.
    """

    subject: str
    verdict: FlowVerdict
    confidence: float
    factor: float
    rate: float
    interval: tuple[float, float]
    span: float
    layers: tuple[LayerRow, ...]
    depth_limit: Mapping[str, int | None]
    limits: Mapping[str, FormatLimit]
    dispersion: float
    dead: int
    broken: int
    seeds: int
    predicted: Prediction | None
    findings: tuple[FlowFinding, ...]
    statistics: Statistics
    network: Network | None = None

    @property
    def factor_error(self) -> float:
        """The standard error of the factor."""
        return self.statistics.factor.error

    @property
    def rate_error(self) -> float:
        """The standard error of the rate."""
        return self.statistics.rate.error

    @property
    def departs_at(self) -> str:
        """The layer nearest to the output at which ln ‖g‖² leaves the prediction; "" if none does."""
        return next((f.layer for f in self.findings if f.code == "FLOW-DEPARTS"), "")

    def __str__(self) -> str:
        from gradcheck.flow.text import describe

        return describe(self)


def measure(
    build: Network | Callable[..., Any],
    example_input: Any = None,
    seeds: int = 32,
    loss: Callable[..., Any] | None = None,
    *,
    seed: int = 0,
    whole: bool = False,
    loss_scale: float = 1.0,
) -> Measurement:
    """Measure the gradients of a `Network`, or of what `build(seed) -> nn.Module` makes.

    `seeds` networks are drawn, from the root `seed`. `example_input` is what the module takes: a tensor, an
    array, a tuple or a dict of such; a `Network` draws its own. `loss(output)` replaces the Gaussian
    cotangent of a module. `whole` draws every Gaussian matrix whole; otherwise dense layers in float64 draw
    only the products that the two passes form, whose law is the same. `loss_scale` multiplies the cotangent;
    nothing in the verdict depends on it.

    Raises `UsageError` for what cannot be measured, with what to do.
    """
    if isinstance(seeds, bool) or not isinstance(seeds, int) or seeds < 1:
        raise UsageError(f"seeds: expected a whole number of at least 1, got {seeds!r}")
    if not (math.isfinite(loss_scale) and loss_scale != 0):
        raise UsageError(f"loss_scale: expected a finite number other than 0, got {loss_scale!r}")
    if isinstance(build, Network):
        if example_input is not None or loss is not None:
            raise UsageError("a Network draws its own inputs and cotangent: leave example_input and loss out")
        return measure_network(build, seeds, seed, whole=whole, loss_scale=loss_scale)
    from gradcheck.flow.modules import gather, measured

    return measured(gather(build, example_input, seeds, loss, seed=seed, loss_scale=loss_scale))


def measure_network(
    network: Network, seeds: int = 32, seed: int = 0, *, whole: bool = False, loss_scale: float = 1.0
) -> Measurement:
    """Measure `seeds` networks of one specification; see `measure`."""
    activation = get_activation(network.activation)
    wide = replace(network, format="float64")
    whole = whole or network.format != "float64" or not can_be_revealed(network)
    trace = trace_network(wide, seeds, seed, activation, whole=whole)
    if loss_scale != 1.0:
        shift = 2 * math.log(abs(loss_scale))
        trace = replace(trace, gradient=trace.gradient + shift, weight_gradient=trace.weight_gradient + shift)
    narrow = (
        trace if network.format == "float64" else trace_network(network, seeds, seed, activation, whole=True)
    )
    shares = (narrow.zero, narrow.subnormal, narrow.infinite)
    names = tuple(f"{_kind(network)} {place + 1}" for place in range(network.depth))
    size = network.units * network.examples
    sizes = tuple(float(size * (1 - np.mean(idle))) for idle in trace.idle)
    return assemble(
        subject=summary(network),
        trace=replace(trace, zero=shares[0], subnormal=shares[1], infinite=shares[2]),
        names=names,
        kinds=(_kind(network),) * network.depth,
        sizes=sizes,
        predicted=predicted(network),
        network=network,
        findings=tuple(_of_network(network)),
    )


def _of_network(network: Network) -> Iterator[FlowFinding]:
    """Yield what is known of a network before it is run."""
    try:
        predict_network(network)
    except UsageError as error:
        yield FlowFinding("FLOW-UNPREDICTED", f"no law is known for this network: {error}")
    values = network.examples * (network.units // network.width)
    if network.norm == "batch" and values < LEAST_BATCH:
        yield FlowFinding(
            "FLOW-HEAVY",
            f"ratios of gradients over a batch of {values} have no variance: the factor, a sample mean, says "
            "nothing",
        )


def trace_network(network: Network, seeds: int, seed: int, activation: Activation, *, whole: bool) -> Trace:
    """Return what every layer of `seeds` networks showed, some networks at a time."""
    origin = source(network, seed, whole=whole, store=store_in(get_format(network.format)))
    together = chunk(network, origin)
    parts = []
    for start in range(0, seeds, together):
        parts.append(run(network, origin, activation, min(together, seeds - start)))
    return joined(parts)


def chunk(network: Network, origin: Source) -> int:
    """Return how many networks are held at once, so that their arrays stay within `CHUNK_BYTES`."""
    values = 6 * network.examples * network.units
    if origin.whole:
        values += network.width * network.fan_in * (1 if network.residual is None else 2)
    return max(1, CHUNK_BYTES // (8 * network.depth * values))


def can_be_revealed(network: Network) -> bool:
    """Whether the matrices need not be drawn whole, and drawing what is multiplied is less work."""
    return network.kind == "dense" and network.law == "gaussian" and 4 * network.examples <= network.width


def _kind(network: Network) -> str:
    return "block" if network.residual is not None else "layer"


def summary(network: Network) -> str:
    """Return one line that says what was measured."""
    shape = f"{network.kind}, depth {network.depth}, width {network.width}"
    parts = [network.activation_name, shape, f"{network.law} weights, σ_w² = {network.sigma_w2:.6g}"]
    if network.sigma_b2:
        parts.append(f"σ_b² = {network.sigma_b2:.6g}")
    if network.kind == "conv":
        parts.append(f"{network.kernel}×{network.kernel} on {network.size}×{network.size}, {network.padding}")
    if network.norm is not None:
        parts.append(
            f"{network.norm} norm" + (f" over {network.examples}" if network.norm == "batch" else "")
        )
    if network.keep != 1:
        parts.append(f"dropout keeping {network.keep:g}")
    if network.residual is not None:
        parts.append(f"residual, scale {network.residual}")
    return ", ".join(parts)


def predicted(network: Network) -> Prediction | None:
    """Return what theory says of a network; None where no law is known."""
    try:
        return predict_network(network)
    except UsageError:
        return None


def assemble(
    *,
    subject: str,
    trace: Trace,
    names: tuple[str, ...],
    kinds: tuple[str, ...],
    sizes: tuple[float, ...],
    predicted: Prediction | None,
    network: Network | None = None,
    findings: tuple[FlowFinding, ...] = (),
) -> Measurement:
    """Return the measurement that the traces of some networks amount to."""
    statistics = summarise(trace.gradient, trace.forward)
    verdict, confidence = judge(statistics)
    limits = {fmt.name: format_limit(statistics, sizes, fmt.name) for fmt in FORMATS}
    rows = _rows(trace, names, kinds)
    return Measurement(
        subject=subject,
        verdict=verdict,
        confidence=confidence,
        factor=statistics.factor.value,
        rate=statistics.rate.value,
        interval=statistics.rate.interval(),
        span=abs(statistics.span.value),
        layers=rows,
        depth_limit={name: limit.depth for name, limit in limits.items()},
        limits=limits,
        dispersion=statistics.dispersion,
        dead=statistics.dead,
        broken=statistics.broken,
        seeds=statistics.count,
        predicted=predicted,
        findings=(*findings, *findings_of(statistics, trace, names, predicted)),
        statistics=statistics,
        network=network,
    )


def _rows(trace: Trace, names: tuple[str, ...], kinds: tuple[str, ...]) -> tuple[LayerRow, ...]:
    kept = np.all(np.isfinite(trace.gradient), axis=0)
    kept = kept if np.any(kept) else np.ones_like(kept)
    rows = []
    above = math.nan
    with np.errstate(all="ignore"):
        for place in range(len(names) - 1, -1, -1):
            own = over_networks(trace.gradient[place, kept] * DECADES)
            rows.append(
                LayerRow(
                    name=names[place],
                    kind=kinds[place],
                    gradient=own.value,
                    error=own.error,
                    change=own.value - above,
                    weight_gradient=float(np.mean(trace.weight_gradient[place, kept]) * DECADES),
                    forward=float(np.exp(np.mean(trace.forward[place, kept]))),
                    dead=float(np.mean(trace.dead[place])),
                    saturated=float(np.mean(trace.saturated[place])),
                    zero=float(np.mean(trace.zero[place])),
                    subnormal=float(np.mean(trace.subnormal[place])),
                    infinite=float(np.mean(trace.infinite[place])),
                )
            )
            above = own.value
    return tuple(reversed(rows))
