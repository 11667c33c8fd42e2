"""Convolution: hand-computed values, edges, refusals, proofs, correct programs in silence, liars caught."""

from __future__ import annotations

from dataclasses import replace

import hypothesis
import numpy as np
import pytest
from scipy import signal

from gradcheck import cases, checks, formulas
from gradcheck.checks.linear import adjoint, linear, matrix_of
from gradcheck.errors import UsageError
from gradcheck.formats import BFLOAT16, FLOAT32, FLOAT64, widen
from gradcheck.formulas import conv1d, conv2d
from gradcheck.formulas.windows import PADDING_MODES
from gradcheck.records import Evidence, Verdict
from gradcheck.subjects.numpy import NUMPY
from gradcheck.subjects.torch import CPU

BOTH = (conv1d, conv2d)
DRAWS = hypothesis.settings(max_examples=8, derandomize=True, database=None, deadline=None)


def seen(check, formula, fmt, implementation=None, largest=9, prepare=lambda case: case):
    """What a check makes of a dozen drawn cases."""
    total = Evidence()

    def run(case):
        nonlocal total
        given = () if implementation is None else (implementation,)
        total = total.merge(check(*given, formula, prepare(case)))

    hypothesis.given(cases.several_inputs(formula, fmt, largest))(DRAWS(run))()
    return total


def by_the_processor(implementation):
    """Some processors' dot products of bfloat16 read subnormal numbers as zero, and torch uses these."""
    dot = implementation.subject == CPU.name and implementation.format is BFLOAT16
    return replace(implementation, flushes=True) if dot else implementation


def array(*values):
    return np.array(values, dtype=np.float64)


def row(*values):
    return array(*values)[None, None, :]


def test_a_value_by_hand():
    y = conv1d(row(1.0, 2.0, 3.0, 4.0), row(1.0, -1.0), array(10.0))
    assert y.tolist() == [[[9.0, 9.0, 9.0]]]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"padding": 1}, [2.0, 5.0, 8.0, 3.0]),
        ({"padding": 1, "padding_mode": "reflect"}, [4.0, 5.0, 8.0, 7.0]),
        ({"padding": 1, "padding_mode": "replicate"}, [3.0, 5.0, 8.0, 9.0]),
        ({"padding": 1, "padding_mode": "circular"}, [5.0, 5.0, 8.0, 5.0]),
        ({"padding": "same"}, [5.0, 8.0, 3.0]),
        ({"padding": "valid"}, [5.0, 8.0]),
        ({"dilation": 2}, [7.0]),
        ({"stride": 2}, [5.0]),
        ({"stride": 3, "padding": 1}, [2.0, 3.0]),
    ],
)
def test_options_by_hand(options, expected):
    y = conv1d(row(1.0, 2.0, 3.0), row(1.0, 2.0), array(0.0), **options)
    assert y.tolist() == [[expected]]


def test_groups_keep_their_channels_apart():
    x = array(1.0, 10.0)[None, :, None]
    weight = array(2.0, 3.0)[:, None, None]
    assert conv1d(x, weight, array(0.0, 0.5), groups=2).ravel().tolist() == [2.0, 30.5]


def test_two_axes_agree_with_scipy():
    rng = np.random.default_rng(1)
    x, weight, bias = rng.normal(size=(2, 3, 6, 5)), rng.normal(size=(4, 3, 3, 2)), rng.normal(size=4)
    expected = [
        [
            sum(signal.correlate2d(x[n, c], weight[o, c], "valid") for c in range(3)) + bias[o]
            for o in range(4)
        ]
        for n in range(2)
    ]
    assert np.allclose(conv2d(x, weight, bias), expected, rtol=1e-12)


def test_a_window_of_padding_alone_is_the_bias():
    y = conv1d(row(1.0), row(1.0), array(0.25), padding=2)
    assert y.ravel().tolist() == [0.25, 0.25, 1.25, 0.25, 0.25]


