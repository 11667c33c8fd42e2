"""The learning-rate schedulers of torch, stepped from the first step on."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from gradcheck.errors import MissingDependencyError, UsageError, unknown_name
from gradcheck.formats import Format
from gradcheck.records import Array, Formula, Options
from gradcheck.subjects.implementation import Implementation, bind, plain_options
from gradcheck.subjects.snippet import assignments, numbers
from gradcheck.subjects.torch_optim import present

_LINEAR = "LinearLR(optimizer, start_factor=start, end_factor={}, total_iters=length)"
_COSINE = "CosineAnnealingLR(optimizer, T_max=period, eta_min={})"
_SEQUENTIAL = f"SequentialLR(optimizer, [{_LINEAR.format(1.0)}, {_COSINE.format(0.0)}], milestones=[length])"
_CHAINED = f"ChainedScheduler([{_LINEAR.format(1.0)}, ExponentialLR(optimizer, gamma=gamma)])"

SCHEDULERS: dict[str, str] = {
    "step_lr": "StepLR(optimizer, step_size=step_size, gamma=gamma)",
    "multi_step_lr": "MultiStepLR(optimizer, milestones=list(milestones), gamma=gamma)",
    "exponential_lr": "ExponentialLR(optimizer, gamma=gamma)",
    "cosine_annealing_lr": _COSINE.format("eta_min"),
    "cosine_warm_restarts": "CosineAnnealingWarmRestarts(optimizer, T_0=period, T_mult=factor, "
    "eta_min=eta_min)",
    "linear_lr": _LINEAR.format("end"),
    "one_cycle_lr": "OneCycleLR(optimizer, max_lr=rate, total_steps=total, pct_start=up, div_factor=div, "
    "final_div_factor=final_div, anneal_strategy=strategy, cycle_momentum=False)",
    "warm_up_chain": f"{_CHAINED} if chained else {_SEQUENTIAL}",
}
_PROGRAM = """import torch
from torch.optim.lr_scheduler import *
groups = [{{"params": [torch.zeros((), requires_grad=True)], "lr": each}} for each in rate]
optimizer = torch.optim.SGD(groups)
scheduler = {}
for _ in range(t):
    optimizer.step()
    scheduler.step()
result = [group["lr"] for group in optimizer.param_groups]"""


@dataclass(frozen=True)
class TorchScheduleSubject:
    """torch.optim.lr_scheduler, one parameter group per rate."""

    name: str = "torch-schedules"

    def checks(self, formula: Formula) -> tuple[str, ...]:
        """Return the value for the schedules that torch has."""
        return ("value",) if formula.name in SCHEDULERS else ()

    def reason(self, formula: Formula, fmt: Format, check: str) -> str:
        """Return why a format is left out."""
        if check not in self.checks(formula):
            return f"{self.name} does not provide {formula.name}"
        try:
            present()
        except MissingDependencyError as error:
            return str(error)
        return "" if fmt.name == "float64" else "a learning rate is a Python float, whatever the weights are"

    def implement(self, formula: Formula, fmt: Format, form: str = "function") -> Implementation:
        """Return the scheduler, stepped t times."""
        if form != "function":
            raise unknown_name("form", form, ("function",))
        if formula.name not in SCHEDULERS:
            raise UsageError(f"{self.name} does not provide {formula.name}")
        present()
        return Implementation(
            formula=formula.name,
            subject=self.name,
            format=fmt,
            forward=partial(_forward, formula, fmt),
            reproduce=partial(_reproduce, formula),
            negative_strides=False,
        )


def _forward(formula: Formula, fmt: Format, inputs: tuple[Array, ...], options: Options) -> Array:
    rates = {name: array.tolist() for name, array in bind(formula, inputs, {}).items()}
    space: dict[str, Any] = {**rates, **plain_options(formula, options)}
    exec(_PROGRAM.format(SCHEDULERS[formula.name]), space)
    return np.asarray(space["result"], dtype=fmt.dtype)


def _reproduce(
    formula: Formula,
    what: str,
    inputs: tuple[Array, ...],
    cotangent: Array | None,
    options: Options,
    directions: tuple[Array, ...] = (),
) -> str:
    """Return the program of plain torch that prints the rates as hex numbers."""
    if what != "value":
        raise UsageError(f"what={what!r}: a rate has a value only")
    given = [*assignments(plain_options(formula, options)), f"rate = {numbers(inputs[0])}"]
    return "\n".join([*given, _PROGRAM.format(SCHEDULERS[formula.name]), "print([r.hex() for r in result])"])


SCHEDULES = TorchScheduleSubject()
