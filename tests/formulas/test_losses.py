"""The losses: values by hand, reductions, edges, refusals, proofs, right programs silent, liars caught."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import scipy.special
import torch

from gradcheck import checks
from gradcheck.errors import UnsupportedType, UsageError
from gradcheck.formats import BFLOAT16, FLOAT32, FLOAT64
from gradcheck.formulas import (
    binary_cross_entropy,
    binary_cross_entropy_with_logits,
    cross_entropy,
    cross_entropy_probabilities,
    huber_loss,
    l1_loss,
    log_softmax,
    mse_loss,
    nll_loss,
    smooth_l1_loss,
)
from gradcheck.records import DERIVATIVE, SECOND, VALUE, Case, Verdict
from gradcheck.subjects.torch import CPU
from tests.formulas.losing import apart, seen, standing_in

GOOD = (Verdict.ACCURATE, Verdict.AGREES)
OF_CLASSES = (cross_entropy, cross_entropy_probabilities, nll_loss)
BINARY = (binary_cross_entropy, binary_cross_entropy_with_logits)
REGRESSION = (mse_loss, l1_loss, huber_loss, smooth_l1_loss)
EVERY = (*OF_CLASSES, *BINARY, *REGRESSION)
SCORES = np.log([[0.5, 0.25, 0.25], [0.125, 0.125, 0.75]])
TARGET = np.array([0, 2])
ONES = np.ones(3)


def losses(formula, *inputs, **options):
    return formula(*inputs, **options).tolist()


def test_cross_entropy_is_minus_the_logarithm_of_the_targets_probability() -> None:
    expected = [-math.log(0.5), -math.log(0.75)]
    assert losses(cross_entropy, SCORES, TARGET, ONES, reduction="none") == pytest.approx(expected)
    assert losses(cross_entropy, SCORES, TARGET, ONES, reduction="sum") == pytest.approx(sum(expected))
    assert losses(cross_entropy, SCORES, TARGET, ONES) == pytest.approx(sum(expected) / 2)
    assert losses(cross_entropy, SCORES[0], np.array(0), ONES) == pytest.approx(expected[0])


def test_the_mean_divides_by_the_weights_of_the_targets_that_count() -> None:
    weight = np.array([3.0, 5.0, 1.0])
    expected = (3 * -math.log(0.5) + 1 * -math.log(0.75)) / 4
    assert losses(cross_entropy, SCORES, TARGET, weight) == pytest.approx(expected)
    kept = losses(cross_entropy, SCORES, np.array([0, -100]), weight)
    assert kept == pytest.approx(-math.log(0.5))
    assert losses(cross_entropy, SCORES, TARGET, weight, ignore_index=0) == pytest.approx(-math.log(0.75))


def test_a_mean_over_ignored_targets_alone_is_nan_and_its_sum_zero() -> None:
    ignored = np.array([-100, -100])
    with np.errstate(all="ignore"):
        for formula in (cross_entropy, nll_loss):
            assert math.isnan(losses(formula, SCORES, ignored, ONES))
            assert losses(formula, SCORES, ignored, ONES, reduction="sum") == 0
            assert losses(formula, SCORES, ignored, ONES, reduction="none") == [0, 0]
        assert math.isnan(losses(cross_entropy, SCORES, ignored, ONES, label_smoothing=0.5))
    answered = torch.nn.functional.cross_entropy(torch.from_numpy(SCORES), torch.from_numpy(ignored))
    assert math.isnan(answered)


def test_smoothing_mixes_with_all_classes() -> None:
    smoothed = losses(cross_entropy, SCORES, TARGET, ONES, label_smoothing=0.3, reduction="none")
    q = np.full((2, 3), 0.1) + 0.7 * np.eye(3)[TARGET]
    assert smoothed == pytest.approx((-q * SCORES).sum(1).tolist())
    spread = losses(cross_entropy_probabilities, SCORES, np.eye(3)[TARGET], ONES, label_smoothing=0.3)
    assert spread == pytest.approx(sum(smoothed) / 2)


def test_sequences_have_their_classes_on_axis_one() -> None:
    rng = np.random.default_rng(5)
    x, target = rng.normal(size=(2, 3, 4)), rng.integers(0, 3, (2, 4))
    found = cross_entropy(x, target, ONES, reduction="none")
    moved = cross_entropy(np.moveaxis(x, 1, 2).reshape(8, 3), target.ravel(), ONES, reduction="none")
    assert found.shape == (2, 4) and found.ravel() == pytest.approx(moved)
    assert nll_loss(log_softmax(x, axis=1), target, ONES) == pytest.approx(float(np.mean(found)))


def test_binary_cross_entropy_by_hand_and_at_its_ends() -> None:
    one = np.ones(1)
    found = losses(binary_cross_entropy, np.array([0.25]), np.array([1.0]), one)
    assert found == pytest.approx(math.log(4))
    for x, t, expected in ((0.0, 1.0, 100.0), (1.0, 0.0, 100.0), (0.0, 0.0, 0.0), (1.0, 1.0, 0.0)):
        assert losses(binary_cross_entropy, np.array([x]), np.array([t]), one) == expected
    unbounded = losses(binary_cross_entropy, np.array([0.0]), np.array([1.0]), one, floor=-math.inf)
    assert unbounded == math.inf
    deep = losses(binary_cross_entropy, np.array([1e-60]), np.array([1.0]), one, floor=-math.inf)
    assert deep == pytest.approx(60 * math.log(10))


def test_logits_lose_nothing_in_either_tail() -> None:
    x, ones = np.array([-50.0, 50.0, 0.0]), np.ones(3)
    found = losses(
        binary_cross_entropy_with_logits, x, np.array([0.0, 1.0, 0.5]), ones, ones, reduction="none"
    )
    assert found == pytest.approx([math.exp(-50), math.exp(-50), math.log(2)], rel=1e-15)
    q = losses(binary_cross_entropy_with_logits, np.zeros(1), np.ones(1), np.full(1, 2.0), np.full(1, 3.0))
    assert q == pytest.approx(6 * math.log(2))


def test_regression_losses_by_hand() -> None:
    x, t = np.array([0.0, 3.0]), np.array([0.5, 0.0])
    assert losses(mse_loss, x, t) == (0.25 + 9) / 2 and losses(mse_loss, x, t, reduction="sum") == 9.25
    assert losses(l1_loss, x, t, reduction="none") == [0.5, 3.0]
    assert losses(huber_loss, x, t, delta=2.0, reduction="none") == [0.125, 4.0]
    assert losses(smooth_l1_loss, x, t, beta=2.0, reduction="none") == [0.0625, 2.0]
    assert losses(smooth_l1_loss, x, t, beta=0.0, reduction="none") == losses(l1_loss, x, t, reduction="none")


def test_a_beta_of_zero_has_the_gradient_of_the_absolute_error() -> None:
    assert smooth_l1_loss.vjp is not None and l1_loss.vjp is not None
    inputs, c = (np.array([1.0, 2.0, 3.0]), np.array([2.0, 2.0, 2.0])), np.array([1.0, 1.0, -4.0])
    zero = smooth_l1_loss.complete({"beta": 0.0, "reduction": "none"})
    for found, expected in zip(
        smooth_l1_loss.vjp(inputs, c, **zero), l1_loss.vjp(inputs, c, reduction="none"), strict=True
    ):
        assert found.tolist() == expected.tolist()


@pytest.mark.parametrize(
    ("formula", "inputs", "options", "word"),
    [
        (mse_loss, (np.ones(2), np.ones(2)), {"reduction": "average"}, "average"),
        (huber_loss, (np.ones(2), np.ones(2)), {"delta": -1.0}, "delta"),
        (smooth_l1_loss, (np.ones(2), np.ones(2)), {"beta": math.nan}, "beta"),
        (cross_entropy, (SCORES, TARGET, ONES), {"label_smoothing": 1.5}, "label_smoothing"),
        (cross_entropy, (SCORES, np.array([0, 3]), ONES), {}, "class from 0 to 2"),
        (cross_entropy, (SCORES, np.array([0, -1]), ONES), {}, "class from 0 to 2"),
        (nll_loss, (SCORES, TARGET, ONES), {"epsilon": 1.0}, "epsilon"),
    ],
)
def test_what_makes_no_sense_is_refused(formula, inputs, options, word) -> None:
    with pytest.raises(UsageError, match=word):
        formula(*inputs, **options)


def test_an_index_is_an_integer() -> None:
    with pytest.raises(UnsupportedType, match="target is an index"):
        cross_entropy(SCORES, np.array([0.0, 2.0]), ONES)


@pytest.mark.parametrize("formula", EVERY, ids=lambda f: f.name)
def test_the_gradient_is_proven_and_witnessed(formula) -> None:
    proven = seen(checks.proof, formula, FLOAT64, largest=3)
    assert proven.verdict is Verdict.ACCURATE and proven.compared > 20
    assert seen(checks.witness, formula, FLOAT64, largest=3).verdict is Verdict.ACCURATE


@pytest.mark.parametrize("formula", EVERY, ids=lambda f: f.name)
def test_every_text_is_the_same_function(formula) -> None:
    assert [apart(formula, order) for order in (VALUE, DERIVATIVE, SECOND)] == [[], [], []]


@pytest.mark.parametrize("fmt", (FLOAT32, BFLOAT16), ids=lambda f: f.name)
@pytest.mark.parametrize("formula", (*OF_CLASSES, *REGRESSION), ids=lambda f: f.name)
def test_torch_stays_silent(formula, fmt) -> None:
    for check, form in ((checks.value, "function"), (checks.second, "function"), (checks.module, "module")):
        found = seen(check, formula, fmt, CPU.implement(formula, fmt, form), draws=4)
        assert found.verdict in GOOD, (check.__name__, found.worst)


def wide(function):
    """A program that computes in extended precision and rounds once."""

    def program(*inputs, **options):
        lifted = (
            a if a.dtype.kind == "i" else np.asarray(a, np.float64).astype(np.longdouble) for a in inputs
        )
        return np.asarray(function(*lifted, **options), np.float64)

    return program


def reduce(values, reduction):
    return values if reduction == "none" else values.mean() if reduction == "mean" else values.sum()


def of_classes(x, target, weight, *, ignore_index, label_smoothing, reduction):
    """Sample by sample, with SciPy's logarithms."""
    axis = min(x.ndim - 1, 1)
    scores = np.moveaxis(np.atleast_2d(np.moveaxis(x, axis, -1)), -1, -1).reshape(-1, x.shape[axis])
    found, weights = [], []
    for row, t in zip(scores, target.ravel(), strict=True):
        if t == ignore_index:
            found.append(0.0)
            continue
        z = (row - row.max()) - np.log(np.sum(np.exp(row - row.max())))
        q = np.full(row.size, label_smoothing / row.size)
        q[t] += 1 - label_smoothing
        found.append(-float(np.sum(q * weight * z)))
        weights.append(weight[t])
    if reduction == "none":
        return np.reshape(found, target.shape)
    return sum(found) / sum(weights) if reduction == "mean" else sum(found)


