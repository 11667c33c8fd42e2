"""The self-test that every run begins with: sixty known answers through the same path as any other."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from gradcheck.cases import cotangents
from gradcheck.checks.examine import examine
from gradcheck.errors import UntrustworthyError
from gradcheck.families import special_values
from gradcheck.formulas import get_formula
from gradcheck.records import DERIVATIVE, VALUE, Array, Case, Options, Verdict
from gradcheck.runner.answers import BAD, GOOD, Answer
from gradcheck.subjects import Implementation

Judge = Callable[[Answer], Verdict]

# Kinks with both neighbours, the reach of cancellation, the tails of exp in every format.
MAGNITUDES = np.array(
    [0.1, 0.25, 0.5, 0.7, 1.0, 1 - 2**-8, 1 + 2**-7, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 6.5, 7.0, 8.5, 10.0]
    + [12.0, 15.0, 18.0, 19.5, 21.0, 25.0, 30.0, 36.5, 60.0, 90.0, 120.0, 400.0, 720.0, 800.0]
    + [2.0**-k for k in (4, 6, 8, 10, 12, 16, 20, 24, 30, 40, 60, 100)]
)


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


def case(answer: Answer) -> Case:
    """Return the inputs that an answer is judged on: specials, kinks and their neighbours, both tails."""
    fmt = answer.format
    magnitudes = np.concatenate([MAGNITUDES, [fmt.least_normal / 8, fmt.largest, np.log(-fmt.emin) * 2]])
    finite = np.concatenate([magnitudes, -magnitudes])
    values = np.concatenate([finite, special_values(fmt)])
    with np.errstate(over="ignore"):
        inputs = np.clip(values, -fmt.largest, fmt.largest).astype(fmt.dtype)
    inputs = np.where(np.isinf(values), values, inputs).astype(fmt.dtype)
    return Case("self-test", fmt, (inputs,), cotangents(0, inputs.shape, fmt), {}, 0)


def judge(answer: Answer) -> Verdict:
    """Return the verdict of the checks on `answer`."""
    order = DERIVATIVE if answer.check == "derivative" else VALUE
    return examine(implementation(answer), get_formula(answer.formula), case(answer), order).verdict


def run(judge: Judge = judge) -> SelfTest:
    """Judge the known answers; right ones must pass and wrong ones must be findings."""
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
