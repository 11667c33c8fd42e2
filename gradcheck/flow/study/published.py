"""Published results on the law of gradients, measured beside exact: laws, rates, spectra, borders, steps."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import special as functions

from gradcheck.flow import batch_norm, laws, spectra
from gradcheck.flow.document import Chart, Row, Series
from gradcheck.flow.network import Network
from gradcheck.flow.normalised import YANG
from gradcheck.flow.padding import retained
from gradcheck.flow.plain import HANIN_NICA
from gradcheck.flow.rows_plain import LU, dead_probability
from gradcheck.flow.steps import KINGMA_BA, adam_largest_step, adam_stated_bound
from gradcheck.flow.streams import SOURCE
from gradcheck.flow.study import special
from gradcheck.flow.study.literature import PLACE, Part, measured_row, points
from gradcheck.flow.study.plans import extrapolation, seed_of, traced
from gradcheck.flow.study.readings import Reading, combined, judged_log, mean_of
from gradcheck.flow.study.theory import EDGE, law_rows
from gradcheck.flow.theory import THEORY

Array = NDArray[Any]
WIDTH, DEPTH, NETWORKS = 32, 20, 36_000


def exact_density(width: int, steps: int, x: Array) -> tuple[Array, Array]:
    """Return density and distribution function of Σ ln((2/N) χ²_k) at the points x, k binomial above 0.

    From the power of E e^(itX) = Σ P(k) (4/N)^(it) Γ(k/2 + it)/Γ(k/2), by the integrals of Gil-Pelaez.
    """
    k, weight = laws.binomial_weights(width, 0.5, 1)
    t = np.linspace(0.0, 24.0, 4801)[1:]
    gamma = functions.loggamma(k[:, None] / 2 + 1j * t) - functions.loggamma(k[:, None] / 2)
    one = np.sum(weight[:, None] * np.exp(gamma + 1j * t * math.log(4 / width)), axis=0)
    turned = np.exp(-1j * t * x[:, None]) * one**steps
    step = t[1] - t[0]
    density = (0.5 + np.sum(turned.real, axis=1)) * step / math.pi
    at_zero = steps * float(laws.gaussian(width, (2.0, 0.0), (0.5, 0.5)).log_mean) - x
    below = 0.5 - (0.5 * at_zero + np.sum(turned.imag / t, axis=1)) * step / math.pi
    return density, below


def fit(r: Array, below: Array) -> tuple[float, float]:
    """Return Kolmogorov's distance of sorted numbers from a distribution, and the chance of a larger one."""
    count = len(r)
    ranks = np.arange(count + 1) / count
    distance = float(max(np.max(ranks[1:] - below), np.max(below - ranks[:-1])))
    scaled = distance * (math.sqrt(count) + 0.12 + 0.11 / math.sqrt(count))
    return distance, float(functions.kolmogorov(scaled))


