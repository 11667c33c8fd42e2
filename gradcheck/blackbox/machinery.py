"""What a framework's machinery can break, as steps: probes at the example and beside it, and the process."""

from __future__ import annotations

from typing import Any

import numpy as np

from gradcheck.blackbox.closely import CLOSE
from gradcheck.blackbox.differences import noise_of, rounded, sides, step_sizes
from gradcheck.blackbox.oracle import Oracle
from gradcheck.blackbox.projection import signed
from gradcheck.blackbox.seen import Problem, Seen, Step, Steps
from gradcheck.subjects.function import CallFailed, Point, one, raised_by
from gradcheck.subjects.probing import SAME, tolerance

# So many times what the outputs are rounded by may lie between two gradients that are the same.
_ROUNDINGS = 64.0
_OF_OUTPUTS = 16.0
# What compares two modes of differentiation, and neither with the function itself.
_TWO_MODES = ("forward", "second cotangent")


def probe(oracle: Oracle, name: str) -> Steps:
    """Run one of the framework's probes at the example and at one other point."""
    example = oracle.example()
    yield Step(lambda: probed(oracle, name, "as given", oracle.within_range(oracle.function, example)))
    like = oracle.family(oracle.function, "like")
    yield Step(lambda: probed(oracle, name, "like", oracle.within_range(oracle.function, like)))


def probed(oracle: Oracle, name: str, family: str, point: Point) -> Seen:
    """Return what one of the probes says at a point."""
    try:
        one(oracle.function, point)
        oracle.function.gradients(point, np.ones((1, oracle.function.size)))
    except CallFailed as error:
        return Seen(notes=(f"{family}: {raised_by(error.__cause__ or error)}",))
    try:
        found = _found(oracle, name, point, SAME)
        if _differs(found) and (coarse := _coarse(oracle, point)) > SAME:
            found = _found(oracle, name, point, coarse)
        if _differs(found) and name in _TWO_MODES and _chooses(oracle, name, point):
            return Seen(cases=1, notes=(f"{family}: at kinks, two modes choose different slopes",))
        return _told(oracle, found, family, point)
    except CallFailed as error:
        # Plain calls work here: what the probe does with them must work as well.
        said = raised_by(error.__cause__ or error)
        problem = Problem(
            f"{name}: {said}",
            breach="raised",
            family=family,
            point=point,
            shapes=oracle.function.leaf_shapes,
            leaves=oracle.function.leaves,
        )
        return Seen(problems=(problem,))


def _found(oracle: Oracle, name: str, point: Point, same: float) -> Any:
    with tolerance(same):
        return oracle.probes[name](oracle.function, point, oracle.seed)


def _chooses(oracle: Oracle, name: str, point: Point) -> bool:
    """Whether outputs bend at a point, and two modes agree beside it: there each may choose a slope."""
    beside, bends = [], False
    for place, x in enumerate(point):
        sizes = step_sizes(x)
        direction = signed(np.random.default_rng([oracle.seed, 95]), x.shape) * sizes
        ends = sides(oracle.function, point, place, direction)
        with np.errstate(all="ignore"):
            apart = np.abs(ends.right.value - ends.left.value)
            known = CLOSE * (ends.right.error + ends.left.error) + 1e-6 * np.abs(ends.right.value)
            bends |= bool((apart > known).any())
        beside.append(rounded(x + 2.0**-10 * direction))
    return bends and not _differs(_found(oracle, name, tuple(beside), SAME))


def _coarse(oracle: Oracle, point: Point) -> float:
    """Return how closely gradients can agree of a function that rounds inside, relative to the largest.

    What the format of its outputs rounds is none of the gradients' affair.
    """
    base = np.abs(one(oracle.function, point))
    largest = float(base[np.isfinite(base)].max(initial=0.0))
    found = 0.0
    for place, x in enumerate(point):
        direction = signed(np.random.default_rng([oracle.seed, 93]), x.shape) * step_sizes(x)
        noise, _ = noise_of(oracle.function, point, place, direction)
        found = max(found, float(noise[np.isfinite(noise)].max(initial=0.0)))
    inside = found > _OF_OUTPUTS * oracle.function.roundoff * largest > 0
    return _ROUNDINGS * found / largest if inside else 0.0


def process(oracle: Oracle) -> Steps:
    """Inputs, earlier outputs, the process and repeated calls."""
    assert oracle.state is not None
    state, point = oracle.state, oracle.example()
    yield Step(
        lambda: _told(oracle, state(oracle.function, point, _another(oracle), oracle.seed), "as given", point)
    )


def _another(oracle: Oracle) -> Point:
    """Return a point beside the example that the function accepts, the example itself if need be."""
    like = oracle.within_range(oracle.function, oracle.family(oracle.function, "like"))
    # What is like a positive definite matrix need not be one; a multiple of it is.
    for point in (like, tuple(rounded(x * 1.25) for x in oracle.example())):
        try:
            one(oracle.function, point)
            return point
        except CallFailed:
            continue
    return oracle.example()


def _told(oracle: Oracle, found: Any, family: str, point: Point) -> Seen:
    problems = tuple(
        Problem(
            f"{fault.message}: {fault.got!r}, not {fault.expected!r}" if not fault.breach else fault.message,
            fault.got,
            fault.expected,
            abs(fault.got - fault.expected) if not fault.breach else np.inf,
            breach=fault.breach,
            family=family,
            point=point,
            shapes=oracle.function.leaf_shapes,
            leaves=oracle.function.leaves,
        )
        for fault in found.faults
    )
    return Seen(found.compared, cases=1, problems=problems, notes=tuple(found.notes), families={family: 1})


def _differs(found: Any) -> bool:
    """Whether numbers disagree; what is broken in another way is no matter of a tolerance."""
    return any(not fault.breach for fault in found.faults)
