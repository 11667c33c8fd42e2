"""A user's JAX function as the black-box checks see it; JAX's own transformations give the gradients.

JAX makes float32 of float64 unless it is told not to. Wherever numbers are float64 here, 64 bits are allowed
for the duration of that call by a context of JAX; in narrower formats the caller's own setting holds, as in
the caller's program. No setting is changed.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from gradcheck.errors import UsageError
from gradcheck.subjects.array_function import (
    ArrayFunction,
    Arrays,
    Met,
    Place,
    is_floating,
    place_of,
    with_active,
)
from gradcheck.subjects.function import CallFailed, raised_by
from gradcheck.subjects.nested import Arguments, Opened, arguments, leaves, parts_of

_NARROW = (
    "JAX computes in float32 unless jax_enable_x64 is set: float64 was allowed for each call, and the "
    "caller's setting was kept for the narrower formats"
)
_ROWS, _FEW_ROWS, _LARGE = 32, 4, 2_000
# Every length is a compilation; the compiler's own loops need no test of each width.
_LENGTHS = (1, 2, 3, 8, 17)


def array_of(array: Any) -> Any:
    """Return an array as JAX has it, of its own type."""
    import jax

    with jax.enable_x64(True):
        return jax.numpy.asarray(array)


def is_array(item: Any) -> bool:
    """Whether an argument is an array of numbers; keys of random numbers are not."""
    import jax

    if isinstance(item, jax.Array):
        return not jax.dtypes.issubdtype(item.dtype, jax.dtypes.extended)
    return isinstance(item, np.ndarray | np.generic)


def opened(item: Any) -> Opened | None:
    """Return the parts of a container of Python, or of a node that was registered with JAX."""
    import jax

    found = parts_of(item)
    if found is not None or item is None or is_array(item):
        return found
    inside, tree = jax.tree_util.tree_flatten_with_path(item, is_leaf=lambda other: other is not item)
    if jax.tree_util.treedef_is_leaf(tree):
        return None
    names = [jax.tree_util.keystr(path) or f"[{k}]" for k, (path, _) in enumerate(inside)]
    parts = tuple((name, value) for name, (_, value) in zip(names, inside, strict=True))
    return Opened(parts, lambda values: jax.tree.unflatten(tree, values), lambda texts: "...")


@contextlib.contextmanager
def settings_as_before() -> Iterator[None]:
    """Leave JAX's settings as they were."""
    import jax

    before = dict(jax.config.values)
    try:
        yield
    finally:
        for name, value in jax.config.values.items():
            if name in before and value is not before[name] and value != before[name]:
                jax.config.update(name, before[name])


def arrays_in(item: Any) -> list[Any]:
    """Return the arrays in an argument, those in nodes that were registered with JAX among them."""
    return [leaf for leaf in leaves(item, opened) if is_array(leaf)]


def wide(arrays: Sequence[Any]) -> Any:
    """Return the context in which arrays keep their format."""
    import jax

    if any(a.dtype == np.float64 for a in arrays):
        return jax.enable_x64(True)
    return contextlib.nullcontext()


def floating_outputs(result: Any) -> list[Any]:
    """Return the floating outputs of a result, however nested; `UsageError` if there is none."""
    import jax

    kinds, found = [], []
    for item in leaves(result, opened):
        if item is None or isinstance(item, str):
            continue
        try:
            dtype = jax.numpy.result_type(item)
        except TypeError:
            kinds.append(type(item).__name__)
            continue
        kinds.append(str(dtype))
        if jax.numpy.issubdtype(dtype, jax.numpy.floating):
            found.append(item)
    if not found:
        raise UsageError(
            "expected a function that returns at least one floating-point array, got "
            f"{', '.join(kinds) or type(result).__name__}; nothing can be differentiated"
        )
    return found


def jax_function(
    f: Callable[..., Any], inputs: Sequence[Any], keywords: Mapping[str, Any]
) -> tuple[ArrayFunction, Arguments]:
    """Return a JAX function as the checks see it, and its arguments taken apart."""
    import jax

    taken = arguments(inputs, keywords, is_array, opened)
    places = with_active(tuple(_place(name, array) for name, array in taken.arrays), "jnp.ones((4, 3))")
    met = Met()
    if not jax.config.jax_enable_x64:
        met.notes.add(_NARROW)

    def plain(arrays: Arrays) -> list[Any]:
        args, named = taken.filled([jax.numpy.asarray(a) for a in arrays])
        return floating_outputs(f(*args, **named))

    active = [k for k, place in enumerate(places) if place.active]
    call, pull, batch, pull_batch = differentiated(plain, active)

    def gradient(cotangents: Sequence[Any]) -> tuple[Any, Any, Any, Any]:
        def first(arrays: Arrays) -> list[Any]:
            given = [jax.numpy.asarray(c) for c in cotangents]
            return list(jax.vjp(moving(plain, arrays, active), *(arrays[k] for k in active))[1](given))

        return differentiated(first, active)

    def shapes(arrays: Arrays) -> list[Any]:
        with wide(arrays):
            return list(jax.eval_shape(plain, tuple(map(jax.numpy.asarray, arrays))))

    function = ArrayFunction(
        call, pull, places, met, batch=batch, pull_batch=pull_batch, gradient=gradient, shapes=shapes,
        lengths=_LENGTHS,
    )  # fmt: skip
    return _at_home(function, places), taken


