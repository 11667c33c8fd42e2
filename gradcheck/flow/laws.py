"""The law of one layer at a finite width: what ‖g‖² is multiplied by, and the logarithm of that.

Given the slopes of the units, Gaussian weights of variance σ²/N make ‖g_l‖²/‖g_{l+1}‖² = (σ²/N) Σ_i s_i²
Z_i² with independent normal Z_i. If φ is linear on both sides of 0, the slopes are independent of
everything else: the signs of the rows of a symmetric W are fair coins, and flipping them leaves the law
of all that follows as it is. So the layers multiply independently, and the law is exact at every width,
with any biases of a symmetric law. Source: Hanin & Nica, arXiv:1812.05994, 2018; Newman, Commun. Math.
Phys. 103, 1986 (linear).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import special

Float64Array = NDArray[np.float64]

EULER = float(np.euler_gamma)
# The step h of the trapezoidal rule in ln t, whose error falls as e^(-2πd/h), d = π/2 the distance to where
# the integrand is singular.
_STEP = 1.0 / 16
_FINE, _COARSE = np.polynomial.legendre.leggauss(160), np.polynomial.legendre.leggauss(96)
# Poisson laws of smaller rates are summed, others integrated with so many nodes.
_FEW, _CHARLIER = 200, 24


@dataclass(frozen=True)
class LogLaw:
    """A positive random multiplier R that may also be 0.

    `mean` is E R, zeros included; `log_mean` and `log_variance` are those of ln R given R > 0; `dead` is
    P(R = 0). `error` bounds the numerical error of `log_mean`, absolute.
    """

    mean: float
    log_mean: float
    log_variance: float
    dead: float = 0.0
    error: float = 0.0


def chi_square_ratio(above: float, below: float) -> LogLaw:
    """Return the law of χ²_a/χ²_b, independent.

    E = a/(b - 2), E ln = ψ(a/2) - ψ(b/2), Var ln = ψ'(a/2) + ψ'(b/2).
    """
    mean = above / (below - 2) if below > 2 else math.inf
    log_mean = float(special.digamma(above / 2) - special.digamma(below / 2))
    log_variance = float(special.polygamma(1, above / 2) + special.polygamma(1, below / 2))
    return LogLaw(mean, log_mean, log_variance, error=2.0**-50 * (1 + abs(math.log(above))))


def gaussian(width: int, squares: Sequence[float], chances: Sequence[float]) -> LogLaw:
    """Return the law of (1/N) Σ_i c_i Z_i², c_i = squares[j] with chance chances[j], Z_i normal, N the width.

    One square other than 0: the sum is c χ²_k with k binomial. Several: E e^(-tS) is a product, and with an
    independent exponential E, E/S has the survival function E e^(-tS), so that moments of ln S are
    integrals of it.
    """
    by_square: dict[float, float] = {}
    for square, chance in zip(squares, chances, strict=True):
        by_square[square] = by_square.get(square, 0.0) + chance
    alive = {c: p for c, p in by_square.items() if c > 0 and p > 0}
    mean = math.fsum(c * p for c, p in alive.items())
    chance = min(1.0, math.fsum(alive.values()))
    dead = 0.0 if chance >= 1 else math.exp(width * math.log1p(-chance))
    if not alive or dead == 1:
        return LogLaw(mean, -math.inf, 0.0, 1.0)
    if len(alive) == 1:
        return _binomial(width, mean, chance, dead)
    return _several(width, alive, mean, dead)


def binomial_weights(width: int, chance: float, least: int) -> tuple[Float64Array, Float64Array]:
    """Return k and P(K = k | K >= least) for K binomial, all but 1e-30 of it."""
    if chance >= 1:
        return np.array([float(width)]), np.ones(1)
    reach = 12.0 * math.sqrt(width * chance * (1 - chance)) + 60
    low, high = math.floor(width * chance - reach), math.ceil(width * chance + reach)
    k = np.arange(max(least, low), min(width, high) + 1, dtype=np.float64)
    log_weight = (
        special.gammaln(width + 1.0) - special.gammaln(k + 1) - special.gammaln(width - k + 1)
        + k * math.log(chance) + (width - k) * math.log1p(-chance)
    )  # fmt: skip
    weight = np.exp(log_weight - np.max(log_weight))
    return k, weight / np.sum(weight)


def mixed(weights: Float64Array, means: Float64Array, variances: Float64Array) -> tuple[float, float]:
    """Return mean and variance of a mixture."""
    mean = float(np.sum(weights * means))
    return mean, float(np.sum(weights * (variances + np.square(means - mean))))


def _binomial(width: int, mean: float, chance: float, dead: float) -> LogLaw:
    """(c/N) χ²_k, k binomial and above 0: E ln = ln(2c/N) + E ψ(k/2), Var ln = E ψ'(k/2) + Var ψ(k/2)."""
    k, weight = binomial_weights(width, chance, 1)
    log_mean, log_variance = mixed(weight, special.digamma(k / 2), special.polygamma(1, k / 2))
    log_mean += math.log(2 * mean / (chance * width))
    return LogLaw(mean, log_mean, log_variance, dead, 2.0**-46 * (1 + math.log(width)))


