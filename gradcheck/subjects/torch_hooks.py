"""Hooks that see the gradient come back to every call of a layer, and what each of them keeps.

A layer is one call of a module that has parameters of its own (and is no activation): its output is the
pre-activation of what follows. Where the output goes unchanged into another such module of which one is a
normalisation, only the later one is a pre-activation. Hooks sit on tensors, not on modules, and are placed
before anything can modify the tensor: a gradient is then that of the value before an in-place activation.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from gradcheck.subjects.torch_parts import (
    TRANSPARENT,
    activation_name,
    inside_another,
    is_activation,
    is_norm,
    log_gain,
    own_parameters,
)

if TYPE_CHECKING:
    from torch import Tensor, nn

# A slope counts as saturated below this share of the largest one in its layer.
SATURATED = 0.01


@dataclass
class Call:
    """One call of one module: what its output was, and the gradient that came back to it.

    `gradient` is ln ‖g‖², `weight_gradient` ln ‖∂/∂W‖², `forward` ln of the mean square; NaN until they are
    known. `idle` is the share of entries of g that are exactly 0, `dead` that of units all of whose entries
    are, `saturated` that of slopes of the following activation below a hundredth of the largest (NaN if it is
    no module), `infinite` that of entries that are infinite or NaN. `mean` and `variance` are those of the
    output; `log_gain` is ln of what random weights of this mean square (or this normalisation) multiply ‖g‖²
    by on the way back, NaN where that is not known. `source` is the place of the call whose output came in
    through the activation `through`, -1 where that is not known; dropout on the way multiplies ‖g‖² by
    `passing`.
    """

    name: str
    kind: str
    size: int
    units: int
    channels_first: bool
    forward: float
    norm: bool
    mean: float = math.nan
    variance: float = math.nan
    log_gain: float = math.nan
    source: int = -1
    through: str = ""
    passing: float = 1.0
    gradient: float = math.nan
    weight_gradient: float = math.nan
    idle: float = math.nan
    dead: float = math.nan
    saturated: float = math.nan
    infinite: float = 0.0
    reached: bool = False
    attached: bool = False
    into_norm: bool = False
    after: Any = None
    switch: bool = False
    own: Any = None


@dataclass(frozen=True)
class Origin:
    """Where a tensor came from: a call, through an activation, with what dropout does to ‖g‖² on the way."""

    tensor: Any
    version: int
    call: Call
    through: str = "linear"
    passing: float = 1.0


@dataclass
class Run:
    """What the hooks of one pass share."""

    calls: list[Call] = field(default_factory=list)
    inside: list[str] = field(default_factory=list)
    origins: dict[int, Origin] = field(default_factory=dict)
    closed: bool = False
    before: list[Origin | None] = field(default_factory=list)

    def origin(self, tensor: Any) -> Origin | None:
        """Return where a tensor came from, if nothing has modified it since."""
        found = self.origins.get(id(tensor))
        return found if found is not None and found.version == tensor._version else None


def hooked(module: nn.Module, run: Run) -> Iterator[Any]:
    """Hook every module; yields the handles, to be removed by the caller."""
    for name, part in module.named_modules():
        label = name or type(part).__name__
        yield part.register_forward_pre_hook(lambda m, args, label=label: run.inside.append(label))
        if is_activation(part):
            # An activation that works in place has changed its input by the time of the second hook.
            yield part.register_forward_pre_hook(lambda m, args: _remember(run, args))
            yield part.register_forward_hook(lambda m, args, out: _activated(run, m, args, out))
        elif type(part).__name__ in TRANSPARENT:
            yield part.register_forward_pre_hook(lambda m, args: _remember(run, args))
            yield part.register_forward_hook(lambda m, args, out: _passed(run, m, args, out))
        elif own_parameters(part) and not inside_another(name):
            yield part.register_forward_hook(_layer_hook(run, label, part))
        yield part.register_forward_hook(lambda m, args, out: _leave(run))


def _leave(run: Run) -> None:
    run.inside.pop()


def _layer_hook(run: Run, label: str, part: nn.Module) -> Callable[..., None]:
    norm, kind = is_norm(part), type(part).__name__
    own = own_parameters(part)

    def hook(m: Any, args: Any, out: Any) -> None:
        import torch

        if run.closed:
            _again(run, label, out)
            return
        came = [run.origin(given) for given in args if isinstance(given, torch.Tensor)]
        for origin in came:
            if origin is not None and origin.through == "linear" and (norm or origin.call.norm):
                origin.call.into_norm = True
        tensors = [t for t in _tensors(out) if t.is_floating_point()]
        if not tensors:
            return
        t = tensors[0]
        spatial = t.ndim > 2 and (
            "Conv" in kind or "BatchNorm" in kind or "InstanceNorm" in kind or "Group" in kind
        )
        units = t.shape[1] if spatial else t.shape[-1] if t.ndim else 1
        call = Call(label, kind, t.numel(), units, spatial, _log_mean_square(t), norm, own=own)
        values = t.detach().double()
        call.mean, call.variance = float(values.mean()), float(values.var(correction=0))
        call.log_gain = log_gain(m, args)
        if came and came[0] is not None:
            call.source = next(k for k, other in enumerate(run.calls) if other is came[0].call)
            call.through, call.passing = came[0].through, came[0].passing
        run.calls.append(call)
        run.origins[id(t)] = Origin(t, t._version, call)
        call.attached = t.requires_grad
        if t.requires_grad:
            t.register_hook(lambda g: _arrived(call, g))

    return hook


def _again(run: Run, label: str, out: Any) -> None:
    """Take up a call that checkpointing makes once more during the backward pass, having kept no graph."""
    call = next((c for c in run.calls if c.name == label and not c.attached), None)
    tensors = [t for t in _tensors(out) if t.is_floating_point() and t.requires_grad]
    if call is not None and tensors:
        call.attached = True
        tensors[0].register_hook(lambda g: _arrived(call, g))


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


def _remember(run: Run, args: Any) -> None:
    """Keep where the input of a module came from, before the module can modify it."""
    run.before.append(run.origin(args[0]) if len(args) == 1 and hasattr(args[0], "_version") else None)


def _activated(run: Run, part: Any, args: Any, out: Any) -> None:
    """Keep the gradient at an activation's output: over it, that at its input is the slope."""
    origin = run.before.pop()
    if origin is None or getattr(out, "shape", None) != args[0].shape:
        return
    if origin.through == "linear":
        name = activation_name(part)
        run.origins[id(out)] = replace(origin, tensor=out, version=out._version, through=name)
        # These are off or on; a slope of 0 is no saturation.
        origin.call.switch = type(part).__name__ in ("ReLU", "LeakyReLU", "PReLU", "RReLU")
        if out.requires_grad:
            out.register_hook(lambda g: setattr(origin.call, "after", g.detach()))


