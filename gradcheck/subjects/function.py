"""What the checks see of a user's function, whatever framework it is written in.

Everything is flat: an input is a vector of float64 numbers, all outputs together are one vector. A point is
a tuple of such vectors, one per differentiable input; a batch has one more axis in front.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float64]
Point = tuple[Vector, ...]
# Returns an array of a shape, with numbers that an input may have.
Draw = Callable[[tuple[int, ...], np.random.Generator], NDArray[Any]]


class CallFailed(Exception):
    """The user's function raised; the original is the cause."""


@dataclass
class Pace:
    """What is called between calls of a user's function; it may raise to end the work.

    Only a `BaseException` that is no `Exception` gets through.
    """

    tick: Callable[[], None] = lambda: None


@dataclass(frozen=True)
class Axes:
    """Name and shape of one differentiable input."""

    name: str
    shape: tuple[int, ...]

    @property
    def size(self) -> int:
        """The number of elements."""
        return math.prod(self.shape)


class Function(Protocol):
    """A function at fixed sizes, in one format.

    `values` and `gradients` take batches along the first axis and return batches. A gradient is None where
    the framework says that there is none. All may raise `CallFailed`.
    """

    @property
    def inputs(self) -> tuple[Axes, ...]:
        """The differentiable inputs."""
        ...

    @property
    def size(self) -> int:
        """How many numbers all outputs have together."""
        ...

    @property
    def output_shapes(self) -> tuple[tuple[int, ...], ...]:
        """The shapes of the outputs."""
        ...

    @property
    def roundoff(self) -> float:
        """The unit roundoff of the outputs' format."""
        ...

    def values(self, points: Point) -> Vector:
        """Return the outputs, (B, size), at a batch of points, (B, n) for each input."""
        ...

    def gradients(self, point: Point, cotangents: Vector) -> tuple[Vector | None, ...]:
        """Return, for each input, (B, n): the vector-Jacobian products of cotangents (B, size) at a point."""
        ...


@dataclass(frozen=True)
class Rows:
    """Some outputs of a function; see `Function`."""

    function: Function
    rows: NDArray[np.int64]

    @property
    def inputs(self) -> tuple[Axes, ...]:
        """The differentiable inputs."""
        return self.function.inputs

    @property
    def size(self) -> int:
        """How many outputs there are."""
        return len(self.rows)

    @property
    def output_shapes(self) -> tuple[tuple[int, ...], ...]:
        """One row of outputs."""
        return ((self.size,),)

    @property
    def roundoff(self) -> float:
        """The unit roundoff of the outputs' format."""
        return self.function.roundoff

    def values(self, points: Point) -> Vector:
        """Return these outputs at a batch of points."""
        return self.function.values(points)[:, self.rows]

    def gradients(self, point: Point, cotangents: Vector) -> tuple[Vector | None, ...]:
        """Return the vector-Jacobian products of cotangents of these outputs."""
        wide = np.zeros((len(cotangents), self.function.size))
        wide[:, self.rows] = cotangents
        return self.function.gradients(point, wide)


class Remembered:
    """A function that is not called twice with the same numbers, as long as the answers are few."""

    def __init__(self, function: Function, most: int = 4_000_000) -> None:
        self._function, self._left = function, most
        self._answers: dict[tuple[bytes, ...], Any] = {}

    @property
    def inputs(self) -> tuple[Axes, ...]:
        """The differentiable inputs."""
        return self._function.inputs

    @property
    def size(self) -> int:
        """How many numbers all outputs have together."""
        return self._function.size

    @property
    def output_shapes(self) -> tuple[tuple[int, ...], ...]:
        """The shapes of the outputs."""
        return self._function.output_shapes

    @property
    def roundoff(self) -> float:
        """The unit roundoff of the outputs' format."""
        return self._function.roundoff

    @property
    def point(self) -> Point | None:
        """The example, where the function has one."""
        return getattr(self._function, "point", None)

    def values(self, points: Point) -> Vector:
        """Return the outputs at a batch of points."""
        found: Vector = self._once(points, lambda: self._function.values(points))
        return found

    def gradients(self, point: Point, cotangents: Vector) -> tuple[Vector | None, ...]:
        """Return the vector-Jacobian products of a batch of cotangents at a point."""
        given = (*point, cotangents)
        found: tuple[Vector | None, ...]
        found = self._once(given, lambda: self._function.gradients(point, cotangents))
        return found

    def _once(self, given: Point, call: Callable[[], Any]) -> Any:
        key = tuple(np.ascontiguousarray(x).tobytes() for x in given)
        if key not in self._answers:
            found = call()
            parts = [x for x in found if x is not None] if isinstance(found, tuple) else [found]
            self._left -= sum(x.size for x in (*given, *parts))
            if self._left < 0:
                return found
            self._answers[key] = found
        return self._answers[key]


