"""No correct implementation is called wrong; some lose digits or subnormal results, and are told so."""

from __future__ import annotations

import pytest

from gradcheck.formats import get_format
from gradcheck.formulas import get_formula
from gradcheck.records import Verdict
from tests.correct import CORRECT
from tests.detection import FEWER_ALARMS, examined

# In this order, neighbours share the truth of the same cases.
PAIRS = sorted(
    ((v, name) for v in CORRECT for name in v.formats), key=lambda pair: (pair[0].formula, pair[1])
)
HONEST = [pytest.param(variant, name, id=f"{variant.name}-{name}") for variant, name in PAIRS]


def checks_of(variant, implementation) -> list[str]:
    """The checks that a variant can take: what it does not compute is not asked."""
    found = ["value"]
    found += ["derivative"] if implementation.vjp is not None else []
    found += ["second"] if implementation.second is not None else []
    if get_formula(variant.formula).elementwise:
        found += ["special"]
    return [*found, "layout"]


@pytest.mark.parametrize(("variant", "name"), HONEST)
def test_a_correct_implementation_is_not_accused(variant, name):
    fmt = get_format(name)
    implementation = variant.implement(fmt)
    for check in checks_of(variant, implementation):
        evidence = examined(
            implementation, variant.formula, fmt, check, None, small=variant.slow, profile=FEWER_ALARMS
        )
        assert evidence.verdict is not Verdict.WRONG, (check, evidence)
        assert evidence.compared > 0, check
