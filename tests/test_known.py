"""The known list: read strictly, matched by id, cell and version, and unable to rot."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gradcheck.document import FindingRecord, Number
from gradcheck.errors import UsageError
from gradcheck.known import LARGEST_FILE, KnownEntry, KnownList, known_entry_text, subject_version

CELL = "gelu/torch-cpu/float32/value"
TORCH = {"torch": "2.13.0+cpu", "scipy": "1.17.1"}
GOOD = f"""
# reviewed
[[known]]
id = "F-3fa9c1"
check = "{CELL}"
subject = "torch-cpu"
versions = ">=2.13,<2.14"
reason = "the vector path loses digits below -5"
"""


def load(folder: Path, text: str) -> KnownList:
    path = folder / "known.toml"
    path.write_text(text, encoding="utf-8")
    return KnownList.load(path)


def finding(message: str = "off by one", check: str = CELL) -> FindingRecord:
    nothing = Number("", "")
    return FindingRecord(
        id="F-3fa9c1",
        code="VALUE-WRONG",
        verdict="wrong",
        check=check,
        input=nothing,
        expected=nothing,
        got=nothing,
        ulp=0.0,
        bound=0.0,
        message=message,
        known=False,
        reproduction="",
    )


def test_an_entry_is_read_with_its_place(tmp_path: Path) -> None:
    (entry,) = load(tmp_path, GOOD).entries
    assert (entry.id, entry.check, entry.subject) == ("F-3fa9c1", CELL, "torch-cpu")
    assert entry.place == f"{tmp_path / 'known.toml'}, line 3"
    assert "the vector path" in str(entry) and "line 3" in str(entry)


@pytest.mark.parametrize("text", ["", "# nothing is accepted\n", "known = []\n"])
def test_an_empty_list_accepts_nothing(tmp_path: Path, text: str) -> None:
    known = load(tmp_path, text)
    assert known.entries == ()
    assert known.match("F-3fa9c1", CELL, TORCH) is None


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ('reason = "the', 'raeson = "the', "line 3: unknown field 'raeson'"),
        ('versions = ">=2.13,<2.14"', "", "line 3: 'versions' is missing"),
        (">=2.13,<2.14", "2.13", "line 3: expected a version range .* got versions='2.13'"),
        ("F-3fa9c1", "F-3FA9C1", "line 3: expected an id such as 'F-3fa9c1', got id='F-3FA9C1'"),
        (CELL, "gelu/float32/value", "expected formula/subject/format/check"),
        (
            'subject = "torch-cpu"',
            'subject = "numpy"',
            "subject='numpy' is not the subject .* write 'torch-cpu'",
        ),
        ("the vector path loses digits below -5", "  ", "line 3: the reason is empty"),
        ('reason = "the vector path loses digits below -5"', "reason = 5", "expected text for reason, got 5"),
        ("[[known]]", "[[knwon]]", r"expected \[\[known\]\] entries only, got 'knwon'"),
        ("[[known]]", "[known]", r"expected \[\[known\]\] entries only"),
        ("[[known]]", "known = [1]\n[other]", "expected .* entries only, got 'other'"),
        ('id = "F-3fa9c1"', "id = F-3fa9c1", r"not valid TOML: .*line 4"),
        ("# reviewed", "known = [1]\n#", "not valid TOML"),
    ],
)
def test_a_faulty_list_is_refused_with_its_place(tmp_path: Path, old: str, new: str, complaint: str) -> None:
    assert old in GOOD
    with pytest.raises(UsageError, match=complaint) as refused:
        load(tmp_path, GOOD.replace(old, new))
    assert str(tmp_path / "known.toml") in str(refused.value)


def test_an_entry_that_is_no_table_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="entry 2: expected a table"):
        load(tmp_path, 'known = [{id="F-000000", check="a/b/c/d", subject="b", versions="", reason="r"}, 7]')


def test_the_same_entry_twice_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"line 10: F-3fa9c1 is already listed at .*line 3"):
        load(tmp_path, GOOD + GOOD.lstrip())


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"\xff\xfe", r"not UTF-8 text \(byte 0\)"),
        (b"a = " + b"[" * 100_000, "not valid TOML"),
        (b"#" * (LARGEST_FILE + 1), "at most"),
        (b"\0", "not valid TOML"),
    ],
)
def test_a_hostile_file_is_a_usage_error(tmp_path: Path, content: bytes, complaint: str) -> None:
    path = tmp_path / "known.toml"
    path.write_bytes(content)
    with pytest.raises(UsageError, match=complaint):
        KnownList.load(path)


@pytest.mark.parametrize("name", ["absent.toml", ".", "x" * 5000, "a\0b"])
def test_a_list_that_cannot_be_read_is_a_usage_error(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match="the known list cannot be read"):
        KnownList.load(tmp_path / name)


def test_a_finding_is_known_by_id_cell_and_version(tmp_path: Path) -> None:
    known = load(tmp_path, GOOD)
    assert known.match("F-3fa9c1", CELL, TORCH) is known.entries[0]
    assert known.match("F-3fa9c2", CELL, TORCH) is None
    assert known.match("F-3fa9c1", CELL.replace("gelu", "silu"), TORCH) is None
    assert known.match("F-3fa9c1", CELL, {"torch": "2.14.0"}) is None
    assert known.match("F-3fa9c1", CELL, {}) is None


@pytest.mark.parametrize(
    ("versions", "present", "applies"),
    [
        (">=2.13,<2.14", "2.13.0", True),
        (">=2.13,<2.14", "2.13.1+cu130", True),
        (">=2.13,<2.14", "2.14.0.dev20260101", False),
        (">=2.13", "2.14.0.dev20260101", True),
        ("==2.13.*", "2.13.5", True),
        ("", "2.13.0", True),
        ("", "", True),
        (">=2.13", "", False),
        (">=2.13", "built from source", False),
    ],
)
def test_a_version_range_holds_what_it_says(versions: str, present: str, applies: bool) -> None:
    entry = KnownEntry("F-3fa9c1", CELL, "torch-cpu", versions, "reason")
    assert entry.applies({"torch": present}) is applies


@pytest.mark.parametrize(
    ("subject", "version"),
    [("torch-cpu", "2.13.0+cpu"), ("torch-cuda", "2.13.0+cpu"), ("scipy", "1.17.1"), ("article", "")],
)
def test_the_version_of_a_subject_is_that_of_its_library(subject: str, version: str) -> None:
    assert subject_version(TORCH, subject) == version


def test_an_entry_whose_finding_has_gone_is_stale(tmp_path: Path) -> None:
    known = load(tmp_path, GOOD)
    assert known.stale(found=set(), decided={CELL}, versions=TORCH) == known.entries


@pytest.mark.parametrize(
    ("found", "decided", "versions"),
    [
        ({"F-3fa9c1"}, {CELL}, TORCH),
        (set(), {"silu/torch-cpu/float32/value"}, TORCH),
        (set(), set(), TORCH),
        (set(), {CELL}, {"torch": "2.14.0"}),
    ],
    ids=["still found", "another cell", "nothing decided", "another version"],
)
def test_an_entry_that_this_run_cannot_judge_is_not_stale(
    tmp_path: Path, found: set[str], decided: set[str], versions: dict[str, str]
) -> None:
    assert load(tmp_path, GOOD).stale(found, decided, versions) == ()


@pytest.mark.parametrize(
    ("processor", "features", "applies"),
    [
        ("", "", True),
        ("avx512fp16", "avx2 avx512f avx512fp16", True),
        ("avx512fp16", "avx2 avx512f", False),
        ("avx512fp16", "", False),
        ("!avx512f", "avx2", True),
        ("!avx512f", "", True),
        ("!avx512f", "avx2 avx512f", False),
        ("avx512f !amxbf16", "avx2 avx512f", True),
        ("avx512f !amxbf16", "avx2 avx512f amxbf16", False),
    ],
)
def test_an_entry_is_about_the_processors_it_names(
    tmp_path: Path, processor: str, features: str, applies: bool
) -> None:
    known = load(tmp_path, GOOD + f'processor = "{processor}"\n')
    assert (known.match("F-3fa9c1", CELL, TORCH, features) is not None) is applies
    assert bool(known.stale(set(), {CELL}, TORCH, features)) is applies


@pytest.mark.parametrize("processor", ["AVX2", "avx-512", "!!avx2"])
def test_an_odd_processor_is_refused(tmp_path: Path, processor: str) -> None:
    with pytest.raises(UsageError, match=r"expected processor features such as"):
        load(tmp_path, GOOD + f'processor = "{processor}"\n')


def test_a_template_accepts_its_finding_once_a_reason_is_written(tmp_path: Path) -> None:
    text = known_entry_text(finding(), TORCH)
    with pytest.raises(UsageError, match="the reason is empty"):
        load(tmp_path, text)
    known = load(tmp_path, text.replace('reason = ""', 'reason = "seen, harmless"'))
    entry = known.match("F-3fa9c1", CELL, TORCH)
    assert entry is not None
    assert entry.versions == ">=2.13,<2.14"


def test_a_template_without_a_version_holds_for_any() -> None:
    assert 'versions = ""' in known_entry_text(finding())


@given(st.text(), st.text(st.characters(codec="utf-8", exclude_characters="/")))
def test_a_template_is_valid_toml_whatever_the_finding_says(message: str, formula: str) -> None:
    check = f"{formula}/torch-cpu/float32/value"
    (entry,) = tomllib.loads(known_entry_text(finding(message, check), TORCH))["known"]
    assert entry["check"] == check
    assert entry["subject"] == "torch-cpu"


def test_a_template_writes_out_what_utf8_cannot_carry() -> None:
    text = known_entry_text(finding("\ud800", "g\ud800/torch-cpu/float32/value"))
    assert tomllib.loads(text)["known"][0]["check"] == "g\\ud800/torch-cpu/float32/value"
