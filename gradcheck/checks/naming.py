"""What a refuted formula computes instead: the quantities of the catalogue that it equals."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from gradcheck.arithmetic.exact import exact
from gradcheck.article.claims import AtMost, Claim
from gradcheck.checks.deciding import Variables, holds_at, sides
from gradcheck.formulas import QUANTITIES, Quantity

_KEPT = 60
_ENOUGH = 10


def instead(claim: Claim, examples: list[Variables]) -> tuple[str | None, list[str]]:
    """Return the quantity that the printed side equals on every example, and a few more."""
    if claim.plain:
        return None, []
    chosen = examples[:: max(1, len(examples) // _KEPT)]
    matches = [name for quantity in QUANTITIES for name in _matches(claim, quantity, chosen)]
    return (matches[0], matches[1:4]) if matches else (None, [])


def _matches(claim: Claim, quantity: Quantity, examples: list[Variables]) -> list[str]:
    if not examples or not set(quantity.arguments) <= set(examples[0]):
        return []
    defaults = {option.name: option.default for option in quantity.options}
    free = [name for name in examples[0] if name not in quantity.arguments]
    # An option takes the variable of its own name; failing that, any one option any one variable.
    named = {option: option for option in defaults if option in free}
    assignments: list[dict[str, str]] = [named, {}] if named else [{}]
    assignments += [{**named, option: variable} for option in defaults for variable in free]
    for assignment in assignments:
        if _equals_everywhere(claim, quantity, defaults, assignment, examples):
            shown = ", ".join(f"{option} = {variable}" for option, variable in assignment.items())
            return [f"{quantity.name}" + (f" with {shown}" if shown else "")]
    return []


def _equals_everywhere(
    claim: Claim,
    quantity: Quantity,
    defaults: Mapping[str, Any],
    assignment: Mapping[str, str],
    examples: list[Variables],
) -> bool:
    def against(np_: Any, **variables: Any) -> Any:
        answer = claim.function(np_, **variables)
        left, _ = sides(claim, answer)
        options = {name: exact(value) if _is_number(value) else value for name, value in defaults.items()}
        options |= {option: variables[variable] for option, variable in assignment.items()}
        value = quantity.text(*(variables[name] for name in quantity.arguments), **options)
        found = list(value) if isinstance(value, tuple) else [value]
        # An inequality's sides are not the formula that was printed.
        if isinstance(answer, AtMost) or len(found) != len(left):
            raise ValueError("another number of results")
        return left, found

    candidate = Claim(claim.id, claim.says, claim.strategies, against)
    seen = 0
    for variables in examples:
        try:
            holds, _ = holds_at(candidate, variables)
        except Exception:
            # A candidate that cannot take these variables at all: other shapes, indices, missing options.
            return False
        if not holds:
            return False
        seen += 1
    return seen >= min(_ENOUGH, len(examples))


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
