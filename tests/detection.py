"""The checker on the corpus: the same draws and checks as a run, in arrays of a chosen size."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from gradcheck import cases, checks
from gradcheck.checks.examine import Examine
from gradcheck.formats import Format
from gradcheck.formulas import get_formula
from gradcheck.records import Array, Case, Cell, Evidence, Options, Verdict
from gradcheck.runner.judging import Bench, collect, draw
from gradcheck.runner.session import Profile
from gradcheck.subjects import Implementation

# As in the ci profile.
PROFILE = Profile("corpus", examples=16, elements=1_000, patience=0.0)
# The correct variants are met by all checks in all formats; `make rates` draws more for each than the tests.
ALARMS = Profile("alarms", examples=8, elements=400, patience=0.0)
FEWER_ALARMS = Profile("fewer alarms", examples=3, elements=250, patience=0.0)
CHECKS: dict[str, Examine] = {
    "value": checks.value,
    "derivative": checks.derivative,
    "second": checks.second,
    "layout": checks.layout,
    "special": checks.special,
}


@dataclass(frozen=True)
class _Session:
    profile: Profile = PROFILE
    explore: bool = False


def in_pieces(implementation: Implementation, size: int) -> Implementation:
    """Return the implementation called on at most `size` leading elements at a time."""

    def pieces(array: Array) -> list[Array]:
        return [array[start : start + size] for start in range(0, max(len(array), 1), size)]

    def whole(parts: list[Any]) -> Any:
        # What is missing, or not an array of the piece's shape, is handed on as the first piece gave it.
        odd = next((part for part in parts if part is None or np.ndim(part) != 1), None)
        return parts[0] if odd is not None or parts[0] is None else np.concatenate(parts)

    def forward(inputs: tuple[Array, ...], options: Options) -> Array:
        return whole([implementation.forward((piece,), options) for piece in pieces(inputs[0])])

    def vjp(inputs: tuple[Array, ...], cotangent: Array, options: Options) -> tuple[Array | None, ...]:
        assert implementation.vjp is not None
        pairs = zip(pieces(inputs[0]), pieces(cotangent), strict=True)
        return (whole([implementation.vjp((x,), c, options)[0] for x, c in pairs]),)

    def second(
        inputs: tuple[Array, ...], cotangent: Array, along: tuple[Array, ...], options: Options
    ) -> tuple[Array | None, ...]:
        assert implementation.second is not None
        parts = zip(pieces(inputs[0]), pieces(cotangent), pieces(along[0]), strict=True)
        return (whole([implementation.second((x,), c, (d,), options)[0] for x, c, d in parts]),)

    return replace(
        implementation,
        forward=forward,
        vjp=None if implementation.vjp is None else vjp,
        second=None if implementation.second is None else second,
    )


def examined(
    implementation: Implementation,
    formula: str,
    fmt: Format,
    check: str,
    size: int | None,
    *,
    until: Verdict | None = None,
    small: bool = False,
    profile: Profile = PROFILE,
) -> Evidence:
    """Return the evidence of one check on an implementation, as a run collects it.

    `until` ends the collection once that verdict is reached: what a liar does afterwards changes nothing.
    `small` is for implementations that take a millisecond for each number.
    """
    known = get_formula(formula)
    subject = implementation
    if size is not None and known.elementwise and check in ("value", "derivative", "second"):
        subject = in_pieces(implementation, size)
    bench = Bench(Cell(formula, "corpus", fmt.name, check), known, fmt, subject)
    seen = Evidence()

    def examine(case: Case) -> Evidence:
        nonlocal seen
        if until is not None and seen.verdict is until:
            return Evidence()
        found = CHECKS[check](subject, known, case)
        seen = seen.merge(found)
        return found

    elements = 80 if check == "layout" else 40 if small else profile.elements
    scale = {"layout": 0.15, "special": 0.25}.get(check, 1.0)
    collect(_Session(profile), draw(bench, elements), examine, scale)  # type: ignore[arg-type]
    whole = ("value",) if profile is FEWER_ALARMS else ("value", "derivative")
    if fmt.bits == 16 and check in whole and known.elementwise and not small:
        examine(cases.exhaustive(known, fmt, bench.defaults))
    return seen
