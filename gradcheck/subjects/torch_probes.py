"""What PyTorch's machinery can break though a Jacobian is right: layouts, cotangents, modes, state.

Every probe returns how many numbers it compared, and the disagreements as (message, got, expected) with the
worst number of each. What the function does not offer (a forward mode, say) is a note.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from gradcheck.subjects.function import Point, Vector, raised_by
from gradcheck.subjects.probing import Found, signed
from gradcheck.subjects.torch_function import TorchFunction, joined
from gradcheck.subjects.torch_layouts import layouts
from gradcheck.subjects.torch_layouts import strided as strided_copy
from gradcheck.subjects.torch_layouts import transposed as transposed_copy
from gradcheck.subjects.torch_pulling import cotangents_of, plain, rounding, run
from gradcheck.subjects.torch_second import second_cotangent

if TYPE_CHECKING:
    from torch import Tensor

Against = Callable[[str, list[Vector], list[Vector]], None]


def cotangents(function: TorchFunction, point: Point, seed: int) -> Found:
    """Zero, expanded, strided, reused, added and accumulated cotangents."""
    import torch

    found = Found()
    names = [axes.name for axes in function.inputs]
    power, parts = _held(function, point)
    first = np.rint(signed(seed, function.size) * parts) / parts
    second = np.rint(signed(seed + 1, function.size) * parts) / parts
    values, base = plain(function, point, first)
    _, other = plain(function, point, second)
    least = rounding(values, point, first)
    scale = [np.abs(a) + np.abs(b) + c for a, b, c in zip(base, other, least, strict=True)]

    def against(what: str, got: list[Vector], expected: list[Vector]) -> None:
        for name, one, two, size in zip(names, got, expected, scale, strict=True):
            found.compare(f"gradient of {name} for {what}", one, two, size)

    _, added = plain(function, point, first + 2 * second)
    against("the sum of two cotangents is not the sum of the gradients", added,
            [a + 2 * b for a, b in zip(base, other, strict=True)])  # fmt: skip
    _, small = plain(function, point, first * 2.0**-power)
    against(f"a cotangent scaled by 2^-{power} is not scaled alike", [g * 2.0**power for g in small], base)
    _, large = plain(function, point, first * 2.0**power)
    against(f"a cotangent scaled by 2^{power} is not scaled alike", [g * 2.0**-power for g in large], base)
    _, none = plain(function, point, 0 * first)
    against("a zero cotangent is not zero", none, [0 * g for g in base])

    def strided(outputs: list[Tensor]) -> list[Tensor]:
        return [strided_copy(c) for c in cotangents_of(outputs, first)]

    _, apart = run(function, function.tensors(point), strided)
    against("a cotangent with strides differs from that of a contiguous one", apart, base)

    def turned(outputs: list[Tensor]) -> list[Tensor]:
        return [transposed_copy(c) for c in cotangents_of(outputs, first)]

    _, across = run(function, function.tensors(point), turned)
    against("a transposed cotangent differs from that of a contiguous one", across, base)

    def one_number(outputs: list[Tensor]) -> list[Tensor]:
        return [torch.ones((), dtype=o.dtype).expand(o.shape) for o in outputs]

    _, expanded = run(function, function.tensors(point), one_number)
    _, ones = plain(function, point, np.ones(function.size))
    against("an expanded cotangent differs from that of a full one", expanded, ones)
    _along_axes(function, point, seed, against)
    _one_output(function, point, first, against)
    _twice(function, point, first, base, found, names)
    _accumulated(function, point, first, base, found, names)
    return found


def _along_axes(function: TorchFunction, point: Point, seed: int, against: Against) -> None:
    """Expand cotangents along one axis, as a sum over that axis hands them back."""
    import torch

    axes = max((len(shape) for shape in function.output_shapes), default=0)
    for axis in range(axes) if axes > 1 else ():

        def expanded(outputs: list[Tensor], full: bool, axis: int = axis) -> list[Tensor]:
            made = []
            for number, output in enumerate(outputs):
                shape = list(output.shape)
                if axis < len(shape):
                    shape[axis] = 1
                few = torch.from_numpy(signed(seed + 31 + number, math.prod(shape))).reshape(shape)
                wide = few.to(output.dtype).expand(output.shape)
                made.append(wide.contiguous() if full else wide)
            return made

        _, got = run(function, function.tensors(point), partial(expanded, full=False))
        _, expected = run(function, function.tensors(point), partial(expanded, full=True))
        against(f"a cotangent expanded along axis {axis} differs from that of a full one", got, expected)


def _one_output(function: TorchFunction, point: Point, flat: Vector, against: Against) -> None:
    """Differentiate each of several outputs alone: a cotangent that the others lack counts as zero."""
    import torch

    sizes = [math.prod(shape) for shape in function.output_shapes]
    if len(sizes) < 2:
        return
    ends = np.cumsum([0, *sizes])
    for number in range(len(sizes)):
        part = np.zeros_like(flat)
        part[ends[number] : ends[number + 1]] = flat[ends[number] : ends[number + 1]]
        _, expected = plain(function, point, part)
        with torch.enable_grad():
            leaves = function.tensors(point)
            wanted = [leaves[p].requires_grad_() for p in function.active]
            outputs = function.outputs(leaves)
            if not outputs[number].requires_grad:
                continue
            given = cotangents_of(outputs, part)
            grads = torch.autograd.grad(outputs[number], wanted, given[number], allow_unused=True)
        got = [np.zeros(x.numel()) if g is None else joined([g]) for g, x in zip(grads, wanted, strict=True)]
        against(f"output {number} alone differs from that with zero cotangents of the others", got, expected)


def _held(function: TorchFunction, point: Point) -> tuple[int, float]:
    """Return what cotangents of the formats of all outputs hold exactly.

    That is the power of two that they may be scaled by, far inside of the range, and in how many parts of one
    they are counted: a sum with twice another one must be exact as well.
    """
    import torch

    with torch.no_grad():
        formats = [torch.finfo(o.dtype) for o in function.outputs(function.tensors(point))]
    power = 30 if all(each.max > 2.0**90 for each in formats) else 5
    return power, 256.0 if all(each.eps < 2.0**-9 for each in formats) else 16.0


def _twice(
    function: TorchFunction, point: Point, flat: Vector, base: list[Vector], found: Found, names: list[str]
) -> None:
    """Use one cotangent twice on one graph; it must not be written to, and the answer must be the same."""
    import torch

    with torch.enable_grad():
        leaves = function.tensors(point)
        wanted = [leaves[p].requires_grad_() for p in function.active]
        outputs = function.outputs(leaves)
        live = [k for k, o in enumerate(outputs) if o.requires_grad]
        if not live:
            return
        given = cotangents_of(outputs, flat)
        before = [c.clone() for c in given]
        results = [outputs[k] for k in live]
        for attempt in ("first", "second"):
            grads = torch.autograd.grad(
                results, wanted, [given[k] for k in live], retain_graph=True, allow_unused=True
            )
            if any(not torch.equal(a, b) for a, b in zip(given, before, strict=True)):
                found.fault("the backward pass writes into the cotangent", "mutation")
                return
            for name, g, x, expected in zip(names, grads, wanted, base, strict=True):
                got = np.zeros(x.numel()) if g is None else joined([g])
                found.compare(
                    f"gradient of {name} in the {attempt} backward pass of one graph", got, expected
                )


def _accumulated(
    function: TorchFunction, point: Point, flat: Vector, base: list[Vector], found: Found, names: list[str]
) -> None:
    """Two calls of backward add up in `.grad`, and what is there is not overwritten."""
    import torch

    with torch.enable_grad():
        leaves = function.tensors(point)
        wanted = [leaves[p].requires_grad_() for p in function.active]
        for _ in range(2):
            outputs = function.outputs(leaves)
            live = [k for k, o in enumerate(outputs) if o.requires_grad]
            if not live:
                return
            given = cotangents_of(outputs, flat)
            try:
                torch.autograd.backward([outputs[k] for k in live], [given[k] for k in live], inputs=wanted)
            except Exception as error:
                found.fault(f"gradients cannot be added up in `.grad`: {raised_by(error)}", "raised")
                return
        for name, x, expected in zip(names, wanted, base, strict=True):
            got = np.zeros(x.numel()) if x.grad is None else joined([x.grad])
            found.compare(f"gradient of {name} after two backward passes, halved", got / 2, expected)


def subsets(function: TorchFunction, point: Point, seed: int) -> Found:
    """Each input alone requires a gradient; its gradient is the one that it has together with the others."""
    import torch

    found = Found()
    flat = signed(seed, function.size)
    _, base = plain(function, point, flat)
    if len(base) < 2:
        found.note("one input: there is no subset to try")
        return found
    masks: list[tuple[int, ...]] = [(k,) for k in range(len(base))]
    masks += [tuple(j for j in range(len(base)) if j != k) for k in range(len(base))] if len(base) > 2 else []
    for mask in masks[:24]:
        names = ", ".join(function.inputs[k].name for k in mask)
        try:
            with torch.enable_grad():
                leaves = function.tensors(point)
                wanted = [leaves[function.active[k]].requires_grad_() for k in mask]
                outputs = function.outputs(leaves)
                live = [k for k, o in enumerate(outputs) if o.requires_grad]
                given = cotangents_of(outputs, flat)
                grads: Sequence[Any] = (None,) * len(wanted)
                if live:
                    grads = torch.autograd.grad(
                        [outputs[k] for k in live], wanted, [given[k] for k in live], allow_unused=True
                    )
        except Exception as error:
            cause = error.__cause__ or error
            found.fault(f"where only {names} requires a gradient: {raised_by(cause)}", "raised")
            continue
        for k, g, x in zip(mask, grads, wanted, strict=True):
            got = np.zeros(x.numel()) if g is None else joined([g])
            name = function.inputs[k].name
            found.compare(f"gradient of {name} where only {names} requires a gradient", got, base[k])
    return found


def forward_mode(function: TorchFunction, point: Point, seed: int) -> Found:
    """Forward mode and reverse mode are adjoint: v·(J d) = (v·J)·d for each input and each output."""
    import torch
    from torch.autograd import forward_ad

    found = Found()
    flat = signed(seed, function.size)
    values, base = plain(function, point, flat)
    least = rounding(values, point, flat)
    for k, place in enumerate(function.active):
        leaves = function.tensors(point)
        direction = signed(seed + 3 + k, leaves[place].numel())
        tangent = torch.from_numpy(direction).reshape(leaves[place].shape).to(leaves[place].dtype)
        try:
            with forward_ad.dual_level():
                leaves[place] = forward_ad.make_dual(leaves[place], tangent)
                outputs = function.outputs(leaves)
                duals = [forward_ad.unpack_dual(o) for o in outputs]
                parts = [
                    torch.zeros_like(d.primal) if d.tangent is None else d.tangent.clone() for d in duals
                ]
                lost = all(d.tangent is None for d in duals)
        except Exception as error:
            cause = error.__cause__ or error
            if isinstance(cause, NotImplementedError | RuntimeError):
                found.note(f"no forward mode: {raised_by(cause)}")
            else:
                found.fault(f"forward mode: {raised_by(cause)}", "raised")
            return found
        if lost and np.abs(base[k]).max(initial=0.0) > 0:
            found.note(f"no forward mode with respect to {function.inputs[k].name}: the tangent is dropped")
            continue
        pushed = joined(parts)
        got, expected = np.array([pushed @ flat]), np.array([base[k] @ direction])
        scale = np.array([np.abs(base[k]).sum() + np.abs(pushed).sum() + least[k] * direction.size])
        found.compare(
            f"forward mode along {function.inputs[k].name}: v·(J d) against (v·J)·d", got, expected, scale
        )
    return found


def batched(function: TorchFunction, point: Point, seed: int) -> Found:
    """Gradients of a batch of cotangents under vmap are those of a loop."""
    import torch

    found = Found()
    flats = [signed(seed + k, function.size) for k in range(3)]
    with torch.enable_grad():
        leaves = function.tensors(point)
        wanted = [leaves[p].requires_grad_() for p in function.active]
        outputs = function.outputs(leaves)
        live = [k for k, o in enumerate(outputs) if o.requires_grad]
        if not live:
            return found
        results = [outputs[k] for k in live]
        each = [cotangents_of(outputs, flat) for flat in flats]
        stacked = [torch.stack([given[k] for given in each]) for k in live]
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                together = torch.autograd.grad(
                    results, wanted, stacked, is_grads_batched=True, retain_graph=True, allow_unused=True
                )
        except Exception as error:
            found.note(f"no batched gradients: {raised_by(error)}")
            return found
        for k, given in enumerate(each):
            alone = torch.autograd.grad(
                results, wanted, [given[j] for j in live], retain_graph=True, allow_unused=True
            )
            for axes, g, single, x in zip(function.inputs, together, alone, wanted, strict=True):
                got = np.zeros(x.numel()) if g is None else joined([g[k]])
                expected = np.zeros(x.numel()) if single is None else joined([single])
                found.compare(f"gradient of {axes.name} under vmap, cotangent {k}", got, expected)
    return found


PROBES: dict[str, Callable[[TorchFunction, Point, int], Found]] = {
    "cotangents": cotangents,
    "layouts": layouts,
    "subsets": subsets,
    "forward": forward_mode,
    "batched": batched,
    "second cotangent": second_cotangent,
}
