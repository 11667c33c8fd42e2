"""The chapter of the literature: published results, measured beside exact, each with its picture."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np

from gradcheck.flow.activations import get_activation
from gradcheck.flow.critical import critical_line
from gradcheck.flow.document import Chapter, Chart, Row, Series
from gradcheck.flow.measuring import predicted
from gradcheck.flow.network import Network
from gradcheck.flow.plain import MEAN_FIELD
from gradcheck.flow.rows_plain import GAINS
from gradcheck.flow.settling import settle
from gradcheck.flow.statistics import DECADES
from gradcheck.flow.study.plans import Size, extrapolation, needed, read, seed_of, sized, traced
from gradcheck.flow.study.readings import Reading, combined, judged_log, mean_of
from gradcheck.flow.study.theory import exact_error
from gradcheck.flow.verdict import expected_steps, step_factors

PLACE = 9


@dataclass(frozen=True)
class Part:
    """One published result: what is said of it, its rows and charts."""

    paragraph: str
    rows: tuple[Row, ...]
    charts: tuple[Chart, ...]


def measured_row(
    name: str,
    network: Network,
    quantity: str,
    exact: float,
    source: str,
    seed: int,
    *,
    skip: int | None = 0,
    limit: bool = False,
) -> Row:
    """Return a row that is read off networks of the width given, or for a limit of it and its half.

    `skip` layers at either end are left out; None leaves out what is not the limit yet.
    """
    shares = [1.0]
    networks = [network]
    if limit:
        narrow = replace(network, width=network.width // 2)
        networks, shares = [narrow, network], list(extrapolation(2.0, 1.0))
    plan = [
        Size(n, skip, n.depth - 1 - skip, share) if skip is not None else sized(n, quantity, share)
        for n, share in zip(networks, shares, strict=True)
    ]
    counts = needed(plan, quantity, exact, seed)
    found = []
    for k, (size, count) in enumerate(zip(plan, counts, strict=True)):
        own = read(size, quantity, count, seed_of(seed, k))
        found.append(replace(own, error=exact_error(size, quantity, own, exact)))
    note = "; ".join(
        f"width {s.network.width}: {r.value:.5g}, {r.networks} networks"
        for s, r in zip(plan, found, strict=True)
    )
    return judged_log(
        name,
        combined(found, shares),
        exact,
        logarithm=quantity == "log_mean",
        limit=limit,
        source=source,
        note=note,
    )


def points(label: str, x: list[float], readings: list[Reading], scale: float = 1.0) -> Series:
    """Return measured points with intervals of 95 %."""
    y = [r.value * scale for r in readings]
    reach = [1.96 * r.error * scale for r in readings]
    low, high = (tuple(a + sign * b for a, b in zip(y, reach, strict=True)) for sign in (-1, 1))
    return Series(label, tuple(x), tuple(y), low, high, mark="points")


def per_layer(network: Network, seeds: int, seed: int) -> list[Reading]:
    """Return log₁₀ of ‖g_l‖/‖g_L‖ per layer, typical, the layer next to the input first."""
    r = traced(network, seeds, seed).gradient
    return [mean_of((row - r[-1]) * DECADES) for row in r]


def exact_layers(network: Network) -> list[float]:
    """Return what theory says of `per_layer`."""
    p = predicted(network)
    assert p is not None
    steps = expected_steps(p, network.depth)
    return [math.fsum(steps[k:]) * DECADES for k in range(network.depth)]


def spread(seed: int) -> Part:
    """Glorot & Bengio: the spread of back-propagated gradients over the layers of tanh networks."""
    inits = (("1/√n uniform, σ_w² = 1/3", 1 / 3), ("normalised, σ_w² = 1", 1.0))
    rows, series = [], []
    for place, (name, variance) in enumerate(inits):
        network = Network("tanh", 5, 128, weight_variance=variance, distribution="gaussian")
        p = predicted(network)
        assert p is not None
        exact = math.prod(step_factors(p, network.depth))
        root = seed_of(seed, PLACE, 1, place)
        rows.append(
            measured_row(
                f"tanh, depth 5, {name}: E‖g₁‖²/‖g₅‖²", network, "retained", exact, GAINS, root, limit=True
            )
        )
        layers = [float(k + 1) for k in range(network.depth)]
        series.append(points(name, layers, per_layer(network, 200, root)))
        series.append(Series(f"{name}, exact", tuple(layers), tuple(exact_layers(network)), mark="line"))
    chart = Chart(
        "glorot", "points", "layer, from the input", "‖g_l‖ / ‖g_L‖", tuple(series),
        "Glorot & Bengio 2010, figure 7: the old initialisation loses gradient in every layer, the "
        "normalised one little.",
        "Spread of gradients over layers", y_log=True,
    )  # fmt: skip
    said = (
        "Glorot & Bengio, AISTATS 2010: weights of variance 1/(3n) lose gradient layer by layer; variance "
        "1/n keeps it."
    )
    return Part(said, tuple(rows), (chart,))


def thirty_layers(seed: int) -> Part:
    """He et al.: thirty ReLU layers under both initialisations."""
    rows, series = [], []
    for place, (name, init) in enumerate((("He", "kaiming"), ("Glorot", "xavier"))):
        network = Network("relu", 30, 64, init=init)
        p = predicted(network)
        assert p is not None
        root = seed_of(seed, PLACE, 2, place)
        rows.append(measured_row(f"30 ReLU layers, {name}: factor", network, "factor", p.factor, GAINS, root))
        rows.append(
            measured_row(
                f"30 ReLU layers, {name}: typical layer", network, "log_mean", p.log_mean, GAINS, root
            )
        )
        layers = [float(k + 1) for k in range(network.depth)]
        series.append(points(name, layers, per_layer(network, 200, root)))
        series.append(Series(f"{name}, exact", tuple(layers), tuple(exact_layers(network)), mark="line"))
    chart = Chart(
        "he", "points", "layer, from the input", "‖g_l‖ / ‖g_L‖", tuple(series),
        "He et al. 2015, section 2.2: without the factor 2 every layer halves ‖g‖², over 30 layers by 1e-9.",
        "Thirty ReLU layers", y_log=True,
    )  # fmt: skip
    said = (
        "He et al., arXiv:1502.01852: with σ_w² = 1 a ReLU network of 30 layers halves ‖g‖² in each; with 2 "
        "it keeps the "
        "mean, and the typical network loses 5/(2n) of it per layer."
    )
    return Part(said, tuple(rows), (chart,))


def phases(seed: int) -> Part:
    """Poole and Schoenholz: order and chaos of tanh networks, the critical line, depth scales."""
    act = get_activation("tanh")
    xs, ys = np.linspace(0.6, 2.4, 37), np.linspace(0.0, 0.6, 25)
    found = settle(act, xs[None, :] ** 2, ys[:, None] ** 2)
    with np.errstate(divide="ignore"):
        values = np.log10(found.factor)
    line = critical_line("tanh", np.geomspace(1e-4, 30.0, 120))
    edge = Series(
        "χ = 1", tuple(np.sqrt(line.weight_variance).tolist()), tuple(np.sqrt(line.bias_variance).tolist())
    )
    heat = Chart(
        "phases", "heat", "σ_w", "σ_b", caption="Poole et al. 2016, Schoenholz et al. 2017: gradients "
        "vanish to the left of the critical line and explode to its right.", title="Phase diagram of tanh",
        xs=tuple(xs.tolist()),
        ys=tuple(ys.tolist()), values=tuple(tuple(row) for row in values.tolist()),
        value_label="log₁₀ factor per layer", centre=0.0, contours=(edge,),
    )  # fmt: skip
    bias, rows, seen, places = 0.05, [], [], []
    for place, variance in enumerate((0.8, 1.2, 1.6, 2.4, 3.2)):
        at = settle(act, variance, bias)
        network = Network("tanh", 44, 128, weight_variance=variance, bias_variance=bias)
        root = seed_of(seed, PLACE, 3, place)
        name = f"tanh, σ_w² = {variance}, σ_b² = {bias}: factor"
        rows.append(
            measured_row(name, network, "factor", float(at.factor), MEAN_FIELD, root, skip=14, limit=True)
        )
        places.append(variance)
        seen.append(1 / abs(math.log(rows[-1].measured)))
    grid = np.linspace(0.5, 3.6, 125)
    scales = 1 / np.abs(np.log(settle(act, grid, bias).factor))
    chart = Chart(
        "scales", "line", "σ_w²", "depth scale ξ, layers",
        (Series("exact", tuple(grid.tolist()), tuple(np.log10(scales).tolist())),
         Series("measured", tuple(places), tuple(math.log10(x) for x in seen), mark="points")),
        f"Layers over which ‖g‖² changes by e, σ_b² = {bias}; it diverges on the critical line.",
        "Depth scales of tanh", y_log=True,
    )  # fmt: skip
    said = (
        "Poole et al., arXiv:1606.05340, and Schoenholz et al., arXiv:1611.01232: σ_w and σ_b decide between "
        "order "
        "(gradients vanish) and chaos (they explode); between them the depth scale diverges."
    )
    return Part(said, tuple(rows), (heat, chart))


def literature_chapter(seed: int, say: Callable[[str], None] | None = None) -> Chapter:
    """Return the chapter with every published result."""
    parts = []
    for part in all_parts(seed):
        parts.append(part)
        if say is not None:
            say(part.paragraph)
    return Chapter(
        "literature",
        "Published results, measured beside exact",
        tuple(part.paragraph for part in parts),
        tuple(row for part in parts for row in part.rows),
        tuple(chart for part in parts for chart in part.charts),
    )


def all_parts(seed: int) -> Iterator[Part]:
    """Yield the published results one after the other."""
    from gradcheck.flow.study import published

    makers = (
        spread, thirty_layers, phases, published.log_normal, published.batch_norm_rates,
        published.singular_values,
        published.residual_growth, published.dead_networks, published.borders, published.adam_steps,
    )  # fmt: skip
    for make in makers:
        yield make(seed)
