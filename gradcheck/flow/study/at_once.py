"""The chapters of the study in processes of their own: they share nothing but the seed."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from typing import Any

from gradcheck.flow.document import Chapter
from gradcheck.flow.study import Say, chapters, wanted_chapters

# One thread in each: two processes on two cores are faster than two threads in turn.
_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
_told: Any = None


def chapters_at_once(seed: int, only: Iterable[str] | None, say: Say, processes: int) -> tuple[Chapter, ...]:
    """Return the chapters of the study in their order, made by so many processes.

    `only` and `say` are those of `chapters`; what an error in a process was, is raised here.
    """
    wanted = wanted_chapters(only)
    if processes < 2 or len(wanted) < 2:
        return tuple(chapters(seed, only=wanted, say=say))
    context = get_context("spawn")
    told = context.Queue()
    listener = threading.Thread(target=_listen, args=(told, say), daemon=True)
    listener.start()
    try:
        with (
            _one_thread_each(),
            ProcessPoolExecutor(min(processes, len(wanted)), context, _begin, (told,)) as pool,
        ):
            made = [pool.submit(_chapter, seed, id) for id in wanted]
            return tuple(each.result() for each in made)
    finally:
        told.put(None)
        listener.join()


def _begin(told: Any) -> None:
    global _told  # noqa: PLW0603 - an initializer has no other way to leave what a process is given once
    _told = told


def _chapter(seed: int, id: str) -> Chapter:
    (chapter,) = chapters(seed, only=id, say=_told.put)
    return chapter


def _listen(told: Any, say: Say) -> None:
    while (text := told.get()) is not None:
        say(text)


@contextmanager
def _one_thread_each() -> Iterator[None]:
    """Let processes that are started here do linear algebra in one thread."""
    before = {name: os.environ.get(name) for name in _THREADS}
    os.environ.update(dict.fromkeys(_THREADS, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
