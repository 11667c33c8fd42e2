"""Verdicts on training, decay, normalisation and Adam: measured, and another formula gets another verdict."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st

from gradcheck import article, formulas
from gradcheck.checks.claims import measure
from tests.test_article import CLAIMS

SETTINGS = settings(deadline=None, derandomize=True, database=None)
REAL_ADAM = formulas.adam


def measured(id, function=None, examples=40):
    claim = CLAIMS[id] if function is None else replace(CLAIMS[id], function=function)
    return measure(claim, SETTINGS, examples)


def texts(record):
    return " / ".join(record.notes)


@pytest.mark.parametrize("id", ["F06", "F12", "F13", "F14", "F15.substitution", "F16.adagrad", "C04"])
def test_what_is_right_is_upheld(id):
    found = measured(id)
    assert found.verdict == "upheld" and found.compared >= 6 and float(found.resolution) < 1e-20


@pytest.mark.parametrize(
    ("id", "instead"),
    [
        ("F10", "gradient_norm_penalty"),
        ("F10.gradient", "gradient_norm_penalty: gradient"),
        ("F11", "kronecker_penalty with decay"),
        ("F11.gradient", "kronecker_penalty: gradient of w with decay"),
        ("F15", "printed_adam: weight with lr, beta1, beta2, eps, rho"),
        ("F15.first", "(1 - β₁)/√(1 - β₂)"),
    ],
    ids=["F10", "F10.gradient", "F11", "F11.gradient", "F15", "F15.first"],
)
def test_what_is_wrong_is_refuted_and_named(id, instead):
    found = measured(id)
    assert found.verdict == "refuted" and found.equals == instead and found.counterexample


def test_the_first_printed_step_of_adam_is_3_16_times_as_long():
    assert "there it gives 3.16228, the reference 1" in measured("F15.first").notes


def test_cutting_from_above_alone_is_refuted_by_a_negative_gradient():
    found = measured("F13.above")
    assert found.verdict == "refuted" and found.counterexample == {"g": "[-2.0]", "threshold": "1.0"}


def test_no_decay_bounds_a_gradient():
    found = measured("C10")
    assert found.verdict == "refuted" and "violated in" in found.notes[0]


def test_history_is_not_decided_but_cited():
    found = measured("C06")
    assert found.verdict == "undecidable" and "Pascanu" in texts(found) and found.compared == 0


@pytest.mark.parametrize(
    ("id", "holds", "fails"),
    [
        ("F06.batches", "equal batches", "a ragged last batch"),
        ("F11.decoupled", "SGD", "Adam"),
        ("F16", "β₁ = 0, η and ε times √(1 − β₂ᵗ)", "β₁ > 0, η and ε times √(1 − β₂ᵗ)"),
        ("C11", "one feature, over the batch", "one sample, over its features"),
        ("C11.one", "batches of two or more", "a batch of one"),
        ("C15", "the problem of Reddi et al., AMSGrad", "the problem of Reddi et al., Adam"),
    ],
    ids=["F06.batches", "F11.decoupled", "F16", "C11", "C11.one", "C15"],
)
def test_what_depends_is_conditional_and_tells_on_what(id, holds, fails):
    found = measured(id, examples=160 if id in ("C15", "F06.batches", "F16") else 40)
    assert found.verdict == "conditional"
    assert f"{holds}: holds in all" in texts(found) and f"{fails}: fails in" in texts(found)


def test_adam_keeps_its_step_until_the_gradient_is_as_small_as_epsilon():
    found = measured("C14")
    assert found.verdict == "conditional"
    low, high = (float(word) for word in found.notes[0].split("below ")[1].split(",")[0].split(" … "))
    assert 0.99 < low < high < 2.02


def test_in_a_format_it_ends_where_the_square_underflows():
    notes = texts(measured("C14.formats", examples=160))
    assert "float16, ε = 0: fails for gradient below 0.005" in notes
    assert "float32, ε = 0: fails for gradient below 8" in notes and "e-22" in notes


def test_momentum_damps_at_some_rates_only():
    found = measured("C13", examples=160)
    assert found.verdict == "conditional" and "fails from there to" in texts(found)


def test_a_clipping_that_revives_zeros_is_refuted(monkeypatch):
    broken = replace(formulas.clip_by_value, value=lambda g, threshold: np.clip(g + 1, -threshold, threshold))
    monkeypatch.setattr(formulas, "clip_by_value", broken)
    assert measured("C04").verdict == "refuted" and measured("F13").verdict == "refuted"


def test_a_normalization_without_epsilon_is_refuted(monkeypatch):
    real = formulas.batch_norm

    def broken(x, weight, bias, *, eps, affine):
        return real.value(x, weight, bias, eps=0 * eps, affine=affine)

    monkeypatch.setattr(formulas, "batch_norm", replace(real, value=broken))
    assert measured("F12").verdict != "upheld"


def uncorrected(weight, gradient, mean, square, largest, **options):
    """Adam without the correction of the bias."""
    return REAL_ADAM.value(weight, gradient, mean, square, largest, **{**options, "t": 10**9})


def test_an_adam_without_correction_turns_the_verdicts(monkeypatch):
    monkeypatch.setattr(formulas, "adam", replace(REAL_ADAM, value=uncorrected))
    assert measured("F15.substitution").verdict == "refuted"
    assert measured("F14").verdict == "upheld"
    first = replace(CLAIMS["F15"], strategies={**CLAIMS["F15"].strategies, "rho": st.just(1.0)})
    assert measure(first, SETTINGS, 40).verdict == "upheld"


def test_a_step_that_is_mended_is_upheld():
    def mended(np_, weight, gradient, mean, square, lr, beta1, beta2, rho, eps, t):
        m, v = article.printed_moments(gradient, mean, square, beta1, beta2)
        step = lr * (m / (1 - beta1**t)) / (np.sqrt(v / (1 - beta2**t)) + eps)
        options = {"lr": lr, "beta1": beta1, "beta2": beta2, "eps": eps, "t": t}
        return weight - step, formulas.adam(weight, gradient, mean, square, square, **options)[0]

    assert measured("F15", mended).verdict == "upheld"


def test_an_l2_penalty_in_place_of_the_printed_one_is_upheld():
    def mended(np_, w, decay):
        return decay / 2 * np.sum(w * w), formulas.l2_penalty(w, decay=decay)

    assert measured("F11", mended).verdict == "upheld"


def test_batches_weighted_by_their_size_need_not_be_equal():
    def weighted(np_, x, target, weight, size):
        step, total = int(size), 0 * weight
        for start in range(0, x.shape[0], step):
            part = slice(start, start + step)
            total = total + np.sum(2 * (x[part] * weight - target[part]) * x[part])
        of_output, _ = formulas.mse_loss.vjp((x * weight, target), np.ones_like(weight), reduction="mean")
        return total / x.shape[0], np.sum(of_output * x)

    assert measured("F06.batches", weighted).verdict == "upheld"
