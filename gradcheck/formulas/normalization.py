"""Normalisation over a batch, a layer, a group or an instance: y = γ(x - m)/√(v + ε) + β.

Shapes: x (N, C), (N, C, L) or (N, C, H, W), γ and β (C); for the layer form x has any shape and the
parameters that of its trailing axes. `x` and `eps` are in no unit but share one: ε is added to squares of x.
Sources: Ioffe & Szegedy, Batch Normalization, 2015; Ba, Kiros & Hinton, Layer Normalization, 2016; Ulyanov,
Vedaldi & Lempitsky, Instance Normalization, 2016; Wu & He, Group Normalization, 2018.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from gradcheck.errors import UsageError
from gradcheck.formulas.centred import (
    View,
    by_channel,
    expanded_second_text,
    value_text,
    variants,
    vjp_text,
)
from gradcheck.formulas.parts import unstable
from gradcheck.records import SECOND, Arrangement, Choose, Formula, Option

FAMILIES = ("plain", "plain", "moderate", "grid", "scaled", "large mean", "constant")
EPSILONS = (1e-5, 1e-3, 1e-12, 0.25, 0.25, 0.0, 1e-30)
HAZARDS = (
    "E[x²] - E[x]² loses all digits of the variance once mean/deviation reaches 1/√u, and may be negative",
    "with ε = 0 and no variance it is 0/0: β is the limit for ε → 0, NaN is what the formula says",
    "two values per mean leave a gradient of the order of ε/(v + ε): it cancels",
)
EPS = Option("eps", 1e-5, 0.0, 1e3)
AFFINE = Option("affine", True, choices=(True, False), structural=True)
PARAMETERS = ("real", "parameter", "parameter")


def _image(choose: Choose, batch: int, channels: int, *, least: int = 1) -> tuple[int, ...]:
    """Return (batch, channels, L) or (batch, channels, H, W), the last axis of at least `least`."""
    height = () if choose.choice((True, False)) else (choose.size(1, 3),)
    return (batch, channels, *height, choose.size(least, 6))


def _batch(shape: tuple[int, ...], affine: bool = True) -> View:
    """One mean per channel: over the batch and all places."""
    if len(shape) < 2:
        raise UsageError(f"x has the shape {shape}: expected (N, C) and any number of further axes")
    others = tuple(axis for axis in range(len(shape)) if axis != 1)
    return View(shape, others, by_channel(shape), others, affine)


def batch_shape(choose: Choose) -> tuple[int, ...]:
    """Return a shape with several values per channel."""
    if choose.choice((True, False)):
        return choose.size(2, 33), choose.size(1, 4)
    return _image(choose, choose.size(1, 5), choose.size(1, 4), least=2)


def _arrange_batch(choose: Choose) -> Arrangement:
    """One case in eight has a single value per channel."""
    shape = batch_shape(choose)
    if choose.integer(0, 7) == 7:
        shape = (1, shape[1])
    options = {"affine": choose.choice((True, False)), "eps": choose.choice(EPSILONS)}
    return Arrangement((shape, (shape[1],), (shape[1],)), options)


def _refusable(shapes: Sequence[tuple[int, ...]], options: Mapping[str, Any]) -> bool:
    """A single value per channel gives β, and ε = 0 is the formula without ε: torch takes neither."""
    shape = shapes[0]
    return math.prod(shape) == shape[1] or options["eps"] == 0


BATCH_NORM = Formula(
    name="batch_norm",
    title="Batch normalisation, training",
    equation="γ(x - m)/√(v + ε) + β, m and v over the batch and all places, per channel",
    source="Ioffe & Szegedy, Batch Normalization, ICML 2015",
    value=value_text(_batch),
    vjp=vjp_text(_batch),
    inputs=("x", "weight", "bias"),
    kinds=PARAMETERS,
    options=(EPS, AFFINE),
    arrange=_arrange_batch,
    refusable=_refusable,
    families=FAMILIES,
    variants=variants(_batch, per_mean=True),
    hazards=HAZARDS,
    article="F12",
)


def layer_view(shape: tuple[int, ...], axes: int = 1) -> View:
    """One mean per index of the leading axes: over the last `axes` axes."""
    if not 1 <= axes <= len(shape):
        raise UsageError(f"axes={axes!r}: expected 1 to {len(shape)}, the number of axes of x")
    kept = len(shape) - axes
    return View(shape, tuple(range(kept, len(shape))), shape[kept:], tuple(range(kept)))


def layer_shapes(choose: Choose, parameters: int) -> Arrangement:
    """Return x of one to four axes, and parameters over one or two trailing ones."""
    axes = choose.choice((1, 1, 2))
    leading = tuple(choose.size(1, 4) for _ in range(choose.integer(0, 2)))
    trailing = (choose.size(2, 33),) if axes == 1 else (choose.size(1, 4), choose.size(2, 8))
    options = {"axes": axes, "eps": choose.choice(EPSILONS)}
    return Arrangement(((*leading, *trailing), *(trailing for _ in range(parameters))), options)


AXES = Option("axes", 1, structural=True)

LAYER_NORM = Formula(
    name="layer_norm",
    title="Layer normalisation",
    equation="γ(x - m)/√(v + ε) + β, m and v over the trailing axes",
    source="Ba, Kiros & Hinton, Layer Normalization, 2016",
    value=value_text(layer_view),
    vjp=vjp_text(layer_view),
    inputs=("x", "weight", "bias"),
    kinds=PARAMETERS,
    options=(EPS, AXES),
    arrange=lambda choose: layer_shapes(choose, 2),
    families=FAMILIES,
    variants=variants(layer_view, per_mean=False),
    hazards=HAZARDS,
)


def _group(shape: tuple[int, ...], groups: int = 1) -> View:
    """One mean per sample and group of channels."""
    if len(shape) < 2 or groups < 1 or shape[1] % groups:
        raise UsageError(
            f"groups={groups!r}: expected a divisor of the second axis of x, whose shape is {shape}"
        )
    batch, channels, *places = shape
    split = (batch, groups, channels // groups, *places)
    ones = (1 for _ in places)
    axes = tuple(range(2, len(split)))
    return View(split, axes, (1, groups, channels // groups, *ones), (0, *axes[1:]))


def _arrange_group(choose: Choose) -> Arrangement:
    groups = choose.size(1, 3)
    batch, channels = choose.size(1, 4), groups * choose.size(2, 5)
    shape = (batch, channels) if choose.choice((True, False)) else _image(choose, batch, channels)
    return Arrangement((shape, (channels,), (channels,)), {"groups": groups, "eps": choose.choice(EPSILONS)})


GROUP_NORM = Formula(
    name="group_norm",
    title="Group normalisation",
    equation="γ(x - m)/√(v + ε) + β, m and v over the channels of a group and all places, per sample",
    source="Wu & He, Group Normalization, ECCV 2018",
    value=value_text(_group),
    vjp=vjp_text(_group),
    inputs=("x", "weight", "bias"),
    kinds=PARAMETERS,
    options=(EPS, Option("groups", 1, structural=True)),
    arrange=_arrange_group,
    families=FAMILIES,
    variants=(
        *variants(_group, per_mean=False),
        unstable(SECOND, "expanded, r³ by itself", expanded_second_text(_group, divided=False)),
        unstable(SECOND, "expanded, r³/n by itself", expanded_second_text(_group, divided=True)),
    ),
    hazards=HAZARDS,
)


def _instance(shape: tuple[int, ...]) -> View:
    """One mean per sample and channel: over all places."""
    if len(shape) < 3:
        raise UsageError(f"x has the shape {shape}: expected (N, C) and at least one further axis")
    axes = tuple(range(2, len(shape)))
    return View(shape, axes, by_channel(shape), (0, *axes))


def _arrange_instance(choose: Choose) -> Arrangement:
    shape = _image(choose, choose.size(1, 4), choose.size(1, 4), least=2)
    return Arrangement((shape, (shape[1],), (shape[1],)), {"eps": choose.choice(EPSILONS)})


INSTANCE_NORM = Formula(
    name="instance_norm",
    title="Instance normalisation",
    equation="γ(x - m)/√(v + ε) + β, m and v over all places, per sample and channel",
    source="Ulyanov, Vedaldi & Lempitsky, Instance Normalization, 2016",
    value=value_text(_instance),
    vjp=vjp_text(_instance),
    inputs=("x", "weight", "bias"),
    kinds=PARAMETERS,
    options=(EPS,),
    arrange=_arrange_instance,
    families=FAMILIES,
    variants=variants(_instance, per_mean=True),
    hazards=HAZARDS,
)

FORMULAS = (BATCH_NORM, LAYER_NORM, GROUP_NORM, INSTANCE_NORM)
