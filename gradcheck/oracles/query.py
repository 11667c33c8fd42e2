"""A question about a formula, and its texts evaluated for it in any arithmetic."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gradcheck.arithmetic.dual import Dual
from gradcheck.formats import Float64Array, Format
from gradcheck.records import DERIVATIVE, SECOND, VALUE, Formula, Standing


@dataclass(frozen=True)
class Query:
    """What is asked: a formula's value, gradient or second-order gradient at `inputs`.

    `inputs` are float64 arrays of numbers of `format`. For the derivative `cotangent` scales it (elementwise)
    or is the vector of the vector-Jacobian product; for the second order `directions`, one array per input,
    are the vector that the gradient is contracted with. `flush` allows subnormal numbers to become zero.
    """

    formula: Formula
    order: int
    format: Format
    inputs: tuple[Float64Array, ...]
    options: Mapping[str, Any]
    cotangent: Float64Array | None = None
    directions: tuple[Float64Array, ...] = ()
    flush: bool = False

    @property
    def factor(self) -> Float64Array | None:
        """What an elementwise derivative is multiplied by; directions are powers of two, so it is exact."""
        if self.cotangent is None or self.order == VALUE:
            return None
        return self.cotangent * self.directions[0] if self.order == SECOND else self.cotangent


def texts(formula: Formula, order: int) -> Iterator[tuple[str, Standing, Callable[..., Any]]]:
    """Yield (name, standing, text) of every listed way to compute `order` of the formula."""
    main = (formula.value, formula.derivative, formula.second)[order] if formula.elementwise else None
    if not formula.elementwise:
        main = formula.value if order == VALUE else formula.vjp
    if main is not None:
        yield "reference", Standing.STABLE, main
    # The second order of several inputs is the dual of a gradient's text, or a text of its own.
    wanted = (order,) if formula.elementwise or order < SECOND else (DERIVATIVE, SECOND)
    for variant in formula.variants:
        if variant.order in wanted:
            yield variant.name, variant.standing, variant.text


def apply(query: Query, text: Callable[..., Any], lift: Callable[[Float64Array], Any]) -> tuple[Any, ...]:
    """Evaluate one text of the query in the arithmetic that `lift` brings its arrays into."""
    options = query.formula.complete(query.options)
    # Integers are indices: every arithmetic takes them as they are.
    inputs = [array if array.dtype.kind in "iub" else lift(array) for array in query.inputs]
    cotangent = lift(query.cotangent) if query.cotangent is not None and query.order else None
    tangents = [lift(direction) for direction in query.directions]
    names = _parameters(text)
    if query.formula.elementwise and cotangent is not None and "cotangent" in names:
        # A text that multiplies by the cotangent early rounds and overflows elsewhere.
        along = {"direction": tangents[0]} if "direction" in names else {}
        return (_shaped(text(*inputs, cotangent=cotangent, **along, **options), query),)
    if query.formula.elementwise or query.order == VALUE:
        result = text(*inputs, **options)
        if isinstance(result, tuple):
            return result
        factor = query.factor
        return (_shaped(result, query) if factor is None else _shaped(result, query) * lift(factor),)
    places = query.formula.differentiated
    if query.order == DERIVATIVE:
        gradients = text(tuple(inputs), cotangent, **options)
        return tuple(gradients[place] for place in places)
    if "directions" in names:
        gradients = text(tuple(inputs), cotangent, tuple(tangents), **options)
        return tuple(gradients[place] for place in places)
    duals = tuple(
        Dual(value, tangent) if place in places else value
        for place, (value, tangent) in enumerate(zip(inputs, tangents, strict=True))
    )
    gradients = text(duals, cotangent, **options)
    return tuple(_spread_tangent(gradients[place], inputs[place]) for place in places)


@cache
def _parameters(text: Callable[..., Any]) -> frozenset[str]:
    return frozenset(inspect.signature(text).parameters)


def _tangent(gradient: Any) -> Any:
    if not isinstance(gradient, Dual):
        return 0 * gradient
    return 0 * gradient.value if gradient.tangent is None else gradient.tangent


def _spread_tangent(gradient: Any, like: Any) -> Any:
    tangent = _tangent(gradient)
    return tangent if tangent.shape == like.shape else np.broadcast_to(tangent, like.shape)


def _shaped(result: Any, query: Query) -> Any:
    """Spread a constant derivative over the shape of the input."""
    if query.formula.elementwise and result.shape != query.inputs[0].shape:
        return np.broadcast_to(result, query.inputs[0].shape)
    return result


def at_kink(query: Query) -> NDArray[np.bool_]:
    """Return where an element of the first input sits exactly on a kink of the formula."""
    kinks, touching = query.formula.kinks, query.formula.touching
    if touching is not None and query.order != VALUE:
        return np.asarray(touching(query.inputs, **query.formula.complete(query.options)), dtype=bool)
    if kinks is None or query.order == VALUE:
        return np.zeros(query.inputs[0].shape, dtype=bool)
    points = [float(point) for point in kinks(**query.formula.complete(query.options))]
    return np.asarray(np.isin(query.inputs[0], points))


def one_sided(query: Query, side: float, lift: Callable[[Float64Array], Any]) -> Any:
    """Return the one-sided derivative of the value text, of first or second order, times the factor."""
    x = lift(query.inputs[0])
    seed = lift(np.full(query.inputs[0].shape, side))
    options = query.formula.complete(query.options)
    if query.order == DERIVATIVE:
        slope = _tangent(query.formula.value(Dual(x, seed), **options)) * lift(np.asarray(side))
    else:
        outer = Dual(Dual(x, seed), Dual(seed, None))
        slope = _second_tangent(query.formula.value(outer, **options))
    slope = _shaped(slope, query)
    return slope if query.factor is None else slope * lift(query.factor)


def _second_tangent(result: Any) -> Any:
    """Return the tangent of the tangent; a result that lost one on the way is constant along it."""
    if isinstance(result, Dual) and result.tangent is not None:
        return _tangent(result.tangent)
    while isinstance(result, Dual):
        result = result.value
    return 0 * result


def nudged(query: Query, side: float) -> Query:
    """Move the first input off the kink by the least step, for formulas of several inputs."""
    x = query.inputs[0]
    with np.errstate(over="ignore"):
        moved = np.where(at_kink(query), np.nextafter(x, side * np.inf), x)
    return Query(
        query.formula,
        query.order,
        query.format,
        (moved, *query.inputs[1:]),
        query.options,
        query.cotangent,
        query.directions,
        query.flush,
    )


def subset(query: Query, where: NDArray[np.bool_]) -> Query:
    """Return the query about the elements that `where` marks."""

    def pick(array: Float64Array | None) -> Float64Array | None:
        return None if array is None else array[where]

    return Query(
        query.formula,
        query.order,
        query.format,
        tuple(array[where] for array in query.inputs),
        query.options,
        pick(query.cotangent),
        tuple(direction[where] for direction in query.directions),
        query.flush,
    )
