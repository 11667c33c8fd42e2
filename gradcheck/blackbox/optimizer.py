"""`gradcheck.check_optimizer`: an oracle for a user's own optimizer."""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from gradcheck.blackbox import optimizer_laws as laws
from gradcheck.blackbox import optimizer_reference as against
from gradcheck.blackbox import optimizer_runs as runs
from gradcheck.blackbox.clock import Clock
from gradcheck.blackbox.elsewhere import Task
from gradcheck.blackbox.isolation import isolated
from gradcheck.blackbox.optimizer_shrinking import shrunk_fault, shrunk_law
from gradcheck.blackbox.result import Checked, Result, checked
from gradcheck.blackbox.seen import Problem, Seen
from gradcheck.errors import UsageError, unknown_name
from gradcheck.explain import OPTIMIZER_CHECKS, code_for
from gradcheck.formulas import get_formula
from gradcheck.formulas import optimizers as catalogue
from gradcheck.records import Cell, Evidence, Finding, Formula, Verdict
from gradcheck.subjects import torch_optimizer_function as torch_optimizer
from gradcheck.subjects.torch_optimizer_function import Make, Played, Scenario
from gradcheck.subjects.torch_optimizer_program import program, source_of
from gradcheck.subjects.torch_process import restored

CHECKS = tuple(OPTIMIZER_CHECKS)
_JUDGED = ("trajectory", "machine")
_APART = ("groups", "alone")
_NARROW = ("float32", "bfloat16")
# More findings of one check tell nothing new.
_ENOUGH = 3
# The share of the time left in which smaller examples are looked for.
_SHRINKING = 0.25


@dataclass
class _Subject:
    """The optimizer under test, and what it is held against."""

    make: Make
    optimizer: Any
    formula: Formula | None
    base: Mapping[str, Any]
    offer: runs.Offer
    seed: int
    clock: Clock
    source: list[str] = field(default_factory=list)
    told: set[str] = field(default_factory=set)

    def cell(self, check: str, fmt: str = "float64") -> Cell:
        """Return where evidence of a check belongs."""
        return Cell(type(self.optimizer).__name__, "torch", fmt, check)


def check_optimizer(
    make: Make,
    reference: str | None = None,
    options: Mapping[str, Any] | None = None,
    *,
    checks: Iterable[str] | None = None,
    max_seconds: float = 10.0,
    seed: int = 0,
    isolate: bool = False,
) -> Result:
    """Check an optimizer: against one of the catalogue, and against what any optimizer has to keep to.

    `make(params)` returns a `torch.optim.Optimizer` of the parameters that it is given, a list or groups.
    `reference` names the formula that it is to compute ("sgd", "adam", ...), `options` those of the formula
    (lr, betas, ...); what is left out is taken from the options that the optimizer shows in its groups. With
    a reference every step is judged by proven bounds in float64, float32 and bfloat16, and the verdict may
    be *accurate*; without one, runs that must end alike are compared, and it is *consistent* at best.

    `checks` chooses among `gradcheck.blackbox.optimizer.CHECKS`; `max_seconds` is a ceiling, what it does not
    allow is unfinished. `isolate` runs everything in a process of its own, where a crash is a finding. Seeds,
    modes and flags of the process are left as they were. Raises `UsageError` for a `make` that makes no
    optimizer of its parameters, for an unknown reference, and for options that are unknown, out of range, or
    other than those of the optimizer.
    """
    started = time.monotonic()
    formula = _formula(reference)
    if formula is None and options:
        raise UsageError("options: they are those of a reference; name one, reference='adam' say")
    if not (isinstance(max_seconds, int | float) and max_seconds > 0):
        raise UsageError(f"max_seconds: expected a positive number of seconds, got {max_seconds!r}")
    chosen = _chosen(checks, formula)
    if isolate and callable(make):
        given = {"reference": reference, "options": options, "checks": tuple(chosen), "seed": seed}
        return isolated(make, (), {**given, "max_seconds": max_seconds}, _isolated)
    with warnings.catch_warnings(), np.errstate(all="ignore"), restored():
        warnings.simplefilter("ignore")
        optimizer = torch_optimizer.probe(make)
        # What PyTorch imports when the first optimizer is made is no part of the check.
        clock = Clock(time.monotonic() + max_seconds)
        visible = {k: v for k, v in optimizer.param_groups[0].items() if k != "params"}
        base, notes = against.chosen(formula, options or {}, visible) if formula else ({}, ())
        offer = runs.Offer(visible, torch_optimizer.needs_closure(optimizer))
        if offer.closure and checks is None:
            chosen = [name for name in chosen if name not in _APART]
            notes = (*notes, f"step needs a closure, and all weights are one: {', '.join(_APART)} left out")
        subject = _Subject(make, optimizer, formula, base, offer, seed, clock)
        subject.source = source_of(make, optimizer)
        done = list(_all(subject, chosen))
    said = f" against {formula.name}" if formula is not None else ""
    name = f"{type(optimizer).__name__}{said}"
    # What the optimizer does not offer, programs to choose among say, was not run: that is no verdict.
    notes += tuple(f"{each.cell.check}: nothing to compare" for each in done if _idle(each))
    kept = tuple(each for each in done if not _idle(each))
    return Result(name, "torch", kept, time.monotonic() - started, notes)


