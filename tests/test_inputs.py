"""What a formula may be called with: floats pass, or are converted with a note; the rest is refused."""

from __future__ import annotations

import array
import time
from fractions import Fraction
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from gradcheck import derivative, formulas
from gradcheck.arithmetic.ball import balls
from gradcheck.arithmetic.dual import Dual
from gradcheck.arithmetic.exact import exact
from gradcheck.arithmetic.plain import Stored
from gradcheck.arithmetic.rounded import Model, rounded
from gradcheck.errors import GradcheckError, UnsupportedType, UsageError
from gradcheck.formats import FLOAT16, FLOAT32, FORMATS, Format
from gradcheck.formulas import CATALOGUE
from gradcheck.inputs import LIMIT, admit, admit_with_notes
from gradcheck.records import Formula, Option

ELEMENTWISE = [formula for formula in CATALOGUE if formula.elementwise]


@pytest.mark.parametrize("fmt", FORMATS, ids=lambda fmt: fmt.name)
def test_float_arrays_pass_unchanged(fmt: Format) -> None:
    for value in (
        np.ones(3).astype(fmt.dtype),
        np.ones(()).astype(fmt.dtype),
        np.ones((0, 2)).astype(fmt.dtype),
    ):
        assert admit(value, "x") is value
        assert admit_with_notes(value, "x") == (value, ())
    scalar = np.ones(1).astype(fmt.dtype)[0]
    assert admit(scalar, "x") is scalar


