"""The plan names every cell once, gives a reason for what is not run, and refuses what it does not know."""

from __future__ import annotations

import pytest

from gradcheck.errors import UsageError
from gradcheck.formulas import CATALOGUE
from gradcheck.formulas.initialization import INITIALIZERS
from gradcheck.runner.plan import CHECKS, REFERENCE, plan, select


def test_every_cell_stands_in_the_plan_once() -> None:
    ids = [cell.id for cell in plan(select(subjects=["numpy", REFERENCE]))]
    assert len(ids) == len(set(ids))
    rules = {rule.name for rule in INITIALIZERS}
    assert {name.split("/")[0] for name in ids} == {formula.name for formula in CATALOGUE} | rules


def test_every_planned_check_is_described() -> None:
    assert {cell.check for cell in plan(select())} <= set(CHECKS)


def test_derivatives_are_proven_and_witnessed_in_float64_alone() -> None:
    cells = plan(select(formulas=["gelu"], subjects=[REFERENCE]))
    assert {cell.format for cell in cells} == {"float64"}
    assert {cell.check for cell in cells} == {"proof", "witness", "law"}


def test_a_pattern_selects_formulas() -> None:
    assert {formula.name for formula in select(formulas=["gelu*"]).formulas} == {"gelu", "gelu_tanh"}


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        ({"formulas": ["gelo"]}, "gelu"),
        ({"formulas": ["gelo*"]}, "gelu"),
        ({"subjects": ["torch"]}, "torch-cpu"),
        ({"formats": ["float23"]}, "float32"),
        ({"checks": ["values"]}, "value"),
    ],
)
def test_an_unknown_name_is_refused_with_the_closest_ones(arguments: dict[str, list[str]], hint: str) -> None:
    with pytest.raises(UsageError, match=hint):
        select(**arguments)


def test_a_plan_without_cells_is_refused() -> None:
    with pytest.raises(UsageError, match="nothing to check"):
        plan(select(subjects=[REFERENCE], checks=["value"]))


def test_a_plan_of_which_nothing_can_run_is_refused_with_the_reasons() -> None:
    cells = plan(select(formulas=["relu"], subjects=["scipy", "numpy", "torch-cuda"]))
    stopped = [cell for cell in cells if cell.reason]
    if not any(cell.subject == "torch-cuda" for cell in stopped):
        pytest.skip("this machine has a CUDA device")
    with pytest.raises(UsageError, match=r"none of the \d+ planned checks can run"):
        plan(select(formulas=["relu"], subjects=["torch-cuda"]))
