"""Systematic mutants of the formulas of several inputs: one operation of the text done otherwise.

Their texts call each other and are made by functions, so it is no source that is changed but what the text
does: it runs on arrays that count the operations, and one operation of the run gives another result. Whether
a mutant computes another function at all is decided here in plain float64 on cases that this file draws for
itself: one that stays within 1e-9 of the original is *equivalent*, counted, and not used.
"""

from __future__ import annotations

import hashlib
import random
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np
from numpy.lib.mixins import NDArrayOperatorsMixin

from gradcheck.arithmetic.exact import Exact
from gradcheck.cases import arranged, inputs_of
from gradcheck.formats import FLOAT64, Format, widen
from gradcheck.formulas import CATALOGUE, get_formula
from gradcheck.records import Array, Formula, Option, Options
from gradcheck.subjects.implementation import Implementation
from tests.lying import F32, F64, Liar

EQUIVALENT_BELOW = 1e-9
# In float32 a difference of this size, relative to the largest result, is beyond every bound of the corpus.
CLEAR_IN_FLOAT32 = 1e-2
CASES = 8
_PER_TEXT = 40
SMALL = (1, 2, 3, 5, 8)
Operation = Callable[..., Any]
ORDERS = ("value", "derivative")


@dataclass(frozen=True)
class Change:
    """The operation with this number, counted along the text, is done in this way."""

    number: int
    kind: str


@dataclass(frozen=True)
class Mutant:
    """A change, and how far it moves results relative to their largest: the median over the drawn cases."""

    formula: str
    order: str
    change: Change
    description: str
    difference: float
    share: float

    @property
    def name(self) -> str:
        """The name that is the same in every run."""
        return f"{self.formula}-{self.order}-{self.change.number}: {self.description}"


def _first(a: Any, *_: Any, **__: Any) -> Any:
    return a


def _second(_: Any, b: Any) -> Any:
    return b


_UFUNCS: dict[Any, dict[str, Operation]] = {
    np.add: {"subtracts": np.subtract, "drops the first term": _second, "drops the second term": _first},
    np.subtract: {"adds": np.add, "drops the first term": lambda a, b: -b, "drops the second term": _first},
    np.multiply: {"drops the first factor": _second, "drops the second factor": _first},
    np.true_divide: {"drops the divisor": _first, "multiplies": np.multiply},
    np.sqrt: {"no root": _first},
    np.square: {"no square": np.abs},
    np.exp: {"expm1": np.expm1},
    np.log: {"log1p": np.log1p},
    np.log1p: {"log": np.log},
    np.maximum: {"minimum": np.minimum},
    np.minimum: {"maximum": np.maximum},
    np.negative: {"keeps the sign": _first},
    np.absolute: {"keeps the sign": _first},
    np.sign: {"no sign": _first},
    np.matmul: {"off by 1e-6": lambda a, b: np.matmul(a, b) * (1 + 1e-6)},
    np.tanh: {"arctan": np.arctan},
}


