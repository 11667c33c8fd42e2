"""The same function in another process: forked, or a fresh interpreter that imports it."""

from __future__ import annotations

import contextlib
import io
import multiprocessing
import os
import pickle
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

from gradcheck.blackbox.seen import Problem
from gradcheck.errors import UsageError
from gradcheck.subjects.function import CallFailed, Vector, raised_by
from gradcheck.subjects.probing import signed

_PROGRAM = (
    "import pickle, sys; sys.path[:] = pickle.load(open(sys.argv[1] + '/path', 'rb')); "
    "from gradcheck.blackbox.elsewhere import run; run(sys.argv[1], sys.argv[2])"
)
_HASH_SEEDS = ("20011", "40009")
# Two ways to the same sums; where a process does not repeat its own bits, those of another are no other.
_SAME = 1e-9
_REPEATS = 3


@dataclass(frozen=True)
class Task:
    """A call of `check`: the function, the examples, and all other arguments."""

    f: Any
    inputs: tuple[Any, ...]
    arguments: dict[str, Any]


@dataclass(frozen=True)
class Running:
    """A process at work; `wait(end)` returns ("answer", x), ("usage", text), ("raised", text), or None."""

    how: str
    wait: Callable[[float], Any]
    alive: Callable[[], bool]
    status: Callable[[], int | None]
    kill: Callable[[], None]


def forbids_forks() -> bool:
    """Whether this process has threads that a copy of it would wait for: those of JAX."""
    bridge = sys.modules.get("jax._src.xla_bridge")
    started = getattr(bridge, "backends_are_initialized", None)
    return bool(started()) if started is not None else bridge is not None


def forked(call: Callable[[Task], Any], task: Task) -> Running:
    """Start a copy of this process."""
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    child = context.Process(target=_child, args=(sender, call, task))
    child.start()
    sender.close()

    def wait(end: float) -> Any:
        while True:
            if receiver.poll(0.05):
                try:
                    return receiver.recv()
                except EOFError:
                    # The other end is closed: the child is dying.
                    child.join(5)
                    return None
            if time.monotonic() > end or not child.is_alive():
                return None

    def status() -> int | None:
        child.join(5)
        return child.exitcode

    return Running("a forked process", wait, child.is_alive, status, lambda: _kill(child.pid))


def _child(sender: Connection, call: Callable[[Task], Any], task: Task) -> None:
    os.setsid()
    _one_thread()
    sender.send(_told(call, task))
    sender.close()


def _one_thread() -> None:
    torch = sys.modules.get("torch")
    if torch is not None:
        # The pool of threads of the parent did not come along, and a parallel region would wait for it.
        torch.set_num_threads(1)


def _told(call: Callable[[Task], Any], task: Task) -> tuple[str, Any]:
    try:
        return "answer", call(task)
    except UsageError as error:
        return "usage", str(error)
    except BaseException as error:
        return "raised", raised_by(error)


