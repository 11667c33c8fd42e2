"""A map of gradients as a chapter of the page: both maps, the standard errors, sections with intervals."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gradcheck.flow.atlas import Atlas
from gradcheck.flow.document import Chapter, Chart, Series
from gradcheck.flow.measuring import summary

Float64Array = NDArray[np.float64]
# Decades of ‖g‖² per layer: 3 decades of ‖g‖ are lost over 300, 120, 60, 30 and 12 layers.
_PER_LAYER = (0.02, 0.05, 0.1, 0.2, 0.5)
# Decades of ‖g‖ over the network: healthy below 1, sick above 3.
_DECADES = (1.0, 3.0, 6.0, 12.0, 24.0)
# What a plane's axes replace in the description of a network.
_AXES = {
    "weights": ("σ_w²", "σ_b²"),
    "gain-depth": ("σ_w²", "depth"),
    "batch-depth": ("depth", "batch norm"),
}
# Ends of a 95 % interval in standard errors, for many networks.
_REACH = 1.96


@dataclass(frozen=True)
class _Words:
    """What a plane's axes and numbers are called."""

    title: str
    x: str
    y: str
    value: str
    unit: str
    steps: tuple[float, ...]
    line: str


_WORDS = {
    "weights": _Words(
        "Phase diagram over the variances",
        "σ_w",
        "σ_b",
        "log₁₀ of the factor of ‖g‖² per layer",
        "decades of ‖g‖² per layer",
        _PER_LAYER,
        "critical line of theory: factor 1",
    ),
    "gain-depth": _Words(
        "Gain and depth",
        "gain",
        "depth",
        "decades of ‖g‖ from the output to the first layer",
        "decades",
        _DECADES,
        "theory: no change",
    ),
    "batch-depth": _Words(
        "Batch size and depth under batch norm",
        "inputs in the batch",
        "layers back from the output",
        "decades of ‖g‖ gained towards the input",
        "decades",
        _DECADES,
        "theory: no change",
    ),
}


def chapter_of(atlas: Atlas) -> Chapter:
    """Return the chapter that shows a map."""
    words = _WORDS[atlas.plane]
    bounds = tuple(sorted([-step for step in words.steps] + list(words.steps)))
    return Chapter(
        id=f"atlas-{atlas.plane}",
        title=f"{words.title}: {atlas.network.activation_name}",
        paragraphs=_paragraphs(atlas, words),
        charts=(
            _map(atlas, words, "predicted", f"Theory: {words.value}", atlas.predicted, bounds),
            _map(atlas, words, "measured", f"Measured: {words.value}", atlas.measured, bounds),
            _sections(atlas, words),
            _map(atlas, words, "errors", f"Standard error, {words.unit}", atlas.errors, ()),
        ),
        seconds=atlas.seconds,
    )


def _paragraphs(atlas: Atlas, words: _Words) -> tuple[str, ...]:
    network, points = atlas.network, atlas.measured.size
    width = f"width {network.width}"
    drawn = points * atlas.seeds if atlas.plane != "batch-depth" else len(atlas.xs) * atlas.seeds
    shared = "" if atlas.plane != "batch-depth" else "; those of one batch size share all depths"
    axes = _AXES[atlas.plane]
    common = [part for part in summary(network).split(", ") if not part.startswith(axes)]
    what = (
        f"{', '.join(common)}: {points:,} points, {atlas.seeds} networks at each, {drawn:,} in all{shared}. "
        "Every network has weights, inputs and a cotangent of its own."
    )
    kind = (
        "The prediction holds at this width, so the two maps differ by chance alone."
        if atlas.exact
        else f"The prediction is the limit of wide layers; at {width} the difference below holds what is of "
        "the order 1/width as well, and near a critical line what takes more layers than there are to settle."
    )
    lost = (
        f" {atlas.dead:,} networks were dead and {atlas.broken:,} broke." if atlas.dead + atlas.broken else ""
    )
    return what, kind, _agreement(atlas, words) + lost


def _agreement(atlas: Atlas, words: _Words) -> str:
    both = np.isfinite(atlas.measured) & np.isfinite(atlas.predicted) & (atlas.errors > 0)
    if not np.any(both):
        return "No point could be compared."
    away = np.abs(atlas.measured - atlas.predicted)[both]
    errors = atlas.errors[both]
    z = float(np.sqrt(np.mean(np.square(away / errors))))
    beyond = int(np.sum(away > 4 * errors))
    signs = np.sign(atlas.measured[both]) == np.sign(atlas.predicted[both])
    return (
        f"Measured and predicted differ by {np.median(away):.2g} {words.unit} at the median point and by "
        f"{np.quantile(away, 0.95):.2g} at the 95th percentile; the standard error is "
        f"{np.median(errors):.2g} "
        f"at the median and at most {np.max(errors):.2g}. The difference over its standard error has a root "
        f"mean square of {z:.2f}; {beyond:,} of {len(away):,} points lie beyond 4. Theory and measurement "
        f"agree about the direction, lost or gained, at {np.mean(signs):.1%} of the points."
    )


def _map(
    atlas: Atlas, words: _Words, name: str, title: str, values: Float64Array, bounds: tuple[float, ...]
) -> Chart:
    log = atlas.plane == "batch-depth"
    lines = tuple(_contour(words.line, x, y, log) for x, y in atlas.critical)
    return Chart(
        id=name,
        kind="heat",
        x_label=words.x,
        y_label=words.y,
        title=title,
        caption="" if bounds else f"Over {atlas.seeds} networks per point.",
        x_log=log,
        xs=_axis(atlas.xs, log),
        ys=atlas.ys,
        values=tuple(tuple(map(float, row)) for row in values),
        value_label=words.unit,
        centre=0.0 if bounds else math.nan,
        bounds=bounds,
        contours=lines if bounds else (),
    )


def _axis(values: Sequence[float], log: bool) -> tuple[float, ...]:
    return tuple(math.log10(v) for v in values) if log else tuple(values)


def _contour(label: str, x: Float64Array, y: Float64Array, log: bool) -> Series:
    return Series(label, _axis(x.tolist(), log), tuple(y.tolist()))


def _sections(atlas: Atlas, words: _Words) -> Chart:
    """Return three rows of the map, measured with intervals beside predicted."""
    rows = sorted({0, len(atlas.ys) // 2, len(atlas.ys) - 1} if atlas.plane == "weights" else _deeper(atlas))
    log = atlas.plane == "batch-depth"
    series = []
    for row in rows:
        x = _axis(atlas.xs, log)
        measured, error = atlas.measured[row], _REACH * atlas.errors[row]
        where = f"{words.y} = {atlas.ys[row]:.3g}"
        series.append(
            Series(
                f"{where}, measured",
                x,
                tuple(measured.tolist()),
                tuple((measured - error).tolist()),
                tuple((measured + error).tolist()),
                "points",
                where,
            )
        )
        theory = tuple(atlas.predicted[row].tolist())
        series.append(Series(f"{where}, theory", x, theory, mark="line", group=where))
    return Chart(
        id="sections",
        kind="line",
        x_label=words.x,
        y_label=words.unit,
        title="Sections through the maps",
        caption=f"Intervals are 95 % over {atlas.seeds} networks.",
        series=tuple(series),
        x_log=log,
        levels=(("no change", 0.0),),
    )


def _deeper(atlas: Atlas) -> set[int]:
    last = len(atlas.ys) - 1
    return {last // 4, last // 2, last}
