"""What kind of module a module is, and what random weights like its own would do to a gradient."""

from __future__ import annotations

import math
from typing import Any

_ACTIVATIONS = "torch.nn.modules.activation"
# What an activation is called in the catalogue, where its options are the defaults.
NAMES = {
    "ReLU": "relu", "LeakyReLU": "leaky_relu", "ELU": "elu", "CELU": "celu", "SELU": "selu", "ReLU6": "relu6",
    "Sigmoid": "sigmoid", "Tanh": "tanh", "GELU": "gelu", "SiLU": "silu", "Mish": "mish",
    "Softplus": "softplus", "Softsign": "softsign", "Hardtanh": "hardtanh", "Hardsigmoid": "hardsigmoid",
    "Hardswish": "hardswish", "LogSigmoid": "log_sigmoid",
}  # fmt: skip
# Modules that change no slope but by dropping.
TRANSPARENT = ("Identity", "Flatten", "Dropout", "Dropout1d", "Dropout2d", "Dropout3d")


def own_parameters(part: Any) -> list[Any]:
    """Return a module's parameters without those of its children, parametrised ones by their originals."""
    own = [p for p in part._parameters.values() if p is not None]
    originals = part._modules.get("parametrizations")
    return own if originals is None else [*own, *originals.parameters()]


def inside_another(name: str) -> bool:
    """Whether a module only computes the weight of another one."""
    return "parametrizations" in name.split(".")


def is_activation(part: Any) -> bool:
    """Whether a module is one of PyTorch's activations, with parameters (PReLU) or without."""
    return type(part).__module__ == _ACTIVATIONS and type(part).__name__ != "MultiheadAttention"


def is_norm(part: Any) -> bool:
    """Whether a module normalises."""
    return "Norm" in type(part).__name__


def log_gain(part: Any, args: Any) -> float:
    """Return ln of the mean factor on ‖g‖² of random weights of this mean square, or of a normalisation."""
    kind, weight = type(part).__name__, getattr(part, "weight", None)
    if kind in ("Linear", "Conv1d", "Conv2d", "Conv3d") and weight is not None:
        fan_in = weight[0].numel()
        square = float(weight.detach().double().square().mean())
        return math.log(fan_in * square) if square > 0 else -math.inf
    if not is_norm(part) or not args:
        return math.nan
    x, eps = args[0].detach().double(), getattr(part, "eps", None) or 0.0
    if kind.startswith("BatchNorm"):
        kept = [a for a in range(x.ndim) if a != 1]
        variance = x.var(dim=kept, correction=0) if part.training else part.running_var.double()
    elif kind in ("LayerNorm", "RMSNorm"):
        last = list(range(x.ndim - len(part.normalized_shape), x.ndim))
        variance = x.square().mean(dim=last) if kind == "RMSNorm" else x.var(dim=last, correction=0)
    else:
        return math.nan
    square = 1.0 if weight is None else float(weight.detach().double().square().mean())
    return math.log(square * float((1 / (variance + eps)).mean())) if square > 0 else -math.inf


def activation_name(part: Any) -> str:
    """Return the name in the catalogue of an activation with its default options; "" for any other."""
    kind = type(part).__name__
    plain = {
        "LeakyReLU": ("negative_slope", 0.01), "ELU": ("alpha", 1.0), "CELU": ("alpha", 1.0),
        "GELU": ("approximate", "none"), "Softplus": ("beta", 1.0), "Hardtanh": ("max_val", 1.0),
    }  # fmt: skip
    if kind in plain and getattr(part, plain[kind][0], plain[kind][1]) != plain[kind][1]:
        return ""
    return NAMES.get(kind, "")
