from __future__ import annotations

import numpy as np
import pytest

from gradcheck.formats import FLOAT64
from gradcheck.oracles.finite_difference import STEPS, central, one_sided

U = FLOAT64.roundoff
SMOOTH = {
    "exp": (np.exp, np.exp),
    "sin": (np.sin, np.cos),
    "tanh": (np.tanh, lambda x: 1 / np.cosh(x) ** 2),
    "cube": (lambda x: x**3, lambda x: 3 * x**2),
    "logistic": (lambda x: 1 / (1 + np.exp(-x)), lambda x: 1 / (2 + np.exp(x) + np.exp(-x))),
    "softplus": (lambda x: np.logaddexp(0, x), lambda x: 1 / (1 + np.exp(-x))),
    "arctan": (np.arctan, lambda x: 1 / (1 + x * x)),
    "bell": (lambda x: np.exp(-x * x), lambda x: -2 * x * np.exp(-x * x)),
    "line": (lambda x: 3 * x - 1, lambda x: np.full_like(x, 3.0)),
}


def noise_of(f, x):
    """A bound on the rounding of f within reach: eight units of the largest value there, and of x's own."""
    reach = np.maximum(np.abs(x), 0.0625) / 8
    near = [np.abs(f(x + side * reach)) for side in (-1, -0.5, 0, 0.5, 1)]
    return 8 * U * (np.max(near, axis=0) + np.abs(x) + 1)


@pytest.mark.parametrize("order", [2, 4])
@pytest.mark.parametrize("name", SMOOTH)
def test_the_error_never_exceeds_its_estimate(name, order):
    f, slope = SMOOTH[name]
    rng = np.random.default_rng(5)
    x = np.concatenate(
        [rng.uniform(-20, 20, 2500), rng.choice([-1, 1], 1500) * 10 ** rng.uniform(-6, 1, 1500)]
    )
    ladder = central(f, x, noise_of(f, x), order=order)
    error = np.abs(ladder.best - slope(x))
    violations = error > ladder.error + 8 * U * np.abs(slope(x))
    assert violations.sum() == 0, (x[violations][:3], error[violations][:3], ladder.error[violations][:3])


@pytest.mark.parametrize("order", [2, 4])
def test_the_estimate_is_small_enough_to_tell_a_wrong_slope(order):
    x = np.random.default_rng(6).uniform(-3, 3, 500)
    ladder = central(np.sin, x, noise_of(np.sin, x), order=order)
    wrong = np.cos(x) * (1 + 1e-6)
    told = np.abs(ladder.best - wrong) > ladder.error
    assert told[np.abs(np.cos(x)) > 0.01].all()


def test_a_higher_order_has_the_smaller_error():
    x = np.random.default_rng(7).uniform(-3, 3, 500)
    plain, richardson = (central(np.sin, x, noise_of(np.sin, x), order=order) for order in (2, 4))
    assert np.median(richardson.error) < np.median(plain.error) / 10


@pytest.mark.parametrize(
    ("f", "kink", "left", "right"),
    [
        (np.abs, 0.0, -1.0, 1.0),
        (lambda x: np.maximum(x, 0), 0.0, 0.0, 1.0),
        (lambda x: np.clip(x, 0, 6), 6.0, 1.0, 0.0),
        (lambda x: np.where(x < 1, x * x, np.exp(x - 1)), 1.0, 2.0, 1.0),
    ],
)
def test_one_sided_differences_give_the_slope_of_their_side(f, kink, left, right):
    x = np.array([kink])
    for side, slope in ((-1.0, left), (1.0, right)):
        ladder = one_sided(f, x, side, noise_of(f, x))
        assert abs(ladder.best[0] - slope) <= ladder.error[0] <= 1e-5


def test_beside_a_jump_there_is_no_difference_to_trust():
    def softplus(x):
        return np.where(x > 11.29, x, np.logaddexp(0, x))

    x = np.array([11.29])
    assert one_sided(softplus, x, 1.0, noise_of(softplus, x)).error[0] == np.inf
    left = one_sided(softplus, x, -1.0, noise_of(softplus, x))
    assert abs(left.best[0] - 1 / (1 + np.exp(-11.29))) <= left.error[0] <= 1e-5


def test_a_central_difference_at_a_kink_is_neither_slope():
    ladder = central(np.abs, np.array([0.0]), np.array([U]))
    assert ladder.best[0] == 0.0


@pytest.mark.parametrize(("order", "rungs"), [(2, len(STEPS)), (4, len(STEPS) - 1)])
def test_a_ladder_has_one_rung_for_each_step(order, rungs):
    x = np.linspace(-1, 1, 7)
    ladder = central(np.sin, x, noise_of(np.sin, x), order=order)
    assert ladder.steps.shape == ladder.differences.shape == ladder.estimates.shape == (rungs, 7)
    assert ladder.best.shape == ladder.error.shape == (7,)
    assert (np.diff(ladder.steps, axis=0) < 0).all()
    assert (ladder.error == ladder.estimates.min(axis=0)).all()


def test_where_every_difference_overflows_nothing_is_claimed():
    with np.errstate(all="ignore"):
        ladder = central(np.exp, np.array([800.0]), np.array([1.0]))
    assert np.isinf(ladder.error[0])
