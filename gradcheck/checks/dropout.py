"""Dropout as it is called: the mask read off one seeded call, and what must hold of it.

The implementation takes x alone. Its options are `p`, `training`, `seed`, which fixes the mask, and `form`,
"function" or "module". What it draws is random, so what is drawn is tested, never assumed: each test is an
exact binomial one.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import special

from gradcheck.checks.examine import examine, factors, first_input, shown
from gradcheck.compare import breach
from gradcheck.formats import widen
from gradcheck.records import DERIVATIVE, VALUE, Array, Case, Evidence, Formula, Options
from gradcheck.subjects.implementation import Implementation

BoolArray = NDArray[np.bool_]

FORMS = ("function", "module")
# A right implementation fails one test at most this often. A run makes fewer than 10^5 of them, so that it
# accuses a right one with a probability below 1e-9.
FALSE_ALARM = 1e-14
_PROBE = (128, 128)


def dropout(implementation: Implementation, formula: Formula, case: Case) -> Evidence:
    """Hold value and gradient to the mask that the value shows, and the mask to the laws of chance.

    Evaluation mode and p = 0 are the identity, bit by bit; p = 1 leaves zeros, and a zero gradient. The
    generators of Python and of NumPy are left as they were.
    """
    before = random.getstate(), np.random.get_state()
    total = Evidence()
    for form in FORMS:
        try:
            for found in _found(implementation, formula, case, {"form": form}):
                total = total.merge(found)
        except (Exception, SystemExit) as error:
            total = total.merge(breach("raised", 1, first_input(case), shown(error)))
    if repr(before) != repr((random.getstate(), np.random.get_state())):
        total = total.merge(breach("state", 1, first_input(case), "a global random generator was moved"))
    families = {case.family: total.compared}
    return replace(
        total,
        cases=1,
        vacuous_cases=int(total.compared == 0),
        families=families,
        options=dict(case.options),
        label="largest found",
    )


def _found(
    implementation: Implementation, formula: Formula, case: Case, how: dict[str, Any]
) -> Iterator[Evidence]:
    training = {**how, "training": True, "seed": case.seed}
    p = float(case.options.get("p", 0.5))
    for each in dict.fromkeys((p, 0.0, 1.0)):
        part = replace(case, options={"p": each}, detail=f"{how['form']}, {case.detail}".strip(", "))
        yield from _replayed(implementation, formula, part, training)
    for name, options in (
        ("evaluation mode", {**training, "training": False, "p": p}),
        ("p = 0", {**training, "p": 0.0}),
    ):
        yield from _identity(implementation, formula, case, options, name)
    if 0 < p < 1:
        yield from _chance(implementation, case, {**training, "p": p})


def _replayed(
    implementation: Implementation, formula: Formula, case: Case, how: Options
) -> Iterator[Evidence]:
    """Examine one drawn value and its gradient as those of the formula with the mask that they show."""
    assert implementation.vjp is not None
    x, options = case.inputs[0], {**case.options, **how}
    cotangent, _ = factors(formula, case, DERIVATIVE)
    lent, factor = x.copy(), cotangent.copy()
    y = implementation.forward((lent,), options)
    (gradient,) = implementation.vjp((lent,), factor, options)
    mask = _mask(x, y, cotangent, gradient).astype(case.format.dtype)
    shown_once = replace(
        implementation,
        forward=lambda inputs, options: y,
        vjp=lambda inputs, cotangent, options: (gradient, None),
    )
    part = replace(case, inputs=(x, mask), cotangent=cotangent)
    yield examine(shown_once, formula, part, VALUE)
    yield examine(shown_once, formula, part, DERIVATIVE)
    again = implementation.forward((x.copy(),), options)
    if np.asarray(again).tobytes() != np.asarray(y).tobytes():
        yield breach("mask", 1, first_input(case), "two calls with one seed gave two masks")
    if lent.tobytes() != x.tobytes() or factor.tobytes() != cotangent.tobytes():
        yield breach("mutation", 1, first_input(case), "an input was written to")


def _mask(x: Array, y: Any, cotangent: Array, gradient: Any) -> BoolArray:
    """Return what was kept: a scale of at least 1 turns no number into zero.

    Where x is zero the value does not show the mask, and the gradient is asked.
    """
    value, slope = widen(np.asarray(y)), widen(np.asarray(gradient))
    by_slope = (slope != 0) & (widen(cotangent) != 0)
    return np.asarray(np.where(widen(x) != 0, value != 0, by_slope), dtype=bool)


def _identity(
    implementation: Implementation, formula: Formula, case: Case, options: Options, name: str
) -> Iterator[Evidence]:
    """Compare bit by bit: nothing is computed, so nothing is rounded."""
    assert implementation.vjp is not None
    x = case.inputs[0]
    cotangent, _ = factors(formula, case, DERIVATIVE)
    y = np.asarray(implementation.forward((x.copy(),), options))
    (gradient,) = implementation.vjp((x.copy(),), cotangent.copy(), options)
    for got, expected, what in ((y, x, "value"), (np.asarray(gradient), cotangent, "gradient of x")):
        if got.dtype != expected.dtype or got.tobytes() != np.ascontiguousarray(expected).tobytes():
            note = f"{name}: the {what} is not what was given"
            yield breach("identity", 1, first_input(case), note)


def _chance(implementation: Implementation, case: Case, options: dict[str, Any]) -> Iterator[Evidence]:
    """Test the share of kept elements, and that the mask depends on neither its neighbours, nor the values,
    nor the call before.
    """
    rng = np.random.default_rng(case.seed)
    probe = (rng.choice([-1.0, 1.0], _PROBE) * rng.uniform(0.5, 2.0, _PROBE)).astype(case.format.dtype)
    seeds = (options["seed"], options["seed"] + 1)
    first, other = (_kept(implementation, probe, {**options, "seed": seed}) for seed in seeds)
    keep = 1 - options["p"]
    same = keep**2 + options["p"] ** 2
    large = np.abs(widen(probe)) >= np.median(np.abs(widen(probe)))
    for name, outcomes, probability in (
        ("the share of kept elements", first, keep),
        ("the share of kept ones among the larger half", first[large], keep),
        ("the share of kept ones among positive elements", first[widen(probe) > 0], keep),
        ("agreement with the mask of another seed", first == other, same),
        ("agreement of neighbours along the first axis", first[::2] == first[1::2], same),
        ("agreement of neighbours along the last axis", first[:, ::2] == first[:, 1::2], same),
        (
            "agreement of both halves of the first axis",
            first[: len(first) // 2] == first[len(first) // 2 :],
            same,
        ),
    ):
        count, size = int(outcomes.sum()), int(outcomes.size)
        if not chance_of(count, size, probability) >= FALSE_ALARM:
            note = f"{name}: {count} of {size}, where the probability of each is {probability:.4g}"
            yield breach("mask", 1, first_input(case), note)


def _kept(implementation: Implementation, probe: Array, options: Options) -> BoolArray:
    return np.asarray(widen(np.asarray(implementation.forward((probe.copy(),), options))) != 0)


def chance_of(count: int, size: int, probability: float) -> float:
    """Return twice the probability that `size` independent trials end as far out as `count` on its side."""
    below = special.bdtr(count, size, probability)
    above = 1.0 if count == 0 else special.bdtrc(count - 1, size, probability)
    return float(min(1.0, 2 * min(below, above)))
