"""The same finding in a smaller example: fewer elements, rounder numbers."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from gradcheck.blackbox.clock import Clock, OutOfTime
from gradcheck.blackbox.oracle import Oracle
from gradcheck.blackbox.seen import Problem, Seen
from gradcheck.errors import UsageError
from gradcheck.subjects.function import CallFailed, Point, Resizable

_SECONDS = 1.0
_SMALL = (1, 2, 3)
_ROUND = (0.0, 1.0, -1.0, 2.0, 0.5)


def shrunk(oracle: Oracle, seen: Seen) -> Seen:
    """Return what was seen, its entry problems each with the simplest point that still shows one."""
    clock = oracle.clock.within(_SECONDS)
    problems = []
    for problem in seen.problems[:3]:
        entry = problem.place and not problem.breach and problem.format == "float64"
        plain = entry and problem.shapes == oracle.function.leaf_shapes
        problems.append(_simpler(oracle, problem, clock) if plain else problem)
    return replace(seen, problems=(*problems, *seen.problems[3:]))


def _simpler(oracle: Oracle, problem: Problem, clock: Clock) -> Problem:
    best = problem
    with contextlib.suppress(OutOfTime), oracle.within(clock):
        for found in _simplified(oracle, problem):
            best = found
    return best


def _simplified(oracle: Oracle, problem: Problem) -> Iterator[Problem]:
    """Yield ever simpler examples of a problem."""
    best = problem
    if "double" in problem.message:
        return
    for function, point in _smaller(oracle, problem):
        found = _still(oracle, function, point, best)
        if found is not None:
            best = found
            yield best
            break
    function = oracle.function
    if best.shapes != function.leaf_shapes:
        return
    for place in range(len(best.point)):
        for value in _ROUND:
            x = best.point[place].copy()
            keep = best.index if function.inputs[place].name == best.place else -1
            kept = x[keep] if keep >= 0 else 0.0
            x[:] = value
            if keep >= 0:
                x[keep] = kept
            moved = tuple(x if k == place else old for k, old in enumerate(best.point))
            found = _still(oracle, function, moved, best)
            if found is not None:
                best = found
                yield best
                break


def _smaller(oracle: Oracle, problem: Problem) -> list[tuple[Resizable, Point]]:
    """Return the function at smaller sizes, with the culprit's value everywhere, the smallest first."""
    function, made = oracle.function, []
    shapes = function.leaf_shapes
    lengths = sorted({n for k, s in enumerate(shapes) if not function.fixed[k] for n in s}, reverse=True)
    for small in _SMALL:
        for joint in (lengths, *([n] for n in lengths)):
            wanted = tuple(
                s if function.fixed[k] else tuple(min(n, small) if n in joint else n for n in s)
                for k, s in enumerate(shapes)
            )
            if wanted == shapes:
                continue
            try:
                new = function.resized(wanted, np.random.default_rng(small))
            except (CallFailed, UsageError):
                continue
            point = tuple(
                np.full(x.size, problem.value) if axes.name == problem.place else x
                for axes, x in zip(new.inputs, new.point, strict=True)
            )
            made.append((new, point))
    return sorted(made, key=lambda pair: sum(x.size for x in pair[1]))


def _still(oracle: Oracle, function: Resizable, point: Point, problem: Problem) -> Problem | None:
    """Return the problem at another point, if it is one there, too."""
    oracle.clock.require()
    seen = oracle.compared(function, point, problem.family, None, quick=False)
    same = [p for p in seen.problems if p.place == problem.place and not p.breach]
    return same[0] if same else None
