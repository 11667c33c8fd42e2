"""Every liar of the corpus is caught, at each of its sizes, by the checks and draws of an ordinary run."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gradcheck.formats import get_format
from gradcheck.formulas import get_formula
from tests.detection import FOUND, examined
from tests.liars import LIARS
from tests.lying import SIZES, Liar
from tests.mutants import as_liar, sample

# A mutant is one text of elementwise operations, so that no element's answer depends on how many there are.
MUTANTS = tuple(replace(as_liar(mutant), sizes=SIZES[-1:]) for mutant in sample())
CORPUS = (*LIARS, *MUTANTS)
# In this order, neighbours share the draws and their truth.
PAIRS = sorted(
    ((liar, name) for liar in CORPUS for name in liar.formats), key=lambda pair: (pair[0].formula, pair[1])
)
TOLD = [pytest.param(liar, name, id=f"{liar.name}-{name}") for liar, name in PAIRS]


def sizes(liar: Liar) -> tuple[int | None, ...]:
    """The sizes at which the liar has to be caught; layouts and cases of several inputs bring their own."""
    split = liar.where in ("value", "derivative", "second") and get_formula(liar.formula).elementwise
    return liar.sizes if split else (None,)


@pytest.mark.parametrize(("liar", "name"), TOLD)
def test_a_liar_is_caught(liar, name):
    fmt = get_format(name)
    for size in sizes(liar):
        evidence = examined(liar.implement(fmt), liar.formula, fmt, liar.where, size, until=FOUND)
        assert evidence.verdict.is_finding, (size, evidence)


def test_the_corpus_is_as_large_as_is_said():
    by_hand = {liar.name for liar in LIARS}
    assert len(by_hand) >= 40 and len(sample()) >= 40
    assert {liar.where for liar in CORPUS} == {"value", "derivative", "second", "layout", "special"}
