from __future__ import annotations

import math

import numpy as np
import pytest

from gradcheck.arithmetic.rounded import Model, Rounded
from gradcheck.compare import breach, judge, relative, to_evidence, with_context, within
from gradcheck.formats import BFLOAT16, FLOAT32, FLOAT64
from gradcheck.oracles.truth import Bounds, Truth
from gradcheck.records import Estimate, Evidence, Verdict

U = 2.0**-24


def interval(centre, half, nan=None):
    centre = np.asarray(centre, dtype=np.float64)
    flags = None if nan is None else np.asarray(nan)
    return Rounded(centre - half, centre + half, Model(FLOAT32), flags)


def estimate(values, radius=0.0):
    high = np.atleast_1d(np.asarray(values, dtype=np.float64))
    return Estimate(high, np.zeros_like(high), np.full(high.shape, radius))


def truth_of(values, upper=None, radius=0.0, decided=None):
    lower = estimate(values, radius)
    known = np.ones(lower.high.shape, bool) if decided is None else np.asarray(decided)
    return Truth(lower, lower if upper is None else estimate(upper, radius), known)


def ladder(centre, stable=1e-6, accepted=1e-5, unstable=1e-3):
    return Bounds(
        interval(centre, stable), interval(centre, accepted), (("loses", interval(centre, unstable)),)
    )


def evidence_of(got, truth, bounds, fmt=FLOAT32, inputs=None):
    got = np.asarray(got, dtype=np.float64)
    return to_evidence(judge(got, truth, bounds, fmt), got, inputs or (np.arange(got.size) * 1.0,), "")


ONES = np.ones(4)


@pytest.mark.parametrize(
    ("error", "rung", "verdict"),
    [
        (0.0, 0, Verdict.ACCURATE),
        (5e-7, 0, Verdict.ACCURATE),
        (5e-6, 1, Verdict.AGREES),
        (5e-4, 2, Verdict.UNSTABLE),
        (5e-3, 3, Verdict.WRONG),
        (-5e-4, 2, Verdict.UNSTABLE),
        (-5e-3, 3, Verdict.WRONG),
        (math.inf, 3, Verdict.WRONG),
        (-math.inf, 3, Verdict.WRONG),
        (math.nan, 3, Verdict.WRONG),
    ],
)
@pytest.mark.parametrize("place", [0, 3])
def test_the_rung_is_the_first_whose_bound_holds(error, rung, verdict, place):
    got = ONES.copy()
    got[place] += error
    outcome = judge(got, truth_of(ONES), ladder(ONES), FLOAT32)
    assert outcome.rung.tolist() == [rung if k == place else 0 for k in range(4)]
    evidence = evidence_of(got, truth_of(ONES), ladder(ONES))
    assert evidence.verdict is verdict
    assert evidence.explained_by == (("loses",) if verdict is Verdict.UNSTABLE else ())
    counts = (evidence.outside_stable, evidence.outside_accepted, evidence.outside_unstable)
    assert counts == tuple(int(rung > k) for k in range(3))
    assert evidence.worst.index == (place if error else 0)


def test_the_end_of_a_bound_is_inside_and_the_next_number_is_not():
    end = 1.0 + 1e-3
    assert judge(np.array([end]), truth_of([1.0]), ladder([1.0]), FLOAT32).rung[0] == 2
    beyond = np.array([np.nextafter(end, 2)])
    assert judge(beyond, truth_of([1.0]), ladder([1.0]), FLOAT32).rung[0] == 3


def test_the_radius_of_the_truth_is_granted():
    beyond = np.array([1.0 + 1e-3 + 1e-9])
    assert judge(beyond, truth_of([1.0], radius=2e-9), ladder([1.0]), FLOAT32).rung[0] == 2
    assert judge(beyond, truth_of([1.0], radius=1e-10), ladder([1.0]), FLOAT32).rung[0] == 3


