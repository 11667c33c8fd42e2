"""Text that comes from outside is printed and does nothing; files are replaced whole or not at all."""

from __future__ import annotations

import html
import os
import re
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from gradcheck.document import Document
from gradcheck.errors import StorageError
from gradcheck.report import render, write
from gradcheck.report.text import anchor, clean

Make = Callable[..., Document]


@pytest.fixture(scope="module")
def page(make: Make) -> str:
    return render(make(formulas=1, hostile=True))


def test_markup_is_printed_as_text(page: str) -> None:
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert not re.search(r"<script|<img|<b>x", page, re.IGNORECASE)
    assert "</style></pre>" not in page
    assert "{{ 7*7 }}" in html.unescape(page)


def test_invisible_and_unencodable_characters_are_spelled_out(page: str) -> None:
    assert not re.search(
        "[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]", page
    )
    for spelled in (r"a\u202egnp.exe", r"nul\u0000byte", r"\u001b[31mred", r"lone\ud800surrogate"):
        assert spelled in page
    page.encode("utf-8")


def test_ten_million_characters_are_cut_with_a_count(page: str) -> None:
    assert len(page) < 2_000_000
    assert re.search(r"x … \(9,99\d,\d{3} more characters\)", page)


@pytest.mark.parametrize("text", ["", "plain", "ε ≤ 2⁻⁵³", "a\tb\nc", "漢字 שלום"])
def test_ordinary_text_is_unchanged(text: str) -> None:
    assert clean(text) == text


def test_anchors_are_safe_for_any_name_and_differ() -> None:
    names = ["a/b", "a b", "\ud800", "<x>", "", "ä"]
    found = {anchor("cell", text) for text in names}
    assert len(found) == len(names)
    assert all(re.fullmatch(r"cell-[0-9a-f]{10}", text) for text in found)
    assert anchor("cell", "a", "bc") != anchor("cell", "ab", "c")


@pytest.mark.parametrize(
    "artifacts",
    [
        {"step": {"gelu": None, "silu": {"series": {"central": [["x", 1, 2], [0, 1, 2], [], None]}}}},
        {"step": {"gelu": {"series": {"central": [[0.1, "nan", "inf"], ["inf", 1, 1], [0.01, 0.0, 0.0]]}}}},
        {"step": {"gelu": {"x": "</svg><script>", "exact": 3, "series": {"'\"><script>": [[0.1, 1e-3]]}}}},
        {"ulp_profile": {"no slashes": {"x": [1], "ulp": ["nan"]}, "a/b/c/d": {"x": ["nan"], "ulp": [1]}}},
        {"ulp_profile": {"a/b/c/d": {"x": [0.0, -1e-9, 3e38], "ulp": ["inf", "nan", 0.0]}}},
        {
            "special": {"cell": [None, {"at": "<script>"}], "other": "text"},
            "rates": {"correct": 3, "x": {"y": "z"}},
        },
        {
            "rates": {
                "correct": {"calls": 10, "alarms": 0, "upper": "nan", "groups": {"<script>": {"calls": 1}}},
                "liars": {"calls": 1, "caught": 1, "called wrong": "<script>", "groups": [1]},
            },
            "special": {"a": []},
            "unheard of": {},
        },
    ],
)
def test_artifacts_of_any_shape_do_no_harm(make: Make, artifacts: dict[str, dict[str, object]]) -> None:
    page = render(msgspec.structs.replace(make(formulas=1), artifacts=artifacts))
    assert "<script" not in page
    assert page.endswith("</html>")


def test_writing_creates_the_folder_and_leaves_one_file(make: Make, tmp_path: Path) -> None:
    run = make(formulas=1)
    target = write(run, tmp_path / "a" / "b")
    assert target == tmp_path / "a" / "b" / "index.html"
    assert target.read_text(encoding="utf-8") == render(run)
    assert os.listdir(target.parent) == ["index.html"]


def test_a_folder_that_is_a_file_is_refused(make: Make, tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("mine")
    with pytest.raises(StorageError, match=r"taken.index\.html"):
        write(make(formulas=0), tmp_path / "taken")
    assert (tmp_path / "taken").read_text() == "mine"


def test_a_failing_write_leaves_the_old_report(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = write(make(formulas=0), tmp_path)
    before = target.read_bytes()

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageError, match="No space left"):
        write(make(formulas=1), tmp_path)
    assert target.read_bytes() == before
    assert os.listdir(tmp_path) == ["index.html"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes to read-only folders")
def test_a_read_only_folder_is_refused(make: Make, tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(StorageError, match="Permission denied"):
        write(make(formulas=0), tmp_path)
