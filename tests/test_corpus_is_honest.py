"""The corpus against mpmath, apart from the checker: good variants are good, and every liar really lies."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from mpmath import mp

from gradcheck.formats import FLOAT64, Format, get_format
from gradcheck.records import Array
from gradcheck.subjects.implementation import Implementation
from tests.honest import ELEMENTWISE, SEVERAL, honest, rounded, wide
from tests.liars import LIARS, Liar
from tests.probes import edges, grid, pool
from tests.truth import KINKS, exact

FEW_ULP = 10.0
CLEARLY = 6.0


def conditioned(formula: str, order: int, x: float, **options: float) -> float:
    """Return |f| + |x f'|: the error, in units of roundoff, of a result that is good for a neighbour of x."""
    truth = abs(exact(formula, order, x, **options))
    step = abs(x) * 1e-9 if x else 1e-300
    with mp.workdps(40):
        slope = abs(
            exact(formula, order, x + step, **options) - exact(formula, order, x - step, **options)
        ) / (2e-9)
    return float(truth + slope)


def smooth_points(formula: str) -> Array:
    """Return finite probes that are no kinks."""
    points = np.concatenate([grid(20), edges(FLOAT64)])
    return points[~np.isin(points, KINKS.get(formula, ()))]


def error_in_ulp(formula: str, order: int, got: Array, x: Array, **options: float) -> float:
    """Return the largest error over the points, in units of u (|f| + |x f'|) plus the least subnormal."""
    worst = 0.0
    for result, point in zip(got, x, strict=True):
        with mp.workdps(60):
            error = float(abs(mp.mpf(float(result)) - exact(formula, order, float(point), **options)))
        allowed = FLOAT64.roundoff * conditioned(formula, order, float(point), **options)
        worst = max(worst, error / (allowed + (1 + min(abs(point), 50.0)) * FLOAT64.least_subnormal))
    return worst


@pytest.mark.parametrize("order", (0, 1, 2))
@pytest.mark.parametrize("formula", ELEMENTWISE)
def test_the_ground_of_the_liars_agrees_with_mpmath(formula: str, order: int) -> None:
    triple = ELEMENTWISE[formula]
    x = smooth_points(formula)
    with np.errstate(all="ignore"):
        got = (triple.value, triple.derivative, triple.second)[order](x)
    assert error_in_ulp(formula, order, got, x) <= FEW_ULP


def cotangent(shape: tuple[int, ...], fmt: Format, seed: int) -> Array:
    """Return signed numbers of different sizes, now and then 0."""
    generator = np.random.default_rng(seed)
    c = generator.normal(size=shape) * np.exp2(generator.integers(-3, 3, size=shape))
    return rounded(fmt, np.where(generator.random(shape) < 0.1, 0.0, c))


def inputs_of(formula: str, fmt: Format, size: int, first: Array) -> Iterator[tuple[Array, ...]]:
    """Yield inputs of the given size in several layouts, points of `first` before others.

    For functions of several arrays, `size` is that of the batch.
    """
    if formula in SEVERAL:
        generator = np.random.default_rng(size)
        shapes: dict[str, tuple[tuple[int, ...], ...]] = {
            "prelu": ((size, 3), (3,)),
            "preactivation": ((size, 5), (5,), ()),
            "neuron": ((size, 5), (5,), ()),
            "dense": ((size, 5), (3, 5), (3,)),
        }
        for _ in range(5):
            yield tuple(rounded(fmt, generator.normal(size=shape)) for shape in shapes[formula])
        return
    values = np.concatenate([first[:200], pool(formula, fmt)])
    for i in range(0, min(len(values), 200 * max(size, 1)), max(size, 1)):
        yield (np.resize(values[i : i + size], size),)
    yield (rounded(fmt, np.linspace(-0.75, 0.75, size)),)
    x = np.resize(values, size)
    base = np.resize(values, 2 * size + 3)
    yield (base[1 : 1 + 2 * size : 2],)
    yield (base[3 : 3 + size],)
    frozen = x.copy()
    frozen.flags.writeable = False
    yield (frozen,)
    if size == 1:
        yield (x.reshape(()),)


