"""The corpus, apart from any checker: every wrong operation is wrong, its example hides what it should."""

from __future__ import annotations

from collections import Counter

import pytest
import torch

from tests.blackbox.corpus.operation import CAUSES
from tests.blackbox.corpus.proof import CLEARLY, HIDDEN, difference, threshold
from tests.blackbox.corpus.wrong_by_hand import PROOFS, WRONG_BY_HAND

BY_HAND = pytest.mark.parametrize("operation", WRONG_BY_HAND, ids=lambda o: o.name)


@BY_HAND
def test_wrong_operation_is_wrong(operation):
    proof = PROOFS[operation.name]
    call = operation.make()
    if proof.witness is not None:
        assert proof.witness(call) > CLEARLY
        return
    inputs = proof.at()
    found = difference(call, proof, inputs, proof.what, proof.at())
    assert found > threshold(inputs), found


@BY_HAND
def test_example_hides_the_fault(operation):
    if operation.cause not in HIDDEN:
        pytest.skip("the fault may show at the example")
    proof, call = PROOFS[operation.name], operation.make()
    for what in ("value", "gradient"):
        assert difference(call, proof, call.inputs, what, operation.make().inputs) < CLEARLY, what


def test_names_are_unique_and_causes_are_spread():
    assert len({o.name for o in WRONG_BY_HAND}) == len(WRONG_BY_HAND) >= 80
    counts = Counter(o.cause for o in WRONG_BY_HAND)
    assert set(counts) == set(CAUSES)
    assert min(counts.values()) >= 5, counts


def test_examples_are_fresh_and_the_same_every_time():
    for operation in WRONG_BY_HAND:
        one, other = operation.make(), operation.make()
        for a, b in zip(one.inputs, other.inputs, strict=True):
            assert a is not b
            assert (torch.as_tensor(a) == torch.as_tensor(b)).all(), operation.name
