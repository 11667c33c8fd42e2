"""Optimizers: hand-computed steps, edges, laws, three right programs that pass and wrong ones that do not."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import hypothesis
import numpy as np
import pytest

from gradcheck import checks, formulas
from gradcheck.arithmetic.ball import balls, precision
from gradcheck.cases import several_inputs
from gradcheck.errors import UsageError
from gradcheck.formats import FLOAT16, FLOAT32, FLOAT64, Format
from gradcheck.formulas import optimizers
from gradcheck.formulas.optimizer_parts import FAMILIES
from gradcheck.records import Evidence, Formula, Verdict
from gradcheck.subjects.implementation import Implementation
from gradcheck.subjects.torch_optim import FOREACH, FUSED, LOOP

SETTINGS = hypothesis.settings(
    max_examples=8,
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=list(hypothesis.HealthCheck),
)
ONE, TWO = np.array([1.0]), np.array([2.0])
ZERO = np.array([0.0])


def examined(
    formula: Formula, forward: Callable[..., Any], fmt: Format = FLOAT32, count: int = 12, **fixed: Any
) -> Evidence:
    """What the value check says of a program over `count` drawn cases."""
    made = Implementation(formula.name, "test", fmt, forward, options=fixed)
    total = Evidence()

    def run(case: Any) -> None:
        nonlocal total
        total = total.merge(checks.value(made, formula, replace(case, options={**case.options, **fixed})))

    hypothesis.given(several_inputs(formula, fmt, 4, fixed=fixed))(
        hypothesis.settings(SETTINGS, max_examples=count)(run)
    )()
    return total


TORCH = {"epsilon": "beside", "maximum": "raw"}


# Steps by hand


def test_the_first_step_of_adam_is_the_rate() -> None:
    w, m, v, _ = formulas.adam(ONE, TWO, ZERO, ZERO, ZERO, lr=0.125, eps=0.0, t=1)
    assert w == pytest.approx(0.875, rel=1e-15)
    assert (m, v) == (pytest.approx(0.2), pytest.approx(0.004))


def test_the_first_step_of_printed_adam_is_three_times_the_rate() -> None:
    w, *_ = formulas.printed_adam(ZERO, TWO, ZERO, ZERO, lr=1.0, eps=0.0)
    assert -float(w[0]) == pytest.approx(0.1 / math.sqrt(0.001), rel=1e-14)


@pytest.mark.parametrize(
    ("options", "weight", "buffer"),
    [
        ({"t": 1}, 0.5, 2.0),
        ({"t": 2}, 0.25, 3.0),
        ({"t": 2, "dampening": 0.5}, 0.5, 2.0),
        ({"t": 1, "dampening": 0.5}, 0.5, 2.0),
        ({"t": 2, "nesterov": True}, 0.125, 3.0),
        ({"t": 1, "maximize": True}, 1.5, -2.0),
        ({"t": 1, "weight_decay": 2.0}, 0.0, 4.0),
        ({"t": 2, "velocity": True}, 0.0, 1.0),
    ],
)
def test_steps_of_gradient_descent(options: dict[str, Any], weight: float, buffer: float) -> None:
    given = ONE if options.get("velocity") else TWO
    w, b = formulas.sgd(ONE, TWO, given, lr=0.25, momentum=0.5, **options)
    assert (float(w[0]), float(b[0])) == (weight, buffer)


def test_without_momentum_the_buffer_stays() -> None:
    w, b = formulas.sgd(ONE, TWO, TWO, lr=0.25, t=7)
    assert (float(w[0]), float(b[0])) == (0.5, 2.0)


def test_steps_of_the_others() -> None:
    w, total = formulas.adagrad(ONE, TWO, np.array([12.0]), lr=1.0, lr_decay=1.0, eps=0.0, t=2)
    assert (float(w[0]), float(total[0])) == (0.75, 16.0)
    w, v, m, b = formulas.rmsprop(ONE, TWO, np.array([4.0]), ZERO, ONE, lr=0.5, alpha=0.5, eps=0.0)
    assert (float(w[0]), float(v[0]), float(m[0]), float(b[0])) == (0.5, 4.0, 0.0, 1.0)
    w, v, d = formulas.adadelta(ONE, TWO, np.array([4.0]), np.array([4.0]), lr=0.5, rho=0.5, eps=0.0)
    assert (float(w[0]), float(v[0]), float(d[0])) == (0.0, 4.0, 4.0)
    w, m, u = formulas.adamax(ONE, TWO, ZERO, ONE, lr=0.5, beta1=0.5, eps=0.0, t=1)
    assert (float(w[0]), float(m[0]), float(u[0])) == (0.5, 1.0, 2.0)


def test_radam_switches_between_the_fifth_and_the_sixth_step() -> None:
    def step(t: int, threshold: float = 5.0) -> float:
        w, *_ = formulas.radam(ZERO, ZERO, ONE, np.array([1e-6]), lr=1.0, t=t, threshold=threshold)
        return -float(w[0])

    plain = {t: 0.9 / (1 - 0.9**t) for t in (5, 6)}
    assert step(5) == pytest.approx(plain[5], rel=1e-14)
    assert step(6) == pytest.approx(2 * plain[6], rel=1e-2)
    assert step(5, threshold=4.0) == pytest.approx(1.22 * plain[5], rel=1e-2)


# Edges


@pytest.mark.parametrize(
    "formula",
    [f for f in optimizers.FORMULAS if f.name not in ("rmsprop", "adadelta", "printed_adam")],
    ids=lambda f: f.name,
)
def test_step_zero_is_refused(formula: Formula) -> None:
    arrays = [ONE] * len(formula.inputs)
    with pytest.raises(ValueError, match="t=0"):
        formula(*arrays, t=0)


@pytest.mark.parametrize("formula", optimizers.FORMULAS, ids=lambda f: f.name)
@pytest.mark.parametrize("bad", [{"lr": math.nan}, {"lr": -1.0}, {"lr": math.inf}, {"weight_decay": -0.1}])
def test_rates_and_decays_without_sense_are_refused(formula: Formula, bad: dict[str, float]) -> None:
    if "weight_decay" in bad and "weight_decay" not in {o.name for o in formula.options}:
        bad = {"beta1": 1.0}
    with pytest.raises(UsageError):
        formula(*[ONE] * len(formula.inputs), **bad)


@pytest.mark.parametrize("formula", optimizers.FORMULAS, ids=lambda f: f.name)
def test_a_rate_of_zero_leaves_the_weight(formula: Formula) -> None:
    weight, *_ = formula(ONE, TWO, *[ONE / 4] * (len(formula.inputs) - 2), lr=0.0)
    assert float(weight[0]) == 1.0


@pytest.mark.parametrize("formula", optimizers.FORMULAS, ids=lambda f: f.name)
def test_empty_arrays_stay_empty(formula: Formula) -> None:
    empty = np.zeros((0,))
    scalars = [ONE[0] / 2 if name == "product" else empty for name in formula.inputs[2:]]
    assert all(np.size(part) == 0 for part in formula(empty, empty, *scalars)[:2])


def test_betas_of_zero_and_a_millionth_step_are_exact() -> None:
    w, m, v, _ = formulas.adam(ONE, TWO, ONE, ONE, ONE, lr=0.5, beta1=0.0, beta2=0.0, eps=0.0, t=10**6)
    assert (float(w[0]), float(m[0]), float(v[0])) == (0.5, 2.0, 4.0)
    w, *_ = formulas.adam(ONE, TWO, ZERO, ZERO, ZERO, lr=0.5, beta2=1 - 2.0**-50, eps=0.0, t=1)
    assert float(w[0]) == pytest.approx(0.5, rel=1e-12)


# Every way to compute a result is the same function: `either` holds them against each other over balls.


@pytest.mark.parametrize("formula", optimizers.FORMULAS, ids=lambda f: f.name)
def test_all_ways_and_variants_agree_over_balls(formula: Formula) -> None:
    def run(case: Any) -> None:
        options = formula.complete(case.options)
        with precision(256):
            inputs = [balls(a) for a in case.inputs]
            expected = formula.value(*inputs, **options)
            for variant in formula.variants:
                for a, b in zip(expected, variant.text(*inputs, **options), strict=True):
                    pairs = zip(a.data.ravel(), b.data.ravel(), strict=True)
                    assert all(x.overlaps(y) for x, y in pairs), variant.name

    hypothesis.given(several_inputs(formula, FLOAT64, 3))(SETTINGS(run))()


# Laws


def ordinary(seed: int = 0) -> list[np.ndarray[Any, Any]]:
    rng = np.random.default_rng(seed)
    w, g, m = rng.normal(size=(3, 9))
    return [w, g, m, rng.random(9) + 0.1, rng.random(9)]


def test_adamw_without_decay_is_adam() -> None:
    assert all(
        np.array_equal(a, b)
        for a, b in zip(formulas.adam(*ordinary(), t=3), formulas.adamw(*ordinary(), t=3), strict=True)
    )


def test_adam_without_momentum_is_rmsprop_with_corrected_bias() -> None:
    w, g, _, v, _ = ordinary()
    t, beta = 5, 0.9
    adam, *_ = formulas.adam(w, g, w, v, v, beta1=0.0, beta2=beta, eps=0.0, lr=0.1, t=t)
    plain, *_ = formulas.rmsprop(w, g, v, v, v, alpha=beta, eps=0.0, lr=0.1 * math.sqrt(1 - beta**t))
    np.testing.assert_allclose(adam, plain, rtol=1e-14)


def test_adam_with_a_long_memory_and_an_annealed_rate_tends_to_adagrad() -> None:
    rng = np.random.default_rng(1)
    w = a = rng.normal(size=5)
    m = v = largest = total = np.zeros(5)
    beta2 = 1 - 2.0**-40
    for t in range(1, 9):
        g = rng.normal(size=5)
        lr = 0.1 / math.sqrt(t)
        w, m, v, largest = formulas.adam(w, g, m, v, largest, lr=lr, beta1=0.0, beta2=beta2, eps=0.0, t=t)
        a, total = formulas.adagrad(a, g, total, lr=0.1, eps=0.0, t=t)
    np.testing.assert_allclose(w, a, rtol=1e-9)


def test_l2_and_decoupled_decay_are_equal_for_gradient_descent_and_not_for_adam() -> None:
    w, g, m, v, big = ordinary()
    coupled, _ = formulas.sgd(w, g, m, lr=0.1, weight_decay=0.5)
    np.testing.assert_allclose(coupled, formulas.sgd((1 - 0.05) * w, g, m, lr=0.1)[0], rtol=1e-14, atol=1e-15)
    with_l2, *_ = formulas.adam(w, g, m, v, big, lr=0.1, weight_decay=0.5)
    decoupled, *_ = formulas.adamw(w, g, m, v, big, lr=0.1, weight_decay=0.5)
    assert np.abs(with_l2 - decoupled).max() > 1e-3


def test_the_step_does_not_depend_on_the_gradient_scale_until_epsilon_ends_it() -> None:
    def step(scale: float, eps: float) -> float:
        w, *_ = formulas.adam(ZERO, ONE * scale, ZERO, ZERO, ZERO, lr=1.0, eps=eps, t=1)
        return -float(w[0])

    assert step(2.0**-20, 0.0) == pytest.approx(step(2.0**20, 0.0), rel=1e-14)
    assert step(1e-8, 1e-8) == pytest.approx(0.5, rel=1e-12)


@pytest.mark.parametrize("t", [1, 2, 30])
def test_adams_step_is_bounded_by_its_worst_case(t: int) -> None:
    """|step| ≤ η (1-β₁)/√(1-β₂) · √(1-β₂ᵗ)/(1-β₁ᵗ), reached by one gradient after zeros (β₁ < √β₂)."""
    lr, b1, b2 = 0.5, 0.9, 0.999
    bound = lr * (1 - b1) / math.sqrt(1 - b2) * math.sqrt(1 - b2**t) / (1 - b1**t)
    w, *_ = formulas.adam(ZERO, ONE, ZERO, ZERO, ZERO, lr=lr, eps=0.0, t=t)
    assert -float(w[0]) == pytest.approx(bound, rel=1e-12)


def test_printed_adam_is_adam_for_one_rho_and_another_rate() -> None:
    w, g, m, v, big = ordinary()
    t = 4
    adam, *_ = formulas.adam(w, g, m, v, big, lr=0.1, eps=0.0, t=t)
    printed, *_ = formulas.printed_adam(w, g, m, v, lr=0.1 / (1 - 0.9**t), rho=1 - 0.999**t, eps=0.0)
    np.testing.assert_allclose(adam, printed, rtol=1e-13)
    for other in ({"rho": 1.0, "lr": 0.1 / (1 - 0.9**t)}, {"rho": 1 - 0.999**t, "lr": 0.1}):
        assert np.abs(formulas.printed_adam(w, g, m, v, eps=0.0, **other)[0] - adam).max() > 1e-2


# Right programs pass


def numpy_adam(inputs: Any, o: Any, **wrong: Any) -> Any:
    """Adam in NumPy, scalars as Python floats; `wrong` breaks it in one way."""
    w, g, m, v, big = inputs
    f = w.dtype.type
    b1, b2 = (o["beta2"], o["beta1"]) if wrong.get("swapped") else (o["beta1"], o["beta2"])
    t = o["t"] + wrong.get("late", 0)
    decay, decoupled = o["weight_decay"], wrong.get("decoupled", False)
    g = -g if o["maximize"] else g
    if decay and not decoupled:
        g = g + f(decay) * w
    m = f(b1) * m + f(1 - b1) * g
    v = f(b2) * v + f(1 - b2) * (g * g)
    first, second = 1 - b1**t, 1 - b2**t
    if wrong.get("uncorrected"):
        first = second = 1.0
    used, big = v, big.copy()
    if o["amsgrad"]:
        big = np.maximum(big, v / f(second)) if wrong.get("maximum") else np.maximum(big, v)
        used = big
    root = np.sqrt(used) / f(math.sqrt(second))
    below = np.sqrt(used / f(second) + f(o["eps"])) if wrong.get("under") else root + f(o["eps"])
    if decoupled or wrong.get("twice"):
        w = w * f(1 - o["lr"] * decay)
    return w - f(o["lr"] / first) * (m / below), m, v, big


def scalars_in_format(inputs: Any, o: Any) -> Any:
    """Adam as a library on an accelerator writes it: every scalar is a number of the format."""
    w, g, m, v, big = inputs
    f = w.dtype.type
    b1, b2 = f(o["beta1"]), f(o["beta2"])
    g = -g if o["maximize"] else g
    g = g + f(o["weight_decay"]) * w
    m = (f(1) - b1) * g + b1 * m
    v = (f(1) - b2) * (g * g) + b2 * v
    t = f(o["t"])
    big = np.maximum(big, v) if o["amsgrad"] else big.copy()
    used = (big if o["amsgrad"] else v) / (f(1) - b2**t)
    scaled = f(o["lr"]) / (f(1) - b1**t) * m
    return w - scaled / (np.sqrt(used) + f(o["eps"])), m, v, big


def quiet(program: Callable[..., Any], **wrong: Any) -> Callable[..., Any]:
    def forward(inputs: Any, options: Any) -> Any:
        with np.errstate(all="ignore"):
            return program(inputs, options, **wrong)

    return forward


@pytest.mark.parametrize("fmt", [FLOAT64, FLOAT32], ids=lambda f: f.name)
@pytest.mark.parametrize("program", [numpy_adam, scalars_in_format], ids=lambda p: p.__name__)
def test_independent_programs_of_adam_pass(program: Callable[..., Any], fmt: Format) -> None:
    assert examined(formulas.adam, quiet(program), fmt, **TORCH).verdict.passed


@pytest.mark.parametrize("fmt", [FLOAT64, FLOAT32, FLOAT16], ids=lambda f: f.name)
@pytest.mark.parametrize("subject", [LOOP, FOREACH, FUSED], ids=lambda s: s.form)
@pytest.mark.parametrize("formula", [formulas.adam, formulas.adamw, formulas.adagrad], ids=lambda f: f.name)
def test_the_programs_of_torch_pass(formula: Formula, subject: Any, fmt: Format) -> None:
    made = subject.implement(formula, fmt)
    assert examined(formula, made.forward, fmt, count=6, **made.options).verdict.passed


# Wrong programs do not


@pytest.mark.parametrize(
    "wrong",
    [
        {"uncorrected": True},
        {"late": 1},
        {"under": True},
        {"swapped": True},
        {"maximum": True},
        {"decoupled": True},
        {"twice": True},
    ],
    ids=lambda w: next(iter(w)),
)
def test_wrong_programs_of_adam_are_caught(wrong: dict[str, Any]) -> None:
    assert examined(formulas.adam, quiet(numpy_adam, **wrong), count=30, **TORCH).verdict is Verdict.WRONG


def numpy_sgd(inputs: Any, o: Any, wrong: str = "") -> Any:
    w, g, b = inputs
    f = w.dtype.type
    g = (-g if o["maximize"] else g) + f(o["weight_decay"]) * w
    if o["momentum"] == 0:
        return w - f(o["lr"]) * g, b.copy()
    damped = f(1 - o["dampening"]) * g
    first = damped if wrong == "dampened first" else g.copy()
    b = first if o["t"] == 1 else f(o["momentum"]) * b + damped
    step = g + f(o["momentum"]) * b if o["nesterov"] else b
    if wrong == "nesterov" and o["nesterov"]:
        step = f(o["momentum"]) * b
    return w - f(o["lr"]) * step, b


def test_gradient_descent_in_numpy_passes_and_its_liars_do_not() -> None:
    fixed = {"velocity": False}
    assert examined(formulas.sgd, quiet(numpy_sgd), **fixed).verdict is Verdict.ACCURATE
    for wrong in ("dampened first", "nesterov"):
        assert (
            examined(formulas.sgd, quiet(numpy_sgd, wrong=wrong), count=60, **fixed).verdict is Verdict.WRONG
        )


def test_the_families_hold_no_zero_where_epsilon_may_be_zero() -> None:
    from gradcheck.families import build

    for family in FAMILIES:
        for fmt in (FLOAT32, FLOAT64):
            assert (build(family, 3, 4000, fmt, (0.0,)) != 0).all()
