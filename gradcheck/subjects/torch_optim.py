"""The optimizers of torch, as single steps and as runs that keep their own state.

torch has three programs for one update: a loop over the tensors, lists of tensors (foreach), and kernels
that do everything at once (fused). Each is a subject of its own. The lines that run are the lines that a
reproduction prints, so the two cannot part.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache, partial
from typing import Any

from gradcheck.cases import smallest
from gradcheck.errors import MissingDependencyError, UsageError, unknown_name
from gradcheck.formats import Format
from gradcheck.records import Array, Formula, Options
from gradcheck.subjects.implementation import Implementation, bind, plain_options
from gradcheck.subjects.snippet import assignments, numbers
from gradcheck.subjects.tensors import Tensor, to_array, to_tensor


@dataclass(frozen=True)
class Slot:
    """Where torch keeps a state array: its key, when there is one, and its type if that never changes."""

    key: str
    when: str = "True"
    dtype: str = ""


@dataclass(frozen=True)
class Recipe:
    """How torch spells an optimizer: its constructor, its state, and the conventions that it fixes."""

    make: str
    slots: Mapping[str, Slot]
    fixed: Mapping[str, Any] = field(default_factory=dict)
    fused: bool = False
    counts: bool = True


_BETAS = "betas=(beta1, beta2), eps=eps, weight_decay=weight_decay, maximize=maximize"
_MOMENTS = {"mean": Slot("exp_avg"), "square": Slot("exp_avg_sq")}
_LARGEST = {**_MOMENTS, "largest": Slot("max_exp_avg_sq", "amsgrad")}
_ADAM = {"epsilon": "beside", "maximum": "raw"}

RECIPES: dict[str, Recipe] = {
    "sgd": Recipe(
        "SGD({}, lr=lr, momentum=momentum, dampening=dampening, weight_decay=weight_decay, "
        "nesterov=nesterov, maximize=maximize",
        {"buffer": Slot("momentum_buffer", "momentum != 0 and t > 1")},
        {"velocity": False},
        fused=True,
        counts=False,
    ),
    "adagrad": Recipe(
        "Adagrad({}, lr=lr, lr_decay=lr_decay, weight_decay=weight_decay, eps=eps, maximize=maximize",
        {"total": Slot("sum")},
        {"epsilon": "beside"},
        fused=True,
    ),
    "rmsprop": Recipe(
        "RMSprop({}, lr=lr, alpha=alpha, eps=eps, weight_decay=weight_decay, momentum=momentum, "
        "centered=centered, maximize=maximize",
        {
            "square": Slot("square_avg"),
            "mean": Slot("grad_avg", "centered"),
            "buffer": Slot("momentum_buffer", "momentum != 0"),
        },
        {"epsilon": "beside", "velocity": False},
    ),
    "adadelta": Recipe(
        "Adadelta({}, lr=lr, rho=rho, eps=eps, weight_decay=weight_decay, maximize=maximize",
        {"square": Slot("square_avg"), "moved": Slot("acc_delta")},
    ),
    "adam": Recipe(f"Adam({{}}, lr=lr, {_BETAS}, amsgrad=amsgrad", _LARGEST, _ADAM, fused=True),
    "adamw": Recipe(f"AdamW({{}}, lr=lr, {_BETAS}, amsgrad=amsgrad", _LARGEST, _ADAM, fused=True),
    "nadam": Recipe(
        f"NAdam({{}}, lr=lr, {_BETAS}, momentum_decay=momentum_decay, decoupled_weight_decay=decoupled",
        {**_MOMENTS, "product": Slot("mu_product", dtype="torch.float32")},
    ),
    "radam": Recipe(
        f"RAdam({{}}, lr=lr, {_BETAS}, decoupled_weight_decay=decoupled", _MOMENTS, {"threshold": 5.0}
    ),
    "adamax": Recipe(f"Adamax({{}}, lr=lr, {_BETAS}", {"mean": Slot("exp_avg"), "norm": Slot("exp_inf")}),
}
FORMS = {"loop": "foreach=False", "foreach": "foreach=True", "fused": "fused=True"}


def constructor(recipe: Recipe, form: str, parameters: str) -> str:
    """Return the call that makes the optimizer of these parameters."""
    return f"torch.optim.{recipe.make.format(parameters)}, {FORMS[form]})"


def single_step(recipe: Recipe, formula: Formula, form: str) -> list[str]:
    """Return the lines that load a state, take one step, and leave the outputs in `result`."""
    count = '"step": torch.tensor(t - 1.0)' if recipe.counts and "t" in _options(formula) else ""
    count = count or ('"step": torch.tensor(1.0)' if recipe.counts else "")
    lines = [
        "weight = torch.nn.Parameter(weight)",
        "weight.grad = gradient",
        f"optimizer = {constructor(recipe, form, '[weight]')}",
        "state = optimizer.state[weight]",
        f"state.update({{{count}}})",
    ]
    for name, slot in recipe.slots.items():
        held = f"{name}.to({slot.dtype})" if slot.dtype else name
        given = f'state["{slot.key}"] = {held}'
        lines.append(given if slot.when == "True" else f"if {slot.when}:\n    {given}")
    read = (f'state.get("{slot.key}", {name}).to(weight.dtype)' for name, slot in recipe.slots.items())
    return [*lines, "optimizer.step()", f"result = (weight.detach(), {', '.join(read)})"]


def _options(formula: Formula) -> set[str]:
    return {option.name for option in formula.options}


@dataclass(frozen=True)
class TorchOptimSubject:
    """torch.optim on the CPU, by one of its three programs."""

    form: str

    @property
    def name(self) -> str:
        """The name that cells and reports use."""
        return "torch-optim" if self.form == "loop" else f"torch-optim-{self.form}"

    def checks(self, formula: Formula) -> tuple[str, ...]:
        """Return the checks of a step and of a run, for the optimizers that torch has in this form."""
        recipe = RECIPES.get(formula.name)
        if recipe is None or (self.form == "fused" and not recipe.fused):
            return ()
        # On the CPU the lists of tensors go through the kernels of the loop.
        special = () if self.form == "foreach" else ("special",)
        return ("value", "layout", *special, "trajectory", "machine")

    def reason(self, formula: Formula, fmt: Format, check: str) -> str:
        """Return why the check cannot run: torch's own words, after one real step."""
        if check not in self.checks(formula):
            return f"{self.name} does not provide {formula.name}"
        try:
            return _trial(self, formula, fmt)
        except MissingDependencyError as error:
            return str(error)

    def implement(self, formula: Formula, fmt: Format, form: str = "function") -> Implementation:
        """Return the step of torch."""
        if form != "function":
            raise unknown_name("form", form, ("function",))
        if not self.checks(formula):
            raise UsageError(f"{self.name} does not provide {formula.name}")
        present()
        recipe = RECIPES[formula.name]
        lines = single_step(recipe, formula, self.form)
        code = compile("\n".join(lines), f"<{self.name} {formula.name}>", "exec")
        return Implementation(
            formula=formula.name,
            subject=self.name,
            format=fmt,
            forward=partial(_step, formula, recipe, code),
            options=recipe.fixed,
            reproduce=partial(_reproduce, formula, recipe, lines),
            negative_strides=False,
            begin=partial(_begin, self.form, formula),
        )


