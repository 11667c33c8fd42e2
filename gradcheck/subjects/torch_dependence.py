"""Whether a module's output depends on its input at all: another input, the same random numbers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from gradcheck.subjects.torch_flow import arguments, copied
from gradcheck.subjects.torch_function import floating

if TYPE_CHECKING:
    from torch import nn


def depends_on_input(module: nn.Module, example: Any) -> bool | None:
    """Return whether another input gives another output; None where that cannot be tried.

    In float64 where the model runs in it: a deep network can lose its input in a narrower format.
    """
    for wide in (True, False):
        try:
            return _depends(module, example, wide)
        except Exception:  # whatever the model raises is told by the measurement itself
            continue
    return None


def _depends(module: nn.Module, example: Any, wide: bool) -> bool | None:
    import torch

    own, default = copied(module), torch.get_default_dtype()
    if wide:
        own.double()
        torch.set_default_dtype(torch.float64)
    device = next((p.device for p in own.parameters()), torch.device("cpu"))
    args, keywords, _ = arguments(example, device, wide)
    others, same = [], [True]
    try:
        results = []
        with torch.no_grad():
            for given, named in ((args, keywords), (_turned(args, same), _turned(keywords, same))):
                torch.manual_seed(0)
                results.append(floating(copied(own)(*given, **named)))
        others = [not torch.equal(a, b) for a, b in zip(*results, strict=True)]
    finally:
        torch.set_default_dtype(default)
    return None if same[0] else any(others)


def _turned(item: Any, same: list[bool]) -> Any:
    """Return an input with its numbers in another order, floating ones changed as well; notes a change."""
    import torch

    if isinstance(item, torch.Tensor):
        turned = item.detach().flatten().flip(0).reshape(item.shape)
        turned = turned * 1.5 if item.is_floating_point() else turned
        same[0] = same[0] and bool(torch.equal(turned, item))
        return turned
    if isinstance(item, Mapping):
        return {key: _turned(value, same) for key, value in item.items()}
    if isinstance(item, list | tuple):
        return type(item)(_turned(value, same) for value in item)
    return item
