"""Networks with batch, layer or RMS normalisation before the activation: z, y = norm(z), φ(y).

What is normalised has variance 1 whatever the weights: the factor does not depend on their scale, except
against that of the biases under layer and RMS norm.
"""

from __future__ import annotations

import math

from gradcheck.errors import UsageError
from gradcheck.flow import batch_norm
from gradcheck.flow.laws import LogLaw, linear_layer_norm, linear_rms_norm, rectified_rms_norm
from gradcheck.flow.moments import flat_share, moments
from gradcheck.flow.plain import unit_spread
from gradcheck.flow.prediction import Prediction
from gradcheck.flow.setting import GAUSSIAN_BIASES, Setting
from gradcheck.flow.settling import STAYS

YANG = "Yang, Pennington, Rao, Sohl-Dickstein & Schoenholz, arXiv:1902.08129, 2019"
OF_FEATURES = "Poole et al., arXiv:1606.05340, 2016, at q = 1; Ba, Kiros & Hinton, arXiv:1607.06450, 2016"
_EPSILON = "the constant that the variance is raised by is 0"
_COTANGENT = "the cotangent does not depend on the forward pass"


def normalised(setting: Setting) -> Prediction:
    """Return the prediction of a network of layers with one kind of normalisation.

    Raises `UsageError` for an activation without a slope: nothing but a constant comes out of it.
    """
    if float(moments(setting.activation, 1.0).slope_square) == 0:
        raise UsageError(
            f"activation: {setting.activation.name} has slope 0 everywhere: no gradient passes it"
        )
    return _over_the_batch(setting) if setting.norm == "batch" else _over_the_features(setting)


def _over_the_batch(setting: Setting) -> Prediction:
    act, batch = setting.activation, setting.batch
    factor, error = (
        batch_norm.wide_factor(act, setting.keep)
        if batch is None
        else batch_norm.factor(act, batch, setting.keep)
    )
    said = [
        _COTANGENT,
        "wide layers, whose inputs are at the symmetric fixed point: every two of the batch alike",
        "γ = 1, β = 0, statistics of the batch (training); biases change nothing",
        _EPSILON,
    ]
    if batch is None:
        said.append("many inputs: B → ∞")
    elif batch < 7:
        said.append("the variance of E 1/χ² is large or infinite: a sample mean needs very wide layers")
    return _of(setting, factor, error, said, YANG, None, 0.0 if setting.width is None else math.nan)


def _over_the_features(setting: Setting) -> Prediction:
    """σ_w² E φ'²/(σ_w² E φ² + σ_b²) at q = 1, both expectations over p with dropout."""
    act, w, b = setting.activation, setting.weight_variance / setting.keep, setting.bias_variance
    at = moments(act, 1.0)
    below = w * float(at.square) + b
    factor = w * float(at.slope_square) / below
    error = w * (float(at.errors["slope_square"]) + factor * float(at.errors["square"])) / below
    said = [_COTANGENT, _EPSILON, "the gain of the norm is 1, its bias 0"]
    law = _law_of_features(setting)
    if law is None:
        said.append("wide layers: what is normalised is Gaussian")
        if setting.bias_variance:
            said.append(GAUSSIAN_BIASES)
    else:
        said.append("Gaussian weights without biases; one input")
        factor = law.mean
    spread = _first_order(setting) if law is None and setting.width else 0.0
    return _of(setting, factor, error, said, OF_FEATURES, law, spread)


def _law_of_features(setting: Setting) -> LogLaw | None:
    """Return the law at a finite width, where it is known: no biases, Gaussian W, φ linear or one-sided."""
    width, slopes = setting.width, setting.activation.slopes
    if width is None or slopes is None or setting.bias_variance or setting.weights != "gaussian":
        return None
    left, right = (abs(slope) for slope in slopes)
    if setting.norm == "rms" and left * right == 0:
        return rectified_rms_norm(width, 0.5 * setting.keep)
    if setting.norm == "rms" and left == right and setting.keep == 1:
        return linear_rms_norm(width)
    if setting.norm == "layer" and slopes[0] == slopes[1] and setting.keep == 1:
        return linear_layer_norm(width)
    return None


def _first_order(setting: Setting) -> float:
    """Var ln per layer to first order in 1/N: of ΣA, the next norm's χ²_N and ΣF, given Σz² (and Σz)."""
    assert setting.width is not None
    if setting.bias_variance or setting.weights != "gaussian":
        return math.nan
    at = moments(setting.activation, 1.0)
    own, both, other = unit_spread(at, setting.keep, on_sphere=True, centred=setting.norm == "layer")
    square = float(at.square) / setting.keep
    return (own + 2 + other / square**2 - 2 * both / square) / setting.width


def _of(
    setting: Setting,
    factor: float,
    error: float,
    said: list[str],
    source: str,
    law: LogLaw | None,
    spread: float,
) -> Prediction:
    if law is None and setting.width is not None:
        said.append("log_mean is ln factor, off by O(1/N)")
    dead = 0.0
    if law is not None:
        dead = law.dead
    elif setting.width is not None:
        closed = 1 - setting.keep * (1 - flat_share(setting.activation, 1.0))
        examples = setting.batch or 1 if setting.norm == "batch" else 1
        dead = closed ** (setting.width * examples)
    return Prediction(
        activation=setting.activation.name,
        factor=factor,
        log_mean=math.log(factor) if law is None else law.log_mean,
        log_variance=spread if law is None else law.log_variance,
        exact=law is not None and law.mean == factor and law.dead == 0,
        log_exact=law is not None,
        q=1.0,
        outcome=STAYS,
        stability=0.0,
        error=error,
        log_error=error / factor if law is None else law.error,
        dead=dead,
        assumptions=tuple(said),
        source=source,
        width=setting.width,
        path=(factor,) * (setting.depth or 0),
    )