def test_nan_passes_only_where_it_is_legal():
    got = np.array([np.nan, np.nan])
    assert within(got, interval([1.0, 1.0], 1e-6, nan=[True, False]), np.zeros(2)).tolist() == [True, False]
    wide = Bounds(interval([1.0, 1.0], np.inf), interval([1.0, 1.0], np.inf), ())
    assert judge(got, truth_of([1.0, 1.0]), wide, FLOAT32).rung.tolist() == [3, 3]
    unknown = truth_of([np.nan, 1.0])
    assert judge(np.array([np.nan, np.nan]), unknown, ladder([1.0, 1.0]), FLOAT32).rung.tolist() == [3, 3]


def test_a_number_is_wrong_where_the_bound_is_nan():
    nothing = Rounded(np.array([np.nan]), np.array([np.nan]), Model(FLOAT32))
    assert judge(np.array([1.0]), truth_of([2.0]), Bounds(nothing, nothing, ()), FLOAT32).rung[0] == 3


def test_an_infinity_passes_where_the_bound_reaches_it():
    overflow = Rounded(np.array([3e38]), np.array([np.inf]), Model(FLOAT32))
    bounds = Bounds(overflow, overflow, ())
    outcome = judge(np.array([np.inf]), truth_of([3.4e38]), bounds, FLOAT32)
    assert outcome.rung[0] == 0 and outcome.error[0] == 0
    assert judge(np.array([-np.inf]), truth_of([3.4e38]), bounds, FLOAT32).rung[0] == 3


def test_every_number_between_two_slopes_is_right():
    truth, bounds = truth_of([0.0] * 5, upper=[1.0] * 5), ladder(np.zeros(5))
    outcome = judge(np.array([0.0, 0.5, 1.0, -0.1, 1.1]), truth, bounds, FLOAT32)
    assert outcome.rung.tolist() == [0, 0, 0, 3, 3]
    assert outcome.error == pytest.approx([0, 0, 0, 0.1, 0.1])
    assert outcome.expected[3:].tolist() == [0.0, 1.0]


def test_errors_are_told_in_units_of_the_last_place():
    got = np.array([1.0 + 3 * 2.0**-23])
    assert evidence_of(got, truth_of([1.0]), ladder([1.0])).ulp == 3.0
    assert evidence_of(np.array([1.0 + 2.0**-7]), truth_of([1.0]), ladder([1.0]), BFLOAT16).ulp == 1.0


def test_the_worst_element_is_of_the_highest_rung_and_there_the_furthest():
    got = np.array([1.0 + 9e-4, 1.0 + 2e-3, 1.0 + 5e-3, 1.0 + 9e-6])
    worst = evidence_of(got, truth_of(ONES), ladder(ONES), inputs=(np.array([5.0, 6.0, 7.0, 8.0]),)).worst
    assert (worst.index, worst.size, worst.input, worst.got, worst.expected) == (2, 4, (7.0,), got[2], 1.0)
    assert worst.error == pytest.approx(5e-3) and worst.bound == pytest.approx(1e-3)


def test_an_infinite_error_within_an_infinite_bound_is_not_worse_than_a_wrong_number():
    accepted = Rounded(np.array([0.9, 0.9]), np.array([np.inf, 1.1]), Model(FLOAT32))
    bounds = Bounds(interval([1.0, 1.0], 1e-6), accepted, ())
    got = np.array([np.inf, 2.0])
    evidence = evidence_of(got, truth_of([1.0, 1.0]), bounds)
    assert judge(got, truth_of([1.0, 1.0]), bounds, FLOAT32).rung.tolist() == [1, 3]
    assert evidence.worst.index == 1


def test_a_nan_is_the_worst_of_all():
    evidence = evidence_of([1.0 + 1e6, np.nan, 1.0, 1.0], truth_of(ONES), ladder(ONES))
    assert evidence.worst.index == 1 and math.isnan(evidence.worst.got)


def test_the_resolution_is_the_widest_bound_over_the_largest_value():
    values = np.array([1.0, 4.0])
    evidence = evidence_of(values, truth_of(values), ladder(values))
    assert evidence.resolution == pytest.approx(1e-6 / 4, rel=1e-3)


def test_a_bound_as_wide_as_every_value_is_vacuous():
    small = np.full(4, 1e-7)
    wide = Bounds(interval(small, 1e-3), interval(small, 1e-3), ())
    evidence = evidence_of(small, truth_of(small), wide)
    assert evidence.vacuous_cases == 1 and evidence.verdict is Verdict.VACUOUS
    sharp = Bounds(interval(small, 1e-12), interval(small, 1e-12), ())
    assert evidence_of(small, truth_of(small), sharp).verdict is Verdict.ACCURATE


