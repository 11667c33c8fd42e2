from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st

from gradcheck import claim, formulas
from gradcheck.article import Along, AtMost, Classes, undecidable
from gradcheck.checks.claims import holds_at, load_claims, measure
from gradcheck.errors import UsageError

SETTINGS = settings(database=None, derandomize=True, deadline=None)
ANY = st.floats(-50, 50)


def measured(item, examples=60):
    return measure(item, SETTINGS, examples)


def make(function, says="both sides are equal", **strategies):
    return claim(id="T", says=says, **(strategies or {"x": ANY}))(function)


def test_a_true_claim_is_upheld():
    record = measured(make(lambda np, x: (1 / (1 + np.exp(-x)), formulas.sigmoid(x))))
    assert record.verdict == "upheld"
    assert record.compared >= 40 and float(record.resolution) < 1e-17
    assert record.counterexample == {} and record.equals is None


def test_an_upheld_claim_tells_where_it_loses_its_digits():
    # Beyond 20 the reference is x itself, by its own option.
    domain = st.floats(-50, 19)
    record = measured(make(lambda np, x: (np.log(1 + np.exp(x)), formulas.softplus(x)), x=domain))
    assert record.verdict == "upheld"
    assert any("float32" in note and "leave the bound" in note for note in record.notes)
    stable = measured(make(lambda np, x: (np.log1p(np.exp(x)), formulas.softplus(x)), x=domain))
    assert not any("float64" in note for note in stable.notes)


def test_a_false_claim_is_refuted_by_a_small_counterexample_and_named():
    record = measured(make(lambda np, x: (np.maximum(x, 0), formulas.tanh(x))))
    assert record.verdict == "refuted"
    assert record.equals == "relu"
    assert abs(float(record.counterexample["x"])) <= 1
    assert "violated in" in record.notes[0]


def test_the_counterexample_is_the_smallest():
    item = make(lambda np, x: (x, np.where(x > 7, x + 1, x)), x=st.integers(0, 1000))
    assert measured(item, 200).counterexample == {"x": "8"}


def test_what_equals_nothing_known_is_not_named():
    record = measured(make(lambda np, x: (3 * x + 1, formulas.tanh(x))))
    assert record.verdict == "refuted" and record.equals is None


def test_an_equal_formula_with_an_option_is_named_with_it():
    item = make(
        lambda np, x, a: (np.where(x > 0, x, a * x), formulas.relu(x)),
        x=ANY,
        a=st.floats(0.25, 0.75),
    )
    assert measured(item).equals == "leaky_relu with negative_slope = a"


@pytest.mark.parametrize("off", [1e-25, -1e-25, 1e-15])
def test_sides_that_differ_by_little_are_told_apart(off):
    assert measured(make(lambda np, x: (np.tanh(x) + off, formulas.tanh(x)))).verdict == "refuted"
    assert measured(make(lambda np, x: (np.tanh(x) + off - off, formulas.tanh(x)))).verdict == "upheld"


def test_one_point_in_a_domain_refutes():
    item = make(
        lambda np, x: (x, np.where(np.equal(x, 3), x + 1e-20, x)), x=st.sampled_from([1.0, 2.0, 3.0, 4.0])
    )
    assert measured(item).counterexample == {"x": "3.0"}


def test_truth_values_are_claims():
    assert measured(make(lambda np, x: bool(np.exp(x) > 0))).verdict == "upheld"
    record = measured(make(lambda np, x: bool(np.tanh(x) < 0.5)))
    assert record.verdict == "refuted" and float(record.counterexample["x"]) > 0.5


def test_what_no_precision_decides_is_inconclusive():
    item = make(
        lambda np, x: (np.where(np.square(np.sqrt(x)) >= x, 1 + 0 * x, 0 * x), 1 + 0 * x),
        x=st.sampled_from([2.0, 3.0, 5.0]),
    )
    record = measured(item)
    assert record.verdict == "inconclusive"
    assert "could not be decided" in record.notes[0]


def test_a_claim_that_cannot_be_computed_is_inconclusive_with_the_reason():
    record = measured(make(lambda np, x: (np.arctan2(x, x), x)))
    assert record.verdict == "inconclusive" and "could not be measured" in record.notes[0]
    record = measured(make(lambda np, x: (np.nosuch(x), x)))
    assert record.verdict == "inconclusive" and "AttributeError" in record.notes[0]


def test_infinities_and_nan_are_compared_as_ieee_numbers():
    item = make(lambda np, x: (np.exp(x), np.exp(x)), x=st.just(math.inf))
    assert holds_at(item, {"x": math.inf}) == (True, 0.0)
    assert holds_at(make(lambda np, x: (np.exp(x), 0 * x)), {"x": math.inf})[0] is False
    assert holds_at(make(lambda np, x: (x, x)), {"x": math.nan})[0] is True
    assert holds_at(make(lambda np, x: (x, x)), {"x": [1.0, math.nan]})[0] is True


