"""Where a format fails, from a prediction alone, against gradients that are rounded to it."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import special

from gradcheck.errors import UsageError
from gradcheck.flow import predict
from gradcheck.flow.activations import get_activation
from gradcheck.flow.format_depth import entries_of, format_depth, shares
from gradcheck.formats import FORMATS, get_format


def rounded_gradients(
    activation: str,
    variance: float,
    width: int,
    depth: int,
    name: str,
    seed: int,
) -> np.ndarray:
    """Shares of zeros among open units, g rounded to a format at every step; (layers passed, networks)."""
    rng, act, fmt = np.random.default_rng(seed), get_activation(activation), get_format(name)
    found = []
    for _ in range(12):
        x, layers = rng.standard_normal(width), []
        for _ in range(depth):
            weight = rng.standard_normal((width, width)) * math.sqrt(variance / width)
            z = weight @ x
            layers.append((weight, act.derivative(z)))
            x = act.value(z)
        g, row = fmt.round(rng.standard_normal(width)), []
        for weight, slope in reversed(layers):
            g = fmt.round(g * slope)
            row.append(np.mean(g[slope != 0] == 0))
            g = fmt.round(weight.T @ g)
        found.append(row)
    return np.array(found).T


@pytest.mark.parametrize(
    ("activation", "variance", "name"),
    [
        ("relu", 1 / 3, "float16"),
        ("sigmoid", 1.0, "float16"),
        ("tanh", 0.25, "float16"),
        ("sigmoid", 1.0, "bfloat16"),
    ],
)
def test_half_the_entries_are_gone_where_it_is_predicted(activation: str, variance: float, name: str) -> None:
    width = 96
    limit = format_depth(predict(activation, variance, width=width), name)
    depth = math.ceil(limit.limit + limit.uncertainty + 2)
    gone = rounded_gradients(activation, variance, width, depth, name, 3)
    for column in gone.T:
        # Rows count from the cotangent's own layer, which has passed none.
        seen = int(np.argmax(column >= 0.5))
        assert abs(seen - limit.zero) <= limit.uncertainty


def test_the_shares_are_those_of_the_error_function_for_one_slope() -> None:
    said = predict("relu", 0.5, width=64)
    fmt = get_format("float16")
    zero, subnormal, infinite = shares(said, "float16", 30)
    s = np.exp(said.log_mean * np.arange(31) / 2) * math.sqrt(2)
    np.testing.assert_allclose(zero, special.erf(fmt.eta / (s * math.sqrt(2))), rtol=1e-12)
    np.testing.assert_allclose(
        zero + subnormal, special.erf(fmt.least_normal / (s * math.sqrt(2))), rtol=1e-12
    )
    assert np.all(infinite == 0)


def test_half_of_the_entries_have_failed_at_the_limit() -> None:
    for said in (predict("gelu", 1.0, width=64), predict("sigmoid", init="torch", width=64)):
        limit = format_depth(said, "float16")
        zero, subnormal, _ = shares(said, "float16", math.ceil(limit.zero))
        assert zero[math.floor(limit.zero)] <= 0.5 <= zero[math.ceil(limit.zero)]
        below = zero + subnormal
        assert below[math.floor(limit.subnormal)] <= 0.5 <= below[math.ceil(limit.subnormal)]


def test_exploding_gradients_end_in_infinity() -> None:
    said = predict("tanh", 9.0, width=64)
    limit = format_depth(said, "float16")
    assert limit.zero == math.inf and limit.limit == limit.overflow + 1 < limit.infinite
    infinite = shares(said, "float16", math.ceil(limit.infinite))[2]
    assert infinite[-2] <= 0.5 <= infinite[-1]
    wide = format_depth(predict("tanh", 9.0), "float16")
    assert math.isnan(wide.overflow) and wide.limit == wide.infinite


def test_formats_fail_in_the_order_of_their_ranges() -> None:
    limits = {f.name: format_depth(predict(init="torch", width=128), f.name).limit for f in FORMATS}
    assert limits["float16"] < limits["bfloat16"] < limits["float32"] < limits["float64"]


def test_a_healthy_network_never_fails() -> None:
    limit = format_depth(predict("relu"), "float16")
    assert limit.limit == math.inf == limit.subnormal


def test_the_scale_moves_the_limit_by_its_logarithm() -> None:
    said = predict("gelu", 2.0, width=64)
    near, far = (format_depth(said, "float16", scale=s).zero for s in (1.0, 2.0**20))
    assert far - near == pytest.approx(40 * math.log(2) / math.log(2), rel=1e-12)


def test_the_law_of_entries_is_that_of_slopes() -> None:
    entries = entries_of(predict("hardtanh", 1.0, 0.1))
    q = predict("hardtanh", 1.0, 0.1).q
    assert entries.alive == pytest.approx(special.erf(1 / math.sqrt(2 * q)), rel=1e-9)
    assert np.ptp(entries.slopes) == 0
    relu = entries_of(predict("relu", width=8), keep=0.5)
    assert relu.alive == 0.25 and relu.slopes == pytest.approx([2.0])
    assert relu.below(relu.quantile(0.3)) == pytest.approx(0.3)


def test_bad_input_is_refused() -> None:
    with pytest.raises(UsageError, match="unknown format 'float61': did you mean"):
        format_depth(predict(), "float61")
    with pytest.raises(UsageError, match="scale"):
        format_depth(predict(), "float16", scale=0.0)
