"""What a function on arrays can break though its Jacobian is right: layouts, cotangents, state."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gradcheck.subjects.array_function import ArrayFunction, _joined
from gradcheck.subjects.function import CallFailed, Point, Vector, raised_by
from gradcheck.subjects.probing import Found, signed


def _plain(function: ArrayFunction, point: Point, flat: Vector) -> tuple[Vector, list[Vector]]:
    value = function.values(tuple(x[None] for x in point))[0]
    grads = function.gradients(point, flat[None])
    return value, [np.zeros(x.size) if g is None else g[0] for g, x in zip(grads, point, strict=True)]


def cotangents(function: ArrayFunction, point: Point, seed: int) -> Found:
    """The pull-back is linear in its cotangent, leaves it alone and does not care how it lies in memory."""
    found = Found()
    names = [axes.name for axes in function.inputs]
    first, second = signed(seed, function.size), signed(seed + 1, function.size)
    _, base = _plain(function, point, first)
    _, other = _plain(function, point, second)

    def against(what: str, got: list[Vector], expected: list[Vector]) -> None:
        for name, one, two, a, b in zip(names, got, expected, base, other, strict=True):
            found.compare(f"gradient of {name} for {what}", one, two, np.abs(a) + np.abs(b))

    _, added = _plain(function, point, first + 2 * second)
    against("the sum of two cotangents is not the sum of the gradients", added,
            [a + 2 * b for a, b in zip(base, other, strict=True)])  # fmt: skip
    for power in (-30, 30):
        _, scaled = _plain(function, point, first * 2.0**power)
        against(
            f"a cotangent scaled by 2^{power} is not scaled alike", [g * 2.0**-power for g in scaled], base
        )
    _, none = _plain(function, point, 0 * first)
    against("a zero cotangent is not zero", none, [0 * g for g in base])
    for layout, lay in (("strided", strided), ("expanded", expanded), ("read-only", read_only)):
        flat = np.ones(function.size) if layout == "expanded" else first
        _, expected = _plain(function, point, flat)
        arrays = function.arrays(point)
        given = _laid(function._cotangent(arrays, flat), lay)
        before = _copied(given)
        try:
            grads = function.pull(arrays, given)
        except ValueError as error:
            if "read-only" in str(error):
                found.fault("the backward pass writes into the cotangent", "mutation")
            else:
                found.fault(f"a cotangent that is {layout}: {raised_by(error)}", "raised")
            continue
        except Exception as error:
            found.fault(f"a cotangent that is {layout}: {raised_by(error)}", "raised")
            continue
        if not _equal(given, before):
            found.fault("the backward pass writes into the cotangent", "mutation")
        got = [np.zeros(x.size) if g is None else _joined([g]) for g, x in zip(grads, point, strict=False)]
        against(f"a cotangent that is {layout} differs from that of a contiguous one", got, expected)
    return found


def layouts(function: ArrayFunction, point: Point, seed: int) -> Found:
    """The same numbers in other memory give the same outputs and gradients."""
    found = Found()
    flat = signed(seed, function.size)
    values, base = _plain(function, point, flat)
    for k, place in enumerate(function.active):
        for layout, lay in (("transposed", transposed), ("strided", strided), ("read-only", read_only)):
            arrays = list(function.arrays(point))
            name = function.inputs[k].name
            arrays[place] = lay(arrays[place])
            try:
                got = _joined(function.results(tuple(arrays)))
                grads = function.pull(tuple(arrays), function._cotangent(tuple(arrays), flat))
            except Exception as error:
                cause = error.__cause__ if isinstance(error, CallFailed) and error.__cause__ else error
                if "read-only" in str(cause):
                    found.fault(f"the call writes into {name}", "mutation")
                else:
                    found.fault(f"{name} {layout}: {raised_by(cause)}", "raised")
                continue
            found.compare(f"values with {name} {layout}", got, values)
            for axes, g, two in zip(function.inputs, grads, base, strict=False):
                one = np.zeros(two.size) if g is None else _joined([g])
                found.compare(f"gradient of {axes.name} with {name} {layout}", one, two)
    return found


def state(function: ArrayFunction, point: Point, other: Point, seed: int) -> Found:
    """Calls leave inputs and earlier outputs alone, and repeat themselves."""
    found = Found()
    flat = signed(seed, function.size)
    arrays = function.arrays(point)
    before = [np.array(a) for a in arrays]
    kept = function.results(arrays)
    first = _joined(kept)
    _unchanged(function, arrays, before, found, "the call")
    for _ in range(3):
        found.compare("the same call again", _joined(function.results(function.arrays(point))), first)
    function.results(function.arrays(other))
    if not np.array_equal(_joined(kept), first, equal_nan=True):
        found.fault("an output changes when the function is called again: its memory is reused", "reused")
    found.compare("the same call after another", _joined(function.results(function.arrays(point))), first)
    _, once = _plain(function, point, flat)
    _plain(function, other, flat)
    _, twice = _plain(function, point, flat)
    for axes, one, two in zip(function.inputs, once, twice, strict=True):
        found.compare(f"gradient of {axes.name} after another call", two, one)
    arrays = function.arrays(point)
    before = [np.array(a) for a in arrays]
    grads = function.pull(arrays, function._cotangent(arrays, flat))
    _unchanged(function, arrays, before, found, "the backward pass")
    held = [None if g is None else np.array(g) for g in grads]
    function.pull(function.arrays(other), function._cotangent(function.arrays(other), flat))
    for g, old in zip(grads, held, strict=True):
        if old is not None and not np.array_equal(np.asarray(g), old, equal_nan=True):
            found.fault("a gradient changes when the next one is computed: its memory is reused", "reused")
    return found


def _unchanged(
    function: ArrayFunction, arrays: Any, before: list[NDArray[Any]], found: Found, who: str
) -> None:
    for leaf, x, old in zip(function.leaves, arrays, before, strict=True):
        if not np.array_equal(np.asarray(x), old, equal_nan=old.dtype.kind == "f"):
            found.fault(f"{who} writes into {leaf.name}", "mutation")


def strided(x: NDArray[Any]) -> NDArray[Any]:
    """Return the array in memory with gaps."""
    if not x.ndim:
        return x
    buffer = np.full((*x.shape[:-1], 2 * x.shape[-1]), 7, dtype=x.dtype)
    buffer[..., ::2] = x
    return buffer[..., ::2]


def transposed(x: NDArray[Any]) -> NDArray[Any]:
    """Return the array in column-major order."""
    return np.asfortranarray(x)


def read_only(x: NDArray[Any]) -> NDArray[Any]:
    """Return a copy that refuses to be written to."""
    copy = np.array(x)
    copy.flags.writeable = False
    return copy


def expanded(x: NDArray[Any]) -> NDArray[Any]:
    """Return one number, seen as often as the array has elements."""
    return np.broadcast_to(np.asarray(1.0, dtype=x.dtype), x.shape)


def _laid(item: Any, lay: Callable[[NDArray[Any]], NDArray[Any]]) -> Any:
    if isinstance(item, dict):
        return {k: _laid(v, lay) for k, v in item.items()}
    if isinstance(item, list | tuple):
        return type(item)(_laid(v, lay) for v in item)
    return lay(np.asarray(item))


def _copied(item: Any) -> Any:
    return _laid(item, np.array)


def _equal(left: Any, right: Any) -> bool:
    if isinstance(left, dict):
        return all(_equal(left[k], right[k]) for k in left)
    if isinstance(left, list | tuple):
        return all(_equal(a, b) for a, b in zip(left, right, strict=True))
    return bool(np.array_equal(left, right, equal_nan=True))


PROBES: dict[str, Callable[[ArrayFunction, Point, int], Found]] = {
    "cotangents": cotangents,
    "layouts": layouts,
}
