"""What a call into somebody's code may change in the process, with any framework. Seen, and put back."""

from __future__ import annotations

import contextlib
import os
import random
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.random import mtrand


def surroundings() -> dict[str, Any]:
    """Return the state of the process that a call could change."""
    # The legacy global generator is what a user's function would have touched.
    numpy_state: Any = np.random.get_state(legacy=True)
    return {
        "the random state of NumPy": np.asarray(numpy_state[1]).tobytes() + str(numpy_state[2:]).encode(),
        "the random state of Python": random.getstate(),
        "NumPy's error handling": tuple(sorted(np.geterr().items())),
        "the working directory": os.getcwd(),
        "the environment": tuple(sorted(os.environ.items())),
        "the warning filters": len(warnings.filters),
        "the rounding of subnormal numbers": float(np.float64(2.0**-1070) * np.float64(1.0)),
    }


@contextlib.contextmanager
def as_before(environment: bool = True) -> Iterator[None]:
    """Leave the random states as they were, and, if asked, the environment and the working directory."""
    python_state = random.getstate()
    with _numpy_and_environment_as_before() if environment else _numpy_set_aside():
        try:
            yield
        finally:
            random.setstate(python_state)


@contextlib.contextmanager
def _numpy_and_environment_as_before() -> Iterator[None]:
    state = np.random.get_state()
    with environment_as_before():
        try:
            yield
        finally:
            np.random.set_state(state)


# Generators that stand in for NumPy's legacy one, one for each check inside of another.
_SPARES: list[np.random.MT19937] = []


@contextlib.contextmanager
def _numpy_set_aside() -> Iterator[None]:
    """Have NumPy's legacy functions draw from another generator, which is faster than to write one back.

    What the exchange itself does not keep is the second number of a pair of normal ones.
    """
    state: Any = np.random.get_state(legacy=False)
    own = mtrand.get_bit_generator()
    spare = _SPARES.pop() if _SPARES else np.random.MT19937(0)
    mtrand.set_bit_generator(spare)
    try:
        yield
    finally:
        mtrand.set_bit_generator(own)
        if state["has_gauss"]:
            np.random.set_state(state)
        _SPARES.append(spare)


@contextlib.contextmanager
def environment_as_before() -> Iterator[None]:
    """Leave the environment and the working directory as they were."""
    folder, variables = os.getcwd(), dict(os.environ)
    try:
        yield
    finally:
        if os.environ != variables:
            for name in set(os.environ) - set(variables):
                del os.environ[name]
            os.environ.update(variables)
        if os.getcwd() != folder:
            os.chdir(folder)
