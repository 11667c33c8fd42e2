"""A user's function on arrays, with its vector-Jacobian product, as the black-box checks see it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gradcheck.errors import UsageError
from gradcheck.subjects.function import Axes, CallFailed, Point, Vector, resample

_ROUNDOFF = {"float64": 2.0**-53, "float32": 2.0**-24, "bfloat16": 2.0**-8, "float16": 2.0**-11}
Arrays = tuple[Any, ...]


@dataclass(frozen=True)
class Place:
    """A place in the arguments: an array, and whether it is differentiated."""

    name: str
    array: NDArray[Any]
    active: bool
    fixed: bool = False


@dataclass
class Met:
    """What has been found out by trying, kept over all sizes and formats."""

    notes: set[str] = field(default_factory=set)
    batches: bool | None = None


@dataclass(frozen=True)
class ArrayFunction:
    """`call(arrays)` and `pull(arrays, cotangents)` at fixed sizes; see `gradcheck.subjects.function`.

    `pull` returns one gradient, or None, for each active array. `batch(arrays)`, if there is one, evaluates
    stacked arrays at once; it is compared with single calls before it is trusted.
    """

    call: Callable[[Arrays], Any]
    pull: Callable[[Arrays, Any], Sequence[Any]]
    leaves: tuple[Place, ...]
    met: Met
    structure: Callable[[Any], list[NDArray[Any]]]
    restore: Callable[[Any, list[Vector]], Any]
    format: str = "float64"
    cotangent: Vector | None = None
    batch: Callable[[Arrays], Any] | None = None
    second: Callable[[Arrays, Any, Any], Sequence[Any]] | None = None

    @property
    def active(self) -> tuple[int, ...]:
        """The places of the differentiable inputs."""
        return tuple(place for place, leaf in enumerate(self.leaves) if leaf.active)

    @property
    def inputs(self) -> tuple[Axes, ...]:
        """Name and shape of each differentiable input."""
        return tuple(Axes(self.leaves[p].name, self.leaves[p].array.shape) for p in self.active)

    @property
    def point(self) -> Point:
        """The example, flat."""
        return tuple(np.asarray(self.leaves[p].array, dtype=np.float64).ravel() for p in self.active)

    @property
    def leaf_names(self) -> tuple[str, ...]:
        """The names of all arrays."""
        return tuple(leaf.name for leaf in self.leaves)

    @property
    def leaf_shapes(self) -> tuple[tuple[int, ...], ...]:
        """The shapes of all arrays."""
        return tuple(tuple(leaf.array.shape) for leaf in self.leaves)

    @property
    def fixed(self) -> tuple[bool, ...]:
        """Which arrays keep their shape."""
        return tuple(leaf.fixed for leaf in self.leaves)

    @property
    def roundoff(self) -> float:
        """The unit roundoff of the outputs."""
        kinds = [str(o.dtype) for o in self._outputs()]
        return max([_ROUNDOFF.get(kind, 2.0**-53) for kind in kinds] + [_ROUNDOFF[self.format]])

    @property
    def size(self) -> int:
        """How many numbers all floating outputs have together."""
        return sum(o.size for o in self._outputs())

    @property
    def output_shapes(self) -> tuple[tuple[int, ...], ...]:
        """The shapes of the floating outputs."""
        return tuple(tuple(o.shape) for o in self._outputs())

    def _outputs(self) -> list[NDArray[Any]]:
        cached = self.__dict__.get("_kept")
        if cached is None:
            cached = self.results(self.arrays(self.point))
            object.__setattr__(self, "_kept", cached)
        return list(cached)

    def results(self, arrays: Arrays) -> list[NDArray[Any]]:
        """Return the floating outputs of a call; for order 2, the gradients along the fixed cotangent."""
        try:
            if self.cotangent is not None:
                return self._first(arrays)
            outputs = self.structure(self.call(arrays))
        except (UsageError, CallFailed):
            raise
        except (Exception, SystemExit) as error:
            raise CallFailed(str(error)) from error
        if not outputs:
            raise UsageError(
                "expected a function that returns at least one floating-point array, got none; "
                "nothing can be differentiated"
            )
        return outputs

    def _first(self, arrays: Arrays) -> list[NDArray[Any]]:
        assert self.cotangent is not None
        grads = self.pull(arrays, self._cotangent(arrays, self.cotangent))
        return [
            np.zeros(self.leaves[p].array.shape) if g is None else np.asarray(g)
            for p, g in zip(self.active, grads, strict=True)
        ]

    def _cotangent(self, arrays: Arrays, flat: Vector) -> Any:
        result = self.call(arrays)
        parts, start = [], 0
        for output in self.structure(result):
            parts.append(flat[start : start + output.size].reshape(output.shape).astype(output.dtype))
            start += output.size
        return self.restore(result, parts)

    def arrays(self, point: Sequence[Vector]) -> Arrays:
        """Return fresh arrays with the numbers of a point, in the format of this function."""
        numbers = iter(point)
        made: list[Any] = []
        for leaf in self.leaves:
            if leaf.active:
                made.append(np.array(next(numbers)).reshape(leaf.array.shape).astype(_dtype(self.format)))
            elif np.issubdtype(leaf.array.dtype, np.floating):
                made.append(leaf.array.astype(_dtype(self.format)))
            else:
                made.append(leaf.array.copy())
        return tuple(made)

    def of_format(self, name: str) -> ArrayFunction:
        """Return the same function with its inputs in another format."""
        return replace(self, format=name)

    def with_other_integers(self, rng: np.random.Generator) -> ArrayFunction | None:
        """Return the function with other whole numbers in its undifferentiated inputs, None without any."""
        made = tuple(
            replace(leaf, array=resample(leaf.array, leaf.array.shape, rng))
            if leaf.array.dtype.kind == "i" and leaf.array.size
            else leaf
            for leaf in self.leaves
        )
        if all(a is b for a, b in zip(made, self.leaves, strict=True)):
            return None
        other = replace(self, leaves=made)
        try:
            return other if other.output_shapes == self.output_shapes else None
        except CallFailed:
            return None

    def arguments(self, point: Point) -> tuple[Any, ...]:
        """Return all arrays."""
        return tuple(np.asarray(a) for a in self.arrays(point))

    def along(self, cotangent: Vector) -> ArrayFunction:
        """Return the gradient along a fixed cotangent as a function of the inputs."""
        if self.second is None:
            raise CallFailed("a vector-Jacobian product in NumPy has none of its own")
        return replace(self, cotangent=cotangent)

    def resized(self, shapes: tuple[tuple[int, ...], ...], rng: np.random.Generator) -> ArrayFunction:
        """Return the function with arrays of these shapes; `CallFailed` if it does not accept them."""
        made = tuple(
            leaf if leaf.array.shape == shape else replace(leaf, array=resample(leaf.array, shape, rng))
            for leaf, shape in zip(self.leaves, shapes, strict=True)
        )
        new = replace(self, leaves=made)
        new._outputs()
        return new

    def values(self, points: Point) -> Vector:
        """Return the outputs at a batch of points."""
        count = len(points[0])
        if count > 1 and self.batch is not None and self.cotangent is None and self.met.batches is not False:
            found = self._together(points, count)
            if found is not None:
                return found
        return np.stack([self._row(tuple(x[k] for x in points)) for k in range(count)])

    def _row(self, point: Point) -> Vector:
        return _joined(self.results(self.arrays(point)))

    def _together(self, points: Point, count: int) -> Vector | None:
        assert self.batch is not None
        stacked = iter(points)
        arrays = tuple(
            next(stacked).reshape(count, *leaf.array.shape).astype(_dtype(self.format))
            if leaf.active
            else np.repeat(leaf.array[None], count, axis=0)
            for leaf in self.leaves
        )
        try:
            outputs = self.structure(self.batch(arrays))
            flat = np.concatenate(
                [np.asarray(o, dtype=np.float64).reshape(count, -1) for o in outputs], axis=1
            )
        except Exception:
            self.met.batches = False
            return None
        if self.met.batches is None:
            single = np.stack([self._row(tuple(x[k] for x in points)) for k in (0, count - 1)])
            self.met.batches = flat.shape[1] == single.shape[1] and bool(
                np.allclose(flat[[0, count - 1]], single, rtol=1e-10, atol=1e-300, equal_nan=True)
            )
        return flat if self.met.batches else None

    def gradients(self, point: Point, cotangents: Vector) -> tuple[Vector | None, ...]:
        """Return the vector-Jacobian products of a batch of cotangents at a point."""
        rows = []
        try:
            for flat in cotangents:
                arrays = self.arrays(point)
                if self.cotangent is None:
                    grads = self.pull(arrays, self._cotangent(arrays, flat))
                else:
                    assert self.second is not None
                    first = self._cotangent(arrays, self.cotangent)
                    parts, start = [], 0
                    for p in self.active:
                        shape = self.leaves[p].array.shape
                        n = int(np.prod(shape))
                        parts.append(flat[start : start + n].reshape(shape).astype(_dtype(self.format)))
                        start += n
                    grads = self.second(arrays, first, parts)
                rows.append(self._checked(grads))
        except (UsageError, CallFailed):
            raise
        except (Exception, SystemExit) as error:
            raise CallFailed(str(error)) from error
        return tuple(
            None if any(g is None for g in column) else np.stack([_joined([g]) for g in column])
            for column in zip(*rows, strict=True)
        )

    def _checked(self, grads: Any) -> tuple[Any, ...]:
        given = tuple(grads) if isinstance(grads, tuple | list) else (grads,)
        if len(given) != len(self.active) and len(given) != len(self.leaves):
            raise CallFailed(
                f"vjp: expected {len(self.active)} gradients, one per input, got {len(given)}; "
                "return a tuple in the order of the inputs"
            )
        chosen = [given[p] for p in self.active] if len(given) == len(self.leaves) else list(given)
        for axes, g in zip(self.inputs, chosen, strict=True):
            if g is not None and np.shape(g) != axes.shape:
                raise CallFailed(
                    f"vjp: the gradient of {axes.name} has shape {np.shape(g)}, not {axes.shape}"
                )
        return tuple(chosen)


def _dtype(name: str) -> Any:
    if name == "bfloat16":
        import ml_dtypes

        return np.dtype(ml_dtypes.bfloat16)
    return np.dtype(name)


def _joined(outputs: Sequence[Any]) -> Vector:
    flat = [np.asarray(o).astype(np.float64).ravel() for o in outputs]
    return flat[0] if len(flat) == 1 else np.concatenate(flat)


def floating(result: Any) -> list[NDArray[Any]]:
    """Return the floating arrays of a result, however nested, in order."""
    if isinstance(result, Mapping):
        return [a for value in result.values() for a in floating(value)]
    if isinstance(result, list | tuple):
        return [a for value in result for a in floating(value)]
    array = np.asarray(result)
    kinds = array.dtype.kind == "f" or array.dtype.name == "bfloat16"
    return [array] if kinds else []


def restored(result: Any, parts: list[Vector]) -> Any:
    """Return cotangents in the structure of a result."""
    rest = iter(parts)

    def build(item: Any) -> Any:
        if isinstance(item, Mapping):
            return {k: build(v) for k, v in item.items()}
        if isinstance(item, tuple) and hasattr(item, "_fields"):
            return type(item)(*(build(v) for v in item))
        if isinstance(item, list | tuple):
            return type(item)(build(v) for v in item)
        return next(rest) if floating(item) else np.zeros(np.shape(item))

    return build(result)


def places(inputs: Sequence[Any]) -> tuple[Place, ...]:
    """Return the places of positional inputs; floating arrays are differentiated."""
    made = []
    for k, item in enumerate(inputs):
        array = np.asarray(item)
        if array.dtype == object:
            raise UsageError(f"input {k}: expected an array of numbers, got {type(item).__name__}")
        if array.dtype.kind == "c":
            raise UsageError(f"input {k} is complex: only real inputs are checked")
        active = array.dtype.kind == "f" or array.dtype.name == "bfloat16"
        made.append(Place(f"input {k}", array.copy(), active))
    if not any(place.active for place in made):
        kinds = ", ".join(str(place.array.dtype) for place in made) or "no input"
        raise UsageError(
            f"expected at least one floating-point array to differentiate, got {kinds}; "
            "give an example such as np.random.randn(4, 3)"
        )
    return tuple(made)


def numpy_function(
    f: Callable[..., Any], vjp: Callable[..., Any] | None, inputs: Sequence[Any], keywords: Mapping[str, Any]
) -> ArrayFunction:
    """Return a pair of NumPy functions as the checks see it."""
    if vjp is None:
        raise UsageError("NumPy inputs: expected vjp=, a function (inputs, cotangent) -> gradients, got none")

    def call(arrays: Arrays) -> Any:
        return f(*arrays, **keywords)

    def pull(arrays: Arrays, cotangent: Any) -> Sequence[Any]:
        grads = vjp(arrays, cotangent)
        return tuple(grads) if isinstance(grads, tuple | list) else (grads,)

    return ArrayFunction(call, pull, places(inputs), Met(), floating, restored)
