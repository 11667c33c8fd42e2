"""What one check of a black box saw."""

from __future__ import annotations

import math
from collections.abc import Callable, Generator
from dataclasses import dataclass, field, replace
from typing import Any

from gradcheck.subjects.function import Point


@dataclass(frozen=True)
class Problem:
    """One disagreement. `breach` is empty for a number that is off; else the kind of what was broken.

    `leaves` are the arrays that the function was given beside the point, where they are known.
    """

    message: str
    got: float = math.nan
    expected: float = math.nan
    error: float = math.inf
    bound: float = 0.0
    breach: str = ""
    place: str = ""
    index: int = 0
    row: int = 0
    value: float = math.nan
    format: str = "float64"
    family: str = ""
    point: Point = ()
    shapes: tuple[tuple[int, ...], ...] = ()
    leaves: tuple[Any, ...] = ()

    @property
    def size(self) -> int:
        """How many numbers the input has with which it shows."""
        return sum(x.size for x in self.point)


@dataclass(frozen=True)
class Seen:
    """The counts of one check. What a check could not do is a note, and no count."""

    compared: int = 0
    undecided: int = 0
    cases: int = 0
    problems: tuple[Problem, ...] = ()
    notes: tuple[str, ...] = ()
    resolution: float = 0.0
    families: dict[str, int] = field(default_factory=dict)

    def __add__(self, other: Seen) -> Seen:
        if self is NOTHING:
            return other
        families = dict(self.families)
        for name, count in other.families.items():
            families[name] = families.get(name, 0) + count
        return replace(
            self,
            compared=self.compared + other.compared,
            undecided=self.undecided + other.undecided,
            cases=self.cases + other.cases,
            problems=self.problems + other.problems,
            notes=tuple(dict.fromkeys(self.notes + other.notes)),
            resolution=max(self.resolution, other.resolution),
            families=families,
        )


NOTHING = Seen()


@dataclass(frozen=True)
class Step:
    """One piece of a check's work; it is put off if it takes too long, unless the next ones need it.

    If one takes too long, those of its kin are expected to, if they are no lighter.
    """

    run: Callable[[], Seen]
    kin: str = ""
    weight: int = 0
    needed: bool = False


# A check; it is told what its last step saw, None if that was put off.
Steps = Generator[Step, Seen | None, None]
