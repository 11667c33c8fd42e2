"""A row of the theory: a formula, its source, and how to measure it.

A row's `value` computes what its `says` states. A recipe gives the arguments of a `Network` that shows it,
what to read off the measurement, and the arguments for `value`. A row is exact at the recipe's width, a
limit of wide layers (measure it at two widths and extrapolate), or a bound.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from gradcheck.flow.laws import LogLaw
from gradcheck.flow.prediction import predict

EXACT, LIMIT, BOUND = "exact", "limit", "bound"
# What a recipe reads: of a measurement, or of something else than a random network's gradients.
QUANTITIES = {
    "factor": "mean of ‖g_l‖²/‖g_{l+1}‖² over layers and networks, dead ones as 0",
    "log_mean": "slope of E ln ‖g_l‖² per layer, networks that are alive",
    "log_variance": "variance of ln ‖g_l‖² gained per layer, networks that are alive",
    "second_moment": "E R²/(E R)² of R = ‖g_l‖²/‖g_{l+1}‖² over layers and networks",
    "dispersion": "variance of ln ‖g_1‖²/‖g_L‖² over networks",
    "dead": "share of networks whose ‖g_1‖ is exactly 0",
    "forward": "mean square of the pre-activations of the last layer",
    "retained": "E‖g_1‖²/E‖g_L‖² over all layers",
    "jacobian": "largest singular value of ∂z_L/∂z_1",
    "spectrum": "variance of the squared singular values of ∂z_L/∂z_1, averages over networks",
    "map": "the variance map itself, differentiated by differences",
    "inequality": "the row's inequality itself, over random activations",
    "step": "largest |m̂|/√v̂ that an optimizer takes in a given step",
    "clip": "change of the ratio of two layers' norms by clipping",
}


@dataclass(frozen=True)
class Recipe:
    """One measurement of a row: arguments of `Network`, one of `QUANTITIES` to read, arguments of `value`.

    Where the value depends on what was drawn (norms of matrices, for a bound), the arguments are an example.
    """

    quantity: str
    network: Mapping[str, Any]
    arguments: Mapping[str, Any]


@dataclass(frozen=True)
class Row:
    """One result of the theory."""

    name: str
    says: str
    source: str
    standing: str
    value: Callable[..., float]
    recipes: tuple[Recipe, ...]

    def expected(self, recipe: Recipe) -> float:
        """Return the number that the recipe's quantity must come to."""
        return float(self.value(**recipe.arguments))


def predicted(field: str) -> Callable[..., float]:
    """Return the value of a row that is one field of a prediction."""

    def value(**arguments: Any) -> float:
        return float(getattr(predict(**arguments), field))

    return value


def recipe(quantity: str, depth: int = 30, **network: Any) -> Recipe:
    """Return a recipe whose value is a prediction from the network's own arguments."""
    return Recipe(quantity, {**network, "depth": depth}, network)


def exact_rows(
    name: str,
    says: str,
    source: str,
    law: Callable[..., LogLaw],
    network: Mapping[str, Any],
    arguments: Mapping[str, Any],
    reads: tuple[str, ...] = ("factor", "log_mean", "log_variance"),
) -> tuple[Row, ...]:
    """Return one row each for the factor and for mean and variance of the logarithm of one law of a layer."""
    fields = {"factor": "mean", "log_mean": "log_mean", "log_variance": "log_variance"}

    def reader(field: str) -> Callable[..., float]:
        return lambda **given: float(getattr(law(**given), field))

    return tuple(
        Row(f"{name}: {read}", says, source, EXACT, reader(fields[read]), (Recipe(read, network, arguments),))
        for read in reads
    )
