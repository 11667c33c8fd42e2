"""Liars about optimizers and schedules."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tests.honest_optimizers import descent, less_power, momentum_at, rectifier
from tests.honest_schedules import cosine, restarted, warm
from tests.lying import NARROW, Liar
from tests.lying_families import (
    Part,
    from_arrays,
    ignoring,
    only,
    output,
    told,
    with_options,
)


def _swapped_sides(o: dict[str, Any]) -> dict[str, Any]:
    return {"maximize": not o["maximize"]}


def _decay_after_rate(inner: Part, w: Any, *rest: Any, **o: Any) -> Any:
    """Add the decay beside the momentum instead of into the gradient."""
    new, *state = inner(w, *rest, **{**o, "weight_decay": 0.0})
    return (new - o["lr"] * o["weight_decay"] * w, *state)


def _decay_again(inner: Part, w: Any, *rest: Any, **o: Any) -> Any:
    new, *state = inner(w, *rest, **o)
    return (new - o["lr"] * o["weight_decay"] * w, *state)


def _nesterov_of_old(inner: Part, w: Any, g: Any, buffer: Any, **o: Any) -> Any:
    """Look ahead along the old buffer."""
    new, after = inner(w, g, buffer, **o)
    if not o["nesterov"] or o["momentum"] == 0 or o["velocity"]:
        return new, after
    down = descent(w, g, o["weight_decay"], o["maximize"])
    return w - o["lr"] * (down + o["momentum"] * buffer), after


def _nesterov_twice(inner: Part, w: Any, g: Any, buffer: Any, **o: Any) -> Any:
    """Step along μb' alone, the gradient left out."""
    new, after = inner(w, g, buffer, **o)
    if not o["nesterov"] or o["momentum"] == 0 or o["velocity"]:
        return new, after
    return w - o["lr"] * o["momentum"] * after, after


def _later(inner: Part, *arrays: Any, t: int, **o: Any) -> Any:
    return inner(*arrays, t=t + 1, **o)


SGD: tuple[Liar, ...] = (
    told("sgd", "climbs", "the sides of maximize are swapped", "value", with_options(_swapped_sides)),
    told("sgd", "never-maximizes", "maximize is ignored", "value", ignoring(maximize=False)),
    told("sgd", "decay-beside", "weight decay does not go through the momentum", "value", _decay_after_rate),
    told("sgd", "decay-twice", "weight decay is applied twice", "value", _decay_again),
    told("sgd", "nesterov-of-old", "Nesterov's step uses the old buffer", "value", _nesterov_of_old),
    told("sgd", "nesterov-without-gradient", "Nesterov's step misses the gradient", "value", _nesterov_twice),
    told("sgd", "undampened", "dampening is ignored", "value", ignoring(dampening=0.0)),
    told(
        "sgd",
        "dampens-first",
        "the first step is dampened too",
        "value",
        only(
            lambda *a, **o: o["t"] == 1 and o["momentum"] != 0,
            lambda inner, w, g, b, **o: inner(w, g, 0.0 * b, **{**o, "t": 2}),
        ),
    ),
    told(
        "sgd",
        "maximize-decays-wrongly",
        "with maximize the decay changes its sign too",
        "value",
        only(lambda *a, **o: o["maximize"], with_options(lambda o: {"weight_decay": -o["weight_decay"]})),
    ),
    from_arrays(
        "sgd",
        "in-place",
        "the weight is overwritten",
        lambda good, inputs, o: _written(inputs, good.forward(inputs, o)),
    ),
)


def _written(inputs: tuple[Any, ...], found: Any) -> Any:
    np.copyto(inputs[0], found[0])
    return found


def _root_inside(inner: Part, w: Any, g: Any, total: Any, **o: Any) -> Any:
    return inner(w, g, total, **{**o, "epsilon": "under"})


def _old_square(place: int, zero: Callable[..., Any]) -> Part:
    """Divide by the old average."""

    def lie(inner: Part, w: Any, g: Any, *state: Any, **o: Any) -> Any:
        found = list(inner(w, g, *state, **o))
        found[0] = zero(w, g, *state, **o)
        return tuple(found)

    return lie


def _adagrad_of_old(
    w: Any, g: Any, total: Any, *, lr: float, lr_decay: float, eps: float, t: int, **o: Any
) -> Any:
    down = descent(w, g, o["weight_decay"], o["maximize"])
    return w - lr / (1 + (t - 1) * lr_decay) * down / (np.sqrt(total) + eps)


