"""The same numbers in other memory: transposed, strided, at an offset, channels last, expanded."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from gradcheck.subjects.function import CallFailed, Point, raised_by
from gradcheck.subjects.probing import Found, signed
from gradcheck.subjects.torch_function import TorchFunction, joined
from gradcheck.subjects.torch_pulling import cotangents_of, plain, run

if TYPE_CHECKING:
    from torch import Tensor

LAYOUTS = ("transposed", "strided", "offset", "channels-last", "expanded")


def layouts(function: TorchFunction, point: Point, seed: int) -> Found:
    """The same numbers in other memory give the same outputs and gradients."""
    found = Found()
    flat = signed(seed, function.size)
    values, base = plain(function, point, flat)
    for k, place in enumerate(function.active):
        for layout in LAYOUTS:
            leaves = function.tensors(point)
            name = function.inputs[k].name
            laid = laid_out(leaves[place], layout)
            if laid is None:
                continue
            expected_values, expected = values, base
            if layout == "expanded":
                # Equal numbers along one axis: compare with the same numbers written out.
                written = list(point)
                written[k] = joined([laid])
                try:
                    expected_values, expected = plain(function, tuple(written), flat)
                except CallFailed:
                    # Equal rows are no input of this function: a matrix that is singular, say.
                    continue
                if not all(np.isfinite(x).all() for x in (expected_values, *expected)):
                    continue
            leaves[place] = laid
            try:
                got_values, got = run(function, leaves, lambda outputs: cotangents_of(outputs, flat))
            except Exception as error:
                cause = error.__cause__ or error
                if any(word in str(cause) for word in ("view", "contiguous", "stride", "storage_offset")):
                    found.note(f"refuses a {layout} {name}: {raised_by(cause)}")
                else:
                    found.fault(f"{name} {layout}: {raised_by(cause)}", "raised")
                continue
            usual = np.abs(values[np.isfinite(values)]).max(initial=0.0)
            found.compare(f"values with {name} {layout}", got_values, expected_values, usual)
            for axes, one, two, usual_gradient in zip(function.inputs, got, expected, base, strict=True):
                usual = np.abs(usual_gradient[np.isfinite(usual_gradient)]).max(initial=0.0)
                if layout == "expanded" and axes.name == name and one.shape == two.shape:
                    # Which of equal numbers a sort or a maximum takes may change with the memory.
                    one, two = (np.sort(g.reshape(axes.shape), axis=0).ravel() for g in (one, two))
                found.compare(f"gradient of {axes.name} with {name} {layout}", one, two, usual)
    return found


def laid_out(x: Tensor, layout: str) -> Tensor | None:
    """Return the numbers of x in another memory layout, or None where x has no such layout."""
    import torch

    if layout == "transposed":
        return transposed(x) if x.dim() > 1 and min(x.shape) > 1 else None
    if layout == "strided":
        return strided(x) if x.dim() else None
    if layout == "offset":
        buffer = torch.zeros(x.numel() + 3, dtype=x.dtype)
        buffer[3:] = x.reshape(-1)
        return buffer[3:].reshape(x.shape)
    if layout == "channels-last":
        return x.contiguous(memory_format=torch.channels_last) if x.dim() == 4 else None
    if x.dim() == 0 or x.shape[0] < 2:
        return None
    return x[:1].clone().expand(x.shape)


def strided(x: Tensor) -> Tensor:
    """Return every second number of a larger buffer."""
    import torch

    if not x.dim():
        return x
    buffer = torch.full((*x.shape[:-1], 2 * x.shape[-1]), 7.0, dtype=x.dtype)
    buffer[..., ::2] = x
    return buffer[..., ::2]


def transposed(x: Tensor) -> Tensor:
    """Return the numbers with the first and last axes exchanged in memory."""
    return x.transpose(0, -1).contiguous().transpose(0, -1) if x.dim() > 1 else x
