"""Second witnesses of our derivatives: finite differences with an error estimate, and the complex step."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from inspect import signature
from typing import Any

import numpy as np

from gradcheck.arithmetic.plain import evaluate
from gradcheck.arithmetic.rounded import Model, rounded
from gradcheck.cases import binades
from gradcheck.checks.examine import numbers
from gradcheck.compare import breach
from gradcheck.formats import FLOAT64, Float64Array, widen
from gradcheck.oracles.complex_step import complex_step
from gradcheck.oracles.finite_difference import STEPS, Ladder, central, one_sided
from gradcheck.oracles.truth import Query, apply_balls, at_kink, texts, truths
from gradcheck.records import DERIVATIVE, Case, Evidence, Formula, Worst

# Points where a difference is taken: not so large that every step leaves the range, nor so small that
# the function has no slope left to see in float64.
_REACH = (1e-3, 600.0)
# The complex step rounds about as often as the text itself; this covers the longest of them.
_COMPLEX_UNITS = 64
# How often an input may be moved away from a kink between inputs, of which a formula has two or three.
_MOVES = 6


def witness(formula: Formula, case: Case) -> Evidence:
    """Ask finite differences, and the complex step where the formula is analytic, about the derivative."""
    total = _differences(formula, case) if formula.elementwise else _directional(formula, case)
    inputs = np.concatenate([widen(array).ravel() for array in case.inputs])
    return replace(
        total,
        cases=1,
        vacuous_cases=int(total.compared == 0),
        families={case.family: total.compared},
        binades=binades(inputs),
        options=dict(case.options),
    )


def _value(formula: Formula, options: Any) -> Callable[[Float64Array], Float64Array]:
    complete = formula.complete(options)
    return lambda x: np.asarray(evaluate(formula.value, FLOAT64, x, **complete))


def _noise(formula: Formula, options: Any, x: Float64Array) -> Float64Array:
    """Return a bound on the error of the value within reach of the differences at `x`."""
    widths = []
    for step in (0.0, 1 / 16, -1 / 16):
        near = x + step * np.maximum(np.abs(x), 0.0625)
        interval = formula.value(rounded(near, Model(FLOAT64)), **formula.complete(options))
        widths.append(interval.hi - interval.lo)
    return np.asarray(np.nan_to_num(np.max(widths, axis=0), nan=np.inf)) + FLOAT64.least_subnormal


def _differences(formula: Formula, case: Case) -> Evidence:
    x = widen(case.inputs[0]).ravel()
    x = x[np.isfinite(x) & ((np.abs(x) <= _REACH[1]) & (np.abs(x) >= _REACH[0]) | (x == 0))]
    if not x.size:
        return Evidence()
    f, noise = _value(formula, case.options), _noise(formula, case.options, x)
    one = np.ones_like(x)
    query = Query(formula, DERIVATIVE, FLOAT64, (x,), case.options, one)
    (truth,) = truths(query)
    exact = truth.lower.high
    smooth = _away_from_kinks(formula, case.options, x)
    total = Evidence()
    if smooth.any():
        for name, order in (("central difference", 2), ("Richardson", 4)):
            ladder = central(f, x[smooth], noise[smooth], order=order)
            total = total.merge(_judged(name, x[smooth], ladder.best, exact[smooth], ladder.error))
        if formula.analytic and formula.textbook is not None:
            total = total.merge(_complex(formula, case, x[smooth], exact[smooth]))
    kink = at_kink(query)
    for side in (-1.0, 1.0):
        if kink.any():
            ladder = one_sided(f, x[kink], side, noise[kink])
            total = total.merge(_between(x[kink], ladder, truth.lower.high[kink], truth.upper.high[kink]))
    return total


def _away_from_kinks(formula: Formula, options: Any, x: Float64Array) -> Any:
    """Return where no step of the ladder reaches over a kink."""
    smooth = np.ones(x.shape, bool)
    if formula.kinks is not None:
        reach = 2 * STEPS[0] * np.maximum(np.abs(x), 0.0625) * 1.5
        for point in formula.kinks(**formula.complete(options)):
            smooth &= np.abs(x - float(point)) > reach
    return smooth


def _complex(formula: Formula, case: Case, x: Float64Array, exact: Float64Array) -> Evidence:
    assert formula.textbook is not None
    near = np.abs(x) <= 15.0
    if not near.any():
        return Evidence()
    options = {
        name: float(value) if hasattr(value, "ball") else value
        for name, value in formula.complete(case.options).items()
    }
    textbook = formula.textbook
    got = complex_step(lambda z: textbook(z, **options), x[near])
    scale = np.abs(exact[near]) + np.abs(_value(formula, case.options)(x[near])) + 1
    return _judged("complex step", x[near], got, exact[near], _COMPLEX_UNITS * FLOAT64.roundoff * scale)


def _between(x: Float64Array, ladder: Ladder, lower: Float64Array, upper: Float64Array) -> Evidence:
    nearest = np.clip(ladder.best, lower, upper)
    return _judged("one-sided difference", x, ladder.best, nearest, ladder.error)


def _judged(
    name: str, x: Float64Array, got: Float64Array, exact: Float64Array, error: Float64Array
) -> Evidence:
    """Compare a witness with the truth, by the witness's own estimate of its error."""
    allowed = error + 2 * FLOAT64.roundoff * np.abs(exact)
    wrong = ~(np.abs(got - exact) <= allowed)
    largest = float(np.max(np.abs(exact), initial=0.0))
    finite = allowed[np.isfinite(allowed)]
    found = Evidence(
        compared=int(x.size),
        resolution=float(np.median(finite)) / largest if largest and finite.size else 0.0,
    )
    if not wrong.any():
        return found
    index = int(np.argmax(wrong))
    off = float(abs(got[index] - exact[index]))
    ulp = off / float(FLOAT64.ulp(exact[index]))
    worst = Worst(
        (float(x[index]),),
        float(got[index]),
        float(exact[index]),
        off,
        float(allowed[index]),
        ulp,
        index,
        int(x.size),
        name,
    )
    return found.merge(replace(breach("witness", int(wrong.sum()), worst), compared=0))


