"""Measuring a claim: both sides over balls on drawn examples, no tolerance.

Disjoint enclosures refute; enclosures that overlap and are far narrower than any format uphold on that
example. The printed side is also computed in each format and held to the bound of the other side, so that
a formula that is right on paper and loses its digits in floating point is told as that.
"""

from __future__ import annotations

import importlib.util
import math
import traceback
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import hypothesis
import numpy as np
from hypothesis import Phase, given
from hypothesis import strategies as st

from gradcheck.arithmetic.ball import Ball, balls, precision, to_estimate
from gradcheck.arithmetic.exact import Exact, exact
from gradcheck.arithmetic.plain import Stored
from gradcheck.arithmetic.rounded import Model, Rounded, rounded
from gradcheck.article.claims import Claim
from gradcheck.document import ClaimRecord, json_float
from gradcheck.errors import GradcheckError, UsageError
from gradcheck.formats import FORMATS, Format, widen
from gradcheck.formulas import QUANTITIES, Quantity
from gradcheck.records import Estimate

Variables = dict[str, Any]
PRECISIONS = (128, 512, 2048, 8192)
_PINNED = 2.0**-60
_KEPT = 60
_ENOUGH = 10


class Refuted(Exception):
    """Both sides of a claim differ at an example; lets Hypothesis shrink it."""


@dataclass
class _Tally:
    compared: int = 0
    violated: int = 0
    undecided: int = 0
    resolution: float = 0.0
    examples: list[Variables] = field(default_factory=list)


def load_claims(path: Path) -> tuple[Claim, ...]:
    """Return the claims that a user's file defines; `UsageError` names file, line and reason."""
    name = f"gradcheck_claims_{abs(hash(str(path)))}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise UsageError(f"claims file {str(path)!r} is not a Python file: its name must end in .py")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except SyntaxError as error:
        raise UsageError(f"claims file {str(path)!r}, line {error.lineno}: {error.msg}") from error
    except Exception as error:
        lines = [f.lineno for f in traceback.extract_tb(error.__traceback__) if f.filename == str(path)]
        where = f", line {lines[-1]}" if lines else ""
        raise UsageError(f"claims file {str(path)!r}{where}: {type(error).__name__}: {error}") from error
    except SystemExit as error:
        raise UsageError(f"claims file {str(path)!r} calls exit({error.code!r}) when it is read") from error
    found = tuple(value for value in vars(module).values() if isinstance(value, Claim))
    if not found:
        raise UsageError(
            f"claims file {str(path)!r} holds no claim: decorate a function with gradcheck.claim"
        )
    ids = [item.id for item in found]
    for repeated in {i for i in ids if ids.count(i) > 1}:
        raise UsageError(f"claims file {str(path)!r} defines the claim id {repeated!r} more than once")
    return found


def measure(claim: Claim, settings: hypothesis.settings, examples: int) -> ClaimRecord:
    """Measure a claim on `examples` drawn examples and return what was found."""
    tally = _Tally()
    drawn = st.fixed_dictionaries(dict(claim.strategies))
    try:
        _count(
            claim,
            hypothesis.settings(settings, max_examples=examples, phases=(Phase.generate,)),
            drawn,
            tally,
        )
    except UsageError:
        raise
    except Exception as error:
        return _failed(claim, tally, error)
    counterexample: Variables = {}
    if tally.violated:
        counterexample = _shrunk(claim, hypothesis.settings(settings, max_examples=examples), drawn)
    verdict = "refuted" if tally.violated else "inconclusive" if tally.undecided else "upheld"
    if tally.compared == 0:
        verdict = "inconclusive"
    equals, others = _instead(claim, tally.examples) if tally.violated else (None, [])
    notes = [f"violated in {tally.violated} of {tally.compared} examples"] if tally.violated else []
    if tally.undecided:
        notes.append(f"{tally.undecided} examples could not be decided")
    notes += [f"also equals {name}" for name in others]
    if verdict == "upheld":
        notes += _in_formats(claim, tally.examples)
    text = claim.text
    return ClaimRecord(
        id=claim.id,
        says=claim.says,
        verdict=verdict,
        compared=tally.compared,
        resolution=json_float(tally.resolution),
        counterexample={name: _shown(value) for name, value in counterexample.items()},
        printed=text.printed if text else "",
        reference=text.reference if text else "",
        equals=equals,
        section=text.section if text else "",
        formula=text.formula if text else "",
        domain=text.domain if text else ", ".join(f"{k}: {v!r}" for k, v in claim.strategies.items()),
        notes=notes,
    )


