"""Residual networks h_l = h_{l-1} + s V φ(norm(W h_{l-1} + b)): the gradient along the stream h.

E‖g_{l-1}‖² = (1 + s² σ_w⁴ E φ'²/(p n_l)) E‖g_l‖², with n_l the variance that the norm divides by (1
without one): W and V are drawn by one rule, V has mean 0 and is met once, so that the two paths do not
interfere on average. Source: Yang & Schoenholz, arXiv:1712.08969, 2017; Zhang, Dauphin & Ma,
arXiv:1901.09321, 2019 (scales).
"""

from __future__ import annotations

import math

from gradcheck.errors import UsageError
from gradcheck.flow.laws import LogLaw, residual_block
from gradcheck.flow.moments import moments
from gradcheck.flow.prediction import Prediction
from gradcheck.flow.setting import GAUSSIAN_BIASES, Setting
from gradcheck.flow.settling import GROWS

SOURCE = "Yang & Schoenholz, arXiv:1712.08969, 2017; Zhang, Dauphin & Ma, arXiv:1901.09321, 2019"
STREAM = "stream"


def stream(setting: Setting) -> Prediction:
    """Return the prediction of a residual network, per block."""
    if setting.activation.slopes is not None and setting.norm is None:
        return _homogeneous(setting)
    return _by_depth(setting)


def _homogeneous(setting: Setting) -> Prediction:
    """φ linear on both sides of 0: 1 + s²σ_w⁴(a² + b²)/(2p) in every block, exact at every width."""
    assert setting.activation.slopes is not None and setting.residual is not None
    left, right = (slope**2 for slope in setting.activation.slopes)
    strength = (setting.residual * setting.weight_variance) ** 2 * 0.5 * (left + right) / setting.keep
    factor = 1 + strength
    law = _law(setting, strength)
    spread = 0.0
    if law is None and setting.width is not None:
        mean = 0.5 * (left + right) / setting.keep
        fourth = 0.5 * (left**2 + right**2) / setting.keep**3
        spread = _spread(strength, fourth / mean**2, setting.width)
    return _of(
        setting,
        factor=factor,
        error=factor * 2.0**-48,
        law=law,
        spread=spread,
        exact=True,
        path=(factor,) * (setting.depth or 0),
        said=["weights and biases of symmetric laws, V apart from W; one input"],
    )


def _law(setting: Setting, strength: float) -> LogLaw | None:
    """Return the law at a finite width: Gaussian weights, and slopes that are 0 or one number."""
    assert setting.activation.slopes is not None
    left, right = (abs(slope) for slope in setting.activation.slopes)
    if setting.width is None or setting.weights != "gaussian" or strength == 0:
        return None
    if left != right and left * right != 0:
        return None
    chance = setting.keep * (1.0 if left == right else 0.5)
    return residual_block(setting.width, setting.width, strength, chance)


def _spread(strength: float, fourth: float, width: int) -> float:
    """Var ln of 1 + 2gᵀw + ‖w‖² to first order in 1/N, given E s⁴/(E s²)² of the units' slopes."""
    return (4 * strength + strength**2 * (3 * fourth + 1)) / (width * (1 + strength) ** 2)


def _by_depth(setting: Setting) -> Prediction:
    """Factors that differ between blocks, as the stream grows: their geometric mean, and all in `path`."""
    assert setting.residual is not None
    if setting.depth is None:
        raise UsageError(
            "residual: the factor of a block depends on how far the stream has grown; give depth="
        )
    act, w, keep, scale = setting.activation, setting.weight_variance, setting.keep, setting.residual**2
    path, variances, spread, error = [], [], 0.0, 0.0
    p = setting.input_variance
    for _ in range(setting.depth):
        z = w * p + (0.0 if setting.norm == "batch" else setting.bias_variance)
        q, divisor = (1.0, z) if setting.norm else (z, 1.0)
        at = moments(act, q)
        shared = float(at.mean) ** 2 if setting.norm == "batch" else 0.0
        strength = scale * w**2 * float(at.slope_square) / (keep * divisor)
        path.append(1 + strength)
        variances.append(q)
        slope, off = float(at.slope_square), float(at.errors["slope_square"])
        error += scale * w**2 * off / (keep * divisor) / (1 + strength)
        if setting.width:
            fourth = float(at.slope_fourth) / (keep * slope**2)
            spread += _spread(strength, fourth, setting.width) / setting.depth
        p += scale * w * (float(at.square) / keep - shared)
    log_mean = math.fsum(map(math.log, path)) / setting.depth
    said = ["wide layers: pre-activations are Gaussian, and the mean over the blocks is a geometric one"]
    if setting.norm == "batch":
        said.append("many inputs: B → ∞")
    elif setting.bias_variance:
        said.append(GAUSSIAN_BIASES)
    if setting.norm:
        said.append("the spread that the norm adds at a finite width is left out")
        spread = math.nan if setting.width else 0.0
    factor = math.exp(log_mean)
    return _of(
        setting,
        factor=factor,
        error=factor * (error + 2.0**-48),
        law=None,
        spread=spread,
        exact=False,
        path=tuple(path),
        said=said,
        q=variances[-1],
    )


def _of(
    setting: Setting,
    *,
    factor: float,
    error: float,
    law: LogLaw | None,
    spread: float,
    exact: bool,
    path: tuple[float, ...],
    said: list[str],
    q: float = math.inf,
) -> Prediction:
    common = ["the cotangent does not depend on the forward pass", "the gradient is taken along the stream"]
    if law is None and setting.width is not None:
        said = [*said, "log_mean is ln factor less half of log_variance, off by O(1/N)"]
    half = 0.0 if math.isnan(spread) else spread / 2
    return Prediction(
        activation=setting.activation.name,
        factor=factor,
        log_mean=math.log(factor) - half if law is None else law.log_mean,
        log_variance=spread if law is None else law.log_variance,
        exact=exact,
        log_exact=law is not None,
        q=q,
        outcome=GROWS,
        stability=factor,
        error=error,
        log_error=error / factor if law is None else law.error,
        dead=0.0,
        assumptions=(*common, *said),
        source=SOURCE,
        width=setting.width,
        quantity=STREAM,
        path=path,
    )