def different(a: Array, b: Array) -> Array:
    """Where two arrays of one format differ by several ULP, in NaN or inf, or in the sign of zero."""
    fmt = get_format(b.dtype.name)
    a, b = wide(a), wide(b)
    odd = (np.isnan(a) != np.isnan(b)) | (np.isinf(a) != np.isinf(b))
    sign = (a == 0) & (b == 0) & (np.signbit(a) != np.signbit(b))
    with np.errstate(all="ignore"):
        return odd | sign | (np.abs(a - b) > CLEARLY * fmt.ulp(b))


def differs(got: Any, want: Array) -> bool:
    """Whether an answer is another than the wanted one, in type, shape, format or any element."""
    same = isinstance(got, np.ndarray) and got.shape == want.shape and got.dtype == want.dtype
    return not same or bool(np.any(different(got, want)))


ORDER = {
    "value": ("forward",),
    "derivative": ("vjp",),
    "second": ("second",),
    "layout": ("forward", "vjp"),
    "special": ("forward", "vjp"),
}


def lies(
    liar: Implementation,
    truth: Implementation,
    order: str,
    inputs: tuple[Array, ...],
    options: dict[str, float],
    seed: int,
) -> bool:
    """Whether the liar differs from the honest one, fails, writes into its arguments or aliases them."""
    extra: tuple[Any, ...] = ()
    if order != "forward":
        shape = np.shape(truth.forward(inputs, options))
        extra = (cotangent(shape, truth.format, seed),)
    if order == "second":
        extra = (
            *extra,
            tuple(rounded(truth.format, 0.5 + wide(cotangent(a.shape, truth.format, seed))) for a in inputs),
        )
    want = getattr(truth, order)(inputs, *extra, options)
    before = [array.copy() for array in (*inputs, *extra[:1])]
    try:
        got = getattr(liar, order)(inputs, *extra, options)
    except ValueError:
        return True
    pairs = zip(got, want, strict=True) if isinstance(want, tuple) else [(got, want)]
    changed = any(a.tobytes() != b.tobytes() for a, b in zip((*inputs, *extra[:1]), before, strict=True))
    aliased = isinstance(got, np.ndarray) and any(np.shares_memory(got, array) for array in inputs)
    return changed or aliased or any(differs(g, w) for g, w in pairs)


def suspects(liar: Implementation, truth: Implementation, order: str, options: dict[str, float]) -> Array:
    """Return the probes where the liar differs when it is given all of them at once."""
    x = pool(liar.formula, liar.format)
    rest: tuple[Any, ...] = () if order == "forward" else (np.ones_like(x),)
    rest = (*rest, (np.ones_like(x),)) if order == "second" else rest
    try:
        got, want = (getattr(each, order)((x.copy(),), *rest, options) for each in (liar, truth))
    except ValueError:
        return x
    got, want = (result[0] if isinstance(result, tuple) else result for result in (got, want))
    return x[different(got, want)] if got.shape == want.shape else x


CASES = [(liar, fmt) for liar in LIARS for fmt in liar.formats]


@pytest.mark.parametrize(("liar", "fmt"), CASES, ids=[f"{liar.name}-{fmt}" for liar, fmt in CASES])
def test_every_liar_lies_at_every_declared_size(liar: Liar, fmt: str) -> None:
    form = get_format(fmt)
    subject, truth, options = liar.implement(form), honest(liar.formula, form), dict(liar.options)
    orders = ORDER[liar.where]
    first = {
        o: np.empty(0, form.dtype) if liar.formula in SEVERAL else suspects(subject, truth, o, options)
        for o in orders
    }
    for size in liar.sizes:
        found = any(
            lies(subject, truth, order, inputs, options, seed)
            for order in orders
            for seed, inputs in enumerate(inputs_of(liar.formula, form, size, first[order]))
        )
        assert found, f"{liar.name} ({liar.cause}) answers like the truth in {fmt} at size {size}"