def _over_one_less(*arguments: Any, **keywords: Any) -> Any:
    """Return the variance over n - 1, which is 0/0 of a single value."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        return np.var(*arguments, **keywords, ddof=1)


_FUNCTIONS: dict[Any, dict[str, Operation]] = {
    np.mean: {"sum": np.sum},
    np.sum: {"mean": np.mean, "off by 1e-6": lambda *a, **k: np.sum(*a, **k) * (1 + 1e-6)},
    np.var: {
        "divides by n - 1": lambda *a, **k: _over_one_less(*a, **k),
        "root": lambda *a, **k: np.std(*a, **k),
    },
    np.max: {"min": np.min},
    np.min: {"max": np.max},
    np.where: {
        "takes the first always": lambda m, a, b: a + 0 * b,
        "takes the second always": lambda m, a, b: b + 0 * a,
    },
    np.einsum: {"off by 1e-6": lambda *a, **k: np.einsum(*a, **k) * (1 + 1e-6)},
}
_ANY: dict[str, Operation] = {"off by 1e-6": lambda y: y * (1 + 1e-6)}


class _Run:
    """One evaluation of a text: operations are counted, and one of them may be changed."""

    def __init__(self, change: Change | None = None) -> None:
        self.change, self.count = change, 0
        self.seen: list[tuple[int, str, str]] = []

    def done(
        self, operation: Any, table: dict[Any, dict[str, Operation]], arguments: Any, keywords: Any
    ) -> Any:
        choices = table.get(operation)
        if choices is None:
            return operation(*arguments, **keywords)
        number, self.count = self.count, self.count + 1
        self.seen += [(number, kind, operation.__name__) for kind in choices]
        if self.change is not None and self.change.number == number:
            # Along other options the text may do another operation there, which is left as it is.
            return choices.get(self.change.kind, operation)(*arguments, **keywords)
        return operation(*arguments, **keywords)


class _Counted(NDArrayOperatorsMixin):
    """An array whose operations a run counts."""

    def __init__(self, data: Any, run: _Run) -> None:
        self.data, self.run = data, run

    shape = property(lambda self: np.shape(self.data))
    ndim = property(lambda self: np.ndim(self.data))
    size = property(lambda self: np.size(self.data))
    dtype = property(lambda self: self.data.dtype)
    T = property(lambda self: _Counted(self.data.T, self.run))

    def __getitem__(self, index: Any) -> Any:
        return _Counted(self.data[index], self.run)

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **keywords: Any) -> Any:
        assert method == "__call__"
        return _Counted(
            self.run.done(ufunc, _UFUNCS, [_plain(value) for value in inputs], keywords), self.run
        )

    def __array_function__(self, function: Any, types: Any, arguments: Any, keywords: Any) -> Any:
        given = [_plain(value) for value in arguments]
        return _Counted(self.run.done(function, _FUNCTIONS, given, keywords), self.run)


def _plain(value: Any) -> Any:
    if isinstance(value, _Counted):
        return value.data
    if isinstance(value, Exact):
        return np.float64(float(value))
    return [_plain(part) for part in value] if isinstance(value, list | tuple) and _holds(value) else value


def _holds(value: Sequence[Any]) -> bool:
    return any(isinstance(part, _Counted | Exact | list | tuple) for part in value)


def evaluated(
    formula: Formula, order: str, inputs: Sequence[Any], cotangent: Any, options: Options, run: _Run
) -> tuple[Any, ...]:
    """Return the outputs of one evaluation, in float64."""
    complete = formula.complete(options)
    lifted = [a if a.dtype.kind in "iub" else _Counted(widen(a), run) for a in inputs]
    with np.errstate(all="ignore"):
        if order == "value":
            result = formula.value(*lifted, **complete)
        else:
            assert formula.vjp is not None
            result = formula.vjp(tuple(lifted), _Counted(widen(cotangent), run), **complete)
    parts = result if isinstance(result, tuple) else (result,)
    return tuple(None if part is None else np.asarray(_plain(part), dtype=np.float64) for part in parts)


class _Dice:
    """Decisions of cases by a generator of this file's own."""

    def __init__(self, seed: int) -> None:
        self.dice = random.Random(seed)

    def size(self, low: int = 1, high: int | None = None) -> int:
        fitting = [n for n in SMALL if low <= n <= (high or 8)]
        return self.dice.choice(fitting or [low])

    def integer(self, low: int, high: int) -> int:
        return self.dice.randint(low, high)

    def choice(self, options: Sequence[Any]) -> Any:
        return self.dice.choice(list(options))

    def option(self, option: Option) -> Any:
        if option.choices:
            return self.choice(option.choices)
        if option.structural or option.low is None or option.high is None or self.dice.random() < 0.5:
            return option.default
        return round(self.dice.uniform(max(option.low, -8.0), min(option.high, 8.0)), 3)


@cache
def drawn(name: str) -> tuple[tuple[tuple[Array, ...], Any, dict[str, Any]], ...]:
    """Return inputs, cotangent and options of a few cases of the formula."""
    formula = get_formula(name)
    cases = []
    for seed in range(CASES):
        dice = _Dice(seed)
        arrangement = arranged(formula, dice)
        options = {option.name: dice.option(option) for option in formula.options} | dict(arrangement.options)
        inputs = inputs_of(formula, FLOAT64, "plain", seed, arrangement, options)
        value = evaluated(formula, "value", inputs, None, options, _Run())[0]
        cotangent = np.random.default_rng(seed).normal(size=np.shape(value))
        cases.append((inputs, cotangent, options))
    return tuple(cases)


