"""The pictures of the article's chapter: their numbers are computed in every run."""

from __future__ import annotations

import pytest

from gradcheck.article.pictures import PICTURES


@pytest.mark.parametrize("row", PICTURES)
def test_a_picture_is_drawn_from_numbers_of_this_run(row, gradcheck_run):
    picture = gradcheck_run.picture(row)
    assert picture is None or all(line.points for line in picture.series)
