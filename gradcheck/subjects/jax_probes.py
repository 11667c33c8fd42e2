"""What JAX's transformations can break though a Jacobian is right: cotangents, modes, batches, programs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from gradcheck.subjects.array_function import ArrayFunction, joined
from gradcheck.subjects.array_probes import linear, repeated_calls, same_numbers
from gradcheck.subjects.function import Point, Vector, one, raised_by
from gradcheck.subjects.jax_function import moving, wide
from gradcheck.subjects.probing import Found, signed


def _taken(function: ArrayFunction, point: Point) -> tuple[Any, list[Any]]:
    """Return the function of its active arrays, and these arrays."""
    import jax

    arrays = tuple(map(jax.numpy.asarray, function.arrays(point)))
    return moving(function.call, arrays, function.active), [arrays[k] for k in function.active]


def _gradients(function: ArrayFunction, point: Point, flat: Vector) -> list[Vector]:
    return [np.zeros(0) if g is None else g[0] for g in function.gradients(point, flat[None])]


def _run(call: Callable[..., Any], *arguments: Any) -> Any:
    """Return the result as of one compiled program, which is made faster than operations are one by one.

    What cannot be traced runs as it is.
    """
    import jax

    try:
        return jax.jit(call)(*arguments)
    except Exception:
        return call(*arguments)


def cotangents(function: ArrayFunction, point: Point, seed: int) -> Found:
    """The pull-back is linear in its cotangent."""
    found = Found(same=same_numbers(function))
    linear(function, point, seed, found, lambda flat: _gradients(function, point, flat))
    return found


def subsets(function: ArrayFunction, point: Point, seed: int) -> Found:
    """Each input alone is differentiated; its gradient is the one that it has together with the others."""
    import jax

    found = Found(same=same_numbers(function))
    flat = signed(seed, function.size)
    base = _gradients(function, point, flat)
    if len(base) < 2:
        found.note("one input: there is no subset to try")
        return found
    with wide(function.arrays(point)):
        for k, (place, axes) in enumerate(zip(function.active, function.inputs, strict=True)):
            arrays = tuple(map(jax.numpy.asarray, function.arrays(point)))
            parts = [jax.numpy.asarray(c) for c in function.parts(flat)]
            try:
                alone = moving(function.call, arrays, (place,))
                (gradient,) = _run(lambda x, c, f=alone: jax.vjp(f, x)[1](c), arrays[place], parts)
            except Exception as error:
                found.fault(f"where only {axes.name} is differentiated: {raised_by(error)}", "raised")
                continue
            found.compare(
                f"gradient of {axes.name} where it alone is differentiated", joined([gradient]), base[k]
            )
    return found


def forward_mode(function: ArrayFunction, point: Point, seed: int) -> Found:
    """Forward mode and reverse mode are adjoint: v·(J d) = (v·J)·d for each input."""
    import jax

    found = Found(same=same_numbers(function))
    flat = signed(seed, function.size)
    base = _gradients(function, point, flat)
    with wide(function.arrays(point)):
        for k, axes in enumerate(function.inputs):
            call, arrays = _taken(function, point)
            tangents = [jax.numpy.zeros_like(x) for x in arrays]
            direction = signed(seed + 3 + k, axes.size)
            tangents[k] = jax.numpy.asarray(direction.reshape(axes.shape), arrays[k].dtype)
            try:
                pushed = _run(lambda x, d, f=call: jax.jvp(f, x, d)[1], tuple(arrays), tuple(tangents))
            except Exception as error:
                if "custom_vjp" in str(error) or isinstance(error, NotImplementedError | TypeError):
                    found.note(f"no forward mode: {raised_by(error)}")
                else:
                    found.fault(f"forward mode: {raised_by(error)}", "raised")
                return found
            out = joined(pushed)
            got, expected = np.array([out @ flat]), np.array([base[k] @ direction])
            scale = np.array([np.abs(base[k]).sum() + np.abs(out).sum()])
            found.compare(f"forward mode along {axes.name}: v·(J d) against (v·J)·d", got, expected, scale)
    return found


def batched(function: ArrayFunction, point: Point, seed: int) -> Found:
    """Values and gradients under vmap, over cotangents and over examples, are those of a loop."""
    import jax

    found = Found(same=same_numbers(function))
    flats = np.stack([signed(seed + k, function.size) for k in range(4)])
    names = [axes.name for axes in function.inputs]
    alone = [_gradients(function, point, flat) for flat in flats]
    try:
        with wide(function.arrays(point)):
            call, arrays = _taken(function, point)
            parts = [jax.numpy.asarray(c) for c in function.parts(flats)]
            together = _run(lambda x, c: jax.vmap(jax.vjp(call, *x)[1])(c), arrays, parts)
    except Exception as error:
        found.note(f"no batched gradients: {raised_by(error)}")
    else:
        for place, (name, g) in enumerate(zip(names, together, strict=True)):
            for k, row in enumerate(np.asarray(g)):
                found.compare(f"gradient of {name} under vmap, cotangent {k}", joined([row]), alone[k][place])
    points = [point, *(_near(point, seed + k) for k in range(1, 4))]
    _of_examples(function, points, flats[0], found)
    return found


def _near(point: Point, seed: int) -> Point:
    rng = np.random.default_rng([seed, 43])
    return tuple(x * (1 + rng.integers(-8, 9, x.size) / 64.0) for x in point)


def _of_examples(function: ArrayFunction, points: list[Point], flat: Vector, found: Found) -> None:
    import jax

    dtype = function.arrays(points[0])[function.active[0]].dtype
    stacked = tuple(
        np.stack([p[k] for p in points]).reshape(len(points), *axes.shape).astype(dtype)
        for k, axes in enumerate(function.inputs)
    )
    with wide(stacked):
        call, _ = _taken(function, points[0])
        parts = [jax.numpy.asarray(c) for c in function.parts(flat)]
        try:
            values, grads = _run(
                lambda *x: (jax.vmap(call)(*x), jax.vmap(lambda *each: jax.vjp(call, *each)[1](parts))(*x)),
                *stacked,
            )
        except Exception as error:
            found.note(f"no vmap over examples: {raised_by(error)}")
            return
    for k, p in enumerate(points):
        rows = joined([np.asarray(v)[k] for v in values])
        found.compare(f"values under vmap, example {k}", rows, one(function, p))
        alone = _gradients(function, p, flat)
        for axes, g, expected in zip(function.inputs, grads, alone, strict=True):
            found.compare(
                f"gradient of {axes.name} under vmap, example {k}", joined([np.asarray(g)[k]]), expected
            )


def second_cotangent(function: ArrayFunction, point: Point, seed: int) -> Found:
    """The gradient is linear in its cotangent and carries a gradient to it: J times a direction."""
    import jax

    found = Found(same=same_numbers(function))
    flat = signed(seed, function.size)
    directions = [signed(seed + 7 + k, axes.size) for k, axes in enumerate(function.inputs)]
    with wide(function.arrays(point)):
        call, arrays = _taken(function, point)
        parts = [jax.numpy.asarray(c) for c in function.parts(flat)]
        along = tuple(
            jax.numpy.asarray(d.reshape(x.shape), x.dtype) for d, x in zip(directions, arrays, strict=True)
        )
        try:

            def pull_back(*given: Any) -> Any:
                return jax.vjp(call, *arrays)[1](list(given))

            pushed = joined(_run(lambda c, d: jax.vjp(pull_back, *c)[1](d), parts, along))
        except Exception as error:
            found.note(f"no double backward pass with respect to the cotangent: {raised_by(error)}")
            return found
    for attempt in range(3):
        other = signed(seed + 17 + attempt, function.size)
        base = _gradients(function, point, other)
        got, expected = pushed @ other, sum(float(g @ d) for g, d in zip(base, directions, strict=True))
        scale = float(np.abs(pushed).sum() + sum(np.abs(g).sum() for g in base))
        found.compare("gradient of the gradient with respect to the cotangent, times a cotangent",
                      np.array([got]), np.array([expected]), scale)  # fmt: skip
    return found


def state(
    function: ArrayFunction, point: Point, other: Point, seed: int, around: dict[str, Any] | None = None
) -> Found:
    """Calls leave the process alone and repeat themselves, also as compiled programs."""
    found = Found(same=same_numbers(function))
    repeated_calls(function, point, other, seed, around or surroundings(), surroundings, found)
    _compiled(function, point, other, found)
    return found


def _compiled(function: ArrayFunction, point: Point, other: Point, found: Found) -> None:
    import jax

    expected = [one(function, p) for p in (point, other)]
    try:
        with wide(function.arrays(point)):
            call, _ = _taken(function, point)
            program = jax.jit(call)
            got = [joined(program(*_taken(function, p)[1])) for p in (point, other)]
    except Exception as error:
        found.note(f"not under jax.jit: {raised_by(error)}")
    else:
        for said, compiled, plain in zip(("the example", "another input"), got, expected, strict=True):
            found.compare(f"the value under jax.jit, at {said}", compiled, plain)
    try:
        again = one(function, point)
    except Exception as error:
        cause = error.__cause__ or error
        found.fault(f"after it was traced by jax.jit the call fails: {raised_by(cause)}", "state")
        return
    found.compare("the same call after it was traced by jax.jit", again, expected[0])


def surroundings() -> dict[str, Any]:
    """Return the state of the process that a call could change, JAX's own settings among it."""
    import jax

    from gradcheck.subjects.process import surroundings as of_process

    settings = {f"the JAX setting {name}": repr(value) for name, value in jax.config.values.items()}
    return of_process() | settings


PROBES: dict[str, Callable[[ArrayFunction, Point, int], Found]] = {
    "cotangents": cotangents,
    "subsets": subsets,
    "forward": forward_mode,
    "batched": batched,
    "second cotangent": second_cotangent,
}