def _directional(formula: Formula, case: Case) -> Evidence:
    """Compare c.(f(v + h d) - f(v - h d)) / 2h with d.vjp(v, c) for a formula of several inputs."""
    inputs = _off_kinks(formula, tuple(numbers(array) for array in case.inputs), case.options)
    complete = formula.complete(case.options)
    shape = np.shape(formula.value(*inputs, **complete))
    rng = np.random.default_rng(case.seed)
    directions = [_step(array) * rng.choice([-1.0, 1.0], size=array.shape) for array in inputs]
    # Not ±1: where steps leap from one saturated end to another, equal factors would cancel to a false zero.
    cotangent = rng.normal(size=shape)
    query = Query(formula, DERIVATIVE, FLOAT64, inputs, case.options, cotangent)
    if _has_choice(query):
        return Evidence(notes=("cases with a tie or on a kink have no single derivative to witness",))
    _, _, text = next(iter(texts(formula, DERIVATIVE)))
    places = formula.differentiated
    gradients = apply_balls(query, text, 256)
    exact = sum(float(np.sum(g.high * directions[p])) for g, p in zip(gradients, places, strict=True))

    def moved(h: float) -> list[Any]:
        return [
            a + h * d if p in places else a for p, (a, d) in enumerate(zip(inputs, directions, strict=True))
        ]

    def along(step: Float64Array) -> Float64Array:
        with np.errstate(all="ignore"):
            return np.array([value(*moved(h)) for h in step])

    def value(first: Any, *rest: Any) -> float:
        # Outside the domain there is no function to take a difference of.
        outside = (first < formula.domain[0]) | (first > formula.domain[1])
        answer = np.nan if outside.any() else np.sum(cotangent * formula.value(first, *rest, **complete))
        return float(answer)

    def bound(h: float) -> float:
        lifted = (a if a.dtype.kind in "iub" else rounded(a, Model(FLOAT64)) for a in moved(h))
        interval = formula.value(*lifted, **complete)
        size = float(np.sum(np.abs(interval.hi)) + sum(np.sum(np.abs(inputs[p])) for p in places))
        return 4 * float(np.sum(interval.hi - interval.lo)) + 64 * FLOAT64.roundoff * size

    # A bound that says nothing is infinite, not the largest number, twice which overflows.
    most = max(bound(0.0), bound(STEPS[0]), bound(-STEPS[0]))
    noise = np.array([most if most < np.inf else np.inf])
    ladder = central(along, np.zeros(1), noise)
    if not _settles(ladder):
        return Evidence(
            notes=("cases that bend within the smallest step have no difference to witness with",)
        )
    return _judged("directional difference", np.zeros(1), ladder.best, np.array([exact]), ladder.error)


