"""What draws initial weights: our own samplers in NumPy, and the table of who offers which."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from scipy import special

from gradcheck.errors import unknown_name
from gradcheck.formats import Format
from gradcheck.formulas.initialization import Initializer, Shape, dirac
from gradcheck.records import Array
from gradcheck.subjects import torch_initialization

Options = Mapping[str, Any]


@dataclass(frozen=True)
class Sampler:
    """One implementation of a rule for initial weights.

    `draw(shape, options, seed)` returns the array of the rule's target for a weight of `shape`, the same for
    the same arguments. `reproduce(shape, options, seed)` returns a program that draws it without this
    package.
    """

    initializer: str
    subject: str
    format: Format
    draw: Callable[[Shape, Options, int], Array]
    reproduce: Callable[[Shape, Options, int], str] | None = None


def _numpy_draw(initializer: Initializer, fmt: Format, shape: Shape, options: Options, seed: int) -> Array:
    """Draw by the inverse of the distribution; an orthogonal matrix by QR with the signs of R's diagonal."""
    rng = np.random.default_rng(seed)
    complete = initializer.complete(dict(options))
    if initializer.kind == "dirac":
        return np.asarray(dirac(shape, complete["groups"])).astype(fmt.dtype)
    if initializer.kind == "orthogonal":
        return np.asarray(complete["gain"] * _orthogonal(rng, shape)).astype(fmt.dtype)
    assert initializer.law is not None
    law = initializer.law(shape, **complete)
    size = (shape[0],) if initializer.target == "bias" else shape
    if law.std is None:
        return rng.uniform(law.low, law.high, size).astype(fmt.dtype)
    below, above = (float(special.ndtr((end - law.mean) / law.std)) for end in (law.low, law.high))
    shares = below + (above - below) * rng.random(size)
    # A share of 0 is the end of an interval that may have none.
    drawn = law.mean + law.std * special.ndtri(np.maximum(shares, 2.0**-60))
    return np.asarray(np.clip(drawn, law.low, law.high)).astype(fmt.dtype)


def _orthogonal(rng: np.random.Generator, shape: Shape) -> Array:
    rows = shape[0]
    flat = rng.normal(size=(rows, int(np.prod(shape[1:]))))
    wide = flat.shape[0] < flat.shape[1]
    q, r = np.linalg.qr(flat.T if wide else flat)
    q = q * np.sign(np.diagonal(r))
    return np.asarray((q.T if wide else q).reshape(shape))


SUBJECTS = ("numpy", "torch-cpu")


def get_sampler(subject: str, initializer: Initializer, fmt: Format) -> Sampler:
    """Return the sampler of a subject; an unknown subject is a `UsageError`."""
    if subject == "numpy":
        return Sampler(initializer.name, subject, fmt, partial(_numpy_draw, initializer, fmt))
    if subject == "torch-cpu":
        return Sampler(
            initializer.name,
            subject,
            fmt,
            partial(torch_initialization.draw, initializer, fmt),
            partial(torch_initialization.reproduce, initializer, fmt),
        )
    raise unknown_name("subject", subject, SUBJECTS)


def reason(subject: str, initializer: Initializer, fmt: Format) -> str:
    """Return why a subject cannot draw in this format, in its own words; empty if it can."""
    return torch_initialization.absence(initializer, fmt) if subject == "torch-cpu" else ""