def _failed(claim: Claim, tally: _Tally, error: Exception) -> ClaimRecord:
    note = f"could not be measured: {type(error).__name__}: {error}"
    return ClaimRecord(claim.id, claim.says, "inconclusive", tally.compared, "inf", notes=[note])


def _count(claim: Claim, settings: hypothesis.settings, drawn: Any, tally: _Tally) -> None:
    def run(variables: Variables) -> None:
        flat = _merged(variables)
        holds, resolution = holds_at(claim, flat)
        tally.compared += 1
        tally.violated += holds is False
        tally.undecided += holds is None
        if holds:
            tally.resolution = max(tally.resolution, resolution)
        tally.examples.append(flat)

    _over(drawn, settings, run)


def _over(drawn: Any, settings: hypothesis.settings, run: Callable[[Variables], None]) -> None:
    """Call `run` on everything that Hypothesis draws."""
    given(drawn)(settings(run))()  # type: ignore[no-untyped-call]  # Hypothesis leaves settings(f) untyped


def _shrunk(claim: Claim, settings: hypothesis.settings, drawn: Any) -> Variables:
    last: Variables = {}

    def run(variables: Variables) -> None:
        nonlocal last
        flat = _merged(variables)
        if holds_at(claim, flat)[0] is False:
            last = flat
            raise Refuted

    with suppress(Refuted):
        _over(drawn, settings, run)
    return last


def _merged(variables: Variables) -> Variables:
    merged: Variables = {}
    for name, value in variables.items():
        merged.update(value if isinstance(value, dict) else {name: value})
    return merged


def holds_at(claim: Claim, variables: Variables) -> tuple[bool | None, float]:
    """Return whether the claim holds at one example (None: undecided), and the resolution of that."""
    if not all(np.all(np.isfinite(_numbers(value))) for value in variables.values()):
        return _holds_in_ieee(claim, variables), 0.0
    answer: Any = None
    for bits in PRECISIONS:
        with precision(bits):
            answer = claim.function(np, **{name: _lifted(value) for name, value in variables.items()})
            if isinstance(answer, bool | np.bool_):
                return bool(answer), 0.0
            left, right = _sides(claim, answer)
            decided = [_compared(a, b) for a, b in zip(left, right, strict=True)]
        if any(holds is False for holds, _ in decided):
            return False, 0.0
        if all(holds for holds, _ in decided):
            return True, max(resolution for _, resolution in decided)
    return None, math.inf


def _holds_in_ieee(claim: Claim, variables: Variables) -> bool:
    with np.errstate(all="ignore"):
        answer = claim.function(np, **{name: np.asarray(_numbers(v)) for name, v in variables.items()})
        if isinstance(answer, bool | np.bool_):
            return bool(answer)
        left, right = _sides(claim, answer)
        return all(np.array_equal(a, b, equal_nan=True) for a, b in zip(left, right, strict=True))


def _sides(claim: Claim, answer: Any) -> tuple[list[Any], list[Any]]:
    if not isinstance(answer, tuple) or len(answer) != 2:
        raise UsageError(
            f"claim {claim.id}: the function must return (printed, reference) or a bool, "
            f"got {type(answer).__name__}"
        )
    left, right = (list(side) if isinstance(side, tuple | list) else [side] for side in answer)
    if len(left) != len(right):
        raise UsageError(f"claim {claim.id}: {len(left)} printed results beside {len(right)} references")
    return left, right


def _compared(left: Any, right: Any) -> tuple[bool | None, float]:
    a, b = _estimate(left), _estimate(right)
    if a.high.shape != b.high.shape:
        return False, 0.0
    if np.any(np.isnan(a.radius) | np.isnan(b.radius) | ~np.isfinite(a.radius + b.radius)):
        return None, math.inf
    radius = a.radius + b.radius
    difference = np.abs((a.high - b.high) + (a.low - b.low))
    scale = np.maximum(np.abs(a.high), np.abs(b.high))
    # The difference of two sums of doubles is itself off by a few units of its terms' last places.
    slack = 2.0**-100 * scale
    if np.any(difference > radius + slack):
        return False, 0.0
    if np.all(radius <= _PINNED * scale + 1e-320):
        largest = float(np.max(scale, initial=0.0))
        return True, float(np.max(radius + slack, initial=0.0)) / largest if largest else 0.0
    return None, math.inf


def _estimate(value: Any) -> Estimate:
    if isinstance(value, Ball):
        return to_estimate(value)
    if isinstance(value, Exact):
        return to_estimate(balls(0.0) + value)
    return to_estimate(balls(value))


def _numbers(value: Any) -> Any:
    return np.asarray(value, dtype=np.float64) if isinstance(value, int | float | list | tuple) else 0.0


