"""A diagnosis complains about what is wrong with a model, at the right layer, and is silent elsewhere."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from gradcheck.flow import Diagnosis, FlowVerdict, diagnose, try_remedies
from gradcheck.flow.diagnosis import slope_moments

WIDTH = 16


def chain(activation: Callable[[], nn.Module], depth: int, gain: float | None = None) -> nn.Sequential:
    parts: list[nn.Module] = []
    for layer in range(depth):
        linear = nn.Linear(WIDTH, WIDTH)
        if gain is not None:
            nn.init.normal_(linear.weight, 0.0, gain / WIDTH**0.5)
            nn.init.zeros_(linear.bias)
        parts.append(linear)
        if layer < depth - 1:
            parts.append(activation())
    return nn.Sequential(*parts)


def example() -> Tensor:
    return torch.randn(6, WIDTH, generator=torch.Generator().manual_seed(0))


def plainly(build: object, seeds: int = 6) -> Diagnosis:
    return diagnose(build, example(), seeds=seeds, remedies=False)


@pytest.mark.parametrize(
    ("activation", "gain"),
    [(nn.ReLU, 2**0.5), (nn.Tanh, 1.2), (nn.Sigmoid, None), (nn.GELU, 1.5), (nn.ReLU, None)],
    ids=str,
)
def test_random_weights_are_where_they_are_predicted(
    activation: Callable[[], nn.Module], gain: float | None
) -> None:
    d = plainly(lambda seed: chain(activation, 10, gain), seeds=8)
    assert d.leaves_at == ""
    assert len(d.steps) == 9
    assert all(math.isfinite(step.predicted) for step in d.steps)
    total = sum(step.measured for step in d.steps)
    assert (
        abs(total - sum(step.predicted for step in d.steps))
        < sum(step.slack + step.error for step in d.steps) * 2
    )


def test_normalisation_and_dropout_are_part_of_the_prediction() -> None:
    def build(seed: int) -> nn.Module:
        parts: list[nn.Module] = []
        for _ in range(6):
            parts += [nn.Linear(WIDTH, WIDTH), nn.LayerNorm(WIDTH), nn.ReLU(), nn.Dropout(0.3)]
        return nn.Sequential(*parts, nn.Linear(WIDTH, WIDTH))

    d = plainly(build, seeds=8)
    assert d.leaves_at == ""
    assert all(math.isfinite(step.predicted) for step in d.steps)


def test_weights_that_are_no_random_ones_are_found_at_their_layer() -> None:
    def build(seed: int) -> nn.Module:
        net = chain(nn.Tanh, 10, 1.0)
        with torch.no_grad():
            # One rank only: whatever comes back along it is multiplied by the width, the rest is lost.
            for place in (4, 6, 8, 10):
                net[place].weight.fill_(1 / WIDTH**0.5)
        return net

    d = plainly(build, seeds=8)
    assert d.leaves_at in {"10", "8", "6"}


def test_an_unknown_way_between_layers_has_no_prediction() -> None:
    class Functional(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = nn.ModuleList(nn.Linear(WIDTH, WIDTH) for _ in range(6))

        def forward(self, x: Tensor) -> Tensor:
            for layer in self.layers:
                x = functional.softplus(layer(x))
            return x

    d = plainly(lambda seed: Functional())
    assert all(math.isnan(step.predicted) for step in d.steps)
    assert d.leaves_at == ""


def test_dead_and_saturated_units_are_found_at_their_layer() -> None:
    torch.manual_seed(0)
    net = chain(nn.ReLU, 6, 2**0.5)
    with torch.no_grad():
        net[4].bias[: WIDTH // 2] = -1e3
    d = plainly(net)
    assert dict(d.dead)["4"] >= 0.5
    assert d.dead[0][0] == "4"
    full = chain(nn.Tanh, 6, 1.0)
    with torch.no_grad():
        full[4].weight.mul_(100)
    d = plainly(full)
    assert d.saturated[0][0] == "4"
    assert d.saturated[0][1] > 0.7
    assert all(share < 0.1 for _, share in plainly(chain(nn.Tanh, 6, 1.0)).saturated)


def test_formats_are_safe_where_the_gradient_fits_and_running_them_agrees() -> None:
    healthy = {f.format: f for f in plainly(lambda seed: chain(nn.ReLU, 6, 2**0.5)).formats}
    assert all(f.safe for f in healthy.values())
    assert healthy["float16"].measured is not None
    assert healthy["float16"].measured[0][0] < 0.05
    deep = {f.format: f for f in plainly(lambda seed: chain(nn.Sigmoid, 14)).formats}
    assert not deep["float16"].safe
    assert deep["float16"].scale is None
    assert deep["float32"].safe
    assert deep["float16"].measured is not None
    assert deep["float16"].measured[0][0] > 0.95


def test_a_scale_of_the_loss_is_found_and_helps() -> None:
    d = plainly(lambda seed: chain(nn.Sigmoid, 8))
    (half,) = [f for f in d.formats if f.format == "float16"]
    assert not half.safe
    assert half.scale is not None
    assert half.scale > 1
    assert half.measured is not None
    (before, _), (after, infinite) = half.measured
    assert after < before
    assert after <= 0.02
    assert infinite == 0


def test_clipping_does_not_help_and_adam_hides() -> None:
    d = plainly(lambda seed: chain(nn.Sigmoid, 8))
    t = d.training
    assert t is not None
    assert not t.clipping_helps
    assert t.gradient < -4
    assert abs(t.sgd - t.gradient) < 1e-6
    assert t.adam_hides
    healthy = plainly(lambda seed: chain(nn.ReLU, 6, 2**0.5)).training
    assert healthy is not None
    assert not healthy.adam_hides


def test_remedies_are_measured_on_copies_and_the_best_is_told() -> None:
    torch.manual_seed(0)
    net = chain(nn.Sigmoid, 12)
    before = copy.deepcopy(net.state_dict())
    names = [type(part).__name__ for part in net.modules()]
    d = diagnose(net, example(), seeds=4)
    assert d.measurement.verdict is FlowVerdict.VANISHING
    assert all(torch.equal(a, before[key]) for key, a in net.state_dict().items())
    assert [type(part).__name__ for part in net.modules()] == names
    assert {r.kind for r in d.remedies if r.measurement} == {
        "initialisation",
        "normalisation",
        "residual",
        "activation",
    }
    assert d.best is not None
    assert d.best.measurement is not None
    assert d.best.measurement.verdict is FlowVerdict.HEALTHY
    assert all(r.measurement is None or r.measurement.span >= d.best.measurement.span for r in d.remedies)
    text = str(d)
    assert "smallest span" in text
    assert "float16" in text


def test_the_right_remedies_help_and_the_wrong_ones_do_not() -> None:
    found = try_remedies(lambda seed: chain(nn.ReLU, 14), example(), seeds=4)
    by_text = {r.changes: r for r in found}
    gaussian = by_text["Gaussian weights of variance 1/(fan_in E φ'²), biases 0"].measurement
    tanh = by_text["Tanh, weights as they are"].measurement
    assert gaussian is not None
    assert tanh is not None
    assert gaussian.verdict in (FlowVerdict.HEALTHY, FlowVerdict.WATCH)
    assert abs(gaussian.rate) < 0.3
    assert tanh.verdict is FlowVerdict.VANISHING
    assert by_text["ReLU, weights as they are"].measurement is None
    assert "already" in by_text["ReLU, weights as they are"].reason


def test_a_remedy_that_does_not_apply_says_why() -> None:
    class Functional(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = nn.ModuleList(nn.Linear(WIDTH, WIDTH) for _ in range(4))

        def forward(self, x: Tensor) -> Tensor:
            for layer in self.layers:
                x = torch.tanh(layer(x))
            return x

    reasons = {
        r.kind: r.reason for r in try_remedies(lambda seed: Functional(), example(), seeds=2) if r.reason
    }
    assert "functional" in reasons["activation"]
    assert "nn.Sequential" in reasons["residual"]


def test_moments_of_slopes() -> None:
    assert slope_moments("relu", 0.0, 1.0) == (pytest.approx(0.5, abs=1e-3), pytest.approx(0.5, abs=1e-3))
    assert slope_moments("linear", 0.3, 2.0) == (pytest.approx(1.0), pytest.approx(1.0))
    second, fourth = slope_moments("tanh", 0.0, 1e-12)
    assert second == pytest.approx(1.0)
    assert fourth == pytest.approx(1.0)


def test_a_dead_model_is_diagnosed_without_a_warning() -> None:
    torch.manual_seed(0)
    net = chain(nn.ReLU, 4, 1.0)
    with torch.no_grad():
        net[2].bias.fill_(-1e4)
    d = diagnose(net, example(), seeds=2)
    assert d.measurement.verdict is FlowVerdict.VANISHING
    assert d.measurement.dead == 2
    assert dict(d.dead)["2"] == 1.0
    assert d.training is None
    assert "nan" not in str(d.best)
    assert "FLOW-DEAD" in str(d)
