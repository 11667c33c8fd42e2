"""`gradcheck.check` on JAX functions: wrong ones are caught, right ones and settings left in peace."""

from __future__ import annotations

import collections
import dataclasses

import numpy as np
import pytest

import gradcheck
from gradcheck.errors import UsageError

jax = pytest.importorskip("jax", reason="JAX is not installed: `make test-jax` tests what needs it")

import jax.numpy as jnp  # noqa: E402

from tests.blackbox.jax_operations import RIGHT, WRONG, X, custom_vjp, normal  # noqa: E402

# Machines are shared and slow: what a check finds must not depend on how fast it is.
SECONDS = 120.0
# Numbers as they come, near and at the places where code branches, and large ones.
REGIMES = {
    "as given": lambda x: x,
    "halves": lambda x: jnp.round(2 * x) / 2,
    "large": lambda x: 64 * x,
}
FULL = ("jax.nn.softplus", "jnp.matmul", "a custom_vjp cube", "trees", "an embedding", "lax.scan")


def moved(inputs, change):
    return jax.tree.map(lambda x: change(x) if getattr(x, "dtype", None) == jnp.float32 else x, inputs)


@pytest.fixture(autouse=True)
def the_same_settings():
    before = dict(jax.config.values)
    yield
    assert jax.config.values == before


@pytest.mark.parametrize("operation", WRONG, ids=lambda operation: operation.name)
def test_a_wrong_operation_is_caught(operation):
    result = gradcheck.check(
        operation.f, *operation.inputs, checks=operation.checks, max_seconds=SECONDS, **operation.keywords
    )
    assert result.findings, result


@pytest.mark.parametrize("regime", REGIMES)
@pytest.mark.parametrize("operation", RIGHT, ids=lambda operation: operation.name)
def test_a_right_operation_is_not_accused(operation, regime):
    inputs = moved(operation.inputs, REGIMES[regime])
    if "domain" in operation.keywords:
        inputs = moved(inputs, lambda x: jnp.abs(x) + 0.125)
    checks = ("jacobian", "values", "cotangents") if regime == "as given" else ("jacobian",)
    result = gradcheck.check(operation.f, *inputs, checks=checks, max_seconds=SECONDS, **operation.keywords)
    assert not result.findings and result.compared, result


@pytest.mark.parametrize("name", FULL)
def test_a_right_operation_passes_all_checks(name):
    (operation,) = (each for each in RIGHT if each.name == name)
    result = gradcheck.check(operation.f, *operation.inputs, max_seconds=SECONDS, **operation.keywords)
    assert result.ok, result


@pytest.mark.parametrize(
    ("f", "check"),
    [
        # x³ overflows in float16 from 41 on, and its slope times that of tanh is then NaN.
        (jax.nn.gelu, "formats"),
        # Where all numbers are equal the slope of the square root is infinite, and times zero NaN.
        (jnp.std, "values"),
    ],
)
def test_a_fault_of_jax_is_found(f, check):
    assert gradcheck.check(f, X, checks=check, max_seconds=SECONDS).findings


def test_float64_is_allowed_for_the_check_alone():
    assert not jax.config.jax_enable_x64
    seen = set()

    def f(x):
        seen.add(str(x.dtype))
        return x * 2

    result = gradcheck.check(f, X, checks=("jacobian", "formats"), max_seconds=SECONDS)
    assert result.ok and {"float64", "float32", "bfloat16", "float16"} <= seen
    assert any("float64 was allowed" in note for note in result.notes)
    assert jnp.ones(2).dtype == jnp.float32


def test_narrow_formats_are_computed_with_the_callers_setting():
    seen = {}

    def f(x):
        seen.setdefault(str(x.dtype), str((jnp.arange(3) + 0).dtype))
        return x * 2

    gradcheck.check(f, X, checks=("jacobian", "formats"), max_seconds=SECONDS)
    assert seen["float64"] == "int64" and seen["float32"] == seen["float16"] == "int32"


def test_a_function_of_float32_alone_is_checked_in_float32():
    def only(right):
        def f(x):
            if x.dtype != jnp.float32:
                raise TypeError(f"expected float32, got {x.dtype}")
            return custom_vjp(lambda x: x**2, lambda s, g: ((2.0 if right else 2.2) * g * s[0],))(x)

        return f

    same = {"checks": ("jacobian", "cotangents"), "max_seconds": SECONDS}
    result = gradcheck.check(only(True), X, **same)
    assert not result.findings, result
    assert any("takes no float64" in note for note in result.notes)
    assert gradcheck.check(only(False), X, **same).findings


