"""What the article says of Adam: its formula, its relatives, and what it is good for."""

from __future__ import annotations

import pytest
from hypothesis import strategies as st

from gradcheck import article, claim, formulas
from gradcheck.arithmetic.plain import evaluate
from gradcheck.formats import FORMATS, get_format
from gradcheck.formulas import get_formula

NUMBER = st.floats(-8, 8)
POSITIVE = st.floats(0.125, 8)
FACTOR = st.floats(0, 0.99)
SMALL = st.floats(1e-8, 1e-2)
STEP = st.integers(1, 50)


def state():
    """Draw weights, a gradient and the averages of the gradients and squares before it, of one length."""
    return st.integers(1, 3).flatmap(
        lambda n: st.fixed_dictionaries(
            {name: st.lists(NUMBER, min_size=n, max_size=n) for name in ("weight", "gradient", "mean")}
            | {"square": st.lists(POSITIVE, min_size=n, max_size=n)}
        )
    )


@claim(id="F14", share=0.5, drawn=state(), beta1=FACTOR, beta2=FACTOR)
def moments(np, weight, gradient, mean, square, beta1, beta2):
    _, m, v, _ = formulas.adam(weight, gradient, mean, square, square, beta1=beta1, beta2=beta2)
    return article.printed_moments(gradient, mean, square, beta1, beta2), (m, v)


@claim(
    id="F15",
    share=0.5,
    drawn=state(),
    lr=POSITIVE,
    beta1=st.just(0.9),
    beta2=st.just(0.999),
    rho=st.floats(1e-3, 1),
    eps=SMALL,
    t=STEP,
)
def step(np, weight, gradient, mean, square, lr, beta1, beta2, rho, eps, t):
    printed = article.printed_adam_step(weight, gradient, mean, square, lr, beta1, beta2, rho, eps)
    options = {"lr": lr, "beta1": beta1, "beta2": beta2, "eps": eps, "t": t}
    return printed, formulas.adam(weight, gradient, mean, square, square, **options)[0]


@claim(
    id="F15.first",
    gradient=POSITIVE,
    lr=POSITIVE,
    beta1=st.sampled_from([0.9, 0.5]),
    beta2=st.sampled_from([0.999, 0.99]),
)
def first_step(np, gradient, lr, beta1, beta2):
    zero = 0 * gradient
    printed = article.printed_adam_step(zero, gradient, zero, zero, lr, beta1, beta2, 1, 0)
    return np.abs(printed) / lr, zero + 1


@claim(
    id="F15.substitution",
    share=0.5,
    drawn=state(),
    lr=POSITIVE,
    beta1=FACTOR,
    beta2=FACTOR,
    eps=SMALL,
    t=STEP,
)
def step_with_corrections(np, weight, gradient, mean, square, lr, beta1, beta2, eps, t):
    rate, rho = lr / (1 - beta1**t), 1 - beta2**t
    printed = article.printed_adam_step(weight, gradient, mean, square, rate, beta1, beta2, rho, eps)
    options = {"lr": lr, "beta1": beta1, "beta2": beta2, "eps": eps, "t": t}
    return printed, formulas.adam(weight, gradient, mean, square, square, **options)[0]


def by_reduction(beta1, scaled, **_):
    return f"β₁ {'= 0' if beta1 == 0 else '> 0'}, η and ε {'times √(1 − β₂ᵗ)' if scaled else 'as they are'}"


@claim(
    id="F16",
    share=0.5,
    condition=article.Classes(by_reduction),
    drawn=state(),
    lr=POSITIVE,
    beta1=st.sampled_from([0.0, 0.9]),
    beta2=st.floats(0.5, 0.999),
    eps=SMALL,
    t=STEP,
    scaled=st.booleans(),
)
def as_rmsprop(np, weight, gradient, mean, square, lr, beta1, beta2, eps, t, scaled):
    options = {"lr": lr, "beta1": beta1, "beta2": beta2, "eps": eps, "t": t}
    adam, *_ = formulas.adam(weight, gradient, mean, square, square, **options)
    root = np.sqrt(1 - beta2**t) if scaled else 1
    zero = 0 * weight
    rmsprop, *_ = formulas.rmsprop(
        weight, gradient, square, zero, zero, lr=lr * root, alpha=beta2, eps=eps * root
    )
    return adam, rmsprop


@claim(
    id="F16.adagrad",
    gradients=st.lists(POSITIVE, min_size=1, max_size=5),
    lr=POSITIVE,
    rest=st.floats(1e-12, 0.1),
)
def as_adagrad(np, gradients, lr, rest):
    zero, beta2, steps = 0 * lr, 1 - rest, gradients.shape[0]
    square = total = zero
    for t in range(1, steps + 1):
        g = gradients[t - 1]
        options = {"lr": lr / np.sqrt(zero + t), "beta1": zero, "beta2": beta2, "eps": zero, "t": t}
        adam, _, square, _ = formulas.adam(zero, g, zero, square, zero, **options)
        adagrad, total = formulas.adagrad(zero, g, total, lr=lr, eps=zero)
    factor = np.power(np.sqrt(beta2), steps - 1)
    return article.AtMost((-adagrad * factor, -adam * factor), (-adam, -adagrad))


