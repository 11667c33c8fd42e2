"""Inputs and options for formulas of several inputs, chosen apart from the way in which the checker draws."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

Probe = tuple[tuple[Any, ...], dict[str, Any]]
Random = np.random.Generator


def _pick(r: Random, *choices: Any) -> Any:
    return choices[int(r.integers(len(choices)))]


def _plain(r: Random, *shape: int) -> Any:
    """Return numbers about 0, now and then shifted, rounded to quarters (ties) or larger."""
    x = r.normal(size=shape)
    kind = int(r.integers(6))
    if kind == 0:
        return np.round(2 * x) / 2
    return x + 300.0 if kind == 1 else 12.0 * x if kind == 2 else x


def _conv(axes: int) -> Callable[[Random], Probe]:
    def probe(r: Random) -> Probe:
        groups, mode = _pick(r, 1, 1, 2), _pick(r, "zeros", "reflect", "replicate", "circular")
        kernel = [_pick(r, 1, 2, 3, 3) for _ in range(axes)]
        dilation = [_pick(r, 1, 2) for _ in range(axes)]
        stride = [_pick(r, 1, 2) for _ in range(axes)]
        padding: Any = [_pick(r, 0, 1, 2) for _ in range(axes)]
        if r.integers(4) == 0:
            padding, stride = "same", [1] * axes
        if axes == 2 and r.integers(2):
            kernel = [kernel[0]] * 2
        lengths = [_pick(r, 7, 8, 9) for _ in range(axes)]
        inner, outer = _pick(r, 1, 2), _pick(r, 1, 2)
        x = _plain(r, _pick(r, 1, 2), groups * inner, *lengths)
        w, b = r.normal(size=(groups * outer, inner, *kernel)), r.normal(size=groups * outer)
        each = {"stride": stride, "padding": padding, "dilation": dilation}
        shaped = {k: v if isinstance(v, str) else v[0] if axes == 1 else tuple(v) for k, v in each.items()}
        return (x, w, b), {**shaped, "groups": groups, "padding_mode": mode}

    return probe


def _pool(axes: int, largest: bool) -> Callable[[Random], Probe]:
    def probe(r: Random) -> Probe:
        kernel = [_pick(r, 2, 3, 4) for _ in range(axes)]
        padding = [_pick(r, 0, 1) for _ in range(axes)]
        stride = [_pick(r, 1, 2, 3) for _ in range(axes)]
        dilation = [_pick(r, 1, 2) for _ in range(axes)]
        x = _plain(r, _pick(r, 1, 2), 2, *(_pick(r, 7, 8, 10) for _ in range(axes)))
        if r.integers(2):
            x = np.round(x)
        each = {"kernel_size": kernel, "padding": padding, "stride": stride}
        if largest:
            each["dilation"] = dilation
        options: dict[str, Any] = {k: v[0] if axes == 1 else tuple(v) for k, v in each.items()}
        options["ceil_mode"] = _pick(r, False, True)
        if not largest:
            options["count_include_pad"] = _pick(r, False, True)
            if axes == 2:
                options["divisor_override"] = _pick(r, None, 3)
        return (x,), options

    return probe


_EPS = (1e-5, 1e-3, 0.25)


def _image(r: Random) -> tuple[int, ...]:
    return _pick(r, (5, 4), (3, 4, 3), (2, 4, 2, 3), (4, 2, 2, 2), (1, 2, 4, 3))


def _batch(r: Random) -> Probe:
    shape = _image(r)
    parameters = r.normal(size=shape[1]), r.normal(size=shape[1])
    return (_plain(r, *shape), *parameters), {"eps": _pick(r, *_EPS), "affine": _pick(r, True, False)}


def _batch_eval(r: Random) -> Probe:
    (x, w, b), options = _batch(r)
    return (x, w, b, r.normal(size=w.shape), np.abs(r.normal(size=w.shape))), options


def _running(r: Random) -> Probe:
    shape = _image(r)
    arrays = _plain(r, *shape), r.normal(size=shape[1]), np.abs(r.normal(size=shape[1]))
    return arrays, {
        "momentum": _pick(r, 0.1, 0.9, 0.3),
        "cumulative": _pick(r, True, False),
        "count": _pick(r, 0, 1, 7),
        "momentum_of": _pick(r, "batch", "running"),
    }


def _layer(parameters: int) -> Callable[[Random], Probe]:
    def probe(r: Random) -> Probe:
        axes = _pick(r, 1, 2)
        x = _plain(r, 3, 4, _pick(r, 5, 6))
        shape = x.shape[3 - axes :]
        return (x, *(r.normal(size=shape) for _ in range(parameters))), {"eps": _pick(r, *_EPS), "axes": axes}

    return probe


def _group(r: Random) -> Probe:
    shape = _pick(r, (3, 4), (2, 4, 3), (2, 4, 2, 2))
    arrays = _plain(r, *shape), r.normal(size=4), r.normal(size=4)
    return arrays, {"groups": _pick(r, 1, 2), "eps": _pick(r, *_EPS)}


def _instance(r: Random) -> Probe:
    shape = _pick(r, (3, 2, 5), (2, 3, 2, 3))
    return (_plain(r, *shape), r.normal(size=shape[1]), r.normal(size=shape[1])), {"eps": _pick(r, *_EPS)}


def _along_axis(r: Random) -> Probe:
    shape = _pick(r, (6,), (3, 4), (2, 3, 2))
    x = _pick(r, 1.0, 1.0, 40.0, 400.0) * _plain(r, *shape) + _pick(r, 0.0, 0.0, 2000.0, -2000.0)
    return (x,), {"axis": int(r.integers(-len(shape), len(shape)))}


def _reduction(r: Random) -> dict[str, Any]:
    return {"reduction": _pick(r, "mean", "sum", "none")}


def _pair(**options: tuple[Any, ...]) -> Callable[[Random], Probe]:
    def probe(r: Random) -> Probe:
        shape = _pick(r, (5,), (2, 4))
        scale = _pick(r, 1.0, 0.2, 4.0)
        x, target = (
            scale * np.round(4 * r.normal(size=shape)) / 4,
            scale * np.round(4 * r.normal(size=shape)) / 4,
        )
        return (x, target), {**{k: _pick(r, *v) for k, v in options.items()}, **_reduction(r)}

    return probe


def _indices(smoothing: bool) -> Callable[[Random], Probe]:
    def probe(r: Random) -> Probe:
        classes = 4
        shape = _pick(r, (4,), (3, 4), (2, 4, 3))
        where = shape[:0] if len(shape) == 1 else (shape[0], *shape[2:])
        target = r.integers(0, classes, size=where).astype(np.float64)
        options = {"ignore_index": _pick(r, -100, 0), **_reduction(r)}
        if smoothing:
            options["label_smoothing"] = _pick(r, 0.0, 0.25)
        return (r.normal(size=shape) * 2, target, r.uniform(0.5, 2, size=classes)), options

    return probe


def _soft(r: Random) -> Probe:
    shape = _pick(r, (4,), (3, 4), (2, 4, 3))
    axis = 0 if len(shape) == 1 else 1
    t = r.uniform(size=shape)
    weight = r.uniform(0.5, 2, size=4)
    options = {"label_smoothing": _pick(r, 0.0, 0.25), **_reduction(r)}
    return (r.normal(size=shape) * 2, t / t.sum(axis=axis, keepdims=True), weight), options


def _binary(r: Random) -> Probe:
    shape = _pick(r, (5,), (2, 4))
    x = np.where(r.integers(5, size=shape) == 0, 1e-60, r.uniform(0.01, 0.99, size=shape))
    return (x, r.uniform(size=shape), r.uniform(0.5, 2, size=shape)), {"floor": -100.0, **_reduction(r)}


def _logits(r: Random) -> Probe:
    shape = _pick(r, (5,), (2, 4))
    x = r.normal(size=shape) * _pick(r, 1.0, 8.0, 300.0)
    return (x, r.uniform(size=shape), r.uniform(0.5, 2, size=shape), r.uniform(0.5, 3, size=shape[-1])), (
        _reduction(r)
    )


def _norm(r: Random) -> dict[str, Any]:
    return {
        "max_norm": _pick(r, 0.5, 2.0, 100.0),
        "p": _pick(r, 2.0, 1.0, 3.0, math.inf),
        "epsilon": _pick(r, 1e-6, 0.0),
    }


def _one_norm(r: Random) -> Probe:
    scale = _pick(r, 1.0, 1.0, 1e25, 1e-30, 1e200)
    return (r.normal(size=_pick(r, (7,), (3, 4))) * scale,), _norm(r)


def _three(r: Random) -> Probe:
    return (r.normal(size=5), r.normal(size=(2, 3)), r.normal(size=())), _norm(r)


def _units(r: Random) -> Probe:
    arrays = r.normal(size=(4, 5)), r.normal(size=(4, 5)) * _pick(r, 1.0, 1e-3)
    return arrays, {"clipping": _pick(r, 0.01, 0.1, 1.0), "eps": _pick(r, 1e-3, 0.1, 0.0)}


def _weights(**options: tuple[Any, ...]) -> Callable[[Random], Probe]:
    def probe(r: Random) -> Probe:
        return (_plain(r, *_pick(r, (6,), (3, 4))),), {k: _pick(r, *v) for k, v in options.items()}

    return probe


def _network(r: Random) -> Probe:
    return tuple(r.normal(size=shape) for shape in ((3, 2), (3, 2), (4, 2), (2, 4))), {}


_BOTH = (False, True)


def _optimizer(kinds: str, **options: tuple[Any, ...]) -> Callable[[Random], Probe]:
    """`kinds` names the arrays: r real, p positive, u one number of the unit interval."""

    def probe(r: Random) -> Probe:
        shape, scale = _pick(r, (5,), (2, 3)), _pick(r, 1.0, 1.0, 0.02)
        make = {
            "r": lambda: scale * r.normal(size=shape),
            "p": lambda: np.square(scale * r.normal(size=shape)),
            "u": lambda: r.uniform(0.1, 0.9, size=()),
        }
        drawn = {k: _pick(r, *v) for k, v in options.items()}
        if drawn.get("nesterov"):
            drawn |= {"dampening": 0.0, "momentum": 0.9}
        arrays = [make[kind]() for kind in kinds]
        if drawn.get("centered"):
            arrays[2] = np.square(arrays[3]) + arrays[2]
        return tuple(arrays), drawn

    return probe


_RATE: dict[str, tuple[Any, ...]] = {"lr": (0.1, 0.5), "weight_decay": (0.0, 0.5), "maximize": _BOTH}
_STEPS = {"t": (1, 2, 3, 6, 1000)}
_ADAM: dict[str, tuple[Any, ...]] = {
    **_RATE,
    **_STEPS,
    "beta1": (0.9, 0.5, 0.99),
    "beta2": (0.999, 0.9),
    "eps": (1e-8, 1e-2, 0.1),
}
_GRAND = {**_ADAM, "amsgrad": _BOTH, "epsilon": ("beside",), "maximum": ("raw",)}


def _schedule(**options: tuple[Any, ...]) -> Callable[[Random], Probe]:
    def probe(r: Random) -> Probe:
        drawn = {k: _pick(r, *v) for k, v in options.items()}
        return (r.uniform(0.1, 1, size=3),), {**drawn, "t": int(r.integers(0, 24))}

    return probe


PROBES: dict[str, Callable[[Random], Probe]] = {
    "conv1d": _conv(1),
    "conv2d": _conv(2),
    "max_pool1d": _pool(1, True),
    "max_pool2d": _pool(2, True),
    "avg_pool1d": _pool(1, False),
    "avg_pool2d": _pool(2, False),
    "dropout": lambda r: (
        (r.normal(size=(4, 5)), r.integers(0, 2, size=(4, 5)).astype(float)),
        {"p": _pick(r, 0.2, 0.5, 0.9, 1.0)},
    ),
    "residual": lambda r: (
        (np.round(2 * r.normal(size=(4, 5))), r.normal(size=(4, 5))),
        {"scale": _pick(r, 1.0, -2.0, 0.5)},
    ),
    "batch_norm": _batch,
    "batch_norm_eval": _batch_eval,
    "batch_norm_running": _running,
    "layer_norm": _layer(2),
    "rms_norm": _layer(1),
    "group_norm": _group,
    "instance_norm": _instance,
    **dict.fromkeys(("softmax", "log_softmax", "logsumexp"), _along_axis),
    "mse_loss": _pair(),
    "l1_loss": _pair(),
    "huber_loss": _pair(delta=(1.0, 0.5, 3.0)),
    "smooth_l1_loss": _pair(beta=(1.0, 0.0, 0.5, 3.0)),
    "cross_entropy": _indices(True),
    "nll_loss": _indices(False),
    "cross_entropy_probabilities": _soft,
    "binary_cross_entropy": _binary,
    "binary_cross_entropy_with_logits": _logits,
    "clip_by_norm": _one_norm,
    "clip_by_global_norm": _three,
    "adaptive_clip": _units,
    "l2_penalty": _weights(decay=(0.01, 1.0)),
    "l1_penalty": _weights(decay=(0.01, 1.0)),
    "decoupled_decay": _weights(rate=(0.1, 0.5, 1.0), decay=(0.5, 1.0)),
    "gradient_norm_penalty": _network,
    "kronecker_penalty": _weights(decay=(0.01, 1.0)),
    "sgd": _optimizer(
        "rrr", **_RATE, **_STEPS, momentum=(0.9, 0.0), dampening=(0.0, 0.5), nesterov=_BOTH, velocity=(False,)
    ),
    "adagrad": _optimizer(
        "rrp", **_RATE, **_STEPS, lr_decay=(0.0, 0.5), eps=(1e-8, 0.1), epsilon=("beside",)
    ),
    "rmsprop": _optimizer(
        "rrprr",
        **_RATE,
        alpha=(0.99, 0.9),
        eps=(1e-8, 0.1),
        momentum=(0.0, 0.9),
        centered=_BOTH,
        epsilon=("beside",),
        velocity=(False,),
    ),
    "adadelta": _optimizer("rrpp", **_RATE, rho=(0.9, 0.5), eps=(1e-6, 0.1)),
    "adam": _optimizer("rrrpp", **_GRAND),
    "adamw": _optimizer("rrrpp", **_GRAND),
    "nadam": _optimizer("rrrpu", **_ADAM, momentum_decay=(4e-3, 1.0), decoupled=_BOTH),
    "radam": _optimizer("rrrp", **{**_ADAM, "t": (1, 5, 6, 100)}, threshold=(5.0,), decoupled=_BOTH),
    "adamax": _optimizer("rrrp", **_ADAM),
    "printed_adam": _optimizer(
        "rrrp", lr=(0.1, 0.5), beta1=(0.9, 0.5), beta2=(0.999, 0.9), eps=(1e-8, 0.1), rho=(1.0, 0.1)
    ),
    "step_lr": _schedule(gamma=(0.5, 0.9), step_size=(2, 5)),
    "multi_step_lr": _schedule(gamma=(0.5, 0.9), milestones=((2, 5), (1, 3, 3, 20))),
    "exponential_lr": _schedule(gamma=(0.5, 0.9)),
    "cosine_annealing_lr": _schedule(eta_min=(0.0, 0.05), period=(4, 10)),
    "cosine_warm_restarts": _schedule(eta_min=(0.0, 0.05), period=(4, 10), factor=(1, 2)),
    "linear_lr": _schedule(start=(0.25, 1.0), end=(1.0, 0.5), length=(5, 16)),
    "one_cycle_lr": _schedule(
        up=(0.25, 0.5), div=(25.0, 10.0), final_div=(1e4, 1.0), total=(24,), strategy=("cos", "linear")
    ),
    "warm_up_chain": _schedule(start=(0.25,), length=(5,), period=(4, 10), gamma=(0.5, 0.9), chained=_BOTH),
}


def probes(formula: str, count: int) -> Iterator[Probe]:
    """Yield that many inputs with their options, always the same ones."""
    for seed in range(count):
        yield PROBES[formula](np.random.default_rng(seed))
