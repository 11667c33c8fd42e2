"""What `gradcheck.check` and its peers catch of wrong operations, and whom they accuse of the right ones.

    python -m benchmarks.oracle.detect [--json FILE] [--sample N] [--every K] [--jobs J]

All run in one go on the same operations, each with its documented default call: see
`benchmarks.oracle.peers`. The result is printed and written as JSON. JAX and numdifftools take part where
they are installed.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import json
import os
import pkgutil
import platform
import random
import sys
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any

from scipy import stats

from benchmarks.oracle import explanation, peers, processes

OURS = "gradcheck.check"
SECONDS = 30.0
HERE = Path(__file__).parent
ALARMS = ("wrong", "inconsistent")
APART = ("unstable", "inconclusive", "vacuous")


def ours(operation: Any, explained: bool = False) -> dict[str, Any]:
    """Return the verdict of the default call, and, if asked, what explains each finding."""
    from gradcheck.blackbox import check
    from gradcheck.errors import UsageError

    call = operation.make()
    try:
        result = check(call.f, *call.inputs, **call.keywords)
    except UsageError as error:
        return {"verdict": "refused", "said": str(error)[:300], "findings": []}
    except Exception as error:
        return {"verdict": "failed", "said": f"{type(error).__name__}: {error}"[:300], "findings": []}
    findings = [f"{f.cell.check}: {_message(f)}"[:300] for f in result.findings[:3]]
    answer = {"verdict": result.verdict.value, "findings": findings, "unfinished": list(result.unfinished)}
    if explained and answer["verdict"] in ALARMS:
        answer["explanations"] = [each for f in result.findings for each in explanations_of(operation, f)]
    return answer


def explanations_of(operation: Any, finding: Any) -> list[dict[str, str]]:
    """Return what explains a finding about an operation that is taken for right, by a measurement.

    What was compared with a formula of the catalogue lies outside of an enclosure that is proven; the rest is
    put to `benchmarks.oracle.explaining`, which knows neither the checker nor a name.
    """
    from benchmarks.oracle import explaining
    from gradcheck.blackbox import check as check_again
    from gradcheck.blackbox.api import prepared
    from gradcheck.explain import BLACK_BOX

    check = finding.cell.check
    if check not in BLACK_BOX:
        return [_told(check, explanation.Explanation(explanation.DEFECT, "outside of what is proven"))]
    call = operation.make()
    if "vjp" in call.keywords:
        return [_told(check, explanation.Explanation(explanation.UNEXPLAINED, "a NumPy pair"))]
    function: Any = prepared(call.f, call.inputs, call.keywords)
    sample = [leaf.tensor.detach().clone().requires_grad_(leaf.active) for leaf in function.leaves]

    def f(*tensors: Any) -> Any:
        return function.call(list(tensors))

    found = [finding]
    if any(leaf.fixed for leaf in function.leaves):
        # The program of a module does not hold its parameters; that of a function of them does.
        found = [each for each in check_again(f, *sample).findings if each.cell.check == check]
    said = [
        _told(check, explaining.explain(f, sample, check, each.message, each.reproduction)) for each in found
    ]
    return said or [_told(check, explanation.Explanation(explanation.UNEXPLAINED, "not found again"))]


def _told(check: str, said: explanation.Explanation) -> dict[str, str]:
    return {"check": check, "explanation": said.kind, "measured": said.measured}


def _message(finding: Any) -> str:
    return str(getattr(finding, "message", finding)).partition("\n")[0]


def asked(name: str, operation: Any) -> str:
    """Return what a peer says."""
    return peers.ask(name, operation.make())


def upper_bound(count: int, number: int) -> float:
    """Return the Clopper-Pearson upper bound of the two-sided 95 % interval."""
    return 1.0 if count >= number else float(stats.beta.ppf(0.975, count + 1, number - count))


def lower_bound(count: int, number: int) -> float:
    """Return the Clopper-Pearson lower bound of the two-sided 95 % interval."""
    return 0.0 if count <= 0 else float(stats.beta.ppf(0.025, count, number - count + 1))


def runnable() -> list[str]:
    """Return the names of the peers that are installed."""
    return [name for name in peers.peer_names() if not peers.missing(name)]


def wrong(
    operations: Sequence[Any], jobs: int, budget: float, kept: dict[str, Any] | None = None
) -> list[dict[str, Any]]:
    """Ask everybody about wrong operations, peers only about what an earlier report does not have."""
    earlier = {row["name"]: row["peers"] for row in (kept or {}).get("answers", ())}
    rows = {
        o.name: {
            "name": o.name,
            "cause": o.cause,
            "ours": None,
            "seconds": 0.0,
            "peers": dict(earlier.get(o.name, {})),
        }
        for o in operations
    }
    tasks: list[Any] = []
    for o in operations:
        tasks.append(((o.name, OURS), partial(ours, o)))
        new = [peer for peer in runnable() if peer not in rows[o.name]["peers"]]
        tasks += [((o.name, peer), partial(asked, peer, o)) for peer in new]
    _answered(rows, tasks, jobs, budget)
    return [row for row in rows.values() if row["ours"] and set(runnable()) <= set(row["peers"])]


def _answered(rows: dict[str, dict[str, Any]], tasks: Sequence[Any], jobs: int, budget: float) -> None:
    for number, ((name, who), answer, taken) in enumerate(processes.run(tasks, jobs, SECONDS, budget), 1):
        _filled(rows[name], who, answer, taken)
        if number % 100 == 0 or number == len(tasks):
            print(f"{number:,} of {len(tasks):,} answers", file=sys.stderr, flush=True)


def _filled(row: dict[str, Any], who: str, answer: Any, taken: float) -> None:
    if who == OURS:
        row["ours"] = answer if isinstance(answer, dict) else {"verdict": answer, "findings": []}
        row["seconds"] = round(taken, 2)
    else:
        row["peers"][who] = answer


class _Right:
    """A right call with the interface of an operation."""

    def __init__(self, name: str, regime: Any) -> None:
        self.name, self.make = f"{name} ({regime.name})", regime.make


def right(every: int, sample: int, jobs: int, budget: float) -> list[dict[str, Any]]:
    """Ask about right calls: ours about one of `every`, the peers about `sample`, spread over the corpus."""
    from tests.blackbox.corpus.correct import CORRECT, regimes

    calls = [_Right(o.name, r) for o in CORRECT for r in regimes(o)]
    for_ours = calls[::every]
    step = max(1, len(calls) // sample) if sample else len(calls)
    for_peers = calls[::step][:sample]
    rows = {c.name: {"name": c.name, "ours": None, "seconds": 0.0, "peers": {}} for c in calls}
    tasks: list[Any] = [((c.name, OURS), partial(ours, c, explained=True)) for c in for_ours]
    tasks += [((c.name, peer), partial(asked, peer, c)) for peer in runnable() for c in for_peers]
    # In random order: where the budget ends the run, what was asked is still a sample of everything.
    random.Random(0).shuffle(tasks)
    _answered(rows, tasks, jobs, budget)
    return [row for row in rows.values() if row["ours"] or row["peers"]]


def caught_by_ours(row: dict[str, Any]) -> bool:
    """Whether there is a finding."""
    return bool(row["ours"]["findings"])


def caught_by(row: dict[str, Any], peer: str) -> bool:
    """Whether a peer caught it."""
    return row["peers"].get(peer) == peers.CAUGHT


def by_cause(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the counts of each cause and of all."""
    causes = list(dict.fromkeys(row["cause"] for row in rows))
    chosen = {cause: [r for r in rows if r["cause"] == cause] for cause in causes} | {"all": list(rows)}
    return [_counts(cause, some) for cause, some in chosen.items()]


