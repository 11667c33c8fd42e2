"""Right samplers pass whatever the seed; samplers that are wrong in known ways are caught."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy import special, stats

from gradcheck.checks.moments import Draws, moments, pooled
from gradcheck.errors import UsageError
from gradcheck.formats import FLOAT32, FLOAT64, FORMATS, Format
from gradcheck.formulas.initialization import INITIALIZERS, Law, dirac, fans, get_initializer
from gradcheck.oracles.concentration import (
    distance_from_uniform,
    distribution_radius,
    mean_radius,
    normal_reach,
)
from gradcheck.records import Evidence, Verdict
from gradcheck.runner.initial import NUMBERS, summed
from gradcheck.subjects.samplers import SUBJECTS, Sampler, get_sampler, reason

ALARM = 1e-9
# Where fan_in and fan_out differ by a factor that each rule's variance shows.
SHAPE = (48, 24)
Draw = Callable[[np.random.Generator, tuple[int, ...]], Any]


def case(shape: tuple[int, ...], seed: int = 0, **options: Any) -> Draws:
    return Draws(shape, options, seed, max(1, math.ceil(NUMBERS / math.prod(shape))))


def sampler(name: str, draw: Draw, fmt: Format = FLOAT64) -> Sampler:
    def drawn(shape: tuple[int, ...], options: Any, seed: int) -> Any:
        return np.asarray(draw(np.random.default_rng(seed), shape)).astype(fmt.dtype)

    return Sampler(name, "liar", fmt, drawn)


def verdict(name: str, draw: Draw, shape: tuple[int, ...] = SHAPE, **options: Any) -> Evidence:
    """What the eight cases of a usual run show, together with their pool."""
    liar, rule = sampler(name, draw), get_initializer(name)
    return summed(
        [moments(liar, rule, case(shape, seed=1000 * k, **options), ALARM) for k in range(8)], ALARM
    )


LIARS: dict[str, tuple[str, Draw, dict[str, Any]]] = {
    "fan_out for fan_in": (
        "he_normal",
        lambda rng, shape: rng.normal(0, math.sqrt(2 / shape[0]), shape),
        {},
    ),
    "fan_in for fan_out": (
        "he_uniform",
        lambda rng, shape: rng.uniform(-1, 1, shape) * math.sqrt(6 / shape[1]),
        {"mode": "fan_out"},
    ),
    "gain forgotten": (
        "glorot_normal",
        lambda rng, shape: rng.normal(0, math.sqrt(2 / sum(shape)), shape),
        {"gain": 5 / 3},
    ),
    "gain not squared": (
        "glorot_uniform",
        lambda rng, shape: rng.uniform(-1, 1, shape) * math.sqrt(6 * 1.25 / sum(shape)),
        {"gain": 1.25},
    ),
    "deviation for the bound of a uniform": (
        "glorot_uniform",
        lambda rng, shape: rng.uniform(-1, 1, shape) * math.sqrt(2 / sum(shape)),
        {},
    ),
    "bound for the deviation of a normal": (
        "lecun_normal",
        lambda rng, shape: rng.normal(0, math.sqrt(3 / shape[1]), shape),
        {},
    ),
    "variance a third": (
        "lecun_uniform",
        lambda rng, shape: rng.uniform(-1, 1, shape) / math.sqrt(shape[1]),
        {},
    ),
    "slope not squared": (
        "he_normal",
        lambda rng, shape: rng.normal(0, math.sqrt(2 / (1.2 * shape[1])), shape),
        {"slope": 0.2},
    ),
    "truncated where it should not be": (
        "lecun_normal",
        lambda rng, shape: stats.truncnorm.rvs(-2, 2, size=shape, random_state=rng) * math.sqrt(1 / shape[1]),
        {},
    ),
    "truncated and rescaled to the right variance": (
        "lecun_normal",
        lambda rng, shape: (
            stats.truncnorm.rvs(-2, 2, size=shape, random_state=rng)
            * math.sqrt(1 / shape[1] / stats.truncnorm.var(-2, 2))
        ),
        {},
    ),
    "clipped for truncated": (
        "trunc_normal",
        lambda rng, shape: np.clip(rng.normal(size=shape), -2, 2),
        {},
    ),
    "square root left out": (
        "he_normal",
        lambda rng, shape: rng.normal(0, 2 / shape[1], shape),
        {},
    ),
    "mean missed": (
        "linear_weight",
        lambda rng, shape: rng.uniform(0, 2, shape) / math.sqrt(shape[1]),
        {},
    ),
    "mean off by a tenth of a deviation": (
        "normal",
        lambda rng, shape: rng.normal(0.1, 1, shape),
        {},
    ),
    "uniform for normal, moments of order two right": (
        "normal",
        lambda rng, shape: rng.uniform(-1, 1, shape) * math.sqrt(3),
        {},
    ),
    "Laplace for normal": (
        "normal",
        lambda rng, shape: rng.laplace(0, math.sqrt(0.5), shape),
        {},
    ),
    "skewed with the right mean and variance": (
        "normal",
        lambda rng, shape: rng.exponential(1, shape) - 1,
        {},
    ),
    "one number in a thousand a hundred deviations off": (
        "normal",
        lambda rng, shape: np.where(rng.random(shape) < 1e-3, 100.0, rng.normal(size=shape)),
        {},
    ),
    "NaN": (
        "uniform",
        lambda rng, shape: np.where(rng.random(shape) < 1e-3, np.nan, rng.uniform(-1, 1, shape)),
        {},
    ),
    "zeros": ("uniform", lambda rng, shape: np.zeros(shape), {}),
}


@pytest.mark.parametrize("name", LIARS)
def test_a_sampler_that_is_wrong_in_one_way_is_caught(name: str) -> None:
    rule, draw, options = LIARS[name]
    assert verdict(rule, draw, **options).verdict is Verdict.WRONG


def test_the_worst_statistic_is_named() -> None:
    rule, draw, options = LIARS["mean missed"]
    worst = verdict(rule, draw, **options).worst
    assert worst is not None and ", shape 48x24, seed " in worst.context
    assert worst.context.startswith("support of ")


def test_the_kernel_counts_for_the_fans() -> None:
    def without(rng: np.random.Generator, shape: tuple[int, ...]) -> Any:
        return rng.uniform(-1, 1, shape) / math.sqrt(shape[1])

    assert fans((8, 4, 3, 5)) == (60, 120)
    assert verdict("conv2d_weight", without, (8, 4, 3, 3)).verdict is Verdict.WRONG


@pytest.mark.parametrize("subject", SUBJECTS)
@pytest.mark.parametrize("rule", INITIALIZERS, ids=lambda rule: rule.name)
def test_right_samplers_pass_in_every_format(rule: Any, subject: str) -> None:
    shapes = {"orthogonal": (12, 7), "dirac": (6, 4, 3, 3), "bias": (400, 3, 3, 3)}
    shape = (shapes.get(rule.kind) or shapes.get(rule.target) or (16, 8, 3, 3))[: rule.axes[1]]
    seen = 0
    for fmt in FORMATS:
        if reason(subject, rule, fmt):
            continue
        drawn = get_sampler(subject, rule, fmt)
        for seed in range(2):
            options = {option.name: option.default for option in rule.options}
            at = Draws(shape, options, 1000 * seed, 1 if rule.kind == "dirac" else 20)
            found = moments(drawn, rule, at, ALARM)
            assert found.evidence.verdict is Verdict.ACCURATE, found.evidence
            seen += found.evidence.compared
    assert seen > 0


def test_false_alarms_are_rarer_than_the_stated_probability() -> None:
    rule, alarm, runs = get_initializer("he_normal"), 0.05, 400
    drawn = get_sampler("numpy", rule, FLOAT64)
    alarms = sum(
        moments(drawn, rule, Draws((25, 16), {}, seed, 1), alarm).evidence.verdict is Verdict.WRONG
        for seed in range(runs)
    )
    # A right sampler of so many runs stays below this with a probability of 1 - 1e-9.
    assert alarms <= stats.binom.isf(1e-9, runs, alarm)


def test_a_variance_off_by_the_stated_resolution_is_seen() -> None:
    rule = get_initializer("normal")
    right = get_sampler("numpy", rule, FLOAT64)
    found = [moments(right, rule, case(SHAPE, seed=1000 * k), ALARM) for k in range(8)]
    evidence = summed(found, ALARM)
    assert evidence.verdict is Verdict.ACCURATE and 0 < evidence.resolution < 0.05
    # As shares of a uniform law: stretched about the middle, so that the variance is off by so much.
    shares = np.concatenate([one.shares for one in found])
    errors = np.concatenate([one.share_errors for one in found])
    stretched = 0.5 + (shares - 0.5) * math.sqrt(1 + evidence.resolution)
    assert pooled(stretched, errors, ALARM).verdict is Verdict.WRONG
    assert "variance off by" in evidence.notes[-1]


def test_a_pool_sees_what_no_case_sees() -> None:
    def slightly(rng: np.random.Generator, shape: tuple[int, ...]) -> Any:
        return rng.normal(0, 1.015, shape)

    rule = get_initializer("normal")
    liar = sampler("normal", slightly)
    found = [moments(liar, rule, case(SHAPE, seed=1000 * k), ALARM) for k in range(30)]
    assert all(one.evidence.verdict is Verdict.ACCURATE for one in found)
    assert summed(found, ALARM).verdict is Verdict.WRONG


ORTHOGONAL: dict[str, Draw] = {
    "signs of LAPACK left": lambda rng, shape: np.linalg.qr(rng.normal(size=shape))[0],
    "not orthogonal": lambda rng, shape: rng.normal(size=shape) / math.sqrt(shape[0]),
    "a permutation with signs": lambda rng, shape: (
        np.eye(shape[0])[rng.permutation(shape[0])] * rng.choice([-1.0, 1.0], shape[0])
    ),
    "the unit matrix": lambda rng, shape: np.eye(*shape),
    "columns of length sqrt(m)": lambda rng, shape: (
        np.linalg.qr(rng.normal(size=shape))[0] * math.sqrt(shape[0])
    ),
}


@pytest.mark.parametrize("name", ORTHOGONAL)
def test_an_orthogonal_sampler_that_is_wrong_is_caught(name: str) -> None:
    liar = sampler("orthogonal", ORTHOGONAL[name])
    found = moments(liar, get_initializer("orthogonal"), Draws((8, 8), {}, 0, 200), ALARM)
    assert found.evidence.verdict is Verdict.WRONG


def test_a_gain_forgotten_by_an_orthogonal_sampler_is_caught() -> None:
    rule = get_initializer("orthogonal")
    right = get_sampler("numpy", rule, FLOAT64)
    deaf = replace(right, draw=lambda shape, options, seed: right.draw(shape, {}, seed))
    at = Draws((5, 9), {"gain": 2.0}, 0, 50)
    assert moments(right, rule, at, ALARM).evidence.verdict is Verdict.ACCURATE
    assert moments(deaf, rule, at, ALARM).evidence.verdict is Verdict.WRONG


def test_dirac_passes_the_first_channels_through() -> None:
    weight = dirac((4, 2, 3, 3), 2)
    assert weight.sum() == 4
    assert all(weight[out, out % 2, 1, 1] == 1 for out in range(4))
    whole = sampler("dirac", lambda rng, shape: dirac(shape, 1))
    grouped = Draws((4, 2, 3, 3), {"groups": 2}, 0, 1)
    assert moments(whole, get_initializer("dirac"), grouped, ALARM).evidence.verdict is Verdict.WRONG


@pytest.mark.parametrize(
    ("draw", "kind"),
    [
        (lambda shape, options, seed: np.zeros((3, 3)), "shape"),
        (lambda shape, options, seed: np.zeros(shape, np.float32), "format"),
        (lambda shape, options, seed: 1 / 0, "raised"),
    ],
)
def test_a_sampler_that_does_not_do_its_part_is_a_finding(draw: Any, kind: str) -> None:
    rule = get_initializer("normal")
    found = moments(Sampler("normal", "liar", FLOAT64, draw), rule, case(SHAPE), ALARM)
    assert found.evidence.breaches == {kind: 1} and found.evidence.verdict is Verdict.WRONG


@pytest.mark.parametrize("law", [Law(-1.0, 3.0), Law(-2.0, 1.0, 0.5, 0.75), Law(-8.0, 8.0, 0.0, 1.0)])
def test_moments_and_distribution_of_a_law(law: Law) -> None:
    if law.std is None:
        known = stats.uniform(law.low, law.high - law.low)
    else:
        ends = ((end - law.mean) / law.std for end in (law.low, law.high))
        known = stats.truncnorm(*ends, loc=law.mean, scale=law.std)
    assert law.centre == pytest.approx(known.mean(), abs=1e-13)
    for order in (2, 4):
        expected = known.expect(lambda x, k=order: (x - known.mean()) ** k)
        assert law.moment(order) == pytest.approx(expected, rel=1e-9)
    x = np.linspace(law.low - 0.5, law.high + 0.5, 41)
    np.testing.assert_allclose(law.cdf(x), known.cdf(x), atol=1e-13)


def test_the_bounds_on_chance() -> None:
    # A fair coin: the exact tail is below the bound's.
    radius = mean_radius(400, 0.25, 0.5, 1e-6)
    assert 2 * stats.binom.sf(math.ceil((0.5 + radius) * 400) - 1, 400, 0.5) <= 1e-6
    assert stats.kstwo.sf(distribution_radius(500, 1e-6), 500) <= 1e-6
    assert 200 * 2 * special.ndtr(-normal_reach(200, 1e-6)) == pytest.approx(1e-6)
    values = np.random.default_rng(0).random(100)
    assert distance_from_uniform(values) == pytest.approx(stats.kstest(values, "uniform").statistic)


def test_options_are_checked_by_name() -> None:
    with pytest.raises(UsageError, match="no option 'gian'"):
        get_initializer("orthogonal").complete({"gian": 2.0})
    with pytest.raises(UsageError, match="he_normal"):
        get_initializer("he_norml")
    with pytest.raises(UsageError, match="unknown subject"):
        get_sampler("caffe", get_initializer("normal"), FLOAT32)


def test_a_draw_leaves_torchs_own_generator_alone() -> None:
    torch = pytest.importorskip("torch")
    before = torch.random.get_rng_state()
    rule = get_initializer("linear_bias")
    drawn = get_sampler("torch-cpu", rule, FLOAT32)
    first, second = (drawn.draw((5, 4), {}, seed) for seed in (1, 1))
    assert np.array_equal(first, second) and torch.equal(before, torch.random.get_rng_state())


def test_a_reproduction_draws_the_same_numbers() -> None:
    torch = pytest.importorskip("torch")
    rule = get_initializer("he_normal")
    drawn = get_sampler("torch-cpu", rule, FLOAT32)
    names: dict[str, Any] = {}
    assert drawn.reproduce is not None
    *program, shown = drawn.reproduce((3, 4), {"slope": 0.5}, 7).splitlines()
    assert shown.startswith("print(")
    exec("\n".join(program), names)
    same = drawn.draw((3, 4), {"slope": 0.5}, 7)
    assert torch.equal(names["w"], torch.tensor(same, dtype=torch.float64))
