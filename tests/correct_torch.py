"""Formulas of several inputs by torch's functions and autograd, in float64, rounded once to the format."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.nn import functional

from gradcheck.formats import Format
from gradcheck.records import Array, Options
from gradcheck.subjects.implementation import Implementation
from tests.honest import rounded, wide
from tests.honest_families import FIXED, WITHOUT_GRADIENT, completed
from tests.variants import Correct

Program = Callable[..., Any]
_BESIDE = {"reflect": "reflect", "replicate": "replicate", "circular": "circular"}


def _leaves(formula: str, inputs: tuple[Array, ...]) -> tuple[Any, ...]:
    """Return float64 tensors that ask for a gradient, but for constants."""
    fixed = FIXED.get(formula, ())
    return tuple(
        torch.tensor(wide(array)).requires_grad_(place not in fixed) for place, array in enumerate(inputs)
    )


def _gradients(result: Any, leaves: tuple[Any, ...], c: Any, graph: bool = False) -> list[Any]:
    wanted = [leaf for leaf in leaves if leaf.requires_grad]
    if not result.requires_grad:
        return [torch.zeros_like(leaf) if leaf.requires_grad else None for leaf in leaves]
    found = iter(torch.autograd.grad(result, wanted, c, create_graph=graph, allow_unused=True))
    some = [next(found) if leaf.requires_grad else None for leaf in leaves]
    return [
        torch.zeros_like(leaf) if g is None and leaf.requires_grad else g
        for g, leaf in zip(some, leaves, strict=True)
    ]


# torch divides by no less than 1e-12 there, which is another gradient near 0 and 1.
VALUE_ONLY = {"binary_cross_entropy"}


def by_torch(formula: str, program: Program, second: bool = True, naive: bool = False) -> Correct:
    """Return the variant that runs a program of torch in float64."""

    def implement(fmt: Format) -> Implementation:
        def run(inputs: tuple[Array, ...], options: Options) -> tuple[Any, tuple[Any, ...]]:
            leaves = _leaves(formula, inputs)
            return program(*leaves, **completed(formula, options)), leaves

        def out(results: Any) -> Any:
            if isinstance(results, tuple | list):
                return tuple(None if each is None else out(each) for each in results)
            return rounded(fmt, results.numpy(force=True))

        def forward(inputs: tuple[Array, ...], options: Options) -> Any:
            return out(run(inputs, options)[0])

        def vjp(inputs: tuple[Array, ...], c: Array, options: Options) -> tuple[Array | None, ...]:
            result, leaves = run(inputs, options)
            return tuple(out(_gradients(result, leaves, torch.tensor(wide(c)))))

        def bent(
            inputs: tuple[Array, ...], c: Array, directions: tuple[Array, ...], options: Options
        ) -> tuple[Array | None, ...]:
            result, leaves = run(inputs, options)
            first = _gradients(result, leaves, torch.tensor(wide(c)), graph=True)
            terms = [
                (g * torch.tensor(wide(d))).sum()
                for g, d in zip(first, directions, strict=True)
                if g is not None
            ]
            return tuple(out(_gradients(sum(terms[1:], terms[0]), leaves, None)))

        without = formula in WITHOUT_GRADIENT or formula in VALUE_ONLY
        return Implementation(
            formula,
            "corpus",
            fmt,
            forward,
            None if without else vjp,
            bent if second and not without else None,
        )

    return Correct(f"{formula}-torch-float64", formula, implement, naive)


def _beside(x: Any, kernel: Any, padding: Any, dilation: Any, mode: str) -> Any:
    """Return x padded by functional.pad."""
    if padding == "valid":
        return x
    axes = x.ndim - 2
    dilations = (dilation,) * axes if isinstance(dilation, int) else dilation
    around: list[int] = []
    for i in reversed(range(axes)):
        if padding == "same":
            span = dilations[i] * (kernel[i] - 1)
            around += [span // 2, span - span // 2]
        else:
            around += [padding if isinstance(padding, int) else padding[i]] * 2
    return functional.pad(x, around, mode="constant" if mode == "zeros" else _BESIDE[mode])


def _convolution(
    x: Any, w: Any, b: Any, *, stride: Any, padding: Any, dilation: Any, groups: int, padding_mode: str
) -> Any:
    wide_x = _beside(x, w.shape[2:], padding, dilation, padding_mode)
    function = functional.conv1d if x.ndim == 3 else functional.conv2d
    return function(wide_x, w, b, stride=stride, dilation=dilation, groups=groups)


def _shape(x: Any, axes: int) -> Any:
    return x.shape[x.ndim - axes :]


def _running(
    x: Any, mean: Any, variance: Any, *, momentum: float, cumulative: bool, count: int, momentum_of: str
) -> Any:
    share = 1 / (count + 1) if cumulative else momentum if momentum_of == "batch" else 1 - momentum
    m, v = mean.detach().clone(), variance.detach().clone()
    functional.batch_norm(x.detach(), m, v, training=True, momentum=share)
    return m, v


def _clipped(parts: Any, max_norm: float, p: float, epsilon: float) -> tuple[Any, Any]:
    norm = torch.linalg.vector_norm(torch.cat([part.reshape(-1) for part in parts]), p)
    factor = torch.clamp(max_norm / (norm + epsilon), max=1.0)
    return tuple(part * factor for part in parts), norm


def _clipped_together(a: Any, b: Any, c: Any, *, max_norm: float, p: float, epsilon: float) -> Any:
    parts, norm = _clipped((a, b, c), max_norm, p, epsilon)
    return (*parts, norm)


def _units(g: Any, w: Any, *, clipping: float, eps: float) -> Any:
    most = clipping * torch.linalg.vector_norm(w, dim=1, keepdim=True).clamp(min=eps)
    norm = torch.linalg.vector_norm(g, dim=1, keepdim=True)
    return torch.where(norm <= most, g, g * (most / norm))


def _penalty(x: Any, y: Any, w1: Any, w2: Any) -> Any:
    with torch.enable_grad():
        error = functional.mse_loss(torch.tanh(x @ w1.T) @ w2.T, y)
        gradients = torch.autograd.grad(error, (w1, w2), create_graph=True)
        return sum((g.square().sum() for g in gradients), torch.zeros((), dtype=x.dtype))


def _classes(x: Any, t: Any, w: Any, **o: Any) -> Any:
    return functional.cross_entropy(x, t.long(), w, **o)


def _scheduled(make: Callable[..., Any]) -> Program:
    """Return the program that steps one of torch's schedulers t times, for each rate."""

    def program(rate: Any, *, t: int, **o: Any) -> Any:
        groups = [{"params": [torch.nn.Parameter(torch.zeros(1))], "lr": r} for r in rate.tolist()]
        optimizer = torch.optim.SGD(groups, lr=0.0)
        scheduler = make(optimizer, **o)
        optimizer.step()
        for _ in range(t):
            scheduler.step()
        return torch.tensor([group["lr"] for group in optimizer.param_groups], dtype=torch.float64)

    return program