@pytest.mark.parametrize(
    "value",
    [
        rounded(np.ones(2), Model(FLOAT32)),
        balls(np.ones(2)),
        Dual(balls(np.ones(2))),
        Stored(np.ones(2), FLOAT16),
        exact("0.1"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_other_arithmetics_pass_untouched(value: Any) -> None:
    assert admit(value, "x") is value


REFUSED = {
    "int": (np.arange(3), "int64"),
    "bool": (np.ones(3, bool), "bool"),
    "object": (np.array([1.0, None]), "object"),
    "text": (np.array(["1.0"]), "<U3"),
    "bytes": (np.array([b"1.0"]), "S3"),
    "complex": (np.ones(3, complex), "complex128"),
    "longdouble": (np.ones(3, np.longdouble), str(np.dtype(np.longdouble))),
    "dates": (np.zeros(2, "datetime64[s]"), "datetime64"),
    "records": (np.zeros(2, [("a", float)]), "'a'"),
    "float8": (np.ones(2, ml_dtypes.float8_e4m3fn), "float8_e4m3fn"),
    "big-endian int": (np.arange(3, dtype=">i4"), ">i4"),
    "int scalar": (np.int32(1), "int32"),
    "longdouble scalar": (np.longdouble(1), str(np.dtype(np.longdouble))),
    "Python int": (2, "int \\(2\\)"),
    "huge Python int": (10**5000, "int"),
    "Python bool": (True, "bool"),
    "Python str": ("1.0", "str"),
    "Python complex": (1j, "complex"),
    "None": (None, "NoneType"),
    "fraction": (Fraction(1, 3), "fractions.Fraction"),
    "buffer": (array.array("d", [1.0]), "array.array"),
    "list of int": ([[1.0, 2.0], [3.0, 4]], r"weights\[1\]\[1\] is of type int \(4\)"),
    "list of bool": ([1.0, True], r"weights\[1\] is of type bool"),
    "list with None": ([1.0, None], r"weights\[1\] is of type NoneType"),
    "list of int arrays": ([np.arange(2)], r"weights\[0\] is of type int64"),
}


@pytest.mark.parametrize(("value", "shown"), REFUSED.values(), ids=REFUSED)
def test_any_other_type_is_refused_by_parameter_and_type(value: Any, shown: str) -> None:
    with pytest.raises(UnsupportedType, match=shown) as refusal:
        admit(value, "weights")
    message = str(refusal.value)
    assert isinstance(refusal.value, TypeError) and isinstance(refusal.value, GradcheckError)
    assert "weights" in message and "float64, float32, float16 or bfloat16; " in message
    assert len(message) < 300


def test_a_number_that_opts_out_of_numpy_is_no_other_arithmetic() -> None:
    class Refusing:
        __array_ufunc__ = None

    with pytest.raises(UnsupportedType, match="Refusing"):
        admit(Refusing(), "x")


@pytest.mark.parametrize("kind", (">f8", ">f4", ">f2"))
def test_big_endian_arrays_become_native_with_a_note(kind: str) -> None:
    value = np.array([1.5, -0.0, np.inf], kind)
    got, notes = admit_with_notes(value, "x")
    assert got.dtype.isnative and got.dtype.itemsize == value.dtype.itemsize
    assert got.tobytes() == value.byteswap().tobytes()
    assert notes == (f"x: {kind} was converted to this machine's byte order",)
    assert value.dtype == np.dtype(kind)


def test_a_masked_array_is_refused_with_advice() -> None:
    with pytest.raises(
        UnsupportedType, match=r"x is a masked array.*x\.filled\(np\.nan\).*x\.compressed\(\)"
    ):
        admit(np.ma.masked_array([1.0, 2.0], [False, True]), "x")


def test_other_subclasses_are_taken_as_the_array_that_they_hold() -> None:
    class Labelled(np.ndarray):
        pass

    data = np.ones((2, 3))
    for value in (data.view(Labelled), data.view(np.matrix)):
        got, notes = admit_with_notes(value, "x")
        assert type(got) is np.ndarray and np.shares_memory(got, data)
        assert notes == (f"x: {type(value).__name__} was taken as the plain array that it holds",)


def test_a_matrix_does_not_change_what_a_formula_computes() -> None:
    x, w = np.array([[1.0, 2.0]]), np.array([3.0, 4.0])
    got = formulas.preactivation(x.view(np.matrix), w, np.float64(1.0))
    assert type(got) is np.ndarray and got.tolist() == [12.0]


def test_nested_lists_of_floats_are_float64_arrays() -> None:
    got, notes = admit_with_notes([[0.1, 0.2], (0.3, np.float64(0.4))], "x")
    assert got.dtype == np.float64 and got.tolist() == [[0.1, 0.2], [0.3, 0.4]]
    assert notes == ("x: a list was taken as an array of float64",)
    assert admit([], "x").shape == (0,) and admit([[], []], "x").shape == (2, 0)
    assert admit([np.ones(2), np.ones(2)], "x").shape == (2, 2)


RAGGED = {
    "shorter": (
        [[1.0, 2.0], [3.0, 4.0], [5.0], [6.0, 7.0]],
        r"x\[2\] has length 1 where x\[0\] has length 2",
    ),
    "number for a row": ([[1.0], 2.0], r"x\[1\] has a number where x\[0\] has length 1"),
    "row for a number": ([1.0, [2.0]], r"x\[1\] has length 1 where x\[0\] has a number"),
    "inner": (
        [[[1.0], [2.0]], [[3.0], [4.0, 5.0]]],
        r"x\[1\]\[1\] has length 2 where x\[1\]\[0\] has length 1",
    ),
    "deeper": ([[1.0], [[1.0]]], r"x\[1\] has shape \(1, 1\) where x\[0\] has length 1"),
    "arrays": ([np.ones(2), np.ones(3)], r"x\[1\] has length 3 where x\[0\] has length 2"),
}


@pytest.mark.parametrize(("value", "shown"), RAGGED.values(), ids=RAGGED)
def test_a_ragged_list_names_the_first_row_that_differs(value: Any, shown: str) -> None:
    with pytest.raises(ValueError, match=shown):
        admit(value, "x")


def test_lists_deeper_than_an_array_has_axes_are_refused() -> None:
    endless: list[Any] = []
    endless.append(endless)
    with pytest.raises(UsageError, match="more than 64 deep"):
        admit(endless, "x")


def _shared_rows() -> Any:
    return [[[0.0] * 1000] * 1000] * 1000


@pytest.mark.parametrize(
    ("make", "gibibytes"),
    [
        (lambda: np.broadcast_to(np.float64(1.0), LIMIT), 60),
        (lambda: np.broadcast_to(np.float32(1.0), (1000, 1000, 1000)), 30),
        (lambda: np.broadcast_to(np.ones(1000, np.float16), (10**7, 1000)), 298),
        (_shared_rows, 60),
    ],
    ids=("stride 0", "three axes", "expanded row", "list"),
)
def test_a_request_for_a_thousand_million_elements_is_refused_with_the_estimate(
    make: Any, gibibytes: int
) -> None:
    value = make()
    began = time.perf_counter()
    with pytest.raises(UsageError, match=rf"elements: .* about {gibibytes} GiB"):
        formulas.relu(value)
    assert time.perf_counter() - began < 1.0


def test_the_estimate_covers_what_the_longest_text_holds() -> None:
    import tracemalloc

    from gradcheck import inputs

    x = np.linspace(-3.0, 3.0, 100_000)
    peaks = {}
    for formula in ELEMENTWISE:
        formula(x[:2])
        tracemalloc.start()
        formula(x)
        peaks[formula.name] = 1 + tracemalloc.get_traced_memory()[1] / x.nbytes
        tracemalloc.stop()
    assert inputs._ARRAYS_AT_ONCE - 1 < max(peaks.values()) < inputs._ARRAYS_AT_ONCE + 0.5


def test_expanded_views_of_ordinary_size_are_computed() -> None:
    view = np.broadcast_to(np.float64(-2.0), (3, 4))
    assert formulas.relu6(view).tolist() == np.zeros((3, 4)).tolist()


@pytest.mark.parametrize("formula", ELEMENTWISE, ids=lambda formula: formula.name)
@pytest.mark.parametrize("fmt", FORMATS, ids=lambda fmt: fmt.name)
def test_the_result_has_the_type_of_the_input(formula: Formula, fmt: Format) -> None:
    x = np.array([-1.5, 0.0, 0.75]).astype(fmt.dtype)
    assert np.asarray(formula(x)).dtype == fmt.dtype
    assert np.asarray(formula(x[0])).dtype == fmt.dtype


@pytest.mark.parametrize("formula", ELEMENTWISE, ids=lambda formula: formula.name)
def test_a_python_float_is_a_float64(formula: Formula) -> None:
    got = formula(0.75)
    assert isinstance(got, np.ndarray | np.float64)
    assert float(got) == float(formula(np.array([0.75]))[0])


@pytest.mark.parametrize("fmt", FORMATS[2:], ids=lambda fmt: fmt.name)
def test_16_bit_numbers_mix_with_no_other_type(fmt: Format) -> None:
    x, w, b = (np.ones(s).astype(fmt.dtype) for s in ((2, 3), 3, ()))
    assert formulas.neuron(x, w, b).dtype == fmt.dtype
    with pytest.raises(UsageError, match=f"w is of float64 beside an input of {fmt.name}"):
        formulas.neuron(x, w.astype(np.float64), b)


def test_options_may_be_of_another_arithmetic() -> None:
    x, alpha = balls(np.array([-2.0])), balls(np.array([0.3]))
    got = formulas.leaky_relu(x, alpha)
    assert isinstance(got, type(x))
    assert isinstance(formulas.leaky_relu(np.array([-2.0]), np.array([7.0])), np.ndarray)


def test_a_derivative_is_taken_through_the_door() -> None:
    x = np.array([-1.0, 0.0, 2.0])
    y = 1 / (1 + np.exp(-x))
    assert derivative(formulas.sigmoid)(x) == pytest.approx(y * (1 - y), rel=1e-14)


CHOOSING = Formula(
    name="choosing",
    title="",
    equation="",
    source="",
    value=lambda x, approximate: x,
    options=(Option("approximate", "none", choices=("none", "tanh")),),
)
BAD_OPTIONS = {
    "below": (formulas.elu, {"alpha": 0.0}, r"elu: alpha=0\.0, expected a number from 0\.125 to 4$"),
    "above": (
        formulas.leaky_relu,
        {"negative_slope": 1.5},
        "negative_slope=1.5, expected a number from 0 to 1",
    ),
    "NaN": (formulas.celu, {"alpha": float("nan")}, "alpha=nan, expected a number from 0.125 to 4"),
    "NumPy NaN": (formulas.celu, {"alpha": np.float32("nan")}, "alpha=.*nan.*, expected a number"),
    "infinite": (formulas.elu, {"alpha": float("inf")}, "alpha=inf"),
    "NaN beside inf": (formulas.softplus, {"threshold": float("nan")}, "from 1 to 40 or inf"),
    "-inf": (formulas.softplus, {"threshold": -float("inf")}, "from 1 to 40 or inf"),
    "choice": (CHOOSING, {"approximate": "tahn"}, "approximate='tahn' is none of 'none', 'tanh'"),
    "unknown": (formulas.elu, {"beta": 1.0}, "elu has no option 'beta'"),
}


@pytest.mark.parametrize(("formula", "options", "shown"), BAD_OPTIONS.values(), ids=BAD_OPTIONS)
def test_an_option_out_of_range_is_refused_with_the_range(
    formula: Formula, options: dict[str, Any], shown: str
) -> None:
    with pytest.raises(UsageError, match=shown):
        formula(np.ones(2), **options)


@pytest.mark.parametrize("given", (True, "0.5", 1j))
def test_an_option_that_is_no_number_is_refused_by_its_type(given: Any) -> None:
    with pytest.raises(UnsupportedType, match=f"alpha is of type {type(given).__name__}"):
        formulas.elu(np.ones(2), alpha=given)


@pytest.mark.parametrize("formula", ELEMENTWISE, ids=lambda formula: formula.name)
def test_options_at_the_ends_of_their_range_are_taken(formula: Formula) -> None:
    for option in formula.options:
        for end in (option.low, option.high, option.default):
            assert np.isfinite(formula(np.ones(2), **{option.name: end})).all()


def test_a_choice_is_taken() -> None:
    x = np.ones(2)
    assert CHOOSING(x, "tanh") is x and CHOOSING(x, approximate="none") is x


def test_an_option_given_twice_is_refused() -> None:
    with pytest.raises(UsageError, match="alpha is given twice"):
        formulas.elu(np.ones(2), 0.5, alpha=0.5)


def test_an_output_array_is_refused() -> None:
    x = np.ones(2)
    with pytest.raises(UsageError, match="relu takes no out=: a result never shares memory with an input"):
        formulas.relu(x, out=x)


def test_a_number_of_arguments_that_fits_nothing_is_refused() -> None:
    for arguments in ((), (np.ones(2), 1.0, 1.0)):
        with pytest.raises(UsageError, match=rf"elu\(x, alpha\): got {len(arguments)} positional"):
            formulas.elu(*arguments)


BROADCAST = {
    "bias of one": (formulas.dense, [(5, 3), (2, 3), (1,)], "axis m has length 1 in bias and 2 in weight"),
    "bias in columns": (formulas.dense, [(5, 3), (2, 3), (5, 1)], r"bias has shape \(5, 1\)"),
    "features": (formulas.dense, [(5, 1), (2, 3), (2,)], "axis n has length 3 in weight and 1 in x"),
    "channels": (formulas.prelu, [(5, 1), (3,)], "axis C has length 3 in weight and 1 in x"),
    "rows of weights": (formulas.prelu, [(3, 4), (3, 1)], r"weight has shape \(3, 1\)"),
    "vector of b": (formulas.neuron, [(5, 3), (3,), (5,)], r"b has shape \(5,\)"),
}


@pytest.mark.parametrize(("formula", "shapes", "shown"), BROADCAST.values(), ids=BROADCAST)
def test_nothing_is_broadcast_to_fit(formula: Formula, shapes: list[tuple[int, ...]], shown: str) -> None:
    with pytest.raises(UsageError, match=shown):
        formula(*map(np.ones, shapes))


@pytest.mark.parametrize(
    ("formula", "shapes", "result"),
    [
        (formulas.dense, [(5, 3), (2, 3), (2,)], (5, 2)),
        (formulas.dense, [(4, 5, 3), (2, 3), (2,)], (4, 5, 2)),
        (formulas.prelu, [(5, 4, 3), (3,)], (5, 4, 3)),
        (formulas.prelu, [(5, 3), ()], (5, 3)),
        (formulas.neuron, [(3,), (3,), ()], ()),
        (formulas.neuron, [(0, 3), (3,), ()], (0,)),
    ],
)
def test_batches_and_samples_fit(
    formula: Formula, shapes: list[tuple[int, ...]], result: tuple[int, ...]
) -> None:
    assert np.shape(formula(*map(np.ones, shapes))) == result


def test_the_door_costs_microseconds() -> None:
    x = np.ones(3)
    best = min(_seconds(lambda: admit(x, "x")) for _ in range(20))
    assert best < 1e-5


def _seconds(call: Any, times: int = 1000) -> float:
    began = time.perf_counter()
    for _ in range(times):
        call()
    return (time.perf_counter() - began) / times