def _passed(run: Run, part: Any, args: Any, out: Any) -> None:
    """Follow a tensor through a module that changes no slope but by dropping."""
    origin = run.before.pop()
    if origin is None or not hasattr(out, "_version"):
        return
    kept = 1.0 - part.p if "Dropout" in type(part).__name__ and part.training else 1.0
    passing = origin.passing / kept if kept > 0 else math.inf
    run.origins[id(out)] = replace(origin, tensor=out, version=out._version, passing=passing)


def _arrived(call: Call, gradient: Tensor) -> None:
    """Keep what the gradient of one call is like; a hook that changes nothing."""
    g = gradient.detach().double()
    call.reached = True
    call.gradient = log_square(g)
    zero = g == 0
    call.idle = float(zero.double().mean())
    call.infinite = 1 - float(g.isfinite().double().mean())
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
            small = (slope < SATURATED * slope.max()) & (slope > 0 if call.switch else slope >= 0)
            call.saturated = float(small.double().mean())
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
        owns = bool(own_parameters(part)) and not is_activation(part) and not inside_another(name)
        # A module that was called may use the weights of its children by itself.
        parents = {name.rsplit(".", k)[0] for k in range(1, name.count(".") + 1)}
        if owns and not parents & called and (name or type(part).__name__) not in called:
            yield "FLOW-UNUSED", f"{name} ({type(part).__name__}) has parameters and was not called", name
            return
