"""What was really drawn: families of values, special values, and the spread over binades."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from gradcheck.document import CheckRecord
from gradcheck.report.text import count, name, plural, power, share

_BARS, _HEIGHT = 32, 14
_BESIDE = {"0": "zeros"}
_EXPONENT = re.compile(r"^2\^([+-]?\d{1,6})$")


@dataclass(frozen=True)
class Histogram:
    """A distribution over binades as an SVG path in a box of `width` x `height`, and its description."""

    path: str
    width: int
    height: int
    low: str
    high: str
    title: str


@dataclass(frozen=True)
class GeneratedRow:
    """What was drawn for one formula, over all its checks."""

    formula: str
    href: str
    compared: str
    cases: str
    families: tuple[str, ...]
    specials: str
    histogram: Histogram | None
    beside: str


@dataclass(frozen=True)
class Generated:
    """The table of everything that was drawn; `families` are its column heads."""

    families: tuple[str, ...]
    rows: tuple[GeneratedRow, ...]


def histogram(binades: Mapping[str, int]) -> Histogram | None:
    """Return the bars of a mapping from "2^exponent" to count; None without such a key.

    The width of a bar is the distance of the bands in the mapping, or a multiple of it where there are many.
    """
    numbers = _exponents(binades)
    if not numbers:
        return None
    low, high = min(numbers), max(numbers)
    band = math.gcd(*(exponent - low for exponent in numbers)) or 1
    width = band * max(1, -(-((high - low) // band + 1) // _BARS))
    bars = [0] * ((high - low) // width + 1)
    for exponent, number in numbers.items():
        bars[(exponent - low) // width] += number
    heights = [max(1, round(_HEIGHT * bar / max(bars))) if bar else 0 for bar in bars]
    path = f"M0 {_HEIGHT}" + "".join(_bar(height) for height in heights)
    peak = low + bars.index(max(bars)) * width
    extent = f"{count(sum(bars))} values from {power(low, 2)} to {power(high, 2)}"
    title = f"{extent}, most at {power(peak, 2)}; a bar is {plural(width, 'binade')}"
    return Histogram(path, 3 * len(bars), _HEIGHT, power(low, 2), power(high, 2), title)


def _bar(height: int) -> str:
    return f"v-{height}h2v{height}h1" if height else "h3"


def _exponents(binades: Mapping[str, int]) -> dict[int, int]:
    found: Counter[int] = Counter()
    for key, number in binades.items():
        match = _EXPONENT.match(key.strip())
        if match and number > 0:
            found[int(match.group(1))] += number
    return dict(found)


def generated(checks: Iterable[CheckRecord], href: Mapping[str, str]) -> Generated:
    """Return what was drawn per formula; `href` gives the place of each formula's check table."""
    groups: dict[str, list[CheckRecord]] = {}
    for record in checks:
        groups.setdefault(record.formula, []).append(record)
    totals: Counter[str] = Counter()
    for record in checks:
        totals.update(record.families)
    families = tuple(family for family, _ in totals.most_common(12))
    rows = tuple(
        _row(formula, records, families, href[formula]) for formula, records in sorted(groups.items())
    )
    return Generated(tuple(map(name, families)), rows)


def _row(formula: str, records: list[CheckRecord], families: tuple[str, ...], href: str) -> GeneratedRow:
    drawn: Counter[str] = Counter()
    binades: Counter[str] = Counter()
    for record in records:
        drawn.update(record.families)
        binades.update(record.binades)
    compared = sum(record.compared for record in records)
    whole = sum(drawn.values()) or compared
    others = [(key, number) for key, number in binades.items() if not _EXPONENT.match(key.strip())]
    return GeneratedRow(
        formula=name(formula),
        href=href,
        compared=count(compared),
        cases=count(sum(record.cases for record in records)),
        families=tuple(share(drawn[family], whole) if drawn[family] else "" for family in families),
        specials=share(sum(record.specials for record in records), whole),
        histogram=histogram(binades),
        beside=", ".join(f"{_BESIDE.get(key, name(key))} {count(number)}" for key, number in others[:8]),
    )
