"""What a subject offers to the checks: one implementation of one formula in one format."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from gradcheck.errors import UsageError
from gradcheck.formats import Format
from gradcheck.records import Array, Formula, Options

# The forms that an implementation may come in beside its function; each has a check of its own.
FORMS = ("module", "loop", "foreach")


@dataclass(frozen=True)
class Implementation:
    """One implementation under test. Arrays go in and come out in the storage type of `format`.

    `forward(inputs, options)` returns an array, or a tuple for a formula of several outputs.
    `vjp(inputs, cotangent, options)` returns one gradient per input, None where the implementation says that
    there is none. `second(inputs, cotangent, directions, options)` returns the gradient with respect to the
    inputs of `sum_k <directions_k, vjp_k(inputs, cotangent)>`. `options` are those that the implementation
    fixes: a formula is compared with it at these values only. `reproduce(what, inputs, cotangent, options,
    directions=())`, with `what` one of "value", "derivative" and "second", returns a program that needs
    nothing of this package and prints the answer, every array as a list of hexadecimal numbers; without
    directions, the second derivative is taken along ones. An optimizer that keeps its own state has
    `begin(weights, groups, states, taken)`, which returns a `Run`: one group of options per weight, and the
    state after `taken` steps, if any. `flushes` declares that subnormal numbers may become zero, when they
    are read and when they are results.
    """

    formula: str
    subject: str
    format: Format
    forward: Callable[[tuple[Array, ...], Options], Any]
    vjp: Callable[[tuple[Array, ...], Array, Options], tuple[Array | None, ...]] | None = None
    second: (
        Callable[[tuple[Array, ...], Array, tuple[Array, ...], Options], tuple[Array | None, ...]] | None
    ) = None
    options: Options = field(default_factory=dict)
    reproduce: Callable[..., str] | None = None
    negative_strides: bool = True
    flushes: bool = False
    begin: Callable[..., Any] | None = None


class Subject(Protocol):
    """Someone's implementations of the catalogue."""

    @property
    def name(self) -> str:
        """The name that cells and reports use."""
        ...

    def checks(self, formula: Formula) -> tuple[str, ...]:
        """Return the checks that make sense; none if this subject does not provide the formula."""
        ...

    def reason(self, formula: Formula, fmt: Format, check: str) -> str:
        """Return why the check cannot run, found out by trying; empty if it can."""
        ...

    def implement(self, formula: Formula, fmt: Format, form: str = "function") -> Implementation:
        """Return the implementation; `form` is "function" or "module"."""
        ...


def plain_options(formula: Formula, options: Options, fixed: Options | None = None) -> dict[str, Any]:
    """Return every option of the formula as plain Python: the given ones over the defaults.

    An option that the implementation fixes may only be given with that value.
    """
    fixed = fixed or {}
    for name, value in fixed.items():
        if options.get(name, value) != value:
            raise UsageError(
                f"{formula.name}: {name}={options[name]!r}, but this implementation has {value!r}"
            )
    defaults = {option.name: _plain(option.default) for option in formula.options}
    unknown = sorted(set(options) - set(defaults))
    if unknown:
        raise UsageError(f"{formula.name} has no option {unknown[0]!r}; it has {sorted(defaults) or 'none'}")
    return {**defaults, **options, **fixed}


def _plain(value: Any) -> Any:
    return value if isinstance(value, str | bool | int | tuple | type(None)) else float(value)


def bind(formula: Formula, inputs: tuple[Any, ...], options: Mapping[str, Any]) -> dict[str, Any]:
    """Return inputs and options by the names that the formula gives them."""
    if len(inputs) != len(formula.inputs):
        raise UsageError(f"{formula.name} takes {', '.join(formula.inputs)}: got {len(inputs)} inputs")
    return {**dict(zip(formula.inputs, inputs, strict=True)), **options}
