"""The article row by row, in its own order: which formulas of the catalogue, which claims, which picture.

What was measured joins by name: a claim belongs to the row whose id it has or begins with ("F08.limits" to
F08), a formula by its name in the catalogue.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Row:
    """One formula or claim of the article; `formulas` are the catalogue's for it, the closest one first."""

    id: str
    section: str
    title: str
    formulas: tuple[str, ...] = ()


ROWS: tuple[Row, ...] = (
    Row("F17", "1", "Dropout", ("dropout",)),
    Row(
        "F18",
        "1",
        "Initialisation",
        (
            "he_uniform",
            "he_normal",
            "glorot_uniform",
            "glorot_normal",
            "lecun_uniform",
            "lecun_normal",
            "uniform",
            "normal",
            "trunc_normal",
            "orthogonal",
            "dirac",
            "linear_weight",
            "linear_bias",
            "conv2d_weight",
            "conv2d_bias",
        ),
    ),
    Row(
        "F19",
        "1",
        "Learning-rate schedules",
        (
            "step_lr",
            "multi_step_lr",
            "exponential_lr",
            "cosine_annealing_lr",
            "cosine_warm_restarts",
            "linear_lr",
            "one_cycle_lr",
            "warm_up_chain",
        ),
    ),
    Row("C04", "1", "Clipping bounds a gradient and revives none", ("clip_by_norm", "relu")),
    Row("C06", "1", "Who proposed gradient clipping"),
    Row("F01", "2", "Pre-activation of a neuron", ("preactivation",)),
    Row("F02", "2", "Derivative of a neuron", ("neuron",)),
    Row("F03", "2", "Fully connected layer", ("dense",)),
    Row("F04", "2", "Convolutional layer", ("conv2d", "conv1d")),
    Row("F05", "2", "Pooling layer", ("max_pool2d", "max_pool1d", "avg_pool2d", "avg_pool1d")),
    Row("F06", "2", "Stochastic gradient descent on mini-batches", ("sgd",)),
    Row("F07", "3.1.1", "ReLU and its derivative", ("relu",)),
    Row("F08", "3.1.1", "Sigmoid and its derivative", ("sigmoid",)),
    Row("F09", "3.1.1", "Leaky ReLU", ("leaky_relu",)),
    Row("F10", "3.1.2", "Weight decay, as a norm of gradients", ("gradient_norm_penalty", "l2_penalty")),
    Row(
        "F11",
        "3.1.2",
        "The regularisation term",
        ("kronecker_penalty", "l2_penalty", "l1_penalty", "decoupled_decay"),
    ),
    Row("C10", "3.1.2", "Weight decay and the norm of the gradient", ("l2_penalty",)),
    Row("F12", "3.1.3", "Batch normalisation", ("batch_norm", "batch_norm_eval", "batch_norm_running")),
    Row("C11", "3.1.3", "Batch normalisation and the distribution of features", ("batch_norm",)),
    Row(
        "F13",
        "3.2.1",
        "Gradient clipping",
        ("clip_by_value", "clip_by_norm", "clip_by_global_norm", "adaptive_clip"),
    ),
    Row("F14", "3.2.2", "Adam's moments", ("adam",)),
    Row("F15", "3.2.2", "Adam's step", ("adam", "printed_adam", "adamw")),
    Row("F16", "3.2.2", "Adam, AdaGrad and RMSProp", ("adam", "adagrad", "rmsprop")),
    Row("C13", "3.2.2", "Momentum and oscillation", ("adam",)),
    Row("C14", "3.2.2", "Adam and vanishing gradients", ("adam",)),
    Row("C15", "3.2.2", "Adam adapts the learning rate", ("adam",)),
)
