"""The result of `gradcheck.check`: a verdict for each check, findings with what reproduces them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from gradcheck.blackbox.seen import Problem, Seen
from gradcheck.encoding import check_record, finding_record, plain
from gradcheck.explain import code_for
from gradcheck.formats import get_format
from gradcheck.records import Cell, Evidence, Finding, Verdict, Worst

_ORDER = (
    Verdict.WRONG,
    Verdict.INCONSISTENT,
    Verdict.UNSTABLE,
    Verdict.INCONCLUSIVE,
    Verdict.CONSISTENT,
    Verdict.AGREES,
    Verdict.ACCURATE,
)


@dataclass(frozen=True)
class Checked:
    """One check: its cell, what it saw, its findings, and how long it took."""

    cell: Cell
    evidence: Evidence
    findings: tuple[Finding, ...] = ()
    seconds: float = 0.0


@dataclass(frozen=True)
class Result:
    """What `check` found.

    `ok` holds if there is no finding, something was compared and the plan was finished. `resolution` is the
    smallest error of one entry, relative to the largest of its Jacobian, that would have been seen at the
    example. `unfinished` names the checks that the time did not allow; they are inconclusive.
    """

    name: str
    framework: str
    checks: tuple[Checked, ...]
    seconds: float
    notes: tuple[str, ...] = ()
    machine: Mapping[str, str] = field(default_factory=dict)

    @property
    def findings(self) -> tuple[Finding, ...]:
        """What a person must read, the most telling first."""
        return tuple(finding for each in self.checks for finding in each.findings)

    @property
    def verdict(self) -> Verdict:
        """The worst verdict of any check; vacuous if nothing was compared."""
        seen = {each.evidence.verdict for each in self.checks}
        for verdict in _ORDER:
            if verdict in seen:
                return verdict
        return Verdict.VACUOUS

    @property
    def unfinished(self) -> tuple[str, ...]:
        """The checks that were begun or planned and not finished."""
        return tuple(each.cell.check for each in self.checks if each.evidence.unfinished)

    @property
    def resolution(self) -> float:
        """The smallest relative error that would have been seen at the example; inf without numbers."""
        seen = [c.evidence.resolution for c in self.checks if c.evidence.compared and c.cell.check in _MAIN]
        return max(seen, default=math.inf)

    @property
    def compared(self) -> int:
        """How many numbers were compared."""
        return sum(each.evidence.compared for each in self.checks)

    @property
    def ok(self) -> bool:
        """Whether nothing was found, something was compared, and the plan was finished."""
        return not self.findings and self.compared > 0 and not self.unfinished and self.verdict.passed

    def __bool__(self) -> bool:
        return self.ok

    def to_json(self) -> str:
        """Return the result as JSON text, checks and findings as in `evidence.json`."""
        from gradcheck.evidence import to_json_text

        return to_json_text(
            {
                "name": self.name,
                "framework": self.framework,
                "verdict": self.verdict.value,
                "ok": self.ok,
                "resolution": plain(float(self.resolution)),
                "unfinished": list(self.unfinished),
                "seconds": self.seconds,
                "notes": list(self.notes),
                "checks": [plain(check_record(c.cell, c.evidence, c.seconds)) for c in self.checks],
                "findings": [plain(finding_record(f, None, {})) for f in self.findings],
            }
        )

    def __str__(self) -> str:
        lines = [
            f"{self.name} ({self.framework}): {self.verdict.value}; {self.compared:,} numbers compared "
            f"in {self.seconds:.2f} s, resolution {self.resolution:.1e} of the largest entry"
        ]
        for finding in self.findings:
            lines += ["", f"{finding.id} {finding.code}", f"  {finding.message}", *_amount(finding)]
            if finding.reproduction:
                lines += ["  reproduce:", *(f"    {line}" for line in finding.reproduction.splitlines())]
        lines.append("")
        width = max((len(each.cell.check) for each in self.checks), default=0)
        for each in self.checks:
            told = f"{each.evidence.compared:>12,} compared"
            undecided = f", {each.evidence.undecided:,} undecided" if each.evidence.undecided else ""
            unfinished = ", unfinished: more time is needed (max_seconds)" if each.evidence.unfinished else ""
            verdict = each.evidence.verdict.value
            lines.append(f"  {each.cell.check:<{width}}  {verdict:<12}{told}{undecided}{unfinished}")
            lines += [f"    {note}" for note in each.evidence.notes[:3]]
        lines += [f"  note: {note}" for note in self.notes]
        return "\n".join(lines)


def _amount(finding: Finding) -> list[str]:
    """Return one line with the error in ULP and relative, and the bound; none where nothing was computed."""
    worst = finding.evidence.worst
    if worst is None or not math.isfinite(worst.expected):
        return []
    relative = worst.error / abs(worst.expected) if worst.expected else math.inf
    at = f"at {worst.input[0]!r}: " if len(worst.input) == 1 else ""
    return [f"  {at}error {worst.ulp:.3g} ULP, relative {relative:.2g}, bound {worst.bound:.2g}"]


_MAIN = ("jacobian", "value", "derivative", "trajectory", "update")


def checked(
    cell: Cell, seen: Seen, seconds: float, unfinished: bool, program: Callable[[Problem], str]
) -> Checked:
    """Turn what a check saw into evidence and findings; of equal kinds the smallest example is kept."""
    kinds: dict[tuple[str, str], Problem] = {}
    for problem in seen.problems:
        key = problem.breach, problem.format
        if key not in kinds or problem.size < kinds[key].size:
            kinds[key] = problem
    breaches: dict[str, int] = {}
    for problem in seen.problems:
        if problem.breach:
            breaches[problem.breach] = breaches.get(problem.breach, 0) + 1
    evidence = Evidence(
        compared=seen.compared,
        outside_unstable=sum(not problem.breach for problem in seen.problems),
        breaches=breaches,
        undecided=seen.undecided,
        cases=seen.cases,
        resolution=seen.resolution,
        families=seen.families,
        notes=seen.notes,
        black_box=True,
        unfinished=unfinished,
    )
    findings = tuple(_finding(cell, evidence, problem, program) for problem in kinds.values())
    worst = findings[0].evidence.worst if findings else None
    return Checked(cell, _with(evidence, worst), findings, seconds)


def _with(evidence: Evidence, worst: Worst | None) -> Evidence:
    return evidence if worst is None else replace(evidence, worst=worst)


def _finding(cell: Cell, evidence: Evidence, problem: Problem, program: Callable[[Problem], str]) -> Finding:
    breaches = {problem.breach: 1} if problem.breach else {}
    worst = None
    if not math.isnan(problem.expected) or not math.isnan(problem.got):
        fmt = get_format(problem.format)
        ulp = float(abs(problem.got - problem.expected) / fmt.ulp(problem.expected))
        at = () if math.isnan(problem.value) else (problem.value,)
        worst = Worst(
            input=at,
            got=problem.got,
            expected=problem.expected,
            error=problem.error,
            bound=problem.bound,
            ulp=ulp,
            index=problem.index,
            size=max(1, problem.size),
            context=problem.family,
        )
    code = code_for(cell.check, Verdict.INCONSISTENT, breaches)
    return Finding(code, cell, _with(evidence, worst), problem.message, program(problem))
