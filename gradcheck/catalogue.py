"""The names that the command line can be asked for, with a sentence each, and what a code means."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from gradcheck.errors import unknown_name

if TYPE_CHECKING:
    from gradcheck.explain import Explanation


def _formulas() -> dict[str, str]:
    from gradcheck.formulas import CATALOGUE

    return {formula.name: f"{formula.title}: {formula.equation}" for formula in CATALOGUE}


def _subjects() -> dict[str, str]:
    from gradcheck.formulas import CATALOGUE
    from gradcheck.runner.plan import OTHER_SUBJECTS
    from gradcheck.subjects import SUBJECTS

    counts = {s.name: sum(bool(s.checks(formula)) for formula in CATALOGUE) for s in SUBJECTS}
    rows = {name: f"{count} of {len(CATALOGUE)} formulas" for name, count in counts.items()}
    return {**rows, **dict.fromkeys(OTHER_SUBJECTS, "our own references and formulas as printed")}


def _checks() -> dict[str, str]:
    from gradcheck.explain import BLACK_BOX, OPTIMIZER_CHECKS
    from gradcheck.runner.plan import CHECKS

    own = {name: f"of your own function: {says}" for name, (_, says) in BLACK_BOX.items()}
    # Where both have a check of one name, it is listed for both.
    for name, (_, says) in OPTIMIZER_CHECKS.items():
        before = {**CHECKS, **own}.get(name)
        own[name] = f"{before}; of your own optimizer: {says}" if before else f"of your own optimizer: {says}"
    return {**CHECKS, **own}


def _claims() -> dict[str, str]:
    from gradcheck.article.claims import CLAIMS

    return {claim.id: claim.says for claim in CLAIMS}


def _formats() -> dict[str, str]:
    from gradcheck.formats import FORMATS

    return {
        fmt.name: f"{fmt.bits} bits, precision {fmt.precision}, largest {fmt.largest:.6g}, "
        f"least {fmt.least_subnormal:.6g}"
        for fmt in FORMATS
    }


def _codes() -> dict[str, str]:
    return {explanation.code: explanation.summary for explanation in _explanations()}


def _explanations() -> tuple[Explanation, ...]:
    from gradcheck.explain import CODES
    from gradcheck.flow.codes import FLOW_CODES

    return (*CODES, *FLOW_CODES)


_LISTS: Mapping[str, Callable[[], dict[str, str]]] = {
    "formulas": _formulas,
    "subjects": _subjects,
    "checks": _checks,
    "claims": _claims,
    "formats": _formats,
    "codes": _codes,
}


def names(what: str) -> dict[str, str]:
    """Return name -> sentence for one of the lists; an unknown list is a `UsageError`."""
    if what not in _LISTS:
        raise unknown_name("list", what, _LISTS)
    return _LISTS[what]()


def explanation(code: str) -> Explanation:
    """Return what a code means, of a formula's or a gradient's finding; `UsageError` for any other code."""
    from gradcheck.explain import explain

    return explain(code, _explanations())
