"""A user's PyTorch function as the black-box checks see it: flat vectors in, flat vectors out."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import accumulate
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from gradcheck.errors import UsageError
from gradcheck.subjects.function import Axes, CallFailed, Draw, Pace, Point, Vector, raised_by, resample
from gradcheck.subjects.nested import leaves as nested_leaves

if TYPE_CHECKING:
    from torch import Tensor

FORMATS = ("float64", "float32", "bfloat16", "float16")
# From so many products on, one backward pass for all of them is tried.
_MANY = 16
_ROUNDOFF = {"float64": 2.0**-53, "float32": 2.0**-24, "bfloat16": 2.0**-8, "float16": 2.0**-11}


@dataclass(frozen=True)
class Leaf:
    """A place in the arguments: a tensor, whether it is differentiated, whether it keeps its shape."""

    name: str
    tensor: Tensor
    active: bool
    fixed: bool = False
    draw: Draw | None = None


@dataclass
class Known:
    """What has been found out about a function by trying, kept over all sizes and formats."""

    batches: dict[tuple[tuple[int, ...], ...], bool] = field(default_factory=dict)
    batches_gradients: bool | None = None
    notes: set[str] = field(default_factory=set)
    pace: Pace = field(default_factory=Pace)
    second: Known | None = None


@dataclass(frozen=True)
class TorchFunction:
    """`call(leaves)` at fixed sizes; see `gradcheck.subjects.function.Function`.

    `format` is the format that the active inputs are given in; `order` 2 stands for the gradient of the
    function along a fixed cotangent, as a function of the inputs.
    """

    call: Callable[[Sequence[Tensor]], Any]
    leaves: tuple[Leaf, ...]
    known: Known
    format: str = "float64"
    cotangent: Vector | None = None
    prepare: Callable[[Tensor, int], Tensor] | None = None
    again: Callable[[], TorchFunction | None] | None = None
    lengths: tuple[int, ...] = ()

    # Inputs and outputs

    @cached_property
    def active(self) -> tuple[int, ...]:
        """The places of the differentiable inputs."""
        return tuple(place for place, leaf in enumerate(self.leaves) if leaf.active)

    @cached_property
    def inputs(self) -> tuple[Axes, ...]:
        """Name and shape of each differentiable input."""
        return tuple(Axes(self.leaves[p].name, tuple(self.leaves[p].tensor.shape)) for p in self.active)

    @property
    def point(self) -> Point:
        """The inputs that the user gave, as flat float64 vectors."""
        return tuple(_numbers(self.leaves[p].tensor) for p in self.active)

    @cached_property
    def roundoff(self) -> float:
        """The unit roundoff of the outputs."""
        import torch

        kinds = {o.dtype for o in self._example}
        return max(*(float(torch.finfo(kind).eps) / 2 for kind in kinds), _ROUNDOFF[self.format])

    @cached_property
    def size(self) -> int:
        """How many numbers all floating outputs have together."""
        return sum(output.numel() for output in self._example)

    @cached_property
    def _example(self) -> tuple[Tensor, ...]:
        """The outputs at the example."""
        import torch

        with torch.no_grad() if self.cotangent is None else contextlib.nullcontext():
            return tuple(o.detach() for o in self.outputs(self.tensors(self.point)))

    @cached_property
    def output_shapes(self) -> tuple[tuple[int, ...], ...]:
        """The shapes of the floating outputs."""
        return tuple(tuple(o.shape) for o in self._example)

    def fresh(self) -> TorchFunction | None:
        """Return the function on a copy of the callable from before its first call, if there is one."""
        return None if self.again is None else self.again()

    def of_format(self, name: str) -> TorchFunction:
        """Return the same function with its inputs in another format."""
        return replace(self, format=name)

    def with_rest(self, change: Callable[[NDArray[Any]], NDArray[Any]]) -> TorchFunction:
        """Return the same function with its undifferentiated floating inputs changed."""
        import torch

        def changed(leaf: Leaf) -> Tensor:
            if leaf.active or not leaf.tensor.is_floating_point():
                return leaf.tensor
            return torch.from_numpy(change(leaf.tensor.to(torch.float64).numpy(force=True)))

        return self.at_leaves([changed(leaf) for leaf in self.leaves])

    def at_leaves(self, leaves: Sequence[Tensor]) -> TorchFunction:
        """Return the same function for other examples of its inputs."""
        made = tuple(replace(old, tensor=new) for old, new in zip(self.leaves, leaves, strict=True))
        return replace(self, leaves=made)

    @property
    def pace(self) -> Pace:
        """What watches over the time."""
        return self.known.pace

    @property
    def leaf_names(self) -> tuple[str, ...]:
        """The names of all tensors."""
        return tuple(leaf.name for leaf in self.leaves)

    @property
    def leaf_shapes(self) -> tuple[tuple[int, ...], ...]:
        """The shapes of all tensors."""
        return tuple(tuple(leaf.tensor.shape) for leaf in self.leaves)

    @property
    def fixed(self) -> tuple[bool, ...]:
        """Which tensors keep their shape."""
        return tuple(leaf.fixed for leaf in self.leaves)

    def resized(self, shapes: tuple[tuple[int, ...], ...], rng: np.random.Generator) -> TorchFunction:
        """Return the function with tensors of these shapes; `CallFailed` if it does not accept them."""
        import torch

        made = []
        for leaf, shape in zip(self.leaves, shapes, strict=True):
            if tuple(leaf.tensor.shape) == shape:
                made.append(leaf.tensor)
                continue
            kind = leaf.tensor.dtype
            plain = leaf.tensor.detach().to(torch.float64) if leaf.tensor.is_floating_point() else leaf.tensor
            made.append(torch.from_numpy(resample(plain.numpy(force=True), shape, rng, leaf.draw)).to(kind))
        new = self.at_leaves(made)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            _ = new.size
        return new

    def with_other_integers(self, rng: np.random.Generator) -> TorchFunction | None:
        """Return the function with other whole numbers in its undifferentiated inputs, None without any."""
        import torch

        made = [
            torch.from_numpy(
                resample(leaf.tensor.numpy(force=True), tuple(leaf.tensor.shape), rng, leaf.draw)
            )
            if leaf.tensor.dtype in (torch.int64, torch.int32) and leaf.tensor.numel()
            else leaf.tensor
            for leaf in self.leaves
        ]
        if all(new is leaf.tensor for new, leaf in zip(made, self.leaves, strict=True)):
            return None
        other = self.at_leaves(made)
        try:
            return other if other.output_shapes == self.output_shapes else None
        except CallFailed:
            return None

    def arguments(self, point: Point) -> tuple[Any, ...]:
        """Return the arrays of all leaves but a module's parameters, as NumPy has them."""
        made = self.tensors(point)
        return tuple(
            x.detach().numpy(force=True) for x, leaf in zip(made, self.leaves, strict=True) if not leaf.fixed
        )

    def along(self, cotangent: Vector) -> TorchFunction:
        """Return the gradient along a fixed cotangent as a function of the inputs."""
        if self.known.second is None:
            self.known.second = Known(pace=self.pace)
        return replace(self, cotangent=cotangent, known=self.known.second)

    def tensors(self, point: Sequence[Vector]) -> list[Tensor]:
        """Return fresh leaves with the numbers of a point, in the format of this function."""
        import torch

        dtype = getattr(torch, self.format)
        numbers = iter(point)
        made: list[Tensor] = []
        for place, leaf in enumerate(self.leaves):
            if leaf.active:
                x = torch.from_numpy(np.array(next(numbers))).reshape(leaf.tensor.shape).to(dtype)
                made.append(self.prepare(x, place) if self.prepare else x)
            else:
                made.append(self._at_rest(leaf))
        return made

    def _at_rest(self, leaf: Leaf) -> Tensor:
        """Return a copy of a tensor that is not differentiated."""
        import torch

        copied = leaf.tensor.detach().clone()
        return copied.to(getattr(torch, self.format)) if copied.is_floating_point() else copied

    def outputs(self, leaves: Sequence[Tensor]) -> list[Tensor]:
        """Return the floating outputs of a call; for order 2, the gradients along the fixed cotangent."""
        self.pace.tick()
        try:
            if self.cotangent is None:
                return floating(self.call(leaves))
            return self._first(leaves)
        except (CallFailed, UsageError):
            raise
        except (Exception, SystemExit) as error:
            raise CallFailed(raised_by(error)) from error

    def _first(self, leaves: Sequence[Tensor]) -> list[Tensor]:
        import torch

        with torch.enable_grad():
            given = [leaves[p] for p in self.active]
            wanted = [x if x.requires_grad else x.detach().requires_grad_() for x in given]
            placed = list(leaves)
            for place, x in zip(self.active, wanted, strict=True):
                placed[place] = x
            results = [o for o in floating(self.call(placed)) if o.requires_grad]
            assert self.cotangent is not None
            grads = torch.autograd.grad(
                results, wanted, self._split(self.cotangent, results), create_graph=True, allow_unused=True
            )
        return [torch.zeros_like(x) if g is None else g for g, x in zip(grads, wanted, strict=True)]

    @staticmethod
    def _split(flat: Vector, results: Sequence[Tensor]) -> list[Tensor]:
        import torch

        parts, start = [], 0
        for output in results:
            part = flat[start : start + output.numel()]
            parts.append(torch.from_numpy(np.array(part)).reshape(output.shape).to(output.dtype))
            start += output.numel()
        return parts

    # Values

    def values(self, points: Point) -> Vector:
        """Return the outputs at a batch of points, as one call where the framework can."""
        import torch

        count = len(points[0]) if points else 1
        with torch.no_grad() if self.cotangent is None else contextlib.nullcontext():
            if count > 1 and self.known.batches.get(self.leaf_shapes, True) and self.format == "float64":
                found = self._together(points, count)
                if found is not None:
                    return found
            rows = [self._row(tuple(x[k] for x in points)) for k in range(count)]
        return np.stack(rows)

    def _row(self, point: Point) -> Vector:
        return joined(self.outputs(self.tensors(point)))

    def _together(self, points: Point, count: int) -> Vector | None:
        """Return the outputs at all points by one call; None where they are not those of the function."""
        import torch

        if self.prepare is not None:
            return None
        dtype = getattr(torch, self.format)
        # The first time the example goes along: its outputs are known.
        untried = self.leaf_shapes not in self.known.batches
        if untried:
            points = tuple(np.concatenate([x, own[None]]) for x, own in zip(points, self.point, strict=True))
        stacked = [
            torch.from_numpy(x).reshape(len(x), *self.leaves[p].tensor.shape).to(dtype)
            for p, x in zip(self.active, points, strict=True)
        ]
        rest = [None if leaf.active else self._at_rest(leaf) for leaf in self.leaves]

        def call(*moving: Tensor) -> tuple[Tensor, ...]:
            placed: list[Any] = list(rest)
            for place, x in zip(self.active, moving, strict=True):
                placed[place] = x
            return tuple(floating(self.call(placed)))

        try:
            if self.cotangent is None:
                found = torch.func.vmap(call)(*stacked)
            else:
                found = self._first_together(call, stacked)
            parts = [_numbers(o).reshape(len(o), -1) for o in found]
        except Exception:
            self.known.batches[self.leaf_shapes] = False
            return None
        flat = parts[0] if len(parts) == 1 else np.concatenate(parts, axis=1)
        if untried:
            same = _alike(flat[-1], joined(self._example))
            self.known.batches[self.leaf_shapes] = same
            if not same:
                self.known.notes.add("torch.func.vmap of the function gives other values than the function")
                return None
        return flat[:count]

    def _first_together(self, call: Callable[..., Any], stacked: Sequence[Tensor]) -> list[Tensor]:
        """Return the gradients at stacked points by one backward pass: no row depends on another one."""
        import torch

        with torch.enable_grad():
            for x in stacked:
                x.requires_grad_()
            live = [o for o in torch.func.vmap(call)(*stacked) if o.requires_grad]
            assert self.cotangent is not None
            parts = self._split(self.cotangent, [o[0] for o in live])
            given = [part.expand(o.shape) for part, o in zip(parts, live, strict=True)]
            grads = torch.autograd.grad(live, stacked, given, allow_unused=True)
        return [torch.zeros_like(x) if g is None else g for g, x in zip(grads, stacked, strict=True)]

    # Gradients

    def gradients(self, point: Point, cotangents: Vector) -> tuple[Vector | None, ...]:
        """Return the vector-Jacobian products of a batch of cotangents at a point."""
        import torch

        with torch.enable_grad():
            leaves = self.tensors(point)
            wanted = [leaves[p].requires_grad_() for p in self.active]
            outputs = self.outputs(leaves)
            live = [o for o in outputs if o.requires_grad]
            if not live:
                return (None,) * len(wanted)
            starts = list(accumulate((o.numel() for o in outputs), initial=0))
            places = [k for k, o in enumerate(outputs) if o.requires_grad]
            blocks = [
                torch.from_numpy(np.ascontiguousarray(cotangents[:, starts[k] : starts[k + 1]]))
                .reshape(len(cotangents), *outputs[k].shape)
                .to(outputs[k].dtype)
                for k in places
            ]
            try:
                return self._products(live, wanted, blocks)
            except (Exception, SystemExit) as error:
                raise CallFailed(raised_by(error)) from error

    def _products(
        self, live: list[Tensor], wanted: list[Tensor], blocks: list[Tensor]
    ) -> tuple[Vector | None, ...]:

        count = len(blocks[0])
        if count > 3 and self.known.batches_gradients:
            try:
                return self._pulled_together(live, wanted, blocks)
            except Exception:
                self.known.batches_gradients = False
        if count > _MANY and self.cotangent is not None and self.known.batches_gradients is None:
            # Products of the double backward pass are many. The first and the last are taken alone as well.
            ends = [block[[0, -1]] for block in blocks]
            alone = self._pulled(live, wanted, ends, again=True)
            try:
                together = self._pulled_together(live, wanted, blocks)
            except Exception:
                together = None
            self.known.batches_gradients = together is not None and _rows_alike(together, alone)
            if together is not None and self.known.batches_gradients:
                return together
        return self._pulled(live, wanted, blocks)

    @staticmethod
    def _pulled_together(
        live: list[Tensor], wanted: list[Tensor], blocks: list[Tensor]
    ) -> tuple[Vector | None, ...]:
        """Return products by one batched backward pass."""
        import torch

        found = torch.autograd.grad(
            live, wanted, blocks, is_grads_batched=True, retain_graph=True, allow_unused=True
        )
        return tuple(None if g is None else _numbers(g).reshape(len(blocks[0]), -1) for g in found)

    def _pulled(
        self, live: list[Tensor], wanted: list[Tensor], blocks: list[Tensor], again: bool = False
    ) -> tuple[Vector | None, ...]:
        """Return products one after the other; the graph is kept if it is needed `again`."""
        import torch

        count = len(blocks[0])
        rows = []
        for k, given in enumerate(zip(*(block.unbind() for block in blocks), strict=True)):
            self.pace.tick()
            rows.append(
                torch.autograd.grad(
                    live, wanted, given, retain_graph=again or k + 1 < count, allow_unused=True
                )
            )
        return tuple(
            None if column[0] is None else _numbers(torch.stack(column)).reshape(count, -1)
            for column in zip(*rows, strict=True)
        )


