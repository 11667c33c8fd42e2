"""Depth limits of formats: predicted from the rate in float64, confirmed by running the format."""

from __future__ import annotations

import math

import numpy as np
import pytest

from gradcheck.errors import UsageError
from gradcheck.flow import Network, measure, run_format
from gradcheck.flow.limits import shares_at
from gradcheck.formats import BFLOAT16, FLOAT16, FLOAT32, FLOAT64

SIGMOID = Network(activation="sigmoid", init="torch", depth=12, width=24)
RELU = Network(activation="relu", init="torch", bias=False, depth=14, width=32)


@pytest.mark.parametrize("name", ["float16", "bfloat16", "float32"])
@pytest.mark.parametrize("network", [SIGMOID, RELU], ids=["sigmoid", "relu"])
def test_the_predicted_depth_is_confirmed_by_running_the_format(network: Network, name: str) -> None:
    m = measure(network, seeds=32)
    ran = run_format(network, m.limits[name], networks=8)
    assert m.limits[name].cause == "zero"
    assert ran.depth is not None
    assert ran.confirmed
    assert ran.ran > ran.depth


def test_batch_norm_overflows_float16_where_it_is_predicted_to() -> None:
    network = Network(activation="relu", norm="batch", batch=16, depth=20, width=24)
    m = measure(network, seeds=16)
    ran = run_format(network, m.limits["float16"], networks=6)
    assert m.limits["float16"].cause == "infinite"
    assert ran.depth is not None
    assert ran.confirmed


def test_a_wrong_prediction_is_not_confirmed() -> None:
    from dataclasses import replace

    limit = measure(SIGMOID, seeds=16).limits["float16"]
    assert limit.depth is not None
    for wrong in (limit.depth + 4, limit.depth - 4):
        assert not run_format(SIGMOID, replace(limit, depth=wrong), networks=6).confirmed


def test_the_shares_seen_are_those_of_gaussian_entries() -> None:
    network = Network(activation="linear", weight_variance=0.05, depth=14, width=64)
    m = measure(network, seeds=64)
    ran = run_format(network, m.limits["float16"], networks=24)
    expected = {s.depth: s for s in m.limits["float16"].shares}
    for seen in ran.shares[4:14]:
        # 24 networks of 64 entries, correlated by their common norm: five deviations of the share at least.
        assert abs(seen.zero - expected[seen.depth].zero) < 0.15
        assert abs(seen.subnormal - expected[seen.depth].subnormal) < 0.15
    assert ran.shares[0].failed == 0
    assert ran.shares[-1].failed > 0.5


def test_shares_of_a_deviation() -> None:
    theta = FLOAT16.eta
    assert math.isclose(shares_at(1, theta / 0.6744897501960817, FLOAT16).zero, 0.5, rel_tol=1e-12)
    draws = np.random.default_rng(0).standard_normal(200_000) * 1e-6
    rounded = np.abs(draws.astype(np.float16).astype(np.float64))
    shares = shares_at(1, 1e-6, FLOAT16)
    assert abs(np.mean(rounded == 0) - shares.zero) < 0.005
    assert abs(np.mean((rounded > 0) & (rounded < FLOAT16.least_normal)) - shares.subnormal) < 0.005
    huge = np.random.default_rng(1).standard_normal(200_000) * 5e4
    with np.errstate(over="ignore"):
        lost = np.mean(np.isinf(huge.astype(np.float16)))
    assert abs(lost - shares_at(1, 5e4, FLOAT16).infinite) < 0.005
    for fmt in (FLOAT64, FLOAT32, BFLOAT16):
        assert shares_at(1, 1.0, fmt).failed < 1e-37
        assert shares_at(1, 0.0, fmt).zero == 1


def test_the_limit_does_not_depend_on_the_loss() -> None:
    limits = [measure(SIGMOID, seeds=8, loss_scale=c).depth_limit for c in (1e-8, 1.0, 1e8)]
    assert limits[0] == limits[1] == limits[2]
    assert limits[0]["float16"] < limits[0]["bfloat16"] < limits[0]["float32"] < limits[0]["float64"]


def test_a_network_that_keeps_its_gradient_has_no_limit() -> None:
    m = measure(Network(activation="linear", init="orthogonal", depth=12, width=16), seeds=8)
    assert set(m.depth_limit.values()) == {None}
    ran = run_format(m.network, m.limits["float16"], networks=4)
    assert ran.depth is None
    assert ran.confirmed


def test_a_measurement_in_a_format_shows_its_shares_per_layer() -> None:
    m = measure(Network(activation="sigmoid", init="torch", depth=14, width=24, format="float16"), seeds=8)
    wide = measure(Network(activation="sigmoid", init="torch", depth=14, width=24), seeds=8, whole=True)
    assert m.layers[0].zero == 1.0
    assert m.layers[6].subnormal > 0.5
    assert m.layers[-1].zero == 0.0
    assert all(row.zero == 0 for row in wide.layers)
    assert m.rate == wide.rate


def test_what_would_take_too_much_memory_is_refused() -> None:
    network = Network(activation="relu", depth=20, width=2048)
    limit = measure(network, seeds=4).limits["float16"]
    from dataclasses import replace

    with pytest.raises(UsageError, match="take a smaller width"):
        run_format(network, replace(limit, depth=5000))
