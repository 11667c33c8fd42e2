"""A document of gradient flow survives its JSON, judges rows by their errors, refuses what it cannot show."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gradcheck.errors import UsageError
from gradcheck.flow.document import (
    BEYOND,
    NOT_JUDGED,
    WITHIN,
    Chapter,
    Chart,
    Claim,
    FlowDocument,
    Number,
    Series,
    Table,
    count_rows,
    judged,
)

numbers = st.floats(allow_nan=False)


def document(*chapters: Chapter) -> FlowDocument:
    return FlowDocument("2026-01-01T00:00:00Z", 1.5, {"numpy": "2"}, {"cpu": "x"}, chapters)


def whole() -> Chapter:
    rows = (judged("a", 1.0, 0.1, 1.2, seeds=8, source="s"), judged("b", 9.0, 0.1, 1.0, seeds=8, source="s"))
    line = Chart("c", "line", "x", "y", (Series("s", (0.0, 1.0), (math.inf, -1.0), (0.0, -2.0), (1.0, 0.0)),))
    heat = Chart("h", "heat", "x", "y", xs=(0.0, 1.0), ys=(0.0,), values=((1.0, -math.inf),), centre=0.0)
    claim = Claim("C01", "text", "refuted", (Number("rate", -1.0, 0.1, 8),), "because")
    return Chapter("id", "title", ("p",), rows, (line, heat), (claim,), 0.5, (Table("t", ("h",), (("c",),)),))


def test_a_document_comes_back_from_its_json() -> None:
    made = document(whole())
    assert repr(FlowDocument.from_json(made.to_json())) == repr(made)


@given(measured=numbers, error=numbers, exact=numbers)
def test_any_numbers_come_back_to_the_last_bit(measured: float, error: float, exact: float) -> None:
    row = judged("a", measured, abs(error), exact, seeds=1, source="s", judge=False)
    (back,) = FlowDocument.from_json(document(Chapter("i", "t", rows=(row,))).to_json()).chapters[0].rows
    assert (back.measured, back.standard_error, back.exact) == (measured, abs(error), exact)
    assert math.isnan(back.z)


def test_the_json_states_the_counts_and_what_json_cannot_carry_as_text() -> None:
    data = json.loads(document(whole()).to_json())
    assert data["counts"]["rows"] == 2
    assert data["counts"]["misses"] == 1
    assert data["chapters"][0]["charts"][0]["series"][0]["y"] == ["inf", -1.0]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        '{"schema_version": 99}',
        '{"schema_version": 1}',
        '{"schema_version": 1, "chapters": 3}',
    ],
)
def test_any_other_text_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        FlowDocument.from_json(text)


@given(
    away=st.floats(-10, 10),
    error=st.floats(1e-6, 1e3),
    exact=st.floats(-1e3, 1e3),
    bound=st.sampled_from([0.0, 1e-3]),
)
def test_a_row_is_beyond_if_and_only_if_four_errors_and_the_bound_do_not_reach(
    away: float, error: float, exact: float, bound: float
) -> None:
    row = judged("a", exact + away * error, error, exact, bound, seeds=9, source="s")
    distance = max(abs(row.measured - exact) - bound, 0.0) / error
    assert row.verdict == (WITHIN if distance <= 4 else BEYOND)
    assert abs(row.z) == distance


@pytest.mark.parametrize(
    ("measured", "error"), [(math.nan, 0.1), (1.0, math.nan), (math.inf, 0.1), (1.0001, 0.0)]
)
def test_what_is_no_number_or_differs_without_any_error_is_beyond(measured: float, error: float) -> None:
    assert judged("a", measured, error, 1.0, seeds=9, source="s").verdict == BEYOND


def test_an_exact_number_without_any_error_is_within() -> None:
    assert judged("a", 1.0, 0.0, 1.0, seeds=9, source="s").verdict == WITHIN


def test_rows_that_are_not_judged_do_not_count() -> None:
    row = judged("a", 1.0, 0.1, 9.0, seeds=1, source="s", judge=False)
    assert row.verdict == NOT_JUDGED
    assert count_rows([row]).rows == 0
    assert count_rows([row]).chance == 0


def test_the_chance_of_a_miss_is_that_of_normal_numbers() -> None:
    row = judged("a", 1.0, 0.1, 1.0, seeds=1, source="s")
    assert count_rows([row]).chance == pytest.approx(6.334e-5, rel=1e-3)
    assert count_rows([row] * 1000).chance == pytest.approx(1 - (1 - 6.3342484e-5) ** 1000, rel=1e-7)


def test_what_is_no_normal_number_is_judged_and_left_out_of_the_chance() -> None:
    normal = judged("a", 1.0, 0.1, 1.0, seeds=1, source="s")
    bound = judged("b", 2.0, 0.0, 1.0, seeds=1, source="s", normal=False)
    share = judged("c", 0.0, 0.0, 0.0, seeds=1, source="s", normal=False)
    counts = count_rows([normal, bound, share])
    assert (counts.rows, counts.misses, counts.normal) == (3, 1, 1)
    assert counts.chance == count_rows([normal]).chance
    assert count_rows([bound, share]).chance == 0
    made = document(Chapter("i", "t", rows=(normal, bound)))
    assert FlowDocument.from_json(made.to_json()).counts == made.counts


def test_shapes_that_do_not_fit_are_refused_with_what_came() -> None:
    with pytest.raises(UsageError, match="one length"):
        Series("s", (1.0,), (1.0, 2.0))
    with pytest.raises(UsageError, match="one length"):
        Series("s", (1.0,), (1.0,), (1.0,))
    with pytest.raises(UsageError, match="2 rows of 1"):
        Chart("h", "heat", "x", "y", xs=(0.0,), ys=(0.0, 1.0), values=((1.0,),))
    with pytest.raises(UsageError, match="did you mean 'line'"):
        Chart("h", "lines", "x", "y")
    with pytest.raises(UsageError, match="cells"):
        Table("t", ("a", "b"), (("x",),))
    with pytest.raises(UsageError, match="supported"):
        Claim("C01", "t", "suported", (), "s")
