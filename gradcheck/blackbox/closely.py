"""One suspicious entry of a Jacobian, looked at with everything that differences can tell."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from gradcheck.blackbox import differences
from gradcheck.blackbox.differences import Sides
from gradcheck.blackbox.sets import Index
from gradcheck.subjects.function import Function, Point, Vector, one

# An entry is wrong beyond so many error estimates. What agrees to so much is not looked at further: it is far
# below what has to be seen, 1e-7 of the largest entry, and far above the rounding of a float64 gradient.
CLOSE = 10.0
RELATIVE = 1e-9
# An estimate is no estimate if its error exceeds this share of the entry, or of the largest entry.
KNOWN = 1e-3
_SHARP = 0.03
# Beside numbers of the example's size, one that is so much smaller may be lost in a sum. One that is so much
# larger may pass over steps of the function that no difference resolves, and is held to six digits.
_SMALL = 2.0**-10
_LARGE = 2.0**16
_RELATIVE_LARGE = 1e-6
# Below this, products of what enters an entry are no normal numbers.
_TINY = 1e-290
_NEARBY = 128
_MOST_EQUAL = 512
# Next to an element that is small beside the output, short steps are lost in rounding.
_AWAY = (2.0**-20, 2.0**-10)
# Beyond so many bounds an entry is wrong whatever the function does closer to the point.
_PLAIN = 1e-3
_UNSEEN = 2.0**-49
_ROUGH, _WIDE = (-15, -17, -19, -21, -23), (-7, -8, -9, -11)
_CALM = (4, 10, 16, 22, 28, 34, 40)


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
class Line:
    """An element of an input that is moved, and the outputs that are watched, all of them at once."""

    function: Function
    point: Point
    place: int
    column: int
    rows: Index

    @cached_property
    def size(self) -> float:
        """The size that steps of this element are measured by."""
        return float(differences.step_sizes(self.point[self.place])[self.column])

    @cached_property
    def direction(self) -> Vector:
        """The step of this element alone."""
        direction = np.zeros(self.point[self.place].size)
        direction[self.column] = self.size
        return direction

    @property
    def _way(self) -> tuple[Function, Point, int, Vector]:
        return self.function, self.point, self.place, self.direction

    @cached_property
    def noisy(self) -> tuple[Vector, NDArray[np.bool_]]:
        """The noise of the outputs, and whether they stand still over the closest points."""
        return differences.noise_of(*self._way, rows=self.rows)

    def sides(self, ladder: tuple[int, ...], noise: Vector | float) -> Sides:
        """Return the slopes of the outputs on both sides of the element."""
        return differences.sides(*self._way, ladder, noise, rows=self.rows)

    @cached_property
    def fine(self) -> Sides:
        """The slopes by short steps."""
        return self.sides(differences.FINE, self.noisy[0])

    @cached_property
    def still(self) -> Sides:
        """The slopes by short steps of what stands still close by."""
        return self.sides(differences.FINE, 0.0)

    @cached_property
    def coarse(self) -> Sides:
        """The slopes by longer steps, with the noise over them."""
        return self.sides(differences.COARSE, self._noise_over(_ROUGH))

    @cached_property
    def far(self) -> Sides:
        """The slopes by the longest steps, with the noise over them."""
        return self.sides(differences.FAR, self._noise_over(_WIDE))

    def _noise_over(self, exponents: tuple[int, ...]) -> Vector:
        found = differences.noise_at(*self._way, exponents, rows=self.rows)
        return np.asarray(np.maximum(self.noisy[0], found))


@dataclass(frozen=True)
class Suspect:
    """An entry under suspicion, of the outputs of a line that number `at`.

    `largest` is the largest entry of its Jacobian, `floor` what is always allowed, `usual` the size that the
    output has where nothing cancels, 0 if that is not known. It is `missing` if there is no gradient at all.
    """

    line: Line
    at: int = 0
    largest: float = 0.0
    floor: float = 0.0
    usual: float = 0.0
    missing: bool = False

    @property
    def function(self) -> Function:
        """The function."""
        return self.line.function

    @property
    def point(self) -> Point:
        """The point."""
        return self.line.point

    @property
    def place(self) -> int:
        """The place of the input."""
        return self.line.place

    @property
    def column(self) -> int:
        """The element of the input."""
        return self.line.column

    @property
    def row(self) -> int:
        """The output."""
        return int(self.line.rows[self.at])

    @property
    def size(self) -> float:
        """The size that steps of this element are measured by."""
        return self.line.size

    @property
    def direction(self) -> Vector:
        """The step of this element alone."""
        return self.line.direction

    @cached_property
    def near(self) -> bool:
        """Whether the element is not much larger than those of the example."""
        usual = _usual(self)
        return not 0 < usual < self.size / _LARGE

    @cached_property
    def base(self) -> float:
        """The output at the point."""
        return float(one(self.function, self.point)[self.row])

    @cached_property
    def natural(self) -> float:
        """The slope of an output that moves by its own size when the element does."""
        return max(abs(self.base), self.usual) / self.size

    @cached_property
    def unseen(self) -> float:
        """How little an output can move and seem to stand still.

        It does so beside a number of the order of one; and beside itself in float32, if all outputs are
        numbers of that format: then the function computes in it.
        """
        with np.errstate(all="ignore"):
            outputs = one(self.function, self.point)
            single = bool((outputs.astype(np.float32) == outputs).all())
        return max(_UNSEEN, 2.0**-22 * abs(self.base)) if single else _UNSEEN

    def gradient(self, point: Point) -> float:
        """Return the entry as the gradient has it at a point."""
        hot = np.zeros((1, self.function.size))
        hot[0, self.row] = 1.0
        found = self.function.gradients(point, hot)[self.place]
        return 0.0 if found is None else float(found[0, self.column])

    @cached_property
    def got(self) -> tuple[float, float]:
        """The entry as the gradient has it, and how far it moves when the inputs do by few ULPs."""
        # The same moves for all columns: a gradient is that of all elements.
        rng = np.random.default_rng(self.row)
        value = self.gradient(self.point)
        spread = 0.0
        for _ in range(3):
            moved = tuple(x * (1 + rng.integers(-4, 5, x.size) * 2.0**-52) for x in self.point)
            there = self.gradient(moved)
            if math.isfinite(there):
                spread = max(spread, abs(there - value))
        return value, spread

    def steps(self, ladder: tuple[int, ...], noise: float) -> Reading | None:
        """Return what steps of other lengths say about the entry alone; None where the output jumps."""
        line = replace(self.line, rows=self.line.rows[self.at : self.at + 1])
        return _read(line.sides(ladder, noise), 0, self.size)


@dataclass(frozen=True)
class Reading:
    """What differences say about one entry: the range of slopes, and the error of its ends."""

    low: float
    high: float
    error: float
    kink: bool


def _read(found: Sides, at: int, size: float) -> Reading | None:
    """Return what differences say about one of the outputs; None where it jumps."""
    right, left = found.right, found.left
    if right.jump is not None and left.jump is not None and (right.jump[at] or left.jump[at]):
        return None
    with np.errstate(all="ignore"):
        value = float(found.middle.value[at]) / size
        error = float(found.middle.error[at]) / size
        up, down = float(right.value[at]) / size, float(left.value[at]) / size
        apart = float(right.error[at] + left.error[at]) / size
        kink = abs(up - down) > CLOSE * apart + RELATIVE * max(abs(up), abs(down))
    low, high = (min(up, down), max(up, down)) if kink else (value, value)
    return Reading(low, high, apart if kink else error, kink)


def look(suspect: Suspect) -> tuple[Entry | None, bool]:
    """Judge one entry with long ladders of steps; return it if it is wrong, and whether that is known."""
    if suspect.column < 0:
        return None, True
    got, _ = suspect.got
    if not math.isfinite(got) and not _settled(suspect):
        return None, False
    entry, agrees = None, False
    for found_there in _ways(suspect):
        reading = _read(found_there, suspect.at, suspect.size)
        if reading is None:
            return None, True
        found, sure = _judged(suspect, reading)
        if found is None and sure:
            return None, True
        agrees |= found is None
        entry = entry or found
    if agrees or entry is None:
        return None, False
    if entry.expected == 0 and abs(got) * suspect.size < suspect.unseen:
        return None, False
    vague = math.isfinite(got) and entry.bound > _PLAIN * entry.error
    if vague and not _resolved(suspect, entry):
        return None, False
    if math.isfinite(got) and not suspect.missing and _chosen(suspect, entry.bound):
        return None, True
    if math.isfinite(got) and _from_afar(suspect, entry.expected):
        return None, False
    return entry, True


def _chosen(suspect: Suspect, bound: float) -> bool:
    """Whether the gradient is one of several that a point without a derivative has."""
    # Each share of equal elements alone may be one that there is, and all of them together too much.
    together = _shared(suspect)
    return any(_nearby(suspect, bound, away) for away in _AWAY) if together is None else together


def _shared(suspect: Suspect) -> bool | None:
    """Whether the gradient is right along all elements together that equal this one; None without a choice.

    Of many equal elements one alone may move and the median stays, say: each slope is zero, and which one
    gets the gradient is a choice. Where the slopes of all add up to that of all together there is none.
    """
    function, point, place, row = suspect.function, suspect.point, suspect.place, suspect.row
    equal = point[place] == point[place][suspect.column]
    places = np.flatnonzero(equal)
    if not 1 < len(places) <= _MOST_EQUAL:
        return None
    direction = np.where(equal, suspect.size, 0.0)
    alone = np.zeros((len(places), equal.size))
    alone[np.arange(len(places)), places] = suspect.size
    each = differences.along(function, point, place, alone)
    noise, _ = differences.noise_of(function, point, place, direction, rows=[row])
    ends = differences.sides(function, point, place, direction, noise=noise, rows=[row])
    hot = np.zeros((1, function.size))
    hot[0, row] = 1.0
    gradient = function.gradients(point, hot)[place]
    if gradient is None or not np.isfinite(gradient[0, equal]).all():
        return False
    shares = gradient[0, equal] * suspect.size
    low, high = sorted((float(ends.right.value[0]), float(ends.left.value[0])))
    error = float(ends.right.error[0] + ends.left.error[0])
    scale = max(abs(low), abs(high), float(np.abs(shares).max()))
    slack = CLOSE * error + 1e-8 * scale
    apart = abs(float(each.value[:, row].sum()) - (low + high) / 2)
    known = CLOSE * (error + float(each.error[:, row].sum())) + 1e-6 * scale
    if not (apart > known or high - low > known):
        return None
    return bool(error <= _SHARP * scale and low - slack <= shares.sum() <= high + slack)


def _from_afar(suspect: Suspect, expected: float) -> bool:
    """Whether an element is far smaller than the example's, and steps of that size find the gradient right.

    What is added to something of an ordinary size and taken from it again is rounded as that is: next to
    nothing, it stands still over any step of the size of the element.
    """
    usual, size = _usual(suspect), suspect.size
    if not 0 < size < _SMALL * usual:
        return False
    reach = int(math.log2(usual / size))
    reading = suspect.steps(tuple(range(1 - reach, -2, 2)), 0.0)
    if reading is None:
        return False
    got, there = suspect.got[0], (reading.low + reading.high) / 2
    known = reading.error + reading.high - reading.low <= _SHARP * abs(got)
    # What steps of the element's own size say is nothing like it: it is not a small error of the gradient.
    return known and abs(got - there) <= min(_SHARP * abs(got), abs(expected - there) / 4)


def _usual(suspect: Suspect) -> float:
    """Return the largest number that the example has in this input, 0 where there is none."""
    example = getattr(suspect.function, "point", None)
    if example is None or len(example) <= suspect.place:
        return 0.0
    x = np.abs(example[suspect.place])
    return float(x[np.isfinite(x)].max(initial=0.0))


def _ways(suspect: Suspect) -> Iterator[Sides]:
    """Yield slopes by several ladders of steps, that an entry is held to any of.

    A function that stands still close by rounds coarsely, or is flat; one that has another slope over far
    steps rounds coarsely in a part of it, or bends.
    """
    yield suspect.line.fine
    if suspect.line.noisy[1][suspect.at]:
        yield suspect.line.still
    yield suspect.line.coarse
    yield suspect.line.far


def _resolved(suspect: Suspect, entry: Entry) -> bool:
    """Whether steps that the gradient itself calls short enough convict it as well.

    Where the gradient changes within the steps that were taken, the function bends there, and coarse steps
    may not see what happens at the point; finer ones may be lost in noise.
    """
    got, _ = suspect.got
    calm = _CALM[-1] + 6
    for exponent in reversed(_CALM):
        around = []
        for sign in (1.0, -1.0):
            moved = list(suspect.point)
            moved[suspect.place] = suspect.point[suspect.place] + sign * 2.0**-exponent * suspect.direction
            around.append(suspect.gradient(tuple(moved)))
        # What changes evenly across the point cancels in a central difference.
        apart = abs(sum(around) / 2 - got)
        if not apart <= 0.1 * entry.error:
            break
        calm = exponent
    ladder = tuple(level for level in differences.FINE if level >= calm)
    if calm == _CALM[0] or len(ladder) < 3:
        return calm == _CALM[0]
    reading = suspect.steps(ladder, float(suspect.line.noisy[0][suspect.at]))
    return reading is not None and _judged(suspect, reading)[0] is not None


def _nearby(suspect: Suspect, bound: float, away: float = 2.0**-20) -> bool:
    """Whether the gradient lies among the slopes at points close by that differ: an element of Clarke's set.

    Where several elements are tied, the slopes along each axis can be equal, and none of them the slopes
    beside the tie, of which any mean is a generalised gradient. Beside a point of smoothness all are alike.
    The points are `away`, relative to the size of the elements, and the steps from them much shorter.
    """
    function, point, place, column = suspect.function, suspect.point, suspect.place, suspect.column
    rng = np.random.default_rng([column, suspect.row, 77])
    moved = [x + rng.uniform(-1, 1, (_NEARBY, x.size)) * away * differences.step_sizes(x) for x in point]
    batch = [np.repeat(x, 4, axis=0) for x in moved]
    steps = np.tile(np.array([1.0, -1.0, 0.25, -0.25]) * away * 2.0**-8, _NEARBY) * suspect.size
    batch[place][:, column] += steps
    taken = (batch[place][:, column] - np.repeat(moved[place][:, column], 4)).reshape(_NEARBY, 4)
    with np.errstate(all="ignore"):
        values = function.values(tuple(batch))[:, suspect.row].reshape(_NEARBY, 4)
        wide = (values[:, 0] - values[:, 1]) / (taken[:, 0] - taken[:, 1])
        fine = (values[:, 2] - values[:, 3]) / (taken[:, 2] - taken[:, 3])
        noise = 64 * function.roundoff * np.abs(values).max() / (away * 2.0**-10 * suspect.size)
    slopes = fine[np.isfinite(fine) & (np.abs(fine - wide) <= 8 * noise + 1e-4 * np.abs(fine))]
    if len(slopes) < 3:
        return False
    got, _ = suspect.got
    low, high = float(slopes.min()), float(slopes.max())
    # What bends evenly has slopes that differ a little, and the more the further away.
    apart = high - low > 16 * noise + max(1e-3, 2.0**8 * away) * max(abs(low), abs(high))
    slack = 4 * noise + 1e-5 * max(abs(low), abs(high)) + bound
    return bool(apart and low - slack <= got <= high + slack)


def _settled(suspect: Suspect) -> bool:
    """Whether all outputs have finite slopes along an element: elsewhere it has no gradient to be wrong."""
    found = differences.sides(suspect.function, suspect.point, suspect.place, suspect.direction)
    slope, right, left = found.middle, found.right, found.left
    with np.errstate(all="ignore"):
        base = np.abs(one(suspect.function, suspect.point))
        sure = slope.error <= _SHARP * np.maximum(np.abs(slope.value), base)
        finite = np.isfinite(right.error) & np.isfinite(left.error)
        apart = finite & (right.error + left.error <= _SHARP * (np.abs(right.value) + np.abs(left.value)))
    return bool((sure | apart).all())


def _judged(suspect: Suspect, reading: Reading) -> tuple[Entry | None, bool]:
    got, own = suspect.got
    low, high, spread = reading.low, reading.high, reading.error
    size = max(abs(low), abs(high))
    relative = RELATIVE if suspect.near else _RELATIVE_LARGE
    with np.errstate(all="ignore"):
        bound = CLOSE * (spread + own) + relative * size + suspect.floor + _TINY
    if not (math.isfinite(spread) and math.isfinite(low) and math.isfinite(high)):
        return None, False
    off = max(low - got, got - high, 0.0) if math.isfinite(got) else math.inf
    if not off > bound:
        return None, bound - suspect.floor <= KNOWN * max(size, suspect.largest, suspect.natural)
    # An error estimate that is not small against what it would prove convicts nobody.
    proven = max(off, size) if math.isfinite(got) else max(size, suspect.natural)
    if spread + (own if math.isfinite(got) else 0.0) > _SHARP * proven:
        return None, False
    expected = low if abs(got - low) <= abs(got - high) or not math.isfinite(got) else high
    return Entry(suspect.place, suspect.column, suspect.row, got, expected, off, bound, reading.kink), True
