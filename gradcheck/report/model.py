"""The page model: everything that the templates print, computed from a document. Templates only loop."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from gradcheck.document import CheckRecord, Document, NotRunRecord, RunInfo
from gradcheck.report import verdicts
from gradcheck.report.accuracy import UlpTable, ulp_table
from gradcheck.report.article import Chapter, chapter
from gradcheck.report.figures import Gallery, profile_gallery, step_gallery
from gradcheck.report.findings import Findings, findings
from gradcheck.report.generated import Generated, generated
from gradcheck.report.headline import Headline, headline
from gradcheck.report.matrix import CheckTable, Matrix, cell_id, check_tables, formula_id, index, matrix
from gradcheck.report.text import as_float, clean, count, duration, figure, name, plural, share
from gradcheck.report.verdicts import Mark


@dataclass(frozen=True)
class Segment:
    """One verdict in the stacked bar; `x` and `width` are in a bar of 1,000 units."""

    mark: Mark
    number: str
    share: str
    x: str
    width: str


@dataclass(frozen=True)
class ReasonGroup:
    """Planned cells that share a reason; `cells` pairs each with the place of its row."""

    reason: str
    number: str
    cells: tuple[tuple[str, str], ...]
    summary: str


@dataclass(frozen=True)
class Open:
    """A vacuous or inconclusive check."""

    id: str
    href: str
    mark: Mark
    why: str


@dataclass(frozen=True)
class Rate:
    """One population of the false-alarm measurement."""

    label: str
    sentence: str


@dataclass(frozen=True)
class SpecialTable:
    """The semantics of one check at special inputs; each row: at, order, limit, textbook, got, accepted."""

    cell: str
    rows: tuple[tuple[str, str, str, str, str, bool], ...]
    summary: str


@dataclass(frozen=True)
class Specials:
    """The tables in which some answer was refused, and those without one."""

    refused: tuple[SpecialTable, ...]
    accepted: tuple[SpecialTable, ...]


@dataclass(frozen=True)
class Page:
    """The whole report."""

    headline: Headline
    bar: tuple[Segment, ...]
    facts: tuple[tuple[str, str], ...]
    versions: tuple[tuple[str, str], ...]
    warnings: tuple[str, ...]
    rates: tuple[Rate, ...]
    matrix: Matrix
    findings: Findings
    ulps: UlpTable
    steps: Gallery
    profiles: Gallery
    chapter: Chapter
    generated: Generated
    undecided: tuple[Open, ...]
    undecided_share: str
    not_run: tuple[ReasonGroup, ...]
    missing: tuple[ReasonGroup, ...]
    stale: tuple[str, ...]
    specials: Specials
    tables: tuple[CheckTable, ...]
    marks: tuple[Mark, ...]
    exit_codes: tuple[tuple[int, str, bool], ...]
    profile: str


def page(document: Document) -> Page:
    """Return the page model of a run."""
    found = index(document)
    places = {r.id: "#" + cell_id((r.formula, r.subject, r.format)) for r in document.checks}
    cards = findings(document, places)
    tables = {formula: "#" + formula_id(formula) for formula in found.formulas}
    artifacts = document.artifacts
    undecided = _undecided(document.checks, places)
    return Page(
        headline=headline(document),
        bar=_bar(document),
        facts=_facts(document.run),
        versions=tuple((name(k), name(v)) for k, v in document.run.versions.items()),
        warnings=_disagreements(document),
        rates=_rates(artifacts.get("rates", {})),
        matrix=matrix(found),
        findings=cards,
        ulps=ulp_table(found),
        steps=step_gallery(artifacts.get("step", {})),
        profiles=profile_gallery({**artifacts.get("exhaustive", {}), **artifacts.get("ulp_profile", {})}),
        chapter=chapter(document),
        generated=generated(document.checks, tables),
        undecided=undecided,
        undecided_share=share(len(undecided), document.run.planned),
        not_run=_reasons(document.not_run),
        missing=_reasons(document.missing),
        stale=tuple(clean(line, 400) for line in document.stale_known),
        specials=_specials(artifacts.get("special", {})),
        tables=check_tables(found),
        marks=tuple(m for m in verdicts.MARKS if m is not verdicts.UNKNOWN),
        exit_codes=tuple((c, text, c == document.exit_code) for c, text in verdicts.EXIT_CODES.items()),
        profile=name(document.run.profile),
    )


def _bar(document: Document) -> tuple[Segment, ...]:
    """Return the segments, best verdict first; a small one is drawn at least 6 units wide."""
    tally = Counter(verdicts.mark(record.verdict).slug for record in document.checks)
    tally[verdicts.NOT_RUN.slug] += len(document.not_run)
    tally[verdicts.NO_RECORD.slug] += len(document.missing)
    best_first = sorted(verdicts.MARKS, key=lambda m: (m is verdicts.NOT_RUN, -verdicts.rank(m)))
    shown = [mark for mark in best_first if tally[mark.slug]]
    whole = sum(tally.values())
    widths = [max(6.0, 1000 * tally[mark.slug] / whole) for mark in shown]
    scale = 1000 / sum(widths) if widths else 1.0
    segments, x = [], 0.0
    for mark, width in zip(shown, widths, strict=True):
        number = tally[mark.slug]
        segments.append(
            Segment(mark, count(number), share(number, whole), f"{x:.1f}", f"{width * scale:.1f}")
        )
        x += width * scale
    return tuple(segments)


def _facts(run: RunInfo) -> tuple[tuple[str, str], ...]:
    test = ", ".join(f"{name(key)} {count(number)}" for key, number in run.self_test.items())
    pairs = [
        ("profile", name(run.profile) + (", exploring fresh cases" if run.explore else "")),
        ("seed", str(run.seed)),
        ("started", name(run.started).replace("T", " ").replace("Z", " UTC")),
        ("took", duration(run.started, run.finished) or ("" if run.finished else "not finished")),
        ("self-test", test),
        *((name(key), name(value)) for key, value in run.machine.items()),
    ]
    return tuple((label, text) for label, text in pairs if text)


def _disagreements(document: Document) -> tuple[str, ...]:
    """Return where the counts that the run states differ from what the document holds."""
    run = document.run
    pairs = [
        ("recorded", run.recorded, len(document.checks)),
        ("not run", run.not_run, len(document.not_run)),
        ("planned", run.planned, len(document.checks) + len(document.not_run) + len(document.missing)),
    ]
    return tuple(
        f"The run states {count(stated)} checks {word}; this document holds {count(held)}."
        for word, stated, held in pairs
        if stated != held
    )


_POPULATIONS = {"correct": "false alarms", "liars": "detection"}


def _rates(data: Any) -> tuple[Rate, ...]:
    """Return a row for each population and, below it, one for each of its groups."""
    if not isinstance(data, Mapping):
        return ()
    rows = []
    for key, row in data.items():
        if not isinstance(row, Mapping):
            continue
        label = _POPULATIONS.get(key, name(key))
        rows.append(Rate(label, _rate(key, row)))
        groups = row.get("groups")
        for group, part in groups.items() if isinstance(groups, Mapping) else ():
            if isinstance(part, Mapping):
                rows.append(Rate(f"{label}, {name(group)}", _rate(key, part)))
    return tuple(rows)


def _rate(key: str, row: Mapping[str, Any]) -> str:
    """Return one population in words; keys that are not known are printed as they come."""
    calls, alarms, caught = row.get("calls"), row.get("alarms"), row.get("caught")
    if key == "correct" and isinstance(calls, int) and isinstance(alarms, int):
        said = f"{plural(alarms, 'false alarm')} in {plural(calls, 'call')} of correct implementations"
        return said + _at_most("the rate is", row) + _further(row, ("unstable", "undecided"))
    if key == "liars" and isinstance(calls, int) and isinstance(caught, int):
        said = f"{count(caught)} of {plural(calls, 'call')} of wrong implementations told"
        return said + _at_most("misses are", row) + _further(row, ("called wrong", "by hand", "by mutation"))
    return ", ".join(f"{name(k)} {figure(v)}" for k, v in row.items() if k != "groups")


def _at_most(what: str, row: Mapping[str, Any]) -> str:
    if as_float(row.get("upper")) is None:
        return ""
    return f"; {what} at most {_rate_figure(row['upper'])} with 95 % confidence (Clopper–Pearson)"


def _further(row: Mapping[str, Any], keys: Iterable[str]) -> str:
    said = [f"{name(key)} {figure(row[key])}" for key in keys if key in row]
    return f"; {', '.join(said)}" if said else ""


def _rate_figure(upper: Any) -> str:
    value = as_float(upper)
    return "?" if value is None or math.isnan(value) else f"{figure(100 * value, 2)} %"


def _undecided(checks: Iterable[CheckRecord], places: Mapping[str, str]) -> tuple[Open, ...]:
    rows = []
    for record in checks:
        mark = verdicts.mark(record.verdict)
        if record.verdict in ("vacuous", "inconclusive"):
            rows.append(Open(name(record.id), places[record.id], mark, _why(record)))
    return tuple(rows)


def _why(record: CheckRecord) -> str:
    notes = [clean(note, 400) for note in record.notes]
    if record.compared == 0:
        return "; ".join(["nothing was compared", *notes])
    if record.undecided:
        notes.insert(0, f"{count(record.undecided)} of {count(record.compared)} elements undecided")
    if record.vacuous_cases:
        notes.insert(0, f"{count(record.vacuous_cases)} of {plural(record.cases, 'case')} vacuous")
    return "; ".join(notes)


def _reasons(records: Iterable[NotRunRecord]) -> tuple[ReasonGroup, ...]:
    groups: dict[str, list[NotRunRecord]] = {}
    for record in records:
        groups.setdefault(clean(record.reason, 1_000) or "no reason given", []).append(record)
    ordered = sorted(groups.items(), key=lambda item: -len(item[1]))
    return tuple(_reason(reason, members) for reason, members in ordered)


def _reason(reason: str, members: list[NotRunRecord]) -> ReasonGroup:
    cells = tuple((name(r.id), "#" + cell_id((r.formula, r.subject, r.format))) for r in members)
    parts = [
        plural(len({r.formula for r in members}), "formula", "formulas"),
        plural(len({r.subject for r in members}), "subject"),
        plural(len({r.format for r in members}), "format"),
    ]
    return ReasonGroup(reason, count(len(members)), cells, ", ".join(parts))


def _specials(data: Any) -> Specials:
    if not isinstance(data, Mapping):
        return Specials((), ())
    tables = {
        key: [row for row in rows if isinstance(row, Mapping)]
        for key, rows in data.items()
        if isinstance(rows, list)
    }
    refused = {key for key, rows in tables.items() if any(row.get("accepted") is not True for row in rows)}
    return Specials(
        refused=tuple(_special(key, rows) for key, rows in tables.items() if key in refused),
        accepted=tuple(_special(key, rows) for key, rows in tables.items() if key not in refused),
    )


def _special(cell: str, rows: list[Mapping[str, Any]]) -> SpecialTable:
    refused = sum(row.get("accepted") is not True for row in rows)
    tail = f", {count(refused)} not accepted" if refused else ""
    return SpecialTable(name(cell), tuple(map(_special_row, rows)), plural(len(rows), "answer") + tail)


def _special_row(row: Mapping[str, Any]) -> tuple[str, str, str, str, str, bool]:
    at, order, limit, textbook, got = (
        name(row.get(key, "")) for key in ("at", "order", "limit", "textbook", "got")
    )
    return at, order, limit, textbook, got, row.get("accepted") is True
