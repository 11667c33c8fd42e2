"""A PyTorch callable and its example arguments as a function of its tensors."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from typing import TYPE_CHECKING, Any

from gradcheck.errors import UsageError
from gradcheck.subjects.torch_function import Known, Leaf, TorchFunction

if TYPE_CHECKING:
    from torch import Tensor


def function_of(
    f: Callable[..., Any], args: Sequence[Any], keywords: Mapping[str, Any], parameters: bool = True
) -> TorchFunction:
    """Return the function that calls `f` with these examples, its tensors and parameters made variable."""
    import torch

    leaves: list[Leaf] = []
    given = [t for t in _tensors((args, keywords)) if t.is_floating_point()]
    chosen = any(t.requires_grad for t in given)
    positional = tuple(_template(item, f"input {k}", leaves, chosen) for k, item in enumerate(args))
    template = positional, {name: _template(v, name, leaves, chosen) for name, v in keywords.items()}
    module = f if isinstance(f, torch.nn.Module) else None
    names: list[str] = []
    if module is not None and parameters:
        for name, parameter in module.named_parameters():
            if parameter.requires_grad and parameter.is_floating_point():
                names.append(name)
                leaves.append(Leaf(name, parameter.detach(), True, fixed=True))
    if not any(leaf.active for leaf in leaves):
        kinds = ", ".join(str(t.dtype) for t in _tensors((args, keywords))) or "no tensor"
        raise UsageError(
            f"expected at least one floating-point tensor to differentiate, got {kinds}; "
            "give an example such as torch.randn(4, 3, dtype=torch.float64)"
        )
    split = len(leaves) - len(names)

    def call(tensors: Sequence[Tensor]) -> Any:
        positional, named = _filled(template, tensors)
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


@dataclass(frozen=True)
class _Slot:
    place: int


@dataclass(frozen=True)
class _Record:
    """A dataclass whose tensors were taken out."""

    like: Any
    inside: dict[str, Any]


def _template(item: Any, path: str, leaves: list[Leaf], chosen: bool) -> Any:
    import torch

    if isinstance(item, torch.Tensor):
        _usable(item, path)
        active = item.is_floating_point() and (item.requires_grad or not chosen)
        leaves.append(Leaf(path or f"input {len(leaves)}", item.detach().clone(), active))
        return _Slot(len(leaves) - 1)
    if isinstance(item, Mapping):
        made = {k: _template(v, f"{path}.{k}" if path else str(k), leaves, chosen) for k, v in item.items()}
        return made
    if isinstance(item, list | tuple):
        inside = [_template(v, f"{path}[{k}]" if path else "", leaves, chosen) for k, v in enumerate(item)]
        if isinstance(item, tuple) and hasattr(item, "_fields"):
            return type(item)(*inside)
        return type(item)(inside)
    if is_dataclass(item) and not isinstance(item, type):
        parts = {f.name: getattr(item, f.name) for f in fields(item)}
        return _Record(item, {k: _template(v, f"{path}.{k}", leaves, chosen) for k, v in parts.items()})
    return item


def _usable(tensor: Tensor, path: str) -> None:
    if tensor.is_complex():
        raise UsageError(f"{path or 'an input'} is complex: only real inputs are checked; pass its real view")
    if tensor.layout is not _strided():
        raise UsageError(f"{path or 'an input'} is a {tensor.layout} tensor: pass a dense one")


def _strided() -> Any:
    import torch

    return torch.strided


def _filled(template: Any, tensors: Sequence[Tensor]) -> Any:
    if isinstance(template, _Slot):
        return tensors[template.place]
    if isinstance(template, _Record):
        made = copy.copy(template.like)
        for name, inside in template.inside.items():
            # Neither frozen ones nor what `__post_init__` demands shall be in the way.
            object.__setattr__(made, name, _filled(inside, tensors))
        return made
    if isinstance(template, list | tuple):
        inside = [_filled(v, tensors) for v in template]
        if isinstance(template, tuple) and hasattr(template, "_fields"):
            return type(template)(*inside)
        return type(template)(inside)
    if isinstance(template, Mapping):
        return {k: _filled(v, tensors) for k, v in template.items()}
    return template


def _tensors(item: Any) -> list[Tensor]:
    import torch

    if isinstance(item, torch.Tensor):
        return [item]
    if isinstance(item, Mapping):
        return [t for value in item.values() for t in _tensors(value)]
    if isinstance(item, list | tuple):
        return [t for value in item for t in _tensors(value)]
    if is_dataclass(item) and not isinstance(item, type):
        return [t for f in fields(item) for t in _tensors(getattr(item, f.name, None))]
    return []
