"""The page says what the document says, whole and without scripts."""

from __future__ import annotations

import base64
import hashlib
import html
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from html.parser import HTMLParser

import msgspec
import pytest

from gradcheck.document import Document, FindingRecord, Number
from gradcheck.records import Verdict
from gradcheck.report import render
from gradcheck.report.text import count
from gradcheck.report.verdicts import MARKS, NO_RECORD, UNKNOWN, mark

VOID = {"meta", "br", "hr", "img", "input", "link", "col", "wbr"}
Make = Callable[..., Document]


class Reader(HTMLParser):
    """Collects tags, attributes and text; `broken` holds tags that do not close in order."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.broken: list[str] = []
        self.tags: Counter[str] = Counter()
        self.attributes: list[tuple[str, str, str]] = []
        self.words: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        self.attributes += [(tag, key, value or "") for key, value in attrs]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open.pop() != tag:
            self.broken.append(tag)

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def read(page: str) -> Reader:
    reader = Reader()
    reader.feed(page)
    reader.close()
    return reader


def values(reader: Reader, key: str) -> list[str]:
    return [value for _, found, value in reader.attributes if found == key]


def text_of(part: str) -> str:
    return re.sub(r"\s+", " ", html.unescape(re.sub(r"<[^>]+>", " ", part)))


@pytest.fixture(scope="module")
def page(document: Document) -> str:
    return render(document)


@pytest.fixture(scope="module")
def reader(page: str) -> Reader:
    return read(page)


@pytest.fixture(scope="module", params=["whole", "hostile", "no findings", "no checks", "only missing"])
def unusual(request: pytest.FixtureRequest, make: Make) -> tuple[str, Document]:
    run = {
        "whole": lambda: make(formulas=2),
        "hostile": lambda: make(formulas=1, hostile=True),
        "no findings": lambda: msgspec.structs.replace(make(formulas=1, missing=0), findings=[]),
        "no checks": lambda: make(formulas=0, missing=0),
        "only missing": lambda: only_missing(make(formulas=1, missing=10**6)),
    }[request.param]()
    return request.param, run


def only_missing(run: Document) -> Document:
    return msgspec.structs.replace(run, findings=[], claims=[], not_run=[], artifacts={}, stale_known=[])


def test_any_run_gives_balanced_html_with_unique_ids_and_no_dead_link(unusual: tuple[str, Document]) -> None:
    reader = read(render(unusual[1]))
    assert not reader.broken
    assert not reader.open
    ids = values(reader, "id")
    assert len(ids) == len(set(ids))
    links = [value for value in values(reader, "href") if value.startswith("#")]
    assert links
    assert not {link[1:] for link in links} - set(ids)


def test_any_run_gives_a_page_that_loads_and_runs_nothing(unusual: tuple[str, Document]) -> None:
    reader = read(render(unusual[1]))
    assert not set(reader.tags) & {"script", "iframe", "object", "embed", "link", "img", "form", "base"}
    assert not [key for _, key, _ in reader.attributes if key.startswith("on") or key in ("src", "style")]
    assert all(value.startswith("#") for value in values(reader, "href"))


def test_the_policy_allows_this_style_sheet_alone(page: str, reader: Reader) -> None:
    (policy,) = [value for tag, key, value in reader.attributes if tag == "meta" and "default-src" in value]
    (style,) = re.findall(r"<style>(.*?)</style>", page, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert "default-src 'none'" in policy
    assert f"style-src 'sha256-{digest}'" in policy
    assert "unsafe" not in policy
    assert "url(http" not in style and "@import" not in style


def test_every_finding_claim_reason_and_stale_line_appears(document: Document, reader: Reader) -> None:
    ids = set(values(reader, "id"))
    assert {finding.id for finding in document.findings} <= ids
    words = " ".join(reader.words)
    for claim in document.claims:
        assert claim.printed in words and claim.reference in words
    for record in (*document.not_run, *document.missing):
        assert record.reason in words
    for line in document.stale_known:
        assert line in words


def test_new_findings_come_before_known_ones(document: Document, page: str) -> None:
    border = page.index('id="known-findings"')
    for finding in document.findings:
        assert (page.index(f'id="{finding.id}"') > border) == finding.known


def test_a_finding_shows_its_numbers_and_how_to_get_them_again(document: Document, page: str) -> None:
    for finding in document.findings:
        card = page[page.index(f'id="{finding.id}"') :].split('<p class="commands">', maxsplit=1)[0]
        words = text_of(card)
        for number in (finding.input, finding.expected, finding.got):
            assert number.value in words and number.hex in words
        assert finding.message in words
        assert finding.reproduction.splitlines()[1] in words
        assert all(text in words for text in finding.confirmation.values())
        assert (finding.reason in words) if finding.known else "Known:" not in words
        assert f"gradcheck replay {finding.id}" in page


def test_the_counts_are_those_of_the_document(document: Document, page: str) -> None:
    tally = Counter(check.verdict for check in document.checks)
    tally["not run"], tally["no record"] = len(document.not_run), len(document.missing)
    items = page.split('class="tally"', 1)[1].split("</ul>", 1)[0].split("<li>")[1:]
    shown = [re.fullmatch(r" *(.+?) +([\d,]+) +(?:< )?[\d.]+ % *", text_of(item)) for item in items]
    pairs = [match.groups() for match in shown if match]
    assert len(pairs) == len(items)
    assert set(pairs) == {(word, count(number)) for word, number in tally.items() if number}
    fresh = sum(not finding.known for finding in document.findings)
    lead = text_of(page.split('class="lead">', 1)[1].split("</p>", 1)[0])
    assert f"{count(document.run.recorded)} of {count(document.run.planned)} planned checks recorded" in lead
    assert f"{fresh} new findings and {len(document.findings) - fresh} known" in lead


def test_the_matrix_shows_the_worst_verdict_and_the_number_of_checks(document: Document, page: str) -> None:
    table = page.split('<table class="matrix">')[1].split("</table>", maxsplit=1)[0]
    cells = re.findall(
        r'<td class="([\w-]+)[^"]*"><a href="#[\w-]+" title="([^"]*)">.*?</span> ([\d,]*)</a>', table
    )
    groups: dict[str, list[str]] = {}
    for check in document.checks:
        groups.setdefault(" · ".join((check.formula, check.subject, check.format)), []).append(check.verdict)
    for record in (*document.missing, *document.not_run):
        groups.setdefault(" · ".join((record.formula, record.subject, record.format)), [])
    assert len(cells) == len(groups)
    missing = {" · ".join((r.formula, r.subject, r.format)) for r in document.missing}
    order = [m.word for m in MARKS]
    for slug, title, number in cells:
        key = html.unescape(title).split(":")[0]
        found = groups[key]
        assert number == (count(len(found)) if found else "")
        words = [*found, *(["no record"] if key in missing else [])]
        worst = min(words, key=order.index) if words else "not run"
        assert slug == mark(worst).slug


def test_every_check_has_a_row(document: Document, page: str) -> None:
    appendix = page.split('aria-labelledby="checks"')[1]
    rows = len(re.findall(r'<tr><th scope="row" class="stick">', appendix))
    assert rows == len(document.checks) + len(document.not_run) + len(document.missing)


def test_counts_that_disagree_with_the_run_are_said(make: Make) -> None:
    run = make(formulas=1)
    wrong = msgspec.structs.replace(run, run=msgspec.structs.replace(run.run, recorded=run.run.recorded + 5))
    assert "this document holds" not in render(run)
    assert f"states {run.run.recorded + 5} checks recorded; this document holds {run.run.recorded}" in render(
        wrong
    )


@pytest.mark.parametrize(
    ("change", "title"),
    [
        ({"findings": [], "stale_known": []}, "No finding"),
        ({"findings": [], "stale_known": [], "checks": [], "not_run": []}, "Nothing was checked"),
        ({"findings": [], "exit_code": 1}, "1 stale line in the known list"),
        ({"findings": [], "stale_known": [], "exit_code": 6}, "The run ended with exit code 6"),
        ({"findings": [], "stale_known": [], "exit_code": 130}, "Interrupted"),
    ],
)
def test_the_headline_names_what_happened(make: Make, change: dict[str, object], title: str) -> None:
    run = msgspec.structs.replace(make(formulas=1, missing=0), artifacts={}, exit_code=0)
    page = render(msgspec.structs.replace(run, **change))
    assert text_of(page.split("<h1>")[1].split("</h1>")[0]).strip() == title


def test_new_findings_and_lost_checks_share_the_headline(document: Document, page: str) -> None:
    fresh = sum(not finding.known for finding in document.findings)
    title = text_of(page.split("<h1>")[1].split("</h1>", maxsplit=1)[0]).strip()
    assert title.startswith(f"{fresh} new findings, {len(document.missing)} planned checks without a record")


def test_the_marks_cover_the_verdicts() -> None:
    assert {m.word for m in MARKS} - {NO_RECORD.word, UNKNOWN.word} == {verdict.value for verdict in Verdict}
    for verdict in Verdict:
        assert (mark(verdict.value).kind == "finding") == verdict.is_finding
        assert (mark(verdict.value).kind == "pass") == verdict.passed


def test_the_same_run_gives_the_same_bytes(make: Make) -> None:
    assert render(make(formulas=1)) == render(make(formulas=1))


def test_rendering_needs_no_numerical_library() -> None:
    program = (
        "import sys\n"
        "from gradcheck.document import CheckRecord, Document, RunInfo\n"
        "from gradcheck.report import render\n"
        "names = ('f/s/float16/value', 'f', 's', 'float16', 'value')\n"
        "check = CheckRecord(*names, 'agrees', 9, 'exhaustive', 0.5, 0.0)\n"
        "data = {'ulp_profile': {names[0]: {'x': [0.0, 1.0], 'ulp': [0.1, 0.5]}}}\n"
        "page = render(Document(1, RunInfo('', 'ci', 0, {}, {}), [check], [], [], artifacts=data))\n"
        "assert 'float16' in page\n"
        "print(sorted({'numpy', 'torch', 'scipy', 'ml_dtypes', 'flint'} & set(sys.modules)))\n"
    )
    answer = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    assert answer.stdout.decode().strip() == "[]"


def test_a_large_run_stays_small_enough_to_open(page: str, document: Document) -> None:
    assert len(document.checks) > 1_500 and len(document.findings) > 100
    assert len(page.encode()) < 5_000_000


def test_a_finding_without_numbers_shows_none(make: Make) -> None:
    run = make(formulas=1)
    nothing = Number("", "")
    raised = FindingRecord(
        "F-raised",
        "SUBJECT-RAISED",
        "wrong",
        "x",
        nothing,
        nothing,
        nothing,
        0.0,
        0.0,
        "it raised",
        False,
        "f(1)",
    )
    page = render(msgspec.structs.replace(run, findings=[raised]))
    card = page[page.index('id="F-raised"') :].split("</article>")[0]
    assert "it raised" in card and "f(1)" in card
    assert "hexadecimal" not in card and "ULP" not in card
