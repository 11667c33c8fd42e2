"""Run each task in a process of its own, a few at a time and each within a time limit.

Operations of the corpora change seeds, default formats and gradient modes, and remember calls; nothing of it
reaches the next task.
"""

from __future__ import annotations

import multiprocessing
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import Connection, wait
from typing import Any

OVER = "not applicable: over the time limit"
DIED = "not applicable: the process died"


def run(
    tasks: Sequence[tuple[Any, Callable[[], Any]]],
    jobs: int = 2,
    seconds: float = 30.0,
    budget: float = float("inf"),
) -> Iterator[tuple[Any, Any, float]]:
    """Yield key, answer and seconds of each task as it ends; `OVER` or `DIED` in place of an answer.

    After `budget` seconds no further task begins.
    """
    context = multiprocessing.get_context("fork")
    left = list(reversed(tasks))
    active: dict[Connection, tuple[Any, Any, float]] = {}
    end = time.monotonic() + budget
    while left or active:
        if time.monotonic() > end:
            left = []
        while left and len(active) < jobs:
            key, task = left.pop()
            here, there = context.Pipe(duplex=False)
            process = context.Process(target=_answer, args=(task, there), daemon=True)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                process.start()
            there.close()
            active[here] = key, process, time.monotonic()
        ready = wait(list(active), timeout=0.5)
        for connection, (key, process, started) in list(active.items()):
            taken = time.monotonic() - started
            if connection in ready:
                try:
                    answer = connection.recv()
                except EOFError:
                    answer = DIED
            elif taken > seconds:
                answer = OVER
                process.kill()
            else:
                continue
            process.join()
            connection.close()
            del active[connection]
            yield key, answer, taken


def _answer(task: Callable[[], Any], there: Connection) -> None:
    import torch

    torch.set_num_threads(1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        there.send(task())
    there.close()
