"""The self-test judges sixty answers rightly, quickly, and says so if it does not."""

from __future__ import annotations

import time

import pytest

from gradcheck.errors import UntrustworthyError
from gradcheck.records import Verdict
from gradcheck.runner import selftest
from gradcheck.runner.answers import BAD, GOOD, Answer


def test_there_are_thirty_of_each() -> None:
    assert (len(set(GOOD)), len(set(BAD))) == (30, 30)


@pytest.mark.parametrize(
    "answer", GOOD, ids=lambda answer: f"{answer.formula} {answer.format.name} {answer.name}"
)
def test_a_right_answer_passes(answer: Answer) -> None:
    assert selftest.judge(answer).passed


@pytest.mark.parametrize(
    "answer", BAD, ids=lambda answer: f"{answer.formula} {answer.format.name} {answer.name}"
)
def test_a_wrong_answer_is_a_finding(answer: Answer) -> None:
    assert selftest.judge(answer).is_finding


def test_it_takes_less_than_two_seconds() -> None:
    begun = time.process_time()
    result = selftest.run()
    assert time.process_time() - begun < 2
    assert result.record == {"good": 30, "bad": 30, "misjudged": 0}


@pytest.mark.parametrize("verdict", list(Verdict))
def test_a_judge_with_one_answer_for_everything_is_not_trusted(verdict: Verdict) -> None:
    result = selftest.run(lambda answer: verdict)
    assert result.misjudged
    with pytest.raises(UntrustworthyError, match="misjudged"):
        selftest.require(result)
