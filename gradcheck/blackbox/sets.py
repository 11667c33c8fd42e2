"""Disjoint sets of elements, as the columns that are perturbed together are."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gradcheck.subjects.function import Vector

Index = NDArray[np.int64]


@dataclass(frozen=True)
class Sets:
    """Disjoint sets of elements: the number of each element's set, -1 for one in none.

    As a matrix of 0 and 1, one row per set, they are written out only in parts: of a million elements, each
    in a set of its own, it would have 10^12 numbers.
    """

    labels: Index
    count: int

    def __len__(self) -> int:
        return self.count

    def rows(self, start: int, end: int) -> Vector:
        """Return the sets from `start` to before `end` as rows of 0 and 1."""
        numbers = np.arange(start, min(end, self.count))
        return np.asarray(self.labels[None] == numbers[:, None], dtype=np.float64)

    def row(self, number: int) -> Vector:
        """Return one set as a row of 0 and 1."""
        return np.asarray(self.labels == number, dtype=np.float64)
