"""What an optimizer is put through, as data: weights, groups, and what a training loop does to them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from gradcheck.records import Array


@dataclass(frozen=True)
class Group:
    """Weights, by their places, that share options; the options stand over those that `make` gives."""

    members: tuple[int, ...]
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Event:
    """Something that a training loop does to its optimizer.

    `kind` is "step" with one gradient per weight, None for none; "closure", the same by `step(closure)`;
    "rate", the learning rate of `group` multiplied by `factor`; "save" and "file", a fresh optimizer on
    copies of the weights with the saved state, the latter through `torch.save`; "add", the last group
    joins by `add_param_group`; "zero", `zero_grad()`.
    """

    kind: str
    gradients: tuple[Array | None, ...] = ()
    group: int = 0
    factor: float = 1.0

    @property
    def steps(self) -> bool:
        """Whether weights may move."""
        return self.kind in ("step", "closure")


@dataclass(frozen=True)
class Scenario:
    """First weights in a format and a layout, their groups, and what happens.

    `common` are options that every group has beside its own. `beside` lets another optimizer of the same
    make work in turn with this one; with `reuse` the gradients of all steps lie in the same memory.
    """

    family: str
    format: str
    weights: tuple[Array, ...]
    groups: tuple[Group, ...]
    events: tuple[Event, ...]
    layout: str = "contiguous"
    common: Mapping[str, Any] = field(default_factory=dict)
    beside: bool = False
    reuse: bool = False

    @property
    def late(self) -> bool:
        """Whether the last group joins in the middle."""
        return any(event.kind == "add" for event in self.events)

    @property
    def size(self) -> int:
        """How many numbers it takes: elements times steps."""
        return sum(w.size for w in self.weights) * max(1, sum(event.steps for event in self.events))


@dataclass(frozen=True)
class Breach:
    """Something that a step must not do, with the kind that names its code."""

    kind: str
    note: str


@dataclass(frozen=True)
class Played:
    """Copies of all weights before the first event and after each step, and what was broken."""

    weights: tuple[tuple[Array, ...], ...]
    breaches: tuple[Breach, ...] = ()
    raised: str = ""
    losses: tuple[float, ...] = ()

    @property
    def last(self) -> tuple[Array, ...]:
        """The weights at the end."""
        return self.weights[-1]
