"""A text written down: the NumPy calls that it makes on given arrays, as a program of its own.

The texts of this package call each other, share helpers and hold exact constants. A reproduction has to
run without all that, so the text is run once and every call is noted, constants rounded as they were.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.lib.mixins import NDArrayOperatorsMixin
from scipy import special

from gradcheck.arithmetic.exact import Exact
from gradcheck.formats import Format, to_hex
from gradcheck.records import Array
from gradcheck.subjects.snippet import NUMPY_SHOW, numpy_array, scalar

_INFIX = {np.add: "+", np.subtract: "-", np.multiply: "*", np.true_divide: "/", np.matmul: "@"}
_STORE = "store"


class _Program:
    """The lines noted so far, and the format that every result is stored in."""

    def __init__(self, fmt: Format) -> None:
        self.format = fmt
        self.lines: list[str] = []
        self.compute = np.dtype(np.float32) if fmt.bits == 16 else fmt.dtype

    def note(self, source: str, value: Any) -> _Noted:
        """Give `value`, which `source` computes, a name of its own."""
        name = f"t{len(self.lines) + 1}"
        stored = self.format.bits == 16 and np.asarray(value).dtype.kind not in "biu"
        self.lines.append(f"{name} = {_STORE}({source})" if stored else f"{name} = {source}")
        return _Noted(self, name, self.store(value) if stored else value)

    def store(self, value: Any) -> Array:
        """Round to the format, and hold it in the type that computes."""
        return np.asarray(value).astype(self.format.dtype).astype(self.compute)

    def value(self, operand: Any) -> Any:
        """Return what NumPy is to compute with."""
        if isinstance(operand, _Noted):
            return operand.data
        if isinstance(operand, Exact):
            return self.compute.type(operand.nearest(self.format.dtype))
        return [self.value(part) for part in operand] if isinstance(operand, list) else operand

    def source(self, operand: Any) -> str:
        """Return how the program writes an operand."""
        if isinstance(operand, _Noted):
            return operand.name
        if isinstance(operand, Exact | np.floating):
            return f'np.{self.compute.name}(float.fromhex("{to_hex(float(self.value(operand)))}"))'
        if isinstance(operand, np.ndarray):
            return f"np.array({operand.tolist()}, dtype=np.{operand.dtype.name})"
        if isinstance(operand, list | tuple):
            parts = ", ".join(self.source(part) for part in operand)
            return f"[{parts}]" if isinstance(operand, list) else f"({parts},)"
        return scalar(operand)


class _Noted(NDArrayOperatorsMixin):
    """An array that notes what is done with it."""

    def __init__(self, program: _Program, name: str, data: Any) -> None:
        self.program, self.name, self.data = program, name, data

    @property
    def shape(self) -> tuple[int, ...]:
        return np.shape(self.data)

    @property
    def ndim(self) -> int:
        return np.ndim(self.data)

    def __bool__(self) -> bool:
        # A text may look at its indices before it computes; the program that is noted has looked already.
        return bool(self.data)

    @property
    def T(self) -> _Noted:
        return self.program.note(f"{self.name}.T", self.data.T)

    def __getitem__(self, index: Any) -> _Noted:
        taken = tuple(map(_data, index)) if isinstance(index, tuple) else _data(index)
        return self.program.note(f"{self.name}[{_subscript(index)}]", self.data[taken])

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **keywords: Any) -> _Noted:
        program = self.program
        value = getattr(ufunc, method)(*map(program.value, inputs), **keywords)
        operands = [program.source(operand) for operand in inputs]
        if ufunc in _INFIX and method == "__call__" and not keywords:
            return program.note(f" {_INFIX[ufunc]} ".join(operands), value)
        named = [f"{name}={program.source(given)}" for name, given in keywords.items()]
        call = _path(ufunc) + ("" if method == "__call__" else f".{method}")
        return program.note(f"{call}({', '.join(operands + named)})", value)

    def __array_function__(self, function: Any, types: Any, arguments: Any, keywords: Any) -> _Noted:
        program = self.program
        arguments = [list(part) if _sequence(part) else part for part in arguments]
        value = function(*map(program.value, arguments), **keywords)
        operands = [program.source(operand) for operand in arguments]
        named = [f"{name}={program.source(given)}" for name, given in keywords.items()]
        return program.note(f"{_path(function)}({', '.join(operands + named)})", value)


def _sequence(part: Any) -> bool:
    return isinstance(part, list | tuple) and any(isinstance(element, _Noted) for element in part)


def _path(function: Any) -> str:
    name = function.__name__
    if getattr(np, name, None) is function:
        return f"np.{name}"
    if getattr(special, name, None) is function:
        return f"special.{name}"
    return f"{function.__module__.replace('numpy', 'np', 1)}.{name}"


def _data(index: Any) -> Any:
    return index.data if isinstance(index, _Noted) else index


def _subscript(index: Any) -> str:
    if isinstance(index, _Noted):
        return index.name
    if isinstance(index, np.ndarray):
        return f"np.array({index.tolist()})"
    if isinstance(index, tuple):
        return ", ".join(map(_subscript, index))
    if isinstance(index, slice):
        ends = ["" if end is None else str(end) for end in (index.start, index.stop, index.step)]
        return ":".join(ends[:2] if index.step is None else ends)
    return "..." if index is Ellipsis else str(index)


def _input(noted: _Program, name: str, array: Array) -> _Noted:
    kept = np.asarray(array).dtype.kind in "iub"
    return _Noted(noted, name, np.asarray(array) if kept else np.asarray(array, noted.compute))


def program(
    text: Callable[..., Any], fmt: Format, arrays: Mapping[str, Array], options: Mapping[str, Any]
) -> str:
    """Return a program that computes `text(*arrays, **options)` in `fmt` and prints it as hex numbers."""
    noted = _Program(fmt)
    with np.errstate(all="ignore"):
        inputs = [_input(noted, name, array) for name, array in arrays.items()]
        result = text(*inputs, **options)
    shown = result if isinstance(result, tuple) else (result,)
    lines = ["import numpy as np", "from scipy import special", 'np.seterr(all="ignore")']
    if fmt.bits == 16:
        dtype = fmt.name if fmt.name == "bfloat16" else f"np.{fmt.name}"
        lines += ["from ml_dtypes import bfloat16"] if fmt.name == "bfloat16" else []
        lines += [
            f"def {_STORE}(t):  # computed in float32, stored in {fmt.name}",
            f"    return np.asarray(t).astype({dtype}).astype(np.float32)",
        ]
    for name, array in arrays.items():
        made = numpy_array(name, array)
        widened = fmt.bits == 16 and np.asarray(array).dtype.kind not in "iub"
        lines.append(f"{made}.astype(np.float32)" if widened else made)
    lines += noted.lines
    lines += [NUMPY_SHOW.format(name=noted.source(part)) for part in shown if part is not None]
    return "\n".join(lines)
