"""PyTorch's own functions and modules, on the CPU and on CUDA.

One text per call: the text that runs is the text that a reproduction prints, so the two cannot part.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache, partial
from types import CodeType
from typing import Any

import numpy as np

from gradcheck.cases import smallest
from gradcheck.errors import MissingDependencyError, UsageError, unknown_name
from gradcheck.formats import Format
from gradcheck.records import Array, Formula, Options
from gradcheck.subjects import (
    torch_clipping,
    torch_dropout,
    torch_layers,
    torch_losses,
    torch_normalization,
    torch_penalties,
)
from gradcheck.subjects.implementation import FORMS, Implementation, bind, plain_options
from gradcheck.subjects.snippet import assignments, numbers
from gradcheck.subjects.tensors import Tensor, lent, to_array, to_arrays
from gradcheck.subjects.torch_calls import Call


def _linear(module: str, weight: str, bias: str) -> str:
    """The text of a module that computes with the given parameters instead of its own random ones."""
    return f'torch.func.functional_call({module}, {{"weight": {weight}, "bias": {bias}}}, x)'


_ROW = "torch.nn.functional.linear(x, w[None, :], b[None])[..., 0]"
_ROW_MODULE = _linear('torch.nn.Linear(w.numel(), 1, device="meta")', "w[None, :]", "b[None]") + "[..., 0]"
_DENSE_MODULE = _linear('torch.nn.Linear(weight.shape[1], weight.shape[0], device="meta")', "weight", "bias")
_PRELU_MODULE = (
    'torch.func.functional_call(torch.nn.PReLU(weight.numel(), device="meta"), '
    '{"weight": weight.reshape(-1)}, x)'
)
_F = "torch.nn.functional"

CALLS: dict[str, Call] = {
    "relu": Call(f"{_F}.relu(x)", "torch.nn.ReLU()(x)"),
    "leaky_relu": Call(
        f"{_F}.leaky_relu(x, negative_slope=negative_slope)",
        "torch.nn.LeakyReLU(negative_slope=negative_slope)(x)",
    ),
    "sigmoid": Call("torch.sigmoid(x)", "torch.nn.Sigmoid()(x)"),
    "tanh": Call("torch.tanh(x)", "torch.nn.Tanh()(x)"),
    "hardtanh": Call(
        f"{_F}.hardtanh(x, min_val=min_val, max_val=max_val)",
        "torch.nn.Hardtanh(min_val=min_val, max_val=max_val)(x)",
    ),
    "relu6": Call(f"{_F}.relu6(x)", "torch.nn.ReLU6()(x)"),
    "elu": Call(f"{_F}.elu(x, alpha=alpha)", "torch.nn.ELU(alpha=alpha)(x)"),
    "celu": Call(f"{_F}.celu(x, alpha=alpha)", "torch.nn.CELU(alpha=alpha)(x)"),
    "selu": Call(f"{_F}.selu(x)", "torch.nn.SELU()(x)"),
    "gelu": Call(f'{_F}.gelu(x, approximate="none")', 'torch.nn.GELU(approximate="none")(x)'),
    "gelu_tanh": Call(f'{_F}.gelu(x, approximate="tanh")', 'torch.nn.GELU(approximate="tanh")(x)'),
    "silu": Call(f"{_F}.silu(x)", "torch.nn.SiLU()(x)"),
    "softplus": Call(
        f"{_F}.softplus(x, beta=beta, threshold=threshold)",
        "torch.nn.Softplus(beta=beta, threshold=threshold)(x)",
    ),
    "log_sigmoid": Call(f"{_F}.logsigmoid(x)", "torch.nn.LogSigmoid()(x)"),
    "mish": Call(f"{_F}.mish(x)", "torch.nn.Mish()(x)"),
    "hardsigmoid": Call(f"{_F}.hardsigmoid(x)", "torch.nn.Hardsigmoid()(x)"),
    "hardswish": Call(f"{_F}.hardswish(x)", "torch.nn.Hardswish()(x)"),
    "softsign": Call(f"{_F}.softsign(x)", "torch.nn.Softsign()(x)"),
    "prelu": Call(f"{_F}.prelu(x, weight)", _PRELU_MODULE),
    "preactivation": Call(_ROW, _ROW_MODULE),
    "neuron": Call(f"torch.sigmoid({_ROW})", f"torch.nn.Sigmoid()({_ROW_MODULE})"),
    "dense": Call(f"{_F}.linear(x, weight, bias)", _DENSE_MODULE),
}
# The tables of the other families, each in a file of its own, join here.
CALLS |= torch_clipping.CALLS
CALLS |= torch_losses.CALLS
CALLS |= torch_penalties.CALLS
CALLS |= torch_layers.CALLS
CALLS |= torch_normalization.CALLS
# What draws random numbers is called in another way, and has a check of its own name instead of all others.
_RANDOM = {"dropout": torch_dropout}


@dataclass(frozen=True)
class TorchSubject:
    """PyTorch on one device, "cpu" or "cuda"."""

    device: str

    @property
    def name(self) -> str:
        """The name that cells and reports use."""
        return f"torch-{self.device}"

    def checks(self, formula: Formula) -> tuple[str, ...]:
        """Return every check that an implementation with double backward and a module can take."""
        if formula.name in _RANDOM:
            return (formula.name,)
        if formula.name not in CALLS:
            return ()
        orders = ("derivative", "second") if formula.differentiable else ()
        module = ("module",) if CALLS[formula.name].module else ()
        return ("value", *orders, "layout", *module, *CALLS[formula.name].forms, "special")

    def reason(self, formula: Formula, fmt: Format, check: str) -> str:
        """Return why the check cannot run: torch's own words, after one real call of two or three numbers."""
        if formula.name in _RANDOM:
            return _absence(self.device) or _RANDOM[formula.name].trial(self.name, self.device, fmt)
        if formula.name not in CALLS:
            return f"{self.name} does not provide {formula.name}"
        return _absence(self.device) or _trial(self, formula, fmt, check)

    def implement(self, formula: Formula, fmt: Format, form: str = "function") -> Implementation:
        """Return the function or the module of torch for this formula."""
        if formula.name in _RANDOM and not _absence(self.device):
            drawing: Implementation = _RANDOM[formula.name].implement(self.name, self.device, fmt)
            return drawing
        if formula.name not in CALLS and formula.name not in _RANDOM:
            raise UsageError(f"{self.name} does not provide {formula.name}")
        if form not in (known := ("function", "module", *CALLS[formula.name].forms)):
            raise unknown_name("form", form, known)
        absence = _absence(self.device)
        if absence:
            raise MissingDependencyError(absence)
        made = _implement(self, formula, fmt, form)
        if made.vjp is not None and _trial(self, formula, fmt, "derivative"):
            # What torch refuses to differentiate is not asked for again by the checks of layout and values.
            return replace(made, vjp=None, second=None)
        return made


