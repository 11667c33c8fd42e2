"""Measuring any nn.Module: right numbers, nothing of the user's changed, and clear refusals."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from gradcheck.errors import UsageError
from gradcheck.flow import FlowVerdict, Measurement, Network, measure
from gradcheck.subjects.torch_flow import record


def chain(
    activation: Callable[[], nn.Module],
    depth: int = 10,
    width: int = 12,
    *,
    bias: bool = True,
    gain: float = 0.0,
) -> nn.Sequential:
    parts: list[nn.Module] = []
    for layer in range(depth):
        linear = nn.Linear(width, width, bias=bias)
        if gain:
            nn.init.normal_(linear.weight, 0.0, gain / width**0.5)
        parts.append(linear)
        if layer < depth - 1:
            parts.append(activation())
    return nn.Sequential(*parts)


def builder(activation: Callable[[], nn.Module], **given: Any) -> Callable[[int], nn.Module]:
    return lambda seed: chain(activation, **given)


def example(batch: int = 4, width: int = 12) -> Tensor:
    return torch.randn(batch, width, generator=torch.Generator().manual_seed(0))


def codes(m: Measurement) -> set[str]:
    return {finding.code for finding in m.findings}


def test_the_gradients_are_those_of_autograd() -> None:
    torch.manual_seed(1)
    net, x = chain(nn.Tanh, depth=4).double(), example().double()
    found = record(net, x, 5, None)
    outputs, h = [], x
    for part in net:
        h = part(h)
        if isinstance(part, nn.Linear):
            outputs.append(h)
    u = torch.randn(h.shape, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    gradients = torch.autograd.grad(h, outputs, u)
    expected = [float(g.square().sum().log()) for g in gradients]
    np.testing.assert_allclose([call.gradient for call in found.calls], expected, rtol=1e-12)


def test_a_module_and_the_specification_of_it_agree() -> None:
    def build(seed: int) -> nn.Module:
        return chain(nn.ReLU, depth=16, width=24, bias=False, gain=2**0.5)

    ours = measure(Network(depth=16, width=24), seeds=200)
    theirs = measure(build, example(1, 24), seeds=30)
    error = (ours.rate_error**2 + theirs.rate_error**2) ** 0.5
    assert abs(ours.rate - theirs.rate) < 4.5 * error


def test_an_activation_in_place_gives_the_same_numbers() -> None:
    kept = measure(builder(nn.ReLU, depth=8), example(), seeds=4)
    in_place = measure(builder(lambda: nn.ReLU(inplace=True), depth=8), example(), seeds=4)
    for one, other in zip(kept.layers, in_place.layers, strict=True):
        assert one.gradient == other.gradient
        assert one.dead == other.dead
        assert one.saturated == other.saturated or (np.isnan(one.saturated) and np.isnan(other.saturated))


def test_functional_activations_in_place_give_the_same_numbers() -> None:
    class Net(nn.Module):
        def __init__(self, in_place: bool) -> None:
            super().__init__()
            self.layers = nn.ModuleList(nn.Linear(12, 12) for _ in range(6))
            self.in_place = in_place

        def forward(self, x: Tensor) -> Tensor:
            for layer in self.layers:
                x = functional.relu(layer(x), inplace=self.in_place)
            return x

    kept, in_place = (measure(lambda seed, p=p: Net(p), example(), seeds=3) for p in (False, True))
    assert [row.gradient for row in kept.layers] == [row.gradient for row in in_place.layers]


def test_a_shared_module_is_a_layer_at_every_call() -> None:
    class Recurrent(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.cell = nn.Linear(12, 12)

        def forward(self, x: Tensor) -> Tensor:
            for _ in range(7):
                x = torch.tanh(self.cell(x))
            return x

    m = measure(lambda seed: Recurrent(), example(), seeds=3)
    assert len(m.layers) == 7
    assert [row.name for row in m.layers][:2] == ["cell (call 1)", "cell (call 2)"]
    assert "FLOW-SHARED" in codes(m)
    assert m.layers[0].gradient < m.layers[-1].gradient


def test_several_inputs_and_tuples_of_outputs() -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.c = nn.Linear(12, 12), nn.Linear(3, 12), nn.Linear(12, 12)

        def forward(self, x: Tensor, y: Tensor, scale: float = 1.0) -> tuple[Tensor, dict[str, Tensor], int]:
            h = torch.tanh(self.a(x) + self.b(y))
            return self.c(h) * scale, {"more": h}, 3

    torch.manual_seed(0)
    net = Two()
    positional = measure(net, (example(), torch.ones(4, 3)), seeds=3)
    named = measure(net, {"x": example(), "y": torch.ones(4, 3), "scale": 1.0}, seeds=3)
    assert [row.gradient for row in positional.layers] == [row.gradient for row in named.layers]
    arrays = measure(net, (example().numpy(), np.ones((4, 3), np.float32)), seeds=3)
    assert arrays.rate == positional.rate


def test_integer_inputs_and_recurrent_layers() -> None:
    class Words(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table, self.memory = nn.Embedding(11, 6), nn.LSTM(6, 8, batch_first=True)
            self.last = nn.Linear(8, 2)

        def forward(self, x: Tensor) -> Tensor:
            states, _ = self.memory(self.table(x))
            return self.last(states[:, -1])

    m = measure(lambda seed: Words(), torch.arange(10).reshape(2, 5), seeds=3)
    assert [row.kind for row in m.layers] == ["Embedding", "LSTM", "Linear"]
    assert "FLOW-INDEPENDENT" not in codes(m)


def test_only_what_the_activation_reads_is_a_pre_activation() -> None:
    def build(seed: int) -> nn.Module:
        parts: list[nn.Module] = []
        for _ in range(5):
            parts += [nn.Linear(12, 12), nn.BatchNorm1d(12), nn.ReLU()]
        return nn.Sequential(*parts, nn.Linear(12, 12))

    m = measure(build, example(16), seeds=3)
    assert [row.kind for row in m.layers] == ["BatchNorm1d"] * 5 + ["Linear"]


def test_convolutions_and_residual_blocks() -> None:
    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.two = (nn.Conv2d(4, 4, 3, padding=1) for _ in range(2))
            self.norm = nn.BatchNorm2d(4)

        def forward(self, x: Tensor) -> Tensor:
            return x + self.two(functional.relu(self.norm(self.one(x))))

    def net(seed: int) -> nn.Module:
        blocks = (Block() for _ in range(3))
        return nn.Sequential(nn.Conv2d(1, 4, 3), *blocks, nn.Flatten(), nn.Linear(64, 3))

    m = measure(net, torch.randn(5, 1, 6, 6, generator=torch.Generator().manual_seed(0)), seeds=3)
    assert m.verdict is FlowVerdict.HEALTHY
    assert len(m.layers) == 1 + 3 * 2 + 1


def test_evaluation_mode_is_noticed_and_is_another_network() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(*(p for _ in range(5) for p in (nn.Linear(12, 12), nn.BatchNorm1d(12), nn.ReLU())))
    training = measure(net, example(16), seeds=3)
    assert "FLOW-EVALUATION" not in codes(training)
    net.eval()
    evaluation = measure(net, example(16), seeds=3)
    (finding,) = [f for f in evaluation.findings if f.code == "FLOW-EVALUATION"]
    assert finding.layer == "1"
    assert not net.training
    assert evaluation.rate != training.rate


def test_dropout_in_evaluation_mode_is_noticed() -> None:
    net = nn.Sequential(nn.Linear(12, 12), nn.Dropout(0.5), nn.Linear(12, 12)).eval()
    assert "FLOW-EVALUATION" in codes(measure(net, example(), seeds=2))


def test_frozen_parameters_do_not_hide_a_gradient() -> None:
    torch.manual_seed(0)
    net = chain(nn.Tanh, depth=6)
    free = measure(net, example(), seeds=2)
    for parameter in net.parameters():
        parameter.requires_grad_(False)
    frozen = measure(net, example(), seeds=2)
    assert "FLOW-FROZEN" in codes(frozen)
    assert frozen.rate == free.rate
    assert not any(p.requires_grad for p in net.parameters())


def test_everything_of_the_users_is_as_it_was() -> None:
    torch.manual_seed(0)
    parts = (p for _ in range(4) for p in (nn.Linear(12, 12), nn.BatchNorm1d(12), nn.Dropout(0.2), nn.ReLU()))
    net, x = nn.Sequential(*parts), example(16)
    x.requires_grad_(True)
    net(x).sum().backward()
    before = copy.deepcopy(net.state_dict())
    gradients = [p.grad.clone() for p in net.parameters()]
    own, place = x.grad.clone(), x.detach().clone()
    torch.manual_seed(3)
    np.random.seed(3)
    random.seed(3)
    states = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()
    measure(net, x, seeds=3)
    measure(net, x, seeds=2, loss=lambda y: y.square().mean())
    assert torch.equal(torch.get_rng_state(), states[0])
    assert np.array_equal(np.random.get_state()[1], states[1])
    assert random.getstate() == states[2]
    assert all(torch.equal(a, before[key]) for key, a in net.state_dict().items())
    assert all(torch.equal(p.grad, g) for p, g in zip(net.parameters(), gradients, strict=True))
    assert torch.equal(x.grad, own)
    assert torch.equal(x.detach(), place)
    assert net.training
    assert torch.get_default_dtype() == torch.float32
    for part in net.modules():
        assert not part._forward_hooks
        assert not part._forward_pre_hooks
        assert not part._backward_hooks


def test_the_state_is_restored_after_a_failure_too() -> None:
    net = nn.Sequential(nn.Linear(12, 12), nn.Linear(5, 12))
    state = torch.get_rng_state()
    with pytest.raises(UsageError, match=r"the model raised in 1: RuntimeError"):
        measure(net, example(), seeds=2)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.get_default_dtype() == torch.float32
    assert not any(part._forward_hooks for part in net.modules())


def test_the_layer_that_yields_nan_is_named() -> None:
    class Root(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.sqrt(x)

    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(12, 12), nn.Linear(12, 12), Root(), nn.Linear(12, 12), nn.Linear(12, 12))
    m = measure(net, example(), seeds=2)
    (finding,) = [f for f in m.findings if f.code == "FLOW-BROKEN"]
    assert finding.layer == "3"
    assert m.broken == 2
    assert m.verdict is FlowVerdict.EXPLODING


def test_partial_results_are_kept_and_marked() -> None:
    def build(seed: int) -> nn.Module:
        parts = [*chain(nn.Tanh, depth=6)]
        return nn.Sequential(*parts, nn.Linear(5 if seed == 2 else 12, 12))

    m = measure(build, example(), seeds=4)
    assert m.seeds == 3
    (finding,) = [f for f in m.findings if f.code == "FLOW-FAILED"]
    assert "1 of 4 networks are left out" in finding.message


def test_a_cut_graph_is_told_with_its_layers() -> None:
    class Cut(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.detach()

    net = nn.Sequential(nn.Linear(12, 12), Cut(), nn.Linear(12, 12), nn.Tanh(), nn.Linear(12, 12))
    m = measure(net, example(), seeds=2)
    (finding,) = [f for f in m.findings if f.code == "FLOW-UNREACHED"]
    assert finding.layer == "0"
    assert [row.name for row in m.layers] == ["2", "4"]


def test_an_output_that_ignores_the_input_is_told() -> None:
    class Ignores(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = chain(nn.Tanh, depth=5)

        def forward(self, x: Tensor) -> Tensor:
            return self.body(torch.ones_like(x))

    assert "FLOW-INDEPENDENT" in codes(measure(lambda seed: Ignores(), example(), seeds=2))
    assert "FLOW-INDEPENDENT" not in codes(measure(builder(nn.Sigmoid, depth=14), example(), seeds=2))


def test_a_seed_that_changes_nothing_is_told() -> None:
    net = chain(nn.Tanh, depth=5)
    assert "FLOW-SAME" in codes(measure(net, example(), seeds=3))
    assert "FLOW-SAME" in codes(measure(lambda seed: net, example(), seeds=3))
    assert "FLOW-SAME" not in codes(measure(builder(nn.Tanh, depth=5), example(), seeds=3))


def test_a_class_is_a_factory_too() -> None:
    class Net(nn.Sequential):
        def __init__(self) -> None:
            super().__init__(*chain(nn.Tanh, depth=5))

    first, second = (measure(Net, example(), seeds=3) for _ in range(2))
    assert first.rate == second.rate
    assert "FLOW-SAME" not in codes(first)


def test_a_loss_is_told_and_has_to_be_one_number() -> None:
    net = chain(nn.Tanh, depth=5)
    assert "FLOW-LOSS" in codes(measure(net, example(), seeds=2, loss=lambda y: y.square().sum()))
    with pytest.raises(
        UsageError, match=r"loss\(output\): expected a tensor with a single number, got \(4, 12\)"
    ):
        measure(net, example(), seeds=2, loss=lambda y: y.square())


def test_a_model_that_cannot_be_float64_is_measured_in_its_own_format() -> None:
    class Narrow(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.two = nn.Linear(12, 12), nn.Linear(12, 12)

        def forward(self, x: Tensor) -> Tensor:
            return self.two(torch.tanh(self.one(x)).float())

    m = measure(lambda seed: Narrow(), example(), seeds=2)
    assert "FLOW-FORMAT" in codes(m)
    assert m.seeds == 2


def test_an_unused_layer_is_told() -> None:
    class Spare(nn.Sequential):
        def forward(self, x: Tensor) -> Tensor:
            return self[1](torch.tanh(self[0](x)))

    m = measure(Spare(*(nn.Linear(12, 12) for _ in range(3))), example(), seeds=2)
    (finding,) = [f for f in m.findings if f.code == "FLOW-UNUSED"]
    assert finding.layer == "2"


@pytest.mark.parametrize(
    ("build", "given", "message"),
    [
        (nn.Sequential(nn.ReLU(), nn.Tanh()), torch.ones(2, 3), "the model has no parameters"),
        (nn.Linear(3, 3), torch.ones(2, 3), "at least two layers that a gradient passes, found 1"),
        (
            nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3)),
            None,
            "example_input: expected what the model takes",
        ),
        (lambda seed: 3, torch.ones(2, 3), r"build\(0\): expected an nn.Module, got int"),
        (lambda seed: 1 / 0, torch.ones(2, 3), r"build\(0\) raised ZeroDivisionError"),
        (3, torch.ones(2, 3), "expected a Network, an nn.Module or a function"),
        (nn.Linear(3, 3, device="meta"), torch.ones(2, 3), "meta device"),
        (
            nn.Sequential(nn.Linear(3, 3), nn.Linear(4, 3)),
            torch.ones(2, 3),
            "the model raised in 1: RuntimeError",
        ),
    ],
)
def test_what_cannot_be_measured_is_refused(build: Any, given: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        measure(build, given, seeds=2)


def test_a_gradient_below_float32_is_measured_all_the_same() -> None:
    m = measure(builder(nn.Sigmoid, depth=60), example(), seeds=2)
    assert m.span > 45
    assert m.dead == 0


@pytest.mark.parametrize("reentrant", [False, True])
@pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad:UserWarning")
def test_checkpointing_changes_nothing(reentrant: bool) -> None:
    from torch.utils.checkpoint import checkpoint

    class Net(nn.Module):
        def __init__(self, saves: bool) -> None:
            super().__init__()
            self.layers = nn.ModuleList(nn.Linear(12, 12) for _ in range(5))
            self.saves = saves

        def forward(self, x: Tensor) -> Tensor:
            for layer in self.layers:
                step = lambda h, layer=layer: torch.tanh(layer(h))  # noqa: E731
                x = checkpoint(step, x, use_reentrant=reentrant) if self.saves else step(x)
            return x

    kept, saved = (measure(lambda seed, s=s: Net(s), example(), seeds=3) for s in (False, True))
    assert [row.name for row in saved.layers] == [row.name for row in kept.layers]
    np.testing.assert_allclose(
        [r.gradient for r in saved.layers], [r.gradient for r in kept.layers], rtol=1e-12
    )
    assert codes(saved) == codes(kept)


def test_parametrised_weights_belong_to_their_layer() -> None:
    from torch.nn.utils import parametrizations

    def build(seed: int) -> nn.Module:
        layers = (parametrizations.weight_norm(nn.Linear(12, 12, bias=False)) for _ in range(5))
        return nn.Sequential(*(part for layer in layers for part in (layer, nn.Tanh())))

    m = measure(build, example(), seeds=3)
    assert [row.name for row in m.layers] == ["0", "2", "4", "6", "8"]
    assert all(np.isfinite(row.weight_gradient) for row in m.layers)


@pytest.mark.filterwarnings("ignore:`torch.nn.utils.weight_norm` is deprecated:FutureWarning")
def test_weights_that_are_computed_anew_in_every_pass_are_copied_and_left_alone() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(*(nn.utils.weight_norm(nn.Linear(12, 12)) for _ in range(4)))
    net(example())
    held = [part.weight for part in net]
    assert len(measure(net, example(), seeds=2).layers) == 4
    assert all(part.weight is weight for part, weight in zip(net, held, strict=True))


def test_a_transformer_is_measured_and_its_parts_are_not_called_unused() -> None:
    def build(seed: int) -> nn.Module:
        return nn.TransformerEncoder(nn.TransformerEncoderLayer(12, 2, 16, batch_first=True), 3)

    m = measure(build, torch.randn(2, 4, 12, generator=torch.Generator().manual_seed(0)), seeds=3)
    assert m.verdict is FlowVerdict.HEALTHY
    assert "FLOW-UNUSED" not in codes(m)
    assert [row.kind for row in m.layers][:3] == ["MultiheadAttention", "Linear", "Linear"]


def test_a_lazy_model_without_values_is_refused() -> None:
    with pytest.raises(UsageError, match=r"0\.weight has no values yet: call the model once"):
        measure(
            lambda seed: nn.Sequential(nn.LazyLinear(12), nn.Tanh(), nn.Linear(12, 3)), example(), seeds=2
        )
