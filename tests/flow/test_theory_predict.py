"""What `predict` returns: fixed points, errors, initialisations, speed, and what it refuses."""

from __future__ import annotations

import math
import time
from typing import Any

import numpy as np
import pytest

from gradcheck.errors import UsageError
from gradcheck.flow import Prediction, predict
from gradcheck.flow.activations import activation_formulas, get_activation
from gradcheck.flow.critical import critical_line, framework_defaults, gains
from gradcheck.flow.moments import moments
from gradcheck.flow.network import Network
from gradcheck.flow.prediction import predict_network
from gradcheck.flow.setting import GAUSSIAN_BIASES, initial
from gradcheck.flow.settling import settle
from gradcheck.flow.study.frameworks import default_factor


@pytest.mark.parametrize("name", ["linear", *sorted(activation_formulas())])
@pytest.mark.parametrize("variances", [(0.3, 0.0), (1.0, 0.1), (2.5, 0.3)])
def test_a_fixed_point_is_where_the_map_ends(name: str, variances: tuple[float, float]) -> None:
    w, b = variances
    at = settle(get_activation(name), w, b)
    q = 1.0
    for _ in range(60):
        if not 1e-12 < q < 1e12:
            break
        q = w * float(moments(get_activation(name), q).square) + b
    outcome = str(at.outcome)
    if outcome == "settles":
        remaining = max(abs(float(at.stability)), 0.05) ** 60
        assert q == pytest.approx(float(at.q), rel=1e-9 + 20 * remaining)
    elif outcome == "vanishes":
        assert q < 0.2
    else:
        assert outcome in ("grows", "stays") and (q > 3 or outcome == "stays")


def test_a_map_that_falls_is_run() -> None:
    at = settle(get_activation(lambda x: np.exp(-x * x)), 4.0, 0.0)
    assert str(at.outcome) == "settles" and float(at.stability) < 0
    q = float(at.q)
    assert 4.0 * float(moments(get_activation(lambda x: np.exp(-x * x)), q).square) == pytest.approx(
        q, rel=1e-12
    )


def test_a_map_that_turns_for_ever_says_so() -> None:
    bump = get_activation(lambda x: 40 * np.exp(-0.5 * x * x) * x**2)
    at = settle(bump, 3.0, 0.01, start=0.2)
    assert str(at.outcome) in ("oscillates", "settles")
    assert float(at.factor) > 0


def test_the_edge_of_chaos_of_tanh_is_at_one() -> None:
    for variance, low, high in ((0.99, 0.98, 1.0), (1.0, 1.0 - 1e-12, 1.0 + 1e-12), (1.01, 1.0, 1.02)):
        assert low <= predict("tanh", variance, 0.0).factor <= high
    assert predict("tanh", 1.0).critical and not predict("tanh", 1.001).critical


@pytest.mark.parametrize("name", ["tanh", "sigmoid", "hardtanh", "gelu", "silu"])
def test_on_the_critical_line_the_factor_is_one(name: str) -> None:
    line = critical_line(name, [0.05, 0.4, 1.5])
    for w, b, stability in zip(line.weight_variance, line.bias_variance, line.stability, strict=True):
        # An unstable fixed point, or one that is not met first, is on the line and not where layers settle.
        if np.isfinite(w) and stability < 0.98:
            assert predict(name, float(w), float(b)).factor == pytest.approx(1, abs=1e-9)


def test_the_critical_line_of_relu_is_a_point() -> None:
    line = critical_line("relu", [0.1, 10.0])
    assert line.weight_variance == pytest.approx([2, 2]) and list(line.bias_variance) == [0, 0]


def test_gains_stand_beside_those_of_the_framework() -> None:
    torch = pytest.importorskip("torch")
    for name in ("linear", "sigmoid", "tanh", "relu", "leaky_relu", "selu"):
        assert gains(name).framework == pytest.approx(torch.nn.init.calculate_gain(name))
    assert gains("relu").forward == pytest.approx(math.sqrt(2)) == gains("relu").backward
    # PyTorch's gains of tanh and SELU keep neither variance at q = 1.
    assert abs(gains("tanh").framework - gains("tanh").forward) > 0.05
    assert gains("selu").forward == pytest.approx(1, abs=1e-7)
    assert gains("gelu").framework is None