def _moved(plain: tuple[Any, ...], changed: tuple[Any, ...]) -> float:
    """Return the largest difference of any output, relative to that output's largest number."""
    worst = 0.0
    for a, b in zip(plain, changed, strict=True):
        if a is None or b is None or not np.size(a):
            continue
        if np.shape(a) != np.shape(b):
            return np.inf
        scale = float(np.max(np.abs(a), initial=0.0, where=np.isfinite(a))) or 1.0
        with np.errstate(all="ignore"):
            both = (a == b) | (np.isnan(a) & np.isnan(b))
            gap = np.where(both, 0.0, np.abs(a - b) / scale)
        worst = max(worst, float(np.max(np.nan_to_num(gap, nan=np.inf))))
    return worst


def _of_text(formula: Formula, order: str) -> Iterator[Mutant]:
    cases = drawn(formula.name)
    plain, kinds = [], {}
    for inputs, cotangent, options in cases:
        run = _Run()
        plain.append(evaluated(formula, order, inputs, cotangent, options, run))
        kinds.update({(number, kind): f"{name}: {kind}" for number, kind, name in run.seen})
    chosen = sorted(kinds, key=lambda key: hashlib.sha256(f"{formula.name}{order}{key}".encode()).hexdigest())
    for number, kind in chosen[:_PER_TEXT]:
        change = Change(number, kind)
        gaps = []
        for (inputs, cotangent, options), expected in zip(cases, plain, strict=True):
            try:
                got = evaluated(formula, order, inputs, cotangent, options, _Run(change))
            except (ValueError, TypeError, IndexError):
                continue  # the result fits nowhere
            gaps.append(_moved(expected, got))
        if len(gaps) == len(cases):
            share = sum(gap > EQUIVALENT_BELOW for gap in gaps) / len(gaps)
            yield Mutant(formula.name, order, change, kinds[number, kind], float(np.median(gaps)), share)


def families() -> tuple[Formula, ...]:
    """Return the formulas of several inputs that the catalogue holds."""
    return tuple(formula for formula in CATALOGUE if not formula.elementwise)


@cache
def all_mutants() -> tuple[Mutant, ...]:
    """Return every mutant that was made, equivalent ones among them."""
    return tuple(
        mutant
        for formula in families()
        for order in ORDERS[: 1 + (formula.vjp is not None)]
        for mutant in _of_text(formula, order)
    )


def different() -> tuple[Mutant, ...]:
    """Return the mutants that compute another function in at least half of the drawn cases."""
    return tuple(m for m in all_mutants() if m.share >= 0.5 and m.difference > 1e-7)


def counts(mutants: Sequence[Mutant]) -> dict[str, int]:
    """Count mutants by formula."""
    return dict(Counter(mutant.formula for mutant in mutants))


@cache
def sample(per_text: int = 2) -> tuple[Mutant, ...]:
    """Return a few mutants of every text, the same in every run."""
    groups: dict[tuple[str, str], list[Mutant]] = {}
    for mutant in different():
        groups.setdefault((mutant.formula, mutant.order), []).append(mutant)
    return tuple(mutant for members in groups.values() for mutant in members[:per_text])


def implement(mutant: Mutant, fmt: Format) -> Implementation:
    """Return the implementation that computes in float64 with the change and rounds once."""
    formula = get_formula(mutant.formula)

    def outputs(order: str, inputs: Any, cotangent: Any, options: Options) -> tuple[Any, ...]:
        run = _Run(mutant.change if order == mutant.order else None)
        found = evaluated(formula, order, inputs, cotangent, options, run)
        with np.errstate(all="ignore"):
            return tuple(None if part is None else fmt.round(part).astype(fmt.dtype) for part in found)

    def forward(inputs: Any, options: Options) -> Any:
        found = outputs("value", inputs, None, options)
        return found if len(formula.outputs) > 1 else found[0]

    def vjp(inputs: Any, cotangent: Any, options: Options) -> Any:
        return outputs("derivative", inputs, cotangent, options)

    return Implementation(
        mutant.formula,
        "mutant",
        fmt,
        forward,
        vjp if formula.vjp is not None else None,
        negative_strides=False,
    )


def as_liar(mutant: Mutant) -> Liar:
    """Return the mutant as a liar of the corpus."""
    formats = (F64, F32) if mutant.difference >= CLEAR_IN_FLOAT32 else (F64,)
    liar = Liar(
        mutant.name,
        mutant.formula,
        "mutation",
        "wrong",
        lambda fmt: implement(mutant, fmt),
        mutant.order,
        formats=formats,
    )
    return replace(liar, sizes=(1000,))
