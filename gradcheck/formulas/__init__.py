"""The catalogue of formulas: each written once, as straight-line NumPy, with everything known about it.

Every formula is an attribute of this module under its own name: `formulas.gelu(x)`.
"""

from __future__ import annotations

from gradcheck.errors import unknown_name
from gradcheck.formulas import (
    clipping,
    convolution,
    gates,
    layers,
    neurons,
    normalization,
    penalties,
    piecewise,
    pooling,
    rectifiers,
    sigmoids,
    statistics,
)
from gradcheck.formulas import dropout as dropouts
from gradcheck.formulas.quantities import Quantity, of_catalogue
from gradcheck.records import Formula

relu = rectifiers.RELU
leaky_relu = rectifiers.LEAKY_RELU
prelu = rectifiers.PRELU
relu6 = piecewise.RELU6
elu = rectifiers.ELU
celu = rectifiers.CELU
selu = rectifiers.SELU
sigmoid = sigmoids.SIGMOID
tanh = sigmoids.TANH
hardtanh = piecewise.HARDTANH
hardsigmoid = piecewise.HARDSIGMOID
softsign = piecewise.SOFTSIGN
softplus = sigmoids.SOFTPLUS
log_sigmoid = sigmoids.LOG_SIGMOID
gelu = gates.GELU
gelu_tanh = gates.GELU_TANH
silu = gates.SILU
mish = gates.MISH
hardswish = piecewise.HARDSWISH
preactivation = neurons.PREACTIVATION
neuron = neurons.NEURON
dense = layers.DENSE
residual = layers.RESIDUAL
conv1d = convolution.CONV1D
conv2d = convolution.CONV2D
max_pool1d = pooling.MAX_POOL1D
max_pool2d = pooling.MAX_POOL2D
avg_pool1d = pooling.AVG_POOL1D
avg_pool2d = pooling.AVG_POOL2D
dropout = dropouts.DROPOUT
batch_norm = normalization.BATCH_NORM
batch_norm_eval = statistics.BATCH_NORM_EVAL
batch_norm_running = statistics.BATCH_NORM_RUNNING
layer_norm = normalization.LAYER_NORM
rms_norm = statistics.RMS_NORM
group_norm = normalization.GROUP_NORM
instance_norm = normalization.INSTANCE_NORM
clip_by_value = clipping.CLIP_BY_VALUE
clip_by_norm = clipping.CLIP_BY_NORM
clip_by_global_norm = clipping.CLIP_BY_GLOBAL_NORM
adaptive_clip = clipping.ADAPTIVE_CLIP
l2_penalty = penalties.L2_PENALTY
l1_penalty = penalties.L1_PENALTY
decoupled_decay = penalties.DECOUPLED_DECAY
gradient_norm_penalty = penalties.GRADIENT_NORM_PENALTY
kronecker_penalty = penalties.KRONECKER_PENALTY

# A family is added here, and with it to the catalogue.
FAMILIES: dict[str, tuple[Formula, ...]] = {
    "rectifiers": rectifiers.FORMULAS,
    "sigmoids": sigmoids.FORMULAS,
    "piecewise linear": piecewise.FORMULAS,
    "gates": gates.FORMULAS,
    "neurons": neurons.FORMULAS,
    "layers": layers.FORMULAS,
    "convolution": convolution.FORMULAS,
    "pooling": pooling.FORMULAS,
    "dropout": dropouts.FORMULAS,
    "normalisation": (*normalization.FORMULAS, *statistics.FORMULAS),
    "clipping": clipping.FORMULAS,
    "penalties": penalties.FORMULAS,
}

CATALOGUE: tuple[Formula, ...] = tuple(formula for members in FAMILIES.values() for formula in members)


def get_formula(name: str) -> Formula:
    """Return the formula called `name`; an unknown name is a `UsageError` that offers the closest ones."""
    for formula in CATALOGUE:
        if formula.name == name:
            return formula
    raise unknown_name("formula", name, (formula.name for formula in CATALOGUE))


QUANTITIES: tuple[Quantity, ...] = of_catalogue(CATALOGUE)

__all__ = [
    "CATALOGUE",
    "FAMILIES",
    "QUANTITIES",
    "Quantity",
    "adaptive_clip",
    "avg_pool1d",
    "avg_pool2d",
    "batch_norm",
    "batch_norm_eval",
    "batch_norm_running",
    "celu",
    "clip_by_global_norm",
    "clip_by_norm",
    "clip_by_value",
    "conv1d",
    "conv2d",
    "decoupled_decay",
    "dense",
    "dropout",
    "elu",
    "gelu",
    "gelu_tanh",
    "get_formula",
    "gradient_norm_penalty",
    "group_norm",
    "hardsigmoid",
    "hardswish",
    "hardtanh",
    "instance_norm",
    "kronecker_penalty",
    "l1_penalty",
    "l2_penalty",
    "layer_norm",
    "leaky_relu",
    "log_sigmoid",
    "max_pool1d",
    "max_pool2d",
    "mish",
    "neuron",
    "preactivation",
    "prelu",
    "relu",
    "relu6",
    "residual",
    "rms_norm",
    "selu",
    "sigmoid",
    "silu",
    "softplus",
    "softsign",
    "tanh",
]