def _several(width: int, alive: dict[float, float], mean: float, dead: float) -> LogLaw:
    """With L(t) = E e^(-tS): E ln(E/S) = -γ + ∫ (L - e^(-t)) d ln t, E ln² likewise, E exponential."""
    # Before, 1 - L is below rounding; after, L is. It falls as t^(-N/2) from the smallest square on, or,
    # where a single unit may be left, as t^(-1/2).
    spread = math.log(mean / min(alive))
    u = np.arange(-46.0, min(600.0, 8.0 + spread + 90.0 / (1 if dead > 1e-18 else width)), _STEP)
    t = np.exp(u) / mean
    inner = [p * np.expm1(-0.5 * np.log1p(2 * c * t / width)) for c, p in alive.items()]
    survival = np.exp(width * np.log1p(np.maximum(np.sum(inner, axis=0), -1 + 2.0**-53)))
    survival = np.maximum(survival - dead, 0) / (1 - dead)
    missing = survival - np.exp(-np.exp(u))
    first = -EULER + float(np.sum(missing)) * _STEP
    second = EULER**2 + math.pi**2 / 6 + 2 * float(np.sum(u * missing)) * _STEP
    log_mean = -EULER - first + math.log(mean)
    variance = max(0.0, second - first**2 - math.pi**2 / 6)
    return LogLaw(mean, log_mean, variance, dead, 2.0**-42 * (1 + math.log(width)))


def orthogonal(width: int, squares: Sequence[float], chances: Sequence[float]) -> LogLaw:
    """Return the law of Σ_i c_i u_i², u uniform on the sphere in N dimensions: W is orthogonal, not Gaussian.

    With an independent χ²_N in front it is N times the law of Gaussian weights; ln χ²_N is taken off again.
    """
    law = gaussian(width, squares, chances)
    log_mean = law.log_mean + math.log(width / 2) - float(special.digamma(width / 2))
    log_variance = max(0.0, law.log_variance - float(special.polygamma(1, width / 2)))
    return LogLaw(law.mean, log_mean, log_variance, law.dead, law.error)


def linear_rms_norm(width: int) -> LogLaw:
    """RMS norm and no activation: χ²_(N-1)/χ²_N per layer.

    y = √N z/‖z‖. The gradient along z is orthogonal to z, so Wᵀ of it is orthogonal to the layer's input,
    which leaves N - 1 Gaussian coordinates that nothing else depends on; 1/‖z‖² brings the χ²_N below.
    """
    return chi_square_ratio(width - 1, width)


def linear_layer_norm(width: int) -> LogLaw:
    """Layer norm and no activation: χ²_(N-2)/χ²_(N-1) per layer, one dimension less for the mean."""
    return chi_square_ratio(width - 2, width - 1)


def rectified_rms_norm(width: int, chance: float = 0.5) -> LogLaw:
    """RMS norm before an activation that is 0 on one side: χ²_(k-1)/χ²_k, k binomial, 0 for k < 2.

    Along the k open units W loses one direction, the layer's own output, as in the linear case; the next
    layer's norm is χ²_N times the share χ²_k/χ²_N of the open units. E R is infinite at every width,
    because of k = 2; what has probability below 1e-30 apart, it is 1 + O(1/N), and `mean` is its limit 1.
    """
    k, weight = binomial_weights(width, chance, 2)
    log_mean, log_variance = mixed(
        weight,
        special.digamma((k - 1) / 2) - special.digamma(k / 2),
        special.polygamma(1, (k - 1) / 2) + special.polygamma(1, k / 2),
    )
    none = (1 - chance) ** width
    dead = none + width * chance * (1 - chance) ** (width - 1)
    return LogLaw(1.0, log_mean, log_variance, dead, 2.0**-46 * (1 + math.log(width)))


