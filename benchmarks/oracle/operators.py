"""`gradcheck.check` over PyTorch's own operator database: whom it accuses, and why.

    python -m benchmarks.oracle.operators [--every K] [--only GLOB] [--samples N] [--jobs J] [--json FILE]

The database is `torch.testing._internal.common_methods_invocations.op_db`; it needs the package `expecttest`.
Asked about is every operator that has float64 and autograd, at samples of its own, each for at most two
seconds and in a process of its own. What belongs to the operation according to the database belongs to the
function that is checked: the wrapper for gradient checks, the processing of the output, the domain. Every
verdict that is no pass is put to `benchmarks.oracle.explaining`, which measures and knows no name.
"""

from __future__ import annotations

import argparse
import contextlib
import fnmatch
import importlib
import json
import math
import os
import pkgutil
import platform
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch

import gradcheck.blackbox
import gradcheck.subjects
from benchmarks.oracle import crashes, explaining, explanation, processes
from benchmarks.oracle.detect import versions
from benchmarks.oracle.samples import Sample, name_of, operators, samples, seeded

SECONDS = 2.0
# What a native call may take to return, the explanation included.
HARD = 30.0
ALONE = 15.0
SAMPLES = 1
HERE = Path(__file__).parent


def checked(sample: Sample, f: Callable[..., Any]) -> Any:
    """Return what the checker says about a function at a sample."""
    from gradcheck.blackbox import check

    seeded()
    return check(f, *sample.tensors, domain=sample.domain, max_seconds=SECONDS)


def examined(op: Any, number: int) -> dict[str, Any]:
    """Return the verdict on one sample, its findings, and what explains them."""
    from gradcheck.errors import UsageError

    found = samples(op)
    if number >= len(found):
        return {"verdict": "no sample"}
    sample = found[number]
    row: dict[str, Any] = {"sample": sample.told, "outputs without a gradient": sample.undeclared}
    begun = time.process_time()
    try:
        result = checked(sample, sample.f)
    except UsageError as error:
        return row | {"verdict": "refused", "said": str(error)[:400]}
    except Exception:
        return row | {"verdict": "failed", "said": traceback.format_exc()[-1500:]}
    row |= {
        "verdict": result.verdict.value,
        "ok": result.ok,
        "compared": result.compared,
        "resolution": result.resolution if math.isfinite(result.resolution) else None,
        "unfinished": list(result.unfinished),
        "undecided": sum(each.evidence.undecided for each in result.checks),
        "cpu seconds": round(time.process_time() - begun, 2),
    }
    findings = [_explained(sample, finding) for finding in result.findings]
    if not findings and not result.ok and not result.unfinished:
        findings = [_open(sample, each) for each in result.checks if not each.evidence.verdict.passed]
    return row | {"findings": findings}


def _open(sample: Sample, each: Any) -> dict[str, Any]:
    """Return what explains a check that compared too little."""
    said = explaining.undecided(sample.f, sample.tensors, each.cell.check)
    return {
        "check": each.cell.check,
        "message": f"{each.evidence.verdict.value}: {each.evidence.undecided} undecided",
        "explanation": said.kind,
        "measured": said.measured,
        "program": "",
    }


def _explained(sample: Sample, finding: Any) -> dict[str, Any]:
    check, program = finding.cell.check, finding.reproduction
    said = explaining.explain(sample.f, sample.tensors, check, finding.message, program)
    return {
        "check": check,
        "message": finding.message,
        "explanation": said.kind,
        "measured": said.measured,
        "program": program if said.kind == explanation.UNEXPLAINED else "",
    }


def ended(op: Any, number: int, how: str) -> dict[str, Any]:
    """Return the row of a sample whose process died or hung, with the plain call that does so alone."""
    sample = samples(op)[number]
    measured = crashes.explained(lambda g: checked(sample, g), sample.f, ALONE)
    kind = explanation.DEFECT if measured else explanation.UNEXPLAINED
    finding = {"check": "", "message": how, "explanation": kind, "measured": measured, "program": ""}
    return {"verdict": how, "ok": False, "sample": sample.told, "findings": [finding]}


def kind_of(row: dict[str, Any]) -> str:
    """Return the one explanation of a row: of several findings the one that needs a person most."""
    if row.get("ok"):
        return "pass"
    kinds = {finding["explanation"] for finding in row.get("findings", ())}
    if kinds:
        return max(kinds, key=explanation.KINDS.index)
    if row["verdict"] == "inconclusive" and row.get("unfinished"):
        return explanation.TIME
    return explanation.UNEXPLAINED


def run(chosen: Sequence[Any], number: int, jobs: int) -> Iterator[dict[str, Any]]:
    """Yield one row per sample, each examined in a process of its own."""
    tasks = [((name_of(op), op, k), partial(examined, op, k)) for op in chosen for k in range(number)]
    for (name, op, k), answer, taken in processes.run(tasks, jobs, HARD):
        row = answer if isinstance(answer, dict) else ended(op, k, answer.removeprefix("not applicable: "))
        if row["verdict"] == "no sample" and k:
            continue
        yield {"name": name, "number": k, "seconds": round(taken, 2)} | row