def test_one_wide_element_near_zero_does_not_make_a_case_vacuous():
    values = np.array([1e-9, 1.0])
    bounds = Bounds(interval(values, 1e-6), interval(values, 1e-6), ())
    assert evidence_of(values, truth_of(values), bounds).vacuous_cases == 0


def test_nothing_compared_is_vacuous():
    empty = np.zeros(0)
    assert evidence_of(empty, truth_of(empty), ladder(empty)).verdict is Verdict.VACUOUS


def test_a_vacuous_case_still_tells_what_is_wrong():
    small = np.full(4, 1e-7)
    wide = Bounds(interval(small, 1e-3), interval(small, 1e-3), ())
    assert evidence_of(small + 1.0, truth_of(small), wide).verdict is Verdict.WRONG


def test_undecided_elements_are_counted_apart():
    truth = truth_of(ONES, decided=[True, False, True, True])
    evidence = evidence_of([1.0, 99.0, 1.0, 1.0], truth, ladder(ONES))
    assert (evidence.compared, evidence.undecided, evidence.verdict) == (3, 1, Verdict.INCONCLUSIVE)


def test_a_text_of_another_function_is_a_fault_of_the_reference():
    for bounds in (
        Bounds(interval(ONES * 2, 1e-6), interval(ONES, 2.0), ()),
        Bounds(interval(ONES, 1e-6), interval(ONES, 1e-5), (("other", interval(ONES * 2, 1e-6)),)),
    ):
        evidence = evidence_of(ONES, truth_of(ONES), bounds)
        assert evidence.breaches == {"reference": 4} and evidence.verdict is Verdict.WRONG
    assert not evidence_of(ONES, truth_of(ONES), ladder(ONES)).breaches


def test_an_unstable_text_that_explains_nothing_is_not_named():
    bounds = Bounds(
        interval(ONES, 1e-6),
        interval(ONES, 1e-5),
        (("near", interval(ONES, 1e-4)), ("far", interval(ONES, 1e-2))),
    )
    got = ONES + np.array([0, 0, 0, 5e-3])
    assert evidence_of(got, truth_of(ONES), bounds).explained_by == ("far",)


def test_a_breach_is_wrong_whatever_the_numbers():
    assert breach("shape", 3).verdict is Verdict.WRONG
    merged = evidence_of(ONES, truth_of(ONES), ladder(ONES)).merge(breach("mutation", 1))
    assert merged.verdict is Verdict.WRONG


def test_a_context_is_a_word_about_the_worst_element():
    evidence = evidence_of(ONES * 2, truth_of(ONES), ladder(ONES))
    assert with_context(evidence, "size 3, strided").worst.context == "size 3, strided"
    assert with_context(Evidence(), "size 3") == Evidence()


def test_a_variation_is_judged_beside_its_base():
    unstable = evidence_of(ONES + 5e-4, truth_of(ONES), ladder(ONES))
    accurate, wrong = (evidence_of(ONES + off, truth_of(ONES), ladder(ONES)) for off in (0.0, 1.0))
    assert relative(unstable, unstable, "contiguous").verdict.passed
    assert "loses" in relative(unstable, unstable, "contiguous").notes[0]
    assert relative(unstable, accurate, "contiguous").verdict is Verdict.UNSTABLE
    assert relative(wrong, unstable, "contiguous").verdict is Verdict.WRONG
    assert relative(wrong, wrong, "contiguous").verdict is Verdict.WRONG


def test_float64_errors_are_exact_sums():
    third = Estimate(np.array([1 / 3]), np.array([1.850371707708594e-17]), np.array([1e-33]))
    truth = Truth(third, third, np.array([True]))
    bound = Rounded(np.array([0.33]), np.array([0.34]), Model(FLOAT64))
    outcome = judge(np.array([1 / 3]), truth, Bounds(bound, bound, ()), FLOAT64)
    assert outcome.error[0] == pytest.approx(1.850371707708594e-17)
    assert outcome.ulp[0] == pytest.approx(1 / 3)
