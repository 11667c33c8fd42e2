from collections.abc import Callable

import pytest

from gradcheck.records import Formula, Option

OPTIONS = {
    "leaky_relu": {"negative_slope": 0.01},
    "hardtanh": {"min_val": -1.0, "max_val": 1.0},
    "elu": {"alpha": 1.0},
    "celu": {"alpha": 1.0},
    "softplus": {"beta": 1.0, "threshold": 20.0},
}
INPUTS = {
    "prelu": ("x", "weight"),
    "preactivation": ("x", "w", "b"),
    "neuron": ("x", "w", "b"),
    "dense": ("x", "weight", "bias"),
}


@pytest.fixture
def formula() -> Callable[[str], Formula]:
    """A record with the inputs and options of a formula of the catalogue, and no mathematics."""

    def make(name: str) -> Formula:
        several = name in INPUTS
        return Formula(
            name=name,
            title=name,
            equation="",
            source="",
            value=lambda *arguments, **options: arguments[0],
            derivative=None if several else (lambda x, **options: x),
            second=None if several else (lambda x, **options: x),
            vjp=(lambda inputs, cotangent, **options: inputs) if several else None,
            inputs=INPUTS.get(name, ("x",)),
            options=tuple(Option(key, value) for key, value in OPTIONS.get(name, {}).items()),
        )

    return make
