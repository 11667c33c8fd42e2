"""The specification of a random network: what is drawn, layer by layer, and nothing about how it is measured.

A plain network maps x₀ (batch, width), of independent N(0, 1) entries, to f = y_L, with for l = 1 … L

    z_l = W_l x_{l-1} + b_l,   y_l = norm(z_l),   x_l = dropout(φ(y_l)).

The pre-activation of layer l is y_l, what its activation reads. A residual network has L blocks
h_l = h_{l-1} + s V_l dropout(φ(norm(W_l h_{l-1} + b_l))), with W_l and V_l drawn by one rule, and f = h_L.
`weight_variance` is σ_w² = fan_in · Var w, `bias_variance` is σ_b² = Var b.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from gradcheck.errors import UsageError, unknown_name
from gradcheck.flow.activations import activation_formulas
from gradcheck.formats import FORMATS

INITS = ("torch", "kaiming", "xavier", "lecun", "orthogonal")
DISTRIBUTIONS = ("gaussian", "uniform", "orthogonal")
NORMS = ("batch", "layer", "rms")
KINDS = ("dense", "conv")
PADDINGS = ("zeros", "circular")
RESIDUAL_SCALES: dict[str, Callable[[int], float]] = {
    "1": lambda depth: 1.0,
    "1/sqrt(L)": lambda depth: 1.0 / math.sqrt(depth),
    "1/L": lambda depth: 1.0 / depth,
}
# σ_w² of each rule for layers with as many outputs as inputs, and the distribution it draws from.
_RULES = {
    "torch": (1.0 / 3.0, "uniform"),
    "kaiming": (2.0, "gaussian"),
    "xavier": (1.0, "gaussian"),
    "lecun": (1.0, "gaussian"),
    "orthogonal": (1.0, "orthogonal"),
}


@dataclass(frozen=True)
class Network:
    """A random network of `depth` layers (or residual blocks) of `width` units (`kind` "conv": channels).

    `activation`: a name of the catalogue, "linear", or a callable that works on arrays.
    `init`: "torch" (the default of nn.Linear and nn.Conv2d), "kaiming" (σ_w² = 2), "xavier" and "lecun" (1),
    "orthogonal" (WᵀW = 1); `weight_variance` and `bias_variance` replace what it says, `gain` multiplies the
    weights' deviation. `distribution`: "gaussian", "uniform" or "orthogonal"; by default that of `init`.
    `bias`: whether there are biases; by default if their variance is not 0.
    `norm`: None, "batch" (over the batch, training mode), "layer" or "rms", between z and the activation.
    `batch`: how many inputs one network sees; 32 with batch norm, else 1. `keep`: 1 - the dropout rate.
    `residual`: None, the scale s of a branch, or "1", "1/sqrt(L)", "1/L".
    `kernel`, `size`, `padding`: of a convolution: kernel × kernel over maps of size × size, "zeros" or
    "circular". `format`: the arithmetic that the network runs in.

    Raises `UsageError` for what is no network, with what to change.
    """

    activation: str | Callable[..., Any] = "relu"
    depth: int = 20
    width: int = 128
    init: str = "kaiming"
    weight_variance: float | None = None
    bias_variance: float | None = None
    gain: float = 1.0
    distribution: str | None = None
    bias: bool | None = None
    norm: str | None = None
    batch: int | None = None
    keep: float = 1.0
    residual: float | str | None = None
    kind: str = "dense"
    kernel: int = 3
    size: int = 8
    padding: str = "circular"
    format: str = "float64"

    def __post_init__(self) -> None:
        _check_names(self)
        _check_sizes(self)
        _check_numbers(self)

    @property
    def fan_in(self) -> int:
        """How many terms one pre-activation sums."""
        return self.width * (self.kernel**2 if self.kind == "conv" else 1)

    @property
    def sigma_w2(self) -> float:
        """σ_w² = fan_in · Var w, the gain included."""
        given = _RULES[self.init][0] if self.weight_variance is None else self.weight_variance
        return given * self.gain**2

    @property
    def sigma_b2(self) -> float:
        """σ_b² = Var b; 0 without biases."""
        if self.bias is False:
            return 0.0
        if self.bias_variance is not None:
            return self.bias_variance
        return 1.0 / (3.0 * self.fan_in) if self.init == "torch" and self.weight_variance is None else 0.0

    @property
    def law(self) -> str:
        """The distribution of the weights."""
        if self.distribution is not None:
            return self.distribution
        return "gaussian" if self.weight_variance is not None else _RULES[self.init][1]

    @property
    def examples(self) -> int:
        """How many inputs one network sees."""
        if self.batch is not None:
            return self.batch
        return 32 if self.norm == "batch" else 1

    @property
    def branch_scale(self) -> float | None:
        """The scale s of a residual branch; None for a plain network."""
        if isinstance(self.residual, str):
            return RESIDUAL_SCALES[self.residual](self.depth)
        return self.residual

    @property
    def units(self) -> int:
        """How many pre-activations a layer has for one input."""
        return self.width * (self.size**2 if self.kind == "conv" else 1)

    @property
    def activation_name(self) -> str:
        """The name of the activation."""
        if isinstance(self.activation, str):
            return self.activation
        return str(getattr(self.activation, "__name__", type(self.activation).__name__))


def activation_names() -> tuple[str, ...]:
    """Return the names that a network's activation can have."""
    return ("linear", "identity", *activation_formulas())


