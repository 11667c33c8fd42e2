"""Narrow formats against float64, within what rounding and condition explain."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np

from gradcheck.blackbox.oracle import Oracle
from gradcheck.blackbox.projection import signed
from gradcheck.blackbox.seen import Problem, Seen, Step, Steps
from gradcheck.errors import UsageError
from gradcheck.subjects.function import CallFailed, Point, Resizable, Vector, one, raised_by

_FORMATS = ("float32", "bfloat16", "float16")
_LEAST = {"float32": 2.0**-149, "bfloat16": 2.0**-133, "float16": 2.0**-24}
_LARGEST = {"float32": 3e38, "bfloat16": 3e38, "float16": 65504.0}
_BITS = {"float32": 24, "bfloat16": 8, "float16": 11}
# So many roundings are allowed for an operation of unknown length, beside what its condition explains.
_ROUNDINGS = {"float32": 48.0, "bfloat16": 24.0, "float16": 24.0}
_CONDITION = 24.0
_NOISE = 8.0
# Beside points of float32, the error of a result is looked at in so many others; so many of its standard
# deviations are allowed, at most so many times what is allowed anyway.
_NEARBY, _BESIDE = 12, 2.0**-12
_VARIES, _MOST_WIDENED = 4.0, 4.0
# So many outputs of the largest size may meet in one gradient.
_FEW = 4.0
_USUAL = ("as given", "like")
# The families of the plan, and those that are tried beyond it.
_FIRST = ("as given", "like", "branches")
_FURTHER = ("grid",)


@dataclass(frozen=True)
class _Trial:
    """Outputs and gradients in a narrow format and in float64, and what may lie between them.

    `wide` and `narrow` are the function in both formats, `factors` the cotangent.
    """

    name: str
    family: str
    point: Point
    wide: Resizable
    narrow: Resizable
    factors: Vector
    found: list[Vector | None]
    truth: list[Vector | None]
    reach: list[Vector]
    natural: list[float]


def formats(oracle: Oracle) -> Steps:
    """Narrow formats against float64 at the same numbers, within what rounding and condition explain."""
    usual: dict[str, list[float]] = {}
    for families in (_FIRST, _FURTHER):
        for name in _FORMATS:
            # The squares of float16 overflow from 256 on.
            more = ("hundreds",) if name == "float16" and families is _FURTHER else ()
            trials: list[_Trial] = []
            for family in (*families, *more):
                yield Step(partial(_begun, oracle, name, family, trials), needed=True)
            # What is tiny at one point may be the difference of numbers of the usual size: that of the
            # example. The largest number of any family would hide what is wrong with all others.
            if families is _FIRST:
                usual[name] = _sizes([trial for trial in trials if trial.family in _USUAL])
            for trial in trials:
                own = _sizes([trial])
                scales = [max(s) for s in zip(own, usual[name] or own, trial.natural, strict=True)]
                yield Step(partial(_tried, oracle, trial, scales))


def _begun(oracle: Oracle, name: str, family: str, trials: list[_Trial]) -> Seen:
    """Compute in both formats; what cannot be done is seen at once, the rest when all trials are there."""
    trial = _trial(oracle, name, family)
    if isinstance(trial, Seen):
        return trial
    trials.append(trial)
    return Seen()


def _sizes(trials: list[_Trial]) -> list[float]:
    """Return the largest value, and the largest gradient of each input."""
    return [max(map(_largest, kinds)) for kinds in zip(*(trial.truth for trial in trials), strict=True)]


def _trial(oracle: Oracle, name: str, family: str) -> _Trial | Seen:
    # What is not differentiated is rounded to the format as well: both compute with the same numbers.
    wide = oracle.function.with_rest(lambda x: _narrowed(x, name))
    narrow = wide.of_format(name)
    point = oracle.example() if family == "as given" else oracle.family(wide, family)
    point = oracle.within_range(wide, point)
    free = family in ("as given", "hundreds")
    point = tuple(_narrowed(x if free else np.clip(x, -20, 20), name) for x in point)
    if any((np.abs(x) > _LARGEST[name] / 64).any() for x in point):
        return Seen(notes=(f"{name} does not hold the example's numbers",))
    rng = np.random.default_rng([oracle.seed, 71])
    factors = signed(rng, (wide.size,))
    try:
        found = [one(narrow, point), *narrow.gradients(point, factors[None])]
        noise = _spread(narrow, point, factors, found, 2 * narrow.roundoff, rng)
    except (CallFailed, UsageError) as error:
        return Seen(notes=(f"not in {name}: {raised_by(error.__cause__ or error)}",))
    try:
        value = one(wide, point)
        truth: list[Vector | None] = [value, *wide.gradients(point, factors[None])]
        spread = _spread(wide, point, factors, truth, narrow.roundoff, rng)
    except CallFailed as error:
        return Seen(notes=(f"{family}: {raised_by(error.__cause__ or error)}",))
    reach = [
        _CONDITION * moved + _NOISE * np.where(np.isfinite(own), own, 0.0)
        if own.size == moved.size
        else moved
        for moved, own in zip(spread, noise, strict=True)
    ]
    natural = _natural(value, point, factors)
    return _Trial(name, family, point, wide, narrow, factors, found, truth, reach, natural)


def _natural(value: Vector, point: Point, factors: Vector) -> list[float]:
    """Return the sizes that the results have where nothing cancels or saturates.

    Values of size y that change over distances of size x have slopes of the order of y/x: where the slope is
    next to nothing, it is what is left of numbers of that size.
    """
    with np.errstate(all="ignore"):
        largest = _largest(value * factors)
        weight = min(float(np.linalg.norm(value * factors)), _FEW * largest) if largest > 0 else 0.0
    typical = [_largest(x) for x in point]
    return [0.0, *(weight / size if size > 0 else 0.0 for size in typical)]


def _tried(oracle: Oracle, trial: _Trial, usual: list[float]) -> Seen:
    total = Seen(cases=1, families={f"{trial.name} {trial.family}": 1})
    names = ["the value", *(f"the gradient of {axes.name}" for axes in oracle.function.inputs)]
    for what, got, expected, reach, scale in zip(
        names, trial.found, trial.truth, trial.reach, usual, strict=True
    ):
        if expected is not None and got is not None:
            seen = _against(oracle, what, trial, got.ravel(), expected.ravel(), reach, scale)
            if seen.problems and trial.name == "float32" and got.size == expected.size:
                varies = _varies(oracle, trial, names.index(what))
                seen = _against(oracle, what, trial, got.ravel(), expected.ravel(), reach, scale, varies)
            if seen.problems and trial.family == "hundreds" and what == "the value":
                # The function itself does not claim so much range; its gradient need not have it.
                return Seen(notes=(f"{trial.name}: the values overflow on the way from some hundreds on",))
            total += seen
    return total


def _against(
    oracle: Oracle,
    what: str,
    trial: _Trial,
    got: Vector,
    expected: Vector,
    reach: Vector,
    scale: float,
    varies: Vector | float = 0.0,
) -> Seen:
    name, family, point = trial.name, trial.family, trial.point
    u = 2.0 ** -_BITS[name]
    if got.shape != expected.shape:
        problem = Problem(f"{what} in {name} has {got.size} numbers, {expected.size} in float64",
                          breach="shape", format=name, family=family, point=point)  # fmt: skip
        return Seen(problems=(problem,))
    with np.errstate(all="ignore"):
        usable = np.isfinite(expected) & (np.abs(expected) < _LARGEST[name] / 64) & np.isfinite(reach)
        allowed = _ROUNDINGS[name] * u * scale + reach + 4 * _LEAST[name]
        allowed = allowed + np.minimum(_VARIES * varies, _MOST_WIDENED * allowed)
        off = np.abs(got - expected)
        bad = usable & ~(off <= allowed)
        # On the way to a huge number something larger may overflow; that is the format's affair.
        bad &= np.isfinite(got) | (np.maximum(np.abs(expected), allowed) < _LARGEST[name] ** 0.5)
    problems: tuple[Problem, ...] = ()
    if bad.any():
        worst = int(np.argmax(np.where(bad, np.where(np.isfinite(off), off / allowed, np.inf), -1.0)))
        narrow, wide = float(got[worst]), float(expected[worst])
        problems = (
            Problem(
                f"{what} in {name} is {narrow!r} at [{worst}], in float64 {wide!r} "
                f"± {allowed[worst]:.1e} ({family})",
                narrow,
                wide,
                float(off[worst]),
                float(allowed[worst]),
                index=worst,
                format=name,
                family=family,
                point=point,
                shapes=oracle.function.leaf_shapes,
                leaves=oracle.function.leaves,
            ),
        )
    return Seen(compared=int(usable.sum()), problems=problems)


def _varies(oracle: Oracle, trial: _Trial, which: int) -> Vector | float:
    """Return how much the error of a result varies from point to point near by.

    What is rounded is off by other amounts there; what is computed wrongly is off by the same.
    """
    rng = np.random.default_rng([oracle.seed, 73])
    errors = []
    for _ in range(_NEARBY):
        moved = tuple(
            _narrowed(x * (1 + rng.uniform(-1, 1, x.size) * _BESIDE), trial.name) for x in trial.point
        )
        try:
            pair = [
                one(f, moved) if which == 0 else f.gradients(moved, trial.factors[None])[which - 1]
                for f in (trial.narrow, trial.wide)
            ]
        except CallFailed:
            continue
        if pair[0] is not None and pair[1] is not None:
            errors.append(pair[0].ravel() - pair[1].ravel())
    if len(errors) < _NEARBY // 2:
        return 0.0
    with np.errstate(all="ignore"):
        spread = np.std(errors, axis=0)
    return np.where(np.isfinite(spread), spread, 0.0)


def _largest(x: Vector | None) -> float:
    return 0.0 if x is None else float(np.abs(x[np.isfinite(x)]).max(initial=0.0))


def _narrowed(x: Vector, name: str) -> Vector:
    """Round to the significant bits of a format; the range is the caller's affair."""
    fraction, exponent = np.frexp(x)
    with np.errstate(all="ignore"):
        cut = np.ldexp(np.rint(np.ldexp(fraction, _BITS[name])), exponent - _BITS[name])
    return np.where(np.abs(cut) < 16 * _LEAST[name], 0.0, cut)


def _spread(
    function: Resizable,
    point: Point,
    factors: Vector,
    truth: list[Vector | None],
    roundoff: float,
    rng: np.random.Generator,
) -> list[Vector]:
    """Return how far outputs and gradients move when the inputs do by a rounding error of the format."""
    spread = [np.zeros(0) if t is None else np.zeros(t.size) for t in truth]

    def nudged(x: Vector) -> Vector:
        return x * (1 + rng.integers(-1, 2, x.shape) * 2 * roundoff)

    for _ in range(4):
        moved = tuple(nudged(x) for x in point)
        # Whole numbers, such as those of a mask, stay what they are.
        other = function.with_rest(lambda x: np.where(x == np.rint(x), x, nudged(x)))
        there = [one(other, moved), *other.gradients(moved, factors[None])]
        for k, (now, base) in enumerate(zip(there, truth, strict=True)):
            if now is not None and base is not None:
                with np.errstate(all="ignore"):
                    spread[k] = np.maximum(spread[k], np.abs(now.ravel() - base.ravel()))
    return spread
