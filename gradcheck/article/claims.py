"""Claims: something printed, its domain as Hypothesis strategies, and both sides as texts.

The article's own are listed here as data (what is said, where, on which domain); the functions that measure
them stand with the properties.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from gradcheck.errors import UsageError, unknown_name


@dataclass(frozen=True)
class ClaimText:
    """What the article says: formula as printed, the reference beside it, the domain that it means."""

    id: str
    section: str
    says: str
    printed: str
    reference: str
    domain: str
    formula: str


@dataclass(frozen=True)
class Claim:
    """A claim that can be measured. `function(np, **variables)` returns both sides, or a truth value.

    A strategy that draws a dictionary contributes its entries as variables. `text` is there for the
    article's own claims.
    """

    id: str
    says: str
    strategies: Mapping[str, Any]
    function: Callable[..., Any]
    text: ClaimText | None = None


def claim(*, id: str, says: str = "", **strategies: Any) -> Callable[[Callable[..., Any]], Claim]:
    """Make a claim of a function: `claim(id=..., says=..., x=strategy, ...)` above `def f(np, x, ...)`.

    Raises `UsageError` for an empty id, a variable that is no strategy, or a function whose first argument
    is not the array module.
    """
    text = next((known for known in CLAIMS if known.id == id), None)
    says = says or (text.says if text else "")
    if not id or not says:
        raise UsageError(f"a claim needs an id and a sentence, got id={id!r}, says={says!r}")
    for name, strategy in strategies.items():
        if not hasattr(strategy, "example"):
            raise UsageError(
                f"claim {id}: {name} must be a Hypothesis strategy, got {type(strategy).__name__}"
            )
    if not strategies:
        raise UsageError(
            f"claim {id}: give at least one variable as a strategy, for example x=st.floats(-1, 1)"
        )

    def decorate(function: Callable[..., Any]) -> Claim:
        parameters = list(inspect.signature(function).parameters)
        if not parameters or parameters[0] != "np":
            raise UsageError(
                f"claim {id}: the function's first argument must be np, got {parameters or 'none'}"
            )
        return Claim(id, says, strategies, function, text)

    return decorate


CLAIMS: tuple[ClaimText, ...] = (
    ClaimText(
        "F01",
        "2",
        "the pre-activation of a neuron is z = w1·x1 + w2·x2 + … + wN·x(N−1) + b",
        "z = w1·x1 + w2·x2 + … + wN·x(N−1) + b",
        "z = Σ wᵢxᵢ + b",
        "N ≥ 2 inputs with a weight each, all numbers",
        "preactivation",
    ),
    ClaimText(
        "F02",
        "2",
        "the derivative of a neuron f(z) is σ'(z)·w1·x1 + … + σ'(z)·wN·xN",
        "df/dz = σ'(z) = Σ σ'(z)·wᵢ·xᵢ",
        "df/dz = σ'(z)",
        "N ≥ 1 inputs, all numbers, σ the sigmoid",
        "neuron",
    ),
    ClaimText(
        "F07", "3.1.1", "ReLU is g(z) = max(0, z)", "g = max(0, z)", "max(0, x)", "all numbers", "relu"
    ),
    ClaimText(
        "F07.derivative",
        "3.1.1",
        "the derivative of ReLU is 0 on the negative half-line",
        "g'(z) = 0",
        "the derivative of max(0, x)",
        "z < 0",
        "relu",
    ),
    ClaimText(
        "F08",
        "3.1.1",
        "the sigmoid is y = 1/(1 + e^−x)",
        "y = 1/(1 + e^−x)",
        "σ(x), evaluated without overflow",
        "all numbers",
        "sigmoid",
    ),
    ClaimText(
        "F08.limits",
        "3.1.1",
        "e^−∞ ≈ 0 and e^∞ ≈ ∞",
        "e^−∞ ≈ 0, e^∞ ≈ ∞",
        "the limits of exp",
        "numbers beyond ±1000",
        "sigmoid",
    ),
    ClaimText(
        "F08.derivative",
        "3.1.1",
        "the derivative of the sigmoid is continuous: σ' = σ(1 − σ)",
        "y(1 − y) with y = 1/(1 + e^−x)",
        "σ(x)·σ(−x)",
        "all numbers",
        "sigmoid",
    ),
    ClaimText(
        "F09",
        "3.1.1",
        "Leaky ReLU is y = max(αx, max(0, x))",
        "y = max(αx, max(0, x))",
        "x for x ≥ 0, αx for x < 0",
        "0 < α < 1, all x",
        "leaky_relu",
    ),
)


def get_text(id: str) -> ClaimText:
    """Return the article's claim called `id`; an unknown one is a `UsageError`."""
    for text in CLAIMS:
        if text.id == id:
            return text
    raise unknown_name("claim", id, (text.id for text in CLAIMS))
