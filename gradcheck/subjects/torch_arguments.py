"""A PyTorch callable and its example arguments as a function of its tensors."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from gradcheck.errors import UsageError
from gradcheck.subjects.nested import arguments
from gradcheck.subjects.torch_function import Known, Leaf, TorchFunction

if TYPE_CHECKING:
    from torch import Tensor


def function_of(
    f: Callable[..., Any], args: Sequence[Any], keywords: Mapping[str, Any], parameters: bool = True
) -> TorchFunction:
    """Return the function that calls `f` with these examples, its tensors and parameters made variable."""
    import torch

    taken = arguments(args, keywords, lambda item: isinstance(item, torch.Tensor))
    for path, tensor in taken.arrays:
        _usable(tensor, path)
    floating = [tensor.is_floating_point() for _, tensor in taken.arrays]
    chosen = any(t.requires_grad for (_, t), real in zip(taken.arrays, floating, strict=True) if real)
    leaves = [
        Leaf(path, tensor.detach().clone(), real and (tensor.requires_grad or not chosen))
        for (path, tensor), real in zip(taken.arrays, floating, strict=True)
    ]
    module = f if isinstance(f, torch.nn.Module) else None
    names: list[str] = []
    if module is not None and parameters:
        for name, parameter in module.named_parameters():
            if parameter.requires_grad and parameter.is_floating_point():
                names.append(name)
                leaves.append(Leaf(name, parameter.detach(), True, fixed=True))
    if not any(leaf.active for leaf in leaves):
        kinds = ", ".join(str(tensor.dtype) for _, tensor in taken.arrays) or "no tensor"
        raise UsageError(
            f"expected at least one floating-point tensor to differentiate, got {kinds}; "
            "give an example such as torch.randn(4, 3, dtype=torch.float64)"
        )
    split = len(leaves) - len(names)

    def call(tensors: Sequence[Tensor]) -> Any:
        positional, named = taken.filled(tensors)
        if module is None:
            return f(*positional, **named)
        state = dict(zip(names, tensors[split:], strict=True))
        dtype = next((t.dtype for t in tensors if t.is_floating_point()), None)
        for name, buffer in module.named_buffers():
            state[name] = buffer.detach().clone()
            if buffer.is_floating_point() and dtype is not None:
                state[name] = state[name].to(dtype)
        if not names:
            for name, parameter in module.named_parameters():
                state[name] = parameter.detach().to(dtype) if parameter.is_floating_point() else parameter
        return torch.func.functional_call(module, state, tuple(positional), named)

    return TorchFunction(call, tuple(leaves), Known(), again=_copier(f, args, keywords, parameters))


def _copier(
    f: Any, args: Sequence[Any], keywords: Mapping[str, Any], parameters: bool
) -> Callable[[], TorchFunction | None] | None:
    """Return what makes the function anew from a copy of a callable object; plain functions have none."""
    if not hasattr(f, "__dict__") or isinstance(f, type):
        return None
    if type(f).__name__ in ("function", "builtin_function_or_method", "method"):
        return None
    try:
        kept = copy.deepcopy(f)
    except Exception:
        return None

    def again() -> TorchFunction | None:
        made = function_of(copy.deepcopy(kept), args, keywords, parameters)
        return made if made.leaf_shapes else None

    return again


def _usable(tensor: Tensor, path: str) -> None:
    import torch

    if tensor.is_complex():
        raise UsageError(f"{path} is complex: only real inputs are checked; pass its real view")
    if tensor.layout is not torch.strided:
        raise UsageError(f"{path} is a {tensor.layout} tensor: pass a dense one")
