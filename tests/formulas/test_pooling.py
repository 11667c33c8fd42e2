"""Pooling: values by hand, edges, ties, NaN, refusals, proofs, right programs in silence, liars caught."""

from __future__ import annotations

from dataclasses import replace

import hypothesis
import numpy as np
import pytest

from gradcheck import cases, checks
from gradcheck.checks.linear import adjoint, linear, mass
from gradcheck.errors import UsageError
from gradcheck.formats import BFLOAT16, FLOAT32, FLOAT64, widen
from gradcheck.formulas import avg_pool1d, avg_pool2d, max_pool1d, max_pool2d
from gradcheck.records import Case, Evidence, Verdict
from gradcheck.subjects.numpy import NUMPY
from gradcheck.subjects.torch import CPU

LARGEST, AVERAGE = (max_pool1d, max_pool2d), (avg_pool1d, avg_pool2d)
EVERY = (*LARGEST, *AVERAGE)
DRAWS = hypothesis.settings(max_examples=16, derandomize=True, database=None, deadline=None)


def seen(check, formula, fmt, implementation=None, largest=9):
    """What a check makes of a few drawn cases."""
    total = Evidence()

    def run(case):
        nonlocal total
        given = () if implementation is None else (implementation,)
        total = total.merge(check(*given, formula, case))

    hypothesis.given(cases.several_inputs(formula, fmt, largest))(DRAWS(run))()
    return total


def row(*values):
    return np.array(values, dtype=np.float64)[None, None, :]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, [3.0, 5.0]),
        ({"stride": 1}, [3.0, 3.0, 5.0, 5.0]),
        ({"kernel_size": 3, "stride": 2}, [3.0, 5.0]),
        ({"padding": 1}, [1.0, 3.0, 5.0]),
        ({"ceil_mode": True}, [3.0, 5.0, 4.0]),
        ({"dilation": 2, "stride": 1}, [2.0, 5.0, 4.0]),
        ({"kernel_size": 1}, [1.0, 3.0, 2.0, 5.0, 4.0]),
    ],
)
def test_the_largest_by_hand(options, expected):
    assert max_pool1d(row(1.0, 3.0, 2.0, 5.0, 4.0), **options).ravel().tolist() == expected


def test_padding_is_no_zero_to_the_largest():
    assert max_pool1d(row(-3.0, -2.0), padding=1).ravel().tolist() == [-3.0, -2.0]


def test_the_last_window_of_ceil_mode_starts_inside_the_input_or_its_left_padding():
    x = row(1.0, 2.0, 3.0)
    assert max_pool1d(x, kernel_size=1, stride=3, ceil_mode=True).ravel().tolist() == [1.0]
    assert avg_pool1d(x, kernel_size=2, stride=4, padding=1, ceil_mode=True).ravel().tolist() == [0.5]
    assert avg_pool1d(x, kernel_size=2, stride=3, padding=1, ceil_mode=True).ravel().tolist() == [0.5, 1.5]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, [2.0, 3.5]),
        ({"padding": 1}, [0.5, 2.5, 4.5]),
        ({"padding": 1, "count_include_pad": False}, [1.0, 2.5, 4.5]),
        ({"ceil_mode": True}, [2.0, 3.5, 4.0]),
        ({"kernel_size": 4, "stride": 3, "padding": 1, "ceil_mode": True}, [1.5, 2.75]),
        ({"kernel_size": 4, "stride": 3, "padding": 1, "count_include_pad": False}, [2.0, 11 / 3]),
    ],
)
def test_the_mean_by_hand(options, expected):
    assert avg_pool1d(row(1.0, 3.0, 2.0, 5.0, 4.0), **options).ravel().tolist() == pytest.approx(
        expected, rel=1e-15
    )


def test_a_divisor_may_be_given():
    x = np.arange(1.0, 5.0).reshape(1, 1, 2, 2)
    assert avg_pool2d(x, divisor_override=5).ravel().tolist() == [2.0]
    assert avg_pool2d(x, kernel_size=(1, 2), stride=(1, 1)).ravel().tolist() == [1.5, 3.5]


@pytest.mark.parametrize("formula", EVERY, ids=lambda f: f.name)
def test_an_empty_batch_has_an_empty_result(formula):
    axes = int(formula.name[-2])
    assert formula(np.zeros((0, 2, *(4,) * axes))).shape == (0, 2, *(2,) * axes)


