"""The study: theory, defaults, the article's claims, published results and verdicts, measured.

Every number is drawn from one seed; no chapter depends on which others are made.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

from gradcheck.errors import unknown_name
from gradcheck.flow.document import Chapter

Say = Callable[[str], None]
CHAPTERS = ("theory", "frameworks", "article", "literature", "health")

__all__ = ["CHAPTERS", "chapters"]


def chapters(seed: int, only: str | Iterable[str] | None = None, say: Say | None = None) -> Iterator[Chapter]:
    """Yield the chapters of the study, each with the seconds that it took.

    `only` is an id of `CHAPTERS`, or several; `say` is told what is done. Raises `UsageError` for an id that
    is none.
    """
    return _made(seed, wanted_chapters(only), say)


def wanted_chapters(only: str | Iterable[str] | None) -> tuple[str, ...]:
    """Return the ids of chapters in their order, all for None; `UsageError` for an id that is none."""
    wanted = (only,) if isinstance(only, str) else tuple(only) if only is not None else CHAPTERS
    for id in wanted:
        if id not in CHAPTERS:
            raise unknown_name("chapter", id, CHAPTERS)
    return tuple(id for id in CHAPTERS if id in wanted)


def _made(seed: int, wanted: tuple[str, ...], say: Say | None) -> Iterator[Chapter]:
    for id in wanted:
        if say is not None:
            say(f"chapter {id}")
        start = time.monotonic()
        chapter = _chapter(id, seed, say)
        yield replace(chapter, seconds=time.monotonic() - start)


def _chapter(id: str, seed: int, say: Say | None) -> Chapter:
    if id == "theory":
        from gradcheck.flow.study.theory import theory_chapter

        return theory_chapter(seed, say)
    if id == "frameworks":
        from gradcheck.flow.study.frameworks import frameworks_chapter

        return frameworks_chapter(seed)
    if id == "article":
        from gradcheck.flow.study.article import article_chapter

        return article_chapter(seed)
    if id == "literature":
        from gradcheck.flow.study.literature import literature_chapter

        return literature_chapter(seed, say)
    from gradcheck.flow.study.acceptance import acceptance_chapter

    return acceptance_chapter(seed)
