"""The page of gradient flow: whole, inert, readable without eyes, and linked with the report."""

from __future__ import annotations

import base64
import hashlib
import math
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gradcheck import report
from gradcheck.document import Document
from gradcheck.errors import StorageError
from gradcheck.flow.document import (
    LEFT_OUT,
    Chapter,
    Chart,
    Claim,
    FlowDocument,
    Number,
    Series,
    Table,
    judged,
)
from gradcheck.report import flow, heat
from gradcheck.report.flow_charts import axis, decade_ticks
from gradcheck.report.text import with_error

Make = Callable[..., Document]
HOSTILE = "</style><script>alert(1)</script>\x1b[31m\u202e{{ 7*7 }}'\"><img src=x onerror=y>"
EVERY = tuple(map(float, range(6)))


def chart(kind: str, words: str = "a chart", **changes: object) -> Chart:
    values = tuple(tuple(float(x - y) for x in range(6)) for y in range(4))
    series = (
        Series(
            f"measured {words}", EVERY, (0.0, 1.0, math.nan, 3.0, -math.inf, 2.0), EVERY, EVERY, "points", "g"
        ),
        Series(f"exact {words}", EVERY, EVERY, mark="line", group="g"),
        Series(words, EVERY, EVERY, mark="bars"),
    )
    given: dict[str, object] = {"series": series}
    if kind == "heat":
        given = {"xs": EVERY, "ys": EVERY[:4], "values": values, "centre": 0.0, "contours": series[1:2]}
    elif kind == "bars":
        given["categories"] = tuple(f"{words} {k}" for k in range(6))
    return Chart(f"{kind} {words}", kind, words, words, caption=words, title=words, **{**given, **changes})  # type: ignore[arg-type]


def document(words: str = "plain words", *charts: Chart) -> FlowDocument:
    rows = (
        judged(words, 1.0213, 0.0043, 1.02, 1e-13, limit=True, seeds=512, source=words, note=words),
        judged("a miss", 2.0, 0.01, 1.0, seeds=64, source="s"),
        judged("open", math.nan, math.inf, 1e-300, seeds=0, source="s", judge=False, note="why not"),
    )
    claim = Claim("C01", words, "qualified", (Number(words, 1.5, 0.25, 12), Number("n", math.inf)), words)
    table = Table(words, (words, "n"), ((words, "1.5"), ("", "−2")))
    all_charts = charts or tuple(
        chart(kind, words) for kind in ("line", "points", "bars", "histogram", "heat")
    )
    chapter = Chapter(words, words, (words,), rows, all_charts, (claim,), 1.0, (table,))
    return FlowDocument(
        "2026-01-01T00:00:00Z", 2.0, {"v": words}, {"m": words}, (chapter, Chapter("e", "empty"))
    )


