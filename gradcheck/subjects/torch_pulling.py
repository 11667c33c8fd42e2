"""One plain call of a PyTorch function and its backward pass, flat."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from gradcheck.subjects.function import CallFailed, Point, Vector
from gradcheck.subjects.torch_function import TorchFunction, joined

if TYPE_CHECKING:
    from torch import Tensor

# Some hundred units in the last place, as what cancels was larger on the way, over the 1e-9 of a scale that
# numbers are compared to.
_CANCELLED = 256 * 2.0**-52 / 1e-9


def cotangents_of(outputs: Sequence[Tensor], flat: Vector) -> list[Tensor]:
    """Return the parts of a flat cotangent, each in the shape of its output."""
    import torch

    made, start = [], 0
    for output in outputs:
        part = torch.from_numpy(np.array(flat[start : start + output.numel()]))
        made.append(part.reshape(output.shape).to(output.dtype))
        start += output.numel()
    return made


def run(
    function: TorchFunction, leaves: list[Tensor], cotangents: Callable[[list[Tensor]], list[Tensor]]
) -> tuple[Vector, list[Vector]]:
    """Return outputs and gradients of one plain call; missing gradients are zeros."""
    import torch

    with torch.enable_grad():
        wanted = [leaves[p] for p in function.active]
        for leaf in wanted:
            if leaf.is_leaf:
                leaf.requires_grad_()
        outputs = function.outputs(leaves)
        live = [k for k, o in enumerate(outputs) if o.requires_grad]
        if not live:
            return joined(outputs), [np.zeros(x.numel()) for x in wanted]
        given = cotangents(outputs)
        try:
            grads = torch.autograd.grad(
                [outputs[k] for k in live], wanted, [given[k] for k in live], allow_unused=True
            )
        except Exception as error:
            raise CallFailed(str(error)) from error
    return joined(outputs), [
        np.zeros(x.numel()) if g is None else joined([g]) for g, x in zip(grads, wanted, strict=True)
    ]


def plain(function: TorchFunction, point: Point, flat: Vector) -> tuple[Vector, list[Vector]]:
    """Return outputs and gradients at a point along a flat cotangent."""
    return run(function, function.tensors(point), lambda outputs: cotangents_of(outputs, flat))


def rounding(values: Vector, point: Point, flat: Vector) -> list[float]:
    """Return, for each input, the scale at which a gradient that cancels to nothing is compared.

    Values of size y that change over distances of size x have slopes of the order of y/x; where all of them
    cancel, some rounding errors of that size are left. Scales are multiplied by 1e-9 where they are used.
    """
    finite = np.where(np.isfinite(values), values, 0.0)
    weight = float(np.abs(finite * flat).sum())
    typical = [float(np.abs(x[np.isfinite(x)]).max(initial=0.0)) for x in point]
    return [_CANCELLED * weight / size if size > 0 else 0.0 for size in typical]
