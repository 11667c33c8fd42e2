"""All the right operations, and the regimes of input under which each is right."""

from __future__ import annotations

from tests.blackbox.corpus.correct_arrays import ARRAYS
from tests.blackbox.corpus.correct_elementwise import ELEMENTWISE
from tests.blackbox.corpus.correct_modules import MODULES
from tests.blackbox.corpus.operation import Operation
from tests.blackbox.corpus.right import Regime

_FAMILIES = (ELEMENTWISE, ARRAYS, MODULES)
_RIGHTS = {name: right for family in _FAMILIES for name, right in family.by_name.items()}

CORRECT: tuple[Operation, ...] = tuple(o for family in _FAMILIES for o in family.operations())


def regimes(operation: Operation) -> list[Regime]:
    """Return the kinds of input that make sense for a right operation; each makes a call."""
    return _RIGHTS[operation.name].regimes()
