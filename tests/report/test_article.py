"""The article's chapter: rows in the article's order, each with its claims, references and picture."""

from __future__ import annotations

import msgspec
import pytest

from gradcheck.article.pictures import PICTURES
from gradcheck.article.rows import ROWS
from gradcheck.document import CheckRecord, ClaimRecord, Document, RunInfo
from gradcheck.report.article import chapter, illustration
from gradcheck.runner.describe import describe


def document(names, claims=(), checks=(), pictures=None):
    formulas, rows = describe(names)
    artifacts = msgspec.json.decode(
        msgspec.json.encode({"formula": formulas, "row": rows, "picture": pictures or {}}), type=dict
    )
    run = RunInfo("2026-01-01T00:00:00Z", "ci", 0, {}, {})
    return Document(1, run, list(checks), [], list(claims), artifacts=artifacts)


def claim(id, verdict="upheld"):
    return ClaimRecord(id, f"says {id}", verdict, 10, 0.0)


def check(formula, subject, verdict):
    return CheckRecord(f"{formula}/{subject}/float64/value", formula, subject, "float64", "value", verdict, 5,
                       "", 0.0, 0.0)  # fmt: skip


def test_claims_join_their_row_and_others_stand_apart():
    found = chapter(document({"sigmoid"}, [claim("F08"), claim("F08.limits"), claim("X1")]))
    (row,) = [section for section in found.sections if section.id == "F08"]
    assert [entry.id for entry in row.claims] == ["F08", "F08.limits"]
    assert [entry.id for entry in found.others] == ["X1"]


def test_rows_keep_the_order_of_the_article():
    found = chapter(document({"sigmoid", "relu", "dense"}, [claim("F08"), claim("F07")]))
    order = [row.id for row in ROWS]
    places = [order.index(section.id) for section in found.sections]
    assert places == sorted(places) and len(places) >= 3


def test_each_implementation_shows_its_worst_verdict():
    checks = [check("relu", "numpy", "accurate"), check("relu", "torch-cpu", "accurate"),
              check("relu", "torch-cpu", "wrong")]  # fmt: skip
    found = chapter(document({"relu"}, checks=checks))
    reference = next(r for section in found.sections for r in section.references if r.formula == "relu")
    assert {entry.subject: entry.mark.slug for entry in reference.judged} == {
        "numpy": "accurate",
        "torch-cpu": "wrong",
    }


def test_the_evidence_of_a_formula_is_shown_once():
    found = chapter(document({"relu"}))
    shown = [section.id for section in found.sections if section.references]
    again = [section.id for section in found.sections if section.mentioned]
    assert len(shown) == 1 and again and not set(shown) & set(again)


@pytest.mark.parametrize("row", PICTURES)
def test_every_picture_can_be_drawn_and_names_its_lines(row):
    picture = PICTURES[row]()
    data = msgspec.json.decode(msgspec.json.encode(picture.record))
    drawn = illustration(data)
    assert drawn is not None
    assert [label for _, label in drawn.key] == [series.label for series in picture.series]
    assert drawn.svg.startswith("<svg") and picture.caption in drawn.alternative


@pytest.mark.parametrize("data", [None, [], {}, {"series": 3}, {"series": [{"label": "a", "points": [[1]]}]}])
def test_a_picture_of_another_shape_is_left_out(data):
    assert illustration(data) is None
