from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gradcheck import cases, families
from gradcheck.checks.examine import examine, near_constant
from gradcheck.formats import BFLOAT16, FLOAT16, FLOAT32, FLOAT64, FORMATS, widen
from gradcheck.formulas import get_formula
from gradcheck.records import VALUE, Case, Option, Verdict
from gradcheck.subjects.numpy import NUMPY

BY_NAME = {"ids": lambda value: getattr(value, "name", str(value))}
SEEDS = (0, 1, 77, 2**32 - 1)


@pytest.mark.parametrize("fmt", FORMATS, **BY_NAME)
@pytest.mark.parametrize("family", families.FAMILIES)
def test_a_family_gives_finite_numbers_of_the_format(family, fmt):
    for seed in SEEDS:
        values = families.build(family, seed, 500, fmt, (0.0, 6.0, -1.0))
        assert values.shape == (500,)
        assert np.isfinite(values).all()
        assert (fmt.round(values) == values).all()


@pytest.mark.parametrize("family", families.FAMILIES)
def test_a_family_is_the_same_for_the_same_seed_and_another_for_another(family):
    one, same, other = (families.build(family, seed, 300, FLOAT32, (0.0,)) for seed in (5, 5, 6))
    assert one.tobytes() == same.tobytes()
    assert one.tobytes() != other.tobytes()


@pytest.mark.parametrize("family", families.FAMILIES)
def test_a_family_varies(family):
    values = families.build(family, 3, 600, FLOAT64, (0.0, 1.0))
    assert np.unique(values).size > 20 and not near_constant(values)


def test_families_reach_where_they_say():
    log = np.abs(families.build("log-uniform", 1, 2000, FLOAT32, ()))
    assert log.min() < FLOAT32.least_normal and log.max() > FLOAT32.largest / 2**8
    tiny = families.build("subnormal", 1, 2000, FLOAT32, ())
    assert (np.abs(tiny) < FLOAT32.least_normal).any() and (np.abs(tiny) <= 4 * FLOAT32.least_normal).all()
    near = families.build("kinks", 1, 2000, FLOAT32, (6.0,))
    assert (near == 6.0).any() and (near == 6 + FLOAT32.ulp(6.0)).any() and (near == 0).any()
    shifted = families.build("offset", 4, 2000, FLOAT64, ())
    assert abs(shifted.mean()) > shifted.std()


def drawn(strategy, count=30):
    found = []

    @settings(max_examples=count, database=None, derandomize=True)
    @given(strategy)
    def collect(case):
        found.append(case)

    collect()
    return found


def test_special_values_are_placed_and_counted():
    relu6 = get_formula("relu6")
    for case in drawn(cases.elementwise(relu6, FLOAT32, 200)):
        x = widen(case.inputs[0])
        for point in families.special_values(FLOAT32):
            same = np.isnan(x) if math.isnan(point) else (x == point) & (np.signbit(x) == np.signbit(point))
            assert same.any(), point
        for point in (*families.ROUND_NUMBERS, 6.0, 6 + FLOAT32.ulp(6.0), 6 - FLOAT32.ulp(6.0)):
            assert (x == point).any(), point
        assert case.specials >= 9 + len(families.ROUND_NUMBERS)
    for case in drawn(cases.elementwise(relu6, FLOAT32, 200, specials=False), 5):
        assert case.specials == 0 and np.isfinite(case.inputs[0]).all()


def test_special_values_leave_half_of_a_small_case():
    for case in drawn(cases.elementwise(get_formula("tanh"), FLOAT32, 7), 10):
        assert case.specials == 3
    for case in drawn(cases.elementwise(get_formula("tanh"), FLOAT32, 1), 5):
        assert case.specials == 0


@pytest.mark.parametrize("fmt", FORMATS, **BY_NAME)
def test_a_drawn_case_is_stored_in_the_format(fmt):
    for case in drawn(cases.elementwise(get_formula("elu"), fmt, 64), 10):
        assert case.inputs[0].dtype == case.cotangent.dtype == fmt.dtype
        assert case.inputs[0].shape == case.cotangent.shape == (64,)


def test_cotangents_are_signed_and_some_are_zero():
    values = widen(cases.cotangents(9, (5000,), FLOAT32))
    assert 0.45 < (values > 0).mean() < 0.55 and 0.45 < (values < 0).mean() < 0.55
    assert 0.01 < (values == 0).mean() < 0.03
    assert np.unique(values).size > 4000
    assert cases.cotangents(9, (5000,), FLOAT32).tobytes() == cases.cotangents(9, (5000,), FLOAT32).tobytes()
    assert widen(cases.cotangents(1, (), FLOAT32)).shape == ()


