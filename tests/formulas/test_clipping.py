"""Clipping by hand, at its edges, against the exact result, and by implementations right and wrong."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gradcheck import formulas
from gradcheck.arithmetic.ball import balls, precision, to_estimate
from gradcheck.checks.examine import derivative, value
from gradcheck.checks.proof import proof
from gradcheck.checks.special import special
from gradcheck.errors import UsageError
from gradcheck.formats import BFLOAT16, FLOAT32, FLOAT64, FORMATS, Format, widen
from gradcheck.formulas import clipping
from gradcheck.records import Case, Formula, Verdict
from gradcheck.subjects import Implementation
from gradcheck.subjects.torch import CPU

SHAPES = {
    "clip_by_value": ((9,),),
    "clip_by_norm": ((3, 4),),
    "clip_by_global_norm": ((5,), (2, 3), ()),
    "adaptive_clip": ((3, 4), (3, 4)),
}
BY_NORM = (clipping.CLIP_BY_NORM, clipping.CLIP_BY_GLOBAL_NORM, clipping.ADAPTIVE_CLIP)
ORDERS = (1.0, 1.5, 2.0, 3.0, math.inf)


def case(formula: Formula, fmt: Format = FLOAT64, seed: int = 1, scale: float = 2.0, **options: Any) -> Case:
    rng = np.random.default_rng(seed)
    inputs = tuple((scale * rng.normal(size=shape)).astype(fmt.dtype) for shape in SHAPES[formula.name])
    ones = np.ones(inputs[0].shape).astype(fmt.dtype) if formula.elementwise else None
    return Case("plain", fmt, inputs, ones, options, seed)


def clip(g: Any, c: Any, **options: Any) -> Any:
    return formulas.clip_by_norm(np.asarray(g), max_norm=float(c), **{"epsilon": 0.0, **options})


def test_clipping_by_hand() -> None:
    g = np.array([3.0, -4.0])
    np.testing.assert_array_equal(formulas.clip_by_value(g, threshold=3.5), [3.0, -3.5])
    np.testing.assert_array_equal(clip(g, 2.5), [1.5, -2.0])
    np.testing.assert_array_equal(clip(g, 10.0), g)
    np.testing.assert_array_equal(clip(g, 5.0), g)
    np.testing.assert_array_equal(clip(g, 3.5, p=1.0), [1.5, -2.0])
    np.testing.assert_array_equal(clip(g, 2.0, p=math.inf), [1.5, -2.0])
    np.testing.assert_allclose(clip(g, 2.5, epsilon=0.001), g * 2.5 / 5.001, rtol=1e-15)


def test_clipping_of_several_arrays_by_hand() -> None:
    a, b, c = np.array([1.0, -2.0]), np.array([[2.0], [0.0]]), np.asarray(4.0)
    *clipped, norm = formulas.clip_by_global_norm(a, b, c, max_norm=2.5, epsilon=0.0)
    assert norm == 5.0
    for part, whole in zip(clipped, (a, b, c), strict=True):
        np.testing.assert_array_equal(part, whole / 2)


def test_adaptive_clipping_by_hand() -> None:
    w, g = np.array([[3.0, 4.0], [0.0, 0.0], [3.0, 4.0]]), np.array([[6.0, 8.0], [3.0, 4.0], [0.0, 0.5]])
    clipped = formulas.adaptive_clip(g, w, clipping=0.5, eps=1.0)
    np.testing.assert_allclose(clipped, [[1.5, 2.0], [0.3, 0.4], [0.0, 0.5]], rtol=1e-15)


@pytest.mark.parametrize("p", ORDERS)
@pytest.mark.parametrize("epsilon", [0.0, 1e-6])
def test_a_zero_gradient_stays_what_it_is(p: float, epsilon: float) -> None:
    zeros = np.array([0.0, -0.0, 0.0])
    clipped = clip(zeros, 1.0, p=p, epsilon=epsilon)
    assert clipped.tobytes() == zeros.tobytes()


def test_zeros_keep_their_place_and_sign() -> None:
    g = np.array([0.0, 3.0, -0.0, -4.0])
    for clipped in (clip(g, 1.0), formulas.clip_by_value(g, threshold=1.0)):
        assert np.array_equal(np.signbit(clipped), [False, False, True, True])
        assert np.count_nonzero(clipped) == 2


@pytest.mark.parametrize("shape", [(0,), (3, 0)])
def test_nothing_is_clipped_to_nothing(shape: tuple[int, ...]) -> None:
    empty = np.zeros(shape)
    assert clip(empty, 1.0).shape == shape
    assert formulas.clip_by_value(empty).shape == shape
    assert formulas.clip_by_global_norm(empty, empty, empty)[3] == 0
    assert formulas.clip_by_global_norm(empty, np.array([3.0]), empty, max_norm=1.0, epsilon=0.0)[1] == 1


def test_thresholds_of_zero_and_infinity() -> None:
    g = np.array([-5.0, 1e300, 0.5])
    np.testing.assert_array_equal(clip(g, math.inf), g)
    np.testing.assert_array_equal(formulas.clip_by_value(g, threshold=math.inf), g)
    assert not np.any(clip(g, 0.0)) and not np.any(formulas.clip_by_value(g, threshold=0.0))


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("clip_by_value", {"threshold": -1.0}),
        ("clip_by_value", {"threshold": math.nan}),
        ("clip_by_norm", {"max_norm": -1.0}),
        ("clip_by_norm", {"p": 0.5}),
        ("clip_by_norm", {"epsilon": -1e-6}),
        ("clip_by_norm", {"norm": 1.0}),
    ],
)
def test_what_cannot_be_meant_is_refused(name: str, options: dict[str, float]) -> None:
    with pytest.raises(UsageError):
        getattr(formulas, name)(np.array([3.0, -4.0]), **options)


@pytest.mark.parametrize("bad", [math.inf, -math.inf, math.nan])
def test_an_infinity_or_nan_among_gradients_is_shown_by_the_result(bad: float) -> None:
    with np.errstate(invalid="ignore"):
        assert np.isnan(clip(np.array([1.0, bad, 2.0]), 1.0)[1])
        parts = formulas.clip_by_global_norm(np.array([bad]), np.ones(1), np.ones(1))
    assert np.isnan(parts[0][0])
    if math.isnan(bad):
        assert all(np.isnan(part).all() for part in parts)


@pytest.mark.parametrize("formula", BY_NORM, ids=lambda f: f.name)
def test_the_reference_answers_special_numbers_as_its_texts_do(formula: Formula) -> None:
    for seed in range(4):
        at = case(formula, FLOAT32, seed, **CHOSEN[formula.name])
        assert special(texts_of(formula, FLOAT32), formula, at).verdict is Verdict.ACCURATE


@pytest.mark.parametrize("p", ORDERS)
@pytest.mark.parametrize("fmt", FORMATS, ids=lambda f: f.name)
def test_neither_squares_nor_factors_overflow(fmt: Format, p: float) -> None:
    """The largest and the least numbers of a format are clipped as well as any others."""
    for size in (fmt.largest / 4, fmt.least_normal * 8):
        g = np.array([size, -size / 2, size / 4]).astype(fmt.dtype)
        whole = Case("edge", fmt, (g,), None, {"max_norm": size, "p": p, "epsilon": 0.0})
        subject = texts_of(clipping.CLIP_BY_NORM, fmt)
        assert value(subject, clipping.CLIP_BY_NORM, whole).verdict is Verdict.ACCURATE
        assert np.all(widen(subject.forward((g,), whole.options)) != 0)


def texts_of(formula: Formula, fmt: Format) -> Implementation:
    from gradcheck.subjects.numpy import NUMPY

    return NUMPY.implement(formula, fmt)


@pytest.mark.parametrize("formula", BY_NORM, ids=lambda f: f.name)
def test_every_variant_is_the_reference(formula: Formula) -> None:
    for options in ({}, {"p": 1.5}, {"p": 3.0, "max_norm": 0.5}, {"p": math.inf}):
        if formula is clipping.ADAPTIVE_CLIP and options:
            continue
        complete = formula.complete(options)
        with precision(512):
            lifted = tuple(balls(array) for array in case(formula).inputs)
            expected = formula.value(*lifted, **complete)
            for variant in formula.variants:
                got = variant.text(*lifted, **complete)
                pairs = zip(got, expected, strict=True) if isinstance(got, tuple) else [(got, expected)]
                for one, other in pairs:
                    apart = to_estimate(one - other)
                    assert np.all(np.abs(apart.high) <= apart.radius + 1e-140), variant.name


@pytest.mark.parametrize("threshold", [0.0, 0.25, 1.0, 100.0])
def test_the_slope_of_clipping_by_value_is_proven(threshold: float) -> None:
    formula = clipping.CLIP_BY_VALUE
    found = proof(formula, case(formula, threshold=threshold))
    assert found.verdict is Verdict.ACCURATE and found.compared


VECTORS = st.lists(st.floats(-100, 100), min_size=1, max_size=8)


@given(VECTORS, VECTORS, st.floats(0.125, 50))
def test_clipping_brings_nothing_further_apart(left: list[float], right: list[float], c: float) -> None:
    """A projection on a convex set is non-expansive; each side may round by a few units."""
    n = min(len(left), len(right))
    a, b = np.array(left[:n]), np.array(right[:n])
    slack = 32 * (n + 4) * FLOAT64.roundoff * (np.linalg.norm(a) + np.linalg.norm(b)) + 1e-300
    for project in (lambda g: clip(g, c), lambda g: formulas.clip_by_value(g, threshold=c)):
        assert np.linalg.norm(project(a) - project(b)) <= np.linalg.norm(a - b) + slack


@given(VECTORS, st.floats(0.125, 50))
def test_clipping_by_norm_keeps_the_direction_and_by_value_need_not(g: list[float], c: float) -> None:
    a = np.array(g)
    clipped = clip(a, c)
    # Parallel vectors: every minor of the pair vanishes, up to the rounding of both products.
    minors = np.outer(a, clipped) - np.outer(clipped, a)
    assert np.all(np.abs(minors) <= 64 * FLOAT64.roundoff * np.abs(np.outer(a, clipped)) + 1e-300)
    bent = formulas.clip_by_value(np.array([3.0, 1.0]), threshold=1.0)
    np.testing.assert_array_equal(bent, [1.0, 1.0])


Function = Callable[..., Any]


def plain(g: Any, max_norm: float, p: float, epsilon: float) -> Any:
    return g * np.minimum(1.0, max_norm / (np.linalg.norm(g.ravel(), p) + epsilon))


RIGHT: dict[str, tuple[str, Function]] = {
    "by NumPy's norm": ("clip_by_norm", plain),
    "branch on the norm": (
        "clip_by_norm",
        lambda g, max_norm, p, epsilon: (
            g
            if np.linalg.norm(g.ravel(), p) + epsilon <= max_norm
            else g * (max_norm / (np.linalg.norm(g.ravel(), p) + epsilon))
        ),
    ),
    "divided by the larger": (
        "clip_by_norm",
        lambda g, max_norm, p, epsilon: (
            g * max_norm / np.maximum(np.linalg.norm(g.ravel(), p) + epsilon, max_norm)
        ),
    ),
    "minimum of maximum": (
        "clip_by_value",
        lambda g, threshold: np.minimum(np.maximum(g, -threshold), threshold),
    ),
    "by magnitude": (
        "clip_by_value",
        lambda g, threshold: np.copysign(np.minimum(np.abs(g), threshold), g),
    ),
    "by comparisons": (
        "clip_by_value",
        lambda g, threshold: np.where(g > threshold, threshold, np.where(g < -threshold, -threshold, g)),
    ),
}
WRONG: dict[str, tuple[str, Function]] = {
    "one-sided": ("clip_by_value", lambda g, threshold: np.minimum(g, threshold)),
    "zero beyond": ("clip_by_value", lambda g, threshold: np.where(np.abs(g) > threshold, 0.0, g)),
    "magnitudes": ("clip_by_value", lambda g, threshold: np.minimum(np.abs(g), threshold)),
    "always scaled": (
        "clip_by_norm",
        lambda g, max_norm, p, epsilon: g * max_norm / (np.linalg.norm(g.ravel(), p) + epsilon),
    ),
    "squared norm": (
        "clip_by_norm",
        lambda g, max_norm, p, epsilon: (
            g * np.minimum(1, max_norm / (np.linalg.norm(g.ravel(), p) ** 2 + epsilon))
        ),
    ),
    "always the Euclidean norm": (
        "clip_by_norm",
        lambda g, max_norm, p, epsilon: plain(g, max_norm, 2.0, epsilon),
    ),
    "epsilon in the numerator": (
        "clip_by_norm",
        lambda g, max_norm, p, epsilon: (
            g * np.minimum(1, (max_norm + epsilon) / np.linalg.norm(g.ravel(), p))
        ),
    ),
    "by rows": (
        "clip_by_norm",
        lambda g, max_norm, p, epsilon: np.stack([plain(row, max_norm, p, epsilon) for row in g]),
    ),
    "each array by its own norm": (
        "clip_by_global_norm",
        lambda a, b, c, max_norm, p, epsilon: (
            *(plain(np.asarray(part), max_norm, p, epsilon) for part in (a, b, c)),
            np.linalg.norm(np.concatenate([np.ravel(part) for part in (a, b, c)]), p),
        ),
    ),
    "the last array left out": (
        "clip_by_global_norm",
        lambda a, b, c, max_norm, p, epsilon: (
            *clipping.CLIP_BY_GLOBAL_NORM.value(a, b, 0 * c, max_norm=max_norm, p=p, epsilon=epsilon)[:2],
            c,
            np.linalg.norm(np.concatenate([np.ravel(part) for part in (a, b)]), p),
        ),
    ),
    "by columns": (
        "adaptive_clip",
        lambda g, w, clipping, eps: formulas.adaptive_clip(g.T, w.T, clipping=clipping, eps=eps).T,
    ),
    "eps added": (
        "adaptive_clip",
        lambda g, w, clipping, eps: (
            g
            * np.minimum(
                1,
                clipping
                * (np.linalg.norm(w, axis=1, keepdims=True) + eps)
                / np.linalg.norm(g, axis=1, keepdims=True),
            )
        ),
    ),
}
CHOSEN = {
    "clip_by_value": {"threshold": 0.75},
    "clip_by_norm": {"max_norm": 1.25, "p": 3.0, "epsilon": 1e-4},
    "clip_by_global_norm": {"max_norm": 1.25, "p": 3.0, "epsilon": 1e-4},
    "adaptive_clip": {"clipping": 0.5, "eps": 0.125},
}


def implementation(formula: Formula, fmt: Format, function: Function) -> Implementation:
    def forward(inputs: tuple[Any, ...], options: Any) -> Any:
        result = function(*inputs, **options)
        if isinstance(result, tuple):
            return tuple(np.asarray(part).astype(fmt.dtype) for part in result)
        return np.asarray(result).astype(fmt.dtype)

    return Implementation(formula.name, "written here", fmt, forward)


@pytest.mark.parametrize("fmt", [FLOAT64, FLOAT32], ids=lambda f: f.name)
@pytest.mark.parametrize("name", RIGHT)
def test_right_ones_that_are_written_another_way_pass(name: str, fmt: Format) -> None:
    formula, function = RIGHT[name]
    record = formulas.get_formula(formula)
    for seed in range(5):
        for scale in (0.01, 2.0, 100.0):
            at = case(record, fmt, seed, scale, **CHOSEN[formula])
            assert value(implementation(record, fmt, function), record, at).verdict.passed


@pytest.mark.parametrize("fmt", [FLOAT64, FLOAT32], ids=lambda f: f.name)
@pytest.mark.parametrize("name", WRONG)
def test_wrong_ones_are_caught(name: str, fmt: Format) -> None:
    formula, function = WRONG[name]
    record = formulas.get_formula(formula)
    subject = implementation(record, fmt, function)
    cases = [case(record, fmt, 3, scale, **CHOSEN[formula]) for scale in (0.01, 2.0)]
    assert Verdict.WRONG in {value(subject, record, at).verdict for at in cases}


FORMS = ("function", "loop", "foreach")


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("fmt", FORMATS, ids=lambda f: f.name)
@pytest.mark.parametrize("formula", clipping.FORMULAS[:3], ids=lambda f: f.name)
def test_torchs_forms_agree_and_leave_their_inputs_alone(formula: Formula, fmt: Format, form: str) -> None:
    pytest.importorskip("torch")
    made = CPU.implement(formula, fmt, form)
    options = {**CHOSEN[formula.name], **made.options}
    found = value(made, formula, case(formula, fmt, **options))
    assert found.verdict.passed and "mutation" not in found.breaches
    assert (made.vjp is not None) == (formula is clipping.CLIP_BY_VALUE and form == "function")


def test_torchs_clamp_has_a_gradient() -> None:
    pytest.importorskip("torch")
    formula = clipping.CLIP_BY_VALUE
    made = CPU.implement(formula, FLOAT32)
    assert derivative(made, formula, case(formula, FLOAT32, threshold=0.75)).verdict is Verdict.ACCURATE


def test_squares_that_overflow_in_torch_are_a_finding_that_is_named() -> None:
    pytest.importorskip("torch")
    formula = clipping.CLIP_BY_NORM
    made = CPU.implement(formula, FLOAT32)
    large = np.array([1e20, -1e20], np.float32)
    found = value(made, formula, Case("edge", FLOAT32, (large,), None, {"max_norm": 1.0, "p": 2.0}))
    assert found.verdict is Verdict.UNSTABLE
    assert any("a plain sum of powers" in name for name in found.explained_by)


def test_nan_makes_every_clipped_gradient_of_torch_nan_and_that_is_accepted() -> None:
    pytest.importorskip("torch")
    formula = clipping.CLIP_BY_NORM
    made = CPU.implement(formula, FLOAT32)
    (spoilt,) = [made.forward((np.array([1.0, math.nan], np.float32),), {"max_norm": 1.0})]
    assert np.all(np.isnan(spoilt))
    assert special(made, formula, case(formula, FLOAT32, max_norm=1.0)).verdict is Verdict.ACCURATE


@pytest.mark.parametrize("foreach", [False, True])
def test_torch_clips_gradients_of_several_formats_together(foreach: bool) -> None:
    """One call over float64, float32 and bfloat16: each array is rounded to its own format.

    The norms of the parts are stored in their formats before they are put together in the widest; so the
    factor is as good as the narrowest of them, and every array within the bounds of that format.
    """
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(7)
    formats = (FLOAT64, FLOAT32, BFLOAT16)
    parts = [
        (3 * rng.normal(size=shape)).astype(fmt.dtype)
        for shape, fmt in zip(((5,), (2, 3), (4,)), formats, strict=True)
    ]
    leaves = [
        torch.zeros(part.shape, dtype=getattr(torch, fmt.name))
        for part, fmt in zip(parts, formats, strict=True)
    ]
    for leaf, part in zip(leaves, parts, strict=True):
        leaf.grad = torch.tensor(widen(part)).to(leaf.dtype)
    norm = torch.nn.utils.clip_grad_norm_(leaves, 1.5, foreach=foreach)
    wide = [widen(part) for part in parts]
    *expected, exact = formulas.clip_by_global_norm(*wide, max_norm=1.5)
    # Squares, a sum of five, a root and a quotient, in bfloat16: the relative error of the factor.
    allowed = (2 + 5 + 6 + 2) * BFLOAT16.roundoff
    assert abs(float(norm) - float(exact)) <= allowed * float(exact)
    for leaf, right, fmt in zip(leaves, expected, formats, strict=True):
        assert leaf.grad is not None and leaf.grad.dtype == getattr(torch, fmt.name)
        assert np.all(np.abs(leaf.grad.double().numpy() - right) <= (allowed + fmt.roundoff) * np.abs(right))
