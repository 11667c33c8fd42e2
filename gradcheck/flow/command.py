"""What `gradcheck flow` does: the study, one network, a user's own model, or a map, as a document and a text.

Which of them is meant says the target: nothing at all is the study, "atlas" a map, package.module:build a
model; options of a network alone are that network.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from gradcheck.errors import UsageError
from gradcheck.flow.document import Chapter, FlowDocument

Say = Callable[[str], None]

STUDY, NETWORK, MODEL, ATLAS = "study", "network", "model", "atlas"
# The options of each, by their names in Python; all take --seed, --out, --json and --quiet.
OF_NETWORK = (
    "activation", "init", "weight_variance", "bias_variance", "gain", "depth", "width", "norm", "batch",
    "keep", "residual", "distribution", "kind", "kernel", "size", "padding", "format",
)  # fmt: skip
OPTIONS: Mapping[str, tuple[str, ...]] = {
    STUDY: ("only",),
    NETWORK: (*OF_NETWORK, "seeds"),
    MODEL: ("inputs", "loss", "no_remedies", "seeds"),
    ATLAS: (*OF_NETWORK, "seeds", "plane", "grid", "x", "y"),
}
_SAID = {
    STUDY: "the study (`gradcheck flow` alone)",
    NETWORK: "a network (`gradcheck flow --activation …`)",
    MODEL: "a model (`gradcheck flow package.module:build`)",
    ATLAS: "a map (`gradcheck flow atlas`)",
}
# Options whose name on the command line is not the one in Python.
_NAMES = {"inputs": "--input"}
FILES = {STUDY: "flow", NETWORK: "flow-network", MODEL: "flow-model", ATLAS: "atlas"}
DEFAULT_SEEDS = {NETWORK: 32, MODEL: 8, ATLAS: 32}
# An atlas without a depth of its own takes this one.
ATLAS_DEPTH = 30
_RANGE = re.compile(r"\s*(?P<low>[0-9.eE+-]+)\.\.(?P<high>[0-9.eE+-]+)\s*")


@dataclass(frozen=True)
class Outcome:
    """What came out: the document, the same as text ("" for the study), and whether it is a finding."""

    mode: str
    document: FlowDocument
    text: str
    failed: bool

    @property
    def stem(self) -> str:
        """The name of the files of the page and of its numbers, without what follows the dot."""
        return FILES[self.mode]


def mode_of(target: str | None, given: Mapping[str, Any]) -> str:
    """Return what is meant; `UsageError` for an option that belongs to something else."""
    if target is None:
        mode = NETWORK if set(given) & set(OPTIONS[NETWORK]) else STUDY
        wrong = [name for name in given if name not in OPTIONS[mode]]
        if wrong and mode == STUDY:
            mode = next(m for m in (MODEL, ATLAS) if wrong[0] in OPTIONS[m])
            raise UsageError(f"{_option(wrong[0])} belongs to {_SAID[mode]}")
    elif target == ATLAS:
        mode = ATLAS
    elif ":" in target:
        mode = MODEL
    else:
        raise UsageError(
            f"target {target!r}: expected nothing, atlas, or package.module:build, such as "
            "mylib.nets:build_model"
        )
    for name in given:
        if name not in OPTIONS[mode]:
            owners = [_SAID[m] for m in (STUDY, NETWORK, MODEL, ATLAS) if name in OPTIONS[m]]
            raise UsageError(f"{_option(name)} is no option of {_SAID[mode]}; it belongs to {owners[0]}")
    return mode


def _option(name: str) -> str:
    return _NAMES.get(name, "--" + name.replace("_", "-"))


def run(target: str | None, given: Mapping[str, Any], seed: int, say: Say) -> Outcome:
    """Do what the command line says: `given` are the options that were given, `say` hears what is done."""
    mode = mode_of(target, given)
    begun, start = datetime.now(UTC), time.perf_counter()
    work = {STUDY: _study, NETWORK: _network, MODEL: _model, ATLAS: _atlas}[mode]
    chapters, text, failed = work(target or "", given, seed, say)
    document = _document(
        chapters, begun, time.perf_counter() - start, seed, _words(target, given, seed), mode
    )
    return Outcome(mode, document, text, failed or bool(document.counts.misses))


def _words(target: str | None, given: Mapping[str, Any], seed: int) -> tuple[str, ...]:
    """Return the command line that does the same again."""
    words = ["gradcheck", "flow", *([target] if target else [])]
    for name, value in given.items():
        for each in value if isinstance(value, tuple) else (value,):
            words += [_option(name)] if each is True else [_option(name), str(each)]
    return (*words, "--seed", str(seed))


def _document(
    chapters: Sequence[Chapter],
    begun: datetime,
    seconds: float,
    seed: int,
    arguments: Sequence[str],
    mode: str,
) -> FlowDocument:
    from gradcheck.runner import environment

    title = {} if mode == STUDY else {"title": chapters[0].title}
    return FlowDocument(
        started=begun.strftime("%Y-%m-%dT%H:%M:%SZ"),
        seconds=seconds,
        versions=environment.versions(),
        machine=environment.machine(),
        chapters=tuple(chapters),
        seed=seed,
        arguments=tuple(arguments),
        **title,
    )


Work = tuple[Sequence[Chapter], str, bool]


def _study(target: str, given: Mapping[str, Any], seed: int, say: Say) -> Work:
    from gradcheck.flow.study.at_once import chapters_at_once
    from gradcheck.runner import environment

    return chapters_at_once(seed, given.get("only") or None, say, environment.cores()), "", False


def _network(target: str, given: Mapping[str, Any], seed: int, say: Say) -> Work:
    from gradcheck.flow.measured_chapter import measurement_chapter
    from gradcheck.flow.measuring import measure

    network, seeds = network_of(given), given.get("seeds", DEFAULT_SEEDS[NETWORK])
    start = time.perf_counter()
    m = measure(network, seeds=seeds, seed=seed)
    return (measurement_chapter(m, time.perf_counter() - start),), str(m), _is_sick(m)


def _is_sick(m: Any) -> bool:
    from gradcheck.flow.verdict import FlowVerdict

    return m.verdict in (FlowVerdict.VANISHING, FlowVerdict.EXPLODING)


def network_of(given: Mapping[str, Any], **defaults: Any) -> Any:
    """Return the network that the options say; an activation may be package.module:function."""
    from gradcheck.blackbox.command import load
    from gradcheck.flow.network import Network

    chosen = {**defaults, **{name: given[name] for name in OF_NETWORK if name in given}}
    activation = chosen.get("activation")
    if isinstance(activation, str) and ":" in activation:
        chosen["activation"] = load(activation, "the activation")
    residual = chosen.get("residual")
    if residual is not None:
        chosen["residual"] = _number(residual)
    return Network(**chosen)


def _number(text: str) -> float | str:
    """Return the number that a text is; "1" and the texts that depend on the depth stay as they are."""
    if text == "1":
        return text
    try:
        return float(text)
    except ValueError:
        return text


def _model(target: str, given: Mapping[str, Any], seed: int, say: Say) -> Work:
    from gradcheck.blackbox import command
    from gradcheck.flow.diagnosis import diagnose
    from gradcheck.flow.measured_chapter import diagnosis_chapters

    if not given.get("inputs"):
        raise UsageError(f"{target}: give what the model takes, such as --input 'float32[32,784]'")
    said = [command.read_input(text) for text in given["inputs"]]
    build = command.load(target, "the model")
    loss = command.load(given["loss"], "the loss") if given.get("loss") else None
    examples = command.inputs_of(said, "torch", seed)
    start = time.perf_counter()
    d = diagnose(
        build,
        examples[0] if len(examples) == 1 else tuple(examples),
        seeds=given.get("seeds", DEFAULT_SEEDS[MODEL]),
        loss=loss,
        remedies=not given.get("no_remedies", False),
        seed=seed,
    )
    return diagnosis_chapters(d, time.perf_counter() - start), str(d), _is_sick(d.measurement)


def _atlas(target: str, given: Mapping[str, Any], seed: int, say: Say) -> Work:
    from gradcheck.flow.atlas import make_atlas
    from gradcheck.flow.atlas_chapter import chapter_of

    plane = given.get("plane", "weights")
    # A gain multiplies weights of variance 1/fan_in; the rule of Kaiming has its own gain already.
    defaults: dict[str, Any] = {"depth": ATLAS_DEPTH}
    if plane == "gain-depth":
        defaults["init"] = "xavier"
    for name, axes in (("gain", "gain-depth"), ("depth", "gain-depth and batch-depth")):
        if name in given and plane in axes:
            raise UsageError(f"--{name} is an axis of the plane {plane}: give its ends with --x or --y")
    told = [-1]

    def heard(done: int, planned: int) -> None:
        tenth = 10 * done // planned
        if tenth > told[0]:
            told[0] = tenth
            say(f"{done:,} of {planned:,} networks")

    made = make_atlas(
        network_of(given, **defaults),
        plane,
        grid=given.get("grid", 40),
        seeds=given.get("seeds", DEFAULT_SEEDS[ATLAS]),
        seed=seed,
        x=_ends(given, "x"),
        y=_ends(given, "y"),
        say=heard,
    )
    chapter = chapter_of(made)
    return (chapter,), "\n".join((chapter.title, *chapter.paragraphs, f"{made.seconds:.1f} s")), False


def _ends(given: Mapping[str, Any], name: str) -> tuple[float, float] | None:
    """Return the ends of an axis, `0.5..3`."""
    text = given.get(name)
    if text is None:
        return None
    match = _RANGE.fullmatch(text)
    try:
        if match is not None:
            return float(match["low"]), float(match["high"])
    except ValueError:
        pass
    raise UsageError(f"--{name} {text!r}: expected the ends of the axis, such as 0.5..3")
