"""Evidence merges by laws, and its verdict follows from its counts alone."""

from __future__ import annotations

import itertools
import math
import subprocess
import sys
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gradcheck.records import Cell, Evidence, Finding, Verdict, Worst

COUNTS = (
    "compared",
    "outside_stable",
    "outside_accepted",
    "outside_unstable",
    "undecided",
    "cases",
    "vacuous_cases",
    "specials",
)
SERIOUSNESS = {Verdict.WRONG: 2, Verdict.UNSTABLE: 1}
BETTER_TO_WORSE = (Verdict.ACCURATE, Verdict.AGREES, Verdict.UNSTABLE, Verdict.WRONG)

FIGURES = (0.0, 1e-300, 0.5, 1.0, math.inf, math.nan)
OUTSIDE = tuple(sorted(triple) for triple in itertools.combinations_with_replacement(range(3), 3))
WORSTS = tuple(
    Worst(input=(x,), got=x, expected=0.0, error=error, bound=bound, ulp=error)
    for x, error, bound in itertools.product((-0.0, math.nan), FIGURES, FIGURES)
)

counts = st.integers(0, 10**6)
figures = st.sampled_from(FIGURES)
tables = st.sampled_from([{}, {}, {"nan": 1}, {"nan": 2, "shape": 1}, {"zero sign": 3}, {"infinity": 0}])


@st.composite
def evidences(draw: st.DrawFn, **fixed: Any) -> Evidence:
    unstable, accepted, stable = draw(st.sampled_from(OUTSIDE))
    cases, vacuous = draw(st.sampled_from([(1, 0), (1, 1), (5, 0), (5, 4)]))
    drawn: dict[str, Any] = {
        "compared": draw(counts),
        "outside_stable": stable,
        "outside_accepted": accepted,
        "outside_unstable": unstable,
        "breaches": draw(tables),
        "undecided": draw(st.integers(0, 2)),
        "cases": cases,
        "vacuous_cases": vacuous,
        "ulp": draw(figures),
        "resolution": draw(figures),
        "worst": draw(st.none() | st.sampled_from(WORSTS)),
        "explained_by": draw(st.sampled_from([(), ("a",), ("a", "b"), ("c",)])),
        "families": draw(tables),
        "binades": draw(tables),
        "specials": draw(st.integers(0, 9)),
        "options": draw(st.sampled_from([{}, {"alpha": "1"}, {"alpha": "2"}])),
    }
    return Evidence(**{**drawn, **fixed})


def severity(evidence: Evidence) -> float:
    return -1.0 if evidence.worst is None else evidence.worst.severity


@given(evidences(), evidences())
def test_merged_counts_do_not_depend_on_the_order(left: Evidence, right: Evidence) -> None:
    one, other = left.merge(right), right.merge(left)
    for name in (*COUNTS, "breaches", "families", "binades", "explained_by"):
        assert getattr(one, name) == getattr(other, name)
    assert one.verdict is other.verdict
    assert severity(one) == severity(other)


@given(evidences(), evidences())
def test_merged_counts_are_sums(left: Evidence, right: Evidence) -> None:
    merged = left.merge(right)
    for name in COUNTS:
        assert getattr(merged, name) == getattr(left, name) + getattr(right, name)
    for name in ("breaches", "families", "binades"):
        total = sum(getattr(left, name).values()) + sum(getattr(right, name).values())
        assert sum(getattr(merged, name).values()) == total


@example(
    Evidence(compared=1, cases=1, breaches={"raised": 1}),
    Evidence(compared=1, cases=1, worst=Worst((0.0,), 1.0, 0.0, error=1.0, bound=1.0, ulp=1.0)),
    Evidence(compared=1, cases=1, outside_unstable=1, worst=Worst((0.0,), 1.0, 0.0, 0.5, 1.0, 1.0)),
)
@given(evidences(), evidences(), evidences())
def test_merging_is_associative(first: Evidence, second: Evidence, third: Evidence) -> None:
    assert repr(first.merge(second).merge(third)) == repr(first.merge(second.merge(third)))


@given(evidences())
def test_the_empty_evidence_changes_no_count_and_no_worst_element(evidence: Evidence) -> None:
    merged = evidence.merge(Evidence())
    assert {name: getattr(merged, name) for name in COUNTS} == {
        name: getattr(evidence, name) for name in COUNTS
    }
    assert repr(merged.worst) == repr(evidence.worst)


@pytest.mark.parametrize("name", ["ulp", "resolution"])
@given(evidences(), evidences(), st.booleans())
def test_nan_is_never_lost(name: str, left: Evidence, right: Evidence, swap: bool) -> None:
    left = replace(left, **{name: math.nan})
    merged = right.merge(left) if swap else left.merge(right)
    assert math.isnan(getattr(merged, name))


@pytest.mark.parametrize("name", ["ulp", "resolution"])
@given(st.lists(st.floats(0, allow_nan=False), min_size=1, max_size=6))
def test_the_largest_figure_survives(name: str, figures: list[float]) -> None:
    merged = Evidence()
    for figure in figures:
        merged = merged.merge(Evidence(**{name: figure}))
    assert getattr(merged, name) == max(figures)