def _absence(device: str) -> str:
    """Why nothing at all can run on this device; empty if something can."""
    try:
        import torch
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
        return "torch is not installed: pip install 'gradcheck[torch]'"
    return "no CUDA device" if device == "cuda" and not torch.cuda.is_available() else ""


@cache
def _trial(subject: TorchSubject, formula: Formula, fmt: Format, check: str) -> str:
    """Why torch refuses the check in this format, in its own words; empty if it does not."""
    trial = smallest(formula, fmt)
    inputs = trial.inputs
    form = check if check in FORMS else "function"
    random = formula.name in _RANDOM
    made = subject.implement(formula, fmt, form) if random else _implement(subject, formula, fmt, form)
    try:
        value = made.forward(inputs, trial.options)
        if made.vjp is None or made.second is None:
            return ""
        ones = np.ones(value.shape, fmt.dtype)
        if check in ("derivative", "second", "module"):
            made.vjp(inputs, ones, trial.options)
        if check == "second":
            made.second(inputs, ones, tuple(np.ones(a.shape, fmt.dtype) for a in inputs), trial.options)
    except RuntimeError as error:
        return str(error).partition("\n")[0]
    return ""


def _implement(subject: TorchSubject, formula: Formula, fmt: Format, form: str) -> Implementation:
    spelled = CALLS[formula.name]
    text = spelled.text(form)
    code = compile(text, f"<{subject.name} {formula.name}>", "eval")
    differentiable = formula.differentiable and form not in spelled.forms
    made = _adapted(formula, fmt, partial(_call, formula, code), subject.device, differentiable)
    return replace(
        made,
        subject=subject.name,
        options=spelled.fixed,
        reproduce=partial(_reproduce, subject.device, formula, text),
    )