def by_subtraction(x, target, weight, *, ignore_index, label_smoothing, reduction):
    """From logsumexp x - x_t, which loses what a mean of x takes."""
    z = x - scipy.special.logsumexp(x, axis=min(x.ndim - 1, 1), keepdims=True)
    options = {"ignore_index": ignore_index, "label_smoothing": label_smoothing, "reduction": reduction}
    return of_classes(z, target, weight, **options)


def by_relative_entropy(x, target, weight, *, floor, reduction):
    positive = np.where(x < np.exp(floor), -floor * target, scipy.special.xlogy(-target, x))
    return reduce(weight * (positive - scipy.special.xlog1py(1 - target, -x)), reduction)


def by_logaddexp(x, target, weight, pos_weight, *, reduction):
    positive = pos_weight * target * np.logaddexp(0, -x)
    return reduce(weight * (positive + (1 - target) * np.logaddexp(0, x)), reduction)


RIGHT = {
    "cross_entropy": (cross_entropy, of_classes),
    "logsumexp less the score": (cross_entropy, by_subtraction),
    "binary_cross_entropy": (binary_cross_entropy, by_relative_entropy),
    "with_logits": (binary_cross_entropy_with_logits, by_logaddexp),
    "mse_loss": (mse_loss, wide(lambda x, t, *, reduction: reduce((x - t) * (x - t), reduction))),
    "l1_loss": (l1_loss, lambda x, t, *, reduction: reduce(np.maximum(x - t, t - x), reduction)),
    "huber_loss": (
        huber_loss,
        lambda x, t, *, delta, reduction: reduce(scipy.special.huber(delta, x - t), reduction),
    ),
}