def log_normal(seed: int) -> Part:
    """Hanin & Nica: ln ‖g‖² between networks is nearly normal, and its exact law is known."""
    network, steps = Network("relu", DEPTH, WIDTH), DEPTH - 1
    trace = traced(network, NETWORKS, seed_of(seed, PLACE, 4))
    r = np.sort(trace.gradient[0] - trace.gradient[-1])
    r = r[np.isfinite(r)]
    law = laws.gaussian(WIDTH, (2.0, 0.0), (0.5, 0.5))
    mean, deviation = steps * law.log_mean, math.sqrt(steps * law.log_variance)
    grid = np.linspace(mean - 9 * deviation, mean + 7 * deviation, 1601)
    density, below = exact_density(WIDTH, steps, grid)
    u = np.interp(r, grid, below)
    _, chance = fit(r, u)
    _, normal = fit(r, functions.ndtr((r - mean) / deviation))
    named = f"ReLU, width {WIDTH}, {steps} steps: "
    count = len(r)
    # F(r) is uniform for the true law F: its mean is 1/2, its variance 1/12, that of 12(F - 1/2)² 4/5.
    middle = Reading(float(np.mean(u)), 1 / math.sqrt(12 * count), count)
    spread = Reading(12 * float(np.mean((u - 0.5) ** 2)), math.sqrt(0.8 / count), count)
    rows = (
        judged_log(named + "mean of F(r), F the exact law", middle, 0.5, source=HANIN_NICA),
        judged_log(named + "12 E (F(r) - 1/2)²", spread, 1.0, source=HANIN_NICA),
    )
    edges = np.linspace(mean - 4.5 * deviation, mean + 4 * deviation, 52)
    shares, _ = np.histogram(r, edges)
    centres, bin_width = (edges[1:] + edges[:-1]) / 2, edges[1] - edges[0]
    bars = Series("measured", tuple(centres.tolist()), tuple((shares / count / bin_width).tolist()))
    inside = (grid > edges[0]) & (grid < edges[-1])
    normal_density = np.exp(-0.5 * ((grid - mean) / deviation) ** 2) / (deviation * math.sqrt(2 * math.pi))
    lines = [
        Series(label, tuple(grid[inside].tolist()), tuple(y[inside].tolist()), mark="line")
        for label, y in (("exact", density), ("normal", normal_density))
    ]
    chart = Chart(
        "log-normal", "histogram", "ln ‖g₁‖²/‖g_L‖²", "density", (bars, *lines),
        f"Hanin & Nica 2018: {count} ReLU networks of width {WIDTH} and depth {DEPTH}; the exact law and a "
        "normal one.",
        "The law of the gradient between networks",
    )  # fmt: skip
    said = (
        f"Hanin & Nica, {HANIN_NICA.split(', ')[1]}: the law of ln ‖g‖² of {count} networks is the exact one "
        "with p = "
        f"{chance:.2g} (Kolmogorov and Smirnov); a normal law of the same mean and variance has p = "
        f"{normal:.1g}."
    )
    return Part(said, rows, (chart,))


def batch_norm_rates(seed: int) -> Part:
    """Yang et al.: batch norm explodes, by a factor that depends on the batch."""
    seen: dict[str, list[tuple[float, Row]]] = {"linear": [], "relu": []}
    rows = []
    for name, activation in (("batch norm, linear", "linear"), ("batch norm, ReLU", "relu")):
        law = next(law for law in THEORY if law.name == name)
        own = [float(recipe.arguments["batch"]) for recipe in law.recipes]
        seen[activation] += zip(own, law_rows(seed, name), strict=True)
    exact = {"linear": batch_norm.linear_factor, "relu": batch_norm.rectified_factor}
    for place, (activation, batch) in enumerate((("relu", 12), ("relu", 20), ("linear", 12))):
        network = Network(activation, 20, 256, norm="batch", batch=batch)
        name = f"batch norm, {activation}, {batch} inputs: factor"
        root = seed_of(seed, PLACE, 5, place)
        rows.append(
            measured_row(name, network, "factor", exact[activation](batch), YANG, root, skip=3, limit=True)
        )
        seen[activation].append((float(batch), rows[-1]))
    series = []
    batches = [float(b) for b in range(6, 65)]
    for activation, found in seen.items():
        found.sort(key=lambda pair: pair[0])
        readings = [Reading(row.measured, row.standard_error, row.seeds) for _, row in found]
        series.append(points(activation, [b for b, _ in found], readings))
        y = tuple(exact[activation](int(b)) for b in batches)
        series.append(Series(f"{activation}, exact", tuple(batches), y, mark="line"))
    chart = Chart(
        "batch-norm", "points", "inputs in a batch", "factor of ‖g‖² per layer", tuple(series),
        "Yang et al. 2019: (B - 2)/(B - 3) without activation, π/(π - 1) = 1.467 for ReLU and many inputs.",
        "Batch norm explodes", levels=(("π/(π - 1)", math.pi / (math.pi - 1)),),
    )  # fmt: skip
    said = (
        "Yang et al., arXiv:1902.08129: a deep plain network with batch norm explodes at initialisation, at "
        "any scale of its weights."
    )
    return Part(said, tuple(rows), (chart,))


