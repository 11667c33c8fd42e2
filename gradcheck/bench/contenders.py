"""The call behind every lane: made, tried once, its memory counted; or the reason why there is none."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from gradcheck.bench import memory
from gradcheck.bench.document import (
    BACKWARD,
    COMPILED,
    FOREACH,
    FUSED,
    JIT,
    LOOP,
    NUMPY,
    SCIPY,
    TORCH,
    Lane,
    Task,
)
from gradcheck.bench.plan import CLIPPED
from gradcheck.bench.problems import Problem
from gradcheck.bench.timing import Timed
from gradcheck.errors import GradcheckError
from gradcheck.formats import FLOAT32
from gradcheck.records import Array
from gradcheck.subjects import jax_bench, torch_bench

Call = Callable[[], Any]
_FORMS = {LOOP: "loop", FOREACH: "foreach", FUSED: "fused"}
_LONGEST = 300


class CannotRun(GradcheckError):
    """A lane that has no call here; the message is the reason that the report gives."""


@dataclass(frozen=True)
class Yours:
    """A user's function beside the others: where it comes from, and what arrays it takes."""

    address: str
    function: Callable[..., Any]
    framework: str = "torch"


@dataclass(frozen=True)
class Prepared:
    """A call that has run once. `outputs` is what it returned, empty where it changes its arguments."""

    lane: Lane
    timed: Timed
    peak: int
    peak_by: str
    setup: float
    outputs: tuple[Array | None, ...] = ()


def prepare(lane: Lane, task: Task, given: Problem, yours: Yours | None) -> Prepared:
    """Return the call of a lane; `CannotRun` with the reason where there is none."""
    begun = time.perf_counter()
    try:
        made = _made(lane, task, given, yours)
    except CannotRun:
        raise
    except Exception as error:
        # What a library raises for what it does not do is its answer, whatever the type.
        said = next((line.strip() for line in str(error).splitlines() if line.strip()), "no message")
        raise CannotRun(f"{type(error).__name__}: {said[:_LONGEST]}") from error
    setup = time.perf_counter() - begun if lane.implementation in (COMPILED, JIT) else 0.0
    return Prepared(lane, made.timed, made.peak, made.peak_by, setup, made.outputs)


def _made(lane: Lane, task: Task, given: Problem, yours: Yours | None) -> Prepared:
    name = lane.implementation
    if name == NUMPY:
        return _of_numpy(lane, _text(given), True)
    if name == SCIPY:
        return _of_numpy(lane, _scipy(given), True)
    if name == JIT:
        return _jax(lane, given, None)
    if name in _FORMS:
        return _of_torch(lane, _in_place(lane, given))
    if name in (TORCH, COMPILED):
        _require(torch_bench.absence(lane.device) or torch_bench.missing(given.formula))
        function = torch_bench.function_of(given.formula, given.options)
        return _torch(lane, given, torch_bench.compiled(function) if name == COMPILED else function)
    if yours is None:
        raise CannotRun("no function was given")
    return _yours(lane, task, given, yours)


def _require(reason: str) -> None:
    if reason:
        raise CannotRun(reason)


def _of_numpy(lane: Lane, call: Call, single: bool) -> Prepared:
    value = call()
    outputs = value if isinstance(value, tuple) else (value,)
    arrays = tuple(None if part is None else np.asarray(part) for part in outputs)
    return Prepared(lane, Timed(call, single=single), memory.traced(call), memory.BY_TRACE, 0.0, arrays)


def _text(given: Problem) -> Call:
    """Return the reference's text: the value, or the gradients from inputs and cotangent."""
    formula, complete = given.formula, given.complete
    derivative, vjp, inputs = formula.derivative, formula.vjp, given.inputs
    if given.cotangent is None:
        arrays, text = inputs, formula.value
    elif derivative is not None:
        arrays, text = (*inputs, given.cotangent), lambda x, c, **options: c * derivative(x, **options)
    elif vjp is not None:
        arrays, text = (*inputs, given.cotangent), lambda *a, **options: tuple(vjp(a[:-1], a[-1], **options))
    else:
        raise CannotRun(f"{formula.name} has no derivative")
    if given.format.bits > 16:
        return lambda: text(*arrays, **complete)
    from gradcheck.arithmetic.plain import evaluate

    return lambda: evaluate(text, given.format, *arrays, **complete)


