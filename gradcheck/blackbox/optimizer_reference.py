"""A user's optimizer against an optimizer of the catalogue, without knowing how it keeps its state.

The formula is composed with itself over all steps: its state is a function of the gradients and weights so
far, all of which are known. Every step starts from the weight that the optimizer itself had before it, so
that the bound of a weight does not grow with the number of steps; only that of the state does.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from gradcheck.arithmetic.rounded import Model
from gradcheck.arithmetic.scalars import other_way
from gradcheck.compare import breach, judge, to_evidence
from gradcheck.errors import UsageError, unknown_name
from gradcheck.formats import Float64Array, get_format, widen
from gradcheck.formulas.optimizer_parts import first_state
from gradcheck.oracles.truth import Query, bounds, truths
from gradcheck.records import VALUE, Evidence, Formula, Option, Variant, Worst
from gradcheck.subjects.torch_optimizer_function import Played, Scenario

# How PyTorch spells what the catalogue calls otherwise.
_SPELLED = {"betas": ("beta1", "beta2"), "decoupled_weight_decay": ("decoupled",)}
_COUNT = "t"
_ROUNDINGS = 8.0
_CONDITION = 64.0


@dataclass(frozen=True)
class Fault:
    """The first number of a scenario that the formula does not explain."""

    place: int
    step: int
    index: int
    worst: Worst


@dataclass(frozen=True)
class _History:
    """Weights that took the same steps with the same options: their places, and the options of each step."""

    places: tuple[int, ...]
    steps: tuple[int, ...]
    options: tuple[Mapping[str, Any], ...]


def translated(options: Mapping[str, Any], formula: Formula) -> dict[str, Any]:
    """Return the options that the formula has, in its own names; others are left out."""
    known = {option.name for option in formula.options} - {_COUNT}
    found: dict[str, Any] = {}
    for name, value in options.items():
        names = _SPELLED.get(name, (name,))
        parts = tuple(value) if isinstance(value, tuple | list) else (value,)
        if len(names) == len(parts):
            found.update((n, _plain(v)) for n, v in zip(names, parts, strict=True) if n in known)
    return found


def _plain(value: Any) -> Any:
    """Return a number for a tensor of one element, anything else as it is."""
    if isinstance(value, bool | int | float | str) or value is None:
        return value
    try:
        return float(value)
    except (TypeError, ValueError, RuntimeError):
        return value


def chosen(
    formula: Formula, options: Mapping[str, Any], visible: Mapping[str, Any]
) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Return the options that the reference has, and notes.

    Given ones are held against those of the optimizer's first group, `visible`; the ones that are not given
    are taken from there. Raises `UsageError` for an option that the formula does not have, for one out of its
    range, and for a contradiction.
    """
    known = {option.name: option for option in formula.options if option.name != _COUNT}
    spelled = [name for name, parts in _SPELLED.items() if set(parts) <= set(known)]
    for name in options:
        if name not in known and name not in spelled:
            raise unknown_name(f"option of {formula.name}", name, (*known, *spelled))
    given = translated(options, formula)
    for name in options:
        if name in spelled and not set(_SPELLED[name]) <= set(given):
            raise UsageError(
                f"options[{name!r}]: expected {len(_SPELLED[name])} numbers, got {options[name]!r}"
            )
    for name, value in given.items():
        _in_range(formula, known[name], value)
    seen = translated(visible, formula)
    for name, value in given.items():
        if name in seen and seen[name] is not None and seen[name] != value:
            raise UsageError(
                f"options: {name}={value!r}, but make gives an optimizer with {name}={seen[name]!r}; "
                "make both the same"
            )
    taken = {n: v for n, v in seen.items() if n not in given and _fits(known[n], v)}
    differ = {n: v for n, v in taken.items() if v != known[n].default}
    said = ", ".join(f"{name}={value!r}" for name, value in sorted(differ.items()))
    notes = (f"taken from the optimizer: {said}",) if said else ()
    defaults = {name: _plain(option.default) for name, option in known.items()}
    exact = {n: float(v) if not isinstance(v, bool | int | float | str) else v for n, v in defaults.items()}
    return {**exact, **taken, **given}, notes


def _fits(option: Option, value: Any) -> bool:
    if option.choices:
        return value in option.choices
    number = isinstance(value, int | float) and not isinstance(value, bool)
    low = -math.inf if option.low is None else option.low
    high = math.inf if option.high is None else option.high
    return number and low <= value <= high


def _in_range(formula: Formula, option: Option, value: Any) -> None:
    if _fits(option, value):
        return
    if option.choices:
        wanted = "one of " + ", ".join(map(repr, option.choices))
    else:
        wanted = f"a number from {option.low!r} to {option.high!r}"
    raise UsageError(f"options: {option.name} of {formula.name} is {wanted}, got {value!r}")


