"""How liars about formulas of several inputs are written down: good ones, one part of which lies."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from gradcheck.formats import Format
from gradcheck.records import Array, Options
from gradcheck.subjects.implementation import Implementation
from tests.honest import Many
from tests.honest_families import FAMILIES, completed, honest_family, implementation
from tests.lying import ALL, Liar

Part = Callable[..., Any]
_WHERE = {"value": "value", "vjp": "derivative", "second": "second"}


def told(
    formula: str,
    name: str,
    cause: str,
    order: str,
    lie: Part,
    where: str = "",
    expected: str = "wrong",
    **rest: Any,
) -> Liar:
    """Return the liar whose `order` (value, vjp or second) is `lie(good function, *arguments, **options)`."""

    def implement(fmt: Format) -> Implementation:
        good = FAMILIES[formula]
        parts: dict[str, Any] = {each: getattr(good, each) for each in _WHERE}
        inner = parts[order]
        parts[order] = lambda *arguments, **options: lie(inner, *arguments, **options)
        return implementation(formula, fmt, Many(**parts))

    return Liar(f"{formula}-{name}", formula, cause, expected, implement, where or _WHERE[order], **rest)


def instead(
    formula: str, name: str, cause: str, order: str, function: Part, where: str = "", **rest: Any
) -> Liar:
    """Return the liar whose `order` is another function altogether."""
    return told(formula, name, cause, order, lambda inner, *a, **o: function(*a, **o), where, **rest)


def gradient(formula: str, name: str, cause: str, place: int, change: Part, **rest: Any) -> Liar:
    """Return the liar whose gradient number `place` is change(inputs, c, good gradients, **options)."""

    def lie(inner: Part, inputs: Sequence[Any], c: Any, **options: Any) -> Any:
        found = list(inner(inputs, c, **options))
        found[place] = change(inputs, c, found, **options)
        return tuple(found)

    return told(formula, name, cause, "vjp", lie, **rest)


def output(formula: str, name: str, cause: str, place: int, change: Part, **rest: Any) -> Liar:
    """Return the liar whose output number `place` is change(inputs, good outputs, **options)."""

    def lie(inner: Part, *inputs: Any, **options: Any) -> Any:
        found = list(inner(*inputs, **options))
        found[place] = change(inputs, found, **options)
        return tuple(found)

    return told(formula, name, cause, "value", lie, **rest)


def with_options(change: Callable[[dict[str, Any]], dict[str, Any]]) -> Part:
    """Return the lie that calls the good function with other options."""
    return lambda inner, *arguments, **options: inner(*arguments, **{**options, **change(options)})


def ignoring(**fixed: Any) -> Part:
    """Return the lie that does not look at some options."""
    return with_options(lambda options: {name: value for name, value in fixed.items() if name in options})


def inside(
    formula: str,
    name: str,
    cause: str,
    order: str,
    function: Part,
    formats: tuple[str, ...] = ALL,
    **rest: Any,
) -> Liar:
    """Return the liar whose `order` is a poor form in the arithmetic of the format itself."""

    def implement(fmt: Format) -> Implementation:
        good = honest_family(formula, fmt)

        def forward(inputs: tuple[Array, ...], options: Options) -> Any:
            with np.errstate(all="ignore"):
                return np.asarray(function(*inputs, **completed(formula, options))).astype(fmt.dtype)

        def vjp(inputs: tuple[Array, ...], c: Array, options: Options) -> tuple[Array | None, ...]:
            with np.errstate(all="ignore"):
                return tuple(
                    None if g is None else g.astype(fmt.dtype)
                    for g in function(inputs, c, **completed(formula, options))
                )

        return Implementation(
            formula,
            "corpus",
            fmt,
            forward if order == "value" else good.forward,
            vjp if order == "vjp" else good.vjp,
            good.second,
        )

    return Liar(f"{formula}-{name}", formula, cause, "unstable", implement, _WHERE[order], formats, **rest)


def from_arrays(formula: str, name: str, cause: str, forward: Part, **rest: Any) -> Liar:
    """Return the liar whose forward pass is forward(good implementation, inputs, options), on raw arrays."""

    def implement(fmt: Format) -> Implementation:
        good = honest_family(formula, fmt)
        return Implementation(
            formula,
            "corpus",
            fmt,
            lambda inputs, options: forward(good, inputs, options),
            good.vjp,
            good.second,
        )

    return Liar(f"{formula}-{name}", formula, cause, "wrong", implement, "layout", **rest)


def only(condition: Callable[..., bool], lie: Part) -> Part:
    """Return the lie that is told only where condition(*arguments, **options) holds."""

    def part(inner: Part, *arguments: Any, **options: Any) -> Any:
        told_here = condition(*arguments, **options)
        return lie(inner, *arguments, **options) if told_here else inner(*arguments, **options)

    return part
