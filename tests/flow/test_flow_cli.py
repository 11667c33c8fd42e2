"""The command line of gradient flow: what is meant, what is refused, what is printed and written."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from gradcheck import cli
from gradcheck.flow import command
from gradcheck.flow.document import Chapter, FlowDocument, judged

Call = Callable[..., tuple[int, str, str]]

MODEL = """
from torch import nn
def build(seed):
    layers = [module for _ in range({depth}) for module in (nn.Linear(16, 16), nn.{activation}())]
    return nn.Sequential(*layers, nn.Linear(16, 4))
def loss(output):
    return (output ** 2).mean()
"""


@pytest.fixture
def called(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Call:
    monkeypatch.chdir(tmp_path)

    def call(*arguments: str) -> tuple[int, str, str]:
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            cli.main(["flow", *arguments])
        out, err = capsys.readouterr()
        assert isinstance(ended.value.code, int)
        return ended.value.code, out, err

    return call


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, int], str]:
    monkeypatch.setattr(sys, "path", [*sys.path])

    def written(activation: str, depth: int) -> str:
        name = f"model_{activation.lower()}_{depth}"
        (tmp_path / f"{name}.py").write_text(MODEL.format(activation=activation, depth=depth))
        return name

    return written


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("nonsense",), ("nothing, atlas, or package.module:build",)),
        (("--grid", "3"), ("--grid belongs to a map",)),
        (("--input", "float32[2,3]"), ("--input belongs to a model",)),
        (("--activation", "tanh", "--only", "theory"), ("--only is no option of a network", "the study")),
        (("atlas", "--only", "theory"), ("--only is no option of a map",)),
        (("atlas", "--input", "float32[2]"), ("--input is no option of a map", "a model")),
        (("a.b:c", "--depth", "3"), ("--depth is no option of a model", "a network")),
        (("a.b:c",), ("--input 'float32[32,784]'",)),
        (("--activation", "gleu"), ("did you mean 'gelu'",)),
        (("--activation", "no.such:thing"), ("the activation", "no.such")),
        (("--depth", "0"), ("depth", "at least 2")),
        (("--depth", "many"), ("many",)),
        (("--init", "he"), ("unknown init",)),
        (("--seeds", "0", "--activation", "relu"), ("seeds",)),
        (("atlas", "--plane", "weigths"), ("did you mean 'weights'",)),
        (("atlas", "--x", "3"), ("0.5..3",)),
        (("atlas", "--x", "3..1"), ("low < high",)),
        (("atlas", "--plane", "gain-depth", "--gain", "2"), ("--gain is an axis",)),
        (("atlas", "--plane", "batch-depth", "--depth", "9"), ("--depth is an axis",)),
        (("atlas", "--seeds", "1"), ("standard error",)),
        (("--only", "theroy"), ("did you mean 'theory'",)),
    ],
)
def test_what_cannot_be_meant_is_a_usage_error_on_one_line(
    called: Call, arguments: tuple[str, ...], words: tuple[str, ...]
) -> None:
    code, out, err = called(*arguments)
    assert code == 2, err
    assert not out
    assert err.startswith("gradcheck: error: ") and err.count("\n") == 1
    for word in words:
        assert word in err
    assert not list(Path.cwd().iterdir())


def test_help_names_every_form_and_imports_nothing_heavy() -> None:
    code = (
        "import sys\nfrom gradcheck import cli\n"
        "try:\n    cli.main(['flow', '--help'])\nexcept SystemExit as ended:\n    assert ended.code == 0\n"
        "sys.exit(repr({'numpy', 'torch', 'scipy', 'rich', 'msgspec', 'jinja2'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stderr.strip() == "set()"
    for form in ("gradcheck flow atlas", "--activation tanh", "lib.nets:build --input"):
        assert form in done.stdout


def test_every_option_belongs_to_something() -> None:
    asked = {each.name for each in cli.flow.params} - {"target", "seed", "out", "as_json", "quiet"}
    assert asked == {name for names in command.OPTIONS.values() for name in names}


def test_a_sick_network_exits_with_1_and_a_healthy_one_with_0(called: Call) -> None:
    code, out, _ = called("--activation", "sigmoid", "--init", "torch", "--depth", "12", "--width", "32")
    assert code == 1 and "vanishing" in out
    code, out, _ = called("--activation", "relu", "--depth", "12", "--width", "64")
    assert code == 0 and "healthy" in out
    assert not list(Path.cwd().iterdir())


def test_a_network_is_written_as_page_and_numbers(called: Call, tmp_path: Path) -> None:
    code, out, _ = called("--depth", "8", "--width", "32", "--seeds", "40", "--seed", "3", "--out", "there")
    page, data = tmp_path / "there" / "flow-network.html", tmp_path / "there" / "flow-network.json"
    assert code == 0
    assert "page: " in out
    made = FlowDocument.from_json(data.read_bytes())
    assert made.seed == 3
    assert made.arguments[:2] == ("gradcheck", "flow") and "--width" in made.arguments
    assert {row.name: row.seeds for row in made.chapters[0].rows} == {"factor": 40, "rate": 40}
    assert made.counts.rows == 2
    assert "<script" not in page.read_text()


def test_json_and_quiet_print_that_alone(called: Call) -> None:
    _, out, err = called("--depth", "8", "--width", "16", "--json")
    assert json.loads(out)["chapters"][0]["id"] == "measurement"
    assert not err
    _, out, err = called("--depth", "8", "--width", "16", "--quiet")
    assert out.count("\n") == 1 and out.startswith("healthy") and not err


def test_an_activation_of_ones_own_is_taken_by_its_address(called: Call, tmp_path: Path) -> None:
    (tmp_path / "owned.py").write_text("import numpy as np\ndef wave(x):\n    return np.sin(x)\n")
    code, out, _ = called(
        "--activation", "owned:wave", "--weight-variance", "4", "--depth", "10", "--width", "32"
    )
    assert code in (0, 1)
    assert out.startswith("wave, dense, depth 10, width 32")
    assert "law     factor" in out


def test_a_model_is_diagnosed(called: Call, model: Callable[[str, int], str], tmp_path: Path) -> None:
    name = model("Sigmoid", 10)
    code, out, _ = called(f"{name}:build", "--input", "float32[8,16]", "--seeds", "3", "--out", ".")
    assert code == 1
    assert "vanishing" in out and "normalisation: batch norm" in out
    made = FlowDocument.from_json((tmp_path / "flow-model.json").read_bytes())
    assert [chapter.id for chapter in made.chapters] == ["measurement", "diagnosis", "remedies"]


def test_a_model_with_its_loss_and_without_remedies(called: Call, model: Callable[[str, int], str]) -> None:
    name = model("Tanh", 3)
    code, out, _ = called(
        f"{name}:build", "--input", "float32[8,16]", "--loss", f"{name}:loss", "--no-remedies", "--seeds", "3"
    )
    assert code in (0, 1)
    assert "FLOW-LOSS" in out
    assert "normalisation:" not in out


def test_an_atlas_is_written_to_reports(called: Call, tmp_path: Path) -> None:
    code, out, err = called("atlas", "--activation", "tanh", "--grid", "3", "--seeds", "2", "--width", "32")
    assert code == 0
    assert "9 points, 2 networks at each" in out
    assert "of 18 networks" in err
    made = FlowDocument.from_json((tmp_path / "reports" / "atlas.json").read_bytes())
    assert made.chapters[0].charts[0].kind == "heat"
    assert (tmp_path / "reports" / "atlas.html").is_file()


def made_study(exact: float) -> Callable[..., Iterator[Chapter]]:
    def chapters(
        seed: int, only: object = None, say: Callable[[str], None] | None = None
    ) -> Iterator[Chapter]:
        if say is not None:
            say("chapter made")
        row = judged("a number", 1.0, 0.1, exact, seeds=seed + 7, source="made up")
        yield Chapter("made", f"made of {only}", rows=(row,))

    return chapters


@pytest.mark.parametrize(("exact", "code"), [(1.1, 0), (9.0, 1)])
def test_the_study_exits_with_1_if_a_row_is_beyond(
    called: Call, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, exact: float, code: int
) -> None:
    from gradcheck.flow.study import at_once

    monkeypatch.setattr(at_once, "chapters", made_study(exact))
    found, out, err = called("--only", "theory", "--seed", "1")
    assert found == code
    assert "made of ('theory',)" in out and "a number" in out and "1 ± 0.1" in out
    assert "chapter made" in err
    assert (tmp_path / "reports" / "flow.html").is_file()
    made = FlowDocument.from_json((tmp_path / "reports" / "flow.json").read_bytes())
    assert made.chapters[0].rows[0].seeds == 8
