"""One network as chapters of a page: a measurement, and for a user's model its diagnosis."""

from __future__ import annotations

import math

from gradcheck.flow.codes import explain_flow
from gradcheck.flow.diagnosis import Diagnosis
from gradcheck.flow.document import Chapter, Chart, Row, Series, Table, judged
from gradcheck.flow.limits import FormatLimit
from gradcheck.flow.measuring import Measurement
from gradcheck.flow.remedies import Remedy
from gradcheck.flow.statistics import DECADES
from gradcheck.flow.text import HEAD, layer_cells
from gradcheck.flow.verdict import expected_rate, expected_steps, step_factors

# Ends of a 95 % interval in standard errors.
_REACH = 1.96


def measurement_chapter(m: Measurement, seconds: float = 0.0) -> Chapter:
    """Return the chapter of one measurement."""
    return Chapter(
        id="measurement",
        title=f"{m.subject}: {m.verdict}",
        paragraphs=_verdict(m) if m.findings else (*_verdict(m), "There is no finding."),
        rows=_rows(m),
        charts=(_gradients(m), _forward(m), _failed(m)),
        tables=(
            *_findings(m),
            _limits(m),
            Table("Layers, the one next to the input first", HEAD, _layers(m)),
        ),
        seconds=seconds,
    )


def _verdict(m: Measurement) -> tuple[str, ...]:
    low, high = m.interval
    direction = "lost" if m.statistics.span.value < 0 else "gained"
    sure = (
        ""
        if math.isnan(m.confidence)
        else f" More networks would confirm it with probability {m.confidence:.3g}."
    )
    window = m.statistics
    return (
        f"The verdict is {m.verdict}: {m.span:.2f} ± {window.span.error:.2g} decades of ‖g‖ are "
        f"{direction} towards the input, over {m.seeds} networks, of which {m.dead} are dead and {m.broken} "
        f"broken.{sure} "
        "Below 1 decade a network is healthy, from 3 on its gradient vanishes or explodes; the scale of the "
        "loss plays no part.",
        f"Per layer the typical ln ‖g‖² changes by {m.rate:+.5g}, 95 % interval {low:+.5g} to {high:+.5g}, "
        f"and the mean of ‖g‖² by the factor {m.factor:.5g} ± {m.factor_error:.2g}, measured between layers "
        f"{window.first + 1} and {window.last + 1}. Between networks ln ‖g‖² varies from end to end by "
        f"β = {m.dispersion:.3g}.",
    )


def _rows(m: Measurement) -> tuple[Row, ...]:
    """Return factor and rate beside what is predicted; limits of wide layers are shown and not judged."""
    p, s = m.predicted, m.statistics
    if p is None or not s.rate.count:
        return ()
    factors = step_factors(p, len(s.typical))[s.first : s.last]
    width = "" if p.width is None else f"of width {p.width}"
    note = f"theory is a limit, and only layers {width} were measured".replace("  ", " ")
    heavy = any(f.code == "FLOW-HEAVY" for f in m.findings)
    doubt = "a few large ratios make up the mean" if heavy and p.exact else note
    return (
        judged(
            "factor", m.factor, m.factor_error, math.fsum(factors) / len(factors), p.error,
            limit=not p.exact, seeds=m.seeds, source=p.source, judge=p.exact and not heavy,
            note="" if p.exact and not heavy else doubt,
        ),
        judged(
            "rate", m.rate, m.rate_error, expected_rate(p, s), p.log_error,
            limit=not p.log_exact, seeds=m.seeds, source=p.source, judge=p.log_exact,
            note="" if p.log_exact else note,
        ),
    )  # fmt: skip


def _gradients(m: Measurement) -> Chart:
    """Return ‖g‖ over the layers, the last one as 1."""
    places = tuple(float(k + 1) for k in range(len(m.layers)))
    top = m.layers[-1].gradient
    own = tuple(row.gradient - top for row in m.layers)
    reach = tuple(_REACH * row.error for row in m.layers)
    weights = tuple(row.weight_gradient - m.layers[-1].weight_gradient for row in m.layers)
    series = [
        Series(
            "pre-activations, measured", places, own,
            tuple(a - b for a, b in zip(own, reach, strict=True)),
            tuple(a + b for a, b in zip(own, reach, strict=True)), "points", "own",
        ),
        Series("weights, for comparison only", places, weights, mark="line"),
    ]  # fmt: skip
    p = m.predicted
    if p is not None and len(m.layers) > 1:
        steps = [step * DECADES for step in expected_steps(p, len(m.layers))]
        law = [math.fsum(steps[place:]) for place in range(len(m.layers))]
        series.insert(1, Series("pre-activations, theory", places, tuple(law), mark="line", group="own"))
    return Chart(
        id="gradients",
        kind="line",
        x_label="layer, 1 next to the input",
        y_label="‖g‖ relative to the last layer",
        title="The gradient on its way through the layers",
        caption=f"Geometric means over {m.seeds} networks with 95 % intervals. A weight's gradient is "
        "a gradient times an input: their product can stay the same while both run away.",
        series=tuple(series),
        y_log=True,
    )


def _forward(m: Measurement) -> Chart:
    places = tuple(float(k + 1) for k in range(len(m.layers)))
    logs = tuple(math.log10(row.forward) if row.forward > 0 else math.nan for row in m.layers)
    return Chart(
        id="forward",
        kind="line",
        x_label="layer, 1 next to the input",
        y_label="mean square of the pre-activations",
        title="The signal on its way forward",
        caption=f"Geometric mean over {m.seeds} networks.",
        series=(Series("mean square", places, logs),),
        y_log=True,
    )


