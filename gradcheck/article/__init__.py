"""The article that this project verifies: its formulas as printed, and its claims as data."""

from __future__ import annotations

from gradcheck.article.claims import CLAIMS, Claim, claim, get_text
from gradcheck.article.printed import (
    printed_leaky_relu,
    printed_neuron_slope,
    printed_preactivation,
    printed_relu,
    printed_sigmoid,
    printed_sigmoid_slope,
)

__all__ = [
    "CLAIMS",
    "Claim",
    "claim",
    "get_text",
    "printed_leaky_relu",
    "printed_neuron_slope",
    "printed_preactivation",
    "printed_relu",
    "printed_sigmoid",
    "printed_sigmoid_slope",
]