def histories(formula: Formula, base: Mapping[str, Any], scenario: Scenario) -> list[_History]:
    """Return which steps every weight takes, with which options; weights that are alike stand together."""
    alike: dict[str, _History] = {}
    counted = any(option.name == _COUNT for option in formula.options)
    shared = translated(scenario.common, formula)
    for place in range(len(scenario.weights)):
        member = next(k for k, group in enumerate(scenario.groups) if place in group.members)
        own = {**base, **shared, **translated(scenario.groups[member].options, formula)}
        steps: list[int] = []
        listed: list[Mapping[str, Any]] = []
        step = 0
        for event in scenario.events:
            if event.kind == "rate" and event.group == member:
                own = {**own, "lr": own["lr"] * event.factor}
            if not event.steps:
                continue
            if event.gradients[place] is not None:
                listed.append({**own, **({_COUNT: len(steps) + 1} if counted else {})})
                steps.append(step)
            step += 1
        key = repr((steps, listed))
        held = alike.get(key, _History((), tuple(steps), tuple(listed)))
        alike[key] = replace(held, places=(*held.places, place))
    return [history for history in alike.values() if history.steps]


def compared(
    formula: Formula, base: Mapping[str, Any], scenario: Scenario, played: Played
) -> tuple[Evidence, Fault | None]:
    """Judge every weight after every step; return also the first one that is wrong or unstable."""
    total, first = Evidence(), None
    for history in histories(formula, base, scenario):
        # Most optimizers need none but the first text, and the others cost as much again.
        evidence, fault = _judged(formula, history, scenario, played, variants=False)
        if evidence.verdict.is_finding and formula.variants:
            evidence, fault = _judged(formula, history, scenario, played, variants=True)
        total = total.merge(evidence)
        if fault is not None and (first is None or fault.step < first.step):
            first = fault
    if played.raised:
        total = total.merge(breach("raised", 1, None, played.raised))
    return replace(total, families={scenario.family: total.compared}), first


def _judged(
    formula: Formula, history: _History, scenario: Scenario, played: Played, variants: bool
) -> tuple[Evidence, Fault | None]:
    weights, gradients, after = columns(history, scenario, played)
    kept = _with_value(formula, history, weights, gradients)
    steps = _until_broken(after)
    total, first = Evidence(cases=0), None
    if not steps or not kept.any():
        return total, None
    where = np.flatnonzero(kept)
    query = _query(
        formula,
        replace(history, options=history.options[:steps]),
        scenario.format,
        tuple(w[kept] for w in weights[:steps]),
        tuple(g[kept] for g in gradients[:steps]),
        variants,
    )
    with np.errstate(all="ignore"):
        legal = bounds(query, Model(query.format))
        widths = [bound.accepted.hi - bound.accepted.lo for bound in legal]
        known = truths(query, widths)
    for k, (truth, bound) in enumerate(zip(known, legal, strict=True)):
        got = after[k][kept]
        outcome = judge(got, truth, bound, query.format)
        said = f"step {history.steps[k] + 1}"
        seen = to_evidence(outcome, got, (weights[k][kept], gradients[k][kept]), said)
        total = total.merge(seen)
        if seen.verdict.is_finding and first is None and seen.worst is not None:
            place, index = _element(history, scenario, int(where[seen.worst.index]))
            first = Fault(place, history.steps[k], index, seen.worst)
    return total, first


def columns(
    history: _History, scenario: Scenario, played: Played
) -> tuple[list[Float64Array], list[Float64Array], list[Float64Array]]:
    """Return, for each step that was taken, the weights before it, the gradients, and the weights after."""
    taken = [k for k in history.steps if k + 1 < len(played.weights)]
    given = [event.gradients for event in scenario.events if event.steps]
    fmt = get_format(scenario.format)
    before = [_flat(history, played.weights[k]) for k in taken]
    with np.errstate(over="ignore"):
        slopes = [fmt.round(_flat(history, given[k])) for k in taken]
    return before, slopes, [_flat(history, played.weights[k + 1]) for k in taken]


def _flat(history: _History, arrays: Any) -> Float64Array:
    return np.concatenate([widen(arrays[place]).ravel() for place in history.places])


def _element(history: _History, scenario: Scenario, index: int) -> tuple[int, int]:
    for place in history.places:
        if index < scenario.weights[place].size:
            return place, index
        index -= scenario.weights[place].size
    raise AssertionError("an element beyond all weights")


