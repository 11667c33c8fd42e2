"""What may help a network, done to a copy of it: other weights, normalisation, skip connections, activations.

Every function takes a module that it may change and returns it; `UsageError` says why a remedy does not
apply.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from gradcheck.errors import UsageError
from gradcheck.subjects.torch_parts import activation_name, is_activation, is_norm

if TYPE_CHECKING:
    from torch import Tensor, nn

LINEAR = ("Linear", "Conv1d", "Conv2d", "Conv3d")


def slope_square(module: nn.Module) -> float:
    """Return E φ'(z)² over z ~ N(0, 1), φ the first activation of a module; 1 without one."""
    import torch

    part = next((p for p in module.modules() if is_activation(p)), None)
    if part is None:
        return 1.0
    z = torch.linspace(-8, 8, 16001, dtype=torch.float64, requires_grad=True)
    density = torch.exp(-z.detach().square() / 2)
    # A fresh tensor, because the activation may work in place.
    out = copy.deepcopy(part).double()(z.reshape(-1, 1) + 0)
    (slope,) = torch.autograd.grad(out.sum(), z)
    return float((slope.square() * density).sum() / density.sum())


def linear_layers(module: nn.Module) -> list[tuple[str, nn.Module]]:
    """Return the fully connected and convolutional layers by name."""
    found = [(name, p) for name, p in module.named_modules() if type(p).__name__ in LINEAR]
    if not found:
        raise UsageError("no nn.Linear and no convolution: this remedy has nothing to change")
    return found


def critical_weights(module: nn.Module) -> nn.Module:
    """Draw Gaussian weights of variance 1/(fan_in E φ'²), so that ‖g‖² keeps its mean, and no biases."""
    from torch import nn

    square = slope_square(module)
    for _, part in linear_layers(module):
        weight: Any = part.weight
        nn.init.normal_(weight, 0.0, math.sqrt(1.0 / (square * weight[0].numel())))
        _without_bias(part)
    return module


def orthogonal_weights(module: nn.Module) -> nn.Module:
    """Draw orthogonal weights with the gain 1/√(E φ'²), and no biases."""
    from torch import nn

    gain = 1 / math.sqrt(slope_square(module))
    for _, part in linear_layers(module):
        nn.init.orthogonal_(part.weight, gain)  # type: ignore[arg-type, unused-ignore]
        _without_bias(part)
    return module


def _without_bias(part: Any) -> None:
    from torch import nn

    if part.bias is not None:
        nn.init.zeros_(part.bias)


def normalisation(kind: str) -> Callable[[nn.Module], nn.Module]:
    """Return what puts "batch" or "layer" normalisation after every layer but the last."""

    def remedy(module: nn.Module) -> nn.Module:
        from torch import nn

        if any(is_norm(part) for part in module.modules()):
            raise UsageError("the model is normalised already")
        for name, part in linear_layers(module)[:-1]:
            width = int(part.weight.shape[0])  # type: ignore[union-attr, operator, index, unused-ignore]
            convolution = type(part).__name__ != "Linear"
            if kind == "batch":
                axes = type(part).__name__[-2:] if convolution else "1d"
                norm: nn.Module = getattr(nn, f"BatchNorm{axes}")(width)
            else:
                norm = nn.GroupNorm(1, width) if convolution else nn.LayerNorm(width)
            put(module, name, nn.Sequential(part, norm))
        return module

    return remedy


def put(module: nn.Module, name: str, part: nn.Module) -> None:
    """Put a part in the place of a name."""
    if not name:
        raise UsageError("the model is a single layer: nothing can be put beside it")
    parent, _, last = name.rpartition(".")
    setattr(module.get_submodule(parent), last, part)


def skips(scale: float | None) -> Callable[[nn.Module], nn.Module]:
    """Return what adds x + s·layer(activation(x)) around every pair in a Sequential that keeps its shape.

    Without a scale it is 1/√L, L the number of pairs.
    """

    def remedy(module: nn.Module) -> nn.Module:
        pairs = list(_pairs(module))
        if not pairs:
            raise UsageError(
                "no activation followed by a layer with as many outputs as inputs in an nn.Sequential; add "
                "skip connections by hand"
            )
        s = 1 / math.sqrt(len(pairs)) if scale is None else scale
        for parent, start, stop in pairs:
            names = list(parent._modules)[start : stop + 1]
            parts = [parent._modules[name] for name in names]
            for name in names[1:]:
                parent._modules[name] = _identity()
            parent._modules[names[0]] = _skip(parts, s)
        return module

    return remedy


def _identity() -> nn.Module:
    from torch import nn

    return nn.Identity()


def _skip(parts: list[Any], scale: float) -> nn.Module:
    from torch import nn

    class Skip(nn.Module):  # type: ignore[misc, unused-ignore]
        """x + s·branch(x)."""

        def __init__(self) -> None:
            super().__init__()
            self.branch = nn.Sequential(*parts)

        def forward(self, x: Tensor) -> Tensor:
            # The branch may begin in place, and x is still needed.
            return x + scale * self.branch(x.clone())

    return Skip()


