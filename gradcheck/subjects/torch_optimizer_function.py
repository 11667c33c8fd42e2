"""A user's optimizer at work: a scenario of events is played, and what it may not touch is watched.

A scenario is data, so that a smaller one can be tried and a program of plain torch can be written from it.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from gradcheck.errors import UsageError
from gradcheck.formats import get_format, widen
from gradcheck.records import Array
from gradcheck.subjects.function import raised_by
from gradcheck.subjects.tensors import Tensor, to_array, to_tensor
from gradcheck.subjects.torch_process import Watch
from gradcheck.subjects.torch_scenario import Breach, Event, Group, Played, Scenario

Make = Callable[[Any], Any]
# What lies between the elements of a weight with strides; a step has no business there.
_BETWEEN = 77.0


def play(make: Make, scenario: Scenario) -> Played:
    """Let an optimizer go through a scenario; what it raises ends the scenario and is told."""
    player = _Player(make, scenario)
    try:
        player.begin()
        for event in scenario.events:
            player.take(event)
    except Exception as error:
        player.raised = raised_by(error)
    return Played(tuple(player.kept), tuple(player.breaches), player.raised)


class _Player:
    """The moving parts of one scenario."""

    def __init__(self, make: Make, scenario: Scenario) -> None:
        self.make, self.scenario = make, scenario
        self.tensors = [parameter(w, scenario.format, scenario.layout) for w in scenario.weights]
        self.kept: list[tuple[Array, ...]] = []
        self.breaches: list[Breach] = []
        self.raised = ""
        self.optimizer: Any = None
        self.other: Any = None
        self._keep()

    def begin(self) -> None:
        """Make the optimizer of all groups but one that joins later."""
        groups = self.scenario.groups[:-1] if self.scenario.late else self.scenario.groups
        self.optimizer = made(self.make, self.tensors, groups, self.scenario.common)
        if self.scenario.beside:
            self.twins = [parameter(1 + widen(w), self.scenario.format) for w in self.scenario.weights]
            self.other = made(self.make, self.twins, groups, self.scenario.common)

    def take(self, event: Event) -> None:
        """Let one thing happen."""
        if event.steps:
            self._beside(event)
            self._step(event)
        elif event.kind == "rate":
            self.optimizer.param_groups[event.group]["lr"] *= event.factor
        elif event.kind == "add":
            group = self.scenario.groups[-1]
            options = {**self.scenario.common, **group.options}
            self.optimizer.add_param_group({"params": [self.tensors[k] for k in group.members], **options})
        elif event.kind == "zero":
            self.optimizer.zero_grad()
            if any(p.grad is not None and bool((p.grad != 0).any()) for p in self.tensors):
                self._broke("state", "zero_grad() left a gradient that is not zero")
        else:
            self._restore(event.kind == "file")

    def _restore(self, through_a_file: bool) -> None:
        import torch

        saved = self.optimizer.state_dict()
        if through_a_file:
            memory = io.BytesIO()
            torch.save(saved, memory)
            saved = torch.load(io.BytesIO(memory.getvalue()), weights_only=False)
        before = self.tensors
        self.tensors = [parameter(to_array(p), self.scenario.format, self.scenario.layout) for p in before]
        joined = sum(len(group["params"]) for group in self.optimizer.param_groups)
        every = joined == len(self.tensors)
        groups = self.scenario.groups if every else self.scenario.groups[:-1]
        self.optimizer = made(self.make, self.tensors, groups, self.scenario.common)
        self.optimizer.load_state_dict(saved)

    def _beside(self, event: Event) -> None:
        if self.other is None:
            return
        for place, twin in enumerate(self.twins):
            g = event.gradients[place]
            twin.grad = None if g is None else tensor(-2 * widen(g) + 1, self.scenario.format)
        self.other.param_groups[0]["lr"] = 1.5 * (self.other.param_groups[0].get("lr") or 1e-3)
        self.other.step(torch_zero) if needs_closure(self.other) else self.other.step()

    def _step(self, event: Event) -> None:
        given = [None if g is None else tensor(g, self.scenario.format) for g in event.gradients]
        if self.scenario.reuse:
            given = [_into(p.grad, g) for p, g in zip(self.tensors, given, strict=True)]
        for p, g in zip(self.tensors, given, strict=True):
            p.grad = g
        held = [snapshot(self.optimizer, p) for p in self.tensors]
        facts = [_facts(p) for p in self.tensors]
        listed = [[id(p) for p in group["params"]] for group in self.optimizer.param_groups]
        watch = Watch()
        if event.kind == "closure" or needs_closure(self.optimizer):
            self._by_closure(given)
        else:
            self.optimizer.step()
        for change in watch.changes():
            self._broke("process", f"step() changed {change}")
        if listed != [[id(p) for p in group["params"]] for group in self.optimizer.param_groups]:
            self._broke("state", "step() changed which parameters the groups hold")
        for place, p in enumerate(self.tensors):
            self._watched(place, p, event.gradients[place], given[place], held[place], facts[place])
        self._keep()

    def _watched(
        self, place: int, p: Tensor, gradient: Array | None, given: Tensor | None, held: Any, facts: Any
    ) -> None:
        """Say what else than the weight with a gradient was written to."""
        after = _facts(p)
        if after[0] != facts[0]:
            self._broke("state", f"weight {place} is no longer updated in place: it has other memory")
        if after[1:] != facts[1:]:
            now = ", ".join(f"{a} became {b}" for a, b in zip(facts, after, strict=True) if a != b)
            self._broke("state", f"weight {place}: {now}")
        if not between_is_left(p):
            self._broke("mutation", f"memory between the elements of weight {place} was written to")
        if gradient is None:
            if p.grad is not None:
                self._broke("mutation", f"weight {place} got a gradient by step()")
            if not same_bits(to_array(p), self.kept[-1][place]):
                self._broke("state", f"weight {place} moved by a step for which it has no gradient")
            elif snapshot(self.optimizer, p) != held:
                self._broke("state", f"the state of weight {place} changed by a step without a gradient")
        elif given is not None and not same_bits(to_array(given), as_stored(gradient, self.scenario.format)):
            self._broke("mutation", f"the gradient of weight {place} was written to")

    def _by_closure(self, given: list[Tensor | None]) -> None:
        import torch

        calls = 0

        def closure() -> Tensor:
            nonlocal calls
            calls += 1
            for p in self.tensors:
                p.grad = None
            if not torch.is_grad_enabled():
                raise RuntimeError("step(closure) called the closure with gradients switched off")
            # The slope of w·g + 1 along w is g, bit for bit.
            parts = [(p * g).sum() for p, g in zip(self.tensors, given, strict=True) if g is not None]
            loss = torch.ones((), dtype=self.tensors[0].dtype)
            loss = loss if not parts else loss + torch.stack(parts).sum()
            if parts:
                loss.backward()
            self.loss = loss.detach().clone()
            first.append(self.loss)
            return loss

        first: list[Tensor] = []
        returned = self.optimizer.step(closure)
        if not calls:
            self._broke("state", "step(closure) did not call the closure")
        elif returned is None:
            self._broke("shape", "step(closure) returned None, expected the loss that the closure returns")
        elif not any(_number(returned) == _number(loss) for loss in first):
            self._broke(
                "state", f"step(closure) returned {_number(returned)}, the loss is {_number(first[0])}"
            )

    def _keep(self) -> None:
        self.kept.append(tuple(to_array(p).copy() for p in self.tensors))

    def _broke(self, kind: str, note: str) -> None:
        if all(breach.note != note for breach in self.breaches):
            self.breaches.append(Breach(kind, note))


def _into(memory: Tensor | None, gradient: Tensor | None) -> Tensor | None:
    """Write a gradient where the last one was."""
    return gradient if memory is None or gradient is None else memory.copy_(gradient)


def torch_zero() -> Tensor:
    """Return the loss of a closure that has nothing to compute."""
    import torch

    return torch.zeros(())


def made(make: Make, tensors: list[Tensor], groups: tuple[Group, ...], common: Mapping[str, Any]) -> Any:
    """Return the optimizer of these groups; one group without options is the plain call `make(params)`."""
    import torch

    lists = [[tensors[k] for k in group.members] for group in groups]
    if len(groups) == 1 and not groups[0].options and not common:
        optimizer = make(lists[0])
    else:
        optimizer = _of_groups(
            make, [{"params": p, **common, **g.options} for p, g in zip(lists, groups, strict=True)]
        )
    if not isinstance(optimizer, torch.optim.Optimizer):
        raise UsageError(f"make: expected a torch.optim.Optimizer, got {type(optimizer).__name__}")
    return optimizer


def _of_groups(make: Make, groups: list[dict[str, Any]]) -> Any:
    """Hand the groups to `make`, or one by one to what it makes, where it takes plain lists only."""
    try:
        return make([dict(group) for group in groups])
    except Exception:
        optimizer = make(groups[0]["params"])
        optimizer.param_groups[0].update({k: v for k, v in groups[0].items() if k != "params"})
        for group in groups[1:]:
            optimizer.add_param_group(dict(group))
        return optimizer


def probe(make: Make) -> Any:
    """Return an optimizer of two parameters; `UsageError` says why `make` cannot be checked."""
    import torch

    if not callable(make):
        raise UsageError(
            f"make: expected a function of the parameters that returns an optimizer, got "
            f"{type(make).__name__}; pass lambda params: MyOptimizer(params, lr=1e-3)"
        )
    if isinstance(make, type) and not issubclass(make, torch.optim.Optimizer):
        raise UsageError(f"make: {make.__name__} is no subclass of torch.optim.Optimizer")
    tensors = [parameter(np.ones(3), "float64"), parameter(np.ones((2, 2)), "float64")]
    try:
        optimizer = made(make, tensors, (Group((0, 1)),), {})
    except UsageError:
        raise
    except Exception as error:
        raise UsageError(f"make fails for a list of two parameters: {raised_by(error)}") from error
    held = [p for group in optimizer.param_groups for p in group["params"]]
    if {id(p) for p in held} != {id(p) for p in tensors}:
        kinds = ", ".join(sorted({str(p.dtype) for p in held})) or "none"
        raise UsageError(
            f"make: expected an optimizer of the parameters that it is given, got one of {len(held)} others "
            f"({kinds}); pass lambda params: MyOptimizer(params, ...), and use params"
        )
    return optimizer


def needs_closure(optimizer: Any) -> bool:
    """Whether `step` has to be given a closure, as that of L-BFGS."""
    import inspect

    try:
        parameters = list(inspect.signature(type(optimizer).step).parameters.values())[1:]
    except (TypeError, ValueError):
        return False
    return bool(parameters) and parameters[0].name == "closure" and parameters[0].default is inspect._empty


def parameter(array: Array, fmt: str, layout: str = "contiguous") -> Tensor:
    """Return a leaf that holds the numbers in a format and a layout, in memory of its own."""
    import torch

    plain = tensor(array, fmt)
    if layout == "strided" and plain.ndim and plain.numel():
        memory = torch.full((*plain.shape[:-1], 2 * plain.shape[-1]), _BETWEEN, dtype=plain.dtype)
        place = memory[..., ::2]
        place.copy_(plain)
        plain = place
    elif layout == "transposed" and plain.ndim == 2:
        plain = plain.t().contiguous().t()
    elif layout == "offset" and plain.ndim and plain.numel():
        memory = torch.full((plain.numel() + 3,), _BETWEEN, dtype=plain.dtype)
        memory[3:].copy_(plain.flatten())
        plain = memory[3:].reshape(plain.shape)
    return torch.nn.Parameter(plain)


def between_is_left(p: Tensor) -> bool:
    """Whether the memory around the elements of `parameter` holds what was put there."""
    import torch

    count = p.untyped_storage().nbytes() // p.element_size()
    if count == p.numel():
        return True
    flat = torch.empty(0, dtype=p.dtype).set_(p.untyped_storage(), 0, (count,), (1,))
    used = torch.zeros(count, dtype=torch.bool)
    used.as_strided(p.shape, p.stride(), p.storage_offset()).fill_(True)
    return bool((flat[~used] == _BETWEEN).all())


def tensor(array: Array, fmt: str) -> Tensor:
    """Return a tensor with the numbers of the array, rounded to a format, in memory of its own."""
    return to_tensor(as_stored(array, fmt)).clone()


def as_stored(array: Array, fmt: str) -> Array:
    """Return the array in the type that stores the format."""
    with np.errstate(over="ignore", invalid="ignore"):
        return np.array(array, order="C").astype(get_format(fmt).dtype)


def snapshot(optimizer: Any, p: Tensor) -> dict[str, Any]:
    """Return the state that an optimizer keeps for a parameter, as values that compare."""
    return {str(key): _value(value) for key, value in dict(optimizer.state.get(p, {})).items()}


def _value(value: Any) -> Any:
    import torch

    if isinstance(value, torch.Tensor):
        return str(value.dtype), tuple(value.shape), to_array(value).tobytes()
    if isinstance(value, list | tuple):
        return [_value(each) for each in value]
    return value if isinstance(value, int | float | str | bool | type(None)) else type(value).__name__


def _facts(p: Tensor) -> tuple[str, ...]:
    return (
        f"memory {p.data_ptr()}",
        f"shape {tuple(p.shape)}",
        f"strides {p.stride()}",
        str(p.dtype),
        f"requires_grad {p.requires_grad}",
        f"grad_fn {type(p.grad_fn).__name__}",
    )


def _number(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError, RuntimeError):
        return math.nan


def same_bits(a: Array, b: Array) -> bool:
    """Whether two arrays hold the same numbers bit for bit, in one type."""
    return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()


__all__ = ["Breach", "Event", "Group", "Played", "Scenario", "made", "needs_closure", "play", "probe"]
