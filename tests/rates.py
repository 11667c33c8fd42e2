"""Measure both rates on the corpora and write `properties/rates.json`, which every report shows.

Run as `python -m tests.rates` (`make rates`): every correct variant and every liar, in every format and
size, through the checks and draws of a run. A false alarm is a correct implementation that is called wrong.
Two groups are told apart: the activations with neurons and dense layers, and the formulas of several inputs.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

from scipy import stats

from gradcheck.formats import get_format
from gradcheck.laws import laws_of
from gradcheck.records import Verdict
from tests import mutants, mutants_several
from tests.correct import CORRECT
from tests.correct_families import CORRECT_FAMILIES
from tests.detection import ALARMS, examined
from tests.liars import LIARS
from tests.lying import Liar
from tests.test_detection import sizes
from tests.test_detection_families import LIARS_OF_FAMILIES
from tests.test_false_alarms import checks_of
from tests.variants import Correct

RATES = Path(__file__).parent.parent / "properties" / "rates.json"
ACTIVATIONS, FAMILIES = "activations", "families"
# By group: the correct variants, the liars written by hand, and those made by mutation.
_CORRECT = {ACTIVATIONS: CORRECT, FAMILIES: CORRECT_FAMILIES}
_BY_HAND = {ACTIVATIONS: LIARS, FAMILIES: LIARS_OF_FAMILIES}


def upper_bound(alarms: int, calls: int) -> float:
    """Return the Clopper-Pearson upper end, with 95 % confidence, of a rate seen as `alarms` in `calls`."""
    return float(stats.beta.ppf(0.95, alarms + 1, calls - alarms)) if alarms < calls else 1.0


def _by_mutation(group: str) -> list[Liar]:
    if group == ACTIVATIONS:
        return [mutants.as_liar(mutant) for mutant in mutants.sample()]
    return [mutants_several.as_liar(mutant) for mutant in mutants_several.sample()]


def _checks(group: str, variant: Correct, implementation: Any) -> list[str]:
    """The checks that a variant takes.

    Second derivatives of the families are complex steps in that corpus, good for ordinary numbers only.
    """
    found = checks_of(variant, implementation)
    if group == ACTIVATIONS:
        return found
    kept = [check for check in found if check in ("value", "derivative")]
    return [*kept, "law"] if laws_of(variant.formula) else kept


def _verdicts_of_correct(task: tuple[str, str]) -> list[str]:
    group, formula = task
    found = []
    for variant in (v for v in _CORRECT[group] if v.formula == formula):
        for name in variant.formats:
            fmt = get_format(name)
            implementation = variant.implement(fmt)
            for check in _checks(group, variant, implementation):
                evidence = examined(
                    implementation, formula, fmt, check, None, small=variant.slow, profile=ALARMS
                )
                if evidence.verdict is Verdict.WRONG:
                    print(f"accused: {variant.name} in {name}, {check}", flush=True)
                found.append(str(evidence.verdict))
    return found


def _verdicts_of_liars(task: tuple[str, str]) -> list[str]:
    group, formula = task
    found = []
    for liar in (*_BY_HAND[group], *_by_mutation(group)):
        if liar.formula != formula:
            continue
        for name in liar.formats:
            fmt = get_format(name)
            for size in sizes(liar):
                evidence = examined(
                    liar.implement(fmt), formula, fmt, liar.where, size, until=(Verdict.WRONG,)
                )
                if not evidence.verdict.is_finding:
                    print(f"missed: {liar.name} in {name}, {evidence.verdict}", flush=True)
                found.append(str(evidence.verdict))
    return found


def correct_row(implementations: int, verdicts: list[str]) -> dict[str, Any]:
    """Return what is said about correct implementations."""
    alarms = verdicts.count("wrong")
    return {
        "implementations": implementations,
        "calls": len(verdicts),
        "alarms": alarms,
        "upper": upper_bound(alarms, len(verdicts)),
        "unstable": verdicts.count("unstable"),
        "undecided": sum(verdict in ("vacuous", "inconclusive") for verdict in verdicts),
    }


def liars_row(by_hand: int, by_mutation: int, verdicts: list[str]) -> dict[str, Any]:
    """Return what is said about liars; a miss is the event whose rate is bounded."""
    wrong = verdicts.count("wrong")
    caught = wrong + verdicts.count("unstable")
    return {
        "by hand": by_hand,
        "by mutation": by_mutation,
        "calls": len(verdicts),
        "caught": caught,
        "called wrong": wrong,
        "upper": upper_bound(len(verdicts) - caught, len(verdicts)),
    }


def with_groups(row: Callable[..., dict[str, Any]], groups: dict[str, tuple[Any, ...]]) -> dict[str, Any]:
    """Return the row of all groups together, and that of each; each comes as counts and, last, verdicts."""
    *counts, verdicts = zip(*groups.values(), strict=True)
    total = row(*(sum(count) for count in counts), [verdict for group in verdicts for verdict in group])
    return {**total, "groups": {name: row(*parts) for name, parts in groups.items()}}


def _tasks(populations: Callable[[str], Iterable[Any]]) -> Iterator[tuple[str, str]]:
    for group in (ACTIVATIONS, FAMILIES):
        for formula in sorted({member.formula for member in populations(group)}):
            yield group, formula


def main() -> None:
    """Measure and write the file."""
    seen: dict[str, dict[str, list[str]]] = {}
    with ProcessPoolExecutor(2) as pool:
        for name, populations, verdicts in (
            ("correct", lambda group: _CORRECT[group], _verdicts_of_correct),
            ("liars", lambda group: (*_BY_HAND[group], *_by_mutation(group)), _verdicts_of_liars),
        ):
            tasks = list(_tasks(populations))
            found: dict[str, list[str]] = {ACTIVATIONS: [], FAMILIES: []}
            for (group, _), rows in zip(tasks, pool.map(verdicts, tasks), strict=True):
                found[group] += rows
            seen[name] = found
    rates = {
        "correct": with_groups(
            correct_row, {group: (len(_CORRECT[group]), rows) for group, rows in seen["correct"].items()}
        ),
        "liars": with_groups(
            liars_row,
            {
                group: (len(_BY_HAND[group]), len(_by_mutation(group)), rows)
                for group, rows in seen["liars"].items()
            },
        ),
    }
    RATES.write_text(json.dumps(rates, indent=1, ensure_ascii=False) + "\n", "utf-8")
    print(json.dumps(rates, indent=1, ensure_ascii=False))


if __name__ == "__main__":
    main()
