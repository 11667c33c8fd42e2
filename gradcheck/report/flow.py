"""The page of gradient flow: a model of text and drawings first, then a template that only prints it."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from markupsafe import Markup

from gradcheck.files import write_atomically
from gradcheck.flow.document import (
    BEYOND,
    LEFT_OUT,
    NOT_JUDGED,
    QUALIFIED,
    REFUTED,
    SUPPORTED,
    WITHIN,
    Chapter,
    Chart,
    Claim,
    Counts,
    FlowDocument,
    Number,
    Row,
    Table,
)
from gradcheck.report import heat
from gradcheck.report.charts import Named
from gradcheck.report.flow_charts import drawn, mark_of, slots, ten_to
from gradcheck.report.page import fill
from gradcheck.report.text import anchor, clean, count, figure, name, plural, with_error

PAGE, DATA, MAIN = "flow.html", "flow.json", "index.html"
SLUGS = {
    WITHIN: "accurate",
    BEYOND: "wrong",
    NOT_JUDGED: "notrun",
    SUPPORTED: "accurate",
    REFUTED: "wrong",
    QUALIFIED: "unstable",
}
# A table of a chart's numbers longer than this is left to the JSON beside the page.
MOST_NUMBERS = 150


@dataclass(frozen=True)
class RowView:
    """One number of theory, as text."""

    name: str
    note: str
    slug: str
    verdict: str
    measured: str
    exact: str
    exact_error: str
    z: str
    kind: str
    seeds: str
    source: str


@dataclass(frozen=True)
class KeyView:
    """One entry of a chart's legend: `mark` is "line", "point", "bar", "heat" or "contour"."""

    mark: str
    colour: int
    shape: int
    label: str
    interval: bool = False


@dataclass(frozen=True)
class ChartView:
    """One drawn chart; `numbers` are the rows behind it: series, x, y, interval."""

    id: str
    title: str
    axes: str
    svg: Markup
    key: tuple[KeyView, ...]
    caption: str
    numbers: tuple[tuple[str, str, str, str], ...]
    heat: bool


@dataclass(frozen=True)
class ClaimView:
    """One claim with its verdict."""

    anchor: str
    id: str
    text: str
    slug: str
    verdict: str
    says: str
    numbers: tuple[tuple[str, str, str], ...]


@dataclass(frozen=True)
class TableView:
    """One table of text."""

    caption: str
    heads: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    numeric: tuple[bool, ...]


@dataclass(frozen=True)
class ChapterView:
    """One chapter; `summary` says how many of its numbers agree."""

    id: str
    number: int
    title: str
    paragraphs: tuple[str, ...]
    rows: tuple[RowView, ...]
    charts: tuple[ChartView, ...]
    claims: tuple[ClaimView, ...]
    tables: tuple[TableView, ...]
    summary: str


@dataclass(frozen=True)
class FlowPage:
    """Everything that the template prints."""

    title: str
    state: str
    headline: str
    sentence: str
    facts: tuple[tuple[str, str], ...]
    environment: tuple[tuple[str, str], ...]
    chapters: tuple[ChapterView, ...]
    main: bool


def render(document: FlowDocument, *, main: bool = False) -> str:
    """Return the page, self-contained and without scripts; `main` says that the report stands beside it."""
    return fill("flow.html", ("style.css", "flow.css"), page=model(document, main=main))


def write(document: FlowDocument, folder: str | os.PathLike[str], page: str = PAGE, data: str = DATA) -> Path:
    """Write the page and its numbers as JSON into `folder`, each all or nothing; return the page's path.

    The page links to the verification report if there is one beside it. A `StorageError` leaves what was
    there as it was.
    """
    target = Path(folder) / page
    write_atomically(Path(folder) / data, document.to_json().encode())
    write_atomically(target, render(document, main=(Path(folder) / MAIN).is_file()).encode())
    return target


def link_back(folder: str | os.PathLike[str]) -> FlowDocument | None:
    """Return the study that stands in `folder`, its page linked to the report; None if there is none."""
    data, target = Path(folder) / DATA, Path(folder) / PAGE
    if not (data.is_file() and target.is_file()):
        return None
    try:
        document = FlowDocument.from_json(data.read_bytes())
    except (ValueError, OSError):
        return None
    if f'href="{MAIN}"' not in target.read_text(encoding="utf-8", errors="replace"):
        write_atomically(target, render(document, main=True).encode())
    return document


