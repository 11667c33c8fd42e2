"""Hooks that see the gradient come back to every call of a layer, and what each of them keeps.

A layer is one call of a module that has parameters of its own (and is no activation): its output is the
pre-activation of what follows. Where the output goes unchanged into another such module of which one is a
normalisation, only the later one is a pre-activation. Hooks sit on tensors, not on modules, and are placed
before anything can modify the tensor: a gradient is then that of the value before an in-place activation.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor, nn

# A slope counts as saturated below this share of the largest one in its layer.
SATURATED = 0.01
_ACTIVATIONS = "torch.nn.modules.activation"


@dataclass
class Call:
    """One call of one module: what its output was, and the gradient that came back to it.

    `gradient` is ln ‖g‖², `weight_gradient` ln ‖∂/∂W‖², `forward` ln of the mean square; NaN until they are
    known. `idle` is the share of entries of g that are exactly 0, `dead` that of units all of whose entries
    are, `saturated` that of slopes of the following activation below a hundredth of the largest (NaN if no
    module).
    """

    name: str
    kind: str
    size: int
    channels_first: bool
    forward: float
    norm: bool
    gradient: float = math.nan
    weight_gradient: float = math.nan
    idle: float = math.nan
    dead: float = math.nan
    saturated: float = math.nan
    reached: bool = False
    into_norm: bool = False
    after: Any = None
    own: Any = None


@dataclass
class Run:
    """What the hooks of one pass share."""

    calls: list[Call] = field(default_factory=list)
    inside: list[str] = field(default_factory=list)
    made: dict[int, tuple[Any, int, Call]] = field(default_factory=dict)
    slopes: dict[int, tuple[Any, int, Call]] = field(default_factory=dict)


def hooked(module: nn.Module, run: Run) -> Iterator[Any]:
    """Hook every module; yields the handles, to be removed by the caller."""
    for name, part in module.named_modules():
        label = name or type(part).__name__
        yield part.register_forward_pre_hook(lambda m, args, label=label: run.inside.append(label))
        if is_activation(part):
            yield part.register_forward_hook(lambda m, args, out: _activated(run, args, out))
        elif any(p is not None for p in part._parameters.values()):
            hook = _layer_hook(run, label, part)
            yield part.register_forward_hook(hook)
        yield part.register_forward_hook(lambda m, args, out: _leave(run))


def _leave(run: Run) -> None:
    run.inside.pop()


def is_activation(part: Any) -> bool:
    """Whether a module is one of PyTorch's activations, with parameters (PReLU) or without."""
    return type(part).__module__ == _ACTIVATIONS and type(part).__name__ != "MultiheadAttention"


def is_norm(part: Any) -> bool:
    """Whether a module normalises."""
    return "Norm" in type(part).__name__


def _layer_hook(run: Run, label: str, part: nn.Module) -> Callable[..., None]:
    norm, kind = is_norm(part), type(part).__name__
    own = [p for p in part._parameters.values() if p is not None]

    def hook(m: Any, args: Any, out: Any) -> None:
        import torch

        for given in args:
            if isinstance(given, torch.Tensor):
                _consume(run, given, norm)
        tensors = [t for t in _tensors(out) if t.is_floating_point()]
        if not tensors:
            return
        t = tensors[0]
        spatial = t.ndim > 2 and (
            "Conv" in kind or "BatchNorm" in kind or "InstanceNorm" in kind or "Group" in kind
        )
        call = Call(label, kind, t.numel(), spatial, _log_mean_square(t), norm, own=own)
        run.calls.append(call)
        run.made[id(t)] = (t, t._version, call)
        if t.requires_grad:
            t.register_hook(lambda g: _arrived(call, g))

    return hook


def _consume(run: Run, given: Tensor, norm: bool) -> None:
    """Notice a layer whose output goes unchanged into another layer, of which one normalises."""
    seen = run.made.get(id(given))
    if seen is not None and seen[0] is given and seen[1] == given._version and (norm or seen[2].norm):
        seen[2].into_norm = True


