"""The forward and the backward pass of many networks at once, in a format, with what each layer showed.

The gradient of layer l is g_l = ∂⟨u, f⟩/∂y_l for a Gaussian cotangent u that knows nothing of the forward
pass. In float64 it is divided by its largest entry after every layer and the logarithm of the divisors is
kept, so that no depth overflows or underflows; a narrower format runs as it would, every result rounded to
it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gradcheck.flow.activations import Activation
from gradcheck.flow.drawing import Maps, Source, together
from gradcheck.flow.network import Network
from gradcheck.formats import FLOAT64, Format, get_format
from gradcheck.formulas.dropout import DROPOUT
from gradcheck.formulas.layers import RESIDUAL
from gradcheck.formulas.normalization import BATCH_NORM, LAYER_NORM
from gradcheck.formulas.statistics import RMS_NORM

Array = NDArray[Any]
# What nn.BatchNorm1d and nn.LayerNorm add to a variance.
EPSILON = 1e-5
# A unit counts as saturated where its slope is below this share of the largest slope in its layer.
SATURATED = 0.01


@dataclass(frozen=True)
class Trace:
    """What the layers showed; every array is (layers, networks), the layer next to the input first.

    `gradient` is ln ‖g‖² (-inf for 0), `weight_gradient` ln ‖∂/∂W‖², `forward` ln of the mean square of the
    pre-activations (of the stream in a residual network). `idle` is the share of entries of the gradient
    whose own slope is 0 or that are dropped, `dead` that of units whose slope is 0 for every input,
    `saturated` that of slopes below a hundredth of the layer's largest. `zero`,
    `subnormal` and `infinite` (or NaN) are shares of the gradient's entries, of those whose own slope is not
    0.
    """

    gradient: Array
    weight_gradient: Array
    forward: Array
    idle: Array
    dead: Array
    saturated: Array
    zero: Array
    subnormal: Array
    infinite: Array

    @property
    def alive(self) -> Array:
        """Which networks have, in every layer but the last, a unit whose slope is not 0."""
        return np.asarray(np.all(self.dead[:-1] < 1, axis=0))


FIELDS = tuple(Trace.__dataclass_fields__)


def joined(traces: list[Trace]) -> Trace:
    """Return the traces of several chunks of networks as one."""
    return Trace(*(np.concatenate([getattr(t, name) for t in traces], axis=1) for name in FIELDS))


def store_in(fmt: Format) -> Callable[[Array], Array]:
    """Return what rounds every result: 16-bit formats are held as the float32 numbers they can represent."""
    if fmt is FLOAT64:
        return _as_is
    if fmt.bits == 16:
        return lambda x: np.asarray(x).astype(fmt.dtype).astype(np.float32)
    return lambda x: np.asarray(x, dtype=fmt.dtype)


@dataclass(frozen=True)
class _Layer:
    """What the backward pass needs of one layer."""

    x: Array
    maps: Maps
    z: Array
    slope: Array
    mask: Array | None
    active: Array
    branch: Maps | None = None


def run(
    network: Network, origin: Source, activation: Activation, count: int, *, backward: bool = False
) -> Trace:
    """Run the next `count` networks of a source forward and backward, in the network's format.

    With `backward` only the backward pass is rounded to the format (weights are in both).
    """
    fmt = get_format(network.format)
    with np.errstate(all="ignore"):
        layers, forward = _forward(network, origin, activation, count, _as_is if backward else origin.store)
        rows = list(_backward(network, origin, layers, fmt))
    kinds = [slope_shares(layer.slope, activation) for layer in layers]
    idle = [_idle(network, layer, place) for place, layer in enumerate(layers)]
    gradients, weights, shares = zip(*reversed(rows), strict=True)
    zero, subnormal, infinite = zip(*shares, strict=True)
    dead, saturated = zip(*kinds, strict=True)
    made = (gradients, weights, forward, idle, dead, saturated, zero, subnormal, infinite)
    return Trace(*(np.stack(each).astype(np.float64) for each in made))


def _as_is(x: Array) -> Array:
    return x


def _forward(
    network: Network, origin: Source, activation: Activation, count: int, store: Callable[[Array], Array]
) -> tuple[list[_Layer], list[Array]]:
    last = network.depth - 1
    value, derivative = activation.value, activation.derivative
    x = origin.normal("input", 0, count)
    layers, squares = [], []
    for place in range(network.depth):
        maps = origin.maps("weight", place, x)
        z = store(maps.forward(x))
        y = store(normalised(network.norm, z))
        slope = store(derivative(y))
        mask = origin.mask(place, y.shape) if place < last or network.residual is not None else None
        exact = slope if slope.dtype == np.float64 else derivative(y.astype(np.float64))
        active = (exact != 0) & (True if mask is None else mask != 0)
        inner = x
        if network.residual is not None:
            passed = _dropped(store(value(y)), mask, network.keep, store)
            branch = origin.maps("branch", place, passed)
            added = store(branch.forward(passed))
            x = store(RESIDUAL.value(x, added, scale=network.branch_scale))
            layers.append(_Layer(inner, maps, z, slope, mask, active, branch))
        else:
            layers.append(_Layer(inner, maps, z, slope, mask, active))
            if place < last:
                x = _dropped(store(value(y)), mask, network.keep, store)
        squares.append(log_square(y if network.residual is None else x) - np.log(y[0].size))
    return layers, squares


def _backward(network: Network, origin: Source, layers: list[_Layer], fmt: Format) -> Iterator[Any]:
    """Yield per layer, the last one first: ln ‖g‖², ln ‖∂/∂W‖², and the shares of entries that failed."""
    store, narrow = origin.store, fmt is not FLOAT64
    g = origin.normal("cotangent", 0, len(layers[0].x))
    scale = np.zeros(len(g))
    for place in range(network.depth - 1, -1, -1):
        layer = layers[place]
        if narrow:
            square = log_square(g)
        else:
            g, scale = rescaled(g, scale)
            square = np.log(np.sum(np.square(g), axis=tuple(range(1, g.ndim)))) + 2 * scale
        # The last layer of a plain network and every stream are read without a slope of their own.
        bare = network.residual is not None or place == network.depth - 1
        shares = failures(g, None if bare else layer.active, fmt)
        inputs, z, slope = store(layer.x), store(layer.z), store(layer.slope)
        if layer.branch is None:
            gz = store(normalised_vjp(network.norm, z, g))
            yield square, _weight(layer.maps, inputs, gz, scale), shares
            if place:
                below = layers[place - 1]
                back = _dropped(store(layer.maps.backward(inputs, gz)), below.mask, network.keep, store)
                g = store(back * store(below.slope))
        else:
            branch = store(layer.branch.backward(inputs, store(network.branch_scale * g)))
            gy = store(_dropped(branch, layer.mask, network.keep, store) * slope)
            gz = store(normalised_vjp(network.norm, z, gy))
            yield square, _weight(layer.maps, inputs, gz, scale), shares
            g = store(g + store(layer.maps.backward(inputs, gz)))


def _weight(maps: Maps, x: Array, g: Array, scale: Array) -> Array:
    """Return ln ‖∂/∂W‖² per network, both factors scaled by their largest entries."""
    inputs, above = rescaled(x, scale)
    back, above = rescaled(g, above)
    return np.asarray(np.log(maps.weight_square(inputs, back)) + 2 * above)


def _dropped(x: Array, mask: Array | None, keep: float, store: Callable[[Array], Array]) -> Array:
    return x if mask is None else store(DROPOUT.value(x, mask, p=1 - keep))


def rescaled(g: Array, scale: Array) -> tuple[Array, Array]:
    """Return g over its largest entry, per network, and the logarithm of all divisors so far."""
    largest = np.max(np.abs(g), axis=tuple(range(1, g.ndim)))
    divisor = np.where((largest > 0) & np.isfinite(largest), largest, 1.0)
    return g / divisor.reshape(-1, *(1 for _ in g.shape[1:])), scale + np.log(divisor)


def log_square(x: Array) -> Array:
    """Ln ‖x‖² per network, scaled by the largest entry: free of over- and underflow; -inf for 0."""
    wide = np.asarray(x, dtype=np.float64)
    shares, scale = rescaled(wide, np.zeros(len(wide)))
    with np.errstate(divide="ignore"):
        return np.asarray(np.log(np.sum(np.square(shares), axis=tuple(range(1, x.ndim)))) + 2 * scale)


def failures(g: Array, active: Array | None, fmt: Format) -> tuple[Array, Array, Array]:
    """Return the shares of zeros, subnormal numbers, and infinities or NaN, among the active entries."""
    size = np.abs(np.asarray(g, dtype=np.float64)).reshape(len(g), -1)
    counted = np.ones_like(size, dtype=bool) if active is None else active.reshape(len(g), -1)
    total = np.maximum(np.sum(counted, axis=1), 1)
    cases = (size == 0, (size > 0) & (size < fmt.least_normal), ~np.isfinite(size))
    zero, subnormal, infinite = (np.sum(case & counted, axis=1) / total for case in cases)
    return zero, subnormal, infinite


def _idle(network: Network, layer: _Layer, place: int) -> Array:
    """Return per network the share of the gradient's entries that are zero by themselves."""
    if network.residual is not None or place == network.depth - 1:
        return np.zeros(len(layer.x))
    return np.asarray(1 - np.mean(layer.active, axis=tuple(range(1, layer.active.ndim))))


