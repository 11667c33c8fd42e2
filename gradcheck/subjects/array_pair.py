"""A pair of NumPy functions, values and vector-Jacobian products, as the black-box checks see it."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

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
from gradcheck.subjects.function import CallFailed
from gradcheck.subjects.nested import (
    Arguments,
    Constant,
    Slot,
    Template,
    arguments,
    parts_of,
    put_together,
    slots,
    taken_apart,
)

# These compute otherwise than plain arrays do: * is a matrix product, masked elements are left out.
_OTHERS = ("matrix", "MaskedArray", "recarray", "chararray")


def is_array(item: Any) -> bool:
    """Whether an argument is an array; numbers of Python are options."""
    return isinstance(item, np.ndarray | np.generic)


def numpy_function(
    f: Callable[..., Any], vjp: Any, inputs: Sequence[Any], keywords: Mapping[str, Any]
) -> tuple[ArrayFunction, Arguments]:
    """Return a pair of NumPy functions as the checks see it, and its arguments taken apart.

    `vjp(inputs, cotangent)` returns one gradient per positional input, in a structure like that of the input;
    arrays in keyword arguments are not differentiated, and are handed to `vjp` by their names if it takes
    them.
    """
    if vjp is None:
        raise UsageError("NumPy inputs: expected vjp=, a function (inputs, cotangent) -> gradients, got none")
    if not callable(vjp):
        kind = type(vjp).__name__
        raise UsageError(f"vjp: expected a function (inputs, cotangent) -> gradients, got {kind}")
    positional = _numbers_as_arrays(f, vjp, inputs, keywords)
    taken = arguments(positional, keywords, is_array)
    named = frozenset(place for template in taken.named.values() for place in slots(template))
    accepted = _accepted(vjp, keywords)
    found = []
    for k, (name, array) in enumerate(taken.arrays):
        place = place_of(name, _plain(name, array), active=k not in named)
        # What `vjp` does not see of the keywords, it holds by itself, and it cannot follow another one.
        kept = k in named and not accepted
        found.append(Place(place.name, place.array, place.active, fixed=kept))
    places = with_active(tuple(found), "np.random.randn(4, 3)")
    structures: dict[Any, tuple[Template, list[Any]]] = {}

    def call(arrays: Arrays) -> list[Any]:
        args, keys = taken.filled(arrays)
        template, read = _read(f(*args, **keys))
        structures[_key(arrays)] = template, [None if is_floating(r.dtype) else r for r in read]
        return [r for r in read if is_floating(r.dtype)]

    def pull(arrays: Arrays, cotangents: Sequence[Any]) -> Sequence[Any]:
        if _key(arrays) not in structures:
            call(tuple(np.array(a) for a in arrays))
        template, others = structures[_key(arrays)]
        rest = iter(cotangents)
        whole = put_together(template, [next(rest) if o is None else np.zeros(o.shape) for o in others])
        args, keys = taken.filled(arrays)
        grads = vjp(tuple(args), whole, **{name: keys[name] for name in accepted})
        flat = aligned(taken, grads, tuple(k for k, place in enumerate(places) if place.active))
        return tuple(flat)

    return ArrayFunction(call, pull, places, Met()), taken


def _key(arrays: Arrays) -> tuple[Any, ...]:
    return tuple((np.shape(a), np.asarray(a).dtype.name) for a in arrays)


def _plain(name: str, array: Any) -> NDArray[Any]:
    kind = next((k.__name__ for k in type(array).__mro__ if k.__name__ in _OTHERS), None)
    if kind is not None:
        raise UsageError(
            f"{name} is a numpy.{kind}, which computes otherwise than an array; pass np.asarray of it"
        )
    return np.array(array, subok=False)


def _numbers_as_arrays(f: Any, vjp: Any, inputs: Sequence[Any], keywords: Mapping[str, Any]) -> list[Any]:
    """Return the inputs, numbers of Python as arrays where the pull-back has a gradient for them."""
    made = list(inputs)
    numbers = [k for k, item in enumerate(inputs) if type(item) is float]
    if numbers:
        try:
            args = [np.array(item) if is_array(item) else item for item in inputs]
            template, read = _read(f(*args, **keywords))
            grads = vjp(tuple(args), put_together(template, [np.ones(r.shape, r.dtype) for r in read]))
        except Exception:
            return made
        if isinstance(grads, tuple | list) and len(grads) == len(inputs):
            for k in numbers:
                made[k] = made[k] if grads[k] is None else np.asarray(made[k])
    return made


def _accepted(vjp: Callable[..., Any], keywords: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the names of keyword arguments that the pull-back takes."""
    try:
        parameters = inspect.signature(vjp).parameters
    except (TypeError, ValueError):
        return ()
    if any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters.values()):
        return tuple(keywords)
    return tuple(name for name in keywords if name in list(parameters)[2:])