def _uncentred(inner: Part, w: Any, g: Any, square: Any, mean: Any, buffer: Any, **o: Any) -> Any:
    """Keep the mean, but do not subtract its square."""
    new, squares, _, buffers = inner(w, g, square, mean, buffer, **{**o, "centered": False})
    _, _, means, _ = inner(w, g, square, mean, buffer, **o)
    return new, squares, means, buffers


def _adadelta_swapped(inner: Part, w: Any, g: Any, square: Any, moved: Any, **o: Any) -> Any:
    new, moves, squares = inner(w, g, moved, square, **o)
    return new, squares, moves


def _adadelta_of_new(inner: Part, w: Any, g: Any, square: Any, moved: Any, *, lr: float, **o: Any) -> Any:
    """Accumulate the step with the rate in."""
    new, squares, _ = inner(w, g, square, moved, lr=lr, **o)
    delta = w - new
    return new, squares, o["rho"] * moved + (1 - o["rho"]) * delta * delta


DIVIDERS: tuple[Liar, ...] = (
    told("adagrad", "decays-early", "lr_decay is one step ahead", "value", _later),
    told("adagrad", "eps-inside", "eps stands under the root", "value", _root_inside),
    told(
        "adagrad",
        "of-old",
        "divides by the sum before this gradient",
        "value",
        _old_square(0, _adagrad_of_old),
    ),
    told("adagrad", "without-decay", "lr_decay is ignored", "value", ignoring(lr_decay=0.0)),
    output(
        "adagrad",
        "sum-of-magnitudes",
        "sums magnitudes",
        1,
        lambda i, good, **o: i[2] + np.abs(descent(i[0], i[1], o["weight_decay"], o["maximize"])),
    ),
    told("rmsprop", "uncentred", "centered does not subtract the square of the mean", "value", _uncentred),
    told(
        "rmsprop",
        "eps-inside",
        "eps stands under the root",
        "value",
        with_options(lambda o: {"epsilon": "under"}),
    ),
    told(
        "rmsprop",
        "alpha-reversed",
        "alpha weighs the new square",
        "value",
        with_options(lambda o: {"alpha": 1 - o["alpha"]}),
    ),
    told(
        "rmsprop",
        "rate-in-buffer",
        "the rate is in the buffer",
        "value",
        with_options(lambda o: {"velocity": True}),
    ),
    told("rmsprop", "decay-beside", "weight decay does not reach the averages", "value", _decay_after_rate),
    told("adadelta", "swapped", "the two averages are swapped", "value", _adadelta_swapped),
    told("adadelta", "rate-in-moves", "the average of the moves has the rate in", "value", _adadelta_of_new),
    told("adadelta", "without-rate", "the rate is ignored", "value", ignoring(lr=1.0)),
    told(
        "adadelta",
        "eps-above-only",
        "eps is missing below",
        "value",
        lambda inner, w, g, s, m, **o: (
            w
            - o["lr"]
            * np.sqrt(m + o["eps"])
            / np.sqrt(inner(w, g, s, m, **o)[1])
            * descent(w, g, o["weight_decay"], o["maximize"]),
            *inner(w, g, s, m, **o)[1:],
        ),
    ),
)


def _adam(
    w: Any,
    g: Any,
    mean: Any,
    square: Any,
    largest: Any,
    bend: Callable[..., tuple[Any, Any]],
    o: dict[str, Any],
) -> Any:
    """Take Adam's step with bend(corrected mean, corrected square) -> (numerator, denominator)."""
    down = descent(w, g, o["weight_decay"], o["maximize"])
    m = o["beta1"] * mean + (1 - o["beta1"]) * down
    v = o["beta2"] * square + (1 - o["beta2"]) * down * down
    if o["amsgrad"]:
        largest = np.maximum(largest, v)
    above, below = bend(m, largest if o["amsgrad"] else v)
    return w - o["lr"] * above / below, m, v, largest


def _bent_adam(bend: Callable[..., tuple[Any, Any]]) -> Part:
    return lambda inner, *arrays, **o: _adam(*arrays, lambda m, v: bend(m, v, o), o)


def _hats(m: Any, v: Any, o: dict[str, Any]) -> tuple[Any, Any]:
    return m / less_power(o["beta1"], o["t"]), v / less_power(o["beta2"], o["t"])


