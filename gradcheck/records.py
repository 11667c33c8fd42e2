"""The nouns that every other module speaks: formulas, cases, estimates, evidence, verdicts, findings."""

from __future__ import annotations

import enum
import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Protocol

from gradcheck.errors import UsageError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from gradcheck.formats import Format

    Array = NDArray[Any]
else:
    # The command line reads runs and prints help without paying for NumPy.
    Array = Any

Text = Callable[..., Any]
Options = Mapping[str, Any]


class Verdict(enum.StrEnum):
    """What a check concludes; a closed set."""

    ACCURATE = "accurate"
    AGREES = "agrees"
    CONSISTENT = "consistent"
    UNSTABLE = "unstable"
    WRONG = "wrong"
    INCONSISTENT = "inconsistent"
    VACUOUS = "vacuous"
    INCONCLUSIVE = "inconclusive"
    NOT_RUN = "not run"

    @property
    def passed(self) -> bool:
        """Whether the subject did what it should."""
        return self in (Verdict.ACCURATE, Verdict.AGREES, Verdict.CONSISTENT)

    @property
    def is_finding(self) -> bool:
        """Whether a person must read it."""
        return self in (Verdict.UNSTABLE, Verdict.WRONG, Verdict.INCONSISTENT)


class Standing(enum.StrEnum):
    """How good a way of evaluating a formula is."""

    STABLE = "stable"
    ACCEPTED = "accepted"
    UNSTABLE = "unstable"


VALUE, DERIVATIVE, SECOND = 0, 1, 2
ORDER_NAMES = ("value", "derivative", "second")


@dataclass(frozen=True)
class Variant:
    """Another text of a formula that libraries really use.

    `order` says what it computes: 0 the value, 1 the first derivative, 2 the second.
    """

    name: str
    order: int
    standing: Standing
    text: Text


@dataclass(frozen=True)
class Option:
    """A parameter of a formula: its default and the closed range that is valid and gets drawn.

    `infinite` says that +inf is valid too, though never drawn. A `structural` option shapes the computation
    (an axis, a stride, a mode): a text receives it as it is, where numbers become exact.
    """

    name: str
    default: Any
    low: float | None = None
    high: float | None = None
    choices: tuple[Any, ...] = ()
    infinite: bool = False
    structural: bool = False


class Choose(Protocol):
    """Decides shapes and structural options of a case; Hypothesis stands behind it in a run."""

    def size(self, low: int = 1, high: int | None = None) -> int:
        """Return the length of an axis: at least `low`, at most `high` and what the run asks for."""
        ...

    def integer(self, low: int, high: int) -> int:
        """Return an integer of the closed range."""
        ...

    def choice(self, options: Sequence[Any]) -> Any:
        """Return one of several things."""
        ...


@dataclass(frozen=True)
class Arrangement:
    """The shape of every input, the options that go with these shapes, and how many values an index has."""

    shapes: tuple[tuple[int, ...], ...]
    options: Mapping[str, Any] = field(default_factory=dict)
    classes: int = 1