def test_an_empty_batch_has_an_empty_result_and_zero_gradients_of_the_weight():
    x, weight, bias = np.zeros((0, 2, 4)), np.ones((3, 2, 2)), np.ones(3)
    assert conv1d(x, weight, bias).shape == (0, 3, 3)
    options = conv1d.complete({})
    gradients = conv1d.vjp((x, weight, bias), np.zeros((0, 3, 3)), **options)
    assert gradients[0].shape == (0, 2, 4) and not gradients[1].any() and not gradients[2].any()


@pytest.mark.parametrize(
    "options",
    [
        {"stride": 0},
        {"stride": (1, 1)},
        {"stride": 1.0},
        {"padding": -1},
        {"padding": "full"},
        {"dilation": True},
        {"dilation": 5},
        {"groups": 2},
        {"groups": 0},
        {"padding_mode": "mirror"},
        {"padding": "same", "stride": 2},
        {"padding": 3, "padding_mode": "reflect"},
        {"padding": 4, "padding_mode": "circular"},
    ],
)
def test_options_that_make_no_sense_are_refused(options):
    with pytest.raises(UsageError):
        conv1d(row(1.0, 2.0, 3.0), row(1.0, 2.0), array(0.0), **options)


def test_shapes_that_do_not_fit_are_refused():
    with pytest.raises(UsageError, match="channels"):
        conv1d(np.ones((1, 3, 4)), np.ones((2, 2, 2)), np.ones(2))
    with pytest.raises(UsageError, match="expected"):
        conv1d(np.ones((3, 4)), np.ones((2, 2, 2)), np.ones(2))


@pytest.mark.parametrize("formula", BOTH, ids=lambda f: f.name)
def test_the_gradients_are_proven(formula):
    found = seen(checks.proof, formula, FLOAT64, largest=2)
    assert found.verdict is Verdict.ACCURATE and not found.undecided


@pytest.mark.parametrize("formula", BOTH, ids=lambda f: f.name)
@pytest.mark.parametrize("subject", [NUMPY, CPU], ids=lambda s: s.name)
@pytest.mark.parametrize("fmt", [FLOAT32, BFLOAT16], ids=lambda f: f.name)
def test_right_programs_pass_in_silence(formula, subject, fmt):
    made = by_the_processor(subject.implement(formula, fmt))
    for check in (checks.value, checks.derivative):
        assert seen(check, formula, fmt, made).verdict is Verdict.ACCURATE


def fourier(inputs, options):
    """Through the Fourier transform, which is another program with other errors, in wider numbers."""
    x, weight, bias = (widen(array) for array in inputs)
    padded = np.pad(x, ((0, 0), (0, 0), (options["padding"],) * 2))
    full = signal.fftconvolve(padded[:, None], weight[None, :, :, ::-1], axes=-1).sum(axis=2)
    kept = full[..., weight.shape[2] - 1 : padded.shape[2]][..., :: options["stride"]]
    return (kept + bias[:, None]).astype(inputs[0].dtype)


def test_a_program_through_the_fourier_transform_in_double_passes_for_float32():
    made = replace(NUMPY.implement(conv1d, FLOAT32), forward=fourier, vjp=None)
    found = Evidence()
    for seed in range(8):
        rng = np.random.default_rng(seed)
        inputs = tuple(rng.normal(size=s).astype(np.float32) for s in ((2, 3, 9), (2, 3, 3), (2,)))
        case = cases.Case("plain", FLOAT32, inputs, None, conv_options(padding=1), seed)
        found = found.merge(checks.value(made, conv1d, case))
    assert found.verdict is Verdict.ACCURATE


def conv_options(**changes):
    return {option.name: option.default for option in conv1d.options} | changes


def changed(**options):
    """The right program with other options than it was given."""

    def forward(inputs, given):
        return NUMPY.implement(conv1d, FLOAT32).forward(inputs, {**given, **options})

    return forward


def flipped(inputs, options):
    x, weight, bias = inputs
    return NUMPY.implement(conv1d, FLOAT32).forward((x, weight[..., ::-1].copy(), bias), options)


def without_bias(inputs, options):
    x, weight, bias = inputs
    return NUMPY.implement(conv1d, FLOAT32).forward((x, weight, 0 * bias), options)


