"""What an optimizer or clipping makes of a gradient that vanishes or explodes."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from gradcheck.errors import UsageError

Float64Array = NDArray[np.float64]

KINGMA_BA = "Kingma & Ba, arXiv:1412.6980, 2015, section 2.1; the bound by Cauchy and Schwarz"


def adam_largest_step(beta1: float = 0.9, beta2: float = 0.999, step: int = 1) -> float:
    """Return the largest |m̂|/√v̂ that step t of Adam can take, in learning rates, over all gradients.

    (1-β₁)/(1-β₁^t) √((1-β₂^t)/(1-β₂)) √Σ_{j<t} (β₁²/β₂)^j, for ε = 0; attained by `adam_worst_gradients`.
    """
    _check(beta1, beta2, step)
    ratio = beta1**2 / beta2
    total = float(step) if ratio == 1 else math.expm1(step * math.log(ratio)) / (ratio - 1) if ratio else 1.0
    first = (1 - beta1) / -math.expm1(step * math.log(beta1)) if beta1 else 1.0
    second = -math.expm1(step * math.log(beta2)) / (1 - beta2)
    return first * math.sqrt(second * total)


def adam_worst_gradients(beta1: float = 0.9, beta2: float = 0.999, step: int = 1) -> Float64Array:
    """Return gradients of steps 1 … t for which step t is the largest: each β₂/β₁ times the one before."""
    _check(beta1, beta2, step)
    return np.asarray((beta1 / beta2) ** np.arange(step - 1, -1, -1, dtype=np.float64))


def adam_stated_bound(beta1: float = 0.9, beta2: float = 0.999) -> float:
    """Return the bound that the paper states, (1-β₁)/√(1-β₂) or 1, whichever is larger; it is exceeded."""
    _check(beta1, beta2, 1)
    return max(1.0, (1 - beta1) / math.sqrt(1 - beta2))


def clipped_span(first: float, last: float, largest: float, total: float) -> tuple[float, float]:
    """Return two layers' norms after clipping the global norm `total`: both times min(1, largest/total).

    Their ratio, and so the span, is what it was. Source: Pascanu, Mikolov & Bengio, arXiv:1211.5063, 2013.
    """
    scale = min(1.0, largest / total) if total else 1.0
    return first * scale, last * scale


def _check(beta1: float, beta2: float, step: int) -> None:
    if not 0 <= beta1 < 1:
        raise UsageError(f"beta1: expected a number of [0, 1), got {beta1!r}")
    if not 0 < beta2 < 1:
        raise UsageError(f"beta2: expected a number of (0, 1), got {beta2!r}")
    if isinstance(step, bool) or not isinstance(step, int) or step < 1:
        raise UsageError(f"step: expected a whole number of at least 1, got {step!r}")