def fuss_catalan(factors: int) -> tuple[Array, Array]:
    """Return x and the density of ln x for the squared singular values x of a product of Gaussian matrices.

    x = sin^(s+1)((s+1)φ)/(sin φ sin^s(sφ)), density sin²φ sin^(s-1)(sφ)/(π sin^s((s+1)φ)), 0 < φ < π/(s+1).
    Source: Penson & Życzkowski, Phys. Rev. E 83, 2011; in the width of `Pennington et al., 2017`.
    """
    s = factors
    angle = np.linspace(0, math.pi / (s + 1), 402)[1:-1]
    x = np.sin((s + 1) * angle) ** (s + 1) / (np.sin(angle) * np.sin(s * angle) ** s)
    density = np.sin(angle) ** 2 * np.sin(s * angle) ** (s - 1) / (math.pi * np.sin((s + 1) * angle) ** s)
    return x, x * density


def singular_values(seed: int) -> Part:
    """Pennington et al.: Gaussian products spread their singular values, orthogonal ones keep them at 1."""
    depths, found, rows = (2, 3, 4), [], []
    for depth in depths:
        pair = [
            special.largest_singular(
                Network("linear", depth, width, weight_variance=1.0),
                count,
                seed_of(seed, PLACE, 6, depth, width),
            )
            for width, count in ((64, 1600), (128, 800))
        ]
        reading = combined(pair, extrapolation(EDGE, 1.0))
        found.append(reading)
        exact = math.sqrt(spectra.gaussian_spectrum(depth - 1).largest)
        name = f"Gaussian, {depth - 1} matrices: largest singular value"
        rows.append(
            judged_log(
                name,
                reading,
                exact,
                limit=True,
                source=spectra.PENNINGTON,
                note="widths 64 and 128, n^(-2/3)",
            )
        )
    orthogonal = special.largest_singular(
        Network("linear", 7, 32, init="orthogonal"), 50, seed_of(seed, PLACE, 7)
    )
    rows.append(
        judged_log(
            "orthogonal, 6 matrices: largest singular value", orthogonal, 1.0, source=spectra.PENNINGTON
        )
    )
    x = [float(depth - 1) for depth in depths]
    grid = tuple(float(k) for k in range(1, 9))
    line = tuple(math.sqrt(spectra.gaussian_spectrum(int(k)).largest) for k in grid)
    largest = Chart(
        "largest", "points", "layers", "largest singular value",
        (points("Gaussian", x, found), points("orthogonal", [6.0], [orthogonal]),
         Series("Gaussian, exact", grid, line, mark="line"),
         Series("orthogonal, exact", grid, (1.0,) * len(grid), mark="line")),
        "Pennington et al. 2017: √((L+1)^(L+1)/L^L) for Gaussian matrices, 1 for orthogonal ones.",
        "Singular values over depth",
    )  # fmt: skip
    said = (
        "Pennington, Schoenholz & Ganguli, arXiv:1711.04735: gradients of Gaussian linear networks keep "
        "their mean "
        "square and still spread over directions; orthogonal ones are isometries."
    )
    return Part(said, tuple(rows), (largest, _histogram(seed)))


