"""What a function on arrays can break though its Jacobian is right: layouts, cotangents, state."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gradcheck.subjects.array_function import ArrayFunction, joined
from gradcheck.subjects.function import CallFailed, Point, Vector, raised_by
from gradcheck.subjects.probing import Found, signed
from gradcheck.subjects.process import surroundings


def same_numbers(function: ArrayFunction) -> float:
    """Return to how much two ways to the same numbers agree, in the format of the function."""
    return max(1e-9, 2.0**8 * function.roundoff)


def gradients_along(function: ArrayFunction, point: Point, flat: Vector) -> list[Vector]:
    """Return the gradients of a cotangent, those that are missing as zeros."""
    return _flat(function, function.gradient_arrays(function.arrays(point), function.parts(flat)))


def _flat(function: ArrayFunction, grads: Sequence[Any]) -> list[Vector]:
    return [
        np.zeros(axes.size) if g is None else joined([g])
        for axes, g in zip(function.inputs, grads, strict=True)
    ]


def linear(
    function: ArrayFunction, point: Point, seed: int, found: Found, pulled: Callable[[Vector], list[Vector]]
) -> None:
    """Sums, multiples and zero of a cotangent give those of its gradient; `pulled(flat)` is a pull-back."""
    names = [axes.name for axes in function.inputs]
    first, second = signed(seed, function.size), signed(seed + 1, function.size)
    base, other = pulled(first), pulled(second)

    def against(what: str, got: list[Vector], expected: list[Vector]) -> None:
        for name, one, two, a, b in zip(names, got, expected, base, other, strict=True):
            found.compare(f"gradient of {name} for {what}", one, two, np.abs(a) + np.abs(b))

    against("the sum of two cotangents is not the sum of the gradients", pulled(first + 2 * second),
            [a + 2 * b for a, b in zip(base, other, strict=True)])  # fmt: skip
    for power in (-30, 30):
        scaled = [g * 2.0**-power for g in pulled(first * 2.0**power)]
        against(f"a cotangent scaled by 2^{power} is not scaled alike", scaled, base)
    against("a zero cotangent is not zero", pulled(0 * first), [0 * g for g in base])


def cotangents(function: ArrayFunction, point: Point, seed: int) -> Found:
    """The pull-back is linear in its cotangent, leaves it alone and does not care how it lies in memory."""
    found = Found(same=same_numbers(function))
    first = signed(seed, function.size)
    linear(function, point, seed, found, lambda flat: gradients_along(function, point, flat))
    scale = [np.abs(g) for g in gradients_along(function, point, first)]
    for layout, lay in (("strided", strided), ("expanded", expanded), ("read-only", read_only)):
        flat = np.ones(function.size) if layout == "expanded" else first
        expected = gradients_along(function, point, flat)
        given = [lay(part) for part in function.parts(flat)]
        before = [np.array(part) for part in given]
        try:
            grads = function.gradient_arrays(function.arrays(point), given)
        except Exception as error:
            cause = error.__cause__ if isinstance(error, CallFailed) and error.__cause__ else error
            if "read-only" in str(cause):
                found.fault("the backward pass writes into the cotangent", "mutation")
            else:
                found.fault(f"a cotangent that is {layout}: {raised_by(cause)}", "raised")
            continue
        if any(not np.array_equal(a, b, equal_nan=True) for a, b in zip(given, before, strict=True)):
            found.fault("the backward pass writes into the cotangent", "mutation")
        for axes, got, two, size in zip(
            function.inputs, _flat(function, grads), expected, scale, strict=True
        ):
            what = f"a cotangent that is {layout} differs from that of a contiguous one"
            found.compare(f"gradient of {axes.name} for {what}", got, two, size)
    return found


def layouts(function: ArrayFunction, point: Point, seed: int) -> Found:
    """The same numbers in other memory give the same outputs and gradients."""
    found = Found(same=same_numbers(function))
    flat = signed(seed, function.size)
    values, base = joined(function.results(function.arrays(point))), gradients_along(function, point, flat)
    for k, place in enumerate(function.active):
        for layout, lay in (("transposed", transposed), ("strided", strided), ("read-only", read_only)):
            arrays = list(function.arrays(point))
            name = function.inputs[k].name
            arrays[place] = lay(arrays[place])
            try:
                got = joined(function.results(tuple(arrays)))
                grads = function.gradient_arrays(tuple(arrays), function.parts(flat))
            except Exception as error:
                cause = error.__cause__ if isinstance(error, CallFailed) and error.__cause__ else error
                if "read-only" in str(cause):
                    found.fault(f"the call writes into {name}", "mutation")
                else:
                    found.fault(f"{name} {layout}: {raised_by(cause)}", "raised")
                continue
            found.compare(f"values with {name} {layout}", got, values)
            for axes, one, two in zip(function.inputs, _flat(function, grads), base, strict=True):
                found.compare(f"gradient of {axes.name} with {name} {layout}", one, two)
    return found


def state(
    function: ArrayFunction, point: Point, other: Point, seed: int, around: dict[str, Any] | None = None
) -> Found:
    """Calls leave inputs, earlier outputs, the process and the cotangent alone, and repeat themselves.

    `around` is what `surroundings` was before the function was called for the first time.
    """
    found = Found(same=same_numbers(function))
    arrays = function.arrays(point)
    before = [np.array(a) for a in arrays]
    kept = function.results(arrays)
    _unchanged(function, arrays, before, found, "the call")
    first = joined(kept)
    function.results(function.arrays(other))
    if not np.array_equal(joined(kept), first, equal_nan=True):
        found.fault("an output changes when the function is called again: its memory is reused", "reused")
    for leaf, x in zip(function.leaves, arrays, strict=True):
        if any(np.shares_memory(output, x) for output in kept if isinstance(x, np.ndarray)):
            found.note(f"an output shares the memory of {leaf.name}")
    repeated_calls(function, point, other, seed, around or surroundings(), surroundings, found)
    flat = signed(seed, function.size)
    arrays = function.arrays(point)
    before = [np.array(a) for a in arrays]
    grads = function.pull(arrays, function.parts(flat))
    _unchanged(function, arrays, before, found, "the backward pass")
    held = [None if g is None else np.array(g) for g in grads]
    function.pull(function.arrays(other), function.parts(flat))
    for g, old in zip(grads, held, strict=True):
        if old is not None and not np.array_equal(np.asarray(g), old, equal_nan=True):
            found.fault("a gradient changes when the next one is computed: its memory is reused", "reused")
    return found


def repeated_calls(
    function: ArrayFunction,
    point: Point,
    other: Point,
    seed: int,
    around: dict[str, Any],
    look: Callable[[], dict[str, Any]],
    found: Found,
) -> None:
    """The same call gives the same answer, before and after another one, and leaves the process alone."""

    def value(at: Point) -> Vector:
        return joined(function.results(function.arrays(at)))

    flat = signed(seed, function.size)
    first, once = value(point), gradients_along(function, point, flat)
    _left(around, look(), lambda: value(point), found)
    for _ in range(3):
        found.compare("the same call again", value(point), first)
    value(other)
    found.compare("the same call after another", value(point), first)
    gradients_along(function, other, flat)
    for axes, one, two in zip(function.inputs, once, gradients_along(function, point, flat), strict=True):
        found.compare(f"gradient of {axes.name} after another call", two, one)


def _left(before: dict[str, Any], now: dict[str, Any], value: Callable[[], Vector], found: Found) -> None:
    """Compare the state of the process with what it was; drawing random numbers is no fault of its own."""
    changed = [name for name, kept in now.items() if name in before and kept != before[name]]
    drawn = [name for name in changed if name.startswith("the random state")]
    if drawn and not np.array_equal(value(), value(), equal_nan=True):
        changed = [name for name in changed if name not in drawn]
    for name in changed:
        found.fault(f"the call changes {name} of the process", "state")


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


PROBES: dict[str, Callable[[ArrayFunction, Point, int], Found]] = {
    "cotangents": cotangents,
    "layouts": layouts,
}
