"""Networks without normalisation: χ at the fixed point of the variance, and the law at a finite width."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from gradcheck.flow.activations import Activation
from gradcheck.flow.laws import LogLaw, gaussian, orthogonal
from gradcheck.flow.moments import Moments, flat_share, moments
from gradcheck.flow.prediction import Prediction
from gradcheck.flow.setting import GAUSSIAN_BIASES, Setting
from gradcheck.flow.settling import GROWS, OSCILLATES, VANISHES, settle, variance_path

Float64Array = NDArray[np.float64]

MEAN_FIELD = "Poole et al., arXiv:1606.05340, 2016; Schoenholz et al., arXiv:1611.01232, 2017"
HANIN_NICA = "Hanin & Nica, arXiv:1812.05994, 2018"
NEWMAN = "Newman, Commun. Math. Phys. 103, 1986"
_COTANGENT = "the cotangent does not depend on the forward pass"
_ORTHOGONAL = "square orthogonal matrices, uniform (Haar), times the root of the weights' variance"


def plain(setting: Setting) -> Prediction:
    """Return the prediction of a network of layers z = W φ(z) + b, with dropout after φ."""
    act, w, b = setting.activation, setting.weight_variance / setting.keep, setting.bias_variance
    at = settle(act, w, b, setting.start)
    factor, error, q = float(at.factor), float(at.error), float(at.q)
    outcome, stability = str(at.outcome), float(at.stability)
    homogeneous = act.slopes is not None
    law = _law(setting) if homogeneous and setting.width is not None else None
    exact_log = law is not None and setting.weights != "uniform"
    if law is None:
        variance = _first_order(setting, q, outcome, stability)
        idle = 1 - setting.keep * (1 - _flat(act, q, outcome))
        dead = idle**setting.width if setting.width else 0.0
        # A factor of 0 or inf has no logarithm to be off.
        log_mean = math.log(factor) if 0 < factor < math.inf else math.copysign(math.inf, factor - 1)
        log_error = error / factor if 0 < factor < math.inf else 0.0
    else:
        variance, dead = law.log_variance, law.dead
        log_mean, log_error = law.log_mean + math.log(w / setting.keep), law.error + 2.0**-50
    return Prediction(
        activation=act.name,
        factor=factor,
        log_mean=log_mean,
        log_variance=variance,
        exact=homogeneous,
        log_exact=exact_log,
        q=q,
        outcome=outcome,
        stability=stability,
        error=error,
        log_error=log_error,
        dead=dead,
        assumptions=_assumptions(setting, outcome, homogeneous, law is not None),
        source=_source(act, homogeneous),
        width=setting.width,
        path=_path(setting),
    )


def chances(setting: Setting) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return the squares of a unit's slope, if φ is linear on both sides of 0, and their chances."""
    assert setting.activation.slopes is not None
    left, right = (slope**2 for slope in setting.activation.slopes)
    half = 0.5 * setting.keep
    return (left, right, 0.0), (half, half, 1 - setting.keep)


def _law(setting: Setting) -> LogLaw:
    """The law of Σ s_i² Z_i²/N, without the factor σ_w²/p²."""
    assert setting.width is not None
    made = orthogonal if setting.weights == "orthogonal" else gaussian
    return made(setting.width, *chances(setting))


def _flat(activation: Activation, q: float, outcome: str) -> float:
    if activation.slopes is not None:
        return 0.5 * sum(slope == 0 for slope in activation.slopes)
    return flat_share(activation, _readable(q, outcome))


def _readable(q: float, outcome: str) -> float:
    """A variance at which moments stand for their limit."""
    return {VANISHES: 1e-24, GROWS: 1e24}.get(outcome, q)