def _histogram(seed: int) -> Chart:
    values = []
    for product, _ in special.jacobians(
        Network("linear", 4, 128, weight_variance=1.0), 60, seed_of(seed, PLACE, 8)
    ):
        values.append(np.linalg.eigvalsh(product @ np.swapaxes(product, 1, 2)).ravel())
    logs = np.log(np.maximum(np.concatenate(values), 1e-300))
    edges = np.linspace(-9.0, 3.0, 49)
    shares, _ = np.histogram(logs, edges)
    heights = shares / len(logs) / (edges[1] - edges[0])
    x, density = fuss_catalan(3)
    inside = np.log(x) > edges[0]
    centres = tuple(((edges[1:] + edges[:-1]) / 2).tolist())
    return Chart(
        "spectrum", "histogram", "ln of squared singular value", "density",
        (Series("Gaussian, 3 matrices of width 128", centres, tuple(heights.tolist())),
         Series("exact", tuple(np.log(x[inside]).tolist()), tuple(density[inside].tolist()), mark="line")),
        "The spectrum of a product of three Gaussian matrices; that of orthogonal ones is a single line at "
        "0.",
        "Spectrum of a Gaussian product",
    )  # fmt: skip


def residual_growth(seed: int) -> Part:
    """Yang & Schoenholz, Zhang et al.: growth along a residual stream, exponential or bounded by e."""
    rows, series = [], []
    depths = (4, 8, 16)
    for scale, named in ((0.5, "scale 1/2"), ("1/sqrt(L)", "scale 1/√L")):
        seen = []
        for depth in depths:
            network = Network("relu", depth, 32, weight_variance=1.0, residual=scale)
            block = 0.125 if scale == 0.5 else 0.5 / depth
            exact = (1 + block) ** (depth - 1)
            root = seed_of(seed, PLACE, 10, depth, scale == 0.5)
            rows.append(
                measured_row(
                    f"residual, {named}, {depth} blocks: E‖g₁‖²/‖g_L‖²",
                    network,
                    "retained",
                    exact,
                    SOURCE,
                    root,
                )
            )
            seen.append(math.log10(rows[-1].measured))
        series.append(Series(named, tuple(map(float, depths)), tuple(seen), mark="points"))
        grid = [float(d) for d in range(2, 41)]
        lines = [(d - 1) * math.log10(1 + (0.125 if scale == 0.5 else 0.5 / d)) for d in grid]
        series.append(Series(f"{named}, exact", tuple(grid), tuple(lines), mark="line"))
    chart = Chart(
        "residual", "points", "blocks", "‖g₁‖² / ‖g_L‖²", tuple(series),
        "(1 + s²σ_w⁴/2)^(L-1) with σ_w² = 1: exponential for s = 1/2, at most √e for s = 1/√L.",
        "Growth along a residual stream", y_log=True,
    )  # fmt: skip
    said = (
        "Yang & Schoenholz, arXiv:1712.08969; Zhang, Dauphin & Ma, arXiv:1901.09321: residual streams grow, "
        "unless branches are scaled."
    )
    return Part(said, tuple(rows), (chart,))


def dead_networks(seed: int) -> Part:
    """Lu et al.: the probability that a ReLU network passes no gradient at all."""
    rows, series = [], []
    for width in (3, 4, 6):
        network = Network("relu", 30, width)
        exact = dead_probability(width, network.depth)
        root = seed_of(seed, PLACE, 11, width)
        rows.append(
            measured_row(
                f"ReLU, width {width}, depth 30: share without gradient", network, "dead", exact, LU, root
            )
        )
        trace = traced(network, 4000, seed_of(root, 1))
        gone = [mean_of(row) for row in (trace.gradient == -np.inf).astype(float)]
        depths = [float(network.depth - place) for place in range(network.depth)]
        series.append(points(f"width {width}", depths[::-2], gone[::-2]))
        line = tuple(dead_probability(width, int(d)) for d in depths[::-1])
        series.append(Series(f"width {width}, exact", tuple(depths[::-1]), line, mark="line"))
    chart = Chart(
        "dead", "points", "depth", "share of networks without gradient", tuple(series),
        "Lu et al. 2019: 1 - (1 - 2^-N)^(L-1) for one input.", "Networks that are born dead",
    )  # fmt: skip
    said = (
        "Lu et al., arXiv:1903.06733: a narrow deep ReLU network is born dead with a probability that is "
        "known exactly."
    )
    return Part(said, tuple(rows), (chart,))


