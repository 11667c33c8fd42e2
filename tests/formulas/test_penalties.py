"""Penalties by hand, at their edges, proven, and against implementations that were written another way."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from gradcheck import formulas
from gradcheck.arithmetic.ball import balls, precision, to_estimate
from gradcheck.checks.examine import derivative, value
from gradcheck.checks.proof import proof
from gradcheck.errors import UsageError
from gradcheck.formats import FLOAT32, FLOAT64, FORMATS, Format
from gradcheck.formulas import penalties
from gradcheck.records import DERIVATIVE, VALUE, Case, Formula, Verdict
from gradcheck.subjects import Implementation
from gradcheck.subjects.numpy import NUMPY
from gradcheck.subjects.torch import CPU

SHAPES = {"gradient_norm_penalty": ((3, 2), (3, 2), (4, 2), (2, 4))}
OPTIONS: dict[str, dict[str, float]] = {
    "l2_penalty": {"decay": 0.3},
    "l1_penalty": {"decay": 0.3},
    "decoupled_decay": {"rate": 0.1, "decay": 0.3},
    "gradient_norm_penalty": {},
    "kronecker_penalty": {"decay": 0.3},
}
WEIGHT = np.array([[1.0, -2.0], [0.0, 0.5]])


def case(formula: Formula, fmt: Format = FLOAT64, seed: int = 1) -> Case:
    rng = np.random.default_rng(seed)
    shapes = SHAPES.get(formula.name, ((3, 5),))
    inputs = tuple(rng.normal(size=shape).astype(fmt.dtype) for shape in shapes)
    return Case("plain", fmt, inputs, None, OPTIONS[formula.name], seed)


def test_penalties_by_hand() -> None:
    assert formulas.l2_penalty(WEIGHT, decay=0.5) == 0.25 * 5.25
    assert formulas.l1_penalty(WEIGHT, decay=0.5) == 0.5 * 3.5
    np.testing.assert_array_equal(formulas.decoupled_decay(WEIGHT, rate=0.5, decay=0.25), 0.875 * WEIGHT)
    assert formulas.kronecker_penalty(WEIGHT, decay=0.5) == 2.0
    assert formulas.kronecker_penalty(3 * WEIGHT, decay=0.5) == 2.0


def test_the_norm_of_the_gradient_by_hand() -> None:
    x, y, w1, w2 = (np.array([[number]]) for number in (1.0, 2.0, 0.5, 3.0))
    a = math.tanh(0.5)
    error = 3 * a - 2
    of_w2, of_w1 = 2 * error * a, 2 * error * 3 * (1 - a * a)
    expected = of_w1**2 + of_w2**2
    assert float(formulas.gradient_norm_penalty(x, y, w1, w2)) == pytest.approx(expected, rel=1e-14)


def test_gradients_by_hand() -> None:
    two = np.asarray(2.0)
    (of_l2,) = penalties.L2_PENALTY.vjp((WEIGHT,), two, decay=0.5)  # type: ignore[misc]
    (of_l1,) = penalties.L1_PENALTY.vjp((WEIGHT,), two, decay=0.5)  # type: ignore[misc]
    (of_constant,) = penalties.KRONECKER_PENALTY.vjp((WEIGHT,), two, decay=0.5)  # type: ignore[misc]
    np.testing.assert_array_equal(of_l2, WEIGHT)
    np.testing.assert_array_equal(of_l1, np.sign(WEIGHT))
    np.testing.assert_array_equal(of_constant, np.zeros_like(WEIGHT))


@pytest.mark.parametrize("formula", penalties.FORMULAS, ids=lambda f: f.name)
def test_gradient_texts_are_proven(formula: Formula) -> None:
    found = proof(formula, case(formula))
    assert found.verdict is Verdict.ACCURATE and found.compared >= 8


@pytest.mark.parametrize("formula", penalties.FORMULAS, ids=lambda f: f.name)
def test_every_variant_is_the_reference(formula: Formula) -> None:
    inputs = case(formula).inputs
    complete = formula.complete(OPTIONS[formula.name])
    with precision(512):
        lifted = tuple(balls(array) for array in inputs)
        cotangent = balls(np.asarray(formula.value(*inputs, **complete)) * 0 + 0.75)
        for variant in formula.variants:
            if variant.order == VALUE:
                pairs = [(formula.value(*lifted, **complete), variant.text(*lifted, **complete))]
            else:
                assert variant.order == DERIVATIVE and formula.vjp is not None
                both = (text(lifted, cotangent, **complete) for text in (formula.vjp, variant.text))
                pairs = [pair for pair in zip(*both, strict=True) if pair[0] is not None]
            for one, other in pairs:
                apart = to_estimate(one - other)
                assert np.all(np.abs(apart.high) <= apart.radius + 1e-140), variant.name


def test_the_gradient_of_the_gradient_norm_is_twice_a_hessian_vector_product() -> None:
    """2Hg by the difference of the gradient of J along itself."""
    x, y, w1, w2 = case(penalties.GRADIENT_NORM_PENALTY).inputs

    def gradient(first: Any, second: Any) -> tuple[Any, Any]:
        a = np.tanh(x @ first.T)
        delta = 2 * (a @ second.T - y) / y.size
        return ((delta @ second) * (1 - a * a)).T @ x, delta.T @ a

    g1, g2 = gradient(w1, w2)
    h = 2.0**-17
    ahead, behind = gradient(w1 + h * g1, w2 + h * g2), gradient(w1 - h * g1, w2 - h * g2)
    vjp = penalties.GRADIENT_NORM_PENALTY.vjp
    assert vjp is not None
    for ours, up, down in zip(vjp((x, y, w1, w2), np.asarray(1.0))[2:], ahead, behind, strict=True):
        np.testing.assert_allclose(ours, 2 * (up - down) / (2 * h), rtol=1e-7, atol=1e-9)


def test_the_gradient_of_the_gradient_norm_is_torchs_double_backward() -> None:
    torch = pytest.importorskip("torch")
    x, y, w1, w2 = (torch.tensor(array) for array in case(penalties.GRADIENT_NORM_PENALTY).inputs)
    leaves = (w1.requires_grad_(), w2.requires_grad_())
    loss = torch.nn.functional.mse_loss(torch.tanh(x @ w1.T) @ w2.T, y)
    first = torch.autograd.grad(loss, leaves, create_graph=True)
    penalty = sum(g.square().sum() for g in first)
    expected = torch.autograd.grad(penalty, leaves)
    inputs = tuple(tensor.detach().numpy() for tensor in (x, y, w1, w2))
    assert float(formulas.gradient_norm_penalty(*inputs)) == pytest.approx(penalty.item(), rel=1e-13)
    vjp = penalties.GRADIENT_NORM_PENALTY.vjp
    assert vjp is not None
    for ours, theirs in zip(vjp(inputs, np.asarray(1.0))[2:], expected, strict=True):
        np.testing.assert_allclose(ours, theirs.numpy(), rtol=1e-11)


def test_decoupled_and_l2_decay_are_one_step_of_gradient_descent() -> None:
    """For w - η(g + λw) it makes no difference where the decay is taken: proven over balls."""
    rng = np.random.default_rng(5)
    rate, decay = 0.125, 0.25
    with precision(256):
        w, g = balls(rng.normal(size=7)), balls(rng.normal(size=7))
        (of_penalty,) = penalties.L2_PENALTY.vjp((w,), balls(1.0), decay=decay)  # type: ignore[misc]
        coupled = w - rate * (g + of_penalty)
        decoupled = penalties.DECOUPLED_DECAY.value(w, rate=rate, decay=decay) - rate * g
        apart = to_estimate(coupled - decoupled)
        assert np.all(np.abs(apart.high) <= apart.radius + 1e-70)


def test_a_tiny_weight_of_the_wrong_sign_is_not_hidden_by_saturation() -> None:
    """The slope of tanh is a normal number where 1 - a² is 0, and the gradient of the penalty with it."""
    inputs = tuple(np.array([[number]], np.float32) for number in (1.0, 0.5, 12.0, 1.0))
    vjp = penalties.GRADIENT_NORM_PENALTY.vjp
    (variant,) = (v for v in penalties.GRADIENT_NORM_PENALTY.variants if v.order == DERIVATIVE)
    assert vjp is not None
    assert vjp(inputs, np.float32(1.0))[2] != 0
    assert variant.text(inputs, np.float32(1.0))[2] == 0


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("l2_penalty", {"decay": -0.1}),
        ("l1_penalty", {"decay": math.nan}),
        ("decoupled_decay", {"rate": -1.0}),
    ],
)
def test_negative_options_are_refused(name: str, options: dict[str, float]) -> None:
    with pytest.raises(UsageError, match="expected a number from 0"):
        getattr(formulas, name)(WEIGHT, **options)


@pytest.mark.parametrize("weight", [np.zeros((0,)), np.zeros((0, 3))])
def test_no_weights_have_no_penalty(weight: Any) -> None:
    assert formulas.l2_penalty(weight) == 0 and formulas.l1_penalty(weight) == 0
    assert formulas.decoupled_decay(weight).shape == weight.shape


Pair = tuple[Callable[..., Any], Callable[..., Any]]


def implementation(formula: Formula, fmt: Format, pair: Pair) -> Implementation:
    forward, vjp = pair
    return Implementation(
        formula.name,
        "written here",
        fmt,
        lambda inputs, options: np.asarray(forward(*inputs, **options)).astype(fmt.dtype),
        lambda inputs, cotangent, options: tuple(
            None if part is None else np.asarray(part).astype(fmt.dtype)
            for part in vjp(*inputs, cotangent, **options)
        ),
    )


RIGHT: dict[str, tuple[str, Pair]] = {
    "inner product": (
        "l2_penalty",
        (lambda w, decay: decay / 2 * np.vdot(w, w), lambda w, c, decay: (c * (w * w.dtype.type(decay)),)),
    ),
    "squared norm": (
        "l2_penalty",
        (lambda w, decay: 0.5 * decay * np.linalg.norm(w) ** 2, lambda w, c, decay: (decay * c * w,)),
    ),
    "sum of maxima": (
        "l1_penalty",
        (
            lambda w, decay: decay * np.maximum(w, -w).sum(),
            lambda w, c, decay: (c * decay * np.where(w < 0, -1.0, 1.0),),
        ),
    ),
    "difference": (
        "decoupled_decay",
        (lambda w, rate, decay: w - rate * decay * w, lambda w, c, rate, decay: (c - c * rate * decay,)),
    ),
    "size": (
        "kronecker_penalty",
        (lambda w, decay: decay * w.size, lambda w, c, decay: (np.zeros_like(w),)),
    ),
    "no gradient": (
        "kronecker_penalty",
        (lambda w, decay: decay * float(w.size), lambda w, c, decay: (None,)),
    ),
}
WRONG: dict[str, tuple[str, Pair]] = {
    "half missing": (
        "l2_penalty",
        (lambda w, decay: decay * np.sum(w * w), lambda w, c, decay: (2 * decay * c * w,)),
    ),
    "gradient doubled": (
        "l2_penalty",
        (lambda w, decay: 0.5 * decay * np.sum(w * w), lambda w, c, decay: (2 * decay * c * w,)),
    ),
    "root taken": (
        "l2_penalty",
        (
            lambda w, decay: 0.5 * decay * np.linalg.norm(w),
            lambda w, c, decay: (0.5 * decay * c * w / np.linalg.norm(w),),
        ),
    ),
    "mean for sum": (
        "l1_penalty",
        (lambda w, decay: decay * np.mean(np.abs(w)), lambda w, c, decay: (c * decay * np.sign(w) / w.size,)),
    ),
    "cotangent left out": (
        "l1_penalty",
        (lambda w, decay: decay * np.sum(np.abs(w)), lambda w, c, decay: (decay * np.sign(w),)),
    ),
    "decay without the rate": (
        "decoupled_decay",
        (lambda w, rate, decay: w * (1 - decay), lambda w, c, rate, decay: (c * (1 - decay),)),
    ),
    "sign of the decay": (
        "decoupled_decay",
        (lambda w, rate, decay: w * (1 + rate * decay), lambda w, c, rate, decay: (c * (1 + rate * decay),)),
    ),
    "weight decay after all": (
        "kronecker_penalty",
        (lambda w, decay: decay * np.sum(np.abs(w)), lambda w, c, decay: (c * decay * np.sign(w),)),
    ),
    "a gradient of one": (
        "kronecker_penalty",
        (lambda w, decay: decay * w.size, lambda w, c, decay: (np.full_like(w, decay),)),
    ),
}


@pytest.mark.parametrize("fmt", [FLOAT64, FLOAT32], ids=lambda f: f.name)
@pytest.mark.parametrize("name", RIGHT)
def test_right_ones_that_are_written_another_way_pass(name: str, fmt: Format) -> None:
    formula, pair = RIGHT[name]
    record = formulas.get_formula(formula)
    for seed in range(5):
        for check in (value, derivative):
            found = check(implementation(record, fmt, pair), record, case(record, fmt, seed))
            assert found.verdict.passed, (found, check)


@pytest.mark.parametrize("fmt", [FLOAT64, FLOAT32], ids=lambda f: f.name)
@pytest.mark.parametrize("name", WRONG)
def test_wrong_ones_are_caught(name: str, fmt: Format) -> None:
    formula, pair = WRONG[name]
    record = formulas.get_formula(formula)
    subject = implementation(record, fmt, pair)
    verdicts = {check(subject, record, case(record, fmt)).verdict for check in (value, derivative)}
    assert Verdict.WRONG in verdicts


def test_a_hessian_without_the_output_layers_share_is_caught() -> None:
    formula = penalties.GRADIENT_NORM_PENALTY
    right = NUMPY.implement(formula, FLOAT64)

    def vjp(inputs: Any, cotangent: Any, options: Any) -> Any:
        assert right.vjp is not None
        x, y, of_w1, of_w2 = right.vjp(inputs, cotangent, options)
        return x, y, of_w1, 0.5 * of_w2

    half = Implementation(formula.name, "half", FLOAT64, right.forward, vjp)
    assert derivative(right, formula, case(formula)).verdict is Verdict.ACCURATE
    assert derivative(half, formula, case(formula)).verdict is Verdict.WRONG


@pytest.mark.parametrize("fmt", FORMATS, ids=lambda f: f.name)
@pytest.mark.parametrize("formula", penalties.FORMULAS, ids=lambda f: f.name)
def test_torch_agrees_in_every_format(formula: Formula, fmt: Format) -> None:
    pytest.importorskip("torch")
    made = CPU.implement(formula, fmt)
    for check in (value, derivative):
        if CPU.reason(formula, fmt, check.__name__):
            continue
        found = check(made, formula, case(formula, fmt))
        # In bfloat16 the bound of a whole network's Hessian may say nothing.
        assert found.compared and not found.verdict.is_finding, found
