"""What theory says of a deep network before it is run: the factor by which gradients change per layer.

g_l = ∂⟨u, f⟩/∂z_l = φ'(z_l) ⊙ W_{l+1}ᵀ g_{l+1},   E‖g_l‖² = χ E‖g_{l+1}‖²,   χ = σ_w² E φ'(z)², z ~
N(0, q).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from gradcheck.errors import UsageError

if TYPE_CHECKING:
    from gradcheck.flow.activations import Activation
    from gradcheck.flow.network import Network


@dataclass(frozen=True)
class Prediction:
    """The law of ‖g‖² per layer, g the gradient with respect to the pre-activations, back through one layer.

    `factor` is E of the multiplier of ‖g‖², zeros included; `log_mean` is E of its logarithm (the typical
    layer), given that the gradient is not exactly zero, and `log_variance` the variance that the
    logarithm of ‖g‖² gains per layer of a deep network (NaN: not known, 0: infinitely wide). `dead` is
    the probability per layer that the gradient becomes exactly zero. `exact` says that the factor holds
    at the given width, `log_exact` the same of the logarithm's law; otherwise they are limits of wide
    layers. `error` bounds the numerical error of the factor, absolute, `log_error` that of `log_mean`.

    `q` is the variance of the pre-activations that the layers settle at, 0 or inf where they vanish or
    grow without end, `outcome` says which; `stability` is the slope χ∥ of the variance map there.
    `depth_scale` is 1/|ln factor|, the layers to a change by e. `path` holds the factors of layers 1 …
    depth, if a depth was given. `quantity` says what the gradient is taken along: the pre-activation, or
    the stream of residual blocks.
    """

    activation: str
    factor: float
    log_mean: float
    log_variance: float
    exact: bool
    log_exact: bool
    q: float
    outcome: str
    stability: float
    error: float
    log_error: float
    dead: float
    assumptions: tuple[str, ...]
    source: str
    width: int | None = None
    quantity: str = "pre-activation"
    path: tuple[float, ...] = ()

    @property
    def depth_scale(self) -> float:
        """1/|ln factor|: inf for a factor of 1."""
        if self.factor in (0.0, math.inf):
            return 0.0
        distance = abs(math.log(self.factor))
        return 1 / distance if distance > self.error / self.factor else math.inf

    @property
    def critical(self) -> bool:
        """Whether the factor is 1 as far as its own error can tell."""
        return math.isfinite(self.factor) and abs(self.factor - 1) <= self.error


def predict(
    activation: str | Callable[..., Any] | Activation = "relu",
    weight_variance: float | None = None,
    bias_variance: float | None = None,
    width: int | None = None,
    norm: str | None = None,
    batch: int | None = None,
    keep: float = 1.0,
    residual: float | str | None = None,
    *,
    init: str | None = None,
    gain: float = 1.0,
    weights: str | None = None,
    depth: int | None = None,
    input_variance: float = 1.0,
    options: Mapping[str, Any] | None = None,
) -> Prediction:
    """Return what theory says of the gradients of a network of equal layers.

    `activation` is a name of the catalogue, "linear", or a callable over float64 arrays; `options` are
    passed to it. `weight_variance` is σ_w² = fan_in · Var w (2 by default), `bias_variance` σ_b² = Var b,
    of biases that are taken as Gaussian; `init` is the name of a rule that says both ("torch", "kaiming",
    "xavier", "lecun", "orthogonal", or of the catalogue's initializers), and `gain` multiplies the weights.
    `weights`: "gaussian", "uniform" or "orthogonal". `width` is the number of units; without it the limit
    of wide layers is meant. `norm`: None, "batch" (over `batch` inputs; without it, over many), "layer" or
    "rms", before the activation. `keep` is 1 - the dropout rate. `residual` is the scale s of
    h + s V φ(norm(W h + b)), as a number or "1", "1/sqrt(L)", "1/L". `depth` is needed where factors differ
    between blocks, and adds the factor of every layer. `input_variance` is the mean square of the input's
    entries.

    Raises `UsageError` for what cannot be predicted, with what to change.
    """
    from gradcheck.flow.normalised import normalised
    from gradcheck.flow.plain import plain
    from gradcheck.flow.setting import make_setting
    from gradcheck.flow.streams import stream

    setting = make_setting(
        activation, weight_variance, bias_variance, width, norm, batch, keep, residual, init=init, gain=gain,
        weights=weights, depth=depth, input_variance=input_variance, options=options,
    )  # fmt: skip
    if setting.residual is not None:
        return stream(setting)
    return plain(setting) if setting.norm is None else normalised(setting)


def predict_network(network: Network) -> Prediction:
    """Return what theory says of a `Network`, convolutions included."""
    from gradcheck.flow.padding import padded

    dense = network.kind == "dense"
    if not dense and network.norm == "batch":
        raise UsageError(
            "norm: batch normalisation of maps has no known law: their places are not independent"
        )
    found = predict(
        network.activation,
        network.sigma_w2,
        network.sigma_b2,
        network.width if dense else None,
        network.norm,
        network.examples if network.norm == "batch" else None,
        network.keep,
        network.branch_scale,
        weights=network.law,
        depth=network.depth,
    )
    if not dense:
        return padded(found, network)
    if network.examples == 1 or network.norm == "batch":
        return found
    said = "several inputs share the weights: of the sum over them only the mean is known"
    return replace(
        found, log_exact=False, log_variance=math.nan, dead=math.nan, assumptions=(*found.assumptions, said)
    )
