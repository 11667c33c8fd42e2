"""The same numbers in other memory, and what depends on it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch


def all_of(tensors: Sequence[Any]) -> Iterator[tuple[str, list[Any]]]:
    """Yield the tensors with one of them laid out otherwise, and in words how; a fresh graph each time."""
    for k, x in enumerate(tensors):
        if not x.requires_grad:
            continue
        for layout, made in _laid(x.detach()):
            others = [t.detach().clone() if j != k else made for j, t in enumerate(tensors)]
            for given, t in zip(others, tensors, strict=True):
                given.requires_grad_(t.requires_grad)
            yield f"input {k} {layout}", others


def _laid(x: Any) -> Iterator[tuple[str, Any]]:
    if x.dim() > 1:
        yield "transposed", x.transpose(0, -1).contiguous().transpose(0, -1)
    if x.dim():
        wide = torch.full((*x.shape[:-1], 2 * x.shape[-1]), 7.0, dtype=x.dtype)
        wide[..., ::2] = x
        yield "strided", wide[..., ::2]
    buffer = torch.zeros(x.numel() + 3, dtype=x.dtype)
    buffer[3:] = x.reshape(-1)
    yield "offset", buffer[3:].reshape(x.shape)
    if x.dim() == 4:
        yield "channels-last", x.contiguous(memory_format=torch.channels_last)
    if x.dim() and x.shape[0] > 1:
        yield "expanded", x[:1].clone().expand(x.shape)


def gradients(f: Callable[..., Any], laid: Sequence[Any], cotangent: Any) -> list[Any]:
    """Return the vector-Jacobian product at the tensors as they lie in memory."""
    from benchmarks.oracle.witness import flat

    wanted = [t for t in laid if t.requires_grad]
    found = iter(torch.autograd.grad(flat(f(*laid)), wanted, cotangent, allow_unused=True))
    return [next(found) if t.requires_grad else None for t in laid]


def apart(one: Any, two: Any) -> bool:
    """Whether two results differ by more than another order of summation explains."""
    if one.shape != two.shape:
        return True
    one, two = one.detach().reshape(-1).double(), two.detach().reshape(-1).double()
    usual = two[torch.isfinite(two)].abs().max() if torch.isfinite(two).any() else torch.tensor(0.0)
    same = ((one - two).abs() <= 1e-9 * usual) | (one == two) | (one.isnan() & two.isnan())
    return not bool(same.all())


def addresses_memory(f: Callable[..., Any]) -> bool:
    """Whether the schema of the operator that a function calls says that it addresses its input's storage."""
    name = getattr(f, "aten", "")
    schemas = torch._C._jit_get_schemas_for_operator(f"aten::{name}") if name else []
    return any(argument.name == "storage_offset" for schema in schemas for argument in schema.arguments)
