"""Numbers, distributions and charts as the report draws them."""

from __future__ import annotations

import math
import re
from collections.abc import Callable

import pytest

from gradcheck.document import Document
from gradcheck.report import figures, render
from gradcheck.report.accuracy import ulp_table
from gradcheck.report.charts import AXIS, GRID, INK, SERIES, decade_label, signed_decade
from gradcheck.report.generated import histogram
from gradcheck.report.matrix import index
from gradcheck.report.text import duration, figure, listed, plural, share

Make = Callable[..., Document]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"),
        (-0.0, "−0"),
        (0.5, "0.5"),
        (12.54, "12.5"),
        (999.7, "1,000"),
        (65_536.0, "65,536"),
        (3.1e-7, "3.1×10⁻⁷"),
        (-1e300, "−1×10³⁰⁰"),
        (5e-324, "4.94×10⁻³²⁴"),
        ("inf", "∞"),
        (-math.inf, "−∞"),
        ("nan", "NaN"),
        ("1/3", "1/3"),
        ("1e-400", "0"),
    ],
)
def test_a_figure_is_short_and_true(value: float | str, text: str) -> None:
    assert figure(value) == text


def test_small_shares_never_become_zero() -> None:
    assert [share(part, 10_000).replace("\u00a0", " ") for part in (0, 1, 60, 5_000)] == [
        "0 %",
        "< 0.1 %",
        "0.6 %",
        "50 %",
    ]
    assert share(0, 0) == "–"


def test_words_are_counted_and_listed() -> None:
    assert [plural(n, "check") for n in (0, 1, 1_200)] == ["0 checks", "1 check", "1,200 checks"]
    assert [listed(x) for x in ([], ["a"], ["a", "b"], ["a", "b", "c"])] == ["", "a", "a and b", "a, b and c"]


def test_a_duration_is_told_or_left_out() -> None:
    assert duration("2026-01-01T00:00:00Z", "2026-01-01T00:04:41Z") == "4 min 41 s"
    assert duration("2026-01-01T00:00:00Z", "2026-01-01T00:00:01.5Z") == "1.5 s"
    assert duration("2026-01-01T00:00:00Z", "") == duration("x", "y") == ""
    assert duration("2026-01-01T00:00:00Z", "2026-01-01T00:00:00") == ""


def test_a_histogram_keeps_every_band_and_counts_zeros_apart() -> None:
    found = histogram({"2^-16": 1, "2^0": 100, "2^8": 50, "0": 7, "non-finite": 3})
    assert found is not None
    assert (found.low, found.high) == ("2⁻¹⁶", "2⁸")
    assert "151 values" in found.title and "most at 2⁰" in found.title and "8 binades" in found.title
    assert found.path == "M0 14v-1h2v1h1h3v-14h2v14h1v-7h2v7h1"
    assert histogram({"0": 5}) is None and histogram({}) is None


def test_a_wide_histogram_has_a_bounded_number_of_bars() -> None:
    found = histogram({f"2^{exponent}": 1 for exponent in range(-1_074, 1_024)})
    assert found is not None and found.width <= 3 * 33
    assert "2,098 values" in found.title


def test_abscissas_of_profiles_are_signed_and_keep_order() -> None:
    xs = [-3e38, -1.0, -1e-8, 0.0, 1e-12, 1e-4, 1.0, 65_504.0]
    places = [signed_decade(x) for x in xs]
    assert places == sorted(places)
    assert [decade_label(tick) for tick in (-8, -4, 0, 4, 8, 12)] == ["−1", "−10⁻⁴", "0", "10⁻⁴", "1", "10⁴"]


SERIES_DATA = {
    "gelu": {
        "x": 0.7,
        "exact": "1.01",
        "series": {
            "central": [[1e-2, 1e-5, 4e-5], [1e-4, 1e-9, 4e-9], [1e-6, 1e-7, 1e-9]],
            "complex": [[1e-30, 0.0, "nan"], [1e-2, 1e-5, "nan"]],
        },
    }
}


def test_a_step_chart_states_the_least_error_and_how_often_the_estimate_held() -> None:
    (chart,) = figures.step_gallery(SERIES_DATA).charts
    central, complex_step = chart.lines
    assert (central.best, central.at, central.estimate, central.held) == ("1×10⁻⁹", "1×10⁻⁴", "4×10⁻⁹", "2/3")
    assert (complex_step.best, complex_step.estimate, complex_step.held) == ("0", "–", "–")
    assert "least error 1×10⁻⁹" in chart.alternative


def test_charts_hold_no_colour_that_the_style_sheet_does_not_replace() -> None:
    profile = {"gelu/numpy/float16/value": {"x": [-1.0, 0.0, 1.0], "ulp": [0.5, 1.0, 2.0]}}
    drawings = [*figures.step_gallery(SERIES_DATA).charts, *figures.profile_gallery(profile).charts]
    for chart in drawings:
        colours = set(re.findall(r'(?:fill|stroke)="([^"]+)"', str(chart.svg)))
        assert colours <= {INK, GRID, AXIS, *SERIES, "none", "transparent"}
        assert SERIES[0] in colours
        assert not re.search(r"<(script|image|foreignObject|style)", str(chart.svg))
        assert not re.search(r"\bid=|url\(|href=", str(chart.svg)), "names would clash between drawings"


def test_profiles_with_the_largest_errors_are_drawn_and_the_rest_is_counted() -> None:
    data = {f"f{i}/numpy/float16/value": {"x": [0.0, 1.0], "ulp": [0.0, float(i)]} for i in range(40)}
    gallery = figures.profile_gallery(data)
    assert {chart.title for chart in gallery.charts} == {f"f{i}" for i in range(4, 40)}
    assert gallery.omitted.startswith("4 more profiles")


def test_a_profile_names_the_worst_input_as_given() -> None:
    data = {"gelu/numpy/bfloat16/value": {"x": [-3e38, -1e-30, 1.0], "ulp": [0.5, "nan", 7.0]}}
    (chart,) = figures.profile_gallery(data).charts
    assert (chart.lines[0].best, chart.lines[0].at) == ("NaN", "−1×10⁻³⁰")


def test_errors_of_many_decades_get_a_logarithmic_axis() -> None:
    def drawing(top: float) -> str:
        data = {"gelu/numpy/float16/value": {"x": [0.0, 1.0, 2.0], "ulp": [0.5, 1.0, top]}}
        return str(figures.profile_gallery(data).charts[0].svg)

    assert "10⁶" in drawing(4e6) and "10⁶" not in drawing(40.0)


def test_the_table_labels_every_figure(make: Make) -> None:
    run = make(formulas=3)
    table = ulp_table(index(run))
    shown = [item for row in table.rows for item in row.figures if item.mark]
    measured = [c for c in run.checks if c.check in ("value", "derivative", "second") and c.compared]
    assert len(shown) == len(measured)
    assert {item.letter for item in shown} == {"P", "E", "L"}
    assert all(item.ulp and item.resolution for item in shown)


def test_false_alarms_come_with_their_upper_bound(make: Make) -> None:
    page = render(make(formulas=1))
    assert "0 false alarms in 5,400 calls" in page
    assert "at most 0.068 % with 95 % confidence" in page
    assert "(Clopper–Pearson); unstable 3, undecided 0" in page


def test_rates_are_shown_in_all_and_by_group(make: Make) -> None:
    page = render(make(formulas=1))
    assert "false alarms, activations" in page and "0 false alarms in 3,000 calls" in page
    assert "47 of 48 calls of wrong implementations told; misses are at most 9.5 % with 95 %" in page
    assert "detection, families" in page and "planted 18" in page
