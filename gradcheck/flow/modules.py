"""Measure a user's own network: one module per seed, or one module with a cotangent per seed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gradcheck.errors import MissingDependencyError, UsageError
from gradcheck.flow.measuring import Measurement, assemble
from gradcheck.flow.passes import Trace
from gradcheck.flow.verdict import FlowFinding


@dataclass(frozen=True)
class Gathered:
    """What hooks saw of several networks: `columns` are the calls of one layer in all that were kept."""

    subject: str
    columns: tuple[tuple[Any, ...], ...]
    records: tuple[Any, ...]
    findings: tuple[FlowFinding, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """The layers, calls of a shared module told apart."""
        return _unique([column[0].name for column in self.columns])

    def rows(self, name: str) -> NDArray[np.float64]:
        """Return one field of all calls, as (layers, networks)."""
        return np.array(
            [[getattr(call, name) for call in column] for column in self.columns], dtype=np.float64
        )


def gather(
    build: Any,
    example: Any,
    seeds: int,
    loss: Callable[..., Any] | None,
    *,
    seed: int = 0,
    loss_scale: float = 1.0,
) -> Gathered:
    """Return what the hooks saw of `seeds` networks, or of one module under as many cotangents.

    See `gradcheck.flow.measure` for the arguments; `measured` makes a measurement of what is returned.
    """
    flow, _ = torch_parts()
    from gradcheck.subjects import torch_dependence

    if not (callable(build) or flow.is_module(build)):
        raise UsageError(
            "build: expected a Network, an nn.Module or a function seed -> nn.Module, "
            f"got {type(build).__name__}"
        )
    records: list[Any] = []
    failures, independent = [], False
    with flow.as_before():
        for place in range(seeds):
            module = flow.make(build, seed + place)
            if place == 0:
                independent = torch_dependence.depends_on_input(module, example) is False
            try:
                records.append(flow.record(module, example, seed + place, loss, loss_scale))
            except UsageError as error:
                # What fails for the first network fails for a reason that a person must remove.
                if not records:
                    raise
                failures.append(str(error))
    kept, columns = _alike(records)
    left_out = [*failures, *["their layers are not those of the others"] * (len(records) - len(kept))]
    findings = _findings(kept, left_out, len(records) + len(failures), independent, loss is not None)
    _enough(columns, findings)
    return Gathered(_name(build), tuple(map(tuple, columns)), tuple(kept), findings)


def torch_parts() -> tuple[Any, Any]:
    """Return the modules that know PyTorch: measuring, and remedies."""
    try:
        from gradcheck.subjects import torch_flow, torch_remedies

        torch_flow.available()
    except ImportError as error:
        raise MissingDependencyError('PyTorch is not installed: pip install "gradcheck[torch]"') from error
    return torch_flow, torch_remedies


def _findings(
    kept: Sequence[Any], left_out: Sequence[str], total: int, independent: bool, real: bool
) -> tuple[FlowFinding, ...]:
    findings = [FlowFinding(*note) for note in dict.fromkeys(note for r in kept for note in r.notes)]
    if left_out:
        text = f"{len(left_out)} of {total} networks are left out: {left_out[0]}"
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
    return tuple(findings)


def _enough(columns: Sequence[Sequence[Any]], findings: Sequence[FlowFinding]) -> None:
    if len(columns) < 2:
        only = f" ({columns[0][0].name})" if columns else ""
        raise UsageError(
            f"expected at least two layers that a gradient passes, found {len(columns)}{only}; layers are "
            f"calls of modules with parameters, so write functional layers as modules{_why(findings)}"
        )


def measured(gathered: Gathered) -> Measurement:
    """Return the measurement that gathered networks amount to."""
    gradient = gathered.rows("gradient")
    trace = Trace(
        gradient=gradient,
        weight_gradient=gathered.rows("weight_gradient"),
        forward=gathered.rows("forward"),
        idle=gathered.rows("idle"),
        dead=gathered.rows("dead"),
        saturated=gathered.rows("saturated"),
        zero=np.zeros_like(gradient),
        subnormal=np.zeros_like(gradient),
        infinite=gathered.rows("infinite"),
    )
    return assemble(
        subject=gathered.subject,
        trace=trace,
        names=gathered.names,
        kinds=tuple(column[0].kind for column in gathered.columns),
        sizes=active_sizes(gathered),
        predicted=None,
        findings=gathered.findings,
    )


def active_sizes(gathered: Gathered) -> tuple[float, ...]:
    """Return per layer how many entries of a gradient are not zero by themselves, on average."""
    return tuple(
        float(np.mean([call.size * (1 - call.idle) for call in column])) for column in gathered.columns
    )


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


def _unique(names: Sequence[str]) -> tuple[str, ...]:
    total, met = Counter(names), Counter[str]()
    made = []
    for name in names:
        met[name] += 1
        made.append(name if total[name] == 1 else f"{name} (call {met[name]})")
    return tuple(made)