def _kill(pid: int | None) -> None:
    if pid is None:
        return
    try:
        os.killpg(pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


# A fresh interpreter


def fresh(task: Task, what: str) -> Running | None:
    """Start another interpreter on a task, with other hashes of text; None if it could not import it.

    `what` is "answers" or "both", the check with them.
    """
    data = _packed(task)
    if data is None:
        return None
    folder = Path(tempfile.mkdtemp(prefix="gradcheck-"))
    (folder / "path").write_bytes(pickle.dumps(sys.path))
    (folder / "task").write_bytes(data)
    own = os.environ.get("PYTHONHASHSEED")
    environment = {**os.environ, "PYTHONHASHSEED": next(s for s in _HASH_SEEDS if s != own)}
    child = subprocess.Popen(
        [sys.executable, "-c", _PROGRAM, str(folder), what],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=environment,
        start_new_session=True,
    )

    def wait(end: float) -> Any:
        answer = folder / "answer"
        while child.poll() is None and time.monotonic() < end:
            time.sleep(0.02)
        if child.poll() is None or not answer.exists():
            return None
        return pickle.loads(answer.read_bytes())

    def kill() -> None:
        _kill(child.pid if child.poll() is None else None)
        child.wait(5)
        shutil.rmtree(folder, ignore_errors=True)

    return Running("a fresh interpreter", wait, lambda: child.poll() is None, child.poll, kill)


def run(folder: str, what: str) -> None:
    """Do the task in a folder and leave the answer there; for the fresh interpreter alone."""
    from gradcheck.blackbox.isolation import both

    with open(Path(folder) / "task", "rb") as file:
        try:
            task: Task | None = pickle.load(file)
        except Exception as error:
            task, told = None, ("raised", f"it cannot be imported: {raised_by(error)}")
    if task is not None:
        _one_thread()
        told = _told(both if what == "both" else answers, task)
    part = Path(folder) / "part"
    part.write_bytes(pickle.dumps(told))
    part.rename(Path(folder) / "answer")


class _Pickler(pickle.Pickler):
    def reducer_override(self, item: Any) -> Any:
        """Write what stands under a name in a module by that name, whatever it is."""
        if callable(item) and not isinstance(item, type) and item is not _at:
            address = _address(item)
            if address is not None:
                return _at, address
        return NotImplemented


def _address(item: Any) -> tuple[str, str] | None:
    module, name = getattr(item, "__module__", None), getattr(item, "__qualname__", None)
    if not isinstance(module, str) or not isinstance(name, str) or module not in sys.modules:
        return None
    try:
        return (module, name) if _at(module, name) is item else None
    except (AttributeError, ImportError):
        return None


def _at(module: str, name: str) -> Any:
    __import__(module)
    found: Any = sys.modules[module]
    for part in name.split("."):
        found = getattr(found, part)
    return found


def _packed(task: Task) -> bytes | None:
    """Return the task as bytes, None for one that another interpreter could not read."""
    stream = io.BytesIO()
    try:
        _Pickler(stream).dump(task)
    except Exception:
        return None
    data = stream.getvalue()
    # What was defined in the program that runs here is not in a module that could be imported.
    return None if b"__main__" in data else data


# What is compared


def answers(task: Task) -> dict[str, list[Vector]]:
    """Return what the function answers at two points, several times over."""
    from gradcheck.blackbox.api import prepared

    function, seed = prepared(task.f, task.inputs, task.arguments), int(task.arguments.get("seed", 0))
    rng = np.random.default_rng([seed, 97])
    example = function.point
    other = tuple(x * (1 + rng.integers(-8, 9, x.size) / 64.0) for x in example)
    flat = signed(seed, function.size)
    found: dict[str, list[Vector]] = {}
    for label, point in (("the example", example), ("another input", other)):
        for k in range(_REPEATS):
            # Objects and arrays come to lie elsewhere than in the call before.
            kept = [np.empty(1 + 7 * k + j) for j in range(50)]
            try:
                value = function.values(tuple(x[None] for x in point))[0]
                gradients = function.gradients(point, flat[None])
            except CallFailed as error:
                if label == "the example":
                    raise
                return {**found, f"what it says at {label}: {raised_by(error.__cause__ or error)}": []}
            del kept
            found.setdefault(f"the value at {label}", []).append(np.asarray(value))
            for axes, g in zip(function.inputs, gradients, strict=True):
                told = np.zeros(0) if g is None else np.asarray(g[0])
                found.setdefault(f"the gradient of {axes.name} at {label}", []).append(told)
    return found


def compared(
    own: Mapping[str, Sequence[Vector]], told: Mapping[str, Sequence[Vector]], how: str
) -> tuple[list[Problem], int]:
    """Return where another process answers otherwise, bit by bit, and how many numbers were compared."""
    problems, count = [], 0
    for label, here in own.items():
        there = told.get(label)
        if there is None:
            problems.append(Problem(f"{label} is another in {how}"))
            continue
        if not here:
            continue
        steady = all(_equal(here[0], x) for x in here) and all(_equal(there[0], x) for x in there)
        a, b = here[0], there[0]
        count += a.size
        if a.shape != b.shape:
            problems.append(Problem(f"{label} has {b.size} numbers in {how}, {a.size} here", breach="shape"))
            continue
        differs = ~_same_bits(a, b) if steady else ~_near(a, b)
        if differs.any():
            k = int(np.argmax(differs))
            problems.append(
                Problem(
                    f"{label}, number {k}, is {float(b[k])!r} in {how} and {float(a[k])!r} here",
                    got=float(b[k]),
                    expected=float(a[k]),
                    error=abs(float(b[k]) - float(a[k])),
                    index=k,
                )
            )
    return problems, count


def _same_bits(a: Vector, b: Vector) -> Any:
    return ((a == b) & (np.signbit(a) == np.signbit(b))) | (np.isnan(a) & np.isnan(b))


def _near(a: Vector, b: Vector) -> Any:
    size = np.abs(a[np.isfinite(a)]).max(initial=0.0)
    return (np.abs(a - b) <= _SAME * size) | _same_bits(a, b)


def _equal(a: Vector, b: Vector) -> bool:
    return a.shape == b.shape and bool(_same_bits(a, b).all())