def test_directions_are_signed_powers_of_two():
    values = widen(cases.directions(9, (40, 50), FLOAT16))
    assert set(np.abs(values).ravel()) == {0.5, 1.0, 2.0}
    assert (values > 0).any() and (values < 0).any()


@pytest.mark.parametrize("fmt", [FLOAT16, BFLOAT16], **BY_NAME)
def test_exhaustive_is_every_pattern_once(fmt):
    case = cases.exhaustive(get_formula("tanh"), fmt, {})
    patterns = case.inputs[0].view(np.uint16)
    assert case.inputs[0].size == 65536 == np.unique(patterns).size
    assert case.cotangent.shape == (65536,)


def test_wide_formats_are_not_enumerated():
    with pytest.raises(ValueError, match="16-bit"):
        cases.exhaustive(get_formula("tanh"), FLOAT32, {})


LAID = {
    "strided": lambda a: a.strides == (8,) and a.base is not None,
    "offset": lambda a: a.ctypes.data - a.base.ctypes.data == 12 and a.strides == (4,),
    "reversed": lambda a: a.strides == (-4,),
    "read-only": lambda a: not a.flags.writeable,
    "matrix": lambda a: a.ndim == 2 and a.flags.c_contiguous,
    "transposed": lambda a: a.ndim == 2 and a.flags.f_contiguous and not a.flags.c_contiguous,
    "contiguous": lambda a: a.ndim == 1 and a.flags.c_contiguous and a.base is None,
}


@pytest.mark.parametrize("layout", LAID)
def test_a_layout_keeps_the_values_and_is_what_it_says(layout):
    values = np.arange(12, dtype=np.float32)
    laid = cases.laid_out(values, layout)
    assert laid.ravel(order="C").tolist() == values.tolist()
    assert laid.dtype == np.float32
    assert LAID[layout](laid), (laid.shape, laid.strides, laid.flags)
    assert not np.shares_memory(laid, values)


def test_a_scalar_has_no_axes():
    assert cases.laid_out(np.array([3.0]), "scalar").shape == ()


@pytest.mark.parametrize("size", cases.SIZES)
@pytest.mark.parametrize("layout", cases.LAYOUTS)
def test_layouts_exist_for_every_size(size, layout):
    if layout not in tuple(cases.layouts(size, True)):
        assert layout == "scalar" and size != 1
        return
    assert cases.laid_out(np.ones(size), layout).size == size


def test_layouts_without_negative_strides():
    assert "reversed" not in tuple(cases.layouts(8, False)) and "reversed" in tuple(cases.layouts(8, True))


@pytest.mark.parametrize("layout", ["contiguous", "strided", "offset", "transposed", "read-only"])
def test_a_layout_of_several_axes_keeps_shape_and_values(layout):
    values = np.arange(12.0).reshape(3, 4)
    laid = cases.laid_out_axes(values, layout)
    assert laid.tolist() == values.tolist()
    assert laid.flags.writeable is (layout != "read-only")
    assert laid.flags.c_contiguous is (layout not in ("strided", "transposed"))
    if layout == "offset":
        assert laid.__array_interface__["data"][0] % 32 != np.zeros(3).__array_interface__["data"][
            0
        ] % 32 or (laid.base is not None)


@pytest.mark.parametrize("layout", ["contiguous", "strided", "offset", "transposed", "read-only"])
def test_a_scalar_has_every_layout(layout):
    laid = cases.laid_out_axes(np.float32(3.0), layout)
    assert isinstance(laid, np.ndarray) and laid.shape == () and laid == 3.0


@pytest.mark.parametrize(
    ("option", "legal"),
    [
        (Option("alpha", 1.0, 0.5, 2.0), lambda v: 0.5 <= v <= 2.0),
        (Option("mode", "a", choices=("a", "b")), lambda v: v in ("a", "b")),
        (Option("fixed", 3.0), lambda v: v == 3.0),
    ],
)
def test_options_stay_in_their_range(option, legal):
    values = drawn(cases.option_values(option), 40)
    assert all(legal(value) for value in values)
    assert option.default in values


def test_fixed_options_keep_their_value():
    elu = get_formula("elu")
    for options in drawn(cases.options_of(elu, {"alpha": 0.75}), 5):
        assert options == {"alpha": 0.75}