def _maximum_late(inner: Part, w: Any, g: Any, mean: Any, square: Any, largest: Any, **o: Any) -> Any:
    """Take the maximum after the step."""
    found = inner(w, g, mean, square, largest, **o)
    return (inner(w, g, mean, square, largest, **{**o, "amsgrad": False})[0], *found[1:])


def _decoupled(inner: Part, w: Any, *rest: Any, **o: Any) -> Any:
    new, *state = inner(w, *rest, **{**o, "weight_decay": 0.0})
    return (new - o["lr"] * o["weight_decay"] * w, *state)


def _square_of_mean(inner: Part, w: Any, g: Any, mean: Any, square: Any, largest: Any, **o: Any) -> Any:
    new, m, _, most = inner(w, g, mean, square, largest, **o)
    return new, m, o["beta2"] * square + (1 - o["beta2"]) * m * m, most


ADAM: tuple[Liar, ...] = (
    told(
        "adam",
        "first-uncorrected",
        "the mean's bias is not corrected",
        "value",
        _bent_adam(lambda m, v, o: (m, np.sqrt(_hats(m, v, o)[1]) + o["eps"])),
    ),
    told(
        "adam",
        "second-uncorrected",
        "the square's bias is not corrected",
        "value",
        _bent_adam(lambda m, v, o: (_hats(m, v, o)[0], np.sqrt(v) + o["eps"])),
    ),
    told(
        "adam",
        "uncorrected",
        "no bias is corrected",
        "value",
        _bent_adam(lambda m, v, o: (m, np.sqrt(v) + o["eps"])),
    ),
    told("adam", "late", "t is one too large", "value", _later),
    told(
        "adam",
        "eps-inside",
        "eps stands under the root",
        "value",
        _bent_adam(lambda m, v, o: (_hats(m, v, o)[0], np.sqrt(_hats(m, v, o)[1] + o["eps"]))),
    ),
    told(
        "adam",
        "eps-hat",
        "eps stands beside the root before it is corrected",
        "value",
        with_options(lambda o: {"epsilon": "uncorrected"}),
    ),
    told(
        "adam",
        "unrooted",
        "the root is missing",
        "value",
        _bent_adam(lambda m, v, o: (_hats(m, v, o)[0], _hats(m, v, o)[1] + o["eps"])),
    ),
    told("adam", "maximum-late", "AMSGrad's maximum comes after the step", "value", _maximum_late),
    told(
        "adam",
        "maximum-corrected",
        "AMSGrad keeps the corrected square",
        "value",
        with_options(lambda o: {"maximum": "corrected"}),
    ),
    output(
        "adam",
        "maximum-minimum",
        "AMSGrad keeps the smallest square",
        3,
        lambda i, good, **o: np.minimum(i[4], good[2]) if o["amsgrad"] else good[3],
    ),
    told("adam", "decoupled", "weight decay is decoupled", "value", _decoupled),
    told("adam", "decay-twice", "weight decay is in the gradient and beside it", "value", _decay_again),
    told(
        "adam",
        "betas-swapped",
        "the betas are swapped",
        "value",
        with_options(lambda o: {"beta1": o["beta2"], "beta2": o["beta1"]}),
    ),
    told(
        "adam",
        "squares-mean",
        "the square is that of the mean",
        "value",
        _square_of_mean,
    ),
    told(
        "adam",
        "late-in-the-long-run",
        "after 1000 steps the bias is no longer corrected",
        "value",
        only(lambda *a, **o: o["t"] >= 1000, with_options(lambda o: {"t": 10**9})),
    ),
    told(
        "adam",
        "half-corrections",
        "t stops at 255 in 16-bit formats",
        "value",
        with_options(lambda o: {"t": min(o["t"], 255)}),
        formats=NARROW,
    ),
    told(
        "adam",
        "hides-nan",
        "a NaN in the gradient is passed over",
        "value",
        lambda inner, w, g, *s, **o: inner(w, np.where(np.isnan(g), 0.0, g), *s, **o),
        where="special",
    ),
    told(
        "adamw",
        "grows",
        "the decay has the wrong sign",
        "value",
        with_options(lambda o: {"weight_decay": -o["weight_decay"]}),
    ),
    told(
        "adamw",
        "without-rate",
        "the rate does not scale the decay",
        "value",
        lambda inner, w, *rest, **o: (
            inner(w, *rest, **{**o, "weight_decay": 0.0})[0] - o["weight_decay"] * w,
            *inner(w, *rest, **o)[1:],
        ),
    ),
    told(
        "adamw",
        "coupled",
        "weight decay is in the gradient",
        "value",
        lambda inner, w, g, *rest, **o: inner(
            w, g + (-1 if o["maximize"] else 1) * o["weight_decay"] * w, *rest, **{**o, "weight_decay": 0.0}
        ),
    ),
    told(
        "adamw",
        "decays-after",
        "the new weight is decayed",
        "value",
        lambda inner, w, *rest, **o: (
            inner(w, *rest, **{**o, "weight_decay": 0.0})[0] * (1 - o["lr"] * o["weight_decay"]),
            *inner(w, *rest, **o)[1:],
        ),
    ),
    told(
        "adamw",
        "foreach-skips-vectors",
        "the lists' form decays no vectors",
        "value",
        only(lambda w, *a, **o: w.ndim == 1, ignoring(weight_decay=0.0)),
    ),
)