def test_several_results_are_compared_one_by_one():
    right = make(lambda np, x: ((x, 2 * x), (x, x + x)))
    wrong = make(lambda np, x: ((x, 2 * x), (x, x + x + 1e-20)))
    assert measured(right).verdict == "upheld" and measured(wrong).verdict == "refuted"


def test_results_of_other_shapes_refute():
    item = make(lambda np, x: (x, x[:1]), x=st.just([1.0, 1.0]))
    assert measured(item).verdict == "refuted"


def test_a_strategy_of_a_dictionary_gives_several_variables():
    pair = st.fixed_dictionaries({"a": ANY, "b": ANY})
    item = make(lambda np, a, b: (a * b, b * a), both=pair)
    assert measured(item).verdict == "upheld"
    wrong = measured(make(lambda np, a, b: (a - b, b - a), both=pair))
    assert wrong.verdict == "refuted" and set(wrong.counterexample) == {"a", "b"}


@pytest.mark.parametrize(
    ("function", "match"),
    [
        (lambda np, x: x, "must return"),
        (lambda np, x: (x, x, x), "must return"),
        (lambda np, x: ((x, x), x), "2 printed results beside 1 references"),
    ],
)
def test_what_is_no_pair_is_an_error_of_usage(function, match):
    with pytest.raises(UsageError, match=match):
        measured(make(function))


@pytest.mark.parametrize(
    ("arguments", "function", "match"),
    [
        ({"id": "", "says": "s", "x": ANY}, lambda np, x: x, "needs an id"),
        ({"id": "A", "x": ANY}, lambda np, x: x, "a sentence"),
        ({"id": "A", "says": "s"}, lambda np: True, "at least one variable"),
        ({"id": "A", "says": "s", "x": 3}, lambda np, x: x, "x must be a Hypothesis strategy, got int"),
        ({"id": "A", "says": "s", "x": ANY}, lambda x: x, "first argument must be np"),
    ],
)
def test_a_claim_that_is_none_is_refused(arguments, function, match):
    with pytest.raises(UsageError, match=match):
        claim(**arguments)(function)


GOOD = """
from hypothesis import strategies as st
from gradcheck import claim, formulas

@claim(id="mine", says="tanh is odd", x=st.floats(-9, 9))
def odd(np, x):
    return formulas.tanh(-x), -formulas.tanh(x)
"""


def file_of(tmp_path, text, name="claims.py"):
    path = tmp_path / name
    path.write_text(text)
    return path


def test_the_claims_of_a_file_are_loaded_and_measured(tmp_path):
    (item,) = load_claims(file_of(tmp_path, GOOD))
    assert item.id == "mine"
    assert measured(item).verdict == "upheld"


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("x = 1\ndef f(:\n", r"claims\.py', line 2: "),
        ("\n\nimport no_such_module_here\n", r"claims\.py', line 3: ModuleNotFoundError"),
        ("x = 1\ny = 1 / 0\n", r"claims\.py', line 2: ZeroDivisionError"),
        ("raise SystemExit(3)\n", r"claims\.py' calls exit\(3\)"),
        ("x = 1\n", r"claims\.py' holds no claim"),
        ("", "holds no claim"),
        (GOOD + GOOD.replace("odd", "even"), r"claims\.py' defines the claim id 'mine' more than once"),
        (GOOD.replace('says="tanh is odd", ', ""), r"claims\.py', line 5: UsageError"),
    ],
)
def test_a_file_that_cannot_be_used_is_told_with_its_line(tmp_path, text, match):
    with pytest.raises(UsageError, match=match):
        load_claims(file_of(tmp_path, text))


def test_a_file_that_is_no_python_is_refused(tmp_path):
    with pytest.raises(UsageError, match=r"must end in \.py"):
        load_claims(file_of(tmp_path, GOOD, "claims.txt"))


def test_a_file_that_is_missing_is_refused(tmp_path):
    with pytest.raises(UsageError, match="nowhere"):
        load_claims(tmp_path / "nowhere.py")


def test_examples_are_the_same_in_every_run():
    item = make(lambda np, x: (np.maximum(x, 0), formulas.tanh(x)))
    assert measured(item) == measured(item)


def test_the_arrays_of_a_claim_may_be_lists():
    item = make(
        lambda np, x: (np.sum(x * x), np.sum(np.square(x))),
        x=st.lists(st.floats(-3, 3), min_size=1, max_size=4),
    )
    assert measured(item).verdict == "upheld"
    assert not np.isinf(float(measured(item).resolution))


def conditional(condition, function, *, plain=False, **strategies):
    made = claim(id="T", says="it holds", condition=condition, plain=plain, **(strategies or {"x": ANY}))
    return measured(made(function))