def implementation_of(
    call: Callable[[Sequence[Tensor]], Any], formula: Formula, fmt: Format, options: Options
) -> Implementation:
    """Return a user's function of tensors on the CPU as an implementation of a formula.

    `call` takes the tensors in the order of the formula's inputs; `options` are those that it has.
    """
    made = _adapted(formula, fmt, lambda tensors, given: call(tensors), "cpu", formula.differentiable)
    return replace(made, options=options)


def _adapted(
    formula: Formula, fmt: Format, call: Callable[..., Any], device: str, differentiable: bool
) -> Implementation:

    def forward(inputs: tuple[Array, ...], options: Options) -> Any:
        import torch

        with torch.no_grad(), lent(inputs, device) as tensors:
            result = call(tensors, options)
            # Several results come as a tuple, in the order of the formula's outputs.
            return tuple(map(to_array, result)) if isinstance(result, tuple) else to_array(result)

    def vjp(inputs: tuple[Array, ...], cotangent: Array, options: Options) -> tuple[Array | None, ...]:
        with _recording(), lent(inputs, device) as tensors, lent((cotangent,), device) as c:
            return to_arrays(_gradients(call(_leaves(formula, tensors), options), tensors, c[0], False))

    def second(
        inputs: tuple[Array, ...], cotangent: Array, directions: tuple[Array, ...], options: Options
    ) -> tuple[Array | None, ...]:
        given = (cotangent, *directions)
        with _recording(), lent(inputs, device) as tensors, lent(given, device) as (c, *d):
            first = _gradients(call(_leaves(formula, tensors), options), tensors, c, True)
            return to_arrays(_second(first, tensors, d))

    return Implementation(
        formula=formula.name,
        subject="torch",
        format=fmt,
        forward=forward,
        vjp=vjp if differentiable else None,
        second=second if differentiable else None,
        negative_strides=False,
    )


def _call(formula: Formula, code: CodeType, tensors: tuple[Tensor, ...], options: Options) -> Tensor:
    import torch

    names = bind(formula, tensors, plain_options(formula, options))
    with warnings.catch_warnings():
        # Every nn.Linear of size zero says this; its initial weights are never used here.
        warnings.filterwarnings("ignore", "Initializing zero-element tensors", UserWarning)
        return eval(code, {"torch": torch}, names)