def _first_order(setting: Setting, q: float, outcome: str, stability: float) -> float:
    """Var ln per layer to first order in 1/N: the backward pass, and the forward variance that it follows.

    The units' A = s²Z²/E s² and F = σ_w² φ²/p, with the same z in both, and δ' = χ∥ δ + ΣF/N - E F for
    the variance: ln ‖g‖² gains the sum of A/N and of κδ over the layers, κ = d ln χ/dq, and the sum of δ
    is that of F over 1 - χ∥.
    """
    if setting.width is None:
        return 0.0
    if outcome == OSCILLATES:
        return math.nan
    at = moments(setting.activation, _readable(q, outcome))
    if not 0 < float(at.slope_square) < math.inf:
        return math.nan
    fixed = setting.weights == "orthogonal"
    spread = unit_spread(at, setting.keep, on_sphere=fixed, backward=fixed)
    if outcome in (VANISHES, GROWS):
        return spread[0] / setting.width
    if abs(1 - stability) < 1e-6:
        return math.nan
    weight = float(at.slope_rate / at.slope_square) * setting.weight_variance / (1 - stability)
    return (spread[0] + 2 * weight * spread[1] + weight**2 * spread[2]) / setting.width


def unit_spread(
    at: Moments, keep: float, *, on_sphere: bool = False, backward: bool = False, centred: bool = False
) -> tuple[float, float, float]:
    """Return Var A, Cov(A, F) and Var F of one unit: A = m φ'²Z²/(p E φ'²), F = m φ²/p², m dropout's mask.

    `on_sphere`: Σz² is fixed, so what follows z² is taken off; `backward`: ΣZ² is; `centred`: Σz is.
    """
    slope, square, q = float(at.slope_square), float(at.square), float(at.q)
    own = 3 * float(at.slope_fourth) / (keep * slope**2) - 1
    both = float(at.product) / (keep**2 * slope) - square / keep
    other = float(at.square_square) / keep**3 - (square / keep) ** 2
    if backward:
        own -= 2
    if on_sphere:
        # Cov(f, z²) = 2q² d/dq E f.
        kappa, rate = float(at.slope_rate) / slope, float(at.square_rate) / keep
        own, both, other = (
            own - 2 * (q * kappa) ** 2,
            both - 2 * q**2 * kappa * rate,
            other - 2 * (q * rate) ** 2,
        )
    if centred:
        first, second = float(at.slope_first) / slope, float(at.square_first) / keep
        own, both, other = own - first**2, both - first * second, other - second**2
    return own, both, other


def _path(setting: Setting) -> tuple[float, ...]:
    if setting.depth is None:
        return ()
    act, w = setting.activation, setting.weight_variance / setting.keep
    if act.slopes is not None:
        return (w * 0.5 * (act.slopes[0] ** 2 + act.slopes[1] ** 2),) * setting.depth
    q = variance_path(act, w, setting.bias_variance, setting.start, setting.depth)
    readable = np.clip(q, 1e-24, 1e24)
    return tuple(float(x) for x in w * moments(act, readable).slope_square)


def _assumptions(setting: Setting, outcome: str, homogeneous: bool, finite: bool) -> tuple[str, ...]:
    said = [_COTANGENT]
    if homogeneous:
        said.append("weights of mean 0 and a symmetric law, biases of a symmetric law; one input")
    else:
        said.append("wide layers: pre-activations are Gaussian, and weights backward are as if drawn anew")
        said.append(f"layers far enough from the input: the variance of pre-activations {outcome}")
        if setting.bias_variance:
            said.append(GAUSSIAN_BIASES)
    if setting.weights == "orthogonal":
        said.append(_ORTHOGONAL)
    if finite and setting.weights == "uniform":
        said.append("the logarithm's law is that of Gaussian weights, off by O(1/N²) per layer for others")
    if not homogeneous and setting.width is not None:
        said.append("log_mean is ln factor, off by O(1/N); log_variance is of first order in 1/N")
    if setting.activation.jumps:
        places = ", ".join(map(str, setting.activation.jumps))
        said.append(f"the activation jumps at {places}, where no gradient passes")
    return tuple(said)


def _source(activation: Activation, homogeneous: bool) -> str:
    if not homogeneous:
        return MEAN_FIELD
    left, right = activation.slopes or (0.0, 0.0)
    return NEWMAN if left == right else HANIN_NICA
