"""What a verdict costs: `gradcheck.check` beside other gradient checkers, and the arithmetics by themselves.

Every checker gets the same operation at the same point, in float64. `scipy.optimize.check_grad` compares one
gradient, that of a random weighted sum; numdifftools computes the whole Jacobian, which is then compared.
"""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from gradcheck.bench.document import NOTHING, ArithmeticRate, CheckCost
from gradcheck.bench.memory import sampled
from gradcheck.bench.timing import Clock, Settings, Timed, estimate, interleave, ratios
from gradcheck.records import Array
from gradcheck.subjects import jax_bench, torch_bench

OURS, OURS_JACOBIAN = "gradcheck.check", "gradcheck.check, Jacobian alone"
SLOW, FAST, JAX = "torch gradcheck", "torch gradcheck, fast", "jax check_grads"
SCIPY, NUMDIFFTOOLS = "scipy check_grad", "numdifftools"
EVERY = "every checker"
CHECKERS = (OURS, OURS_JACOBIAN, SLOW, FAST, JAX, SCIPY, NUMDIFFTOOLS)
# A checker that took longer than this at one size is not asked at the next, four times as large.
_SLOWEST = 5.0
_FORMULAS = ("tanh", "gelu", "softplus")
_BITS = 128
Call = Callable[[], Any]


def costs(
    seconds: float, settings: Settings, inputs: Sequence[int], operations: Sequence[str]
) -> Iterator[CheckCost]:
    """Yield the cost of every checker over growing sizes, until the time is up; a failure has its reason."""
    ends = time.monotonic() + seconds
    absent = torch_bench.absence()
    slow: dict[tuple[str, str], str] = {}
    warm: set[str] = set()
    for count in inputs:
        for operation in operations:
            if absent or time.monotonic() > ends:
                why = absent or f"the {seconds:.0f} s for the cost of the suite were over"
                yield CheckCost(operation, count, EVERY, failed=why)
                continue
            yield from _of(operation, count, settings, slow, warm, ends)


def _of(
    operation: str,
    count: int,
    settings: Settings,
    slow: dict[tuple[str, str], str],
    warm: set[str],
    ends: float,
) -> Iterator[CheckCost]:
    x = np.random.default_rng(7).normal(size=count)
    timed: list[tuple[str, Timed, int]] = []
    first: list[float] = []
    for checker in CHECKERS:
        why = _missing(checker) or slow.get((checker, operation), "")
        if why:
            yield CheckCost(operation, count, checker, failed=why)
            continue
        try:
            call = _call(checker, operation, x)
            if checker not in warm:
                # The first call of all imports and compiles what every later one has.
                call()
                warm.add(checker)
            begun = time.perf_counter()
            with sampled() as sizes:
                call()
        except Exception as error:  # a checker's own trouble with an operation is what is reported
            said = str(error).strip().partition("\n")[0][:200]
            yield CheckCost(operation, count, checker, failed=f"{type(error).__name__}: {said}")
            continue
        first.append(time.perf_counter() - begun)
        if (taken := first[-1]) > _SLOWEST:
            slow[checker, operation] = f"took {taken:.0f} s at {count} inputs"
        timed.append((checker, Timed(call, lambda: torch_bench.set_threads(1)), max(sizes) - sizes[0]))
    # One call to warm up and one to count loops come before the rounds; the time that is left has to last.
    fewest = max(1, min(settings.least, int((ends - time.monotonic()) / sum(first, 1e-9)) - 2))
    found = interleave([each for _, each, _ in timed], replace(settings, least=fewest))
    for (checker, _, peak), samples in zip(timed, found, strict=True):
        ratio = ratios(samples, found[0]) if timed[0][0] == OURS else NOTHING
        yield CheckCost(operation, count, checker, estimate(samples.data), ratio, peak)


def _missing(checker: str) -> str:
    if checker == JAX:
        return jax_bench.absence()
    if checker == NUMDIFFTOOLS and importlib.util.find_spec("numdifftools") is None:
        return "numdifftools is not installed"
    return ""


def _call(checker: str, operation: str, x: Array) -> Call:
    if checker in (SLOW, FAST):
        return torch_bench.gradcheck_call(operation, x, checker == FAST)
    if checker == JAX:
        return jax_bench.check_grads_call(operation, x)
    if checker in (OURS, OURS_JACOBIAN):
        return _ours(operation, x, None if checker == OURS else ("jacobian",))
    value, product = torch_bench.pair(operation)
    if checker == SCIPY:
        from scipy.optimize import check_grad

        v = np.random.default_rng(0).standard_normal(value(x).size)
        return lambda: check_grad(lambda at: float(v @ value(at)), lambda at: product(at, v), x)
    return _jacobian(value, product, x)


def _jacobian(value: Callable[[Array], Array], product: Callable[[Array, Array], Array], x: Array) -> Call:
    import numdifftools  # type: ignore[import-not-found, unused-ignore]

    def call() -> bool:
        given = np.stack([product(x, row) for row in np.eye(value(x).size)])
        return bool(np.allclose(given, numdifftools.Jacobian(value)(x).reshape(given.shape), rtol=1e-6))

    return call


def _ours(operation: str, x: Array, checks: tuple[str, ...] | None) -> Call:
    from gradcheck.blackbox.api import check

    f = torch_bench.operation(operation)
    (example,) = torch_bench.tensors((x,))
    return lambda: check(f, example, checks=checks, max_seconds=60)


def rates(settings: Settings, count: int = 2_000, clock: Clock | None = None) -> tuple[ArithmeticRate, ...]:
    """Return how many elements a second each arithmetic evaluates, all of them timed in turn."""
    calls = [
        (name, formula, call) for formula in _FORMULAS for name, call in _arithmetics(formula, count).items()
    ]
    found = interleave([Timed(call) for _, _, call in calls], settings, clock)
    return tuple(
        ArithmeticRate(name, formula, count, estimate(samples.data))
        for (name, formula, _), samples in zip(calls, found, strict=True)
    )


def _arithmetics(name: str, count: int) -> dict[str, Call]:
    from gradcheck.arithmetic.ball import balls, precision, to_estimate
    from gradcheck.arithmetic.dual import derivative
    from gradcheck.arithmetic.rounded import Model, rounded
    from gradcheck.formats import FLOAT32
    from gradcheck.formulas import get_formula

    formula = get_formula(name)
    x, options = 4 * np.random.default_rng(11).normal(size=count), formula.complete({})
    narrow, slope = FLOAT32.round(x), derivative(formula.value)

    def over_balls(text: Callable[..., Any]) -> Call:
        def call() -> Any:
            with precision(_BITS):
                return to_estimate(text(balls(x), **options))

        return call

    return {
        "plain": lambda: formula.value(x, **options),
        "rounded": lambda: formula.value(rounded(narrow, Model(FLOAT32)), **options),
        "ball": over_balls(formula.value),
        "dual over balls": over_balls(slope),
    }