def _check_names(network: Network) -> None:
    activation = network.activation
    if isinstance(activation, str):
        if activation not in activation_names():
            raise unknown_name("activation", activation, activation_names())
    elif not callable(activation):
        raise UsageError(f"activation: expected a name or a callable, got {type(activation).__name__}")
    for kind, name, known in (
        ("init", network.init, INITS),
        ("distribution", network.distribution, DISTRIBUTIONS),
        ("norm", network.norm, NORMS),
        ("kind", network.kind, KINDS),
        ("padding", network.padding, PADDINGS),
        ("format", network.format, tuple(f.name for f in FORMATS)),
    ):
        if name is not None and name not in known:
            raise unknown_name(kind, str(name), known)
    if isinstance(network.residual, str) and network.residual not in RESIDUAL_SCALES:
        raise unknown_name("residual scale", network.residual, RESIDUAL_SCALES)


def _check_sizes(network: Network) -> None:
    for name, least, why in (
        ("depth", 2, "a gradient that passes no layer has no rate"),
        ("width", 2, "a single unit is dead or alive, and its layer has no rate"),
        ("kernel", 1, "a kernel has at least one element"),
        ("size", 1, "a map has at least one element"),
    ):
        value = getattr(network, name)
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise UsageError(f"{name}: expected a whole number of at least {least}, got {value!r}; {why}")
    if network.batch is not None and (not isinstance(network.batch, int) or network.batch < 1):
        raise UsageError(f"batch: expected a whole number of at least 1, got {network.batch!r}")
    if network.norm == "batch" and network.examples * (network.units // network.width) < 3:
        raise UsageError(
            f"batch: expected at least 3 inputs with batch normalisation, got {network.examples}; one value "
            "per unit is normalised to 0 and two to ±1, so no gradient passes: take a larger batch"
        )
    if network.kind == "conv" and network.kernel > network.size:
        raise UsageError(
            f"kernel: expected at most the size of the maps, {network.size}, got {network.kernel}; "
            "take larger maps or a smaller kernel"
        )
    if network.kind == "conv" and network.kernel % 2 == 0:
        raise UsageError(f"kernel: expected an odd number, got {network.kernel}; maps keep their size")


def _check_numbers(network: Network) -> None:
    for name in ("weight_variance", "gain"):
        value = getattr(network, name)
        if value is not None and not (_is_number(value) and 0 < value < math.inf):
            raise UsageError(f"{name}: expected a positive number, got {value!r}; 0 passes no gradient")
    variance = network.bias_variance
    if variance is not None and not (_is_number(variance) and 0 <= variance < math.inf):
        raise UsageError(f"bias_variance: expected a number of at least 0, got {variance!r}")
    if network.bias is False and variance:
        raise UsageError(f"bias=False with bias_variance={variance!r}: leave one of them out")
    if not (_is_number(network.keep) and 0 < network.keep <= 1):
        raise UsageError(f"keep: expected a number above 0 and at most 1, got {network.keep!r}")
    scale = network.residual
    if scale is not None and not isinstance(scale, str) and not (_is_number(scale) and math.isfinite(scale)):
        raise UsageError(f"residual: expected None, a finite number or a text, got {scale!r}")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
