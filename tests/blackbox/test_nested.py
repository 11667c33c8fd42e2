"""Arrays in containers, as inputs, keyword arguments and outputs; the gradients mirror the inputs."""

from __future__ import annotations

import collections
import dataclasses

import numpy as np
import pytest
import torch

import gradcheck
from gradcheck.errors import UsageError
from gradcheck.subjects.nested import arguments

SAME = {"checks": ("state", "jacobian", "cotangents"), "max_seconds": 60.0}
Pair = collections.namedtuple("Pair", "a b")


@dataclasses.dataclass(frozen=True)
class Layer:
    w: object
    n: int = 2

    def __post_init__(self):
        if self.n < 1:
            raise ValueError("n is at least 1")


def array(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape)


def forward(tree, pair, scale=1.0):
    return {"y": tree["x"] * pair.a * scale, "z": [pair.b.w**2 * pair.b.n, 3]}


def backward(inputs, cotangent, scale=1.0):
    tree, pair = inputs
    y, z = cotangent["y"], cotangent["z"][0]
    layer = Layer(2 * pair.b.w * pair.b.n * z)
    return {"x": y * pair.a * scale}, Pair(y * tree["x"] * scale, layer)


def example():
    return {"x": array(2, 3)}, Pair(array(2, 3, seed=1), Layer(array(2, seed=2)))


def test_gradients_mirror_the_inputs():
    result = gradcheck.check(forward, *example(), vjp=backward, scale=2.0, **SAME)
    assert result.ok and result.compared > 100, result


@pytest.mark.parametrize(
    "change",
    [
        lambda tree, pair: ({"x": tree["x"]}, Pair(pair.a, Layer(pair.b.w * 1.0001))),
        lambda tree, pair: ({"x": 1.0001 * tree["x"]}, pair),
        lambda tree, pair: (tree, Pair(pair.b.w, Layer(pair.a))),
        lambda tree, pair: (tree, {"a": pair.a}),
        lambda tree, pair: (tree, None),
        lambda tree, pair: (tree["x"], pair.a),
        lambda tree, pair: ({"x": tree["x"], "more": 1.0}, pair),
    ],
    ids=["leaf", "dict", "exchanged", "lacking", "none", "flat", "more"],
)
def test_a_wrong_or_missing_part_is_found(change):
    def wrong(inputs, cotangent, scale=1.0):
        return change(*backward(inputs, cotangent, scale))

    result = gradcheck.check(forward, *example(), vjp=wrong, **{**SAME, "checks": "jacobian"})
    assert result.findings, result


def test_a_dict_may_stand_for_a_dataclass_and_a_flat_tuple_for_all():
    def as_dicts(inputs, cotangent):
        tree, pair = backward(inputs, cotangent)
        return tree, {"a": pair.a, "b": {"w": pair.b.w}}

    def flat(inputs, cotangent):
        tree, pair = backward(inputs, cotangent)
        return tree["x"], pair.a, pair.b.w

    for vjp in (as_dicts, flat):
        assert gradcheck.check(forward, *example(), vjp=vjp, **SAME).ok


def test_one_container_needs_no_tuple_around_its_gradient():
    def total(items):
        return items[0] * items[1]

    def pull(inputs, cotangent):
        (items,) = inputs
        return [cotangent * items[1], cotangent * items[0]]

    assert gradcheck.check(total, [array(3), array(3, seed=1)], vjp=pull, **SAME).ok
    assert gradcheck.check(
        total, [array(3), array(3, seed=1)], vjp=lambda i, g: pull(i, 2 * g), **SAME
    ).findings


def test_keyword_arrays_are_handed_to_a_pull_back_that_takes_them():
    def weighted(x, *, weight):
        return x * weight

    def takes(inputs, cotangent, weight):
        return (cotangent * weight,)

    weight = array(2, 3, seed=4)

    def holds(inputs, cotangent):
        return (cotangent * weight,)

    for vjp in (takes, holds):
        result = gradcheck.check(
            weighted,
            array(2, 3),
            weight=weight,
            vjp=vjp,
            checks=("jacobian", "values", "sizes"),
            max_seconds=60.0,
        )
        assert not result.findings and result.compared, result


def test_a_number_of_python_is_an_input_where_it_has_a_gradient():
    def power(x, n):
        return x * n

    right = gradcheck.check(power, array(3), 2.0, vjp=lambda i, g: (g * i[1], (g * i[0]).sum()), **SAME)
    assert right.ok
    assert gradcheck.check(
        power, array(3), 2.0, vjp=lambda i, g: (g * i[1], (g * i[0]).mean()), **SAME
    ).findings
    assert gradcheck.check(power, array(3), 2.0, vjp=lambda i, g: (g * i[1],), **SAME).ok


@pytest.mark.parametrize("wrong", [False, True])
def test_torch_takes_the_same_containers(wrong):
    class Double(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return 2 * x

        @staticmethod
        def backward(ctx, g):
            return (2.001 if wrong else 2.0) * g

    def f(tree, pair, *, scale):
        out = forward(tree, pair, scale["by"])
        return {**out, "d": Layer(Double.apply(pair.b.w))}

    tensors = [torch.from_numpy(array(2, 3, seed=k)) for k in range(3)]
    pair = Pair(tensors[1], Layer(torch.from_numpy(array(2))))
    result = gradcheck.check(f, {"x": tensors[0]}, pair, scale={"by": tensors[2]}, **SAME)
    assert bool(result.findings) is wrong and result.compared, result
    if wrong:
        assert "b.w" in result.findings[0].message or "input" in result.findings[0].message


def test_what_stands_beside_the_arrays_is_kept():
    taken = arguments([{"x": array(2), "name": "n", "k": [1, None]}], {}, lambda a: isinstance(a, np.ndarray))
    ((tree,), _) = taken.filled([np.zeros(2)])
    assert tree["name"] == "n" and tree["k"] == [1, None] and not tree["x"].any()
    assert [name for name, _ in taken.arrays] == ["input 0.x"]
    assert taken.source(["a"]) == "{'x': a, 'name': 'n', 'k': [1, None]}"


def test_subclasses_of_containers_keep_their_type():
    ordered = collections.OrderedDict(x=array(2))
    counted = collections.defaultdict(list, x=array(2))
    for container in (ordered, counted):
        taken = arguments([container], {}, lambda a: isinstance(a, np.ndarray))
        ((made,), _) = taken.filled([np.zeros(2)])
        assert type(made) is type(container) and container["x"].any()


def test_arrays_of_two_frameworks_in_one_container_are_refused():
    with pytest.raises(UsageError, match="inputs of several frameworks"):
        gradcheck.check(lambda p: p["a"], {"a": torch.ones(2), "b": np.ones(2)})
