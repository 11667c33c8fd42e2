"""Functions as a user of the benchmark would bring them."""

from __future__ import annotations

import math

import numpy as np
import torch


def gelu(x: torch.Tensor) -> torch.Tensor:
    return 0.5 * x * (1 + torch.erf(x / math.sqrt(2)))


def relu_for_gelu(x: torch.Tensor) -> torch.Tensor:
    return torch.relu(x)


def half(x: torch.Tensor) -> torch.Tensor:
    return x[: len(x) // 2]


def numpy_relu(x: np.ndarray) -> np.ndarray:
    return np.maximum(x, 0)


def broken(x: torch.Tensor) -> torch.Tensor:
    raise RuntimeError("no kernel for this\nand more")
