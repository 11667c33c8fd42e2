"""Normalisations: values by hand, edges, proofs, who must stay silent and who must not."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import flint
import numpy as np
import pytest
import torch

from gradcheck import formulas
from gradcheck.arithmetic.ball import balls, precision
from gradcheck.arithmetic.rounded import Model, rounded, variance
from gradcheck.cases import laid_out_axes
from gradcheck.checks import proof
from gradcheck.checks.examine import examine
from gradcheck.errors import UsageError
from gradcheck.formats import BFLOAT16, FLOAT16, FLOAT32, FLOAT64, Format
from gradcheck.formulas.centred import one_pass as one_pass_text
from gradcheck.formulas.centred import two_pass as two_pass_text
from gradcheck.oracles.query import Query, apply
from gradcheck.records import DERIVATIVE, SECOND, VALUE, Array, Case, Evidence, Formula, Verdict
from gradcheck.subjects.implementation import Implementation
from gradcheck.subjects.numpy import NUMPY
from gradcheck.subjects.torch import CPU
from tests import normalising as other

FORMULAS = formulas.FAMILIES["normalisation"]
DIFFERENTIABLE = tuple(formula for formula in FORMULAS if formula.differentiable)
VARIANTS = [
    pytest.param(formula, variant, id=f"{formula.name}-{variant.order}-{variant.name}")
    for formula in FORMULAS
    for variant in formula.variants
]
BITS = 512
ONE, ZERO = np.ones(1), np.zeros(1)


def test_values_by_hand() -> None:
    x = np.array([[1.0], [3.0]])
    assert formulas.batch_norm(x, np.array([2.0]), np.array([0.5]), eps=0.0).ravel().tolist() == [-1.5, 2.5]
    assert formulas.batch_norm(x, ONE, ZERO, eps=0.0, affine=False).ravel().tolist() == [-1.0, 1.0]
    row = np.array([[2.0, 4.0, 4.0, 4.0, 5.0, 5.0, 7.0, 9.0]])  # mean 5, deviation 2
    expected = ((row - 5) / 2).tolist()
    assert formulas.layer_norm(row, np.ones(8), np.zeros(8), eps=0.0).tolist() == expected
    assert formulas.group_norm(row, np.ones(8), np.zeros(8), eps=0.0, groups=1).tolist() == expected
    assert formulas.instance_norm(row[None], ONE, ZERO, eps=0.0).tolist() == [expected]
    given = (np.array([2.0]), np.array([1.0]), np.array([5.0]), np.array([3.0]))
    assert formulas.batch_norm_eval(np.array([[7.0]]), *given, eps=1.0).tolist() == [[3.0]]
    found = formulas.rms_norm(np.array([[1.0, 7.0]]), np.array([5.0, 1.0]), eps=0.0)
    assert found.ravel().tolist() == pytest.approx([1.0, 1.4], rel=1e-15)


def test_two_groups_are_apart() -> None:
    x = np.array([[1.0, 3.0, 10.0, 14.0]])
    assert formulas.group_norm(x, np.ones(4), np.zeros(4), eps=0.0, groups=2).tolist() == [
        [-1.0, 1.0, -1.0, 1.0]
    ]


@pytest.mark.parametrize(
    "options, expected",
    [
        ({"momentum": 0.25}, (2.0, 2.75)),
        ({"momentum": 0.25, "momentum_of": "running"}, (4.0, 2.25)),
        ({"momentum": 0.0}, (1.0, 3.0)),
        ({"momentum": 1.0}, (5.0, 2.0)),
        ({"cumulative": True}, (5.0, 2.0)),
        ({"cumulative": True, "count": 3}, (2.0, 2.75)),
    ],
)
def test_running_statistics_by_hand(options: dict[str, Any], expected: tuple[float, float]) -> None:
    x = np.array([[4.0], [6.0]])  # mean 5, unbiased variance 2
    mean, variance_ = formulas.batch_norm_running(x, np.array([1.0]), np.array([3.0]), **options)
    assert (float(mean[0]), float(variance_[0])) == expected


def test_without_variance_and_epsilon_the_limit_is_the_bias() -> None:
    x, bias = np.full((4, 1), 2.0), np.array([0.5])
    assert formulas.batch_norm(x, ONE, bias, eps=0.0).ravel().tolist() == [0.5] * 4
    gradients = formulas.batch_norm.vjp((x, ONE, bias), np.arange(4.0)[:, None], eps=0.0, affine=True)  # type: ignore[misc]
    assert [g.ravel().tolist() for g in gradients] == [[0.0] * 4, [0.0], [6.0]]
    assert formulas.rms_norm(np.zeros((1, 3)), np.ones(3), eps=0.0).tolist() == [[0.0, 0.0, 0.0]]


def test_one_element_gives_the_bias_and_finite_running_statistics() -> None:
    x = np.array([[3.0]])
    assert formulas.batch_norm(x, ONE, np.array([0.5])).tolist() == [[0.5]]
    mean, variance_ = formulas.batch_norm_running(x, ZERO, ONE)
    assert mean[0] == pytest.approx(0.3) and variance_[0] == pytest.approx(0.9)


@pytest.mark.parametrize(
    "call",
    [
        lambda: formulas.batch_norm(np.ones((2, 1)), ONE, ONE, eps=-1.0),
        lambda: formulas.batch_norm(np.ones(2), ONE, ONE),
        lambda: formulas.layer_norm(np.ones((2, 2)), np.ones(2), np.ones(2), axes=3),
        lambda: formulas.layer_norm(np.ones((2, 2)), np.ones(2), np.ones(2), axes=0),
        lambda: formulas.group_norm(np.ones((2, 4)), np.ones(4), np.ones(4), groups=3),
        lambda: formulas.instance_norm(np.ones((2, 4)), np.ones(4), np.ones(4)),
        lambda: formulas.batch_norm_running(np.ones((2, 1)), ONE, ONE, momentum=1.5),
    ],
)
def test_impossible_options_are_refused(call: Callable[[], Any]) -> None:
    with pytest.raises(UsageError):
        call()


@pytest.mark.parametrize("formula", DIFFERENTIABLE, ids=lambda f: f.name)
def test_the_gradients_are_proven(formula: Formula) -> None:
    for seed in range(4):
        case = other.drawn(formula, FLOAT64, "plain", seed)
        small = other.Seeded(seed, 3)
        assert formula.arrange is not None
        arranged = formula.arrange(small)
        inputs = tuple(
            np.random.default_rng([seed, k]).normal(size=shape) ** (2 if formula.kind(k) == "positive" else 1)
            for k, shape in enumerate(arranged.shapes)
        )
        evidence = proof(formula, replace(case, inputs=inputs, options={**case.options, **arranged.options}))
        assert evidence.verdict is Verdict.ACCURATE, (seed, evidence)


@pytest.mark.parametrize("formula, variant", VARIANTS)
def test_every_listed_program_is_the_same_function(formula: Formula, variant: Any) -> None:
    for seed in range(3):
        case = (
            other.drawn(formula, FLOAT64, "plain", seed, eps=0.25)
            if formula.differentiable
            else other.drawn(formula, FLOAT64, "plain", seed)
        )
        rng = np.random.default_rng(seed)
        shape = case.inputs[0].shape
        directions = tuple(rng.normal(size=a.shape) for a in case.inputs) if variant.order == SECOND else ()
        cotangent = rng.normal(size=shape) if variant.order else None
        query = Query(formula, variant.order, FLOAT64, case.inputs, case.options, cotangent, directions)
        text = formula.value if variant.order == VALUE else formula.vjp
        assert text is not None
        with precision(BITS):
            expected, found = apply(query, text, balls), apply(query, variant.text, balls)
            for a, b in zip(expected, found, strict=True):
                for p, q in zip(a.data.ravel().tolist(), b.data.ravel().tolist(), strict=True):
                    assert p.overlaps(q) and (p - q).abs_upper() < flint.arb(2) ** -300


def merged(
    implementation: Implementation, formula: Formula, drawn: list[Case], orders: tuple[int, ...]
) -> Evidence:
    total = Evidence()
    for case in drawn:
        for order in orders:
            total = total.merge(examine(implementation, formula, case, order))
    return total


def every_family(formula: Formula, fmt: Format, seeds: range, **fixed: Any) -> list[Case]:
    return [other.drawn(formula, fmt, family, seed, **fixed) for family in formula.families for seed in seeds]


HONEST = {
    "two passes": (other.two_pass, other.direct),
    "two passes, x·a + b": (other.two_pass, other.scale_and_shift),
    "Welford": (other.welford, other.direct),
    "Welford, x·a + b": (other.welford, other.scale_and_shift),
}


@pytest.mark.parametrize("fmt", [FLOAT32, FLOAT64], ids=lambda f: f.name)
@pytest.mark.parametrize("name", HONEST)
def test_independent_batch_and_layer_norms_stay_silent(name: str, fmt: Format) -> None:
    moments, applied = HONEST[name]
    for formula, build in ((formulas.batch_norm, other.batch_norm), (formulas.layer_norm, other.layer_norm)):
        seeds = range(2) if fmt is FLOAT32 else range(1)
        evidence = merged(
            build(fmt, moments, applied), formula, every_family(formula, fmt, seeds), (VALUE, DERIVATIVE)
        )
        assert evidence.verdict is Verdict.ACCURATE, evidence


def channels_last(array: Array) -> Array:
    """The same array, with the channels next to each other in memory."""
    return np.moveaxis(np.ascontiguousarray(np.moveaxis(array, 1, -1)), -1, 1) if array.ndim == 4 else array


LAYOUTS: dict[str, Callable[[Array], Array]] = {
    "contiguous": lambda array: array,
    "strided": lambda array: laid_out_axes(array, "strided"),
    "channels last": channels_last,
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("fmt", [FLOAT32, BFLOAT16], ids=lambda f: f.name)
@pytest.mark.parametrize("formula", FORMULAS, ids=lambda f: f.name)
def test_torch_stays_silent_in_every_layout(formula: Formula, fmt: Format, layout: str) -> None:
    drawn = [
        replace(case, inputs=tuple(LAYOUTS[layout](array) for array in case.inputs))
        for case in every_family(formula, fmt, range(1))
    ]
    orders = (VALUE, DERIVATIVE) if formula.differentiable else (VALUE,)
    evidence = merged(CPU.implement(formula, fmt), formula, drawn, orders)
    assert evidence.verdict is Verdict.ACCURATE, evidence


def large(shape: tuple[int, ...], offset: float) -> Array:
    return (np.random.default_rng(len(shape)).normal(size=shape) + offset).astype(np.float32)


def exact_batch_norm(x: Array, eps: float) -> Any:
    """The truth to a few units of float64: sums by `math.fsum`, which rounds once."""
    flat = np.moveaxis(x, 1, 0).reshape(x.shape[1], -1).astype(np.float64)
    means = [math.fsum(row) / len(row) for row in flat]
    variances = [math.fsum((row - m) ** 2) / len(row) for row, m in zip(flat, means, strict=True)]
    normal = [(row - m) / math.sqrt(v + eps) for row, m, v in zip(flat, means, variances, strict=True)]
    others = (x.shape[0], *x.shape[2:])
    return np.moveaxis(np.array(normal).reshape(x.shape[1], *others), 0, 1)


def of_torch(x: Array) -> Array:
    return np.asarray(torch.nn.functional.batch_norm(torch.from_numpy(x), None, None, training=True).numpy())


def of_moments(moments: Any) -> Callable[[Array], Array]:
    def forward(x: Array) -> Array:
        return np.asarray(
            other.batch_norm(FLOAT32, moments).forward((x, ONE, ZERO), {"affine": False, "eps": 1e-5})
        )

    return forward


# In any order the bound is n u: of use up to a million values per mean, if the mean is not large. Beyond that
# what is judged is a declared order: sums in a tree of height 64, as by NumPy's pairwise sums, and by torch
# over contiguous places. Over channels that lie next to each other torch adds one value after the other.
LARGE = {
    "two passes": ((1000, 1000), None, 3.0, of_moments(other.two_pass)),
    "Welford": ((15625, 64), None, 3.0, of_moments(other.welford)),
    "torch, many places": ((16, 4, 125, 125), 64, 3.0, of_torch),
    "torch, channels last": ((16, 4, 125, 125), None, 1.0, lambda x: of_torch(channels_last(x))),
    "torch, a million samples": ((10**6, 1), None, 0.0, of_torch),
    "NumPy's own variance": (
        (10**6, 1),
        64,
        3.0,
        lambda x: (x - x[:, 0].mean()) / np.sqrt(x[:, 0].var() + np.float32(1e-5)),
    ),
}


@pytest.mark.parametrize("name", LARGE)
def test_a_million_elements_stay_within_the_bound(name: str) -> None:
    shape, height, offset, forward = LARGE[name]
    x = large(shape, offset)
    truth = exact_batch_norm(x, 1e-5)
    model = Model(FLOAT32, height=height)
    parameters = (rounded(np.ones(shape[1]), model), rounded(np.zeros(shape[1]), model))
    options = formulas.batch_norm.complete({"affine": False})
    texts = (formulas.batch_norm.value, formulas.batch_norm.variants[0].text)
    intervals = [text(rounded(x, model), *parameters, **options).stored() for text in texts]
    lo, hi = (
        np.minimum(intervals[0].lo, intervals[1].lo),
        np.maximum(intervals[0].hi, intervals[1].hi),
    )
    got = forward(x).astype(np.float64)
    assert ((got >= lo) & (got <= hi) & (truth >= lo - 1e-12) & (truth <= hi + 1e-12)).all()
    assert (hi - lo).max() < (0.25 if height is None else 0.001) * np.abs(truth).max()


def test_the_bound_of_a_variance_holds_and_catches_one_pass() -> None:
    rng = np.random.default_rng(1)
    for count, draws in ((2, 400), (5, 400), (17, 400), (64, 300), (257, 100), (4096, 4)):
        kappa = 10 ** rng.uniform(-1, 6, draws)
        x = (rng.normal(size=(count, draws)) + kappa * rng.choice([-1, 1], draws)).astype(np.float32)
        x[:, ::3] = np.sort(x[:, ::3], axis=0)
        bound = variance(rounded(x, Model(FLOAT32)), 0)
        across = np.ascontiguousarray(x.T)
        for got in (
            other.two_pass(x)[1],
            other.welford(x)[1],
            across.var(axis=1),
            torch.var(torch.from_numpy(across), 1, correction=0).numpy(),
        ):
            assert ((got >= bound.lo) & (got <= bound.hi)).all(), count
        with np.errstate(all="ignore"):
            kept = np.var(x.astype(np.float64), axis=0)
            u = FLOAT32.roundoff
            ratio = np.abs(x.astype(np.float64).mean(axis=0)) / np.sqrt(kept)
            width = (bound.hi - kept) / kept
            # As tight as n u κ, the bound of Welford's updates, and (n u κ)² from the mean.
            first = (count + 6) * u * np.sqrt(1 + ratio**2)
            assert (width[kept > 0] <= (2 * first + 2 * first**2)[kept > 0]).all()
        got = other.one_pass(x)[1]
        assert ((got < bound.lo) | (got > bound.hi)).mean() > 0.4


def test_the_interval_of_one_pass_holds_what_it_computes() -> None:
    x = (np.random.default_rng(2).normal(size=(40, 50)) + 3000).astype(np.float32)
    legal = one_pass_text(rounded(x, Model(FLOAT32)), (0,))[1]
    stable = two_pass_text(rounded(x, Model(FLOAT32)), (0,))[1]
    got = np.mean(x * x, axis=0) - np.mean(x, axis=0) ** 2
    assert ((got >= legal.lo[0]) & (got <= legal.hi[0])).all()
    assert not ((got >= stable.lo[0]) & (got <= stable.hi[0])).any()


def biased_elsewhere(x: Array) -> tuple[Array, Array]:
    m, v = other.two_pass(x)
    return m, v * x.dtype.type(len(x) / (len(x) - 1))


def outside_the_root(x: Array, m: Array, v: Array, w: Array, b: Array, eps: Any) -> Array:
    return (x - m) / (np.sqrt(v) + eps) * w + b


def without_mean(x: Array, m: Array, v: Array, g: Array, eps: Any) -> Array:
    r = 1 / np.sqrt(v + eps)
    y = (x - m) * r
    return r * (g - y * other.two_pass(g * y)[0])


def without_variance(x: Array, m: Array, v: Array, g: Array, eps: Any) -> Array:
    return (g - other.two_pass(g)[0]) / np.sqrt(v + eps)


def of_all(x: Array) -> tuple[Array, Array]:
    m, v = other.two_pass(x.reshape(-1, 1))
    return np.broadcast_to(m, x[0].shape), np.broadcast_to(v, x[0].shape)


LIARS = {
    "unbiased variance in training": (VALUE, lambda f: other.batch_norm(f, biased_elsewhere)),
    "eps outside the root": (VALUE, lambda f: other.batch_norm(f, other.two_pass, outside_the_root)),
    "over all channels": (VALUE, lambda f: other.batch_norm(f, of_all)),
    "no mean of the cotangent": (
        DERIVATIVE,
        lambda f: other.batch_norm(f, other.two_pass, slope=without_mean),
    ),
    "no term of the variance": (
        DERIVATIVE,
        lambda f: other.batch_norm(f, other.two_pass, slope=without_variance),
    ),
}


@pytest.mark.parametrize("fmt", [FLOAT64, FLOAT32], ids=lambda f: f.name)
@pytest.mark.parametrize("name", LIARS)
def test_liars_of_batch_norm_are_wrong(name: str, fmt: Format) -> None:
    order, build = LIARS[name]
    formula = formulas.batch_norm
    drawn = [other.drawn(formula, fmt, "plain", seed, eps=0.25) for seed in range(4)]
    assert merged(build(fmt), formula, drawn, (order,)).verdict is Verdict.WRONG


@pytest.mark.parametrize("order", [VALUE, DERIVATIVE])
def test_a_one_pass_variance_is_unstable_and_named(order: int) -> None:
    formula = formulas.batch_norm
    drawn = [other.drawn(formula, FLOAT32, "large mean", seed, eps=1e-5) for seed in range(12)]
    evidence = merged(other.batch_norm(FLOAT32, other.one_pass), formula, drawn, (order,))
    assert evidence.verdict is Verdict.UNSTABLE and evidence.explained_by == ("E[x²] - E[x]²",)


def running(momentum_first: bool = True, biased: bool = False, nan: bool = False) -> Implementation:
    def forward(inputs: Any, options: Any) -> Any:
        x, mean, variance_ = inputs
        p = options["momentum"] if momentum_first else 1 - options["momentum"]
        flat = other.columns(x)
        m, v = other.two_pass(flat)
        n = len(flat)
        with np.errstate(all="ignore"):
            unbiased = v if biased else v * np.float64(n) / np.float64(n - 1 if nan else max(n - 1, 1))
        return (1 - p) * mean + p * m, (1 - p) * variance_ + p * unbiased

    return Implementation("batch_norm_running", "test", FLOAT64, forward)


def running_cases() -> list[Case]:
    fixed = {"momentum": 0.25, "cumulative": False, "momentum_of": "batch"}
    return [other.drawn(formulas.batch_norm_running, FLOAT64, "plain", seed, **fixed) for seed in range(4)]


def test_liars_of_the_running_statistics_are_wrong() -> None:
    formula = formulas.batch_norm_running
    assert merged(running(), formula, running_cases(), (VALUE,)).verdict is Verdict.ACCURATE
    for liar in (running(momentum_first=False), running(biased=True)):
        assert merged(liar, formula, running_cases(), (VALUE,)).verdict is Verdict.WRONG


def test_one_sample_that_leaves_nan_in_the_running_state_is_a_finding() -> None:
    options = {"momentum": 0.25, "cumulative": False, "count": 0, "momentum_of": "batch"}
    inputs = (np.array([[3.0]]), np.array([1.0]), np.array([2.0]))
    case = Case("plain", FLOAT64, inputs, None, options)
    formula = formulas.batch_norm_running
    assert examine(running(), formula, case, VALUE).verdict is Verdict.ACCURATE
    assert examine(running(nan=True), formula, case, VALUE).verdict is Verdict.WRONG
    with pytest.raises(ValueError, match="more than 1 value per channel"):
        CPU.implement(formula, FLOAT64).forward(inputs, options)


def test_no_variance_and_no_epsilon_accepts_the_limit_and_not_a_number() -> None:
    x = np.full((4, 1, 2), 2.0)
    case = Case("constant", FLOAT64, (x, ONE, np.array([0.5])), None, {"eps": 0.0, "affine": True})
    for answer in (0.5, math.nan):
        constant = Implementation("batch_norm", "test", FLOAT64, lambda i, o, a=answer: np.full(x.shape, a))  # type: ignore[misc]
        evidence = examine(constant, formulas.batch_norm, case, VALUE)
        assert evidence.verdict is Verdict.VACUOUS and not evidence.breaches


def test_a_mean_of_1e8_deviations_is_vacuous_in_float32() -> None:
    x = (np.random.default_rng(3).normal(size=(32, 2)) + 1e8).astype(np.float32)
    inputs = (x, np.ones(2, np.float32), np.zeros(2, np.float32))
    case = Case("large mean", FLOAT32, inputs, None, {"eps": 1e-5, "affine": True})
    for order in (VALUE, DERIVATIVE):
        for subject in (NUMPY, CPU):
            evidence = examine(
                subject.implement(formulas.batch_norm, FLOAT32), formulas.batch_norm, case, order
            )
            assert evidence.verdict is Verdict.VACUOUS


@pytest.mark.parametrize("fmt", [FLOAT32, FLOAT16], ids=lambda f: f.name)
@pytest.mark.parametrize("formula", FORMULAS, ids=lambda f: f.name)
def test_the_texts_in_plain_numpy_stay_silent(formula: Formula, fmt: Format) -> None:
    drawn = every_family(formula, fmt, range(1))
    orders = (VALUE, DERIVATIVE) if formula.differentiable else (VALUE,)
    assert merged(NUMPY.implement(formula, fmt), formula, drawn, orders).verdict is Verdict.ACCURATE


def test_float16_is_judged() -> None:
    case = other.drawn(formulas.layer_norm, FLOAT16, "plain", 1, eps=1e-5)
    evidence = examine(CPU.implement(formulas.layer_norm, FLOAT16), formulas.layer_norm, case, VALUE)
    assert evidence.verdict is Verdict.ACCURATE and evidence.resolution < 0.5
