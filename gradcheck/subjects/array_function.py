"""A user's function on arrays, with its vector-Jacobian product, as the black-box checks see it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gradcheck.errors import UsageError
from gradcheck.subjects.function import Axes, CallFailed, Draw, Pace, Point, Vector, raised_by, resample

_ROUNDOFF = {"float64": 2.0**-53, "float32": 2.0**-24, "bfloat16": 2.0**-8, "float16": 2.0**-11}
Arrays = tuple[Any, ...]


@dataclass(frozen=True)
class Place:
    """A place in the arguments: an array, whether it is differentiated, and what other ones are drawn by."""

    name: str
    array: NDArray[Any]
    active: bool
    fixed: bool = False
    draw: Draw | None = None


@dataclass
class Met:
    """What has been found out by trying.

    `batches` says whether batches of values and of gradients were those of single calls, `refused` for which
    shapes and formats there are none.
    """

    notes: set[str] = field(default_factory=set)
    batches: dict[str, bool] = field(default_factory=dict)
    refused: set[tuple[Any, str]] = field(default_factory=set)
    pace: Pace = field(default_factory=Pace)


@dataclass(frozen=True)
class ArrayFunction:
    """A function and its pull-back at fixed sizes; see `gradcheck.subjects.function`.

    `call(arrays)` returns the floating outputs, `pull(arrays, cotangents)` one gradient, or None, for each
    active array; there is one cotangent per floating output. `batch(arrays, stacked)` evaluates stacked
    active arrays at once, and `pull_batch(arrays, cotangents)` pulls stacked cotangents back; both are
    compared with single calls before they are trusted. `gradient(cotangents)` returns the call, pull, batch
    and pull_batch of the gradient along fixed cotangents, `shapes(arrays)` the shapes and types of the
    floating outputs without computing them. `lengths` are those that axes are tried with, the usual ones if
    it is empty.
    """

    call: Callable[[Arrays], list[Any]]
    pull: Callable[[Arrays, Sequence[Any]], Sequence[Any]]
    leaves: tuple[Place, ...]
    met: Met
    format: str = "float64"
    batch: Callable[[Arrays, Arrays], list[Any]] | None = None
    pull_batch: Callable[[Arrays, Sequence[Any]], Sequence[Any]] | None = None
    gradient: Callable[[Sequence[Any]], tuple[Any, Any, Any, Any]] | None = None
    shapes: Callable[[Arrays], list[Any]] | None = None
    lengths: tuple[int, ...] = ()

    @cached_property
    def active(self) -> tuple[int, ...]:
        """The places of the differentiable inputs."""
        return tuple(place for place, leaf in enumerate(self.leaves) if leaf.active)

    @cached_property
    def inputs(self) -> tuple[Axes, ...]:
        """Name and shape of each differentiable input."""
        return tuple(Axes(self.leaves[p].name, self.leaves[p].array.shape) for p in self.active)

    @cached_property
    def point(self) -> Point:
        """The example, flat."""
        return tuple(np.asarray(self.leaves[p].array, dtype=np.float64).ravel() for p in self.active)

    @property
    def pace(self) -> Pace:
        """What watches over the time."""
        return self.met.pace

    @property
    def leaf_names(self) -> tuple[str, ...]:
        """The names of all arrays."""
        return tuple(leaf.name for leaf in self.leaves)

    @cached_property
    def leaf_shapes(self) -> tuple[tuple[int, ...], ...]:
        """The shapes of all arrays."""
        return tuple(tuple(leaf.array.shape) for leaf in self.leaves)

    @property
    def fixed(self) -> tuple[bool, ...]:
        """Which arrays keep their shape."""
        return tuple(leaf.fixed for leaf in self.leaves)

    @cached_property
    def roundoff(self) -> float:
        """The unit roundoff of the outputs."""
        kinds = [str(o.dtype) for o in self._outputs]
        return max([_ROUNDOFF.get(kind, 2.0**-53) for kind in kinds] + [_ROUNDOFF[self.format]])

    @cached_property
    def size(self) -> int:
        """How many numbers all floating outputs have together."""
        return sum(o.size for o in self._outputs)

    @cached_property
    def output_shapes(self) -> tuple[tuple[int, ...], ...]:
        """The shapes of the floating outputs."""
        return tuple(tuple(o.shape) for o in self._outputs)

    @cached_property
    def _outputs(self) -> tuple[Any, ...]:
        """The outputs at the example, or their shapes and formats alone."""
        if self.shapes is not None and self._trusted(self.batch, "values") and self.met.batches:
            with contextlib.suppress(Exception):
                return tuple(self.shapes(self.arrays(self.point)))
        return tuple(self.results(self.arrays(self.point)))

    def results(self, arrays: Arrays) -> list[NDArray[Any]]:
        """Return the floating outputs of a call."""
        self.pace.tick()
        try:
            return [np.asarray(o) for o in self.call(arrays)]
        except (UsageError, CallFailed):
            raise
        except (Exception, SystemExit) as error:
            raise CallFailed(raised_by(error)) from error

    def parts(self, flat: Vector) -> list[NDArray[Any]]:
        """Return a flat cotangent as one array per floating output, in its format; a batch stays one."""
        made, start, lead = [], 0, flat.shape[:-1]
        for output in self._outputs:
            part = flat[..., start : start + output.size]
            made.append(part.reshape((*lead, *output.shape)).astype(output.dtype))
            start += output.size
        return made

    def arrays(self, point: Sequence[Vector]) -> Arrays:
        """Return fresh arrays with the numbers of a point, in the format of this function."""
        numbers = iter(point)
        made: list[Any] = []
        for leaf in self.leaves:
            if leaf.active:
                made.append(np.array(next(numbers)).reshape(leaf.array.shape).astype(_dtype(self.format)))
            elif is_floating(leaf.array.dtype):
                made.append(leaf.array.astype(_dtype(self.format)))
            else:
                made.append(leaf.array.copy())
        return tuple(made)

    def of_format(self, name: str) -> ArrayFunction:
        """Return the same function with its inputs in another format."""
        return replace(self, format=name)

    def with_rest(self, change: Callable[[NDArray[Any]], NDArray[Any]]) -> ArrayFunction:
        """Return the same function with its undifferentiated floating inputs changed."""
        made = tuple(
            leaf
            if leaf.active or not is_floating(leaf.array.dtype)
            else replace(leaf, array=change(leaf.array.astype(np.float64)))
            for leaf in self.leaves
        )
        return replace(self, leaves=made)

    def with_other_integers(self, rng: np.random.Generator) -> ArrayFunction | None:
        """Return the function with other whole numbers in its undifferentiated inputs, None without any."""
        made = tuple(
            replace(leaf, array=resample(leaf.array, leaf.array.shape, rng, leaf.draw))
            if leaf.array.size and leaf.array.dtype.kind in ("iu" if leaf.draw else "i")
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
        if self.gradient is None:
            raise CallFailed("a vector-Jacobian product in NumPy has none of its own")
        call, pull, batch, pull_batch = self.gradient(self.parts(cotangent))
        met = Met(batches=dict(self.met.batches), refused=set(self.met.refused), pace=self.pace)
        other = replace(self, call=call, pull=pull, batch=batch, pull_batch=pull_batch, met=met)
        return replace(other, gradient=None, shapes=None)

    def resized(self, shapes: tuple[tuple[int, ...], ...], rng: np.random.Generator) -> ArrayFunction:
        """Return the function with arrays of these shapes; `CallFailed` if it does not accept them."""
        made = tuple(
            leaf
            if leaf.array.shape == shape
            else replace(leaf, array=resample(leaf.array, shape, rng, leaf.draw))
            for leaf, shape in zip(self.leaves, shapes, strict=True)
        )
        new = replace(self, leaves=_indices_within(self.leaves, made))
        _ = new.size
        return new

    def values(self, points: Point) -> Vector:
        """Return the outputs at a batch of points."""
        count = len(points[0])
        if self._trusted(self.batch, "values"):
            found = self._together(points, count)
            if found is not None:
                return found
        return np.stack([self._row(tuple(x[k] for x in points)) for k in range(count)])

    def _trusted(self, batch: Any, what: str) -> bool:
        shapes = self.leaf_shapes, self.format
        return batch is not None and self.met.batches.get(what, True) and shapes not in self.met.refused

    def _row(self, point: Point) -> Vector:
        return joined(self.results(self.arrays(point)))

    def _stacked(self, points: Point) -> Arrays:
        return tuple(
            x.reshape(len(x), *axes.shape).astype(_dtype(self.format))
            for x, axes in zip(points, self.inputs, strict=True)
        )

    def _together(self, points: Point, count: int) -> Vector | None:
        assert self.batch is not None
        try:
            flat = _rows(self.batch(self.arrays(self.point), self._stacked(points)), count)
        except Exception:
            self.met.refused.add((self.leaf_shapes, self.format))
            return None
        if "values" not in self.met.batches:
            single = np.stack([self._row(tuple(x[k] for x in points)) for k in (0, count - 1)])
            self.met.batches["values"] = _same(flat[[0, count - 1]], single, self.roundoff)
        return flat if self.met.batches["values"] else None

    def gradients(self, point: Point, cotangents: Vector) -> tuple[Vector | None, ...]:
        """Return the vector-Jacobian products of a batch of cotangents at a point."""
        try:
            if len(cotangents) and self._trusted(self.pull_batch, "gradients"):
                found = self._pulled_together(point, cotangents)
                if found is not None:
                    return found
            rows = [self.gradient_arrays(self.arrays(point), self.parts(flat)) for flat in cotangents]
        except (UsageError, CallFailed):
            raise
        except (Exception, SystemExit) as error:
            raise CallFailed(raised_by(error)) from error
        return tuple(
            None if any(g is None for g in column) else np.stack([joined([g]) for g in column])
            for column in zip(*rows, strict=True)
        )

    def _pulled_together(self, point: Point, cotangents: Vector) -> tuple[Vector, ...] | None:
        assert self.pull_batch is not None
        count = len(cotangents)
        try:
            stacked = self.pull_batch(self.arrays(point), self.parts(cotangents))
            found = tuple(_rows([g], count) for g in stacked)
        except Exception:
            self.met.refused.add((self.leaf_shapes, self.format))
            return None
        if "gradients" not in self.met.batches:
            single = self.gradient_arrays(self.arrays(point), self.parts(cotangents[0]))
            pairs = zip(found, single, strict=True)
            self.met.batches["gradients"] = all(_same(g[0], joined([s]), self.roundoff) for g, s in pairs)
        return found if self.met.batches["gradients"] else None

    def gradient_arrays(self, arrays: Arrays, cotangents: Sequence[Any]) -> tuple[Any, ...]:
        """Return one gradient of the right shape, or None, for each active array; `CallFailed` for others."""
        self.pace.tick()
        found = tuple(self.pull(arrays, cotangents))
        for axes, g in zip(self.inputs, found, strict=True):
            if g is None:
                continue
            kind = np.asarray(g).dtype
            if not (is_floating(kind) or kind.kind in "iub"):
                raise CallFailed(f"vjp: the gradient of {axes.name} is {kind}, no array of real numbers")
            if np.shape(g) != axes.shape:
                raise CallFailed(
                    f"vjp: the gradient of {axes.name} has shape {np.shape(g)}, not {axes.shape}"
                )
        return found


def _indices_within(before: tuple[Place, ...], after: tuple[Place, ...]) -> tuple[Place, ...]:
    """Return the places with whole numbers made smaller that may point behind the end of a shortened axis."""
    lengths: list[tuple[float, int]] = []
    for old, new in zip(before, after, strict=True):
        if old.active and old.array.ndim == new.array.ndim:
            lengths += zip(old.array.shape, new.array.shape, strict=True)
        elif old.active:
            # Another axis may stand where the indices point.
            lengths += [(np.inf, length) for length in new.array.shape]
    made = []
    for place in after:
        array = place.array
        if array.dtype.kind in "iu" and array.size and array.min() >= 0 and place.draw is None:
            largest = int(array.max())
            shorter = [new for old, new in lengths if new <= largest < old and new > 0]
            place = replace(place, array=array % min(shorter)) if shorter else place
        made.append(place)
    return tuple(made)


def is_floating(dtype: Any) -> bool:
    """Whether a type of NumPy or ml_dtypes is that of real numbers that are differentiated."""
    return bool((dtype.kind == "f" and dtype.itemsize <= 8) or dtype.name == "bfloat16")


def _dtype(name: str) -> Any:
    if name == "bfloat16":
        import ml_dtypes

        return np.dtype(ml_dtypes.bfloat16)
    return np.dtype(name)


def joined(outputs: Sequence[Any]) -> Vector:
    """Return all outputs as one vector of float64."""
    flat = [np.asarray(o).astype(np.float64).ravel() for o in outputs]
    return flat[0] if len(flat) == 1 else np.concatenate(flat)


def _rows(stacked: Sequence[Any], count: int) -> Vector:
    flat = [np.asarray(o).astype(np.float64)[:count].reshape(count, -1) for o in stacked]
    return flat[0] if len(flat) == 1 else np.concatenate(flat, axis=1)


def _same(left: Vector, right: Vector, roundoff: float) -> bool:
    """Whether a batch gives what single calls give, but for the order of sums."""
    if left.shape != right.shape:
        return False
    return bool(np.allclose(left, right, rtol=2.0**20 * roundoff, atol=1e-300, equal_nan=True))


def place_of(name: str, array: NDArray[Any], active: bool = True) -> Place:
    """Return the place of an array; `UsageError` for one of a type that is not checked."""
    dtype = array.dtype
    if dtype.kind == "c":
        raise UsageError(f"{name} is complex ({dtype}): only real inputs are checked; pass its parts")
    if dtype.kind in "OUSVMmT" and dtype.name != "bfloat16":
        raise UsageError(f"{name}: expected an array of real numbers, got one of {dtype}; convert it first")
    if dtype.kind == "f" and dtype.itemsize > 8:
        raise UsageError(f"{name} is {dtype}, which is not checked; convert it to float64")
    return Place(name, array.astype(dtype.newbyteorder("="), copy=True), active and is_floating(dtype))


def with_active(found: tuple[Place, ...], example: str) -> tuple[Place, ...]:
    """Return the places; `UsageError` if none of them is differentiated."""
    if not any(place.active for place in found):
        kinds = ", ".join(str(place.array.dtype) for place in found) or "no array"
        raise UsageError(
            f"expected at least one floating-point array to differentiate, got {kinds}; "
            f"give an example such as {example}"
        )
    return found
