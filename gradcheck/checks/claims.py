"""Measuring a claim: on drawn examples, both sides over balls, with no tolerance.

A claim is upheld, refuted by a shrunk counterexample, or conditional where its condition tells the examples
apart that uphold it from those that do not. The printed side is also computed in each format and held to the
bound of the other side, so that a formula that is right on paper and loses its digits is told as that.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import hypothesis
from hypothesis import Phase, given
from hypothesis import strategies as st

from gradcheck.article.claims import Along, Claim
from gradcheck.checks.claim_files import load_claims
from gradcheck.checks.conditions import Seen, notes_of, see, verdict_of
from gradcheck.checks.deciding import Variables, holds_at, numbers_at
from gradcheck.checks.naming import instead
from gradcheck.checks.printed import in_formats
from gradcheck.document import ClaimRecord, json_float
from gradcheck.errors import UsageError

__all__ = ["Refuted", "holds_at", "load_claims", "measure"]

# A claim needs some examples of each kind, however small its share of a run.
_LEAST = 6
# How many examples are tried to make a counterexample smaller, per full share.
_SHRINKS = 400


class Refuted(Exception):
    """A claim fails at an example; lets Hypothesis shrink it."""


class _Enough(BaseException):
    """Ends shrinking: the smallest example so far has to do. Any Exception would count as another failure."""


def measure(claim: Claim, settings: hypothesis.settings, examples: int) -> ClaimRecord:
    """Measure a claim on `examples` drawn examples and return what was found."""
    if claim.citation:
        return _record(claim, "undecidable", [], notes=[claim.citation])
    examples = min(examples, max(_LEAST, round(claim.share * examples)))
    drawn = st.fixed_dictionaries(dict(claim.strategies))
    seen: list[Seen] = []
    try:
        _over(
            drawn,
            hypothesis.settings(settings, max_examples=examples, phases=(Phase.generate,)),
            lambda variables: seen.extend(see(claim, _merged(variables))),
        )
    except UsageError:
        raise
    except Exception as error:
        note = f"could not be measured: {type(error).__name__}: {error}"
        return ClaimRecord(claim.id, claim.says, "inconclusive", len(seen), "inf", notes=[note])
    verdict = verdict_of(seen, claim.condition)
    failing = [each for each in seen if each.holds is False]
    notes = notes_of(seen, claim.condition)
    undecided = sum(each.holds is None for each in seen)
    if undecided:
        notes.append(f"{undecided} examples could not be decided")
    if not failing:
        notes += in_formats(claim, [each.variables for each in seen]) if verdict == "upheld" else []
        return _record(claim, verdict, seen, notes=notes)
    counterexample = _counterexample(claim, settings, examples, drawn, seen)
    there = numbers_at(claim, counterexample)
    notes += [f"there it gives {there[0]}, the reference {there[1]}"] if there else []
    equals, others = instead(claim, [each.variables for each in seen]) if verdict == "refuted" else (None, [])
    notes += [f"also equals {name}" for name in others]
    return _record(claim, verdict, seen, counterexample, equals, notes)


def _record(
    claim: Claim,
    verdict: str,
    seen: list[Seen],
    counterexample: Variables | None = None,
    equals: str | None = None,
    notes: list[str] | None = None,
) -> ClaimRecord:
    text = claim.text
    resolution = max((each.resolution for each in seen if each.holds), default=0.0)
    return ClaimRecord(
        id=claim.id,
        says=claim.says,
        verdict=verdict,
        compared=len(seen),
        resolution=json_float(resolution),
        counterexample={name: repr(value) for name, value in (counterexample or {}).items()},
        printed=text.printed if text else "",
        reference=text.reference if text else "",
        equals=equals,
        section=text.section if text else "",
        formula=text.formula if text else "",
        domain=text.domain if text else ", ".join(f"{k}: {v!r}" for k, v in claim.strategies.items()),
        notes=notes or [],
    )


def _counterexample(
    claim: Claim, settings: hypothesis.settings, examples: int, drawn: Any, seen: list[Seen]
) -> Variables:
    """Return the smallest example that fails: shrunk, or the shortest one of a scan, dear to shrink."""
    if isinstance(claim.condition, Along):
        return min((each for each in seen if each.holds is False), key=_length).variables
    last: Variables = {}
    known = {repr(each.variables): each.holds for each in seen}
    most = len(known) + max(_LEAST, round(claim.share * _SHRINKS))

    def run(variables: Variables) -> None:
        nonlocal last
        flat = _merged(variables)
        key = repr(flat)
        if key not in known:
            if len(known) >= most:
                raise _Enough
            known[key] = holds_at(claim, flat)[0]
        if known[key] is False:
            last = flat
            raise Refuted

    with suppress(Refuted, _Enough):
        _over(drawn, hypothesis.settings(settings, max_examples=examples), run)
    return last


def _length(seen: Seen) -> int:
    return len(repr(seen.variables))


def _over(drawn: Any, settings: hypothesis.settings, run: Callable[[Variables], None]) -> None:
    """Call `run` on everything that Hypothesis draws."""
    given(drawn)(settings(run))()  # type: ignore[no-untyped-call]  # Hypothesis leaves settings(f) untyped


def _merged(variables: Variables) -> Variables:
    merged: Variables = {}
    for name, value in variables.items():
        merged.update(value if isinstance(value, dict) else {name: value})
    return merged