def _isolated(task: Task) -> tuple[Result, None]:
    return check_optimizer(task.f, **task.arguments), None


def _idle(each: Checked) -> bool:
    return not (each.evidence.compared or each.findings or each.evidence.unfinished or each.evidence.cases)


def _formula(reference: str | None) -> Formula | None:
    if reference is None:
        return None
    names = [formula.name for formula in catalogue.FORMULAS]
    if not isinstance(reference, str):
        raise UsageError(
            f"reference: expected the name of an optimizer ({', '.join(names)}), "
            f"got {type(reference).__name__}"
        )
    if reference not in names:
        raise unknown_name("optimizer", reference, names)
    return get_formula(reference)


def _chosen(checks: Iterable[str] | None, formula: Formula | None) -> list[str]:
    needs = ("trajectory", "machine", "long-run")
    if checks is None:
        # Against a reference every format is judged by bounds, which a comparison of formats is no match for.
        left_out = needs if formula is None else ("formats",)
        return [name for name in CHECKS if name not in left_out]
    named = (checks,) if isinstance(checks, str) else tuple(checks)
    for name in named:
        if name not in CHECKS:
            raise unknown_name("check", name, CHECKS)
        if name in needs and formula is None:
            raise UsageError(f"checks: {name!r} needs the argument reference=, the name of an optimizer")
    if not named:
        raise UsageError("checks: expected at least one name, got none; leave it out for all of them")
    return [name for name in CHECKS if name in named]


def _all(subject: _Subject, chosen: list[str]) -> Iterator[Checked]:
    """Yield the checks, the most telling first; what a wrong trajectory would only repeat is left out."""
    wrong = found = False
    for name in chosen:
        if (name in _JUDGED and wrong) or (name == "long-run" and found):
            continue
        if name in _JUDGED:
            done = _judged(subject, name, "float64")
            wrong = wrong or any(f.evidence.verdict is Verdict.WRONG for f in done.findings)
            found = found or bool(done.findings)
            yield done
        elif name == "long-run":
            yield _late(subject)
        else:
            yield _lawful(subject, name)
    if "trajectory" in chosen and not wrong:
        for fmt in _NARROW:
            yield _judged(subject, "trajectory", fmt)


def _judged(subject: _Subject, check: str, fmt: str) -> Checked:
    """Hold scenarios against the reference, step by step."""
    started = time.monotonic()
    formula = subject.formula
    assert formula is not None
    total, found, unfinished = Evidence(cases=0), None, False
    if check == "trajectory":
        scenarios = runs.trajectories(fmt, subject.seed)
    else:
        scenarios = runs.at_work(subject.offer, subject.seed)
    for scenario in scenarios:
        if subject.clock.left() <= 0:
            unfinished = True
            break
        played = torch_optimizer.play(subject.make, scenario)
        if played.raised and _may_refuse(scenario):
            total = total.merge(Evidence(notes=(f"{scenario.family}: refused, {played.raised}",)))
            continue
        evidence, fault = against.compared(formula, subject.base, scenario, played)
        total = total.merge(evidence)
        if evidence.verdict.is_finding:
            found = (scenario, played, evidence, fault)
            break
    total = replace(total, unfinished=unfinished, black_box=unfinished and found is None)
    seconds = time.monotonic() - started
    cell = subject.cell(check, fmt)
    if found is None:
        return Checked(cell, total, (), seconds)
    return Checked(cell, total, (_finding(subject, cell, *found),), seconds)


def _may_refuse(scenario: Scenario) -> bool:
    """Whether a scenario asks for something that an optimizer need not offer."""
    return bool(scenario.common)


