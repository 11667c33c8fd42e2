"""The depth at which a format can no longer hold a gradient, from a prediction alone.

An entry of the gradient is φ'(z) h with h Gaussian and independent of z. After k layers from a cotangent
of unit entries E‖g‖²/N is e^(kμ), μ the log_mean, so h has the variance e^(kμ)/E φ'² (over the whole
layer, zeros included). Below half the least subnormal number an entry is 0: of Gaussian entries of
deviation s the share erf(θ/(s√2)). Entries whose slope is 0 are zero in every format and are left out.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, special

from gradcheck.errors import UsageError
from gradcheck.flow.activations import Activation, get_activation
from gradcheck.flow.moments import gaussian_edges
from gradcheck.flow.prediction import Prediction
from gradcheck.flow.streams import STREAM
from gradcheck.formats import Format, get_format

Float64Array = NDArray[np.float64]

_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(16)


@dataclass(frozen=True)
class Entries:
    """The law of the entries of a gradient whose slope is not 0, per root mean square of the whole gradient.

    |entry| = slope · |N(0, 1)|, with `slopes` of chances `chances`; `alive` is the share of entries that
    are not 0 by their slope (or dropout).
    """

    slopes: Float64Array
    chances: Float64Array
    alive: float

    def below(self, level: float) -> float:
        """Return P(|entry| < level), the level in root mean squares."""
        with np.errstate(divide="ignore"):
            return float(np.sum(self.chances * special.erf(level / (self.slopes * math.sqrt(2.0)))))

    def quantile(self, share: float) -> float:
        """Return the level that this share of the entries is below."""
        low, high = 1e-40, 1e6
        found = optimize.brentq(
            lambda x: self.below(math.exp(x)) - share, math.log(low), math.log(high), xtol=1e-12
        )
        return math.exp(float(found))


@dataclass(frozen=True)
class FormatDepth:
    """Layers that a unit cotangent passes until half of the entries have failed in a format; inf: never.

    `zero`, `subnormal` (zeros included) and `infinite` are real numbers of layers; `overflow` is where one
    entry of a layer is infinite as likely as not (NaN without a width): one layer on it is in every entry.
    `limit` is the first of zero, infinite and overflow + 1; `deviation` its predicted standard deviation
    between networks, in layers.
    """

    format: str
    zero: float
    subnormal: float
    infinite: float
    overflow: float
    limit: float
    deviation: float

    @property
    def uncertainty(self) -> float:
        """One layer and four predicted standard deviations."""
        return 1 + 4 * self.deviation


def entries_of(
    prediction: Prediction, activation: str | Callable[..., Any] | Activation | None = None, keep: float = 1.0
) -> Entries:
    """Return the law of the entries behind a prediction; `activation` where its name says too little."""
    if prediction.quantity == STREAM:
        return Entries(np.ones(1), np.ones(1), 1.0)
    known = get_activation(activation if activation is not None else prediction.activation)
    if known.slopes is not None:
        slopes, chances = np.abs(np.array(known.slopes)), np.array([0.5, 0.5])
    else:
        slopes, chances = _slope_law(known, min(max(prediction.q, 1e-24), 1e24))
    open_share = float(np.sum(chances[slopes > 0]))
    if open_share == 0:
        raise UsageError(f"activation: {known.name} has no slope other than 0 at q = {prediction.q:.3g}")
    square = float(np.sum(chances * slopes**2))
    kept = slopes > 0
    return Entries(slopes[kept] / math.sqrt(keep * square), chances[kept] / open_share, keep * open_share)


def _slope_law(activation: Activation, q: float) -> tuple[Float64Array, Float64Array]:
    """Return |φ'(z)| for z ~ N(0, q) as values and chances: the nodes of a quadrature."""
    deviation = math.sqrt(q)
    edges = gaussian_edges(np.zeros(1), np.array([deviation]), activation.breaks)[0]
    low, high = edges[:-1][:, None], edges[1:][:, None]
    z = (low + (high - low) * (_NODES + 1) / 2).ravel()
    chances = ((high - low) / 2 * _WEIGHTS).ravel() * np.exp(-0.5 * np.square(z / deviation))
    kept = chances > 0
    return np.abs(activation.derivative(z[kept])), chances[kept] / np.sum(chances)


