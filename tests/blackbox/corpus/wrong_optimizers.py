"""Optimizers that are wrong in known ways, each beside the reference that it claims to be, or without one."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch.optim import Optimizer


@dataclass(frozen=True)
class Wrong:
    """One wrong optimizer: why it is wrong, how it is made, what it is held against, and what shows it."""

    name: str
    why: str
    make: Callable[[Any], Optimizer]
    reference: str | None = None
    by: str = "trajectory"


class Adam(Optimizer):
    """A right Adam whose parts can be replaced by wrong ones."""

    decoupled = False

    def __init__(self, params, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0, **more):
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay, **more})

    @torch.no_grad()
    def step(self, closure=None):
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    self.one(p, p.grad, self.memory(p), group)
        return loss

    def memory(self, p):
        state = self.state[p]
        if not state:
            state.update(step=0, m=torch.zeros_like(p), v=torch.zeros_like(p))
        return state

    def one(self, p, g, state, group):
        state["step"] += 1
        g = self.gradient(p, g, state, group)
        self.averages(g, state, *group["betas"])
        if self.decoupled:
            p.mul_(1 - group["lr"] * group["weight_decay"])
        p.sub_(self.move(p, state, group))

    def gradient(self, p, g, state, group):
        return g if self.decoupled or not group["weight_decay"] else g + group["weight_decay"] * p

    def averages(self, g, state, b1, b2):
        state["m"].mul_(b1).add_(g, alpha=1 - b1)
        state["v"].mul_(b2).addcmul_(g, g, value=1 - b2)

    def corrections(self, t, b1, b2):
        return 1 - b1**t, 1 - b2**t

    def move(self, p, state, group):
        first, second = self.corrections(state["step"], *group["betas"])
        root = (state["v"] / second).sqrt()
        return group["lr"] / first * state["m"] / (root + group["eps"])


class OffByOne(Adam):
    def corrections(self, t, b1, b2):
        return 1 - b1 ** (t + 1), 1 - b2 ** (t + 1)


class Uncorrected(Adam):
    def corrections(self, t, b1, b2):
        return 1.0, 1.0


class SecondUncorrected(Adam):
    def corrections(self, t, b1, b2):
        return 1 - b1**t, 1.0


class SwappedBetas(Adam):
    def corrections(self, t, b1, b2):
        return 1 - b2**t, 1 - b1**t


class EpsInside(Adam):
    def move(self, p, state, group):
        first, second = self.corrections(state["step"], *group["betas"])
        return group["lr"] / first * state["m"] / (state["v"] / second + group["eps"]).sqrt()


class EpsBeforeCorrection(Adam):
    def move(self, p, state, group):
        first, second = self.corrections(state["step"], *group["betas"])
        root = state["v"].sqrt() + group["eps"]
        return group["lr"] * math.sqrt(second) / first * state["m"] / root


class NoEps(Adam):
    def move(self, p, state, group):
        first, second = self.corrections(state["step"], *group["betas"])
        return group["lr"] / first * state["m"] / (state["v"] / second).sqrt().clamp_min(1e-300)


class CoupledDecay(Adam):
    """L2 decay where it claims to be decoupled; shown by the decay alone."""


class DecoupledDecay(Adam):
    decoupled = True


class DecayWithoutRate(Adam):
    decoupled = True

    def one(self, p, g, state, group):
        p.mul_(1 - group["weight_decay"])
        super().one(p, g, state, {**group, "weight_decay": 0.0})


class DecayAfterStep(Adam):
    def one(self, p, g, state, group):
        super().one(p, g, state, {**group, "weight_decay": 0.0})
        p.mul_(1 - group["lr"] * group["weight_decay"])


class SquareBeforeUpdate(Adam):
    def averages(self, g, state, b1, b2):
        state["m"].mul_(b1).add_(g, alpha=1 - b1)
        state["v"] = state.get("next", state["v"])
        state["next"] = b2 * state["v"] + (1 - b2) * g * g


class FirstMomentSum(Adam):
    def averages(self, g, state, b1, b2):
        super().averages(g, state, b1, b2)
        state["m"].add_(g, alpha=1e-9)


class SharedState(Adam):
    """One state for all tensors of a shape."""

    def memory(self, p):
        self.shared = getattr(self, "shared", {})
        if p.shape not in self.shared:
            self.shared[p.shape] = {"step": 0, "m": torch.zeros_like(p), "v": torch.zeros_like(p)}
        return self.shared[p.shape]


class GlobalCount(Adam):
    """The step is counted once per tensor, on the optimizer."""

    def corrections(self, t, b1, b2):
        self.count = getattr(self, "count", 0) + 1
        return 1 - b1**self.count, 1 - b2**self.count


class ClassState(Adam):
    """The number of steps belongs to the class."""

    taken = 0

    def corrections(self, t, b1, b2):
        type(self).taken += 1
        return super().corrections(type(self).taken, b1, b2)


class Unsaved(Adam):
    """The averages are not in the state."""

    def memory(self, p):
        self.kept = getattr(self, "kept", {})
        if id(p) not in self.kept:
            self.kept[id(p)] = {"step": 0, "m": torch.zeros_like(p), "v": torch.zeros_like(p)}
        return self.kept[id(p)]


class UnsavedCount(Adam):
    """The number of steps is not saved."""

    def corrections(self, t, b1, b2):
        self.count = getattr(self, "count", {})
        self.count[t] = True
        taken = len(self.count)
        return super().corrections(taken, b1, b2)


class RateOnce(Adam):
    def __init__(self, params, lr=1e-3, **more):
        super().__init__(params, lr=lr, **more)
        self.lr = lr

    def move(self, p, state, group):
        return super().move(p, state, {**group, "lr": self.lr})


class FirstGroup(Adam):
    def one(self, p, g, state, group):
        super().one(p, g, state, self.param_groups[0])


class DefaultsOnly(Adam):
    def one(self, p, g, state, group):
        super().one(p, g, state, self.defaults)


class ClipsLarge(Adam):
    def gradient(self, p, g, state, group):
        return super().gradient(p, g.clamp(-1e4, 1e4), state, group)


class ClipsByNorm(Adam):
    def gradient(self, p, g, state, group):
        norm = g.norm()
        return super().gradient(p, g if norm < 1e6 else g * (1e6 / norm), state, group)


class DropsTiny(Adam):
    def gradient(self, p, g, state, group):
        return super().gradient(p, torch.where(g.abs() < 1e-10, 0.0, g), state, group)


class Strided(Adam):
    """Writes to the memory of a weight as if it were contiguous."""

    def one(self, p, g, state, group):
        flat = p.contiguous().view(-1)
        super().one(flat, g.contiguous().view(-1), self.flat(p, state), group)
        if p.is_contiguous():
            p.copy_(flat.view(p.shape))

    def flat(self, p, state):
        for name in ("m", "v"):
            state[name] = state[name].reshape(-1)
        return state


class Transposed(Adam):
    """Takes the gradient in the order of the weight's memory."""

    def gradient(self, p, g, state, group):
        if p.ndim == 2 and not p.is_contiguous():
            g = g.contiguous().view(-1).as_strided(p.shape, (1, p.shape[0]))
        return super().gradient(p, g, state, group)