def _finding(
    subject: _Subject, cell: Cell, scenario: Scenario, played: Played, evidence: Evidence, fault: Any
) -> Finding:
    formula = subject.formula
    assert formula is not None
    code = code_for(cell.check, evidence.verdict, evidence.breaches)
    if fault is None:
        lines = program(subject.source, scenario, subject.optimizer, 0, 0)
        message = f"{scenario.family} in {cell.format}: step() raised {played.raised}"
        return Finding(code, cell, evidence, message, "\n".join(lines))
    end = time.monotonic() + max(0.0, _SHRINKING * subject.clock.left())
    scenario, fault = shrunk_fault(subject.make, formula, subject.base, scenario, fault, end)
    worst = fault.worst
    by = f"; explained by {' or '.join(evidence.explained_by)}" if evidence.explained_by else ""
    size = f"{sum(e.steps for e in scenario.events)} steps, {sum(w.size for w in scenario.weights)} elements"
    message = (
        f"weight {fault.place}[{fault.index}] after step {fault.step + 1} in {cell.format} is {worst.got!r}, "
        f"by {formula.name} {worst.expected!r}: {worst.ulp:.3g} ULP off, {worst.bound:.3g} allowed "
        f"({scenario.family}; {size}){by}"
    )
    lines = program(subject.source, scenario, subject.optimizer, fault.place, fault.index)
    if lines:
        lines.append(f'print("should be:", {worst.expected!r})')
    return Finding(code, cell, replace(evidence, worst=worst), message, "\n".join(lines))


def _late(subject: _Subject) -> Checked:
    """Compare a long run with the reference in plain float64."""
    started = time.monotonic()
    cell = subject.cell("long-run")
    if subject.clock.left() <= 0:
        return checked(cell, Seen(), 0.0, True, lambda _: "")
    formula, scenario = subject.formula, runs.long_run(subject.seed)
    assert formula is not None
    played = torch_optimizer.play(subject.make, scenario)
    count, resolution, off = against.late_deviation(formula, subject.base, scenario, played)
    problems: tuple[Problem, ...] = ()
    if played.raised:
        problems = (
            Problem(f"after {len(played.weights) - 1} steps: raised {played.raised}", breach="raised"),
        )
    elif off is not None:
        place, step, index, got, expected, allowed = off
        message = (
            f"weight {place}[{index}] after step {step + 1} of {formula.name} is {got!r}, expected "
            f"{expected!r} ± {allowed:.1e}; no step before differs"
        )
        error = abs(got - expected)
        problems = (Problem(message, got, expected, error, allowed, index=index, family=scenario.family),)
    seen = Seen(count, 0, 1, problems, (), resolution, {scenario.family: count})
    return checked(cell, seen, time.monotonic() - started, False, lambda _: "")


def _lawful(subject: _Subject, check: str) -> Checked:
    """Hold runs against one another."""
    started = time.monotonic()
    total, texts, unfinished = Seen(), dict[str, str](), False
    for law in laws.laws(check, subject.offer, subject.seed):
        for pair in law.pairs(law.begin):
            if subject.clock.left() <= 0:
                unfinished = True
                break
            outcome = laws.compare(subject.make, pair)
            total += Seen(outcome.compared, 0, 1, (), outcome.notes, outcome.resolution)
            for broken in outcome.broken:
                # What a step must not do shows in every run, and is told once.
                said = broken.message.rpartition("raised ")[2]
                if len(total.problems) >= _ENOUGH or (broken.kind and said in subject.told):
                    continue
                if any(broken.kind == problem.breach for problem in total.problems):
                    continue
                subject.told.add(said)
                problem, text = _problem(subject, law, pair, broken)
                total += Seen(problems=(problem,))
                texts[problem.message] = text
    seconds = time.monotonic() - started
    return checked(subject.cell(check), total, seconds, unfinished, lambda p: texts.get(p.message, ""))


def _problem(subject: _Subject, law: laws.Law, pair: laws.Pair, broken: laws.Broken) -> tuple[Problem, str]:
    end = time.monotonic() + max(0.0, _SHRINKING * subject.clock.left())
    pair, broken = shrunk_law(subject.make, law, pair, broken, end)
    place = next((a for a, b in pair.places if b == broken.place), 0)
    left = program(subject.source, pair.left, subject.optimizer, place, broken.index)
    twice = broken.kind == "" and bool(left)
    head = [] if twice else subject.source
    right = program(head, pair.right, subject.optimizer, broken.place, broken.index)
    wanted = "# The two must differ." if pair.differ else "# Both must print the same."
    lines = [*left, *right, wanted] if twice else right
    problem = Problem(
        f"{law.says}: {broken.message}",
        broken.got,
        broken.expected,
        abs(broken.got - broken.expected),
        broken.allowed,
        broken.kind,
        index=broken.index,
        format=pair.right.format,
        family=law.says,
    )
    return problem, "\n".join(lines)
