from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from gradcheck.cases import cotangents
from gradcheck.checks import layout
from gradcheck.formats import BFLOAT16, FLOAT32
from gradcheck.formulas import CATALOGUE, get_formula
from gradcheck.records import Case, Verdict
from gradcheck.subjects.numpy import NUMPY

TANH = get_formula("tanh")


def subject(forward=None, vjp=None, **changes):
    right = NUMPY.implement(TANH, FLOAT32)
    return replace(right, forward=forward or right.forward, vjp=vjp or right.vjp, **changes)


def case_of(fmt=FLOAT32, size=80):
    x = np.random.default_rng(4).normal(size=size).astype(fmt.dtype)
    return Case("plain", fmt, (x,), cotangents(4, x.shape, fmt), seed=4)


def tanh_unless(broken):
    """Right, but for the elements that `broken` replaces in arrays of some size or layout."""

    def forward(inputs, options):
        (x,) = inputs
        output = np.array(np.tanh(x))
        broken(x, output)
        return output

    return subject(forward)


def bump(output, where):
    output[where] += np.float32(0.01)


def last_of_odd(x, output):
    if x.ndim == 1 and x.size % 8 and x.size > 8:
        bump(output, -1)


def strided(x, output):
    if x.ndim == 1 and x.size > 1 and x.strides[0] == 8:
        bump(output, 0)


def unaligned(x, output):
    if x.ndim == 1 and x.size == 64 and x.base is not None and x.strides[0] == 4:
        bump(output, 63)


def backwards(x, output):
    if x.ndim == 1 and x.size > 1 and x.strides[0] < 0:
        output[...] = output[::-1].copy()


def scalar(x, output):
    if x.ndim == 0:
        output[...] = 0


def transposed(x, output):
    if x.ndim == 2 and min(x.shape) > 1 and not x.flags.c_contiguous:
        output[...] = np.array(output.ravel(order="F")).reshape(output.shape)


def long(x, output):
    if x.size == 65:
        bump(output, 64)


@pytest.mark.parametrize("broken", [last_of_odd, strided, unaligned, backwards, scalar, long])
def test_what_breaks_in_one_size_or_layout_is_told(broken):
    evidence = layout(tanh_unless(broken), TANH, case_of())
    assert evidence.verdict is Verdict.WRONG
    assert "value, size" in evidence.worst.context


def test_a_transposed_matrix_read_in_the_wrong_order_is_told():
    evidence = layout(tanh_unless(transposed), TANH, case_of())
    assert evidence.verdict is Verdict.WRONG
    assert "transposed" in evidence.worst.context


@pytest.mark.parametrize("fmt", [FLOAT32, BFLOAT16], ids=lambda fmt: fmt.name)
@pytest.mark.parametrize("name", ["relu", "tanh", "gelu"])
def test_a_right_implementation_passes_in_silence(name, fmt):
    formula = get_formula(name)
    evidence = layout(NUMPY.implement(formula, fmt), formula, case_of(fmt))
    assert evidence.verdict.passed and not evidence.breaches
    assert evidence.cases == 1 and evidence.vacuous_cases == 0


def test_a_gradient_that_breaks_in_one_layout_is_told():
    right = subject().vjp

    def vjp(inputs, cotangent, options):
        (gradient,) = right(inputs, cotangent.copy(), options)
        return (
            np.zeros_like(gradient) if cotangent.shape == (8,) and cotangent.strides == (8,) else gradient,
        )

    evidence = layout(subject(vjp=vjp), TANH, case_of())
    assert evidence.verdict is Verdict.WRONG
    assert evidence.worst.context == "derivative, size 8, strided"


def test_writing_to_an_input_is_told_also_where_it_is_read_only():
    def forward(inputs, options):
        inputs[0][...] = np.tanh(inputs[0])
        return inputs[0].copy()

    evidence = layout(subject(forward), TANH, case_of())
    assert {"mutation", "raised"} <= set(evidence.breaches)


def test_an_empty_array_is_asked():
    def forward(inputs, options):
        if inputs[0].size == 0:
            raise ValueError("empty")
        return np.tanh(inputs[0])

    assert "raised" in layout(subject(forward), TANH, case_of()).breaches


def test_the_shape_of_a_scalar_is_kept():
    evidence = layout(subject(lambda inputs, options: np.atleast_1d(np.tanh(inputs[0]))), TANH, case_of())
    assert evidence.breaches["shape"] >= 1


def test_last_bits_that_depend_on_the_layout_are_noted_and_pass():
    def forward(inputs, options):
        output = np.tanh(inputs[0])
        return output if output.size != 64 or inputs[0].base is None else np.nextafter(output, np.float32(0))

    evidence = layout(subject(forward), TANH, case_of())
    assert evidence.verdict.passed
    assert "differ in the last bits" in evidence.notes[0]


def test_negative_strides_are_asked_only_where_they_are_supported():
    asked = []

    def forward(inputs, options):
        asked.append(inputs[0].ndim == 1 and inputs[0].size > 1 and inputs[0].strides[0] < 0)
        return np.tanh(inputs[0])

    layout(subject(forward, negative_strides=False), TANH, case_of())
    assert not any(asked)
    layout(subject(forward), TANH, case_of())
    assert any(asked)


SEVERAL = [formula for formula in CATALOGUE if formula.axes]


def arrays_of(formula):
    rng = np.random.default_rng(5)
    lengths = {name: 3 + k for k, name in enumerate(sorted({n for axes in formula.axes for n in axes}))}
    return tuple(rng.normal(size=[lengths[n] for n in axes]).astype(np.float32) for axes in formula.axes)


@pytest.mark.parametrize("formula", SEVERAL, ids=lambda formula: formula.name)
def test_formulas_of_several_inputs_are_laid_out_too(formula):
    case = Case("plain", FLOAT32, arrays_of(formula), None, seed=3)
    right = NUMPY.implement(formula, FLOAT32)
    assert layout(right, formula, case).verdict.passed

    def forward(inputs, options):
        output = np.array(right.forward(inputs, options))
        if any(not array.flags.c_contiguous for array in inputs):
            output += np.float32(0.5)
        return output

    assert layout(replace(right, forward=forward), formula, case).verdict is Verdict.WRONG


def test_images_are_laid_out_with_the_channels_last_too():
    formula = get_formula("conv2d")
    rng = np.random.default_rng(6)
    shapes = ((2, 3, 4, 5), (2, 3, 2, 2), (2,))
    case = Case("plain", FLOAT32, tuple(rng.normal(size=s).astype(np.float32) for s in shapes), seed=3)
    right = NUMPY.implement(formula, FLOAT32)
    assert layout(right, formula, case).verdict.passed

    def forward(inputs, options):
        output = np.array(right.forward(inputs, options))
        if inputs[0].transpose(0, 2, 3, 1).flags.c_contiguous:
            output += np.float32(0.5)
        return output

    found = layout(replace(right, forward=forward), formula, case)
    assert found.verdict is Verdict.WRONG and "channels-last" in found.worst.context
