"""What SciPy has of the catalogue: values only.

`expit`, `log_expit`, `softmax`, `log_softmax` and `logsumexp` are SciPy's own, and so is the normal
distribution `ndtr` that GELU is made of.
Softplus and tanh are NumPy's `logaddexp` and `tanh`, the ones that users of SciPy take: independent
implementations too, but not SciPy's code. One text per call: the text that runs is the text that a
reproduction prints.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import cache, partial
from types import CodeType

import numpy as np

from gradcheck.errors import UsageError, unknown_name
from gradcheck.formats import Format
from gradcheck.records import Array, Formula, Options
from gradcheck.subjects.implementation import Implementation, bind, plain_options
from gradcheck.subjects.snippet import NUMPY_SHOW, assignments, numpy_array


@dataclass(frozen=True)
class Call:
    """How SciPy spells a formula, and the options that this spelling has at one value only."""

    text: str
    fixed: Options = field(default_factory=dict)


CALLS: dict[str, Call] = {
    "sigmoid": Call("special.expit(x)"),
    "log_sigmoid": Call("special.log_expit(x)"),
    "gelu": Call("x * special.ndtr(x)"),
    "softplus": Call("np.logaddexp(0, beta * x) / beta", {"threshold": math.inf}),
    "tanh": Call("np.tanh(x)"),
    "softmax": Call("special.softmax(x, axis=axis)"),
    "log_softmax": Call("special.log_softmax(x, axis=axis)"),
    "logsumexp": Call("special.logsumexp(x, axis=axis)"),
}


@dataclass(frozen=True)
class ScipySubject:
    """SciPy's special functions."""

    name: str = "scipy"

    def checks(self, formula: Formula) -> tuple[str, ...]:
        """Return the checks of a value: SciPy has no derivatives."""
        return ("value", "special") if formula.name in CALLS else ()

    def reason(self, formula: Formula, fmt: Format, check: str) -> str:
        """Return why the check cannot run: SciPy has no derivatives, and widens what it does not know."""
        if formula.name not in CALLS:
            return f"scipy does not provide {formula.name}"
        if check not in self.checks(formula):
            return f"scipy has no {check} of {formula.name}"
        return _trial(formula, fmt)

    def implement(self, formula: Formula, fmt: Format, form: str = "function") -> Implementation:
        """Return SciPy's value of the formula."""
        if form != "function":
            raise unknown_name("form", form, ("function",))
        if formula.name not in CALLS:
            raise UsageError(f"scipy does not provide {formula.name}")
        call = CALLS[formula.name]
        code = compile(call.text, f"<scipy {formula.name}>", "eval")
        return Implementation(
            formula=formula.name,
            subject=self.name,
            format=fmt,
            forward=partial(_forward, formula, code, call.fixed),
            options=call.fixed,
            reproduce=partial(_reproduce, formula, call),
        )


def _forward(
    formula: Formula, code: CodeType, fixed: Options, inputs: tuple[Array, ...], options: Options
) -> Array:
    from scipy import special

    names = bind(formula, inputs, plain_options(formula, options, fixed))
    with np.errstate(all="ignore"):
        result = eval(code, {"np": np, "special": special}, names)
    return np.asarray(result)


@cache
def _trial(formula: Formula, fmt: Format) -> str:
    """Why SciPy does not compute in this format, after one real call; empty if it does."""
    if fmt.dtype.isbuiltin != 1:
        return f"{fmt.name} is no type of NumPy's own: SciPy has no code for it"
    try:
        result = SCIPY.implement(formula, fmt).forward((np.linspace(-0.75, 0.5, 2).astype(fmt.dtype),), {})
    except TypeError as error:
        return str(error).partition("\n")[0]
    if result.dtype != fmt.dtype:
        return f"SciPy answers {result.dtype.name} for {fmt.name}"
    return ""


def _reproduce(
    formula: Formula,
    call: Call,
    what: str,
    inputs: tuple[Array, ...],
    cotangent: Array | None,
    options: Options,
) -> str:
    """Return a program of plain SciPy that prints what was got, as a list of hex numbers."""
    if what != "value":
        raise UsageError(f"what={what!r}: scipy has the value only")
    names = plain_options(formula, options, call.fixed)
    lines = [
        "import numpy as np",
        "from scipy import special",
        'np.seterr(all="ignore")',
        *assignments({name: value for name, value in names.items() if name not in call.fixed}),
        *(numpy_array(name, array) for name, array in zip(formula.inputs, inputs, strict=True)),
        f"y = {call.text}",
        NUMPY_SHOW.format(name="y"),
    ]
    return "\n".join(lines)


SCIPY = ScipySubject()

__all__ = ["CALLS", "SCIPY", "Call", "ScipySubject"]
