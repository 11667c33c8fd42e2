"""Which formats hold the gradient of a user's model, and with which scale of the loss."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from gradcheck.errors import UsageError
from gradcheck.flow.limits import Shares, shares_at
from gradcheck.flow.modules import Gathered, active_sizes, torch_parts
from gradcheck.formats import FORMATS, Format

# The share of failed entries in the worst layer up to which a format is called safe.
SAFE = 0.01
NARROW = ("float16", "bfloat16")
# The powers of two that a loss is scaled by, the smallest change first.
POWERS = tuple(sorted(range(-64, 128), key=abs))


@dataclass(frozen=True)
class FormatSafety:
    """Whether a format holds the gradient of every layer, at the scale that it really has.

    `worst` are the shares in the layer where most entries fail. `safe` says that at most a hundredth of its
    entries are zero or subnormal, or that an infinite one is as unlikely. `scale` is a power of two to
    multiply the loss by that makes it safe (1 if it is so already), None if no scale does. `measured` are the
    shares (zero, infinite) of a copy of the model that ran in the format, without and with that scale; None
    where it was not run, `reason` says why.
    """

    format: str
    worst: Shares
    layer: str
    safe: bool
    scale: float | None
    measured: tuple[tuple[float, float], tuple[float, float]] | None
    reason: str = ""


@dataclass(frozen=True)
class Levels:
    """ln of the deviation of every layer's entries, and how many there are."""

    names: tuple[str, ...]
    logs: tuple[float, ...]
    sizes: tuple[float, ...]

    def shares(self, fmt: Format, power: int) -> list[Shares]:
        """Return the shares of every layer with the loss times 2^power."""
        scaled = (min(max(log + power * math.log(2.0), -745.0), 709.0) for log in self.logs)
        depth = len(self.logs)
        return [shares_at(depth - place, math.exp(log), fmt) for place, log in enumerate(scaled)]

    def lost(self, fmt: Format, power: int) -> list[float]:
        """Return per layer the share of zeros and subnormal numbers, and the chance of a single infinity.

        One infinite entry makes NaN of everything before it, so it is as bad as losing a whole layer.
        """
        return [
            s.zero + s.subnormal + min(1.0, n * s.infinite)
            for s, n in zip(self.shares(fmt, power), self.sizes, strict=True)
        ]


def format_safety(
    build: Any, example: Any, gathered: Gathered, loss: Callable[..., Any] | None, seed: int
) -> tuple[FormatSafety, ...]:
    """Return for every format whether it holds the gradients gathered, and what running it showed."""
    gradient = gathered.rows("gradient")
    live = np.all(np.isfinite(gradient), axis=0)
    if not np.any(live):
        return ()
    sizes = active_sizes(gathered)
    logs = tuple(
        (float(np.mean(row[live])) - math.log(max(size, 1.0))) / 2
        for row, size in zip(gradient, sizes, strict=True)
    )
    levels = Levels(gathered.names, logs, sizes)
    return tuple(_safety(build, example, levels, fmt, loss, seed) for fmt in FORMATS)


def _safety(
    build: Any, example: Any, levels: Levels, fmt: Format, loss: Callable[..., Any] | None, seed: int
) -> FormatSafety:
    here = levels.lost(fmt, 0)
    place = max(range(len(here)), key=lambda k: here[k])
    safe = here[place] <= SAFE
    scale = 1.0 if safe else _scale(levels, fmt)
    ran, reason = None, "a wide format"
    if fmt.name in NARROW:
        ran, reason = _ran(build, example, fmt.name, scale, loss, seed)
    shares = levels.shares(fmt, 0)[place]
    return FormatSafety(fmt.name, shares, levels.names[place], safe, scale, ran, reason)


def _scale(levels: Levels, fmt: Format) -> float | None:
    return next((2.0**power for power in POWERS if max(levels.lost(fmt, power)) <= SAFE), None)


def _ran(
    build: Any, example: Any, name: str, scale: float | None, loss: Callable[..., Any] | None, seed: int
) -> tuple[tuple[tuple[float, float], tuple[float, float]] | None, str]:
    flow, remedies = torch_parts()
    with flow.as_before():
        try:
            module = flow.copied(flow.make(build, seed))
            plain = remedies.in_format(module, example, seed, loss, name, 1.0)
            scaled = plain
            if scale not in (None, 1.0):
                module = flow.copied(flow.make(build, seed))
                scaled = remedies.in_format(module, example, seed, loss, name, scale)
        except UsageError as error:
            return None, str(error)
    return (plain, scaled), ""