def _nadam_shifted(this: int, following: int) -> Part:
    """Take the momenta of other steps."""

    def lie(inner: Part, w: Any, g: Any, mean: Any, square: Any, product: Any, **o: Any) -> Any:
        _, m, v, _ = inner(w, g, mean, square, product, **o)
        down = descent(w, g, 0.0 if o["decoupled"] else o["weight_decay"], o["maximize"])
        now = momentum_at(o["beta1"], o["t"] + this, o["momentum_decay"])
        then = momentum_at(o["beta1"], o["t"] + following, o["momentum_decay"])
        p = product * now
        ahead = (1 - now) / (1 - p) * down + then / (1 - p * then) * m
        root = np.sqrt(v / less_power(o["beta2"], o["t"])) + o["eps"]
        start = w * (1 - o["lr"] * o["weight_decay"]) if o["decoupled"] else w
        return start - o["lr"] * ahead / root, m, v, p

    return lie


def _radam_unrooted(inner: Part, w: Any, g: Any, mean: Any, square: Any, **o: Any) -> Any:
    r = rectifier(o["beta2"], o["t"], o["threshold"])
    new, *state = inner(w, g, mean, square, **o)
    start = w * (1 - o["lr"] * o["weight_decay"]) if o["decoupled"] else w
    return (start + (new - start) * r, *state) if r is not None else (new, *state)


def _adamax(norm: Callable[..., Any]) -> Part:
    def lie(inner: Part, w: Any, g: Any, mean: Any, u: Any, **o: Any) -> Any:
        _, m, _ = inner(w, g, mean, u, **o)
        after = norm(descent(w, g, o["weight_decay"], o["maximize"]), u, o)
        return w - o["lr"] / less_power(o["beta1"], o["t"]) * m / after, m, after

    return lie


OTHERS: tuple[Liar, ...] = (
    told("nadam", "schedule-late", "the momenta are those of the next step", "value", _nadam_shifted(1, 2)),
    told("nadam", "schedule-still", "the next momentum is this one's", "value", _nadam_shifted(0, 0)),
    told("nadam", "constant-momentum", "momentum_decay is ignored", "value", ignoring(momentum_decay=4e-3)),
    output("nadam", "product-kept", "the product stays as it was", 3, lambda i, good, **o: i[4]),
    told("nadam", "always-coupled", "decoupled is ignored", "value", ignoring(decoupled=False)),
    told("radam", "switches-at-4", "is rectified from ρ > 4 on", "value", ignoring(threshold=4.0)),
    told("radam", "unrooted", "the rectification is r squared", "value", _radam_unrooted),
    told("radam", "never-rectified", "the warm-up never ends", "value", ignoring(threshold=1e300)),
    told("radam", "late", "t is one too large", "value", _later),
    told(
        "adamax",
        "without-eps",
        "eps is forgotten",
        "value",
        _adamax(lambda g, u, o: np.maximum(o["beta2"] * u, np.abs(g))),
    ),
    told(
        "adamax",
        "eps-outside",
        "eps is added after the maximum",
        "value",
        _adamax(lambda g, u, o: np.maximum(o["beta2"] * u, np.abs(g)) + o["eps"]),
    ),
    told(
        "adamax",
        "undecayed",
        "the largest never decays",
        "value",
        _adamax(lambda g, u, o: np.maximum(u, np.abs(g) + o["eps"])),
    ),
    told(
        "adamax",
        "signed",
        "the largest is of signed gradients",
        "value",
        _adamax(lambda g, u, o: np.maximum(o["beta2"] * u, g + o["eps"])),
    ),
    told("printed_adam", "rho-above", "ρ multiplies", "value", with_options(lambda o: {"rho": 1 / o["rho"]})),
    told(
        "printed_adam",
        "corrected",
        "the square's bias of step 1 is corrected",
        "value",
        with_options(lambda o: {"rho": o["rho"] * (1 - o["beta2"])}),
    ),
)


