"""The pictures of a benchmark: time over size, speed and accuracy, copies, and what a verdict costs."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

from gradcheck.bench.document import (
    BACKWARD,
    FORWARD,
    Bandwidth,
    BenchDocument,
    CheckCost,
    Estimate,
    Measurement,
)
from gradcheck.flow.document import Chart, Series

_T = TypeVar("_T")
# The symmetric range of a chart's colours: more series than this cannot be told apart.
MOST_SERIES = 10
# Errors of zero have a place on a logarithmic axis, at its lower end.
_LEAST_ULP = 0.01


def _log(value: float) -> float:
    return math.log10(value) if value > 0 else math.nan


def _grouped(items: Iterable[_T], key: Callable[[_T], object]) -> dict[object, list[_T]]:
    found: dict[object, list[_T]] = {}
    for item in items:
        found.setdefault(key(item), []).append(item)
    return found


def _line(label: str, points: Iterable[tuple[float, Estimate]], scale: float = 1.0) -> Series:
    """Return a line with its interval, as exponents of ten."""
    ordered = sorted(points, key=lambda point: point[0])
    return Series(
        label,
        tuple(_log(x) for x, _ in ordered),
        tuple(_log(t.median * scale) for _, t in ordered),
        tuple(_log(t.low * scale) for _, t in ordered),
        tuple(_log(t.high * scale) for _, t in ordered),
    )


def over_size(document: BenchDocument) -> tuple[Chart, ...]:
    """Return one chart for every formula, format and direction that was timed at several sizes."""
    groups = _grouped(document.measurements, lambda m: (m.task.formula, m.task.format, m.task.direction))
    charts = []
    for group in groups.values():
        if len({m.elements for m in group}) > 1:
            charts.append(_over_size(group))
    return tuple(charts)


def _over_size(group: Sequence[Measurement]) -> Chart:
    task = group[0].task
    lanes = _grouped(group, lambda m: m.lane.label)
    several = [(str(label), found) for label, found in lanes.items() if len(found) > 1][: MOST_SERIES - 1]
    series = [_line(label, [(m.elements, m.seconds) for m in found]) for label, found in several]
    limits = {m.elements: m.limit for m in group if m.lane.threads == 1 and m.limit > 0}
    if limits:
        sizes = sorted(limits)
        line = tuple(_log(limits[size]) for size in sizes)
        series.append(Series("limit: the least traffic, at the rate of a copy in one thread",
                             tuple(map(_log, sizes)), line, mark="line"))  # fmt: skip
    return Chart(
        id=f"size-{task.formula}-{task.format}-{task.direction}",
        kind="line",
        x_label="elements",
        y_label="seconds",
        series=tuple(series),
        title=f"{task.formula}, {task.format}, {task.direction}",
        caption="Time of one call: median with its 95 % interval.",
        x_log=True,
        y_log=True,
    )


def speed_and_accuracy(document: BenchDocument, size: int) -> tuple[Chart, ...]:
    """Return nanoseconds an element over the largest error that was found, per format and direction."""
    known = [
        m
        for m in document.measurements
        if math.isfinite(m.ulp) and m.task.size == size and m.lane.threads in (0, 1) and m.lane.tensors == 1
    ]
    charts = []
    for key, group in _grouped(known, lambda m: (m.task.format, m.task.direction)).items():
        fmt, direction = key if isinstance(key, tuple) else ("", "")
        lanes = _grouped(group, lambda m: m.lane.label)
        series = tuple(
            Series(
                str(label),
                tuple(_log(max(m.ulp, _LEAST_ULP)) for m in found),
                tuple(_log(1e9 / m.rate) for m in found),
                mark="points",
            )
            for label, found in lanes.items()
        )
        charts.append(
            Chart(
                id=f"accuracy-{fmt}-{direction}",
                kind="points",
                x_label="largest error found, ULP",
                y_label="nanoseconds an element",
                series=series,
                title=f"{fmt}, {direction}",
                caption=f"One point for each formula, at about {size:,} elements; below and to the left is "
                f"better. No error at all stands at {_LEAST_ULP} ULP.",
                x_log=True,
                y_log=True,
            )
        )
    return tuple(charts)


def copies(bandwidths: Sequence[Bandwidth]) -> tuple[Chart, ...]:
    """Return the rate of a copy over its traffic."""
    groups = _grouped(bandwidths, lambda b: (b.device, b.threads))
    series = []
    for found in groups.values():
        first, ordered = found[0], sorted(found, key=lambda b: b.bytes)
        where = first.device if first.device != "cpu" else f"{first.threads} thread{'s'[: first.threads - 1]}"
        # The shortest time is the highest rate: the ends of the interval change places.
        series.append(
            Series(
                where,
                tuple(_log(b.bytes) for b in ordered),
                tuple(_log(b.rate) for b in ordered),
                tuple(_log(b.bytes / b.seconds.high) for b in ordered),
                tuple(_log(b.bytes / b.seconds.low) for b in ordered),
            )
        )
    if not series:
        return ()
    return (
        Chart(
            id="copies",
            kind="line",
            x_label="bytes read and written",
            y_label="bytes a second",
            series=tuple(series),
            title="Copying memory",
            caption="Measured in this run; every limit is read off this line at the formula's own traffic.",
            x_log=True,
            y_log=True,
        ),
    )


def costs(found: Sequence[CheckCost]) -> tuple[Chart, ...]:
    """Return the time of every checker over the number of inputs, one chart per operation."""
    timed = [c for c in found if not c.failed]
    charts = []
    for operation, group in _grouped(timed, lambda c: c.operation).items():
        series = tuple(
            _line(str(checker), [(c.inputs, c.seconds) for c in each])
            for checker, each in _grouped(group, lambda c: c.checker).items()
        )
        charts.append(
            Chart(
                id=f"cost-{operation}",
                kind="line",
                x_label="inputs",
                y_label="seconds",
                series=series,
                title=str(operation),
                caption="One check: median with its 95 % interval.",
                x_log=True,
                y_log=True,
            )
        )
    return tuple(charts)


def direction_order(direction: str) -> int:
    """Return the place of a direction: the value comes before its gradient."""
    return (FORWARD, BACKWARD).index(direction) if direction in (FORWARD, BACKWARD) else 2