def _lifted(value: Any) -> Any:
    if isinstance(value, bool | str) or not isinstance(value, int | float | list | tuple):
        return value
    return balls(np.asarray(value, dtype=np.float64))


def _shown(value: Any) -> str:
    return repr(value)


def _instead(claim: Claim, examples: list[Variables]) -> tuple[str | None, list[str]]:
    """Return what the printed side computes instead: the quantity that it equals on every example."""
    chosen = examples[:: max(1, len(examples) // _KEPT)]
    matches = [name for quantity in QUANTITIES for name in _matches(claim, quantity, chosen)]
    return (matches[0], matches[1:4]) if matches else (None, [])


def _matches(claim: Claim, quantity: Quantity, examples: list[Variables]) -> list[str]:
    if not examples or not set(quantity.arguments) <= set(examples[0]):
        return []
    defaults = {option.name: option.default for option in quantity.options}
    free = [name for name in examples[0] if name not in quantity.arguments]
    assignments: list[dict[str, str]] = [{}]
    assignments += [{option: variable} for option in defaults for variable in free]
    found = []
    for assignment in assignments:
        if _equals_everywhere(claim, quantity, defaults, assignment, examples):
            given_options = ", ".join(f"{option} = {variable}" for option, variable in assignment.items())
            found.append(f"{quantity.name}" + (f" with {given_options}" if given_options else ""))
            break
    return found


def _equals_everywhere(
    claim: Claim,
    quantity: Quantity,
    defaults: Mapping[str, Any],
    assignment: Mapping[str, str],
    examples: list[Variables],
) -> bool:
    def against(np_: Any, **variables: Any) -> Any:
        left, _ = _sides(claim, claim.function(np_, **variables))
        options = {
            name: exact(value) if isinstance(value, int | float) and math.isfinite(value) else value
            for name, value in defaults.items()
        }
        options |= {option: variables[variable] for option, variable in assignment.items()}
        return left[0], quantity.text(*(variables[name] for name in quantity.arguments), **options)

    candidate = Claim(claim.id, claim.says, claim.strategies, against)
    seen = 0
    for variables in examples:
        try:
            holds, _ = holds_at(candidate, variables)
        except (GradcheckError, ValueError, TypeError):
            return False
        if not holds:
            return False
        seen += 1
    return seen >= min(_ENOUGH, len(examples))


def _in_formats(claim: Claim, examples: list[Variables]) -> list[str]:
    """Compute the printed side in each format and hold it to the bound of the other side's text."""
    if set(claim.strategies) != {"x"} or not examples or not isinstance(examples[0]["x"], float):
        return []
    drawn = np.array([variables["x"] for variables in examples])
    if isinstance(claim.function(np, x=balls(drawn[0])), bool | np.bool_):
        return []
    notes = []
    for fmt in FORMATS:
        x = np.unique(np.clip(fmt.round(_spread(drawn)), -fmt.largest, fmt.largest))
        note = _in_format(claim, fmt, x[(x >= drawn.min()) & (x <= drawn.max())])
        notes += [note] if note else []
    return notes


def _spread(drawn: Any) -> Any:
    """Add a grid over the range where exponentials over- and underflow to what was drawn."""
    grid = np.linspace(-800.0, 800.0, 3201)
    inside = grid[(grid >= drawn.min()) & (grid <= drawn.max())]
    return np.concatenate([drawn, inside])


def _in_format(claim: Claim, fmt: Format, x: Any) -> str:
    with np.errstate(all="ignore"):
        plain: Any = Stored(x, fmt) if fmt.bits == 16 else x.astype(fmt.dtype)
        got = _plain(_first(claim, plain, 0))
        try:
            bound = _first(claim, rounded(x, Model(fmt)), 1)
        except GradcheckError:
            return ""
    if not isinstance(bound, Rounded) or got.shape != x.shape:
        return ""
    stored = bound.stored()
    bad = ~((got >= stored.lo) & (got <= stored.hi))
    if not bad.any():
        return ""
    at = x[bad]
    first = at[np.argmin(np.abs(at))]
    index = int(np.flatnonzero(x == first)[0])
    middle = stored.lo[index] + (stored.hi[index] - stored.lo[index]) / 2
    return (
        f"computed as printed in {fmt.name}, {int(bad.sum())} of {x.size} results leave the bound of the "
        f"reference, first at x = {float(first)!r}: {float(got[index])!r} instead of {float(middle)!r}"
    )


def _first(claim: Claim, x: Any, side: int) -> Any:
    return _sides(claim, claim.function(np, x=x))[side][0]


def _plain(value: Any) -> Any:
    return widen(value.data if isinstance(value, Stored) else value)


Measure = Callable[[Claim, hypothesis.settings, int], ClaimRecord]
