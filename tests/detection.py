"""The checker on the corpus: the same draws and checks as a run, in arrays of a chosen size."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection, Iterator
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
    "law": checks.law,
}
FOUND = tuple(verdict for verdict in Verdict if verdict.is_finding)
# All numbers of a format, one call each, would take ten seconds: they come in as many calls as a drawn array.
_FEWEST_OF_ALL = 64
_KEPT = 24
_DRAWN: OrderedDict[Any, tuple[Case, ...]] = OrderedDict()


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


def drawn(bench: Bench, profile: Profile, elements: int, scale: float) -> tuple[Case, ...]:
    """Return the cases that a run draws for such a cell, drawn once for all implementations.

    They are the run's own: its draws are derandomized, and none depends on what the subject answered before.
    """
    fixed = dict(bench.implementation.options) if bench.implementation else {}
    key = bench.formula.name, bench.format.name, repr(sorted(fixed.items())), profile, elements, scale
    if key not in _DRAWN:
        found: list[Case] = []

        def keep(case: Case) -> Evidence:
            found.append(case)
            return Evidence()

        collect(_Session(profile), draw(bench, elements), keep, scale)  # type: ignore[arg-type]
        _DRAWN[key] = tuple(found)
        if len(_DRAWN) > _KEPT:
            _DRAWN.popitem(last=False)
    _DRAWN.move_to_end(key)
    return _DRAWN[key]


def _own(case: Case) -> Case:
    """Return the case with arrays of its own: an implementation that writes to them spoils no other's."""
    cotangent = None if case.cotangent is None else case.cotangent.copy()
    return replace(case, inputs=tuple(array.copy() for array in case.inputs), cotangent=cotangent)


def _cases(bench: Bench, profile: Profile, small: bool) -> Iterator[tuple[Case, bool]]:
    """Yield the cases of a cell: those that are drawn, then, marked, every number of a short format."""
    check = bench.cell.check
    elements = 80 if check == "layout" else 40 if small else profile.elements
    scale = {"layout": 0.15, "special": 0.25, "law": 0.25}.get(check, 1.0)
    drawn_cases = drawn(bench, profile, elements, scale)
    # One case of `layout` is a hundred arrays, each as good as another for a correct implementation.
    few = profile is FEWER_ALARMS and check == "layout"
    for case in drawn_cases[:1] if few else drawn_cases:
        yield _own(case), False
    whole = ("value",) if profile is FEWER_ALARMS else ("value", "derivative")
    if bench.format.bits == 16 and check in whole and bench.formula.elementwise and not small:
        yield cases.exhaustive(bench.formula, bench.format, bench.defaults), True


def examined(
    implementation: Implementation,
    formula: str,
    fmt: Format,
    check: str,
    size: int | None,
    *,
    until: Collection[Verdict] = (),
    small: bool = False,
    profile: Profile = PROFILE,
) -> Evidence:
    """Return the evidence of one check on an implementation, as a run collects it.

    One of the verdicts `until` ends the collection: what a liar does afterwards changes nothing.
    `small` is for implementations that take a millisecond for each number.
    """
    known = get_formula(formula)
    bench = Bench(Cell(formula, "corpus", fmt.name, check), known, fmt, implementation)
    split = size is not None and known.elementwise and check in ("value", "derivative", "second")
    seen = Evidence()
    for case, exhaustive in _cases(bench, profile, small):
        subject = implementation
        if split:
            assert size is not None
            subject = in_pieces(implementation, max(size, _FEWEST_OF_ALL) if exhaustive else size)
        seen = seen.merge(CHECKS[check](subject, known, case))
        if seen.verdict in until:
            break
    return seen
