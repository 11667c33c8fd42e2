"""Right operations and the regimes of input under which each is right."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from tests.blackbox.corpus.operation import Call, Operation, fresh, normal, uniform

Inputs = Callable[[], tuple[Any, ...]]


@dataclass(frozen=True)
class Regime:
    """A name, and the call with inputs of that kind."""

    name: str
    make: Callable[[], Call]


def is_float(x: Any) -> bool:
    return (isinstance(x, torch.Tensor) and x.dtype.is_floating_point) or (
        isinstance(x, np.ndarray) and x.dtype.kind == "f"
    )


def single(x: Any) -> Any:
    return x.float() if isinstance(x, torch.Tensor) else x.astype(np.float32)


def rounded(x: Any) -> Any:
    return x.round()


def strided(x: Any) -> Any:
    """Return the same numbers in every second place of a larger buffer, behind an offset."""
    if isinstance(x, np.ndarray):
        buffer = np.full((*x.shape, 2), 7.0, x.dtype)
        buffer[..., 1] = x
        return buffer[..., 1]
    buffer = torch.full((*x.shape, 2), 7.0, dtype=x.dtype)
    buffer[..., 1] = x
    return buffer[..., 1]


def transposed(x: Any) -> Any:
    """Return the same numbers with the last two axes the other way round in memory."""
    if x.ndim < 2:
        return strided(x)
    if isinstance(x, np.ndarray):
        return np.ascontiguousarray(x.swapaxes(-1, -2)).swapaxes(-1, -2)
    return x.mT.contiguous().mT


def at(kinks: tuple[float, ...]) -> Callable[[Any], Any]:
    """Return what puts the kinks, their neighbours and numbers near them in turn into an input."""
    values = [
        v for k in kinks for v in (k, np.nextafter(k, 9e9), k - 1e-3, k, np.nextafter(k, -9e9), k + 1e-9)
    ]

    def put(x: Any) -> Any:
        filled = np.resize(np.array(values + ([-0.0] if 0 in kinks else [])), tuple(x.shape))
        return torch.from_numpy(filled).to(x.dtype) if isinstance(x, torch.Tensor) else filled.astype(x.dtype)

    return put


@dataclass(frozen=True)
class Right:
    """A right operation, and which regimes make sense for it.

    ``kinks`` are put into the first input; ``scales`` multiply it; ``ties`` are rounded numbers.
    """

    f: Any
    inputs: Inputs
    kinks: tuple[float, ...]
    scales: tuple[float, ...]
    ties: bool
    narrow: bool
    sizes: tuple[Inputs, ...]
    keywords: dict[str, Any]

    def call(self, inputs: tuple[Any, ...]) -> Call:
        f = fresh(self.f)
        if isinstance(f, torch.nn.Module) and any(x.dtype == torch.float32 for x in inputs if is_float(x)):
            f = f.float()
        return Call(f, inputs, dict(self.keywords))

    def changed(self, change: Callable[[Any], Any], first_only: bool = False) -> Callable[[], Call]:
        def make() -> Call:
            inputs = self.inputs()
            chosen = [is_float(x) and not (first_only and k) for k, x in enumerate(inputs)]
            return self.call(tuple(change(x) if c else x for x, c in zip(inputs, chosen, strict=True)))

        return make

    def regimes(self) -> list[Regime]:
        found = [Regime("float64", lambda: self.call(self.inputs()))]
        if self.narrow:
            found.append(Regime("float32", self.changed(single)))
        found += [Regime("strided", self.changed(strided)), Regime("transposed", self.changed(transposed))]
        if self.kinks:
            found.append(Regime("kinks", self.changed(at(self.kinks), first_only=True)))
        if self.ties:
            found.append(Regime("ties", self.changed(rounded)))
        for scale in self.scales:
            found.append(Regime(f"times {scale:g}", self.changed(lambda x, s=scale: x * s, first_only=True)))
        for number, inputs in enumerate(self.sizes):
            found.append(Regime(f"size {number}", lambda i=inputs: self.call(i())))
        return found


BOTH = (1e-8, 1e8)


class Rights:
    """Right operations, collected by name."""

    def __init__(self) -> None:
        self.by_name: dict[str, Right] = {}

    def add(
        self,
        name: str,
        f: Any,
        inputs: Inputs,
        *sizes: Inputs,
        kinks: tuple[float, ...] = (),
        scales: tuple[float, ...] = (),
        ties: bool = False,
        narrow: bool = True,
        **keywords: Any,
    ) -> None:
        assert name not in self.by_name, name
        self.by_name[name] = Right(f, inputs, kinks, scales, ties, narrow, sizes, keywords)

    def elementwise(
        self,
        name: str,
        f: Any,
        kinks: tuple[float, ...] = (),
        scales: tuple[float, ...] = BOTH,
        interval: tuple[float, float] | None = None,
        **keywords: Any,
    ) -> None:
        """Add a function of one array of any shape; ``interval`` restricts its arguments."""

        def draw(*shape: int) -> Inputs:
            if interval is None:
                return lambda: (2 * normal(*shape, seed=len(shape)),)
            return lambda: (uniform(*shape, low=interval[0], high=interval[1], seed=len(shape)),)

        shapes = draw(1), draw(2, 3, 2), draw(33)
        free = interval is None
        self.add(
            name, f, draw(4, 5), *shapes, kinks=kinks, scales=scales if free else (), ties=free, **keywords
        )

    def operations(self) -> tuple[Operation, ...]:
        return tuple(Operation(name, "", lambda r=r: r.call(r.inputs())) for name, r in self.by_name.items())
