"""The matrix of formulas against (subject, format), and the check tables that its cells lead to."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from gradcheck.document import CheckRecord, Document, NotRunRecord
from gradcheck.report import verdicts
from gradcheck.report.generated import Histogram, histogram
from gradcheck.report.text import anchor, clean, count, figure, listed, name, plural, share
from gradcheck.report.verdicts import NO_RECORD, NOT_RUN, Mark

_FORMATS = ("float64", "float32", "float16", "bfloat16")
_SHORT = {"float64": "f64", "float32": "f32", "float16": "f16", "bfloat16": "bf16"}
_CHECKS = ("value", "derivative", "second")


@dataclass(frozen=True)
class Column:
    """One column of the matrix; `first` marks the first format of a subject."""

    subject: str
    format: str
    short: str
    first: bool


@dataclass(frozen=True)
class MatrixCell:
    """The worst verdict of one (formula, subject, format); `mark` is None where nothing was planned."""

    mark: Mark | None
    number: str
    title: str
    href: str
    known: bool
    partial: bool
    first: bool


@dataclass(frozen=True)
class MatrixRow:
    """One formula."""

    formula: str
    href: str
    cells: tuple[MatrixCell, ...]


@dataclass(frozen=True)
class MatrixFamily:
    """The formulas of one family; the name is empty where the run does not say."""

    name: str
    rows: tuple[MatrixRow, ...]


@dataclass(frozen=True)
class Legend:
    """One kind of mark and the number of matrix cells that show it."""

    mark: Mark
    cells: str


@dataclass(frozen=True)
class Matrix:
    """The whole matrix; `groups` are the subjects with the number of their columns."""

    groups: tuple[tuple[str, int], ...]
    columns: tuple[Column, ...]
    families: tuple[MatrixFamily, ...]
    legend: tuple[Legend, ...]
    any_known: bool
    any_partial: bool


@dataclass(frozen=True)
class CheckRow:
    """One planned check in the table of its formula."""

    check: str
    mark: Mark
    compared: str
    outside: str
    ulp: str
    label: str
    resolution: str
    families: str
    specials: str
    histogram: Histogram | None
    remark: str


@dataclass(frozen=True)
class CheckGroup:
    """All checks of one (formula, subject, format)."""

    id: str
    subject: str
    format: str
    rows: tuple[CheckRow, ...]


@dataclass(frozen=True)
class CheckTable:
    """All checks of one formula."""

    id: str
    formula: str
    summary: str
    groups: tuple[CheckGroup, ...]


Key = tuple[str, str, str]
Planned = TypeVar("Planned", CheckRecord, NotRunRecord)


@dataclass(frozen=True)
class Index:
    """The planned cells of a document by (formula, subject, format); names in alphabetical order."""

    checks: dict[Key, list[CheckRecord]]
    not_run: dict[Key, list[NotRunRecord]]
    missing: dict[Key, list[NotRunRecord]]
    formulas: tuple[str, ...]
    columns: tuple[tuple[str, str], ...]
    known: frozenset[str]
    families: dict[str, str]

    def planned(self, key: Key) -> bool:
        """Whether any check of this (formula, subject, format) was planned."""
        return key in self.checks or key in self.not_run or key in self.missing


def index(document: Document) -> Index:
    """Return the cells of `document`, grouped; `known` holds the checks all of whose findings are known."""
    everything: list[CheckRecord | NotRunRecord] = [*document.checks, *document.not_run, *document.missing]
    subjects = sorted({cell.subject for cell in everything})
    formats = sorted({cell.format for cell in everything}, key=_format_order)
    pairs = {(cell.subject, cell.format) for cell in everything}
    fresh = {finding.check for finding in document.findings if not finding.known}
    return Index(
        checks=_grouped(document.checks),
        not_run=_grouped(document.not_run),
        missing=_grouped(document.missing),
        formulas=tuple(sorted({cell.formula for cell in everything})),
        columns=tuple((s, f) for s in subjects for f in formats if (s, f) in pairs),
        known=frozenset(finding.check for finding in document.findings) - fresh,
        families=_families(document.artifacts.get("formula", {})),
    )


def _families(described: Mapping[str, Any]) -> dict[str, str]:
    return {key: name(data.get("family", "")) for key, data in described.items() if isinstance(data, Mapping)}


def _grouped(records: Iterable[Planned]) -> dict[Key, list[Planned]]:
    groups: dict[Key, list[Planned]] = {}
    for record in records:
        groups.setdefault((record.formula, record.subject, record.format), []).append(record)
    return groups


def _format_order(text: str) -> tuple[int, str]:
    return (_FORMATS.index(text) if text in _FORMATS else len(_FORMATS), text)


def cell_id(key: Key) -> str:
    """Return the element id of the check group of one (formula, subject, format)."""
    return anchor("cell", *key)


def formula_id(formula: str) -> str:
    """Return the element id of the check table of a formula."""
    return anchor("formula", formula)


def matrix(found: Index) -> Matrix:
    """Return the matrix of `found`."""
    columns: list[Column] = []
    for subject, fmt in found.columns:
        first = not columns or columns[-1].subject != name(subject)
        columns.append(Column(name(subject), name(fmt), _SHORT.get(fmt, name(fmt)), first))
    families = _by_family(found, columns)
    rows = [row for family in families for row in family.rows]
    shown = Counter(cell.mark.slug for row in rows for cell in row.cells if cell.mark)
    legend = tuple(Legend(m, count(shown[m.slug])) for m in verdicts.MARKS if shown[m.slug])
    groups = Counter(column.subject for column in columns)
    cells = [cell for row in rows for cell in row.cells]
    return Matrix(
        groups=tuple(groups.items()),
        columns=tuple(columns),
        families=families,
        legend=legend,
        any_known=any(cell.known for cell in cells),
        any_partial=any(cell.partial for cell in cells),
    )


def _by_family(found: Index, columns: Sequence[Column]) -> tuple[MatrixFamily, ...]:
    """Return the rows by family, in alphabetical order; formulas of an unknown one come first."""
    groups: dict[str, list[MatrixRow]] = {}
    for formula in found.formulas:
        groups.setdefault(found.families.get(formula, ""), []).append(_row(found, formula, columns))
    return tuple(MatrixFamily(family, tuple(rows)) for family, rows in sorted(groups.items()))


def _row(found: Index, formula: str, columns: Sequence[Column]) -> MatrixRow:
    keys = [(formula, subject, fmt) for subject, fmt in found.columns]
    cells = tuple(_cell(found, key, column.first) for key, column in zip(keys, columns, strict=True))
    return MatrixRow(name(formula), "#" + formula_id(formula), cells)


def _cell(found: Index, key: Key, first: bool) -> MatrixCell:
    if not found.planned(key):
        return MatrixCell(None, "", "not planned", "", False, False, first)
    checks, skipped, missing = (
        found.checks.get(key, []),
        found.not_run.get(key, []),
        found.missing.get(key, []),
    )
    marks = [verdicts.mark(record.verdict) for record in checks] + [NO_RECORD] * len(missing)
    worst = min(marks, key=verdicts.rank, default=NOT_RUN)
    faulty = [record.id for record in checks if verdicts.mark(record.verdict).kind == verdicts.FINDING]
    tally = Counter(mark.word for mark in marks)
    parts = [f"{number} {word}" for word, number in tally.items()]
    reasons = list(
        dict.fromkeys(clean(record.reason, 300) for record in (*skipped, *missing) if record.reason)
    )
    if skipped:
        parts.append(f"{len(skipped)} not run")
    title = " · ".join([*map(name, key)]) + ": " + listed(parts)
    return MatrixCell(
        mark=worst,
        number=count(len(checks)) if checks else "",
        title="; ".join([title, *reasons[:3]]),
        href="#" + cell_id(key),
        known=bool(faulty) and all(identifier in found.known for identifier in faulty),
        partial=bool(checks) and bool(skipped or missing),
        first=first,
    )


def check_tables(found: Index) -> tuple[CheckTable, ...]:
    """Return one table per formula with every planned check in it."""
    return tuple(_table(found, formula) for formula in found.formulas)


def _table(found: Index, formula: str) -> CheckTable:
    keys = [(formula, *column) for column in found.columns]
    groups = tuple(_group(found, key) for key in keys if found.planned(key))
    rows = [row for group in groups for row in group.rows]
    tally = Counter(row.mark.slug for row in rows)
    words = [f"{count(tally[m.slug])} {m.word}" for m in verdicts.MARKS if tally[m.slug]]
    return CheckTable(
        formula_id(formula), name(formula), f"{plural(len(rows), 'check')}: {', '.join(words)}", groups
    )


def _group(found: Index, key: Key) -> CheckGroup:
    rows = [_check_row(record) for record in sorted(found.checks.get(key, []), key=_check_order)]
    rows += [_blank_row(record, NO_RECORD) for record in found.missing.get(key, [])]
    rows += [_blank_row(record, NOT_RUN) for record in found.not_run.get(key, [])]
    return CheckGroup(cell_id(key), name(key[1]), name(key[2]), tuple(rows))


def _check_order(record: CheckRecord) -> int:
    return _CHECKS.index(record.check) if record.check in _CHECKS else len(_CHECKS)


def _check_row(record: CheckRecord) -> CheckRow:
    generated = sum(record.families.values()) or record.compared
    families = sorted(record.families.items(), key=lambda item: -item[1])
    parts = [f"{name(family)} {share(number, generated)}" for family, number in families]
    breaches = [
        f"{plural(number, 'breach', 'breaches')} ({name(kind)})" for kind, number in record.breaches.items()
    ]
    if record.undecided:
        breaches.append(f"{count(record.undecided)} undecided")
    if record.vacuous_cases:
        breaches.append(f"{count(record.vacuous_cases)} of {plural(record.cases, 'case')} vacuous")
    explained = [f"explained by {name(text)}" for text in record.explained_by]
    return CheckRow(
        check=name(record.check),
        mark=verdicts.mark(record.verdict),
        compared=count(record.compared),
        outside=count(record.outside_stable),
        ulp=figure(record.ulp) if record.compared else "–",
        label=name(record.label) if record.compared else "",
        resolution=figure(record.resolution) if record.compared else "–",
        families=", ".join(parts),
        specials=share(record.specials, generated) if record.specials else "",
        histogram=histogram(record.binades),
        remark="; ".join([*breaches, *explained, *(clean(note, 400) for note in record.notes)]),
    )


def _blank_row(record: NotRunRecord, mark: Mark) -> CheckRow:
    reason = clean(record.reason, 400)
    return CheckRow(name(record.check), mark, "", "", "", "", "", "", "", None, reason)
