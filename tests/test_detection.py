"""Every liar of the corpus is caught, at each of its sizes, by the checks and draws of an ordinary run."""

from __future__ import annotations

import pytest

from gradcheck.formats import get_format
from gradcheck.records import Verdict
from tests.detection import examined
from tests.liars import LIARS
from tests.lying import Liar
from tests.mutants import as_liar, sample

CORPUS = (*LIARS, *(as_liar(mutant) for mutant in sample()))
TOLD = [
    pytest.param(liar, name, id=f"{liar.name}-{name}", marks=pytest.mark.xdist_group(liar.formula))
    for liar in CORPUS
    for name in liar.formats
]


def sizes(liar: Liar) -> tuple[int | None, ...]:
    """The sizes at which the liar has to be caught; layouts bring their own."""
    return liar.sizes if liar.where in ("value", "derivative", "second") else (None,)


@pytest.mark.parametrize(("liar", "name"), TOLD)
def test_a_liar_is_caught(liar, name):
    fmt = get_format(name)
    until = Verdict.WRONG if liar.expected == "wrong" else Verdict.UNSTABLE
    for size in sizes(liar):
        evidence = examined(liar.implement(fmt), liar.formula, fmt, liar.where, size, until=until)
        assert evidence.verdict.is_finding, (size, evidence)


def test_the_corpus_is_as_large_as_is_said():
    by_hand = {liar.name for liar in LIARS}
    assert len(by_hand) >= 40 and len(sample()) >= 40
    assert {liar.where for liar in CORPUS} == {"value", "derivative", "second", "layout", "special"}