def test_several_inputs_have_equal_lengths_on_equal_axes():
    dense = get_formula("dense")
    lengths = set()
    for case in drawn(cases.several_inputs(dense, FLOAT32, 8)):
        sizes: dict[str, int] = {}
        for axes, array in zip(dense.axes, case.inputs, strict=True):
            for name, length in zip(axes, array.shape, strict=True):
                assert sizes.setdefault(name, length) == length
                assert 1 <= length <= 8
        lengths.add(tuple(sizes.values()))
        assert all(np.isfinite(array).all() for array in case.inputs)
    assert len(lengths) > 5


def test_cases_in_a_row_share_out_every_decision():
    for block, decision in itertools.product((0, 5, 2**28 - 1), (1, 2, 30)):
        shares = cases._shares(block, decision)
        assert sorted(shares) == list(range(16))
        for start in range(0, 16, 4):
            assert sorted(share // 4 for share in shares[start : start + 4]) == [0, 1, 2, 3]
        assert shares[0] == cases._shares(0, decision)[0]


def test_every_listed_value_of_an_option_comes_up_among_sixteen_cases():
    sgd = get_formula("sgd")
    for start in (0, 16, 4096):
        found = [cases.several_case(sgd, FLOAT32, 8, seed).options for seed in range(start, start + 16)]
        assert {options["maximize"] for options in found} == {False, True}
        assert {options["velocity"] for options in found} == {False, True}
        assert {options["lr"] for options in found} >= {1e-3, 0.1, 1.0, 0.0}
        assert {options["t"] for options in found} == {1, 2, 10**6}


def test_a_number_that_comes_up_again_gives_the_same_case_again():
    found = drawn(cases.several_inputs(get_formula("dense"), FLOAT32, 8), 40)
    assert len({case.seed for case in found}) == len(found)
    assert [case.seed % 16 for case in found[:20]] == [*range(16), *range(4)]
    assert len({case.seed // 16 for case in found[1:17]}) == 1
    again = cases.several_case(get_formula("dense"), FLOAT32, 8, found[7].seed)
    assert [a.tobytes() for a in again.inputs] == [a.tobytes() for a in found[7].inputs]


def test_inputs_that_depend_on_one_another_are_fitted():
    rmsprop, clip = get_formula("rmsprop"), get_formula("clip_by_norm")
    for fmt, seed in itertools.product(FORMATS, range(16)):
        _, _, square, mean, _ = cases.several_case(rmsprop, fmt, 9, seed).inputs
        assert (widen(square) >= np.square(widen(mean))).all()
    norms = []
    for seed in range(3, 64, 4):
        case = cases.several_case(clip, FLOAT64, 9, seed)
        if case.options["p"] == 2 and case.options["max_norm"]:
            norms.append(np.linalg.norm(case.inputs[0]) / case.options["max_norm"])
    assert norms and all(0.7 < norm < 1.6 for norm in norms)


@pytest.mark.parametrize("fmt", FORMATS, **BY_NAME)
def test_probabilities_reach_below_every_floor_and_stay_inside(fmt):
    loss = get_formula("binary_cross_entropy")
    x = np.concatenate([widen(cases.several_case(loss, fmt, 33, s).inputs[0]).ravel() for s in range(16)])
    assert (x >= 0).all() and (x <= 1).all()
    floor = math.exp(-100) if fmt.least_subnormal < math.exp(-100) else 64 * fmt.least_subnormal
    assert ((x > 0) & (x < floor)).any()


def test_a_draw_that_hardly_varies_tells_nothing():
    tanh, x = get_formula("tanh"), np.full(64, 0.5, np.float32)
    constant = Case("plain", FLOAT32, (x,), np.ones_like(x))
    varied = Case("plain", FLOAT32, (np.linspace(-1, 1, 64, dtype=np.float32),), np.ones_like(x))
    verdicts = [
        examine(NUMPY.implement(tanh, FLOAT32), tanh, case, VALUE).verdict for case in (constant, varied)
    ]
    assert verdicts[0] is Verdict.VACUOUS and verdicts[1].passed
    assert near_constant(np.tile([1.0, 2.0], 8)) and not near_constant(np.ones(15))
    assert near_constant(np.full(64, np.nan))


@given(st.lists(st.floats(), max_size=50))
@settings(max_examples=50, database=None)
def test_binades_count_every_value_once(values):
    assert sum(cases.binades(np.array(values, dtype=np.float64)).values()) == len(values)


def test_binades_are_named_by_their_lowest():
    counted = cases.binades(np.array([1.0, 255.0, 256.0, 0.0, np.inf, np.nan, -(2.0**-8)]))
    assert counted == {"2^-8": 1, "2^0": 2, "2^8": 1, "0": 1, "non-finite": 2}