@dataclass(frozen=True)
class Formula:
    """One reference formula of the catalogue, and everything that an oracle must know about it.

    `value`, `derivative` and `second` are texts: straight-line NumPy, evaluated in every arithmetic. An
    elementwise formula of one input has `derivative` and `second`; any other has `vjp(inputs, cotangent,
    **options)`, which returns one gradient per input. `kinks(**options)` gives the exact points where the
    derivative jumps, `limits(**options)` the pair (at -inf, at +inf) of the value, the derivative and the
    second derivative. `axes` names the axes of each input of a formula of several inputs;
    equal names have equal lengths. `textbook` is the text that the sources print, if it differs from `value`.

    Formulas of several inputs say more. `arrange(choose)` decides shapes and structural options together,
    where named axes are not enough. `kinds` says what numbers each input takes ("real", "parameter",
    "positive", "nonnegative", "unit", "interior" (of the unit), "distribution", "index", "mask", "count";
    default "real"), `families` the families of values to draw for the real ones. `constants` names inputs
    that are not differentiated: their gradient is None. `outputs` names what a value of several arrays
    returns. Where there are kinks between elements, either `touching(inputs, **options)` marks the elements
    of the first input that sit on one (with `reach`, those within that distance), or `extremes` are two
    gradient texts, the lowest and the highest of the generalised gradient. `fit(inputs, options, format,
    seed)` makes drawn inputs fit together, all of them real: a variance above the square of its mean, say.
    `refusable(shapes, options)` says where an implementation may refuse with an error: the formula is
    defined there, but a library may hold that nobody means it. Who answers is held to the truth.
    """

    name: str
    title: str
    equation: str
    source: str
    value: Text
    derivative: Text | None = None
    second: Text | None = None
    vjp: Text | None = None
    inputs: tuple[str, ...] = ("x",)
    axes: tuple[tuple[str, ...], ...] = ()
    options: tuple[Option, ...] = ()
    variants: tuple[Variant, ...] = ()
    kinks: Callable[..., tuple[float, ...]] | None = None
    limits: Callable[..., tuple[tuple[float, float], ...]] | None = None
    textbook: Text | None = None
    analytic: bool = True
    domain: tuple[float, float] = (-math.inf, math.inf)
    hazards: tuple[str, ...] = ()
    article: str = ""
    family: str = ""
    arrange: Callable[[Choose], Arrangement] | None = None
    kinds: tuple[str, ...] = ()
    families: tuple[str, ...] = ()
    constants: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ("y",)
    touching: Callable[..., Any] | None = None
    extremes: tuple[Text, Text] | None = None
    fit: Callable[..., tuple[Any, ...]] | None = None
    refusable: Callable[..., bool] | None = None

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        """Evaluate the reference; arguments beyond the inputs are options, in the declared order.

        Inputs are float arrays, floats, nested lists of floats, or numbers of another arithmetic. Raises
        `UnsupportedType` for any other type and `UsageError` for shapes that do not fit together, for
        options out of range, and for `out=`: a result shares no memory with an input.
        """
        from gradcheck.inputs import admit_call

        inputs, given, narrow = admit_call(self, arguments, options)
        complete = self.complete(given)
        if narrow is None:
            return self.value(*inputs, **complete)
        from gradcheck.arithmetic.plain import evaluate
        from gradcheck.formats import get_format

        return evaluate(self.value, get_format(narrow), *inputs, **complete)

    def complete(self, options: Options) -> dict[str, Any]:
        """Return all options, the given ones over the defaults, numbers made exact."""
        from gradcheck.arithmetic.exact import exact_option

        known = {option.name: option.default for option in self.options}
        unknown = sorted(set(options) - set(known))
        if unknown:
            raise UsageError(f"{self.name} has no option {unknown[0]!r}; it has {sorted(known) or 'none'}")
        structural = {option.name for option in self.options if option.structural}
        return {
            name: value if name in structural else exact_option(value)
            for name, value in {**known, **options}.items()
        }

    def may_refuse(self, case: Case) -> bool:
        """Whether an error is an answer, too."""
        if self.refusable is None:
            return False
        return self.refusable([array.shape for array in case.inputs], self.complete(case.options))

    def kind(self, place: int) -> str:
        """Return what numbers the input at `place` takes."""
        return self.kinds[place] if self.kinds else "real"

    @property
    def differentiated(self) -> tuple[int, ...]:
        """The places of the inputs that have a gradient."""
        return tuple(place for place, name in enumerate(self.inputs) if name not in self.constants)

    @property
    def differentiable(self) -> bool:
        """Whether there is a derivative to check."""
        return self.derivative is not None or self.vjp is not None

    @property
    def elementwise(self) -> bool:
        """Whether every output element depends on the input element of the same place alone."""
        return self.derivative is not None


@dataclass(frozen=True)
class Case:
    """Inputs of one comparison, in the storage type of `format`.

    `family` names the distribution, `seed` and `detail` say how to draw the same case again. `directions`
    are for the second order; without them they are drawn from the seed.
    """

    family: str
    format: Format
    inputs: tuple[Array, ...]
    cotangent: Array | None = None
    options: Options = field(default_factory=dict)
    seed: int = 0
    layout: str = "contiguous"
    specials: int = 0
    detail: str = ""
    directions: tuple[Array, ...] = ()


@dataclass(frozen=True)
class Estimate:
    """An oracle's answer: the truth lies within `radius` of `high + low` (an unevaluated sum)."""

    high: NDArray[np.float64]
    low: NDArray[np.float64]
    radius: NDArray[np.float64]


@dataclass(frozen=True)
class Worst:
    """The element that a person should look at first; numbers are exact float64."""

    input: tuple[float, ...]
    got: float
    expected: float
    error: float
    bound: float
    ulp: float
    index: int = 0
    size: int = 1
    context: str = ""

    @property
    def severity(self) -> float:
        """Error over bound, so that elements of any magnitude compare; NaN and 0/0 count as infinite."""
        ratio = self.error / self.bound if self.bound else (math.inf if self.error else 0.0)
        return math.inf if math.isnan(ratio) else ratio


