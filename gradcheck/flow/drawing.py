"""The random parts of a network, and the linear maps that they make, for many networks at once.

Every layer has generators of its own, so a network of depth L is the beginning of one of depth L + 1; each
runs through the networks in order, so no number depends on how many are held at once. Arrays have the
networks as first axis and their inputs as second: x (S, B, n), or (S, B, C, H, W) for maps.

A Gaussian matrix W that is only ever multiplied by x and, later, by g need not be drawn whole: with Q an
orthonormal basis of the inputs and W̃ an independent copy,

    W x = (W Q) Qᵀ x,   gᵀ W = (gᵀ W Q) Qᵀ + gᵀ W̃ (1 - Q Qᵀ),

where W Q and gᵀ W̃/‖g‖ have independent Gaussian entries: 2 n B numbers instead of n², and the same law.
Source: Bolthausen, Commun. Math. Phys. 325, 2014, section 4 (conditioning on what a Gaussian matrix did).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gradcheck.flow.network import Network
from gradcheck.formulas.convolution import CONV2D

Array = NDArray[Any]
Store = Callable[[Array], Array]
PURPOSES = ("input", "cotangent", "weight", "reverse", "bias", "mask", "branch", "branch reverse")


def stream(seed: int, purpose: str, layer: int) -> np.random.Generator:
    """Return the generator of one purpose in one layer."""
    key = np.random.SeedSequence((seed, PURPOSES.index(purpose), layer))
    return np.random.Generator(np.random.SFC64(key))


def units(generator: np.random.Generator, law: str, shape: tuple[int, ...]) -> Array:
    """Return (S, out, in, *kernel) numbers of variance 1 (orthogonal: of mean square 1 over a matrix).

    Orthogonal: Q of a Gaussian matrix with the signs of R's diagonal, so that Q is uniform (Mezzadri 2007);
    scaled by √fan_in, so that all three laws are divided by the same √fan_in.
    """
    if law == "uniform":
        return generator.uniform(-math.sqrt(3.0), math.sqrt(3.0), shape)
    normal = generator.standard_normal(shape)
    if law == "gaussian":
        return normal
    rows, columns = shape[1], math.prod(shape[2:])
    flat = normal.reshape(shape[0], rows, columns)
    q, r = np.linalg.qr(np.swapaxes(flat, 1, 2) if rows < columns else flat)
    q = q * np.sign(np.diagonal(r, axis1=1, axis2=2))[:, None, :]
    upright = np.swapaxes(q, 1, 2) if rows < columns else q
    return np.asarray(upright.reshape(shape) * math.sqrt(columns))


@dataclass(frozen=True)
class Drawn:
    """One layer's matrices, drawn whole: weight (S, n, n), bias (S, 1, n) or None."""

    weight: Array
    bias: Array | None

    def forward(self, x: Array) -> Array:
        """Return x Wᵀ + b."""
        z: Array = np.matmul(x, np.swapaxes(self.weight, 1, 2))
        return z if self.bias is None else z + self.bias

    def backward(self, x: Array, g: Array) -> Array:
        """Return the gradient g W along x."""
        back: Array = np.matmul(g, self.weight)
        return back

    def weight_square(self, x: Array, g: Array) -> Array:
        """Return ‖∂/∂W‖² per network."""
        return dense_weight_square(x, g)


@dataclass(frozen=True)
class Revealed:
    """One layer's Gaussian matrices, known only as far as they have been multiplied.

    `basis` (S, n, B) is Q, `shown` (S, n, B) is W Q, `scale` the deviation of an entry of W, one number or
    (S, 1, 1).
    """

    basis: Array
    shown: Array
    mixing: Array
    bias: Array | None
    scale: Any
    reverse: np.random.Generator

    def forward(self, x: Array) -> Array:
        """Return x Wᵀ + b for the inputs that the basis was made from."""
        z: Array = np.matmul(np.swapaxes(self.mixing, 1, 2), np.swapaxes(self.shown, 1, 2))
        return z if self.bias is None else z + self.bias

    def backward(self, x: Array, g: Array) -> Array:
        """Return the gradient g W along x."""
        fresh = self.reverse.standard_normal(g.shape) * self.scale
        _, mixing = _basis(g)
        fresh = np.matmul(np.swapaxes(mixing, 1, 2), fresh)
        known = np.matmul(g, self.shown) - np.matmul(fresh, self.basis)
        back: Array = fresh + np.matmul(known, np.swapaxes(self.basis, 1, 2))
        return back

    def weight_square(self, x: Array, g: Array) -> Array:
        """Return ‖∂/∂W‖² per network."""
        return dense_weight_square(x, g)


@dataclass(frozen=True)
class Convolved:
    """One layer's kernels, drawn whole: weight (S, C, C, k, k), bias (S, C); the networks are groups."""

    weight: Array
    bias: Array | None
    padding: str

    def forward(self, x: Array) -> Array:
        """Return the convolution of maps x (S, B, C, H, W) that keeps their size."""
        joined, kernels, bias = self._joined(x)
        return _apart(CONV2D.value(joined, kernels, bias, **self._options()), len(self.weight))

    def backward(self, x: Array, g: Array) -> Array:
        """Return the gradient along x."""
        return self._vjp(x, g)[0]

    def weight_square(self, x: Array, g: Array) -> Array:
        """Return ‖∂/∂W‖² per network."""
        squares = np.square(self._vjp(x, g)[1]).reshape(len(self.weight), -1)
        return np.asarray(np.sum(squares, axis=1))

    def _vjp(self, x: Array, g: Array) -> tuple[Array, Array]:
        assert CONV2D.vjp is not None
        found = CONV2D.vjp(self._joined(x), together(g), **self._options())
        return _apart(found[0], len(self.weight)), found[1].reshape(self.weight.shape)

    def _joined(self, x: Array) -> tuple[Array, Array, Array]:
        kernels = self.weight.reshape(-1, *self.weight.shape[2:])
        bias = np.zeros(len(kernels), x.dtype) if self.bias is None else self.bias.reshape(-1)
        return together(x), kernels, bias

    def _options(self) -> dict[str, Any]:
        around = self.weight.shape[-1] // 2
        groups = len(self.weight)
        return dict(stride=1, padding=around, dilation=1, groups=groups, padding_mode=self.padding)


