"""The published form of a run: what `evidence.json` holds and what the report is made from.

Numbers that JSON cannot carry (inf, nan, exact values) are text; a `Number` holds a float as shortest
decimal text and as exact hexadecimal text.
"""

from __future__ import annotations

from typing import Any

import msgspec

SCHEMA_VERSION = 1


class Number(msgspec.Struct, frozen=True):
    """A float, readable and exact."""

    value: str
    hex: str


class RunInfo(msgspec.Struct, frozen=True):
    """What was run, where, with what."""

    started: str
    profile: str
    seed: int
    versions: dict[str, str]
    machine: dict[str, str]
    planned: int = 0
    recorded: int = 0
    not_run: int = 0
    finished: str = ""
    explore: bool = False
    self_test: dict[str, int] = msgspec.field(default_factory=dict)


class CheckRecord(msgspec.Struct, frozen=True):
    """One recorded cell of the plan.

    `ulp` is the largest error in units in the last place; `label` says how it was found: "proven",
    "exhaustive" or "largest found". `resolution` is the smallest error, relative to the largest expected
    value, that would have been seen.
    """

    id: str
    formula: str
    subject: str
    format: str
    check: str
    verdict: str
    compared: int
    label: str
    ulp: float | str
    resolution: float | str
    input: Number | None = None
    inputs: list[Number] = msgspec.field(default_factory=list)
    expected: Number | None = None
    got: Number | None = None
    bound: float | str = 0.0
    error: float | str = 0.0
    outside_stable: int = 0
    outside_accepted: int = 0
    outside_unstable: int = 0
    breaches: dict[str, int] = msgspec.field(default_factory=dict)
    undecided: int = 0
    cases: int = 0
    vacuous_cases: int = 0
    explained_by: list[str] = msgspec.field(default_factory=list)
    families: dict[str, int] = msgspec.field(default_factory=dict)
    binades: dict[str, int] = msgspec.field(default_factory=dict)
    specials: int = 0
    options: dict[str, str] = msgspec.field(default_factory=dict)
    notes: list[str] = msgspec.field(default_factory=list)
    seconds: float = 0.0


class FindingRecord(msgspec.Struct, frozen=True):
    """A verdict that a person must read."""

    id: str
    code: str
    verdict: str
    check: str
    input: Number
    expected: Number
    got: Number
    ulp: float | str
    bound: float | str
    message: str
    known: bool
    reproduction: str
    inputs: list[Number] = msgspec.field(default_factory=list)
    error: float | str = 0.0
    explained_by: list[str] = msgspec.field(default_factory=list)
    reason: str = ""
    confirmation: dict[str, str] = msgspec.field(default_factory=dict)


class ClaimRecord(msgspec.Struct, frozen=True):
    """A formula or claim as printed, and what measuring it gave.

    `verdict` is "upheld", "refuted", "conditional", "undecidable" or "inconclusive"; `equals` names what
    the printed formula computes instead.
    """

    id: str
    says: str
    verdict: str
    compared: int
    resolution: float | str
    counterexample: dict[str, str] = msgspec.field(default_factory=dict)
    printed: str = ""
    reference: str = ""
    equals: str | None = None
    section: str = ""
    formula: str = ""
    domain: str = ""
    notes: list[str] = msgspec.field(default_factory=list)


class NotRunRecord(msgspec.Struct, frozen=True):
    """A planned cell that was not run, or that has no record, and why."""

    id: str
    formula: str
    subject: str
    format: str
    check: str
    reason: str


class Document(msgspec.Struct, frozen=True):
    """A whole run. `artifacts` holds series for charts and tables, by kind and key."""

    schema_version: int
    run: RunInfo
    checks: list[CheckRecord]
    findings: list[FindingRecord]
    claims: list[ClaimRecord]
    not_run: list[NotRunRecord] = msgspec.field(default_factory=list)
    missing: list[NotRunRecord] = msgspec.field(default_factory=list)
    stale_known: list[str] = msgspec.field(default_factory=list)
    artifacts: dict[str, dict[str, Any]] = msgspec.field(default_factory=dict)
    exit_code: int = 0


def number(value: float) -> Number:
    """Return `value` as a `Number`."""
    import math

    plain = float(value)
    return Number(value=repr(plain), hex=plain.hex() if math.isfinite(plain) else repr(plain))


def json_float(value: float) -> float | str:
    """Return a finite float unchanged and any other as text, for JSON."""
    import math

    plain = float(value)
    return plain if math.isfinite(plain) else repr(plain)
