"""The first sentence of the report: what a reader must know if they read nothing else."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from gradcheck.document import Document
from gradcheck.report.text import count, listed, plural
from gradcheck.report.verdicts import EXIT_CODES


@dataclass(frozen=True)
class Headline:
    """The verdict on the run: `state` is "good", "bad" or "open" and names a CSS class."""

    state: str
    title: str
    sentence: str
    exit_code: int
    exit_meaning: str


def headline(document: Document) -> Headline:
    """Return the headline of a run."""
    fresh = sum(not finding.known for finding in document.findings)
    known = len(document.findings) - fresh
    return Headline(
        state=_state(document, fresh),
        title=_title(document, fresh),
        sentence=_sentence(document, fresh, known),
        exit_code=document.exit_code,
        exit_meaning=EXIT_CODES.get(
            document.exit_code, "a code that this version of the report does not know"
        ),
    )


def _state(document: Document, fresh: int) -> str:
    if fresh or document.exit_code == 1:
        return "bad"
    return "open" if document.exit_code or document.missing or not document.checks else "good"


def _title(document: Document, fresh: int) -> str:
    parts = ["Interrupted"] if document.exit_code == 130 else []
    if fresh:
        parts.append(plural(fresh, "new finding"))
    if document.missing:
        parts.append(f"{plural(len(document.missing), 'planned check')} without a record")
    if document.stale_known:
        parts.append(f"{plural(len(document.stale_known), 'stale line')} in the known list")
    if parts:
        return listed(parts)
    if not document.checks:
        return "Nothing was checked"
    if document.exit_code:
        return f"The run ended with exit code {document.exit_code}"
    return "No new finding" if document.findings else "No finding"


def _sentence(document: Document, fresh: int, known: int) -> str:
    run = document.run
    open_checks = sum(check.verdict in ("vacuous", "inconclusive") for check in document.checks)
    parts = [f"{count(run.recorded)} of {plural(run.planned, 'planned check')} recorded"]
    if run.not_run:
        parts.append(f"{count(run.not_run)} not run, with reasons")
    if document.missing:
        parts.append(f"{count(len(document.missing))} without a record")
    parts.append(f"{plural(fresh, 'new finding')} and {count(known)} known")
    if open_checks:
        parts.append(f"{count(open_checks)} vacuous or inconclusive")
    sentence = "; ".join(parts) + "."
    if document.claims:
        tally = Counter(claim.verdict for claim in document.claims)
        words = [f"{number} {verdict}" for verdict, number in tally.most_common() if verdict in _CLAIMS]
        sentence += (
            f" Of {plural(len(document.claims), 'claim')} as printed, {listed(words) or 'none decided'}."
        )
    return sentence


_CLAIMS = ("upheld", "refuted", "conditional", "undecidable", "inconclusive")
