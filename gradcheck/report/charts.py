"""Charts as Vega-Lite specifications, drawn to static SVG whose colours the style sheet replaces.

Every colour in a specification is a key: `style.css` maps it to a custom property, so that one drawing
serves the light and the dark page. Both axes hold exponents of ten as plain numbers, which keeps their
labels the same in every chart.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import vl_convert
from markupsafe import Markup

from gradcheck.report.text import power

INK, GRID, AXIS = "#52514e", "#e1e0d9", "#a3a29a"
SERIES = ("#1f6f93", "#b4541a", "#5b4b8a", "#4f7a28", "#8c2f5b")
SHAPES = ("circle", "square", "triangle-up", "diamond", "cross")
DASHES = ([1, 0], [5, 2], [2, 2], [6, 2, 2, 2], [1, 3])
_SUPERFLUOUS = re.compile(
    r' (?:xmlns(?::xlink)?|version|pointer-events|aria-hidden|aria-roledescription|role|font-family)="[^"]*"'
    r'| (?:opacity|stroke-width)="1"'
    r'|<path class="(?:foreground|background)"[^>]*? d="(?:M0,0h0v0h0Z)?"[^>]*/>'
    r'|<rect width="[\d.]+" height="[\d.]+" fill="white"\s*/>'
)
_TAG, _DIGITS = re.compile(r"<[^>]*>"), re.compile(r"(\d+\.\d{2})\d+")
FORBIDDEN = re.compile(r"<script|<foreignObject|<image|javascript:|\son\w+=", re.IGNORECASE)


@dataclass(frozen=True)
class Point:
    """One point of a series; `floor` says that the true ordinate is zero and lies below the chart."""

    x: float
    y: float
    series: int
    floor: bool = False
    estimate: float | None = None


@dataclass(frozen=True)
class Named:
    """What a drawing is called and says in words; `id` is unique in the page."""

    id: str
    title: str
    description: str


def step_chart(points: Sequence[Point], x: tuple[int, int], y: tuple[int, int]) -> Markup:
    """Draw error and error estimate against the step, both as exponents of ten."""
    rows = [{"x": p.x, "y": p.y, "s": p.series, "e": p.estimate, "f": p.floor} for p in points]
    base = {"x": _exponents("x", x), "y": _exponents("y", y)}
    estimate = {
        "transform": [{"filter": "isValid(datum.e)"}],
        "mark": {"type": "line", "strokeWidth": 1, "strokeDash": [2, 2], "aria": False},
        "encoding": {**base, "y": {**base["y"], "field": "e"}, "color": _color(), "detail": {"field": "s"}},
    }
    line = {
        "mark": {"type": "line", "strokeWidth": 1.4, "aria": False},
        "encoding": {**base, "color": _color()},
    }
    dots = {
        "mark": {"type": "point", "size": 18, "strokeWidth": 1.1, "aria": False},
        "encoding": {
            **base,
            "color": _color(),
            "shape": _ordinal("s", SHAPES),
            "fill": {"condition": {"test": "datum.f", "value": "transparent"}, **_color()},
        },
    }
    return draw({"data": {"values": rows}, "layer": [estimate, line, dots]}, 226, 150)


def profile_chart(points: Sequence[Point], x: tuple[float, float], y: float) -> Markup:
    """Draw the largest error in ULP over the input; abscissas are signed decades, see `signed_decade`."""
    rows = [{"x": p.x, "y": p.y, "s": p.series} for p in points]
    step = next((s for s in (2, 4, 8, 16) if (x[1] - x[0]) / s <= 7), 32)
    ticks = [tick for tick in range(math.ceil(x[0]), math.floor(x[1]) + 1) if tick % step == 0]
    labels = {str(tick): decade_label(tick) for tick in ticks}
    axis = {"values": ticks, "labelExpr": f"({json.dumps(labels)})[datum.value]", "title": None}
    spec = {
        "data": {"values": rows},
        "mark": {"type": "line", "strokeWidth": 1.2, "interpolate": "step", "aria": False},
        "encoding": {
            "x": {
                "field": "x",
                "type": "quantitative",
                "scale": {"domain": list(x), "nice": False},
                "axis": axis,
            },
            "y": {
                "field": "y",
                "type": "quantitative",
                **_ulps(y),
            },
            "color": _color(),
            "strokeDash": _ordinal("s", DASHES),
        },
    }
    return draw(spec, 236, 110)


def line_chart(lines: Sequence[Sequence[tuple[float, float]]], x_decades: bool, y_decades: bool) -> Markup:
    """Draw lines through points; an axis of decades holds exponents of ten."""
    rows = [
        {"x": x, "y": y, "s": slot, "o": k}
        for slot, points in enumerate(lines)
        for k, (x, y) in enumerate(points)
    ]
    spec = {
        "data": {"values": rows},
        "mark": {"type": "line", "strokeWidth": 1.5, "aria": False},
        "encoding": {
            "x": _axis("x", [row["x"] for row in rows], x_decades),
            "y": _axis("y", [row["y"] for row in rows], y_decades),
            "order": {"field": "o", "type": "quantitative"},
            "color": _color(),
            "strokeDash": _ordinal("s", DASHES),
        },
    }
    return draw(spec, 420, 190)


def _axis(field: str, values: Sequence[float], decades: bool) -> dict[str, Any]:
    low, high = min(values), max(values)
    if decades:
        bottom, top = math.floor(low), math.ceil(high)
        return _exponents(field, (bottom, top if top > bottom else bottom + 1))
    axis = {"title": None, "tickCount": 6, "format": ".4~g"}
    scale = {"domain": [low, high if high > low else low + 1], "nice": field == "y", "zero": False}
    return {"field": field, "type": "quantitative", "scale": scale, "axis": axis}


def _ulps(top: float) -> dict[str, Any]:
    """Return scale and axis of errors in ULP: linear, or where they span decades logarithmic above 1."""
    if top <= 50:
        return {
            "scale": {"domain": [0, top], "nice": True},
            "axis": {"title": None, "tickCount": 4, "format": "~g"},
        }
    decades = math.ceil(math.log10(top))
    step = max(1, decades // 4)
    labels = {
        "0": "0",
        **{str(10**k): "1" if k == 0 else power(k) for k in range(0, min(decades, 15) + 1, step)},
    }
    axis = {
        "title": None,
        "values": [int(label) for label in labels],
        "labelExpr": f"({json.dumps(labels)})[datum.value]",
    }
    return {"scale": {"type": "symlog", "constant": 1, "domain": [0, top], "nice": False}, "axis": axis}


# The decades of the smallest float16 and bfloat16 numbers would fill the axis: below 1e-8 it is zero.
_NEAR_ZERO = 8


def signed_decade(value: float) -> float:
    """Return sign(x)·max(0, log₁₀|x| + 8): an abscissa on which both signs and small inputs have room."""
    if value == 0:
        return 0.0
    return math.copysign(max(0.0, math.log10(abs(value)) + _NEAR_ZERO), value)


def decade_label(tick: int) -> str:
    """Return the input at an abscissa of `signed_decade`."""
    if tick == 0:
        return "0"
    exponent = abs(tick) - _NEAR_ZERO
    text = "1" if exponent == 0 else power(exponent)
    return text if tick > 0 else "−" + text


def _exponents(field: str, domain: tuple[int, int]) -> dict[str, Any]:
    span = domain[1] - domain[0]
    step = next((s for s in (1, 2, 4, 5, 10, 20, 50) if span / s <= 6), 100)
    ticks = [tick for tick in range(domain[0], domain[1] + 1) if tick % step == 0]
    labels = {str(tick): power(tick) for tick in ticks}
    axis = {"values": ticks, "labelExpr": f"({json.dumps(labels)})[datum.value]", "title": None}
    return {
        "field": field,
        "type": "quantitative",
        "scale": {"domain": list(domain), "nice": False, "zero": False},
        "axis": axis,
    }


def _color() -> dict[str, Any]:
    return _ordinal("s", SERIES)


def _ordinal(field: str, values: Sequence[Any]) -> dict[str, Any]:
    scale = {"domain": list(range(len(values))), "range": list(values)}
    return {"field": field, "type": "ordinal", "scale": scale, "legend": None}


def draw(spec: dict[str, Any], width: int, height: int, *, named: Named | None = None) -> Markup:
    """Return a specification as markup for the page; a drawing that is not `named` is hidden from readers."""
    axis = {
        "labelColor": INK,
        "gridColor": GRID,
        "domainColor": AXIS,
        "tickColor": AXIS,
        "labelFontSize": 11,
        "tickSize": 3,
        "labelPadding": 4,
        "labelFlush": False,
        "aria": False,
    }
    config = {"view": {"stroke": None}, "axis": axis, "background": None, "aria": False}
    full = {
        "$schema": "https://vega.github.io/schema/vega-lite/v5.json",
        "width": width,
        "height": height,
        "padding": 4,
        "config": config,
        **spec,
    }
    return _trusted(vl_convert.vegalite_to_svg(json.dumps(full)), named)


def _trusted(svg: str, named: Named | None) -> Markup:
    """Return the drawing as markup for the page, without what the page has no use for."""
    if FORBIDDEN.search(svg):
        raise ValueError("a chart came back with active content")
    body = _SUPERFLUOUS.sub("", svg)
    # Coordinates are cut; what is printed between the tags keeps its digits.
    body = _TAG.sub(lambda tag: _DIGITS.sub(r"\1", tag.group()), body)
    if named is None:
        return Markup(body.replace("<svg ", '<svg aria-hidden="true" focusable="false" ', 1))
    title, words = f"{named.id}-title", f"{named.id}-words"
    opened, rest = re.sub(
        "<svg ", f'<svg role="img" aria-labelledby="{title} {words}" focusable="false" ', body, count=1
    ).split(">", 1)
    said = Markup('<title id="{}">{}</title><desc id="{}">{}</desc>').format(
        title, named.title, words, named.description
    )
    return Markup(opened + ">") + said + Markup(rest)
