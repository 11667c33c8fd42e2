"""The time of a check: a ceiling, steps that are put off and taken up again, and what is left is used."""

from __future__ import annotations

import contextlib
import time

import numpy as np
import pytest
import torch

import gradcheck
from gradcheck.blackbox.clock import Clock, OutOfTime
from gradcheck.blackbox.oracle import Oracle
from gradcheck.blackbox.running import Run, again
from gradcheck.blackbox.seen import Problem, Seen, Step
from gradcheck.records import Cell
from gradcheck.subjects.torch_arguments import function_of

X = torch.tensor([[0.5, -1.25, 2.0], [0.75, 3.0, -0.5]], dtype=torch.float64)


class Hands:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        """Return the time."""
        return self.now


@pytest.fixture
def hands(monkeypatch) -> Hands:
    """Let the steps of a check see the time that a test says it is."""
    made = Hands()
    monkeypatch.setattr("gradcheck.blackbox.clock.time", made)
    monkeypatch.setattr("gradcheck.blackbox.running.time", made)
    return made


def oracle(seconds: float, f=torch.tanh, now: float = 0.0) -> Oracle:
    """Return an oracle with so many seconds."""
    return Oracle(function_of(f, (X,), {}, True), (None,), 0, Clock(now + seconds))


def run_of(own: Oracle, name: str, steps) -> Run:
    return Run(own, Cell("f", "torch", "float64", name), steps)


class Slow:
    """A step that needs some time, goes on where it was stopped, and knows when it was done."""

    def __init__(self, own: Oracle, hands: Hands, seconds: float, done: list[str], name: str) -> None:
        self.own, self.hands, self.left, self.done, self.name = own, hands, seconds, done, name
        self.stopped = 0

    def __call__(self) -> Seen:
        while self.left > 0:
            try:
                self.own.function.pace.tick()
            except OutOfTime:
                self.stopped += 1
                raise
            self.hands.now += 0.005
            self.left -= 0.005
        self.done.append(self.name)
        return Seen(compared=1, cases=1)


def case(done: list[str], name: str) -> Seen:
    """Return one case, and note the name."""
    done.append(name)
    return Seen(compared=1, cases=1)


def test_a_slow_step_is_put_off_and_done_at_the_end(hands):
    own, done = oracle(3.0), []
    slow = Slow(own, hands, 0.4, done, "slow")

    def steps():
        yield Step(slow)
        for number in range(11):
            yield Step(lambda number=number: case(done, f"quick {number}"))

    run = run_of(own, "values", steps())
    run.go(own.clock)
    assert slow.stopped >= 1 and done[-1] == "slow" and run.done and run.total.cases == 12


def test_steps_of_a_slow_kin_wait_for_all_others_if_they_are_no_lighter(hands):
    own, done = oracle(3.0), []

    def steps():
        yield Step(Slow(own, hands, 0.4, done, "large"), "large", 8)
        yield Step(lambda: case(done, "larger"), "large", 9)
        yield Step(lambda: case(done, "light"), "large", 7)
        yield Step(lambda: case(done, "another"))

    run = run_of(own, "values", steps())
    run.go(own.clock)
    assert done == ["light", "another", "large", "larger"] and run.done


def test_a_step_that_others_need_is_not_put_off(hands):
    own, done = oracle(3.0), []
    slow = Slow(own, hands, 0.4, done, "needed")

    def steps():
        yield Step(slow, needed=True)
        yield Step(lambda: case(done, "next"))

    run = run_of(own, "values", steps())
    run.go(own.clock)
    assert done == ["needed", "next"] and slow.stopped == 0


def test_a_generator_of_steps_is_told_what_they_saw(hands):
    own, told = oracle(5.0), []

    def steps():
        told.append((yield Step(lambda: Seen(notes=("first",)))))
        told.append((yield Step(Seen)))

    run = run_of(own, "values", steps())
    run.go(own.clock)
    assert [seen.notes for seen in told] == [("first",), ()] and run.done


def test_a_check_stops_at_its_plan_and_goes_beyond_it_with_the_time_that_is_left(hands):
    own, done = oracle(5.0), []

    def steps():
        for number in range(20):
            yield Step(lambda number=number: case(done, str(number)))

    run = run_of(own, "values", steps())
    run.go(own.clock)
    assert run.total.cases == 12 and not run.short and not run.done
    again(own, [run])
    assert run.total.cases == 20 and run.done


def test_what_is_short_of_its_plan_goes_on_before_anything_goes_beyond(hands):
    own, done = oracle(5.0), []

    def steps(name, count):
        for _ in range(count):
            yield Step(lambda: case(done, name))

    first, second = run_of(own, "values", steps("v", 14)), run_of(own, "sizes", steps("s", 16))
    first.go(own.clock)
    second.go(Clock(-1.0))
    assert second.short
    again(own, [first, second])
    assert done == ["v"] * 12 + ["s"] * 16 + ["v"] * 2


