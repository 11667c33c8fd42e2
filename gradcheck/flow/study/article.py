"""The chapter of the article: eight claims decided by measurement, and its four pictures."""

from __future__ import annotations

from gradcheck.flow.document import Chapter
from gradcheck.flow.study.claims import decided
from gradcheck.flow.study.pictures import pictures


def article_chapter(seed: int) -> Chapter:
    """Return the chapter with every claim's verdict and numbers, and figures 1 to 4."""
    said = (
        "Claims of the article on vanishing and exploding gradients, each decided by the numbers beside it; "
        "a "
        "difference counts from 4 standard errors on.",
    )
    return Chapter("article", "The article's claims", said, charts=pictures(seed), claims=decided(seed))