def _place(name: str, array: Any) -> Place:
    return place_of(name, np.asarray(array))


def _at_home(function: ArrayFunction, places: Sequence[Place]) -> ArrayFunction:
    """Return the function as it is, or in the example's own format where it takes no float64."""
    try:
        _ = function.size
    except CallFailed as error:
        kinds = {place.array.dtype.name for place in places if place.active}
        narrow = function.of_format(kinds.pop()) if len(kinds) == 1 else function
        if narrow.format == "float64":
            return function
        try:
            _ = narrow.size
        except CallFailed:
            return function
        said = raised_by(error.__cause__ or error)
        function.met.notes.add(f"the function takes no float64 ({said}): it was checked in {narrow.format}")
        return narrow
    return function


def moving(plain: Callable[[Arrays], list[Any]], arrays: Sequence[Any], active: Sequence[int]) -> Any:
    """Return the function of the active arrays alone, the others held."""

    def of_active(*given: Any) -> list[Any]:
        placed = list(arrays)
        for k, x in zip(active, given, strict=True):
            placed[k] = x
        return plain(tuple(placed))

    return of_active


def differentiated(plain: Callable[[Arrays], list[Any]], active: Sequence[int]) -> tuple[Any, Any, Any, Any]:
    """Return call, pull, batch and pull_batch of a function from arrays to its floating outputs."""
    import jax

    def call(arrays: Arrays) -> list[Any]:
        with wide(arrays):
            return plain(tuple(map(jax.numpy.asarray, arrays)))

    def pull(arrays: Arrays, cotangents: Sequence[Any]) -> Sequence[Any]:
        with wide(arrays):
            given = tuple(map(jax.numpy.asarray, arrays))
            _, back = jax.vjp(moving(plain, given, active), *(given[k] for k in active))
            return tuple(back([jax.numpy.asarray(c) for c in cotangents]))

    def rows(arrays: Arrays, stacked: Arrays) -> list[Any]:
        return list(_mapped(lambda each: moving(plain, arrays, active)(*each), stacked))

    def pulled(arrays: Arrays, cotangents: Sequence[Any]) -> tuple[Any, ...]:
        _, back = jax.vjp(moving(plain, arrays, active), *(arrays[k] for k in active))
        return tuple(_mapped(back, cotangents))

    rows_program, pulled_program = jax.jit(rows), jax.jit(pulled)

    def batch(arrays: Arrays, stacked: Arrays) -> list[Any]:
        with wide(arrays):
            given = tuple(map(jax.numpy.asarray, arrays))
            return _in_chunks(lambda part: rows_program(given, tuple(part)), stacked)

    def pull_batch(arrays: Arrays, cotangents: Sequence[Any]) -> Sequence[Any]:
        with wide(arrays):
            given = tuple(map(jax.numpy.asarray, arrays))
            return tuple(_in_chunks(lambda part: pulled_program(given, list(part)), cotangents))

    return call, pull, batch, pull_batch


def _mapped(call: Callable[[Any], Any], stacked: Any) -> Any:
    """Return the results of a call for each row; a loop takes what has no rule for batches."""
    import jax

    try:
        return jax.vmap(call)(stacked)
    except NotImplementedError:
        return jax.lax.map(call, stacked)


def _in_chunks(program: Callable[[Sequence[Any]], Sequence[Any]], stacked: Sequence[Any]) -> list[Any]:
    """Return the results of a program for stacked arrays, so many rows at a time.

    JAX compiles a program for every shape that it meets, so that the last rows are repeated instead.
    """
    count, per = len(stacked[0]), _FEW_ROWS if sum(x[0].size for x in stacked) > _LARGE else _ROWS
    parts = []
    for start in range(0, count, per):
        part = [x[start : start + per] for x in stacked]
        missing = per - len(part[0])
        if missing:
            part = [np.concatenate([x, np.repeat(x[-1:], missing, axis=0)]) for x in part]
        parts.append([np.asarray(o) for o in program(part)])
    return [np.concatenate(column)[:count] for column in zip(*parts, strict=True)]


__all__ = ["array_of", "differentiated", "floating_outputs", "is_floating", "jax_function", "moving", "wide"]
