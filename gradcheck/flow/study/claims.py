"""The article's claims on vanishing and exploding gradients, decided by what was measured.

Every verdict is computed from its numbers: a difference counts from 4 standard errors on.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from gradcheck import formulas
from gradcheck.article.printed import printed_leaky_relu
from gradcheck.flow import rows_plain
from gradcheck.flow.activations import get_activation
from gradcheck.flow.document import QUALIFIED, REFUTED, STANDARD_ERRORS, SUPPORTED, Claim, Number
from gradcheck.flow.limits import run_format
from gradcheck.flow.measuring import Measurement, measure_network
from gradcheck.flow.network import Network
from gradcheck.flow.statistics import DECADES
from gradcheck.flow.study.plans import is_whole, seed_of, traced
from gradcheck.flow.study.readings import Array, Reading, mean_of
from gradcheck.flow.study.training import first_bad_depth, sgd_ratio

TEXTS = {
    "C01": "when gradients vanish, their decay gets slower with depth, and the learning rate tends to 0",
    "C02": "when gradients vanish, layers near the output take smaller steps than those near the input",
    "C03": "gradients that explode grow with depth until training fails or the loss is infinite",
    "C05": "noise at initialisation, the learning rate and dropout relieve explosion, not vanishing",
    "C07": "the half on which ReLU's slope is 0 makes most gradients 0",
    "C08": "a sigmoid after ReLU repairs that, since its derivative is continuous",
    "C09": "leaky ReLU avoids units without gradient",
    "C12": "batch normalisation reduces vanishing and exploding gradients",
}
SEEDS, DEPTH, WIDTH = 64, 30, 128
LEAKY = 0.2


@dataclass(frozen=True)
class Traced:
    """r_l = ln ‖g_l‖² of networks that are alive, and the share of entries whose slope is 0."""

    r: Array
    idle: Array


def _trace(network: Network, seed: int, *place: int, seeds: int = SEEDS) -> Traced:
    trace = traced(network, seeds, seed_of(seed, 6, *place))
    live = np.all(np.isfinite(trace.gradient), axis=0)
    return Traced(trace.gradient[:, live], trace.idle[:-1])


def _decades(r: Array, low: int, high: int) -> Reading:
    """Return the decades of ‖g‖ from layer `high` to layer `low`, counted from 0."""
    return mean_of((r[low] - r[high]) * DECADES)


def _number(label: str, reading: Reading) -> Number:
    return Number(label, reading.value, reading.error, reading.networks)


def _surely_above(reading: Reading, level: float) -> bool:
    return reading.value - level > STANDARD_ERRORS * reading.error


def _claim(id: str, verdict: str, says: str, *numbers: Number) -> Claim:
    return Claim(id, TEXTS[id], verdict, numbers, says)


def decay(seed: int) -> Claim:
    """C01: decay per layer near the output and near the input, and what SGD does with its rate."""
    r = _trace(Network("relu", DEPTH, WIDTH, init="torch", bias=False), seed, 1).r
    half = (DEPTH - 1) // 2
    late, early = (r[0] - r[half]) / half, (r[half] - r[2 * half]) / half
    output, inside = mean_of(-early * DECADES), mean_of(-late * DECADES)
    slower = mean_of((late - early) * DECADES)
    rate = sgd_ratio(seed)
    holds = _surely_above(slower, 0.0)
    says = (
        f"The gradient loses {output.value:.3f} decades a layer near the output and {inside.value:.3f} near "
        "the "
        "input: a constant share of what is left. The learning rate is what it was; steps shrink because "
        "gradients do."
    )
    return _claim(
        "C01",
        (SUPPORTED if rate < 1 else QUALIFIED) if holds else REFUTED,
        says,
        _number("decades lost per layer, half at the output", output),
        _number("decades lost per layer, half at the input", inside),
        _number("by how much it is less near the input", slower),
        Number("step over gradient in the first layer, in learning rates", rate),
    )


def small_steps(seed: int) -> Claim:
    """C02: gradients of pre-activations and of weights at both ends of networks that vanish."""
    networks = (
        ("sigmoid, Glorot", Network("sigmoid", 12, WIDTH, init="xavier")),
        ("tanh, default", Network("tanh", DEPTH, WIDTH, init="torch")),
    )
    numbers, larger = [], []
    for place, (name, network) in enumerate(networks):
        trace = traced(network, SEEDS, seed_of(seed, 6, 2, place))
        units = mean_of((trace.gradient[0] - trace.gradient[-1]) * DECADES)
        weights = mean_of((trace.weight_gradient[0] - trace.weight_gradient[-1]) * DECADES)
        numbers += [
            _number(f"{name}: log₁₀ ‖g₁‖/‖g_L‖", units),
            _number(f"{name}: the same of weights' steps", weights),
        ]
        larger += [_surely_above(weights, 0.0)]
    verdict = SUPPORTED if all(larger) else QUALIFIED if any(larger) else REFUTED
    says = (
        "The layers near the input take the smaller steps, by as many decades as the gradient has lost on "
        "its way."
    )
    return _claim("C02", verdict, says, *numbers)


def explosion(seed: int) -> Claim:
    """C03: the depth at which float16 overflows and at which a step of training gives no finite loss."""
    hot = Network("relu", DEPTH, 64, weight_variance=4.0)
    m = measure_network(hot, SEEDS, seed_of(seed, 6, 3))
    run = run_format(hot, m.limits["float16"], networks=12, seed=seed_of(seed, 6, 4))
    bad, calm = first_bad_depth(4.0, seed), first_bad_depth(2.0, seed)
    grows = m.rate > STANDARD_ERRORS * m.rate_error
    holds = grows and run.depth is not None and math.isfinite(bad)
    says = (
        "With σ_w² = 4 a gradient doubles its square in every layer; in float16 it is infinite at depth "
        f"{run.depth}, "
        f"and from depth {bad:.0f} on a few steps of float32 training end in a loss that is no number. At "
        "σ_w² = 2 "
        + (
            "no depth that was tried does."
            if math.isinf(calm)
            else f"depth {calm:.0f} is the first that does."
        )
        + " The growth is geometric, not ever faster."
    )
    return _claim(
        "C03",
        SUPPORTED if holds else REFUTED,
        says,
        Number("factor of ‖g‖² per layer, σ_w² = 4", m.factor, m.factor_error, SEEDS),
        Number(
            "depth at which half the float16 entries are infinite",
            float(run.depth or math.nan),
            math.nan,
            run.networks,
        ),
        Number("depth from which training fails, σ_w² = 4", bad),
        Number("the same, σ_w² = 2", calm),
    )


def remedies(seed: int) -> Claim:
    """C05: decades lost with and without each remedy."""
    base = Network("relu", DEPTH, WIDTH, init="torch", bias=False)
    choices = (
        ("default initialisation", base),
        ("scale of the noise as He's", Network("relu", DEPTH, WIDTH)),
        ("noise on the biases as well", replace(base, bias=None, bias_variance=0.1)),
        ("dropout keeping 0.8", replace(base, keep=0.8)),
        ("He's scale and dropout keeping 0.8", Network("relu", DEPTH, WIDTH, keep=0.8)),
    )
    found = {
        name: _decades(_trace(network, seed, 5, k).r, 0, DEPTH - 1)
        for k, (name, network) in enumerate(choices)
    }
    start = abs(found["default initialisation"].value)
    cured = [name for name, reading in found.items() if abs(reading.value) < 1.0]
    rate = sgd_ratio(seed, lr=0.5) - sgd_ratio(seed, lr=0.01)
    scale, only = "scale of the noise as He's", "He's scale and dropout keeping 0.8"
    says = (
        f"Of {start:.1f} decades lost the learning rate changes nothing and dropout little; the scale of the "
        "noise at "
        f"initialisation cures vanishing: {abs(found[scale].value):.2f} decades are left. "
        f"Dropout on top of it moves the network off the critical line ({found[only].value:+.2f} decades)."
    )
    return _claim(
        "C05",
        SUPPORTED if not cured else QUALIFIED,
        says,
        *(_number(f"log₁₀ ‖g₁‖/‖g_L‖, {name}", reading) for name, reading in found.items()),
        Number("change of (step/gradient)/rate between the rates 0.5 and 0.01", rate),
    )


def _relu_below(x: Array) -> Array:
    """ReLU of a unit whose bias is -1/2."""
    return np.maximum(x - 0.5, 0.0)


def shut_units(seed: int) -> Claim:
    """C07: the share of units without gradient, and of networks that pass none at all."""
    he = Network("relu", DEPTH, WIDTH)
    shares = {
        "He, no bias": mean_of(np.mean(_trace(he, seed, 7, 0).idle, axis=0)),
        "He, random biases of variance 0.5": mean_of(
            np.mean(_trace(replace(he, bias_variance=0.5), seed, 7, 1).idle, axis=0)
        ),
        "He, biases of -1/2": mean_of(
            np.mean(_trace(Network(_relu_below, DEPTH, WIDTH, weight_variance=2.0), seed, 7, 2).idle, axis=0)
        ),
    }
    numbers = [_number(f"share of units with slope 0: {name}", reading) for name, reading in shares.items()]
    most = {name: _surely_above(reading, 0.5) for name, reading in shares.items()}
    for width in (2, 4, 16):
        network = Network("relu", 20, width)
        trace = traced(network, 1000, seed_of(seed, 6, 8, width))
        gone = mean_of(np.any(trace.gradient == -np.inf, axis=0).astype(float))
        numbers.append(_number(f"share of networks of depth 20 and width {width} without any gradient", gone))
        numbers.append(Number(f"the same, exact, width {width}", rows_plain.dead_probability(width, 20)))
        most[f"width {width}"] = _surely_above(gone, 0.5)
    verdict = SUPPORTED if all(most.values()) else QUALIFIED if any(most.values()) else REFUTED
    named = [name for name, holds in most.items() if holds]
    says = (
        f"Half the units, not most, have slope 0 with symmetric biases ({shares['He, no bias'].value:.3f}). "
        "It is most of "
        f"them, or of the networks, for: {', '.join(named) or 'none of those measured'}."
    )
    return _claim("C07", verdict, says, *numbers)


def _sigmoid_after_relu(x: Array) -> Array:
    return np.asarray(formulas.sigmoid(np.maximum(x, 0.0)))


def sigmoid_after(seed: int) -> Claim:
    """C08: the factor per layer of σ∘ReLU beside ReLU's, and the slopes point by point."""
    plain = measure_network(Network("relu", 12, WIDTH), SEEDS, seed_of(seed, 6, 9))
    after = measure_network(
        Network(_sigmoid_after_relu, 12, WIDTH, weight_variance=2.0), SEEDS, seed_of(seed, 6, 10)
    )
    x = np.linspace(-30.0, 30.0, 6001)
    x = x[np.abs(x) > 1e-9]
    slope = get_activation(_sigmoid_after_relu).derivative(x)
    largest = float(np.max(slope))
    shut = float(np.mean(slope[x < 0] == 0))
    better = after.factor - plain.factor > STANDARD_ERRORS * math.hypot(
        after.factor_error, plain.factor_error
    )
    says = (
        f"Its slope is 0 on the same half-line and at most {largest:.3f} on the other: a layer passes "
        f"{after.factor:.3f} of ‖g‖² where ReLU passes {plain.factor:.3f}."
    )
    return _claim(
        "C08",
        SUPPORTED if better and shut < 1 else QUALIFIED if better or shut < 1 else REFUTED,
        says,
        Number("factor per layer, ReLU", plain.factor, plain.factor_error, SEEDS),
        Number("factor per layer, sigmoid after ReLU", after.factor, after.factor_error, SEEDS),
        Number("largest slope of the sigmoid after ReLU", largest),
        Number("share of negative inputs at which its slope is 0", shut),
    )


