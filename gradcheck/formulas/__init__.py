"""The catalogue of formulas: each written once, as straight-line NumPy, with everything known about it.

Every formula is an attribute of this module under its own name: `formulas.gelu(x)`.
"""

from __future__ import annotations

from gradcheck.errors import unknown_name
from gradcheck.formulas import (
    adam_family,
    binary_losses,
    clipping,
    convolution,
    gates,
    layers,
    losses,
    neurons,
    normalization,
    optimizers,
    penalties,
    piecewise,
    pooling,
    rectifiers,
    regression_losses,
    schedules,
    sigmoids,
    soft_losses,
    statistics,
)
from gradcheck.formulas import dropout as dropouts
from gradcheck.formulas import softmax as softmaxes
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
softmax = softmaxes.SOFTMAX
log_softmax = softmaxes.LOG_SOFTMAX
logsumexp = softmaxes.LOGSUMEXP
cross_entropy = losses.CROSS_ENTROPY
cross_entropy_probabilities = soft_losses.CROSS_ENTROPY_PROBABILITIES
nll_loss = losses.NLL_LOSS
binary_cross_entropy = binary_losses.BINARY_CROSS_ENTROPY
binary_cross_entropy_with_logits = binary_losses.BINARY_CROSS_ENTROPY_WITH_LOGITS
mse_loss = regression_losses.MSE_LOSS
l1_loss = regression_losses.L1_LOSS
huber_loss = regression_losses.HUBER_LOSS
smooth_l1_loss = regression_losses.SMOOTH_L1_LOSS
sgd = optimizers.SGD
adagrad = optimizers.ADAGRAD
rmsprop = optimizers.RMSPROP
adadelta = optimizers.ADADELTA
adam = adam_family.ADAM
adamw = adam_family.ADAMW
nadam = adam_family.NADAM
radam = adam_family.RADAM
adamax = adam_family.ADAMAX
printed_adam = adam_family.PRINTED_ADAM
step_lr = schedules.STEP_LR
multi_step_lr = schedules.MULTI_STEP_LR
exponential_lr = schedules.EXPONENTIAL_LR
cosine_annealing_lr = schedules.COSINE_ANNEALING_LR
cosine_warm_restarts = schedules.COSINE_WARM_RESTARTS
linear_lr = schedules.LINEAR_LR
one_cycle_lr = schedules.ONE_CYCLE_LR
warm_up_chain = schedules.WARM_UP_CHAIN

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
    "softmax": softmaxes.FORMULAS,
    "losses": (*losses.FORMULAS, *soft_losses.FORMULAS, *binary_losses.FORMULAS, *regression_losses.FORMULAS),
    "optimizers": optimizers.FORMULAS,
    "schedules": schedules.FORMULAS,
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
    "adadelta",
    "adagrad",
    "adam",
    "adamax",
    "adamw",
    "adaptive_clip",
    "avg_pool1d",
    "avg_pool2d",
    "batch_norm",
    "batch_norm_eval",
    "batch_norm_running",
    "binary_cross_entropy",
    "binary_cross_entropy_with_logits",
    "celu",
    "clip_by_global_norm",
    "clip_by_norm",
    "clip_by_value",
    "conv1d",
    "conv2d",
    "cosine_annealing_lr",
    "cosine_warm_restarts",
    "cross_entropy",
    "cross_entropy_probabilities",
    "decoupled_decay",
    "dense",
    "dropout",
    "elu",
    "exponential_lr",
    "gelu",
    "gelu_tanh",
    "get_formula",
    "gradient_norm_penalty",
    "group_norm",
    "hardsigmoid",
    "hardswish",
    "hardtanh",
    "huber_loss",
    "instance_norm",
    "kronecker_penalty",
    "l1_loss",
    "l1_penalty",
    "l2_penalty",
    "layer_norm",
    "leaky_relu",
    "linear_lr",
    "log_sigmoid",
    "log_softmax",
    "logsumexp",
    "max_pool1d",
    "max_pool2d",
    "mish",
    "mse_loss",
    "multi_step_lr",
    "nadam",
    "neuron",
    "nll_loss",
    "one_cycle_lr",
    "preactivation",
    "prelu",
    "printed_adam",
    "radam",
    "relu",
    "relu6",
    "residual",
    "rms_norm",
    "rmsprop",
    "selu",
    "sgd",
    "sigmoid",
    "silu",
    "smooth_l1_loss",
    "softmax",
    "softplus",
    "softsign",
    "step_lr",
    "tanh",
    "warm_up_chain",
]