@pytest.mark.parametrize(
    ("name", "fans", "variance", "weights"),
    [
        ("torch", (64, 64), 1 / 3, "uniform"),
        ("kaiming", (64, 32), 2.0, "gaussian"),
        ("xavier", (64, 64), 1.0, "gaussian"),
        ("xavier", (96, 32), 1.5, "gaussian"),
        ("lecun", (10, 99), 1.0, "gaussian"),
        ("orthogonal", (64, 64), 1.0, "orthogonal"),
        ("orthogonal", (32, 128), 0.25, "orthogonal"),
        ("he_uniform", (64, 64), 2.0, "uniform"),
        ("glorot_uniform", (64, 64), 1.0, "uniform"),
    ],
)
def test_initialisations_have_their_variances(
    name: str, fans: tuple[int, int], variance: float, weights: str
) -> None:
    found = initial(name, *fans)
    assert found.weight_variance == pytest.approx(variance, rel=1e-12) and found.weights == weights
    assert found.bias_variance == pytest.approx(1 / (3 * fans[0]) if name == "torch" else 0)


def test_initialisations_are_those_of_the_framework() -> None:
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    layer = torch.nn.Linear(400, 400)
    found = initial("torch", 400)
    weights = layer.weight.detach().numpy().astype(np.float64)
    assert abs(np.mean(weights**2) * 400 / found.weight_variance - 1) < 4 * math.sqrt(0.8 / weights.size)
    bias = layer.bias.detach().numpy().astype(np.float64)
    assert abs(np.mean(bias**2) / found.bias_variance - 1) < 4 * math.sqrt(0.8 / bias.size)


def test_framework_defaults_vanish_for_every_activation() -> None:
    found = framework_defaults(128)
    assert set(found) == {"linear", *activation_formulas()}
    assert all(p.factor < 0.64 for p in found.values())
    assert found["relu"].factor == pytest.approx(1 / 6) and found["relu"].exact
    assert found["sigmoid"].factor == pytest.approx(0.02, rel=1e-2)


def test_a_batch_of_many_is_the_limit_of_batches() -> None:
    for name in ("relu", "tanh", "gelu"):
        limit = predict(name, norm="batch").factor
        gaps = [predict(name, norm="batch", batch=b).factor - limit for b in (16, 32, 64)]
        assert 1.8 < gaps[0] / gaps[1] < 2.4 and 1.8 < gaps[1] / gaps[2] < 2.2
    assert predict("relu", norm="batch").factor == pytest.approx(math.pi / (math.pi - 1), rel=1e-14)


@pytest.mark.parametrize("batch", [4, 5, 8, 32])
def test_batch_norm_has_its_closed_forms(batch: int) -> None:
    from gradcheck.flow.batch_norm import linear_factor, rectified_factor

    for name, form in (("linear", linear_factor), ("relu", rectified_factor)):
        said = predict(name, norm="batch", batch=batch)
        assert abs(said.factor - form(batch)) <= said.error
        assert said.error < 1e-12


def test_what_is_normalised_does_not_depend_on_the_weights() -> None:
    for norm in ("batch", "layer", "rms"):
        a, b = (predict("gelu", v, norm=norm).factor for v in (0.1, 10.0))
        assert a == pytest.approx(b, rel=1e-14)


def test_networks_are_predicted_from_their_specification() -> None:
    assert predict_network(Network("relu", width=64)) == predict("relu", 2.0, 0.0, 64, depth=20)
    several = predict_network(Network("relu", width=64, batch=4))
    assert several.exact and not several.log_exact
    circular = predict_network(Network("relu", kind="conv", padding="circular"))
    zeros = predict_network(Network("relu", kind="conv", padding="zeros"))
    assert circular.factor == pytest.approx(1) and zeros.factor < 0.95
    with pytest.raises(UsageError, match="no known law"):
        predict_network(Network("relu", kind="conv", norm="batch"))


def test_the_depth_scale_is_that_of_the_factor() -> None:
    assert predict("tanh", 0.5).depth_scale == pytest.approx(1 / math.log(2))
    assert predict("relu").depth_scale == math.inf


def test_assumptions_and_sources_are_said() -> None:
    for said in (predict(), predict("tanh", width=64), predict("relu", norm="batch", batch=8)):
        assert isinstance(said, Prediction)
        assert said.assumptions and "arXiv" in said.source
    assert any("jumps at 0.0" in text for text in predict(np.sign).assumptions)


def test_gaussian_biases_are_an_assumption_where_their_law_matters() -> None:
    kinds: tuple[dict[str, Any], ...] = ({}, {"norm": "layer"}, {"residual": 1.0, "depth": 8})
    for more in kinds:
        assert GAUSSIAN_BIASES in predict("tanh", 1.0, 0.1, **more).assumptions
        assert GAUSSIAN_BIASES not in predict("tanh", 1.0, **more).assumptions
    assert GAUSSIAN_BIASES not in predict("relu", 1.0, 0.1).assumptions
    assert GAUSSIAN_BIASES not in predict("gelu", 1.0, 0.1, norm="batch").assumptions
    assert GAUSSIAN_BIASES not in predict("tanh", 1.0, 0.1, norm="batch", residual=1.0, depth=8).assumptions


