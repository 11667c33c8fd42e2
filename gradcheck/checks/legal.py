"""What all legal evaluations of a formula can answer, rung by rung, also to what they answered before."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import replace
from inspect import signature
from typing import Any

from gradcheck.arithmetic.rounded import Model, Rounded, as_interval, hull, rounded
from gradcheck.checks.reference import key_of
from gradcheck.formats import FLOAT64, Format
from gradcheck.oracles.bounds import Bounds, bounds
from gradcheck.oracles.query import Query, texts
from gradcheck.records import DERIVATIVE, VALUE, Formula, Options, Standing

STABLE, ACCEPTED = "stable", "accepted"
# Beyond stable (0), accepted (1) and unstable texts (2) there is nothing.
RUNGS = 3
_KEPT = 400
_MEMORY: OrderedDict[Any, tuple[Bounds, ...]] = OrderedDict()


def judged_rungs(formula: Formula) -> Iterator[tuple[int, str]]:
    """Yield the height and the name of every rung: the stable texts, the accepted ones, each unstable one."""
    yield 0, STABLE
    yield 1, ACCEPTED
    unstable = [v for v in formula.variants if v.standing is Standing.UNSTABLE and v.order <= DERIVATIVE]
    for name in dict.fromkeys(variant.name for variant in unstable):
        yield 2, name


def legal_answers(fmt: Format, rung: str, *, flush: bool = False) -> Callable[..., tuple[Any, ...]]:
    """Return the function that gives the interval of each output over the texts of a rung.

    What comes back is rounded to the format; whoever computes on with it does so in float64. `flush` allows
    subnormal numbers to become zero.
    """
    model = Model(fmt, flush=flush)

    def answer(
        formula: Formula, order: int, inputs: Any, cotangent: Any, options: Options
    ) -> tuple[Any, ...]:
        if any(isinstance(array, Rounded) for array in inputs):
            parts = _of_intervals(formula, order, inputs, cotangent, options, model, rung)
        else:
            # At ties a law holds for every choice, so for that of the texts, which no other one widens.
            own = replace(formula, extremes=None)
            query = Query(own, order, fmt, tuple(inputs), options, cotangent, flush=flush)
            parts = tuple(_picked(bound, rung) for bound in _known(query))
        return tuple(Rounded(part.lo, part.hi, Model(FLOAT64), part.nan) for part in parts)

    return answer


def _known(query: Query) -> tuple[Bounds, ...]:
    """Return the bounds of a query; laws of one case ask the same things, and so do several subjects."""
    key = key_of(query)
    if key not in _MEMORY:
        _MEMORY[key] = bounds(query, Model(query.format, query.flush))
        if len(_MEMORY) > _KEPT:
            _MEMORY.popitem(last=False)
    return _MEMORY[key]


def _picked(bound: Bounds, rung: str) -> Rounded:
    if rung == STABLE:
        return bound.stable
    own = [interval for name, interval in bound.unstable if name == rung]
    return hull(bound.accepted, *own)


def _of_intervals(
    formula: Formula, order: int, inputs: Any, cotangent: Any, options: Options, model: Model, rung: str
) -> tuple[Rounded, ...]:
    """Evaluate the texts on earlier answers, which are intervals themselves."""

    def lift(array: Any) -> Any:
        if isinstance(array, Rounded):
            return Rounded(array.lo, array.hi, model, array.nan)
        return array if array.dtype.kind in "iub" else rounded(array, model)

    wanted = [Standing.STABLE] if rung == STABLE else [Standing.STABLE, Standing.ACCEPTED]
    lifted = tuple(lift(array) for array in inputs)
    factor = None if cotangent is None else lift(cotangent)
    found = [
        evaluated(formula, order, text, lifted, factor, options)
        for name, standing, text in texts(formula, order)
        if standing in wanted or name == rung
    ]
    return tuple(
        hull(*(as_interval(part, model) for part in parts)).stored() for parts in zip(*found, strict=True)
    )


def evaluated(
    formula: Formula, order: int, text: Callable[..., Any], inputs: Any, cotangent: Any, options: Options
) -> tuple[Any, ...]:
    """Return the outputs of one text on inputs of any arithmetic."""
    complete = formula.complete(options)
    if order == VALUE:
        result = text(*inputs, **complete)
        return result if isinstance(result, tuple) else (result,)
    if formula.elementwise:
        if "cotangent" in signature(text).parameters:
            return (text(*inputs, cotangent=cotangent, **complete),)
        return (cotangent * text(*inputs, **complete),)
    gradients = text(inputs, cotangent, **complete)
    return tuple(gradients[place] for place in formula.differentiated)
