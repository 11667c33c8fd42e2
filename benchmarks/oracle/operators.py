"""`gradcheck.check` over PyTorch's own operator database: whom it accuses, and why.

    python -m benchmarks.oracle.operators [--every K] [--only GLOB] [--jobs J] [--json FILE]

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
import random
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

import gradcheck.blackbox
import gradcheck.subjects
from benchmarks.oracle import crashes, explaining, explanation, processes
from benchmarks.oracle.detect import versions

SECONDS = 2.0
# What a native call may take to return, the explanation included.
HARD = 30.0
ALONE = 15.0
SAMPLES = 1
# A sample is small and not trivial if its differentiated inputs hold so many numbers.
FEWEST, MOST = 4, 400
MOST_ENTRIES = 60_000
HERE = Path(__file__).parent


@dataclass(frozen=True)
class Sample:
    """One call of an operator: a function of tensors, the tensors, the domain, and what it is in words."""

    f: Callable[..., Any]
    tensors: tuple[Any, ...]
    domain: Any
    told: str
    undeclared: int = 0


@cache
def operators() -> tuple[Any, ...]:
    """Return the operators that can be differentiated in float64, in the order of the database."""
    from torch.testing._internal.common_methods_invocations import op_db

    return tuple(op for op in op_db if op.supports_autograd and torch.float64 in op.supported_dtypes("cpu"))


def name_of(op: Any) -> str:
    """Return the name of an operator with that of its variant."""
    return f"{op.name}.{op.variant_test_name}" if op.variant_test_name else str(op.name)


def domain_of(op: Any) -> tuple[float, float] | None:
    """Return the open interval that the database documents; only elementwise operators have one."""
    low, high = getattr(op, "domain", (None, None))
    if low is None and high is None:
        return None
    return -math.inf if low is None else float(low), math.inf if high is None else float(high)


def function_of(op: Any, sample: Any) -> tuple[Callable[..., Any], tuple[Any, ...]]:
    """Return a sample's call as a function of its tensors, and the tensors in order.

    A complex result is seen as its real and imaginary parts, as `torch.autograd.gradcheck` sees it.
    """
    tensors: list[Any] = []

    def taken(item: Any) -> Any:
        if isinstance(item, torch.Tensor):
            tensors.append(item)
            return _Slot(len(tensors) - 1)
        if isinstance(item, list | tuple):
            return _same_kind(item, [taken(each) for each in item])
        if isinstance(item, dict):
            return {key: taken(each) for key, each in item.items()}
        return item

    template = taken((sample.input, tuple(sample.args), dict(sample.kwargs)))
    process = sample.output_process_fn_grad or (lambda output: output)

    def f(*given: Any) -> Any:
        first, rest, named = _filled(template, given)
        return _real(process(op.gradcheck_wrapper(op.op, first, *rest, **named)))

    f.__name__ = f.__qualname__ = name_of(op)

    def raw(*given: Any) -> Any:
        first, rest, named = _filled(template, given)
        return op.op(first, *rest, **named)

    f.aten, f.raw = op.aten_name, raw  # type: ignore[attr-defined]
    return f, tuple(tensors)


@dataclass(frozen=True)
class _Slot:
    place: int


def _same_kind(item: Any, made: list[Any]) -> Any:
    return type(item)(*made) if hasattr(item, "_fields") else type(item)(made)


def _filled(template: Any, given: Sequence[Any]) -> Any:
    if isinstance(template, _Slot):
        return given[template.place]
    if isinstance(template, list | tuple):
        return _same_kind(template, [_filled(each, given) for each in template])
    if isinstance(template, dict):
        return {key: _filled(each, given) for key, each in template.items()}
    return template


def declared(f: Callable[..., Any], tensors: Sequence[Any]) -> tuple[Callable[..., Any], int]:
    """Return the function without the outputs that autograd declares not differentiable, and their number.

    They say so themselves (`requires_grad` is False beside others that have a gradient);
    `torch.autograd.gradcheck` leaves them out as well.
    """
    outputs = _tuple(f(*tensors))
    live = [k for k, o in enumerate(outputs) if isinstance(o, torch.Tensor) and o.requires_grad]
    floating = [k for k, o in enumerate(outputs) if isinstance(o, torch.Tensor) and o.is_floating_point()]
    if live == floating:
        return f, 0

    kept = [k for k in range(len(outputs)) if k in live or k not in floating]

    def g(*given: Any) -> Any:
        found = _tuple(f(*given))
        return tuple(found[k] for k in kept)

    g.__name__, g.__qualname__ = f.__name__, f.__qualname__
    g.aten, g.raw = f.aten, f.raw  # type: ignore[attr-defined]
    return g, len(floating) - len(live)


def _tuple(result: Any) -> tuple[Any, ...]:
    return tuple(result) if isinstance(result, tuple | list) else (result,)


def _real(result: Any) -> Any:
    if isinstance(result, torch.Tensor):
        return torch.view_as_real(result.resolve_conj()) if result.is_complex() else result
    if isinstance(result, list | tuple):
        return tuple(_real(each) for each in result)
    return result


def samples(op: Any) -> list[Sample]:
    """Return small samples that are not trivial: the first in the database, and the middle one."""
    _seeded()
    every = [
        (*function_of(op, sample), sample)
        for sample in op.sample_inputs("cpu", torch.float64, requires_grad=True)
        if not isinstance(sample.input, torch.Tensor) or sample.input.layout is torch.strided
    ]
    usable = [each for each in every if _usable(each[1])]
    fit = [each for each in usable if _fits(*each[:2])]
    if not fit:
        # None is of the wanted size: the one that is nearest to it.
        fit = sorted((each for each in usable if _answers(*each[:2])), key=lambda each: _far(each[1]))[:1]
    made = []
    for k in dict.fromkeys((0, len(fit) // 2)) if fit else ():
        f, tensors, sample = fit[k]
        g, undeclared = declared(f, tensors)
        told = sample.summary()[:400]
        made.append(Sample(g, tensors, domain_of(op), told, undeclared))
    return made


def _seeded() -> None:
    torch.manual_seed(0)
    random.seed(0)
    np.random.seed(0)


def _usable(tensors: Sequence[Any]) -> bool:
    plain = all(t.layout is torch.strided and not t.is_complex() for t in tensors)
    return plain and any(t.requires_grad for t in tensors)


def _fits(f: Callable[..., Any], tensors: Sequence[Any]) -> bool:
    numbers = sum(t.numel() for t in tensors if t.requires_grad)
    if not FEWEST <= numbers <= MOST:
        return False
    outputs = _answers(f, tensors)
    return outputs >= 1 and outputs * numbers <= MOST_ENTRIES


def _far(tensors: Sequence[Any]) -> float:
    numbers = sum(t.numel() for t in tensors if t.requires_grad)
    return numbers / MOST if numbers > MOST else FEWEST / max(numbers, 0.5)


def _answers(f: Callable[..., Any], tensors: Sequence[Any]) -> int:
    """Return how many numbers with a gradient a call returns."""
    try:
        found = _tuple(f(*tensors))
    except Exception:
        return 0
    live = [o for o in found if isinstance(o, torch.Tensor) and o.is_floating_point() and o.requires_grad]
    return sum(o.numel() for o in live)


def checked(sample: Sample, f: Callable[..., Any]) -> Any:
    """Return what the checker says about a function at a sample."""
    from gradcheck.blackbox import check

    _seeded()
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
    return row | {"findings": [_explained(sample, finding) for finding in result.findings]}


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
        f"{report['of these out of time']} of them out of time.",
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


def main() -> None:
    """Run the corpus, print the summary and write the report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--json", type=Path, default=HERE / "operators.json", help="where the report goes")
    parser.add_argument("--every", type=int, default=1, help="one of so many operators")
    parser.add_argument("--only", default="*", help="a pattern of names")
    parser.add_argument("--samples", type=int, choices=(1, 2), default=SAMPLES, help="of each operator")
    parser.add_argument("--jobs", type=int, default=1, help="processes at a time")
    given = parser.parse_args()
    try:
        everything = operators()
    except ModuleNotFoundError as error:
        parser.error(f"the operator database needs the package {error.name}: pip install '.[corpus]'")
    _loaded()
    chosen = [op for op in everything if fnmatch.fnmatch(name_of(op), given.only)][:: given.every]
    rows = []
    for row in run(chosen, given.samples, given.jobs):
        rows.append(row)
        print(f"{row['name']} {row['number']}: {row['verdict']}, {kind_of(row)}", file=sys.stderr, flush=True)
    report = report_of(rows)
    given.json.write_text(json.dumps(report, indent=1, ensure_ascii=False) + "\n")
    given.json.with_suffix(".md").write_text(summary(report))
    print(summary(report))


if __name__ == "__main__":
    main()