def tensor_of(array: Any) -> Tensor:
    """Return an array as a tensor of its own type."""
    import torch

    if array.dtype.name == "bfloat16":
        return torch.from_numpy(array.astype(np.float32)).to(torch.bfloat16)
    return torch.from_numpy(np.array(array))


def floating(result: Any) -> list[Tensor]:
    """Return the floating tensors of a result, however nested, in order."""
    import torch

    tensors = (item for item in nested_leaves(result) if isinstance(item, torch.Tensor))
    found = [tensor for tensor in tensors if tensor.is_floating_point()]
    if not found:
        kind = getattr(result, "dtype", type(result).__name__)
        raise UsageError(
            f"expected a function that returns at least one floating-point tensor, got {kind}; "
            "nothing can be differentiated"
        )
    return found


def joined(outputs: Sequence[Tensor]) -> Vector:
    """Return all outputs as one vector of float64."""
    flat = [_numbers(o) for o in outputs]
    return flat[0] if len(flat) == 1 else np.concatenate(flat)


def _alike(left: Vector, right: Vector) -> bool:
    if left.shape != right.shape:
        return False
    if (left == right).all():
        return True
    with np.errstate(all="ignore"):
        near = np.abs(left - right) <= 1e-300 + 1e-10 * np.abs(right)
        return bool((near | (left == right) | (np.isnan(left) & np.isnan(right))).all())


def _rows_alike(together: tuple[Vector | None, ...], alone: tuple[Vector | None, ...]) -> bool:
    """Whether the first and the last row of each are those that were taken alone."""
    for many, few in zip(together, alone, strict=True):
        if (many is None) != (few is None):
            return False
        if many is not None and few is not None and not _alike(many[[0, -1]], few):
            return False
    return True


def _numbers(tensor: Tensor) -> Vector:
    import torch

    return np.asarray(tensor.to(torch.float64).numpy(force=True)).ravel()