def test_uniform_biases_move_the_factor_by_what_the_assumption_says() -> None:
    defaults = framework_defaults(128)
    off = {n: p.factor / default_factor(n, 1 / 384) - 1 for n, p in defaults.items() if p.factor > 0}
    assert off.pop("softsign") == pytest.approx(0.009, abs=5e-4)
    assert 1e-3 < max(map(abs, off.values())) < 2e-3
    assert "0.9 % for softsign with 128 inputs, by 0.2 % at most" in GAUSSIAN_BIASES


def test_a_prediction_costs_milliseconds() -> None:
    predict("gelu", 1.0)
    taken = []
    for variance in (1.11, 1.37, 1.73, 0.9, 1.2):
        begun = time.process_time()
        predict("gelu", variance, 0.2, width=256)
        taken.append(time.process_time() - begun)
    assert np.median(taken) < 0.05


@pytest.mark.slow
def test_an_atlas_of_1600_points_costs_seconds() -> None:
    begun = time.process_time()
    at = settle(get_activation("gelu"), np.linspace(0.2, 4, 40)[:, None] ** 2, np.linspace(0, 2, 40))
    assert at.factor.shape == (40, 40) and np.all(np.isfinite(at.factor))
    assert time.process_time() - begun < 10


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"activation": "rleu"}, "did you mean 'relu'"),
        ({"activation": 3}, "expected a name or a callable"),
        ({"weight_variance": 0.0}, "weight_variance: expected a finite number above 0, got 0.0"),
        ({"weight_variance": -1.0}, "got -1.0"),
        ({"weight_variance": math.nan}, "got nan"),
        ({"weight_variance": math.inf}, "got inf"),
        ({"weight_variance": "2"}, "got '2'"),
        ({"bias_variance": -0.1}, "bias_variance: expected a finite number of at least 0"),
        ({"bias_variance": math.nan}, "got nan"),
        ({"gain": 0.0}, "gain: expected a finite number above 0"),
        ({"width": 0}, "width: expected a whole number of at least 2, got 0"),
        ({"width": 1}, "a single unit is dead or alive"),
        ({"width": 2.5}, "got 2.5"),
        ({"norm": "bach"}, "did you mean 'batch'"),
        ({"norm": "batch", "batch": 1}, "normalised to 0"),
        ({"norm": "batch", "batch": 2}, "normalised to ±1"),
        ({"norm": "batch", "batch": 3}, "infinite"),
        ({"norm": "layer", "width": 3}, "at least 4 with layer"),
        ({"keep": 0.0}, "keep: expected a number above 0 and at most 1"),
        ({"keep": 1.5}, "got 1.5"),
        ({"keep": math.nan}, "got nan"),
        ({"residual": "2"}, "unknown residual scale"),
        ({"residual": "1/L"}, "give depth="),
        ({"residual": 1.0, "activation": "tanh"}, "give depth="),
        ({"residual": math.inf}, "a finite number"),
        ({"init": "toch"}, "did you mean 'torch'"),
        ({"init": "torch", "weight_variance": 1.0}, "leave weight_variance out"),
        ({"weights": "cauchy"}, "unknown law of weights"),
        ({"depth": 0}, "depth: expected a whole number of at least 1"),
        ({"input_variance": 0.0}, "input_variance"),
        ({"options": {"slope": 1.0}}, "has no option 'slope'"),
    ],
)
def test_what_cannot_be_predicted_is_refused(arguments: dict[str, Any], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        predict(**arguments)


def test_activations_without_limits_are_said_to_have_none() -> None:
    cubic = predict(lambda x: x**3)
    assert cubic.factor == math.inf == cubic.log_mean and cubic.outcome == "grows" and not cubic.critical
    small = predict(lambda x: x**3, 0.01, width=32)
    assert small.factor == 0 and small.log_mean == -math.inf and small.depth_scale == 0
    assert predict(np.exp, 1.0).factor == math.inf


def test_an_activation_without_a_slope_passes_nothing() -> None:
    step = predict(np.sign, width=32)
    assert (
        step.factor == 0 and step.dead == 1 and step.log_mean == -math.inf and math.isnan(step.log_variance)
    )
    for norm in ("batch", "layer", "rms"):
        with pytest.raises(UsageError, match="slope 0 everywhere"):
            predict(lambda x: 0 * x, norm=norm)
