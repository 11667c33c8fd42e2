"""What a prediction is about, checked at the door: an activation, variances, a width, what stands between."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from gradcheck.errors import UsageError, unknown_name
from gradcheck.flow.activations import Activation, get_activation
from gradcheck.flow.network import DISTRIBUTIONS, NORMS, RESIDUAL_SCALES
from gradcheck.formulas.initialization import INITIALIZERS, fans, get_initializer

# Names that people use, beside those of the catalogue of initializers: (rule, its options, has a bias).
_SHORT: dict[str, tuple[str, dict[str, Any], bool]] = {
    "torch": ("linear_weight", {}, True),
    "kaiming": ("he_normal", {}, False),
    "kaiming_uniform": ("he_uniform", {}, False),
    "xavier": ("glorot_normal", {}, False),
    "xavier_uniform": ("glorot_uniform", {}, False),
    "lecun": ("lecun_normal", {}, False),
    "orthogonal": ("orthogonal", {}, False),
}
# How far off is asked of the default of nn.Linear at 128 inputs, by `gradcheck.flow.study.frameworks`.
GAUSSIAN_BIASES = (
    "biases are taken as Gaussian of their variance; uniform ones, as nn.Linear draws them, move the factor: "
    "by 0.9 % for softsign with 128 inputs, by 0.2 % at most for the other activations of the catalogue"
)
_NONE_ALIVE = "a single unit is dead or alive, and its layer has no rate"


@dataclass(frozen=True)
class Initial:
    """What a rule for initial weights amounts to: fan_in · Var w, Var b, and the law of the weights.

    `weights` is "gaussian", "orthogonal", or "uniform" for any other law.
    """

    weight_variance: float
    bias_variance: float
    weights: str


@dataclass(frozen=True)
class Setting:
    """A network of equal layers (or residual blocks) whose gradient is to be predicted; see `predict`."""

    activation: Activation
    weight_variance: float
    bias_variance: float
    width: int | None
    norm: str | None
    batch: int | None
    keep: float
    residual: float | None
    weights: str
    depth: int | None
    input_variance: float

    @property
    def start(self) -> float:
        """The variance of the first pre-activations."""
        return self.weight_variance * self.input_variance + self.bias_variance


def initial(
    name: str, fan_in: int, fan_out: int | None = None, *, gain: float = 1.0, kernel: int = 1
) -> Initial:
    """Return the variances of a rule by its name, for a layer of these fans (units or channels).

    `kernel` is the number of elements of a kernel; both fans are multiplied by it. "torch" is what
    nn.Linear and nn.Conv2d do by default, with their bias; other names are those of frameworks or of the
    catalogue.
    """
    for word, value in (
        ("fan_in", fan_in),
        ("fan_out", fan_out if fan_out is not None else 1),
        ("kernel", kernel),
    ):
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise UsageError(f"{word}: expected a whole number of at least 1, got {value!r}")
    known = (*_SHORT, *(i.name for i in INITIALIZERS if i.target == "weight" and i.kind != "dirac"))
    if name not in known:
        raise unknown_name("init", str(name), known)
    rule_name, options, has_bias = _SHORT.get(name, (name, {}, False))
    rule = get_initializer(rule_name)
    shape = (fan_out if fan_out is not None else fan_in, fan_in, kernel)
    if rule.kind == "orthogonal":
        # QᵀQ = 1 if there are no more columns than rows, otherwise QQᵀ = 1: E Q² is 1 over the longer side.
        longer = max(shape[0], fan_in * kernel)
        return Initial(gain**2 * fan_in * kernel / longer, 0.0, "orthogonal")
    assert rule.law is not None
    law = rule.law(shape, **rule.complete(options))
    wide = law.restricted(20.0) if law.std is not None else law
    if abs(wide.centre) > 1e-12:
        raise UsageError(f"init: {name} has weights of mean {wide.centre:.3g}; the theory needs a mean of 0")
    variance = wide.moment(2)
    bias = get_initializer("linear_bias").law(shape).moment(2) if has_bias else 0.0  # type: ignore[misc]
    weights = "gaussian" if law.std is not None and math.isinf(law.high) else "uniform"
    return Initial(gain**2 * variance * fans(shape)[0], bias, weights)


def make_setting(
    activation: str | Callable[..., Any] | Activation,
    weight_variance: float | None,
    bias_variance: float | None,
    width: int | None,
    norm: str | None,
    batch: int | None,
    keep: float,
    residual: float | str | None,
    *,
    init: str | None,
    gain: float,
    weights: str | None,
    depth: int | None,
    input_variance: float,
    options: Mapping[str, Any] | None,
) -> Setting:
    """Return the arguments of `predict`, checked and completed; raises `UsageError`."""
    known = get_activation(activation, **dict(options or {}))
    _check_sizes(width, norm, batch, depth)
    for word, value in (("gain", gain), ("input_variance", input_variance)):
        _positive(word, value)
    law = weights
    if init is not None:
        if weight_variance is not None:
            raise UsageError(f"init={init!r} says the variance of the weights: leave weight_variance out")
        rule = initial(init, width or 1 << 20, gain=gain)
        weight_variance = rule.weight_variance
        # Without a width the bias of 1/(3n) is that of infinitely wide layers.
        bias_variance = (rule.bias_variance if width else 0.0) if bias_variance is None else bias_variance
        law = law or rule.weights
    else:
        weight_variance = 2.0 if weight_variance is None else weight_variance
        _positive("weight_variance", weight_variance)
        weight_variance *= gain**2
    law = law or "gaussian"
    if law not in DISTRIBUTIONS:
        raise unknown_name("law of weights", str(law), DISTRIBUTIONS)
    if norm is not None and norm not in NORMS:
        raise unknown_name("norm", str(norm), NORMS)
    bias_variance = 0.0 if bias_variance is None else bias_variance
    if not (_is_number(bias_variance) and 0 <= bias_variance < math.inf):
        raise UsageError(f"bias_variance: expected a finite number of at least 0, got {bias_variance!r}")
    if not (_is_number(keep) and 0 < keep <= 1):
        raise UsageError(f"keep: expected a number above 0 and at most 1, got {keep!r}")
    scale = _branch_scale(residual, depth)
    return Setting(
        known, float(weight_variance), float(bias_variance), width, norm, batch, float(keep), scale, law,
        depth, float(input_variance),
    )  # fmt: skip


def _check_sizes(width: int | None, norm: str | None, batch: int | None, depth: int | None) -> None:
    for word, value, least, why in (
        ("width", width, 2, _NONE_ALIVE),
        ("batch", batch, 1, "a batch has at least one input"),
        ("depth", depth, 1, "a network has at least one layer"),
    ):
        if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < least):
            raise UsageError(f"{word}: expected a whole number of at least {least}, got {value!r}; {why}")
    if norm == "batch" and batch is not None and batch < 4:
        reason = {
            1: "one value per unit is normalised to 0, so no gradient passes",
            2: "two values per unit are normalised to ±1, so no gradient passes",
            3: "E 1/χ²₂ is infinite, and with it the mean of ‖g‖²",
        }[batch]
        raise UsageError(f"batch: expected at least 4 with batch normalisation, got {batch}; {reason}")
    if norm in ("layer", "rms") and width is not None and width < (4 if norm == "layer" else 3):
        least = 4 if norm == "layer" else 3
        raise UsageError(
            f"width: expected at least {least} with {norm} normalisation, got {width}; "
            "the mean of ‖g‖² is infinite"
        )


def _branch_scale(residual: float | str | None, depth: int | None) -> float | None:
    if residual is None:
        return None
    if isinstance(residual, str):
        if residual not in RESIDUAL_SCALES:
            raise unknown_name("residual scale", residual, RESIDUAL_SCALES)
        if depth is None:
            raise UsageError(f"residual={residual!r} depends on the depth: give depth=")
        return RESIDUAL_SCALES[residual](depth)
    if not (_is_number(residual) and math.isfinite(residual)):
        raise UsageError(f"residual: expected None, a finite number or a text, got {residual!r}")
    return float(residual)


def _positive(word: str, value: Any) -> None:
    if not (_is_number(value) and 0 < value < math.inf):
        raise UsageError(f"{word}: expected a finite number above 0, got {value!r}; 0 passes no gradient")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
