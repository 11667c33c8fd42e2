"""The article's formulas and claims, as printed, and what measuring them gave."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from gradcheck.document import ClaimRecord
from gradcheck.report.text import anchor, clean, count, figure, name
from gradcheck.report.verdicts import CLAIM_SLUGS


@dataclass(frozen=True)
class Claim:
    """One claim; `slug` is the CSS class and symbol of its verdict."""

    id: str
    anchor: str
    slug: str
    verdict: str
    says: str
    section: str
    printed: str
    reference: str
    equals: str
    domain: str
    counterexample: tuple[tuple[str, str], ...]
    compared: str
    resolution: str
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Claims:
    """All claims and the number of each verdict."""

    entries: tuple[Claim, ...]
    tally: tuple[tuple[str, str, str], ...]


def claims(records: Iterable[ClaimRecord]) -> Claims:
    """Return the claims in the order of the document."""
    entries = tuple(_claim(record) for record in records)
    tally = Counter((entry.slug, entry.verdict) for entry in entries)
    return Claims(entries, tuple((slug, verdict, count(number)) for (slug, verdict), number in tally.items()))


def _claim(record: ClaimRecord) -> Claim:
    return Claim(
        id=name(record.id),
        anchor=anchor("claim", record.id),
        slug=CLAIM_SLUGS.get(record.verdict, "unknown"),
        verdict=name(record.verdict),
        says=clean(record.says),
        section=name(record.section),
        printed=clean(record.printed),
        reference=clean(record.reference),
        equals=clean(record.equals or "", 400),
        domain=clean(record.domain, 400),
        counterexample=tuple((name(k), name(v)) for k, v in record.counterexample.items()),
        compared=count(record.compared),
        resolution=figure(record.resolution) if record.compared else "–",
        notes=tuple(clean(note) for note in record.notes),
    )