def _tensors(item: Any) -> Iterator[Any]:
    import torch

    if isinstance(item, torch.Tensor):
        yield item
    elif isinstance(item, Mapping):
        for value in item.values():
            yield from _tensors(value)
    elif isinstance(item, list | tuple):
        for value in item:
            yield from _tensors(value)


def _activated(run: Run, args: Any, out: Any) -> None:
    """Keep the gradient at an activation's output: over it, that at its input is the slope."""
    import torch

    if len(args) != 1 or not isinstance(out, torch.Tensor) or not out.requires_grad:
        return
    seen = run.made.get(id(args[0]))
    # An activation that works in place has changed the version of its own input by now.
    if seen is not None and seen[0] is args[0] and args[0].shape == out.shape:
        call = seen[2]
        if seen[1] == args[0]._version or out is args[0]:
            out.register_hook(lambda g: setattr(call, "after", g.detach()))


def _arrived(call: Call, gradient: Tensor) -> None:
    """Keep what the gradient of one call is like; a hook that changes nothing."""
    g = gradient.detach().double()
    call.reached = True
    call.gradient = log_square(g)
    zero = g == 0
    call.idle = float(zero.double().mean())
    axis = 1 if call.channels_first else g.ndim - 1
    others = [a for a in range(g.ndim) if a != axis]
    dead = zero
    for a in reversed(others):
        dead = dead.all(dim=a)
    call.dead = float(dead.double().mean())
    if call.after is not None and call.after.shape == g.shape:
        above = call.after.double()
        known = above != 0
        slope = (g[known] / above[known]).abs()
        if slope.numel():
            call.saturated = float(((slope < SATURATED * slope.max()) & (slope > 0)).double().mean())
    call.after = None


def log_square(t: Tensor) -> float:
    """Ln ‖t‖², scaled by the largest entry; -inf for 0, NaN or inf as they come."""
    if t.numel() == 0:
        return -math.inf
    largest = float(t.abs().max())
    if largest == 0:
        return -math.inf
    if not math.isfinite(largest):
        return math.nan if math.isnan(largest) else math.inf
    return 2 * math.log(largest) + math.log(float((t / largest).square().sum()))


def _log_mean_square(t: Tensor) -> float:
    wide = t.detach().double()
    return log_square(wide) - math.log(max(t.numel(), 1))


def with_weights(calls: Sequence[Call]) -> None:
    """Keep the gradient of every layer's weight, once all of them have come back."""
    for call in calls:
        weights = [p.grad for p in call.own if p.grad is not None and p.ndim > 1] or [
            p.grad for p in call.own if p.grad is not None
        ]
        if weights:
            call.weight_gradient = log_square(weights[0].double())


def of_calls(module: nn.Module, calls: Sequence[Call]) -> Iterator[tuple[str, str, str]]:
    """Yield what a person must read of the calls, as (code, sentence, layer)."""
    called = {call.name for call in calls}
    counts: dict[str, int] = {}
    for call in calls:
        counts[call.name] = counts.get(call.name, 0) + 1
    shared = [name for name, count in counts.items() if count > 1]
    if shared:
        yield (
            "FLOW-SHARED",
            f"{shared[0]} is called {counts[shared[0]]} times; every call is a row",
            shared[0],
        )
    cut = [call.name for call in calls if not call.reached]
    if cut:
        yield "FLOW-UNREACHED", f"no gradient reaches {', '.join(dict.fromkeys(cut))}", cut[0]
    for name, part in module.named_modules():
        owns = any(p is not None for p in part._parameters.values())
        if owns and not is_activation(part) and (name or type(part).__name__) not in called:
            yield "FLOW-UNUSED", f"{name} ({type(part).__name__}) has parameters and was not called", name
            return