class AfterTen(Adam):
    def corrections(self, t, b1, b2):
        return super().corrections(min(t, 10), b1, b2)


class AfterHundreds(Adam):
    """The corrections are left out when they have all but vanished."""

    def corrections(self, t, b1, b2):
        return super().corrections(t, b1, b2) if t < 200 else (1.0, 1.0)


class Scalars(Adam):
    def move(self, p, state, group):
        return super().move(p, state, group) * (1.0 if p.ndim else 1.0 + 1e-6)


class Single(Adam):
    def move(self, p, state, group):
        return super().move(p, state, group) * (1.0 + 1e-4 if p.dtype == torch.float32 else 1.0)


class LastOfMany(Adam):
    def move(self, p, state, group):
        move = super().move(p, state, group)
        if p.numel() > 8:
            move.view(-1)[-1] *= 1.01
        return move


class NarrowState(Adam):
    """Keeps its averages in float32 whatever the weights are."""

    def memory(self, p):
        state = self.state[p]
        if not state:
            state.update(step=0, m=torch.zeros_like(p).float(), v=torch.zeros_like(p).float())
        return state

    def averages(self, g, state, b1, b2):
        super().averages(g.float(), state, b1, b2)


class ZeroSkips(Adam):
    """A gradient of zero is taken for none."""

    def one(self, p, g, state, group):
        if (g != 0).any():
            super().one(p, g, state, group)


