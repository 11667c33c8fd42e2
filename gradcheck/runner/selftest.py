"""The self-test that every run begins with: sixty known answers through the same path as any other."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from gradcheck.errors import UntrustworthyError
from gradcheck.records import Array, Options, Verdict
from gradcheck.runner.answers import BAD, GOOD, Answer
from gradcheck.subjects import Implementation

Judge = Callable[[Answer], Verdict]


@dataclass(frozen=True)
class SelfTest:
    """What the self-test found. `misjudged` names the answers that got the wrong verdict."""

    good: int
    bad: int
    misjudged: tuple[str, ...]

    @property
    def record(self) -> dict[str, int]:
        """The counts that a run carries."""
        return {"good": self.good, "bad": self.bad, "misjudged": len(self.misjudged)}


def implementation(answer: Answer) -> Implementation:
    """Return `answer` as any other implementation under test."""

    def forward(inputs: tuple[Array, ...], options: Options) -> Array:
        with np.errstate(all="ignore"):
            return np.asarray(answer.function(inputs[0]))

    def vjp(inputs: tuple[Array, ...], cotangent: Array, options: Options) -> tuple[Array | None, ...]:
        with np.errstate(all="ignore"):
            slope = np.asarray(answer.function(inputs[0]))
            return ((slope.astype(cotangent.dtype) * cotangent).astype(cotangent.dtype),)

    return Implementation(
        formula=answer.formula,
        subject="self-test",
        format=answer.format,
        forward=forward,
        vjp=vjp,
        second=None,
    )


def judge(answer: Answer) -> Verdict:
    """Return the verdict of the checks on `answer`."""
    from gradcheck import checks

    return checks.examine(implementation(answer), answer.check).verdict


def run(judge: Judge = judge) -> SelfTest:
    """Judge the known answers; right ones must pass and wrong ones must be findings."""
    _require_flint()
    misjudged = [_label(answer, verdict) for answer in GOOD if not (verdict := judge(answer)).passed]
    misjudged += [_label(answer, verdict) for answer in BAD if not (verdict := judge(answer)).is_finding]
    return SelfTest(len(GOOD), len(BAD), tuple(misjudged))


def require(result: SelfTest) -> SelfTest:
    """Return `result` if every answer was judged rightly; an `UntrustworthyError` names the others."""
    if result.misjudged:
        raise UntrustworthyError(
            f"the self-test misjudged {len(result.misjudged)} of {result.good + result.bad} known answers "
            f"({'; '.join(result.misjudged[:3])}); no verdict of this installation can be trusted"
        )
    return result


def _label(answer: Answer, verdict: Verdict) -> str:
    return f"{answer.formula} {answer.check} in {answer.format.name}, {answer.name!r}: {verdict}"


def _require_flint() -> None:
    if importlib.util.find_spec("flint") is None:
        raise UntrustworthyError(
            "python-flint is not installed: without it there is no proven truth to judge by; "
            "install it with: pip install python-flint"
        )
