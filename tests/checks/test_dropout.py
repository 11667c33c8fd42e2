"""Dropout as it is called: right programs pass in silence, and every liar is told by what it breaks."""

from __future__ import annotations

import random
from dataclasses import replace

import numpy as np
import pytest

from gradcheck.checks.dropout import FALSE_ALARM, chance_of, dropout
from gradcheck.formats import BFLOAT16, FLOAT16, FLOAT32, FLOAT64
from gradcheck.formulas import get_formula
from gradcheck.records import Case, Verdict
from gradcheck.subjects.implementation import Implementation
from gradcheck.subjects.torch import CPU

DROPOUT = get_formula("dropout")


def case_of(fmt=FLOAT32, p=0.3, shape=(6, 7)):
    rng = np.random.default_rng(3)
    x = rng.normal(size=shape).astype(fmt.dtype)
    x.ravel()[:2] = 0
    return Case("plain", fmt, (x, np.ones(shape, fmt.dtype)), None, {"p": p}, seed=11)


def drawn(shape, options, extra=0):
    """The mask of a seed, as right as it gets."""
    return np.random.default_rng([options["seed"], extra]).random(shape) >= options["p"]


def scaled(array, mask, p):
    scale = 0.0 if p == 1 else 1 / (1 - p)
    return (np.asarray(array, np.float64) * mask * scale).astype(array.dtype)


def program(mask=drawn, backward=drawn, scale=scaled, evaluation=lambda x, options: x.copy(), fmt=FLOAT32):
    """Dropout from its parts, each of which a liar replaces."""

    def forward(inputs, options):
        x = inputs[0]
        if not options["training"]:
            return evaluation(x, options)
        return scale(x, mask(x.shape, options), options["p"])

    def vjp(inputs, c, options):
        if not options["training"]:
            return (c.copy(),)
        return (scale(c, backward(c.shape, options), options["p"]),)

    return Implementation("dropout", "program", fmt, forward, vjp)


@pytest.mark.parametrize("fmt", [FLOAT64, FLOAT32, FLOAT16, BFLOAT16], ids=lambda fmt: fmt.name)
@pytest.mark.parametrize("p", [0.0, 0.1, 0.5, 0.9375, 1.0])
def test_torch_and_a_program_of_our_own_pass_in_silence(fmt, p):
    for made in (CPU.implement(DROPOUT, fmt), program(fmt=fmt)):
        found = dropout(made, DROPOUT, case_of(fmt, p))
        assert found.verdict is Verdict.ACCURATE and not found.breaches and not found.notes


def shared_by_the_batch(shape, options):
    return np.broadcast_to(drawn(shape[1:], options), shape)


def shared_by_the_row(shape, options):
    return np.broadcast_to(drawn((*shape[:-1], 1), options), shape)


