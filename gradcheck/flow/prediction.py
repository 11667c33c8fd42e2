"""What theory says of a deep network before it is run: the factor by which gradients change per layer."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Prediction:
    """The law of ‖g‖² per layer, g the gradient with respect to the pre-activations, back through one layer.

    `factor` is E of the multiplier of ‖g‖², `log_mean` E of its logarithm (the typical layer), given that
    the gradient is not exactly zero, and `log_variance` the variance that the logarithm of ‖g‖² gains per layer
    of a deep network. `dead` is the probability per layer that the gradient becomes exactly zero. `exact` says
    that the factor holds at the given width, `log_exact` the same of the logarithm's law; otherwise they are
    limits of wide layers. `q` is the variance of the pre-activations that the layers settle at, `stability`
    the slope χ∥ of the variance map there. `error` bounds the numerical error of the factor, absolute,
    `log_error` that of `log_mean`. `depth_scale` is 1/|ln factor|, the layers to a change by e.
    """

    activation: str
    factor: float
    log_mean: float
    log_variance: float
    exact: bool
    log_exact: bool
    q: float
    stability: float
    error: float
    log_error: float
    dead: float
    depth_scale: float
    assumptions: tuple[str, ...]
    source: str
    width: int | None = None
    quantity: str = "pre-activation"


def predict() -> Prediction:
    """Return the law of one layer."""
    raise NotImplementedError