def by_sign(x, **_):
    return "x < 0" if x < 0 else "x ≥ 0"


def test_a_condition_that_tells_examples_apart_makes_a_claim_conditional():
    found = conditional(Classes(by_sign), lambda np, x: (np.abs(x), x))
    assert found.verdict == "conditional" and found.equals is None
    assert found.counterexample == {"x": "-1.0"}
    assert any(note.startswith("x < 0: fails in") for note in found.notes)
    assert any(note.startswith("x ≥ 0: holds in all") for note in found.notes)


def test_a_condition_that_tells_nothing_apart_leaves_a_claim_refuted():
    found = conditional(Classes(by_sign), lambda np, x: (np.maximum(x, -x) + 1, np.abs(x)))
    assert found.verdict == "refuted"
    assert conditional(Classes(by_sign), lambda np, x: (np.maximum(x, -x), np.abs(x))).verdict == "upheld"


def test_a_boundary_is_found_by_bisection():
    found = conditional(
        Along("s", 1e-6, 1e6), lambda np, x, s: AtMost(x * x, s), x=st.sampled_from([2.0, 3.0])
    )
    assert found.verdict == "conditional"
    low, high = (float(word) for word in found.notes[0].split("below ")[1].split(",")[0].split(" … "))
    assert 3.9 < low <= 4 and 9 <= high < 9.1
    assert float(found.counterexample["s"]) < 9


def test_boundaries_are_told_by_class():
    found = conditional(
        Along("s", 1e-3, 1e3, of=lambda x, **_: f"x = {x:g}"),
        lambda np, x, s: AtMost(x * x, s),
        x=st.sampled_from([2.0, 3.0]),
    )
    assert any(note.startswith("x = 2: fails for s below 4") for note in found.notes)
    assert any(note.startswith("x = 3: fails for s below 9") for note in found.notes)


def test_a_window_has_two_boundaries():
    def inside(np, x, s):
        return bool(s < 3) or bool(s > 50)

    found = conditional(Along("s", 1e-3, 1e3, probes=13), inside, x=ANY)
    assert "holds for s below 3" in found.notes[0] and "fails from there to 50" in found.notes[0]


def test_along_a_number_that_changes_nothing_a_claim_is_upheld_or_refuted():
    assert conditional(Along("s", 0.1, 10), lambda np, x, s: AtMost(-x * x, s)).verdict == "upheld"
    assert conditional(Along("s", 0.1, 10), lambda np, x, s: AtMost(s, -x * x)).verdict == "refuted"


def test_inequalities_hold_where_both_sides_are_equal():
    record = measured(make(lambda np, x: AtMost(np.tanh(x), formulas.tanh(x))))
    assert record.verdict == "upheld" and float(record.resolution) < 1e-17
    assert measured(make(lambda np, x: AtMost(np.tanh(x) + 1e-25, formulas.tanh(x)))).verdict == "refuted"
    assert measured(make(lambda np, x: AtMost((np.tanh(x), x), (1.0, x)))).verdict == "upheld"


def test_a_plain_claim_is_about_the_numbers_that_were_drawn():
    def absorbed(np, x):
        return x + 1e-30 == x

    assert measured(claim(id="T", says="s", plain=True, x=st.floats(1, 2))(absorbed)).verdict == "upheld"
    with pytest.raises(UsageError, match="answers True or False, got tuple"):
        measured(claim(id="T", says="s", plain=True, x=ANY)(lambda np, x: (x, x)))


def test_a_share_takes_fewer_examples():
    made = claim(id="T", says="s", share=0.1, x=ANY)(lambda np, x: (x, x))
    assert measured(made, 100).compared == 10


def test_what_nothing_computed_decides_is_cited():
    record = measured(undecidable(id="T", says="X was first", citation="see Y"))
    assert record.verdict == "undecidable" and record.notes == ["see Y"] and record.compared == 0
    with pytest.raises(UsageError, match="needs a citation"):
        undecidable(id="T", says="X was first")


@pytest.mark.parametrize(
    ("condition", "match"),
    [
        (3, "condition must be Classes"),
        (Along("x", 0.1, 1), "x is searched, so it has no strategy"),
        (Along("s", 0, 1), "needs 0 < low < high"),
        (Along("s", 2, 1), "needs 0 < low < high"),
        (Along("s", 1, 2, probes=1), "at least two probes"),
    ],
)
def test_a_condition_that_is_none_is_refused(condition, match):
    with pytest.raises(UsageError, match=match):
        claim(id="T", says="s", condition=condition, x=ANY)(lambda np, x: (x, x))


def test_a_refuted_claim_shows_both_numbers():
    record = measured(make(lambda np, x: (x + 1, x)))
    assert "there it gives 1, the reference 0" in record.notes
