"""The gradients along any `nn.Module`, layer by layer, on a copy of it: the model is left as it was."""

from __future__ import annotations

import contextlib
import copy
import random
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from gradcheck.errors import UsageError
from gradcheck.subjects.torch_function import floating
from gradcheck.subjects.torch_hooks import Call, Run, hooked, of_calls, with_weights

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class Recorded:
    """The calls of one network in order, what was noticed, and a number that its weights give."""

    calls: tuple[Call, ...]
    notes: tuple[tuple[str, str, str], ...]
    fingerprint: float
    format: str


def available() -> None:
    """Import PyTorch; `ImportError` without it."""
    import torch  # noqa: F401


def is_module(value: Any) -> bool:
    """Whether a value is an `nn.Module`."""
    from torch import nn

    return isinstance(value, nn.Module)


def make(build: Any, seed: int) -> nn.Module:
    """Return the module of a seed: `build` itself, `build(seed)`, or `build()` under that seed."""
    import torch
    from torch import nn

    torch.manual_seed(seed)
    np.random.seed(seed % 2**32)
    random.seed(seed)
    if isinstance(build, nn.Module):
        return build
    try:
        made = build(seed) if _takes_a_seed(build) else build()
    except UsageError:
        raise
    except Exception as error:
        raise UsageError(f"build({seed}) raised {type(error).__name__}: {error}") from error
    if not isinstance(made, nn.Module):
        raise UsageError(f"build({seed}): expected an nn.Module, got {type(made).__name__}")
    return made


def _takes_a_seed(build: Any) -> bool:
    import inspect

    try:
        inspect.signature(build).bind(0)
    except (TypeError, ValueError):
        return False
    return not isinstance(build, type)


@contextlib.contextmanager
def as_before() -> Iterator[None]:
    """Leave every random state, the default type and the modes of autograd as they were."""
    import torch

    devices = list(range(torch.cuda.device_count())) if torch.cuda.is_initialized() else []
    states, dtype = (np.random.get_state(), random.getstate()), torch.get_default_dtype()
    with torch.random.fork_rng(devices=devices), torch.inference_mode(False), torch.enable_grad():
        try:
            yield
        finally:
            np.random.set_state(states[0])
            random.setstate(states[1])
            torch.set_default_dtype(dtype)


def record(
    module: nn.Module,
    example: Any,
    seed: int,
    loss: Callable[..., Any] | None,
    scale: float = 1.0,
    *,
    wide: bool = True,
) -> Recorded:
    """Run a copy of a module forward and backward, and return what its layers showed.

    It runs in float64 where it can, and in its own format without `wide`; the cotangent or loss is multiplied
    by `scale`. Raises `UsageError` where nothing can be measured; the message names the layer.
    """
    notes = [*_of_state(module)]
    first = None
    if wide:
        try:
            return replace_notes(_attempt(module, example, seed, loss, scale, True), notes)
        except _Failed as failed:
            first = failed
    try:
        found = _attempt(module, example, seed, loss, scale, False)
    except _Failed as failed:
        where = f" in {failed.layer}" if failed.layer else ""
        raise UsageError(f"the model raised{where}: {failed.cause}") from failed.error
    if first is not None:
        notes.append(("FLOW-FORMAT", f"in float64 it raised: {first.cause}", first.layer))
    return replace_notes(found, notes)


def replace_notes(found: Recorded, notes: Sequence[tuple[str, str, str]]) -> Recorded:
    """Return the record with further notes before its own."""
    return replace(found, notes=(*notes, *found.notes))


class _Failed(Exception):
    def __init__(self, layer: str, error: Exception) -> None:
        super().__init__(str(error))
        self.layer, self.error = layer, error
        self.cause = f"{type(error).__name__}: {error}"


def _attempt(
    module: nn.Module, example: Any, seed: int, loss: Callable[..., Any] | None, scale: float, wide: bool
) -> Recorded:
    import torch

    own, default = copied(module), torch.get_default_dtype()
    for parameter in own.parameters():
        if parameter.is_floating_point():
            parameter.requires_grad_(True)
        parameter.grad = None
    if wide:
        own.double()
        torch.set_default_dtype(torch.float64)
    device = next((p.device for p in own.parameters()), torch.device("cpu"))
    if device.type == "meta":
        raise UsageError("the model is on the meta device: it has no values; build it on a real device")
    args, keywords, moved = arguments(example, device, wide)
    run = Run()
    handles = list(hooked(own, run))
    torch.manual_seed(seed)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                output = own(*args, **keywords)
                run.closed = True
                backward(output, seed, loss, scale)
            except UsageError:
                raise
            except Exception as error:
                raise _Failed(run.inside[-1] if run.inside else "", error) from error
    finally:
        torch.set_default_dtype(default)
        for handle in handles:
            handle.remove()
    with_weights(run.calls)
    notes = [*of_calls(own, run.calls)]
    if moved:
        notes.append(("FLOW-MOVED", f"the example input was moved to {device}", ""))
    fingerprint = sum(float(p.detach().double().square().sum()) for p in own.parameters())
    kept = tuple(replace(call, after=None, own=None) for call in run.calls)
    return Recorded(kept, tuple(notes), fingerprint, "float64" if wide else _format(own))


