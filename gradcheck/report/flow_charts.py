"""Charts of the page of gradient flow: lines, points with intervals, bars, histograms and heat maps."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from markupsafe import Markup

from gradcheck.flow.document import Chart, Series
from gradcheck.report.charts import DASHES, INK, SERIES, SHAPES, Named, draw
from gradcheck.report.heat import HEAT, NOTHING, cells
from gradcheck.report.text import clean, figure, power

# What a drawing is: width and height in points; bars lie, one line of text each.
WIDE, HIGH, BAR = 420, 210, 15
LONGEST = 32
Layer = dict[str, Any]


def drawn(chart: Chart, named: Named) -> Markup:
    """Return the drawing of a chart."""
    if chart.kind == "heat":
        return _heat(chart, named)
    if chart.kind == "bars":
        return _bars(chart, named)
    x = span(v for s in chart.series for v in s.x)
    y = span(
        [v for s in chart.series for part in (s.y, s.low, s.high) for v in part]
        + [level for _, level in chart.levels]
    )
    half = _half_bin(chart) if chart.kind == "histogram" else 0.0
    x = (x[0] - half, x[1] + half)
    if chart.kind == "histogram" and not chart.y_log:
        y = (0.0, y[1])
    frame = {"x": axis("x", x, chart.x_log), "y": axis("y", y, chart.y_log, padded=True)}
    layers = [*_levels(chart, frame, x)]
    for series, slot in zip(chart.series, slots(chart), strict=True):
        layers += _series(series, slot, mark_of(chart, series), frame, half)
    return draw({"layer": layers or [_nothing(frame)]}, WIDE, HIGH, named=named)


def mark_of(chart: Chart, series: Series) -> str:
    """Return how a series is drawn: by its own mark, or by the kind of its chart."""
    kinds = {"line": "line", "points": "points", "bars": "bars", "histogram": "bars", "heat": "line"}
    return series.mark or kinds[chart.kind]


def slots(chart: Chart) -> list[tuple[int, int]]:
    """Return colour and dash (or shape) of every series: one group shares its colour."""
    groups = list(dict.fromkeys(series.group or series.label for series in chart.series))
    found = []
    for series in chart.series:
        place = groups.index(series.group or series.label)
        found.append((place % len(SERIES), (place + place // len(SERIES)) % len(DASHES)))
    return found


def span(values: Iterable[float]) -> tuple[float, float]:
    """Return the ends of what is finite, never of width 0."""
    finite = [v for v in values if math.isfinite(v)]
    low, high = (min(finite), max(finite)) if finite else (0.0, 1.0)
    if high - low > 1e-12 * max(abs(low), abs(high)):
        return low, high
    room = 0.05 * abs(low) or 0.5
    return low - room, high + room


def axis(field: str, ends: tuple[float, float], decades: bool, *, padded: bool = False) -> Layer:
    """Return the encoding of an axis; one of decades holds exponents of ten and says the numbers."""
    room = 0.04 * (ends[1] - ends[0]) if padded and ends[0] != 0 else 0.0
    domain = [ends[0] - room, ends[1] + (0.04 * (ends[1] - ends[0]) if padded else 0.0)]
    scale = {"domain": domain, "nice": False, "zero": False, "clamp": False}
    said: Layer = {"title": None, "tickCount": 6, "format": "~g"}
    if decades:
        labels = decade_ticks(domain[0], domain[1])
        texts = {str(round(k * 1_000_000)): text for k, text in labels.items()}
        said = {
            "title": None,
            "values": list(labels),
            "labelExpr": f"({json.dumps(texts)})[round(datum.value * 1000000)]",
        }
    return {"field": field, "type": "quantitative", "scale": scale, "axis": said}


def decade_ticks(low: float, high: float) -> dict[float, str]:
    """Return exponents of ten for an axis, with the numbers as text: 1, 2, 5 where few decades are shown."""
    if high - low > 2:
        step = next((s for s in (1, 2, 4, 5, 10, 20, 50, 100) if (high - low) / s <= 6), 200)
        inside = [k for k in range(math.ceil(low), math.floor(high) + 1) if k % step == 0]
        return {float(k): _plain_power(k) for k in inside}
    factors = (1, 2, 5) if high - low > 0.7 else (1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 6, 8)
    if high - low < 0.08:
        middle = (low + high) / 2
        return {v: ten_to(v, 4) for v in (low, middle, high)}
    found = {
        k + math.log10(f): ten_to(k + math.log10(f))
        for k in range(math.floor(low), math.ceil(high) + 1)
        for f in factors
    }
    return {k: text for k, text in found.items() if low <= k <= high}


def ten_to(exponent: float, digits: int = 3) -> str:
    """Return the number of an exponent of ten, also where no float holds it."""
    if abs(exponent) < 300:
        return figure(10.0**exponent, digits)
    whole = math.floor(exponent)
    return f"{figure(10.0 ** (exponent - whole), digits)}×{power(whole)}"


def _plain_power(k: int) -> str:
    return figure(10.0**k) if -3 <= k <= 3 else power(k)


def _nothing(frame: Mapping[str, Any]) -> Layer:
    return {"data": {"values": []}, "mark": "point", "encoding": dict(frame)}


def _levels(chart: Chart, frame: Mapping[str, Any], x: tuple[float, float]) -> list[Layer]:
    rows = [{"y": level, "x": x[1], "t": clean(label, LONGEST)} for label, level in chart.levels]
    if not rows:
        return []
    y = {**frame["y"]}
    rule = {"type": "rule", "strokeWidth": 1, "strokeDash": [2, 3], "color": INK, "aria": False}
    text = {
        "type": "text", "align": "right", "dy": -5, "fontSize": 10, "color": INK, "aria": False,
    }  # fmt: skip
    return [
        {"data": {"values": rows}, "mark": rule, "encoding": {"y": y}},
        {
            "data": {"values": rows},
            "mark": text,
            "encoding": {"x": frame["x"], "y": y, "text": {"field": "t"}},
        },
    ]


def _rows(series: Series) -> list[dict[str, Any]]:
    """Return the points; a number that is none becomes null, which breaks a line."""
    low, high = series.low or series.y, series.high or series.y
    return [
        {"x": _number(x), "y": _number(y), "l": _number(a), "h": _number(b), "o": k}
        for k, (x, y, a, b) in enumerate(zip(series.x, series.y, low, high, strict=True))
    ]


def _number(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def _series(
    series: Series, slot: tuple[int, int], mark: str, frame: Mapping[str, Any], half: float
) -> list[Layer]:
    colour, dash = slot
    data = {"values": _rows(series)}
    base = {"x": frame["x"], "y": frame["y"]}
    ends = {"x": frame["x"], "y": {**frame["y"], "field": "l"}, "y2": {"field": "h"}}
    inside = [{"filter": "isValid(datum.x) && isValid(datum.l) && isValid(datum.h)"}]
    layers: list[Layer] = []
    if mark == "bars":
        rows = [
            {"x": r["x"] - half, "x2": r["x"] + half, "y": 0, "y2": r["y"]}
            for r in data["values"]
            if r["x"] is not None and r["y"] is not None
        ]
        bar = {"type": "rect", "color": SERIES[colour], "fillOpacity": 0.35, "aria": False}
        corners = {**base, "x2": {"field": "x2"}, "y2": {"field": "y2"}}
        layers.append({"data": {"values": rows}, "mark": bar, "encoding": corners})
    if mark == "line":
        if series.low:
            band = {"type": "area", "color": SERIES[colour], "fillOpacity": 0.16, "aria": False}
            layers.append({"data": data, "transform": inside, "mark": band, "encoding": ends})
        line = {
            "type": "line", "strokeWidth": 1.5, "color": SERIES[colour], "strokeDash": DASHES[dash],
            "invalid": "break-paths-filter-domains", "aria": False,
        }  # fmt: skip
        order = {"order": {"field": "o", "type": "quantitative"}}
        layers.append({"data": data, "mark": line, "encoding": {**base, **order}})
        return layers
    if series.low:
        rule = {"type": "rule", "strokeWidth": 1.1, "color": SERIES[colour], "aria": False}
        layers.append({"data": data, "transform": inside, "mark": rule, "encoding": ends})
    if mark == "points":
        point = {
            "type": "point", "shape": SHAPES[dash], "size": 20, "strokeWidth": 1.1, "filled": True,
            "color": SERIES[colour], "opacity": 1, "aria": False,
        }  # fmt: skip
        valid = [{"filter": "isValid(datum.x) && isValid(datum.y)"}]
        layers.append({"data": data, "transform": valid, "mark": point, "encoding": base})
    return layers


def _half_bin(chart: Chart) -> float:
    """Return half the width of the bins, from the centres of the first series."""
    centres = sorted({v for v in chart.series[0].x if math.isfinite(v)}) if chart.series else []
    return (centres[1] - centres[0]) / 2 if len(centres) > 1 else 0.5


def _bars(chart: Chart, named: Named) -> Markup:
    """Draw lying bars, one group per category, from 0 (on an axis of decades: from 1)."""
    count = len(chart.categories)
    values = [v for s in chart.series for part in (s.y, s.low, s.high) for v in part]
    x = span([*values, 0.0, *(level for _, level in chart.levels)])
    labels = {str(k): clean(name, LONGEST) for k, name in enumerate(chart.categories)}
    # The page's letters are wider than those that the drawing is laid out with.
    room = 7 * max(map(len, labels.values()), default=0) + 6
    names = {
        "values": list(range(count)), "labelExpr": f"({json.dumps(labels)})[datum.value]", "title": None,
        "grid": False, "ticks": False, "domain": False, "labelLimit": 260, "minExtent": room,
        "labelOverlap": False,
    }  # fmt: skip
    places = {"domain": [count - 0.5, -0.5], "nice": False, "zero": False}
    across = axis("v", x, chart.y_log, padded=True)
    down = {"field": "a", "type": "quantitative", "scale": places, "axis": names}
    bars = [s for s in chart.series if mark_of(chart, s) == "bars"]
    layers: list[Layer] = []
    for series, (colour, shape) in zip(chart.series, slots(chart), strict=True):
        is_bar = mark_of(chart, series) == "bars"
        each = 0.76 / max(len(bars), 1)
        start = -0.38 + each * bars.index(series) if is_bar else -0.08
        rows = [
            {"v": _number(y), "z": 0.0, "a": p + start, "b": p + start + (each if is_bar else 0.16),
             "m": p + start + (each / 2 if is_bar else 0.08), "l": _number(low), "h": _number(high)}
            for p, y, low, high in zip(
                series.x, series.y, series.low or series.y, series.high or series.y, strict=True
            )
        ]  # fmt: skip
        data = {"values": [row for row in rows if row["v"] is not None]}
        middle = {**down, "field": "m"}
        if is_bar:
            bar = {"type": "rect", "color": SERIES[colour], "fillOpacity": 0.45, "aria": False}
            corners = {"x": across, "x2": {"field": "z"}, "y": down, "y2": {"field": "b"}}
            layers.append({"data": data, "mark": bar, "encoding": corners})
        if series.low:
            rule = {"type": "rule", "strokeWidth": 1.2, "color": SERIES[colour], "aria": False}
            ends = {"x": {**across, "field": "l"}, "x2": {"field": "h"}, "y": middle}
            known = [{"filter": "isValid(datum.l) && isValid(datum.h)"}]
            layers.append({"data": data, "transform": known, "mark": rule, "encoding": ends})
        if not is_bar:
            point = {
                "type": "point", "shape": SHAPES[shape], "size": 26, "filled": True, "opacity": 1,
                "color": SERIES[colour], "aria": False,
            }  # fmt: skip
            layers.append({"data": data, "mark": point, "encoding": {"x": across, "y": middle}})
    levels = [{"v": level} for _, level in chart.levels]
    if levels:
        rule = {"type": "rule", "strokeDash": [2, 3], "color": INK, "aria": False}
        layers.append({"data": {"values": levels}, "mark": rule, "encoding": {"x": across}})
    return draw({"layer": layers}, 300, max(count, 1) * BAR * max(1, len(bars)), named=named)


def _heat(chart: Chart, named: Named) -> Markup:
    placed = all(map(math.isfinite, (*chart.xs, *chart.ys)))
    x, y = (_edges(chart.xs), _edges(chart.ys)) if placed else ([0.0, 1.0], [0.0, 1.0])
    frame = {
        "x": axis("x", (x[0], x[-1]), chart.x_log),
        "y": axis("y", (y[0], y[-1]), chart.y_log),
    }
    colours = (*HEAT, NOTHING)
    colour = {
        "field": "c",
        "type": "ordinal",
        "legend": None,
        "scale": {"domain": list(range(len(colours))), "range": list(colours)},
    }
    # Neighbours of one colour are one rectangle: a map of 1600 points takes a few hundred. Each reaches a
    # little under the next row, which leaves no seam between them.
    rows = [
        {
            "x": x[cell.first],
            "x2": x[cell.last],
            "y": y[cell.row],
            "y2": _under(y, cell.row),
            "c": cell.colour,
        }
        for cell in (cells(chart) if placed else ())
    ]
    corners = {**frame, "x2": {"field": "x2"}, "y2": {"field": "y2"}, "color": colour}
    layers: list[Layer] = [
        {"data": {"values": rows}, "mark": {"type": "rect", "aria": False}, "encoding": corners}
    ]
    for line in chart.contours:
        outline = {"type": "line", "strokeWidth": 1.8, "color": INK, "clip": True, "aria": False}
        encoding = {**frame, "order": {"field": "o", "type": "quantitative"}}
        layers.append({"data": {"values": _rows(line)}, "mark": outline, "encoding": encoding})
    return draw({"layer": layers}, 300, 260, named=named)


def _under(y: Sequence[float], row: int) -> float:
    """Return the upper edge of a row, and a quarter of the next one where there is one."""
    more = (y[row + 2] - y[row + 1]) / 4 if row + 2 < len(y) else 0.0
    return y[row + 1] + more


def _edges(centres: Sequence[float]) -> list[float]:
    """Return the edges of cells around increasing centres."""
    if len(centres) < 2:
        return [centres[0] - 0.5, centres[0] + 0.5] if centres else [0.0, 1.0]
    middles = [(a + b) / 2 for a, b in itertools.pairwise(centres)]
    first, last = 2 * centres[0] - middles[0], 2 * centres[-1] - middles[-1]
    return [first, *middles, last]