def _until_broken(after: list[Float64Array]) -> int:
    """Return how many steps there are up to the first that leaves something other than numbers."""
    broken = [k for k, w in enumerate(after) if not np.isfinite(w).all()]
    return broken[0] + 1 if broken else len(after)


def _with_value(formula: Formula, history: _History, weights: Any, gradients: Any) -> Any:
    """Return which elements have a value in every step: 0/0, where epsilon is zero, has none."""
    every = np.ones(weights[0].shape if weights else 0, dtype=bool)
    for moved in along(formula, history.options[: len(weights)], weights, gradients):
        every &= np.isfinite(moved)
    return every


def along(
    formula: Formula,
    options: Any,
    weights: list[Float64Array],
    gradients: list[Float64Array],
    way: int = 0,
    plain: bool = False,
) -> list[Float64Array]:
    """Return the weights after every step, in plain float64; with `plain`, the scalars in doubles, too."""
    with np.errstate(all="ignore"), other_way(way):
        text = _composed(formula, tuple(options), formula.value, plain)
        return (
            [np.asarray(moved, dtype=np.float64) for moved in text(*weights, *gradients)] if weights else []
        )


def _composed(
    formula: Formula, options: tuple[Mapping[str, Any], ...], text: Callable[..., Any], plain: bool = False
) -> Callable[..., Any]:
    """Return the text of all steps: weights and gradients in, the weights after each step out."""
    count, complete = len(options), [dict(o) if plain else formula.complete(o) for o in options]

    def steps(*arrays: Any) -> tuple[Any, ...]:
        zero = np.zeros_like(arrays[0])
        state = [zero + first_state(name) for name in formula.inputs[2:]]
        found = []
        for k in range(count):
            weight, *state = text(arrays[k], arrays[count + k], *state, **complete[k])
            found.append(weight)
        return tuple(found)

    return steps


def _query(
    formula: Formula,
    history: _History,
    fmt: str,
    weights: tuple[Float64Array, ...],
    gradients: tuple[Float64Array, ...],
    variants: bool,
) -> Query:
    options = history.options
    others = formula.variants if variants else ()
    composed = Formula(
        name=formula.name,
        title=formula.title,
        equation=formula.equation,
        source=formula.source,
        value=_composed(formula, options, formula.value),
        inputs=tuple(f"{what} {k}" for what in ("weight", "gradient") for k in range(len(options))),
        outputs=tuple(f"weight after {k + 1}" for k in range(len(options))),
        variants=tuple(
            Variant(v.name, VALUE, v.standing, _composed(formula, options, v.text)) for v in others
        ),
    )
    return Query(composed, VALUE, get_format(fmt), (*weights, *gradients), {})


def late_deviation(
    formula: Formula, base: Mapping[str, Any], scenario: Scenario, played: Played
) -> tuple[int, float, tuple[int, int, int, float, float, float] | None]:
    """Compare a run too long for bounds with the formula in plain float64.

    Returns the count, the resolution, and the first disagreement (place, step, index, got, expected,
    allowed). Allowed is what the ways to compute the formula, and inputs that move by a rounding error,
    differ by, and some roundings of the weight.
    """
    count, resolution = 0, 0.0
    for history in histories(formula, base, scenario):
        weights, gradients, after = columns(history, scenario, played)
        options = history.options[: len(weights)]
        expected = along(formula, options, weights, gradients, plain=True)
        rng = np.random.default_rng(11)
        moved = [g * (1 + rng.integers(-1, 2, g.shape) * 2.0**-52) for g in gradients]
        # Numbers that a program computes of the options, 1 - beta say, are rounded as well.
        near = [{n: v * (1 - 2.0**-52) if isinstance(v, float) else v for n, v in o.items()} for o in options]
        others = [along(formula, options, weights, gradients, way, plain=True) for way in (1, 2)]
        others += [along(formula, given, weights, moved, plain=True) for given in (options, near)]
        for k, want in enumerate(expected):
            with np.errstate(all="ignore"):
                spread = np.max([np.abs(other[k] - want) for other in others], axis=0)
                room = _CONDITION * spread + _ROUNDINGS * get_format(scenario.format).ulp(want)
                off = np.abs(after[k] - want)
                bad = np.isfinite(want) & ~(off <= room)
            count += want.size
            largest = float(np.abs(want).max(initial=0.0))
            resolution = max(resolution, float(room.max(initial=0.0)) / largest if largest else 0.0)
            if bad.any():
                at = int(np.argmax(bad))
                place, index = _element(history, scenario, at)
                numbers = float(after[k][at]), float(want[at]), float(room[at])
                return count, resolution, (place, history.steps[k], index, *numbers)
    return count, resolution, None
