"""Scenarios that an optimizer is put through, and smaller ones that may show the same."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from gradcheck.records import Array
from gradcheck.subjects.torch_optimizer_function import Event, Group, Scenario

# One weight for each kind of gradients; the shapes hold a scalar, one element, odd sizes and nothing at all.
_TRAJECTORY = (
    ("plain", (2, 3)),
    ("large", (4,)),
    ("tiny", (3,)),
    ("zero", (2,)),
    ("alternating", ()),
    ("sparse", (1,)),
    ("constant", (2, 1, 2)),
    ("growing", (3,)),
    ("shrinking", (2,)),
    ("scales", (17,)),
    ("empty", (0,)),
)
# Powers of ten that gradients reach: float32 and bfloat16 have the same range.
_WIDEST = {"float64": (30, 12), "float32": (16, 9), "bfloat16": (16, 9)}
_STEPS = {"float64": 14, "float32": 10, "bfloat16": 5}
_LONG = 400
_LATE = 24
# What a group of its own has instead, by the name in the optimizer's groups.
_OTHER = {
    "betas": (0.8, 0.95),
    "eps": 1e-3,
    "alpha": 0.9,
    "rho": 0.8,
    "lr_decay": 0.1,
    "momentum_decay": 0.02,
}


@dataclass(frozen=True)
class Offer:
    """What an optimizer lets its groups choose: the options of its first group.

    One that asks for a `closure`, as L-BFGS does, treats all weights as one.
    """

    visible: Mapping[str, Any]
    closure: bool = False

    @property
    def rate(self) -> float | None:
        """The learning rate, if it is a positive number."""
        lr = self.visible.get("lr")
        return float(lr) if isinstance(lr, int | float) and not isinstance(lr, bool) and lr > 0 else None

    def other(self) -> dict[str, Any]:
        """Return options for a group of its own, each different from what `make` gives."""
        found = {
            name: value
            for name, value in _OTHER.items()
            if self.visible.get(name) != value and _alike(self.visible.get(name), value)
        }
        if self.rate is not None:
            found["lr"] = 8 * self.rate
        return {**found, **self.decay()}

    def decay(self) -> dict[str, Any]:
        """Return another weight decay, if there is one to set."""
        decay = self.visible.get("weight_decay")
        number = isinstance(decay, int | float) and not isinstance(decay, bool)
        return {"weight_decay": 0.25 if decay != 0.25 else 0.125} if number else {}

    def flags(self) -> tuple[dict[str, Any], ...]:
        """Return the switches that change the formula, one at a time, turned round."""
        names = ("maximize", "amsgrad")
        return tuple({n: not self.visible[n]} for n in names if isinstance(self.visible.get(n), bool))

    def forms(self) -> dict[str, dict[str, Any]]:
        """Return the programs for one update that can be chosen among."""
        known = [name for name in ("foreach", "fused") if name in self.visible]
        off = dict.fromkeys(known, False)
        found = {"for-loop": off} if known else {}
        return {**found, **{name: {**off, name: True} for name in known}}


def _alike(held: Any, value: Any) -> bool:
    """Whether an option can be set to a value, as far as its own one tells."""
    if isinstance(value, tuple):
        return isinstance(held, tuple | list) and len(held) == len(value) and all(map(_alike, held, value))
    return isinstance(held, int | float) and not isinstance(held, bool)


def gradients(family: str, shape: tuple[int, ...], steps: int, fmt: str, seed: int) -> list[Array]:
    """Return the gradients of every step, of one kind."""
    rng = np.random.default_rng([seed, sum(map(ord, family))])
    low, high = _WIDEST[fmt]
    base = rng.normal(size=shape)
    sizes = rng.uniform(-8, 4, shape)
    found = []
    for step in range(1, steps + 1):
        fresh = rng.normal(size=shape)
        values = {
            "plain": fresh,
            "large": fresh * 10.0 ** rng.uniform(3, high, shape),
            "tiny": fresh * 10.0 ** -rng.uniform(3, low, shape),
            "zero": 0.0 * fresh,
            "alternating": base * (-1) ** step,
            "sparse": fresh * (step % 3 == 1),
            "constant": base,
            "growing": base * 2.0 ** (step / 2),
            "shrinking": base * 2.0 ** (-step / 2),
            "scales": fresh * 10.0**sizes,
            "empty": fresh,
        }[family]
        found.append(np.asarray(values))
    return found


def first_weights(shapes: list[tuple[int, ...]], seed: int) -> tuple[Array, ...]:
    """Return weights of an ordinary size; every second tensor begins with a zero."""
    rng = np.random.default_rng([seed, 31])
    made = [np.asarray(rng.normal(size=shape)) for shape in shapes]
    for weight in made[::2]:
        if weight.size:
            weight[(0,) * weight.ndim] = 0.0
    return tuple(made)


def run_of(
    shapes: list[tuple[int, ...]],
    steps: int,
    seed: int,
    fmt: str = "float64",
    families: tuple[str, ...] = ("plain",),
    name: str = "plain",
    **rest: Any,
) -> Scenario:
    """Return a scenario of steps only, with all weights in one group."""
    named = [families[k % len(families)] for k in range(len(shapes))]
    each = [gradients(f, s, steps, fmt, seed + k) for k, (f, s) in enumerate(zip(named, shapes, strict=True))]
    events = tuple(Event("step", tuple(g[k] for g in each)) for k in range(steps))
    return Scenario(
        name, fmt, first_weights(shapes, seed), (Group(tuple(range(len(shapes)))),), events, **rest
    )


def trajectories(fmt: str, seed: int) -> Iterator[Scenario]:
    """Yield runs over many kinds of gradients: all at once, then some alone, then one over many steps."""
    families, shapes = (list(column) for column in zip(*_TRAJECTORY, strict=True))
    yield run_of(shapes, _STEPS[fmt], seed, fmt, tuple(families), "all kinds")
    if fmt != "float64":
        return
    for family in ("plain", "large", "tiny"):
        yield run_of([(3,)], 2, seed + 1, fmt, (family,), f"{family} alone")
    yield run_of([()], 3, seed + 2, fmt, ("plain",), "a scalar alone")
    yield run_of([(2,)], _LATE, seed + 3, fmt, ("plain",), f"{_LATE} steps")


def long_run(seed: int) -> Scenario:
    """Return a run that is too long for bounds."""
    return run_of([(3,)], _LONG, seed + 4, name=f"{_LONG} steps")


def at_work(offer: Offer, seed: int) -> Iterator[Scenario]:
    """Yield what training does with an optimizer beside stepping."""
    plain = run_of([(3,), (), (2, 2)], 4, seed + 5)
    if offer.other():
        yield split(plain, offer.other(), name="groups with their own options")
    yield replace(with_gaps(run_of([(3,), (), (2, 2)], 6, seed + 6)), family="steps without a gradient")
    if offer.rate is not None:
        yield replace(with_event(plain, 2, Event("rate", factor=0.125)), family="another rate")
    yield replace(with_event(plain, 2, Event("save")), family="saved and restored")
    if offer.other():
        yield replace(joined_late(plain, offer.other()), family="a group that joins")
    if offer.decay():
        yield replace(plain, common=offer.decay(), family="weight decay")
    for flag in offer.flags():
        yield replace(shortened(plain, 3), common=flag, family=next(iter(flag)))


def split(scenario: Scenario, options: Mapping[str, Any], name: str = "") -> Scenario:
    """Put the first weight into a group of its own, the last in the list, with these options."""
    count = len(scenario.weights)
    groups = (Group(tuple(range(1, count))), Group((0,), options))
    return replace(scenario, groups=groups, family=name or scenario.family)


def joined_late(scenario: Scenario, options: Mapping[str, Any], after: int = 2) -> Scenario:
    """Let the first weight join after some steps."""
    apart = split(scenario, options)
    early = [replace(e, gradients=(None, *e.gradients[1:])) for e in apart.events[:after]]
    return replace(apart, events=(*early, Event("add"), *apart.events[after:]))


def with_gaps(scenario: Scenario) -> Scenario:
    """Take gradients away, so that the weights have counted different steps; one is zero throughout."""
    events = []
    for k, event in enumerate(scenario.events):
        given: list[Array | None] = list(event.gradients)
        given[0] = None if k in (0, 3) else given[0]
        given[1] = None if k == 2 else given[1]
        given[2] = None if k > 3 else np.zeros_like(event.gradients[2]) if k == 1 else given[2]
        events.append(replace(event, gradients=tuple(given)))
    return replace(scenario, events=tuple(events))


def with_event(scenario: Scenario, after: int, event: Event) -> Scenario:
    """Let something happen after some events."""
    return replace(scenario, events=(*scenario.events[:after], event, *scenario.events[after:]))


def shortened(scenario: Scenario, count: int) -> Scenario:
    """Keep the first events."""
    return replace(scenario, events=scenario.events[:count])


def alone(scenario: Scenario, places: tuple[int, ...]) -> Scenario | None:
    """Keep some weights, in the order given; None where a group would lose all of its weights."""
    at = {place: k for k, place in enumerate(places)}
    groups = [replace(g, members=tuple(at[p] for p in places if p in g.members)) for g in scenario.groups]
    if not all(group.members for group in groups):
        return None
    events = tuple(
        replace(e, gradients=tuple(e.gradients[p] for p in places)) if e.steps else e for e in scenario.events
    )
    return replace(
        scenario, weights=tuple(scenario.weights[p] for p in places), groups=tuple(groups), events=events
    )


def smaller(scenario: Scenario, place: int, index: int) -> Iterator[Scenario]:
    """Yield smaller scenarios that still hold one element of one weight, the smallest first."""
    count = len(scenario.events)
    for keep in (1, 2, 3, count // 2, count - 1):
        if 0 < keep < count and any(e.steps for e in scenario.events[:keep]):
            yield shortened(scenario, keep)
    if len(scenario.weights) > 1:
        for places in ((place,), *((p, place) for p in range(len(scenario.weights)) if p != place)):
            kept = alone(scenario, places) if len(places) < len(scenario.weights) else None
            if kept is not None:
                yield kept
    if max((w.size for w in scenario.weights), default=0) > 1:
        yield _one_element(scenario, place, index)
    for k in reversed(range(count)):
        if count > 1 and not (k == count - 1 and scenario.events[k].steps):
            yield replace(scenario, events=(*scenario.events[:k], *scenario.events[k + 1 :]))
    for values in (1.0, 0.0):
        if any(w.size and (w != values).any() for w in scenario.weights):
            yield replace(scenario, weights=tuple(np.full_like(w, values) for w in scenario.weights))


def _one_element(scenario: Scenario, place: int, index: int) -> Scenario:
    """Cut every weight down to one element of as many axes."""

    def cut(k: int, array: Any) -> Any:
        if array is None or not array.size:
            return array
        return np.asarray(array).ravel()[index if k == place else 0].reshape((1,) * np.ndim(array))

    events = tuple(
        replace(e, gradients=tuple(cut(k, g) for k, g in enumerate(e.gradients))) for e in scenario.events
    )
    return replace(scenario, weights=tuple(cut(k, w) for k, w in enumerate(scenario.weights)), events=events)
