"""An optimizer that keeps its own state from step to step, as training uses it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np

from gradcheck.errors import UsageError
from gradcheck.formats import Format
from gradcheck.formulas.optimizer_parts import first_state
from gradcheck.records import Array, Formula
from gradcheck.subjects.implementation import Implementation

Groups = tuple[Mapping[str, Any], ...]
States = tuple[tuple[Array, ...], ...]


class Run(Protocol):
    """One optimizer at work on several weights, each with options of its own."""

    @property
    def convertible(self) -> bool:
        """Whether it can go on in another format."""
        ...

    def step(self, gradients: tuple[Array | None, ...]) -> None:
        """Take one step; a weight without a gradient is left out."""
        ...

    def weight(self, place: int) -> Array:
        """Return a copy of the weight."""
        ...

    def state(self, place: int) -> tuple[Array, ...]:
        """Return copies of the weight's state arrays, in the formula's order; the first state if none."""
        ...

    def taken(self, place: int) -> int:
        """Return how many steps this weight has taken, as far as its state knows."""
        ...

    def set_rate(self, place: int, rate: float) -> None:
        """Change the learning rate of one weight's group."""
        ...

    def restored(self, through_a_file: bool) -> Run:
        """Return a fresh run on copies of the weights, with the saved state of this one."""
        ...

    def converted(self, fmt: Format) -> Run:
        """Return a fresh run on the weights in another format, with the saved state of this one."""
        ...

    def program(self) -> str:
        """Return a program that does the same, without this package."""
        ...


def begin(
    implementation: Implementation,
    formula: Formula,
    weights: tuple[Array, ...],
    groups: Groups,
    states: States | None = None,
    taken: int = 0,
) -> Run:
    """Return a run of the implementation: its own, or its pure step repeated."""
    if implementation.begin is not None:
        run: Run = implementation.begin(weights, groups, states, taken)
        return run
    return PureRun(implementation, formula, weights, groups, states, taken)


def fresh_state(formula: Formula, weight: Array) -> tuple[Array, ...]:
    """Return the state arrays of the formula before the first step."""
    shapes = {"product": ()}
    return tuple(
        np.full(shapes.get(name, weight.shape), first_state(name)).astype(weight.dtype)
        for name in formula.inputs[2:]
    )


class PureRun:
    """The run of an implementation that is a pure step: the state is kept here."""

    convertible = False

    def __init__(
        self,
        implementation: Implementation,
        formula: Formula,
        weights: tuple[Array, ...],
        groups: Groups,
        states: States | None = None,
        taken: int = 0,
    ) -> None:
        self.implementation, self.formula = implementation, formula
        self.weights = [array.copy() for array in weights]
        self.groups = [dict(group) for group in groups]
        given = states or tuple(fresh_state(formula, weight) for weight in weights)
        self.states = [tuple(array.copy() for array in arrays) for arrays in given]
        self.counts = [taken] * len(weights)

    def step(self, gradients: tuple[Array | None, ...]) -> None:
        """Take one step."""
        for place, gradient in enumerate(gradients):
            if gradient is None:
                continue
            self.counts[place] += 1
            inputs = (self.weights[place], gradient, *self.states[place])
            outputs = self.implementation.forward(inputs, self.options(place))
            self.weights[place], *rest = outputs
            self.states[place] = tuple(rest)

    def options(self, place: int) -> dict[str, Any]:
        """Return the options of the next step of one weight."""
        counted = any(option.name == "t" for option in self.formula.options)
        return {**self.groups[place], **({"t": self.counts[place]} if counted else {})}

    def weight(self, place: int) -> Array:
        """Return a copy of the weight."""
        return self.weights[place].copy()

    def state(self, place: int) -> tuple[Array, ...]:
        """Return copies of the weight's state arrays."""
        return tuple(array.copy() for array in self.states[place])

    def taken(self, place: int) -> int:
        """Return how many steps this weight has taken."""
        return self.counts[place]

    def set_rate(self, place: int, rate: float) -> None:
        """Change the learning rate of one weight."""
        self.groups[place]["lr"] = rate

    def restored(self, through_a_file: bool) -> PureRun:
        """Return a run that goes on from copies."""
        again = PureRun(
            self.implementation, self.formula, tuple(self.weights), tuple(self.groups), tuple(self.states)
        )
        again.counts = list(self.counts)
        return again

    def converted(self, fmt: Format) -> PureRun:
        """Refuse: a pure step belongs to one format."""
        raise UsageError(f"{self.implementation.subject} computes in {self.implementation.format.name} only")

    def program(self) -> str:
        """Return nothing: a pure step reproduces itself."""
        return ""
