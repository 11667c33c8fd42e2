"""A formula that is right on paper, computed as printed in every format: where it loses its digits."""

from __future__ import annotations

from typing import Any

import numpy as np

from gradcheck.arithmetic.ball import balls
from gradcheck.arithmetic.plain import Stored
from gradcheck.arithmetic.rounded import Model, Rounded, rounded
from gradcheck.article.claims import AtMost, Claim
from gradcheck.checks.deciding import Variables, sides
from gradcheck.errors import GradcheckError
from gradcheck.formats import FORMATS, Format, widen


def in_formats(claim: Claim, examples: list[Variables]) -> list[str]:
    """Compute the printed side in each format and hold it to the bound of the other side's text."""
    if claim.plain or not examples or set(examples[0]) != {"x"} or not isinstance(examples[0]["x"], float):
        return []
    drawn = np.array([variables["x"] for variables in examples])
    if isinstance(claim.function(np, x=balls(drawn[0])), bool | np.bool_ | AtMost):
        return []
    notes = []
    for fmt in FORMATS:
        x = np.unique(np.clip(fmt.round(_spread(drawn)), -fmt.largest, fmt.largest))
        note = _in_format(claim, fmt, x[(x >= drawn.min()) & (x <= drawn.max())])
        notes += [note] if note else []
    return notes


def _spread(drawn: Any) -> Any:
    """Add a grid over the range where exponentials over- and underflow to what was drawn."""
    grid = np.linspace(-800.0, 800.0, 3201)
    inside = grid[(grid >= drawn.min()) & (grid <= drawn.max())]
    return np.concatenate([drawn, inside])


def _in_format(claim: Claim, fmt: Format, x: Any) -> str:
    with np.errstate(all="ignore"):
        plain: Any = Stored(x, fmt) if fmt.bits == 16 else x.astype(fmt.dtype)
        got = _plain(_first(claim, plain, 0))
        try:
            bound = _first(claim, rounded(x, Model(fmt)), 1)
        except GradcheckError:
            return ""
    if not isinstance(bound, Rounded) or got.shape != x.shape:
        return ""
    stored = bound.stored()
    bad = ~((got >= stored.lo) & (got <= stored.hi))
    if not bad.any():
        return ""
    at = x[bad]
    first = at[np.argmin(np.abs(at))]
    index = int(np.flatnonzero(x == first)[0])
    middle = stored.lo[index] + (stored.hi[index] - stored.lo[index]) / 2
    return (
        f"computed as printed in {fmt.name}, {int(bad.sum())} of {x.size} results leave the bound of the "
        f"reference, first at x = {float(first)!r}: {float(got[index])!r} instead of {float(middle)!r}"
    )


def _first(claim: Claim, x: Any, side: int) -> Any:
    return sides(claim, claim.function(np, x=x))[side][0]


def _plain(value: Any) -> Any:
    return widen(value.data if isinstance(value, Stored) else value)
