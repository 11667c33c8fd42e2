import subprocess
import sys

import numpy as np
import pytest
from scipy import special

from gradcheck.arithmetic.exact import PI, exact
from gradcheck.cases import smallest
from gradcheck.errors import UsageError
from gradcheck.formats import BFLOAT16, FLOAT16, FLOAT32, FLOAT64, FORMATS
from gradcheck.formulas import CATALOGUE
from gradcheck.records import Case, Formula, Option
from gradcheck.subjects.numpy import NUMPY

ROOT = np.sqrt(2 / PI)
THIRD = exact("0.1")


def bent_value(x, slope):
    return np.where(x > 0, ROOT * x, slope * special.erf(x)) + np.maximum(THIRD, 1 - x)


def bent_derivative(x, slope):
    return np.where(x > 0, ROOT, slope * np.exp(-x * x)) * np.ones_like(x)


def dense_value(x, weight, bias):
    return x @ weight.T + bias


def dense_vjp(inputs, cotangent):
    x, weight, _ = inputs
    return cotangent @ weight, cotangent.T @ x, np.sum(cotangent, axis=0)


BENT = Formula(
    name="bent",
    title="bent",
    equation="",
    source="",
    value=bent_value,
    derivative=bent_derivative,
    second=lambda x, slope: -2 * slope * x * np.exp(-x * x),
    options=(Option("slope", 0.3),),
)
DENSE = Formula(
    name="dense",
    title="dense",
    equation="",
    source="",
    value=dense_value,
    vjp=dense_vjp,
    inputs=("x", "weight", "bias"),
)


def draw(fmt, *shapes, seed=0):
    generator = np.random.default_rng(seed)
    return tuple(np.asarray(generator.standard_normal(shape)).astype(fmt.dtype) for shape in shapes)


def test_checks_are_those_that_there_is_a_text_for():
    assert NUMPY.checks(BENT) == ("value", "derivative", "second", "layout", "special")
    assert NUMPY.checks(DENSE) == ("value", "derivative", "layout", "special")
    assert NUMPY.reason(BENT, FLOAT16, "second") == ""
    assert NUMPY.reason(DENSE, FLOAT16, "second") == "no text of dense for second"
    assert NUMPY.implement(DENSE, FLOAT32).second is None
    with pytest.raises(UsageError, match="unknown form"):
        NUMPY.implement(BENT, FLOAT32, "module")


@pytest.mark.parametrize("fmt", FORMATS, ids=lambda fmt: fmt.name)
@pytest.mark.parametrize("shape", [(), (0,), (9,), (3, 4)])
def test_shape_and_format_of_the_answers(shape, fmt):
    (x, cotangent, direction) = draw(fmt, shape, shape, shape)
    made = NUMPY.implement(BENT, fmt)
    answers = (
        made.forward((x,), {}),
        *made.vjp((x,), cotangent, {}),
        *made.second((x,), cotangent, (direction,), {}),
    )
    assert [answer.shape for answer in answers] == [shape] * 3
    assert {answer.dtype for answer in answers} == {fmt.dtype}


def test_values_gradients_and_second_gradients():
    x, c, d = draw(FLOAT64, 50, 50, 50)
    made = NUMPY.implement(BENT, FLOAT64)
    root = np.sqrt(2 / np.pi)
    value = np.where(x > 0, root * x, 0.5 * special.erf(x)) + np.maximum(0.1, 1 - x)
    slope = np.where(x > 0, root, 0.5 * np.exp(-x * x))
    options = {"slope": 0.5}
    np.testing.assert_allclose(made.forward((x,), options), value, rtol=1e-15)
    np.testing.assert_allclose(made.vjp((x,), c, options)[0], c * slope, rtol=1e-15)
    second = c * d * -x * np.exp(-x * x)
    np.testing.assert_allclose(made.second((x,), c, (d,), options)[0], second, rtol=1e-15)


