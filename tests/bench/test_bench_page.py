"""The page says what was measured, whole, without scripts, and with foreign text inert."""

from __future__ import annotations

import base64
import hashlib
import math
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from gradcheck.bench.document import (
    BACKWARD,
    FORWARD,
    NOTHING,
    NUMPY,
    TORCH,
    ArithmeticRate,
    Bandwidth,
    BenchDocument,
    Change,
    CheckCost,
    Comparison,
    Estimate,
    Lane,
    Measurement,
    NotRun,
    Task,
)
from gradcheck.bench.timing import estimate
from gradcheck.report import bench

HOSTILE = "<script>alert(1)</script>\"'\u202e"


def measurement(
    formula: str,
    implementation: str,
    size: int,
    seconds: float,
    direction: str = FORWARD,
    ulp: float = math.nan,
) -> Measurement:
    found = estimate([seconds * (1 + k / 100) for k in range(9)])
    ratio = NOTHING if implementation == NUMPY else Estimate(0.5, 0.4, 0.6, 0.96)
    return Measurement(
        Task(formula, "float32", size, direction), Lane(implementation), size, found, ratio, 9, 1, 8 * size,
        size * 1e-9, peak=4 * size, ulp=ulp, verdict="accurate" if ulp == ulp else "not measured",
    )  # fmt: skip


def whole() -> BenchDocument:
    found = tuple(
        measurement(formula, implementation, size, size * 1e-8 * (k + 1), direction, ulp)
        for k, (implementation, ulp) in enumerate([(NUMPY, 0.0), (TORCH, 1.5)])
        for formula in ("relu", "gelu")
        for size in (1000, 100_000)
        for direction in (FORWARD, BACKWARD)
    )
    slow = replace(measurement("mish", NUMPY, 100_000, 0.5), noisy="the interval is wide")
    changes = (Change("relu[a]", 1.0, 2.0, "slower"), Change("gelu[b]", math.nan, 1.0, "new"))
    return BenchDocument(
        "2026-01-01T00:00:00+00:00", 12.0, "quick", {"numpy": "2.4"}, {"cpu": "one", "cores": "2"},
        arguments=("bench", HOSTILE),
        measurements=(*found, slow),
        not_run=(NotRun(Task("relu", "float32", 1000), Lane("jax.jit", 0), f"jax {HOSTILE}"),),
        bandwidths=tuple(Bandwidth("cpu", 1, 1 << k, estimate([1e-6] * 7)) for k in (12, 14, 16)),
        checks=(
            CheckCost("tanh", 16, "gradcheck.check", estimate([0.1] * 7), estimate([1.0] * 7), 1 << 20),
            CheckCost("tanh", 64, "gradcheck.check", estimate([0.2] * 7), estimate([1.0] * 7), 1 << 20),
            CheckCost("tanh", 16, "jax check_grads", failed="jax is not installed"),
        ),
        rates=(ArithmeticRate("ball", "tanh", 100, estimate([1e-3] * 7)),),
        warnings=(f"busy {HOSTILE}",),
        accuracy_of="reports/run.sqlite",
        comparison=Comparison("before", "x.json", changes, ("cpu: a then, b now",)),
    )  # fmt: skip


class Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: list[str] = []
        self.ids: list[str] = []
        self.hrefs: list[str] = []
        self.words: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        given = dict(attrs)
        self.ids += [given["id"]] if given.get("id") else []
        self.hrefs += [given["href"]] if tag == "a" and given.get("href") else []
        if tag not in {"meta", "br"}:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)


@pytest.fixture(scope="module")
def page() -> tuple[str, Reader]:
    text = bench.render(whole(), main=True)
    reader = Reader()
    reader.feed(text)
    return text, reader


def test_the_page_is_whole_and_runs_nothing(page: tuple[str, Reader]) -> None:
    text, reader = page
    assert not reader.open
    assert "script" not in reader.tags
    assert not re.search(r'(?:src|href)="(?:https?:)?//', text)
    assert "<script>" not in text
    assert "\u202e" not in text
    assert len(reader.ids) == len(set(reader.ids))


def test_the_policy_allows_its_own_style_alone(page: tuple[str, Reader]) -> None:
    text, _ = page
    style = text[text.index("<style>") + 7 : text.index("</style>")]
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert f"default-src 'none'; style-src 'sha256-{digest}'" in text


def test_every_link_inside_leads_somewhere(page: tuple[str, Reader]) -> None:
    _, reader = page
    assert "index.html" in reader.hrefs
    assert {href[1:] for href in reader.hrefs if href.startswith("#")} <= set(reader.ids)


def test_colours_are_left_to_the_style_sheet(page: tuple[str, Reader]) -> None:
    text, _ = page
    style = text[text.index("<style>") : text.index("</style>")]
    used = set(re.findall(r'(?:fill|stroke)="(#[0-9a-f]{6})"', text[text.index("</style>") :]))
    assert used
    assert all(f'"{colour}"]' in style for colour in used)


@pytest.mark.parametrize(
    "said",
    [
        "17 times of 3 formulas, 1 noisy, 1 lane not run, 1 slower and 0 faster than before",
        "compared across machines, by force: cpu: a then, b now", "the interval is wide", "0.5 (0.4 to 0.6)",
        "limit: the least traffic", "jax is not installed", "Elements judged a second", "reports/run.sqlite",
    ],
)  # fmt: skip
def test_what_was_measured_is_said(page: tuple[str, Reader], said: str) -> None:
    _, reader = page
    assert said in " ".join("".join(reader.words).split())


def test_the_farthest_from_the_limit_comes_first() -> None:
    chapters = bench.model(whole()).chapters
    (table,) = [t for c in chapters for t in c.tables if t.caption == "forward, float32"]
    place = table.heads.index("of the limit")
    shares = [float(row[place].replace("<", "").rstrip("\u00a0%")) for row in table.rows]
    assert shares == sorted(shares)
    assert table.rows[0][0] == "mish"


def test_the_chapters_answer_the_questions_in_turn() -> None:
    titles = [chapter.title for chapter in bench.model(whole()).chapters]
    assert titles == [
        "What changed since before", "Time against size", "Speed against accuracy", "Distance from the limit",
        "The limit of the machine", "What a verdict costs", "Not run",
    ]  # fmt: skip


def test_without_a_verification_the_page_says_that_accuracy_is_not_measured() -> None:
    text = bench.render(replace(whole(), accuracy_of=""))
    assert "Accuracy is not measured" in text


def test_a_run_without_anything_has_a_page() -> None:
    empty = BenchDocument("2026-01-01T00:00:00+00:00", 0.0, "quick", {}, {})
    assert "0 times of 0 formulas" in bench.render(empty)


def test_page_and_numbers_are_written_side_by_side(tmp_path: Path) -> None:
    path = bench.write(whole(), tmp_path)
    assert path == tmp_path / "bench.html"
    assert BenchDocument.from_json((tmp_path / "bench.json").read_bytes()).warnings == whole().warnings


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(2.5, "2.5 s"), (0.0025, "2.5 ms"), (2.5e-6, "2.5 µs"), (2.5e-10, "0.25 ns"), (math.nan, "–")],
)
def test_times_are_in_a_unit_of_their_size(seconds: float, said: str) -> None:
    assert bench.spread(estimate([seconds] * 7)).startswith(said)


def test_labels_of_a_logarithmic_axis_keep_their_digits() -> None:
    text = bench.render(whole())
    assert ">0.001<" in text
    assert ">0.00<" not in text
