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


@dataclass(frozen=True)
class _Bin:
    """The largest error among the inputs around x."""

    x: float
    ulp: float


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
    subtitle = f"at x = {name(data.get('x', '?'))}, derivative {name(data.get('exact', '?'))[:24]}"
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
    groups: dict[tuple[str, str, str], dict[str, list[_Bin]]] = {}
    unreadable: list[str] = []
    subjects: list[str] = []
    for key, data in artifacts.items():
        formula, subject, fmt, check = [*key.split("/", 3), "", "", ""][:4]
        bins = _bins(data)
        if not bins:
            unreadable.append(name(key))
            continue
        if subject not in subjects:
            subjects.append(subject)
        groups.setdefault((formula, fmt, check), {})[subject] = bins
    subjects = subjects[: len(charts.SERIES)]
    kept = set(sorted(groups, key=lambda group: -_top(groups[group]))[:_MOST_PROFILES])
    spans = {
        fmt: _span(found for (_, other, _), found in groups.items() if other == fmt) for _, fmt, _ in groups
    }
    drawn = tuple(
        _profile_chart(group, found, subjects, spans[group[1]])
        for group, found in groups.items()
        if group in kept
    )
    left = len(groups) - len(kept)
    omitted = f"{plural(left, 'more profile')} with smaller errors in evidence.json" if left else ""
    return Gallery(drawn, tuple((i, name(s)) for i, s in enumerate(subjects)), omitted, tuple(unreadable))


def _bins(data: Any) -> list[_Bin]:
    xs, ulps = (data.get("x"), data.get("ulp")) if isinstance(data, Mapping) else (None, None)
    if not isinstance(xs, list) or not isinstance(ulps, list):
        return []
    pairs = [(as_float(x), as_float(ulp)) for x, ulp in zip(xs, ulps, strict=False)]
    bins = [_Bin(x, u) for x, u in pairs if x is not None and u is not None and math.isfinite(x)]
    return sorted(bins, key=lambda found: found.x)


def _worst(bins: Iterable[_Bin]) -> _Bin:
    return max(bins, key=lambda found: math.inf if math.isnan(found.ulp) else found.ulp)


def _top(group: Mapping[str, list[_Bin]]) -> float:
    worst = _worst(found for bins in group.values() for found in bins).ulp
    return math.inf if math.isnan(worst) else worst


def _span(groups: Iterable[Mapping[str, list[_Bin]]]) -> tuple[float, float]:
    places = [charts.signed_decade(found.x) for group in groups for bins in group.values() for found in bins]
    return (min(places), max(places)) if min(places) < max(places) else (min(places) - 1, max(places) + 1)


def _profile_chart(
    group: tuple[str, str, str],
    found: Mapping[str, list[_Bin]],
    subjects: Sequence[str],
    x: tuple[float, float],
) -> Chart:
    finite = [entry.ulp for bins in found.values() for entry in bins if math.isfinite(entry.ulp)]
    ceiling = max(1.0, *finite) if finite else 1.0
    points: list[Point] = []
    lines: list[Line] = []
    for slot, subject in enumerate(subjects):
        bins = found.get(subject, [])
        points += [
            Point(charts.signed_decade(b.x), b.ulp if math.isfinite(b.ulp) else ceiling, slot) for b in bins
        ]
        if bins:
            worst = _worst(bins)
            lines.append(Line(slot, name(subject), figure(worst.ulp), figure(worst.x, 2), "", ""))
    formula, fmt, check = map(name, group)
    words = [f"{line.label}: largest {line.best} ULP near {line.at}" for line in lines]
    alternative = f"Largest error over the input for {formula}, {fmt}, {check}. {listed(words)}."
    subtitle = f"{fmt} · {check} · {count(max(map(len, found.values())))} bins"
    return Chart(formula, subtitle, charts.profile_chart(points, x, ceiling), alternative, tuple(lines))
