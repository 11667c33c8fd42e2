"""The article's pictures, from measured data: gradients per layer, a neuron, the measured network."""

from __future__ import annotations

import math

import numpy as np

from gradcheck import formulas
from gradcheck.flow.activations import get_activation
from gradcheck.flow.document import Chart, Series
from gradcheck.flow.drawing import Drawn, source
from gradcheck.flow.measuring import Measurement, measure_network
from gradcheck.flow.network import Network
from gradcheck.flow.study.plans import seed_of
from gradcheck.flow.verdict import expected_steps
from gradcheck.oracles.finite_difference import central

SEEDS, DEPTH, WIDTH = 64, 30, 128
VANISHING = (
    Network("sigmoid", DEPTH, WIDTH, init="xavier"),
    Network("relu", DEPTH, WIDTH, init="torch"),
    Network("tanh", DEPTH, WIDTH, init="xavier"),
    Network("relu", DEPTH, WIDTH),
)
EXPLODING = (
    Network("relu", DEPTH, WIDTH, weight_variance=4.0),
    Network("relu", DEPTH, WIDTH, norm="batch", batch=16),
    Network("tanh", DEPTH, WIDTH, weight_variance=4.0),
    Network("relu", DEPTH, WIDTH),
)
# The neuron of the picture: weights, the other input, the bias.
W1, W2, X2, B = 1.5, -0.8, 0.5, 0.25
SMALL = Network("relu", 5, 6)


def label(network: Network) -> str:
    """Return a short name of a network."""
    norm = f", batch norm over {network.examples}" if network.norm else ""
    return f"{network.activation_name}, σ_w² = {network.sigma_w2:.3g}{norm}"


def gradients(id: str, title: str, networks: tuple[Network, ...], seed: int, caption: str) -> Chart:
    """Return ‖g_l‖ per layer, measured as points with intervals of 95 %, predicted as lines."""
    series = []
    for place, network in enumerate(networks):
        m = measure_network(network, SEEDS, seed_of(seed, 3, place))
        series.extend(_pair(network, m))
    return Chart(
        id,
        "points",
        "layer, from the input",
        "‖g_l‖ / ‖g_L‖, typical",
        tuple(series),
        caption,
        title,
        y_log=True,
    )


def _pair(network: Network, m: Measurement) -> list[Series]:
    end = m.layers[-1].gradient
    x = tuple(float(k + 1) for k in range(network.depth))
    y = tuple(row.gradient - end for row in m.layers)
    low = tuple(row.gradient - end - 1.96 * row.error for row in m.layers)
    high = tuple(row.gradient - end + 1.96 * row.error for row in m.layers)
    pair = [Series(label(network), x, y, low, high)]
    if m.predicted is not None:
        steps = expected_steps(m.predicted, network.depth)
        line = [math.fsum(steps[k:]) / (2 * math.log(10)) for k in range(network.depth)]
        pair.append(Series(f"{label(network)}, exact", x, tuple(line), mark="line"))
    return pair


def neuron() -> Chart:
    """Return a sigmoid neuron of two inputs over x₁, with its partial derivatives and differences beside."""
    x1 = np.linspace(-4.0, 4.0, 65)
    z = W1 * x1 + W2 * X2 + B
    slope = formulas.sigmoid.derivative
    assert slope is not None
    lines = {
        "f": formulas.sigmoid(z),
        "∂f/∂x₁ = σ'(z) w₁": slope(z) * W1,
        "∂f/∂w₁ = σ'(z) x₁": slope(z) * x1,
        "∂f/∂b = σ'(z)": slope(z),
    }
    series = [Series(name, tuple(map(float, x1)), tuple(map(float, y))) for name, y in lines.items()]
    few = x1[::8]
    noise = np.full(len(few), 2.0**-50)
    moved = {
        "∂f/∂x₁, by differences": central(lambda x: formulas.sigmoid(W1 * x + W2 * X2 + B), few, noise).best,
        "∂f/∂w₁, by differences": central(
            lambda w: formulas.sigmoid(w * few + W2 * X2 + B), np.full(len(few), W1), noise
        ).best,
    }
    for name, found in moved.items():
        series.append(Series(name, tuple(map(float, few)), tuple(map(float, found)), mark="points"))
    return Chart(
        "figure-3",
        "line",
        "x₁",
        "f and its partial derivatives",
        tuple(series),
        f"A neuron f = σ(w₁x₁ + w₂x₂ + b) with w = ({W1}, {W2}), x₂ = {X2}, b = {B}. Each partial derivative "
        "is "
        "one number; their sum over inputs is none of them.",
        "Figure 3: a neuron and its partial derivatives",
    )


def structure(seed: int) -> Chart:
    """Return a small network as it was drawn and run: units that are open and shut, and its connections."""
    origin = source(SMALL, seed_of(seed, 4), whole=True, store=lambda x: x)
    activation = get_activation(SMALL.activation)
    x = origin.normal("input", 0, 1)
    shown: dict[str, list[tuple[float, float]]] = {"input and output": [], "open units": [], "shut units": []}
    shown["input and output"].extend((0.0, float(k)) for k in range(SMALL.width))
    thick: list[tuple[float, float]] = []
    for place in range(SMALL.depth):
        maps = origin.maps("weight", place, x)
        assert isinstance(maps, Drawn)
        z = maps.forward(x)
        strong = np.abs(maps.weight[0]) >= np.quantile(np.abs(maps.weight[0]), 0.75)
        for to, start in zip(*np.nonzero(strong), strict=True):
            thick.extend([(float(place), float(start)), (place + 1.0, float(to)), (math.nan, math.nan)])
        last = place == SMALL.depth - 1
        for unit, slope in enumerate(activation.derivative(z)[0, 0]):
            kind = "input and output" if last else "open units" if slope != 0 else "shut units"
            shown[kind].append((place + 1.0, float(unit)))
        x = activation.value(z)
    wires = Series("largest quarter of the weights", *_columns(thick), mark="line")
    nodes = [Series(name, *_columns(points)) for name, points in shown.items() if points]
    return Chart(
        "figure-4",
        "points",
        "layer",
        "unit",
        (wires, *nodes),
        f"A fully connected ReLU network of depth {SMALL.depth} and width {SMALL.width} as it was drawn; "
        "every two "
        "units of neighbouring layers are connected. A gradient passes the open units alone. The measured "
        "networks "
        f"are built alike, {DEPTH} layers of {WIDTH} units.",
        "Figure 4: the structure of a measured network",
    )


def _columns(points: list[tuple[float, float]]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    return tuple(x for x, _ in points), tuple(y for _, y in points)


def pictures(seed: int) -> tuple[Chart, ...]:
    """Return figures 1 to 4."""
    one = gradients(
        "figure-1",
        "Figure 1: gradients that vanish",
        VANISHING,
        seed,
        f"Typical norm of the gradient per layer over {SEEDS} networks of width {WIDTH}, from the output "
        "(right) to "
        "the input (left): it is lost by one factor in every layer. He's initialisation beside.",
    )
    two = gradients(
        "figure-2",
        "Figure 2: gradients that explode",
        EXPLODING,
        seed,
        f"The same for networks whose factor per layer is above 1, {SEEDS} networks of width {WIDTH}.",
    )
    return (one, two, neuron(), structure(seed))