def _read(result: Any) -> tuple[Template, list[NDArray[Any]]]:
    """Return a result taken apart: every number or array of it is read."""
    found: list[tuple[str, Any]] = []
    template = taken_apart(result, "output", _is_number, found)
    arrays = [np.asarray(value) for _, value in found]
    if not any(is_floating(a.dtype) for a in arrays):
        kinds = ", ".join(str(a.dtype) for a in arrays) or type(result).__name__
        raise UsageError(
            f"expected a function that returns at least one floating-point array, got {kinds}; "
            "nothing can be differentiated"
        )
    return template, arrays


def _is_number(item: Any) -> bool:
    return is_array(item) or isinstance(item, int | float | complex)


class _Misfit(Exception):
    """A structure that is not that of the inputs."""


def aligned(taken: Arguments, grads: Any, active: tuple[int, ...]) -> list[Any]:
    """Return the gradient, or None, of each active array from what a pull-back returned.

    Gradients come in a structure like that of the inputs: one per positional input, or one per input that
    holds arrays; a single input needs no tuple around it. A flat tuple with one gradient per array is taken
    as well. `CallFailed` says where the structure differs.
    """
    everything = list(taken.positional)
    holding = [template for template in everything if list(slots(template))]
    tried: list[tuple[list[Template], Any]] = []
    if isinstance(grads, tuple | list):
        tried += [(chosen, grads) for chosen in (everything, holding) if len(chosen) == len(grads)]
        flat = [Slot(k) for k in active]
        if len(grads) == len(flat) and all(g is None or is_array(g) or _is_number(g) for g in grads):
            tried.append((list(flat), grads))
    if len(holding) == 1:
        tried.append((holding, (grads,)))
    misfit = ""
    for templates, given in tried:
        found: dict[int, Any] = {}
        try:
            for template, part in zip(templates, given, strict=True):
                _align(template, part, found, "")
        except _Misfit as error:
            misfit = misfit or str(error)
            continue
        return [found.get(k) for k in active]
    got = f"{len(grads)}" if isinstance(grads, tuple | list) else type(grads).__name__
    raise CallFailed(
        f"vjp: {misfit}" if misfit else
        f"vjp: expected {len(holding)} gradients, one per input, got {got}; "
        "return a tuple in the order of the inputs"
    )  # fmt: skip


def _align(template: Template, part: Any, found: dict[int, Any], path: str) -> None:
    if isinstance(template, Constant):
        return
    if isinstance(template, Slot):
        if part is not None and not _is_number(part):
            raise _Misfit(f"the gradient{path} is a {type(part).__name__}, not an array")
        found[template.place] = part
        return
    if part is None:
        return
    wanted = template.opened.parts
    opened = parts_of(part)
    if opened is None:
        raise _Misfit(
            f"the gradient{path} is a {type(part).__name__}, where the input is a "
            f"{type(template.container).__name__} of arrays"
        )
    given = dict(opened.parts)
    missing = [suffix for (suffix, _), child in zip(wanted, template.children, strict=True)
               if suffix not in given and any(True for _ in slots(child))]  # fmt: skip
    unknown = [suffix for suffix in given if suffix not in dict(wanted)]
    if missing or unknown:
        more = f"has {', '.join(unknown)}, which the input has not"
        said = f"lacks {', '.join(missing)}" if missing else more
        raise _Misfit(f"the gradient{path} of a {type(template.container).__name__} {said}")
    for (suffix, _), child in zip(wanted, template.children, strict=True):
        _align(child, given.get(suffix), found, path + suffix)
