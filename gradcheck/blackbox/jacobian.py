"""The Jacobian of reverse mode against that of differences, every element."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, reduce

import numpy as np
from numpy.typing import NDArray

from gradcheck.blackbox import differences, projection, structure
from gradcheck.blackbox.clock import OutOfTime
from gradcheck.blackbox.closely import CLOSE, KNOWN, RELATIVE, Entry, Line, Suspect, look
from gradcheck.blackbox.projection import signed
from gradcheck.blackbox.sets import Sets
from gradcheck.subjects.function import Function, Point, Remembered, Rows, Vector, one

# An entry passes at once within so many error estimates; what does not is looked at closely.
_FIRST = 8.0
_OF_LARGEST = 1e-12
_OF_TYPICAL = 1e-12
_LOOKED_AT = 24
# If differences cannot tell of any of so many, the most suspicious, they cannot of the others; if they could
# not at the point before, a few are enough.
_IN_VAIN, _AGAIN_IN_VAIN = 12, 3
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
    # Whether differences could tell of no suspicious entry of the last point.
    vain: bool = False


def compare(
    function: Function,
    point: Point,
    seed: int = 0,
    places: tuple[int, ...] | None = None,
    memory: Memory | None = None,
    quick: bool = False,
    tick: Callable[[], None] = lambda: None,
    scale: Vector | None = None,
) -> Compared:
    """Compare every entry of the Jacobian with respect to the inputs at `places`; all of them, if None.

    `quick` is content with bilinear forms where they are sharp enough; see `projection`. `tick` is called
    between calls of the function, and may raise to end the work. `scale` are the sizes that the outputs have
    where nothing cancels, if that is known: what is far below them is next to nothing, and not unknown.
    """
    memory = memory or Memory()
    chosen = range(len(function.inputs)) if places is None else places
    if function.size == 0 or all(function.inputs[place].size == 0 for place in chosen):
        return Compared()
    ask = _Ask(function, point, chosen[0], seed, tick, scale)
    try:
        return _compared(ask, [place for place in chosen if function.inputs[place].size], memory, quick)
    finally:
        # They are those of this point, also if the time ended the work.
        memory.products.clear()


def _compared(ask: _Ask, chosen: Sequence[int], memory: Memory, quick: bool) -> Compared:
    said = projection.project(ask.function, ask.point, ask.seed) if quick else None
    seen = []
    for place in chosen:
        if said is not None and said[place].agrees:
            form = said[place]
            seen.append(Compared(form.entries, resolution=form.resolution, kinds=("forms",)))
            continue
        own = replace(ask, place=place)
        try:
            if said is not None and said[place].settled:
                # There is no gradient, and the function moves: a column that shows it is enough.
                column = _a_column(own)
                if column.wrong:
                    seen.append(column)
                    continue
            seen.append(_one_input(own, memory))
        except OutOfTime:
            # What was found is told, whatever is left to do.
            if not any(each.wrong for each in seen):
                raise
            break
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


@dataclass(frozen=True)
class _Ask:
    """The Jacobian that is asked for: of a function at a point, with respect to one input."""

    function: Function
    point: Point
    place: int
    seed: int
    tick: Callable[[], None]
    scale: Vector | None

    @cached_property
    def sizes(self) -> Vector:
        """The sizes that the steps of each element are measured by."""
        return differences.step_sizes(self.point[self.place])

    @cached_property
    def base(self) -> Vector:
        """The outputs at the point."""
        return one(self.function, self.point)

    @cached_property
    def usual(self) -> Vector:
        """The sizes of the outputs, where nothing cancels if that is known."""
        size = np.where(np.isfinite(self.base), np.abs(self.base), 0.0)
        return size if self.scale is None else np.maximum(size, self.scale)


def _one_input(ask: _Ask, memory: Memory) -> Compared:
    found = memory.structures.get(ask.place)
    if found is None or found.column.shape[1] != ask.function.size:
        ask.tick()
        found = structure.find(ask.function, ask.point, ask.place, ask.seed)
        if found is None:
            return _sample(ask)
        memory.structures[ask.place] = found
    return _taken(ask, found, memory)


def _a_column(ask: _Ask) -> Compared:
    """Compare one column."""
    n = ask.function.inputs[ask.place].size
    columns = np.random.default_rng([ask.seed, 29]).integers(0, n, 1)
    return _taken(ask, structure.sampled(columns, n, ask.function.size), Memory())


def _sample(ask: _Ask) -> Compared:
    """Compare some rows and columns of a Jacobian that is too large; what is left is undecided."""
    function, place = ask.function, ask.place
    n, m = function.inputs[place].size, function.size
    rng = np.random.default_rng([ask.seed, 27])
    rows = np.sort(rng.permutation(m)[:_SAMPLED])
    columns = np.sort(rng.permutation(n)[:_SAMPLED])
    part = structure.sampled(columns, n, len(rows))
    scale = None if ask.scale is None else ask.scale[rows]
    seen = _taken(replace(ask, function=Rows(function, rows), scale=scale), part, Memory())
    return replace(
        seen,
        wrong=tuple(replace(entry, row=int(rows[entry.row])) for entry in seen.wrong),
        undecided=n * m - seen.entries,
        notes=(
            f"{function.inputs[place].name}: of {n:,} × {m:,} entries without structure {len(columns)} × "
            f"{len(rows)} are compared; a smaller example is compared in full",
        ),
    )


def _taken(ask: _Ask, found: structure.Structure, memory: Memory) -> Compared:
    both, missing = _both(ask, found, memory)
    with np.errstate(all="ignore"):
        gap = np.abs(both.analytic - both.numeric)
        allowed = _FIRST * both.error + RELATIVE * np.abs(both.numeric) + both.floor
        judged = np.isfinite(both.numeric) & _defined(ask, found)
        size = np.maximum(np.maximum(np.abs(both.numeric), both.largest), both.natural)
        coarse = judged & (allowed - both.floor > KNOWN * size)
        suspect = (judged & ~(gap <= allowed)) | coarse
    stray = ~(np.abs(both.stray) <= both.floor)
    if not judged.all() or found.kind == "sampled":
        stray &= False
    kinked, wrong, undecided, jumps = _look(ask, found, both, suspect, memory, missing)
    kinks = int(kinked.sum())
    try:
        wrong += _strays(ask, found, stray)
    except OutOfTime:
        if not wrong:
            raise
    if kinks and not wrong:
        wrong += _across_kinks(ask, np.flatnonzero(kinked))
    entries = int(judged.sum()) - jumps
    resolved = allowed[judged & ~suspect]
    return Compared(
        entries=entries,
        undecided=undecided,
        kinks=kinks,
        wrong=tuple(wrong),
        missing=(ask.place,)
        if missing and both.largest > 0 and (suspect & (both.analytic == 0)).any()
        else (),
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


def _both(ask: _Ask, found: structure.Structure, memory: Memory) -> tuple[_Both, bool]:
    function, place, sizes = ask.function, ask.place, ask.sizes
    slope = differences.along(function, ask.point, place, found.directions, sizes=sizes, tick=ask.tick)
    column = found.column
    seen = column >= 0
    at = np.where(seen, column, 0)
    with np.errstate(all="ignore"):
        numeric, error = slope.value / sizes[at], slope.error / sizes[at]
    factors = signed(np.random.default_rng([ask.seed, 5]), (function.size,))
    # Inputs whose outputs are grouped alike share the products: one call gives the gradients of all of them.
    key = found.groups.labels.tobytes()
    if key not in memory.products:
        memory.products[key] = _products(ask, found.groups, factors)
    gradients = memory.products[key][place]
    missing = gradients is None
    if gradients is None:
        gradients = np.zeros((len(found.groups), function.inputs[place].size))
    group = found.groups.labels
    analytic = np.where(seen, gradients[group[None], at] / factors[None], 0.0)
    claimed = np.zeros(gradients.shape, dtype=bool)
    claimed[np.broadcast_to(group[None], at.shape)[seen], at[seen]] = True
    stray = np.where(claimed, 0.0, gradients)
    # What no element of the input can reach must not move: its numerical derivative is that of nothing.
    finite = np.abs(numeric[np.isfinite(numeric)])
    largest = float(finite.max()) if finite.size else 0.0
    natural = ask.usual / sizes[at]
    floor = _OF_LARGEST * largest + _OF_TYPICAL * memory.typical.setdefault(place, largest)
    return _Both(numeric, error, analytic, column, stray, largest, natural, floor), missing


def _products(ask: _Ask, groups: Sets, factors: Vector) -> tuple[Vector | None, ...]:
    """Return the gradients along the cotangents of all groups, so many at a time."""
    held = ask.function.size + sum(x.size for x in ask.point)
    per = max(1, differences.MOST_NUMBERS // held)
    parts = []
    for start in range(0, len(groups), per):
        ask.tick()
        parts.append(ask.function.gradients(ask.point, groups.rows(start, start + per) * factors))
    if len(parts) == 1:
        return parts[0]
    return tuple(_joined(column) for column in zip(*parts, strict=True))


def _joined(column: Sequence[Vector | None]) -> Vector | None:
    some = [part for part in column if part is not None]
    return None if len(some) < len(column) else np.concatenate(some)


def _defined(ask: _Ask, found: structure.Structure) -> NDArray[np.bool_]:
    """Return which entries (C, m) belong to inputs that no output without a number depends on."""
    base = ask.base
    seen = found.column >= 0
    if np.isfinite(base).all():
        return np.ones(seen.shape, dtype=bool)
    spoilt = np.zeros(len(found.directions.labels), dtype=bool)
    broken = ~np.isfinite(base)
    spoilt[found.column[:, broken][seen[:, broken]]] = True
    return np.asarray(~spoilt[np.where(seen, found.column, 0)] & np.isfinite(base))


def _look(
    ask: _Ask,
    found: structure.Structure,
    both: _Both,
    suspect: NDArray[np.bool_],
    memory: Memory,
    missing: bool,
) -> tuple[NDArray[np.int64], list[Entry], int, int]:
    """Look closely at suspicious entries: kinks, a longer ladder, the noise of the gradient itself.

    Returned are the number of kinks of each output, what is wrong, and the numbers of undecided entries and
    of jumps.
    """
    kinks = np.zeros(ask.function.size, dtype=np.int64)
    undecided, jumps = 0, 0
    wrong: list[Entry] = []
    left = suspect.copy()
    point, place, sizes = ask.point, ask.place, ask.sizes
    # Entries of one row or one column are looked at with the same steps.
    remembered = ask.function if isinstance(ask.function, Remembered) else Remembered(ask.function)
    for colour in np.flatnonzero(left.any(axis=1))[:_COLOURS]:
        ask.tick()
        ends = differences.sides(remembered, point, place, found.directions.row(int(colour)) * sizes)
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
    looked, vain = 0, memory.vain and not len(order)
    colours, rows = np.unravel_index(order[:_LOOKED_AT], left.shape)
    columns = both.column[colours, rows]
    lines = {
        column: Line(remembered, point, place, column, rows[columns == column])
        for column in set(columns.tolist())
    }
    for column, row in zip(columns.tolist(), rows.tolist(), strict=True):
        line = lines[column]
        place_of_row = int(np.flatnonzero(line.rows == row)[0])
        usual = float(ask.usual[row])
        suspected = Suspect(line, place_of_row, both.largest, both.floor, usual, missing)
        try:
            ask.tick()
            entry, known = look(suspected)
        except OutOfTime:
            if not wrong:
                raise
            break
        if entry is not None:
            wrong.append(entry)
        elif not known:
            undecided += 1
        looked += 1
        vain = looked == undecided
        if len(wrong) >= 4 or (vain and looked == (_AGAIN_IN_VAIN if memory.vain else _IN_VAIN)):
            break
    memory.vain = vain and looked >= _AGAIN_IN_VAIN
    # What is left is of the kind of those that were looked at, the most suspicious first.
    left_over = len(order) - looked if not wrong else 0
    share = undecided / looked if looked else 0.0
    return kinks, wrong, undecided + round(share * left_over), jumps


def _agrees(got: Vector, value: Vector, error: Vector, both: _Both, colour: int) -> NDArray[np.bool_]:
    """Return which entries agree with differences over short steps that know them well enough."""
    allowed = _FIRST * error + RELATIVE * np.abs(value) + both.floor
    size = np.maximum(np.maximum(np.abs(value), both.largest), both.natural[colour])
    return np.asarray((np.abs(got - value) <= allowed) & (allowed - both.floor <= KNOWN * size))


def _strays(ask: _Ask, found: structure.Structure, stray: NDArray[np.bool_]) -> list[Entry]:
    """Look at gradients of inputs on which, by the structure, none of the outputs depends."""
    function, point, place = ask.function, ask.point, ask.place
    wrong: list[Entry] = []
    for group, column in np.argwhere(stray)[:4]:
        rows = np.flatnonzero(found.groups.labels == group)
        while len(rows) > 1:
            # Halving finds an output whose cotangent reaches the input.
            half = rows[: len(rows) // 2]
            probe = np.zeros((1, function.size))
            probe[0, half] = signed(np.random.default_rng(len(half)), (len(half),))
            gradient = function.gradients(point, probe)[place]
            reached = gradient is not None and abs(gradient[0, column]) > 0
            rows = half if reached else rows[len(rows) // 2 :]
        entry, _ = look(Suspect(Line(function, point, place, int(column), rows)))
        if entry is not None:
            wrong.append(entry)
    return wrong


def _across_kinks(ask: _Ask, kinked: NDArray[np.int64]) -> list[Entry]:
    """Move all elements together: at a tie each slope alone may be right, and their sum wrong.

    The gradient times the direction has to lie between the slopes on both sides along it.
    """
    function, point, place = ask.function, ask.point, ask.place
    rng = np.random.default_rng([ask.seed, 25])
    together = np.where(_tied(point[place]), ask.sizes, 0.0)
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