def model(document: FlowDocument, *, main: bool = False) -> FlowPage:
    """Return what the page of a document prints."""
    counts = document.counts
    state = "bad" if counts.misses else "good" if counts.rows else "open"
    return FlowPage(
        title=clean(document.title, 200),
        state=state,
        headline=clean(document.headline[:1].upper() + document.headline[1:], 400),
        sentence=_sentence(document),
        facts=_facts(document),
        environment=tuple(
            (name(key), name(value))
            for key, value in (*document.versions.items(), *document.machine.items())
            if value
        ),
        chapters=tuple(_chapter(chapter, place + 1) for place, chapter in enumerate(document.chapters)),
        main=main,
    )


def _sentence(document: FlowDocument) -> str:
    counts = document.counts
    if not counts.rows:
        return (
            "Every number stands with its standard error and the number of random networks that it rests on."
        )
    return (
        f"{plural(counts.rows, 'number')} of theory {'was' if counts.rows == 1 else 'were'} measured on "
        f"random networks. {_chance(counts)} A row that holds for wide layers only is extrapolated from "
        "two widths."
    )


def _chance(counts: Counts) -> str:
    """Return the chance of a miss in words, with what is left out of it."""
    others = counts.rows - counts.normal
    if not counts.normal:
        return f"None of them is judged by |z|, so none is beyond by chance: they are {LEFT_OUT}."
    which = f"the {count(counts.normal)} judged by |z|" if others else "as many"
    apart = f"; the other {count(others)} ({LEFT_OUT}) are left out of that number" if others else ""
    return (
        f"By chance alone, one or more of {which} would lie beyond 4 standard errors with probability "
        f"{figure(counts.chance, 2)}{apart}."
    )


def _facts(document: FlowDocument) -> tuple[tuple[str, str], ...]:
    counts = document.counts
    claims = [claim.verdict for chapter in document.chapters for claim in chapter.claims]
    pairs = [
        ("rows judged", count(counts.rows) if counts.rows else ""),
        ("beyond", count(counts.misses) if counts.rows else ""),
        ("chance of a miss", figure(counts.chance, 2) if counts.rows else ""),
        *((verdict, plural(claims.count(verdict), "claim")) for verdict in dict.fromkeys(claims)),
        ("started", name(document.started)),
        ("took", f"{document.seconds:.0f} s"),
        ("seed", count(document.seed)),
        ("arguments", clean(" ".join(document.arguments), 400)),
    ]
    return tuple((label, text) for label, text in pairs if text)


def _chapter(chapter: Chapter, number: int) -> ChapterView:
    judged = [row for row in chapter.rows if row.verdict != NOT_JUDGED]
    beyond = sum(row.verdict == BEYOND for row in judged)
    parts = [f"{plural(len(judged), 'row')} judged, {count(beyond)} beyond"] if judged else []
    parts += [f"{chapter.seconds:.1f} s"] if chapter.seconds else []
    return ChapterView(
        id=anchor("chapter", chapter.id),
        number=number,
        title=clean(chapter.title, 200),
        paragraphs=tuple(clean(text) for text in chapter.paragraphs),
        rows=tuple(map(_row, chapter.rows)),
        charts=tuple(_chart(chart, chapter.id) for chart in chapter.charts),
        claims=tuple(_claim(claim, chapter.id) for claim in chapter.claims),
        tables=tuple(map(_table, chapter.tables)),
        summary="; ".join(parts),
    )


def _row(row: Row) -> RowView:
    return RowView(
        name=clean(row.name, 200),
        note=clean(row.note, 600),
        slug=SLUGS.get(row.verdict, "unknown"),
        verdict=row.verdict,
        measured=with_error(row.measured, row.standard_error),
        exact=_digits(row.exact, row.standard_error),
        exact_error=f"± {figure(row.exact_error, 2)}" if row.exact_error > 0 else "",
        z="–" if math.isnan(row.z) else signed(row.z),
        kind="limit" if row.limit else "exact",
        seeds=count(row.seeds) if row.seeds else "–",
        source=clean(row.source, 400),
    )


