"""The registry of codes is closed, complete, and reachable from every check."""

from __future__ import annotations

import re

import pytest

from gradcheck.errors import UsageError
from gradcheck.explain import BLACK_BOX, CODES, OPTIMIZER_CHECKS, Explanation, code_for, explain
from gradcheck.records import Verdict
from gradcheck.runner import plan

CHECKS = (*plan.CHECKS, *BLACK_BOX, *OPTIMIZER_CHECKS)
BREACHES = (
    "nan",
    "infinity",
    "zero sign",
    "shape",
    "format",
    "mutation",
    "raised",
    "crashed",
    "missing",
    "flushed",
    "state",
    "reused",
)
FINDINGS = (Verdict.UNSTABLE, Verdict.WRONG, Verdict.INCONSISTENT)
NAMES = {explanation.code for explanation in CODES}


def test_no_code_is_explained_twice() -> None:
    assert len(NAMES) == len(CODES)


@pytest.mark.parametrize("explanation", CODES, ids=lambda explanation: explanation.code)
def test_every_code_is_explained_in_full_sentences(explanation: Explanation) -> None:
    assert re.fullmatch(r"[A-Z]+(-[A-Z]+)+", explanation.code)
    assert explanation.summary.endswith(".") and explanation.summary.count(". ") == 0
    for part in (explanation.meaning, explanation.reached, explanation.action):
        assert part.endswith(".") and len(part) > 40
        assert "  " not in part
    for part in (explanation.summary, explanation.meaning, explanation.reached, explanation.action):
        assert part in str(explain(explanation.code))


@pytest.mark.parametrize("check", CHECKS)
@pytest.mark.parametrize("verdict", FINDINGS)
@pytest.mark.parametrize("kind", [*BREACHES, "a kind that nobody has heard of"])
def test_every_finding_has_a_code_that_is_explained(check: str, verdict: Verdict, kind: str) -> None:
    assert code_for(check, verdict, {kind: 1}) in NAMES
    assert code_for(check, verdict, {}) in NAMES


def test_every_code_is_reached_by_some_finding() -> None:
    reached = {code_for(check, verdict, {}) for check in CHECKS for verdict in FINDINGS}
    reached |= {code_for("value", Verdict.WRONG, {kind: 1}) for kind in BREACHES}
    assert reached == NAMES


@pytest.mark.parametrize(
    ("check", "verdict", "breaches", "code"),
    [
        ("value", Verdict.WRONG, {}, "VALUE-WRONG"),
        ("value", Verdict.WRONG, {"nan": 3}, "VALUE-WRONG"),
        ("special", Verdict.WRONG, {"zero sign": 1}, "SPECIAL-WRONG"),
        ("derivative", Verdict.UNSTABLE, {}, "DERIVATIVE-UNSTABLE"),
        ("second", Verdict.UNSTABLE, {"nan": 0}, "SECOND-UNSTABLE"),
        ("witness", Verdict.INCONSISTENT, {}, "WITNESS-WRONG"),
        ("layout", Verdict.WRONG, {"shape": 1}, "SHAPE-WRONG"),
        ("layout", Verdict.WRONG, {"shape": 1, "mutation": 1}, "INPUT-MUTATED"),
        ("layout", Verdict.WRONG, {"shape": 0, "format": 2}, "FORMAT-WRONG"),
        ("module", Verdict.WRONG, {"raised": 1, "nan": 5, "format": 1}, "SUBJECT-RAISED"),
        ("derivative", Verdict.WRONG, {"missing": 1}, "GRADIENT-MISSING"),
        ("value", Verdict.WRONG, {"flushed": 4}, "FLUSHED-SUBNORMALS"),
        ("value", Verdict.WRONG, {"flushed": 4, "infinity": 1}, "VALUE-WRONG"),
    ],
)
def test_the_most_fundamental_fault_names_the_finding(
    check: str, verdict: Verdict, breaches: dict[str, int], code: str
) -> None:
    assert code_for(check, verdict, breaches) == code


@pytest.mark.parametrize("verdict", [verdict for verdict in Verdict if verdict not in FINDINGS])
def test_what_is_no_finding_has_no_code(verdict: Verdict) -> None:
    with pytest.raises(UsageError, match=f"verdict='{verdict.value}' is not a finding"):
        code_for("value", verdict, {})


def test_an_unknown_check_is_answered_with_the_closest() -> None:
    with pytest.raises(UsageError, match="unknown check 'vlue': did you mean 'value'"):
        code_for("vlue", Verdict.WRONG, {})


@pytest.mark.parametrize("name", ["VALUE-WRNG", "value-wrng", ""])
def test_an_unknown_code_is_a_usage_error(name: str) -> None:
    with pytest.raises(UsageError, match="unknown code"):
        explain(name)


def test_codes_are_found_in_any_case_and_close_ones_are_offered() -> None:
    assert explain(" value-wrong ").code == "VALUE-WRONG"
    with pytest.raises(UsageError, match=r"did you mean .*'VALUE-WRONG'"):
        explain("VALUE-WRNG")
