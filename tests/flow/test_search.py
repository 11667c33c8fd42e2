"""The smallest failing network: found, minimal, and the same when it is asked again."""

from __future__ import annotations

import re

import pytest

from gradcheck.errors import UsageError
from gradcheck.flow import Network, failure, find_smallest, measure
from gradcheck.flow.search import surely, written


def test_sigmoid_with_default_weights_fails_in_float16_at_the_depth_of_its_limit() -> None:
    found = find_smallest(
        activation="sigmoid", init="torch", fails_in="float16", min_width=8, max_width=12, max_depth=16
    )
    limit = measure(Network(activation="sigmoid", init="torch", depth=12, width=24), seeds=16)
    depth = limit.depth_limit["float16"]
    assert depth is not None
    assert abs(found.depth - depth) <= 1
    assert found.width == 8
    assert found.shallower is not None
    assert not surely(found.shallower, "float16", found.seeds)
    assert surely(found.estimate, "float16", found.seeds)


def test_the_search_is_repeated_to_the_last_bit_and_its_replay_shows_the_failure() -> None:
    first, second = (find_smallest(fails_in="float16", max_depth=20, max_width=12) for _ in range(2))
    assert first == second
    shown: list[object] = []
    exec(first.replay.replace("print(", "shown.append("), {"shown": shown})
    assert shown == [first.estimate]


def test_depth_is_shrunk_before_width() -> None:
    found = find_smallest(activation="sigmoid", fails_in="vanishing", max_depth=16, max_width=8)
    assert found.depth <= 6
    assert found.width == 2 or found.narrower is not None
    if found.narrower is not None:
        assert not surely(found.narrower, "vanishing", found.seeds)


def test_batch_norm_explodes() -> None:
    found = find_smallest(
        activation="relu",
        init="kaiming",
        norm="batch",
        batch=6,
        fails_in="exploding",
        max_width=24,
        seeds=8,
        max_depth=40,
    )
    # Three decades of ‖g‖ at the factor 2.004 of a wide network take 20 layers; narrow ones are slower, and
    # the mean has to be three standard errors above.
    assert 20 <= found.depth <= 28
    assert found.estimate.value > 3


def test_several_choices_are_searched() -> None:
    found = find_smallest(
        activation=("tanh", "sigmoid"), init=("torch", "kaiming"), max_depth=16, max_width=6
    )
    assert found.network.activation == "sigmoid"
    assert found.network.init == "torch"


def test_a_network_that_does_not_fail_is_not_found() -> None:
    with pytest.raises(UsageError, match="no network of depth ≤ 6 and width ≤ 4 fails in float32"):
        find_smallest(fails_in="float32", max_depth=6, max_width=4, examples=10)


def test_dead_networks_do_not_count_as_a_format_that_fails() -> None:
    network = Network(activation="relu", init="kaiming", depth=20, width=3)
    share = failure(network, "float16", seeds=32)
    assert share.count < 32
    assert share.value == 0


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (dict(fails_in="float15"), "did you mean 'float16'"),
        (dict(activation="sigmod"), "did you mean 'sigmoid'"),
        (dict(seeds=2), "seeds: expected at least 3"),
        (dict(norm="batch", batch=1), "at least 3 inputs with batch"),
    ],
    ids=str,
)
def test_bad_arguments_are_refused(given: dict, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        find_smallest(**given)


def test_a_network_is_written_without_its_defaults() -> None:
    assert written(Network()) == "Network()"
    assert re.fullmatch(
        r"Network\(activation='tanh', depth=5\)", written(Network(activation="tanh", depth=5))
    )
