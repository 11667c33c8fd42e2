"""What calls of a PyTorch function leave as it was: inputs, earlier outputs, each other, the process."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from gradcheck.subjects.function import Point, Vector
from gradcheck.subjects.probing import Found, signed
from gradcheck.subjects.torch_function import TorchFunction, joined
from gradcheck.subjects.torch_process import facts
from gradcheck.subjects.torch_pulling import cotangents_of, plain, run

if TYPE_CHECKING:
    from torch import Tensor


def state(
    function: TorchFunction, point: Point, other: Point, seed: int, around: dict[str, Any] | None = None
) -> Found:
    """Calls leave inputs, earlier outputs and the process alone, and repeat themselves.

    `around` is what `torch_process.facts` was before the function was called for the first time.
    """
    import torch

    found = Found()
    around = around or facts()
    function.outputs(function.tensors(point))
    _left(around, function, point, found)
    _first_calls(function, point, other, found)
    flat = signed(seed, function.size)
    leaves = function.tensors(point)
    before = [leaf.clone() for leaf in leaves]
    with torch.no_grad():
        kept = function.outputs(leaves)
        first = joined(kept)
        _unchanged(function, leaves, before, found, "the call")
        for _ in range(3):
            again = joined(function.outputs(function.tensors(point)))
            if again.shape != first.shape or not np.array_equal(again, first, equal_nan=True):
                found.compare("the same call again", again, first)
        joined(function.outputs(function.tensors(other)))
        if not np.array_equal(joined(kept), first, equal_nan=True):
            found.fault("an output changes when the function is called again: its memory is reused", "reused")
        found.compare("the same call after another", joined(function.outputs(function.tensors(point))), first)
    _aliases(function, leaves, kept, found)
    _, once = plain(function, point, flat)
    plain(function, other, flat)
    _, twice = plain(function, point, flat)
    for axes, one, two in zip(function.inputs, once, twice, strict=True):
        found.compare(f"gradient of {axes.name} after another call", two, one)
    leaves = function.tensors(point)
    before = [leaf.clone() for leaf in leaves]
    run(function, leaves, lambda outputs: cotangents_of(outputs, flat))
    _unchanged(function, leaves, before, found, "the backward pass")
    interleaved(function, point, other, flat, once, found)
    return found


def _left(around: dict[str, Any], function: TorchFunction, point: Point, found: Found) -> None:
    """Compare the state of the process with what it was; drawing random numbers is no fault of its own."""
    import torch

    now = facts()
    changed = [name for name, value in now.items() if value != around[name]]
    torch.set_grad_enabled(bool(around["the gradient mode"]))
    torch.set_default_dtype(around["the default type"])
    drawn = [name for name in changed if name.startswith("the random state")]
    if drawn:
        with torch.no_grad():
            again = [joined(function.outputs(function.tensors(point))) for _ in range(2)]
        if not np.array_equal(again[0], again[1], equal_nan=True):
            changed = [name for name in changed if name not in drawn]
    for name in changed:
        found.fault(f"the call changes {name} of the process", "state")


def _first_calls(function: TorchFunction, point: Point, other: Point, found: Found) -> None:
    """What the first call of a fresh copy answers is what every later call answers."""
    import torch

    with torch.no_grad():
        for name, at in (("another input", other), ("the example", point)):
            fresh = function.fresh()
            if fresh is None:
                return
            first = joined(fresh.outputs(fresh.tensors(at)))
            joined(function.outputs(function.tensors(point)))
            later = joined(function.outputs(function.tensors(at)))
            found.compare(f"the first call of a fresh copy, at {name}", later, first)


def interleaved(
    function: TorchFunction, point: Point, other: Point, flat: Vector, expected: list[Vector], found: Found
) -> None:
    """Two graphs at once: the second call must not touch what the first one saved."""
    import torch

    with torch.enable_grad():
        leaves = function.tensors(point)
        wanted = [leaves[p].requires_grad_() for p in function.active]
        outputs = function.outputs(leaves)
        between = function.tensors(other)
        function.outputs([x.requires_grad_(k in function.active) for k, x in enumerate(between)])
        live = [k for k, o in enumerate(outputs) if o.requires_grad]
        if not live:
            return
        given = cotangents_of(outputs, flat)
        grads = torch.autograd.grad(
            [outputs[k] for k in live], wanted, [given[k] for k in live], allow_unused=True
        )
    for axes, g, x, two in zip(function.inputs, grads, wanted, expected, strict=True):
        got = np.zeros(x.numel()) if g is None else joined([g])
        found.compare(f"gradient of {axes.name} when another call came before the backward pass", got, two)


def _unchanged(
    function: TorchFunction, leaves: list[Tensor], before: list[Tensor], found: Found, who: str
) -> None:
    import torch

    for leaf, x, old in zip(function.leaves, leaves, before, strict=True):
        same = torch.equal(x.detach(), old) or (
            x.shape == old.shape and bool(((x.detach() == old) | (x.detach() != x.detach())).all())
        )
        if not same:
            found.fault(f"{who} writes into {leaf.name}", "mutation")


def _aliases(function: TorchFunction, leaves: list[Tensor], outputs: list[Tensor], found: Found) -> None:
    for leaf, x in zip(function.leaves, leaves, strict=True):
        for output in outputs:
            shared = output.untyped_storage().data_ptr() == x.untyped_storage().data_ptr()
            if shared and x.numel() and output.numel():
                found.note(f"an output shares the memory of {leaf.name}")