def test_gradients_of_several_inputs():
    inputs = draw(FLOAT64, (5, 3), (2, 3), 2)
    (c,) = draw(FLOAT64, (5, 2), seed=1)
    g_x, g_weight, g_bias = NUMPY.implement(DENSE, FLOAT64).vjp(inputs, c, {})
    np.testing.assert_allclose(g_x, c @ inputs[1], rtol=1e-15)
    np.testing.assert_allclose(g_weight, c.T @ inputs[0], rtol=1e-15)
    np.testing.assert_allclose(g_bias, c.sum(0), rtol=1e-15)


def printed(programs):
    """Run programs in one process that has nothing of this package imported, and return what they print."""
    source = "\n".join(programs)
    assert "gradcheck" not in source
    done = subprocess.run([sys.executable, "-"], input=source, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def hexadecimal(array):
    return str([value.hex() for value in np.asarray(array, np.float64).ravel().tolist()])


@pytest.mark.parametrize("fmt", FORMATS, ids=lambda fmt: fmt.name)
def test_reproductions_print_what_was_got(fmt):
    x, c, d = draw(fmt, 9, 9, 9)
    edges = np.array([0.0, -0.0, np.inf, -np.inf, np.nan, fmt.largest, fmt.least_subnormal]).astype(fmt.dtype)
    bent = NUMPY.implement(BENT, fmt)
    inputs = draw(fmt, (5, 3), (2, 3), 2)
    (cotangent,) = draw(fmt, (5, 2), seed=1)
    dense = NUMPY.implement(DENSE, fmt)
    options = {"slope": 0.7}
    programs = [
        bent.reproduce("value", (x,), None, options),
        bent.reproduce("value", (edges,), None, {}),
        bent.reproduce("value", (x[3],), None, {}),
        bent.reproduce("derivative", (x,), c, options),
        bent.reproduce("second", (x,), c, options, (d,)),
        dense.reproduce("value", inputs, None, {}),
        dense.reproduce("derivative", inputs, cotangent, {}),
    ]
    expected = [
        bent.forward((x,), options),
        bent.forward((edges,), {}),
        bent.forward((x[3],), {}),
        *bent.vjp((x,), c, options),
        *bent.second((x,), c, (d,), options),
        dense.forward(inputs, {}),
        *dense.vjp(inputs, cotangent, {}),
    ]
    assert printed(programs) == [hexadecimal(array) for array in expected]


def reproducible(formula, fmt):
    """A case of the formula: a few numbers for one input, the least arrangement for several."""
    if formula.elementwise:
        return Case("plain", fmt, draw(fmt, (9,)))
    return smallest(formula, fmt)


@pytest.mark.parametrize("fmt", FORMATS, ids=lambda fmt: fmt.name)
def test_every_text_of_the_catalogue_is_reproduced(fmt):
    programs, expected = [], []
    for formula in CATALOGUE:
        case = reproducible(formula, fmt)
        made = NUMPY.implement(formula, fmt)
        value = made.forward(case.inputs, case.options)
        programs.append(made.reproduce("value", case.inputs, None, case.options))
        expected += value if isinstance(value, tuple) else [value]
        if made.vjp is None:
            continue
        (cotangent,) = draw(fmt, value.shape, seed=1)
        programs.append(made.reproduce("derivative", case.inputs, cotangent, case.options))
        expected += [g for g in made.vjp(case.inputs, cotangent, case.options) if g is not None]
        if made.second:
            programs.append(made.reproduce("second", case.inputs, cotangent, case.options))
            expected += made.second(case.inputs, cotangent, (np.ones_like(value),), case.options)
    assert printed(programs) == [hexadecimal(array) for array in expected]


def test_a_reproduction_needs_a_cotangent_for_a_derivative():
    with pytest.raises(UsageError, match="cotangent"):
        NUMPY.implement(BENT, BFLOAT16).reproduce("derivative", draw(BFLOAT16, 1), None, {})