def test_forward_mode_is_compared_and_its_absence_told():
    assert gradcheck.check(jnp.sin, X, checks="forward", max_seconds=SECONDS).compared
    cube = custom_vjp(lambda x: x**3, lambda s, g: (3 * g * s[0] ** 2,))
    result = gradcheck.check(cube, X, checks="forward", max_seconds=SECONDS)
    assert not result.findings and any("no forward mode" in note for note in result.notes)


@dataclasses.dataclass
class Plain:
    w: object
    n: int = 2


@jax.tree_util.register_pytree_node_class
class Registered:
    def __init__(self, w):
        self.w = w

    def tree_flatten(self):
        return (self.w,), None

    @classmethod
    def tree_unflatten(cls, aux, children):
        return cls(*children)


Pair = collections.namedtuple("Pair", "a b")


@pytest.mark.parametrize(
    ("f", "inputs"),
    [
        (lambda p: p.a * p.b["c"], (Pair(X, {"c": X}),)),
        (lambda p: p.w * p.n, (Plain(X),)),
        (lambda p: {"y": (jnp.sin(p.w), 3, None)}, (Registered(X),)),
        (lambda p, n: Registered(p[0] * n), ([X], 2)),
        (lambda key, x: x * jax.random.normal(key, x.shape), (jax.random.key(0), X)),
        (lambda x, at: x[at], (X, np.array([0, 2]))),
    ],
    ids=["named tuple", "dataclass", "registered", "output", "key", "NumPy indices"],
)
def test_containers_keys_and_integers(f, inputs):
    result = gradcheck.check(f, *inputs, checks=("state", "jacobian"), max_seconds=SECONDS)
    assert result.ok and result.compared, result


@pytest.mark.parametrize(
    ("call", "complaint"),
    [
        (lambda: gradcheck.check(jnp.sin, jnp.arange(3)), "at least one floating-point array"),
        (lambda: gradcheck.check(jnp.sin, jnp.ones(2, jnp.complex64)), "is complex"),
        (lambda: gradcheck.check(lambda x: None, X), "returns at least one floating-point array"),
        (lambda: gradcheck.check(lambda x: jnp.argmax(x), X), "nothing can be differentiated"),
        (lambda: gradcheck.check(lambda x, y: x, X), "fails at the example inputs: TypeError"),
        (lambda: gradcheck.check(lambda x: exit(3), X), "fails at the example inputs: SystemExit"),
        (lambda: gradcheck.check(jnp.sin, X, vjp=lambda i, g: g), "vjp"),
    ],
)
def test_what_cannot_be_checked_gets_a_clear_answer(call, complaint):
    with pytest.raises(UsageError, match=complaint):
        call()


def test_a_result_that_leaves_jax_is_a_finding():
    result = gradcheck.check(lambda x: np.sin(x), X, checks="jacobian", max_seconds=SECONDS)
    assert [finding.code for finding in result.findings] == ["SUBJECT-RAISED"], result


def test_a_reproduction_runs_by_itself():
    f = custom_vjp(lambda x, w: x * w, lambda s, g: (g * s[1], 2 * g * s[0]))
    result = gradcheck.check(f, X, normal(3, 4, seed=5), checks="jacobian", max_seconds=SECONDS)
    program = result.findings[0].reproduction.replace("f = ...", "f = given")
    assert "gradcheck" not in program
    said = []
    before = jax.config.jax_enable_x64
    try:
        exec(program, {"given": f, "print": lambda *words: said.append(words)})
    finally:
        jax.config.update("jax_enable_x64", before)
    assert float(said[0][1]) == pytest.approx(2 * said[1][1], rel=1e-9)


def test_isolated_the_function_is_imported_in_fresh_interpreters():
    result = gradcheck.check(jnp.sin, X, isolate=True, checks=("state", "jacobian"), max_seconds=SECONDS)
    assert result.ok, result
    with pytest.raises(UsageError, match="define it in a module"):
        gradcheck.check(lambda x: x * 2, X, isolate=True)
