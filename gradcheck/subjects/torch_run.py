"""An optimizer of torch at work: several parameter groups, saved, restored and converted.

Every line that runs is kept, so that the program of any run can be printed.
"""

from __future__ import annotations

from typing import Any

from gradcheck.formats import Format
from gradcheck.records import Array, Formula
from gradcheck.subjects.implementation import plain_options
from gradcheck.subjects.optimizer_run import Groups, States, fresh_state
from gradcheck.subjects.snippet import assignments
from gradcheck.subjects.tensors import to_array, to_tensor
from gradcheck.subjects.torch_optim import FORMS, RECIPES, SHOW, literal, owned


class TorchRun:
    """torch.optim on parameters w0, w1, ..., each in a group of its own."""

    convertible = True

    def __init__(
        self,
        form: str,
        formula: Formula,
        weights: tuple[Array, ...],
        groups: Groups,
        states: States | None = None,
        taken: int = 0,
    ) -> None:
        import torch

        self.form, self.formula, self.recipe = form, formula, RECIPES[formula.name]
        self.lines = ["import io", "import torch"]
        self.space: dict[str, Any] = {"torch": torch}
        exec("import io", self.space)
        self.count, self.dtype = len(weights), weights[0].dtype
        for place, (array, options) in enumerate(zip(weights, groups, strict=True)):
            self._give(f"w{place}", array)
            self._run(f"w{place} = torch.nn.Parameter(w{place})")
            self._group(place, plain_options(formula, options, self.recipe.fixed))
        self._make()
        for place, arrays in enumerate(states or ()):
            self._load(place, arrays, taken)

    def _run(self, line: str) -> None:
        exec(line, self.space)
        self.lines.append(line)

    def _give(self, name: str, array: Array) -> None:
        """Bind a tensor with the numbers of the array; the program spells them out."""
        self.space[name] = owned(array)
        self.lines.append(f"{name} = {literal(array)}")

    def _group(self, place: int, options: dict[str, Any]) -> None:
        self.space.update(options)
        self.lines += assignments(options)
        arguments = self.recipe.make.split("({}, ", 1)[1]
        self._run(f"group{place} = dict({arguments})")

    def _make(self) -> None:
        """Make the optimizer anew, with the options that it was first made with."""
        name = self.recipe.make.split("(", 1)[0]
        parts = ", ".join(f'{{"params": [w{place}], **group{place}}}' for place in range(self.count))
        self._run(f"optimizer = torch.optim.{name}([{parts}], {FORMS[self.form]})")

    def _load(self, place: int, arrays: tuple[Array, ...], taken: int) -> None:
        entries = [f'"step": torch.tensor({float(taken)})'] if self.recipe.counts else []
        for (name, slot), array in zip(self.recipe.slots.items(), arrays, strict=True):
            if self._holds(place, slot.when):
                self._give(f"{name}{place}", array)
                held = f"{name}{place}.to({slot.dtype})" if slot.dtype else f"{name}{place}"
                entries.append(f'"{slot.key}": {held}')
        self._run(f"optimizer.state[w{place}].update({{{', '.join(entries)}}})")

    def _holds(self, place: int, when: str) -> bool:
        """Whether a state array is there; a state that is given comes from later than the first step."""
        return bool(eval(when, {"t": 2}, dict(self.space[f"group{place}"])))

    def step(self, gradients: tuple[Array | None, ...]) -> None:
        """Take one step."""
        for place, gradient in enumerate(gradients):
            if gradient is None:
                self._run(f"w{place}.grad = None")
                continue
            # Lent, not copied: a step that writes to the gradient is seen.
            self.space[f"g{place}"] = to_tensor(gradient)
            self.lines.append(f"g{place} = {literal(gradient)}")
            self._run(f"w{place}.grad = g{place}")
        self._run("optimizer.step()")

    def weight(self, place: int) -> Array:
        """Return a copy of the parameter."""
        return to_array(self.space[f"w{place}"]).copy()

    def state(self, place: int) -> tuple[Array, ...]:
        """Return copies of the state arrays, in the formula's order."""
        held = self._state(place)
        found = []
        for slot, first in zip(
            self.recipe.slots.values(), fresh_state(self.formula, self.weight(place)), strict=True
        ):
            tensor = held.get(slot.key)
            # Some state is kept in float32 beside 16-bit weights: that is the state that it goes on from.
            found.append(first if tensor is None else to_array(tensor).copy())
        return tuple(found)

    def _state(self, place: int) -> dict[str, Any]:
        return dict(self.space["optimizer"].state.get(self.space[f"w{place}"], {}))

    def taken(self, place: int) -> int:
        """Return how many steps the state knows of; without a count, whether there is a buffer."""
        held = self._state(place)
        if self.recipe.counts:
            return int(held["step"].item()) if "step" in held else 0
        return int(any(value is not None for value in held.values()))

    def set_rate(self, place: int, rate: float) -> None:
        """Change the rate of one group."""
        self._run(f'optimizer.param_groups[{place}]["lr"] = {rate!r}')

    def restored(self, through_a_file: bool) -> TorchRun:
        """Load the state into a new optimizer of new parameters, also through torch.save."""
        if through_a_file:
            self._run("file = io.BytesIO()")
            self._run("torch.save(optimizer.state_dict(), file)")
            self._run("saved = torch.load(io.BytesIO(file.getvalue()), weights_only=True)")
        else:
            self._run("saved = optimizer.state_dict()")
        return self._continued("clone()")

    def converted(self, fmt: Format) -> TorchRun:
        """Load the state into a new optimizer of parameters in another format."""
        self._run("saved = optimizer.state_dict()")
        self.dtype = fmt.dtype
        return self._continued(f"to(torch.{fmt.name})")

    def _continued(self, how: str) -> TorchRun:
        for place in range(self.count):
            self._run(f"w{place} = torch.nn.Parameter(w{place}.detach().{how})")
        self._make()
        self._run("optimizer.load_state_dict(saved)")
        return self

    def program(self) -> str:
        """Return the program of everything so far; it prints weights and states as hex numbers."""
        shown = [
            SHOW.format(f"(w{place}, *optimizer.state[w{place}].values())") for place in range(self.count)
        ]
        return "\n".join([*self.lines, *shown])