def _begin(form: str, formula: Formula, *arguments: Any) -> Any:
    from gradcheck.subjects.torch_run import TorchRun

    return TorchRun(form, formula, *arguments)


def present() -> None:
    """Raise `MissingDependencyError` where torch is not installed."""
    try:
        import torch  # noqa: F401 - whether it is there is what is asked
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
        raise MissingDependencyError("torch is not installed: pip install 'gradcheck[torch]'") from error


@cache
def _trial(subject: TorchOptimSubject, formula: Formula, fmt: Format) -> str:
    trial = smallest(formula, fmt)
    made = subject.implement(formula, fmt)
    try:
        made.forward(trial.inputs, {**trial.options, **made.options})
    except RuntimeError as error:
        return str(error).partition("\n")[0]
    return ""


def _step(
    formula: Formula, recipe: Recipe, code: Any, inputs: tuple[Array, ...], options: Options
) -> tuple[Array, ...]:
    import torch

    named = bind(formula, inputs, {})
    # A gradient is lent as it is, so that a step that writes to it is seen; all else is meant to change.
    tensors = {name: to_tensor(a) if name == "gradient" else owned(a) for name, a in named.items()}
    space = {"torch": torch, **tensors, **plain_options(formula, options, recipe.fixed)}
    exec(code, space)
    return tuple(to_array(part) for part in space["result"])


def owned(array: Array) -> Tensor:
    """Return a tensor with the numbers and the strides of the array in memory of its own."""
    import torch

    lent = to_tensor(array)
    return torch.empty_strided(lent.shape, lent.stride(), dtype=lent.dtype).copy_(lent)


def literal(array: Array) -> str:
    """Return the expression that makes the array again as a tensor, strides and all."""
    reshape = "" if array.ndim == 1 else f".reshape({array.shape})"
    made = f"torch.tensor({numbers(array)}, dtype=torch.{array.dtype.name}){reshape}"
    steps = tuple(step // array.itemsize for step in array.strides)
    if array.flags.c_contiguous or not array.size or min(steps) <= 0:
        return made
    return f"torch.empty_strided({array.shape}, {steps}, dtype=torch.{array.dtype.name}).copy_({made})"


SHOW = (
    "for part in {}:\n"
    "    print(None if part is None else [v.hex() for v in part.detach().double().flatten().tolist()])"
)


def _reproduce(
    formula: Formula,
    recipe: Recipe,
    lines: list[str],
    what: str,
    inputs: tuple[Array, ...],
    cotangent: Array | None,
    options: Options,
    directions: tuple[Array, ...] = (),
) -> str:
    """Return a program of plain torch that takes the step and prints every output as hex numbers."""
    if what != "value":
        raise UsageError(f"what={what!r}: a step has a value only")
    given = [f"{name} = {literal(array)}" for name, array in bind(formula, inputs, {}).items()]
    plain = assignments(plain_options(formula, options, recipe.fixed))
    return "\n".join(["import torch", *plain, *given, *lines, SHOW.format("result")])


LOOP, FOREACH, FUSED = (TorchOptimSubject(form) for form in FORMS)