@pytest.mark.parametrize("name", RIGHT)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_right_programs_of_other_kinds_stay_silent(name) -> None:
    formula, forward = RIGHT[name]
    found = seen(checks.value, formula, FLOAT64, standing_in(formula, FLOAT64, forward), draws=30)
    assert found.verdict in GOOD, found.worst


def share(c, like, reduction):
    return c / like.size if reduction == "mean" else c


def mse_lie(factor, divide):
    def vjp(inputs, c, *, reduction):
        g = factor * (share(c, inputs[0], reduction) if divide else c) * (inputs[0] - inputs[1])
        return g, -g

    return vjp


def unweighted(x, target, weight, *, ignore_index, label_smoothing, reduction):
    options = {"ignore_index": ignore_index, "label_smoothing": label_smoothing}
    if reduction != "mean":
        return of_classes(x, target, weight, reduction=reduction, **options)
    return of_classes(x, target, weight, reduction="sum", **options) / max((target != ignore_index).sum(), 1)


def over_all(x, target, weight, *, ignore_index, label_smoothing, reduction):
    options = {"ignore_index": ignore_index, "label_smoothing": label_smoothing}
    if reduction != "mean":
        return of_classes(x, target, weight, reduction=reduction, **options)
    return of_classes(x, target, weight, reduction="sum", **options) / weight[target % weight.size].sum()


