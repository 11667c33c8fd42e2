"""What may be wrong with numbers and arrays, fault by fault: each is a finding, and honest code is none.

Every fault is put into an implementation that passes the same check on the same case without it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from gradcheck import cases, checks, families, formulas
from gradcheck.arithmetic.rounded import Model
from gradcheck.compare import within
from gradcheck.errors import UnsupportedType, UsageError
from gradcheck.explain import code_for
from gradcheck.formats import BFLOAT16, FLOAT16, FLOAT32, FLOAT64, FORMATS, Format, widen
from gradcheck.formulas import CATALOGUE, get_formula
from gradcheck.inputs import admit_with_notes
from gradcheck.oracles.finite_difference import central, one_sided
from gradcheck.oracles.truth import Query, bounds
from gradcheck.records import VALUE, Array, Case, Evidence, Formula, Options, Verdict
from gradcheck.subjects import Implementation
from tests.honest import honest, wide

CHECKS: dict[str, Callable[..., Evidence]] = {
    "value": checks.value,
    "derivative": checks.derivative,
    "layout": checks.layout,
    "special": checks.special,
}
Change = Callable[..., Any]
every_format = pytest.mark.parametrize("fmt", FORMATS, ids=lambda fmt: fmt.name)
ELEMENTWISE = [formula for formula in CATALOGUE if formula.elementwise]
every_elementwise = pytest.mark.parametrize("formula", ELEMENTWISE, ids=lambda formula: formula.name)
# Those whose inputs are made here by hand: of one input, or with named axes.
PLAIN = [formula for formula in CATALOGUE if formula.elementwise or (formula.axes and not formula.kinds)]
every_formula = pytest.mark.parametrize("formula", PLAIN, ids=lambda formula: formula.name)


def case_of(numbers: Any, fmt: Format = FLOAT64, *others: Any) -> Case:
    """The case of these numbers, rounded to the format, with a drawn cotangent."""
    with np.errstate(all="ignore"):
        inputs = tuple(np.asarray(a, dtype=np.float64).astype(fmt.dtype) for a in (numbers, *others))
    cotangent = None if others else cases.cotangents(5, inputs[0].shape, fmt)
    return Case("chosen", fmt, inputs, cotangent)


def ordinary(fmt: Format = FLOAT64, size: int = 65) -> Case:
    return case_of(families.build("plain", 3, size, fmt, ()), fmt)


def faulty(formula: str, fmt: Format, order: str, change: Change) -> Implementation:
    """The honest implementation, its `order` ("forward" or "vjp") replaced by `change(inner, *arguments)`."""
    good = honest(formula, fmt)
    inner = getattr(good, order)
    return replace(good, **{order: lambda *arguments: change(inner, *arguments)})


def copied(case: Case) -> Case:
    """The case with arrays of its own, so that no implementation spoils it for the next one."""
    inputs = tuple(a.copy() if a.flags.writeable else a for a in case.inputs)
    return replace(case, inputs=inputs, cotangent=None if case.cotangent is None else case.cotangent.copy())


def detected(
    check: str, formula: str, case: Case, change: Change, order: str = "forward"
) -> tuple[str, Evidence]:
    """The code of the finding and its evidence; the honest implementation passes the same check."""
    fmt = case.format
    good = CHECKS[check](honest(formula, fmt), get_formula(formula), copied(case))
    assert good.verdict.passed and not sum(good.breaches.values()), good
    found = CHECKS[check](faulty(formula, fmt, order, change), get_formula(formula), copied(case))
    assert found.verdict.is_finding, found
    return code_for(check, found.verdict, found.breaches), found


def result(change: Callable[[Array, Array], Any]) -> Change:
    """Change the result: `change(x, honest result)`; of a vjp, the first gradient."""

    def changed(inner: Change, inputs: tuple[Array, ...], *rest: Any) -> Any:
        answer = inner(inputs, *rest)
        if isinstance(answer, tuple):
            return (change(inputs[0], answer[0]), *answer[1:])
        return change(inputs[0], answer)

    return changed


def at(points: Callable[[Any], Any], answer: Any) -> Change:
    """Answer `answer` where `points(x)` holds for the input as float64."""

    def changed(x: Array, good: Array) -> Array:
        return np.where(points(wide(x)), answer, wide(good)).astype(good.dtype)

    return result(changed)


# 1 NaN in the input: the pattern is compared exactly.

WITH_NAN = [1.0, np.nan, -2.0, 0.5, np.nan, 3.0, -0.25, 7.0]


@every_format
@pytest.mark.parametrize("check", ("value", "special"))
def test_01_a_nan_that_is_lost(check: str, fmt: Format) -> None:
    code, found = detected(check, "sigmoid", case_of(WITH_NAN, fmt), at(np.isnan, 0.5))
    assert code == f"{check.upper()}-WRONG" and set(found.breaches) == {"nan"}
    assert found.worst is not None and np.isnan(found.worst.input[0]) and found.worst.got == 0.5


def test_01_a_nan_that_spreads_to_its_neighbours() -> None:
    def spread(x: Array, good: Array) -> Array:
        return np.where(np.isnan(x) | np.isnan(np.roll(x, 1)), np.nan, good)

    code, found = detected("value", "sigmoid", case_of(WITH_NAN), result(spread))
    assert code == "VALUE-WRONG" and found.outside_unstable == 2
    assert found.worst is not None and np.isnan(found.worst.got) and np.isfinite(found.worst.expected)


def test_01_a_nan_made_from_numbers() -> None:
    code, found = detected("value", "tanh", ordinary(), at(lambda x: np.abs(x) == np.max(np.abs(x)), np.nan))
    assert code == "VALUE-WRONG" and found.outside_unstable == 1


def test_01_a_nan_that_is_lost_in_the_gradient() -> None:
    code, _ = detected("derivative", "sigmoid", case_of(WITH_NAN), at(np.isnan, 0.125), "vjp")
    assert code == "DERIVATIVE-WRONG"


def test_01_the_payload_and_sign_of_a_nan_mean_nothing() -> None:
    other = np.array([0xFFF8000000000123], np.uint64).view(np.float64)[0]
    implementation = faulty("sigmoid", FLOAT64, "forward", at(np.isnan, other))
    assert checks.value(implementation, formulas.sigmoid, case_of(WITH_NAN)).verdict.passed


# 2 Infinities: the table of accepted answers.


@every_format
@pytest.mark.parametrize(
    ("formula", "point", "answer", "kind"),
    [
        ("sigmoid", np.inf, 0.5, "infinity"),
        ("sigmoid", -np.inf, np.nan, "nan"),
        ("relu", np.inf, 1.0, "infinity"),
        ("tanh", -np.inf, 1.0, "infinity"),
        ("hardswish", np.inf, np.nan, "nan"),
        ("softplus", np.inf, -np.inf, "infinity"),
    ],
)
def test_02_a_wrong_answer_at_infinity(
    formula: str, point: float, answer: float, kind: str, fmt: Format
) -> None:
    change = at(lambda x: x == point, answer)
    for check in ("value", "special"):
        code, found = detected(check, formula, case_of([1.0, -np.inf, np.inf, -0.5], fmt), change)
        assert code == f"{check.upper()}-WRONG" and set(found.breaches) == {kind}


@every_format
def test_02_an_infinity_replaced_by_the_largest_number(fmt: Format) -> None:
    code, found = detected("special", "relu", ordinary(fmt), at(np.isposinf, fmt.largest))
    assert code == "SPECIAL-WRONG" and set(found.breaches) == {"infinity"}


def test_02_a_wrong_slope_at_infinity() -> None:
    code, _ = detected("special", "sigmoid", ordinary(), at(np.isinf, 1.0), "vjp")
    assert code == "SPECIAL-WRONG"


# 3 Negative zero: the sign is compared.


@every_format
@pytest.mark.parametrize("formula", ("tanh", "softsign", "hardtanh", "mish"))
def test_03_a_negative_zero_that_loses_its_sign(formula: str, fmt: Format) -> None:
    code, found = detected(
        "special", formula, ordinary(fmt), result(lambda x, good: good + good.dtype.type(0))
    )
    assert code.startswith("SPECIAL-") and found.worst is not None
    assert str(found.worst.input[0]) == "-0.0" and str(found.worst.got) == "0.0"


def test_03_the_sign_of_zero_in_a_value_check() -> None:
    code, found = detected("value", "softsign", case_of([1.0, -0.0, 0.0, 2.0]), at(lambda x: x == 0, 0.0))
    assert code == "VALUE-WRONG" and dict(found.breaches) == {"zero sign": 1}


def test_03_an_underflow_to_zero_of_the_wrong_sign() -> None:
    code, found = detected(
        "value", "silu", case_of([-200.0, -1.0, 2.0], FLOAT32), at(lambda x: x == -200.0, 0.0)
    )
    assert code == "VALUE-WRONG" and dict(found.breaches) == {"zero sign": 1}


@pytest.mark.parametrize("fmt", FORMATS, ids=lambda fmt: fmt.name)
@pytest.mark.parametrize("formula", ("leaky_relu", "hardswish", "gelu", "silu"))
def test_03_the_sign_of_zero_beside_numbers_that_underflow(formula: str, fmt: Format) -> None:
    code, _ = detected("special", formula, ordinary(fmt), result(lambda x, good: good + good.dtype.type(0)))
    assert code.startswith("SPECIAL-")


# 4 Subnormal numbers: one that is flushed is a finding.


def flush(numbers: Array, fmt: Format) -> Array:
    small = np.abs(wide(numbers)) < fmt.least_normal
    return np.where(small, np.copysign(0.0, wide(numbers)), wide(numbers)).astype(fmt.dtype)


def subnormal(fmt: Format) -> Case:
    return case_of(families.build("subnormal", 11, 64, fmt, ()), fmt)


@every_format
@pytest.mark.parametrize("formula", ("relu", "hardtanh", "leaky_relu", "softsign"))
def test_04_flushed_results(formula: str, fmt: Format) -> None:
    change = result(lambda x, good: flush(good, fmt))
    code, found = detected("value", formula, subnormal(fmt), change)
    assert code == "FLUSHED-SUBNORMALS" and found.breaches["flushed"] > 0


@every_format
def test_04_flushed_inputs(fmt: Format) -> None:
    def changed(inner: Change, inputs: tuple[Array, ...], options: Options) -> Array:
        return inner((flush(inputs[0], fmt),), options)

    code, _ = detected("value", "softsign", subnormal(fmt), changed)
    assert code == "FLUSHED-SUBNORMALS"


@every_format
def test_04_flushed_gradients(fmt: Format) -> None:
    ones = case_of(np.linspace(0.5, 2.0, 32), fmt)
    case = replace(ones, cotangent=subnormal(fmt).inputs[0][:32])
    code, _ = detected("derivative", "relu", case, result(lambda x, good: flush(good, fmt)), "vjp")
    assert code == "FLUSHED-SUBNORMALS"


@every_format
def test_04_flushing_is_legal_in_a_model_that_declares_it(fmt: Format) -> None:
    case = subnormal(fmt)
    flushed = widen(flush(case.inputs[0], fmt))
    query = Query(formulas.softsign, VALUE, fmt, (widen(case.inputs[0]),), {})
    (strict,), (declared,) = bounds(query, Model(fmt)), bounds(query, Model(fmt, flush=True))
    zero = np.zeros_like(flushed)
    assert not within(flushed, strict.accepted, zero).all()
    assert within(flushed, declared.accepted, zero).all()


# 5 The largest numbers: overflow only where the true value overflows.


@every_format
def test_05_an_overflow_on_the_way_to_a_finite_value(fmt: Format) -> None:
    points = [fmt.largest, -fmt.largest, fmt.largest / 2, 1.0]

    def doubled(x: Array, good: Array) -> Array:
        with np.errstate(over="ignore"):
            return (good + good) / good.dtype.type(2)

    for check in ("value", "special"):
        code, found = detected(check, "leaky_relu", case_of(points, fmt), result(doubled))
        assert code == f"{check.upper()}-WRONG"
        assert found.worst is not None and found.worst.got == np.inf and found.worst.expected == fmt.largest


# In float64 the bound's own end points overflow with the value, so the largest number stays legal there.
@pytest.mark.parametrize("fmt", FORMATS[1:], ids=lambda fmt: fmt.name)
def test_05_a_value_that_overflows_must_not_stay_finite(fmt: Format) -> None:
    change = result(lambda x, good: np.clip(wide(good), -fmt.largest, fmt.largest).astype(good.dtype))
    code, found = detected("value", "selu", case_of([fmt.largest, 1.0, -1.0, -fmt.largest], fmt), change)
    assert code == "VALUE-WRONG" and found.outside_unstable == 1
    assert found.worst is not None and found.worst.got == fmt.largest == found.worst.input[0]


# 6 Empty arrays.


def _raises_when_empty(inner: Change, inputs: tuple[Array, ...], *rest: Any) -> Any:
    if inputs[0].size == 0:
        raise ValueError("zero-size array to reduction operation maximum which has no identity")
    return inner(inputs, *rest)


@pytest.mark.parametrize("order", ("forward", "vjp"))
def test_06_an_empty_array_that_raises(order: str) -> None:
    code, found = detected("layout", "softsign", ordinary(), _raises_when_empty, order)
    assert code == "SUBJECT-RAISED" and any("zero-size array" in note for note in found.notes)


def test_06_an_empty_array_that_becomes_a_number() -> None:
    change = result(lambda x, good: good if x.size else np.zeros(1, good.dtype))
    code, _ = detected("layout", "tanh", ordinary(), change)
    assert code == "SHAPE-WRONG"


def test_06_an_empty_array_of_another_type() -> None:
    change = result(lambda x, good: good if x.size else np.zeros(x.shape))
    code, _ = detected("layout", "tanh", ordinary(FLOAT32), change)
    assert code == "FORMAT-WRONG"


def test_06_nothing_compared_is_no_pass() -> None:
    empty = case_of(np.empty((0, 3)))
    for check in ("value", "derivative"):
        assert CHECKS[check](honest("tanh", FLOAT64), formulas.tanh, empty).verdict is Verdict.VACUOUS


@every_elementwise
@every_format
def test_06_references_answer_empty_arrays_with_empty_arrays(formula: Formula, fmt: Format) -> None:
    got = formula(np.zeros((0, 3), fmt.dtype))
    assert got.shape == (0, 3) and got.dtype == fmt.dtype


# 7 Arrays without an axis.


@pytest.mark.parametrize("order", ("forward", "vjp"))
def test_07_a_scalar_that_becomes_a_vector(order: str) -> None:
    code, found = detected("layout", "tanh", ordinary(), result(lambda x, good: np.atleast_1d(good)), order)
    assert code == "SHAPE-WRONG" and any("expected shape ()" in note for note in found.notes)


def test_07_a_scalar_that_becomes_a_python_float() -> None:
    code, _ = detected(
        "layout", "tanh", ordinary(FLOAT32), result(lambda x, good: good if x.ndim else float(good))
    )
    assert code == "FORMAT-WRONG"


def test_07_a_wrong_scalar() -> None:
    code, found = detected(
        "layout", "tanh", ordinary(), result(lambda x, good: good if x.ndim else good * 0.5)
    )
    assert code == "LAYOUT-WRONG" and found.worst is not None and "scalar" in found.worst.context


def test_07_a_scalar_of_numpy_is_an_array_without_an_axis() -> None:
    implementation = faulty("tanh", FLOAT32, "forward", result(lambda x, good: good if x.ndim else good[()]))
    assert checks.layout(implementation, formulas.tanh, ordinary(FLOAT32)).verdict.passed


# 20 A kink within a difference: one-sided differences instead.

NEAR_AND_AT_KINKS = [0.0, 1e-2, -1e-2, 0.5, -0.5, 2.0, -2.0]


def test_20_a_difference_across_a_kink_is_sure_of_a_wrong_slope() -> None:
    x, noise = np.zeros(1), np.full(1, 1e-300)
    relu = lambda v: np.maximum(v, 0.0)  # noqa: E731  (the argument of three calls)
    across = central(relu, x, noise)
    assert across.best[0] == 0.5 and across.error[0] < 1e-6
    for side, slope in ((-1.0, 0.0), (1.0, 1.0)):
        ladder = one_sided(relu, x, side, noise)
        assert ladder.best[0] == slope and ladder.error[0] < 1e-6


def test_20_the_witness_goes_one_sided_at_a_declared_kink() -> None:
    case = case_of(NEAR_AND_AT_KINKS)
    assert checks.witness(formulas.relu, case).verdict.passed
    unaware = replace(formulas.relu, kinks=None)
    found = checks.witness(unaware, case)
    assert (
        found.verdict is Verdict.WRONG
        and code_for("witness", found.verdict, found.breaches) == "WITNESS-WRONG"
    )
    assert found.worst is not None and found.worst.input == (0.0,) and found.worst.got == 0.5


@pytest.mark.parametrize("slope", (-0.25, 1.25))
def test_20_a_slope_at_a_kink_beyond_both_sides(slope: float) -> None:
    case = replace(case_of(NEAR_AND_AT_KINKS), cotangent=np.ones(len(NEAR_AND_AT_KINKS)))
    code, found = detected("derivative", "relu", case, at(lambda x: x == 0, slope), "vjp")
    assert code == "DERIVATIVE-WRONG" and found.worst is not None and found.worst.input == (0.0,)
    for between in (0.0, 0.5, 1.0):
        implementation = faulty("relu", FLOAT64, "vjp", at(lambda x: x == 0, between))
        assert checks.derivative(implementation, formulas.relu, case).verdict.passed


# 21 Ints, bools, objects, text, complex and long numbers.

NO_FLOATS = {
    "int64": np.arange(1, 4),
    "uint8": np.arange(1, 4, dtype=np.uint8),
    "bool": np.ones(3, bool),
    "object": np.array([1.0, 2.0, 3.0], object),
    "<U3": np.array(["1.0", "2.0", "3.0"]),
    "complex128": np.ones(3, complex),
    str(np.dtype(np.longdouble)): np.ones(3, np.longdouble),
}


@every_formula
@pytest.mark.parametrize("name", NO_FLOATS)
def test_21_an_input_that_is_no_float(formula: Formula, name: str) -> None:
    shapes = {
        "prelu": [3, 3],
        "preactivation": [3, 3, ()],
        "neuron": [3, 3, ()],
        "dense": [(3, 3), (2, 3), 2],
        "residual": [3, 3],
    }
    good = [np.ones(shape) for shape in shapes.get(formula.name, [3])]
    assert np.isfinite(formula(*good)).all()
    for place, parameter in enumerate(formula.inputs):
        array = NO_FLOATS[name]
        bad = [np.resize(array, a.shape) if k == place else a for k, a in enumerate(good)]
        with pytest.raises(UnsupportedType, match=f"^{parameter} is an array of {name}: "):
            formula(*bad)


# 22 Big-endian arrays: converted, and recorded.


@pytest.mark.parametrize("fmt", (FLOAT64, FLOAT32, FLOAT16), ids=lambda fmt: fmt.name)
def test_22_a_big_endian_input_gives_the_native_result(fmt: Format) -> None:
    native = ordinary(fmt).inputs[0]
    foreign = native.astype(native.dtype.newbyteorder(">"))
    got, expected = formulas.gelu(foreign), formulas.gelu(native)
    assert got.dtype == expected.dtype and got.dtype.isnative and got.tobytes() == expected.tobytes()
    converted, notes = admit_with_notes(foreign, "x")
    assert converted.tobytes() == native.tobytes() and "byte order" in notes[0]


def test_22_bytes_read_in_the_wrong_order() -> None:
    case = ordinary()
    swapped = replace(case, inputs=(case.inputs[0].astype(">f8"),))

    def ignores_order(inner: Change, inputs: tuple[Array, ...], options: Options) -> Array:
        return inner((np.frombuffer(inputs[0].tobytes(), np.float64),), options)

    code, _ = detected("value", "tanh", swapped, ignores_order)
    assert code == "VALUE-WRONG"


def test_22_a_big_endian_result_is_another_format_with_the_same_values() -> None:
    code, found = detected("value", "tanh", ordinary(), result(lambda x, good: good.astype(">f8")))
    assert code == "FORMAT-WRONG" and found.outside_unstable == 0 and found.compared > 60


# 23 Layouts: the same verdict, bit differences reported.

LAYOUTS = {
    "strided": lambda x: x.ndim == 1 and x.strides[0] > x.itemsize,
    "reversed": lambda x: x.ndim == 1 and x.strides[0] < 0,
    "transposed": lambda x: x.ndim == 2 and x.flags.f_contiguous and not x.flags.c_contiguous,
    "offset": lambda x: x.base is not None and x.flags.c_contiguous and x.base.size == x.size + 3,
}


@pytest.mark.parametrize("name", LAYOUTS)
@pytest.mark.parametrize("order", ("forward", "vjp"))
def test_23_a_layout_that_is_read_wrongly(name: str, order: str) -> None:
    def memory_order(x: Array, good: Array) -> Array:
        return np.flip(good) if LAYOUTS[name](x) else good

    code, found = detected("layout", "tanh", ordinary(), result(memory_order), order)
    assert code == "LAYOUT-WRONG" and found.worst is not None
    assert found.worst.context.endswith(name) and "size" in found.worst.context


def test_23_channels_last_read_as_channels_first() -> None:
    x = families.build("plain", 3, 12, FLOAT64, ()).reshape(3, 4)
    case = case_of(x, FLOAT64, [0.1, 0.2, 0.3, 0.4])

    def memory_order(inner: Change, inputs: tuple[Array, ...], options: Options) -> Array:
        raw = inputs[0]
        if raw.flags.f_contiguous and not raw.flags.c_contiguous:
            raw = raw.ravel(order="K").reshape(raw.shape)
        return inner((raw, *inputs[1:]), options)

    code, _ = detected("layout", "prelu", case, memory_order)
    assert code == "LAYOUT-WRONG"


def test_23_last_bits_that_differ_by_layout_are_noted_and_pass() -> None:
    def last_bit(x: Array, good: Array) -> Array:
        return good if x.flags.c_contiguous else np.nextafter(good, np.inf)

    case = ordinary()
    straight = checks.layout(honest("tanh", FLOAT64), formulas.tanh, copied(case))
    other = checks.layout(faulty("tanh", FLOAT64, "forward", result(last_bit)), formulas.tanh, copied(case))
    assert straight.verdict is other.verdict and other.verdict.passed
    assert not straight.notes
    assert len(other.notes) == 1 and "results differ in the last bits from another layout" in other.notes[0]


# 24 A write to an input is detected, also to one that is read-only.


def _writes(inner: Change, inputs: tuple[Array, ...], *rest: Any) -> Any:
    answer = inner(inputs, *rest)
    inputs[0][...] = 0.0
    return answer


def _writes_where_allowed(inner: Change, inputs: tuple[Array, ...], *rest: Any) -> Any:
    answer = inner(inputs, *rest)
    if inputs[0].flags.writeable:
        inputs[0].ravel()[:1] += 1
    return answer


@pytest.mark.parametrize("order", ("forward", "vjp"))
def test_24_a_write_to_an_input(order: str) -> None:
    check = "value" if order == "forward" else "derivative"
    for change in (_writes, _writes_where_allowed):
        code, found = detected(check, "tanh", ordinary(), change, order)
        assert code == "INPUT-MUTATED" and "an input was written to" in found.notes


def test_24_a_write_to_the_second_of_several_inputs() -> None:
    def writes(inner: Change, inputs: tuple[Array, ...], options: Options) -> Any:
        answer = inner(inputs, options)
        inputs[1][...] = 0.0
        return answer

    code, _ = detected("value", "prelu", case_of(np.ones((2, 3)), FLOAT64, [0.1, 0.2, 0.3]), writes)
    assert code == "INPUT-MUTATED"


def test_24_a_write_to_a_read_only_input() -> None:
    case = ordinary()
    case.inputs[0].flags.writeable = False
    code, found = detected("value", "tanh", case, _writes)
    assert code == "SUBJECT-RAISED" and any("read-only" in note for note in found.notes)


def test_24_a_write_of_the_same_bytes_shows_in_the_read_only_layout() -> None:
    def scratch(inner: Change, inputs: tuple[Array, ...], options: Options) -> Any:
        inputs[0][...] = inputs[0]
        return inner(inputs, options)

    code, found = detected("layout", "tanh", ordinary(), scratch)
    assert code == "SUBJECT-RAISED" and any("read-only" in note for note in found.notes)


def test_24_a_write_to_the_cotangent() -> None:
    def writes(inner: Change, inputs: tuple[Array, ...], cotangent: Array, options: Options) -> Any:
        answer = inner(inputs, cotangent, options)
        cotangent[...] = answer[0]
        return answer

    code, _ = detected("derivative", "relu", ordinary(), writes, "vjp")
    assert code == "INPUT-MUTATED"


# 25 Input and output share memory.


def test_25_a_formula_takes_no_output_array() -> None:
    x = np.ones(3)
    assert not np.shares_memory(formulas.relu(x), x)
    with pytest.raises(UsageError, match="takes no out="):
        formulas.relu(x, out=x)


@every_elementwise
def test_25_no_reference_returns_its_input(formula: Formula) -> None:
    for x in (np.array([0.5, 2.0]), np.array(0.5), np.array([0.5, 2.0], np.float16)):
        assert not np.shares_memory(np.asarray(formula(x)), x)


@pytest.mark.parametrize(
    "view", (lambda x: x, lambda x: x[...], lambda x: x.view()), ids=("itself", "slice", "view")
)
def test_25_a_result_that_is_a_view_of_the_input(view: Callable[[Array], Array]) -> None:
    code, found = detected("value", "relu", case_of([0.5, 1.0, 2.0]), result(lambda x, good: view(x)))
    assert code == "INPUT-MUTATED" and any("shares memory" in note for note in found.notes)
    assert found.outside_unstable == 0


# 26 Broadcasting: a wrong shape is never broadcast to fit.

WRONG_SHAPES: dict[str, Callable[[Array], Array]] = {
    "axis more in front": lambda good: good[None],
    "axis more behind": lambda good: good[..., None],
    "one number": lambda good: good.reshape(-1)[:1],
    "no axis": lambda good: good.reshape(-1)[0],
    "one short": lambda good: good[:-1],
    "outer": lambda good: good[:, None] + 0 * good[None],
}


@pytest.mark.parametrize("shape", WRONG_SHAPES)
@pytest.mark.parametrize("order", ("forward", "vjp"))
def test_26_a_result_of_another_shape(shape: str, order: str) -> None:
    case = case_of(np.full(5, 0.5))
    case = replace(case, cotangent=np.ones(5))
    check = "value" if order == "forward" else "derivative"
    change = result(lambda x, good: WRONG_SHAPES[shape](good))
    code, found = detected(check, "tanh", case, change, order)
    assert code == "SHAPE-WRONG" and any("expected shape (5,)" in note for note in found.notes)


def test_26_a_weight_broadcast_along_the_wrong_axis() -> None:
    x = -np.ones((3, 3))

    def wrong_axis(inner: Change, inputs: tuple[Array, ...], options: Options) -> Array:
        x, weight = inputs
        return np.where(x > 0, x, weight[:, None] * x)

    code, _ = detected("value", "prelu", case_of(x, FLOAT64, [0.1, 0.2, 0.3]), wrong_axis)
    assert code == "VALUE-WRONG"


def test_26_a_bias_broadcast_against_columns() -> None:
    rng = np.random.default_rng(0)
    inputs = rng.normal(size=(2, 3)), rng.normal(size=(4, 3)), rng.normal(size=4)

    def columns(inner: Change, inputs: tuple[Array, ...], options: Options) -> Array:
        x, weight, bias = inputs
        return (x @ weight.T)[..., None] + bias

    code, _ = detected("value", "dense", case_of(inputs[0], FLOAT64, *inputs[1:]), columns)
    assert code == "SHAPE-WRONG"


def test_26_a_gradient_that_is_not_summed_over_the_batch() -> None:
    def unsummed(inner: Change, inputs: tuple[Array, ...], cotangent: Array, options: Options) -> Any:
        first, _ = inner(inputs, cotangent, options)
        return first, cotangent * np.minimum(inputs[0], 0.0)

    case = case_of(-np.ones((2, 3)), FLOAT64, [0.1, 0.2, 0.3])
    code, found = detected("derivative", "prelu", case, unsummed, "vjp")
    assert code == "SHAPE-WRONG" and any("got (2, 3)" in note for note in found.notes)


def test_26_inputs_that_do_not_fit_are_refused() -> None:
    x, weight = np.ones((5, 3)), np.ones((2, 3))
    assert formulas.dense(x, weight, np.ones(2)).shape == (5, 2)
    for bias in (np.ones(1), np.ones((5, 1))):
        with pytest.raises(UsageError, match="bias"):
            formulas.dense(x, weight, bias)


# 27 Subclasses, masked arrays, expanded views.


def test_27_masked_arrays_are_refused_and_other_subclasses_are_plain() -> None:
    data = np.array([[0.5, 2.0]])
    with pytest.raises(UnsupportedType, match=r"masked array.*filled"):
        formulas.tanh(np.ma.masked_array(data, [[False, True]]))
    got = formulas.tanh(data.view(np.matrix))
    assert type(got) is np.ndarray and got.tobytes() == formulas.tanh(data).tobytes()


def test_27_an_expanded_view_read_by_its_memory() -> None:
    expanded = np.broadcast_to(np.array([[0.5], [2.0]]), (2, 32))
    case = replace(case_of(expanded), inputs=(expanded,))
    assert 0 in case.inputs[0].strides

    def memory(inner: Change, inputs: tuple[Array, ...], options: Options) -> Array:
        base = inputs[0].base
        return inner((np.resize(base, inputs[0].shape),), options)

    def passed(implementation: Implementation) -> bool:
        return not checks.value(implementation, formulas.tanh, case).verdict.is_finding

    assert passed(honest("tanh", FLOAT64))
    assert not passed(faulty("tanh", FLOAT64, "forward", memory))


# 28 A request for a thousand million elements; 29 ragged lists.


@every_formula
def test_28_a_thousand_million_elements_are_refused_with_the_estimate(formula: Formula) -> None:
    shapes = {"prelu": [()], "preactivation": [(3,), ()], "neuron": [(3,), ()], "dense": [(2, 3), (2,)],
              "residual": [(10, 5)]}  # fmt: skip
    rest = [np.ones(shape) for shape in shapes.get(formula.name, [])]
    last = 3 if len(rest) == 2 else 5
    assert np.size(formula(np.broadcast_to(0.5, (10, last)), *rest)) > 0
    with pytest.raises(UsageError, match=r" has [0-9,]+ elements: .* about [0-9]+ GiB"):
        formula(np.broadcast_to(0.5, (10**9, last)), *rest)


def test_29_a_ragged_list_names_the_first_row_that_differs() -> None:
    assert formulas.relu([[1.0, -2.0], [3.0, 4.0]]).tolist() == [[1.0, 0.0], [3.0, 4.0]]
    with pytest.raises(ValueError, match=r"x\[1\] has length 1 where x\[0\] has length 2"):
        formulas.relu([[1.0, -2.0], [3.0]])


# 30 Another format returned: a finding, and the values are still compared.

WIDER_OR_NARROWER = [
    (FLOAT32, np.float64),
    (FLOAT16, np.float32),
    (BFLOAT16, np.float32),
    (BFLOAT16, np.float16),
]


@pytest.mark.parametrize(("fmt", "returned"), WIDER_OR_NARROWER)
@pytest.mark.parametrize("order", ("forward", "vjp"))
def test_30_another_format_with_right_values(fmt: Format, returned: Any, order: str) -> None:
    case = case_of(np.linspace(-4, 4, 65), fmt)
    check = "value" if order == "forward" else "derivative"
    code, found = detected(check, "hardtanh", case, result(lambda x, good: good.astype(returned)), order)
    assert code == "FORMAT-WRONG" and dict(found.breaches) == {"format": 1}
    assert found.compared > 60 and found.outside_unstable == 0
    assert f"expected {fmt.name}, got {np.dtype(returned)}" in found.notes


def test_30_another_format_with_wrong_values() -> None:
    def halved(x: Array, good: Array) -> Array:
        return good.astype(np.float64) / 2

    code, found = detected("value", "hardtanh", case_of(np.linspace(0.1, 0.9, 65), FLOAT32), result(halved))
    assert code == "FORMAT-WRONG" and found.outside_unstable == 65


def test_30_numbers_that_the_format_cannot_hold() -> None:
    def finer(x: Array, good: Array) -> Array:
        return good.astype(np.float64) + 2.0**-60

    code, found = detected("value", "tanh", case_of(np.linspace(0.5, 1, 65), FLOAT32), result(finer))
    assert code == "FORMAT-WRONG" and found.outside_unstable == 0


@pytest.mark.parametrize("returned", (np.int64, np.bool_, object, "U8", ">f8", np.longdouble))
def test_30_a_result_of_numbers_that_are_no_floats_of_the_format(returned: Any) -> None:
    change = result(lambda x, good: good.astype(returned))
    code, _ = detected("value", "hardtanh", case_of([-2.0, 2.0, 3.0]), change)
    assert code == "FORMAT-WRONG"


class _Refuses:
    def __array__(self, *_: Any, **__: Any) -> Any:
        raise RuntimeError("not today")


NO_ARRAYS = {
    "words": np.array(["a", "b", "c"]),
    "complex": np.array([-1, 1, 1 + 1j]),
    "huge ints": np.array([10**400] * 3, object),
}


@pytest.mark.parametrize("returned", NO_ARRAYS.values(), ids=NO_ARRAYS)
def test_30_a_result_that_is_no_array_of_floats(returned: Any) -> None:
    code, _ = detected("value", "hardtanh", case_of([-2.0, 2.0, 3.0]), result(lambda x, good: returned))
    assert code in ("FORMAT-WRONG", "SHAPE-WRONG", "SUBJECT-RAISED")


UNREADABLE = {
    "ragged": [[1.0], [1.0, 2.0]],
    "refusing": _Refuses(),
    "masked": np.ma.masked_array([-1.0, 1.0, 1.0], [False, True, False]),
}


@pytest.mark.parametrize("returned", UNREADABLE.values(), ids=UNREADABLE)
def test_30_a_result_that_cannot_be_read_as_it_is(returned: Any) -> None:
    code, _ = detected("value", "hardtanh", case_of([-2.0, 2.0, 3.0]), result(lambda x, good: returned))
    assert code in ("FORMAT-WRONG", "SHAPE-WRONG", "SUBJECT-RAISED")


def test_30_no_value_where_the_value_is_zero() -> None:
    code, _ = detected("value", "hardswish", case_of([-4.0, -5.0, 0.0]), result(lambda x, good: None))
    assert code in ("SHAPE-WRONG", "SUBJECT-RAISED")


@pytest.mark.parametrize(
    "returned", ("text", {}, iter(()), object()), ids=("text", "dict", "iterator", "object")
)
def test_30_a_result_that_is_no_array(returned: Any) -> None:
    code, _ = detected("value", "hardtanh", case_of([-2.0, 2.0, 3.0]), result(lambda x, good: returned))
    assert code == "SHAPE-WRONG"


GRADIENTS = {
    "a bare array": lambda gradient: gradient,
    "none": lambda gradient: None,
    "no gradient": lambda gradient: (),
    "two for one input": lambda gradient: (gradient, gradient),
}


@pytest.mark.parametrize("shape", GRADIENTS)
def test_30_another_number_of_gradients(shape: str) -> None:
    def changed(inner: Change, *arguments: Any) -> Any:
        return GRADIENTS[shape](inner(*arguments)[0])

    code, _ = detected("derivative", "hardtanh", case_of([-2.0, 0.5, 3.0]), changed, "vjp")
    assert code in ("SHAPE-WRONG", "SUBJECT-RAISED")