def test_a_check_that_found_enough_ends(hands):
    own = oracle(5.0)

    def steps():
        while True:
            yield Step(lambda: Seen(compared=1, cases=1, problems=(Problem("wrong"),)))

    run = run_of(own, "values", steps())
    run.go(own.clock)
    assert run.done and len(run.total.problems) == 3


def test_no_call_begins_after_the_seconds_are_over():
    begun = []

    def slow(x):
        begun.append(time.monotonic())
        time.sleep(0.01)
        return torch.tanh(x) if float(x.sum()) < 1e300 else x

    started = time.monotonic()
    result = gradcheck.check(slow, X, max_seconds=1.0)
    # One may have passed the look at the clock before, and one is made while sizes are tried.
    assert sum(moment > started + 1.0 for moment in begun) <= 3 and len(begun) < 110
    assert result.unfinished and not result.findings and not result.ok


def test_a_comparison_that_is_taken_up_again_does_not_call_the_function_anew():
    calls = []

    def counted(x):
        calls.append(1)
        return torch.tanh(x) if float(x.detach().sum()) < 1e300 else x

    own = oracle(60.0, counted, time.monotonic())
    whole = own.compared(own.function, own.example(), "as given")
    alone, own = len(calls), oracle(60.0, counted, time.monotonic())
    _ = own.function.size
    calls.clear()
    limit = [40]

    def tick():
        limit[0] -= 1
        if limit[0] < 0:
            raise OutOfTime

    own.function.pace.tick = tick
    with pytest.raises(OutOfTime):
        own.compared(own.function, own.example(), "as given")
    own.function.pace.tick = lambda: None
    assert own.compared(own.function, own.example(), "as given") == whole
    # What is lost is the batch that was stopped.
    assert alone <= len(calls) <= alone + 80


def test_a_function_that_seeds_itself_prints_no_stack_for_it(monkeypatch):
    printed = []
    original = torch.cuda.traceback
    monkeypatch.setattr(original, "format_stack", lambda *args, **named: printed.append(1) or [])

    def dropout(x):
        torch.manual_seed(3)
        return torch.nn.functional.dropout(x, 0.5)

    assert gradcheck.check(dropout, X, checks="jacobian", max_seconds=60.0).ok
    assert not printed and torch.cuda.traceback is original


def test_an_input_on_which_nothing_depends_is_known_to_have_no_slope():
    def attention(q, k, bias):
        return torch.softmax(q @ (k + bias).mT, -1) @ k

    q, k = torch.randn(2, 3, 4, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    result = gradcheck.check(attention, q, k, torch.zeros(5, dtype=torch.float64), checks="jacobian")
    assert result.ok and result.compared == 60 * (60 + 60 + 5) and np.isfinite(result.resolution)


def test_all_sets_of_a_partition_are_written_out_in_parts():
    from gradcheck.blackbox.sets import Sets

    sets = Sets(np.array([0, 2, -1, 0, 1]), 3)
    assert sets.rows(0, 2).tolist() == [[1, 0, 0, 1, 0], [0, 0, 0, 0, 1]]
    assert sets.rows(2, 9).tolist() == [[0, 1, 0, 0, 0]] and sets.row(1).tolist() == [0, 0, 0, 0, 1]


def test_a_number_of_a_hundred_thousand_inputs_takes_no_square_of_memory():
    import tracemalloc

    x = torch.linspace(-1, 1, 100_000, dtype=torch.float64)

    def f(x):
        # The kinks keep forms from telling: the entries are taken one by one, until the time is over.
        return torch.where(x > 2.0**-12 * torch.round(2.0**12 * x), 2 * x, x).sum()

    tracemalloc.start()
    gradcheck.check(f, x, checks="jacobian", max_seconds=2.0)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1_000_000_000


def test_gradients_at_a_point_that_was_put_off_are_not_those_of_the_next_one():
    def cubes(x):
        # A call at a time, with kinks that are looked at after the gradients were taken.
        return x.abs() ** 3 + torch.relu(x) if float(x.detach().sum()) < 1e300 else x

    own = oracle(600.0, cubes, time.monotonic())
    limit = [10**9]

    def tick():
        limit[0] -= 1
        if limit[0] < 0:
            raise OutOfTime

    own.function.pace.tick = tick
    kinked = (np.array([0.0, 1.0, -2.0, 0.0, 0.5, 3.0]),)
    whole = own.compared(own.function, kinked, "kinked", own.memory)
    assert whole.compared and not whole.problems
    for stop in range(10, 250, 20):
        limit[0] = stop
        with contextlib.suppress(OutOfTime):
            own.compared(own.function, kinked, f"stopped after {stop}", own.memory)
        assert not own.memory.products
        limit[0] = 10**9
        other = tuple(0.5 * x + 0.125 for x in kinked)
        assert not own.compared(own.function, other, "another", own.memory).problems
