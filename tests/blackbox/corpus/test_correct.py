"""The right operations, apart from any checker: gradients are those of differences or of neighbours."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.blackbox.corpus.correct import CORRECT, regimes
from tests.blackbox.corpus.operation import Call
from tests.blackbox.corpus.proof import drawn, observe, observe_pair
from tests.blackbox.corpus.right import is_float

EVERY = [(o, r) for o in CORRECT for r in regimes(o)]
NEIGHBOURS = 60


def values(call: Call, inputs) -> float:
    outputs = (
        observe_pair(call, inputs, "value") if "vjp" in call.keywords else observe(call.f, inputs, "value")
    )
    return sum(float((drawn(y, k) * y).sum()) for k, y in enumerate(outputs))


def gradients(call: Call, inputs) -> list[torch.Tensor]:
    if "vjp" in call.keywords:
        return observe_pair(call, inputs, "gradient")
    return observe(call.f, inputs, "gradient")[: sum(is_float(x) for x in inputs)]


def direction(x, seed: int):
    shape = torch.zeros(tuple(x.shape), dtype=torch.float64)
    d = drawn(shape, seed)
    return d if isinstance(x, torch.Tensor) else d.numpy()


def moved(inputs, seed: int, step: float) -> tuple:
    return tuple(x + step * direction(x, seed + k) if is_float(x) else x for k, x in enumerate(inputs))


def smooth() -> list:
    return [
        (o, r)
        for o, r in EVERY
        if r.name in ("float64", "strided", "transposed") or r.name.startswith("size")
    ]


def named(pairs):
    return pytest.mark.parametrize(
        ("operation", "regime"), pairs, ids=[f"{o.name}-{r.name}".replace(" ", "-") for o, r in pairs]
    )


@named(smooth())
def test_gradient_is_that_of_central_differences(operation, regime):
    call = regime.make()
    inputs = call.inputs
    floats = [(k, x) for k, x in enumerate(inputs) if is_float(x)]
    for seed in (300, 400):
        if not floats:
            return
        step = 1e-6
        slope = (values(call, moved(inputs, seed, step)) - values(call, moved(inputs, seed, -step))) / (
            2 * step
        )
        parts = [
            g * torch.as_tensor(direction(x, seed + k))
            for g, (k, x) in zip(gradients(call, inputs), floats, strict=True)
        ]
        given = sum(float(p.sum()) for p in parts)
        size = sum(float(p.abs().sum()) for p in parts)
        assert abs(slope - given) <= 1e-6 * size + 1e-8 * (1 + abs(values(call, inputs))), (slope, given)


@named([(o, r) for o, r in EVERY if r.name in ("kinks", "ties")])
def test_gradient_at_a_kink_lies_between_those_of_its_neighbours(operation, regime):
    call = regime.make()
    here = gradients(call, call.inputs)
    near = [gradients(call, moved(call.inputs, 10 * n, (1e-9, 1e-12)[n % 2])) for n in range(NEIGHBOURS)]
    for k, g in enumerate(here):
        around = torch.stack([other[k] for other in near])
        slack = 1e-5 * (1 + around.abs().max())
        assert (g >= around.min(0).values - slack).all(), k
        assert (g <= around.max(0).values + slack).all(), k


@named(EVERY)
def test_runs_and_repeats(operation, regime):
    one, other = regime.make(), regime.make()
    before = [np.array(x) if isinstance(x, np.ndarray) else x for x in one.inputs]
    a, b = gradients(one, one.inputs), gradients(other, other.inputs)
    for g, e, x in zip(a, b, [x for x in one.inputs if is_float(x)], strict=True):
        assert torch.equal(g, e)
        assert tuple(g.shape) == tuple(x.shape)
        assert not g.isnan().any()
    for x, kept in zip(one.inputs, before, strict=True):
        assert np.array_equal(np.asarray(x), np.asarray(kept)) if isinstance(x, np.ndarray) else True


def test_operations_and_regimes_are_many():
    assert len({o.name for o in CORRECT}) == len(CORRECT) >= 110
    assert all(not o.cause for o in CORRECT)
    assert len(EVERY) >= 500
