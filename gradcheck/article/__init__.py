"""The article that this project verifies: its formulas as printed, and its claims as data."""

from __future__ import annotations

from gradcheck.article.claims import CLAIMS, Along, AtMost, Claim, Classes, claim, get_text, undecidable
from gradcheck.article.printed import (
    printed_adam_step,
    printed_batch_norm,
    printed_clip,
    printed_cut,
    printed_leaky_relu,
    printed_moments,
    printed_neuron_slope,
    printed_preactivation,
    printed_regularizer,
    printed_regularizer_slope,
    printed_relu,
    printed_sgd,
    printed_sigmoid,
    printed_sigmoid_slope,
    printed_weight_decay,
    printed_weight_decay_slope,
)

__all__ = [
    "CLAIMS",
    "Along",
    "AtMost",
    "Claim",
    "Classes",
    "claim",
    "get_text",
    "printed_adam_step",
    "printed_batch_norm",
    "printed_clip",
    "printed_cut",
    "printed_leaky_relu",
    "printed_moments",
    "printed_neuron_slope",
    "printed_preactivation",
    "printed_regularizer",
    "printed_regularizer_slope",
    "printed_relu",
    "printed_sgd",
    "printed_sigmoid",
    "printed_sigmoid_slope",
    "printed_weight_decay",
    "printed_weight_decay_slope",
    "undecidable",
]
