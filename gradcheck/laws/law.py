"""What a law is: a sentence about a formula, and both sides of it in whatever arithmetic it is asked."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from gradcheck.formats import Float64Array
from gradcheck.formulas import get_formula
from gradcheck.records import DERIVATIVE, VALUE, Formula

Options = Mapping[str, Any]
Answer = Callable[[Formula, int, tuple[Any, ...], Any, Options], tuple[Any, ...]]


@dataclass(frozen=True)
class Speaker:
    """Somebody who computes the formula: an implementation, the intervals of all legal ones, or the truth.

    A law puts its questions to a speaker and never learns which one it is. What it passes are arrays of
    numbers of the judged format, or answers that it got before; what comes back is of the speaker's own
    arithmetic.
    """

    formula: Formula
    answer: Answer
    lift: Callable[[Float64Array], Any]
    seed: int = 0

    def value(self, *inputs: Any, **options: Any) -> Any:
        """Return the value; a tuple if there are several outputs."""
        parts = self.answer(self.formula, VALUE, inputs, None, options)
        return parts[0] if len(parts) == 1 else parts

    def vjp(self, inputs: Sequence[Any], cotangent: Any, **options: Any) -> tuple[Any, ...]:
        """Return one gradient per input, None for those that have none."""
        parts = iter(self.answer(self.formula, DERIVATIVE, tuple(inputs), cotangent, options))
        places = self.formula.differentiated
        return tuple(next(parts) if place in places else None for place in range(len(inputs)))

    def of(self, name: str) -> Speaker:
        """Return the same speaker about another formula."""
        return replace(self, formula=get_formula(name))

    def numbers(self, shape: tuple[int, ...], place: int = 0) -> Float64Array:
        """Return signed multiples of 1/4 that every format holds, the same for the same case and place."""
        rng = np.random.default_rng([self.seed, 5, place])
        return np.asarray(rng.integers(-8, 9, shape) / 4.0)


@dataclass(frozen=True)
class Law:
    """A law of some formulas. `sides(speaker, inputs, options)` returns left and right, which are equal.

    With `at_most` the left is nowhere above the right. A third thing that is returned is the scale that a
    difference is seen against, where both sides vanish. None says that the law is silent about this case: it
    asks for two samples, say. `gradient` laws need a backward pass. The name of the function is the law.
    """

    formulas: tuple[str, ...]
    sides: Callable[[Speaker, tuple[Any, ...], dict[str, Any]], tuple[Any, ...] | None]
    at_most: bool = False
    gradient: bool = False

    @property
    def sentence(self) -> str:
        """The law in words."""
        return self.sides.__name__.replace("_", " ")


def on_grid(x: Float64Array) -> Float64Array:
    """Return multiples of 1/8 up to 4 near `x`: sums with small integers are exact in every format."""
    return np.asarray(np.clip(np.round(np.nan_to_num(x) * 8) / 8, -4, 4))


def finite(x: Float64Array) -> Float64Array:
    """Return `x` with zeros for what is no finite number."""
    return np.where(np.isfinite(x), x, 0.0)
