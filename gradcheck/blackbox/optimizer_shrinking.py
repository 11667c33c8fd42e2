"""A finding about an optimizer in a smaller scenario: fewer steps, weights, elements, rounder numbers."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, TypeVar

from gradcheck.blackbox import optimizer_laws as laws
from gradcheck.blackbox.optimizer_reference import Fault, compared
from gradcheck.blackbox.optimizer_runs import shortened, smaller
from gradcheck.records import Formula
from gradcheck.subjects.torch_optimizer_function import Make, Scenario, play

_Found = TypeVar("_Found")
_SECONDS = 1.0


def _least(
    scenario: Scenario,
    found: _Found,
    where: Callable[[_Found], tuple[int, int]],
    still: Callable[[Scenario], _Found | None],
    end: float,
) -> tuple[Scenario, _Found]:
    """Take the first smaller scenario that still shows the finding, again and again."""
    end = min(end, time.monotonic() + _SECONDS)
    improved = True
    while improved:
        improved = False
        for candidate in smaller(scenario, *where(found)):
            if time.monotonic() > end:
                return scenario, found
            seen = still(candidate)
            if seen is not None:
                scenario, found, improved = candidate, seen, True
                break
    return scenario, found


def shrunk_fault(
    make: Make,
    formula: Formula,
    base: Mapping[str, Any],
    scenario: Scenario,
    fault: Fault,
    end: float,
) -> tuple[Scenario, Fault]:
    """Return a smaller scenario in which the reference does not explain a number, and that number."""

    def still(candidate: Scenario) -> Fault | None:
        return compared(formula, base, candidate, play(make, candidate))[1]

    scenario = _after(scenario, fault.step)
    return _least(scenario, fault, lambda f: (f.place, f.index), still, end)


def _after(scenario: Scenario, step: int) -> Scenario:
    """Leave out what happens after a step."""
    taken = [k for k, event in enumerate(scenario.events) if event.steps]
    return shortened(scenario, taken[step] + 1) if step < len(taken) else scenario


def shrunk_law(
    make: Make, law: laws.Law, pair: laws.Pair, broken: laws.Broken, end: float
) -> tuple[laws.Pair, laws.Broken]:
    """Return a smaller pair of scenarios that breaks the law in the same way, and what breaks."""

    def still(candidate: Scenario) -> tuple[laws.Pair, laws.Broken] | None:
        for other in law.pairs(candidate):
            if other.says == pair.says:
                for seen in laws.compare(make, other).broken:
                    if seen.kind == broken.kind:
                        return other, seen
        return None

    def where(found: tuple[laws.Pair, laws.Broken]) -> tuple[int, int]:
        first = next((a for a, b in found[0].places if b == found[1].place), 0)
        return min(first, len(found[0].left.weights) - 1), found[1].index

    _, found = _least(law.begin, (pair, broken), where, still, end)
    return found


__all__ = ["replace", "shrunk_fault", "shrunk_law"]