class NoneIsZero(Adam):
    """A weight without a gradient is stepped along zero."""

    def step(self, closure=None):
        for group in self.param_groups:
            for p in group["params"]:
                p.grad = torch.zeros_like(p) if p.grad is None else p.grad
        return super().step(closure)


class ScalesGradient(Adam):
    """Writes the decay into the gradient."""

    def gradient(self, p, g, state, group):
        return (
            g.add_(p, alpha=group["weight_decay"])
            if group["weight_decay"]
            else g.mul_(1.5).div_(3.0).mul_(2.0)
        )


class Rebinds(Adam):
    """The weight gets new memory in every step."""

    def one(self, p, g, state, group):
        new = p.detach().clone()
        super().one(new, g, state, group)
        p.data = new


class Noisy(Adam):
    def move(self, p, state, group):
        return super().move(p, state, group) * (1 + 1e-9 * torch.randn(()))


class NoLoss(Adam):
    def step(self, closure=None):
        super().step(closure)


class NoEnableGrad(Adam):
    @torch.no_grad()
    def step(self, closure=None):
        loss = None if closure is None else closure()
        super().step(None)
        return loss


class Foreach(Adam):
    """The foreach path forgets the correction of the second average."""

    def __init__(self, params, foreach=None, **more):
        super().__init__(params, foreach=foreach, **more)

    def corrections(self, t, b1, b2):
        first, second = super().corrections(t, b1, b2)
        return first, 1.0 if self.listed else second

    def one(self, p, g, state, group):
        self.listed = bool(group["foreach"])
        super().one(p, g, state, group)


class Maximize(Adam):
    """With maximize the sides of the decay change, too."""

    def __init__(self, params, maximize=False, **more):
        super().__init__(params, maximize=maximize, **more)

    def gradient(self, p, g, state, group):
        g = super().gradient(p, g, state, group)
        return -g if group["maximize"] else g


class NothingMoves(Adam):
    def one(self, p, g, state, group):
        super().one(p.clone(), g, state, group)


class LateGroup(Adam):
    """A group that joins is forgotten."""

    def add_param_group(self, group):
        super().add_param_group(group)
        self.first = getattr(self, "first", None) or [self.param_groups[0]]

    def step(self, closure=None):
        every, self.param_groups = self.param_groups, self.param_groups[:1]
        try:
            return super().step(closure)
        finally:
            self.param_groups = every


class Raises(Adam):
    def one(self, p, g, state, group):
        if p.numel() == 0:
            raise IndexError("no first element")
        super().one(p, g, state, group)


class SharedDefaults(Adam):
    """The rate is kept on the class."""

    def one(self, p, g, state, group):
        type(self).rate = group["lr"]
        super().one(p, g, state, group)

    def move(self, p, state, group):
        rate = getattr(type(self), "last", None) or group["lr"]
        type(self).last = group["lr"]
        return super().move(p, state, {**group, "lr": rate})


class Seeds(Adam):
    def one(self, p, g, state, group):
        torch.manual_seed(0)
        super().one(p, g, state, group)


class Sgd(Optimizer):
    """A right SGD whose parts can be replaced by wrong ones."""

    def __init__(self, params, lr=0.1, momentum=0.9, dampening=0.0, weight_decay=0.0, nesterov=False):
        defaults = {"lr": lr, "momentum": momentum, "dampening": dampening, "weight_decay": weight_decay}
        super().__init__(params, {**defaults, "nesterov": nesterov})

    @torch.no_grad()
    def step(self, closure=None):
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    self.one(p, p.grad + group["weight_decay"] * p, self.state[p], group)
        return loss

    def one(self, p, g, state, group):
        b = self.buffer(g, state, group)
        p.sub_(group["lr"] * (g + group["momentum"] * b if group["nesterov"] else b))

    def buffer(self, g, state, group):
        if "b" not in state:
            state["b"] = g.clone()
        else:
            state["b"] = group["momentum"] * state["b"] + (1 - group["dampening"]) * g
        return state["b"]


