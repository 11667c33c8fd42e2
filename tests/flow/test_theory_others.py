"""Spectra, bounds, borders of maps, Adam's largest step, clipping, and the rows as records."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gradcheck import formulas
from gradcheck.errors import UsageError
from gradcheck.flow import predict, spectra, steps
from gradcheck.flow.activations import get_activation
from gradcheck.flow.moments import moments
from gradcheck.flow.network import Network
from gradcheck.flow.padding import deep_retained, retained, transfer, varying
from gradcheck.flow.row import BOUND, EXACT, LIMIT
from gradcheck.flow.theory import QUANTITIES, THEORY, get_row


@pytest.mark.parametrize("width", [3, 12])
def test_the_spectrum_of_a_product_at_a_finite_width(width: int) -> None:
    rng = np.random.default_rng(1)
    count, depth = 20_000, 4
    product = np.broadcast_to(np.eye(width), (count, width, width))
    for _ in range(depth):
        product = rng.standard_normal((count, width, width)) * math.sqrt(1.5 / width) @ product
    gram = product @ product.swapaxes(1, 2)
    first = np.trace(gram, axis1=1, axis2=2) / width
    second = np.sum(gram**2, axis=(1, 2)) / width
    said = spectra.gaussian_spectrum(depth, width, 1.5)
    root = math.sqrt(count)
    assert abs(np.mean(first) - said.mean) < 4 * np.std(first) / root
    assert abs(np.mean(second) - said.mean**2 - said.variance) < 4 * np.std(second) / root


def test_the_spectrum_tends_to_that_of_wide_layers() -> None:
    for depth in (1, 3, 10):
        wide, limit = spectra.gaussian_spectrum(depth, 1_000_000), spectra.gaussian_spectrum(depth)
        assert wide.variance == pytest.approx(limit.variance, rel=1e-4) == pytest.approx(depth, rel=1e-4)
    assert spectra.gaussian_spectrum(1).largest == pytest.approx(4)


@settings(deadline=None, max_examples=30)
@given(
    name=st.sampled_from(["sigmoid", "tanh", "relu", "gelu", "mish", "hardswish"]),
    width=st.integers(1, 6),
    depth=st.integers(1, 6),
    scale=st.floats(0.01, 30.0),
    seed=st.integers(0, 2**20),
)
def test_no_jacobian_is_above_its_bound(name: str, width: int, depth: int, scale: float, seed: int) -> None:
    rng, act = np.random.default_rng(seed), get_activation(name)
    z, jacobian, norms = rng.standard_normal(width), np.eye(width), []
    for _ in range(depth):
        weight = rng.standard_normal((width, width)) * scale
        jacobian = weight @ np.diag(act.derivative(z)) @ jacobian
        z = weight @ act.value(z)
        norms.append(float(np.linalg.norm(weight, 2)))
    assert np.linalg.norm(jacobian, 2) <= spectra.jacobian_bound(name, norms) * (1 + 1e-12)


def test_slopes_have_their_suprema() -> None:
    assert spectra.largest_slope("sigmoid") == pytest.approx(0.25, rel=1e-15)
    assert spectra.largest_slope("relu") == 1
    assert spectra.largest_slope(lambda x: np.sin(3 * x)) == pytest.approx(3, rel=1e-12)
    # GELU's slope is largest at √2: Φ(√2) + √2 φ(√2).
    truth = 0.5 * math.erfc(-1) + math.sqrt(2) * math.exp(-1) / math.sqrt(2 * math.pi)
    assert spectra.largest_slope("gelu") == pytest.approx(truth, rel=1e-12)


def test_a_line_with_zero_padding_has_the_eigenvalues_of_its_cosines() -> None:
    for size in (3, 8):
        values = np.sort(np.linalg.eigvalsh(transfer(size, 3)))
        j = np.arange(size, 0, -1)
        np.testing.assert_allclose(values, (1 + 2 * np.cos(j * math.pi / (size + 1))) / 3, atol=1e-14)
        assert deep_retained(size, 3) == pytest.approx(((1 + 2 * math.cos(math.pi / (size + 1))) / 3) ** 2)
    shares = retained(8, 3, 200)
    assert shares[-1] / shares[-2] == pytest.approx(deep_retained(8, 3), rel=1e-12)
    assert np.all(retained(8, 3, 50, "circular") == pytest.approx(1))


def convolution(x: np.ndarray, weight: np.ndarray, padding: str) -> np.ndarray:
    reach, size = weight.shape[-1] // 2, x.shape[-1]
    mode: Any = "wrap" if padding == "circular" else "constant"
    wide = np.pad(x, ((0, 0), (0, 0), (reach, reach), (reach, reach)), mode=mode)
    return sum(
        np.einsum("soc,schw->sohw", weight[..., i, j], wide[:, :, i : i + size, j : j + size])
        for i in range(weight.shape[-1])
        for j in range(weight.shape[-1])
    )


def convolved(
    activation: str, variance: float, padding: str, channels: int, count: int, depth: int
) -> np.ndarray:
    """‖g_1‖²/‖g_L‖² of convolutional networks, 3×3 over maps of 5×5."""
    rng, act = np.random.default_rng(channels), get_activation(activation)
    x, layers = rng.standard_normal((count, channels, 5, 5)), []
    for _ in range(depth):
        weight = rng.standard_normal((count, channels, channels, 3, 3)) * math.sqrt(variance / (9 * channels))
        z = convolution(x, weight, padding)
        layers.append((weight, act.derivative(z)))
        x = act.value(z)
    g = rng.standard_normal(x.shape)
    last = np.sum(g**2, axis=(1, 2, 3))
    for place in range(depth - 2, -1, -1):
        weight = layers[place + 1][0][:, :, :, ::-1, ::-1].swapaxes(1, 2)
        g = convolution(g, weight, padding) * layers[place][1]
    return np.sum(g**2, axis=(1, 2, 3)) / last


@pytest.mark.parametrize("padding", ["zeros", "circular"])
@pytest.mark.parametrize(("activation", "variance", "channels"), [("linear", 1.0, 4), ("relu", 2.0, 12)])
def test_borders_lose_what_the_transfer_operator_says(
    padding: str, activation: str, variance: float, channels: int
) -> None:
    ratio = convolved(activation, variance, padding, channels, 800, 5)
    truth = float(retained(5, 3, 4, padding)[-1])
    assert abs(np.mean(ratio) - truth) < 4 * np.std(ratio) / math.sqrt(len(ratio))


def test_borders_of_a_saturating_network() -> None:
    ratio = convolved("tanh", 2.25, "zeros", 24, 300, 5)
    truth = float(np.prod(varying(get_activation("tanh"), 2.25, 0.0, 1.0, 5, 3, 5)[1]))
    assert abs(np.mean(ratio) - truth) < 4 * np.std(ratio) / math.sqrt(len(ratio))
    # Without the smaller variance at the borders it would be another number.
    assert abs(np.mean(ratio) - truth * 1.3) > 4 * np.std(ratio) / math.sqrt(len(ratio))


def adam_step(gradients: np.ndarray, beta1: float, beta2: float) -> float:
    """The size of the last update of the reference Adam at a learning rate of 1, without ε."""
    weight = mean = square = largest = np.zeros(1)
    for step, g in enumerate(gradients, 1):
        before = weight
        weight, mean, square, largest = formulas.adam(
            weight, np.array([g]), mean, square, largest, t=step, lr=1.0, beta1=beta1, beta2=beta2, eps=0.0
        )
    return abs(float(weight[0] - before[0]))


@settings(deadline=None)
@given(
    beta1=st.floats(0.0, 0.99),
    beta2=st.floats(0.5, 0.9999),
    gradients=st.lists(st.floats(-1e3, 1e3).filter(lambda g: abs(g) > 1e-3), min_size=1, max_size=40),
)
def test_no_step_of_adam_is_longer(beta1: float, beta2: float, gradients: list[float]) -> None:
    longest = steps.adam_largest_step(beta1, beta2, len(gradients))
    assert adam_step(np.array(gradients), beta1, beta2) <= longest * (1 + 1e-9)


@pytest.mark.parametrize("step", [1, 5, 50, 400])
def test_the_longest_step_of_adam_is_taken(step: int) -> None:
    worst = steps.adam_worst_gradients(step=step)
    assert adam_step(worst, 0.9, 0.999) == pytest.approx(steps.adam_largest_step(step=step), rel=1e-10)


def test_torch_takes_a_longer_step_than_the_paper_states() -> None:
    torch = pytest.importorskip("torch")
    weight = torch.zeros(1, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.Adam([weight], lr=1.0, eps=0.0)
    worst = steps.adam_worst_gradients(step=400)
    for g in worst:
        before = float(weight.detach())
        weight.grad = torch.tensor([g], dtype=torch.float64)
        optimizer.step()
    taken = abs(float(weight.detach()) - before)
    assert taken == pytest.approx(steps.adam_largest_step(step=400), rel=1e-9)
    assert taken > steps.adam_stated_bound()


@given(scale=st.floats(1e-3, 1e3), largest=st.floats(1e-3, 1e3))
def test_clipping_leaves_the_span(scale: float, largest: float) -> None:
    first, last = np.array([1e-5, 2e-5]) * scale, np.array([3.0, -4.0]) * scale
    total = float(np.sqrt(np.sum(first**2) + np.sum(last**2)))
    clipped = formulas.clip_by_global_norm(first, last, np.zeros(1), max_norm=largest, epsilon=0.0)
    a, b = steps.clipped_span(float(np.linalg.norm(first)), float(np.linalg.norm(last)), largest, total)
    assert a / b == pytest.approx(np.linalg.norm(first) / np.linalg.norm(last), rel=1e-14)
    assert a == pytest.approx(np.linalg.norm(clipped[0]), rel=1e-13)
    assert b == pytest.approx(np.linalg.norm(clipped[1]), rel=1e-13)


def test_rows_are_named_once_and_can_be_measured() -> None:
    names = [row.name for row in THEORY]
    assert len(set(names)) == len(names) >= 40
    for row in THEORY:
        assert row.standing in (EXACT, LIMIT, BOUND) and row.says and row.source and row.recipes
        for recipe in row.recipes:
            assert recipe.quantity in QUANTITIES
            assert math.isfinite(row.expected(recipe))
            if recipe.network:
                assert Network(**recipe.network).depth >= 2


def test_a_row_is_found_by_its_name() -> None:
    assert get_row("dead network").standing == EXACT
    with pytest.raises(UsageError, match="did you mean"):
        get_row("dead netwrk")


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: spectra.gaussian_spectrum(0), "depth"),
        (lambda: steps.adam_largest_step(1.0), "beta1"),
        (lambda: steps.adam_largest_step(step=0), "step"),
        (lambda: transfer(4, 2), "odd number"),
        (lambda: transfer(0, 3), "size"),
        (lambda: transfer(4, 3, "reflect"), "padding"),
    ],
)
def test_what_makes_no_sense_is_refused(call: Any, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        call()


@pytest.mark.parametrize("place", [0, 1])
def test_the_stability_is_the_slope_of_the_map(place: int) -> None:
    row = get_row("stability of the variance")
    recipe = row.recipes[place]
    network = dict(recipe.network)
    w, b, act = network["weight_variance"], network["bias_variance"], get_activation(network["activation"])
    q, h = predict(**recipe.arguments).q, 2.0**-12
    ends = w * moments(act, [q * (1 - h), q * (1 + h)]).square + b
    # Second-order differences: h² of a map that changes on the scale of q.
    assert row.expected(recipe) == pytest.approx((ends[1] - ends[0]) / (2 * h * q), rel=1e-6)
    assert w * float(moments(act, q).square) + b == pytest.approx(q, rel=1e-12)
