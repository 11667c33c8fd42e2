"""Independent proofs that a wrong operation is wrong: it differs from a right one at a named input."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from tests.blackbox.corpus.operation import CAUSES, Call, Operation, fresh

CLEARLY = 1e-9
# Causes whose fault must not show in value and gradient at the user's own example.
HIDDEN = ("some values", "some shapes", "some layouts", "some formats", "second order")

Cotangent = Callable[[torch.Tensor, int], torch.Tensor]


@dataclass(frozen=True)
class Proof:
    """Where and in what (value, gradient, second, state) the operation parts from an honest one."""

    honest: Any
    at: Callable[[], tuple[Any, ...]]
    what: str
    cotangent: Cotangent
    witness: Callable[[Call], float] | None = None


def drawn(output: torch.Tensor, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1000 + seed)
    return torch.randn(output.shape, generator=generator, dtype=torch.float64).to(output.dtype)


def tensors(inputs: Sequence[Any]) -> list[Any]:
    return [
        x.detach().requires_grad_() if isinstance(x, torch.Tensor) and x.dtype.is_floating_point else x
        for x in inputs
    ]


def several(outputs: Any) -> list[Any]:
    return list(outputs) if isinstance(outputs, tuple | list) else [outputs]


def differentiable(f: Any, xs: Sequence[Any]) -> list[torch.Tensor]:
    found = [x for x in xs if isinstance(x, torch.Tensor) and x.requires_grad]
    return found + ([p for p in f.parameters() if p.requires_grad] if isinstance(f, torch.nn.Module) else [])


def gradients(
    outputs: Sequence[Any], wanted: Sequence[Any], weights: Sequence[Any], graph: bool
) -> list[Any]:
    pairs = [(y, w) for y, w in zip(outputs, weights, strict=True) if y.requires_grad]
    if not pairs:
        return [torch.zeros_like(x) for x in wanted]
    found = torch.autograd.grad(
        [y for y, _ in pairs], wanted, [w for _, w in pairs], create_graph=graph, allow_unused=True
    )
    return [torch.zeros_like(x) if g is None else g for g, x in zip(found, wanted, strict=True)]


def observe(f: Any, inputs: Sequence[Any], what: str, cotangent: Cotangent = drawn) -> list[torch.Tensor]:
    """Return the values, the gradients, or the second derivatives along fixed directions."""
    xs = tensors(inputs)
    outputs = [y for y in several(f(*xs)) if y.dtype.is_floating_point]
    if what == "value":
        return [y.detach() for y in outputs]
    weights = [cotangent(y.detach(), k) for k, y in enumerate(outputs)]
    wanted = differentiable(f, xs)
    if what == "second":
        weights = [w.requires_grad_() for w in weights]
    first = gradients(outputs, wanted, weights, what == "second")
    if what == "gradient":
        return [g.detach() for g in first]
    second = gradients(
        first, [*wanted, *weights], [drawn(g.detach(), 50 + k) for k, g in enumerate(first)], False
    )
    return [g.detach() for g in second]


def observe_pair(call: Call, inputs: Sequence[Any], what: str) -> list[torch.Tensor]:
    outputs = [torch.from_numpy(np.array(y)) for y in several(call.f(*inputs))]
    if what == "value":
        return outputs
    weights = [drawn(y, k).numpy() for k, y in enumerate(outputs)]
    found = call.keywords["vjp"](tuple(inputs), weights[0] if len(weights) == 1 else tuple(weights))
    return [torch.from_numpy(np.array(g)) for g in several(found)]


def doubled(inputs: Sequence[Any]) -> list[Any]:
    torched = [torch.from_numpy(x) if isinstance(x, np.ndarray) else x for x in inputs]
    return [x.double() if isinstance(x, torch.Tensor) and x.dtype.is_floating_point else x for x in torched]


def apart(got: Sequence[torch.Tensor], expected: Sequence[torch.Tensor]) -> float:
    """Return the largest difference as a part of the largest expected entry of the same tensor."""
    worst = 0.0
    for g, e in zip(got, expected, strict=True):
        if g.shape != e.shape:
            return math.inf
        g, e = g.double(), e.double()
        same = (g == e) | (g.isnan() & e.isnan())
        if same.all():
            continue
        if not (g[~same].isfinite().all() and e[~same].isfinite().all()):
            return math.inf
        worst = max(worst, float((g - e).abs().max() / e[e.isfinite()].abs().max().clamp_min(1e-300)))
    return worst


def difference(call: Call, proof: Proof, inputs: Sequence[Any], what: str, twin: Sequence[Any]) -> float:
    """Compare the call's operation with the honest one at the same inputs in double precision."""
    if "vjp" in call.keywords:
        got = observe_pair(call, inputs, what)
    else:
        got = observe(call.f, inputs, what, proof.cotangent)
    cotangent = proof.cotangent
    narrow = next((g.dtype for g in got if g.dtype.itemsize < 8), torch.float64)
    expected = observe(
        fresh(proof.honest), doubled(twin), what, lambda y, k: cotangent(y.to(narrow), k).to(y.dtype)
    )
    return apart(got, expected)


def threshold(inputs: Sequence[Any]) -> float:
    """Return what counts as a clear difference: far above the roundoff of the narrowest format."""
    kinds = [x.dtype for x in inputs if isinstance(x, torch.Tensor) and x.dtype.is_floating_point]
    narrowest = max((torch.finfo(kind).eps for kind in kinds), default=0.0)
    return CLEARLY if narrowest < 1e-9 else 8 * narrowest


class Corpus:
    """Wrong operations and their proofs, collected by name."""

    def __init__(self) -> None:
        self.operations: list[Operation] = []
        self.proofs: dict[str, Proof] = {}

    def add(
        self,
        name: str,
        cause: str,
        f: Any,
        inputs: Callable[[], tuple[Any, ...]],
        honest: Any = None,
        *,
        at: Callable[[], tuple[Any, ...]] | None = None,
        what: str = "gradient",
        cotangent: Cotangent = drawn,
        witness: Callable[[Call], float] | None = None,
        factory: bool = False,
        **keywords: Any,
    ) -> None:
        """Add one; ``factory`` says that ``f()`` makes the function anew, for those that remember."""
        assert cause in CAUSES and name not in self.proofs, name

        def make() -> Call:
            return Call(f() if factory else fresh(f), inputs(), dict(keywords))

        self.operations.append(Operation(name, cause, make))
        self.proofs[name] = Proof(honest, at or inputs, what, cotangent, witness)