def borders(seed: int) -> Part:
    """Zero padding loses a share of ‖g‖² in every layer; circular padding loses none."""
    source, size = "transfer operator of the kernel's offsets (gradcheck.flow.padding)", 5
    rows, series = [], []
    for place, padding in enumerate(("zeros", "circular")):
        network = Network("linear", 4, 8, weight_variance=1.0, kind="conv", size=size, padding=padding)
        exact = retained(size, 3, network.depth - 1, padding)
        root = seed_of(seed, PLACE, 12, place)
        name = f"3×3 on {size}×{size}, {padding}: E‖g₁‖²/‖g₄‖²"
        rows.append(measured_row(name, network, "retained", float(exact[-1]), source, root))
        deep = Network("linear", 9, 8, weight_variance=1.0, kind="conv", size=size, padding=padding)
        r = traced(deep, 500, seed_of(root, 1)).gradient
        kept = [mean_of(np.exp(row - r[-1])) for row in r[::-1]]
        layers = [float(k) for k in range(deep.depth)]
        series.append(points(padding, layers, kept))
        line = tuple(map(float, retained(size, 3, deep.depth - 1, padding)))
        series.append(Series(f"{padding}, exact", tuple(layers), line, mark="line"))
    chart = Chart(
        "borders", "points", "layers passed", "share of ‖g‖² retained", tuple(series),
        "A 3×3 kernel sends a share of the gradient over the border of the map; (1ᵀT^L 1/m)² is left.",
        "What zero padding loses",
    )  # fmt: skip
    said = (
        "Zero padding loses a factor per layer that follows from the map's size alone; circular padding "
        "loses nothing."
    )
    return Part(said, tuple(rows), (chart,))


def adam_steps(seed: int) -> Part:
    """Adam's largest step: attained, and above the bound that was stated."""
    rows, times = [], (1, 2, 3, 5, 8, 13, 21, 34, 55, 89, 144)
    attained = [special.worst_adam_step(0.9, 0.999, t) for t in times]
    for t, got in zip(times, attained, strict=True):
        if t in (5, 34, 144):
            exact = adam_largest_step(0.9, 0.999, t)
            name = f"Adam, step {t}: largest |m̂|/√v̂"
            rows.append(
                judged_log(
                    name, Reading(got, 0.0, 0), exact, 2.0**-40 * exact, source=KINGMA_BA, note="attained"
                )
            )
    rng = np.random.default_rng(seed_of(seed, PLACE, 13))
    ordinary = [special.adam_step(rng.standard_normal((t, 200)), 0.9, 0.999) for t in times]
    x = tuple(map(float, times))
    exact_line = tuple(adam_largest_step(0.9, 0.999, t) for t in range(1, 161))
    stated = adam_stated_bound()
    # The bound is approached from below; where it meets what was stated is counted.
    late = next(t for t in range(1, 100_000) if adam_largest_step(0.9, 0.999, t) > stated)
    chart = Chart(
        "adam", "points", "step t", "|m̂|/√v̂, learning rates",
        (Series("attained", x, tuple(attained)), Series("200 normal gradients, largest", x, tuple(ordinary)),
         Series("bound", tuple(map(float, range(1, 161))), exact_line, mark="line")),
        f"β₁ = 0.9, β₂ = 0.999. From step {late} on the attained step is above {stated:.3f}, the bound "
        "stated in section 2.1.",
        "Adam's largest step",
    )  # fmt: skip
    said = (
        f"Kingma & Ba, arXiv:1412.6980, section 2.1, state that a step is at most {stated:.3f} learning "
        "rates; "
        f"gradients that grow by β₂/β₁ a step exceed it from step {late} on and attain the bound of Cauchy "
        "and Schwarz, "
        f"up to {adam_largest_step(0.9, 0.999, 10**6):.3f}."
    )
    return Part(said, tuple(rows), (chart,))