def _printed_leaky(x: Array) -> Array:
    return np.asarray(printed_leaky_relu(x, LEAKY))


def leaky(seed: int) -> Claim:
    """C09: the share of units without gradient, with the reference formula and with the printed one."""
    reference = mean_of(np.mean(_trace(Network("leaky_relu", DEPTH, WIDTH), seed, 11).idle, axis=0))
    printed = mean_of(
        np.mean(_trace(Network(_printed_leaky, DEPTH, WIDTH, weight_variance=2.0), seed, 12).idle, axis=0)
    )
    avoids = reference.value == 0, printed.value == 0
    says = (
        f"With αx below 0 the share of units with slope 0 is {reference.value:.3f}; the printed max(αx, "
        "max(0, x)) is ReLU "
        f"for 0 < α < 1, and its share is {printed.value:.3f}."
    )
    return _claim(
        "C09",
        SUPPORTED if all(avoids) else QUALIFIED if any(avoids) else REFUTED,
        says,
        _number("share of units with slope 0, reference", reference),
        _number("share of units with slope 0, as printed (α = 0.2)", printed),
    )


def batch_norm(seed: int) -> Claim:
    """C12: the factor per layer with and without batch norm, over the scale of the weights and the batch."""
    numbers: list[Number] = []
    with_norm: list[Measurement] = []
    without: list[Measurement] = []
    for place, gain in enumerate((0.5, 1.0, 2.0)):
        for norm in (None, "batch"):
            network = Network("relu", 16, 64, gain=gain, norm=norm, batch=16 if norm else None)
            m = _measured(network, seed, 13 + place)
            (with_norm if norm else without).append(m)
            named = "batch norm over 16" if norm else "plain"
            numbers.append(
                Number(f"factor per layer, {named}, gain {gain:g}", m.factor, m.factor_error, m.seeds)
            )
    larger = _measured(Network("relu", 16, 128, norm="batch", batch=32), seed, 20)
    numbers.append(
        Number("factor per layer, batch norm over 32", larger.factor, larger.factor_error, larger.seeds)
    )
    spread = max(m.factor for m in with_norm) / min(m.factor for m in with_norm)
    steady = spread < max(m.factor for m in without) / min(m.factor for m in without)
    explodes = all(m.factor - 1 > STANDARD_ERRORS * m.factor_error for m in (*with_norm, larger))
    verdict = SUPPORTED if steady and not explodes else QUALIFIED if steady else REFUTED
    depth = larger.depth_limit["float16"]
    says = (
        "It takes away the dependence on the weights' scale: the factor is the same for every gain. Yet it "
        "is "
        f"{with_norm[1].factor:.2f} over 16 inputs and {larger.factor:.2f} over 32, not 1: a deep plain "
        "network with batch "
        f"norm explodes at initialisation, and float16 overflows at depth {depth}."
    )
    return _claim("C12", verdict, says, *numbers)


def _measured(network: Network, seed: int, place: int) -> Measurement:
    return measure_network(network, SEEDS, seed_of(seed, 6, place), whole=is_whole(network))


def decided(seed: int) -> tuple[Claim, ...]:
    """Return the article's eight claims with their verdicts."""
    makers = (decay, small_steps, explosion, remedies, shut_units, sigmoid_after, leaky, batch_norm)
    return tuple(make(seed) for make in makers)