Maps = Drawn | Revealed | Convolved


def together(x: Array) -> Array:
    """Return (S, B, C, …) as (B, S·C, …): the networks side by side, as channels."""
    moved = np.swapaxes(x, 0, 1)
    return np.reshape(moved, (moved.shape[0], moved.shape[1] * moved.shape[2], *moved.shape[3:]))


def _apart(x: Array, networks: int) -> Array:
    return np.swapaxes(x.reshape(x.shape[0], networks, -1, *x.shape[2:]), 0, 1)


def dense_weight_square(x: Array, g: Array) -> Array:
    """‖Σ_b g_b x_bᵀ‖² = Σ_{b,c} (g_b·g_c)(x_b·x_c), per network, without forming the matrix."""
    products = np.matmul(g, np.swapaxes(g, 1, 2)) * np.matmul(x, np.swapaxes(x, 1, 2))
    return np.asarray(np.sum(products, axis=(1, 2)))


def _basis(x: Array) -> tuple[Array, Array]:
    """Return Q (S, n, B) with orthonormal columns and R (S, B, B), xᵀ = Q R."""
    if x.shape[1] > 1:
        q, r = np.linalg.qr(np.swapaxes(x, 1, 2))
        return q, r
    # Scaled by the largest entry: squares overflow and underflow long before the entries do.
    largest = np.max(np.abs(x), axis=2, keepdims=True)
    shares = x / np.where(largest > 0, largest, 1)
    norm = largest * np.sqrt(np.sum(np.square(shares), axis=2, keepdims=True))
    first = np.zeros_like(x)
    first[:, :, 0] = 1
    return np.swapaxes(np.where(norm > 0, x / np.where(norm > 0, norm, 1), first), 1, 2), norm


@dataclass(frozen=True)
class Source:
    """All generators of one network specification under one seed.

    `deviations` gives dense networks variances of their own: σ_w (S, 1, 1) and σ_b (S, 1), in their order;
    None for those of the specification.
    """

    network: Network
    seed: int
    whole: bool
    store: Store
    streams: dict[tuple[str, int], np.random.Generator]
    deviations: tuple[Array, Array] | None = None

    def of(self, purpose: str, layer: int) -> np.random.Generator:
        """Return the generator of a purpose in a layer, where it has got to."""
        key = (purpose, layer)
        if key not in self.streams:
            self.streams[key] = stream(self.seed, purpose, layer)
        return self.streams[key]

    def normal(self, purpose: str, layer: int, count: int) -> Array:
        """Return independent N(0, 1) numbers in the shape of `count` networks' layers."""
        network = self.network
        places = (network.size, network.size) if network.kind == "conv" else ()
        shape = (count, network.examples, network.width, *places)
        return self.store(self.of(purpose, layer).standard_normal(shape))

    def mask(self, layer: int, shape: tuple[int, ...]) -> Array | None:
        """Return the zeros and ones of dropout; None without dropout."""
        if self.network.keep == 1:
            return None
        return np.asarray(self.of("mask", layer).random(shape) < self.network.keep, dtype=np.float64)

    def maps(self, purpose: str, layer: int, x: Array) -> Maps:
        """Return a layer's linear map for the networks that read x; "branch" maps have no bias."""
        network, count = self.network, len(x)
        n, scale = network.width, self._scale
        bias = self._bias(layer, count) if purpose == "weight" else None
        if network.kind == "conv":
            shape = (count, n, n, network.kernel, network.kernel)
            drawn = self.store(units(self.of(purpose, layer), network.law, shape) * scale)
            return Convolved(drawn, bias, network.padding)
        bias = None if bias is None else bias[:, None, :]
        if self.whole:
            drawn = units(self.of(purpose, layer), network.law, (count, n, n)) * scale
            return Drawn(self.store(drawn), bias)
        basis, mixing = _basis(x)
        shown = np.swapaxes(self.of(purpose, layer).standard_normal(x.shape) * scale, 1, 2)
        reverse = "reverse" if purpose == "weight" else "branch reverse"
        return Revealed(basis, shown, mixing, bias, scale, self.of(reverse, layer))

    @property
    def _scale(self) -> Any:
        """The deviation of one weight: a number, or one for every network."""
        if self.deviations is None:
            return math.sqrt(self.network.sigma_w2 / self.network.fan_in)
        return self.deviations[0] / math.sqrt(self.network.fan_in)

    def _bias(self, layer: int, count: int) -> Array | None:
        network = self.network
        if network.sigma_b2 == 0:
            return None
        law = "uniform" if network.law == "uniform" else "gaussian"
        drawn = units(self.of("bias", layer), law, (count, network.width))
        deviation = math.sqrt(network.sigma_b2) if self.deviations is None else self.deviations[1]
        return self.store(drawn * deviation)


def source(network: Network, seed: int, *, whole: bool, store: Store) -> Source:
    """Return the generators at their beginning."""
    return Source(network, seed, whole, store, {})
