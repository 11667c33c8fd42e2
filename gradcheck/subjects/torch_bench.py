"""PyTorch as it is timed: the calls themselves, without the adapters that a check needs around them.

The text of a call is the one that is verified. A gradient is from the inputs and the cotangent, forward pass
included, as a reference's is.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from gradcheck.records import Array, Formula
from gradcheck.subjects.implementation import plain_options
from gradcheck.subjects.tensors import Tensor, to_array, to_tensor
from gradcheck.subjects.torch import CALLS
from gradcheck.subjects.torch_optim import FORMS, RECIPES

Call = Callable[[], Any]


def absence(device: str = "cpu") -> str:
    """Return why nothing can be timed on this device; empty if something can."""
    # The profiler, which counts memory, would otherwise speak on standard output.
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")
    try:
        import torch
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
        return "torch is not installed: pip install 'gradcheck[torch]'"
    return "no CUDA device" if device == "cuda" and not torch.cuda.is_available() else ""


def missing(formula: Formula) -> str:
    """Return why PyTorch has no such function; empty if it has."""
    return "" if formula.name in CALLS else f"torch does not provide {formula.name}"


def set_threads(count: int) -> None:
    """Compute with so many threads from now on."""
    import torch

    torch.set_num_threads(count)


def threads() -> int:
    """Return the number of threads that calls use now."""
    import torch

    return int(torch.get_num_threads())


def tensors(arrays: Sequence[Array], device: str = "cpu") -> tuple[Tensor, ...]:
    """Return tensors over the arrays' memory, or copies on the device."""
    return tuple(to_tensor(array).to(device) for array in arrays)


def function_of(formula: Formula, options: Mapping[str, Any]) -> Callable[..., Any]:
    """Return PyTorch's call for a formula as a function of tensors, its options bound."""
    import torch

    call = CALLS[formula.name]
    names = {"torch": torch, **plain_options(formula, {**options, **call.fixed}, call.fixed)}
    return eval(f"lambda {', '.join(formula.inputs)}: {call.function}", names)  # type: ignore[no-any-return]


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return the function through `torch.compile`, without the programs of earlier functions."""
    import torch

    torch._dynamo.reset()
    return torch.compile(function)  # type: ignore[no-any-return]


def forward(function: Callable[..., Any], given: Sequence[Tensor]) -> Call:
    """Return the call for a value, without recording."""
    import torch

    def call() -> Any:
        with torch.no_grad():
            return function(*given)

    return call


def backward(
    function: Callable[..., Any], given: Sequence[Tensor], places: Sequence[int], cotangent: Tensor
) -> Call:
    """Return the call for the gradients with respect to the inputs at `places`."""
    import torch

    leaves = [t.detach().requires_grad_(k in places and t.is_floating_point()) for k, t in enumerate(given)]
    wanted = [leaf for leaf in leaves if leaf.requires_grad]

    def call() -> Any:
        return torch.autograd.grad(function(*leaves), wanted, cotangent, allow_unused=True)

    return call


def result(value: Any) -> tuple[Array | None, ...]:
    """Return what a call returned as arrays."""
    parts = value if isinstance(value, tuple | list) else (value,)
    return tuple(None if part is None else to_array(part) for part in parts)


def _parameters(weight: Array, gradient: Array, count: int) -> list[Tensor]:
    """Return parameters with gradients: the flat arrays in `count` parts, each in memory of its own."""
    import torch

    pairs = zip(
        to_tensor(weight).ravel().tensor_split(count),
        to_tensor(gradient).ravel().tensor_split(count),
        strict=True,
    )
    made = []
    for values, slope in pairs:
        parameter = torch.nn.Parameter(values.clone())
        parameter.grad = slope.clone()
        made.append(parameter)
    return made


def step_missing(formula: Formula, form: str) -> str:
    """Return why there is no such optimizer in this form; empty if there is."""
    recipe = RECIPES.get(formula.name)
    if recipe is None:
        return f"torch has no optimizer for {formula.name}"
    return f"torch has no fused {formula.name}" if form == "fused" and not recipe.fused else ""


def step(
    formula: Formula, form: str, weight: Array, gradient: Array, options: Mapping[str, Any], count: int
) -> Call:
    """Return the call for one step of an optimizer over `count` tensors; the first one makes its state."""
    import torch

    recipe = RECIPES[formula.name]
    given = plain_options(formula, {**options, **recipe.fixed}, recipe.fixed)
    names = {"torch": torch, "parameters": _parameters(weight, gradient, count), **given}
    text = f"torch.optim.{recipe.make.format('parameters')}, {FORMS[form]})"
    return eval(text, names).step  # type: ignore[no-any-return]


def clip(formula: Formula, form: str, gradient: Array, options: Mapping[str, Any], count: int) -> Call:
    """Return the call that clips the gradients of `count` tensors in place, as training does."""
    import torch

    parameters, foreach = _parameters(gradient, gradient, count), form == "foreach"
    if formula.name == "clip_by_value":
        bound = float(options["threshold"])
        return lambda: torch.nn.utils.clip_grad_value_(parameters, bound, foreach=foreach)
    most, p = float(options["max_norm"]), float(options["p"])
    return lambda: torch.nn.utils.clip_grad_norm_(parameters, most, p, foreach=foreach)


def allocated(call: Call) -> int:
    """Return the most bytes that a call held at once in tensors it made, from the allocator's own record."""
    import torch

    with torch.autograd.profiler.profile(profile_memory=True, use_kineto=True) as profile:
        # What is returned is held until the record ends.
        kept = call()
    del kept
    events = [event for event in profile.kineto_results.events() if event.name() == "[memory]"]
    held = most = 0
    for event in sorted(events, key=lambda each: each.start_ns()):
        held += event.nbytes()
        most = max(most, held)
    return most


