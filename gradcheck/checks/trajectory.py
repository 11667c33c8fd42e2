"""An optimizer over many steps, every one of them judged from the optimizer's own state before it.

A bound for a whole run grows until it says nothing: after a thousand steps it is some hundred times too wide.
One step has the same bound at any time.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from gradcheck.checks.examine import examine
from gradcheck.formats import Format, widen
from gradcheck.records import VALUE, Array, Case, Evidence, Formula
from gradcheck.subjects.implementation import Implementation
from gradcheck.subjects.optimizer_run import Run, begin

STEPS = 6
LATE = 10**6


def trajectory(implementation: Implementation, formula: Formula, case: Case) -> Evidence:
    """Take steps with drawn gradients from the first state, then more from the last one at a million."""
    options = {**case.options, **implementation.options}
    if "centered" in options:
        options["centered"] = bool(case.seed % 2)
    rng = np.random.default_rng([case.seed, 6])
    weight = case.inputs[0]
    draw = gradients(rng, weight.shape, case.format)
    run = begin(implementation, formula, (weight,), (options,))
    total = Evidence()
    for _ in range(STEPS):
        total = total.merge(judged_step(implementation, formula, case, run, 0, options, next(draw)))
    if "t" in options:
        states = (run.state(0),)
        late = begin(implementation, formula, (run.weight(0),), (options,), states, LATE)
        for _ in range(2):
            total = total.merge(judged_step(implementation, formula, case, late, 0, options, next(draw)))
    return replace(
        total, cases=1, vacuous_cases=int(total.compared == 0), families={case.family: total.compared}
    )


def gradients(rng: np.random.Generator, shape: tuple[int, ...], fmt: Format) -> Any:
    """Yield gradients of one kind: noise, the same ones again, changing signs, sparse, growing or tiny."""
    kind = rng.choice(["noise", "constant", "signs", "sparse", "growing", "tiny"])
    scale = 10.0 ** rng.uniform(-2, 1)
    base = rng.normal(size=shape)
    step = 0
    while True:
        step += 1
        fresh = rng.normal(size=shape)
        values = {
            "noise": fresh,
            "constant": base,
            "signs": base * (-1) ** step,
            "sparse": np.where(rng.random(shape) < 0.6, 0.0, fresh),
            "growing": fresh * 2.0 ** (step / 2),
            "tiny": fresh * 1e-6,
        }[str(kind)]
        yield fmt.round(values * scale).astype(fmt.dtype)


def judged_step(
    implementation: Implementation,
    formula: Formula,
    case: Case,
    run: Run,
    place: int,
    options: Mapping[str, Any],
    gradient: Array,
    rest: Callable[[Array], tuple[Array | None, ...]] | None = None,
) -> Evidence:
    """Let the run take a step and judge one weight's outcome, from the weight and state that it had before.

    `rest(gradient)` gives the gradients of all weights. A step that has no value, such as 0/0 with an epsilon
    of zero, is taken and not compared.
    """
    given = before(formula, run, place, options)
    handed = (lambda g: (g,)) if rest is None else rest
    inputs = (run.weight(place), gradient, *run.state(place))

    def forward(arrays: tuple[Array, ...], _: Any) -> tuple[Array, ...]:
        run.step(handed(arrays[1]))
        return outcome(run, place, case.format)

    step = replace(case, inputs=inputs, options=given, detail=f"step {given.get('t', run.taken(place) + 1)}")
    if undefined(formula, step):
        forward(inputs, given)
        return Evidence(notes=("steps without a value were not compared",))
    stepping = replace(implementation, forward=forward)
    return examine(stepping, formula, step, VALUE)


def before(formula: Formula, run: Run, place: int, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options of the step that comes next."""
    counted = any(option.name == "t" for option in formula.options)
    return {**options, **({"t": run.taken(place) + 1} if counted else {})}


def undefined(formula: Formula, case: Case) -> bool:
    """Whether the step has no value in the real numbers somewhere, such as 0/0."""
    with np.errstate(all="ignore"):
        outputs = formula.value(*(widen(a) for a in case.inputs), **formula.complete(case.options))
    return not all(bool(np.isfinite(np.asarray(part)).all()) for part in outputs)


def outcome(run: Run, place: int, fmt: Format) -> tuple[Array, ...]:
    """Return weight and state after a step, in the format that they are judged in."""
    return (run.weight(place), *(array.astype(fmt.dtype) for array in run.state(place)))


def same(left: tuple[Array, ...], right: tuple[Array, ...]) -> bool:
    """Whether arrays hold the same numbers bit for bit, in whatever type."""
    return all(widen(a).tobytes() == widen(b).tobytes() for a, b in zip(left, right, strict=True))


__all__ = ["before", "gradients", "judged_step", "outcome", "same", "trajectory", "undefined"]
