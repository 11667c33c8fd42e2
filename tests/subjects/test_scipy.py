import math
import subprocess
import sys

import numpy as np
import pytest
from scipy import special

from gradcheck.errors import UsageError
from gradcheck.formats import BFLOAT16, FLOAT16, FLOAT32, FLOAT64
from gradcheck.formulas import get_formula
from gradcheck.subjects.scipy import CALLS, SCIPY

DIRECT = {
    "sigmoid": special.expit,
    "log_sigmoid": special.log_expit,
    "gelu": lambda x: x * special.ndtr(x),
    "softplus": lambda x: np.logaddexp(0, x),
    "tanh": np.tanh,
    "softmax": lambda x: special.softmax(x, axis=-1),
    "log_softmax": lambda x: special.log_softmax(x, axis=-1),
    "logsumexp": lambda x: special.logsumexp(x, axis=-1),
}
# Along an axis there is nothing to take the largest of in an empty array, and no axis in a scalar.
ALONG_AN_AXIS = {"softmax", "log_softmax", "logsumexp"}
X = np.linspace(-9, 9, 37)


def test_every_formula_has_a_direct_counterpart_in_this_test():
    assert set(DIRECT) == set(CALLS)


@pytest.mark.parametrize("fmt", [FLOAT64, FLOAT32], ids=lambda fmt: fmt.name)
@pytest.mark.parametrize("name", sorted(CALLS))
@pytest.mark.parametrize("shape", [(37,), (0,), (), (2, 5)])
def test_values_are_scipys_own(name, fmt, shape):
    shape = (37,) if name in ALONG_AN_AXIS and len(shape) < 2 else shape
    x = X[: math.prod(shape)].reshape(shape).astype(fmt.dtype)
    record = get_formula(name)
    assert SCIPY.checks(record) == ("value", "special")
    assert SCIPY.reason(record, fmt, "value") == ""
    value = SCIPY.implement(record, fmt).forward((x,), {})
    assert value.shape == (shape[:-1] if name == "logsumexp" else shape)
    assert value.dtype == fmt.dtype
    np.testing.assert_array_equal(value, DIRECT[name](x))


def test_what_scipy_widens_or_does_not_know_is_not_run():
    assert SCIPY.reason(get_formula("sigmoid"), FLOAT16, "value") == "SciPy answers float64 for float16"
    assert "bfloat16 is no type of NumPy's own" in SCIPY.reason(get_formula("tanh"), BFLOAT16, "special")
    assert SCIPY.reason(get_formula("tanh"), FLOAT16, "value") == ""
    assert SCIPY.reason(get_formula("tanh"), FLOAT64, "derivative") == "scipy has no derivative of tanh"
    assert SCIPY.reason(get_formula("relu"), FLOAT64, "value") == "scipy does not provide relu"
    assert SCIPY.checks(get_formula("relu")) == ()
    with pytest.raises(UsageError, match="does not provide relu"):
        SCIPY.implement(get_formula("relu"), FLOAT64)


def test_softplus_has_no_threshold():
    made = SCIPY.implement(get_formula("softplus"), FLOAT64)
    assert made.options == {"threshold": math.inf}
    value = made.forward((X,), {"beta": 2.0, "threshold": math.inf})
    np.testing.assert_array_equal(value, np.logaddexp(0, 2 * X) / 2)
    with pytest.raises(UsageError, match=r"threshold=20\.0"):
        made.forward((X,), {"threshold": 20.0})


@pytest.mark.parametrize("name", sorted(CALLS))
def test_reproductions_print_what_was_got(name):
    x = X.astype(np.float32)
    made = SCIPY.implement(get_formula(name), FLOAT32)
    program = made.reproduce("value", (x,), None, made.options)
    assert "gradcheck" not in program
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    expected = [value.hex() for value in made.forward((x,), {}).astype(np.float64).ravel().tolist()]
    assert done.stdout.strip() == str(expected)
    with pytest.raises(UsageError, match="value only"):
        made.reproduce("derivative", (x,), x, {})