def residual_block(width: int, hidden: int, strength: float, chance: float) -> LogLaw:
    """Return the law of ‖g + W₁ᵀ D W₂ᵀ g‖²/‖g‖² for D a mask of `chance` and E‖W₁ᵀ D W₂ᵀ g‖² = strength ‖g‖².

    Given V = ‖D W₂ᵀ g‖² ~ χ²_k, k binomial of the hidden width, it is τ² times a noncentral χ² of `width`
    degrees and noncentrality 1/τ², τ² = (strength/(chance · hidden · width)) V. A block is never dead.
    """
    k, weight = binomial_weights(hidden, chance, 0)
    scale = strength / (chance * hidden * width)
    still = math.exp(hidden * math.log1p(-chance)) if chance < 1 else 0.0
    k, weight = k[k > 0], weight[k > 0]
    rules = [_over_strengths(width, hidden * chance, scale, k, weight, rule) for rule in (_FINE, _COARSE)]
    (log_mean, log_variance), (other, _) = (
        mixed(np.append(share * (1 - still), still), np.append(means, 0.0), np.append(variances, 0.0))
        for share, means, variances in rules
    )
    error = abs(log_mean - other) + 2.0**-46 * (1 + math.log(width))
    return LogLaw(1 + strength, log_mean, log_variance, 0.0, error)


def _over_strengths(
    width: int,
    middle: float,
    scale: float,
    k: Float64Array,
    weight: Float64Array,
    rule: tuple[Float64Array, Float64Array],
) -> tuple[Float64Array, Float64Array, Float64Array]:
    """Return shares of V > 0 by a rule in s = √V, of smooth density, and the logarithm's law at each."""
    low = max(0.0, math.sqrt(middle) - 12)
    root = low + (math.sqrt(middle) + 12 - low) * (rule[0] + 1) / 2
    log_density = (k - 1) * np.log(root)[:, None] - root[:, None] ** 2 / 2
    log_density -= special.gammaln(k / 2) + (k / 2 - 1) * math.log(2)
    share = np.exp(log_density) @ weight * rule[1]
    return share / np.sum(share), *_noncentral(width, scale * root**2)


def _noncentral(width: int, tau: Float64Array) -> tuple[Float64Array, Float64Array]:
    """Mean and variance of ln(τ² χ'²), χ'² of `width` degrees and noncentrality 1/τ²: ψ over Poisson."""
    rate = 0.5 / tau
    mean, spread = np.empty_like(tau), np.empty_like(tau)
    few = rate < _FEW
    for rows, rule in ((few, _poisson_sum), (~few, _poisson_gauss)):
        j, weight = rule(rate[rows])
        values = special.digamma(width / 2 + j)
        mean[rows] = np.sum(weight * values, axis=1)
        around = special.polygamma(1, width / 2 + j) + np.square(values - mean[rows][:, None])
        spread[rows] = np.sum(weight * around, axis=1)
    return mean + np.log(2 * tau), spread


def _poisson_sum(rate: Float64Array) -> tuple[Float64Array, Float64Array]:
    """Return the numbers 0, 1, … and their Poisson chances, for rates below `_FEW`."""
    j = np.arange(_FEW + 12 * math.sqrt(_FEW) + 40)
    weight = np.exp(j * np.log(rate)[:, None] - rate[:, None] - special.gammaln(j + 1))
    return np.broadcast_to(j, weight.shape), weight / np.sum(weight, axis=1, keepdims=True)


def _poisson_gauss(rate: Float64Array) -> tuple[Float64Array, Float64Array]:
    """Return Gauss' nodes and weights for Poisson laws: the Jacobi matrix of Charlier's polynomials.

    Source: Golub & Welsch, Math. Comp. 23, 1969.
    """
    n = np.arange(_CHARLIER)
    matrix = np.zeros((len(rate), _CHARLIER, _CHARLIER))
    matrix[:, n, n] = n + rate[:, None]
    matrix[:, n[1:], n[:-1]] = matrix[:, n[:-1], n[1:]] = np.sqrt(n[1:] * rate[:, None])
    nodes, vectors = np.linalg.eigh(matrix)
    return nodes, np.square(vectors[:, 0, :])
