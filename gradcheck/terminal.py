"""What the command line prints: foreign text made inert, progress, the summary of a run."""

from __future__ import annotations

import re
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from rich.console import Console

    from gradcheck.document import Document, FindingRecord
    from gradcheck.flow.document import Chapter, FlowDocument
    from gradcheck.runner.verify import Watch

LINE, MANY = 400, 20

# Control characters, bidirectional and invisible formatting, lone surrogates: none may act on a terminal.
_HOSTILE = re.compile(
    "[\x00-\x1f\x7f-\x9f\xad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\uffff\ud800-\udfff]"
)
# What CI services read as commands wherever a log line begins so, or holds it.
_COMMAND = re.compile(r"^(\s*)::|##\[")


def inert(text: object, limit: int = LINE) -> str:
    """Return `text` on one line of at most `limit` characters, in which nothing hidden or active is left."""
    plain = text if isinstance(text, str) else str(text)
    head = _HOSTILE.sub(_visible, plain[:limit])
    head = _COMMAND.sub(lambda match: match.group().replace("::", "\\:\\:").replace("##[", "# #["), head)
    return head if len(plain) <= limit else f"{head}… ({len(plain) - limit} more characters)"


def listing(text: str, limit: int = 20_000) -> str:
    """Return foreign text of several lines, each of them inert."""
    return "\n".join(inert(line) for line in text[:limit].replace("\r\n", "\n").split("\n"))


def _visible(match: re.Match[str]) -> str:
    code = ord(match.group())
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


def error(message: object) -> None:
    """Print one message to stderr, as `gradcheck: error: …`."""
    sys.stderr.write(f"gradcheck: error: {inert(message, 4_000)}\n")


def console(stream: TextIO | None = None) -> Console:
    """Return a console for a person, or for a log if the stream is no terminal."""
    from rich.console import Console

    return Console(file=stream or sys.stdout, markup=False, highlight=False, emoji=False, soft_wrap=True)


@contextmanager
def watching(out: Console, quiet: bool = False) -> Iterator[Watch]:
    """Show how far a run has come: a bar on a terminal, one line per phase in a log, nothing if `quiet`."""
    from gradcheck.runner.verify import Watch

    if quiet:
        yield Watch()
    elif not out.is_terminal:
        yield Watch(phase=lambda sentence: out.print(f"gradcheck: {sentence}"))
    else:
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        with Progress(*columns, console=out, transient=True) as bar:
            task = bar.add_task("self-test", total=None)

            def progress(recorded: int, planned: int) -> None:
                bar.update(task, completed=recorded, total=planned)

            yield Watch(phase=lambda sentence: bar.update(task, description=sentence), progress=progress)


def summarise(out: Console, document: Document, page: object, note: str = "", quiet: bool = False) -> None:
    """Print a run: verdict, counts, findings (new ones first), claims, what was not run, the report."""
    run = document.run
    out.print(headline(document), style="bold")
    if note:
        out.print(inert(note))
    if not quiet:
        out.print(f"{run.planned} planned, {run.recorded} recorded, {run.not_run} not run")
        _table(out, ("verdict", "checks"), _counts(document))
        _findings(out, document.findings)
        _claims(out, document)
        _reasons(out, document)
        for entry in document.stale_known:
            out.print(f"stale line in the known list: {inert(entry)}")
    out.print(f"report: {inert(page)}")


def headline(document: Document) -> str:
    """Return the verdict on the whole run in one line, with the reasons if it did not pass."""
    if document.exit_code == 0:
        return "passed: every planned check was recorded and there is no new finding"
    if document.exit_code == 130:
        return "interrupted: what follows is incomplete"
    undecided = sum(check.verdict in ("vacuous", "inconclusive") for check in document.checks)
    counts = (
        (len(document.missing), "planned check without a record", "planned checks without a record"),
        (sum(not finding.known for finding in document.findings), "new finding", "new findings"),
        (len(document.stale_known), "stale line in the known list", "stale lines in the known list"),
        (undecided, "check vacuous or inconclusive", "checks vacuous or inconclusive"),
    )
    return "failed: " + ", ".join(
        f"{count} {one if count == 1 else many}" for count, one, many in counts if count
    )


def _counts(document: Document) -> list[tuple[str, str]]:
    counts = Counter(check.verdict for check in document.checks)
    if document.missing:
        counts["no record"] = len(document.missing)
    return [(inert(verdict), str(number)) for verdict, number in counts.most_common()]


