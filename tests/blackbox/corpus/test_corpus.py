"""The corpus, apart from any checker: every wrong operation is wrong, its example hides what it should."""

from __future__ import annotations

from collections import Counter

import pytest
import torch

from tests.blackbox.corpus.hand_samples import SAMPLES
from tests.blackbox.corpus.operation import CAUSES
from tests.blackbox.corpus.proof import CLEARLY, HIDDEN, difference, threshold
from tests.blackbox.corpus.wrong_by_hand import PROOFS, WRONG_BY_HAND
from tests.blackbox.corpus.wrong_by_mutation import CLEARLY as MUTANT_CLEARLY
from tests.blackbox.corpus.wrong_by_mutation import MUTANTS, WRONG_BY_MUTATION, judge

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


@pytest.mark.parametrize("operation", [o for o in WRONG_BY_HAND if o.cause in HIDDEN], ids=lambda o: o.name)
def test_example_hides_the_fault(operation):
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


@pytest.mark.parametrize("operation", WRONG_BY_MUTATION, ids=lambda o: o.name)
def test_mutant_is_wrong(operation):
    mutant = MUTANTS[operation.name]
    cause, probe, what, difference = judge(mutant.original, mutant.method, mutant.text)
    assert (cause, probe, what) == (operation.cause, mutant.probe, mutant.what)
    assert difference > MUTANT_CLEARLY


@pytest.mark.parametrize("original", SAMPLES, ids=lambda f: f.__name__)
def test_what_is_mutated_is_right(original):
    for kind, make in SAMPLES[original].items():
        inputs = [x.requires_grad_() for x in make()]
        loose = 100 if kind == "values" else 1
        assert torch.autograd.gradcheck(original.apply, inputs, rtol=loose * 1e-4, atol=loose * 1e-5)
        if kind != "values":
            assert torch.autograd.gradgradcheck(original.apply, inputs)


def test_mutants_are_many_and_balanced():
    assert len({o.name for o in WRONG_BY_MUTATION}) == len(WRONG_BY_MUTATION) >= 80
    counts = Counter(m.original for m in MUTANTS.values())
    assert set(counts) == set(SAMPLES)
    assert max(counts.values()) - min(counts.values()) <= 2