@pytest.mark.parametrize(
    "options",
    [
        {"kernel_size": 0},
        {"kernel_size": 4},
        {"kernel_size": (2, 2)},
        {"stride": 0},
        {"padding": 2},
        {"padding": -1},
        {"ceil_mode": "yes"},
    ],
)
@pytest.mark.parametrize("formula", [max_pool1d, avg_pool1d], ids=lambda f: f.name)
def test_options_that_make_no_sense_are_refused(formula, options):
    with pytest.raises(UsageError):
        formula(row(1.0, 2.0, 3.0), **options)


def test_a_window_of_padding_alone_has_no_largest():
    with pytest.raises(UsageError, match="padding alone"):
        max_pool1d(row(1.0, 2.0), dilation=3, padding=1)


def test_a_divisor_of_zero_is_refused():
    with pytest.raises(UsageError, match="divisor_override"):
        avg_pool2d(np.ones((1, 1, 2, 2)), divisor_override=0)


@pytest.mark.parametrize("formula", EVERY, ids=lambda f: f.name)
def test_the_gradients_are_proven(formula):
    found = seen(checks.proof, formula, FLOAT64, largest=3)
    assert found.verdict is Verdict.ACCURATE and not found.undecided


@pytest.mark.parametrize("formula", EVERY, ids=lambda f: f.name)
@pytest.mark.parametrize("subject", [NUMPY, CPU], ids=lambda s: s.name)
@pytest.mark.parametrize("fmt", [FLOAT32, BFLOAT16], ids=lambda f: f.name)
def test_right_programs_pass_in_silence(formula, subject, fmt):
    made = subject.implement(formula, fmt)
    for check in (checks.value, checks.derivative):
        assert seen(check, formula, fmt, made).verdict is Verdict.ACCURATE


def vjp_of(formula, x, c, **options):
    return formula.vjp((x,), c, **formula.complete(options))[0].ravel().tolist()


def test_of_equal_elements_the_first_is_kept_and_of_nan_the_last():
    assert vjp_of(max_pool1d, row(2.0, 2.0, 1.0), row(5.0), kernel_size=3) == [5.0, 0.0, 0.0]
    assert vjp_of(max_pool1d, row(np.nan, 2.0, np.nan), row(5.0), kernel_size=3) == [0.0, 0.0, 5.0]
    assert np.isnan(max_pool1d(row(np.nan, 2.0), kernel_size=2))


def test_the_generalised_gradient_of_overlapping_ties_by_hand():
    x, c = row(1.0, 1.0, 1.0), row(4.0, -3.0)
    lowest, highest = max_pool1d.extremes
    options = max_pool1d.complete({"stride": 1})
    assert lowest((x,), c, **options)[0].ravel().tolist() == [0.0, -3.0, -3.0]
    assert highest((x,), c, **options)[0].ravel().tolist() == [4.0, 4.0, 0.0]


def tied(vjp):
    """What the check makes of a gradient where two windows overlap in three equal elements."""
    x = row(1.0, 1.0, 1.0).astype(np.float32)
    options = {"kernel_size": 2, "stride": 1, "padding": 0, "dilation": 1, "ceil_mode": False}
    case = Case("ties", FLOAT32, (x,), row(4.0, -3.0).astype(np.float32), options)
    made = replace(NUMPY.implement(max_pool1d, FLOAT32), vjp=lambda i, c, o: (row(*vjp).astype(np.float32),))
    return checks.derivative(made, max_pool1d, case).verdict


@pytest.mark.parametrize("gradient", [(4.0, -3.0, 0.0), (0.0, 1.0, 0.0), (0.0, 4.0, -3.0), (2.0, 0.5, -1.5)])
def test_a_tie_may_be_shared_in_any_way(gradient):
    assert tied(gradient).passed


@pytest.mark.parametrize("gradient", [(4.5, 0.0, 0.0), (4.0, -3.5, 0.0), (0.0, 0.0, 1.0), (-1.0, 4.0, 0.0)])
def test_a_tie_gives_no_element_more_than_its_windows_have(gradient):
    assert tied(gradient) is Verdict.WRONG


