"""Optimizers that are right: PyTorch's own, and others that compute the same in another arrangement."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch.optim import Optimizer

from tests.blackbox.corpus.wrong_optimizers import Adam, Sgd


@dataclass(frozen=True)
class Right:
    """One right optimizer and the reference that it computes; None where the catalogue has none.

    `defect` says what is wrong all the same, where PyTorch itself is, and `codes` how that is told.
    """

    name: str
    make: Callable[[Any], Optimizer]
    reference: str | None
    options: dict[str, Any] = field(default_factory=dict)
    defect: str = ""
    codes: frozenset[str] = frozenset()


class Weighted(Adam):
    """Adam with averages as weighted sums and the correction multiplied into the rate."""

    def averages(self, g, state, b1, b2):
        state["m"] = b1 * state["m"] + (1 - b1) * g
        state["v"] = b2 * state["v"] + (1 - b2) * g.square()

    def move(self, p, state, group):
        first, second = self.corrections(state["step"], *group["betas"])
        root = state["v"].sqrt() / math.sqrt(second) + group["eps"]
        return state["m"] / root * (group["lr"] / first)


class Lerp(Adam):
    """Adam with averages as interpolations."""

    def averages(self, g, state, b1, b2):
        state["m"].lerp_(g, 1 - b1)
        state["v"].lerp_(g * g, 1 - b2)


class Quotient(Adam):
    """Adam whose ratio is formed by addcdiv, with the step's number in a tensor."""

    def memory(self, p):
        state = super().memory(p)
        if "count" not in state:
            state["count"] = torch.zeros((), dtype=torch.float64)
        return state

    def one(self, p, g, state, group):
        state["count"] += 1
        t = int(state["count"])
        g = self.gradient(p, g, state, group)
        b1, b2 = group["betas"]
        self.averages(g, state, b1, b2)
        root = state["v"].sqrt().div_(math.sqrt(1 - b2**t)).add_(group["eps"])
        if self.decoupled:
            p.mul_(1 - group["lr"] * group["weight_decay"])
        p.addcdiv_(state["m"], root, value=-group["lr"] / (1 - b1**t))


class QuotientW(Quotient):
    decoupled = True


class LerpW(Lerp):
    decoupled = True


class Flat(Adam):
    """Adam on all weights of a group in one flat tensor; the states are views of it."""

    def gradient(self, p, g, state, group):
        flat = torch.cat([g.reshape(-1), torch.zeros(3, dtype=g.dtype)])
        return super().gradient(p, flat[: g.numel()].view(g.shape), state, group)


class Maximizing(Adam):
    """Adam that can climb."""

    def __init__(self, params, maximize=False, **more):
        super().__init__(params, maximize=maximize, **more)

    def gradient(self, p, g, state, group):
        return super().gradient(p, -g if group["maximize"] else g, state, group)


class Velocity(Sgd):
    """SGD with the rate in the buffer, as Keras has it."""

    def one(self, p, g, state, group):
        state["b"] = group["momentum"] * state.get("b", torch.zeros_like(g)) + group["lr"] * g
        p.sub_(state["b"])


class ByFactor(Sgd):
    """SGD whose momentum is written with alpha."""

    def buffer(self, g, state, group):
        if "b" not in state:
            state["b"] = torch.clone(g)
        else:
            state["b"].mul_(group["momentum"]).add_(g, alpha=1 - group["dampening"])
        return state["b"]


class Rms(Adam):
    """RMSProp by rsqrt-free division; epsilon beside the root, or under it as TensorFlow has it."""

    def __init__(self, params, lr=1e-2, alpha=0.99, eps=1e-8, weight_decay=0.0, under=False):
        Optimizer.__init__(self, params, {"lr": lr, "alpha": alpha, "eps": eps, "weight_decay": weight_decay})
        self.under = under

    def one(self, p, g, state, group):
        g = self.gradient(p, g, state, group)
        state["v"] = group["alpha"] * state["v"] + (1 - group["alpha"]) * g * g
        v, eps = state["v"], group["eps"]
        p.sub_(group["lr"] * (g / ((v + eps).sqrt() if self.under else v.sqrt() + eps)))


class AdaGrad(Adam):
    def __init__(self, params, lr=1e-2, eps=1e-10, weight_decay=0.0):
        Optimizer.__init__(self, params, {"lr": lr, "eps": eps, "weight_decay": weight_decay})

    def one(self, p, g, state, group):
        g = self.gradient(p, g, state, group)
        state["v"] = state["v"] + g * g
        p.addcdiv_(g, state["v"].sqrt() + group["eps"], value=-group["lr"])


class Lion(Adam):
    """Chen et al. 2023: the sign of an interpolation; not in the catalogue."""

    def __init__(self, params, lr=1e-3, betas=(0.9, 0.99), weight_decay=0.0):
        Optimizer.__init__(self, params, {"lr": lr, "betas": betas, "weight_decay": weight_decay})

    def one(self, p, g, state, group):
        b1, b2 = group["betas"]
        p.mul_(1 - group["lr"] * group["weight_decay"])
        p.sub_(group["lr"] * (b1 * state["m"] + (1 - b1) * g).sign())
        state["m"].lerp_(g, 1 - b2)


class Lamb(Adam):
    """You et al. 2020: every tensor's step is scaled by the ratio of two norms; not in the catalogue."""

    def one(self, p, g, state, group):
        state["step"] += 1
        self.averages(g, state, *group["betas"])
        step = self.move(p, state, {**group, "lr": 1.0}) + group["weight_decay"] * p
        size, length = p.norm(), step.norm()
        ratio = torch.where((size > 0) & (length > 0), size / length, torch.ones_like(size))
        p.sub_(group["lr"] * ratio * step)