def softmax_minus_hot(inputs, c, *, ignore_index, label_smoothing, reduction):
    """The gradient that everybody knows, right only without weights, smoothing and ignored targets."""
    x, target, _ = inputs
    axis = min(x.ndim - 1, 1)
    y = np.exp(x - scipy.special.logsumexp(x, axis=axis, keepdims=True))
    hot = np.moveaxis(np.eye(x.shape[axis])[np.maximum(target, 0)], -1, axis)
    g = np.expand_dims(c, axis) if reduction == "none" else share(c, target, reduction)
    return g * (y - hot), None, None


def at_a_tie(inputs, c, *, reduction):
    d = inputs[0] - inputs[1]
    with np.errstate(all="ignore"):
        g = share(c, d, reduction) * (d / np.abs(d))
    return g, -g


def small_side(inputs, c, *, beta, reduction):
    d = inputs[0] - inputs[1]
    g = share(c, d, reduction) * np.clip(d, -1, 1)
    return g, -g


LIARS = {
    "mse: sum for mean": (mse_loss, lambda x, t, *, reduction: np.square(x - t).sum(), None),
    "mse: mean over rows": (
        mse_loss,
        lambda x, t, *, reduction: (
            reduce(np.square(x - t), reduction) * (1 if reduction != "mean" else 1 + 1 / x.size)
        ),
        None,
    ),
    "mse: half": (mse_loss, lambda x, t, *, reduction: reduce(np.square(x - t) / 2, reduction), None),
    "mse: gradient without 1/N": (mse_loss, None, mse_lie(2, divide=False)),
    "mse: gradient without 2": (mse_loss, None, mse_lie(1, divide=True)),
    "l1: NaN at a tie": (l1_loss, None, at_a_tie),
    "huber: unscaled beyond delta": (
        huber_loss,
        lambda x, t, *, delta, reduction: reduce(
            np.where(np.abs(x - t) < delta, np.square(x - t) / 2, np.abs(x - t) - delta / 2), reduction
        ),
        None,
    ),
    "smooth l1: beta ignored": (
        smooth_l1_loss,
        lambda x, t, *, beta, reduction: reduce(scipy.special.huber(1.0, x - t), reduction),
        None,
    ),
    "smooth l1: gradient ignores beta": (smooth_l1_loss, None, small_side),
    "cross-entropy: smoothing ignored": (
        cross_entropy,
        lambda *inputs, label_smoothing, **options: of_classes(*inputs, label_smoothing=0.0, **options),
        None,
    ),
    "cross-entropy: weights not in the denominator": (cross_entropy, unweighted, None),
    "cross-entropy: ignored targets in the denominator": (cross_entropy, over_all, None),
    "cross-entropy: ignored index counted": (
        cross_entropy,
        lambda x, target, weight, *, ignore_index, **options: of_classes(
            x, np.maximum(target, 0), weight, ignore_index=-1, **options
        ),
        None,
    ),
    "cross-entropy: gradient of the simple case": (cross_entropy, None, softmax_minus_hot),
    "binary: weight ignored": (
        binary_cross_entropy,
        lambda x, t, weight, **options: by_relative_entropy(x, t, np.ones_like(x), **options),
        None,
    ),
    "logits: positive weight on both sides": (
        binary_cross_entropy_with_logits,
        lambda x, t, w, q, **options: by_logaddexp(x, t, w * q, np.ones_like(q), **options),
        None,
    ),
}


