"""The Jacobian of reverse mode against that of differences, every element."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import reduce

import numpy as np
from numpy.typing import NDArray

from gradcheck.blackbox import differences, projection, structure
from gradcheck.blackbox.closely import CLOSE, KNOWN, RELATIVE, Entry, Suspect, look
from gradcheck.blackbox.projection import signed
from gradcheck.subjects.function import Function, Point, Rows, Vector, one

# An entry passes at once within so many error estimates; what does not is looked at closely.
_FIRST = 8.0
_OF_LARGEST = 1e-12
_OF_TYPICAL = 1e-12
_LOOKED_AT = 24
_COLOURS = 512
_ROWS = 16
# How many rows and columns of a Jacobian are taken that is too large for all of its entries.
_SAMPLED = 128


@dataclass(frozen=True)
class Compared:
    """What comparing a Jacobian saw. `resolution` is relative to the largest entry."""

    entries: int = 0
    undecided: int = 0
    kinks: int = 0
    wrong: tuple[Entry, ...] = ()
    missing: tuple[int, ...] = ()
    resolution: float = 0.0
    kinds: tuple[str, ...] = ()
    colours: int = 0
    skipped: int = 0
    notes: tuple[str, ...] = ()


@dataclass
class Memory:
    """Structures that were found for a function, kept for other points of the same sizes."""

    structures: dict[int, structure.Structure] = field(default_factory=dict)
    # The largest entry at the first point: what is twelve digits below it is rounding somewhere inside.
    typical: dict[int, float] = field(default_factory=dict)
    products: dict[bytes, tuple[Vector | None, ...]] = field(default_factory=dict)


def compare(
    function: Function,
    point: Point,
    seed: int = 0,
    places: tuple[int, ...] | None = None,
    memory: Memory | None = None,
    quick: bool = False,
    tick: Callable[[], None] = lambda: None,
) -> Compared:
    """Compare every entry of the Jacobian with respect to the inputs at `places`; all of them, if None.

    `quick` is content with bilinear forms where they are sharp enough; see `projection`. `tick` is called
    between calls of the function, and may raise to end the work.
    """
    memory = memory or Memory()
    chosen = range(len(function.inputs)) if places is None else places
    if function.size == 0 or all(function.inputs[place].size == 0 for place in chosen):
        return Compared()
    said = projection.project(function, point, seed) if quick else None
    seen = []
    for place in chosen:
        if function.inputs[place].size == 0:
            continue
        if said is not None and said[place].agrees:
            form = said[place]
            seen.append(Compared(form.entries, resolution=form.resolution, kinds=("forms",)))
        else:
            seen.append(_one_input(function, point, place, seed, memory, tick))
    memory.products.clear()
    return reduce(_merge, seen)


def _merge(left: Compared, right: Compared) -> Compared:
    return Compared(
        left.entries + right.entries,
        left.undecided + right.undecided,
        left.kinks + right.kinks,
        left.wrong + right.wrong,
        left.missing + right.missing,
        max(left.resolution, right.resolution),
        left.kinds + right.kinds,
        left.colours + right.colours,
        left.skipped + right.skipped,
        tuple(dict.fromkeys(left.notes + right.notes)),
    )


@dataclass(frozen=True)
class _Both:
    """Numerical and analytic entries, (C, m) each, and which of them stand for an entry at all."""

    numeric: Vector
    error: Vector
    analytic: Vector
    column: NDArray[np.int64]
    stray: Vector
    largest: float
    natural: Vector
    floor: float


def _one_input(
    function: Function, point: Point, place: int, seed: int, memory: Memory, tick: Callable[[], None]
) -> Compared:
    found = memory.structures.get(place)
    if found is None or found.column.shape[1] != function.size:
        tick()
        found = structure.find(function, point, place, seed)
        if found is None:
            return _sample(function, point, place, seed, tick)
        memory.structures[place] = found
    return _taken(function, point, place, found, seed, memory, tick)


def _sample(function: Function, point: Point, place: int, seed: int, tick: Callable[[], None]) -> Compared:
    """Compare some rows and columns of a Jacobian that is too large; what is left is undecided."""
    n, m = function.inputs[place].size, function.size
    rng = np.random.default_rng([seed, 27])
    rows = np.sort(rng.permutation(m)[:_SAMPLED])
    columns = np.sort(rng.permutation(n)[:_SAMPLED])
    part = structure.sampled(columns, n, len(rows))
    seen = _taken(Rows(function, rows), point, place, part, seed, Memory(), tick)
    return replace(
        seen,
        wrong=tuple(replace(entry, row=int(rows[entry.row])) for entry in seen.wrong),
        undecided=n * m - seen.entries,
        notes=(
            f"{function.inputs[place].name}: of {n:,} × {m:,} entries without structure {len(columns)} × "
            f"{len(rows)} are compared; a smaller example is compared in full",
        ),
    )


def _taken(
    function: Function,
    point: Point,
    place: int,
    found: structure.Structure,
    seed: int,
    memory: Memory,
    tick: Callable[[], None],
) -> Compared:
    both, missing = _both(function, point, place, found, seed, memory, tick)
    with np.errstate(all="ignore"):
        gap = np.abs(both.analytic - both.numeric)
        allowed = _FIRST * both.error + RELATIVE * np.abs(both.numeric) + both.floor
        judged = np.isfinite(both.numeric) & _defined(function, point, found)
        size = np.maximum(np.maximum(np.abs(both.numeric), both.largest), both.natural)
        coarse = judged & (allowed - both.floor > KNOWN * size)
        suspect = (judged & ~(gap <= allowed)) | coarse
    stray = ~(np.abs(both.stray) <= both.floor)
    if not judged.all() or found.kind == "sampled":
        stray &= False
    kinked, wrong, undecided, jumps = _look(function, point, place, found, both, suspect, tick)
    kinks = int(kinked.sum())
    wrong += _strays(function, point, place, found, stray)
    if kinks and not wrong:
        wrong += _across_kinks(function, point, place, seed, np.flatnonzero(kinked))
    entries = int(judged.sum()) - jumps
    resolved = allowed[judged & ~suspect]
    return Compared(
        entries=entries,
        undecided=undecided,
        kinks=kinks,
        wrong=tuple(wrong),
        missing=(place,) if missing and both.largest > 0 and (suspect & (both.analytic == 0)).any() else (),
        resolution=_resolution(resolved, both.largest, bool(judged.any())),
        kinds=(found.kind,),
        colours=found.colours,
        skipped=int(both.numeric.size) - entries,
    )


def _resolution(allowed: Vector, largest: float, judged: bool) -> float:
    """Return the largest error that passed, of the largest entry; infinite where no entry is known."""
    if not judged or largest == 0:
        return 0.0
    return float(allowed.max() / largest) if allowed.size else np.inf


def _both(
    function: Function,
    point: Point,
    place: int,
    found: structure.Structure,
    seed: int,
    memory: Memory,
    tick: Callable[[], None],
) -> tuple[_Both, bool]:
    sizes = differences.step_sizes(point[place])
    slope = differences.along(function, point, place, found.directions * sizes, tick=tick)
    column = found.column
    seen = column >= 0
    at = np.where(seen, column, 0)
    with np.errstate(all="ignore"):
        numeric, error = slope.value / sizes[at], slope.error / sizes[at]
    factors = signed(np.random.default_rng([seed, 5]), (function.size,))
    # Inputs whose outputs are grouped alike share the products: one call gives the gradients of all of them.
    key = hashlib.sha256(found.groups.astype(bool).tobytes()).digest()
    if key not in memory.products:
        memory.products[key] = function.gradients(point, found.groups * factors)
    gradients = memory.products[key][place]
    missing = gradients is None
    if gradients is None:
        gradients = np.zeros((len(found.groups), function.inputs[place].size))
    group = found.groups.argmax(axis=0)
    analytic = np.where(seen, gradients[group[None], at] / factors[None], 0.0)
    claimed = np.zeros(gradients.shape, dtype=bool)
    claimed[np.broadcast_to(group[None], at.shape)[seen], at[seen]] = True
    stray = np.where(claimed, 0.0, gradients)
    # What no element of the input can reach must not move: its numerical derivative is that of nothing.
    finite = np.abs(numeric[np.isfinite(numeric)])
    largest = float(finite.max()) if finite.size else 0.0
    base = np.abs(one(function, point))
    natural = np.where(np.isfinite(base), base, 0.0) / sizes[at]
    floor = _OF_LARGEST * largest + _OF_TYPICAL * memory.typical.setdefault(place, largest)
    return _Both(numeric, error, analytic, column, stray, largest, natural, floor), missing


def _defined(function: Function, point: Point, found: structure.Structure) -> NDArray[np.bool_]:
    """Return which entries (C, m) belong to inputs that no output without a number depends on."""
    base = one(function, point)
    seen = found.column >= 0
    if np.isfinite(base).all():
        return np.ones(seen.shape, dtype=bool)
    spoilt = np.zeros(found.directions.shape[1], dtype=bool)
    broken = ~np.isfinite(base)
    spoilt[found.column[:, broken][seen[:, broken]]] = True
    return np.asarray(~spoilt[np.where(seen, found.column, 0)] & np.isfinite(base))


def _look(
    function: Function,
    point: Point,
    place: int,
    found: structure.Structure,
    both: _Both,
    suspect: NDArray[np.bool_],
    tick: Callable[[], None],
) -> tuple[NDArray[np.int64], list[Entry], int, int]:
    """Look closely at suspicious entries: kinks, a longer ladder, the noise of the gradient itself.

    Returned are the number of kinks of each output, what is wrong, and the numbers of undecided entries and
    of jumps.
    """
    kinks = np.zeros(function.size, dtype=np.int64)
    undecided, jumps = 0, 0
    wrong: list[Entry] = []
    left = suspect.copy()
    sizes = differences.step_sizes(point[place])
    for colour in np.flatnonzero(left.any(axis=1))[:_COLOURS]:
        tick()
        ends = differences.sides(function, point, place, found.directions[colour] * sizes)
        right, below = ends.right, ends.left
        at = np.where(both.column[colour] >= 0, both.column[colour], 0)
        with np.errstate(all="ignore"):
            low = np.minimum(right.value, below.value) / sizes[at]
            high = np.maximum(right.value, below.value) / sizes[at]
            slack = (right.error + below.error) / sizes[at]
            kinked = (high - low) > CLOSE * slack + RELATIVE * np.maximum(np.abs(low), np.abs(high))
            margin = CLOSE * slack + RELATIVE * np.maximum(np.abs(low), np.abs(high))
            got = both.analytic[colour]
            inside = kinked & (got >= low - margin) & (got <= high + margin)
            jumped = right.jump | below.jump if right.jump is not None and below.jump is not None else False
            agrees = _agrees(got, ends.middle.value / sizes[at], ends.middle.error / sizes[at], both, colour)
        kinks += left[colour] & inside
        left[colour] &= ~(inside | agrees)
        jumps += int((left[colour] & jumped).sum())
        left[colour] &= ~jumped
    with np.errstate(all="ignore"):
        gap = np.abs(both.analytic - both.numeric)
        severity = np.where(left, np.where(np.isfinite(gap), gap / (both.error + 1e-300), np.inf), -1.0)
    order = np.argsort(-severity, axis=None, kind="stable")[: int(left.sum())]
    for flat in order[:_LOOKED_AT]:
        if not wrong:
            tick()
        colour, row = np.unravel_index(flat, left.shape)
        column = int(both.column[colour, row])
        entry, known = look(Suspect(function, point, place, column, int(row), both.largest, both.floor))
        if entry is not None:
            wrong.append(entry)
        elif not known:
            undecided += 1
        if len(wrong) >= 4:
            break
    # What is left is of the kind of those that were looked at, the most suspicious first.
    left_over = max(0, len(order) - _LOOKED_AT) if not wrong else 0
    share = undecided / min(len(order), _LOOKED_AT) if len(order) else 0.0
    return kinks, wrong, undecided + round(share * left_over), jumps


def _agrees(got: Vector, value: Vector, error: Vector, both: _Both, colour: int) -> NDArray[np.bool_]:
    """Return which entries agree with differences over short steps that know them well enough."""
    allowed = _FIRST * error + RELATIVE * np.abs(value) + both.floor
    size = np.maximum(np.maximum(np.abs(value), both.largest), both.natural[colour])
    return np.asarray((np.abs(got - value) <= allowed) & (allowed - both.floor <= KNOWN * size))


def _strays(
    function: Function, point: Point, place: int, found: structure.Structure, stray: NDArray[np.bool_]
) -> list[Entry]:
    """Look at gradients of inputs on which, by the structure, none of the outputs depends."""
    wrong: list[Entry] = []
    for group, column in np.argwhere(stray)[:4]:
        rows = np.flatnonzero(found.groups[group])
        while len(rows) > 1:
            # Halving finds an output whose cotangent reaches the input.
            half = rows[: len(rows) // 2]
            probe = np.zeros((1, function.size))
            probe[0, half] = signed(np.random.default_rng(len(half)), (len(half),))
            gradient = function.gradients(point, probe)[place]
            reached = gradient is not None and abs(gradient[0, column]) > 0
            rows = half if reached else rows[len(rows) // 2 :]
        entry, _ = look(Suspect(function, point, place, int(column), int(rows[0])))
        if entry is not None:
            wrong.append(entry)
    return wrong


def _across_kinks(
    function: Function, point: Point, place: int, seed: int, kinked: NDArray[np.int64]
) -> list[Entry]:
    """Move all elements together: at a tie each slope alone may be right, and their sum wrong.

    The gradient times the direction has to lie between the slopes on both sides along it.
    """
    rng = np.random.default_rng([seed, 25])
    sizes = differences.step_sizes(point[place])
    together = np.where(_tied(point[place]), sizes, 0.0)
    if not together.any():
        return []
    rows = rng.permutation(kinked)[:_ROWS]
    hot = np.zeros((len(rows), function.size))
    hot[np.arange(len(rows)), rows] = 1.0
    gradient = function.gradients(point, hot)[place]
    if gradient is None:
        return []
    noisy, _ = differences.noise_of(function, point, place, together, rows=rows)
    ends = differences.sides(function, point, place, together, noise=noisy, rows=rows)
    right, below = ends.right, ends.left
    wrong = []
    for k, row in enumerate(rows):
        got = float(gradient[k] @ together)
        low, high = sorted((float(right.value[k]), float(below.value[k])))
        scale = float(np.abs(gradient[k] * together).sum())
        bound = CLOSE * float(right.error[k] + below.error[k]) + 1e-8 * max(abs(low), abs(high), scale)
        jumped = bool(
            (right.jump is not None and right.jump[k]) or (below.jump is not None and below.jump[k])
        )
        if jumped or not np.isfinite([got, low, high, bound]).all() or bound > 1e-2 * max(scale, 1e-300):
            continue
        off = max(low - got, got - high)
        if off > bound:
            expected = low if abs(got - low) < abs(got - high) else high
            column = int(np.argmax(np.abs(gradient[k])))
            wrong.append(Entry(place, column, int(row), got, expected, off, bound, together=True))
    return wrong[:2]


def _tied(x: Vector) -> NDArray[np.bool_]:
    """Return which elements equal another one."""
    _, inverse, counts = np.unique(x, return_inverse=True, return_counts=True)
    return np.asarray(counts[inverse] > 1)