def _leaves(formula: Formula, tensors: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    places = formula.differentiated
    return tuple(
        tensor.requires_grad_(place in places and tensor.is_floating_point())
        for place, tensor in enumerate(tensors)
    )


def _gradients(
    value: Tensor, leaves: tuple[Tensor, ...], cotangent: Tensor, record: bool
) -> list[Tensor | None]:
    """Return one gradient per leaf; None where torch has none, and for integers."""
    import torch

    wanted = [leaf for leaf in leaves if leaf.requires_grad]
    found = iter(torch.autograd.grad(value, wanted, cotangent, create_graph=record, allow_unused=True))
    return [next(found) if leaf.requires_grad else None for leaf in leaves]


def _second(
    first: list[Tensor | None], leaves: tuple[Tensor, ...], directions: list[Tensor]
) -> list[Tensor | None]:
    """Return the gradients of sum_k <directions_k, first_k>; None where nothing depends on the leaf."""
    import torch

    pairs = [(g, d) for g, d in zip(first, directions, strict=True) if g is not None and g.requires_grad]
    wanted = [leaf for leaf in leaves if leaf.requires_grad]
    if not pairs:
        return [None] * len(leaves)
    outputs, along = zip(*pairs, strict=True)
    found = iter(torch.autograd.grad(outputs, wanted, along, allow_unused=True))
    return [next(found) if leaf.requires_grad else None for leaf in leaves]


@contextmanager
def _recording() -> Iterator[None]:
    """Record gradients, whatever the caller's own mode is."""
    import torch

    with torch.inference_mode(False), torch.enable_grad():
        yield


def _reproduce(
    device: str,
    formula: Formula,
    text: str,
    what: str,
    inputs: tuple[Array, ...],
    cotangent: Array | None,
    options: Options,
    directions: tuple[Array, ...] = (),
) -> str:
    """Return a program of plain torch that prints what was got, every tensor as a list of hex numbers."""
    lines = [
        "import torch",
        "def show(t):",
        "    for p in t if isinstance(t, tuple) else (t,):",
        "        print(None if p is None else [v.hex() for v in p.detach().double().flatten().tolist()])",
        *assignments(plain_options(formula, options)),
        *(_source(name, array, device) for name, array in zip(formula.inputs, inputs, strict=True)),
    ]
    if what == "value":
        return "\n".join([*lines, f"show({text})"])
    if cotangent is None or what not in ("derivative", "second"):
        raise UsageError(f"what={what!r} with cotangent={cotangent!r}: expected value, derivative or second")
    leaves = ", ".join(formula.inputs[place] for place in formula.differentiated) + ","
    lines += [f"{formula.inputs[place]}.requires_grad_()" for place in formula.differentiated]
    lines += [_source("cotangent", cotangent, device), f"y = {text}"]
    grad = "torch.autograd.grad"
    if what == "derivative":
        lines.append(f"for g in {grad}(y, ({leaves}), cotangent, allow_unused=True):\n    show(g)")
        return "\n".join(lines)
    along = directions or tuple(np.ones(array.shape, cotangent.dtype) for array in inputs)
    named = [(formula.inputs[place], along[place]) for place in formula.differentiated]
    lines += [_source(f"direction_{name}", array, device) for name, array in named]
    lines += [
        f"first = {grad}(y, ({leaves}), cotangent, create_graph=True, allow_unused=True)",
        f"directions = ({', '.join(f'direction_{name}' for name, _ in named)},)",
        "pairs = [(g, d) for g, d in zip(first, directions) if g is not None and g.requires_grad]",
        f"for g in {grad}([g for g, _ in pairs], ({leaves}), [d for _, d in pairs], allow_unused=True):",
        "    show(g)",
    ]
    return "\n".join(lines)


def _source(name: str, array: Array, device: str) -> str:
    """Return the assignment that makes `array` again in torch, with its strides."""
    at = f', device="{device}"' if device != "cpu" else ""
    reshape = "" if array.ndim == 1 else f".reshape({array.shape})"
    listed = str(array.ravel().tolist()) if array.dtype.kind in "iub" else numbers(array)
    made = f"torch.tensor({listed}, dtype=torch.{array.dtype.name}{at}){reshape}"
    steps = tuple(step // array.itemsize for step in array.strides)
    if array.flags.c_contiguous or not array.size or min(steps) <= 0:
        return f"{name} = {made}"
    empty = f"torch.empty_strided({array.shape}, {steps}, dtype=torch.{array.dtype.name}{at})"
    return f"{name} = {empty}.copy_({made})"


CPU = TorchSubject("cpu")
CUDA = TorchSubject("cuda")

__all__ = ["CALLS", "CPU", "CUDA", "Call", "TorchSubject"]
