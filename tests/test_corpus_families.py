"""The corpus of formulas of several inputs, apart from the checker: every liar lies, correct ones agree."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from gradcheck.formats import FLOAT64, Format, get_format
from gradcheck.formulas import CATALOGUE
from gradcheck.records import Array
from gradcheck.subjects.implementation import Implementation
from tests.correct_families import CORRECT_FAMILIES, Correct, relaid
from tests.honest import rounded, wide
from tests.honest_families import FAMILIES, honest_family
from tests.liars_clipping import CLIPPING_LIARS
from tests.liars_layers import LAYER_LIARS
from tests.liars_losses import LOSS_LIARS
from tests.liars_normalization import NORMALIZATION_LIARS
from tests.liars_optimizers import OPTIMIZER_LIARS
from tests.lying import Liar
from tests.probes_families import PROBES, probes

FAMILY_LIARS: tuple[Liar, ...] = (
    *LAYER_LIARS,
    *NORMALIZATION_LIARS,
    *LOSS_LIARS,
    *CLIPPING_LIARS,
    *OPTIMIZER_LIARS,
)
# How far apart two answers are when rounding alone cannot be the reason, in units of the largest one's ULP.
CLEARLY = 8.0
PROBED, AGREED = 150, 12
# Correct ones agree to this share of the largest number: formats are compared in float64 only.
NEAR, NAIVELY_NEAR = 1e-9, 1e-6
HUGE = 1e100
# Numbers below it may be what a cancellation left, as at the end of a cosine.
LEAST = 1e-3
DERIVED = ("derivative", "second")
KNOWN = {formula.name for formula in CATALOGUE}


def _apart(got: Any, want: Any, fmt: Format) -> bool:
    """Whether two answers differ by more than rounding, in NaN or infinity, or in their number and shape."""
    if isinstance(want, tuple):
        return len(got) != len(want) or any(_apart(g, w, fmt) for g, w in zip(got, want, strict=True))
    if got is None or want is None:
        return (got is None) != (want is None)
    a, b = wide(got), wide(want)
    if a.shape != b.shape or np.any(np.isfinite(a) != np.isfinite(b)):
        return True
    finite = np.isfinite(b)
    if not finite.any():
        return False
    largest = np.abs(b[finite]).max()
    return bool(np.abs(a - b)[finite].max() > CLEARLY * float(fmt.ulp(np.float64(largest))))


def _cotangent(result: Any, fmt: Format) -> Array:
    return rounded(fmt, np.random.default_rng(7).normal(size=np.shape(result)))


def _answers(
    implementation: Implementation, where: str, inputs: tuple[Array, ...], c: Any, options: dict[str, Any]
) -> Any:
    if where == "derivative":
        assert implementation.vjp is not None
        return implementation.vjp(inputs, c, options)
    if where == "second":
        assert implementation.second is not None
        along = tuple(
            rounded(implementation.format, np.random.default_rng(90 + place).normal(size=np.shape(array)))
            for place, array in enumerate(inputs)
        )
        return implementation.second(inputs, c, along, options)
    return implementation.forward(inputs, options)


def _versions(liar: Liar, inputs: tuple[Array, ...], seed: int) -> Iterator[tuple[Array, ...]]:
    """Yield the inputs as the check that must find the liar has them: laid out otherwise, or with a NaN."""
    if liar.where == "layout":
        for layout in ("contiguous", "strided", "channels-last"):
            yield tuple(relaid(layout, array) for array in inputs)
    elif liar.where == "special":
        for number in (np.nan, np.inf):
            for place in (0, 1):
                changed = [array.copy() for array in inputs]
                if place < len(inputs) and changed[place].size:
                    changed[place].reshape(-1)[seed % changed[place].size] = number
                yield tuple(changed)
    else:
        yield inputs


def _lies(liar: Liar, fmt: Format) -> bool:
    subject, truth = liar.implement(fmt), honest_family(liar.formula, fmt)
    # A law is broken by a gradient, for all liars that are told so.
    where = "derivative" if liar.where == "law" else liar.where
    for seed, (drawn, options) in enumerate(probes(liar.formula, PROBED)):
        for inputs in _versions(liar, tuple(rounded(fmt, array) for array in drawn), seed):
            before = [array.copy() for array in inputs]
            own = tuple(before)
            c = _cotangent(truth.forward(own, options), fmt) if where in DERIVED else None
            want = _answers(truth, where, own, c, options)
            got = _answers(subject, where, inputs, c, options)
            written = any(a.tobytes() != b.tobytes() for a, b in zip(inputs, before, strict=True))
            if written or _apart(got, want, fmt):
                return True
    return False


@pytest.mark.parametrize("liar", FAMILY_LIARS, ids=[liar.name for liar in FAMILY_LIARS])
def test_every_liar_lies_in_every_format_that_it_names(liar: Liar) -> None:
    honest = [name for name in liar.formats if not _lies(liar, get_format(name))]
    assert not honest, liar.cause


def _near(got: Any, want: Any, near: float) -> bool:
    if isinstance(want, tuple):
        return len(got) == len(want) and all(_near(g, w, near) for g, w in zip(got, want, strict=True))
    if got is None or want is None:
        return not any(np.any(wide(each)) for each in (got, want) if each is not None)
    a, b = wide(got), wide(want)
    size = np.abs(b[np.isfinite(b)]).max(initial=LEAST)
    return a.shape == b.shape and bool(np.allclose(a, b, rtol=near, atol=near * size, equal_nan=True))


@pytest.mark.parametrize("correct", CORRECT_FAMILIES, ids=[correct.name for correct in CORRECT_FAMILIES])
def test_correct_ones_agree_with_another(correct: Correct) -> None:
    if correct.formula not in KNOWN:
        pytest.skip(f"{correct.formula} is not in the catalogue yet")
    subject, truth = correct.implement(FLOAT64), honest_family(correct.formula, FLOAT64)
    near = NAIVELY_NEAR if correct.naive else NEAR
    for drawn, options in probes(correct.formula, AGREED):
        given = {**options, **subject.options}
        inputs = tuple(np.asarray(array, np.float64) for array in drawn)
        if correct.naive and any(np.abs(array).max(initial=0.0) > HUGE for array in inputs):
            continue
        want = truth.forward(inputs, given)
        assert _near(subject.forward(tuple(a.copy() for a in inputs), given), want, near), given
        c = None if isinstance(want, tuple) else _cotangent(want, FLOAT64)
        for where in DERIVED:
            if all(getattr(each, "vjp" if where == "derivative" else where) for each in (subject, truth)):
                got, good = (_answers(each, where, inputs, c, given) for each in (subject, truth))
                assert _near(got, good, near), (where, given)


def test_names_are_unique() -> None:
    for group in (FAMILY_LIARS, CORRECT_FAMILIES):
        names = [each.name for each in group]
        assert len(names) == len(set(names))


def test_the_corpus_is_as_large_as_is_said() -> None:
    assert len(FAMILY_LIARS) >= 75
    wheres = {"value", "derivative", "second", "layout", "special", "law"}
    assert {liar.where for liar in FAMILY_LIARS} == wheres
    for formula in ("batch_norm", "layer_norm", "softmax", "clip_by_norm", "adam"):
        assert len([each for each in CORRECT_FAMILIES if each.formula == formula]) >= 4
    assert set(FAMILIES) == set(PROBES) == {each.formula for each in CORRECT_FAMILIES}
    assert {liar.formula for liar in FAMILY_LIARS} <= set(FAMILIES)
