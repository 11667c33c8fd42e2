"""A measurement as text: the verdict first, then what it rests on, then the layers."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gradcheck.flow.diagnosis import Diagnosis, Training
    from gradcheck.flow.limits import FormatLimit
    from gradcheck.flow.measuring import LayerRow, Measurement
    from gradcheck.flow.safety import FormatSafety

# A longer table shows every n-th layer, and both ends.
MOST_ROWS = 40
HEAD = (
    "layer", "log10‖g‖", "±", "change", "log10‖∂W‖", "E y²", "dead", "saturated", "zero", "subnormal", "inf",
)  # fmt: skip


def describe(m: Measurement) -> str:
    """Return the whole text."""
    low, high = m.interval
    direction = "lost" if m.statistics.span.value < 0 else "gained"
    sure = "" if math.isnan(m.confidence) else f", confidence {m.confidence:.3g}"
    lines = [
        m.subject,
        f"{m.verdict}: {m.span:.2f} decades of ‖g‖ {direction} towards the input ({m.seeds} networks{sure})",
        f"factor  {m.factor:.5g} ± {m.factor_error:.2g}   mean of ‖g‖² per layer",
        f"rate    {m.rate:+.5g} [{low:+.5g}, {high:+.5g}]   typical ln ‖g‖² per layer, towards the input",
        *_law(m),
        f"spread  β = {m.dispersion:.3g} between networks, end to end; {m.dead} dead, {m.broken} broken",
        *(_limit(m.limits[name]) for name in m.limits),
        *(f"{f.code}{f' at {f.layer}' if f.layer else ''}: {f.message}" for f in m.findings),
        "",
        *table(m.layers),
        "Weight gradients stand beside for comparison only: where each layer's output is proportional to its",
        "weights (ReLU without biases), ⟨W, ∂W⟩ is the same number in every layer, whatever else.",
    ]
    return "\n".join(lines)


def _law(m: Measurement) -> list[str]:
    p = m.predicted
    if p is None:
        return []
    kind = "exact at this width" if p.exact and p.width is not None else "a limit of wide layers"
    return [
        f"law     factor {p.factor:.5g}, typical {p.log_mean:+.5g}, variance {p.log_variance:.3g}   {kind}"
    ]


def _limit(limit: FormatLimit) -> str:
    if limit.depth is None:
        return f"{limit.format:<9}holds the gradient at any depth that this rate is certain for"
    more = ", by extrapolation" if limit.extrapolated else ""
    depth = f"{limit.depth} ± {limit.deviation:.2g}"
    return f"{limit.format:<9}half the entries are {limit.cause} at depth {depth}{more}"


def table(rows: tuple[LayerRow, ...]) -> list[str]:
    """Return the layers as aligned text, the one next to the input first."""
    step = max(1, math.ceil(len(rows) / MOST_ROWS))
    shown = [row for place, row in enumerate(rows) if place % step == 0 or place == len(rows) - 1]
    cells = [HEAD, *(layer_cells(row) for row in shown)]
    widths = [max(len(line[column]) for line in cells) for column in range(len(HEAD))]
    return [
        line[0].ljust(widths[0])
        + "".join(f"  {cell:>{w}}" for cell, w in zip(line[1:], widths[1:], strict=True))
        for line in cells
    ]


def layer_cells(row: LayerRow) -> tuple[str, ...]:
    """Return one layer as text, in the order of `HEAD`."""
    shares = (row.dead, row.saturated, row.zero, row.subnormal, row.infinite)
    return (
        row.name,
        f"{row.gradient:.3f}",
        f"{row.error:.2g}",
        f"{row.change:+.3f}" if math.isfinite(row.change) else "",
        f"{row.weight_gradient:.3f}",
        f"{row.forward:.3g}",
        *("" if math.isnan(share) else f"{share:.1%}" for share in shares),
    )


def explain_diagnosis(d: Diagnosis) -> str:
    """Return a diagnosis as text."""
    lines = [
        describe(d.measurement),
        "",
        "from the output towards the input: ln ‖g‖² per step, measured and predicted",
    ]
    for step in d.steps:
        law = "" if math.isnan(step.predicted) else f"{step.predicted:+.3f} ± {step.slack:.2g}"
        lines.append(f"{step.above} → {step.name}:  {step.measured:+.3f} ± {step.error:.2g}  {law}")
    lines.append(
        f"leaves the prediction at {d.leaves_at}" if d.leaves_at else "leaves the prediction nowhere"
    )
    for kind, layers in (("dead", d.dead), ("saturated", d.saturated)):
        if layers:
            lines.append(
                f"{kind} units: " + ", ".join(f"{share:.1%} in {name}" for name, share in layers[:5])
            )
    lines.extend(_safety(safety) for safety in d.formats)
    lines.extend(_of_training(d.training))
    lines.extend(str(remedy) for remedy in d.remedies)
    if d.best is not None:
        lines.append(f"smallest span: {d.best}")
    return "\n".join(lines)


def _safety(safety: FormatSafety) -> str:
    worst = safety.worst
    shares = f"zero {worst.zero:.1%}, subnormal {worst.subnormal:.1%}, infinite {worst.infinite:.1%}"
    if safety.safe:
        verdict = "safe"
    elif safety.scale is not None:
        verdict = f"safe with the loss times 2^{math.log2(safety.scale):.0f}"
    else:
        verdict = "safe with no scale of the loss"
    ran = ""
    if safety.measured is not None:
        (zero, infinite), (scaled_zero, scaled_infinite) = safety.measured
        ran = f"; run: zero {zero:.1%}, infinite {infinite:.1%}"
        ran += f", scaled {scaled_zero:.1%}, {scaled_infinite:.1%}"
    return f"{safety.format:<9}{verdict}: {shares} in {safety.layer}{ran}"


def _of_training(t: Training | None) -> list[str]:
    if t is None:
        return []
    hides = "hides the difference" if t.adam_hides else "leaves the difference"
    clipping = "changes the ratio" if t.clipping_helps else "does not change it"
    return [
        f"decades from {t.last} to {t.first}: gradient {t.gradient:+.2f}; clipped by the global norm "
        f"{t.clipped:+.2f} ({clipping}); a step of SGD {t.sgd:+.2f}, of Adam {t.adam:+.2f} ({hides})"
    ]
