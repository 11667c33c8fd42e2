"""What any optimizer has to keep to, whatever it computes: two runs that must end alike are compared.

Where both take the same operations, every bit must be the same. Where the order of operations is free, the
runs may differ by what a rounding error in the gradients makes of them, and by some roundings of the weight.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np

from gradcheck.blackbox import optimizer_runs as runs
from gradcheck.blackbox.optimizer_runs import Offer
from gradcheck.formats import Float64Array, get_format, widen
from gradcheck.subjects.torch_optimizer_function import Event, Group, Make, Played, Scenario, play

_CONDITION = 64.0
_ROUNDINGS = 16.0
_LAYOUTS = ("strided", "transposed", "offset")


@dataclass(frozen=True)
class Pair:
    """Two scenarios, and which weight of the second must go the same way as which of the first.

    `same` asks for equal bits; `differ` is the opposite of a law: an option that is there has an effect.
    `refusable` means that the second may be refused; `noted`, that it is told and no fault if they do not.
    """

    says: str
    left: Scenario
    right: Scenario
    places: tuple[tuple[int, int], ...]
    same: bool = False
    differ: bool = False
    refusable: bool = False
    noted: bool = False


@dataclass(frozen=True)
class Broken:
    """A law that does not hold: the first number that shows it."""

    message: str
    kind: str = ""
    place: int = 0
    step: int = 0
    index: int = 0
    got: float = float("nan")
    expected: float = float("nan")
    allowed: float = 0.0


@dataclass(frozen=True)
class Law:
    """A law: its name, the scenario that it begins with, and the pairs that follow from one."""

    says: str
    begin: Scenario
    pairs: Callable[[Scenario], Iterator[Pair]]


@dataclass(frozen=True)
class Outcome:
    """What comparing one pair gave."""

    compared: int
    broken: tuple[Broken, ...]
    notes: tuple[str, ...] = ()
    resolution: float = 0.0


def _all(scenario: Scenario) -> tuple[tuple[int, int], ...]:
    return tuple((k, k) for k in range(len(scenario.weights)))


def laws(check: str, offer: Offer, seed: int) -> Iterator[Law]:
    """Yield the laws of one check."""
    plain = runs.run_of([(3,), (), (2, 3), (0,)], 5, seed + 20, families=("plain", "scales"))
    if check == "update":
        yield Law("a run repeats itself", plain, _again)
        yield Law("weights move", runs.run_of([(3,), ()], 2, seed + 21), _moves)
        if not offer.closure:
            gaps = runs.with_gaps(runs.run_of([(3,), (), (2,)], 6, seed))
            yield Law("steps without a gradient", gaps, _again)
        yield Law("step(closure) is a step", plain, _by_closure)
        yield Law("zero_grad() changes no step", plain, _zeroed)
        yield Law("gradients may lie where the last ones lay", plain, _reused)
        yield Law("another instance, whose rate changes, changes nothing", plain, _beside)
    elif check == "resumed":
        yield Law("a restored run goes on", plain, _resumed)
    elif check == "groups":
        yield from _of_groups(plain, offer, seed)
    elif check == "alone":
        yield Law("a weight goes alone as with others", plain, _alone)
        mixed = runs.run_of([(3,), (2,), (4,)], 4, seed + 23, families=("plain", "large", "zero"))
        yield Law("whatever the others' gradients are", mixed, _alone)
    elif check == "layouts":
        yield Law("memory does not matter", runs.run_of([(2, 3), (5,)], 4, seed + 24), _layouts)
    elif check == "formats":
        yield Law("float32 rounds float64", runs.run_of([(3,), (2, 2), ()], 4, seed + 25), _formats)
    elif check == "forms":
        for begin in (plain, runs.with_gaps(runs.run_of([(3,), (17,), (2,)], 6, seed + 26))):
            yield Law("all programs for one update agree", begin, lambda s: _forms(s, offer))


def _of_groups(plain: Scenario, offer: Offer, seed: int) -> Iterator[Law]:
    yield Law("groups with the same options are one group", plain, _split)
    if offer.other():
        yield Law("a group's options are its own", plain, lambda s: _own(s, offer))
        yield Law("a group that joins late begins then", plain, lambda s: _late(s, offer))
    long = runs.run_of([(3,), ()], 4, seed + 27)
    if offer.rate is not None:
        yield Law("the rate of a group counts", long, lambda s: _counts(s, {"lr": 8 * (offer.rate or 1.0)}))
        yield Law("a rate that changes counts", long, _rate)
    if offer.decay():
        yield Law("the weight decay of a group counts", long, lambda s: _counts(s, offer.decay()))


def _again(s: Scenario) -> Iterator[Pair]:
    yield Pair("the same run again", s, s, _all(s), same=True)


def _moves(s: Scenario) -> Iterator[Pair]:
    yield Pair("no weight moves, whatever its gradient", s, replace(s, events=()), _all(s), differ=True)


def _by_closure(s: Scenario) -> Iterator[Pair]:
    events = tuple(replace(e, kind="closure") if e.steps else e for e in s.events)
    yield Pair("by step(closure)", s, replace(s, events=events), _all(s), same=True)


def _zeroed(s: Scenario) -> Iterator[Pair]:
    events = tuple(part for e in s.events for part in (Event("zero"), e))
    yield Pair("with zero_grad() before each step", s, replace(s, events=events), _all(s), same=True)


def _reused(s: Scenario) -> Iterator[Pair]:
    yield Pair("with gradients in the memory of the last", s, replace(s, reuse=True), _all(s), same=True)


def _beside(s: Scenario) -> Iterator[Pair]:
    says = "while another instance works in turn"
    yield Pair(says, s, replace(s, beside=True), _all(s), same=True)


def _resumed(s: Scenario) -> Iterator[Pair]:
    for kind, how in (("save", "state_dict()"), ("file", "torch.save(state_dict())")):
        for after in (1, 3):
            if after < len(s.events):
                says = f"restored by {how} into a fresh optimizer after step {after}"
                yield Pair(says, s, runs.with_event(s, after, Event(kind)), _all(s), same=True)


def _split(s: Scenario) -> Iterator[Pair]:
    if len(s.weights) > 1:
        yield Pair("with one weight in a group of its own", s, runs.split(s, {}), _all(s))


def _own(s: Scenario, offer: Offer) -> Iterator[Pair]:
    """A weight in its own group goes as it does alone, with the same options."""
    if len(s.weights) < 2:
        return
    options = offer.other()
    apart = runs.split(s, options)
    first, rest = runs.alone(s, (0,)), runs.alone(s, tuple(range(1, len(s.weights))))
    if first is not None and rest is not None:
        single = replace(first, groups=(Group((0,), options),))
        yield Pair("in a group of its own among others", single, apart, ((0, 0),))
        count = range(len(rest.weights))
        yield Pair("beside a group with other options", rest, apart, tuple((k, k + 1) for k in count))


def _late(s: Scenario, offer: Offer) -> Iterator[Pair]:
    if len(s.weights) < 2 or len(s.events) < 3:
        return
    late = runs.joined_late(s, offer.other())
    early = replace(late, events=tuple(e for e in late.events if e.kind != "add"))
    yield Pair("added by add_param_group when its gradients begin", early, late, _all(s))


def _counts(s: Scenario, options: dict[str, float]) -> Iterator[Pair]:
    (name, value), *_ = options.items()
    group = Group(s.groups[0].members, options)
    says = f"{name}={value!r} in the options of the group has no effect"
    yield Pair(says, s, replace(s, groups=(group,)), _all(s), differ=True)


def _rate(s: Scenario) -> Iterator[Pair]:
    if len(s.events) > 1:
        says = "lr changed in param_groups after the first step has no effect"
        changed = runs.with_event(s, 1, Event("rate", factor=0.125))
        # Of some methods, Rprop for one, the rate is the length of the first step only.
        yield Pair(says, s, changed, _all(s), differ=True, noted=True)


def _alone(s: Scenario) -> Iterator[Pair]:
    order = tuple(reversed(range(len(s.weights))))
    backwards = runs.alone(s, order)
    if backwards is not None and len(order) > 1:
        yield Pair(
            "with the weights in the opposite order", s, backwards, tuple((p, k) for k, p in enumerate(order))
        )
        for place in order:
            single = runs.alone(s, (place,))
            if single is not None and s.weights[place].size:
                yield Pair("alone in its optimizer", s, single, ((place, 0),))


def _layouts(s: Scenario) -> Iterator[Pair]:
    for layout in _LAYOUTS:
        yield Pair(f"in {layout} memory", s, replace(s, layout=layout), _all(s))


def _formats(s: Scenario) -> Iterator[Pair]:
    for fmt in ("float32", "bfloat16"):
        kind = get_format(fmt)
        rounded = replace(
            s,
            weights=tuple(kind.round(w) for w in s.weights),
            events=tuple(
                replace(e, gradients=tuple(None if g is None else kind.round(g) for g in e.gradients))
                for e in s.events
            ),
        )
        yield Pair(f"in {fmt}", rounded, replace(rounded, format=fmt), _all(s))


def _forms(s: Scenario, offer: Offer) -> Iterator[Pair]:
    for name, form in offer.forms().items():
        yield Pair(f"with {name}", s, replace(s, common=form), _all(s), refusable=True)


def compare(make: Make, pair: Pair) -> Outcome:
    """Play both scenarios and compare them after every step."""
    left, right = play(make, pair.left), play(make, pair.right)
    broken = [Broken(b.note, b.kind) for played in (left, right) for b in played.breaches]
    if left.raised:
        return Outcome(0, (*broken, Broken(f"step() raised {left.raised}", "raised")))
    if right.raised:
        if pair.refusable:
            return Outcome(0, tuple(broken), (f"{pair.says}: refused, {right.raised}",))
        return Outcome(0, (*broken, Broken(f"{pair.says}: raised {right.raised}", "raised")))
    if pair.differ:
        moved = any(
            left.last[a].tobytes() != right.last[b].tobytes() for a, b in pair.places if left.last[a].size
        )
        if pair.noted and not moved:
            return Outcome(1, tuple(broken), (pair.says,))
        return Outcome(1, (*broken, *(() if moved else (Broken(pair.says),))))
    room = None if pair.same else _room(make, pair, left)
    count, resolution, first = _first_difference(pair, left, right, room)
    return Outcome(count, (*broken, *first), (), resolution)


def _first_difference(
    pair: Pair, left: Played, right: Played, room: list[list[Float64Array]] | None
) -> tuple[int, float, tuple[Broken, ...]]:
    count, resolution = 0, 0.0
    for step in range(1, min(len(left.weights), len(right.weights))):
        for a, b in pair.places:
            one, two = left.weights[step][a], right.weights[step][b]
            want, got = widen(one).ravel(), widen(two).ravel()
            count += want.size
            allowed = np.zeros(want.shape) if room is None else room[step][a].ravel()
            with np.errstate(all="ignore"):
                off = np.where((got == want) | (np.isnan(got) & np.isnan(want)), 0.0, np.abs(got - want))
                bad = ~(off <= allowed)
            largest = float(np.abs(want).max(initial=0.0))
            widest = float(np.max(allowed, initial=0.0))
            resolution = max(resolution, widest / largest if largest else 0.0)
            if bad.any():
                at = int(np.argmax(bad))
                numbers = float(got[at]), float(want[at]), float(allowed[at])
                other = f"{numbers[1]!r} otherwise" + ("" if pair.same else f" ± {numbers[2]:.1e}")
                message = f"weight {a}[{at}] is {numbers[0]!r} after step {step} {pair.says}, {other}"
                return count, resolution, (Broken(message, "", b, step - 1, at, *numbers),)
    return count, resolution, ()


def _room(make: Make, pair: Pair, left: Played) -> list[list[Float64Array]]:
    """Return how far every weight may be off after every step."""
    kind = get_format(pair.right.format)
    spread = [[np.zeros(w.shape) for w in weights] for weights in left.weights]
    for seed in (1, 2, 3):
        other = play(make, _nudged(pair.left, kind.roundoff, seed))
        for step, weights in enumerate(other.weights):
            for place, w in enumerate(weights):
                with np.errstate(all="ignore"):
                    off = np.abs(widen(w) - widen(left.weights[step][place]))
                spread[step][place] = np.maximum(spread[step][place], off)
    room = []
    largest = [np.zeros(w.shape) for w in left.weights[0]]
    for step, weights in enumerate(left.weights):
        largest = [np.maximum(a, np.abs(widen(w))) for a, w in zip(largest, weights, strict=True)]
        room.append(
            [_CONDITION * s + _ROUNDINGS * kind.ulp(a) for s, a in zip(spread[step], largest, strict=True)]
        )
    return room


def _nudged(s: Scenario, roundoff: float, seed: int) -> Scenario:
    """Move every gradient and weight by a rounding error up, down or not at all."""
    rng = np.random.default_rng(seed)

    def moved(array: Float64Array) -> Float64Array:
        return np.asarray(array * (1 + rng.integers(-1, 2, array.shape) * 2 * roundoff))

    events = tuple(
        replace(e, gradients=tuple(None if g is None else moved(g) for g in e.gradients)) for e in s.events
    )
    return replace(s, weights=tuple(moved(w) for w in s.weights), events=events)
