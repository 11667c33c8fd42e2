"""A scenario of an optimizer as a program of plain torch."""

from __future__ import annotations

import ast
import inspect
import sys
from collections.abc import Mapping
from typing import Any

from gradcheck.formats import get_format
from gradcheck.records import Array
from gradcheck.subjects.snippet import numbers
from gradcheck.subjects.torch_optimizer_function import Event, Scenario, as_stored, needs_closure

_MOST_NUMBERS = 600


def source_of(make: Any, optimizer: Any) -> list[str]:
    """Return the lines that define `make` in a program: its name, or the class and options it makes."""
    module, name = getattr(make, "__module__", None) or "", getattr(make, "__qualname__", "")
    known = sys.modules.get(module)
    if known is not None and module != "__main__" and name and "<" not in name:
        return [f"import {module}", f"make = {module}.{name}"]
    kind = type(optimizer)
    home = "torch.optim" if kind.__module__.startswith("torch.optim.") else kind.__module__
    if home == "__main__" or "<" in kind.__qualname__:
        return [f"make = ...  # returns the optimizer under test, {kind.__qualname__}, of its parameters"]
    taken = {
        name: parameter
        for owner in reversed(kind.__mro__)
        for name, parameter in inspect.signature(owner.__init__).parameters.items()  # type: ignore[misc]
    }
    options = {
        k: v
        for k, v in optimizer.defaults.items()
        if k in taken and _is_literal(v) and (k == "lr" or v != taken[k].default)
    }
    listed = "".join(f", {key}={value!r}" for key, value in options.items())
    return [f"import {home}", f"make = lambda params: {home}.{kind.__qualname__}(params{listed})"]


def _is_literal(value: Any) -> bool:
    try:
        return bool(ast.literal_eval(repr(value)) == value)
    except (ValueError, SyntaxError):
        return False


def program(lines: list[str], scenario: Scenario, optimizer: Any, place: int, index: int) -> list[str]:
    """Return the lines that play a scenario and print one number of one weight at the end.

    `lines` define `make`; without them the program is to stand behind another one. Nothing is returned for a
    scenario that nobody would read.
    """
    if scenario.size > _MOST_NUMBERS:
        return []
    count = len(scenario.weights)
    names = [f"w{k}" for k in range(count)]
    closure = needs_closure(optimizer)
    found = list(dict.fromkeys(["import io", "import torch", *lines])) if lines else []
    found += [f"{n} = {_weight(w, scenario)}" for n, w in zip(names, scenario.weights, strict=True)]
    groups = scenario.groups[:-1] if scenario.late else scenario.groups
    found.append(_made(scenario, groups))
    if scenario.beside:
        found += [f"v{k} = torch.nn.Parameter(1 + w{k}.detach())" for k in range(count)]
        found.append(_made(scenario, groups, "v", "other"))
    joined = not scenario.late
    for event in scenario.events:
        found += _happens(scenario, event, closure, joined)
        joined |= event.kind == "add"
    shown = f"w{place}.detach().flatten()[{index}].item()" if scenario.weights[place].size else f"w{place}"
    return [*found, f'print("weight {place}[{index}]:", {shown})']


def _literal(array: Array, scenario: Scenario) -> str:
    fmt = get_format(scenario.format)
    reshape = "" if array.ndim == 1 else f".reshape({array.shape})"
    return f"torch.tensor({numbers(as_stored(array, fmt.name))}, dtype=torch.{fmt.name}){reshape}"


def _weight(array: Array, scenario: Scenario) -> str:
    plain, dtype = _literal(array, scenario), f"dtype=torch.{scenario.format}"
    if scenario.layout == "strided" and array.ndim and array.size:
        wide = (*array.shape[:-1], 2 * array.shape[-1])
        plain = f"torch.full({wide}, 77.0, {dtype})[..., ::2].copy_({plain})"
    elif scenario.layout == "transposed" and array.ndim == 2:
        plain = f"{plain}.t().contiguous().t()"
    elif scenario.layout == "offset" and array.ndim and array.size:
        plain = f"torch.full(({array.size + 3},), 77.0, {dtype})[3:].reshape({array.shape}).copy_({plain})"
    return f"torch.nn.Parameter({plain})"


def _made(scenario: Scenario, groups: Any, letter: str = "w", name: str = "optimizer") -> str:
    lists = ["[" + ", ".join(f"{letter}{k}" for k in group.members) + "]" for group in groups]
    if len(groups) == 1 and not groups[0].options and not scenario.common:
        return f"{name} = make({lists[0]})"
    parts = (_group(p, {**scenario.common, **g.options}) for p, g in zip(lists, groups, strict=True))
    return f"{name} = make([{', '.join(parts)}])"


def _group(parameters: str, options: Mapping[str, Any]) -> str:
    return "{" + ", ".join([f'"params": {parameters}', *(f'"{k}": {v!r}' for k, v in options.items())]) + "}"


def _happens(scenario: Scenario, event: Event, closure: bool, joined: bool) -> list[str]:
    count = len(scenario.weights)
    if event.kind == "rate":
        return [f'optimizer.param_groups[{event.group}]["lr"] *= {event.factor!r}']
    if event.kind == "zero":
        return ["optimizer.zero_grad()"]
    if event.kind == "add":
        last = scenario.groups[-1]
        names = "[" + ", ".join(f"w{k}" for k in last.members) + "]"
        return [f"optimizer.add_param_group({_group(names, {**scenario.common, **last.options})})"]
    if event.kind in ("save", "file"):
        return _restored(scenario, event, joined)
    slopes = ["None" if g is None else _literal(g, scenario) for g in event.gradients]
    if event.kind == "closure" or closure:
        return [
            f"slopes = [{', '.join(slopes)}]",
            f"weights = [{', '.join(f'w{k}' for k in range(count))}]",
            "def closure():",
            "    for w in weights:",
            "        w.grad = None",
            "    loss = 1 + sum((w * g).sum() for w, g in zip(weights, slopes) if g is not None)",
            "    loss.backward()",
            "    return loss",
            'print("loss:", optimizer.step(closure))',
        ]
    lines = [f"w{k}.grad = {slope}" for k, slope in enumerate(slopes)]
    if scenario.reuse:
        lines = [
            f"g = {slope}\nw{k}.grad = g if w{k}.grad is None or g is None else w{k}.grad.copy_(g)"
            for k, slope in enumerate(slopes)
        ]
    if scenario.beside:
        lines += [f"v{k}.grad = None if w{k}.grad is None else 1 - 2 * w{k}.grad" for k in range(count)]
        lines += [
            'other.param_groups[0]["lr"] = 1.5 * (other.param_groups[0].get("lr") or 1e-3)',
            "other.step()",
        ]
    return [*lines, "optimizer.step()"]


def _restored(scenario: Scenario, event: Event, joined: bool) -> list[str]:
    lines = ["saved = optimizer.state_dict()"]
    if event.kind == "file":
        lines += [
            "file = io.BytesIO()",
            "torch.save(saved, file)",
            "saved = torch.load(io.BytesIO(file.getvalue()), weights_only=False)",
        ]
    lines += [f"w{k} = torch.nn.Parameter(w{k}.detach().clone())" for k in range(len(scenario.weights))]
    groups = scenario.groups if joined else scenario.groups[:-1]
    return [*lines, _made(scenario, groups), "optimizer.load_state_dict(saved)"]
