"""The chapter of defaults: what nn.Linear's own initialisation does with every activation."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from gradcheck.flow.activations import get_activation
from gradcheck.flow.critical import framework_defaults
from gradcheck.flow.document import Chapter, Chart, Row, Series, Table, judged
from gradcheck.flow.format_depth import FormatDepth, format_depth
from gradcheck.flow.limits import FormatLimit, run_format
from gradcheck.flow.network import Network
from gradcheck.flow.prediction import Prediction
from gradcheck.flow.study.literature import measured_row
from gradcheck.flow.study.plans import seed_of

FORMATS = ("float16", "bfloat16", "float32")
DECADES = (1.0, 3.0)
FAN_IN, WIDTH, NETWORKS = 128, 64, 12
SOURCE = "nn.Linear and nn.Conv2d of PyTorch; mean field with their own uniform biases"
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(48)
# What is run in its format: activations that lose much and little per layer.
RUNS = (
    ("relu", "float16"),
    ("tanh", "float16"),
    ("gelu", "float16"),
    ("sigmoid", "float16"),
    ("selu", "float16"),
    ("relu", "bfloat16"),
    ("sigmoid", "bfloat16"),
    ("sigmoid", "float32"),
    ("gelu", "float32"),
)


def decades_depth(p: Prediction, decades: float) -> float:
    """Return the layers over which ‖g‖ changes by so many decades in a typical network."""
    return 2 * math.log(10) * decades / abs(p.log_mean) if p.log_mean else math.inf


def format_row(activation: str, format: str, seed: int, p: Prediction, networks: int = NETWORKS) -> Row:
    """Return the row of a format that is run: within one layer and four predicted deviations, or beyond."""
    expected = format_depth(p, format)
    network = Network(activation=activation, init="torch", width=WIDTH)
    run = run_format(network, as_limit(expected), networks=networks, seed=seed)
    measured = math.nan if run.depth is None else run.depth - 1.0
    return judged(
        f"{format}, {activation}: layers until half the entries have failed",
        measured,
        expected.deviation,
        expected.limit,
        1.0,
        seeds=run.networks,
        source="gradcheck.flow.format_depth",
        note=f"run in {format} at width {WIDTH} to depth {run.ran}; one layer and four predicted deviations",
        normal=False,
    )


def as_limit(expected: FormatDepth) -> FormatLimit:
    """Return a predicted limit as the depth of a network to be run: its first layer has passed depth - 1."""
    depth = math.ceil(expected.limit) + 1 if math.isfinite(expected.limit) else None
    cause = "" if depth is None else "zero" if expected.limit == expected.zero else "infinite"
    return FormatLimit(expected.format, depth, None, cause, expected.deviation, True, ())


def default_factor(activation: str, bias_variance: float) -> float:
    """Return χ = E φ'(z)²/3 for z = √g G + U, G normal, U a uniform bias: g = E φ(z)²/3.

    The limit of wide layers as nn.Linear draws them. With Gaussian biases z would be normal; it is not where
    the biases are most of it and φ' has a kink.
    """
    act = get_activation(activation)
    normal = np.linspace(-9.0, 9.0, 1801)
    chances = np.exp(-0.5 * normal**2)
    chances = chances[:, None] / np.sum(chances) * (_WEIGHTS / 2)
    bias = math.sqrt(3 * bias_variance) * _NODES
    g = 1 / 3
    for _ in range(400):
        z = math.sqrt(g) * normal[:, None] + bias
        before, g = g, float(np.sum(chances * np.square(act.value(z)))) / 3
        if abs(g - before) <= 1e-13 * before:
            break
    return float(np.sum(chances * np.square(act.derivative(math.sqrt(g) * normal[:, None] + bias)))) / 3


def default_row(activation: str, seed: int) -> Row:
    """Return the row of nn.Linear's own draw: uniform weights and biases, the biases those of `FAN_IN`."""
    variance = 1 / (3 * FAN_IN)
    network = Network(activation=activation, depth=24, width=WIDTH, init="torch", bias_variance=variance)
    exact = default_factor(activation, variance)
    name = f"nn.Linear, {activation}: factor"
    return measured_row(name, network, "factor", exact, SOURCE, seed, skip=None, limit=True)