def _findings(out: Console, findings: Sequence[FindingRecord]) -> None:
    if not findings:
        return
    ordered = sorted(findings, key=lambda finding: (finding.known, finding.verdict != "wrong", finding.check))
    rows = [
        (
            finding.id,
            "known" if finding.known else "new",
            finding.code,
            finding.check,
            _short(finding.input.value),
            *_apart(finding.got.value, finding.expected.value),
        )
        for finding in ordered[:MANY]
    ]
    _table(out, ("finding", "", "code", "check", "input", "got", "expected"), rows)
    if len(ordered) > MANY:
        out.print(f"… and {len(ordered) - MANY} more findings in the report")
    new = next((finding for finding in ordered if not finding.known), None)
    if new is not None:
        out.print(f"next: gradcheck explain {inert(new.code)}; gradcheck replay {inert(new.id)}")


def _short(number: str, digits: int = 6) -> str:
    try:
        return f"{float(number):.{digits}g}"
    except ValueError:
        return number


def _apart(got: str, expected: str) -> tuple[str, str]:
    """Return both numbers with as many digits as it takes to see them differ."""
    for digits in (6, 9, 12, 15):
        shown = _short(got, digits), _short(expected, digits)
        if shown[0] != shown[1]:
            return shown
    return got, expected


def _claims(out: Console, document: Document) -> None:
    if document.claims:
        rows = [(claim.id, claim.verdict, claim.equals or "", claim.says) for claim in document.claims]
        _table(out, ("claim", "verdict", "equals", "says"), rows)


def _reasons(out: Console, document: Document) -> None:
    reasons = Counter(cell.reason for cell in document.not_run)
    if reasons:
        _table(
            out, ("not run", "checks"), [(reason, str(number)) for reason, number in reasons.most_common()]
        )


def _table(out: Console, heads: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print rows: ruled columns on a terminal, aligned plain text in a log."""
    cells = [[inert(cell, 120) for cell in row] for row in rows]
    if out.is_terminal:
        from rich.table import Table
        from rich.text import Text

        table = Table(box=None, pad_edge=False, header_style="bold")
        for head in heads:
            table.add_column(head, overflow="fold")
        for row in cells:
            table.add_row(*(Text(cell) for cell in row))
        out.print(table)
        return
    widths = [max(len(row[column]) for row in [list(heads), *cells]) for column in range(len(heads))]
    for row in [list(heads), *cells]:
        out.print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def summarise_flow(
    out: Console, document: FlowDocument, text: str, page: object | None, quiet: bool = False
) -> None:
    """Print a study of gradients (numbers beside theory, claims), or the text of anything else."""
    if text:
        out.print(listing(text.partition("\n")[2].partition("\n")[0] if quiet else text))
    else:
        out.print(inert(document.headline), style="bold")
        if not quiet:
            for chapter in document.chapters:
                _chapter(out, chapter)
            counts = document.counts
            of = f"{counts.normal} judged by |z|"
            out.print(f"chance that one row or more of the {of} is beyond: {counts.chance:.2g}")
    if page is not None:
        out.print(f"page: {inert(page)}")


def _chapter(out: Console, chapter: Chapter, most: int = 12) -> None:
    """Print a chapter: the rows that are beyond, then those farthest from theory, and its claims."""
    out.print()
    out.print(f"{inert(chapter.title)} ({chapter.seconds:.1f} s)", style="bold")
    ordered = sorted(
        chapter.rows, key=lambda row: (row.verdict != "beyond", 0.0 if row.z != row.z else -abs(row.z))
    )
    kept = {id(row) for row in ordered[:most]}
    rows = [
        (row.name, f"{row.measured:.5g} ± {row.standard_error:.2g}", f"{row.exact:.6g}",
         "" if row.z != row.z else f"{row.z:+.2f}", row.verdict,
         "limit" if row.limit else "exact", str(row.seeds))
        for row in chapter.rows if id(row) in kept
    ]  # fmt: skip
    if rows:
        _table(out, ("row", "measured", "theory", "z", "verdict", "holds", "networks"), rows)
    if len(chapter.rows) > most:
        out.print(f"… and {len(chapter.rows) - most} more rows nearer to theory, on the page")
    if chapter.claims:
        _table(out, ("claim", "verdict", "says"), [(c.id, c.verdict, c.says) for c in chapter.claims])


def names(out: Console, rows: Mapping[str, str]) -> None:
    """Print names with their sentences."""
    width = max(map(len, rows), default=0)
    for name, sentence in rows.items():
        out.print(f"{inert(name).ljust(width)}  {inert(sentence)}".rstrip())
