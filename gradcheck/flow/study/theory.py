"""The chapter of the theory: every row measured beside what it says."""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np

from gradcheck.flow.activations import get_activation
from gradcheck.flow.document import LEFT_OUT, Chapter, Row, count_rows, judged
from gradcheck.flow.moments import moments
from gradcheck.flow.network import Network
from gradcheck.flow.plain import unit_spread
from gradcheck.flow.prediction import predict
from gradcheck.flow.row import BOUND, LIMIT, Recipe
from gradcheck.flow.row import Row as Law
from gradcheck.flow.spectra import largest_slope
from gradcheck.flow.streams import STREAM
from gradcheck.flow.study import special
from gradcheck.flow.study.plans import (
    LARGEST_ERROR,
    PILOT,
    Size,
    extrapolation,
    law_of,
    needed,
    read,
    seed_of,
    sizes,
)
from gradcheck.flow.study.readings import READERS, Reading, combined, judged_log
from gradcheck.flow.theory import THEORY
from gradcheck.flow.verdict import step_factors

Say = Callable[[str], None]
SPECTRA, SINGULAR, SAMPLES, BOUNDED = 11_000, (1100, 700), 2_000_000, 400
MANY_INPUTS = dict(norm="batch", batch=32, width=128, depth=20)
# The largest eigenvalue of a random matrix is off its limit by a multiple of n^(-2/3), Johnstone 2001.
EDGE = 2.0 ** (2.0 / 3.0)


@dataclass(frozen=True)
class Task:
    """One recipe of a row, with the sizes that it is measured at."""

    law: Law
    recipe: Recipe
    place: tuple[int, int]
    sizes: tuple[Size, ...]


def theory_rows(seed: int, say: Say | None = None) -> list[Row]:
    """Return one row for every recipe of the theory, in its order."""
    rows = []
    for name in dict.fromkeys(map(_group, THEORY)):
        for row in law_rows(seed, name):
            rows.append(row)
            if say is not None:
                say(f"{row.name}: {row.measured:.6g} beside {row.exact:.6g}, z = {row.z:+.2f}, {row.verdict}")
    return rows


@lru_cache(maxsize=128)
def law_rows(seed: int, name: str) -> tuple[Row, ...]:
    """Return the rows of one name (what stands before a colon), measured once for all chapters."""
    return measured_rows(tuple(law for law in THEORY if _group(law) == name), seed)


def _group(law: Law) -> str:
    return law.name.partition(":")[0]


def measured_rows(laws: Sequence[Law], seed: int) -> tuple[Row, ...]:
    """Return the rows of laws of one name, which share the networks that their recipes have in common."""
    # A root that depends on the name alone: rows do not change with what else is measured.
    place = zlib.crc32(_group(laws[0]).encode())
    pairs = [(law, _by_networks(recipe)) for law in laws for recipe in law.recipes]
    tasks = [Task(law, recipe, (place, k), _sizes(law, recipe)) for k, (law, recipe) in enumerate(pairs)]
    counts, roots = _networks(tasks, seed)
    return tuple(
        _measured(task, counts, roots) if task.sizes else _special(task, seed_of(seed, *task.place))
        for task in tasks
    )


def _by_networks(recipe: Recipe) -> Recipe:
    """Return what shows the value of the inequality of batch norm: networks with ever more inputs."""
    if recipe.quantity != "inequality":
        return recipe
    return replace(recipe, quantity="factor", network={**recipe.arguments, **MANY_INPUTS})


def _sizes(law: Law, recipe: Recipe) -> tuple[Size, ...]:
    if recipe.quantity not in READERS:
        return ()
    exact = law.standing != LIMIT
    p = law_of(Network(**recipe.network))
    # A limit that theory proves at every width needs no extrapolation.
    exact = exact or (p is not None and p.exact and recipe.quantity == "factor")
    return sizes(recipe.network, recipe.quantity, not exact, batch="batch" in recipe.arguments)


def _networks(tasks: list[Task], seed: int) -> tuple[dict[Size, int], dict[Network, int]]:
    """Return how many networks every size needs, one number and one root where rows share the networks."""
    most: dict[Network, int] = {}
    roots: dict[Network, int] = {}
    for task in tasks:
        exact = task.law.expected(task.recipe)
        if not task.sizes:
            continue
        counts = needed(task.sizes, task.recipe.quantity, exact, seed_of(seed, *task.place))
        for place, (size, count) in enumerate(zip(task.sizes, counts, strict=True)):
            roots.setdefault(size.network, seed_of(seed, *task.place, place))
            most[size.network] = max(most.get(size.network, 0), count)
    return {size: most[size.network] for task in tasks for size in task.sizes}, roots


