"""The catalogue of formulas: each written once, as straight-line NumPy, with everything known about it.

Every formula is an attribute of this module under its own name: `formulas.gelu(x)`.
"""

from __future__ import annotations

from dataclasses import dataclass

from gradcheck.errors import unknown_name
from gradcheck.formulas import gates, layers, neurons, piecewise, rectifiers, sigmoids
from gradcheck.records import Formula, Option, Text

relu = rectifiers.RELU
leaky_relu = rectifiers.LEAKY_RELU
prelu = rectifiers.PRELU
relu6 = piecewise.RELU6
elu = rectifiers.ELU
celu = rectifiers.CELU
selu = rectifiers.SELU
sigmoid = sigmoids.SIGMOID
tanh = sigmoids.TANH
hardtanh = piecewise.HARDTANH
hardsigmoid = piecewise.HARDSIGMOID
softsign = piecewise.SOFTSIGN
softplus = sigmoids.SOFTPLUS
log_sigmoid = sigmoids.LOG_SIGMOID
gelu = gates.GELU
gelu_tanh = gates.GELU_TANH
silu = gates.SILU
mish = gates.MISH
hardswish = piecewise.HARDSWISH
preactivation = neurons.PREACTIVATION
neuron = neurons.NEURON
dense = layers.DENSE

# A family is added here, and with it to the catalogue.
FAMILIES: dict[str, tuple[Formula, ...]] = {
    "rectifiers": rectifiers.FORMULAS,
    "sigmoids": sigmoids.FORMULAS,
    "piecewise linear": piecewise.FORMULAS,
    "gates": gates.FORMULAS,
    "neurons": neurons.FORMULAS,
    "layers": layers.FORMULAS,
}

CATALOGUE: tuple[Formula, ...] = tuple(formula for members in FAMILIES.values() for formula in members)


def get_formula(name: str) -> Formula:
    """Return the formula called `name`; an unknown name is a `UsageError` that offers the closest ones."""
    for formula in CATALOGUE:
        if formula.name == name:
            return formula
    raise unknown_name("formula", name, (formula.name for formula in CATALOGUE))


@dataclass(frozen=True)
class Quantity:
    """Something that a printed formula may turn out to compute: a text, its arguments and its options."""

    name: str
    arguments: tuple[str, ...]
    text: Text
    options: tuple[Option, ...] = ()


def _quantities_of(formula: Formula) -> tuple[Quantity, ...]:
    orders = ((formula.name, formula.value), (f"{formula.name}'", formula.derivative))
    texts = (*orders, (f"{formula.name}''", formula.second))
    return tuple(Quantity(name, formula.inputs, text, formula.options) for name, text in texts if text)


QUANTITIES: tuple[Quantity, ...] = (
    *(quantity for formula in CATALOGUE for quantity in _quantities_of(formula)),
    Quantity("neuron: df/dz", neuron.inputs, neurons.slope_in_preactivation),
    Quantity("neuron: df/dx", neuron.inputs, neurons.slope_in_input),
    Quantity("neuron: df/dw", neuron.inputs, neurons.slope_in_weight),
    Quantity("neuron: df/db", neuron.inputs, neurons.slope_in_bias),
    Quantity("neuron: derivative along x", neuron.inputs, neurons.slope_along_input),
    Quantity("neuron: derivative in x along w", neuron.inputs, neurons.slope_along_weight),
)

__all__ = [
    "CATALOGUE",
    "FAMILIES",
    "QUANTITIES",
    "Quantity",
    "celu",
    "dense",
    "elu",
    "gelu",
    "gelu_tanh",
    "get_formula",
    "hardsigmoid",
    "hardswish",
    "hardtanh",
    "leaky_relu",
    "log_sigmoid",
    "mish",
    "neuron",
    "preactivation",
    "prelu",
    "relu",
    "relu6",
    "selu",
    "sigmoid",
    "silu",
    "softplus",
    "softsign",
    "tanh",
]
