"""Batch normalisation over a finite batch, in wide layers: the factor of the gradient for any activation.

A unit's B pre-activations, centred and divided by their deviation, are a point of the sphere of radius √B
in the B - 1 dimensions orthogonal to 1. At the symmetric fixed point it is uniform there, and with S = E
φ'₁², T = E φ'₁φ'₂, Y = E (y₁φ'₁)², X = E y₁φ'₁y₂φ'₂ over it,

    factor = [(B - 1)S + T - Y + X] / [(B - 3)(E φ₁² - E φ₁φ₂)].

E 1/χ²_(B-1) = 1/(B - 3) makes it infinite for B <= 3. Dropout with keep p divides the moments of one
point by p. Source: Yang, Pennington, Rao, Sohl-Dickstein & Schoenholz, arXiv:1902.08129, 2019, for linear
and ReLU.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy import special

from gradcheck.flow.activations import Activation
from gradcheck.flow.moments import moments
from gradcheck.flow.quadrature import IntegerArray, edges_around, integrate

Float64Array = NDArray[np.float64]

_SCALES = np.array([-10.0, -6.0, -3.0, -1.5, -0.5, 0.0, 0.5, 1.5, 3.0, 6.0, 10.0])


def arc_cosine(correlation: float) -> tuple[float, float]:
    """Return J and J' of the correlation c: E relu(u)relu(v) = J/2 and P(u, v > 0) = J'/2 for unit variances.

    Source: Cho & Saul, NeurIPS 2009.
    """
    angle = math.acos(correlation)
    value = (math.sqrt((1 - correlation) * (1 + correlation)) + (math.pi - angle) * correlation) / math.pi
    return value, (math.pi - angle) / math.pi


def rectified_factor(batch: int) -> float:
    """Return [B - 2 + J'(ρ) + J(ρ)]/[(B - 3)(1 - J(ρ))], ρ = -1/(B - 1): ReLU; π/(π - 1) for B → ∞."""
    value, slope = arc_cosine(-1.0 / (batch - 1))
    return (batch - 2 + slope + value) / ((batch - 3) * (1 - value))


def linear_factor(batch: int) -> float:
    """Return (B - 2)/(B - 3): no activation."""
    return (batch - 2) / (batch - 3)


def wide_factor(activation: Activation, keep: float = 1.0) -> tuple[float, float]:
    """Return E φ'²/Var φ over N(0, 1) and a bound of its error: the limit B → ∞, at least 1 (Poincaré)."""
    at = moments(activation, 1.0)
    variance = float(at.square) / keep - float(at.mean) ** 2
    value = float(at.slope_square) / keep / variance
    off = float(at.errors["square"]) / keep + 2 * abs(float(at.mean)) * float(at.errors["mean"])
    return value, float(at.errors["slope_square"]) / keep / variance + value * off / variance


@lru_cache(maxsize=256)
def factor(activation: Activation, batch: int, keep: float = 1.0) -> tuple[float, float]:
    """Return the factor per layer for a batch of at least 4 and a bound of its numerical error."""
    one, one_error = _one_point(activation, batch)
    two, two_error = _two_points(activation, batch, one)
    above = (batch - 1) * one[1] / keep + two[1] - one[2] / keep + two[2]
    below = (batch - 3) * (one[0] / keep - two[0])
    above_error = (batch - 1) * one_error[1] / keep + two_error[1] + one_error[2] / keep + two_error[2]
    below_error = (batch - 3) * (one_error[0] / keep + two_error[0])
    value = float(above / below)
    return value, float((above_error + value * below_error) / below)


def _log_density(power: int) -> float:
    """Return ln of what normalises sin^power on (0, π)."""
    return float(special.gammaln(power / 2 + 1) - special.gammaln((power + 1) / 2) - 0.5 * math.log(math.pi))


def _functions(activation: Activation, y: Float64Array) -> Float64Array:
    slope = activation.derivative(y)
    return np.stack([activation.value(y), slope, y * slope])


def _one_point(activation: Activation, batch: int) -> tuple[Float64Array, Float64Array]:
    """E φ², E φ'² and E (yφ')² for one coordinate y = √(B-1) cos θ, θ of density sin^(B-3)."""
    radius, norm = math.sqrt(batch - 1), _log_density(batch - 3)

    def integrand(theta: Float64Array, row: IntegerArray) -> Float64Array:
        density = np.exp(norm + (batch - 3) * np.log(np.sin(theta)))
        return np.square(_functions(activation, radius * np.cos(theta))) * density

    found = integrate(integrand, _edges(activation, np.zeros(1), np.full(1, radius)))
    return found.value[:, 0], found.error[:, 0]


def _two_points(activation: Activation, batch: int, size: Float64Array) -> tuple[Float64Array, Float64Array]:
    """E φ₁φ₂, E φ'₁φ'₂ and E y₁φ'₁y₂φ'₂: given the first, the second is a coordinate of a smaller sphere."""
    radius, rho = math.sqrt(batch - 1), -1.0 / (batch - 1)
    across = math.sqrt(1 - rho * rho)
    norm, inner_norm = _log_density(batch - 3), _log_density(batch - 4)
    worst = np.zeros(3)

    def outer(theta: Float64Array, row: IntegerArray) -> Float64Array:
        nonlocal worst
        flat = theta.ravel()
        centre, reach = radius * rho * np.cos(flat), radius * across * np.sin(flat)

        def inner(angle: Float64Array, row: IntegerArray) -> Float64Array:
            density = np.exp(inner_norm + (batch - 4) * np.log(np.sin(angle)))
            return _functions(activation, centre[row] + reach[row] * np.cos(angle)) * density

        second = integrate(inner, _edges(activation, centre, reach), np.sqrt(size)[:, None])
        density = np.exp(norm + (batch - 3) * np.log(np.sin(theta)))
        first = _functions(activation, radius * np.cos(theta)) * density
        worst = np.maximum(worst, np.max(np.abs(first) * second.error.reshape(first.shape), axis=(1, 2)))
        return first * second.value.reshape(first.shape)

    # Where a kink enters the range of the second coordinate, the outer integrand has an edge of its own.
    tilt = math.acos(rho)
    kinks = np.arccos(np.clip(np.asarray(activation.breaks) / radius, -1, 1))
    entries = np.concatenate([tilt - kinks, tilt + kinks, kinks - tilt, 2 * math.pi - tilt - kinks])
    edges = _edges(activation, np.zeros(1), np.full(1, radius), entries)
    # By Cauchy and Schwarz the moments of one point bound what cancels between the two.
    found = integrate(outer, edges, size[:, None], 2.0**-44)
    return found.value[:, 0], found.error[:, 0] + math.pi * worst


def _edges(
    activation: Activation, centre: Float64Array, reach: Float64Array, more: Float64Array | None = None
) -> Float64Array:
    """Return edges in the angle for y = centre + reach·cos(angle): the kinks and the scale of activations."""
    points = np.concatenate([_SCALES, np.asarray(activation.breaks, dtype=np.float64)])
    with np.errstate(divide="ignore", invalid="ignore"):
        cosine = (points - centre[:, None]) / reach[:, None]
    angles = np.arccos(np.clip(np.nan_to_num(cosine), -1, 1))
    if more is not None:
        angles = np.concatenate([angles, np.broadcast_to(more, (len(centre), len(more)))], axis=1)
    return edges_around(np.zeros(len(centre)), np.full(len(centre), math.pi), angles)
