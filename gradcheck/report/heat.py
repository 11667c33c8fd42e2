"""Classes of a heat map: bounds, colours as keys of the style sheet, and runs of equal colour."""

from __future__ import annotations

import bisect
import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass

from gradcheck.flow.document import Chart
from gradcheck.report.text import figure

# The style sheet replaces these keys, one palette for each of the light and the dark page. The middle one
# stands at the centre; a map that only rises takes the upper half.
HEAT = (
    "#0e0a01", "#0e0a02", "#0e0a03", "#0e0a04", "#0e0a05", "#0e0a06",
    "#0e0a07", "#0e0a08", "#0e0a09", "#0e0a0a", "#0e0a0b",
)  # fmt: skip
NOTHING = "#0e0aff"
MIDDLE = len(HEAT) // 2
# Shares of the values at which a map without bounds of its own changes its colour.
_SHARES = (0.1, 0.3, 0.55, 0.8, 0.95)


@dataclass(frozen=True)
class Cells:
    """Neighbours of one colour in a row: columns `first` … `last` - 1."""

    row: int
    first: int
    last: int
    colour: int


def bounds_of(chart: Chart) -> tuple[float, ...]:
    """Return the increasing numbers at which colours change: the chart's own, or round ones by shares."""
    if chart.bounds:
        return chart.bounds[: len(HEAT) - 1]
    turning = not math.isnan(chart.centre)
    values = [v - chart.centre if turning else v for row in chart.values for v in row]
    known = sorted(abs(v) if turning else v for v in values if math.isfinite(v))
    if not known:
        return ()
    picked = {_round(known[min(int(share * len(known)), len(known) - 1)]) for share in _SHARES}
    steps = sorted(step for step in picked if step > 0 or not turning)
    if not turning:
        return tuple(steps)
    return tuple([chart.centre - step for step in reversed(steps)] + [chart.centre + step for step in steps])


def _round(value: float) -> float:
    return float(f"{value:.1e}")


def colour_of(value: float, bounds: tuple[float, ...], turning: bool) -> int:
    """Return the place in `HEAT` of a value; the one behind the last where it is not a number."""
    if math.isnan(value):
        return len(HEAT)
    place = bisect.bisect_right(bounds, value)
    return place + (MIDDLE - len(bounds) // 2 if turning else MIDDLE)


def cells(chart: Chart) -> Iterator[Cells]:
    """Yield the rectangles of a map, row by row."""
    bounds, turning = bounds_of(chart), not math.isnan(chart.centre)
    for row, values in enumerate(chart.values):
        colours = [colour_of(value, bounds, turning) for value in values]
        first = 0
        for column in range(1, len(colours) + 1):
            if column == len(colours) or colours[column] != colours[first]:
                yield Cells(row, first, column, colours[first])
                first = column


def legend(chart: Chart) -> tuple[tuple[int, str], ...]:
    """Return the colours of a map with what they mean, from the least."""
    bounds, turning = bounds_of(chart), not math.isnan(chart.centre)
    if not bounds:
        return ()
    texts = [figure(bound, 2) for bound in bounds]
    said = [
        f"below {texts[0]}",
        *(f"{a} to {b}" for a, b in itertools.pairwise(texts)),
        f"{texts[-1]} and more",
    ]
    start = MIDDLE - len(bounds) // 2 if turning else MIDDLE
    entries = [(start + place, text) for place, text in enumerate(said)]
    if any(math.isnan(value) for row in chart.values for value in row):
        entries.append((len(HEAT), "no network is alive"))
    return tuple(entries)