@pytest.mark.parametrize("formula", LARGEST, ids=lambda f: f.name)
@pytest.mark.parametrize("subject", [NUMPY, CPU], ids=lambda s: s.name)
def test_special_numbers_are_met_as_listed(formula, subject):
    assert seen(checks.special, formula, FLOAT32, subject.implement(formula, FLOAT32), 4).verdict.passed


def shared(inputs, c, options):
    """Share the cotangent of a window evenly among its largest elements."""
    x = inputs[0]
    gradient = np.zeros(x.shape)
    step = options["stride"] or options["kernel_size"]
    for p in range(c.shape[2]):
        places = p * step - options["padding"] + options["dilation"] * np.arange(options["kernel_size"])
        places = places[(places >= 0) & (places < x.shape[2])]
        window = widen(x[:, :, places])
        ties = window == window.max(axis=2, keepdims=True)
        gradient[:, :, places] += ties * (widen(c[:, :, p]) / ties.sum(axis=2))[..., None]
    return (gradient.astype(x.dtype),)


def test_sharing_ties_evenly_is_right_too():
    made = replace(NUMPY.implement(max_pool1d, FLOAT32), vjp=shared)
    assert seen(checks.derivative, max_pool1d, FLOAT32, made).verdict.passed


def lying(formula, forward=None, vjp=None):
    right = NUMPY.implement(formula, FLOAT32)
    return replace(right, forward=forward or right.forward, vjp=vjp or right.vjp)


def zero_padded(inputs, options):
    """Pads with zeros, which are larger than negative numbers."""
    y = np.array(NUMPY.implement(max_pool1d, FLOAT32).forward(inputs, options))
    if options["padding"]:
        y[..., 0] = np.maximum(y[..., 0], 0)
    return y


def of_every_tie(inputs, c, options):
    """Hands the whole cotangent to every element of a tie."""
    x = np.asarray(inputs[0])
    y = NUMPY.implement(max_pool1d, FLOAT32).forward((x,), options)
    gradient = np.zeros_like(x)
    step = options["stride"] or options["kernel_size"]
    for p in range(c.shape[2]):
        for k in range(options["kernel_size"]):
            place = p * step - options["padding"] + options["dilation"] * k
            if 0 <= place < x.shape[2]:
                gradient[..., place] += np.where(x[..., place] == y[..., p], c[..., p], 0)
    return (gradient,)


def overwritten(inputs, c, options):
    """Keeps only the last of overlapping windows."""
    (right,) = NUMPY.implement(max_pool1d, FLOAT32).vjp(inputs, c, options)
    return (np.clip(right, -np.abs(c).max(), np.abs(c).max()) * np.float32(1 - 2.0**-10),)


def with_padding_counted(inputs, options):
    return NUMPY.implement(avg_pool1d, FLOAT32).forward(inputs, {**options, "count_include_pad": True})


def by_the_kernel(inputs, c, options):
    """Divides by the kernel's size at the border as well, in the gradient alone."""
    return NUMPY.implement(avg_pool1d, FLOAT32).vjp(inputs, c, {**options, "count_include_pad": True})


def test_wrong_programs_are_told():
    for formula, check, lie in (
        (max_pool1d, checks.value, lying(max_pool1d, forward=zero_padded)),
        (max_pool1d, checks.derivative, lying(max_pool1d, vjp=overwritten)),
        (avg_pool1d, checks.value, lying(avg_pool1d, forward=with_padding_counted)),
        (avg_pool1d, checks.derivative, lying(avg_pool1d, vjp=by_the_kernel)),
    ):
        assert seen(check, formula, FLOAT32, lie).verdict is Verdict.WRONG


def test_more_than_the_cotangent_for_a_tie_breaks_the_law_of_mass():
    assert seen(mass, max_pool1d, FLOAT32, CPU.implement(max_pool1d, FLOAT32)).verdict.passed
    assert seen(mass, max_pool1d, FLOAT32, lying(max_pool1d, vjp=shared)).verdict.passed
    assert seen(mass, max_pool1d, FLOAT32, lying(max_pool1d, vjp=of_every_tie)).verdict is Verdict.WRONG


@pytest.mark.parametrize("formula", AVERAGE, ids=lambda f: f.name)
def test_an_average_is_a_matrix_and_its_gradient_the_transpose(formula):
    made = CPU.implement(formula, FLOAT32)
    assert seen(linear, formula, FLOAT32, made, 4).verdict.passed
    assert seen(adjoint, formula, FLOAT32, made, 4).verdict.passed
