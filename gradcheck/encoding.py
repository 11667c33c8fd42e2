"""How evidence is written as JSON text, read back, and published.

JSON has no infinity and no NaN: those are text. Every finite float survives exactly. What is stored are
counts; the verdict is computed from them each time they are read.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from gradcheck.document import CheckRecord, FindingRecord, NotRunRecord, Number, json_float, number
from gradcheck.errors import UsageError
from gradcheck.records import Cell, Evidence, Finding, Worst

if TYPE_CHECKING:
    from gradcheck.known import KnownEntry

LONGEST_TEXT = 65_536
_CUT = " [cut]"
_NOWHERE = Number("", "")
_T = TypeVar("_T")


class StoredWorst(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`Worst`, with floats as numbers or text."""

    input: list[float | str]
    got: float | str
    expected: float | str
    error: float | str
    bound: float | str
    ulp: float | str
    index: int
    size: int
    context: str


class StoredEvidence(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`Evidence`, with floats as numbers or text and options as text."""

    compared: int
    outside_stable: int
    outside_accepted: int
    outside_unstable: int
    breaches: dict[str, int]
    undecided: int
    cases: int
    vacuous_cases: int
    ulp: float | str
    resolution: float | str
    label: str
    worst: StoredWorst | None
    explained_by: list[str]
    families: dict[str, int]
    binades: dict[str, int]
    specials: int
    options: dict[str, str]
    notes: list[str]
    black_box: bool = False
    unfinished: bool = False


def plain(value: Any) -> Any:
    """Return `value` as JSON can hold it: non-finite floats and huge integers as text, arrays as lists.

    Text that UTF-8 cannot carry is escaped, very long text is cut. Raises `UsageError` for any other type.
    """
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return clean(value)
    if isinstance(value, int):
        return int(value) if abs(value) < 2**63 else str(value)
    if isinstance(value, float):
        return json_float(value)
    if isinstance(value, Mapping):
        return {clean(str(key)): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, msgspec.Struct):
        return {name: plain(getattr(value, name)) for name in value.__struct_fields__}
    if hasattr(value, "tolist"):
        return plain(value.tolist())
    raise UsageError(f"expected data that JSON can hold, got {type(value).__name__}")


def clean(text: str) -> str:
    """Return `text` as UTF-8 can carry it, cut after `LONGEST_TEXT` characters."""
    shown = str(text) if len(text) <= LONGEST_TEXT else text[: LONGEST_TEXT - len(_CUT)] + _CUT
    return shown.encode("utf-8", "backslashreplace").decode("utf-8")


def dumps(value: Any) -> str:
    """Return JSON text with sorted keys."""
    return msgspec.json.encode(plain(value), order="sorted").decode("utf-8")


def loads(text: str, kind: type[_T]) -> _T:
    """Return the `kind` that JSON text holds; `ValueError` if it holds anything else."""
    try:
        return msgspec.json.decode(text, type=kind)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise ValueError(f"not a {kind.__name__}: {error}") from None


def document_to_json(document: Any, version: int, **derived: Any) -> str:
    """Return a dataclass as JSON text: its fields, `version` as schema_version, and `derived` beside them."""
    return dumps({"schema_version": version, **dataclasses.asdict(document), **derived})


def document_from_json(text: str | bytes, kind: type[_T], version: int, what: str) -> _T:
    """Return the dataclass `kind` that was written; `ValueError` for any other text or version.

    `what` says in words what is expected, such as "a document of a benchmark".
    """
    try:
        data = msgspec.json.decode(text)
        found = data.get("schema_version") if isinstance(data, dict) else None
        if found != version:
            raise ValueError(f"expected a document of version {version}, got {found!r}")
        return msgspec.convert(data, kind, strict=False)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise ValueError(f"not {what}: {error}") from None


def evidence_to_json(evidence: Evidence) -> str:
    """Return the counts of `evidence` as JSON text."""
    worst = evidence.worst
    stored = StoredEvidence(
        compared=int(evidence.compared),
        outside_stable=int(evidence.outside_stable),
        outside_accepted=int(evidence.outside_accepted),
        outside_unstable=int(evidence.outside_unstable),
        breaches=_counts(evidence.breaches),
        undecided=int(evidence.undecided),
        cases=int(evidence.cases),
        vacuous_cases=int(evidence.vacuous_cases),
        ulp=json_float(evidence.ulp),
        resolution=json_float(evidence.resolution),
        label=clean(evidence.label),
        worst=None if worst is None else _store_worst(worst),
        explained_by=[clean(name) for name in evidence.explained_by],
        families=_counts(evidence.families),
        binades=_counts(evidence.binades),
        specials=int(evidence.specials),
        options={clean(str(name)): clean(str(value)) for name, value in evidence.options.items()},
        notes=[clean(note) for note in evidence.notes],
        black_box=bool(evidence.black_box),
        unfinished=bool(evidence.unfinished),
    )
    return msgspec.json.encode(stored, order="deterministic").decode("utf-8")


def evidence_from_json(text: str) -> Evidence:
    """Return the evidence that was written, with its options as text; `ValueError` for any other text."""
    stored = loads(text, StoredEvidence)
    counts = {name: getattr(stored, name) for name in stored.__struct_fields__}
    worst = stored.worst
    return Evidence(
        **{
            **counts,
            "ulp": float(stored.ulp),
            "resolution": float(stored.resolution),
            "worst": None if worst is None else _load_worst(worst),
            "explained_by": tuple(stored.explained_by),
            "notes": tuple(stored.notes),
        }
    )


def check_record(cell: Cell, evidence: Evidence, seconds: float) -> CheckRecord:
    """Return the published form of one recorded cell."""
    worst = evidence.worst
    shown = {} if worst is None else _element(worst)
    return CheckRecord(
        id=cell.id,
        formula=cell.formula,
        subject=cell.subject,
        format=cell.format,
        check=cell.check,
        verdict=evidence.verdict.value,
        compared=evidence.compared,
        label=evidence.label,
        ulp=json_float(evidence.ulp),
        resolution=json_float(evidence.resolution),
        outside_stable=evidence.outside_stable,
        outside_accepted=evidence.outside_accepted,
        outside_unstable=evidence.outside_unstable,
        breaches=dict(evidence.breaches),
        undecided=evidence.undecided,
        cases=evidence.cases,
        vacuous_cases=evidence.vacuous_cases,
        explained_by=list(evidence.explained_by),
        families=dict(evidence.families),
        binades=dict(evidence.binades),
        specials=evidence.specials,
        options=dict(evidence.options),
        notes=list(evidence.notes),
        seconds=seconds,
        **shown,
    )


def finding_record(
    finding: Finding, known: KnownEntry | None, confirmation: Mapping[str, str]
) -> FindingRecord:
    """Return the published form of a finding; its numbers are empty where there is no worst element."""
    evidence, worst = finding.evidence, finding.evidence.worst
    none = {
        "input": _NOWHERE,
        "inputs": [],
        "expected": _NOWHERE,
        "got": _NOWHERE,
        "bound": 0.0,
        "error": 0.0,
    }
    shown = none if worst is None else {**none, **_element(worst)}
    return FindingRecord(
        id=finding.id,
        code=finding.code,
        verdict=evidence.verdict.value,
        check=finding.cell.id,
        ulp=json_float(evidence.ulp if worst is None else worst.ulp),
        message=finding.message,
        known=known is not None,
        reason="" if known is None else known.reason,
        reproduction=finding.reproduction,
        explained_by=list(evidence.explained_by),
        confirmation=dict(confirmation),
        **shown,
    )


def not_run_record(cell: Cell, reason: str) -> NotRunRecord:
    """Return the published form of a cell without a record."""
    return NotRunRecord(cell.id, cell.formula, cell.subject, cell.format, cell.check, reason)


def _element(worst: Worst) -> dict[str, Any]:
    inputs = [number(value) for value in worst.input]
    return {
        **({"input": inputs[0], "inputs": inputs} if inputs else {}),
        "expected": number(worst.expected),
        "got": number(worst.got),
        "bound": json_float(worst.bound),
        "error": json_float(worst.error),
    }


def _counts(counts: Mapping[str, int]) -> dict[str, int]:
    return {clean(str(key)): int(count) for key, count in counts.items()}


def _store_worst(worst: Worst) -> StoredWorst:
    return StoredWorst(
        input=[json_float(value) for value in worst.input],
        got=json_float(worst.got),
        expected=json_float(worst.expected),
        error=json_float(worst.error),
        bound=json_float(worst.bound),
        ulp=json_float(worst.ulp),
        index=int(worst.index),
        size=int(worst.size),
        context=clean(worst.context),
    )


def _load_worst(stored: StoredWorst) -> Worst:
    numbers = (stored.got, stored.expected, stored.error, stored.bound, stored.ulp)
    got, expected, error, bound, ulp = map(float, numbers)
    inputs = tuple(map(float, stored.input))
    return Worst(inputs, got, expected, error, bound, ulp, stored.index, stored.size, stored.context)
