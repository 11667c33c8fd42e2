"""Claims: something printed, its domain as Hypothesis strategies, and both sides as texts.

What the article says stands in `texts.py`; the functions that measure it stand with the properties.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from gradcheck.article.texts import CLAIMS, ClaimText, get_text
from gradcheck.errors import UsageError

__all__ = ["CLAIMS", "Along", "AtMost", "Claim", "ClaimText", "Classes", "claim", "get_text", "undecidable"]


@dataclass(frozen=True)
class AtMost:
    """The answer of a claim that is an inequality: `left` is nowhere above `right`."""

    left: Any
    right: Any


@dataclass(frozen=True)
class Classes:
    """A condition that sorts examples: `of(**variables)` names the class of one.

    The claim is conditional if it holds throughout one class and fails in another.
    """

    of: Callable[..., str]


@dataclass(frozen=True)
class Along:
    """A condition on one number that is not drawn but searched: from `low` to `high`, both above 0.

    The claim is asked at `probes` points of equal ratio; wherever its answer changes, the boundary between is
    bisected. `of(**variables)` names the class of an example, where boundaries differ between classes.
    """

    variable: str
    low: float
    high: float
    probes: int = 9
    of: Callable[..., str] | None = None


@dataclass(frozen=True)
class Claim:
    """A claim that can be measured. `function(np, **variables)` returns both sides, or a truth value.

    A strategy that draws a dictionary contributes its entries as variables. `text` is there for the
    article's own claims. `condition` says along what the claim may be true here and false there, `share` how
    many of a run's examples it takes. A `plain` claim is about arithmetic: its variables stay the numbers
    that were drawn, where those of any other become balls. `citation` marks a claim that nothing computed
    decides.
    """

    id: str
    says: str
    strategies: Mapping[str, Any]
    function: Callable[..., Any]
    text: ClaimText | None = None
    condition: Classes | Along | None = None
    share: float = 1.0
    plain: bool = False
    citation: str = field(default="", kw_only=True)


def claim(
    *,
    id: str,
    says: str = "",
    condition: Classes | Along | None = None,
    share: float = 1.0,
    plain: bool = False,
    **strategies: Any,
) -> Callable[[Callable[..., Any]], Claim]:
    """Make a claim of a function: `claim(id=..., says=..., x=strategy, ...)` above `def f(np, x, ...)`.

    Raises `UsageError` for an empty id, a variable that is no strategy, a condition that is none, or a
    function whose first argument is not the array module.
    """
    text, says = _known(id, says)
    for name, strategy in strategies.items():
        if not hasattr(strategy, "example"):
            raise UsageError(
                f"claim {id}: {name} must be a Hypothesis strategy, got {type(strategy).__name__}"
            )
    if not strategies:
        raise UsageError(
            f"claim {id}: give at least one variable as a strategy, for example x=st.floats(-1, 1)"
        )
    _check_condition(id, condition, strategies)

    def decorate(function: Callable[..., Any]) -> Claim:
        parameters = list(inspect.signature(function).parameters)
        if not parameters or parameters[0] != "np":
            raise UsageError(
                f"claim {id}: the function's first argument must be np, got {parameters or 'none'}"
            )
        return Claim(id, says, strategies, function, text, condition, share, plain)

    return decorate


def undecidable(*, id: str, says: str = "", citation: str = "") -> Claim:
    """Return a claim that no computation decides, history for example, with what is to be read instead."""
    text, says = _known(id, says)
    citation = citation or (text.citation if text else "")
    if not citation:
        raise UsageError(f"claim {id}: what no computation decides needs a citation")
    return Claim(id, says, {}, lambda np: None, text, citation=citation)


def _known(id: str, says: str) -> tuple[ClaimText | None, str]:
    text = next((known for known in CLAIMS if known.id == id), None)
    says = says or (text.says if text else "")
    if not id or not says:
        raise UsageError(f"a claim needs an id and a sentence, got id={id!r}, says={says!r}")
    return text, says


def _check_condition(id: str, condition: Any, strategies: Mapping[str, Any]) -> None:
    if condition is not None and not isinstance(condition, Classes | Along):
        raise UsageError(
            f"claim {id}: condition must be Classes(...) or Along(...), got {type(condition).__name__}"
        )
    if isinstance(condition, Along):
        if condition.variable in strategies:
            raise UsageError(f"claim {id}: {condition.variable} is searched, so it has no strategy")
        if not 0 < condition.low < condition.high or condition.probes < 2:
            raise UsageError(
                f"claim {id}: Along needs 0 < low < high and at least two probes, got "
                f"low={condition.low!r}, high={condition.high!r}, probes={condition.probes!r}"
            )
