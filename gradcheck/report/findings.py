"""Findings as cards, new ones before known ones, each group by formula."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from gradcheck.document import CheckRecord, Document, FindingRecord, Number
from gradcheck.errors import UsageError
from gradcheck.explain import explain
from gradcheck.report import verdicts
from gradcheck.report.text import LISTING, NAME, anchor, as_float, clean, count, figure, name, plural
from gradcheck.report.verdicts import Mark

_SHOWN_INPUTS = 8
_PLAIN_ID = re.compile(r"^[A-Za-z][A-Za-z0-9-]{0,40}$")


@dataclass(frozen=True)
class Quantity:
    """One number of a counterexample, in decimal and exact hexadecimal text."""

    label: str
    value: str
    hex: str


@dataclass(frozen=True)
class Card:
    """One finding."""

    id: str
    anchor: str
    href: str
    code: str
    code_href: str
    mark: Mark
    formula: str
    subject: str
    format: str
    check: str
    message: str
    quantities: tuple[Quantity, ...]
    more_inputs: str
    ulp: str
    error: str
    bound: str
    ratio: str
    options: str
    extent: str
    explained_by: tuple[str, ...]
    confirmations: tuple[tuple[str, str], ...]
    known: bool
    reason: str
    reproduction: str


@dataclass(frozen=True)
class CardGroup:
    """The findings of one formula."""

    formula: str
    cards: tuple[Card, ...]


@dataclass(frozen=True)
class Code:
    """One code of the findings in a run, and what it means."""

    anchor: str
    code: str
    number: str
    summary: str
    meaning: str


@dataclass(frozen=True)
class Findings:
    """New findings and known ones, grouped by formula."""

    fresh: tuple[CardGroup, ...]
    known: tuple[CardGroup, ...]
    fresh_count: int
    known_count: int
    codes: tuple[Code, ...]


def findings(document: Document, places: Mapping[str, str]) -> Findings:
    """Return the cards of all findings; `places` maps a check's id to the place of its evidence."""
    checks = {record.id: record for record in document.checks}
    used: set[str] = set()
    cards = [_card(record, checks.get(record.check), places, used) for record in document.findings]
    cards.sort(key=lambda card: (card.formula, verdicts.rank(card.mark)))
    fresh, known = [c for c in cards if not c.known], [c for c in cards if c.known]
    return Findings(_groups(fresh), _groups(known), len(fresh), len(known), _codes(document.findings))


def _codes(records: Iterable[FindingRecord]) -> tuple[Code, ...]:
    tally = Counter(record.code for record in records)
    return tuple(_code(code, number) for code, number in tally.most_common())


def _code(code: str, number: int) -> Code:
    try:
        known = explain(code[:NAME])
    except UsageError:
        return Code(
            anchor("code", code), name(code), count(number), "A code that this version does not know.", ""
        )
    return Code(anchor("code", code), known.code, count(number), known.summary, known.meaning)


def _groups(cards: Iterable[Card]) -> tuple[CardGroup, ...]:
    groups: dict[str, list[Card]] = {}
    for card in cards:
        groups.setdefault(card.formula, []).append(card)
    return tuple(CardGroup(formula, tuple(members)) for formula, members in groups.items())


def _card(
    record: FindingRecord, check: CheckRecord | None, places: Mapping[str, str], used: set[str]
) -> Card:
    parts = [check.formula, check.subject, check.format, check.check] if check else record.check.split("/", 3)
    formula, subject, fmt, kind = [*map(name, parts), "", "", "", ""][:4]
    inputs = record.inputs or [record.input]
    quantities = [_quantity(_input_label(i, len(inputs)), n) for i, n in enumerate(inputs[:_SHOWN_INPUTS])]
    quantities += [_quantity("expected", record.expected), _quantity("got", record.got)]
    quantities = [quantity for quantity in quantities if quantity.value or quantity.hex]
    return Card(
        id=name(record.id),
        anchor=_anchor(record, used),
        href=places.get(record.check, ""),
        code=name(record.code),
        code_href="#" + anchor("code", record.code),
        mark=verdicts.mark(record.verdict),
        formula=formula,
        subject=subject,
        format=fmt,
        check=kind,
        message=clean(record.message),
        quantities=tuple(quantities),
        more_inputs=count(len(inputs) - _SHOWN_INPUTS) if len(inputs) > _SHOWN_INPUTS else "",
        ulp=figure(record.ulp),
        error=figure(record.error),
        bound=figure(record.bound),
        ratio=_ratio(record.error, record.bound),
        options=", ".join(f"{name(k)} = {name(v)}" for k, v in check.options.items()) if check else "",
        extent=_extent(check),
        explained_by=tuple(clean(text, 400) for text in record.explained_by),
        confirmations=tuple((name(k), clean(v, 600)) for k, v in record.confirmation.items()),
        known=record.known,
        reason=clean(record.reason, 1_000),
        reproduction=clean(record.reproduction, LISTING),
    )


def _anchor(record: FindingRecord, used: set[str]) -> str:
    wanted = record.id if _PLAIN_ID.match(record.id) else anchor("finding", record.id)
    chosen, copy = wanted, 2
    while chosen in used:
        chosen, copy = f"{wanted}-{copy}", copy + 1
    used.add(chosen)
    return chosen


def _input_label(position: int, size: int) -> str:
    return "input" if size == 1 else f"input {position + 1}"


def _quantity(label: str, number: Number) -> Quantity:
    return Quantity(label, name(number.value), name(number.hex))


def _ratio(error: float | str, bound: float | str) -> str:
    """Return how many times the bound the error is; "" where that says nothing."""
    above, below = as_float(error), as_float(bound)
    if above is None or not below or not above / below > 1 or above == float("inf"):
        return ""
    return figure(above / below)


def _extent(check: CheckRecord | None) -> str:
    if check is None:
        return ""
    parts = []
    if check.outside_unstable or check.outside_accepted:
        outside = check.outside_unstable or check.outside_accepted
        beyond = "every listed text" if check.outside_unstable else "the accepted texts"
        parts.append(
            f"{count(outside)} of {count(check.compared)} compared elements lie beyond the bound of {beyond}"
        )
    parts += [
        f"{plural(number, 'breach', 'breaches')} of semantics ({name(kind)})"
        for kind, number in check.breaches.items()
    ]
    return "; ".join(parts)