def in_doubles(*arrays, **options):
    """Take a step of Adam with options in float64, as a training loop does; exact ones take their time."""
    defaults = {option.name: option.default for option in formulas.adam.options}
    return formulas.adam.value(*arrays, **{**defaults, **options})


def sign_changes(np, start, hessian, rate, beta1):
    """Count how often a coordinate changes its sign in 40 steps of Adam on a quadratic function."""
    weight, zero, count = start, 0 * start, 0
    mean = square = zero
    for t in range(1, 41):
        gradient = np.matmul(hessian, weight)
        options = {"lr": rate, "beta1": beta1, "t": t}
        after, mean, square, _ = in_doubles(weight, gradient, mean, square, zero, **options)
        count += int(np.sum(after * weight < 0))
        weight = after
    return count


@claim(
    id="C13",
    share=0.06,
    plain=True,
    condition=article.Along("rate", 1e-3, 10.0),
    start=st.sampled_from([[1.0, 1.0], [1.0, -0.5], [0.25, 1.0]]),
    condition_number=st.integers(1, 100),
    turn=st.sampled_from([0.0, 0.5, 1.0]),
)
def damping(np, start, condition_number, turn, rate):
    axes = np.asarray([[1, turn], [-turn, 1]]) / np.hypot(1, turn)
    hessian = np.matmul(axes.T, np.asarray([[1], [condition_number]]) * axes)
    counts = [sign_changes(np, np.asarray(start), hessian, rate, beta1) for beta1 in (0.9, 0.0)]
    return counts[0] <= counts[1]


@claim(
    id="C14",
    share=0.25,
    condition=article.Along("ratio", 1e-9, 1e9),
    sizes=st.lists(st.floats(0.5, 1), min_size=1, max_size=3),
    eps=st.floats(1e-12, 1e-4),
)
def step_of_small_gradients(np, sizes, eps, ratio):
    def last_step(floor):
        zero = 0 * eps
        mean = square = zero
        for t in range(1, sizes.shape[0] + 1):
            options = {"lr": 1.0, "eps": floor, "t": t}
            gradient = ratio * eps * sizes[t - 1]
            step, mean, square, _ = formulas.adam(zero, gradient, mean, square, zero, **options)
        return np.abs(step)

    return article.AtMost(last_step(0 * eps) / 2, last_step(eps))


def by_format(format, eps, **_):
    return f"{format}, ε = {eps:g}"


@claim(
    id="C14.formats",
    share=0.25,
    plain=True,
    condition=article.Along("gradient", 1e-160, 1.0, probes=33, of=by_format),
    format=st.sampled_from([fmt.name for fmt in FORMATS]),
    eps=st.sampled_from([0.0, 1e-8]),
)
def first_step_in_a_format(np, format, eps, gradient):
    fmt, adam = get_format(format), get_formula("adam")
    arrays = [np.asarray([value]).astype(fmt.dtype) for value in (0.0, gradient, 0.0, 0.0, 0.0)]
    step, *_ = evaluate(adam.value, fmt, *arrays, **adam.complete({"lr": 1.0, "eps": eps}))
    return bool(0.5 <= abs(float(step[0])) <= 2)


def by_problem(problem, amsgrad, **_):
    return f"{problem}, {'AMSGrad' if amsgrad else 'Adam'}"


@claim(
    id="C15",
    share=0.12,
    plain=True,
    condition=article.Classes(by_problem),
    problem=st.sampled_from(["a quadratic function", "the problem of Reddi et al."]),
    amsgrad=st.booleans(),
    steepness=st.integers(3, 6),
    start=st.sampled_from([1.0, 0.5, 0.25]),
)
def performance(np, problem, amsgrad, steepness, start):
    quadratic = problem == "a quadratic function"
    beta2 = 0.999 if quadratic else 1 / (1 + steepness * steepness)
    best = 0.0 if quadratic else -1.0
    x = np.asarray(start)
    zero = mean = square = largest = np.zeros_like(x)
    for t in range(1, 121):
        # On the interval [-1, 1] the losses are Cx in every third step and -x in the others.
        gradient = steepness * x if quadratic else zero + (steepness if t % 3 == 1 else -1)
        options = {"lr": 0.5 / float(np.sqrt(t)), "beta1": 0.9 if quadratic else 0.0, "beta2": beta2}
        options |= {"amsgrad": amsgrad, "t": t}
        x, mean, square, largest = in_doubles(x, gradient, mean, square, largest, **options)
        x = np.clip(x, -1.0, 1.0)
    return bool(abs(x - best) <= abs(start - best) / 2)


MEASURED = (
    moments,
    step,
    first_step,
    step_with_corrections,
    as_rmsprop,
    as_adagrad,
    damping,
    step_of_small_gradients,
    first_step_in_a_format,
    performance,
)


@pytest.mark.parametrize("item", MEASURED, ids=lambda item: item.id)
def test_what_is_said_of_adam_is_measured(item, gradcheck_run):
    measured = gradcheck_run.measure(item)
    assert measured is None or measured.compared > 0
