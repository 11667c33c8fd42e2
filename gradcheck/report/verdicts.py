"""What the report knows about verdicts: their order, their definitions, how they are marked.

The words are those of `gradcheck.records.Verdict`, which cannot be imported here because it needs NumPy;
a test holds the two lists against each other.
"""

from __future__ import annotations

from dataclasses import dataclass

PASS, FINDING, NEITHER = "pass", "finding", "neither"


@dataclass(frozen=True)
class Mark:
    """How one verdict is written: word, CSS class and symbol id `slug`, what kind it is, what it means."""

    word: str
    slug: str
    kind: str
    meaning: str


NO_RECORD = Mark(
    "no record",
    "norecord",
    NEITHER,
    "The check was planned, and the run holds neither evidence nor a reason.",
)
NOT_RUN = Mark(
    "not run", "notrun", NEITHER, "The check was planned and left out for the reason that is given."
)
UNKNOWN = Mark("unknown", "unknown", NEITHER, "A verdict that this version of the report does not know.")

# Worst first: the order in which a matrix cell picks what it shows.
MARKS = (
    Mark(
        "wrong",
        "wrong",
        FINDING,
        "The error exceeds what any listed way of evaluating the formula can produce in this arithmetic, "
        "or the semantics of NaN, infinity, zero's sign, shape or format are not in the accepted set.",
    ),
    Mark("inconsistent", "inconsistent", FINDING, "A black box without a reference contradicts itself."),
    Mark(
        "unstable",
        "unstable",
        FINDING,
        "Only a text that is listed as numerically unstable explains the error; that text is named.",
    ),
    NO_RECORD,
    Mark("inconclusive", "inconclusive", NEITHER, "The truth could not be pinned down, or the time ran out."),
    Mark(
        "vacuous",
        "vacuous",
        NEITHER,
        "Nothing was compared, or the bound is as large as the largest expected value; a pass means nothing.",
    ),
    UNKNOWN,
    Mark(
        "consistent",
        "consistent",
        PASS,
        "A black box agrees with itself; the resolution is stated.",
    ),
    Mark(
        "agrees",
        "agrees",
        PASS,
        "The error stays within the bound of the accepted ways of evaluation.",
    ),
    Mark("accurate", "accurate", PASS, "The error stays within the bound of the numerically stable ways."),
    NOT_RUN,
)
_BY_WORD = {mark.word: mark for mark in MARKS}
_RANK = {mark.slug: rank for rank, mark in enumerate(MARKS)}

CLAIM_SLUGS = {
    "upheld": "accurate",
    "refuted": "wrong",
    "conditional": "unstable",
    "undecidable": "notrun",
    "inconclusive": "inconclusive",
}

EXIT_CODES = {
    0: "every planned check is recorded or left out with a reason, and every finding is a known one",
    1: "a finding that is not in the known list, a stale line in it, or a budget passed",
    2: "usage: an argument, a name or a file that cannot be used as given",
    3: "a planned check has no record",
    4: "another run holds the folder",
    5: "storage: a file or folder that cannot be read or written",
    6: "the truth engine is missing, or the self-test misjudged an answer",
    130: "interrupted; the report shows what was recorded until then",
}


def mark(word: str) -> Mark:
    """Return how the verdict `word` is marked; a word outside the closed set is marked unknown."""
    return _BY_WORD.get(word, UNKNOWN)


def rank(verdict: Mark) -> int:
    """Return the place in the order of seriousness; 0 is the worst."""
    return _RANK[verdict.slug]
