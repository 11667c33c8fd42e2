"""The gradient as a function of its cotangent."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from gradcheck.subjects.function import Point, raised_by
from gradcheck.subjects.probing import REFUSES, Found, signed
from gradcheck.subjects.torch_function import TorchFunction, joined
from gradcheck.subjects.torch_pulling import cotangents_of, plain, rounding

if TYPE_CHECKING:
    from torch import Tensor


def second_cotangent(function: TorchFunction, point: Point, seed: int) -> Found:
    """The gradient is linear in its cotangent and carries a gradient to it: J times a direction."""
    import torch

    found = Found()
    flat = signed(seed, function.size)
    directions = [signed(seed + 7 + k, axes.size) for k, axes in enumerate(function.inputs)]
    with torch.enable_grad():
        leaves = function.tensors(point)
        wanted = [leaves[p].requires_grad_() for p in function.active]
        outputs = function.outputs(leaves)
        live = [k for k, o in enumerate(outputs) if o.requires_grad]
        if not live:
            return found
        given = [c.requires_grad_() for c in cotangents_of(outputs, flat)]
        try:
            grads = torch.autograd.grad(
                [outputs[k] for k in live],
                wanted,
                [given[k] for k in live],
                create_graph=True,
                allow_unused=True,
            )
            _attached(function, grads, found)
            pairs = [
                (g, d) for g, d in zip(grads, directions, strict=True) if g is not None and g.requires_grad
            ]
            if not pairs:
                found.note("no double backward pass with respect to the cotangent")
                return found
            total = sum((g.reshape(-1) * torch.from_numpy(d)).sum() for g, d in pairs)
            back = torch.autograd.grad(total, [given[k] for k in live], retain_graph=True, allow_unused=True)
            if all(b is None for b in back) and not _differentiates(total, found):
                return found
        except Exception as error:
            found.note(f"no double backward pass with respect to the cotangent: {raised_by(error)}")
            return found
    pushed = np.zeros(function.size)
    starts = np.cumsum([0, *(o.numel() for o in outputs)])
    for k, b in zip(live, back, strict=True):
        if b is not None:
            pushed[starts[k] : starts[k + 1]] = joined([b])
    for attempt in range(3):
        other = signed(seed + 17 + attempt, function.size)
        values, base = plain(function, point, other)
        got, expected = pushed @ other, sum(float(g @ d) for g, d in zip(base, directions, strict=True))
        least = sum(c * d.size for c, d in zip(rounding(values, point, other), directions, strict=True))
        scale = float(np.abs(pushed).sum() + sum(np.abs(g).sum() for g in base)) + least
        found.compare("gradient of the gradient with respect to the cotangent, times a cotangent",
                      np.array([got]), np.array([expected]), scale)  # fmt: skip
    return found


def _attached(function: TorchFunction, grads: Sequence[Tensor | None], found: Found) -> None:
    """A gradient that is not zero depends on its cotangent; without a graph it is silently a constant."""
    for axes, g in zip(function.inputs, grads, strict=True):
        if g is not None and not g.requires_grad and bool((g != 0).any()):
            found.fault(
                f"the gradient of {axes.name} is detached from its cotangent: differentiated again it gives "
                "zeros, without an error; mark such a backward pass with once_differentiable",
                "missing",
            )


def _differentiates(total: Tensor, found: Found) -> bool:
    """Whether a graph can be run back; what was marked with once_differentiable raises, wherever it leads."""
    try:
        total.backward()
    except Exception as error:
        found.note(f"{REFUSES}: {raised_by(error)}")
        return False
    return True