def _counts(cause: str, rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    made: dict[str, Any] = {"cause": cause, "number": len(rows), OURS: sum(map(caught_by_ours, rows))}
    made["any peer"] = sum(any(caught_by(r, p) for p in r["peers"]) for r in rows)
    made["by a peer, not by ours"] = sum(
        any(caught_by(r, p) for p in r["peers"]) and not caught_by_ours(r) for r in rows
    )
    for peer in peers.peer_names():
        if why := peers.missing(peer):
            made[peer] = {"caught": None, "passed": None, "not applicable": None, "why": why}
            continue
        said = Counter(r["peers"].get(peer, "").partition(":")[0] for r in rows)
        made[peer] = {k: said[k] for k in (peers.CAUGHT, peers.PASSED, peers.NOT_APPLICABLE)}
    return made


def alarms(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the counts of the right calls: alarms with their bounds, what is apart, the peers' alarms."""
    mine = [r for r in rows if r["ours"]]
    said = Counter(r["ours"]["verdict"] for r in mine)
    accused = [r for r in mine if r["ours"]["verdict"] in ALARMS]
    why = Counter(_why(r) for r in accused)
    made: dict[str, Any] = {OURS: _rate(why.pop(explanation.UNEXPLAINED, 0), len(mine))}
    made[OURS] |= {"explained by a measurement": dict(why)}
    made[OURS] |= {v: said[v] for v in APART} | {
        "other": {k: n for k, n in said.items() if k not in (*ALARMS, *APART)},
        "unfinished": sum(bool(r["ours"].get("unfinished")) for r in mine),
    }
    for peer in peers.peer_names():
        if why := peers.missing(peer):
            made[peer] = {"why": why}
            continue
        answers = [r["peers"][peer] for r in rows if peer in r["peers"]]
        heard = [a for a in answers if a in (peers.CAUGHT, peers.PASSED)]
        made[peer] = _rate(heard.count(peers.CAUGHT), len(heard))
        made[peer]["not applicable"] = len(answers) - len(heard)
    return made


def _why(row: dict[str, Any]) -> str:
    """Return the one explanation of a row: of several findings the one that needs a person most."""
    kinds = {each["explanation"] for each in row["ours"].get("explanations", ())}
    return max(kinds, key=explanation.KINDS.index, default=explanation.UNEXPLAINED)


def _rate(count: int, number: int) -> dict[str, Any]:
    return {
        "alarms": count,
        "calls": number,
        "rate": count / number if number else None,
        "upper 95 %": upper_bound(count, number),
    }


def versions() -> dict[str, str]:
    """Return the versions of everything that took part."""
    found = {"python": platform.python_version()}
    for name in ("torch", "numpy", "scipy", "jax", "numdifftools"):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found


def table(report: dict[str, Any]) -> str:
    """Return the report as text."""
    lines = [
        f"{'cause':<22}{'number':>7}{'ours':>6}{'any peer':>9}" + "".join(f"  [{k}]" for k in range(1, 8))
    ]
    for row in report["wrong by cause"]:
        each = [row[p]["caught"] for p in peers.peer_names()]
        cells = "".join(f"{'-' if n is None else n:>5}" for n in each)
        lines.append(f"{row['cause']:<22}{row['number']:>7}{row[OURS]:>6}{row['any peer']:>9}{cells}")
    total = report["wrong by cause"][-1]
    for k, peer in enumerate(peers.peer_names(), 1):
        told = total[peer].get("why") or f"not applicable to {total[peer][peers.NOT_APPLICABLE]}"
        lines.append(f"  [{k}] {peer} ({told})")
    lines += ["", f"missed by ours ({len(report['missed'])}):"]
    lines += [
        f"  {m['name']} ({m['cause']}): {m['verdict']}; caught by {', '.join(m['caught by']) or 'no peer'}"
        for m in report["missed"]
    ]
    lines += ["", "right calls:"]
    for who, counts in report["right"].items():
        lines.append(f"  {who}: " + ", ".join(f"{k} {_short(v)}" for k, v in counts.items()))
    lines += ["", f"alarms of ours ({len(report['alarms'])}):"]
    lines += [f"  {a['name']}: {a['why']}: {a['findings'][:1]}" for a in report["alarms"]]
    return "\n".join(lines)


def _short(value: Any) -> str:
    return f"{value:.4f}" if isinstance(value, float) else str(value)


def report_of(bad: Sequence[dict[str, Any]], good: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return everything that is published, the answers of everybody included."""
    all_ = by_cause(bad)
    found = all_[-1][OURS]
    return {
        "versions": versions(),
        "cores": os.cpu_count(),
        "wrong by cause": all_,
        "caught": {"number": found, "of": len(bad), "lower 95 %": lower_bound(found, len(bad))},
        "seconds of ours": _spread(r["seconds"] for r in [*bad, *good] if r["ours"]),
        "missed": [
            {
                "name": r["name"],
                "cause": r["cause"],
                "verdict": r["ours"]["verdict"],
                "caught by": [p for p in r["peers"] if caught_by(r, p)],
            }
            for r in bad
            if not caught_by_ours(r)
        ],
        "right": alarms(good),
        "alarms": [
            {"name": r["name"], "why": _why(r), **r["ours"]}
            for r in good
            if r["ours"] and r["ours"]["verdict"] in ALARMS
        ],
        "apart": [
            {"name": r["name"], **r["ours"]}
            for r in good
            if r["ours"] and (r["ours"]["verdict"] in APART or r["ours"].get("unfinished"))
        ],
        "peers' alarms": [
            {"name": r["name"], "peers": [p for p in r["peers"] if caught_by(r, p)]}
            for r in good
            if any(caught_by(r, p) for p in r["peers"])
        ],
        "answers": list(bad),
    }


def _spread(seconds: Iterable[float]) -> dict[str, float]:
    found = sorted(seconds)
    return {"median": found[len(found) // 2], "95 %": found[int(0.95 * len(found))], "largest": found[-1]}


def _loaded() -> None:
    """Import once what every process needs, so that all of them run the same code and none waits for it."""
    import gradcheck.blackbox
    import gradcheck.subjects

    for package in (gradcheck.blackbox, gradcheck.subjects):
        for module in pkgutil.iter_modules(package.__path__, package.__name__ + "."):
            with contextlib.suppress(ImportError):
                importlib.import_module(module.name)
    for name in ("jax.test_util", "numdifftools", "scipy.optimize"):
        with contextlib.suppress(ImportError):
            importlib.import_module(name)


def main() -> None:
    """Run everything and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--json", type=Path, default=HERE / "detection.json", help="where the report goes")
    parser.add_argument("--sample", type=int, default=100, help="right calls that the peers are asked about")
    parser.add_argument("--every", type=int, default=1, help="ours is asked about one of so many right calls")
    parser.add_argument("--limit", type=int, default=None, help="wrong operations, for a try; default all")
    parser.add_argument(
        "--budget", type=float, default=float("inf"), help="seconds for each of the two parts"
    )
    parser.add_argument("--jobs", type=int, default=2, help="processes at a time")
    parser.add_argument(
        "--keep", type=Path, help="an earlier report: what the peers said stays, and only ours is asked again"
    )
    given = parser.parse_args()
    kept = None if given.keep is None else json.loads(given.keep.read_text(encoding="utf-8"))
    _loaded()
    from tests.blackbox.corpus.wrong_by_hand import WRONG_BY_HAND
    from tests.blackbox.corpus.wrong_by_mutation import WRONG_BY_MUTATION

    started = time.monotonic()
    operations = [*WRONG_BY_HAND, *WRONG_BY_MUTATION]
    if given.limit:
        operations = operations[:: max(1, len(operations) // given.limit)]
    random.Random(0).shuffle(operations)
    bad = wrong(operations, given.jobs, given.budget, kept)
    good = right(given.every, 0 if kept else given.sample, given.jobs, given.budget)
    report = report_of(bad, good)
    if kept:
        report["right"] |= {peer: kept["right"][peer] for peer in peers.peer_names()}
        report["peers' alarms"] = kept["peers' alarms"]
        report["peers are those of"] = kept["versions"]
    report["complete"] = len(bad) == len(WRONG_BY_HAND) + len(WRONG_BY_MUTATION) and given.every == 1
    report["seconds of all"] = round(time.monotonic() - started)
    given.json.write_text(json.dumps(report, indent=1, ensure_ascii=False) + "\n")
    print(table(report))


if __name__ == "__main__":
    main()