class DampensFirst(Sgd):
    def buffer(self, g, state, group):
        old = state.get("b", torch.zeros_like(g))
        state["b"] = group["momentum"] * old + (1 - group["dampening"]) * g
        return state["b"]


class RateInBuffer(Sgd):
    def one(self, p, g, state, group):
        b = self.buffer(group["lr"] * g, state, group)
        p.sub_(b)


class OldNesterov(Sgd):
    def one(self, p, g, state, group):
        old = state.get("b", torch.zeros_like(g))
        self.buffer(g, state, group)
        p.sub_(group["lr"] * (g + group["momentum"] * old))


class Aliased(Sgd):
    """The buffer of the first step is the gradient itself."""

    def buffer(self, g, state, group):
        state["b"] = g if "b" not in state else state["b"].mul_(group["momentum"]).add_(g)
        return state["b"]

    def one(self, p, g, state, group):
        super().one(p, g if group["weight_decay"] else p.grad, state, group)


class Averaged(Sgd):
    """The gradient is divided by its size: no reference needed to see that tensors are coupled."""

    def step(self, closure=None):
        every = [p.grad for group in self.param_groups for p in group["params"] if p.grad is not None]
        total = torch.stack([g.detach().pow(2).sum() for g in every]).sum().sqrt() if every else None
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    p.grad = p.grad / (1 + total)
        return super().step(closure)


class Rms(Adam):
    """RMSProp; `inside` puts epsilon under the root."""

    def __init__(self, params, lr=1e-2, alpha=0.99, eps=1e-8, weight_decay=0.0, inside=False):
        Optimizer.__init__(self, params, {"lr": lr, "alpha": alpha, "eps": eps, "weight_decay": weight_decay})
        self.inside = inside

    def one(self, p, g, state, group):
        g = self.gradient(p, g, state, group)
        state["v"].mul_(group["alpha"]).addcmul_(g, g, value=1 - group["alpha"])
        v, eps = state["v"], group["eps"]
        p.sub_(group["lr"] * g / ((v + eps).sqrt() if self.inside else v.sqrt() + eps))


class Grad(Adam):
    """AdaGrad that adds the square after the step."""

    def __init__(self, params, lr=1e-2, eps=1e-10):
        Optimizer.__init__(self, params, {"lr": lr, "eps": eps, "weight_decay": 0.0})

    def one(self, p, g, state, group):
        p.sub_(group["lr"] * g / (state["v"].sqrt() + group["eps"]))
        state["v"].addcmul_(g, g)


def _wrong(
    kind: type[Optimizer], why: str, reference: str | None = "adam", by: str = "trajectory", **options: Any
) -> Wrong:
    name = kind.__name__ + (f" for {reference}" if reference else " by laws")
    return Wrong(name, why, lambda params: kind(params, **options), reference, by)


