"""An operation to be checked: a function as a user writes it, with the inputs that a user would give."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

CAUSES = (
    "any input",
    "some values",
    "some shapes",
    "some layouts",
    "some formats",
    "cotangent",
    "options",
    "second order",
    "consistent but wrong",
    "state",
)


@dataclass(frozen=True)
class Call:
    """One call of the checker: ``gradcheck.check(f, *inputs, **keywords)``.

    A NumPy forward comes with ``vjp=``, called as ``vjp(inputs, cotangent)``; it returns one array an input.
    """

    f: Callable[..., Any]
    inputs: tuple[Any, ...]
    keywords: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Operation:
    """A named operation; ``cause`` says when it is wrong, and is empty for a right one."""

    name: str
    cause: str
    make: Callable[[], Call]


def normal(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)


def uniform(*shape: int, low: float = 0.0, high: float = 1.0, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return low + (high - low) * torch.rand(shape, generator=generator, dtype=torch.float64)


def full(*values: float, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.tensor(values, dtype=dtype)


def array(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape)


def fresh(f: Any) -> Any:
    """Return f itself, or a new module with fixed parameters where f is a class of modules."""
    if not isinstance(f, type):
        return f
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return f().double()