def report_of(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return what is published: counts, versions, machine, and every row that is no pass."""
    judged = [row for row in rows if row["verdict"] != "no sample"]
    kinds = Counter(kind_of(row) for row in judged)
    open_ = [r for r in judged if r["verdict"] in ("inconclusive", "vacuous")]
    return {
        "versions": versions(),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "seconds per sample": SECONDS,
        "operators": len({row["name"] for row in judged}),
        "operators without a dense real sample": [r["name"] for r in rows if r["verdict"] == "no sample"],
        "samples": len(judged),
        "passes": kinds.pop("pass", 0),
        "no passes": {kind: kinds.get(kind, 0) for kind in explanation.KINDS},
        "inconclusive or vacuous": len(open_),
        "of these out of time": sum(bool(row.get("unfinished")) for row in open_),
        "of these on less than half a processor": sum(
            bool(row.get("unfinished")) and row["cpu seconds"] < SECONDS / 2 for row in open_
        ),
        "seconds": round(sum(row["seconds"] for row in rows), 1),
        "rows": [{**row, "explanation": kind_of(row)} for row in judged if not row.get("ok")],
        "passed": [f"{row['name']} {row['number']}" for row in judged if row.get("ok")],
    }


def summary(report: dict[str, Any]) -> str:
    """Return the report as a table in Markdown."""
    share = report["inconclusive or vacuous"] / max(1, report["samples"])
    lines = [
        f"{report['operators']} operators of PyTorch {report['versions']['torch']}, "
        f"{report['samples']} samples,",
        f"at most {report['seconds per sample']:g} s each, {report['seconds'] / 60:.0f} minutes in all.",
        "",
        "| verdict | samples |",
        "|---|---:|",
        f"| pass | {report['passes']} |",
        *(f"| {kind} | {count} |" for kind, count in report["no passes"].items()),
        "",
        f"Inconclusive or vacuous: {report['inconclusive or vacuous']} ({100 * share:.1f} %), "
        f"{report['of these out of time']} of them out of time, of which "
        f"{report['of these on less than half a processor']} had less than half a processor.",
        "",
        "| operator | check | explanation | measured |",
        "|---|---|---|---|",
    ]
    for row in report["rows"]:
        for finding in row.get("findings", ()):
            told = finding["measured"].replace("|", "\\|")
            kind = finding["explanation"]
            lines.append(f"| {row['name']} | {finding['check']} | {kind} | {told} |")
    return "\n".join(lines) + "\n"


def _loaded() -> None:
    """Import once what every process needs, so that all of them run the same code."""
    for package in (gradcheck.blackbox, gradcheck.subjects):
        for module in pkgutil.iter_modules(package.__path__, package.__name__ + "."):
            with contextlib.suppress(ImportError):
                importlib.import_module(module.name)
    # PyTorch compiles its rules for forward mode and for batches when they are first met.
    x = torch.ones(2)
    torch.func.jvp(torch.sin, (x,), (x,))
    torch.func.vmap(torch.sin)(x)


def _kept(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def main() -> None:
    """Run the corpus, print the summary and write the report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--json", type=Path, default=HERE / "operators.json", help="where the report goes")
    parser.add_argument("--every", type=int, default=1, help="one of so many operators")
    parser.add_argument("--only", default="*", help="a pattern of names")
    parser.add_argument("--samples", type=int, choices=(1, 2), default=SAMPLES, help="of each operator")
    parser.add_argument("--jobs", type=int, default=1, help="processes at a time")
    parser.add_argument("--resume", action="store_true", help="go on with a run that was interrupted")
    given = parser.parse_args()
    try:
        everything = operators()
    except ModuleNotFoundError as error:
        parser.error(f"the operator database needs the package {error.name}: pip install '.[corpus]'")
    _loaded()
    chosen = [op for op in everything if fnmatch.fnmatch(name_of(op), given.only)][:: given.every]
    kept = given.json.with_suffix(".jsonl")
    rows = _kept(kept) if given.resume else []
    done = {row["name"] for row in rows}
    kept.write_text("".join(json.dumps(row) + "\n" for row in rows))
    for row in run([op for op in chosen if name_of(op) not in done], given.samples, given.jobs):
        rows.append(row)
        with kept.open("a") as file:
            file.write(json.dumps(row) + "\n")
        print(f"{row['name']} {row['number']}: {row['verdict']}, {kind_of(row)}", file=sys.stderr, flush=True)
    report = report_of(rows)
    given.json.write_text(json.dumps(report, indent=1, ensure_ascii=False) + "\n")
    kept.unlink()
    given.json.with_suffix(".md").write_text(summary(report))
    print(summary(report))


if __name__ == "__main__":
    main()
