"""Whatever a function or its inputs are: a clear answer, and the caller's world as it was."""

from __future__ import annotations

import os
import random
import sys
import warnings

import numpy as np
import pytest
import torch

import gradcheck
from gradcheck.errors import UsageError

X = np.random.default_rng(3).normal(size=(2, 3))
T = torch.from_numpy(X)
SECONDS = 60.0
QUICK = {"checks": ("state", "jacobian"), "max_seconds": SECONDS}


def pull(inputs, g):
    return (2 * inputs[0] * g,)


def square(x):
    return x * x


def numpy(f, *inputs, vjp=pull, **keywords):
    return gradcheck.check(f, *inputs, vjp=vjp, **{**QUICK, **keywords})


def codes(result):
    return {finding.code for finding in result.findings}


class Unprintable(Exception):
    def __str__(self):
        raise RuntimeError("no text")


def fail(error):
    raise error


# Inputs


@pytest.mark.parametrize(
    ("call", "complaint"),
    [
        (lambda: numpy(square, X.astype(np.int64)), "at least one floating-point array .* got int64"),
        (lambda: numpy(square, X > 0), "got bool"),
        (
            lambda: numpy(square, X.astype(object)),
            "expected an array of real numbers, got one of object",
        ),
        (lambda: numpy(square, np.array(["a"])), "got one of <U1"),
        (lambda: numpy(square, X + 0j), r"input 0 is complex \(complex128\)"),
        (lambda: numpy(square, X.astype(np.longdouble)), "longdouble|float128"),
        (lambda: numpy(square, np.array([1], "M8[s]")), "got one of datetime64"),
        (lambda: numpy(square, np.zeros(2, dtype=[("a", "f8")])), "expected an array of real numbers"),
        (lambda: numpy(square, np.ma.masked_array(X, X > 0)), "numpy.MaskedArray, which computes otherwise"),
        (
            lambda: numpy(square, [[1.0, 2.0], [3.0]]),
            "at least one array or tensor as an example input, got list",
        ),
        (lambda: numpy(square, [1.0, 2.0], framework="numpy"), "got no array; give an example such as"),
        (lambda: gradcheck.check(torch.tanh, [1.0, 2.0]), "at least one array or tensor .* got list"),
        (lambda: gradcheck.check(torch.tanh, T > 0), "at least one floating-point tensor .* torch.bool"),
        (lambda: gradcheck.check(torch.add, T, X), "inputs of several frameworks: numpy, torch"),
        (lambda: gradcheck.check(torch.tanh, T, vjp=pull), "vjp: is for NumPy functions"),
        (lambda: numpy(square, X, vjp=3), "vjp: expected a function"),
        (lambda: gradcheck.check(torch.tanh, T.to(torch.complex64)), "complex"),
        (lambda: numpy(square, np.broadcast_to(1.0, (10**6, 10**4))), "10,000,000,000 numbers"),
        (lambda: gradcheck.check(torch.tanh, torch.zeros(1).expand(10**10)), "10,000,000,000 numbers"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_inputs_that_cannot_be_checked(call, complaint):
    with pytest.raises(UsageError, match=complaint):
        call()


def test_a_matrix_of_numpy_computes_otherwise():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PendingDeprecationWarning)
        matrix = np.matrix(X)
    with pytest.raises(UsageError, match=r"numpy\.matrix, which computes otherwise"):
        numpy(square, matrix)


def test_a_container_that_holds_itself():
    loop = [X]
    loop.append(loop)
    with pytest.raises(UsageError, match="does one hold itself"):
        numpy(square, loop)


@pytest.mark.parametrize(
    "x",
    [
        X.astype(">f8"), X.astype(np.float32), X.astype(np.float16), np.float64(0.5), np.array(0.5),
        X[:, ::-1],
        np.asfortranarray(X), X[::2, 1:], np.broadcast_to(X[0], (2, 3)), np.zeros((2, 3)),
    ],
    ids=["big-endian", "float32", "float16", "scalar", "0-d", "negative stride", "column-major", "offset",
         "expanded", "zeros"],
)  # fmt: skip
def test_arrays_of_any_kind_that_are_fine(x):
    result = numpy(square, x)
    assert not result.findings and result.compared, result
    # Where all derivatives are zero there is no scale to decide by.
    assert result.ok or not np.any(x), result


def test_read_only_arrays_are_not_written_to():
    x = X.copy()
    x.flags.writeable = False
    assert numpy(square, x).ok

    def writes(x):
        x *= 1
        return x + 0.0

    assert "INPUT-MUTATED" in codes(numpy(writes, X, vjp=lambda inputs, g: (g,), checks=("layouts",)))


@pytest.mark.parametrize("x", [np.zeros((0, 3)), np.zeros(0)])
def test_an_empty_input_compares_nothing_and_says_so(x):
    for result in (numpy(square, x), gradcheck.check(torch.tanh, torch.from_numpy(x), **QUICK)):
        assert not result.findings and result.compared == 0 and not result.ok, result


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_numbers_that_are_none_in_the_example(bad):
    x = X.copy()
    x[0, 1] = bad
    for result in (numpy(square, x), gradcheck.check(square, torch.from_numpy(x), **QUICK)):
        assert not result.findings, result


def test_leaves_in_use_and_inner_nodes_of_a_graph():
    leaf = T.clone().requires_grad_()
    inner = leaf * 2
    (inner.sum() * 3).backward(retain_graph=True)
    grad, version, node = leaf.grad.clone(), leaf._version, inner.grad_fn
    assert gradcheck.check(torch.tanh, inner, **QUICK).ok
    assert gradcheck.check(torch.tanh, leaf, **QUICK).ok
    assert torch.equal(leaf.grad, grad) and leaf._version == version and inner.grad_fn is node
    inner.sum().backward()
    assert torch.equal(leaf.grad, grad + 2)


def test_a_module_keeps_its_parameters_gradients_buffers_and_mode():
    with torch.random.fork_rng(devices=[]):
        layer = torch.nn.BatchNorm1d(3).double()
    layer(torch.randn(4, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))).sum().backward()
    kept = {k: v.clone() for k, v in layer.state_dict().items()}
    grad = layer.weight.grad.clone()
    gradcheck.check(layer, torch.cat([T, T + 1]), **QUICK)
    assert all(torch.equal(v, kept[k]) for k, v in layer.state_dict().items())
    assert torch.equal(layer.weight.grad, grad) and layer.training and layer.weight.requires_grad


# Functions


@pytest.mark.parametrize(
    ("f", "complaint"),
    [
        (lambda x: None, "at least one floating-point array, got NoneType"),
        (lambda x: x > 0, "got bool; nothing can be differentiated"),
        (lambda x: x.argmax(), "nothing can be differentiated"),
        (lambda x: "text", "got str"),
        (lambda x: {}, "nothing can be differentiated"),
        (lambda x, y: x, "fails at the example inputs: TypeError"),
        (lambda x: sys.exit(3), "fails at the example inputs: SystemExit: 3"),
        (lambda x: fail(Unprintable()), r"Unprintable: \(an error that cannot be printed\)"),
        (lambda x: fail(ValueError("long " * 10_000)), "ValueError: long"),
    ],
)
def test_functions_that_cannot_be_checked(f, complaint):
    with pytest.raises(UsageError, match=complaint) as error:
        numpy(f, X)
    assert len(str(error.value)) < 1_000
    if "array" not in complaint and "str" not in complaint:
        with pytest.raises(UsageError) as error:
            gradcheck.check(f, T, **QUICK)
        assert len(str(error.value)) < 1_000


def test_a_function_that_raises_at_some_sizes_is_checked_at_the_others():
    def even(x):
        if x.shape[-1] % 2 or x.shape[0] > 4:
            raise ValueError("even rows only")
        return (x * x).sum(-1)

    x = np.random.default_rng(0).normal(size=(2, 4))
    same = {"checks": ("jacobian", "sizes"), "max_seconds": SECONDS}
    assert gradcheck.check(even, torch.from_numpy(x), **same).ok
    assert numpy(even, x, vjp=lambda inputs, g: (2 * inputs[0] * g[..., None],), **same).ok


def test_a_function_that_raises_at_some_values_is_checked_at_the_others():
    def small(x):
        if abs(x).max() > 50:
            raise OverflowError("too large")
        return x * x

    assert not numpy(small, X, checks=("jacobian", "values")).findings
    assert not gradcheck.check(small, T, checks=("jacobian", "values"), max_seconds=SECONDS).findings


def test_a_backward_pass_that_fails_is_a_finding():
    def broken(inputs, g):
        raise Unprintable

    assert codes(numpy(square, X, vjp=broken, checks="jacobian")) == {"SUBJECT-RAISED"}
    assert codes(numpy(square, X, vjp=lambda i, g: sys.exit(1), checks="jacobian")) == {"SUBJECT-RAISED"}
    for wrong in (lambda i, g: (g, g), lambda i, g: ("text",), lambda i, g: (g[0],), lambda i, g: {"a": g}):
        assert codes(numpy(square, X, vjp=wrong, checks="jacobian")), wrong


def test_what_a_function_prints_is_not_shown(capsys):
    def loud(x):
        print("x" * 100_000)
        return x * x

    assert gradcheck.check(loud, T, **QUICK).ok
    assert numpy(loud, X).ok
    assert len(capsys.readouterr().out) == 0


def test_warnings_of_a_function_are_not_raised():
    def warning(x):
        warnings.warn("old", DeprecationWarning, stacklevel=1)
        return x * x

    filters = list(warnings.filters)
    assert gradcheck.check(warning, T, **QUICK).ok and numpy(warning, X).ok
    assert warnings.filters == filters


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (lambda: np.random.seed(0), "the random state of NumPy"),
        (lambda: random.seed(0), "the random state of Python"),
        (lambda: os.environ.__setitem__("GRADCHECK_TOUCHED", "1"), "the environment"),
        (lambda: os.chdir("/"), "the working directory"),
    ],
    ids=["NumPy's seed", "Python's seed", "environment", "folder"],
)
def test_what_a_function_changes_is_found_and_put_back(change, what):
    def f(x):
        change()
        return x * x

    before = np.random.get_state()[1].copy(), random.getstate(), dict(os.environ), os.getcwd()
    for result in (numpy(f, X), gradcheck.check(f, T, **QUICK)):
        assert "STATE-CHANGED" in codes(result), result
        assert any(what in finding.message for finding in result.findings)
        now = np.random.get_state()[1], random.getstate(), dict(os.environ), os.getcwd()
        assert np.array_equal(now[0], before[0]) and now[1:] == before[1:]


