"""The rates that every report shows are of the corpora that are here, and add up."""

from __future__ import annotations

import json

import pytest

from tests.rates import RATES, correct_row, liars_row, upper_bound, with_groups


def test_the_upper_bound_is_clopper_and_pearsons():
    # 1 - 0.05^(1/n) where nothing was seen.
    assert upper_bound(0, 100) == pytest.approx(1 - 0.05**0.01)
    assert upper_bound(3, 3) == 1.0 and upper_bound(0, 0) == 1.0


def test_groups_are_counted_apart_and_together():
    found = with_groups(correct_row, {"a": (2, ["accurate", "wrong"]), "b": (1, ["unstable", "vacuous"])})
    assert (found["implementations"], found["calls"], found["alarms"]) == (3, 4, 1)
    assert (found["unstable"], found["undecided"]) == (1, 1)
    assert found["groups"]["a"] == correct_row(2, ["accurate", "wrong"])
    told = with_groups(liars_row, {"a": (1, 2, ["wrong", "unstable", "accurate"])})
    assert (told["by hand"], told["by mutation"], told["caught"], told["called wrong"]) == (1, 2, 2, 1)
    assert told["upper"] == upper_bound(1, 3)


@pytest.mark.parametrize("population", ["correct", "liars"])
def test_the_file_adds_up(population):
    row = json.loads(RATES.read_text("utf-8"))[population]
    groups = list(row["groups"].values())
    assert set(row["groups"]) == {"activations", "families"}
    for key in set(row) - {"upper", "groups"}:
        assert row[key] == sum(group[key] for group in groups), key
    missed = row["alarms"] if population == "correct" else row["calls"] - row["caught"]
    assert row["upper"] == pytest.approx(upper_bound(missed, row["calls"]))
