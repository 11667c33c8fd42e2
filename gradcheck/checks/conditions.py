"""Claims that are true here and false there: along what, and where the boundary runs, as it was found."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from gradcheck.article.claims import Along, Claim, Classes
from gradcheck.checks.deciding import Variables, holds_at

# A boundary is known once both of its sides are this close.
_CLOSE = 1.01


@dataclass(frozen=True)
class Seen:
    """One example: its class, whether the claim holds there (None: undecided), and the resolution of that.

    Along a number the example is scanned: `boundaries` are the pairs of neighbouring numbers between which
    the answer changes, `answers` what holds between them.
    """

    variables: Variables
    group: str
    holds: bool | None
    resolution: float = 0.0
    answers: tuple[bool, ...] = ()
    boundaries: tuple[tuple[float, float], ...] = ()


def see(claim: Claim, variables: Variables) -> list[Seen]:
    """Ask the claim at an example: once, or all along the number that its condition names."""
    condition = claim.condition
    if isinstance(condition, Along):
        return _scanned(claim, condition, variables)
    holds, resolution = holds_at(claim, variables)
    group = condition.of(**variables) if isinstance(condition, Classes) else ""
    return [Seen(variables, group, holds, resolution)]


def _scanned(claim: Claim, condition: Along, variables: Variables) -> list[Seen]:
    """Ask at every probe; the first one carries the boundaries that lie between them."""
    group = condition.of(**variables) if condition.of is not None else ""

    def ask(value: float) -> Seen:
        there = {**variables, condition.variable: value}
        return Seen(there, group, *holds_at(claim, there))

    steps = condition.probes - 1
    ratio = (condition.high / condition.low) ** (1 / steps)
    probes = [ask(condition.low * ratio**k) for k in range(steps)] + [ask(condition.high)]
    known = [
        (float(seen.variables[condition.variable]), seen.holds) for seen in probes if seen.holds is not None
    ]
    answers, boundaries = [bool(holds) for _, holds in known[:1]], []
    for (below, before), (above, after) in pairwise(known):
        if before != after:
            boundaries.append(_bisected(ask, below, above, bool(before)))
            answers.append(bool(after))
    first = probes[0]
    whole = Seen(first.variables, group, first.holds, first.resolution, tuple(answers), tuple(boundaries))
    return [whole, *probes[1:]]


def _bisected(ask: Callable[[float], Seen], below: float, above: float, before: bool) -> tuple[float, float]:
    while above / below > _CLOSE:
        middle = math.sqrt(below) * math.sqrt(above)
        holds = ask(middle).holds
        if holds is None:
            break
        below, above = (middle, above) if holds == before else (below, middle)
    return below, above


def verdict_of(seen: Sequence[Seen], condition: Classes | Along | None) -> str:
    """Return what the answers at all examples come to.

    Conditional is what fails, if the condition tells where: it holds throughout one class and fails in
    another, or changes at boundaries along the number.
    """
    if not seen or all(each.holds is None for each in seen):
        return "inconclusive"
    violated = {each.group for each in seen if each.holds is False}
    if not violated:
        return "inconclusive" if any(each.holds is None for each in seen) else "upheld"
    whole = {each.group for each in seen} - {each.group for each in seen if each.holds is not True}
    bounded = any(each.boundaries for each in seen)
    return "conditional" if condition is not None and (whole or bounded) else "refuted"


def notes_of(seen: Sequence[Seen], condition: Classes | Along | None) -> list[str]:
    """Return in words where the claim holds and where it fails."""
    if isinstance(condition, Classes):
        return [_class_note(group, members) for group, members in _grouped(seen)]
    if isinstance(condition, Along):
        return [note for group, members in _grouped(seen) for note in _scan_notes(group, members, condition)]
    violated = sum(each.holds is False for each in seen)
    return [f"violated in {violated} of {len(seen)} examples"] if violated else []


def _grouped(seen: Iterable[Seen]) -> list[tuple[str, list[Seen]]]:
    groups: dict[str, list[Seen]] = defaultdict(list)
    for each in seen:
        groups[each.group].append(each)
    return sorted(groups.items())


def _class_note(group: str, members: list[Seen]) -> str:
    failing = [each for each in members if each.holds is False]
    if not failing:
        return f"{group}: holds in all {len(members)} examples"
    shown = min(failing, key=lambda each: len(repr(each.variables))).variables
    where = ", ".join(f"{name} = {value!r}" for name, value in shown.items())
    return f"{group}: fails in {len(failing)} of {len(members)} examples, such as {where}"


def _scan_notes(group: str, members: list[Seen], condition: Along) -> list[str]:
    """One note per pattern of answers along the number, the most frequent one first."""
    scans = [each for each in members if each.answers]
    patterns = Counter(each.answers for each in scans)
    notes = []
    for answers, count in patterns.most_common():
        alike = [each for each in scans if each.answers == answers]
        places = [_range([each.boundaries[k] for each in alike]) for k in range(len(answers) - 1)]
        words = _in_words(answers, places, condition)
        head = f"{group}: " if group else ""
        notes.append(f"{head}{words} ({count} of {len(scans)} examples)")
    return notes


def _in_words(answers: tuple[bool, ...], places: list[str], condition: Along) -> str:
    name = condition.variable
    verbs = ["holds" if answer else "fails" for answer in answers]
    if not places:
        return f"{verbs[0]} for every {name} from {condition.low:.3g} to {condition.high:.3g}"
    parts = [f"{verbs[0]} for {name} below {places[0]}"]
    parts += [f"{verb} from there to {place}" for verb, place in zip(verbs[1:-1], places[1:], strict=True)]
    return ", ".join([*parts, f"{verbs[-1]} above"])


def _range(boundaries: list[tuple[float, float]]) -> str:
    """Return where a boundary lies; one number where all examples agree on it."""
    low, high = min(below for below, _ in boundaries), max(above for _, above in boundaries)
    return f"{high:.3g}" if high / low <= _CLOSE**2 else f"{low:.3g} … {high:.3g}"