def _scipy(given: Problem) -> Call:
    from scipy import special

    from gradcheck.subjects.implementation import plain_options
    from gradcheck.subjects.scipy import CALLS, ScipySubject

    formula = given.formula
    _require(ScipySubject().reason(formula, given.format, "value"))
    call = CALLS[formula.name]
    names = {
        "np": np,
        "special": special,
        **plain_options(formula, {**given.options, **call.fixed}, call.fixed),
    }
    function = eval(f"lambda {', '.join(formula.inputs)}: {call.text}", names)
    return lambda: function(*given.inputs)


def _in_place(lane: Lane, given: Problem) -> Call:
    _require(torch_bench.absence(lane.device))
    formula, form = given.formula, _FORMS[lane.implementation]
    if formula.name in CLIPPED:
        flat = np.concatenate([array.ravel() for array in given.inputs])
        return torch_bench.clip(formula, form, flat, given.options, lane.tensors)
    _require(torch_bench.step_missing(formula, form))
    weight, gradient = given.inputs[:2]
    return torch_bench.step(formula, form, weight, gradient, given.options, lane.tensors)


def _torch(lane: Lane, given: Problem, function: Callable[..., Any]) -> Prepared:
    tensors = torch_bench.tensors(given.inputs, lane.device)
    if given.cotangent is None:
        return _of_torch(lane, torch_bench.forward(function, tensors))
    (along,) = torch_bench.tensors((given.cotangent,), lane.device)
    return _by_input(
        given, _of_torch(lane, torch_bench.backward(function, tensors, given.formula.differentiated, along))
    )


def _of_torch(lane: Lane, call: Call) -> Prepared:
    on_cpu = lane.device == "cpu"
    if on_cpu:
        torch_bench.set_threads(lane.threads)
    value = call()
    # The second call compiles nothing and makes no state: its memory is that of every later one.
    peak = torch_bench.allocated(call) if on_cpu else torch_bench.allocated_on_device(call)
    outputs = () if lane.implementation in _FORMS else torch_bench.result(value)
    if on_cpu:
        timed = Timed(call, lambda: torch_bench.set_threads(lane.threads), single=lane.threads == 1)
    else:
        timed = Timed(call, measure=lambda loops: torch_bench.device_seconds(call, loops))
    return Prepared(lane, timed, peak, memory.BY_ALLOCATOR, 0.0, outputs)


def _jax(lane: Lane, given: Problem, function: Callable[..., Any] | None) -> Prepared:
    _require(jax_bench.absence())
    if function is None:
        _require(jax_bench.missing(given.formula))
        function = jax_bench.function_of(given.formula, given.options)
    call, peak = jax_bench.jitted(function, given.inputs, given.formula.differentiated, given.cotangent)
    outputs = jax_bench.result(call())
    made = Prepared(lane, Timed(call, single=False), peak, memory.BY_COMPILER, 0.0, outputs)
    return made if given.cotangent is None else _by_input(given, made)


def _by_input(given: Problem, made: Prepared) -> Prepared:
    """Return gradients as a reference gives them: one per input, None for what is not differentiated."""
    found = iter(made.outputs)
    places = given.formula.differentiated
    outputs = tuple(next(found, None) if k in places else None for k in range(len(given.inputs)))
    return replace(made, outputs=outputs)


def _yours(lane: Lane, task: Task, given: Problem, yours: Yours) -> Prepared:
    if yours.framework == "jax":
        return _jax(lane, given, yours.function)
    if yours.framework == "torch":
        _require(torch_bench.absence())
        return _torch(lane, given, yours.function)
    if task.direction == BACKWARD:
        raise CannotRun("a NumPy function has no gradient; give one of --framework torch or jax")
    return _of_numpy(lane, lambda: yours.function(*given.inputs), False)


def disagreement(found: Prepared, reference: Prepared) -> str:
    """Return how a user's result differs from the reference's in shape or plainly in value; empty if not.

    This is no verdict: it keeps a time from standing beside that of another formula.
    """
    for mine, theirs in zip(found.outputs, reference.outputs, strict=False):
        if mine is None or theirs is None:
            continue
        if mine.shape != theirs.shape:
            return f"it returns an array of shape {mine.shape}, the formula one of {theirs.shape}"
        with np.errstate(all="ignore"):
            a, b = (np.asarray(part, dtype=np.float64) for part in (mine, theirs))
            scale = float(np.max(np.abs(b[np.isfinite(b)]), initial=0.0))
            off = float(np.max(np.abs(a - b)[np.isfinite(b)], initial=0.0))
        if not off <= math.sqrt(FLOAT32.roundoff) * scale and mine.dtype.itemsize > 2:
            return f"its result is off by {off:.2g}, where the formula's largest is {scale:.2g}"
    return ""