WRONG_OPTIMIZERS: tuple[Wrong, ...] = (
    _wrong(OffByOne, "the corrections are one step ahead"),
    _wrong(Uncorrected, "nothing is corrected"),
    _wrong(SecondUncorrected, "the second average is not corrected"),
    _wrong(SwappedBetas, "the corrections have each other's factor"),
    _wrong(EpsInside, "epsilon stands under the root"),
    _wrong(EpsBeforeCorrection, "epsilon is added before the correction"),
    _wrong(NoEps, "epsilon is left out"),
    _wrong(CoupledDecay, "L2 decay for decoupled decay", "adamw", weight_decay=0.01),
    _wrong(DecoupledDecay, "decoupled decay for L2 decay", "adam", weight_decay=0.01),
    _wrong(DecayWithoutRate, "decay is not scaled by the rate", "adamw", weight_decay=0.01),
    _wrong(DecayAfterStep, "decay after the step", "adamw", weight_decay=0.01),
    _wrong(
        DecoupledDecay, "decoupled decay for L2 decay, which is switched off by default", "adam", "machine"
    ),
    _wrong(SquareBeforeUpdate, "the second average is one step behind"),
    _wrong(FirstMomentSum, "a billionth of the gradient too much in the average"),
    _wrong(SharedState, "tensors of one shape share their state"),
    _wrong(SharedState, "tensors of one shape share their state", None, "resumed"),
    _wrong(GlobalCount, "steps are counted per tensor, on the optimizer"),
    _wrong(GlobalCount, "steps are counted per tensor, on the optimizer", None, "alone"),
    _wrong(ClassState, "the class counts the steps", None, "update"),
    _wrong(Unsaved, "the state is not saved", "adam", "resumed"),
    _wrong(Unsaved, "the state is not saved", None, "resumed"),
    _wrong(UnsavedCount, "the number of steps is not saved", None, "resumed"),
    _wrong(RateOnce, "the rate is read once", "adam", "groups"),
    _wrong(RateOnce, "the rate is read once", None, "groups"),
    _wrong(FirstGroup, "every group has the options of the first", "adam", "machine"),
    _wrong(FirstGroup, "every group has the options of the first", None, "groups"),
    _wrong(DefaultsOnly, "groups have no options of their own", "adam", "machine"),
    _wrong(DefaultsOnly, "groups have no options of their own", None, "groups"),
    _wrong(ClipsLarge, "large gradients are clipped"),
    _wrong(ClipsByNorm, "gradients of a large norm are scaled"),
    _wrong(DropsTiny, "tiny gradients count as zero"),
    _wrong(Strided, "weights with strides are not written to", "adam", "layouts"),
    _wrong(Strided, "weights with strides are not written to", None, "layouts"),
    _wrong(Transposed, "the gradient of a transposed weight is read in the wrong order", None, "layouts"),
    _wrong(AfterTen, "the corrections stop after ten steps"),
    _wrong(AfterHundreds, "the corrections stop after two hundred steps", "adam", "long-run"),
    _wrong(Scalars, "scalars move a millionth too far"),
    _wrong(Single, "float32 weights move a little too far"),
    _wrong(Single, "float32 weights move a little too far", None, "formats", lr=0.1),
    _wrong(LastOfMany, "the last of more than eight elements is off"),
    _wrong(NarrowState, "float64 weights have averages in float32"),
    _wrong(ZeroSkips, "a gradient of zero is taken for none"),
    _wrong(NoneIsZero, "no gradient is taken for zero", "adam", "machine"),
    _wrong(NoneIsZero, "no gradient is taken for zero", None, "update"),
    _wrong(ScalesGradient, "the gradient is written to", None, "update", weight_decay=0.1),
    _wrong(Rebinds, "the weight is not updated in place", None, "update"),
    _wrong(Noisy, "steps are noisy", None, "update"),
    _wrong(NoLoss, "step(closure) returns nothing", None, "update"),
    _wrong(NoEnableGrad, "the closure runs without gradients", None, "update"),
    _wrong(Foreach, "the foreach path is not corrected", "adam", "forms"),
    _wrong(Foreach, "the foreach path is not corrected", None, "forms"),
    _wrong(Maximize, "maximize turns the decay round", "adam", "machine", weight_decay=0.01),
    _wrong(NothingMoves, "nothing moves", None, "update"),
    _wrong(LateGroup, "only the first group is stepped", None, "groups"),
    _wrong(Raises, "an empty tensor raises"),
    _wrong(SharedDefaults, "the rate of one instance is used by the next", None, "update"),
    _wrong(Seeds, "every step seeds torch's generator", None, "update"),
    _wrong(DampensFirst, "the first step is dampened, too", "sgd", dampening=0.5),
    _wrong(RateInBuffer, "the rate is in the buffer", "sgd", "machine"),
    _wrong(OldNesterov, "Nesterov's step uses the old buffer", "sgd", nesterov=True),
    _wrong(Aliased, "the gradient becomes the buffer", None, "update"),
    _wrong(Averaged, "tensors are coupled by a norm", None, "alone"),
    _wrong(Averaged, "tensors are coupled by a norm", "sgd"),
    _wrong(Rms, "epsilon stands under the root", "rmsprop", inside=True),
    _wrong(Grad, "the square is added after the step", "adagrad"),
)
