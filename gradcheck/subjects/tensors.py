"""Arrays lent to torch, and tensors given back.

On the CPU a tensor aliases the memory of its array, strides and offset kept, read-only arrays included, so
that a call that writes to its input is seen in the array. On CUDA the copy has the same strides and the same
alignment to 16 bytes, and what a call writes to it is carried back. bfloat16 crosses by its bits: neither
library knows the other's type. Negative strides do not exist in torch, which refuses them.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import ml_dtypes
import numpy as np

from gradcheck.records import Array

Tensor = Any


@contextmanager
def lent(arrays: tuple[Array, ...], device: str) -> Iterator[tuple[Tensor, ...]]:
    """Lend arrays to torch; afterwards they hold whatever torch wrote to them."""
    hosts = tuple(to_tensor(array) for array in arrays)
    tensors = hosts if device == "cpu" else tuple(placed(host, device) for host in hosts)
    yield tensors
    for host, tensor in zip(hosts, tensors, strict=True):
        if host is not tensor:
            carry_back(host, tensor)


class _Writable:
    """The memory of an array, without its read-only flag."""

    def __init__(self, array: Array) -> None:
        interface = array.__array_interface__
        self.__array_interface__ = {**interface, "data": (interface["data"][0], False)}
        self.owner = array


def to_tensor(array: Array) -> Tensor:
    """Return a tensor over the memory of `array`: no copy, the same strides."""
    import torch

    array = np.asarray(array)
    bits = array.view(np.int16) if array.dtype == ml_dtypes.bfloat16 else array
    # torch warns of read-only arrays and takes them all the same; a check sees whether it writes to them.
    tensor = torch.from_numpy(bits if bits.flags.writeable else np.asarray(_Writable(bits)))
    return tensor.view(torch.bfloat16) if bits is not array else tensor


def to_array(tensor: Tensor) -> Array:
    """Return the elements of a tensor; on the CPU they are the tensor's own memory."""
    import torch

    tensor = tensor.detach().cpu()
    if torch._is_zerotensor(tensor):
        # A derivative that is zero by rule has no memory to look at.
        tensor = torch.zeros(tensor.shape, dtype=tensor.dtype)
    if tensor.dtype == torch.bfloat16:
        return np.asarray(tensor.view(torch.int16).numpy().view(ml_dtypes.bfloat16))
    return np.asarray(tensor.numpy())


def to_arrays(tensors: list[Tensor | None]) -> tuple[Array | None, ...]:
    """Return the elements of every tensor that there is."""
    return tuple(None if tensor is None else to_array(tensor) for tensor in tensors)


def placed(host: Tensor, device: str) -> Tensor:
    """Return a copy on the device with the same strides and the same alignment to 16 bytes."""
    import torch

    if host.numel() == 0:
        return torch.empty_strided(host.shape, host.stride(), dtype=host.dtype, device=device)
    offset = host.data_ptr() % 16 // host.element_size()
    extent = 1 + sum((size - 1) * step for size, step in zip(host.shape, host.stride(), strict=True))
    memory = torch.empty(offset + extent, dtype=host.dtype, device=device)
    memory[offset:].copy_(host.as_strided((extent,), (1,)))
    return memory.as_strided(host.shape, host.stride(), offset)


def carry_back(host: Tensor, copy: Tensor) -> None:
    """Write to the host what was written to its copy, if anything was."""
    if to_array(copy).tobytes() != to_array(host).tobytes():
        host.copy_(copy.detach())
