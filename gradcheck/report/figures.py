"""Small multiples: error against step of the derivative witnesses, and error over the input."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from gradcheck.report import charts
from gradcheck.report.charts import Point
from gradcheck.report.text import as_float, count, figure, listed, name, plural

_METHODS = {"central": "central", "richardson": "Richardson", "complex": "complex step"}
_MOST_PROFILES = 36
_FLOOR_GAP = 1


@dataclass(frozen=True)
class Line:
    """One series of a chart with its summary; `slot` picks colour and shape."""

    slot: int
    label: str
    best: str
    at: str
    estimate: str
    held: str


@dataclass(frozen=True)
class Chart:
    """One drawing; `alternative` says in words what it shows."""

    title: str
    subtitle: str
    svg: Markup
    alternative: str
    lines: tuple[Line, ...]


@dataclass(frozen=True)
class Gallery:
    """Charts with common axes; `legend` pairs slots with series, `omitted` counts what is not drawn."""

    charts: tuple[Chart, ...]
    legend: tuple[tuple[int, str], ...]
    omitted: str
    unreadable: tuple[str, ...]


@dataclass(frozen=True)
class _Step:
    """One step of a witness: h, the error and its estimate; NaN where the artifact has none."""

    h: float
    error: float
    estimate: float


def step_gallery(artifacts: Mapping[str, Any]) -> Gallery:
    """Return one chart per formula of the artifacts of kind "step"."""
    series = {key: _steps(data) for key, data in artifacts.items()}
    methods = list(dict.fromkeys(method for found in series.values() for method in found))
    methods.sort(key=lambda m: list(_METHODS).index(m) if m in _METHODS else len(_METHODS))
    methods = methods[: len(charts.SERIES)]
    everything = [step for found in series.values() for steps in found.values() for step in steps]
    if not everything:
        return Gallery((), (), "", tuple(map(name, artifacts)))
    x = _decades(step.h for step in everything)
    low, high = _decades(value for step in everything for value in (step.error, step.estimate))
    y = (low - _FLOOR_GAP, high)
    drawn = [_step_chart(key, artifacts[key], found, methods, x, y) for key, found in series.items() if found]
    legend = tuple((slot, _METHODS.get(m, name(m))) for slot, m in enumerate(methods))
    return Gallery(tuple(drawn), legend, "", tuple(name(key) for key, found in series.items() if not found))


def _steps(data: Any) -> dict[str, list[_Step]]:
    """Read one artifact; whatever has another shape than declared is left out."""
    series = data.get("series") if isinstance(data, Mapping) else None
    found: dict[str, list[_Step]] = {}
    for method, rows in series.items() if isinstance(series, Mapping) else ():
        steps = [step for row in rows if (step := _step(row))] if isinstance(rows, list) else []
        if steps:
            found[str(method)] = sorted(steps, key=lambda step: step.h)
    return found


def _step(row: Any) -> _Step | None:
    if not isinstance(row, list | tuple) or len(row) < 2:
        return None
    h, error, estimate = (as_float(value) for value in [*row, math.nan][:3])
    if h is None or error is None or not 0 < h < math.inf:
        return None
    return _Step(h, abs(error), math.nan if estimate is None else abs(estimate))


def _decades(values: Iterable[float]) -> tuple[int, int]:
    logs = [math.log10(value) for value in values if 0 < value < math.inf]
    if not logs:
        return (-16, 0)
    low, high = math.floor(min(logs)), math.ceil(max(logs))
    return (low, high if high > low else low + 1)


def _step_chart(
    key: str,
    data: Mapping[str, Any],
    found: Mapping[str, list[_Step]],
    methods: Sequence[str],
    x: tuple[int, int],
    y: tuple[int, int],
) -> Chart:
    points: list[Point] = []
    lines: list[Line] = []
    for slot, method in enumerate(methods):
        steps = found.get(method, [])
        points += [_point(step, slot, y) for step in steps if step.error < math.inf]
        if steps:
            lines.append(_line(slot, method, steps))
    subtitle = f"at x = {name(data.get('x', '?'))}, exact {name(data.get('exact', '?'))[:24]}"
    words = [f"{line.label}: least error {line.best} at step {line.at}" for line in lines]
    alternative = f"Error against step for {name(key)}, both logarithmic. {'; '.join(words)}."
    return Chart(name(key), subtitle, charts.step_chart(points, x, y), alternative, tuple(lines))


def _point(step: _Step, slot: int, y: tuple[int, int]) -> Point:
    zero = step.error == 0
    known = 0 < step.estimate < math.inf
    return Point(
        x=math.log10(step.h),
        y=y[0] + 0.25 if zero else math.log10(step.error),
        series=slot,
        floor=zero,
        estimate=math.log10(step.estimate) if known else None,
    )


def _line(slot: int, method: str, steps: Sequence[_Step]) -> Line:
    best = min(steps, key=lambda step: math.inf if math.isnan(step.error) else step.error)
    estimated = [step for step in steps if not math.isnan(step.estimate)]
    held = sum(step.error <= step.estimate for step in estimated)
    return Line(
        slot=slot,
        label=_METHODS.get(method, name(method)),
        best=figure(best.error, 2),
        at=figure(best.h, 2),
        estimate=figure(best.estimate, 2) if not math.isnan(best.estimate) else "–",
        held=f"{held}/{len(estimated)}" if estimated else "–",
    )


def profile_gallery(artifacts: Mapping[str, Any]) -> Gallery:
    """Return one chart per (formula, format, check), a line per subject; those with the largest errors."""
    groups: dict[tuple[str, str, str], dict[str, list[Point]]] = {}
    unreadable: list[str] = []
    subjects: list[str] = []
    for key, data in artifacts.items():
        parts = [*key.split("/", 3), "", "", ""][:4]
        points = _profile(data)
        if not points:
            unreadable.append(name(key))
            continue
        if parts[1] not in subjects:
            subjects.append(parts[1])
        groups.setdefault((parts[0], parts[2], parts[3]), {})[parts[1]] = points
    subjects = subjects[: len(charts.SERIES)]
    kept = _largest_first(groups)
    x = _span(groups.values())
    drawn = tuple(_profile_chart(group, groups[group], subjects, x) for group in groups if group in kept)
    left = len(groups) - len(kept)
    omitted = f"{plural(left, 'more profile')} with smaller errors in evidence.json" if left else ""
    return Gallery(drawn, tuple((i, name(s)) for i, s in enumerate(subjects)), omitted, tuple(unreadable))


def _profile(data: Any) -> list[Point]:
    xs, ys = (data.get("x"), data.get("ulp")) if isinstance(data, Mapping) else (None, None)
    if not isinstance(xs, list) or not isinstance(ys, list):
        return []
    pairs = [(as_float(x), as_float(y)) for x, y in zip(xs, ys, strict=False)]
    points = [
        Point(charts.signed_decade(x), y, 0)
        for x, y in pairs
        if x is not None and y is not None and math.isfinite(x)
    ]
    return sorted(points, key=lambda point: point.x)


def _largest_first(
    groups: Mapping[tuple[str, str, str], Mapping[str, list[Point]]],
) -> set[tuple[str, str, str]]:
    ranked = sorted(groups, key=lambda group: -_top(groups[group]))
    return set(ranked[:_MOST_PROFILES])


def _top(group: Mapping[str, list[Point]]) -> float:
    values = [point.y for points in group.values() for point in points]
    return max((math.inf if math.isnan(value) else value for value in values), default=0.0)


def _span(groups: Iterable[Mapping[str, list[Point]]]) -> tuple[float, float]:
    xs = [point.x for group in groups for points in group.values() for point in points]
    return (min(xs, default=-1.0), max(xs, default=0.0) or 1.0)


def _profile_chart(
    group: tuple[str, str, str],
    found: Mapping[str, list[Point]],
    subjects: Sequence[str],
    x: tuple[float, float],
) -> Chart:
    finite = sorted(point.y for points in found.values() for point in points if math.isfinite(point.y))
    top = finite[-1] if finite else 1.0
    ceiling = max(1.0, top)
    points: list[Point] = []
    lines: list[Line] = []
    for slot, subject in enumerate(subjects):
        rows = found.get(subject, [])
        points += [Point(row.x, row.y if math.isfinite(row.y) else ceiling, slot) for row in rows]
        if rows:
            worst = max(rows, key=lambda row: math.inf if math.isnan(row.y) else row.y)
            lines.append(Line(slot, name(subject), figure(worst.y), _input_at(worst.x), "", ""))
    formula, fmt, check = map(name, group)
    words = [f"{line.label}: largest {line.best} ULP near {line.at}" for line in lines]
    alternative = f"Largest error over the input for {formula}, {fmt}, {check}. {listed(words)}."
    subtitle = f"{fmt} · {check} · {count(max(map(len, found.values())))} bins"
    return Chart(formula, subtitle, charts.profile_chart(points, x, ceiling), alternative, tuple(lines))


def _input_at(position: float) -> str:
    if position == 0:
        return "0"
    return figure(math.copysign(10.0 ** (abs(position) - 8), position), 2)