def one_wrong(inputs, options):
    y = np.array(NUMPY.implement(conv1d, FLOAT32).forward(inputs, options))
    y.ravel()[-1] *= np.float32(1 + 2.0**-12)
    return y


@pytest.mark.parametrize(
    "lie",
    [changed(padding_mode="zeros"), flipped, without_bias, one_wrong],
    ids=["zeros for every mode", "a true convolution", "no bias", "one element"],
)
def test_wrong_values_are_told(lie):
    right = NUMPY.implement(conv1d, FLOAT32)
    assert seen(checks.value, conv1d, FLOAT32, replace(right, forward=lie)).verdict is Verdict.WRONG


def unflipped(gradients, inputs, c, options):
    x, weight, bias = inputs
    other = NUMPY.implement(conv1d, FLOAT32).vjp((x, weight[..., ::-1].copy(), bias), c, options)
    return (other[0], *gradients[1:])


def cropped(gradients, inputs, c, options):
    """What the padding saw is not added back: the border of dx lacks a part in every mode but zeros."""
    other = NUMPY.implement(conv1d, FLOAT32).vjp(inputs, c, {**options, "padding_mode": "zeros"})
    return (other[0], *gradients[1:])


def of_one_sample(gradients, inputs, c, options):
    return (gradients[0], gradients[1], c[0].sum(axis=1))


def averaged(gradients, inputs, c, options):
    return (gradients[0], gradients[1] / np.float32(max(len(c), 1)), gradients[2])


@pytest.mark.parametrize("lie", [unflipped, cropped, of_one_sample, averaged])
def test_wrong_gradients_are_told(lie):
    right = NUMPY.implement(conv1d, FLOAT32)

    def vjp(inputs, c, options):
        return lie(right.vjp(inputs, c, options), inputs, c, options)

    assert seen(checks.derivative, conv1d, FLOAT32, replace(right, vjp=vjp)).verdict is Verdict.WRONG


def zeros_around(case):
    return replace(case, options={**case.options, "padding_mode": "zeros"})


@pytest.mark.parametrize("formula", BOTH, ids=lambda f: f.name)
@pytest.mark.parametrize("fmt", [FLOAT32, BFLOAT16], ids=lambda f: f.name)
def test_a_convolution_is_a_matrix_and_its_gradient_the_transpose(formula, fmt):
    made = by_the_processor(CPU.implement(formula, fmt))
    assert seen(linear, formula, fmt, made, 4, zeros_around).verdict is Verdict.ACCURATE
    assert seen(adjoint, formula, fmt, made, 4, zeros_around).verdict is Verdict.ACCURATE


def test_the_matrix_of_a_convolution_by_hand():
    def f(x):
        return conv1d(x, row(1.0, 2.0), array(0.0))

    assert matrix_of(f, (1, 1, 3), FLOAT64).tolist() == [[1.0, 2.0, 0.0], [0.0, 1.0, 2.0]]


def test_what_is_not_linear_breaks_the_law():
    right = NUMPY.implement(conv1d, FLOAT32)
    lie = replace(right, forward=lambda i, o: np.maximum(right.forward(i, o), np.float32(0)))
    assert seen(linear, conv1d, FLOAT32, lie, 4, zeros_around).verdict is Verdict.WRONG
    doubled = replace(right, vjp=lambda i, c, o: (2 * right.vjp(i, c, o)[0], None, None))
    assert seen(adjoint, conv1d, FLOAT32, doubled, 4, zeros_around).verdict is Verdict.WRONG


def test_every_mode_and_name_of_padding_is_drawn():
    drawn = set()

    def note(formula, case):
        drawn.update((case.options["padding_mode"], type(case.options["padding"]).__name__))
        return Evidence()

    hypothesis.given(cases.several_inputs(conv1d, FLOAT64, 5))(
        hypothesis.settings(DRAWS, max_examples=100)(lambda case: note(conv1d, case) and None)
    )()
    assert drawn >= {*PADDING_MODES, "int", "str"}


def test_conv_is_in_the_catalogue():
    assert formulas.get_formula("conv1d") is conv1d and formulas.get_formula("conv2d") is conv2d
