"""Measure a user's own network: one module per seed, or one module with a cotangent per seed."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from gradcheck.errors import MissingDependencyError, UsageError
from gradcheck.flow.measuring import Measurement, assemble
from gradcheck.flow.passes import Trace
from gradcheck.flow.verdict import FlowFinding


def measure_module(
    build: Any,
    example: Any,
    seeds: int,
    loss: Callable[..., Any] | None,
    *,
    seed: int = 0,
    loss_scale: float = 1.0,
) -> Measurement:
    """Measure what `build(seed)` makes; see `gradcheck.flow.measure`."""
    flow = _torch_flow()
    if not (callable(build) or flow.is_module(build)):
        raise UsageError(
            "build: expected a Network, an nn.Module or a function seed -> nn.Module, "
            f"got {type(build).__name__}"
        )
    records, failures, independent = [], [], False
    with flow.as_before():
        for place in range(seeds):
            module = flow.make(build, seed + place)
            if place == 0:
                independent = flow.depends_on_input(module, example) is False
            try:
                records.append(flow.record(module, example, seed + place, loss, loss_scale))
            except UsageError as error:
                # What fails for the first network fails for a reason that a person must remove.
                if not records:
                    raise
                failures.append((seed + place, str(error)))
    return _assembled(build, records, failures, independent, loss is not None)


def _torch_flow() -> Any:
    try:
        import importlib

        importlib.import_module("torch")
        from gradcheck.subjects import torch_flow
    except ImportError as error:
        raise MissingDependencyError('PyTorch is not installed: pip install "gradcheck[torch]"') from error
    return torch_flow


def _assembled(
    build: Any, records: Sequence[Any], failures: Sequence[tuple[int, str]], independent: bool, real: bool
) -> Measurement:
    kept, columns = _alike(records)
    findings = [FlowFinding(*note) for note in dict.fromkeys(note for r in kept for note in r.notes)]
    missing = len(records) - len(kept)
    if failures or missing:
        first = failures[0][1] if failures else "their layers are not those of the others"
        text = f"{len(failures) + missing} of {len(records) + len(failures)} networks are left out: {first}"
        findings.append(FlowFinding("FLOW-FAILED", text))
    if independent:
        text = "another input gives the same output, to the last bit: the input is not used"
        findings.append(FlowFinding("FLOW-INDEPENDENT", text))
    if real:
        text = (
            "the gradient is that of the loss given: its size depends on the output, and on the forward pass"
        )
        findings.append(FlowFinding("FLOW-LOSS", text))
    if len(kept) > 1 and len({r.fingerprint for r in kept}) == 1:
        text = "every seed gives the same weights: intervals speak of this one model under other cotangents"
        findings.append(FlowFinding("FLOW-SAME", text))
    if len(columns) < 2:
        raise UsageError(
            f"expected at least two layers that a gradient passes, found {len(columns)}"
            f"{' (' + columns[0][0].name + ')' if columns else ''}; layers are calls of modules with "
            "parameters, so write functional layers as modules" + _why(findings)
        )
    trace = _trace(columns)
    names = _unique([column[0].name for column in columns])
    sizes = tuple(float(np.mean([_active(call) for call in column])) for column in columns)
    return assemble(
        subject=_name(build),
        trace=trace,
        names=names,
        kinds=tuple(column[0].kind for column in columns),
        sizes=sizes,
        predicted=None,
        findings=tuple(findings),
    )


def _active(call: Any) -> float:
    """Return how many entries of a gradient are not zero by themselves."""
    return float(call.size * (1 - (0.0 if math.isnan(call.idle) else call.idle)))


def _why(findings: Sequence[FlowFinding]) -> str:
    told = [f"{f.code}: {f.message}" for f in findings if f.code in ("FLOW-UNREACHED", "FLOW-UNUSED")]
    return "; " + "; ".join(told) if told else ""


def _name(build: Any) -> str:
    named = getattr(build, "__qualname__", None) or type(build).__name__
    return str(named)


def _alike(records: Sequence[Any]) -> tuple[list[Any], list[list[Any]]]:
    """Return the networks with the most common layers, and per layer its calls in all of them.

    A layer is left out where no gradient reaches it, and where it only prepares a normalisation or follows
    one on the way to the next layer.
    """

    def layers(record: Any) -> list[Any]:
        return [call for call in record.calls if call.reached and not call.into_norm]

    shapes = [tuple((call.name, call.size) for call in layers(record)) for record in records]
    common = Counter(shapes).most_common(1)[0][0]
    kept = [record for record, shape in zip(records, shapes, strict=True) if shape == common]
    rows = [layers(record) for record in kept]
    return kept, [list(column) for column in zip(*rows, strict=True)]


def _trace(columns: Sequence[Sequence[Any]]) -> Trace:
    def rows(name: str) -> Any:
        return np.array([[getattr(call, name) for call in column] for column in columns], dtype=np.float64)

    gradient = rows("gradient")
    return Trace(
        gradient=gradient,
        weight_gradient=rows("weight_gradient"),
        forward=rows("forward"),
        idle=rows("idle"),
        dead=rows("dead"),
        saturated=rows("saturated"),
        zero=np.zeros_like(gradient),
        subnormal=np.zeros_like(gradient),
        infinite=np.asarray(~np.isfinite(gradient) & (gradient != -np.inf), dtype=np.float64),
    )


def _unique(names: Sequence[str]) -> tuple[str, ...]:
    total, met = Counter(names), Counter[str]()
    made = []
    for name in names:
        met[name] += 1
        made.append(name if total[name] == 1 else f"{name} (call {met[name]})")
    return tuple(made)
