"""The article's chapter, row by row: as printed, what it computes, the reference, evidence, a picture."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from markupsafe import Markup

from gradcheck.document import CheckRecord, Document
from gradcheck.report import charts, verdicts
from gradcheck.report.claims import Claim, Claims, claims
from gradcheck.report.matrix import cell_id, formula_id
from gradcheck.report.text import anchor, as_float, clean, count, listed, name, plural
from gradcheck.report.verdicts import Mark


@dataclass(frozen=True)
class Judged:
    """One implementation of one formula: the worst verdict of its checks, and where they are listed."""

    subject: str
    mark: Mark
    words: str
    href: str


@dataclass(frozen=True)
class Reference:
    """One formula of the catalogue with its evidence."""

    formula: str
    href: str
    title: str
    equation: str
    source: str
    options: str
    hazards: tuple[str, ...]
    judged: tuple[Judged, ...]


@dataclass(frozen=True)
class Illustration:
    """A drawn picture; `key` pairs the slot of a line with its name."""

    title: str
    caption: str
    svg: Markup
    alternative: str
    key: tuple[tuple[int, str], ...]
    x: str
    y: str


@dataclass(frozen=True)
class Section:
    """One row of the article."""

    id: str
    anchor: str
    part: str
    title: str
    claims: tuple[Claim, ...]
    references: tuple[Reference, ...]
    picture: Illustration | None
    mentioned: tuple[Reference, ...] = ()


@dataclass(frozen=True)
class Chapter:
    """The whole chapter; `others` are claims of no row, a user's own among them."""

    sections: tuple[Section, ...]
    others: tuple[Claim, ...]
    tally: tuple[tuple[str, str, str], ...]


def chapter(document: Document) -> Chapter:
    """Return the chapter of a document; rows, formulas and pictures are artifacts of the run."""
    found: Claims = claims(document.claims)
    rows = [row for _, row in sorted(document.artifacts.get("row", {}).items()) if isinstance(row, Mapping)]
    known = document.artifacts.get("formula", {})
    pictures = document.artifacts.get("picture", {})
    evidence = _by_formula(document.checks)
    drawn = (_section(row, found.entries, known, pictures, evidence) for row in rows)
    sections = _once(
        [section for section in drawn if section.claims or section.references or section.picture]
    )
    taken = {claim.id for section in sections for claim in section.claims}
    others = tuple(entry for entry in found.entries if entry.id not in taken)
    return Chapter(sections, others, found.tally)


def _once(sections: Sequence[Section]) -> tuple[Section, ...]:
    """Show the evidence of a formula in the first row that it belongs to; later rows only point to it."""
    seen: set[str] = set()
    result = []
    for section in sections:
        again = tuple(reference for reference in section.references if reference.formula in seen)
        fresh = tuple(reference for reference in section.references if reference.formula not in seen)
        seen |= {reference.formula for reference in fresh}
        result.append(replace(section, references=fresh, mentioned=again))
    return tuple(result)


def _section(
    row: Mapping[str, Any],
    entries: Sequence[Claim],
    known: Mapping[str, Any],
    pictures: Mapping[str, Any],
    evidence: Mapping[str, list[CheckRecord]],
) -> Section:
    identity = str(row.get("id", ""))
    mine = tuple(entry for entry in entries if entry.id.partition(".")[0] == identity)
    listed_formulas = row.get("formulas")
    chosen = [str(f) for f in listed_formulas if f in known] if isinstance(listed_formulas, list) else []
    return Section(
        id=name(identity),
        anchor=anchor("row", identity),
        part=name(row.get("section", "")),
        title=clean(row.get("title", ""), 400),
        claims=mine,
        references=tuple(
            _reference(formula, known[formula], evidence.get(formula, [])) for formula in chosen
        ),
        picture=illustration(pictures.get(identity)),
    )


def _reference(formula: str, data: Any, records: list[CheckRecord]) -> Reference:
    known: Mapping[str, Any] = data if isinstance(data, Mapping) else {}
    return Reference(
        formula=name(formula),
        href="#" + formula_id(formula),
        title=name(known.get("title", formula)),
        equation=clean(known.get("equation", ""), 400),
        source=clean(known.get("source", ""), 400),
        options=", ".join(_option(option) for option in _list(known.get("options"))),
        hazards=tuple(clean(hazard, 400) for hazard in _list(known.get("hazards"))),
        judged=_judged(formula, records),
    )


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _option(option: Any) -> str:
    if not isinstance(option, Mapping):
        return ""
    reach = name(option.get("range", ""))
    return f"{name(option.get('name', ''))} = {name(option.get('default', ''))}" + (
        f" ({reach})" if reach else ""
    )


def _by_formula(records: Iterable[CheckRecord]) -> dict[str, list[CheckRecord]]:
    groups: dict[str, list[CheckRecord]] = {}
    for record in records:
        groups.setdefault(record.formula, []).append(record)
    return groups


def _judged(formula: str, records: list[CheckRecord]) -> tuple[Judged, ...]:
    subjects: dict[str, list[CheckRecord]] = {}
    for record in records:
        subjects.setdefault(record.subject, []).append(record)
    return tuple(_of_subject(formula, subject, members) for subject, members in sorted(subjects.items()))


def _of_subject(formula: str, subject: str, members: list[CheckRecord]) -> Judged:
    marks = [verdicts.mark(record.verdict) for record in members]
    worst = min(marks, key=verdicts.rank)
    tally = Counter(mark.word for mark in marks)
    compared = sum(record.compared for record in members)
    words = listed(f"{number} {word}" for word, number in tally.items())
    place = cell_id((formula, subject, members[0].format))
    return Judged(
        name(subject),
        worst,
        f"{plural(len(members), 'check')}, {words}; {count(compared)} numbers",
        "#" + place,
    )


def illustration(data: Any) -> Illustration | None:
    """Return a picture of the run as it is drawn; nothing for what has another shape than declared."""
    if not isinstance(data, Mapping):
        return None
    x, y = _axis(data, "x"), _axis(data, "y")
    lines = [_points(series) for series in _list(data.get("series")) if isinstance(series, Mapping)]
    lines = [(label, points) for label, points in lines if points][: len(charts.SERIES)]
    if not lines:
        return None
    labels = tuple((slot, label) for slot, (label, _) in enumerate(lines))
    drawn = charts.line_chart([points for _, points in lines], bool(x.get("decades")), bool(y.get("decades")))
    shown_x, shown_y = name(x.get("label", "")), name(y.get("label", ""))
    title, caption = clean(data.get("title", ""), 400), clean(data.get("caption", ""))
    words = f"{title}: {shown_y} over {shown_x}; {listed(label for _, label in labels)}. {caption}"
    return Illustration(title, caption, drawn, words, labels, shown_x, shown_y)


def _axis(data: Mapping[str, Any], field: str) -> Mapping[str, Any]:
    axis = data.get(field)
    return axis if isinstance(axis, Mapping) else {}


def _points(series: Mapping[str, Any]) -> tuple[str, list[tuple[float, float]]]:
    pairs = [row for row in _list(series.get("points")) if isinstance(row, list) and len(row) == 2]
    read = [(as_float(a), as_float(b)) for a, b in pairs]
    kept = [
        (a, b) for a, b in read if a is not None and b is not None and math.isfinite(a) and math.isfinite(b)
    ]
    return name(series.get("label", "")), kept