def _digits(exact: float, standard_error: float) -> str:
    """Return the number of theory with a digit more than the measured one has."""
    if not (0 < standard_error < math.inf and math.isfinite(exact) and exact != 0):
        return figure(exact, 6)
    more = math.floor(math.log10(abs(exact))) - math.floor(math.log10(standard_error)) + 3
    return figure(exact, min(max(more, 3), 12))


def signed(value: float) -> str:
    """Return a distance in standard errors with its sign."""
    return ("+" if value > 0 else "") + figure(value if value else 0.0, 2)


def _chart(chart: Chart, chapter: str) -> ChartView:
    identity = anchor("chart", chapter, chart.id)
    title = clean(chart.title or chart.y_label, 200)
    axes = f"{clean(chart.y_label, 200)} over {clean(chart.x_label, 200)}"
    caption = clean(chart.caption)
    heads = [clean(s.label, 200) for s in chart.series]
    shown = f"{axes}; {clean(chart.value_label, 200)} as colour" if chart.kind == "heat" else axes
    words = f"{shown}. {'; '.join(heads)}{'.' if heads else ''} {caption}".strip()
    return ChartView(
        id=identity,
        title=title,
        axes=shown,
        svg=drawn(chart, Named(identity, title, words)),
        key=_key(chart),
        caption=caption,
        numbers=_numbers(chart),
        heat=chart.kind == "heat",
    )


def _key(chart: Chart) -> tuple[KeyView, ...]:
    if chart.kind == "heat":
        entries = [KeyView("heat", colour, 0, text) for colour, text in heat.legend(chart)]
        lines = [KeyView("contour", 0, 0, clean(line.label, 200)) for line in chart.contours[:1]]
        return (*entries, *lines)
    marks = {"points": "point", "bars": "bar", "line": "line"}
    return tuple(
        KeyView(marks[mark_of(chart, s)], *slot, clean(s.label, 200), bool(s.low))
        for s, slot in zip(chart.series, slots(chart), strict=True)
        if s.label
    )


def _numbers(chart: Chart) -> tuple[tuple[str, str, str, str], ...]:
    """Return the numbers behind a chart, if a person could read them."""
    if chart.kind == "heat" or sum(len(s.x) for s in chart.series) > MOST_NUMBERS:
        return ()
    return tuple(
        (
            clean(s.label, 200),
            _category(chart, s.x[k]),
            _shown(s.y[k], chart.y_log),
            f"{_shown(s.low[k], chart.y_log)} to {_shown(s.high[k], chart.y_log)}" if s.low else "",
        )
        for s in chart.series
        for k in range(len(s.x))
    )


def _category(chart: Chart, x: float) -> str:
    if chart.kind == "bars":
        place = round(x) if math.isfinite(x) else -1
        return clean(chart.categories[place], 200) if 0 <= place < len(chart.categories) else figure(x)
    return _shown(x, chart.x_log)


def _shown(value: float, decades: bool) -> str:
    """Return a number of an axis; one far outside of what floats hold keeps its exponent."""
    if not decades:
        return figure(value, 4)
    if not math.isfinite(value):
        return "0" if value < 0 else figure(value)
    return ten_to(value, 4)


def _claim(claim: Claim, chapter: str) -> ClaimView:
    return ClaimView(
        anchor=anchor("claim", chapter, claim.id),
        id=name(claim.id),
        text=clean(claim.text),
        slug=SLUGS.get(claim.verdict, "unknown"),
        verdict=claim.verdict,
        says=clean(claim.says),
        numbers=tuple(map(_number, claim.numbers)),
    )


def _number(number: Number) -> tuple[str, str, str]:
    known = not math.isnan(number.standard_error)
    value = with_error(number.value, number.standard_error) if known else figure(number.value, 4)
    return clean(number.label, 200), value, plural(number.seeds, "network") if number.seeds else ""


def _table(table: Table) -> TableView:
    rows = tuple(tuple(clean(cell, 400) for cell in row) for row in table.rows)
    numeric = tuple(_is_numeric([row[k] for row in rows]) for k in range(len(table.heads)))
    return TableView(
        clean(table.caption, 400), tuple(clean(head, 200) for head in table.heads), rows, numeric
    )


def _is_numeric(cells: Sequence[str]) -> bool:
    """Whether a column holds numbers, to be set to the right."""
    return any(cells) and all(not cell or cell[0] in "+-−–0123456789∞≤≥<>" for cell in cells)
