"""The page of a benchmark: a model of text, tables and drawings, and a template that prints it."""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from gradcheck.bench.document import NUMPY, BenchDocument, Change, Comparison, Estimate, Measurement
from gradcheck.files import write_atomically
from gradcheck.flow.document import Chapter, FlowDocument, Table
from gradcheck.report import bench_charts
from gradcheck.report import flow as drawing
from gradcheck.report.page import fill
from gradcheck.report.text import clean, count, figure, name, plural, share

PAGE, DATA, MAIN = "bench.html", "bench.json", "index.html"
# A longer table is folded in.
OPEN_ROWS = 30
_UNITS = ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs"), (1e-9, "ns"))
_BYTES = ((2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB"), (1, "B"))
HEADS = (
    "formula", "implementation", "elements", "one call", "ratio to NumPy", "elements/s", "GB/s",
    "of the limit", "held at once", "ULP", "note",
)  # fmt: skip
_CHECK_HEADS = (
    "operation", "inputs", "checker", "one check", "ratio to gradcheck.check", "memory", "not run",
)  # fmt: skip
# Columns of sentences, which may take several lines.
_REMARKS = ("note", "not run", "reason", "for example")
_RATE_HEADS = ("formula", "arithmetic", "elements", "elements/s")


@dataclass(frozen=True)
class BenchPage:
    """Everything that the template prints; the chapters are those of the page of gradient flow."""

    title: str
    state: str
    headline: str
    warnings: tuple[str, ...]
    facts: tuple[tuple[str, str], ...]
    chapters: tuple[drawing.ChapterView, ...]
    open_rows: int
    remarks: tuple[str, ...]
    main: bool


def write(document: BenchDocument, folder: str | os.PathLike[str]) -> Path:
    """Write bench.html and bench.json into `folder`, each all or nothing, and return the page's path."""
    target = Path(folder) / PAGE
    write_atomically(Path(folder) / DATA, document.to_json().encode())
    write_atomically(target, render(document, main=(Path(folder) / MAIN).is_file()).encode())
    return target


def render(document: BenchDocument, *, main: bool = False) -> str:
    """Return the page, self-contained and without scripts; `main` says that the report stands beside it."""
    return fill("bench.html", ("style.css", "flow.css", "bench.css"), page=model(document, main=main))


def model(document: BenchDocument, *, main: bool = False) -> BenchPage:
    """Return what the page of a document prints."""
    drawn = FlowDocument(document.started, document.seconds, {}, {}, tuple(_chapters(document)))
    foreign = document.comparison.differs if document.comparison else ()
    marked = (f"compared across machines, by force: {'; '.join(foreign)}",) if foreign else ()
    return BenchPage(
        title="What each formula costs",
        state="open" if document.warnings or marked else "good",
        headline=headline(document),
        warnings=tuple(clean(text, 400) for text in (*marked, *document.warnings)),
        facts=_facts(document),
        chapters=drawing.model(drawn).chapters,
        open_rows=OPEN_ROWS,
        remarks=_REMARKS,
        main=main,
    )


def headline(document: BenchDocument) -> str:
    """Return what was measured, in one sentence."""
    formulas = {m.task.formula for m in document.measurements}
    noisy = sum(bool(m.noisy) for m in document.measurements)
    parts = [f"{plural(len(document.measurements), 'time')} of {plural(len(formulas), 'formula')}"]
    parts += [f"{count(noisy)} noisy"] if noisy else []
    parts += [f"{plural(len(document.not_run), 'lane')} not run"] if document.not_run else []
    if document.comparison is not None:
        tally = Counter(change.verdict for change in document.comparison.changes)
        parts.append(f"{count(tally['slower'])} slower and {count(tally['faster'])} faster than before")
    return ", ".join(parts)


def _facts(document: BenchDocument) -> tuple[tuple[str, str], ...]:
    pairs = [
        ("profile", document.profile),
        ("started", document.started),
        ("took", f"{document.seconds:.0f} s"),
        ("arguments", " ".join(document.arguments)),
        (
            "accuracy of",
            document.accuracy_of or "not measured: no run of `gradcheck verify` beside this page",
        ),
        *document.machine.items(),
        *document.versions.items(),
    ]
    return tuple((name(label), clean(text, 400)) for label, text in pairs if text)


def _chapters(document: BenchDocument) -> Iterable[Chapter]:
    if document.comparison is not None:
        yield _changes(document.comparison)
    over_size = bench_charts.over_size(document)
    yield Chapter(
        "sizes",
        "Time against size",
        (
            "Lanes of one chart were timed in turn. The limit is the time in which a copy moves the least "
            "bytes that the formula has to: every input read once, every result written once.",
            "Backward is from the inputs and the cotangent to the gradients; PyTorch and JAX compute the "
            "value on the way. A step of an optimizer has a forward direction only.",
            *(() if over_size else ("No formula was timed at more than one size in this run.",)),
        ),
        charts=over_size,
    )
    yield Chapter(
        "accuracy",
        "Speed against accuracy",
        (_of_accuracy(document),),
        charts=bench_charts.speed_and_accuracy(document, _usual_size(document.measurements)),
    )
    yield Chapter(
        "limit",
        "Distance from the limit",
        (
            "The farthest from the limit first. A ratio is the median of the ratios in the same round, with "
            "its 95 % interval. Above 100 % a formula is faster than the copy, as one that writes little can "
            "be. The reference's matrix products use the threads that BLAS chooses.",
        ),
        tables=tuple(_limits(document.measurements)),
    )
    yield Chapter(
        "bandwidth", "The limit of the machine", (), charts=bench_charts.copies(document.bandwidths)
    )
    if document.checks or document.rates:
        yield _suite(document)
    if document.not_run:
        yield Chapter("missing", "Not run", (), tables=(_missing(document),))


def _usual_size(measurements: Sequence[Measurement]) -> int:
    """Return the size at which most was timed."""
    sizes = Counter(m.task.size for m in measurements)
    return max(sizes, key=lambda size: (sizes[size], size)) if sizes else 0


def _of_accuracy(document: BenchDocument) -> str:
    if document.accuracy_of:
        return (
            f"Errors are those that the last verification found ({document.accuracy_of}). Compiled forms are "
            "other programs than those that are verified; their accuracy is not measured."
        )
    return "Accuracy is not measured: there is no run of `gradcheck verify` to read it from."


def _limits(measurements: Sequence[Measurement]) -> Iterable[Table]:
    keys = dict.fromkeys((m.task.direction, m.task.format) for m in measurements)
    for direction, fmt in sorted(keys, key=lambda key: (bench_charts.direction_order(key[0]), key[1])):
        group = [m for m in measurements if (m.task.direction, m.task.format) == (direction, fmt)]
        ordered = sorted(group, key=lambda m: m.share if math.isfinite(m.share) else math.inf)
        yield Table(f"{direction}, {fmt}", HEADS, tuple(map(_row, ordered)))


def _row(m: Measurement) -> tuple[str, ...]:
    notes = [m.noisy, f"{m.setup:.1f} s to compile" if m.setup else ""]
    return (
        m.task.formula,
        m.lane.label,
        count(m.elements),
        spread(m.seconds),
        _interval(m.ratio)
        if math.isfinite(m.ratio.median)
        else "1"
        if m.lane.implementation == NUMPY
        else "–",
        figure(m.rate),
        figure(m.traffic / m.seconds.median / 1e9),
        share(m.share, 1.0) if math.isfinite(m.share) else "–",
        bytes_text(m.peak) if m.peak >= 0 else "–",
        figure(m.ulp) if math.isfinite(m.ulp) else m.verdict or "not measured",
        "; ".join(part for part in notes if part),
    )


def _interval(found: Estimate) -> str:
    return f"{figure(found.median)} ({figure(found.low)} to {figure(found.high)})"


def spread(found: Estimate) -> str:
    """Return a time with its interval, in the unit of the median."""
    if not math.isfinite(found.median):
        return "–"
    size, unit = next(((s, u) for s, u in _UNITS if found.median >= s), _UNITS[-1])
    low, high = figure(found.low / size), figure(found.high / size)
    return f"{figure(found.median / size)} {unit} ({low} to {high})"


def bytes_text(value: int) -> str:
    """Return a number of bytes in a unit of its size."""
    size, unit = next(((s, u) for s, u in _BYTES if value >= s), _BYTES[-1])
    return f"{figure(value / size)} {unit}"


def _suite(document: BenchDocument) -> Chapter:
    costs = tuple(
        (
            c.operation,
            count(c.inputs),
            c.checker,
            spread(c.seconds),
            _interval(c.ratio) if math.isfinite(c.ratio.median) else "–",
            bytes_text(c.peak) if c.peak >= 0 else "–",
            c.failed,
        )
        for c in document.checks
    )
    rates = tuple((r.formula, r.arithmetic, count(r.elements), figure(r.rate)) for r in document.rates)
    tables = (
        Table("Every checker", _CHECK_HEADS, costs),
        Table("Elements judged a second, by arithmetic", _RATE_HEADS, rates),
    )
    return Chapter(
        "suite",
        "What a verdict costs",
        (
            "The same operation at the same point, in float64 and one thread, all checkers in turn. "
            "`gradcheck.check` does more than compare a Jacobian: other values, sizes, layouts, formats and "
            "second derivatives; the line for the Jacobian alone is what the others compare. Memory is what "
            "a check, not the first, added to the resident size of the process.",
        ),
        charts=bench_charts.costs(document.checks),
        tables=tuple(table for table in tables if table.rows),
    )


def _changes(found: Comparison) -> Chapter:
    order = ("slower", "faster", "noisy", "new", "gone", "the same")

    def key(change: Change) -> tuple[int, float]:
        factor = change.factor if math.isfinite(change.factor) else 1.0
        return order.index(change.verdict), -abs(math.log(factor)) if factor > 0 else 0.0

    rows = tuple(
        (
            change.name,
            change.verdict,
            figure(change.factor) if math.isfinite(change.factor) else "–",
            spread(Estimate(change.before, change.before, change.before, 1.0)).partition(" (")[0],
            spread(Estimate(change.after, change.after, change.after, 1.0)).partition(" (")[0],
        )
        for change in sorted(found.changes, key=key)
    )
    foreign = f" The machines differ: {'; '.join(found.differs)}." if found.differs else ""
    foreign += f" Other versions: {'; '.join(found.versions)}." if found.versions else ""
    return Chapter(
        "changes",
        f"What changed since {found.name}",
        (
            "Slower and faster are times whose medians differ by more than 15 % and whose intervals do not "
            f"touch. Compared with {found.saved}.{foreign}",
        ),
        tables=(Table("Then and now", ("what", "verdict", "now / then", "then", "now"), rows),),
    )


def _missing(document: BenchDocument) -> Table:
    reasons: dict[str, list[str]] = {}
    for each in document.not_run:
        reasons.setdefault(each.reason, []).append(f"{each.lane.label} of {each.task.label}")
    rows = tuple(
        (reason, count(len(found)), "; ".join(found[:3]) + (" …" if len(found) > 3 else ""))
        for reason, found in sorted(reasons.items(), key=lambda pair: -len(pair[1]))
    )
    return Table("Lanes without a time", ("reason", "lanes", "for example"), rows)
