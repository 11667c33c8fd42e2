"""The door of every formula call: what is a float passes, what is not is refused by name.

A reference computes in the type that it is given. An array of ints would divide, round or overflow in a type
that the caller did not mean, so nothing is cast in silence: a value passes as it is, is converted without
changing a number and with a note, or is refused with a word on what to do.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import ml_dtypes
import numpy as np

from gradcheck.errors import UnsupportedType, UsageError

if TYPE_CHECKING:
    from gradcheck.records import Formula, Option

LIMIT = 10**9
"""The number of elements from which an array is refused: the estimate, not the machine, says no."""

# The catalogue's longest text, Mish, holds seven arrays of its input's size at a time, besides the input.
_ARRAYS_AT_ONCE = 8
_DEEPEST = 64  # NumPy's own limit on the number of axes
_NARROW = frozenset((np.dtype(np.float16), np.dtype(ml_dtypes.bfloat16)))
_ADMITTED = frozenset((np.dtype(np.float64), np.dtype(np.float32), *_NARROW))
_TAKES = "a formula takes float64, float32, float16 or bfloat16"


def admit(value: Any, name: str) -> Any:
    """Return `value` as a formula may compute with it; see `admit_with_notes`."""
    if type(value) is np.ndarray and value.dtype in _ADMITTED and value.size < LIMIT:
        return value
    return admit_with_notes(value, name)[0]


def admit_with_notes(value: Any, name: str) -> tuple[Any, tuple[str, ...]]:
    """Return the input called `name` as a formula may compute with it, and what was changed for that.

    Float arrays and numbers of another arithmetic pass as they are. Nested lists of floats become arrays,
    big-endian arrays native ones, subclasses plain arrays: each with a note, since a result then differs in
    kind, though in no number, from what came in. Raises `UnsupportedType` for any other type, `UsageError`
    for ragged lists and for `LIMIT` elements or more.
    """
    if isinstance(value, np.ndarray):
        return _array(value, name)
    if isinstance(value, np.generic):
        _check_type(value.dtype, f"{name} is of type {value.dtype}", name)
        return value, ()
    if isinstance(value, list | tuple):
        _check_size(_size_by_first(value), np.dtype(np.float64), name)
        _shape(value, name)
        array = np.asarray(value)
        return array, (f"{name}: a list was taken as an array of {array.dtype}",)
    if isinstance(value, float):
        # Beside a Python float an exact constant would stay exact, and the result would be no number.
        return np.float64(value), ()
    if getattr(type(value), "__array_ufunc__", None) is not None:
        return value, ()
    raise UnsupportedType(f"{name} is {_of_kind(value)}: {_TAKES}; {_advice_for(value, name)}")


def _array(value: Any, name: str) -> tuple[Any, tuple[str, ...]]:
    if isinstance(value, np.ma.MaskedArray):
        raise UnsupportedType(
            f"{name} is a masked array: a formula has no answer for a masked element; "
            f"pass {name}.filled(np.nan), or {name}.compressed() for the elements that are there"
        )
    notes: tuple[str, ...] = ()
    if type(value) is not np.ndarray:
        notes = (f"{name}: {type(value).__name__} was taken as the plain array that it holds",)
        value = value.view(np.ndarray)
    native = value.dtype.newbyteorder("=")
    _check_type(native, f"{name} is an array of {value.dtype}", name)
    _check_size(value.size, native, name)
    if value.dtype != native:
        notes += (f"{name}: {value.dtype.str} was converted to this machine's byte order",)
        value = value.astype(native)
    return value, notes


def _check_type(dtype: np.dtype[Any], found: str, name: str) -> None:
    if dtype in _ADMITTED:
        return
    if dtype.kind == "c":
        advice = f"pass {name}.real if the imaginary part is zero"
    elif dtype.kind == "f":
        advice = f"round it yourself with {name}.astype(np.float64)"
    elif dtype.kind in "OSUT":
        advice = f"say how it is to be read, for example np.array({name}, dtype=np.float64)"
    else:
        advice = f"convert it with np.asarray({name}, dtype=np.float64)"
    raise UnsupportedType(f"{found}: {_TAKES}; {advice}")


def _check_size(size: int, dtype: np.dtype[Any], name: str) -> None:
    """Refuse what will not fit. An expanded view holds few numbers, but every result of it holds all."""
    if size < LIMIT:
        return
    gibibytes = _ARRAYS_AT_ONCE * size * max(dtype.itemsize, 4) / 2**30
    raise UsageError(
        f"{name} has {size:,} elements: evaluating a formula on it takes about {gibibytes:,.0f} GiB; "
        f"pass it in parts of fewer than {LIMIT:,} elements"
    )


def _of_kind(value: Any) -> str:
    kind = type(value)
    module = "" if kind.__module__ == "builtins" else f"{kind.__module__}."
    shown = f" {value!r}" if isinstance(value, int) and abs(value) < 10**12 else ""
    return f"of type {module}{kind.__qualname__}" + (f" ({shown.strip()})" if shown else "")


def _advice_for(value: Any, name: str) -> str:
    if isinstance(value, bool | int):
        return f"write it as a float, as in {float(value) if abs(value) < 2**53 else 1.0!r}"
    if isinstance(value, str | bytes):
        return f"read it as a number with float({name})"
    if isinstance(value, complex):
        return f"pass {name}.real if the imaginary part is zero"
    return f"convert it to a NumPy array of one of them, for example np.asarray({name}, dtype=np.float64)"


def _size_by_first(value: Any) -> int:
    """Return the size that the first element of every level says, without a walk through all of them."""
    size = 1
    for _ in range(_DEEPEST):
        if not isinstance(value, list | tuple) or not value:
            break
        size, value = size * len(value), value[0]
    return size * (value.size if isinstance(value, np.ndarray) else 1)


def _shape(rows: Sequence[Any], name: str, depth: int = 1) -> tuple[int, ...]:
    """Return the shape of nested lists of floats; what keeps them from having one is named by its index."""
    if depth > _DEEPEST:
        raise UsageError(
            f"the lists are more than {_DEEPEST} deep at {name[:40]}…: no array has as many axes"
        )
    first: tuple[int, ...] = ()
    for index, row in enumerate(rows):
        shape = () if isinstance(row, float) else _shape_of_row(row, f"{name}[{index}]", depth)
        if index == 0:
            first = shape
        elif shape != first:
            raise UsageError(
                f"{name}[{index}] has {_length(shape)} where {name}[0] has {_length(first)}: "
                f"the rows of an array are of one length"
            )
    return (len(rows), *first)


def _shape_of_row(row: Any, where: str, depth: int) -> tuple[int, ...]:
    if isinstance(row, list | tuple):
        return _shape(row, where, depth + 1)
    if isinstance(row, np.ndarray | np.generic):
        _check_type(row.dtype, f"{where} is of type {row.dtype}", where)
        return tuple(row.shape)
    raise UnsupportedType(f"{where} is {_of_kind(row)}: {_TAKES}; {_advice_for(row, where)}")


def _length(shape: tuple[int, ...]) -> str:
    if len(shape) < 2:
        return f"length {shape[0]}" if shape else "a number"
    return f"shape {shape}"


def admit_call(
    formula: Formula, arguments: Sequence[Any], options: Mapping[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any], str | None]:
    """Return the inputs and the given options of a call by name, and the 16-bit format to compute in, if any.

    Arguments beyond the inputs are options, in the declared order.
    """
    count = len(formula.inputs)
    if len(arguments) < count or len(arguments) > count + len(formula.options):
        names = ", ".join([*formula.inputs, *(option.name for option in formula.options)])
        raise UsageError(f"{formula.name}({names}): got {len(arguments)} positional arguments")
    positional = {o.name: given for o, given in zip(formula.options, arguments[count:], strict=False)}
    for name in options:
        if name == "out":
            raise UsageError(f"{formula.name} takes no out=: a result never shares memory with an input")
        if name in positional:
            raise UsageError(f"{formula.name}: {name} is given twice, by position and by name")
    given = {**positional, **options}
    for option in formula.options:
        if option.name in given:
            _check_option(formula.name, option, given[option.name])
    inputs = tuple(
        _index(v, name) if formula.kind(place) == "index" else admit(v, name)
        for place, (v, name) in enumerate(zip(arguments, formula.inputs, strict=False))
    )
    if formula.axes and all(isinstance(value, np.ndarray | np.generic) for value in inputs):
        _check_axes(formula, inputs)
    real = [place for place in range(count) if formula.kind(place) != "index"]
    reals = [inputs[place] for place in real]
    return inputs, given, _narrow_format([formula.inputs[place] for place in real], reals)


def _index(value: Any, name: str) -> Any:
    """Return an index as an array of integers; nothing else counts or chooses."""
    array = np.asarray(value)
    if array.dtype.kind not in "iu":
        raise UnsupportedType(f"{name} is an index, expected an array of integers, got {array.dtype}")
    _check_size(array.size, array.dtype, name)
    return array


def _check_axes(formula: Formula, inputs: Sequence[Any]) -> None:
    """Refuse axes of one name that differ in length, which NumPy would broadcast where one of them is 1.

    Axes are named from the last one on; only the first input may have more of them than declared (a batch).
    """
    seen: dict[str, tuple[int, str]] = {}
    for place, (name, declared, value) in enumerate(zip(formula.inputs, formula.axes, inputs, strict=True)):
        shape = np.shape(value)
        if place and len(shape) > len(declared):
            raise UsageError(f"{formula.name}: {name} has shape {shape}, expected axes {declared}")
        for axis, length in zip(reversed(declared), reversed(shape), strict=False):
            known, owner = seen.setdefault(axis, (length, name))
            if length != known:
                raise UsageError(
                    f"{formula.name}: axis {axis} has length {length} in {name} and {known} in {owner}; "
                    f"nothing is broadcast to fit"
                )


def _check_option(formula: str, option: Option, value: Any) -> None:
    """Refuse an option that is NaN, out of its declared range, or none of its choices.

    Arrays and numbers of another arithmetic pass: a claim may be about any of them.
    """
    if option.choices:
        if value not in option.choices:
            raise UsageError(
                f"{formula}: {option.name}={value!r} is none of {', '.join(map(repr, option.choices))}"
            )
        return
    other = hasattr(type(value), "__array_ufunc__") and not isinstance(value, np.generic)
    if option.low is None or option.high is None or other:
        return
    expected = f"a number from {option.low:g} to {option.high:g}" + (" or inf" if option.infinite else "")
    if isinstance(value, bool) or not isinstance(value, int | float | np.floating):
        raise UnsupportedType(f"{formula}: {option.name} is {_of_kind(value)}, expected {expected}")
    if not option.low <= value <= option.high and not (option.infinite and value == math.inf):
        raise UsageError(f"{formula}: {option.name}={value!r}, expected {expected}")


def _narrow_format(names: Sequence[str], inputs: Sequence[Any]) -> str | None:
    """Return the 16-bit format of the inputs, None without one; a mixture with others is a `UsageError`.

    Beside a function of SciPy, NumPy widens 16-bit numbers without a word.
    """
    types = [v.dtype if isinstance(v, np.ndarray | np.generic) else None for v in inputs]
    if _NARROW.isdisjoint(types):
        return None
    narrow = next(dtype for dtype in types if dtype in _NARROW)
    assert narrow is not None
    for name, dtype in zip(names, types, strict=True):
        if dtype != narrow:
            shown = "of another arithmetic" if dtype is None else f"of {dtype}"
            raise UsageError(f"{name} is {shown} beside an input of {narrow}: give all inputs one type")
    return str(narrow.name)