def _settles(ladder: Ladder) -> bool:
    """Whether the differences reach a derivative: not if each smaller step more than doubles them."""
    last = np.abs(ladder.differences[:, 0][np.isfinite(ladder.differences[:, 0])][-6:])
    return last.size > 1 and not bool(np.all(last[1:] > 2 * last[:-1]))


def _size(array: Any) -> float:
    """Return a power of two near the largest number of the array, so that a step is of its magnitude."""
    largest = float(np.max(np.abs(array), initial=0.0))
    return float(2.0 ** np.round(np.log2(largest))) if largest > 0 else 1.0


def _step(array: Any) -> float:
    """Return the size of a step: that of what varies; one of a large mean's size leaps over all that."""
    largest = _size(array)
    spread = array - np.mean(array) if array.size else array
    return max(_size(spread), 2.0**-20 * largest) if np.any(spread) else largest


def _has_choice(query: Query) -> bool:
    """Whether the generalised gradient at the query holds more than one element."""
    if query.formula.touching is not None:
        return bool(at_kink(query).any())
    if query.formula.extremes is None:
        return False
    low, high = (apply_balls(query, text, 128) for text in query.formula.extremes)
    return any(bool((a.high != b.high).any()) for a, b in zip(low, high, strict=True))


def _off_kinks(formula: Formula, inputs: tuple[Float64Array, ...], options: Any) -> tuple[Float64Array, ...]:
    """Move the first input away from every kink, so that no difference along a direction reaches over one."""
    first = inputs[0]
    for point in formula.kinks(**formula.complete(options)) if formula.kinks else ():
        offset = first - float(point)
        near = np.abs(offset) < 4 * STEPS[0]
        first = np.where(near, float(point) + np.copysign(4 * STEPS[0] + np.abs(offset), offset), first)
    return _apart(formula, (first, *inputs[1:]), options)


def _apart(formula: Formula, inputs: tuple[Float64Array, ...], options: Any) -> tuple[Float64Array, ...]:
    """Move the first input up until no kink between inputs is within reach of a step, where the formula's
    `touching` takes a `reach`.
    """
    touching = formula.touching
    if touching is None or "reach" not in signature(touching).parameters:
        return inputs
    reach = 4 * STEPS[0] * sum(_size(array) for array in inputs)
    for _ in range(_MOVES):
        near = touching(inputs, reach=reach, **formula.complete(options))
        inputs = (np.where(near, inputs[0] + 2 * reach, inputs[0]), *inputs[1:])
    return inputs


def step_series(formula: Formula, x: float) -> dict[str, Any]:
    """Return error against step at one point: [step, error, estimate] of each method, for a chart."""
    point = np.array([x])
    f, noise = _value(formula, {}), _noise(formula, {}, point)
    (truth,) = truths(Query(formula, DERIVATIVE, FLOAT64, (point,), {}, np.ones(1)))
    exact = float(truth.lower.high[0])
    series: dict[str, list[list[float]]] = {}
    for name, order in (("central", 2), ("richardson", 4)):
        ladder = central(f, point, noise, order=order)
        rows = zip(ladder.steps[:, 0], ladder.differences[:, 0], ladder.estimates[:, 0], strict=True)
        series[name] = [
            [float(h), _seen(abs(float(d) - exact)), _seen(float(e))] for h, d, e in rows if np.isfinite(e)
        ]
    if formula.analytic and formula.textbook is not None:
        textbook = formula.textbook
        options = {option.name: option.default for option in formula.options}
        series["complex"] = _complex_series(lambda z: textbook(z, **options), x, exact)
    return {"x": x, "exact": repr(exact), "series": series}


def _complex_series(text: Callable[..., Any], x: float, exact: float) -> list[list[float]]:
    """Return the rows of the complex step: the change to the next step bounds the truncation, to which the
    rounding of the text is added.
    """
    steps = [2.0**-k for k in range(4, 68, 4)]
    answers = [float(complex_step(text, np.array([x]), h)[0]) for h in steps]
    rounding = _COMPLEX_UNITS * FLOAT64.roundoff * abs(exact)
    return [
        [h, _seen(abs(answer - exact)), _seen(1.01 * abs(answer - following) + rounding)]
        for h, answer, following in zip(steps[:-1], answers[:-1], answers[1:], strict=True)
    ]


def _seen(size: float) -> float:
    """Return an error as a chart shows it: what is far below any rounding error is nothing."""
    return size if size > 1e-20 else 0.0