# PyTorch 2.13; the test of the corpus shows each in plain torch.
_DEFECTS: dict[str, tuple[str, tuple[str, ...]]] = {
    "NAdam": (
        "the product of the momenta is kept in float32, and restored in the weight's format",
        ("TRAJECTORY-UNSTABLE", "MACHINE-UNSTABLE", "RESUMED-INCONSISTENT"),
    ),
    "fused": (
        "fused on the CPU steps a weight with strides as if it had none; SGD also raises where a gradient "
        "comes later than others",
        ("INPUT-MUTATED", "LAYOUTS-INCONSISTENT", "SUBJECT-RAISED"),
    ),
    "nesterov": ("with foreach=True, Nesterov's step writes into the gradient", ("INPUT-MUTATED",)),
    "ASGD": ("the rate is kept in float32, which foreach=True rounds otherwise", ("FORMS-INCONSISTENT",)),
    "Adafactor": ("an empty weight is divided by its size", ("SUBJECT-RAISED",)),
    "LBFGS": ("a transposed weight raises", ("SUBJECT-RAISED",)),
}


def _right(kind: Any, reference: str | None, options: dict[str, Any] | None = None, **given: Any) -> Right:
    said = " ".join(f"{name}={value}" for name, value in given.items())
    home = "torch." if kind.__module__.startswith("torch.") else ""
    marks = (kind.__name__, *(name for name in ("fused", "nesterov") if given.get(name)))
    defect, codes = next((_DEFECTS[m] for m in marks if home and m in _DEFECTS), ("", ()))
    name = f"{home}{kind.__name__} {said}".strip()
    return Right(
        name, lambda params: kind(params, **given), reference, options or {}, defect, frozenset(codes)
    )


_TORCH = (
    (torch.optim.SGD, "sgd", {"lr": 0.1}),
    (torch.optim.SGD, "sgd", {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.01}),
    (torch.optim.SGD, "sgd", {"lr": 0.1, "momentum": 0.9, "dampening": 0.3, "maximize": True}),
    (torch.optim.SGD, "sgd", {"lr": 0.1, "momentum": 0.9, "nesterov": True}),
    (torch.optim.Adam, "adam", {}),
    (torch.optim.Adam, "adam", {"lr": 0.1, "betas": (0.8, 0.9), "eps": 1e-3, "weight_decay": 0.1}),
    (torch.optim.Adam, "adam", {"amsgrad": True, "maximize": True}),
    (torch.optim.AdamW, "adamw", {"lr": 0.01}),
    (torch.optim.AdamW, "adamw", {"amsgrad": True}),
    (torch.optim.NAdam, "nadam", {}),
    (torch.optim.RAdam, "radam", {}),
    (torch.optim.RAdam, "radam", {"weight_decay": 0.1, "decoupled_weight_decay": True}),
    (torch.optim.Adamax, "adamax", {"weight_decay": 0.1}),
    (torch.optim.Adagrad, "adagrad", {"lr": 0.1, "lr_decay": 0.01}),
    (torch.optim.RMSprop, "rmsprop", {}),
    (torch.optim.RMSprop, "rmsprop", {"centered": True, "momentum": 0.9}),
    (torch.optim.Adadelta, "adadelta", {}),
    (torch.optim.ASGD, None, {}),
    (torch.optim.Rprop, None, {}),
    (torch.optim.Adafactor, None, {}),
    (torch.optim.LBFGS, None, {"max_iter": 2}),
)
_FORMS = (
    (torch.optim.SGD, "sgd", {"lr": 0.1, "momentum": 0.9, "foreach": True}),
    (torch.optim.Adam, "adam", {"foreach": True}),
    (torch.optim.AdamW, "adamw", {"foreach": False, "weight_decay": 0.1}),
    (torch.optim.RMSprop, "rmsprop", {"foreach": True}),
    (torch.optim.Adagrad, "adagrad", {"foreach": True}),
    (torch.optim.SGD, "sgd", {"lr": 0.1, "momentum": 0.9, "fused": True}),
    (torch.optim.Adam, "adam", {"fused": True}),
    (torch.optim.AdamW, "adamw", {"fused": True}),
)
_OWN = (
    (Adam, "adam", {}, {}),
    (Adam, "adam", {}, {"lr": 0.1, "weight_decay": 0.1}),
    (Weighted, "adam", {}, {}),
    (Weighted, "adam", {}, {"betas": (0.5, 0.9), "eps": 1e-4}),
    (Lerp, "adam", {}, {}),
    (LerpW, "adamw", {}, {"weight_decay": 0.01}),
    (Quotient, "adam", {}, {}),
    (QuotientW, "adamw", {}, {"weight_decay": 0.1, "lr": 0.01}),
    (Flat, "adam", {}, {}),
    (Maximizing, "adam", {}, {"weight_decay": 0.01}),
    (Sgd, "sgd", {}, {}),
    (Sgd, "sgd", {}, {"nesterov": True, "weight_decay": 0.01}),
    (ByFactor, "sgd", {}, {"dampening": 0.5}),
    (Velocity, "sgd", {"velocity": True}, {}),
    (Rms, "rmsprop", {}, {}),
    (Rms, "rmsprop", {"epsilon": "under"}, {"under": True}),
    (AdaGrad, "adagrad", {}, {}),
    (Lion, None, {}, {}),
    (Lamb, None, {}, {"weight_decay": 0.1}),
)

RIGHT_OPTIMIZERS: tuple[Right, ...] = (
    *(_right(kind, reference, None, **given) for kind, reference, given in (*_TORCH, *_FORMS)),
    *(_right(kind, reference, options, **given) for kind, reference, options, given in _OWN),
)
