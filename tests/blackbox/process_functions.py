"""Functions whose answers depend on the process that they run in, and some whose do not."""

from __future__ import annotations

import itertools
import os

import numpy as np
import torch

COUNTER = itertools.count()
FIRST = next(COUNTER)
BORN = os.getpid()


def by_the_hash(text):
    """Return a factor near one; two processes share it once in sixteen million times."""
    return 1 + (hash(text) % 2**24) * 2.0**-52


def by_hash(x):
    return x * by_the_hash("gradient")


def by_order_of_a_set(x):
    return x * (1.0 if next(iter({"a", "b", "c", "d", "e", "f", "g"})) in "abcd" else 1.5)


def by_process(x):
    return x * (1 + os.getpid() % 1009)


def by_address(x):
    return x * (1 + id(COUNTER) % 100_003)


def by_environment(x):
    return x * (2.0 if os.environ.get("PYTHONHASHSEED") in (None, "0") else 3.0)


def right(x):
    return torch.softmax(x @ x.mT, -1).sin()


def square(x):
    return x * x


def pull(inputs, cotangent):
    return (2 * inputs[0] * cotangent,)


def pull_by_hash(inputs, cotangent):
    return (2 * inputs[0] * cotangent * by_the_hash("cotangent"),)


class Scaled(torch.autograd.Function):
    """A function whose backward pass depends on the process."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x**2

    @staticmethod
    def backward(ctx, g):
        return 2 * g * ctx.saved_tensors[0] * (1 + 1e-13 * (os.getpid() % 1009 + 1))


def table(x):
    return x * np.float64(3.0)
