"""JAX's compiled programs compute what the references do, in both directions, and are waited for."""

from __future__ import annotations

import numpy as np
import pytest

from gradcheck.bench.contenders import CannotRun, prepare
from gradcheck.bench.document import BACKWARD, FORWARD, JIT, NUMPY, Lane, Task
from gradcheck.bench.problems import problem
from gradcheck.formats import get_format
from gradcheck.formulas import get_formula
from gradcheck.subjects import jax_bench

pytest.importorskip("jax", reason="JAX is not installed: `make test-jax` tests what needs it")


def outputs(implementation: str, name: str, fmt: str, direction: str) -> tuple[object, ...]:
    task = Task(name, fmt, 256, direction)
    given = problem(get_formula(name), get_format(fmt), task.size, direction)
    return prepare(Lane(implementation), task, given, None).outputs


# Whether it is the same formula, in few of its format's roundings over sums of some hundred terms; how well
# it is computed is for `verify` to judge.
@pytest.mark.parametrize("direction", [FORWARD, BACKWARD])
@pytest.mark.parametrize(("fmt", "rtol"), [("float64", 1e-9), ("float32", 1e-3)])
@pytest.mark.parametrize("name", ["gelu", "dense", "softmax"])
def test_a_compiled_program_computes_the_formula(name: str, fmt: str, rtol: float, direction: str) -> None:
    for theirs, mine in zip(
        outputs(JIT, name, fmt, direction), outputs(NUMPY, name, fmt, direction), strict=True
    ):
        assert theirs is not None
        assert np.asarray(theirs).dtype == np.dtype(fmt)
        np.testing.assert_allclose(theirs, mine, rtol=rtol, atol=rtol / 10)


def test_the_compiler_says_what_a_program_holds() -> None:
    given = problem(get_formula("gelu"), get_format("float32"), 1024, FORWARD)
    ready = prepare(Lane(JIT, 0), Task("gelu", "float32", 1024), given, None)
    assert ready.peak >= 4096
    assert ready.setup > 0


def test_what_jax_does_not_have_says_so() -> None:
    with pytest.raises(CannotRun, match="jax does not provide dropout"):
        outputs(JIT, "dropout", "float32", FORWARD)


@pytest.mark.parametrize("operation", jax_bench.OPERATIONS)
def test_every_operation_passes_jax_own_check(operation: str) -> None:
    jax_bench.check_grads_call(operation, np.random.default_rng(3).normal(size=16))()
