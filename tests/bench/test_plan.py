from __future__ import annotations

import pytest

from gradcheck.bench import plan as plans
from gradcheck.bench.document import BACKWARD, COMPILED, FORWARD, NUMPY, YOURS
from gradcheck.bench.plan import PROFILES, Selection, cost, plan, read_sizes, within
from gradcheck.errors import UsageError
from gradcheck.formulas import CATALOGUE

FULL, QUICK = PROFILES["full"], PROFILES["quick"]


@pytest.mark.parametrize(
    ("text", "sizes"), [("1e3", (1000,)), ("1e3,1e5", (1000, 100_000)), ("1_000, 1000,64", (1000, 64))]
)
def test_sizes_are_read(text: str, sizes: tuple[int, ...]) -> None:
    assert read_sizes(text) == sizes


@pytest.mark.parametrize("text", ["", "many", "1e3,", "-5", "1.5", "3", "1e12", "nan", "inf"])
def test_what_is_no_size_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(UsageError, match="such as 1e3,1e5,1e7"):
        read_sizes(text)


def test_an_unknown_formula_gets_the_closest_names() -> None:
    with pytest.raises(UsageError, match="did you mean 'gelu'"):
        plan(QUICK, Selection(formulas=("geluu",)))


def test_an_unknown_format_gets_the_closest_names() -> None:
    with pytest.raises(UsageError, match="did you mean 'float32'"):
        plan(QUICK, Selection(formats=("float31",)))


def test_a_glob_selects_formulas() -> None:
    found = {group.task.formula for group in plan(QUICK, Selection(formulas=("gelu*",)))}
    assert found == {"gelu", "gelu_tanh"}


@pytest.mark.parametrize("profile", PROFILES.values(), ids=lambda p: p.name)
def test_every_formula_is_timed_in_both_directions(profile: plans.Profile) -> None:
    groups = plan(profile, Selection(cores=2))
    here = {(group.task.formula, group.task.direction) for group in groups}
    assert here == {
        (f.name, d) for f in CATALOGUE for d in (FORWARD, BACKWARD) if d == FORWARD or f.differentiable
    }
    assert all(group.lanes[0].implementation == NUMPY for group in groups)
    assert len({group.task for group in groups}) == len(groups)


def test_quick_ends_under_three_minutes_and_the_whole_under_twenty() -> None:
    assert QUICK.budget + QUICK.costs < 180
    assert FULL.budget + FULL.costs < 1200
    for profile in PROFILES.values():
        kept, left = within(plan(profile, Selection(cores=2)), profile, profile.budget)
        assert sum(cost(group, profile) for group in kept) <= profile.budget
        # The declared subset is one that the budget has room for.
        assert not left


def test_what_is_over_the_budget_is_not_run_and_says_so() -> None:
    groups = plan(QUICK, Selection(formulas=("gelu", "adam", "softmax")))
    kept, left = within(groups, QUICK, cost(groups[0], QUICK))
    assert kept == groups[:1]
    assert {each.task for each in left} == {group.task for group in groups[1:]}
    assert all("over what is left of the budget" in each.reason for each in left)


def test_compiled_forms_are_timed_at_one_size_in_float32() -> None:
    groups = plan(FULL, Selection(cores=2))
    tasks = [g.task for g in groups if any(lane.implementation == COMPILED for lane in g.lanes)]
    assert tasks
    assert {(task.size, task.format) for task in tasks} == {(plans.MAIN_SIZE, "float32")}


def test_optimizers_are_stepped_over_one_and_a_hundred_tensors_by_three_programs() -> None:
    (group,) = [g for g in plan(QUICK, Selection(formulas=("adam",), sizes=(1000,)))]
    forms = {(lane.implementation, lane.tensors) for lane in group.lanes[1:]}
    assert forms == {(f"torch-{form}", n) for form in ("loop", "foreach", "fused") for n in (1, 100)}


def test_all_threads_are_timed_where_they_can_pay() -> None:
    few, many = plan(QUICK, Selection(formulas=("relu",), sizes=(1000, 1_000_000), cores=4))[::2]
    assert {lane.threads for lane in few.lanes} == {0, 1}
    assert {lane.threads for lane in many.lanes} == {0, 1, 4}


def test_what_grows_with_the_square_stays_small() -> None:
    groups = plan(FULL, Selection(formulas=("kronecker_penalty",), sizes=(1_000_000,)))
    assert {group.task.size for group in groups} == {1000}


def test_a_function_of_ones_own_stands_beside_its_formula_alone() -> None:
    groups = plan(QUICK, Selection(like="gelu", sizes=(1000,)))
    assert {group.task.formula for group in groups} == {"gelu"}
    assert all(group.lanes[-1].implementation == YOURS for group in groups)
