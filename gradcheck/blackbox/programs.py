"""Programs that show a finding of a user's function without this package."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from typing import Any

from gradcheck.blackbox.seen import Problem
from gradcheck.subjects.function import Vector
from gradcheck.subjects.nested import source as nested_source

_MOST_NUMBERS = 3_000


def name_of(f: Any) -> str:
    """Return a short name for a callable."""
    builtin = type(f).__name__ == "builtin_function_or_method"
    for attribute in ("__name__",) if builtin else ("__qualname__", "__name__"):
        name = getattr(f, attribute, None)
        if isinstance(name, str):
            owner = getattr(f, "__self__", None)
            is_apply = name.rpartition(".")[2] == "apply" and isinstance(owner, type)
            if isinstance(owner, type) and is_apply:
                return f"{owner.__name__}.apply"
            return name.replace(".<locals>", "")
    inner = getattr(f, "func", None)
    return name_of(inner) if inner is not None and inner is not f else type(f).__name__


def where(f: Any) -> str:
    """Return the lines that bring a callable into a program, as far as its name tells."""
    module, name = getattr(f, "__module__", None), getattr(f, "__qualname__", "")
    owner = getattr(f, "__self__", None)
    if isinstance(owner, type) and name.rpartition(".")[2] == "apply":
        if "<" in owner.__qualname__ or owner.__module__ == "__main__":
            return f"f = ...  # {name_of(f)}, the function under test"
        first = owner.__qualname__.split(".")[0]
        return f"from {owner.__module__} import {first}\nf = {owner.__qualname__}.apply"
    for public in ("torch", "torch.nn.functional"):
        known = sys.modules.get(public)
        if known is not None and getattr(known, getattr(f, "__name__", ""), None) is f:
            return f"import {public}\nf = {public}.{getattr(f, '__name__', '')}"
    if module and module not in ("__main__", "builtins") and name and "<" not in name:
        try:
            imported = __import__(module, fromlist=["_"])
        except Exception:
            imported = None
        if getattr(imported, name.split(".")[0], None) is not None:
            return f"import {module}\nf = {module}.{name}"
    return f"f = ...  # {name_of(f)}, the function under test"


def literal(x: Vector, shape: tuple[int, ...]) -> str:
    """Return an array as text that gives exactly its numbers."""
    words = " ".join(float(v).hex() for v in x)
    return f'numbers("{words}", {shape!r})'


def torch_program(function: Any, f: Any) -> Callable[[Problem], str]:
    """Return what writes the program of a problem that a PyTorch function has."""

    def program(problem: Problem) -> str:
        leaves = problem.leaves or function.leaves
        if not problem.point or problem.size > _MOST_NUMBERS or len(problem.shapes) != len(leaves):
            return ""
        lines = [
            "import torch",
            *where(f).splitlines(),
            "def numbers(text, shape):",
            "    values = [float.fromhex(word) for word in text.split()]",
            f"    return torch.tensor(values, dtype=torch.float64).reshape(shape).to(torch.{problem.format})",
        ]
        point = iter(problem.point)
        names, active = [], []
        for k, (leaf, shape) in enumerate(zip(leaves, problem.shapes, strict=True)):
            name = f"x{k}"
            names.append(name)
            if leaf.active:
                lines.append(f"{name} = {literal(next(point), shape)}.requires_grad_()  # {leaf.name}")
                active.append((name, leaf.name))
            else:
                given = leaf.tensor
                if tuple(given.shape) != shape or given.numel() > _MOST_NUMBERS:
                    lines.append(f"{name} = ...  # {leaf.name}: any {given.dtype} tensor of shape {shape}")
                else:
                    text = f"torch.tensor({given.tolist()!r}, dtype={given.dtype})"
                    lines.append(f"{name} = {text}  # {leaf.name}")
        call = f"f({', '.join(n for n, leaf in zip(names, leaves, strict=True) if not leaf.fixed)})"
        lines += [
            f"y = {call}",
            "flat = torch.cat([t.reshape(-1) for t in (y if isinstance(y, (tuple, list)) else (y,))])",
        ]
        wanted = ", ".join(name for name, _ in active)
        chosen = next((n for n, said in active if said == problem.place), None)
        if chosen is None:
            lines += [
                "print(flat)",
                f"print(torch.autograd.grad(flat.sum(), ({wanted},), allow_unused=True))",
            ]
        else:
            lines += [
                f"(g,) = torch.autograd.grad(flat[{problem.row}], ({chosen},), allow_unused=True)",
                f"print('reverse mode:', None if g is None else g.reshape(-1)[{problem.index}].item())",
                f"print('should be:', {problem.expected!r})",
            ]
        return "\n".join(lines) + "\n"

    return program


def array_program(f: Any, vjp: Any, function: Any, arguments: Any) -> Callable[[Problem], str]:
    """Return what writes the program of a problem that a pair of NumPy functions has."""

    def program(problem: Problem) -> str:
        names = _names(function)
        if not _writable(function, problem):
            return ""
        inputs = ", ".join(nested_source(template, names) for template in arguments.positional)
        lines = [
            "import numpy as np",
            *where(f).splitlines(),
            *(line.replace("f =", "vjp =", 1) for line in where(vjp).splitlines()),
            "def numbers(text, shape):",
            "    return np.array([float.fromhex(word) for word in text.split()]).reshape(shape)",
            *_assigned(function, names, problem, "np.array"),
            f"y = f({arguments.source(names)})",
        ]
        named = [axes.name for axes in function.inputs]
        if problem.place not in named:
            return "\n".join([*lines, "print(y)"]) + "\n"
        if len(function.output_shapes) > 1 or any(not hasattr(t, "place") for t in arguments.positional):
            lines.append(f"# The cotangent is 1 at number {problem.row} of all outputs, else 0.")
            lines.append(f"# Wrong is the gradient of {problem.place}, element {problem.index}.")
            return "\n".join([*lines, f"print('should be:', {problem.expected!r})"]) + "\n"
        lines += [
            "cotangent = np.zeros(np.size(y))",
            f"cotangent[{problem.row}] = 1",
            f"gradients = vjp(({inputs},), cotangent.reshape(np.shape(y)))",
            f"print('vjp:', [np.ravel(g) for g in gradients][{named.index(problem.place)}][{problem.index}])",
            f"print('should be:', {problem.expected!r})",
        ]
        return "\n".join(lines) + "\n"

    return program


def jax_program(f: Any, function: Any, arguments: Any) -> Callable[[Problem], str]:
    """Return what writes the program of a problem that a JAX function has."""

    def program(problem: Problem) -> str:
        names = _names(function)
        if not _writable(function, problem):
            return ""
        active = [n for n, leaf in zip(names, function.leaves, strict=True) if leaf.active]
        fmt = function.format if problem.format == "float64" else problem.format
        wide = fmt == "float64"
        lines = [
            "import jax",
            *(['jax.config.update("jax_enable_x64", True)'] if wide else []),
            *where(f).splitlines(),
            "def numbers(text, shape):",
            "    values = [float.fromhex(word) for word in text.split()]",
            f'    return jax.numpy.array(values, dtype="{fmt}").reshape(shape)',
            *_assigned(function, names, problem, "jax.numpy.array"),
            f"def outputs({', '.join(active)}):",
            f"    y = f({arguments.source(names)})",
            "    floats = [o for o in jax.tree.leaves(y) if o.dtype.kind not in 'iub']",
            "    return jax.numpy.concatenate([o.ravel() for o in floats])",
            f"y, back = jax.vjp(outputs, {', '.join(active)})",
        ]
        named = [axes.name for axes in function.inputs]
        if problem.place not in named:
            return "\n".join([*lines, "print(y)", "print(back(jax.numpy.ones_like(y)))"]) + "\n"
        lines += [
            f"cotangent = jax.numpy.zeros_like(y).at[{problem.row}].set(1)",
            f"print('vjp:', back(cotangent)[{named.index(problem.place)}].ravel()[{problem.index}])",
            f"print('should be:', {problem.expected!r})",
        ]
        return "\n".join(lines) + "\n"

    return program


def _writable(function: Any, problem: Problem) -> bool:
    few = problem.size <= _MOST_NUMBERS and len(problem.shapes) == len(function.leaves)
    return bool(problem.point) and len(problem.point) == len(function.inputs) and few


def _names(function: Any) -> list[str]:
    return [_identifier(leaf.name) for leaf in function.leaves]


def _assigned(function: Any, names: list[str], problem: Problem, make: str) -> Iterator[str]:
    """Yield the lines that make every array of a problem."""
    numbers = iter(problem.point)
    for name, leaf, shape in zip(names, problem.leaves or function.leaves, problem.shapes, strict=True):
        if leaf.active:
            yield f"{name} = {literal(next(numbers), shape)}  # {leaf.name}"
        elif tuple(leaf.array.shape) == shape and leaf.array.size <= _MOST_NUMBERS:
            yield f'{name} = {make}({leaf.array.tolist()!r}, dtype="{leaf.array.dtype}")  # {leaf.name}'
        else:
            yield f"{name} = ...  # {leaf.name}: any {leaf.array.dtype} array of shape {shape}"


def _identifier(name: str) -> str:
    plain = "".join(c if c.isalnum() else "_" for c in name)
    return plain if plain and not plain[0].isdigit() else f"x_{plain}"