@pytest.mark.parametrize("name", LIARS)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_liars_are_caught(name) -> None:
    formula, forward, vjp = LIARS[name]
    check = checks.value if forward is not None else checks.derivative
    found = seen(check, formula, FLOAT32, standing_in(formula, FLOAT32, forward, vjp), draws=20)
    assert found.verdict is Verdict.WRONG


def test_the_answers_outside_the_domain_are_not_asked_for() -> None:
    def refuses(x, target, weight, *, floor, reduction):
        if not ((x >= 0) & (x <= 1)).all():
            raise ValueError("a probability is from 0 to 1")
        return by_relative_entropy(x, target, weight, floor=floor, reduction=reduction)

    alone = standing_in(binary_cross_entropy, FLOAT32, refuses)
    found = seen(checks.special, binary_cross_entropy, FLOAT32, replace(alone, vjp=None), draws=2)
    assert found.compared > 0 and "raised" not in found.breaches


def test_logits_by_log_sigmoid_are_unstable_by_name() -> None:
    x = np.array([-20.0], np.float32)
    ones, zero = np.ones(1, np.float32), np.zeros(1, np.float32)
    case = Case("saturated", FLOAT32, (x, zero, ones, ones), None, {"reduction": "none"})
    formula = binary_cross_entropy_with_logits
    found = checks.value(CPU.implement(formula, FLOAT32), formula, case)
    assert found.verdict is Verdict.UNSTABLE and found.worst is not None and found.worst.got == 0
    assert found.explained_by == ("(1 - t) x - (1 + (q - 1) t) log σ(x)",)


def test_a_tie_may_take_any_slope_between_both() -> None:
    case = Case("ties", FLOAT64, (np.ones(3), np.ones(3)), np.ones(3), {"reduction": "none"})
    for slope, verdict in ((0.0, GOOD), (1.0, GOOD), (-0.5, GOOD), (1.25, (Verdict.WRONG,))):
        liar = standing_in(l1_loss, FLOAT64, vjp=lambda inputs, c, *, reduction, s=slope: (s * c, -s * c))
        assert checks.derivative(liar, l1_loss, case).verdict in verdict


def test_the_trial_case_of_every_loss_counts_its_targets() -> None:
    for formula in (cross_entropy, nll_loss):
        alone = replace(formula, families=("plain",))
        found = seen(checks.value, alone, FLOAT64, CPU.implement(formula, FLOAT64), largest=2, draws=12)
        assert found.verdict in GOOD and not found.undecided
