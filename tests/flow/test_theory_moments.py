"""Gaussian moments by quadrature, against closed forms and against mpmath at 30 digits."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import mpmath as mp
import numpy as np
import pytest
from scipy import special

from gradcheck.errors import UsageError
from gradcheck.flow.activations import activation_formulas, get_activation
from gradcheck.flow.moments import NAMES, flat_share, moments, pair_moments

QS = np.array([1e-6, 0.01, 0.3, 1.0, 7.0, 1e4])
ROUNDING = 2.0**-50

CLOSED: dict[str, tuple[Any, dict[str, Callable[[np.ndarray], np.ndarray]]]] = {
    "relu": (
        get_activation("relu"),
        {
            "mean": lambda q: np.sqrt(q / (2 * np.pi)),
            "square": lambda q: q / 2,
            "slope_square": lambda q: 0.5 + 0 * q,
            "square_rate": lambda q: 0.5 + 0 * q,
            "square_square": lambda q: 1.5 * q**2,
            "product": lambda q: q / 2,
        },
    ),
    "leaky ReLU": (
        get_activation("leaky_relu", negative_slope=0.25),
        {
            "mean": lambda q: 0.75 * np.sqrt(q / (2 * np.pi)),
            "square": lambda q: q * (1 + 1 / 16) / 2,
            "slope_square": lambda q: (1 + 1 / 16) / 2 + 0 * q,
            "slope_fourth": lambda q: (1 + 1 / 256) / 2 + 0 * q,
        },
    ),
    "erf": (
        get_activation(special.erf),
        {
            "mean": lambda q: 0 * q,
            "square": lambda q: 2 / np.pi * np.arcsin(2 * q / (1 + 2 * q)),
            "slope_square": lambda q: 4 / np.pi / np.sqrt(1 + 4 * q),
            "slope": lambda q: 2 / np.sqrt(np.pi) / np.sqrt(1 + 2 * q),
        },
    ),
    "gelu": (
        get_activation("gelu"),
        {
            "mean": lambda q: q / np.sqrt(2 * np.pi * (1 + q)),
            "square": lambda q: (
                q / 4 + q / (2 * np.pi) * (np.arcsin(q / (1 + q)) + 2 * q / ((1 + q) * np.sqrt(1 + 2 * q)))
            ),
            "slope_square": lambda q: (
                0.25
                + np.arcsin(q / (1 + q)) / (2 * np.pi)
                + q / (np.pi * (1 + q) * np.sqrt(1 + 2 * q))
                + q / (2 * np.pi * (1 + 2 * q) ** 1.5)
            ),
        },
    ),
}


@pytest.mark.parametrize("name", CLOSED)
def test_quadrature_agrees_with_closed_forms_to_its_own_error(name: str) -> None:
    activation, forms = CLOSED[name]
    at = moments(activation, QS)
    for word, form in forms.items():
        truth = form(QS)
        off = np.abs(getattr(at, word) - truth)
        assert np.all(off <= at.errors[word] + ROUNDING * np.abs(truth)), word


@pytest.mark.parametrize("name", CLOSED)
def test_the_error_of_a_moment_is_small_where_it_is_not_divided_by_a_small_q(name: str) -> None:
    at = moments(CLOSED[name][0], QS)
    for word in ("square", "slope_square", "slope_fourth"):
        assert np.all(at.errors[word] <= 4e-14 * getattr(at, word))


def _digits(text: Callable[[Any], Any], q: float, breaks: tuple[float, ...], power: int = 2) -> float:
    s = mp.sqrt(mp.mpf(q))
    cuts = sorted({-16 * s, 16 * s, -s, s, mp.mpf(0), *(k * s for k in (-6, -3, 3, 6)), *map(mp.mpf, breaks)})
    cuts = [c for c in cuts if abs(c) <= 16 * s]
    weight = lambda x: mp.exp(-x * x / (2 * q)) / (s * mp.sqrt(2 * mp.pi))  # noqa: E731
    return mp.quad(lambda x: text(x) ** power * weight(x), cuts)


MPMATH: dict[str, tuple[Callable[[Any], Any], Callable[[Any], Any]]] = {
    "tanh": (mp.tanh, lambda x: mp.sech(x) ** 2),
    "sigmoid": (lambda x: 1 / (1 + mp.exp(-x)), lambda x: mp.exp(-x) / (1 + mp.exp(-x)) ** 2),
    "silu": (
        lambda x: x / (1 + mp.exp(-x)),
        lambda x: 1 / (1 + mp.exp(-x)) + x * mp.exp(-x) / (1 + mp.exp(-x)) ** 2,
    ),
    "softsign": (lambda x: x / (1 + abs(x)), lambda x: 1 / (1 + abs(x)) ** 2),
    "elu": (lambda x: x if x > 0 else mp.expm1(x), lambda x: 1 if x > 0 else mp.exp(x)),
    "hardtanh": (lambda x: max(-1, min(1, x)), lambda x: 1 if -1 < x < 1 else 0),
    "hardswish": (
        lambda x: x * max(0, min(6, x + 3)) / 6,
        lambda x: 0 if x < -3 else 1 if x > 3 else (2 * x + 3) / mp.mpf(6),
    ),
    "mish": (
        lambda x: x * mp.tanh(mp.log1p(mp.exp(x))),
        lambda x: mp.diff(lambda t: t * mp.tanh(mp.log1p(mp.exp(t))), x),
    ),
}


@pytest.mark.parametrize("name", [n for n in MPMATH if n != "mish"])
@pytest.mark.parametrize("q", [0.05, 1.0, 12.0])
def test_quadrature_agrees_with_thirty_digits_to_its_own_error(name: str, q: float) -> None:
    activation = get_activation(name)
    at = moments(activation, q)
    with mp.workdps(30):
        for word, text in (("square", MPMATH[name][0]), ("slope_square", MPMATH[name][1])):
            truth = _digits(text, q, activation.breaks)
            assert abs(mp.mpf(float(getattr(at, word))) - truth) <= float(at.errors[word]), word


def test_mish_agrees_with_thirty_digits() -> None:
    at = moments(get_activation("mish"), 1.0)
    with mp.workdps(30):
        truth = _digits(MPMATH["mish"][0], 1.0, ())
    assert abs(mp.mpf(float(at.square)) - truth) <= float(at.errors["square"])


@pytest.mark.parametrize("name", ["linear", *sorted(activation_formulas())])
def test_rates_are_the_derivatives_of_the_moments(name: str) -> None:
    activation = get_activation(name)
    h = 2.0**-10
    for q in (0.2, 1.0, 5.0):
        at, near = (
            moments(activation, q),
            moments(activation, [q * (1 - h), q * (1 + h), q * (1 - 2 * h), q * (1 + 2 * h)]),
        )
        for word, rate in (("square", "square_rate"), ("slope_square", "slope_rate")):
            f = getattr(near, word)
            slope = (8 * (f[1] - f[0]) - (f[3] - f[2])) / (12 * h * q)
            # Fourth-order differences of a function that changes on the scale of q: h⁴ and rounding over h.
            assert float(getattr(at, rate)) == pytest.approx(slope, rel=1e-8, abs=1e-10 / q)


def test_a_kink_contributes_to_the_curvature() -> None:
    # For ReLU6 the slope jumps by -1 at 6, where φ = 6; the second derivative elsewhere is 0.
    q = 9.0
    density = math.exp(-36 / (2 * q)) / math.sqrt(2 * math.pi * q)
    assert float(moments(get_activation("relu6"), q).curvature) == pytest.approx(-6 * density, rel=1e-12)


def test_moments_of_many_variances_are_those_of_each() -> None:
    activation = get_activation("gelu")
    q = np.logspace(-8, 8, 600).reshape(20, 30)
    together = moments(activation, q)
    assert together.square.shape == q.shape
    for place in ((0, 0), (7, 3), (19, 29)):
        alone = moments(activation, q[place])
        for word in NAMES:
            gap = abs(float(getattr(together, word)[place]) - float(getattr(alone, word)))
            assert gap <= together.errors[word][place] + alone.errors[word]


@pytest.mark.parametrize("c", [-0.95, -0.3, 0.0, 0.5, 0.99])
def test_pairs_agree_with_closed_forms(c: float) -> None:
    angle = math.acos(c)
    q = 2.5
    relu = pair_moments(get_activation("relu"), q, c)
    value = q * (math.sqrt(1 - c * c) + (math.pi - angle) * c) / (2 * math.pi)
    assert abs(float(relu.value) - value) <= float(relu.value_error) + 1e-15
    assert abs(float(relu.slope) - (math.pi - angle) / (2 * math.pi)) <= float(relu.slope_error) + 1e-15
    smooth = pair_moments(get_activation(special.erf), q, c)
    truth = 2 / math.pi * math.asin(2 * q * c / (1 + 2 * q))
    assert abs(float(smooth.value) - truth) <= float(smooth.value_error) + 1e-15
    assert float(relu.value_error) < 1e-12 and float(smooth.value_error) < 1e-12


def test_the_share_of_flat_units() -> None:
    assert flat_share(get_activation("hardtanh"), 1.0) == pytest.approx(
        special.erfc(1 / math.sqrt(2)), rel=1e-12
    )
    assert flat_share(get_activation("tanh"), 1.0) == 0


def test_an_infinite_moment_has_an_infinite_error() -> None:
    # E exp(2z²/3) diverges for z ~ N(0, 4).
    at = moments(get_activation(lambda x: np.exp(x * x / 3)), 4.0)
    assert not at.errors["square"] < at.square


@pytest.mark.parametrize("q", [0.0, -1.0, math.nan, math.inf])
def test_variances_without_a_density_are_refused(q: float) -> None:
    with pytest.raises(UsageError, match="above 0 and finite"):
        moments(get_activation("relu"), [1.0, q])


def test_correlations_of_one_are_refused() -> None:
    with pytest.raises(UsageError, match="between -1 and 1"):
        pair_moments(get_activation("relu"), 1.0, [0.0, 1.0])