def _failed(m: Measurement) -> Chart:
    """Return the share of entries of the gradient that no format could hold, over the depth."""
    series = []
    for name, limit in m.limits.items():
        if limit.shares:
            depths = tuple(float(each.depth) for each in limit.shares)
            series.append(Series(name, depths, tuple(each.failed for each in limit.shares)))
    return Chart(
        id="formats",
        kind="line",
        x_label="layers back from the output",
        y_label="share of entries that are zero or infinite",
        title="What each format would lose",
        caption=f"For a cotangent of unit entries, from the rate over {m.seeds} networks in float64.",
        series=tuple(series),
    )


def _limits(m: Measurement) -> Table:
    rows = tuple(
        (name, _depth(limit), limit.cause, "" if limit.subnormal is None else str(limit.subnormal))
        for name, limit in m.limits.items()
    )
    heads = ("format", "depth ± deviation", "half the entries are", "half are subnormal at depth")
    return Table("Depth at which half the entries of the gradient have failed", heads, rows)


def _depth(limit: FormatLimit) -> str:
    if limit.depth is None:
        return "none that is certain"
    more = ", by extrapolation" if limit.extrapolated else ""
    return f"{limit.depth} ± {limit.deviation:.2g}{more}"


def _findings(m: Measurement) -> tuple[Table, ...]:
    rows = tuple((f.code, f.layer, f.message, explain_flow(f.code).summary) for f in m.findings)
    heads = ("code", "layer", "what was found", "meaning")
    return (Table("Findings", heads, rows),) if rows else ()


def _layers(m: Measurement) -> tuple[tuple[str, ...], ...]:
    return tuple(layer_cells(row) for row in m.layers)


def diagnosis_chapters(d: Diagnosis, seconds: float = 0.0) -> tuple[Chapter, ...]:
    """Return the chapters of a user's model: its measurement, its diagnosis, and what would help."""
    found = [measurement_chapter(d.measurement, seconds), _diagnosis(d)]
    return (*found, _remedies(d)) if d.remedies else tuple(found)


def _diagnosis(d: Diagnosis) -> Chapter:
    leaves = (
        f"Going from the output, ln ‖g‖² leaves what the weights predict at {d.leaves_at}."
        if d.leaves_at
        else "ln ‖g‖² nowhere leaves what the weights predict, where that is known."
    )
    units = [
        f"{kind} units: " + ", ".join(f"{share:.1%} in {name}" for name, share in layers[:5]) + "."
        for kind, layers in (("Dead", d.dead), ("Saturated", d.saturated))
        if layers
    ]
    steps = tuple(
        (
            f"{step.above} → {step.name}",
            f"{step.measured:+.3f} ± {step.error:.2g}",
            "" if math.isnan(step.predicted) else f"{step.predicted:+.3f} ± {step.slack:.2g}",
        )
        for step in d.steps
    )
    return Chapter(
        id="diagnosis",
        title="Where it leaves the prediction",
        paragraphs=(leaves, *units, *_training(d)),
        tables=(
            Table("ln ‖g‖² per step, from the output", ("step", "measured", "from its weights"), steps),
            _formats(d),
        ),
    )


def _training(d: Diagnosis) -> tuple[str, ...]:
    t = d.training
    if t is None:
        return ()
    hides = "hides the difference between layers" if t.adam_hides else "leaves the difference between layers"
    clips = "changes it" if t.clipping_helps else "does not change it"
    return (
        f"From {t.last} to {t.first} the weights' gradients differ by {t.gradient:+.2f} decades; clipping by "
        f"the global norm {clips} ({t.clipped:+.2f}). A first step of SGD differs by {t.sgd:+.2f}, one of "
        f"Adam, which {hides}, by {t.adam:+.2f}.",
    )


def _formats(d: Diagnosis) -> Table:
    rows = []
    for f in d.formats:
        scale = "no scale helps" if f.scale is None else f"2^{math.log2(f.scale):.0f}"
        scale = "1" if f.scale == 1 else scale
        ran = ""
        if f.measured is not None:
            (zero, infinite), (after, broken) = f.measured
            ran = f"zero {zero:.1%}, infinite {infinite:.1%}; scaled {after:.1%}, {broken:.1%}"
        worst = f.worst
        shares = f"zero {worst.zero:.1%}, subnormal {worst.subnormal:.1%}, infinite {worst.infinite:.1%}"
        rows.append((f.format, "safe" if f.safe else "not safe", scale, f.layer, shares, ran or f.reason))
    heads = ("format", "as it is", "scale of the loss", "worst layer", "shares there", "when run")
    return Table("Formats, at the scale that the gradient has", heads, tuple(rows))


def _remedies(d: Diagnosis) -> Chapter:
    best = d.best
    said = "" if best is None else f" The smallest span has: {best.kind}, {best.changes}."
    heads = ("remedy", "what was changed", "verdict", "decades", "rate, 95 % interval", "networks")
    return Chapter(
        id="remedies",
        title="What would help",
        paragraphs=("Each remedy was applied to copies of the model and measured there." + said,),
        tables=(Table("Remedies", heads, tuple(map(_remedy, d.remedies))),),
    )


def _remedy(r: Remedy) -> tuple[str, ...]:
    m = r.measurement
    if m is None:
        return r.kind, r.changes, f"not measured: {r.reason}", "", "", ""
    low, high = m.interval
    rate = f"{m.rate:+.4g} ({low:+.4g} to {high:+.4g})"
    return r.kind, r.changes, str(m.verdict), f"{m.span:.2f}", rate, str(m.seeds)
