"""Samples of PyTorch's operator database, each as a function of tensors and the tensors.

What the database says about gradients belongs to the function: the wrapper, the processing of the output, and
which outputs have a gradient.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import torch

# A sample is small and not trivial if its differentiated inputs hold so many numbers.
FEWEST, MOST = 4, 400
MOST_ENTRIES = 60_000


@dataclass(frozen=True)
class Sample:
    """One call of an operator: a function of tensors, the tensors, the domain, and what it is in words."""

    f: Callable[..., Any]
    tensors: tuple[Any, ...]
    domain: Any
    told: str
    undeclared: int = 0


@cache
def operators() -> tuple[Any, ...]:
    """Return the operators that can be differentiated in float64, in the order of the database."""
    from torch.testing._internal.common_methods_invocations import op_db

    return tuple(op for op in op_db if op.supports_autograd and torch.float64 in op.supported_dtypes("cpu"))


def name_of(op: Any) -> str:
    """Return the name of an operator with that of its variant."""
    return f"{op.name}.{op.variant_test_name}" if op.variant_test_name else str(op.name)


def domain_of(op: Any, tensors: Sequence[Any]) -> tuple[float, float] | None:
    """Return the open interval that the database documents; only elementwise operators have one.

    One that the database's own sample is not in is none of the operator's.
    """
    low, high = getattr(op, "domain", (None, None))
    if low is None and high is None:
        return None
    low, high = -math.inf if low is None else float(low), math.inf if high is None else float(high)
    inside = all(bool(((t > low) & (t < high)).all()) for t in tensors if t.requires_grad)
    return (low, high) if inside else None


def function_of(op: Any, sample: Any) -> tuple[Callable[..., Any], tuple[Any, ...]]:
    """Return a sample's call as a function of its tensors, and the tensors in order.

    A complex result is seen as its real and imaginary parts, as `torch.autograd.gradcheck` sees it.
    """
    tensors: list[Any] = []

    def taken(item: Any) -> Any:
        if isinstance(item, torch.Tensor):
            tensors.append(item)
            return _Slot(len(tensors) - 1)
        if isinstance(item, list | tuple):
            return _same_kind(item, [taken(each) for each in item])
        if isinstance(item, dict):
            return {key: taken(each) for key, each in item.items()}
        return item

    template = taken((sample.input, tuple(sample.args), dict(sample.kwargs)))
    process = sample.output_process_fn_grad or (lambda output: output)

    def f(*given: Any) -> Any:
        first, rest, named = _filled(template, given)
        return _real(process(op.gradcheck_wrapper(op.op, first, *rest, **named)))

    f.__name__ = f.__qualname__ = name_of(op)

    def raw(*given: Any) -> Any:
        first, rest, named = _filled(template, given)
        return op.op(first, *rest, **named)

    f.aten, f.raw = op.aten_name, raw  # type: ignore[attr-defined]
    return f, tuple(tensors)


@dataclass(frozen=True)
class _Slot:
    place: int


def _same_kind(item: Any, made: list[Any]) -> Any:
    return type(item)(*made) if hasattr(item, "_fields") else type(item)(made)


def _filled(template: Any, given: Sequence[Any]) -> Any:
    if isinstance(template, _Slot):
        return given[template.place]
    if isinstance(template, list | tuple):
        return _same_kind(template, [_filled(each, given) for each in template])
    if isinstance(template, dict):
        return {key: _filled(each, given) for key, each in template.items()}
    return template


def declared(f: Callable[..., Any], tensors: Sequence[Any]) -> tuple[Callable[..., Any], int]:
    """Return the function without the outputs that autograd declares not differentiable, and their number.

    They say so themselves (`requires_grad` is False beside others that have a gradient);
    `torch.autograd.gradcheck` leaves them out as well.
    """
    outputs = _tuple(f(*tensors))
    live = [k for k, o in enumerate(outputs) if isinstance(o, torch.Tensor) and o.requires_grad]
    floating = [k for k, o in enumerate(outputs) if isinstance(o, torch.Tensor) and o.is_floating_point()]
    if live == floating:
        return f, 0

    kept = [k for k in range(len(outputs)) if k in live or k not in floating]

    def g(*given: Any) -> Any:
        found = _tuple(f(*given))
        return tuple(found[k] for k in kept)

    g.__name__, g.__qualname__ = f.__name__, f.__qualname__
    g.aten, g.raw = f.aten, f.raw  # type: ignore[attr-defined]
    return g, len(floating) - len(live)


def _tuple(result: Any) -> tuple[Any, ...]:
    return tuple(result) if isinstance(result, tuple | list) else (result,)


def _real(result: Any) -> Any:
    if isinstance(result, torch.Tensor):
        return torch.view_as_real(result.resolve_conj()) if result.is_complex() else result
    if isinstance(result, list | tuple):
        return tuple(_real(each) for each in result)
    return result


def samples(op: Any) -> list[Sample]:
    """Return small samples that are not trivial: the first in the database, and the middle one."""
    seeded()
    every = [
        (*function_of(op, sample), sample)
        for sample in op.sample_inputs("cpu", torch.float64, requires_grad=True)
        if not isinstance(sample.input, torch.Tensor) or sample.input.layout is torch.strided
    ]
    usable = [each for each in every if _usable(each[1])]
    fit = [each for each in usable if _fits(*each[:2])]
    if not fit:
        # None is of the wanted size: the one that is nearest to it.
        fit = sorted((each for each in usable if _answers(*each[:2])), key=lambda each: _far(each[1]))[:1]
    made = []
    for k in dict.fromkeys((0, len(fit) // 2)) if fit else ():
        f, tensors, sample = fit[k]
        g, undeclared = declared(f, tensors)
        told = sample.summary()[:400]
        made.append(Sample(g, tensors, domain_of(op, tensors), told, undeclared))
    return made


def seeded() -> None:
    """Start all generators of random numbers anew."""
    torch.manual_seed(0)
    random.seed(0)
    np.random.seed(0)


def _usable(tensors: Sequence[Any]) -> bool:
    plain = all(t.layout is torch.strided and not t.is_complex() for t in tensors)
    return plain and any(t.requires_grad for t in tensors)


def _fits(f: Callable[..., Any], tensors: Sequence[Any]) -> bool:
    numbers = sum(t.numel() for t in tensors if t.requires_grad)
    if not FEWEST <= numbers <= MOST:
        return False
    outputs = _answers(f, tensors)
    return outputs >= 1 and outputs * numbers <= MOST_ENTRIES


def _far(tensors: Sequence[Any]) -> float:
    numbers = sum(t.numel() for t in tensors if t.requires_grad)
    return numbers / MOST if numbers > MOST else FEWEST / max(numbers, 0.5)


def _answers(f: Callable[..., Any], tensors: Sequence[Any]) -> int:
    """Return how many numbers with a gradient a call returns."""
    try:
        found = _tuple(f(*tensors))
    except Exception:
        return 0
    live = [o for o in found if isinstance(o, torch.Tensor) and o.is_floating_point() and o.requires_grad]
    return sum(o.numel() for o in live)
