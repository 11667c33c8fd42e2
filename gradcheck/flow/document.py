"""What the study of gradients produces and its page shows: chapters of rows, tables, charts and claims.

Nothing here computes with arrays, so a page is rendered and a document read without NumPy. Numbers that JSON
cannot carry (inf, nan) are text in a file and numbers in a document.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from gradcheck.encoding import document_from_json, document_to_json
from gradcheck.errors import UsageError, unknown_name

SCHEMA_VERSION = 1
WITHIN, BEYOND, NOT_JUDGED = "within", "beyond", "not judged"
ROW_VERDICTS = (WITHIN, BEYOND, NOT_JUDGED)
SUPPORTED, REFUTED, QUALIFIED = "supported", "refuted", "qualified"
CLAIM_VERDICTS = (SUPPORTED, REFUTED, QUALIFIED)
KINDS = ("line", "points", "bars", "histogram", "heat")
MARKS = ("", "line", "points", "bars")
# How many standard errors a measured number may lie from the exact one.
STANDARD_ERRORS = 4.0
# What is judged and is no draw of a normal number.
LEFT_OUT = "bounds, shares of verdicts, runs in a format, and what involves no chance"


@dataclass(frozen=True)
class Row:
    """One number, measured beside its exact value.

    `exact_error` bounds the error of `exact`. `z` is the distance in standard errors, NaN where it is not
    judged. `limit` says that theory holds for wide layers only, so that `measured` was extrapolated from two
    widths (`note` says which). `seeds` is how many random networks it rests on, `source` who derived it.
    `normal` says that z is a draw of a normal number where theory is true; it is none for `LEFT_OUT`. Make
    one with `judged`.
    """

    name: str
    measured: float
    standard_error: float
    exact: float
    exact_error: float
    z: float
    verdict: str
    limit: bool
    seeds: int
    source: str
    note: str = ""
    normal: bool = True

    def __post_init__(self) -> None:
        _known("verdict of a row", self.verdict, ROW_VERDICTS)


def judged(
    name: str,
    measured: float,
    standard_error: float,
    exact: float,
    exact_error: float = 0.0,
    *,
    limit: bool = False,
    seeds: int,
    source: str,
    note: str = "",
    judge: bool = True,
    normal: bool = True,
) -> Row:
    """Return the row whose verdict is |measured - exact| <= 4 standard errors + exact_error.

    What is not a number is beyond. With `judge` False the row is shown and not judged: say in `note` why.
    With `normal` False it counts as judged, but not for the chance of a miss.
    """
    if not judge:
        return Row(
            name,
            measured,
            standard_error,
            exact,
            exact_error,
            math.nan,
            NOT_JUDGED,
            limit,
            seeds,
            source,
            note,
            normal,
        )
    away = max(abs(measured - exact) - exact_error, 0.0) if math.isfinite(measured - exact) else math.nan
    sign = -1.0 if measured < exact else 1.0
    z = sign * (away / standard_error if standard_error > 0 else 0.0 if away == 0 else math.inf)
    z = math.nan if math.isnan(away) or math.isnan(standard_error) else z
    verdict = WITHIN if abs(z) <= STANDARD_ERRORS else BEYOND
    return Row(
        name, measured, standard_error, exact, exact_error, z, verdict, limit, seeds, source, note, normal
    )


@dataclass(frozen=True)
class Series:
    """One series of a chart: points (x, y), each with an interval (low, high) or none at all.

    `mark` is "line", "points" or "bars"; "" is the mark of the chart's kind, so that measured points can
    stand beside an exact line; series of one `group` share a colour. On a logarithmic axis all numbers are
    exponents of ten. A point that is not a number breaks a line.
    """

    label: str
    x: tuple[float, ...]
    y: tuple[float, ...]
    low: tuple[float, ...] = ()
    high: tuple[float, ...] = ()
    mark: str = ""
    group: str = ""

    def __post_init__(self) -> None:
        _known("mark", self.mark, MARKS)
        lengths = {len(self.x), len(self.y), *(len(end) for end in (self.low, self.high) if end)}
        if len(lengths) > 1 or bool(self.low) != bool(self.high):
            raise UsageError(
                f"series {self.label!r}: expected x, y, low and high of one length (low and high may both be "
                f"left out), got {len(self.x)}, {len(self.y)}, {len(self.low)} and {len(self.high)}"
            )


@dataclass(frozen=True)
class Chart:
    """One picture. `kind` is "line", "points", "bars", "histogram" or "heat".

    With `x_log` or `y_log` every number along that axis is an exponent of ten: log10 of what is shown.
    Bars stand at 0, 1, … with the names `categories`; a histogram's bars stand at the centres of equal bins,
    and a density beside it is a series with the mark "line". `levels` are horizontal lines with a label, such
    as ("healthy", 1.0).

    A heat map has `xs`, `ys` and `values[row][column]` at ys[row], xs[column], in the unit `value_label`;
    `centre` is the number at which its colours turn, such as 0 for a logarithm, NaN for one that only rises;
    `bounds` are at most ten increasing numbers at which the colour changes (five at most without a centre;
    round ones are chosen without any); `contours` are lines over the map, such as the critical one.
    """

    id: str
    kind: str
    x_label: str
    y_label: str
    series: tuple[Series, ...] = ()
    caption: str = ""
    title: str = ""
    x_log: bool = False
    y_log: bool = False
    categories: tuple[str, ...] = ()
    levels: tuple[tuple[str, float], ...] = ()
    xs: tuple[float, ...] = ()
    ys: tuple[float, ...] = ()
    values: tuple[tuple[float, ...], ...] = ()
    value_label: str = ""
    centre: float = math.nan
    bounds: tuple[float, ...] = ()
    contours: tuple[Series, ...] = ()

    def __post_init__(self) -> None:
        _known("kind of chart", self.kind, KINDS)
        shape = {len(row) for row in self.values}
        if self.kind == "heat" and (len(self.values) != len(self.ys) or shape - {len(self.xs)}):
            raise UsageError(
                f"chart {self.id!r}: expected values of {len(self.ys)} rows of {len(self.xs)}, got "
                f"{len(self.values)} of {sorted(shape)}"
            )


@dataclass(frozen=True)
class Number:
    """A measured number that a claim rests on; a standard error or count that is missing is NaN or 0."""

    label: str
    value: float
    standard_error: float = math.nan
    seeds: int = 0


@dataclass(frozen=True)
class Claim:
    """A sentence of the article (`id`, `text`), what measuring makes of it, and in words why (`says`)."""

    id: str
    text: str
    verdict: str
    numbers: tuple[Number, ...]
    says: str

    def __post_init__(self) -> None:
        _known("verdict of a claim", self.verdict, CLAIM_VERDICTS)


@dataclass(frozen=True)
class Table:
    """A table of text that is made already, such as the layers of a user's model."""

    caption: str
    heads: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    def __post_init__(self) -> None:
        wrong = [row for row in self.rows if len(row) != len(self.heads)]
        if wrong:
            raise UsageError(
                f"table {self.caption!r}: expected rows of {len(self.heads)} cells, got {wrong[0]}"
            )


