"""The corpus against mpmath, apart from the checker: good variants are good, and every liar really lies."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from mpmath import mp

from gradcheck.formats import FLOAT64, Format, get_format
from gradcheck.formulas import CATALOGUE
from gradcheck.records import Array, Formula
from gradcheck.subjects.implementation import Implementation
from tests import mutants
from tests.correct import CORRECT, Correct
from tests.honest import ELEMENTWISE, SEVERAL, honest, rounded, wide
from tests.liars import LIARS, Liar
from tests.probes import edges, grid, pool
from tests.truth import KINKS, exact

ACTIVATIONS = [f for f in CATALOGUE if f.elementwise and f.inputs == ("x",)]

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


def in_units(formula: str, fmt: Format, x: Array, got: list[Array], **options: float) -> list[float]:
    """Return per order the largest error in units of u (|f| + |x f'|) + η (1 + |x|), against good float64."""
    triple, wider = ELEMENTWISE[formula], wide(x)
    with np.errstate(all="ignore"):
        f = [
            triple.value(wider, **options),
            triple.derivative(wider, **options),
            triple.second(wider, **options),
        ]
        above, below = (triple.second(wider * (1 + s), **options) for s in (1e-6, -1e-6))
        slopes = [np.abs(wider * f[1]), np.abs(wider * f[2]), np.abs(above - below) / 2e-6]
        floor = (1 + np.minimum(np.abs(wider), 50)) * fmt.least_subnormal
        worst = []
        for value, slope, result in zip(f, slopes, got, strict=False):
            error = np.where(fmt.round(value) == wide(result), 0.0, np.abs(wide(result) - value))
            worst.append(float(np.max(error / (fmt.roundoff * (np.abs(value) + slope) + floor))))
    return worst


def answers(variant: Implementation, x: Array, options: dict[str, float]) -> list[Array]:
    """Return the orders that the variant has, along cotangents and directions of one."""
    ones = np.ones_like(x)
    results = [variant.forward((x,), options)]
    if variant.vjp is not None:
        results.append(variant.vjp((x,), ones, options)[0])  # type: ignore[arg-type]
    if variant.second is not None:
        second = variant.second((x,), ones, (ones,), options)[0]
        results.append(np.zeros_like(x) if second is None else second)
    return results


OPTIONS: dict[str, tuple[dict[str, float], ...]] = {
    "leaky_relu": ({}, {"negative_slope": 0.75}),
    "elu": ({}, {"alpha": 2.5}),
    "celu": ({}, {"alpha": 0.375}),
    "softplus": ({}, {"beta": 0.25, "threshold": 12.0}),
    "hardtanh": ({}, {"min_val": -0.5, "max_val": 3.0}),
}
VARIANTS = [(c, fmt) for c in CORRECT for fmt in c.formats if not c.naive and c.formula in ELEMENTWISE]


def probes_of(variant: Correct, fmt: Format) -> Array:
    """Return the probes of a variant: a few of them where it is slow."""
    x = pool(variant.formula, fmt)
    return x[:300] if variant.slow else x


@pytest.mark.parametrize(("variant", "fmt"), VARIANTS, ids=[f"{c.name}-{fmt}" for c, fmt in VARIANTS])
def test_every_variant_is_correct_over_the_whole_range(variant: Correct, fmt: str) -> None:
    form = get_format(fmt)
    x = probes_of(variant, form)
    for options in OPTIONS.get(variant.formula, ({},)):
        kinks = [*KINKS.get(variant.formula, ()), *(options.values())]
        if variant.formula == "softplus":
            kinks.append(options.get("threshold", 20.0) / options.get("beta", 1.0))
        smooth = np.isfinite(wide(x)) & ~np.isin(wide(x), kinks)
        results = answers(variant.implement(form), x, options)
        errors = in_units(variant.formula, form, x[smooth], [r[smooth] for r in results], **options)
        assert max(errors) <= 2 * FEW_ULP, errors


ODD = ("tanh", "softsign", "silu", "gelu", "gelu_tanh", "mish", "elu", "celu", "hardswish")


@pytest.mark.parametrize(("variant", "fmt"), VARIANTS, ids=[f"{c.name}-{fmt}" for c, fmt in VARIANTS])
def test_every_variant_keeps_nan_the_limits_and_the_sign_of_zero(variant: Correct, fmt: str) -> None:
    form = get_format(fmt)
    x = rounded(form, np.array([np.inf, -np.inf, np.nan, 0.0, -0.0]))
    got, want = answers(variant.implement(form), x, {}), answers(honest(variant.formula, form), x, {})
    rest = 1 if "torch" in variant.name else 3  # torch's derivatives at NaN are 0 or 1: a choice, not a limit
    for result, right in zip(got[:rest], want[:rest], strict=False):
        ends, ends_wanted = wide(result)[:3], wide(right)[:3]
        few = 8 * form.roundoff * np.abs(np.nan_to_num(ends_wanted))
        with np.errstate(invalid="ignore"):
            assert np.all(
                (ends == ends_wanted)
                | (np.isnan(ends) & np.isnan(ends_wanted))
                | (np.abs(ends - ends_wanted) <= few)
            )
    if variant.formula in ODD:
        assert np.array_equal(np.signbit(wide(got[0])[3:]), [False, True])


@pytest.mark.parametrize("formula", ACTIVATIONS, ids=lambda f: f.name)
def test_the_ground_has_the_limits_that_the_catalogue_states(formula: Formula) -> None:
    assert formula.limits is not None
    ends = np.array([-np.inf, np.inf])
    for got, want in zip(
        answers(honest(formula.name, FLOAT64), ends, {}), formula.limits(**formula.complete({})), strict=True
    ):
        assert got == pytest.approx(np.array(want), rel=4 * FLOAT64.roundoff, abs=0)


@pytest.mark.parametrize("formula", [*ELEMENTWISE, *SEVERAL])
def test_every_formula_has_three_correct_variants(formula: str) -> None:
    assert len([c for c in CORRECT if c.formula == formula and not c.naive]) >= 3


def test_variants_of_several_arrays_agree_with_sums_that_are_rounded_once() -> None:
    for variant in (c for c in CORRECT if c.formula in SEVERAL):
        for fmt in map(get_format, variant.formats):
            inputs = next(inputs_of(variant.formula, fmt, 10, np.empty(0, fmt.dtype)))
            truth, mine = honest(variant.formula, fmt), variant.implement(fmt)
            c = cotangent(truth.forward(inputs, {}).shape, fmt, 1)
            want, got = (each.vjp(inputs, c, {}) for each in (truth, mine))  # type: ignore[misc]
            pairs = zip((truth.forward(inputs, {}), *want), (mine.forward(inputs, {}), *got), strict=True)
            for right, result in pairs:
                error = np.abs(wide(result) - wide(right))
                assert np.all(error <= 64 * fmt.roundoff * np.max(np.abs(wide(right)))), variant.name


@pytest.mark.parametrize("order", (0, 1, 2))
@pytest.mark.parametrize("formula", ACTIVATIONS, ids=lambda f: f.name)
def test_the_texts_that_mutants_start_from_agree_with_mpmath(formula: Formula, order: int) -> None:
    text = (formula.value, formula.derivative, formula.second)[order]
    assert text is not None
    x = smooth_points(formula.name)
    got = np.broadcast_to(mutants.evaluated(text, formula, x), x.shape)
    assert error_in_ulp(formula.name, order, got, x) <= FEW_ULP


def test_mutants_are_many_different_and_the_same_in_every_run() -> None:
    chosen = mutants.sample()
    assert len(chosen) >= 45
    assert len({mutant.formula for mutant in chosen}) >= 15
    assert len(mutants.counts(chosen)) >= 9
    assert len({mutant.name for mutant in mutants.all_mutants()}) == len(mutants.all_mutants())
    assert len(mutants.equivalent()) + len(mutants.different()) == len(mutants.all_mutants())
    mutants.all_mutants.cache_clear()
    assert [m.name for m in mutants.sample()] == [m.name for m in chosen]


@pytest.mark.parametrize("mutant", mutants.sample(), ids=lambda m: m.name)
def test_a_mutant_answers_unlike_the_truth(mutant: mutants.Mutant) -> None:
    liar = mutants.as_liar(mutant)
    subject, truth = liar.implement(FLOAT64), honest(liar.formula, FLOAT64)
    (order,) = ORDER[liar.where]
    sets = mutants.OPTION_SETS.get(liar.formula, ({},))
    assert any(suspects(subject, truth, order, options).size for options in sets)
