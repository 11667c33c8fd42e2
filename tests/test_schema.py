"""The JSON Schema of evidence.json accepts what runs write and rejects what they must not."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from gradcheck import document
from gradcheck.evidence import schema, to_json
from tests.runs import full

Json = dict[str, Any]
VALIDATOR = Draft202012Validator(schema())
PUBLISHED = {
    "run": document.RunInfo,
    "check": document.CheckRecord,
    "finding": document.FindingRecord,
    "claim": document.ClaimRecord,
    "unrecorded": document.NotRunRecord,
    "number": document.Number,
}
# The example that the interface promises; other people's readers are written against it.
PROMISED: Json = {
    "schema_version": 1,
    "run": {
        "started": "2026-01-01T00:00:00Z",
        "profile": "ci",
        "seed": 0,
        "versions": {"torch": "2.13.0"},
        "machine": {"isa": "avx512"},
        "planned": 4120,
        "recorded": 4090,
        "not_run": 30,
    },
    "checks": [
        {
            "id": "gelu/torch-cpu/float32/value",
            "formula": "gelu",
            "subject": "torch-cpu",
            "format": "float32",
            "check": "value",
            "verdict": "unstable",
            "compared": 65536,
            "label": "largest found",
            "ulp": 12.5,
            "resolution": 3.1e-7,
            "input": {"value": "-5.5", "hex": "-0x1.6p+2"},
            "families": {"plain": 20000},
        }
    ],
    "findings": [
        {
            "id": "F-3fa9c1",
            "code": "VALUE-WRONG",
            "verdict": "wrong",
            "check": "gelu/torch-cpu/float32/value",
            "input": {"value": "inf", "hex": "inf"},
            "expected": {"value": "inf", "hex": "inf"},
            "got": {"value": "nan", "hex": "nan"},
            "ulp": "inf",
            "bound": "0",
            "message": "one sentence",
            "known": False,
            "reproduction": "import torch; ...",
        }
    ],
    "claims": [
        {
            "id": "F09",
            "verdict": "refuted",
            "compared": 3000,
            "resolution": 1e-16,
            "counterexample": {"x": "-1.0", "alpha": "0.5"},
            "equals": "relu",
        }
    ],
}


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Json:
    with full(tmp_path_factory.mktemp("run") / "run.sqlite") as store:
        loaded: Json = json.loads(to_json(store.document()), parse_constant=_no_constant)
    return loaded


def _no_constant(name: str) -> float:
    raise AssertionError(f"{name} is not JSON")


def test_the_schema_is_itself_valid() -> None:
    Draft202012Validator.check_schema(schema())


def test_every_object_of_the_schema_is_closed() -> None:
    def visit(node: Any, place: str) -> None:
        if isinstance(node, dict):
            if node.get("type") == "object":
                assert "additionalProperties" in node, place
            for key, value in node.items():
                visit(value, f"{place}/{key}")

    visit(schema(), "#")


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_schema_knows_exactly_the_published_fields(name: str) -> None:
    fields = {field.name for field in msgspec.structs.fields(PUBLISHED[name])}
    assert set(schema()["$defs"][name]["properties"]) == fields


def test_the_schema_knows_exactly_the_parts_of_a_document() -> None:
    assert set(schema()["properties"]) == {field.name for field in msgspec.structs.fields(document.Document)}


def test_a_run_with_every_kind_of_record_fits(written: Json) -> None:
    assert [error.message for error in VALIDATOR.iter_errors(written)] == []
    gelu = next(check for check in written["checks"] if check["formula"] == "gelu")
    assert (gelu["ulp"], gelu["resolution"], gelu["error"]) == ("inf", "nan", "nan")
    assert gelu["expected"] == {"value": "-0.0", "hex": "-0x0.0p+0"}


def test_the_promised_example_fits() -> None:
    assert [error.message for error in VALIDATOR.iter_errors(PROMISED)] == []


@given(st.floats())
def test_every_float_fits_as_a_number(value: float) -> None:
    numbers = Draft202012Validator({"$defs": schema()["$defs"], "$ref": "#/$defs/number"})
    shown = document.number(value)
    assert numbers.is_valid({"value": shown.value, "hex": shown.hex})
    floats = Draft202012Validator({"$defs": schema()["$defs"], "$ref": "#/$defs/float"})
    assert floats.is_valid(document.json_float(value))


def drop(*path: Any) -> Callable[[Json], None]:
    def change(data: Any) -> None:
        for key in path[:-1]:
            data = data[key]
        del data[path[-1]]

    return change


def put(value: Any, *path: Any) -> Callable[[Json], None]:
    def change(data: Any) -> None:
        for key in path[:-1]:
            data = data[key]
        data[path[-1]] = value

    return change


@pytest.mark.parametrize(
    "damage",
    [
        drop("run"),
        drop("checks"),
        drop("run", "planned"),
        drop("checks", 0, "verdict"),
        drop("findings", 0, "message"),
        drop("claims", 0, "verdict"),
        drop("not_run", 0, "reason"),
        put(2, "schema_version"),
        put(2, "exit_code"),
        put("x", "surprise"),
        put("x", "run", "surprise"),
        put("x", "checks", 0, "surprise"),
        put("x", "findings", 0, "surprise"),
        put("x", "claims", 0, "surprise"),
        put(-1, "run", "recorded"),
        put(2.13, "run", "versions", "torch"),
        put("great", "checks", 0, "verdict"),
        put("not run", "checks", 0, "verdict"),
        put("guessed", "checks", 0, "label"),
        put("infinity", "checks", 0, "ulp"),
        put(-1.0, "checks", 0, "ulp"),
        put(None, "checks", 0, "resolution"),
        put("gelu", "checks", 0, "id"),
        put("many", "checks", 0, "compared"),
        put(1.5, "checks", 0, "compared"),
        put({"nan": -1}, "checks", 0, "breaches"),
        put(["-5.5"], "checks", 0, "inputs"),
        put("accurate", "findings", 0, "verdict"),
        put("F-1", "findings", 0, "id"),
        put("value wrong", "findings", 0, "code"),
        put({"value": "0.1", "hex": "0.1"}, "findings", 0, "got"),
        put({"value": "NaN", "hex": "nan"}, "findings", 0, "got"),
        put({"value": "nan"}, "findings", 0, "got"),
        put(1.0, "findings", 0, "got"),
        put(True, "findings", 0, "known"),
        put("accepted", "findings", 0, "reason"),
        put("true", "claims", 0, "verdict"),
        put(-1.0, "claims", 0, "counterexample", "x"),
        put("", "not_run", 0, "reason"),
        put([1.0], "artifacts", "step"),
    ],
)
def test_a_broken_document_is_rejected(written: Json, damage: Callable[[Json], None]) -> None:
    broken = copy.deepcopy(written)
    damage(broken)
    assert not VALIDATOR.is_valid(broken)
