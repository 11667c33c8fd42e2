"""Laws of the measurement: what changes nothing must change nothing."""

from __future__ import annotations

import copy
from itertools import pairwise

import numpy as np
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn

from gradcheck.flow import Measurement, Network, measure

FEW = settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow])
ACTIVATIONS = {"relu": nn.ReLU, "tanh": nn.Tanh, "sigmoid": nn.Sigmoid, "gelu": nn.GELU}
names = st.sampled_from(sorted(ACTIVATIONS))
# A ReLU net of six units may be dead, and has no ratio of norms then.
living = st.sampled_from(["gelu", "sigmoid", "tanh"])
seeds = st.integers(0, 2**20)


def model(name: str, seed: int, width: int = 6, depth: int = 7) -> nn.Sequential:
    torch.manual_seed(seed)
    parts: list[nn.Module] = []
    for layer in range(depth):
        parts.append(nn.Linear(width, width, dtype=torch.float64))
        if layer < depth - 1:
            parts.append(ACTIVATIONS[name]())
    return nn.Sequential(*parts)


def inputs(seed: int, width: int = 6, batch: int = 5) -> torch.Tensor:
    return torch.randn(batch, width, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def same(one: Measurement, other: Measurement) -> None:
    assert one.verdict == other.verdict
    assert one.depth_limit == other.depth_limit
    np.testing.assert_allclose(
        [one.rate, one.factor, one.span], [other.rate, other.factor, other.span], rtol=1e-9
    )


@FEW
@given(
    name=names,
    depth=st.integers(2, 12),
    width=st.integers(2, 12),
    seed=seeds,
    exponent=st.integers(-200, 200),
)
def test_nothing_depends_on_a_factor_of_the_loss(
    name: str, depth: int, width: int, seed: int, exponent: int
) -> None:
    network = Network(activation=name, depth=depth, width=width)
    plain, scaled = (measure(network, seeds=4, seed=seed, loss_scale=c) for c in (1.0, 2.0**exponent))
    assert plain.verdict == scaled.verdict
    assert plain.dead == scaled.dead
    np.testing.assert_allclose(scaled.span, plain.span, rtol=1e-9, atol=1e-9)


@FEW
@given(name=names, seed=seeds, exponent=st.integers(-100, 100))
def test_nothing_depends_on_a_factor_of_a_users_loss(name: str, seed: int, exponent: int) -> None:
    net, x = model(name, seed), inputs(seed)
    plain = measure(net, x, seeds=2, loss=lambda y: y.square().sum())
    scaled = measure(net, x, seeds=2, loss=lambda y: y.square().sum() * 2.0**exponent)
    same(plain, scaled)


@FEW
@given(name=names, seed=seeds)
def test_the_mean_over_the_batch_is_as_good_as_the_sum(name: str, seed: int) -> None:
    net, x = model(name, seed), inputs(seed)
    same(
        measure(net, x, seeds=2, loss=lambda y: y.square().sum(1).sum()),
        measure(net, x, seeds=2, loss=lambda y: y.square().sum(1).mean()),
    )


@FEW
@given(name=names, seed=seeds, data=st.data())
def test_nothing_depends_on_the_order_of_neurons(name: str, seed: int, data: st.DataObject) -> None:
    net, x = model(name, seed), inputs(seed)
    moved = copy.deepcopy(net)
    linear = [part for part in moved if isinstance(part, nn.Linear)]
    with torch.no_grad():
        for below, above in pairwise(linear):
            order = list(data.draw(st.permutations(range(6))))
            below.weight.copy_(below.weight[order].clone())
            below.bias.copy_(below.bias[order].clone())
            above.weight.copy_(above.weight[:, order].clone())
    same(measure(net, x, seeds=2), measure(moved, x, seeds=2))


@FEW
@given(name=names, seed=seeds, place=st.integers(0, 13))
def test_an_inserted_identity_changes_nothing(name: str, seed: int, place: int) -> None:
    net, x = model(name, seed), inputs(seed)
    parts = list(net)
    parts.insert(place, nn.Identity())
    same(measure(net, x, seeds=2), measure(nn.Sequential(*parts), x, seeds=2))


@FEW
@given(name=living, seed=seeds, most=st.floats(1e-6, 1e3))
def test_clipping_by_the_global_norm_leaves_every_ratio(name: str, seed: int, most: float) -> None:
    net = model(name, seed)
    net(inputs(seed)).square().sum().backward()
    weights = [part.weight for part in net if isinstance(part, nn.Linear)]
    before = [float(w.grad.norm()) for w in weights]
    torch.nn.utils.clip_grad_norm_(net.parameters(), most)
    after = [float(w.grad.norm()) for w in weights]
    np.testing.assert_allclose(np.diff(np.log(after)), np.diff(np.log(before)), rtol=1e-9, atol=1e-9)


@FEW
@given(name=living, seed=seeds)
def test_clipping_by_value_does_not(name: str, seed: int) -> None:
    net = model(name, seed)
    net(inputs(seed)).square().sum().backward()
    weights = [part.weight for part in net if isinstance(part, nn.Linear)]
    least = min(float(w.grad.abs().max()) for w in weights) / 2
    before = [float(w.grad.norm()) for w in weights]
    torch.nn.utils.clip_grad_value_(net.parameters(), least)
    after = [float(w.grad.norm()) for w in weights]
    assert not np.allclose(np.diff(np.log(after)), np.diff(np.log(before)), rtol=1e-9, atol=1e-9)
