"""What a report needs to know of the catalogue and the article beside the measurements, as plain data."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

from gradcheck.article.rows import ROWS
from gradcheck.formulas import FAMILIES, get_formula
from gradcheck.formulas.initialization import INITIALIZERS, Initializer


def describe(names: Iterable[str]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the descriptions of the formulas called `names`, and the article's rows that are about them.

    A row about no formula is always there.
    """
    wanted = set(names)
    formulas = {
        name: _formula(name, family)
        for family, members in FAMILIES.items()
        for name in (formula.name for formula in members)
        if name in wanted
    }
    formulas |= {rule.name: _initializer(rule) for rule in INITIALIZERS if rule.name in wanted}
    rows = {
        f"{place:02d}": asdict(row)
        for place, row in enumerate(ROWS)
        if not row.formulas or wanted & set(row.formulas)
    }
    return formulas, rows


def _formula(name: str, family: str) -> dict[str, Any]:
    formula = get_formula(name)
    options = [
        {"name": option.name, "default": str(option.default), "range": _range(option)}
        for option in formula.options
    ]
    return {
        "title": formula.title,
        "equation": formula.equation,
        "source": formula.source,
        "family": family,
        "inputs": list(formula.inputs),
        "options": options,
        "hazards": list(formula.hazards),
        "variants": [f"{variant.name} ({variant.standing})" for variant in formula.variants],
    }


def _initializer(rule: Initializer) -> dict[str, Any]:
    options = [{"name": o.name, "default": str(o.default), "range": _range(o)} for o in rule.options]
    return {
        "title": rule.title,
        "equation": rule.equation,
        "source": rule.source,
        "family": "initialisation",
        "inputs": [],
        "options": options,
        "hazards": [],
        "variants": [],
    }


def _range(option: Any) -> str:
    if option.choices:
        return ", ".join(map(str, option.choices))
    return f"{option.low:g} to {option.high:g}" if option.low is not None and option.high is not None else ""