@dataclass(frozen=True)
class Evidence:
    """What one check saw. The verdict is computed from it and never stored as an opinion.

    `outside` counts the elements beyond the bound of the stable, the accepted and the unstable texts;
    `breaches` those that break the semantics of NaN, inf, zero's sign, shape or format, by kind.
    """

    compared: int = 0
    outside_stable: int = 0
    outside_accepted: int = 0
    outside_unstable: int = 0
    breaches: Mapping[str, int] = field(default_factory=dict)
    undecided: int = 0
    cases: int = 0
    vacuous_cases: int = 0
    ulp: float = 0.0
    resolution: float = 0.0
    label: str = "largest found"
    worst: Worst | None = None
    explained_by: tuple[str, ...] = ()
    families: Mapping[str, int] = field(default_factory=dict)
    binades: Mapping[str, int] = field(default_factory=dict)
    specials: int = 0
    options: Options = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    black_box: bool = False
    unfinished: bool = False

    @property
    def verdict(self) -> Verdict:
        """The verdict that these counts allow.

        A black box has no bound: it is consistent with itself to the stated resolution, or it is not. One
        entry in ten may stay undecided, at points where no difference quotient settles.
        """
        if self.black_box:
            return self._of_black_box()
        if self.outside_unstable or sum(self.breaches.values()):
            return Verdict.WRONG
        if self.outside_accepted:
            return Verdict.UNSTABLE
        if self.compared == 0 or self.vacuous_cases == self.cases:
            return Verdict.VACUOUS
        if self.undecided:
            return Verdict.INCONCLUSIVE
        return Verdict.AGREES if self.outside_stable else Verdict.ACCURATE

    def _of_black_box(self) -> Verdict:
        if self.outside_unstable or sum(self.breaches.values()):
            return Verdict.INCONSISTENT
        if self.unfinished or 10 * self.undecided > self.compared:
            return Verdict.INCONCLUSIVE
        return Verdict.CONSISTENT if self.compared else Verdict.VACUOUS

    def merge(self, other: Evidence) -> Evidence:
        """Return the evidence of both: counts add, the worst element survives, NaN counts as worst."""
        return replace(
            self,
            compared=self.compared + other.compared,
            outside_stable=self.outside_stable + other.outside_stable,
            outside_accepted=self.outside_accepted + other.outside_accepted,
            outside_unstable=self.outside_unstable + other.outside_unstable,
            breaches=_add(self.breaches, other.breaches),
            undecided=self.undecided + other.undecided,
            cases=self.cases + other.cases,
            vacuous_cases=self.vacuous_cases + other.vacuous_cases,
            ulp=_larger(self.ulp, other.ulp),
            resolution=_larger(self.resolution, other.resolution),
            worst=_worse(self, other),
            explained_by=tuple(sorted({*self.explained_by, *other.explained_by})),
            families=_add(self.families, other.families),
            binades=_add(self.binades, other.binades),
            specials=self.specials + other.specials,
            options=_first(self, other).options,
            notes=tuple(dict.fromkeys((*self.notes, *other.notes))),
            black_box=self.black_box or other.black_box,
            unfinished=self.unfinished or other.unfinished,
        )


def _add(left: Mapping[str, int], right: Mapping[str, int]) -> dict[str, int]:
    return {key: left.get(key, 0) + right.get(key, 0) for key in sorted({*left, *right})}


def _larger(left: float, right: float) -> float:
    return left if math.isnan(left) or left >= right else right


_RANK = {Verdict.WRONG: 2, Verdict.INCONSISTENT: 2, Verdict.UNSTABLE: 1}


def _first(left: Evidence, right: Evidence) -> Evidence:
    """Return whichever has the more serious worst element; the left one on a tie.

    The verdict decides before the element does: a call that raised has no element, and the harmless
    one of another case must not be shown as its cause. A total order also makes merging associative.
    """
    return left if _seriousness(left) >= _seriousness(right) else right


def _seriousness(evidence: Evidence) -> tuple[int, float]:
    severity = -1.0 if evidence.worst is None else evidence.worst.severity
    return _RANK.get(evidence.verdict, 0), severity


def _worse(left: Evidence, right: Evidence) -> Worst | None:
    return _first(left, right).worst


@dataclass(frozen=True)
class Cell:
    """One planned check: formula x subject x format x check. `reason` says why it is not run, if so."""

    formula: str
    subject: str
    format: str
    check: str
    reason: str = ""

    @property
    def id(self) -> str:
        """The stable text that names the cell everywhere."""
        return f"{self.formula}/{self.subject}/{self.format}/{self.check}"


@dataclass(frozen=True)
class Finding:
    """A verdict that a person must read. `code` is explained by `gradcheck explain CODE`."""

    code: str
    cell: Cell
    evidence: Evidence
    message: str
    reproduction: str

    @property
    def id(self) -> str:
        """The same for the same fault in every run: a hash of cell and code."""
        return "F-" + hashlib.sha256(f"{self.cell.id}|{self.code}".encode()).hexdigest()[:6]