def frameworks_chapter(seed: int, runs: Sequence[tuple[str, str]] = RUNS) -> Chapter:
    """Return the table of all activations, with the formats that were run."""
    defaults = {name: p for name, p in framework_defaults(FAN_IN).items() if p.factor > 0}
    measured = {name: default_row(name, seed_of(seed, 2, k)) for k, name in enumerate(defaults)}
    narrow = framework_defaults(WIDTH)
    rows = [
        format_row(activation, format, seed_of(seed, 3, place), narrow[activation])
        for place, (activation, format) in enumerate(runs)
    ]
    heads = (
        "activation",
        "factor, exact",
        "factor, measured",
        "Gaussian biases",
        "ln ‖g‖² per layer",
        "1 decade",
        "3 decades",
        *FORMATS,
    )
    table = Table(
        "nn.Linear's default: layers until ‖g‖ has lost so much, or half its entries have failed",
        heads,
        tuple(_line(name, p, measured[name]) for name, p in defaults.items()),
    )
    apart = [n for n, p in defaults.items() if abs(p.factor / measured[n].exact - 1) > 1e-3]
    said = (
        "The default of nn.Linear and nn.Conv2d draws weights and biases of variance 1/(3 fan_in), "
        "uniformly. "
        f"Every activation of the catalogue then loses gradient in every layer. Widths {WIDTH // 2} and "
        f"{WIDTH} "
        f"are extrapolated with the biases of fan_in {FAN_IN} in both.",
        "Theory usually takes biases as Gaussian; that moves the factor by more than 0.1 % for: "
        f"{listed(apart)}.",
        f"A depth is that of the typical network of width {FAN_IN}. {len(rows)} networks of width {WIDTH} "
        "were "
        "run in their formats: within one layer and four predicted deviations, or beyond.",
    )
    every = (*measured.values(), *rows)
    return Chapter(
        "frameworks",
        "What the default initialisation does",
        said,
        every,
        (_chart(measured),),
        tables=(table,),
    )


def listed(names: Sequence[str]) -> str:
    """Return names as text; "none" for none."""
    return ", ".join(names) or "none"


def _line(name: str, p: Prediction, row: Row) -> tuple[str, ...]:
    depths = [decades_depth(p, d) for d in DECADES]
    limits = [format_depth(p, format) for format in FORMATS]
    return (
        name,
        f"{row.exact:.5g}",
        f"{row.measured:.4g} ± {row.standard_error:.1g}",
        f"{p.factor:.5g}",
        f"{p.log_mean:+.3f}",
        *(f"{depth:.1f}" for depth in depths),
        *(f"{limit.limit:.0f} ± {limit.deviation:.1g}" for limit in limits),
    )


def _chart(measured: dict[str, Row]) -> Chart:
    order = sorted(measured, key=lambda name: -measured[name].exact)
    places = tuple(map(float, range(len(order))))
    exact = tuple(math.log10(measured[name].exact) for name in order)
    seen = tuple(math.log10(measured[name].measured) for name in order)
    reach = [2 * measured[name].standard_error / measured[name].measured / math.log(10) for name in order]
    low = tuple(y - r for y, r in zip(seen, reach, strict=True))
    high = tuple(y + r for y, r in zip(seen, reach, strict=True))
    return Chart(
        "defaults",
        "bars",
        "activation",
        "factor of ‖g‖² per layer",
        (Series("exact", places, exact), Series("measured", places, seen, low, high, mark="points")),
        "Factor per layer under the default initialisation; at 1 a gradient would neither vanish nor "
        "explode.",
        y_log=True,
        categories=tuple(order),
        levels=(("neither", 0.0),),
    )
