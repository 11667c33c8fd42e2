"""Codes of gradient findings: a closed list, each explained, each used, and none used that is not in it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import gradcheck
from gradcheck.errors import UsageError
from gradcheck.explain import Explanation
from gradcheck.flow.codes import FLOW_CODES, explain_flow

NAMES = {explanation.code for explanation in FLOW_CODES}


def test_every_code_is_in_the_list_once_and_used_somewhere() -> None:
    root = Path(gradcheck.__file__).parent
    files = [*(root / "flow").glob("*.py"), *(root / "subjects").glob("torch_*.py")]
    texts = "\n".join(path.read_text(encoding="utf-8") for path in files if path.name != "codes.py")
    assert set(re.findall(r'"(FLOW-[A-Z]+)"', texts)) == NAMES
    assert len(NAMES) == len(FLOW_CODES)


@pytest.mark.parametrize("explanation", FLOW_CODES, ids=lambda explanation: explanation.code)
def test_every_code_is_explained_in_full_sentences(explanation: Explanation) -> None:
    assert explanation.summary.endswith(".")
    assert explanation.summary.count(". ") == 0
    for part in (explanation.meaning, explanation.reached, explanation.action):
        assert part.endswith(".")
        assert len(part) > 30
        assert "  " not in part
    assert explain_flow(f" {explanation.code.lower()} ") is explanation


def test_an_unknown_code_is_answered_with_the_closest() -> None:
    with pytest.raises(UsageError, match=r"did you mean .*'FLOW-DEAD'"):
        explain_flow("FLOW-DEAF")