@given(evidences(), evidences())
def test_the_worst_element_belongs_to_the_more_serious_evidence(left: Evidence, right: Evidence) -> None:
    merged = left.merge(right)
    ranks = [(SERIOUSNESS.get(e.verdict, 0), severity(e)) for e in (left, right)]
    assert (SERIOUSNESS.get(merged.verdict, 0), severity(merged)) == max(ranks)


def test_a_call_that_raised_does_not_take_the_element_of_another_case() -> None:
    harmless = Worst(input=(1.0,), got=1.0, expected=1.0, error=0.0, bound=1.0, ulp=0.0)
    raised = Evidence(compared=1, cases=1, breaches={"raised": 1})
    passed = Evidence(compared=1, cases=1, worst=harmless)
    assert raised.merge(passed).worst is None
    assert passed.merge(raised).worst is None


@pytest.mark.parametrize(
    ("error", "bound", "severity"),
    [
        (math.nan, 1.0, math.inf),
        (1.0, math.nan, math.inf),
        (math.inf, math.inf, math.inf),
        (0.0, 0.0, 0.0),
        (1.0, 0.0, math.inf),
        (1.0, 2.0, 0.5),
        (5e-324, 5e-324, 1.0),
    ],
)
def test_severity_takes_nan_for_the_worst(error: float, bound: float, severity: float) -> None:
    assert Worst((0.0,), 0.0, 0.0, error, bound, 0.0).severity == severity


@given(evidences(), evidences())
def test_merging_never_hides_a_finding(left: Evidence, right: Evidence) -> None:
    merged = SERIOUSNESS.get(left.merge(right).verdict, 0)
    assert merged == max(SERIOUSNESS.get(left.verdict, 0), SERIOUSNESS.get(right.verdict, 0))


@pytest.mark.parametrize("name", ["outside_stable", "outside_accepted", "outside_unstable"])
@given(st.data(), st.integers(1, 10))
def test_more_elements_outside_never_improve_the_verdict(name: str, data: st.DataObject, more: int) -> None:
    evidence = data.draw(evidences(compared=10, cases=2, vacuous_cases=0, undecided=0))
    worse = replace(evidence, **{name: getattr(evidence, name) + more})
    assert BETTER_TO_WORSE.index(worse.verdict) >= BETTER_TO_WORSE.index(evidence.verdict)


@given(st.data(), st.sampled_from(["nan", "infinity", "zero sign", "shape", "raised"]))
def test_one_breach_is_wrong_whatever_else_was_seen(data: st.DataObject, kind: str) -> None:
    evidence = data.draw(evidences())
    assert replace(evidence, breaches={**evidence.breaches, kind: 1}).verdict is Verdict.WRONG


@pytest.mark.parametrize(
    ("counts", "verdict"),
    [
        ({}, Verdict.VACUOUS),
        ({"compared": 0, "cases": 3}, Verdict.VACUOUS),
        ({"compared": 9, "cases": 3, "vacuous_cases": 3}, Verdict.VACUOUS),
        ({"compared": 9, "cases": 3, "vacuous_cases": 2}, Verdict.ACCURATE),
        ({"compared": 9, "cases": 3, "undecided": 1}, Verdict.INCONCLUSIVE),
        ({"compared": 9, "cases": 3, "outside_stable": 1}, Verdict.AGREES),
        ({"compared": 9, "cases": 3, "outside_stable": 1, "outside_accepted": 1}, Verdict.UNSTABLE),
        ({"compared": 9, "cases": 3, "outside_accepted": 1, "undecided": 1}, Verdict.UNSTABLE),
        ({"compared": 9, "cases": 3, "outside_unstable": 1, "undecided": 1}, Verdict.WRONG),
        ({"compared": 0, "cases": 1, "breaches": {"raised": 1}}, Verdict.WRONG),
        ({"compared": 9, "cases": 3, "breaches": {"nan": 0}}, Verdict.ACCURATE),
    ],
)
def test_the_verdict_follows_from_the_counts(counts: dict[str, Any], verdict: Verdict) -> None:
    assert Evidence(**counts).verdict is verdict


@pytest.mark.parametrize("verdict", list(Verdict))
def test_no_verdict_both_passes_and_is_a_finding(verdict: Verdict) -> None:
    assert not (verdict.passed and verdict.is_finding)
    neither = verdict in (Verdict.VACUOUS, Verdict.INCONCLUSIVE, Verdict.NOT_RUN)
    assert (verdict.passed or verdict.is_finding) is not neither


def test_the_id_of_a_finding_depends_on_cell_and_code_alone() -> None:
    cell = Cell("gelu", "torch-cpu", "float32", "value")
    first = Finding("VALUE-WRONG", cell, Evidence(compared=1), "one", "")
    assert first.id == Finding("VALUE-WRONG", replace(cell, reason="x"), Evidence(), "two", "print()").id
    assert first.id != Finding("VALUE-UNSTABLE", cell, Evidence(), "one", "").id
    assert first.id != Finding("VALUE-WRONG", replace(cell, check="second"), Evidence(), "one", "").id


@pytest.mark.parametrize("module", ["records", "evidence", "known", "explain", "document", "errors"])
def test_reading_runs_imports_neither_numpy_nor_torch(module: str) -> None:
    program = (
        f"import sys, gradcheck.{module}\n"
        "print(*sorted({'numpy', 'torch', 'scipy', 'ml_dtypes', 'flint', 'mpmath'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
