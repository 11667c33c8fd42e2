"""Programs that show a finding of a user's function without this package."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from gradcheck.blackbox.seen import Problem
from gradcheck.subjects.function import Vector

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
        if not problem.point or problem.size > _MOST_NUMBERS or len(problem.shapes) != len(function.leaves):
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
        for k, (leaf, shape) in enumerate(zip(function.leaves, problem.shapes, strict=True)):
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
        call = f"f({', '.join(n for n, leaf in zip(names, function.leaves, strict=True) if not leaf.fixed)})"
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


def array_program(f: Any, vjp: Any, inputs: tuple[str, ...]) -> Callable[[Problem], str]:
    """Return what writes the program of a problem that a pair of NumPy functions has."""

    def program(problem: Problem) -> str:
        if not problem.point or problem.size > _MOST_NUMBERS or len(problem.point) != len(problem.shapes):
            return ""
        lines = [
            "import numpy as np",
            *where(f).splitlines(),
            *(line.replace("f =", "vjp =", 1) for line in where(vjp).splitlines()),
            "def numbers(text, shape):",
            "    return np.array([float.fromhex(word) for word in text.split()]).reshape(shape)",
        ]
        for name, x, shape in zip(inputs, problem.point, problem.shapes, strict=True):
            lines.append(f"{_identifier(name)} = {literal(x, shape)}")
        arguments = ", ".join(_identifier(name) for name in inputs)
        lines += [
            f"y = f({arguments})",
            "cotangent = np.zeros(np.size(y))",
            f"cotangent[{problem.row}] = 1",
            f"gradients = vjp(({arguments},), cotangent.reshape(np.shape(y)))",
            f"print('vjp:', [np.ravel(g) for g in gradients][{_place(inputs, problem)}][{problem.index}])",
            f"print('should be:', {problem.expected!r})",
        ]
        return "\n".join(lines) + "\n"

    return program


def jax_program(f: Any, inputs: tuple[str, ...]) -> Callable[[Problem], str]:
    """Return what writes the program of a problem that a JAX function has."""

    def program(problem: Problem) -> str:
        if not problem.point or problem.size > _MOST_NUMBERS or len(problem.point) != len(problem.shapes):
            return ""
        lines = [
            "import jax",
            'jax.config.update("jax_enable_x64", True)',
            *where(f).splitlines(),
            "def numbers(text, shape):",
            "    return jax.numpy.array([float.fromhex(word) for word in text.split()]).reshape(shape)",
        ]
        for name, x, shape in zip(inputs, problem.point, problem.shapes, strict=True):
            lines.append(f"{_identifier(name)} = {literal(x, shape)}")
        arguments = ", ".join(_identifier(name) for name in inputs)
        lines += [
            f"y, back = jax.vjp(f, {arguments})",
            f"cotangent = jax.numpy.zeros(y.size).at[{problem.row}].set(1).reshape(y.shape)",
            f"print('vjp:', back(cotangent)[{_place(inputs, problem)}].ravel()[{problem.index}])",
            f"print('should be:', {problem.expected!r})",
        ]
        return "\n".join(lines) + "\n"

    return program


def _identifier(name: str) -> str:
    plain = "".join(c if c.isalnum() else "_" for c in name)
    return plain if plain and not plain[0].isdigit() else f"x_{plain}"


def _place(inputs: tuple[str, ...], problem: Problem) -> int:
    return inputs.index(problem.place) if problem.place in inputs else 0