SCHEDULES: tuple[Liar, ...] = (
    told("step_lr", "early", "steps one step early", "value", _later),
    told(
        "step_lr",
        "smooth",
        "decays within a step too",
        "value",
        lambda inner, rate, *, gamma, step_size, t: rate * gamma ** (t / step_size),
    ),
    told(
        "multi_step_lr",
        "after",
        "a milestone counts one step late",
        "value",
        lambda inner, rate, *, t, **o: inner(rate, t=max(t - 1, 0), **o),
    ),
    told(
        "multi_step_lr",
        "once",
        "a repeated milestone counts once",
        "value",
        with_options(lambda o: {"milestones": tuple(sorted(set(o["milestones"])))}),
    ),
    told("exponential_lr", "late", "t is one too large", "value", _later),
    told(
        "cosine_annealing_lr",
        "stays-down",
        "stays at the bottom after T",
        "value",
        with_options(lambda o: {"t": min(o["t"], o["period"])}),
    ),
    told(
        "cosine_annealing_lr",
        "whole",
        "runs through a whole cosine in T",
        "value",
        lambda inner, rate, *, eta_min, period, t: cosine(rate, eta_min, 2 * t, period),
    ),
    told(
        "cosine_annealing_lr",
        "floor-added",
        "η_min is added, not interpolated",
        "value",
        lambda inner, rate, *, eta_min, period, t: eta_min + inner(rate, eta_min=0.0, period=period, t=t),
    ),
    told("cosine_warm_restarts", "even", "all periods are of one length", "value", ignoring(factor=1)),
    told(
        "cosine_warm_restarts",
        "late",
        "restarts one step late",
        "value",
        lambda inner, rate, *, eta_min, period, factor, t: cosine(
            rate, eta_min, *(restarted(t, period, factor) if t != period else (period, period))
        ),
    ),
    told(
        "linear_lr",
        "unbounded",
        "goes on beyond its length",
        "value",
        lambda inner, rate, *, start, end, length, t: rate * (start + (end - start) * t / length),
    ),
    told(
        "linear_lr",
        "reversed",
        "start and end are swapped",
        "value",
        with_options(lambda o: {"start": o["end"], "end": o["start"]}),
    ),
    told("one_cycle_lr", "always-cosine", "the strategy is ignored", "value", ignoring(strategy="cos")),
    told(
        "one_cycle_lr",
        "final-of-top",
        "the last rate is η/f",
        "value",
        lambda inner, rate, *, t, up, total, **o: inner(
            rate,
            t=t,
            up=up,
            total=total,
            **(o if t <= up * total - 1 else {**o, "final_div": o["final_div"] / o["div"]}),
        ),
    ),
    told(
        "one_cycle_lr",
        "top-late",
        "the top is one step late",
        "value",
        lambda inner, rate, *, up, total, **o: inner(rate, up=up + 1 / total, total=total, **o),
    ),
    told(
        "warm_up_chain",
        "unshifted",
        "the cosine starts at 0, not after the warm-up",
        "value",
        only(
            lambda rate, **o: not o["chained"] and o["t"] >= o["length"],
            lambda inner, rate, *, t, period, **o: cosine(rate, 0.0, t, period),
        ),
    ),
    told(
        "warm_up_chain",
        "chain-after",
        "a chain decays after the warm-up only",
        "value",
        only(
            lambda rate, **o: o["chained"],
            lambda inner, rate, *, t, start, length, gamma, **o: (
                rate * warm(start, 1.0, length, t) * gamma ** max(t - length, 0)
            ),
        ),
    ),
)

OPTIMIZER_LIARS: tuple[Liar, ...] = (*SGD, *DIVIDERS, *ADAM, *OTHERS, *SCHEDULES)