def test_drawing_random_numbers_is_inconsistent_and_the_callers_generators_stay():
    before = np.random.get_state()[1].copy(), torch.random.get_rng_state()
    assert "STATE-INCONSISTENT" in codes(numpy(lambda x: x * np.random.random(), X))
    assert "STATE-INCONSISTENT" in codes(gradcheck.check(lambda x: x * torch.rand(()), T, **QUICK))
    assert np.array_equal(np.random.get_state()[1], before[0])
    assert torch.equal(torch.random.get_rng_state(), before[1])


@pytest.mark.parametrize("checks", [("jacobian",), None])
def test_the_callers_random_numbers_go_on_as_if_nothing_had_been(checks):
    def drawing(x):
        np.random.seed(5)
        np.random.standard_normal()
        random.random()
        return x * x

    np.random.seed(1)
    random.seed(1)
    # The first of a pair of normal numbers: the second is waiting.
    np.random.standard_normal()
    before = np.random.get_state(), random.getstate()
    expected = np.random.standard_normal(3), random.random()
    np.random.set_state(before[0])
    random.setstate(before[1])
    gradcheck.check(drawing, T, checks=checks, max_seconds=5)
    assert (np.random.standard_normal(3) == expected[0]).all() and random.random() == expected[1]


def test_modes_of_the_caller_stay():
    with torch.no_grad(), np.errstate(all="raise"), warnings.catch_warnings():
        warnings.simplefilter("error")
        state = np.geterr()
        assert gradcheck.check(torch.log, T.abs() + 1, **QUICK).ok
        assert numpy(square, X).ok
        assert not torch.is_grad_enabled() and np.geterr() == state


def test_returned_views_are_noted():
    result = numpy(lambda x: x, X, vjp=lambda i, g: (g,))
    assert result.ok and any("shares the memory" in note for c in result.checks for note in c.evidence.notes)


def test_isolated_an_exit_is_a_finding():
    result = gradcheck.check(lambda x: os._exit(0), T, isolate=True, **QUICK)
    assert codes(result) == {"SUBJECT-CRASHED"} and "status 0" in result.findings[0].message
    with pytest.raises(UsageError, match="SystemExit"):
        gradcheck.check(lambda x: sys.exit(2), T, isolate=True, **QUICK)