def copied(module: nn.Module) -> nn.Module:
    """Return a copy; a module that cannot be copied is refused with the reason.

    A tensor with a history among the attributes (a weight that is computed anew in every forward pass) cannot
    be copied; for the time of the copy its values stand in for it.
    """
    held = [
        (part, key, value)
        for part in module.modules()
        for key, value in vars(part).items()
        if hasattr(value, "grad_fn") and value.grad_fn is not None
    ]
    try:
        for part, key, value in held:
            vars(part)[key] = value.detach().clone()
        return copy.deepcopy(module)
    except Exception as error:
        raise UsageError(
            f"the model cannot be copied ({type(error).__name__}: {error}), and it is never measured "
            "in place; pass a function build(seed) that makes it, without tensors that have a history as "
            "attributes"
        ) from error
    finally:
        for part, key, value in held:
            vars(part)[key] = value


def _format(module: nn.Module) -> str:
    return next((str(p.dtype).removeprefix("torch.") for p in module.parameters()), "float32")


def arguments(example: Any, device: Any, wide: bool) -> tuple[tuple[Any, ...], dict[str, Any], bool]:
    """Return positional and keyword arguments on a device, and whether anything had to be moved there.

    A tuple or list is one argument per item, a dict keyword arguments, anything else a single argument.
    """
    import torch

    moved = False

    def own(item: Any) -> Any:
        nonlocal moved
        if isinstance(item, np.ndarray | np.generic):
            item = torch.from_numpy(np.array(item))
        if isinstance(item, torch.Tensor):
            moved = moved or item.device != device
            made = item.detach().to(device).clone()
            if made.is_floating_point():
                made = (made.double() if wide else made).requires_grad_(True)
            return made
        if isinstance(item, Mapping):
            return {key: own(value) for key, value in item.items()}
        if isinstance(item, list | tuple) and not hasattr(item, "_fields"):
            return type(item)(own(value) for value in item)
        return item

    if example is None:
        raise UsageError("example_input: expected what the model takes, a tensor say, got None")
    if isinstance(example, Mapping):
        return (), {str(key): own(value) for key, value in example.items()}, moved
    items = tuple(example) if isinstance(example, list | tuple) else (example,)
    made = tuple(own(item) for item in items)
    return made, {}, moved


def backward(output: Any, seed: int, loss: Callable[..., Any] | None, scale: float) -> None:
    """Send back the gradient of `loss(output)`, or a Gaussian cotangent of every floating output."""
    import torch

    if loss is not None:
        value = loss(output)
        if not isinstance(value, torch.Tensor) or value.numel() != 1:
            got = tuple(value.shape) if isinstance(value, torch.Tensor) else type(value).__name__
            raise UsageError(f"loss(output): expected a tensor with a single number, got {got}")
        if not value.requires_grad:
            raise UsageError("loss(output) does not depend on any parameter: it has no gradient")
        (value.reshape(()) * scale).backward()
        return
    outputs = [o for o in floating(output) if o.requires_grad]
    if not outputs:
        raise UsageError(
            "no output depends on a parameter or input: the graph is cut off, nothing has a gradient"
        )
    generator = torch.Generator().manual_seed(seed)
    cotangents = [
        scale * torch.randn(o.shape, generator=generator, dtype=torch.float64).to(o.device, o.dtype)
        for o in outputs
    ]
    torch.autograd.backward(outputs, cotangents)


def _of_state(module: nn.Module) -> Iterator[tuple[str, str, str]]:
    from torch import nn

    parameters = list(module.named_parameters())
    if not parameters:
        raise UsageError(
            "the model has no parameters: expected layers such as nn.Linear; a "
            "function of its input alone has no depth to lose a gradient in"
        )
    lazy = next((name for name, p in parameters if isinstance(p, nn.parameter.UninitializedParameter)), None)
    if lazy is not None:
        raise UsageError(
            f"{lazy} has no values yet: call the model once on an example input, then measure it"
        )
    frozen = [name for name, p in parameters if not p.requires_grad]
    if frozen:
        yield (
            "FLOW-FROZEN",
            f"{len(frozen)} of {len(parameters)} parameters, {frozen[0]} the first",
            frozen[0],
        )
    changed = (nn.modules.dropout._DropoutNd, nn.modules.batchnorm._NormBase)
    for name, part in module.named_modules():
        if isinstance(part, changed) and not part.training:
            what = (
                f"{name} ({type(part).__name__}) is in evaluation mode: another network than the one trained"
            )
            yield "FLOW-EVALUATION", f"{what}; call model.train()", name
            return