def half_repeated(shape, options):
    half = drawn((-(-shape[0] // 2), *shape[1:]), options)
    return np.concatenate([half, half])[: shape[0]]


def kept_with_p(shape, options):
    return ~drawn(shape, options)


def a_little_more(shape, options):
    return drawn(shape, {**options, "p": options["p"] * 1.2})


def of_one_seed(shape, options):
    return drawn(shape, {**options, "seed": 0})


def unscaled(array, mask, p):
    return (array * mask).astype(array.dtype) if p < 1 else np.zeros_like(array)


def scaled_by_p(array, mask, p):
    return (np.asarray(array, np.float64) * mask / max(p, 0.01)).astype(array.dtype)


def undefined_at_one(array, mask, p):
    with np.errstate(all="ignore"):
        return (np.asarray(array, np.float64) * mask / np.float64(1 - p)).astype(array.dtype)


LIARS = {
    "mask drawn again in the backward pass": program(backward=lambda s, o: drawn(s, o, 1)),
    "no mask in the backward pass": program(backward=lambda s, o: np.ones(s, bool)),
    "no scale": program(scale=unscaled),
    "scaled by 1/p": program(scale=scaled_by_p),
    "0/0 where nothing is kept": program(scale=undefined_at_one),
    "scaled in evaluation": program(evaluation=lambda x, o: (x * (1 - o["p"])).astype(x.dtype)),
    "drops in evaluation": program(evaluation=lambda x, o: scaled(x, drawn(x.shape, o), o["p"])),
    "one mask for the batch": program(shared_by_the_batch, shared_by_the_batch),
    "one mask for the row": program(shared_by_the_row, shared_by_the_row),
    "one mask for both halves": program(half_repeated, half_repeated),
    "p is what is kept": program(kept_with_p, kept_with_p),
    "p is larger by a fifth": program(a_little_more, a_little_more),
    "always the same mask": program(of_one_seed, of_one_seed),
}


@pytest.mark.parametrize("name", LIARS)
def test_liars_are_told(name):
    assert dropout(LIARS[name], DROPOUT, case_of()).verdict is Verdict.WRONG


def test_a_mask_that_depends_on_the_values_is_told():
    right = program()

    def forward(inputs, options):
        x = inputs[0]
        if not options["training"]:
            return x.copy()
        size = np.abs(x.astype(np.float64)) + 1e-3 * drawn(x.shape, {**options, "p": 0.5})
        return scaled(x, size >= np.quantile(size, options["p"]), options["p"])

    found = dropout(replace(right, forward=forward), DROPOUT, case_of())
    assert found.verdict is Verdict.WRONG and any("larger half" in note for note in found.notes)


def test_a_single_wrong_gradient_is_told():
    right = program()

    def vjp(inputs, c, options):
        (gradient,) = right.vjp(inputs, c, options)
        gradient.ravel()[-1] += np.float32(0.001)
        return (gradient,)

    assert dropout(replace(right, vjp=vjp), DROPOUT, case_of()).verdict is Verdict.WRONG


def test_what_raises_or_moves_the_generators_of_the_caller_is_told():
    def raising(inputs, options):
        raise RuntimeError("no")

    assert dropout(replace(program(), forward=raising), DROPOUT, case_of()).breaches["raised"]

    def moving(inputs, options):
        random.random()
        return program().forward(inputs, options)

    assert dropout(replace(program(), forward=moving), DROPOUT, case_of()).breaches["state"]


def test_writing_to_the_input_is_told():
    def writing(inputs, options):
        y = program().forward(inputs, options)
        inputs[0][...] = y
        return inputs[0]

    found = dropout(replace(program(), forward=writing), DROPOUT, case_of())
    assert found.verdict is Verdict.WRONG


def test_the_state_of_torch_is_left_as_it_was():
    import torch

    torch.manual_seed(5)
    before = torch.get_rng_state()
    dropout(CPU.implement(DROPOUT, FLOAT32), DROPOUT, case_of())
    assert torch.equal(before, torch.get_rng_state())


def test_a_reproduction_prints_what_was_got(capsys):
    made = CPU.implement(DROPOUT, FLOAT32)
    case = case_of()
    options = {"p": 0.3, "training": True, "seed": 4}
    c = np.ones(case.inputs[0].shape, np.float32)
    for what, expected in (
        ("value", made.forward(case.inputs[:1], options)),
        ("derivative", made.vjp(case.inputs[:1], c, options)[0]),
    ):
        exec(made.reproduce(what, case.inputs, c, options), {})
        assert capsys.readouterr().out.strip() == str([float(v).hex() for v in expected.ravel()])


def test_the_chances_are_those_of_binomial_trials():
    assert chance_of(5, 10, 0.5) == 1.0
    assert chance_of(0, 10, 0.5) == pytest.approx(2 / 1024)
    assert chance_of(10, 10, 0.5) == pytest.approx(2 / 1024)
    assert chance_of(0, 60, 0.5) < FALSE_ALARM < chance_of(0, 40, 0.5)