S = torch.optim.lr_scheduler
PROGRAMS: dict[str, Program] = {
    "conv1d": _convolution,
    "conv2d": _convolution,
    "max_pool1d": lambda x, **o: functional.max_pool1d(x, **o),
    "max_pool2d": lambda x, **o: functional.max_pool2d(x, **o),
    "avg_pool1d": lambda x, **o: functional.avg_pool1d(x, **o),
    "avg_pool2d": lambda x, **o: functional.avg_pool2d(x, **o),
    "dropout": lambda x, mask, p: x * mask / (1 - p) if p < 1 else 0 * x,
    "residual": lambda x, branch, scale: torch.add(x, branch, alpha=scale),
    "batch_norm": lambda x, w, b, eps, affine: functional.batch_norm(
        x, None, None, w if affine else None, b if affine else None, True, 0.0, eps
    ),
    "batch_norm_eval": lambda x, w, b, m, v, eps, affine: functional.batch_norm(
        x, m, v, w if affine else None, b if affine else None, False, 0.0, eps
    ),
    "batch_norm_running": _running,
    "layer_norm": lambda x, w, b, eps, axes: functional.layer_norm(x, _shape(x, axes), w, b, eps),
    "rms_norm": lambda x, w, eps, axes: functional.rms_norm(x, _shape(x, axes), w, eps),
    "group_norm": lambda x, w, b, groups, eps: functional.group_norm(x, groups, w, b, eps),
    "instance_norm": lambda x, w, b, eps: functional.instance_norm(x, weight=w, bias=b, eps=eps),
    "softmax": lambda x, axis: torch.softmax(x, axis),
    "log_softmax": lambda x, axis: torch.log_softmax(x, axis),
    "logsumexp": lambda x, axis: torch.logsumexp(x, axis),
    "mse_loss": lambda x, t, **o: functional.mse_loss(x, t, **o),
    "l1_loss": lambda x, t, **o: functional.l1_loss(x, t, **o),
    "huber_loss": lambda x, t, **o: functional.huber_loss(x, t, **o),
    "smooth_l1_loss": lambda x, t, **o: functional.smooth_l1_loss(x, t, **o),
    "cross_entropy": _classes,
    "cross_entropy_probabilities": lambda x, t, w, **o: functional.cross_entropy(x, t, w, **o),
    "nll_loss": lambda x, t, w, **o: functional.nll_loss(x, t.long(), w, **o),
    "binary_cross_entropy": lambda x, t, w, floor, reduction: functional.binary_cross_entropy(
        x, t, w, reduction=reduction
    ),
    "binary_cross_entropy_with_logits": lambda x, t, w, q, reduction: (
        functional.binary_cross_entropy_with_logits(x, t, w, reduction=reduction, pos_weight=q)
    ),
    "clip_by_norm": lambda g, max_norm, p, epsilon: _clipped((g,), max_norm, p, epsilon)[0][0],
    "clip_by_global_norm": _clipped_together,
    "adaptive_clip": _units,
    "l2_penalty": lambda w, decay: decay * functional.mse_loss(w, torch.zeros_like(w), reduction="sum") / 2,
    "l1_penalty": lambda w, decay: decay * w.norm(1),
    "decoupled_decay": lambda w, rate, decay: torch.lerp(w, torch.zeros_like(w), rate * decay),
    "gradient_norm_penalty": _penalty,
    "kronecker_penalty": lambda w, decay: torch.full((), decay * w.numel(), dtype=w.dtype),
    "step_lr": _scheduled(S.StepLR),
    "multi_step_lr": _scheduled(S.MultiStepLR),
    "exponential_lr": _scheduled(S.ExponentialLR),
    "cosine_annealing_lr": _scheduled(lambda opt, period, eta_min: S.CosineAnnealingLR(opt, period, eta_min)),
    "cosine_warm_restarts": _scheduled(
        lambda opt, period, factor, eta_min: S.CosineAnnealingWarmRestarts(opt, period, factor, eta_min)
    ),
    "linear_lr": _scheduled(lambda opt, start, end, length: S.LinearLR(opt, start, end, length)),
}
# Their gradients cannot be differentiated again, or torch takes other subgradients there.
ONCE = {"gradient_norm_penalty", "kronecker_penalty"}
# torch takes log σ(x) from x, 1 - tanh² from a tanh that rounds to 1, norms by plain
# squares, and a cosine from the one before.
NAIVE = {
    "binary_cross_entropy_with_logits",
    "gradient_norm_penalty",
    *("clip_by_norm", "clip_by_global_norm", "adaptive_clip"),
    "cosine_annealing_lr",
}
TORCH: tuple[Correct, ...] = tuple(
    by_torch(f, program, f not in ONCE, f in NAIVE) for f, program in PROGRAMS.items()
)
