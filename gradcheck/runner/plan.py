"""What a run sets out to check: every cell, with a reason where it will not be run."""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace

from gradcheck.errors import UsageError, unknown_name
from gradcheck.formats import FORMATS, Format
from gradcheck.formulas import CATALOGUE
from gradcheck.formulas.initialization import INITIALIZERS, Initializer
from gradcheck.laws import laws_of
from gradcheck.records import Cell, Formula
from gradcheck.runner import initial
from gradcheck.subjects import SUBJECTS

CHECKS = {
    "value": "Values against the proven truth, within what the format allows any evaluation to err.",
    "derivative": "The vector-Jacobian product, random signed cotangents, against the proven derivative.",
    "second": "The gradient of the gradient (double backward) against the proven second derivative.",
    "layout": "0-d, contiguous, strided and offset arrays of the sizes where vector code changes; inputs "
    "left untouched, results of the right shape and format.",
    "module": "The module form of the function, value and gradient, against the same bounds.",
    "loop": "The in-place form over a list of arrays, taken one after another, against the same bounds.",
    "foreach": "The in-place form by kernels that take many arrays at once, against the same bounds.",
    "special": "The answers at ±0, ±inf, NaN, ± the largest, ± the least number against the accepted ones.",
    "dropout": "Dropout as it is called: value and gradient by one mask, the mask against the laws of "
    "chance, evaluation mode, p = 0 and p = 1 exactly.",
    "moments": "Initial weights: support, mean, variance, fourth moment and the whole distribution against "
    "their law, with a stated probability of a false alarm; orthogonal ones also against each other.",
    "law": "Laws that hold whatever a formula is computed by (symmetries, adjoints, sums, reductions), each "
    "within what legal evaluations of both sides can differ by; of the reference, proven.",
    "trajectory": "An optimizer over several steps, each judged from its own state before it, also at 10^6.",
    "machine": "An optimizer through steps, zero and missing gradients, other rates, saving and restoring, "
    "another format, several groups.",
    "proof": "Our own derivatives against the derivative of the value's text, enclosed by ball arithmetic.",
    "witness": "Finite differences with an error estimate, and the complex step where it applies.",
}
REFERENCE = "reference"
REFERENCE_CHECKS = ("proof", "witness")


@dataclass(frozen=True)
class Selection:
    """The part of the catalogue that a run is about."""

    formulas: tuple[Formula, ...] = CATALOGUE
    formats: tuple[Format, ...] = FORMATS
    subjects: tuple[str, ...] = ()
    checks: tuple[str, ...] = ()
    initializers: tuple[Initializer, ...] = INITIALIZERS

    def wants(self, cell: Cell) -> bool:
        """Whether the subject and the check of `cell` were asked for; no names at all mean every one."""
        return (not self.subjects or cell.subject in self.subjects) and (
            not self.checks or cell.check in self.checks
        )


def subject_cells(selection: Selection) -> Iterator[Cell]:
    """Yield what the implementations under test are checked for."""
    for formula in selection.formulas:
        for subject in SUBJECTS:
            for fmt in selection.formats:
                for check in subject.checks(formula):
                    cell = Cell(formula.name, subject.name, fmt.name, check)
                    if selection.wants(cell):
                        reason = subject.reason(formula, fmt, check)
                        yield Cell(formula.name, subject.name, fmt.name, check, reason)


def reference_cells(selection: Selection) -> Iterator[Cell]:
    """Yield the proofs and witnesses of our own derivatives, in the format that judges formulas: float64."""
    for formula in selection.formulas:
        if not formula.differentiable:
            continue
        for fmt in selection.formats:
            if fmt.name == "float64":
                for check in REFERENCE_CHECKS:
                    yield Cell(formula.name, REFERENCE, fmt.name, check)


def initial_cells(selection: Selection) -> Iterator[Cell]:
    """Yield what samplers of initial weights are checked for."""
    yield from initial.cells(selection.initializers, selection.formats)


def law_cells(selection: Selection) -> Iterator[Cell]:
    """Yield the laws of every formula that has some: one cell for each of its implementations."""
    for formula in selection.formulas:
        if not laws_of(formula.name):
            continue
        for fmt in selection.formats:
            if fmt.name == "float64":
                yield Cell(formula.name, REFERENCE, fmt.name, "law")
            for subject in SUBJECTS:
                cell = Cell(formula.name, subject.name, fmt.name, "law")
                if "value" in subject.checks(formula) and selection.wants(cell):
                    yield replace(cell, reason=subject.reason(formula, fmt, "value"))


# Whatever else a run plans joins here: a function from the selection to cells.
PLANNERS: tuple[Callable[[Selection], Iterable[Cell]], ...] = (
    subject_cells,
    reference_cells,
    law_cells,
    initial_cells,
)
OTHER_SUBJECTS = (REFERENCE,)


def plan(selection: Selection) -> tuple[Cell, ...]:
    """Return the cells of `selection`, each once; a `UsageError` if there are none, or none that can run."""
    cells = {cell.id: cell for planner in PLANNERS for cell in planner(selection) if selection.wants(cell)}
    if not cells:
        raise UsageError(
            "nothing to check: no formula, subject, format and check that were asked for go together"
        )
    if all(cell.reason for cell in cells.values()):
        reasons = sorted({cell.reason for cell in cells.values()})
        raise UsageError(
            f"nothing to check: none of the {len(cells)} planned checks can run ({'; '.join(reasons)})"
        )
    return tuple(cells.values())


def select(
    formulas: Iterable[str] = (),
    subjects: Iterable[str] = (),
    formats: Iterable[str] = (),
    checks: Iterable[str] = (),
) -> Selection:
    """Return the selection of these names; formulas may be patterns such as "gelu*", and the rules for
    initial weights count among them. None given means all.

    An unknown name, or a pattern that matches nothing, is a `UsageError` that offers the closest names.
    """
    subject_names = tuple(subject.name for subject in SUBJECTS) + OTHER_SUBJECTS
    chosen = _named("format", formats, tuple(fmt.name for fmt in FORMATS))
    patterns = tuple(formulas)
    return Selection(
        formulas=_matching(patterns),
        initializers=tuple(rule for rule in INITIALIZERS if _wanted(rule.name, patterns)),
        formats=tuple(fmt for fmt in FORMATS if not chosen or fmt.name in chosen),
        subjects=_named("subject", subjects, subject_names),
        checks=_named("check", checks, tuple(CHECKS)),
    )


def _named(kind: str, names: Iterable[str], known: tuple[str, ...]) -> tuple[str, ...]:
    for name in (names := tuple(names)):
        if name not in known:
            raise unknown_name(kind, name, known)
    return names


def _matching(patterns: tuple[str, ...]) -> tuple[Formula, ...]:
    names = (*(formula.name for formula in CATALOGUE), *(rule.name for rule in INITIALIZERS))
    for pattern in patterns:
        if not fnmatch.filter(names, pattern):
            raise unknown_name("formula", pattern, names)
    return tuple(formula for formula in CATALOGUE if _wanted(formula.name, patterns))


def _wanted(name: str, patterns: tuple[str, ...]) -> bool:
    return not patterns or any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)
