"""What a refuted formula computes instead: the quantities of the catalogue that it equals."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from gradcheck.arithmetic.ball import current_precision
from gradcheck.arithmetic.exact import exact
from gradcheck.article.claims import AtMost, Claim
from gradcheck.checks.deciding import Variables, holds_at, lifted, sides
from gradcheck.formulas import QUANTITIES, Quantity

_KEPT = 60


def instead(claim: Claim, examples: list[Variables]) -> tuple[str | None, list[str]]:
    """Return the quantity that the printed side equals on every example, and a few more."""
    if claim.plain or not examples:
        return None, []
    printed = [_Printed(claim, variables, {}) for variables in examples[:: max(1, len(examples) // _KEPT)]]
    matches = [name for quantity in QUANTITIES for name in _matches(quantity, printed)]
    return (matches[0], matches[1:4]) if matches else (None, [])


@dataclass(frozen=True)
class _Printed:
    """The printed side at one example, computed once at each precision that is asked for."""

    claim: Claim
    variables: Variables
    known: dict[int, list[Any]]

    def at(self, bits: int) -> list[Any]:
        if bits not in self.known:
            lifts = {name: lifted(value) for name, value in self.variables.items()}
            answer = self.claim.function(np, **lifts)
            # An inequality's sides are not the formula that was printed.
            self.known[bits] = [] if isinstance(answer, AtMost | bool) else sides(self.claim, answer)[0]
        return self.known[bits]


def _matches(quantity: Quantity, printed: list[_Printed]) -> list[str]:
    names = set(printed[0].variables)
    if not set(quantity.arguments) <= names:
        return []
    defaults = {option.name: option.default for option in quantity.options}
    free = [name for name in printed[0].variables if name not in quantity.arguments]
    # An option takes the variable of its own name; failing that, any one option any one variable.
    named = {option: option for option in defaults if option in free}
    assignments: list[dict[str, str]] = [named, {}] if named else [{}]
    assignments += [{**named, option: variable} for option in defaults for variable in free]
    for assignment in assignments:
        if _equals_everywhere(quantity, defaults, assignment, printed):
            shown = ", ".join(
                option if option == variable else f"{option} = {variable}"
                for option, variable in assignment.items()
            )
            return [f"{quantity.name}" + (f" with {shown}" if shown else "")]
    return []


def _equals_everywhere(
    quantity: Quantity, defaults: Mapping[str, Any], assignment: Mapping[str, str], printed: list[_Printed]
) -> bool:
    def against(side: _Printed) -> Callable[..., Any]:
        def both(np_: Any, **variables: Any) -> Any:
            left = side.at(current_precision())
            options = {name: exact(value) if _is_number(value) else value for name, value in defaults.items()}
            options |= {option: variables[variable] for option, variable in assignment.items()}
            value = quantity.text(*(variables[name] for name in quantity.arguments), **options)
            found = list(value) if isinstance(value, tuple) else [value]
            if len(found) != len(left):
                raise ValueError("another number of results")
            return left, found

        return both

    for side in printed:
        candidate = replace(side.claim, function=against(side), condition=None)
        try:
            holds, _ = holds_at(candidate, side.variables)
        except Exception:
            # A candidate that cannot take these variables at all: other shapes, indices, missing options.
            return False
        if not holds:
            return False
    return True


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