def slope_shares(slope: Array, activation: Activation) -> tuple[Array, Array]:
    """Return per network the shares of dead units and of saturated slopes.

    An activation that is linear on both sides of 0 does not saturate: it is off or on.
    """
    size = np.abs(np.asarray(slope, dtype=np.float64)).reshape(*slope.shape[:2], -1)
    dead = np.mean(np.all(size == 0, axis=1), axis=1)
    if activation.slopes is not None:
        return dead, np.zeros_like(dead)
    largest = np.max(size, axis=(1, 2), keepdims=True)
    return dead, np.mean(size < SATURATED * largest, axis=(1, 2))


def normalised(norm: str | None, z: Array) -> Array:
    """Return the pre-activations after the normalisation, without parameters of its own."""
    if norm is None:
        return z
    if norm == "batch":
        side, weight, bias = _by_channel(z)
        return _by_network(BATCH_NORM.value(side, weight, bias, eps=EPSILON, affine=True), z.shape)
    weight, axes = np.ones(z.shape[2:], z.dtype), z.ndim - 2
    if norm == "layer":
        return np.asarray(LAYER_NORM.value(z, weight, np.zeros_like(weight), eps=EPSILON, axes=axes))
    return np.asarray(RMS_NORM.value(z, weight, eps=EPSILON, axes=axes))


