"""What a printed formula may turn out to compute: everything that the catalogue's texts give, by name."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from gradcheck.formulas import neurons
from gradcheck.records import Formula, Option, Text


@dataclass(frozen=True)
class Quantity:
    """A text by the name that a person calls its result, with its arguments and options."""

    name: str
    arguments: tuple[str, ...]
    text: Text
    options: tuple[Option, ...] = ()


def of_catalogue(formulas: Iterable[Formula]) -> tuple[Quantity, ...]:
    """Return value and derivatives of every formula, output by output and input by input, and a few more."""
    return (*(quantity for formula in formulas for quantity in _of_formula(formula)), *_OTHERS)


def _of_formula(formula: Formula) -> Iterator[Quantity]:
    name, inputs, options = formula.name, formula.inputs, formula.options
    if len(formula.outputs) == 1:
        yield Quantity(name, inputs, formula.value, options)
    for place, output in enumerate(formula.outputs if len(formula.outputs) > 1 else ()):
        yield Quantity(f"{name}: {output}", inputs, partial(_output, formula, place), options)
    for mark, text in (("'", formula.derivative), ("''", formula.second)):
        if text is not None:
            yield Quantity(f"{name}{mark}", inputs, text, options)
    if formula.vjp is not None and len(formula.outputs) == 1:
        places = formula.differentiated
        whole = "gradient" if len(places) > 1 else f"gradient of {inputs[places[0]]}"
        yield Quantity(f"{name}: {whole}", inputs, partial(_gradients, formula, places), options)
        for place in places if len(places) > 1 else ():
            text = partial(_gradients, formula, (place,))
            yield Quantity(f"{name}: gradient of {inputs[place]}", inputs, text, options)


def _output(formula: Formula, place: int, *inputs: Any, **options: Any) -> Any:
    return formula.value(*inputs, **options)[place]


def _gradients(formula: Formula, places: tuple[int, ...], *inputs: Any, **options: Any) -> Any:
    """Return the gradients of the sum of the result."""
    assert formula.vjp is not None
    found = formula.vjp(inputs, np.ones_like(formula.value(*inputs, **options)), **options)
    return tuple(found[place] for place in places)


def _uncorrected_first_step(beta1: Any, beta2: Any) -> Any:
    """(1 - β₁)/√(1 - β₂): the first step of Adam without a correction of the bias, in units of the rate."""
    return (1 - beta1) / np.sqrt(1 - beta2)


_NEURON = neurons.NEURON.inputs
_OTHERS = (
    Quantity("neuron: df/dz", _NEURON, neurons.slope_in_preactivation),
    Quantity("neuron: df/dx", _NEURON, neurons.slope_in_input),
    Quantity("neuron: df/dw", _NEURON, neurons.slope_in_weight),
    Quantity("neuron: df/db", _NEURON, neurons.slope_in_bias),
    Quantity("neuron: derivative along x", _NEURON, neurons.slope_along_input),
    Quantity("neuron: derivative in x along w", _NEURON, neurons.slope_along_weight),
    Quantity("(1 - β₁)/√(1 - β₂)", ("beta1", "beta2"), _uncorrected_first_step),
)