class Resizable(Function, Protocol):
    """A function whose examples can be replaced by others of other sizes.

    A leaf is a place in the arguments that holds an array, differentiated or not; `fixed` ones, a module's
    parameters, keep their shape.
    """

    @property
    def point(self) -> Point:
        """The example, flat."""
        ...

    @property
    def pace(self) -> Pace:
        """What watches over the time; one for all functions that are made of one."""
        ...

    @property
    def leaf_names(self) -> tuple[str, ...]:
        """The names of all arrays."""
        ...

    @property
    def leaf_shapes(self) -> tuple[tuple[int, ...], ...]:
        """The shapes of all arrays."""
        ...

    @property
    def fixed(self) -> tuple[bool, ...]:
        """Which arrays keep their shape."""
        ...

    @property
    def lengths(self) -> tuple[int, ...]:
        """The lengths that axes are tried with; empty for the usual ones."""
        ...

    def resized(self, shapes: tuple[tuple[int, ...], ...], rng: np.random.Generator) -> Resizable:
        """Return the function with arrays of these shapes; `CallFailed` if it does not accept them."""
        ...

    def of_format(self, name: str) -> Resizable:
        """Return the function with its inputs in another format."""
        ...

    def with_rest(self, change: Callable[[NDArray[Any]], NDArray[Any]]) -> Resizable:
        """Return the function with its undifferentiated floating inputs changed, as arrays of float64."""
        ...

    def with_other_integers(self, rng: np.random.Generator) -> Resizable | None:
        """Return the function with other whole numbers in its undifferentiated inputs, None without any."""
        ...

    def arguments(self, point: Point) -> tuple[Any, ...]:
        """Return what a NumPy reference is called with at a point."""
        ...

    @property
    def leaves(self) -> tuple[Any, ...]:
        """What stands at each place of the arguments: `name`, `active` and `fixed` are among its fields."""
        ...

    def along(self, cotangent: Vector) -> Resizable:
        """Return the gradient along a fixed cotangent as a function of the inputs."""
        ...


def one(function: Function, point: Point) -> Vector:
    """Return the outputs at one point."""
    found: Vector = function.values(tuple(x[None] for x in point))[0]
    return found


def repeated(point: Point, count: int) -> list[Vector]:
    """Return writable batches of `count` copies of a point."""
    return [np.repeat(x[None], count, axis=0) for x in point]


def raised_by(error: BaseException) -> str:
    """Return the first line of an error with its type, bounded, also if it cannot be printed."""
    try:
        text = str(error).partition("\n")[0]
    except Exception:
        text = "(an error that cannot be printed)"
    return text[:300] if isinstance(error, CallFailed) else f"{type(error).__name__}: {text[:300]}"


def resample(
    x: NDArray[Any], shape: tuple[int, ...], rng: np.random.Generator, draw: Draw | None = None
) -> NDArray[Any]:
    """Return an array of another shape with numbers like those of x, or those that `draw` draws.

    Whole numbers stay among those of x.
    """
    if draw is not None:
        return np.asarray(draw(shape, rng)).astype(x.dtype).reshape(shape)
    flat = x.ravel()
    count = int(np.prod(shape))
    if not flat.size:
        return np.asarray(rng.normal(size=shape)).astype(x.dtype)
    chosen = flat[rng.integers(0, flat.size, count)]
    if np.issubdtype(x.dtype, np.integer) and flat.min() >= 0:
        # Class numbers and indices: all up to the largest that the example has.
        chosen = rng.integers(0, int(flat.max()) + 1, count)
    if np.issubdtype(x.dtype, np.floating):
        chosen = chosen * (1 + rng.uniform(-0.2, 0.2, count))
    return np.asarray(chosen).astype(x.dtype).reshape(shape)
