"""Laws: relations between results that hold for every right implementation, whatever it computes by."""

from __future__ import annotations

from gradcheck.laws import activations, clipping, layers, losses, normalization, optimizers, softmax
from gradcheck.laws.law import Law, Speaker

LAWS: tuple[Law, ...] = (
    *activations.LAWS,
    *layers.LAWS,
    *normalization.LAWS,
    *softmax.LAWS,
    *losses.LAWS,
    *clipping.LAWS,
    *optimizers.LAWS,
)


def laws_of(formula: str) -> tuple[Law, ...]:
    """Return the laws of a formula, by its name."""
    return tuple(law for law in LAWS if formula in law.formulas)


__all__ = ["LAWS", "Law", "Speaker", "laws_of"]