def _measured(task: Task, counts: Mapping[Size, int], roots: Mapping[Network, int]) -> Row:
    """Return the row of a recipe that is read off networks."""
    law, recipe = task.law, task.recipe
    exact = law.expected(recipe)
    found, ratios = [], []
    for size in task.sizes:
        own = read(size, recipe.quantity, counts[size], roots[size.network])
        own = replace(own, error=exact_error(size, recipe.quantity, own, exact))
        here = _expected_at(law, recipe, size)
        found.append(own)
        ratios.append(own if here in (0.0, exact) else _times(own, exact / here))
    reading = combined(ratios, [size.share for size in task.sizes])
    return judged_log(
        _name(law, recipe),
        reading,
        exact,
        _numerical_error(recipe),
        logarithm=recipe.quantity == "log_mean",
        limit=len(ratios) > 1,
        source=law.source,
        note=_note(law, recipe, task.sizes, found),
    )


def _times(reading: Reading, by: float) -> Reading:
    return Reading(reading.value * by, reading.error * abs(by), reading.networks)


def _expected_at(law: Law, recipe: Recipe, size: Size) -> float:
    """Return what the row says at a size of the plan, over the blocks that were read."""
    arguments = dict(recipe.arguments)
    if recipe.quantity == "dispersion":
        arguments["width"] = size.network.width
    value = float(law.value(**arguments))
    p = law_of(size.network)
    if recipe.quantity == "factor" and p is not None and p.quantity == STREAM and len(set(p.path)) > 1:
        window = step_factors(p, size.network.depth)[size.first : size.last]
        value *= math.fsum(window) / len(window) / p.factor
    return value


def exact_error(size: Size, quantity: str, own: Reading, exact: float) -> float:
    """Return the standard error from the exact variance of one layer or share, where that is known."""
    network, length = size.network, size.last - size.first
    if quantity == "dead":
        return math.sqrt(exact * (1 - exact) / own.networks)
    p = law_of(network)
    if p is None or not p.log_exact or own.networks < PILOT:
        return own.error
    if quantity == "log_mean":
        return math.sqrt(p.log_variance / (length * own.networks))
    plain = network.norm is None and network.residual is None and network.law == "gaussian"
    if quantity == "factor" and plain and p.dead < 1e-6:
        spread = unit_spread(moments(get_activation(network.activation), 1.0), network.keep)[0]
        return p.factor * math.sqrt(spread / network.width / (length * own.networks))
    return own.error


def _numerical_error(recipe: Recipe) -> float:
    """Return the bound of the numerical error of a predicted factor."""
    if recipe.quantity != "factor":
        return 0.0
    p = law_of(Network(**recipe.network))
    return 0.0 if p is None or math.isnan(p.error) else p.error


def _name(law: Law, recipe: Recipe) -> str:
    """Return the row's name with what tells its recipes apart."""
    if len(law.recipes) == 1:
        return law.name
    given = [{**r.arguments, **r.network} for r in map(_by_networks, law.recipes)]
    different = [
        f"{key} {value:.4g}" if isinstance(value, float) else f"{key} {value}"
        for key, value in {**recipe.arguments, **recipe.network}.items()
        if any(other.get(key) != value for other in given)
    ]
    return f"{law.name}: {', '.join(text.replace('_', ' ') for text in different)}"


def _note(law: Law, recipe: Recipe, used: tuple[Size, ...], found: list[Reading]) -> str:
    parts = [law.says, f"{recipe.quantity.replace('_', ' ')}"]
    for size, own in zip(used, found, strict=True):
        layers = f"layers {size.first + 1} to {size.last + 1} of {size.network.depth}"
        parts.append(
            f"width {size.network.width}: {own.value:.5g} ± {own.error:.1g}, {own.networks} networks, "
            f"{layers}"
        )
    return "; ".join(parts)


