"""JAX as it is timed: programs that `jax.jit` compiled ahead, on the CPU, waited for to the end."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from gradcheck.records import Array, Formula
from gradcheck.subjects.implementation import plain_options
from gradcheck.subjects.jax import CALLS

Call = Callable[[], Any]


def absence() -> str:
    """Return why nothing can be timed; empty if something can."""
    try:
        import jax  # noqa: F401 - whether it is there is what is asked
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in ("jax", "jaxlib"):
            raise
        return 'jax is not installed: pip install "gradcheck[jax]"'
    return ""


def missing(formula: Formula) -> str:
    """Return why JAX has no such function; empty if it has."""
    return "" if formula.name in CALLS else f"jax does not provide {formula.name}"


def function_of(formula: Formula, options: Mapping[str, Any]) -> Callable[..., Any]:
    """Return JAX's call for a formula as a function of arrays, its options bound."""
    import jax
    import jax.numpy as jnp

    call = CALLS[formula.name]
    names = {"jax": jax, "jnp": jnp, **plain_options(formula, {**options, **call.fixed}, call.fixed)}
    return eval(f"lambda {', '.join(formula.inputs)}: {call.text}", names)  # type: ignore[no-any-return]


def jitted(
    function: Callable[..., Any], inputs: Sequence[Array], places: Sequence[int], cotangent: Array | None
) -> tuple[Call, int]:
    """Return the compiled call and the bytes that it holds beyond its inputs; with a cotangent, gradients."""
    import jax
    import jax.numpy as jnp

    def gradients(given: Sequence[Any], along: Any) -> Any:
        def of_leaves(*leaves: Any) -> Any:
            filled = list(given)
            for place, leaf in zip(places, leaves, strict=True):
                filled[place] = leaf
            return function(*filled)

        return jax.vjp(of_leaves, *(given[place] for place in places))[1](along)

    with jax.enable_x64(True), jax.default_device(jax.local_devices(backend="cpu")[0]):
        given = tuple(jnp.array(array, copy=True) for array in inputs)
        if cotangent is None:
            arguments: tuple[Any, ...] = given
            program = jax.jit(function).lower(*given).compile()
        else:
            arguments = (given, jnp.array(cotangent, copy=True))
            program = jax.jit(gradients).lower(*arguments).compile()
    memory = program.memory_analysis()
    held = -1 if memory is None else int(memory.temp_size_in_bytes + memory.output_size_in_bytes)
    return (lambda: jax.block_until_ready(program(*arguments))), held


def result(value: Any) -> tuple[Array, ...]:
    """Return what a call returned as arrays."""
    return tuple(np.asarray(part) for part in (value if isinstance(value, tuple | list) else (value,)))


OPERATIONS = {
    "tanh": "jnp.tanh(x)",
    "softmax": "jax.nn.softmax(x.reshape(-1, 8), -1)",
    "batch norm": "(lambda z: (z - z.mean(0)) / jnp.sqrt(z.var(0) + 1e-5))(x.reshape(-1, 4))",
}


def check_grads_call(name: str, x: Array) -> Call:
    """Return the call of `jax.test_util.check_grads` on an operation at x, in reverse mode."""
    import jax
    import jax.numpy as jnp
    from jax.test_util import check_grads

    f = eval(f"lambda x: {OPERATIONS[name]}", {"jax": jax, "jnp": jnp})

    def call() -> None:
        with jax.enable_x64(True):
            check_grads(f, (jnp.asarray(x),), order=1, modes=("rev",))

    return call
