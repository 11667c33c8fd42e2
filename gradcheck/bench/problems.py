"""The arrays that a formula is timed on: shapes by size, numbers of the right kind, and the least traffic.

Rows are as wide as 2^(half the exponent of the size), up to 1024: 390 × 256 for 100,000 elements, 4096 × 1024
for four million.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from gradcheck.bench.document import BACKWARD
from gradcheck.cases import cotangents, inputs_of, smallest
from gradcheck.formats import Format
from gradcheck.formulas import FAMILIES
from gradcheck.records import Arrangement, Array, Formula

_SEED = 11
_WIDEST = 1024
_CHANNELS, _KERNEL = 8, 3


@dataclass(frozen=True)
class Problem:
    """One task with its arrays; `elements` counts those of the largest input."""

    formula: Formula
    format: Format
    inputs: tuple[Array, ...]
    options: Mapping[str, Any]
    cotangent: Array | None
    elements: int

    @property
    def complete(self) -> dict[str, Any]:
        """Every option, numbers made exact, as a text takes them."""
        return self.formula.complete(self.options)


def width(size: int) -> int:
    """Return how wide the rows of `size` elements are."""
    return int(min(_WIDEST, 2 ** (int(math.log2(max(size, 4))) // 2)))


def _rows(size: int) -> tuple[int, int]:
    return max(1, size // width(size)), width(size)


def _image(size: int, axes: int) -> tuple[int, ...]:
    side = 256 if axes == 1 else 16
    side = side if size >= _CHANNELS * side**axes else 4
    return (max(1, size // (_CHANNELS * side**axes)), _CHANNELS, *(side,) * axes)


def _normalised(size: int) -> tuple[int, int]:
    rows, columns = _rows(size)
    return (rows if columns < _WIDEST else min(rows, 4096)), columns


def _convolution(axes: int) -> Callable[[int], Arrangement]:
    weight = (_CHANNELS, _CHANNELS, *(_KERNEL,) * axes)
    return lambda size: Arrangement((_image(size, axes), weight, (_CHANNELS,)))


def _with_channels(count: int, image: bool = False, **options: Any) -> Callable[[int], Arrangement]:
    def arranged(size: int) -> Arrangement:
        shape = _image(size, 2) if image else _normalised(size)
        return Arrangement((shape, *((shape[1],) for _ in range(count))), options)

    return arranged


def _of_indices(size: int) -> Arrangement:
    rows, classes = _rows(size)
    return Arrangement(((rows, classes), (rows,), (classes,)), classes=classes)


def _network(size: int) -> Arrangement:
    rows, columns = _rows(size)
    return Arrangement(((rows, columns), (rows, 8), (16, columns), (8, 16)))


def _thirds(size: int) -> Arrangement:
    return Arrangement(((size - 2 * (size // 3),), (size // 3,), (size // 3,)))


_SHAPES: dict[str, Callable[[int], Arrangement]] = {
    "prelu": lambda size: Arrangement((_rows(size), (width(size),))),
    "preactivation": lambda size: Arrangement((_rows(size), (width(size),), ())),
    "neuron": lambda size: Arrangement((_rows(size), (width(size),), ())),
    "dense": lambda size: Arrangement((_rows(size), (width(size), width(size)), (width(size),))),
    "conv1d": _convolution(1),
    "conv2d": _convolution(2),
    "max_pool1d": lambda size: Arrangement((_image(size, 1),)),
    "avg_pool1d": lambda size: Arrangement((_image(size, 1),)),
    "max_pool2d": lambda size: Arrangement((_image(size, 2),)),
    "avg_pool2d": lambda size: Arrangement((_image(size, 2),)),
    "batch_norm": _with_channels(2),
    "layer_norm": _with_channels(2),
    "rms_norm": _with_channels(1),
    "group_norm": _with_channels(2, image=True, groups=2),
    "instance_norm": _with_channels(2, image=True),
    "batch_norm_eval": _with_channels(4),
    "batch_norm_running": _with_channels(2),
    "clip_by_global_norm": _thirds,
    "kronecker_penalty": lambda size: Arrangement((_rows(size),)),
    "gradient_norm_penalty": _network,
    "softmax": lambda size: Arrangement((_rows(size),)),
    "log_softmax": lambda size: Arrangement((_rows(size),)),
    "logsumexp": lambda size: Arrangement((_rows(size),)),
    "cross_entropy": _of_indices,
    "nll_loss": _of_indices,
    "cross_entropy_probabilities": lambda size: Arrangement((_rows(size), _rows(size), (width(size),))),
    "binary_cross_entropy_with_logits": lambda size: Arrangement((*(_rows(size),) * 3, (width(size),))),
    "nadam": lambda size: Arrangement((*((size,),) * 4, ())),
}
_SCHEDULES = frozenset(formula.name for formula in FAMILIES["schedules"])
# What an optimizer does not touch with its default options, and what is one number.
_UNUSED: dict[str, tuple[str, ...]] = {
    "sgd": ("buffer",),
    "rmsprop": ("mean", "buffer"),
    "adam": ("largest",),
    "adamw": ("largest",),
    "nadam": ("product",),
}


def arrangement(formula: Formula, size: int) -> Arrangement:
    """Return the shapes of every input for about `size` elements."""
    if formula.name in _SHAPES:
        return _SHAPES[formula.name](size)
    if any("N" in axes for axes in formula.axes) or formula.name == "adaptive_clip":
        return Arrangement(tuple(_rows(size) for _ in formula.inputs))
    return Arrangement(tuple((size,) for _ in formula.inputs))


def problem(formula: Formula, fmt: Format, size: int, direction: str) -> Problem:
    """Return the arrays for about `size` elements, with options at their defaults.

    A schedule is timed on one rate, as it is used. Backward needs the formula's value once, for the shape of
    the cotangent.
    """
    if formula.name in _SCHEDULES:
        case = smallest(formula, fmt)
        return Problem(formula, fmt, case.inputs, case.options, None, case.inputs[0].size)
    shapes = arrangement(formula, size)
    options = {option.name: option.default for option in formula.options} | dict(shapes.options)
    # Every target counts: to be timed is the full work.
    drawn = {name: value for name, value in options.items() if name != "ignore_index"}
    inputs = inputs_of(replace(formula, fit=None), fmt, "plain", _SEED, shapes, drawn)
    made = Problem(formula, fmt, inputs, options, None, max(array.size for array in inputs))
    if direction != BACKWARD:
        return made
    value = np.asarray(_value(made))
    return replace(made, cotangent=cotangents(_SEED, value.shape, fmt))


def _value(made: Problem) -> Any:
    from gradcheck.arithmetic.plain import evaluate

    return evaluate(made.formula.value, made.format, *made.inputs, **made.complete)


def traffic(made: Problem, outputs: Sequence[Array | None]) -> int:
    """Return the least bytes that have to move: every input in use read once, every result written once.

    Backward, the results are the gradients, and the cotangent is read as well.
    """
    unused = _UNUSED.get(made.formula.name, ())
    read = [
        array.nbytes
        for name, array in zip(made.formula.inputs, made.inputs, strict=True)
        if name not in unused
    ]
    if made.cotangent is not None:
        names: Sequence[str] = made.formula.inputs
        read.append(made.cotangent.nbytes)
    else:
        names = made.formula.outputs
    named = zip(names, outputs, strict=False)
    written = [array.nbytes for name, array in named if array is not None and name not in unused]
    return sum(read) + sum(written)
