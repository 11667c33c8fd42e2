"""The Jacobian of reverse mode against that of differences, every element."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from gradcheck.blackbox import differences, projection, structure
from gradcheck.blackbox.projection import signed
from gradcheck.subjects.function import Function, Point, Vector, one

# An entry passes at once within so many error estimates; what does not is looked at closely.
_FIRST = 8.0
_CLOSE = 10.0
# Entries that agree to so much are not looked at further. Both are far below what has to be seen, 1e-7 of
# the largest entry, and far above the rounding of a gradient that is computed in float64.
_RELATIVE = 1e-9
_OF_LARGEST = 1e-12
_OF_TYPICAL = 1e-12
# An estimate is no estimate if its error exceeds this share of the entry, or of the largest entry.
_KNOWN = 1e-3
_SHARP = 0.03
# Below this, products of what enters an entry are no normal numbers.
_TINY = 1e-290
_NEARBY = 128
# Beyond so many bounds an entry is wrong whatever the function does closer to the point.
_PLAIN = 1e-3
_UNSEEN = 2.0**-49
_ROUGH, _FAR = (-15, -17, -19, -21, -23), (-7, -8, -9, -11)
_LOOKED_AT = 24
_COLOURS = 512
_ROWS = 16


@dataclass(frozen=True)
class Entry:
    """One entry of a Jacobian that is wrong: d output[row] / d input[column]."""

    place: int
    column: int
    row: int
    got: float
    expected: float
    error: float
    bound: float
    kink: bool = False
    together: bool = False


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
) -> Compared:
    """Compare every entry of the Jacobian with respect to the inputs at `places`; all of them, if None.

    `quick` is content with bilinear forms where they are sharp enough; see `projection`.
    """
    total = Compared()
    memory = memory or Memory()
    chosen = range(len(function.inputs)) if places is None else places
    if function.size == 0 or all(function.inputs[place].size == 0 for place in chosen):
        return total
    said = projection.project(function, point, seed) if quick else None
    for place in chosen:
        if function.inputs[place].size == 0:
            continue
        if said is not None and said[place].agrees:
            form = said[place]
            seen = Compared(form.entries, resolution=form.resolution, kinds=("forms",))
        else:
            seen = _one_input(function, point, place, seed, memory)
        total = _merge(total, seen)
    memory.products.clear()
    return total


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


def _one_input(function: Function, point: Point, place: int, seed: int, memory: Memory) -> Compared:
    found = memory.structures.get(place)
    if found is None or found.column.shape[1] != function.size:
        found = structure.find(function, point, place, seed)
        memory.structures[place] = found
    both, missing = _both(function, point, place, found, seed, memory)
    with np.errstate(all="ignore"):
        gap = np.abs(both.analytic - both.numeric)
        allowed = _FIRST * both.error + _RELATIVE * np.abs(both.numeric) + both.floor
        judged = np.isfinite(both.numeric) & _defined(function, point, found)
        size = np.maximum(np.maximum(np.abs(both.numeric), both.largest), both.natural)
        coarse = judged & (allowed - both.floor > _KNOWN * size)
        suspect = (judged & ~(gap <= allowed)) | coarse
    stray = ~(np.abs(both.stray) <= both.floor)
    if not judged.all():
        stray &= False
    kinked, wrong, undecided, jumps = _look(function, point, place, found, both, suspect)
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
        resolution=float(resolved.max() / both.largest) if resolved.size and both.largest > 0 else 0.0,
        kinds=(found.kind,),
        colours=found.colours,
        skipped=int(both.numeric.size) - entries,
    )


def _both(
    function: Function, point: Point, place: int, found: structure.Structure, seed: int, memory: Memory
) -> tuple[_Both, bool]:
    sizes = differences.step_sizes(point[place])
    slope = differences.along(function, point, place, found.directions * sizes)
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
        right, below = differences.one_sided(function, point, place, found.directions[colour] * sizes)
        at = np.where(both.column[colour] >= 0, both.column[colour], 0)
        with np.errstate(all="ignore"):
            low = np.minimum(right.value, below.value) / sizes[at]
            high = np.maximum(right.value, below.value) / sizes[at]
            slack = (right.error + below.error) / sizes[at]
            kinked = (high - low) > _CLOSE * slack + _RELATIVE * np.maximum(np.abs(low), np.abs(high))
            margin = _CLOSE * slack + _RELATIVE * np.maximum(np.abs(low), np.abs(high))
            got = both.analytic[colour]
            inside = kinked & (got >= low - margin) & (got <= high + margin)
            jumped = right.jump | below.jump if right.jump is not None and below.jump is not None else False
        kinks += left[colour] & inside
        left[colour] &= ~inside
        jumps += int((left[colour] & jumped).sum())
        left[colour] &= ~jumped
    with np.errstate(all="ignore"):
        gap = np.abs(both.analytic - both.numeric)
        severity = np.where(left, np.where(np.isfinite(gap), gap / (both.error + 1e-300), np.inf), -1.0)
    order = np.argsort(-severity, axis=None, kind="stable")[: int(left.sum())]
    for flat in order[:_LOOKED_AT]:
        colour, row = np.unravel_index(flat, left.shape)
        column = int(both.column[colour, row])
        entry, known = _closely(function, point, place, column, int(row), both.largest, both.floor)
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


def _closely(
    function: Function, point: Point, place: int, column: int, row: int, largest: float, floor: float
) -> tuple[Entry | None, bool]:
    """Judge one entry with a long ladder of steps; return it if it is wrong, and whether that is known."""
    if column < 0:
        return None, True
    size = differences.step_sizes(point[place])[column]
    direction = np.zeros(point[place].size)
    direction[column] = size
    noisy, still = differences.noise_of(function, point, place, direction)
    rough = _noise_at(function, point, place, direction, _ROUGH)
    hot = np.zeros((1, function.size))
    hot[0, row] = 1.0
    got, own = _gradient_and_noise(function, point, place, column, hot)
    natural = abs(float(one(function, point)[row])) / size
    # A function that stands still close by rounds coarsely, or is flat; one that has another slope over far
    # steps rounds coarsely in a part of it, or bends. It is held to any of them.
    ways: list[tuple[Vector | float, tuple[int, ...]]] = [(noisy, differences.FINE)]
    if still[row]:
        ways.append((0.0, differences.FINE))
    ways.append((np.maximum(noisy, rough), differences.COARSE))
    ways.append((np.maximum(noisy, _noise_at(function, point, place, direction, _FAR)), differences.FAR))
    if not math.isfinite(got) and not _settled(function, point, place, direction):
        return None, False
    entry, agrees = None, False
    for way in ways:
        reading = _reading(function, point, place, direction, row, *way)
        if reading is None:
            return None, True
        found, sure = _judged(reading, got, own, place, column, row, largest, floor, natural)
        if found is None and sure:
            return None, True
        agrees |= found is None
        entry = entry or found
    if agrees or entry is None:
        return None, False
    if entry.expected == 0 and abs(got) * size < _UNSEEN:
        # It stands still, as it would if it moved so little beside a number of the order of one.
        return None, False
    vague = math.isfinite(got) and entry.bound > _PLAIN * entry.error
    if vague and not _resolved(
        function, point, place, direction, hot, got, own, noisy, entry, largest, floor, natural
    ):
        return None, False
    if math.isfinite(got) and _nearby(function, point, place, column, row, got, entry.bound):
        return None, True
    return entry, True


def _resolved(
    function: Function,
    point: Point,
    place: int,
    direction: Vector,
    hot: Vector,
    got: float,
    own: float,
    noisy: Vector,
    entry: Entry,
    largest: float,
    floor: float,
    natural: float,
) -> bool:
    """Whether steps that the gradient itself calls short enough convict it as well.

    Where the gradient changes within the steps that were taken, the function bends there, and coarse steps
    may not see what happens at the point; finer ones may be lost in noise.
    """
    scales = (4, 10, 16, 22, 28, 34, 40)
    calm = scales[-1] + 6
    for exponent in reversed(scales):
        apart = 0.0
        for sign in (1.0, -1.0):
            moved = list(point)
            moved[place] = point[place] + sign * 2.0**-exponent * direction
            gradient = function.gradients(tuple(moved), hot)[place]
            there = 0.0 if gradient is None else float(gradient[0, entry.column])
            apart = max(apart, abs(there - got)) if math.isfinite(there) else math.inf
        if apart > 0.1 * entry.error:
            break
        calm = exponent
    ladder = tuple(level for level in differences.FINE if level >= calm)
    if calm == scales[0] or len(ladder) < 3:
        return calm == scales[0]
    reading = _reading(function, point, place, direction, entry.row, noisy, ladder)
    if reading is None:
        return False
    found, _ = _judged(reading, got, own, place, entry.column, entry.row, largest, floor, natural)
    return found is not None


def _nearby(
    function: Function, point: Point, place: int, column: int, row: int, got: float, bound: float
) -> bool:
    """Whether the gradient lies among the slopes at points close by that differ: an element of Clarke's set.

    Where several elements are tied, the slopes along each axis can be equal, and none of them the slopes
    beside the tie, of which any mean is a generalised gradient. Beside a point of smoothness all are alike.
    """
    rng = np.random.default_rng([column, row, 77])
    size = float(differences.step_sizes(point[place])[column])
    moved = [x + rng.uniform(-1, 1, (_NEARBY, x.size)) * 2.0**-20 * differences.step_sizes(x) for x in point]
    batch = [np.repeat(x, 4, axis=0) for x in moved]
    steps = np.tile(np.array([1.0, -1.0, 0.25, -0.25]) * 2.0**-28, _NEARBY) * size
    batch[place][:, column] += steps
    taken = (batch[place][:, column] - np.repeat(moved[place][:, column], 4)).reshape(_NEARBY, 4)
    with np.errstate(all="ignore"):
        values = function.values(tuple(batch))[:, row].reshape(_NEARBY, 4)
        wide = (values[:, 0] - values[:, 1]) / (taken[:, 0] - taken[:, 1])
        fine = (values[:, 2] - values[:, 3]) / (taken[:, 2] - taken[:, 3])
        noise = 64 * function.roundoff * np.abs(values).max() / (2.0**-30 * size)
    slopes = fine[np.isfinite(fine) & (np.abs(fine - wide) <= 8 * noise + 1e-4 * np.abs(fine))]
    if len(slopes) < 3:
        return False
    low, high = float(slopes.min()), float(slopes.max())
    apart = high - low > 16 * noise + 1e-3 * max(abs(low), abs(high))
    slack = 4 * noise + 1e-5 * max(abs(low), abs(high)) + bound
    return bool(apart and low - slack <= got <= high + slack)


def _noise_at(
    function: Function, point: Point, place: int, direction: Vector, exponents: tuple[int, ...]
) -> Vector:
    """Return the largest noise over several spacings: at one of them coarse roundings do not look even."""
    found = [differences.noise_of(function, point, place, direction, (e,))[0] for e in exponents]
    return np.asarray(np.max(found, axis=0))


@dataclass(frozen=True)
class _Reading:
    """What differences say about one entry: the range of slopes, and the error of its ends."""

    low: float
    high: float
    error: float
    kink: bool


def _reading(
    function: Function,
    point: Point,
    place: int,
    direction: Vector,
    row: int,
    noise: Vector | float,
    ladder: tuple[int, ...],
) -> _Reading | None:
    """Return the slopes of one output along one element; None where the output jumps."""
    size = float(np.abs(direction).max())
    central = differences.along(function, point, place, direction[None], ladder, noise)
    right, below = differences.one_sided(function, point, place, direction, ladder, noise)
    if right.jump is not None and below.jump is not None and (right.jump[row] or below.jump[row]):
        return None
    with np.errstate(all="ignore"):
        value, error = float(central.value[0, row] / size), float(central.error[0, row] / size)
        up, down = float(right.value[row] / size), float(below.value[row] / size)
        sides = float((right.error[row] + below.error[row]) / size)
        kink = abs(up - down) > _CLOSE * sides + _RELATIVE * max(abs(up), abs(down))
    low, high = (min(up, down), max(up, down)) if kink else (value, value)
    return _Reading(low, high, sides if kink else error, kink)


def _settled(function: Function, point: Point, place: int, direction: Vector) -> bool:
    """Whether all outputs have finite slopes along an element: elsewhere it has no gradient to be wrong."""
    slope = differences.along(function, point, place, direction[None], differences.FINE)
    with np.errstate(all="ignore"):
        sure = slope.error <= _SHARP * np.maximum(np.abs(slope.value), np.abs(one(function, point)))
        right, below = differences.one_sided(function, point, place, direction)
        finite = np.isfinite(right.error) & np.isfinite(below.error)
        sides = finite & (right.error + below.error <= _SHARP * (np.abs(right.value) + np.abs(below.value)))
    return bool((sure[0] | sides).all())


def _judged(
    reading: _Reading,
    got: float,
    own: float,
    place: int,
    column: int,
    row: int,
    largest: float,
    floor: float,
    natural: float,
) -> tuple[Entry | None, bool]:
    low, high, spread = reading.low, reading.high, reading.error
    size = max(abs(low), abs(high))
    with np.errstate(all="ignore"):
        bound = _CLOSE * (spread + own) + _RELATIVE * size + floor + _TINY
    if not (math.isfinite(spread) and math.isfinite(low) and math.isfinite(high)):
        return None, False
    off = max(low - got, got - high, 0.0) if math.isfinite(got) else math.inf
    if not off > bound:
        return None, bound - floor <= _KNOWN * max(size, largest, natural)
    # An error estimate that is not small against what it would prove convicts nobody.
    proven = max(off, size) if math.isfinite(got) else max(size, natural)
    if spread + (own if math.isfinite(got) else 0.0) > _SHARP * proven:
        return None, False
    expected = low if abs(got - low) <= abs(got - high) or not math.isfinite(got) else high
    return Entry(place, column, row, got, expected, off, bound, reading.kink), True


def _gradient_and_noise(
    function: Function, point: Point, place: int, column: int, hot: Vector
) -> tuple[float, float]:
    """Return one entry of the analytic Jacobian, and how far it moves when the inputs do by few ULPs."""
    values = []
    rng = np.random.default_rng(column)
    for attempt in range(4):
        moved = point
        if attempt:
            moved = tuple(x * (1 + rng.integers(-4, 5, x.size) * 2.0**-52) for x in point)
        gradient = function.gradients(moved, hot)[place]
        values.append(0.0 if gradient is None else float(gradient[0, column]))
    spread = [abs(v - values[0]) for v in values[1:] if math.isfinite(v)]
    return values[0], max(spread, default=0.0)


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
        entry, _ = _closely(function, point, place, int(column), int(rows[0]), 0.0, 0.0)
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
    noisy, _ = differences.noise_of(function, point, place, together)
    right, below = differences.one_sided(function, point, place, together, noise=noisy)
    wrong = []
    for k, row in enumerate(rows):
        got = float(gradient[k] @ together)
        low, high = sorted((float(right.value[row]), float(below.value[row])))
        scale = float(np.abs(gradient[k] * together).sum())
        bound = _CLOSE * float(right.error[row] + below.error[row]) + 1e-8 * max(abs(low), abs(high), scale)
        jumped = bool(
            (right.jump is not None and right.jump[row]) or (below.jump is not None and below.jump[row])
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
