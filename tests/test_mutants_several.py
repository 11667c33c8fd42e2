"""Mutants of the formulas of several inputs are caught by the draws of an ordinary run."""

from __future__ import annotations

import pytest

from gradcheck.formats import get_format
from tests.detection import FOUND, examined
from tests.mutants_several import all_mutants, as_liar, counts, different, families, sample

TOLD = sorted(
    ((as_liar(mutant), name) for mutant in sample() for name in as_liar(mutant).formats),
    key=lambda pair: (pair[0].formula, pair[1]),
)


@pytest.mark.parametrize(
    ("liar", "name"), [pytest.param(liar, name, id=f"{liar.name}-{name}") for liar, name in TOLD]
)
def test_a_mutant_is_caught(liar, name):
    fmt = get_format(name)
    evidence = examined(liar.implement(fmt), liar.formula, fmt, liar.where, None, until=FOUND)
    assert evidence.verdict.is_finding, evidence


def test_most_changes_make_another_function_and_those_that_do_not_are_counted():
    assert len(different()) > 0.5 * len(all_mutants())
    assert len(sample()) >= 60


def test_every_formula_of_several_inputs_has_mutants_but_those_that_are_constant():
    without = {formula.name for formula in families()} - set(counts(sample()))
    assert without <= {"kronecker_penalty"}, without
