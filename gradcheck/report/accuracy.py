"""The table of largest errors in units in the last place, with how each figure was found."""

from __future__ import annotations

from dataclasses import dataclass

from gradcheck.document import CheckRecord
from gradcheck.report import verdicts
from gradcheck.report.matrix import Index, cell_id
from gradcheck.report.text import figure, name
from gradcheck.report.verdicts import Mark

ORDERS = ("value", "derivative", "second")
HEADS = {"value": "value", "derivative": "1st", "second": "2nd"}
LABELS = {"proven": "P", "exhaustive": "E", "largest found": "L"}


@dataclass(frozen=True)
class Figure:
    """The largest error of one check; `letter` is P, E or L, "" where nothing was compared."""

    ulp: str
    letter: str
    label: str
    resolution: str
    mark: Mark | None
    first: bool


@dataclass(frozen=True)
class UlpRow:
    """One formula under one subject; `span` counts the formula's rows, and is 0 after the first of them."""

    formula: str
    span: int
    subject: str
    figures: tuple[Figure, ...]
    href: str


@dataclass(frozen=True)
class UlpTable:
    """All rows; every format has one column per order of derivative."""

    formats: tuple[str, ...]
    heads: tuple[str, ...]
    rows: tuple[UlpRow, ...]


def ulp_table(found: Index) -> UlpTable:
    """Return the figures of the value, derivative and second-derivative checks of `found`."""
    subjects = list(dict.fromkeys(subject for subject, _ in found.columns))
    measured = {
        key: {r.check: r for r in records if r.check in ORDERS} for key, records in found.checks.items()
    }
    formats = [
        fmt
        for fmt in dict.fromkeys(f for _, f in sorted(found.columns, key=lambda c: _place(found, c[1])))
        if any(records for key, records in measured.items() if key[2] == fmt)
    ]
    rows: list[UlpRow] = []
    for formula in found.formulas:
        present = [s for s in subjects if any(measured.get((formula, s, f)) for f in formats)]
        for place, subject in enumerate(present):
            keys = [(formula, subject, fmt) for fmt in formats]
            figures = [_figure(measured.get(key, {}).get(order), order) for key in keys for order in ORDERS]
            href = "#" + cell_id(next(key for key in keys if measured.get(key)))
            rows.append(
                UlpRow(name(formula), 0 if place else len(present), name(subject), tuple(figures), href)
            )
    heads = tuple(HEADS[order] for order in ORDERS)
    return UlpTable(tuple(map(name, formats)), heads, tuple(rows))


def _place(found: Index, fmt: str) -> int:
    places = [place for place, (_, other) in enumerate(found.columns) if other == fmt]
    return min(places)


def _figure(record: CheckRecord | None, order: str) -> Figure:
    first = order == ORDERS[0]
    if record is None or record.compared == 0:
        return Figure("", "", "", "", None, first)
    return Figure(
        ulp=figure(record.ulp),
        letter=LABELS.get(record.label, "?"),
        label=name(record.label),
        resolution=figure(record.resolution, 2),
        mark=verdicts.mark(record.verdict),
        first=first,
    )
