"""Predictions against random networks that share no code with them: |z| < 4, missed once in 16,000."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest

from gradcheck.flow import predict
from gradcheck.flow.activations import get_activation
from gradcheck.flow.prediction import Prediction
from gradcheck.flow.rows_plain import dead_pair_probability
from tests.flow.simulation import (
    Net,
    Seen,
    extrapolated,
    factor_seen,
    log_mean_seen,
    log_variance_seen,
    simulate,
    steps_of,
)

LIMIT = 4.0
LEAKY = get_activation("leaky_relu", negative_slope=0.3)


def predicted(net: Net, width: int | None) -> Prediction:
    return predict(
        net.activation, net.weight_variance, net.bias_variance, width, net.norm,
        net.batch if net.norm == "batch" else None, net.keep, net.residual, weights=net.law, depth=net.depth,
    )  # fmt: skip


EXACT: Mapping[str, Net] = {
    "linear": Net("linear", 1.0),
    "ReLU": Net("relu", 2.0),
    "ReLU with biases": Net("relu", 2.0, 0.5),
    "leaky ReLU": Net(LEAKY, 2.0),
    "leaky ReLU with dropout": Net(LEAKY, 2.0, keep=0.7),
    "ReLU with dropout": Net("relu", 2.0, keep=0.8),
    "absolute value": Net(get_activation(np.abs), 1.0),
    "orthogonal ReLU": Net("relu", 2.0, law="orthogonal", width=16),
    "RMS norm, linear": Net("linear", 1.0, norm="rms"),
    "layer norm, linear": Net("linear", 1.0, norm="layer"),
    "residual ReLU": Net("relu", 2.0, residual=0.5),
    "residual ReLU with biases and dropout": Net("relu", 1.5, 0.3, residual=0.7, keep=0.8),
    "residual linear": Net("linear", 1.0, residual=0.5),
}


@pytest.mark.parametrize("name", EXACT)
def test_exact_laws_hold_at_their_width(name: str) -> None:
    net = EXACT[name]
    said = predicted(net, net.width)
    assert said.exact and said.log_exact
    steps = steps_of(net, 500, 11, 0, net.depth - 2)
    assert np.all(np.isfinite(steps))
    assert abs(factor_seen(steps).z(said.factor)) < LIMIT
    assert abs(log_mean_seen(steps).z(said.log_mean)) < LIMIT
    assert abs(log_variance_seen(steps).z(said.log_variance)) < LIMIT


def test_rectified_rms_norm_has_an_exact_logarithm_and_no_exact_mean() -> None:
    net = Net("relu", 1.0, norm="rms")
    said = predicted(net, net.width)
    assert said.log_exact and not said.exact
    steps = steps_of(net, 800, 12, 0, net.depth - 2)
    assert abs(log_mean_seen(steps).z(said.log_mean)) < LIMIT
    assert abs(log_variance_seen(steps).z(said.log_variance)) < LIMIT


def test_uniform_weights_have_the_exact_factor_and_nearly_the_logarithm() -> None:
    net = Net("relu", 2.0, law="uniform", width=64)
    said = predicted(net, net.width)
    assert said.exact and not said.log_exact
    steps = steps_of(net, 500, 13, 0, net.depth - 2)
    assert abs(factor_seen(steps).z(said.factor)) < LIMIT
    assert abs(log_mean_seen(steps).z(said.log_mean)) < LIMIT


@pytest.mark.parametrize("wrong", [1.02, 0.98])
def test_a_law_that_is_off_by_two_percent_is_noticed(wrong: float) -> None:
    net = Net("leaky_relu", 2.0, depth=40)
    steps = steps_of(net, 800, 14, 0, net.depth - 2)
    said = predicted(net, net.width)
    assert abs(log_mean_seen(steps).z(said.log_mean + np.log(wrong))) > LIMIT


def test_the_law_of_another_network_is_noticed() -> None:
    steps = steps_of(Net("relu", 2.0, keep=0.8), 500, 15, 0, 18)
    other = predict("relu", 2.5, width=32)
    # The mean is the same, by design; the logarithm's law is not.
    assert abs(factor_seen(steps).z(other.factor)) < LIMIT
    assert abs(log_variance_seen(steps).z(other.log_variance)) > LIMIT


LIMITS: Mapping[str, tuple[Net, int]] = {
    "tanh, chaotic": (Net("tanh", 2.25, 0.05), 8),
    "tanh, ordered": (Net("tanh", 0.8, 0.1), 8),
    "tanh with dropout": (Net("tanh", 2.25, 0.05, keep=0.8), 8),
    "sigmoid": (Net("sigmoid", 1.0), 6),
    "silu": (Net("silu", 1.5, 0.1), 8),
    "hardtanh": (Net("hardtanh", 2.0, 0.1), 8),
    "orthogonal tanh": (Net("tanh", 2.25, law="orthogonal"), 8),
    "layer norm, tanh": (Net("tanh", 2.0, norm="layer"), 3),
    "layer norm, ReLU": (Net("relu", 2.0, norm="layer"), 3),
    "RMS norm, GELU, biases": (Net("gelu", 2.0, 0.5, norm="rms"), 3),
    "batch norm, linear": (Net("linear", 1.0, norm="batch", batch=8), 8),
    "batch norm, ReLU": (Net("relu", 1.0, norm="batch", batch=16), 8),
    "batch norm, tanh": (Net("tanh", 1.0, norm="batch", batch=8), 8),
    "batch norm, sigmoid, dropout": (Net("sigmoid", 1.0, norm="batch", batch=8, keep=0.9), 8),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", LIMITS)
def test_limits_hold_extrapolated_from_two_widths(name: str) -> None:
    net, first = LIMITS[name]
    count = 150 if net.norm == "batch" or net.law == "orthogonal" else 300
    said = predicted(net, None)
    steps = [
        steps_of(Net(**{**vars(net), "width": width}), count * 48 // width, 16 + width, first, net.depth - 3)
        for width in (32, 64)
    ]
    assert abs(extrapolated(*map(factor_seen, steps)).z(said.factor)) < LIMIT
    assert abs(extrapolated(*map(log_mean_seen, steps)).z(said.log_mean)) < LIMIT


SPREADS: Mapping[str, tuple[Net, int]] = {
    "tanh": (Net("tanh", 2.25, 0.05, width=64), 6),
    "tanh, orthogonal": (Net("tanh", 2.25, law="orthogonal", width=48), 6),
    "RMS norm, tanh": (Net("tanh", 1.0, norm="rms", width=64), 3),
    "layer norm, ReLU": (Net("relu", 1.0, norm="layer", width=64), 3),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", SPREADS)
def test_spreads_between_networks_are_those_of_first_order(name: str) -> None:
    net, first = SPREADS[name]
    said = predicted(net, net.width)
    count = 200 if net.law == "orthogonal" else 400
    seen = log_variance_seen(steps_of(net, count, 17, first, net.depth - 3))
    assert abs(seen.z(said.log_variance)) < LIMIT


def test_the_variance_settles_where_it_should() -> None:
    for net in (Net("tanh", 2.25, 0.05), Net("gelu", 1.5, 0.1)):
        seen = []
        for width in (32, 64):
            squares = simulate(Net(**{**vars(net), "width": width}), 200, 18)[1]
            per_net = np.mean(squares[12:], axis=0)
            seen.append((np.mean(per_net), np.std(per_net, ddof=1) / np.sqrt(len(per_net))))
        value = 2 * seen[1][0] - seen[0][0]
        error = np.hypot(2 * seen[1][1], seen[0][1])
        assert abs(value - predicted(net, None).q) < LIMIT * error


@pytest.mark.parametrize(
    ("net", "exact"),
    [(Net("relu", 2.0, width=4, depth=12), 12), (Net("relu", 2.0, 0.5, width=4, depth=12), 12)],
)
def test_dead_networks_are_as_frequent_as_they_should_be(net: Net, exact: int) -> None:
    # Every layer has a mask here, the last one too.
    chance = 1 - (1 - predicted(net, net.width).dead) ** exact
    dead = np.isneginf(simulate(net, 4000, 19)[0][0])
    assert abs(np.mean(dead) - chance) < LIMIT * np.sqrt(chance * (1 - chance) / len(dead))


def test_two_inputs_die_together_less_often() -> None:
    rng, count, angle = np.random.default_rng(21), 200_000, 2.0
    weight = rng.standard_normal((count, 3, 2))
    both = np.array([[1.0, 0.0], [np.cos(angle), np.sin(angle)]])
    shut = np.all(weight @ both.T <= 0, axis=(1, 2))
    chance = dead_pair_probability(3, angle)
    assert abs(np.mean(shut) - chance) < LIMIT * np.sqrt(chance * (1 - chance) / count)
    assert chance < 0.5**3 == dead_pair_probability(3, 0.0)


def test_residual_blocks_follow_a_growing_stream() -> None:
    net = Net("gelu", 1.0, residual=0.5, depth=10)
    said = predicted(net, None)
    seen = []
    for width in (32, 64):
        logs = simulate(Net(**{**vars(net), "width": width}), 400, 20 + width)[0]
        # logs[l] is at the input of block l: between the first and the last lie all blocks but the last.
        ratio = np.exp(logs[0] - logs[-1])
        seen.append(Seen(float(np.mean(ratio)), float(np.std(ratio) / np.sqrt(len(ratio)))))
    assert abs(extrapolated(*seen).z(float(np.prod(said.path[:-1])))) < LIMIT
