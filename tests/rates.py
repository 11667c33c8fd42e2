"""Measure both rates on the corpora and write `properties/rates.json`, which every report shows.

Run as `python -m tests.rates` (`make rates`): every correct variant and every liar, in every format and
size, through the checks and draws of a run. A false alarm is a correct implementation that is called wrong.
"""

from __future__ import annotations

import json
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from scipy import stats

from gradcheck.formats import get_format
from gradcheck.records import Verdict
from tests.correct import CORRECT
from tests.detection import ALARMS, examined
from tests.liars import LIARS
from tests.mutants import as_liar, sample
from tests.test_detection import sizes
from tests.test_false_alarms import checks_of

RATES = Path(__file__).parent.parent / "properties" / "rates.json"


def upper_bound(alarms: int, calls: int) -> float:
    """Return the Clopper-Pearson upper end, with 95 % confidence, of a rate seen as `alarms` in `calls`."""
    return float(stats.beta.ppf(0.95, alarms + 1, calls - alarms)) if alarms < calls else 1.0


def _verdicts_of_correct(formula: str) -> list[tuple[bool, str]]:
    found = []
    for variant in (v for v in CORRECT if v.formula == formula):
        for name in variant.formats:
            fmt = get_format(name)
            implementation = variant.implement(fmt)
            for check in checks_of(variant, implementation):
                evidence = examined(
                    implementation, formula, fmt, check, None, small=variant.slow, profile=ALARMS
                )
                found.append((variant.naive, str(evidence.verdict)))
    return found


def _verdicts_of_liars(formula: str) -> list[tuple[bool, str]]:
    told = [(liar, False) for liar in LIARS] + [(as_liar(mutant), True) for mutant in sample()]
    found = []
    for liar, mutated in ((liar, mutated) for liar, mutated in told if liar.formula == formula):
        for name in liar.formats:
            fmt = get_format(name)
            for size in sizes(liar):
                told = liar.implement(fmt)
                evidence = examined(told, formula, fmt, liar.where, size, until=(Verdict.WRONG,))
                found.append((mutated, str(evidence.verdict)))
    return found


def main() -> None:
    """Measure and write the file."""
    formulas = sorted({variant.formula for variant in CORRECT})
    with ProcessPoolExecutor(2) as pool:
        correct = [row for rows in pool.map(_verdicts_of_correct, formulas) for row in rows]
        liars = [row for rows in pool.map(_verdicts_of_liars, formulas) for row in rows]
    alarms = sum(verdict == "wrong" for _, verdict in correct)
    caught = sum(verdict in ("wrong", "unstable") for _, verdict in liars)
    rates = {
        "correct": {
            "implementations": len(CORRECT),
            "calls": len(correct),
            "alarms": alarms,
            "upper": upper_bound(alarms, len(correct)),
            "unstable": sum(verdict == "unstable" for _, verdict in correct),
            "undecided": sum(verdict in ("vacuous", "inconclusive") for _, verdict in correct),
        },
        "liars": {
            "by hand": len(LIARS),
            "by mutation": len(sample()),
            "calls": len(liars),
            "caught": caught,
            "called wrong": sum(verdict == "wrong" for _, verdict in liars),
        },
    }
    RATES.write_text(json.dumps(rates, indent=1, ensure_ascii=False) + "\n", "utf-8")
    print(json.dumps(rates, indent=1, ensure_ascii=False))


if __name__ == "__main__":
    main()
