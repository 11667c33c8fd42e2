"""What a call into somebody's code may change in the process: seeds, modes, flags. Seen, and put back."""

from __future__ import annotations

import os
import random
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np


def facts() -> dict[str, Any]:
    """Return the seeds, modes and flags of the process, by what a person calls them."""
    import torch

    return {
        "the random state of PyTorch": torch.random.get_rng_state().numpy().tobytes(),
        "the random state of NumPy": np.random.get_state()[1].tobytes(),  # type: ignore[index]
        "the random state of Python": random.getstate(),
        "the default type": torch.get_default_dtype(),
        "the gradient mode": torch.is_grad_enabled(),
        "the number of threads": torch.get_num_threads(),
        "torch.use_deterministic_algorithms": torch.are_deterministic_algorithms_enabled(),
        "anomaly detection": torch.is_anomaly_enabled(),
        "the rounding of subnormal numbers": float(torch.tensor(2.0**-1070, dtype=torch.float64) * 1.0),
        "the flags of NumPy's errors": tuple(sorted(np.geterr().items())),
        "the working directory": os.getcwd(),
        "the environment": tuple(sorted(os.environ.items())),
        "the warning filters": len(warnings.filters),
    }


class Watch:
    """The process as it was when the watch began."""

    def __init__(self) -> None:
        self.before = facts()

    def changes(self) -> list[str]:
        """Return what is no longer as it was."""
        now = facts()
        return [name for name, value in self.before.items() if now[name] != value]


@contextmanager
def restored() -> Iterator[None]:
    """Leave seeds, modes, flags, directory and environment as they were."""
    import torch

    numpy_state, python_state = np.random.get_state(), random.getstate()
    state, before, environment = torch.random.get_rng_state(), facts(), dict(os.environ)
    warns = torch.is_deterministic_algorithms_warn_only_enabled()
    try:
        yield
    finally:
        torch.random.set_rng_state(state)
        np.random.set_state(numpy_state)
        random.setstate(python_state)
        torch.set_default_dtype(before["the default type"])
        torch.set_grad_enabled(before["the gradient mode"])
        if torch.get_num_threads() != before["the number of threads"]:
            torch.set_num_threads(before["the number of threads"])
        torch.use_deterministic_algorithms(before["torch.use_deterministic_algorithms"], warn_only=warns)
        torch.autograd.set_detect_anomaly(before["anomaly detection"])
        os.chdir(before["the working directory"])
        if dict(os.environ) != environment:
            os.environ.clear()
            os.environ.update(environment)


@contextmanager
def as_before() -> Iterator[None]:
    """Leave PyTorch's modes, default type and random state as they were."""
    import torch

    state, grad = torch.random.get_rng_state(), torch.is_grad_enabled()
    dtype, threads = torch.get_default_dtype(), torch.get_num_threads()
    try:
        yield
    finally:
        torch.random.set_rng_state(state)
        torch.set_grad_enabled(grad)
        torch.set_default_dtype(dtype)
        if torch.get_num_threads() != threads:
            torch.set_num_threads(threads)