def format_depth(
    prediction: Prediction,
    format: str,
    *,
    activation: str | Callable[..., Any] | Activation | None = None,
    keep: float = 1.0,
    scale: float = 1.0,
) -> FormatDepth:
    """Return where a format fails, for a cotangent of entries of root mean square `scale`.

    The deviation is √(k v + 4 · 1.36/n)/|μ|: the gain of ln ‖g‖² over k layers, and what the median of n
    entries is off.
    """
    fmt = get_format(format)
    if not (scale > 0 and math.isfinite(scale)):
        raise UsageError(f"scale: expected a finite number above 0, got {scale!r}")
    entries = entries_of(prediction, activation, keep)
    median = entries.quantile(0.5)

    def layers(level: float, per_unit: float, sign: int) -> float:
        """Return k with scale · e^(kμ/2) · per_unit = level, if the gradient moves that way."""
        distance = 2 * (math.log(level) - math.log(scale * per_unit))
        if sign * distance <= 0:
            return 0.0
        return distance / prediction.log_mean if sign * prediction.log_mean > 0 else math.inf

    zero, subnormal = (layers(x, median, -1) for x in (fmt.eta, fmt.least_normal))
    infinite, overflow = layers(_overflow(fmt), median, 1), math.nan
    if prediction.width is not None:
        count = max(1.0, prediction.width * entries.alive)
        overflow = layers(_overflow(fmt), entries.quantile(2 ** (-1 / count)), 1)
    limit = min(zero, infinite, math.inf if math.isnan(overflow) else overflow + 1)
    return FormatDepth(
        format, zero, subnormal, infinite, overflow, limit, _deviation(prediction, entries, limit)
    )


def _overflow(fmt: Format) -> float:
    """Return the least magnitude that rounds to infinity; the largest number where float64 cannot hold it."""
    return float(np.ldexp(2.0 - 2.0**-fmt.precision, fmt.emax)) if fmt.emax < 1023 else fmt.largest


def _deviation(prediction: Prediction, entries: Entries, limit: float) -> float:
    if not math.isfinite(limit) or prediction.width is None or limit == 0:
        return 0.0
    if math.isnan(prediction.log_variance):
        return math.nan
    # A median of n Gaussian magnitudes has a relative deviation of 1.166/√n, and ln ‖g‖² counts squares.
    of_median = 4 * 1.166**2 / (prediction.width * entries.alive)
    return math.sqrt(prediction.log_variance * limit + of_median) / abs(prediction.log_mean)


def shares(
    prediction: Prediction,
    format: str,
    depth: int,
    *,
    activation: str | Callable[..., Any] | Activation | None = None,
    keep: float = 1.0,
    scale: float = 1.0,
) -> tuple[Float64Array, Float64Array, Float64Array]:
    """Return the shares of entries that are zero, subnormal and infinite after 0 … depth layers.

    For Gaussian entries of deviation s: erf(θ/(s√2)), θ half the least subnormal, and so on. What an
    infinite entry makes of others is left out.
    """
    fmt, entries = get_format(format), entries_of(prediction, activation, keep)
    zero, subnormal, infinite = [], [], []
    for layers in range(depth + 1):
        log_size = math.log(scale) + layers * prediction.log_mean / 2
        level = [
            math.exp(min(700.0, math.log(x) - log_size)) for x in (fmt.eta, fmt.least_normal, _overflow(fmt))
        ]
        below = [entries.below(x) for x in level]
        zero.append(below[0])
        subnormal.append(below[1] - below[0])
        infinite.append(1 - below[2])
    return np.array(zero), np.array(subnormal), np.array(infinite)
