"""The known list: findings that somebody has looked at and accepted, with the reason.

It changes no verdict. A known finding stays a finding and is shown with its reason; an entry whose finding
has gone fails the run, so that the list cannot rot.

    [[known]]
    id = "F-3fa9c1"
    check = "gelu/torch-cpu/float32/value"
    subject = "torch-cpu"
    versions = ">=2.13,<2.14"
    reason = "one sentence"

A finding that only some processors show (their vector units have kernels of their own) says so with
`processor = "avx512fp16"`, or `"!avx512f"` for one that those do not show; several are joined by spaces.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.version import InvalidVersion, Version

from gradcheck.document import FindingRecord
from gradcheck.errors import UsageError

LARGEST_FILE = 4 * 2**20
_FIELDS = ("id", "check", "subject", "versions", "reason")
_OPTIONAL = ("processor",)
_FEATURE = re.compile(r"!?[a-z0-9]+")
_ID = re.compile(r"F-[0-9a-f]{6}")
_HEADER = re.compile(r"^\s*\[\[\s*known\s*\]\]", re.MULTILINE)


@dataclass(frozen=True)
class KnownEntry:
    """One accepted finding; `versions` is a range such as ">=2.13,<2.14", empty for any version.

    `processor` names the features that a processor must have, or with "!" must not have, to show it.
    """

    id: str
    check: str
    subject: str
    versions: str
    reason: str
    place: str = ""
    processor: str = ""

    def applies(self, versions: Mapping[str, str], features: str = "") -> bool:
        """Whether the version of the subject in a run, and the features of its processor, are those meant."""
        present = features.split()
        if any((name.lstrip("!") in present) is name.startswith("!") for name in self.processor.split()):
            return False
        if not self.versions:
            return True
        try:
            return SpecifierSet(self.versions).contains(
                subject_version(versions, self.subject), prereleases=True
            )
        except InvalidVersion:
            return False

    def __str__(self) -> str:
        return f"{self.id} ({self.check}) at {self.place}: {self.reason}"


@dataclass(frozen=True)
class KnownList:
    """The entries of one file."""

    entries: tuple[KnownEntry, ...] = ()
    path: str = ""

    @classmethod
    def load(cls, path: str | Path) -> KnownList:
        """Read a known list; a file or an entry that cannot be used is a `UsageError` with its place."""
        text = _read(Path(path))
        try:
            table = tomllib.loads(text)
        except (tomllib.TOMLDecodeError, RecursionError) as error:
            reason = "nested too deeply" if isinstance(error, RecursionError) else error
            raise UsageError(f"{path}: not valid TOML: {reason}") from None
        raw = table.pop("known", [])
        if table or not isinstance(raw, list):
            other = next(iter(table), "known")
            raise UsageError(
                f"{path}: expected [[known]] entries only, got {other!r}; write [[known]] before each"
            )
        places = _places(str(path), text, len(raw))
        entries = tuple(_entry(item, place) for item, place in zip(raw, places, strict=True))
        _refuse_duplicates(entries)
        return cls(entries, str(path))

    def match(
        self, finding: str, check: str, versions: Mapping[str, str], features: str = ""
    ) -> KnownEntry | None:
        """Return the entry that accepts this finding of this cell, for these versions and features."""
        for entry in self.entries:
            if (entry.id, entry.check) == (finding, check) and entry.applies(versions, features):
                return entry
        return None

    def stale(
        self,
        found: Collection[str],
        decided: Collection[str],
        versions: Mapping[str, str],
        features: str = "",
    ) -> tuple[KnownEntry, ...]:
        """Return the entries whose finding has gone.

        `found` holds the ids of the run's findings, `decided` the cells that passed or failed. An entry whose
        cell was not planned, not run or not decided, or that is about another version of the subject or
        another processor, is not stale: this run cannot know.
        """
        return tuple(
            entry
            for entry in self.entries
            if entry.check in decided and entry.id not in found and entry.applies(versions, features)
        )


def subject_version(versions: Mapping[str, str], subject: str) -> str:
    """Return the version of the library behind a subject ("torch-cpu" is "torch"), "" where unknown."""
    return versions.get(subject) or versions.get(subject.partition("-")[0], "")


def known_entry_text(finding: FindingRecord, versions: Mapping[str, str] | None = None) -> str:
    """Return a TOML entry for a finding, ready for the known list but for the reason.

    The reason is left empty, and an empty reason is refused on reading: somebody must write it. The range
    is the minor version that the finding was seen in.
    """
    subject = finding.check.split("/")[1] if finding.check.count("/") == 3 else ""
    note = " ".join(_plain(finding.message).split())[:200]
    values = {
        "id": finding.id,
        "check": finding.check,
        "subject": subject,
        "versions": _minor_range(subject_version(versions or {}, subject)),
        "reason": "",
    }
    lines = [f"{name} = {_toml(value)}" for name, value in values.items()]
    return "\n".join(["[[known]]", f"# {finding.code}: {note}", *lines, ""])


def _minor_range(version: str) -> str:
    try:
        release = Version(version)
    except InvalidVersion:
        return ""
    return f">={release.major}.{release.minor},<{release.major}.{release.minor + 1}"


def _plain(text: str) -> str:
    return "".join(character if character.isprintable() else " " for character in text)


def _toml(text: str) -> str:
    scalar = text.encode("utf-8", "backslashreplace").decode("utf-8")
    escaped = scalar.replace("\\", "\\\\").replace('"', '\\"')
    return '"' + "".join(c if c.isprintable() else f"\\U{ord(c):08x}" for c in escaped) + '"'


def _read(path: Path) -> str:
    try:
        if path.stat().st_size > LARGEST_FILE:
            raise UsageError(f"{path}: expected a known list of at most {LARGEST_FILE} bytes, got more")
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise UsageError(f"{path}: not UTF-8 text (byte {error.start}); save the file as UTF-8") from None
    except (OSError, ValueError) as error:
        if isinstance(error, UsageError):
            raise
        reason = getattr(error, "strerror", None) or error
        raise UsageError(f"{path}: the known list cannot be read: {reason}") from None


def _places(path: str, text: str, count: int) -> list[str]:
    lines = [text.count("\n", 0, match.end()) + 1 for match in _HEADER.finditer(text)]
    if len(lines) != count:
        return [f"{path}, entry {number}" for number in range(1, count + 1)]
    return [f"{path}, line {line}" for line in lines]


def _entry(item: Any, place: str) -> KnownEntry:
    if not isinstance(item, dict):
        raise UsageError(f"{place}: expected a table with {', '.join(_FIELDS)}, got {item!r}")
    for name in item:
        if name not in (*_FIELDS, *_OPTIONAL):
            known = ", ".join((*_FIELDS, *_OPTIONAL))
            raise UsageError(f"{place}: unknown field {name!r}; an entry has {known}")
    for name in (*_FIELDS, *item):
        if name not in item:
            raise UsageError(f"{place}: {name!r} is missing; an entry has {', '.join(_FIELDS)}")
        if not isinstance(item[name], str):
            raise UsageError(f"{place}: expected text for {name}, got {item[name]!r}")
    entry = KnownEntry(**item, place=place)
    _validate(entry)
    return entry


def _validate(entry: KnownEntry) -> None:
    if not _ID.fullmatch(entry.id):
        raise UsageError(f"{entry.place}: expected an id such as 'F-3fa9c1', got id={entry.id!r}")
    parts = entry.check.split("/")
    if len(parts) != 4 or not all(parts):
        raise UsageError(f"{entry.place}: expected formula/subject/format/check, got check={entry.check!r}")
    if parts[1] != entry.subject:
        raise UsageError(
            f"{entry.place}: subject={entry.subject!r} is not the subject of check={entry.check!r}; "
            f"write {parts[1]!r}"
        )
    if not entry.reason.strip():
        raise UsageError(f"{entry.place}: the reason is empty; say in a sentence why {entry.id} is accepted")
    for name in entry.processor.split():
        if not _FEATURE.fullmatch(name):
            raise UsageError(
                f"{entry.place}: expected processor features such as 'avx512fp16 !amxbf16', "
                f"got processor={entry.processor!r}"
            )
    try:
        SpecifierSet(entry.versions)
    except InvalidSpecifier:
        raise UsageError(
            f"{entry.place}: expected a version range such as '>=2.13,<2.14', or '' for any, "
            f"got versions={entry.versions!r}"
        ) from None


def _refuse_duplicates(entries: Iterable[KnownEntry]) -> None:
    seen: dict[tuple[str, str, str], KnownEntry] = {}
    for entry in entries:
        first = seen.setdefault((entry.id, entry.versions, entry.processor), entry)
        if first is not entry:
            raise UsageError(f"{entry.place}: {entry.id} is already listed at {first.place}; remove one")
