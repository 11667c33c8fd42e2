"""Measuring a random network: verdicts, exact laws, and nothing that depends on how it is run."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from gradcheck import formulas
from gradcheck.errors import UsageError
from gradcheck.flow import FlowVerdict, Network, compare, measure
from gradcheck.flow.activations import get_activation
from gradcheck.flow.drawing import Drawn, source
from gradcheck.flow.measuring import trace_network
from gradcheck.flow.passes import run, store_in
from gradcheck.formats import FLOAT64

HEALTHY, WATCH = FlowVerdict.HEALTHY, FlowVerdict.WATCH
RELU = Network(activation="relu", init="kaiming", depth=30, width=64)


@pytest.mark.parametrize("width", [64, 128])
@pytest.mark.parametrize("scale", [1e-8, 1.0, 1e8])
def test_a_he_initialised_relu_net_is_never_sick(width: int, scale: float) -> None:
    for seed in range(5):
        m = measure(replace(RELU, width=width), seeds=8, seed=seed, loss_scale=scale)
        assert m.verdict in (HEALTHY, WATCH)
        assert m.dead == m.broken == 0


@pytest.mark.parametrize(
    "sick",
    [
        Network(activation="relu", init="torch", bias=False, depth=12, width=64),
        Network(activation="relu", norm="batch", batch=16, depth=20, width=32),
        Network(activation="gelu", depth=30, width=64),
        Network(activation="tanh", init="xavier", gain=5 / 3, depth=50, width=64),
    ],
    ids=lambda network: network.activation_name + str(network.depth),
)
def test_a_sick_net_is_never_healthy(sick: Network) -> None:
    for seed in range(3):
        assert measure(sick, seeds=8, seed=seed).verdict is not HEALTHY


def test_batch_norm_explodes_by_the_known_factor_and_is_watched() -> None:
    m = measure(Network(activation="relu", norm="batch", batch=32, depth=20, width=64), seeds=8)
    assert m.verdict is WATCH
    assert 1.4 < m.span < 2.0
    assert abs(m.factor - np.pi / (np.pi - 1)) < 0.1
    assert m.limits["float16"].cause == "infinite"


def test_the_default_initialisation_divides_by_six() -> None:
    m = measure(Network(activation="relu", init="torch", bias=False, depth=20, width=64), seeds=32)
    assert abs(m.factor - 1 / 6) < 4 * m.factor_error
    assert m.verdict is FlowVerdict.VANISHING
    assert [f.code for f in m.findings if f.code == "FLOW-WEIGHTS"]


@pytest.mark.parametrize(
    "network",
    [
        Network(activation="relu", depth=20, width=48),
        Network(activation="linear", init="xavier", depth=20, width=48),
        Network(activation="leaky_relu", depth=20, width=48),
        Network(activation="relu", keep=0.8, depth=20, width=48),
        Network(activation="relu", bias_variance=0.3, depth=20, width=48),
        Network(activation="relu", weight_variance=2**0.5, residual=0.5, depth=20, width=48),
        Network(activation="linear", norm="rms", depth=20, width=24),
        Network(activation="relu", norm="rms", depth=20, width=48),
    ],
    ids=str,
)
@pytest.mark.parametrize("whole", [False, True])
def test_exact_laws_hold_at_their_width(network: Network, whole: bool) -> None:
    m = measure(network, seeds=64, whole=whole)
    p = m.predicted
    assert p is not None
    assert p.log_exact
    assert abs(m.rate - p.log_mean) < 4.5 * m.rate_error
    if p.exact:
        assert abs(m.factor - p.factor) < 4.5 * m.factor_error
    assert not m.departs_at


def test_limits_are_judged_from_two_widths() -> None:
    for network in (
        Network(activation="tanh", weight_variance=2.0, bias_variance=0.1, depth=24, width=48),
        Network(activation="relu", norm="layer", depth=20, width=48),
        Network(activation="relu", norm="batch", batch=12, depth=16, width=48),
    ):
        for row in compare(network, seeds=24):
            assert not row.exact or row.quantity == "rate"
            assert abs(row.z) < 4.5


def test_a_batch_of_five_is_not_judged_by_a_sample_mean() -> None:
    factor, rate = compare(Network(norm="batch", batch=5, depth=8, width=16), seeds=4)
    assert not factor.judged
    assert np.isnan(rate.z)
    assert "no variance" in str(factor)
    told = measure(Network(norm="batch", batch=5, depth=8, width=16), seeds=4).findings
    assert any(f.code == "FLOW-HEAVY" and "batch of 5" in f.message for f in told)
    larger = measure(Network(norm="batch", batch=16, depth=8, width=16), seeds=4).findings
    assert not any(f.code == "FLOW-HEAVY" for f in larger)


def test_a_law_that_does_not_hold_is_noticed_and_the_layer_named() -> None:
    from gradcheck.flow.statistics import summarise
    from gradcheck.flow.verdict import findings_of

    network = replace(RELU, depth=20)
    honest = measure(network, seeds=32)
    trace = trace_network(network, 32, 0, get_activation("relu"), whole=False)
    bent = trace.gradient.copy()
    bent[:8] -= 0.5 * np.arange(8, 0, -1)[:, None]
    moved = replace(trace, gradient=bent)
    names = tuple(f"layer {k + 1}" for k in range(20))
    found = findings_of(summarise(bent, trace.forward), moved, names, honest.predicted)
    at = [f.layer for f in found if f.code == "FLOW-DEPARTS"]
    assert at
    assert at[0] in {"layer 5", "layer 6", "layer 7", "layer 8"}
    assert "FLOW-DEPARTS" not in {f.code for f in honest.findings}


def test_dead_nets_are_counted_apart() -> None:
    network = Network(activation="relu", depth=20, width=3)
    m = measure(network, seeds=200)
    p = m.predicted
    assert p is not None
    share = 1 - (1 - 2.0**-3) ** 19
    assert abs(m.dead / 200 - share) < 4 * (share * (1 - share) / 200) ** 0.5
    assert "FLOW-DEAD" in {f.code for f in m.findings}
    assert np.isfinite(m.rate)


def test_the_gradients_are_those_of_the_reference_formulas() -> None:
    network = Network(activation="tanh", init="torch", depth=4, width=5, batch=3, norm="layer")
    origin = source(network, 3, whole=True, store=store_in(FLOAT64))
    trace = run(network, origin, get_activation("tanh"), 2)
    again = source(network, 3, whole=True, store=store_in(FLOAT64))
    x = again.normal("input", 0, 2)
    maps = [again.maps("weight", layer, x) for layer in range(4)]
    u = again.normal("cotangent", 0, 2)
    ones, zeros = np.ones(5), np.zeros(5)
    for net in range(2):
        h, kept = x[net], []
        for layer, drawn in enumerate(maps):
            assert isinstance(drawn, Drawn)
            assert drawn.bias is not None
            weight, bias = drawn.weight[net], drawn.bias[net, 0]
            z = formulas.dense.value(h, weight, bias)
            y = formulas.layer_norm.value(z, ones, zeros, eps=1e-5, axes=1)
            kept.append((h, weight, bias, z, y))
            h = formulas.tanh.value(y) if layer < 3 else y
        g = u[net]
        for layer in range(3, -1, -1):
            below, weight, bias, z, _ = kept[layer]
            assert np.isclose(trace.gradient[layer, net], np.log(np.sum(g**2)), rtol=1e-12)
            gz = formulas.layer_norm.vjp((z, ones, zeros), g, eps=1e-5, axes=1)[0]
            gx, gw, _ = formulas.dense.vjp((below, weight, bias), gz)
            assert np.isclose(trace.weight_gradient[layer, net], np.log(np.sum(gw**2)), rtol=1e-10)
            if layer:
                g = gx * formulas.tanh.derivative(kept[layer - 1][4])


def test_a_matrix_known_by_its_products_has_the_law_of_a_whole_one() -> None:
    for network in (
        Network(activation="tanh", weight_variance=2.0, depth=8, width=16),
        Network(activation="relu", depth=8, width=16, batch=3, keep=0.9),
        Network(activation="gelu", depth=8, width=16, residual=0.7, weight_variance=1.4),
    ):
        act = get_activation(network.activation)
        # Independent roots, so that the two samples share nothing.
        parts = (trace_network(network, 400, seed, act, whole=bool(seed)) for seed in (0, 1))
        revealed, whole = (t.gradient[0] - t.gradient[-1] for t in parts)
        both = np.sort(np.concatenate([revealed, whole]))
        shares = [np.searchsorted(np.sort(v), both, side="right") / len(v) for v in (revealed, whole)]
        # Kolmogorov and Smirnov: 1.95 √(2/n) is passed once in a thousand times.
        assert np.max(np.abs(shares[0] - shares[1])) < 1.95 * (2 / 400) ** 0.5


def test_a_shallower_network_is_the_beginning_of_a_deeper_one() -> None:
    act = get_activation("tanh")
    for whole in (False, True):
        short, long = (
            trace_network(Network(activation="tanh", depth=d, width=12), 3, 0, act, whole=whole)
            for d in (6, 9)
        )
        assert np.array_equal(short.forward, long.forward[:6])


def test_networks_do_not_depend_on_how_many_are_held_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    act = get_activation("relu")
    for whole in (False, True):
        network = Network(depth=6, width=10, keep=0.9, bias_variance=0.1)
        together = trace_network(network, 7, 0, act, whole=whole)
        monkeypatch.setattr("gradcheck.flow.measuring.CHUNK_BYTES", 1)
        apart = trace_network(network, 7, 0, act, whole=whole)
        monkeypatch.undo()
        np.testing.assert_allclose(apart.gradient, together.gradient, rtol=1e-12)


def test_memory_does_not_grow_with_the_number_of_networks() -> None:
    import tracemalloc

    act = get_activation("relu")
    peaks = []
    for seeds in (100, 400):
        tracemalloc.start()
        trace_network(Network(depth=20, width=48), seeds, 0, act, whole=True)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.2 * peaks[0]


def test_no_depth_overflows_or_underflows() -> None:
    for variance in (1e-4, 1e4):
        m = measure(Network(activation="linear", weight_variance=variance, depth=150, width=8), seeds=4)
        assert abs(m.rate - np.log(variance)) < 1
        assert m.broken == m.dead == 0
        assert m.span > 250


def test_a_forward_pass_that_overflows_is_told_with_its_layer() -> None:
    m = measure(Network(activation="linear", weight_variance=1e30, depth=30, width=8), seeds=4)
    assert m.broken == 4
    assert m.verdict is FlowVerdict.EXPLODING
    (finding,) = [f for f in m.findings if f.code == "FLOW-BROKEN"]
    assert finding.layer in {"layer 20", "layer 21"}


def test_convolutions_lose_at_padded_borders_and_not_around_a_circle() -> None:
    plain = Network(kind="conv", width=6, size=6, depth=10, activation="linear", init="lecun")
    circular, zeros = (measure(replace(plain, padding=p), seeds=24) for p in ("circular", "zeros"))
    assert abs(circular.factor - 1) < 4.5 * circular.factor_error
    assert zeros.predicted is not None
    assert zeros.factor + 4 * zeros.factor_error < 1
    factor, _ = compare(replace(plain, padding="zeros"), seeds=24)
    assert abs(factor.z) < 4.5


def test_a_callable_is_an_activation() -> None:
    m = measure(Network(activation=lambda x: np.where(x > 0, x, 0.0), depth=12, width=32), seeds=8)
    named = measure(Network(activation="relu", depth=12, width=32), seeds=8)
    assert m.rate == named.rate


def test_the_text_holds_the_verdict_and_every_layer() -> None:
    text = str(measure(Network(depth=12, width=16, format="float16"), seeds=4))
    assert "healthy" in text or "watch" in text
    assert all(f"layer {k}" in text for k in range(1, 13))
    assert "float16" in text


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (dict(depth=0), "depth: expected a whole number of at least 2, got 0"),
        (dict(depth=1), "depth: expected a whole number of at least 2, got 1"),
        (dict(width=1), "width: expected a whole number of at least 2"),
        (dict(norm="batch", batch=1), "batch: expected at least 3 inputs with batch normalisation, got 1"),
        (dict(weight_variance=0.0), "weight_variance: expected a positive number, got 0.0"),
        (dict(weight_variance=-1.0), "weight_variance: expected a positive number"),
        (dict(weight_variance=float("nan")), "weight_variance: expected a positive number"),
        (dict(bias_variance=-0.1), "bias_variance: expected a number of at least 0"),
        (dict(activation="gelo"), "did you mean 'gelu'"),
        (dict(init="kaming"), "did you mean 'kaiming'"),
        (dict(norm="bach"), "did you mean 'batch'"),
        (dict(keep=0.0), "keep: expected a number above 0"),
        (dict(residual="1/sqrt(N)"), "1/sqrt"),
        (dict(activation=3), "activation: expected a name or a callable"),
        (dict(kind="conv", kernel=4), "kernel: expected an odd number"),
        (dict(kind="conv", kernel=9), "kernel: expected at most the size"),
        (dict(bias=False, bias_variance=1.0), "leave one of them out"),
        (dict(format="float8"), "unknown format"),
    ],
    ids=str,
)
def test_what_is_no_network_is_refused(bad: dict, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Network(**bad)


def test_arguments_are_checked() -> None:
    for given in (dict(seeds=0), dict(seeds=2.5), dict(loss_scale=0.0), dict(loss_scale=float("inf"))):
        with pytest.raises(UsageError, match=next(iter(given))):
            measure(RELU, **given)
    with pytest.raises(UsageError, match="draws its own inputs"):
        measure(RELU, np.ones(3))


def test_a_single_network_has_no_interval_and_no_confidence() -> None:
    m = measure(RELU, seeds=1)
    assert m.interval == (-np.inf, np.inf)
    assert np.isnan(m.confidence)


def test_the_interval_holds_the_truth_as_often_as_it_says() -> None:
    network = Network(activation="relu", depth=10, width=16)
    law = measure(network, seeds=2).predicted
    assert law is not None
    runs = [measure(network, seeds=8, seed=seed) for seed in range(100)]
    held = sum(low <= law.log_mean <= high for low, high in (m.interval for m in runs))
    # Four deviations of a binomial number of 100 at 95 %.
    assert 95 - 4 * 2.2 <= held <= 100


@pytest.mark.parametrize("activation", ["relu", "linear"])
def test_the_spread_between_networks_is_that_of_the_exact_law(activation: str) -> None:
    network = Network(activation=activation, depth=12, width=24)
    m = measure(network, seeds=800)
    p = m.predicted
    assert p is not None
    # The sample variance of 800 nearly normal numbers has a relative deviation of √(2/799) = 0.05.
    assert abs(m.dispersion / (11 * p.log_variance) - 1) < 4.5 * 0.05
    assert abs(m.statistics.gained / p.log_variance - 1) < 4.5 * 0.05


def test_one_seed_more_adds_a_network_and_changes_none() -> None:
    act = get_activation("relu")
    few, more = (trace_network(Network(depth=5, width=8), n, 0, act, whole=True) for n in (3, 5))
    np.testing.assert_allclose(more.gradient[:, :3], few.gradient, rtol=1e-12)


@pytest.mark.parametrize(
    "network",
    [
        Network(depth=40, width=2),
        Network(depth=2, width=2),
        Network(norm="batch", batch=3, depth=4, width=4),
        Network(kind="conv", depth=3, width=2, kernel=1, size=1),
        Network(kind="conv", norm="batch", batch=2, depth=4, width=3, residual=1, keep=0.5),
        Network(activation="tanh", weight_variance=1e6, depth=20, width=8),
        Network(format="bfloat16", norm="rms", depth=5, width=4, keep=0.7, residual="1/L", init="torch"),
        Network(activation="log_sigmoid", init="orthogonal", depth=6, width=5),
        Network(format="float16", kind="conv", norm="layer", depth=4, width=3),
    ],
    ids=str,
)
def test_extreme_networks_are_measured_and_described_without_a_warning(network: Network) -> None:
    m = measure(network, seeds=3)
    assert m.seeds == 3
    assert m.dead + m.broken + m.statistics.rate.count == 3
    assert len(m.layers) == network.depth
    assert str(m.verdict) in str(m)
