"""What a probe of a function saw: how many numbers it compared, and what disagreed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

import numpy as np

from gradcheck.subjects.function import Vector

# Two ways to the same numbers may sum in another order, and a kernel may be chosen by layout.
SAME = 1e-9
# How the note begins of a function that says that its gradient has none.
REFUSES = "refuses to be differentiated twice"


@dataclass(frozen=True)
class Fault:
    """One disagreement; `breach` names what is broken where it is no number."""

    message: str
    got: float = float("nan")
    expected: float = float("nan")
    breach: str = ""


_TOLERANCE: ContextVar[float] = ContextVar("_TOLERANCE", default=SAME)


@contextmanager
def tolerance(same: float) -> Iterator[None]:
    """Inside the block, numbers that agree to `same` of their size are the same, at least."""
    token = _TOLERANCE.set(same)
    try:
        yield
    finally:
        _TOLERANCE.reset(token)


@dataclass
class Found:
    """What a probe saw. Numbers that agree to `same` of their size are the same."""

    compared: int = 0
    same: float = SAME
    faults: list[Fault] | None = None
    notes: list[str] | None = None

    def __post_init__(self) -> None:
        self.same = max(self.same, _TOLERANCE.get())
        self.faults = self.faults or []
        self.notes = self.notes or []

    def compare(self, what: str, got: Vector, expected: Vector, scale: Vector | float | None = None) -> None:
        """Compare two arrays; the scale is that of the numbers that were summed, if it is larger."""
        assert self.faults is not None
        self.compared += expected.size
        if got.shape != expected.shape:
            self.faults.append(
                Fault(f"{what}: shape {got.shape} instead of {expected.shape}", breach="shape")
            )
            return
        if not expected.size:
            return
        with np.errstate(all="ignore"):
            size = np.maximum(
                np.abs(expected), np.nanmax(np.abs(expected[np.isfinite(expected)]), initial=0.0)
            )
            if scale is not None:
                size = np.maximum(size, scale)
            off = np.abs(got - expected)
            fits = (off <= self.same * size) | (got == expected) | (np.isnan(got) & np.isnan(expected))
        if not fits.all():
            worst = int(np.argmax(np.where(fits, -1.0, np.where(np.isfinite(off), off, np.inf))))
            self.faults.append(Fault(what, float(got.flat[worst]), float(expected.flat[worst])))

    def fault(self, message: str, breach: str) -> None:
        """Note what is broken."""
        assert self.faults is not None
        self.faults.append(Fault(message, breach=breach))

    def note(self, text: str) -> None:
        """Note what could not be done."""
        assert self.notes is not None
        self.notes.append(text)


def signed(seed: int, size: int) -> Vector:
    """Return factors of both signs between 1/2 and 1, with few bits, the same for a seed."""
    rng = np.random.default_rng([seed, 41])
    return np.where(rng.random(size) < 0.5, -1.0, 1.0) * rng.integers(128, 257, size) / 256.0
