"""Liars about arrays: lanes, sizes, strides, shapes, formats, aliasing, mutation, use of the cotangent."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from gradcheck.formats import Format
from gradcheck.records import Array
from gradcheck.subjects.implementation import Implementation
from tests.honest import honest, wide
from tests.lying import ALL, F32, NARROW, SIZES, Liar

Change = Callable[..., Any]


def around(
    formula: str,
    name: str,
    cause: str,
    change: Change,
    order: str = "forward",
    where: str = "layout",
    formats: tuple[str, ...] = ALL,
    sizes: tuple[int, ...] = SIZES,
    expected: str = "wrong",
) -> Liar:
    """Return the honest implementation with its function f replaced by `change(f, *its arguments)`."""

    def implement(fmt: Format) -> Implementation:
        straight = honest(formula, fmt)
        inner = getattr(straight, order)
        return replace(straight, **{order: lambda *arguments: change(inner, *arguments)})

    return Liar(f"{formula}-{name}", formula, cause, expected, implement, where, formats, sizes)


def spoiled(choose: Callable[[int], Any], factor: float = 0.5) -> Change:
    """Return the change that scales the elements `choose(n)` of the flat result (or first gradient)."""

    def change(inner: Change, *arguments: Any) -> Any:
        result = inner(*arguments)
        first = result[0] if isinstance(result, tuple) else result
        flat = wide(first).reshape(-1)
        with np.errstate(all="ignore"):
            flat[choose(flat.size)] *= factor
            bad = flat.reshape(first.shape).astype(first.dtype)
        return (bad, *result[1:]) if isinstance(result, tuple) else bad

    return change


def _tail(n: int) -> slice:
    return slice(n - n % 8, n)


def _if(wrong: Callable[[int], bool]) -> Callable[[int], slice]:
    return lambda n: slice(0, n if wrong(n) else 0)


LANES = (
    around(
        "tanh",
        "last-element",
        "the last element is halved",
        spoiled(lambda n: slice(n - 1, n)),
        where="value",
    ),
    around(
        "gelu",
        "first-element",
        "the first element is doubled",
        spoiled(lambda n: slice(0, 1), 2.0),
        where="value",
    ),
    around(
        "silu",
        "tail-lanes",
        "the last n % 8 elements are halved",
        spoiled(_tail),
        where="value",
        sizes=(1, 10),
    ),
    around(
        "mish",
        "tail-lanes-of-slope",
        "the last n % 8 elements of the gradient are doubled",
        spoiled(_tail, 2.0),
        "vjp",
        "derivative",
        sizes=(1, 10),
    ),
    around(
        "softplus",
        "last-of-slope",
        "the last element of the gradient has the wrong sign",
        spoiled(lambda n: slice(n - 1, n), -1.0),
        "vjp",
        "derivative",
    ),
    around(
        "sigmoid",
        "blocks",
        "every 64th element is halved",
        spoiled(lambda n: slice(63, None, 64)),
        where="value",
        sizes=(1000,),
    ),
    around(
        "elu",
        "size-1-only",
        "wrong for one element alone",
        spoiled(_if(lambda n: n == 1)),
        where="layout",
        sizes=(1,),
    ),
    around(
        "relu",
        "size-65-and-up",
        "wrong from 65 elements on",
        spoiled(_if(lambda n: n >= 65)),
        where="layout",
        sizes=(1000,),
    ),
    around(
        "hardswish",
        "odd-sizes",
        "wrong for an odd number of elements",
        spoiled(_if(lambda n: n % 2 == 1)),
        where="layout",
        sizes=(1, 7, 65),
    ),
    around(
        "selu",
        "second-tail-lanes",
        "the last n % 8 elements of the second derivative are doubled",
        spoiled(_tail, 2.0),
        "second",
        "second",
        sizes=(1, 10),
    ),
)


def _ravel_base(inner: Change, inputs: tuple[Array, ...], options: Any) -> Any:
    """Read the memory from its start, as if every array were contiguous."""
    x = inputs[0]
    base = x
    while isinstance(base.base, np.ndarray):
        base = base.base
    if x.size == 0 or base.dtype != x.dtype or x.flags.c_contiguous:
        return inner(inputs, options)
    start = np.resize(base.reshape(-1, order="A"), x.size)
    return inner((start.reshape(x.shape),), options)


def _ignores_offset(inner: Change, inputs: tuple[Array, ...], options: Any) -> Any:
    """Read from the start of the buffer, not from where the view begins."""
    x = inputs[0]
    base = x.base
    if (
        not isinstance(base, np.ndarray)
        or base.dtype != x.dtype
        or not x.flags.c_contiguous
        or base.size <= x.size
    ):
        return inner(inputs, options)
    return inner((base.reshape(-1)[: x.size].reshape(x.shape),), options)


def _transposes(inner: Change, inputs: tuple[Array, ...], options: Any) -> Any:
    """Answer in memory order where the array is not contiguous."""
    x = inputs[0]
    result = inner(inputs, options)
    return result if x.flags.c_contiguous else result.reshape(-1)[::-1].reshape(x.shape)


def _writes(inner: Change, inputs: tuple[Array, ...], options: Any) -> Any:
    result = inner(inputs, options)
    if inputs[0].flags.writeable:
        inputs[0][...] = result
    return result


def _vjp_writes(inner: Change, inputs: tuple[Array, ...], cotangent: Array, options: Any) -> Any:
    (gradient,) = inner(inputs, cotangent, options)
    if cotangent.flags.writeable:
        cotangent[...] = gradient
    return (gradient,)


def _alias(inner: Change, inputs: tuple[Array, ...], options: Any) -> Any:
    """Return the input itself where nothing changes."""
    result = inner(inputs, options)
    return inputs[0] if np.array_equal(wide(result), wide(inputs[0]), equal_nan=True) else result


def _always_alias(inner: Change, inputs: tuple[Array, ...], options: Any) -> Any:
    """Write the result over the input, when that is allowed, and return a view of it."""
    result = inner(inputs, options)
    if not inputs[0].flags.writeable:
        return result
    inputs[0][...] = result
    return inputs[0][...]


def _no_empty(inner: Change, inputs: tuple[Array, ...], options: Any) -> Any:
    if inputs[0].size == 0:
        raise ValueError("zero-size array to reduction operation maximum which has no identity")
    return inner(inputs, options)


def _read_only(inner: Change, inputs: tuple[Array, ...], options: Any) -> Any:
    """Use the input as scratch space, and so refuse read-only arrays."""
    inputs[0][...] = inputs[0]
    return inner(inputs, options)


def _at_least_1d(inner: Change, *arguments: Any) -> Any:
    result = inner(*arguments)
    return tuple(map(np.atleast_1d, result)) if isinstance(result, tuple) else np.atleast_1d(result)


def _recast(choose: Callable[[Array], Any]) -> Change:
    def change(inner: Change, *arguments: Any) -> Any:
        result = inner(*arguments)
        if isinstance(result, tuple):
            return tuple(gradient.astype(choose(gradient)) for gradient in result)
        return result.astype(choose(result))

    return change


def _flat(inner: Change, inputs: tuple[Array, ...], options: Any) -> Any:
    return inner(inputs, options)[None]


ARRAYS = (
    around(
        "tanh", "ignores-strides", "strided input is read as if contiguous", _ravel_base, sizes=(10, 1000)
    ),
    around("silu", "ignores-offset", "a view is read from the start of its buffer", _ignores_offset),
    around(
        "gelu", "reversed-when-strided", "strided input is answered in reverse", _transposes, sizes=(10, 1000)
    ),
    around("relu", "writes-input", "the input is overwritten", _writes),
    around("sigmoid", "vjp-writes-cotangent", "the cotangent is overwritten", _vjp_writes, "vjp"),
    around("hardtanh", "aliases-input", "the input itself comes back where nothing changes", _alias),
    around("elu", "in-place-view", "a view of the overwritten input comes back", _always_alias),
    around("softsign", "no-empty-array", "an empty array raises", _no_empty, sizes=(0,)),
    around("celu", "needs-writeable", "a read-only array raises", _read_only),
    around("tanh", "scalar-becomes-vector", "a 0-d array answers with shape (1,)", _at_least_1d, sizes=(1,)),
    around(
        "mish",
        "slope-scalar-becomes-vector",
        "the gradient of a 0-d array has shape (1,)",
        _at_least_1d,
        "vjp",
        sizes=(1,),
    ),
    around(
        "relu",
        "float32-becomes-float64",
        "float32 answers in float64",
        _recast(lambda a: np.float64),
        formats=(F32,),
    ),
    around(
        "gelu",
        "narrow-becomes-float32",
        "16-bit formats answer in float32",
        _recast(lambda a: np.float32),
        formats=NARROW,
    ),
    around(
        "hardsigmoid",
        "slope-becomes-float64",
        "the gradient of float32 comes in float64",
        _recast(lambda a: np.float64),
        "vjp",
        formats=(F32,),
    ),
    around("log_sigmoid", "extra-axis", "the result has an axis more", _flat),
)


def _with_cotangent(change: Callable[[Array], Array]) -> Change:
    def vjp(inner: Change, inputs: tuple[Array, ...], cotangent: Array, *rest: Any) -> Any:
        return inner(inputs, change(cotangent), *rest)

    return vjp


def _first_everywhere(cotangent: Array) -> Array:
    flat = cotangent.reshape(-1)
    return cotangent if flat.size == 0 else np.broadcast_to(flat[0], cotangent.shape)


def _ones(cotangent: Array) -> Array:
    return np.ones_like(cotangent)


def _zero_is_one(cotangent: Array) -> Array:
    return np.where(wide(cotangent) == 0, 1.0, wide(cotangent)).astype(cotangent.dtype)


def _averaged(inner: Change, inputs: tuple[Array, ...], cotangent: Array, options: Any) -> Any:
    (gradient,) = inner(inputs, cotangent, options)
    return ((wide(gradient) / max(gradient.size, 1)).astype(gradient.dtype),)


def _cotangent_memory(cotangent: Array) -> Array:
    """Read the cotangent in memory order, as if it were contiguous."""
    return cotangent if cotangent.flags.c_contiguous else cotangent.reshape(-1)[::-1].reshape(cotangent.shape)


def _squared(cotangent: Array) -> Array:
    return (wide(cotangent) * np.abs(wide(cotangent))).astype(cotangent.dtype)


def _clipped(cotangent: Array) -> Array:
    return np.clip(wide(cotangent), -1.0, 1.0).astype(cotangent.dtype)


COTANGENTS = (
    around(
        "tanh",
        "cotangent-sign",
        "the sign of the cotangent is ignored",
        _with_cotangent(np.abs),
        "vjp",
        "derivative",
    ),
    around(
        "relu",
        "cotangent-first",
        "the first cotangent is used everywhere",
        _with_cotangent(_first_everywhere),
        "vjp",
        "derivative",
        sizes=(10, 1000),
    ),
    around(
        "sigmoid", "cotangent-ones", "the cotangent is ignored", _with_cotangent(_ones), "vjp", "derivative"
    ),
    around(
        "gelu",
        "cotangent-zero",
        "a cotangent of 0 counts as 1",
        _with_cotangent(_zero_is_one),
        "vjp",
        "derivative",
    ),
    around(
        "softplus",
        "cotangent-averaged",
        "the gradient is divided by the number of elements",
        _averaged,
        "vjp",
        "derivative",
        sizes=(10, 1000),
    ),
    around(
        "leaky_relu",
        "cotangent-squared",
        "c |c| instead of c",
        _with_cotangent(_squared),
        "vjp",
        "derivative",
    ),
    around(
        "mish",
        "cotangent-clipped",
        "the cotangent is clipped to [-1, 1]",
        _with_cotangent(_clipped),
        "vjp",
        "derivative",
    ),
    around(
        "silu",
        "second-cotangent-ones",
        "the second derivative ignores the cotangent",
        _with_cotangent(_ones),
        "second",
        "second",
    ),
    around(
        "softsign",
        "second-ignores-direction",
        "the direction of the second derivative is ignored",
        lambda inner, inputs, c, directions, options: inner(
            inputs, c, tuple(map(_ones, directions)), options
        ),
        "second",
        "second",
    ),
)

LAYOUT_LIARS: tuple[Liar, ...] = (*LANES, *ARRAYS, *COTANGENTS)
