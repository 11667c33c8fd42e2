"""`gradcheck check` from the command line: what it reads, prints, writes and answers with its exit code."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from gradcheck.blackbox.command import InputText, example, read_input
from gradcheck.cli import _run
from gradcheck.errors import UsageError
from gradcheck.evidence import Store

MODULE = """
import os
import numpy as np
import torch

class Wrong(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x ** 2

    @staticmethod
    def backward(ctx, g):
        return 3 * g * ctx.saved_tensors[0]

def right(x):
    return torch.log(x)

def ends(x):
    os.abort()

def square(x):
    return x * x

def pull(inputs, cotangent):
    return (2 * inputs[0] * cotangent,)
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    name = f"mine_{abs(hash(str(tmp_path))) % 10**9}"
    (tmp_path / f"{name}.py").write_text(MODULE, "utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    return name


def test_a_wrong_function_ends_with_1_and_a_report(module, tmp_path, capsys):
    code = _run(["check", f"{module}:Wrong", "--input", "float64[2,3]", "--check", "jacobian",
                 "--report", "out"])  # fmt: skip
    assert code == 1
    said = capsys.readouterr().out
    assert "JACOBIAN-INCONSISTENT" in said and f"from {module} import Wrong" in said
    assert "Wrong.apply" in (tmp_path / "out" / "index.html").read_text("utf-8")
    with Store.open(tmp_path / "out" / "run.sqlite") as store:
        (finding,) = store.document().findings
    assert (finding.code, finding.verdict) == ("JACOBIAN-INCONSISTENT", "inconsistent")


def test_a_right_function_ends_with_0(module, capsys):
    assert _run(["check", f"{module}:right", "--input", "float64[3]:positive", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["ok"] and said["verdict"] == "consistent"


def test_a_numpy_pair_and_a_reference_by_address(module):
    pair = ["check", f"{module}:square", "--framework", "numpy", "--vjp", f"{module}:pull"]
    assert _run([*pair, "--input", "float64[3]", "--reference", f"{module}:square"]) == 0
    assert _run([*pair, "--input", "float64[3]", "--reference", "relu", "--check", "reference"]) == 1


def test_a_crash_ends_with_1(module, capfd):
    assert _run(["check", f"{module}:ends", "--input", "float64[3]"]) == 1
    assert "SUBJECT-CRASHED" in capfd.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["{}:nothing", "--input", "float64[2]"], "has no nothing; it has"),
        (["{}", "--input", "float64[2]"], "expected package.module:function"),
        (["no_such_module:f", "--input", "float64[2]"], "importing no_such_module fails"),
        (["{}:right", "--input", "float65[2]"], "expected a format and a shape"),
        (["{}:right", "--input", "int64[2]<4"], "at least one floating-point tensor"),
        (["{}:right", "--input", "float64[2]", "--reference", "gelo"], "did you mean 'gelu"),
        (["{}:right", "--input", "float64[2]", "--option", "eps"], "expected NAME=VALUE"),
        (["{}:right"], "Missing option '--input'"),
    ],
)
def test_what_cannot_be_used_ends_with_2(module, capsys, arguments, complaint):
    assert _run(["check", *(text.format(module) for text in arguments)]) == 2
    assert complaint in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("float64[8,4]", InputText("float64", (8, 4))),
        ("float32[]", InputText("float32", ())),
        ("bfloat16[ 3 ]:unit", InputText("bfloat16", (3,), "unit")),
        ("float64[3]:-1..2.5", InputText("float64", (3,), (-1.0, 2.5))),
        ("int64[8]<10", InputText("int64", (8,), None, 10)),
        ("bool[2]", InputText("bool", (2,), None, 2)),
    ],
)
def test_an_input_is_read(text, said):
    assert read_input(text) == said
    made = example(said, 0)
    assert made.shape == said.shape
    if said.domain == (-1.0, 2.5):
        assert (made > -1).all() and (made < 2.5).all()


@pytest.mark.parametrize(
    "text",
    ["float64", "float64[a]", "float64[2]:2..1", "float64[2]:real", "int64[2]<0", "float64[9999999999]"],
)
def test_an_input_that_makes_no_sense_is_refused(text):
    with pytest.raises(UsageError):
        read_input(text)
