"""A user's JAX function as the black-box checks see it; JAX's own transformations give the gradients."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from gradcheck.subjects.array_function import ArrayFunction, Arrays, Met, floating, places, restored


def array_of(array: Any) -> Any:
    """Return an array as JAX has it, of its own type."""
    import jax

    with jax.enable_x64(True):
        return jax.numpy.asarray(array)


def jax_function(f: Callable[..., Any], inputs: Sequence[Any], keywords: Mapping[str, Any]) -> ArrayFunction:
    """Return a JAX function as the checks see it; everything is evaluated with 64 bits enabled."""
    import jax

    leaves = places(inputs)
    active = [k for k, leaf in enumerate(leaves) if leaf.active]

    def of_active(arrays: Arrays) -> Callable[..., Any]:
        def call_active(*moving: Any) -> Any:
            placed = list(arrays)
            for k, x in zip(active, moving, strict=True):
                placed[k] = x
            return f(*placed, **keywords)

        return call_active

    def call(arrays: Arrays) -> Any:
        with jax.enable_x64(True):
            return f(*map(jax.numpy.asarray, arrays), **keywords)

    def pull(arrays: Arrays, cotangent: Any) -> Sequence[Any]:
        with jax.enable_x64(True):
            given = tuple(map(jax.numpy.asarray, arrays))
            _, back = jax.vjp(of_active(given), *(given[k] for k in active))
            return tuple(back(jax.tree.map(jax.numpy.asarray, cotangent)))

    def second(arrays: Arrays, cotangent: Any, parts: Any) -> Sequence[Any]:
        with jax.enable_x64(True):
            given = tuple(map(jax.numpy.asarray, arrays))
            first = jax.tree.map(jax.numpy.asarray, cotangent)

            def gradient(*moving: Any) -> Any:
                return jax.vjp(of_active(given), *moving)[1](first)

            _, back = jax.vjp(gradient, *(given[k] for k in active))
            return tuple(back(tuple(map(jax.numpy.asarray, parts))))

    def batch(arrays: Arrays) -> Any:
        with jax.enable_x64(True):
            return jax.vmap(lambda *each: f(*each, **keywords))(*map(jax.numpy.asarray, arrays))

    return ArrayFunction(call, pull, leaves, Met(), floating, restored, batch=batch, second=second)
