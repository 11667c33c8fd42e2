"""Wrong operations made by mutation, chosen by a fixed seed, each proved different from its original.

A mutant of a backward differs from the original in the gradient of the same forward, so that it is wrong.
A mutant of a forward is kept where central differences say that its backward is not its gradient; elsewhere
the original's values go with it as the reference. Nothing is compared at kinks, where several
gradients are right.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from tests.blackbox.corpus.hand_samples import SAMPLES
from tests.blackbox.corpus.mutations import load, mutants
from tests.blackbox.corpus.operation import Call, Operation
from tests.blackbox.corpus.proof import apart, drawn, observe, several

SEED = 20
PER_FUNCTION = 6
PER_OPERATOR = 2
CLEARLY = 1e-7
KINDS = {"plain": "any input", "values": "some values", "shapes": "some shapes"}


@dataclass(frozen=True)
class Mutant:
    """A wrong text, its original, and where (probe) and in what they part."""

    original: type
    operator: str
    method: str
    text: str
    cause: str
    probe: str
    what: str
    difference: float


def cotangent_change(f: Callable[..., Any], inputs: Sequence[torch.Tensor]) -> float:
    outputs = several(f(*[x.requires_grad_() for x in inputs]))
    weights = [drawn(y.detach(), k) for k, y in enumerate(outputs)]
    before = [w.clone() for w in weights]
    torch.autograd.backward(outputs, weights)
    return apart(weights, before)


def inconsistency(f: Callable[..., Any], inputs: Sequence[torch.Tensor]) -> float:
    """Return how far the gradient is from central differences along one direction, as a part."""
    direction = [drawn(x, 70 + k) for k, x in enumerate(inputs)]
    step = 1e-6

    def value(t: float) -> float:
        outputs = observe(f, [x + t * d for x, d in zip(inputs, direction, strict=True)], "value")
        return sum(float((drawn(y, k) * y).sum()) for k, y in enumerate(outputs))

    slope = (value(step) - value(-step)) / (2 * step)
    given = sum(float((g * d).sum()) for g, d in zip(observe(f, inputs, "gradient"), direction, strict=True))
    return abs(slope - given) / max(abs(slope), abs(given), 1e-300)


def judge(original: type, method: str, text: str) -> tuple[str, str, str, float] | None:
    """Return cause, probe, what and difference, or nothing where the mutant breaks down or is as good."""
    f = load(text).apply
    samples = SAMPLES[original]
    try:
        for probe, make in samples.items():
            if method == "forward":
                difference = apart(observe(f, make(), "value"), observe(original.apply, make(), "value"))
                if probe == "plain" and difference > CLEARLY:
                    parted = inconsistency(f, make())
                    if parted > 1e-5:
                        return "any input", probe, "gradient", parted
                    return "consistent but wrong", probe, "value", difference
                continue
            difference = apart(observe(f, make(), "gradient"), observe(original.apply, make(), "gradient"))
            if difference > CLEARLY:
                return KINDS[probe], probe, "gradient", difference
        if method == "backward":
            if (difference := cotangent_change(f, samples["plain"]())) > 0:
                return "cotangent", "plain", "state", difference
            expected = observe(original.apply, samples["plain"](), "second")
            difference = apart(observe(f, samples["plain"](), "second"), expected)
            if difference > CLEARLY:
                return "second order", "plain", "second", difference
    except (RuntimeError, IndexError, TypeError, ValueError, AttributeError):
        return None
    return None


def choose() -> Iterator[Mutant]:
    """Draw the mutants of every function, one of each operator before a second, rare operators first."""
    everything = {f: list(mutants(f.__name__)) for f in SAMPLES}
    frequency = Counter(operator for found in everything.values() for operator, _, _ in found)
    for original, found in everything.items():
        random.Random(f"{SEED} {original.__name__}").shuffle(found)
        found.sort(key=lambda mutant: frequency[mutant[0]])
        taken: Counter[str] = Counter()
        for most in range(1, PER_OPERATOR + 1):
            for operator, method, text in list(found):
                if taken.total() == PER_FUNCTION:
                    break
                if taken[operator] < most:
                    found.remove((operator, method, text))
                    if verdict := judge(original, method, text):
                        taken[operator] += 1
                        yield Mutant(original, operator, method, text, *verdict)


def reference_of(original: type) -> Callable[..., Any]:
    def reference(*arrays: np.ndarray) -> Any:
        outputs = original.apply(*[torch.from_numpy(np.ascontiguousarray(a, np.float64)) for a in arrays])
        return tuple(y.numpy() for y in outputs) if isinstance(outputs, tuple) else outputs.numpy()

    return reference


def operation(mutant: Mutant, number: int) -> Operation:
    name = f"{mutant.original.__name__.lower()}-{mutant.method}-{mutant.operator}-{number}"
    consistent = mutant.cause == "consistent but wrong"
    keywords = {"reference": reference_of(mutant.original)} if consistent else {}
    samples = SAMPLES[mutant.original]

    def make() -> Call:
        return Call(load(mutant.text).apply, samples["plain"](), dict(keywords))

    return Operation(name, mutant.cause, make)


MUTANTS: dict[str, Mutant] = {}
WRONG_BY_MUTATION: tuple[Operation, ...] = ()
for _number, _mutant in enumerate(choose()):
    _operation = operation(_mutant, _number)
    MUTANTS[_operation.name] = _mutant
    WRONG_BY_MUTATION += (_operation,)
