"""The study: true laws are within, wrong ones beyond, and every chapter is made of what was measured."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from gradcheck.errors import UsageError
from gradcheck.flow import Network, laws, spectra
from gradcheck.flow.document import BEYOND, REFUTED, SUPPORTED, WITHIN, Chapter, Claim, FlowDocument
from gradcheck.flow.row import Row as Law
from gradcheck.flow.rows_plain import dead_probability
from gradcheck.flow.study import (
    CHAPTERS,
    chapters,
    claims,
    frameworks,
    pictures,
    published,
    special,
    training,
)
from gradcheck.flow.study import plans as planning
from gradcheck.flow.study.acceptance import cases
from gradcheck.flow.study.at_once import chapters_at_once
from gradcheck.flow.study.literature import measured_row
from gradcheck.flow.study.plans import extrapolation, needed, sizes
from gradcheck.flow.study.readings import Reading, combined, judged_log
from gradcheck.flow.study.theory import measured_rows
from gradcheck.flow.theory import THEORY
from gradcheck.report.page import decided

SEED = 3


def of_name(*names: str) -> tuple[Law, ...]:
    return tuple(law for law in THEORY if law.name in names)


def wrong(law: Law, by: float) -> Law:
    return replace(law, value=lambda **arguments: law.value(**arguments) * by)


@pytest.mark.parametrize("name", ["gains", "depth scale", "dropout against criticality"])
def test_true_laws_are_within(name: str) -> None:
    rows = measured_rows(of_name(name), SEED)
    assert [row.verdict for row in rows] == [WITHIN] * len(rows)
    assert all(row.standard_error <= 0.0051 * row.exact and row.seeds >= 48 for row in rows)


@pytest.mark.parametrize("by", [0.98, 1.02])
@pytest.mark.parametrize("name", ["ReLU: factor", "gains", "depth scale"])
def test_a_factor_that_is_off_by_two_percent_is_beyond(
    name: str, by: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Seven standard errors to 2 %, so that the verdict is no matter of luck.
    monkeypatch.setattr(planning, "TARGET", 0.0028)
    for law in of_name(name):
        true, false = (measured_rows((each,), SEED) for each in (law, wrong(law, by)))
        assert {row.verdict for row in true} == {WITHIN}
        assert {row.verdict for row in false} == {BEYOND}
        assert all(math.copysign(1, row.z) == math.copysign(1, 1 - by) for row in false)


def test_what_is_no_number_is_beyond() -> None:
    for value in (math.nan, 0.0, -1.0):
        assert judged_log("x", Reading(value, 0.001, 10), 1.0, source="").verdict == BEYOND


@pytest.mark.parametrize(("value", "exact", "logarithm"), [(1e-3, 1e-3, False), (0.0, 0.0, True)])
def test_what_is_the_same_for_all_networks_involves_no_chance(
    value: float, exact: float, logarithm: bool
) -> None:
    for error, normal in ((0.0, False), (1e-18, False), (1e-9, True), (math.nan, True)):
        row = judged_log("x", Reading(value, error, 10), exact, logarithm=logarithm, source="")
        assert row.normal is normal


@pytest.mark.parametrize(
    ("name", "normal"),
    [
        ("depth scale", True),
        ("dead network", True),
        ("Jacobian's norm", False),
        ("Adam's largest step", False),
        ("clipping by the global norm", False),
        ("orthogonal, linear: factor", False),
        ("orthogonal, linear: log_variance", False),
    ],
)
def test_bounds_and_what_involves_no_chance_are_told_from_normal_numbers(name: str, normal: bool) -> None:
    rows = measured_rows(of_name(name), SEED)
    assert {row.normal for row in rows} == {normal}
    assert {row.verdict for row in rows} == {WITHIN}


def test_shares_of_an_extrapolation_cancel_the_error_and_add_up() -> None:
    for errors in ((2.0, 1.0), (1 / 13, 1 / 29), (2 ** (2 / 3), 1.0)):
        shares = extrapolation(*errors)
        readings = [Reading(5.0 + 0.3 * error, 0.1, 7) for error in errors]
        found = combined(readings, shares)
        assert math.isclose(sum(shares), 1.0)
        assert math.isclose(found.value, 5.0, rel_tol=1e-12)
        assert found.networks == 14 and found.error > 0.1


def test_more_networks_are_drawn_where_a_layer_adds_more_variance(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planning, "CHEAP", 1)
    counts = {}
    for activation, variance in (("relu", 2.0), ("linear", 1.0)):
        plan = sizes(
            dict(activation=activation, weight_variance=variance, width=32, depth=20), "log_mean", False
        )
        counts[activation] = needed(plan, "log_mean", 1.0, SEED)[0]
    assert counts["relu"] > 2 * counts["linear"]


def test_rows_depend_on_the_seed_alone() -> None:
    first, again, other = (measured_rows(of_name("gains"), seed) for seed in (SEED, SEED, SEED + 1))
    assert first == again
    assert first != other


def test_a_rare_share_is_not_judged_from_networks_that_all_agree() -> None:
    network = Network("relu", 30, 3)
    row = measured_row("dead", network, "dead", dead_probability(3, 30), "", SEED)
    assert row.verdict == WITHIN
    assert row.seeds * (1 - row.exact) >= 99
    assert measured_row("dead", network, "dead", 0.96, "", SEED).verdict == BEYOND


@pytest.mark.slow
def test_uniform_biases_move_the_factor_of_an_activation_with_a_cusp() -> None:
    variance = 1 / (3 * frameworks.FAN_IN)
    own = frameworks.default_factor("softsign", variance)
    assert 0.005 < 1 - own / frameworks.framework_defaults(frameworks.FAN_IN)["softsign"].factor < 0.015
    for name in ("relu", "linear", "hardsigmoid"):
        expected = frameworks.framework_defaults(frameworks.FAN_IN)[name].factor
        assert math.isclose(frameworks.default_factor(name, variance), expected, rel_tol=1e-6)
    assert frameworks.default_row("softsign", SEED).verdict == WITHIN


def test_a_format_is_run_and_its_limit_found() -> None:
    p = frameworks.framework_defaults(frameworks.WIDTH)["gelu"]
    row = frameworks.format_row("gelu", "float16", SEED, p, networks=4)
    assert row.verdict == WITHIN and not row.normal
    slower = replace(p, log_mean=p.log_mean * 0.7)
    assert frameworks.format_row("gelu", "float16", SEED, slower, networks=4).verdict == BEYOND


@pytest.mark.slow
def test_the_exact_law_between_networks_has_its_moments_and_is_told_from_a_wider_one() -> None:
    steps, width = 6, 16
    law = laws.gaussian(width, (2.0, 0.0), (0.5, 0.5))
    mean, deviation = steps * law.log_mean, math.sqrt(steps * law.log_variance)
    x = np.linspace(mean - 14 * deviation, mean + 8 * deviation, 4001)
    density, below = published.exact_density(width, steps, x)
    step = x[1] - x[0]
    np.testing.assert_allclose(np.sum(density) * step, 1.0, atol=1e-6)
    np.testing.assert_allclose(np.sum(density * x) * step, mean, atol=1e-5)
    np.testing.assert_allclose(np.sum(density * (x - mean) ** 2) * step, deviation**2, rtol=1e-4)
    np.testing.assert_allclose(np.gradient(below, step)[10:-10], density[10:-10], atol=1e-4)
    rng = np.random.default_rng(SEED)
    r = np.sort(np.interp(rng.random(4000), below, x))
    assert published.fit(r, np.interp(r, x, below))[1] > 1e-4
    assert published.fit(r, np.interp(mean + 1.15 * (r - mean), x, below))[1] < 1e-4


def test_the_spectrum_of_a_product_has_mass_one_and_mean_one() -> None:
    x, density = published.fuss_catalan(3)
    order = np.argsort(x)
    for power, expected in ((0, 1.0), (1, 1.0), (2, 4.0)):
        found = np.trapezoid((density * x**power)[order], np.log(x)[order])
        assert abs(found - expected) < 0.03
    assert x.max() <= spectra.gaussian_spectrum(3).largest


def test_jacobians_are_those_of_the_networks() -> None:
    network = Network("sigmoid", 4, 8, init="torch")
    ratios = special.bound_ratios(network, 20, SEED, 0.25)
    assert np.all((ratios > 0) & (ratios <= 1))
    linear = Network("linear", 3, 24, weight_variance=1.0)
    found = special.spectrum_variance(linear, 2000, SEED)
    exact = spectra.gaussian_spectrum(2, 24).variance
    assert abs(found.value - exact) < 4 * found.error
    orthogonal = special.largest_singular(Network("linear", 4, 8, init="orthogonal"), 5, SEED)
    assert abs(orthogonal.value - 1) < 1e-12


def test_ordinary_gradients_stay_below_adams_bound() -> None:
    from gradcheck.flow.steps import adam_largest_step

    draws = np.random.default_rng(SEED).standard_normal((40, 100))
    assert special.adam_step(draws, 0.9, 0.999) < adam_largest_step(0.9, 0.999, 40)
    assert math.isclose(
        special.worst_adam_step(0.9, 0.999, 40), adam_largest_step(0.9, 0.999, 40), rel_tol=1e-12
    )


def test_gradients_of_the_training_loop_are_the_differences_of_its_loss() -> None:
    weights, inputs, targets = (
        [w.astype(np.float64) for w in part] if isinstance(part, list) else part.astype(np.float64)
        for part in training._drawn(2.0, 3, SEED)
    )
    _, gradients = training.loss_and_gradients(weights, inputs, targets)
    for layer in range(3):
        ends = []
        for h in (1e-6, -1e-6):
            moved = [w.copy() for w in weights]
            moved[layer][1, 2] += h
            ends.append(training.loss_and_gradients(moved, inputs, targets)[0])
        assert math.isclose((ends[0] - ends[1]) / 2e-6, gradients[layer][1, 2], rel_tol=1e-4, abs_tol=1e-9)
    assert training.first_bad_depth(4.0, SEED) < training.first_bad_depth(1.0, SEED) == math.inf


@pytest.mark.slow
def test_claims_are_decided_by_their_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claims, "SEEDS", 16)
    assert claims.decay(SEED).verdict == REFUTED
    assert claims.sigmoid_after(SEED).verdict == REFUTED
    assert claims.leaky(SEED).verdict == "qualified"
    # Another formula under the same claim gets another verdict.
    monkeypatch.setattr(claims, "_printed_leaky", lambda x: np.where(x > 0, x, 0.2 * x))
    assert claims.leaky(SEED).verdict == "supported"
    monkeypatch.setattr(claims, "_sigmoid_after_relu", lambda x: 2.0 * x)
    assert claims.sigmoid_after(SEED).verdict == "supported"


def test_pictures_show_measured_beside_exact(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pictures, "SEEDS", 8)
    one, two, three, four = pictures.pictures(SEED)
    assert (one.series[0].y[0], two.series[0].y[0]) > (-math.inf, 1.0)
    assert one.series[0].y[0] < -3 and two.series[0].y[0] > 3
    for line in (s for s in (*one.series, *two.series) if s.mark == "line"):
        assert line.y[-1] == 0.0
    assert {s.label for s in three.series} >= {"f", "∂f/∂b = σ'(z)"}
    slope, points = three.series[1], next(s for s in three.series if s.label.startswith("∂f/∂x₁, by"))
    np.testing.assert_allclose(points.y, slope.y[::8], atol=1e-8)
    assert (
        sum(len(s.x) for s in four.series if s.mark != "line")
        == (pictures.SMALL.depth + 1) * pictures.SMALL.width
    )


def test_the_acceptance_table_holds_what_must_be_told_apart() -> None:
    table = cases()
    assert len(table) == 13
    assert {case.scale for case in table} == {1e-8, 1.0, 1e8}
    from gradcheck.flow.study.acceptance import _measured, _row

    for place, case in enumerate(table):
        if case.network.width <= 64 or case.network.depth <= 12:
            found = _measured(case, place, SEED, 2)
            row = _row(case, found)
            assert row.verdict == WITHIN and not row.normal
            # A case that must never be called what it is called lies beyond.
            assert _row(replace(case, never=(found[0].verdict,)), found).verdict == BEYOND


def test_an_unknown_chapter_is_refused_before_anything_is_measured() -> None:
    with pytest.raises(UsageError, match="theory"):
        chapters(SEED, only="theorie")
    assert CHAPTERS == ("theory", "frameworks", "article", "literature", "health")


def test_the_report_lists_the_claims_that_the_study_decided() -> None:
    made = tuple(
        Claim(id, "a < b", verdict, (), "why") for id, verdict in (("C02", REFUTED), ("C01", SUPPORTED))
    )
    study = FlowDocument("", 0.0, {}, {}, (Chapter("article", "", claims=made),))
    assert [row[:3] for row in decided(study)] == [
        ("accurate", SUPPORTED, "C01"),
        ("wrong", REFUTED, "C02"),
    ]
    assert decided(None) == ()


@pytest.mark.slow
def test_chapters_of_several_processes_are_those_of_one():
    said: list[str] = []
    both = chapters_at_once(3, ("health", "article"), said.append, 2)
    assert [chapter.id for chapter in both] == ["article", "health"]
    (alone,) = chapters(3, only="article")
    assert repr(both[0].claims) == repr(alone.claims)
    assert any("health" in text for text in said)
    with pytest.raises(UsageError, match="health"):
        chapters_at_once(3, ("healthy",), said.append, 2)