class Reader(HTMLParser):
    """Collects tags, attributes and what does not close in order."""

    def __init__(self, page: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.broken: list[str] = []
        self.tags: set[str] = set()
        self.attributes: list[tuple[str, str, str]] = []
        self.words: list[str] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes += [(tag, key, value or "") for key, value in attrs]
        if tag not in ("meta", "br"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes += [(tag, key, value or "") for key, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open.pop() != tag:
            self.broken.append(tag)

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    def all(self, key: str) -> list[str]:
        return [value for _, found, value in self.attributes if found == key]


@pytest.fixture(scope="module")
def page() -> str:
    return flow.render(document())


@pytest.fixture(scope="module")
def hostile() -> str:
    return flow.render(document(HOSTILE))


@pytest.mark.parametrize("name", ["page", "hostile"])
def test_any_words_give_balanced_html_that_loads_and_runs_nothing(
    name: str, request: pytest.FixtureRequest
) -> None:
    reader = Reader(request.getfixturevalue(name))
    assert not reader.broken and not reader.open
    assert not reader.tags & {"script", "iframe", "object", "embed", "link", "img", "form", "base", "image"}
    assert not [key for _, key, _ in reader.attributes if key.startswith("on") or key in ("src", "style")]
    ids = reader.all("id")
    assert len(ids) == len(set(ids))
    assert all(link.startswith("#") and link[1:] in ids for link in reader.all("href"))


def test_hidden_characters_are_spelled_out(hostile: str) -> None:
    assert "\x1b" not in hostile and "\u202e" not in hostile
    assert r"\u202e" in hostile
    assert "49" not in re.sub(r"<style>.*?</style>|<svg.*?</svg>", "", hostile, flags=re.DOTALL)


def test_the_policy_allows_this_style_sheet_alone(page: str) -> None:
    (style,) = re.findall(r"<style>(.*?)</style>", page, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert f"default-src 'none'; style-src 'sha256-{digest}'" in page
    assert "unsafe" not in page.split("<style>", maxsplit=1)[0]


def test_every_drawing_has_a_title_and_says_what_it_shows(page: str) -> None:
    reader = Reader(page)
    drawings = re.findall(r'<svg role="img" aria-labelledby="(\S+) (\S+)"', page)
    assert len(drawings) == 5
    assert {part for pair in drawings for part in pair} <= set(reader.all("id"))
    for _, words in drawings:
        assert re.search(rf'<desc id="{words}">[^<]*plain words over plain words', page)


def test_every_colour_of_a_drawing_is_a_key_of_the_style_sheet(page: str) -> None:
    (style,) = re.findall(r"<style>(.*?)</style>", page, re.DOTALL)
    drawn = "".join(re.findall(r'<svg role="img".*?</svg>', page, re.DOTALL))
    used = set(re.findall(r'(?:fill|stroke)="(#[0-9a-f]+)"', drawn))
    assert used
    assert {f'="{colour}"' for colour in used if f'="{colour}"' not in style} == set()


def test_every_number_stands_with_its_error_and_its_networks(page: str) -> None:
    words = " ".join(" ".join(Reader(page).words).split())
    for text in ("1.0213 ± 0.0043", "512", "1.50 ± 0.25", "12 networks", "beyond", "why not", "limit"):
        assert text in words
    assert "1 of 2 measured numbers lie beyond 4 standard errors of theory" in words
    assert "chance of a miss" in words


def test_the_chance_of_a_miss_says_what_it_leaves_out() -> None:
    def said(*normal: bool) -> str:
        rows = tuple(judged("r", 1.0, 0.1, 1.0, seeds=1, source="s", normal=each) for each in normal)
        made = FlowDocument("", 0.0, {}, {}, (Chapter("i", "t", rows=rows),))
        return " ".join(" ".join(Reader(flow.render(made)).words).split())

    assert LEFT_OUT not in said(True, True)
    assert "one or more of as many would lie" in said(True, True)
    mixed = said(True, False, False)
    assert "one or more of the 1 judged by |z| would lie" in mixed
    assert "with probability 6.3×10⁻⁵; the other 2" in mixed
    assert f"the other 2 ({LEFT_OUT}) are left out of that number" in mixed
    assert f"None of them is judged by |z|, so none is beyond by chance: they are {LEFT_OUT}." in said(False)
    assert "probability" not in said(False)


def test_a_document_without_chapters_is_a_page() -> None:
    made = flow.render(FlowDocument("", 0.0, {}, {}, ()))
    assert "no chapter" in made
    assert not Reader(made).broken


@pytest.mark.parametrize("kind", ["line", "points", "bars", "histogram", "heat"])
@pytest.mark.parametrize("what", ["nothing", "one", "none is a number"])
def test_charts_of_nothing_one_point_or_no_number_are_drawn(kind: str, what: str) -> None:
    value = {"nothing": (), "one": (1.0,), "none is a number": (math.nan,)}[what]
    empty = chart(
        kind, series=() if what == "nothing" else (Series("s", value, value),),
        categories=("a",) * len(value), xs=value, ys=value, values=(value,) * len(value), contours=(),
    )  # fmt: skip
    assert not Reader(flow.render(document("w", empty))).broken


@settings(max_examples=200)
@given(low=st.floats(-320, 320), width=st.floats(1e-6, 600))
def test_axes_of_decades_name_some_numbers_in_order(low: float, width: float) -> None:
    ticks = decade_ticks(low, low + width)
    assert all(low - 1e-9 <= place <= low + width + 1e-9 for place in ticks)
    assert 1 <= len(ticks) <= 12 or 0.08 <= width <= 2
    assert axis("x", (low, low + width), True)["axis"]["values"] == list(ticks)


@given(st.floats(-1e300, 1e300), st.floats(1e-300, 1e300))
def test_a_number_and_its_error_are_printed_to_the_same_digit(value: float, error: float) -> None:
    text = with_error(value, error)
    match = re.fullmatch(r"\(?(−?[\d.]+) ± ([\d.]+)(?:\)×10\S+)?", text)
    assert match is not None
    places = [len(part.partition(".")[2]) for part in match.groups()]
    assert places[0] == places[1]


def test_classes_of_a_map_hold_every_value_once() -> None:
    made = chart("heat", bounds=(-2.0, -1.0, 1.0, 2.0))
    assert heat.colour_of(0.0, made.bounds, True) == heat.MIDDLE
    assert heat.colour_of(-5.0, made.bounds, True) == heat.MIDDLE - 2
    assert heat.colour_of(2.0, made.bounds, True) == heat.MIDDLE + 2
    assert heat.colour_of(math.nan, made.bounds, True) == len(heat.HEAT)
    covered = [(c.row, k) for c in heat.cells(made) for k in range(c.first, c.last)]
    assert sorted(covered) == [(row, column) for row in range(4) for column in range(6)]
    assert len(heat.legend(made)) == 5


def test_a_map_that_only_rises_takes_the_upper_colours() -> None:
    made = chart("heat", centre=math.nan)
    bounds = heat.bounds_of(made)
    assert list(bounds) == sorted(set(bounds)) and len(bounds) <= 5
    assert all(heat.colour_of(v, bounds, False) >= heat.MIDDLE for row in made.values for v in row)


def test_the_report_and_the_page_link_to_each_other_in_either_order(make: Make, tmp_path: Path) -> None:
    run = make(formulas=1)
    first, second = tmp_path / "report first", tmp_path / "page first"
    report.write(run, first)
    assert "flow.html" not in (first / "index.html").read_text()
    assert 'href="index.html"' in flow.write(document(), first).read_text()
    report.write(run, first)
    assert 'href="index.html"' not in flow.write(document(), second).read_text()
    report.write(run, second)
    for folder in (first, second):
        main = (folder / "index.html").read_text()
        assert main.count('href="flow.html"') == 2
        assert "1 of 2 measured numbers lie beyond" in main
        assert 'href="index.html"' in (folder / "flow.html").read_text()


@pytest.mark.parametrize("data", ["", "{}", '{"schema_version": 1, "chapters": 3}'])
def test_a_study_that_cannot_be_read_is_not_linked_to(make: Make, tmp_path: Path, data: str) -> None:
    (tmp_path / "flow.json").write_text(data)
    (tmp_path / "flow.html").write_text("old")
    report.write(make(formulas=1), tmp_path)
    assert "flow.html" not in (tmp_path / "index.html").read_text()
    assert (tmp_path / "flow.html").read_text() == "old"


def test_a_folder_that_cannot_be_written_is_a_storage_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError):
        flow.write(document("w", chart("line")), tmp_path / "file")
