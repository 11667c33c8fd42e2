"""The article's verdicts are measured: they change when the formula that is measured changes."""

from __future__ import annotations

import importlib.util
import sys
from dataclasses import replace

import pytest
from hypothesis import settings

from gradcheck import article, formulas
from gradcheck.checks.claims import measure
from gradcheck.runner import locate

SETTINGS = settings(deadline=None, derandomize=True, database=None)


def _property_file(path):
    spec = importlib.util.spec_from_file_location(f"properties_{path.stem}", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


FILES = sorted(locate.properties().glob("test_article*.py"))
CLAIMS = {item.id: item for path in FILES for item in _property_file(path).MEASURED}


def measured(id, function=None):
    """Measure a claim of the article, with another function in its place if one is given."""
    claim = CLAIMS[id] if function is None else replace(CLAIMS[id], function=function)
    return measure(claim, SETTINGS, 80)


def test_every_claim_that_is_listed_is_measured():
    assert set(CLAIMS) == {text.id for text in article.CLAIMS}


def test_the_printed_preactivation_is_refuted_by_the_input_that_it_leaves_out():
    found = measured("F01")
    assert found.verdict == "refuted" and found.equals is None
    assert found.counterexample == {"x": "[0.0, 1.0]", "w": "[0.0, 1.0]", "b": "0.0"}


def test_the_printed_preactivation_with_its_index_mended_is_upheld():
    mended = measured("F01", lambda np, x, w, b: (np.sum(w * x) + b, formulas.preactivation(x, w, b)))
    assert mended.verdict == "upheld" and mended.resolution < 1e-20


def test_the_printed_slope_of_a_neuron_is_its_derivative_along_the_input():
    found = measured("F02")
    assert found.verdict == "refuted"
    assert found.equals == "neuron: derivative along x"


def test_the_printed_leaky_relu_is_relu():
    found = measured("F09")
    assert found.verdict == "refuted" and found.equals == "relu"
    assert found.counterexample == {"x": "-1.0", "alpha": "0.5"}


def test_the_printed_leaky_relu_without_its_inner_maximum_is_upheld():
    mended = measured("F09", lambda np, x, alpha: (np.maximum(alpha * x, x), formulas.leaky_relu(x, alpha)))
    assert mended.verdict == "upheld"


def test_a_relu_that_is_another_function_is_refuted_and_named():
    other = measured("F07", lambda np, x: (np.minimum(np.maximum(0, x), 6), formulas.relu(x)))
    assert other.verdict == "refuted" and other.equals == "relu6"


@pytest.mark.parametrize("id", ["F07", "F07.derivative", "F08", "F08.limits", "F08.derivative"])
def test_what_is_right_on_paper_is_upheld(id):
    found = measured(id)
    assert found.verdict == "upheld" and found.compared >= 20


def test_a_slope_rebuilt_from_the_rounded_sigmoid_is_told_to_lose_its_digits_in_every_format():
    notes = measured("F08.derivative").notes
    for name in ("float64", "float32", "float16", "bfloat16"):
        assert any(f"printed in {name}" in note for note in notes)


def test_a_relative_difference_of_1e_25_is_not_lost():
    from gradcheck.arithmetic.exact import exact

    shifted = measured(
        "F08", lambda np, x: (formulas.sigmoid(x) * exact("1.0000000000000000000000001"), formulas.sigmoid(x))
    )
    assert shifted.verdict == "refuted"
