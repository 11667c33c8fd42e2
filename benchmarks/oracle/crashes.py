"""What ended or hung a process: its calls are written down and made again without the checker."""

from __future__ import annotations

import multiprocessing
import pickle
import signal
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

# How often each kind of call is made again: what writes beyond its memory need not be noticed at once.
_AGAIN = 300
_KINDS = 60
_ALL = 60.0


def explained(check: Callable[[Callable[..., Any]], Any], f: Callable[..., Any], seconds: float) -> str:
    """Say which plain call ends or hangs a process by itself; empty if none does.

    `check(g)` does with `g`, which writes its calls down, what was done with `f`.
    """
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "calls"
        _ended(lambda: check(_writing(f, log)), seconds)
        end = time.monotonic() + _ALL
        for call in _distinct(log):
            if time.monotonic() > end:
                break
            how = _ended(lambda call=call: _again(f, call), seconds)
            if how:
                shapes = ", ".join(f"{kind} {shape}" for kind, shape in _signature(call)[1])
                return f"plain calls of the operator at [{shapes}], nothing else, {how}"
    return ""


def _writing(f: Callable[..., Any], log: Path) -> Callable[..., Any]:
    def g(*tensors: Any) -> Any:
        if not any(torch._C._functorch.is_functorch_wrapped_tensor(t) for t in tensors):
            given = [(t.detach().clone(), t.requires_grad) for t in tensors]
            with log.open("ab") as file:
                pickle.dump((torch.is_grad_enabled(), given), file)
        return f(*tensors)

    g.__name__ = g.__qualname__ = getattr(f, "__name__", "f")
    return g


def _signature(call: Any) -> tuple[bool, tuple[tuple[str, tuple[int, ...]], ...]]:
    graph, given = call
    return graph, tuple((str(t.dtype).removeprefix("torch."), tuple(t.shape)) for t, _ in given)


def _distinct(log: Path) -> Iterator[Any]:
    """Yield the last call of each signature, the latest signature first."""
    found: dict[Any, Any] = {}
    if log.exists():
        with log.open("rb") as file:
            while True:
                try:
                    call = pickle.load(file)
                except (EOFError, pickle.UnpicklingError):
                    break
                found.pop(_signature(call), None)
                found[_signature(call)] = call
    yield from list(reversed(found.values()))[:_KINDS]


def _again(f: Callable[..., Any], call: Any) -> None:
    _, given = call
    for _ in range(_AGAIN):
        tensors = [t.clone().requires_grad_(active) for t, active in given]
        try:
            with torch.set_grad_enabled(call[0]):
                result = f(*tensors)
                parts: Sequence[Any] = result if isinstance(result, tuple | list) else (result,)
                live = [o for o in parts if isinstance(o, torch.Tensor) and o.requires_grad]
                if live:
                    sum(o.sum() for o in live).backward()  # type: ignore[union-attr]
        except Exception:
            return


def _ended(task: Callable[[], Any], seconds: float) -> str:
    """Run a task in a process of its own and say how it ended, if not well."""
    process = multiprocessing.get_context("fork").Process(target=_quiet, args=(task,))
    process.start()
    process.join(seconds)
    if process.is_alive():
        process.kill()
        process.join()
        return f"do not return within {seconds:.0f} s"
    status = process.exitcode or 0
    return f"end the process with {signal.Signals(-status).name}" if status < 0 else ""


def _quiet(task: Callable[[], Any]) -> None:
    torch.set_num_threads(1)
    task()