@dataclass(frozen=True)
class Chapter:
    """One part of the page; `id` is what `--only` takes, `seconds` how long it took."""

    id: str
    title: str
    paragraphs: tuple[str, ...] = ()
    rows: tuple[Row, ...] = ()
    charts: tuple[Chart, ...] = ()
    claims: tuple[Claim, ...] = ()
    seconds: float = 0.0
    tables: tuple[Table, ...] = ()


@dataclass(frozen=True)
class Counts:
    """How many rows were judged, how many lie beyond, and how probable a miss or more is by chance.

    `normal` is how many of the judged rows have a z that is a normal number: `chance` is that of one or more
    of these beyond four deviations. `LEFT_OUT` are in `rows` and `misses` alone.
    """

    rows: int
    misses: int
    chance: float
    normal: int


@dataclass(frozen=True)
class FlowDocument:
    """A whole page. `started` is an ISO 8601 instant, `seconds` how long everything took."""

    started: str
    seconds: float
    versions: Mapping[str, str]
    machine: Mapping[str, str]
    chapters: tuple[Chapter, ...]
    title: str = "Where gradients vanish or explode"
    seed: int = 0
    arguments: tuple[str, ...] = field(default=())

    @property
    def counts(self) -> Counts:
        """The counts over the rows of all chapters."""
        return count_rows(row for chapter in self.chapters for row in chapter.rows)

    @property
    def headline(self) -> str:
        """What came out, in one sentence."""
        counts = self.counts
        if not counts.rows:
            return "no number here is judged by theory"
        if counts.misses:
            return f"{counts.misses} of {counts.rows} measured numbers lie beyond 4 standard errors of theory"
        return f"all {counts.rows} measured numbers lie within 4 standard errors of theory"

    def to_json(self) -> str:
        """Return the document as JSON text, the counts beside the chapters."""
        counts = dataclasses.asdict(self.counts)
        return document_to_json(self, SCHEMA_VERSION, counts=counts, headline=self.headline)

    @classmethod
    def from_json(cls, text: str | bytes) -> FlowDocument:
        """Return the document that JSON text holds; `ValueError` for any other text."""
        return document_from_json(text, cls, SCHEMA_VERSION, "a document of gradient flow")


def count_rows(rows: Iterable[Row]) -> Counts:
    """Return the counts of rows: judged, beyond, and the chance of a miss among those judged by |z|."""
    counted = [row for row in rows if row.verdict != NOT_JUDGED]
    normal = sum(row.normal for row in counted)
    one = math.erfc(STANDARD_ERRORS / math.sqrt(2.0))
    chance = -math.expm1(normal * math.log1p(-one))
    return Counts(len(counted), sum(row.verdict == BEYOND for row in counted), chance, normal)


def _known(kind: str, name: Any, known: tuple[str, ...]) -> None:
    if name not in known:
        raise unknown_name(kind, str(name), known)
