"""Maps: the theory's values on the grid, measurements that agree where theory is exact, and refusals."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from scipy import stats

from gradcheck.errors import UsageError
from gradcheck.flow import Network, predict
from gradcheck.flow.atlas import make_atlas, sign_changes
from gradcheck.flow.atlas_chapter import chapter_of
from gradcheck.flow.critical import critical_line


def network(activation: str = "relu", **changes: object) -> Network:
    return dataclasses.replace(Network(activation=activation, depth=12, width=64), **changes)  # type: ignore[arg-type]


def test_where_theory_is_exact_the_map_differs_by_chance_alone() -> None:
    atlas = make_atlas(network(), grid=8, seeds=24)
    assert atlas.exact
    z = (atlas.measured - atlas.predicted) / atlas.errors
    assert np.max(np.abs(z)) < 6
    # Student's t of 23 degrees of freedom: the sum of squares is 64 · 23/21 on average.
    assert stats.chi2.cdf(np.sum(np.square(z)) * 21 / 23, z.size) == pytest.approx(0.5, abs=0.499999)


def test_another_network_than_the_one_predicted_is_seen() -> None:
    atlas = make_atlas(network(), grid=4, seeds=24)
    wrong = make_atlas(network(keep=0.9), grid=4, seeds=24)
    z = (wrong.measured - atlas.predicted) / wrong.errors
    assert np.mean(np.square(z)) > 4


def test_points_of_one_batch_have_their_own_variances() -> None:
    together = make_atlas(network("tanh"), grid=3, seeds=16, x=(0.5, 2.5), y=(0.0, 0.6))
    for row, bias in enumerate(together.ys):
        for column, weight in enumerate(together.xs):
            p = predict("tanh", weight_variance=weight**2, bias_variance=bias**2)
            assert together.predicted[row, column] == pytest.approx(math.log10(p.factor), abs=1e-9)
    assert np.max(np.abs(together.measured - together.predicted)) < 0.1
    assert np.ptp(together.predicted) > 0.5


def test_a_map_is_the_same_for_the_same_seed_only() -> None:
    one, again, other = (make_atlas(network(), grid=3, seeds=4, seed=seed) for seed in (1, 1, 2))
    assert np.array_equal(one.measured, again.measured)
    assert not np.array_equal(one.measured, other.measured)


def test_the_critical_line_of_tanh_is_the_closed_form() -> None:
    atlas = make_atlas(network("tanh"), grid=3, seeds=2)
    x, y = atlas.critical[0]
    line = critical_line("tanh", np.geomspace(1e-3, 10, 30))
    inside = np.sqrt(line.weight_variance) < x[-1]
    assert np.interp(np.sqrt(line.weight_variance[inside]), x, y) == pytest.approx(
        np.sqrt(line.bias_variance[inside]), abs=2e-3
    )


def test_the_critical_line_of_relu_is_where_the_map_changes_its_sign() -> None:
    ((x, _),) = make_atlas(network(), grid=8, seeds=2).critical
    assert x == pytest.approx(np.full(8, math.sqrt(2)), abs=0.02)


def test_the_plane_of_gains_and_depths_counts_decades() -> None:
    atlas = make_atlas(network(init="xavier"), "gain-depth", grid=4, seeds=16, x=(1.0, 2.0), y=(4, 16))
    assert atlas.ys == (4.0, 8.0, 12.0, 16.0)
    z = (atlas.measured - atlas.predicted) / atlas.errors
    assert np.max(np.abs(z)) < 7
    law = predict("relu", weight_variance=1.0, width=64).log_mean / math.log(10) / 2
    assert atlas.predicted[:, 0] == pytest.approx([(depth - 1) * law for depth in atlas.ys])


def test_small_batches_explode_faster_in_both_maps() -> None:
    atlas = make_atlas(network("linear", init="xavier"), "batch-depth", grid=3, seeds=8, x=(6, 16), y=(4, 12))
    assert np.all(np.diff(atlas.predicted, axis=1) < 0)
    assert np.all(np.diff(atlas.measured[-1]) < 0)
    assert np.all(atlas.measured[-1] > 0)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"plane": "weigths"}, "did you mean 'weights'"),
        ({"grid": 1}, "2 to 200"),
        ({"seeds": 1}, "standard error"),
        ({"x": (2.0, 1.0)}, "low < high"),
        ({"plane": "batch-depth", "x": (2, 64)}, "at least 6"),
        ({"network": network(norm="batch")}, "batch-depth"),
        ({"network": network(kind="conv")}, "dense"),
        ({"network": network(residual="1/L"), "plane": "gain-depth"}, "as a number"),
        ({"network": network(norm="layer"), "plane": "batch-depth"}, "does not look at the batch"),
    ],
)
def test_what_has_no_map_is_refused_with_what_to_do(arguments: dict[str, object], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        make_atlas(**{"network": network(), **arguments})  # type: ignore[arg-type]


def test_a_change_of_sign_is_found_between_points_and_nowhere_else() -> None:
    xs, ys = np.array([0.0, 1.0, 2.0]), np.array([0.0, 1.0])
    ((x, y),) = sign_changes(xs, ys, np.array([[-1.0, 1.0, 2.0], [-3.0, -1.0, 3.0]]))
    assert x.tolist() == [0.5, 1.25]
    assert y.tolist() == [0.0, 1.0]
    assert sign_changes(xs, ys, np.full((2, 3), -1.0)) == ()
    assert sign_changes(xs, ys, np.full((2, 3), math.nan)) == ()


def test_the_chapter_states_the_seeds_and_the_difference() -> None:
    chapter = chapter_of(make_atlas(network(), grid=4, seeds=4))
    words = " ".join(chapter.paragraphs)
    assert "16 points, 4 networks at each, 64 in all" in words
    assert "standard error" in words
    assert [chart.kind for chart in chapter.charts] == ["heat", "heat", "line", "heat"]
    assert chapter.charts[0].bounds == chapter.charts[1].bounds
    assert chapter.charts[0].contours
