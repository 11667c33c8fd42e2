"""The nouns of an explanation: its kinds, and the call that a finding is about."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Any

import torch

DEFECT = "defect of PyTorch"
REFUSAL = "refusal of PyTorch"
CONVENTION = "documented convention"
JUMP = "no derivative there"
ROUNDING = "rounding of an ill-conditioned call"
TIME = "out of time"
UNEXPLAINED = "unexplained"
# The further behind, the more a person is needed.
KINDS = (TIME, CONVENTION, JUMP, ROUNDING, REFUSAL, DEFECT, UNEXPLAINED)


@dataclass(frozen=True)
class Explanation:
    """The kind, one of `KINDS`, and what was measured."""

    kind: str
    measured: str


@dataclass(frozen=True)
class Call:
    """The call that a finding's program makes, and the entry that it is about, if it is about one."""

    tensors: tuple[Any, ...]
    row: int = -1
    place: int = -1
    column: int = -1
    expected: float = math.nan


class _Called(Exception):
    pass


def call_of(program: str) -> Call | None:
    """Run a finding's program up to its call and return the tensors; None if it does not have all of them."""
    caught: list[tuple[Any, ...]] = []

    def f(*tensors: Any) -> None:
        caught.append(tensors)
        raise _Called

    lines = [line for line in program.splitlines() if not line.startswith("f = ")]
    scope: dict[str, Any] = {"f": f}
    try:
        exec("\n".join(lines), scope)
    except _Called:
        pass
    except Exception:
        return None
    if not caught or not all(isinstance(t, torch.Tensor) for t in caught[0]):
        return None
    about = re.search(r"grad\(flat\[(\d+)\], \((x\d+),\)", program)
    column = re.search(r"g\.reshape\(-1\)\[(\d+)\]", program)
    should = re.search(r"'should be:', (\S+)\)", program)
    if not (about and column and should):
        return Call(caught[0])
    expected = float(should[1])
    return Call(caught[0], int(about[1]), int(about[2][1:]), int(column[1]), expected)
