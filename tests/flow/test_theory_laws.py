"""Laws of one layer at a finite width, against other formulas for them and against draws of the law."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import special, stats

from gradcheck.flow import laws

COUNT = 100_000


def digamma_law(width: int, chance: float) -> tuple[float, float]:
    """E and Var of ln (χ²_k/N), k binomial and above 0, term by term."""
    k = np.arange(1, width + 1)
    weight = stats.binom.pmf(k, width, chance)
    weight = weight / weight.sum()
    mean = np.sum(weight * special.digamma(k / 2))
    second = np.sum(weight * (special.polygamma(1, k / 2) + special.digamma(k / 2) ** 2))
    return float(mean + math.log(2 / width)), float(second - mean**2)


@given(width=st.integers(2, 600), chance=st.floats(0.05, 1.0))
def test_one_slope_follows_the_sum_of_digammas(width: int, chance: float) -> None:
    law = laws.gaussian(width, (1.0, 0.0), (chance, 1 - chance))
    log_mean, log_variance = digamma_law(width, chance)
    assert law.log_mean == pytest.approx(log_mean, abs=law.error + 1e-11)
    assert law.log_variance == pytest.approx(log_variance, abs=1e-10)
    assert law.dead == pytest.approx((1 - chance) ** width, rel=1e-10)
    assert law.mean == pytest.approx(chance)


@given(width=st.integers(2, 400))
def test_no_slope_at_all_is_newman(width: int) -> None:
    law = laws.gaussian(width, (2.25,), (1.0,))
    assert law.log_mean == pytest.approx(
        math.log(4.5 / width) + special.digamma(width / 2), abs=law.error + 1e-14
    )
    assert law.log_variance == pytest.approx(float(special.polygamma(1, width / 2)), rel=1e-12)


@given(width=st.integers(2, 300), square=st.floats(1e-6, 1.0))
def test_the_integral_over_transforms_agrees_where_both_apply(width: int, square: float) -> None:
    whole, split = laws.gaussian(width, (square,), (1.0,)), laws._several(width, {square: 1.0}, square, 0.0)
    assert split.log_mean == pytest.approx(whole.log_mean, abs=split.error)
    assert split.log_variance == pytest.approx(whole.log_variance, abs=1e-10)


@given(width=st.integers(2, 200), ratio=st.floats(0.0, 0.999))
def test_a_small_second_slope_moves_the_law_little_and_a_large_one_no_further_than_linear(
    width: int, ratio: float
) -> None:
    law = laws.gaussian(width, (1.0, ratio**2), (0.5, 0.5))
    relu, linear = laws.gaussian(width, (1.0, 0.0), (0.5, 0.5)), laws.gaussian(width, (1.0,), (1.0,))
    assert relu.mean <= law.mean <= linear.mean
    assert law.log_mean <= linear.log_mean + law.error
    # Jensen: the logarithm's mean is below the mean's logarithm.
    assert law.log_mean < math.log(law.mean)


def draws_of(name: str, rng: np.random.Generator) -> tuple[np.ndarray, laws.LogLaw]:
    n = 24
    if name == "leaky":
        squares = np.where(rng.random((COUNT, n)) < 0.5, 1.0, 0.09)
        return np.mean(squares * rng.standard_normal((COUNT, n)) ** 2, axis=1), laws.gaussian(
            n, (1.0, 0.09), (0.5, 0.5)
        )
    if name == "leaky with dropout":
        squares = rng.choice([1.0, 0.09, 0.0], size=(COUNT, n), p=[0.35, 0.35, 0.3])
        return np.mean(squares * rng.standard_normal((COUNT, n)) ** 2, axis=1), laws.gaussian(
            n, (1.0, 0.09, 0.0), (0.35, 0.35, 0.3)
        )
    if name == "orthogonal":
        u = rng.standard_normal((COUNT, n))
        u = u**2 / np.sum(u**2, axis=1, keepdims=True)
        return np.sum(u * (rng.random((COUNT, n)) < 0.5), axis=1), laws.orthogonal(n, (1.0, 0.0), (0.5, 0.5))
    if name == "residual":
        w1, w2 = rng.standard_normal((2, COUNT // 10, n, n)) * math.sqrt(1.0 / n)
        mask = rng.random((COUNT // 10, n)) < 0.5
        g = np.zeros((COUNT // 10, n))
        g[:, 0] = 1.0
        back = np.einsum("sji,sj->si", w1, mask * np.einsum("sji,sj->si", w2, g))
        return np.sum((g + back) ** 2, axis=1), laws.residual_block(n, n, 0.5, 0.5)
    assert name == "ratio"
    return rng.chisquare(23, COUNT) / rng.chisquare(24, COUNT), laws.chi_square_ratio(23, 24)


@pytest.mark.parametrize("name", ["leaky", "leaky with dropout", "orthogonal", "residual", "ratio"])
def test_the_law_is_that_of_its_draws(name: str) -> None:
    ratios, law = draws_of(name, np.random.default_rng(7))
    alive = ratios[ratios > 0]
    logs = np.log(alive)
    root = math.sqrt(len(alive))
    assert abs(np.mean(ratios) - law.mean) < 4 * np.std(ratios) / root
    assert abs(np.mean(logs) - law.log_mean) < 4 * np.std(logs) / root
    spread = (logs - np.mean(logs)) ** 2
    assert abs(np.mean(spread) - law.log_variance) < 4 * np.std(spread) / root


def test_orthogonal_matrices_turn_only() -> None:
    law = laws.orthogonal(16, (1.0,), (1.0,))
    assert law.log_mean == pytest.approx(0, abs=1e-14) and law.log_variance == pytest.approx(0, abs=1e-14)


@pytest.mark.parametrize("law", [laws.linear_rms_norm, laws.linear_layer_norm, laws.rectified_rms_norm])
def test_normalised_laws_tend_to_one(law: Callable[[int], laws.LogLaw]) -> None:
    narrow, wide = law(64), law(4096)
    assert abs(wide.log_mean) < abs(narrow.log_mean) / 50
    assert wide.log_variance < narrow.log_variance / 50


def test_a_layer_that_passes_nothing_has_no_logarithm() -> None:
    law = laws.gaussian(8, (0.0,), (1.0,))
    assert law.dead == 1 and law.mean == 0 and law.log_mean == -math.inf


@pytest.mark.parametrize(("width", "strength"), [(2, 1.0), (3, 100.0), (64, 1e-4), (256, 0.5)])
def test_residual_blocks_of_every_strength_are_those_of_their_draws(width: int, strength: float) -> None:
    rng = np.random.default_rng(8)
    k = rng.binomial(width, 0.5, COUNT)
    v = np.where(k > 0, rng.chisquare(np.maximum(k, 1)), 0.0)
    tau = 2 * strength / width**2 * v
    ratio = (1 + np.sqrt(tau) * rng.standard_normal(COUNT)) ** 2 + tau * rng.chisquare(width - 1, COUNT)
    law = laws.residual_block(width, width, strength, 0.5)
    logs, root = np.log(ratio), math.sqrt(COUNT)
    assert abs(np.mean(ratio) - law.mean) < 4 * np.std(ratio) / root
    assert abs(np.mean(logs) - law.log_mean) < 4 * np.std(logs) / root
    spread = (logs - np.mean(logs)) ** 2
    assert abs(np.mean(spread) - law.log_variance) < 4 * np.std(spread) / root