def _special(task: Task, seed: int) -> Row:
    """Return the row of a recipe that is read off something else than norms of gradients."""
    law, recipe = task.law, task.recipe
    exact, name = law.expected(recipe), _name(law, recipe)
    common: dict[str, Any] = dict(source=law.source)
    if law.standing == BOUND:
        return _bound(task, seed)
    if recipe.quantity == "clip":
        got = special.clipped_ratio(**recipe.arguments)
        return judged_log(name, Reading(got, 0.0, 0), exact, note=law.says, **common)
    if recipe.quantity == "map":
        network = Network(**recipe.network)
        q = predict(network.activation, network.sigma_w2, network.sigma_b2).q
        reading = special.map_slope(network.activation_name, network.sigma_w2, q, SAMPLES, seed)
        note = f"{law.says}; differences over {SAMPLES} normal numbers"
        return judged_log(name, replace(reading, networks=0), exact, note=note, **common)
    network = Network(**recipe.network)
    if recipe.quantity == "spectrum":
        reading = special.spectrum_variance(network, SPECTRA, seed)
        return judged_log(name, reading, exact, note=f"{law.says}; width {network.width}", **common)
    narrow = replace(network, width=network.width // 2)
    ends = [
        special.largest_singular(n, count, seed_of(seed, count))
        for n, count in zip((narrow, network), SINGULAR, strict=True)
    ]
    note = f"{law.says}; widths {narrow.width} and {network.width}, the error of an edge falls as n^(-2/3)"
    return judged_log(name, combined(ends, extrapolation(EDGE, 1.0)), exact, limit=True, note=note, **common)


def _bound(task: Task, seed: int) -> Row:
    """Return the row of a bound: attained to rounding by Adam, not exceeded by any network."""
    law, recipe = task.law, task.recipe
    name = _name(law, recipe)
    if recipe.quantity == "step":
        exact = law.expected(recipe)
        got = special.worst_adam_step(**recipe.arguments)
        note = f"{law.says}; attained by gradients that grow by β₂/β₁ a step"
        allowed = 2.0**-40 * exact
        return judged_log(
            name, Reading(got, 0.0, 0), exact, allowed, source=law.source, note=note, normal=False
        )
    network = Network(**recipe.network)
    ratios = special.bound_ratios(network, BOUNDED, seed, largest_slope(network.activation))
    worst = float(np.max(ratios))
    note = f"{law.says}; the largest share of the bound that a network reached, 1 or less"
    # A bound is kept by every network or it is none: no standard error enters.
    allowed = max(0.0, 1.0 - worst)
    row = judged(name, worst, 0.0, 1.0, allowed, seeds=BOUNDED, source=law.source, note=note, normal=False)
    return row if worst <= 1 else replace(row, z=math.inf)


def theory_chapter(seed: int, say: Say | None = None) -> Chapter:
    """Return the chapter with every row, its misses, and how probable a miss is by chance."""
    rows = theory_rows(seed, say=say)
    counts = count_rows(rows)
    heaviest = max((abs(row.z) for row in rows if math.isfinite(row.z)), default=0.0)
    relative = [
        row.standard_error / abs(row.exact)
        for row in rows
        if row.exact not in (0.0,) and ": log_mean" not in row.name
    ]
    paragraphs = (
        f"{counts.rows} numbers of {len(THEORY)} results, measured on random networks and judged in log "
        "space: "
        f"{counts.misses} beyond 4 standard errors, largest |z| {heaviest:.2f}. If all results are true, one "
        f"or more of the {counts.normal} rows whose z is a normal number lie beyond with probability "
        f"{counts.chance:.2g} ({counts.normal} × 6.3e-5); {LEFT_OUT} are left out of it.",
        f"The largest relative standard error is {max(relative):.2%}; at most {LARGEST_ERROR:.1%} is wanted. "
        "Networks are counted by S = v/(L d²): v the variance of ln ‖g‖² that a layer adds (5/n for ReLU, "
        "2/n "
        "for linear networks), L the steps that are read, d the error; 2/(L d²) for a variance, (1 - p)/(p "
        "d²) "
        "for a share p; times 2w² for a size of weight w in an extrapolation.",
        "A result that holds for wide layers is measured at widths n and 2n and extrapolated, 2m(2n) - m(n). "
        "No "
        "row is the sample mean of a number without variance: RMS norm with ReLU is judged by its logarithm, "
        "and "
        "batch norm over more than five inputs.",
    )
    return Chapter("theory", "Theory, measured", paragraphs, tuple(rows))