def _pairs(module: nn.Module) -> Iterator[tuple[Any, int, int]]:
    """Yield (Sequential, place of an activation, place of the layer after it) without overlap."""
    from torch import nn

    for parent in module.modules():
        if not isinstance(parent, nn.Sequential):
            continue
        children = list(parent)
        start = None
        for place, part in enumerate(children):
            if is_activation(part):
                start = place
            elif start is not None and type(part).__name__ in LINEAR:
                if _keeps_shape(part):
                    yield parent, start, place
                start = None


def _keeps_shape(part: Any) -> bool:
    if type(part).__name__ == "Linear":
        return bool(part.in_features == part.out_features)
    same = all(2 * p == d * (k - 1) for p, d, k in _geometry(part)) and set(part.stride) == {1}
    return bool(part.in_channels == part.out_channels and same)


def _geometry(part: Any) -> list[tuple[int, int, int]]:
    if isinstance(part.padding, str):
        return []
    return list(zip(part.padding, part.dilation, part.kernel_size, strict=True))


def activation(name: str) -> Callable[[nn.Module], nn.Module]:
    """Return what puts another of PyTorch's activations, `name`, in the place of every one; weights stay."""

    def remedy(module: nn.Module) -> nn.Module:
        from torch import nn

        found = [(n, p) for n, p in module.named_modules() if is_activation(p)]
        if not found:
            raise UsageError("no activation is a module of PyTorch's; functional ones cannot be replaced")
        if all(type(part).__name__ == name for _, part in found):
            raise UsageError(f"the activation is {name} already")
        for place, _ in found:
            put(module, place, getattr(nn, name)())
        return module

    return remedy


def activations(module: nn.Module) -> tuple[str, ...]:
    """Return the names of the activations of a module, as the catalogue has them where it does."""
    return tuple(
        dict.fromkeys(activation_name(p) or type(p).__name__ for p in module.modules() if is_activation(p))
    )


def update_norms(
    module: nn.Module, example: Any, seed: int, loss: Any, max_norm: float
) -> tuple[list[str], dict[str, list[float]]]:
    """Return the layers and, per way of training, ln of the norm of what reaches each layer's weight.

    "gradient" is the plain gradient, "clipped" that after `clip_grad_norm_` to `max_norm`, "SGD" and "Adam"
    the first step of either over its learning rate.
    """
    import torch

    from gradcheck.subjects.torch_flow import arguments, backward, copied

    own = copied(module).double()
    device = next(p.device for p in own.parameters())
    torch.set_default_dtype(torch.float64)
    args, keywords, _ = arguments(example, device, True)
    torch.manual_seed(seed)
    backward(own(*args, **keywords), seed, loss, 1.0)
    weights = [(n, p) for n, p in own.named_parameters() if p.ndim > 1 and p.grad is not None]
    if len(weights) < 2:
        raise UsageError("fewer than two weights have a gradient: there is no first and last to compare")
    found = {"gradient": [_log_norm(p.grad) for _, p in weights]}
    raw = [p.grad.clone() for _, p in weights]  # type: ignore[union-attr, unused-ignore]
    torch.nn.utils.clip_grad_norm_(own.parameters(), max_norm)
    found["clipped"] = [_log_norm(p.grad) for _, p in weights]
    for (_, p), g in zip(weights, raw, strict=True):
        p.grad = g
    for name, make in (("SGD", torch.optim.SGD), ("Adam", torch.optim.Adam)):
        before = [p.detach().clone() for _, p in weights]
        rate = 2.0**-10
        optimizer: Any = make([p for _, p in weights], lr=rate)
        optimizer.step()
        found[name] = [
            _log_norm(p.detach() - b) - math.log(rate) for (_, p), b in zip(weights, before, strict=True)
        ]
        for (_, p), b in zip(weights, before, strict=True):
            p.data.copy_(b)
    return [n for n, _ in weights], found


def _log_norm(t: Any) -> float:
    from gradcheck.subjects.torch_hooks import log_square

    return log_square(t.detach().double()) / 2


def in_format(
    module: nn.Module, example: Any, seed: int, loss: Any, name: str, scale: float
) -> tuple[float, float]:
    """Return the largest shares of zeros and of infinite or NaN entries in any layer's gradient in a format.

    The model and its input are cast to the format and run in it; entries that are 0 in float64 do not count.
    """
    import torch

    from gradcheck.subjects.torch_flow import record

    dtype = getattr(torch, name)
    rounded = module.to(dtype)
    wide = record(rounded.double(), example, seed, loss)
    narrow = record(rounded.to(dtype), _cast(example, name), seed, loss, scale, wide=False)
    zero = infinite = 0.0
    for own, other in zip(narrow.calls, wide.calls, strict=True):
        if own.reached and not own.into_norm:
            active = max(1 - other.idle, 1e-300)
            zero = max(zero, (own.idle - other.idle) / active)
            infinite = max(infinite, own.infinite)
    return zero, infinite


def _cast(item: Any, name: str) -> Any:
    import numpy as np
    import torch

    if isinstance(item, np.ndarray | np.generic):
        item = torch.from_numpy(np.array(item))
    if isinstance(item, torch.Tensor):
        return item.to(getattr(torch, name)) if item.is_floating_point() else item
    if isinstance(item, dict):
        return {key: _cast(value, name) for key, value in item.items()}
    if isinstance(item, list | tuple):
        return type(item)(_cast(value, name) for value in item)
    return item