def allocated_on_device(call: Call) -> int:
    """Return the most bytes of the GPU's memory that a call added."""
    import torch

    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    kept = call()
    torch.cuda.synchronize()
    most = torch.cuda.max_memory_allocated() - before
    del kept
    return int(most)


def device_seconds(call: Call, loops: int) -> float:
    """Return the seconds of the GPU's own clock between events before and after so many calls."""
    import torch

    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    begin.record()
    for _ in range(loops):
        call()
    end.record()
    torch.cuda.synchronize()
    return float(begin.elapsed_time(end)) / 1e3


def copy(device: str, size: int) -> Call:
    """Return the call that copies so many bytes."""
    import torch

    source, target = (torch.ones(size // 8, dtype=torch.float64, device=device) for _ in range(2))
    return lambda: target.copy_(source)


# The suite's own cost: one operation, as every checker takes it

OPERATIONS = {
    "tanh": "torch.tanh(x)",
    "softmax": "torch.softmax(x.reshape(-1, 8), -1)",
    "batch norm": "torch.nn.functional.batch_norm(x.reshape(-1, 4), None, None, training=True)",
}


def operation(name: str) -> Callable[[Tensor], Tensor]:
    """Return an operation on a flat tensor."""
    import torch

    return eval(f"lambda x: {OPERATIONS[name]}", {"torch": torch})  # type: ignore[no-any-return]


def gradcheck_call(name: str, x: Array, fast: bool) -> Call:
    """Return the call of `torch.autograd.gradcheck` on an operation at x."""
    import torch

    f, leaf = operation(name), to_tensor(x.copy()).requires_grad_()
    return lambda: torch.autograd.gradcheck(f, (leaf,), fast_mode=fast)


def pair(name: str) -> tuple[Callable[[Array], Array], Callable[[Array, Array], Array]]:
    """Return an operation and its vector-Jacobian product as functions of flat NumPy arrays."""
    import torch

    f = operation(name)

    def value(x: Array) -> Array:
        return to_array(f(to_tensor(x))).ravel()

    def product(x: Array, cotangent: Array) -> Array:
        leaf = to_tensor(x.copy()).requires_grad_()
        y = f(leaf)
        return to_array(torch.autograd.grad(y, leaf, to_tensor(cotangent).reshape(y.shape))[0])

    return value, product
