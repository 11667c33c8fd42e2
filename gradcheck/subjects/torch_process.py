"""What a call into somebody's code may change in a process with PyTorch. Seen, and put back."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from gradcheck.subjects import process


def facts() -> dict[str, Any]:
    """Return the seeds, modes and flags of the process, by what a person calls them."""
    import torch

    return process.surroundings() | {
        "the random state of PyTorch": torch.random.get_rng_state().numpy().tobytes(),
        "the default type": torch.get_default_dtype(),
        "the gradient mode": torch.is_grad_enabled(),
        "the number of threads": torch.get_num_threads(),
        "torch.use_deterministic_algorithms": torch.are_deterministic_algorithms_enabled(),
        "anomaly detection": torch.is_anomaly_enabled(),
        "the rounding of subnormal numbers": float(torch.tensor(2.0**-1070, dtype=torch.float64) * 1.0),
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

    deterministic = torch.are_deterministic_algorithms_enabled()
    warns = torch.is_deterministic_algorithms_warn_only_enabled()
    anomalies = torch.is_anomaly_enabled()
    with process.as_before(), as_before():
        try:
            yield
        finally:
            torch.use_deterministic_algorithms(deterministic, warn_only=warns)
            torch.autograd.set_detect_anomaly(anomalies)


@contextmanager
def as_before() -> Iterator[None]:
    """Leave PyTorch's modes, default type and random state as they were."""
    import torch

    state, grad = torch.random.get_rng_state(), torch.is_grad_enabled()
    dtype, threads = torch.get_default_dtype(), torch.get_num_threads()
    try:
        with _seeds_without_stacks():
            yield
    finally:
        torch.random.set_rng_state(state)
        torch.set_grad_enabled(grad)
        torch.set_default_dtype(dtype)
        if torch.get_num_threads() != threads:
            torch.set_num_threads(threads)


@contextmanager
def _seeds_without_stacks() -> Iterator[None]:
    """Let `torch.manual_seed` note for a device that has not started what is to be done, without the stack.

    It prints the stack for each kind of device, a millisecond in all, and a function that seeds itself is
    called a thousand times. What the notes hold is shown only if a device fails to start.
    """
    import torch

    parts = [part for part in (torch.cuda, torch.xpu, torch.mtia) if hasattr(part, "traceback")]
    before = [part.traceback for part in parts]
    try:
        for part in parts:
            part.traceback = _NoStack
        yield
    finally:
        for part, module in zip(parts, before, strict=True):
            part.traceback = module


class _NoStack:
    """Stands in for the module `traceback` where only `format_stack` is called."""

    @staticmethod
    def format_stack() -> list[str]:
        """Return no lines."""
        return []