def normalised_vjp(norm: str | None, z: Array, g: Array) -> Array:
    """Return the gradient along z of the same normalisation."""
    if norm is None:
        return g
    if norm == "batch":
        assert BATCH_NORM.vjp is not None
        side, weight, bias = _by_channel(z)
        found = BATCH_NORM.vjp((side, weight, bias), together(g), eps=EPSILON, affine=True)
        return _by_network(found[0], z.shape)
    weight, axes = np.ones(z.shape[2:], z.dtype), z.ndim - 2
    if norm == "layer":
        assert LAYER_NORM.vjp is not None
        parts = (z, weight, np.zeros_like(weight))
        return np.asarray(LAYER_NORM.vjp(parts, g, eps=EPSILON, axes=axes)[0])
    assert RMS_NORM.vjp is not None
    return np.asarray(RMS_NORM.vjp((z, weight), g, eps=EPSILON, axes=axes)[0])


def _by_channel(z: Array) -> tuple[Array, Array, Array]:
    side = together(z)
    return side, np.ones(side.shape[1], z.dtype), np.zeros(side.shape[1], z.dtype)


def _by_network(side: Array, shape: tuple[int, ...]) -> Array:
    return np.swapaxes(np.asarray(side).reshape(shape[1], shape[0], *shape[2:]), 0, 1)
