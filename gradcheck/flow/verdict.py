"""The verdict on a network's gradients, and the findings that a person must read."""

from __future__ import annotations

import enum
import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy import special

from gradcheck.flow.passes import Trace
from gradcheck.flow.prediction import Prediction
from gradcheck.flow.statistics import DECADES, Estimate, Statistics, over_networks
from gradcheck.flow.streams import STREAM

# Decades of ‖g‖ lost or gained from which a network is watched, and from which it is sick.
WATCHED, SICK = 1.0, 3.0
# β = Var ln ‖g‖² from which one network says little about another drawn alike.
LOTTERY = 1.0
# The share of one ratio in the factor's sum from which the sample mean is no estimate.
HEAVY = 0.2
# The rounding of a measurement in float64, over a thousand layers.
ROUNDING = 2.0**-40
# One in 1.7 million: five deviations of a normal number.
CHANCE = 5.7e-7


class FlowVerdict(enum.StrEnum):
    """What a measurement concludes; a closed set."""

    HEALTHY = "healthy"
    WATCH = "watch"
    VANISHING = "vanishing"
    EXPLODING = "exploding"


@dataclass(frozen=True)
class FlowFinding:
    """Something that a person must read: a code of `FLOW_CODES`, one sentence, the layer it is about."""

    code: str
    message: str
    layer: str = ""


def judge(statistics: Statistics) -> tuple[FlowVerdict, float]:
    """Return the verdict and how probable it is that more networks would confirm it.

    It depends on differences of ln ‖g‖² alone, so no factor on the loss changes it. Networks of which most
    are dead are vanishing, of which most break are exploding.
    """
    others = statistics.dead + statistics.broken
    if 2 * others > statistics.count or statistics.span.count == 0:
        share = others / max(statistics.count, 1)
        broken = statistics.broken >= statistics.dead
        return FlowVerdict.EXPLODING if broken else FlowVerdict.VANISHING, share
    span = statistics.span
    size = abs(span.value)
    sick = FlowVerdict.VANISHING if span.value < 0 else FlowVerdict.EXPLODING
    classes = (
        (0.0, WATCHED, FlowVerdict.HEALTHY),
        (WATCHED, SICK, FlowVerdict.WATCH),
        (SICK, math.inf, sick),
    )
    for low, high, verdict in classes:
        if low <= size < high:
            sign = 1.0 if span.value >= 0 else -1.0
            ends = sorted((sign * (low or -WATCHED), sign * high))
            return verdict, span.probability_between(*ends)
    return sick, 1.0


def findings_of(
    statistics: Statistics, trace: Trace, names: tuple[str, ...], predicted: Prediction | None
) -> tuple[FlowFinding, ...]:
    """Return what a person must read of a measurement."""
    found = [*_failures(statistics, trace, names, predicted), *_doubts(statistics)]
    if statistics.rate.count:
        found.extend(_of_weights(statistics, trace))
        found.extend(_departure(statistics, trace, names, predicted))
    return tuple(found)


def _failures(
    statistics: Statistics, trace: Trace, names: tuple[str, ...], predicted: Prediction | None
) -> Iterator[FlowFinding]:
    if statistics.dead:
        at = _first(np.any(trace.gradient == -np.inf, axis=1), names, last=True)
        expected = ""
        if predicted is not None and math.isfinite(predicted.dead):
            each = 1 - (1 - predicted.dead) ** (len(names) - 1)
            expected = f"; {each * statistics.count:.3g} are expected"
        text = f"{statistics.dead} of {statistics.count} networks pass no gradient to {at}{expected}"
        yield FlowFinding("FLOW-DEAD", text, at)
    if statistics.broken:
        bad = ~np.isfinite(trace.forward) & (trace.forward != -np.inf)
        forward = _first(np.any(bad, axis=1), names)
        backward = np.isnan(trace.gradient) | (trace.gradient == np.inf)
        at = forward or _first(np.any(backward, axis=1), names, last=True)
        what = "values" if forward else "gradients"
        text = f"{statistics.broken} of {statistics.count} networks: {what} are infinite or NaN from {at} on"
        yield FlowFinding("FLOW-BROKEN", text, at)


def _first(rows: np.ndarray, names: tuple[str, ...], *, last: bool = False) -> str:
    places = np.flatnonzero(rows)
    return names[int(places[-1 if last else 0])] if len(places) else ""


def _doubts(statistics: Statistics) -> Iterator[FlowFinding]:
    if statistics.dispersion >= LOTTERY:
        decades = math.sqrt(statistics.dispersion) * DECADES
        yield FlowFinding(
            "FLOW-LOTTERY",
            f"β = {statistics.dispersion:.3g}: a deviation between networks is {decades:.3g} decades of ‖g‖",
        )
    if statistics.heaviest > HEAVY and statistics.rate.count * statistics.steps * HEAVY > 2:
        yield FlowFinding(
            "FLOW-HEAVY",
            f"one ratio of {statistics.rate.count * statistics.steps} is {statistics.heaviest:.0%} of their "
            "sum; read the rate, not the factor",
        )
    layers = len(statistics.typical)
    if statistics.count and layers - 1 - statistics.last < 3 and statistics.rate.count:
        yield FlowFinding(
            "FLOW-SHALLOW", f"{layers} layers are too few to leave out three at the output and the transient"
        )


def _of_weights(statistics: Statistics, trace: Trace) -> Iterator[FlowFinding]:
    """Compare the two spans over the layers between which the gradients change most."""
    live = np.all(np.isfinite(trace.gradient) & np.isfinite(trace.weight_gradient), axis=0)
    if not np.any(live):
        return
    low, high = statistics.between
    weights = over_networks((trace.weight_gradient[low, live] - trace.weight_gradient[high, live]) * DECADES)
    if abs(weights.value - statistics.span.value) >= WATCHED:
        yield FlowFinding(
            "FLOW-WEIGHTS",
            f"weight gradients change by {weights.value:+.2f} decades where those of pre-activations change "
            f"by {statistics.span.value:+.2f}: a weight's gradient is a gradient times an input, and their "
            "product can stay the same while both run away",
        )


def surely_differs(
    estimate: Estimate, truth: float, truth_error: float = 0.0, chance: float = CHANCE
) -> bool:
    """Whether an estimate differs from a known number by more than `chance` explains, by Student's t."""
    if estimate.count < 3 or not math.isfinite(estimate.error):
        return False
    reach = float(special.stdtrit(estimate.count - 1, 1 - chance / 2)) * estimate.error
    return abs(estimate.value - truth) > reach + truth_error


def step_factors(predicted: Prediction, layers: int) -> tuple[float, ...]:
    """Return the predicted factor of every step, from layer l + 1 to layer l, l = 1 … layers - 1.

    A path of as many factors is taken as it is. One factor for every layer belongs to the lower layer of a
    step between pre-activations, whose slope it holds, and to the upper block of a step along a stream.
    """
    if len(predicted.path) == layers - 1:
        return predicted.path
    if len(predicted.path) != layers:
        return (predicted.factor,) * (layers - 1)
    return predicted.path[1:] if predicted.quantity == STREAM else predicted.path[:-1]


def expected_steps(predicted: Prediction, layers: int) -> tuple[float, ...]:
    """Return the predicted change of E ln ‖g‖² of every step: ln of its factor, less what chance costs."""
    if not predicted.factor > 0:
        return (predicted.log_mean,) * (layers - 1)
    logs = [math.log(factor) for factor in step_factors(predicted, layers)]
    less = predicted.log_mean - math.log(predicted.factor)
    return tuple(log + less for log in logs)


def expected_rate(predicted: Prediction, statistics: Statistics) -> float:
    """Return the predicted rate over the layers that the rate is measured between."""
    steps = expected_steps(predicted, len(statistics.typical))[statistics.first : statistics.last]
    return math.fsum(steps) / len(steps)


def _departure(
    statistics: Statistics, trace: Trace, names: tuple[str, ...], predicted: Prediction | None
) -> Iterator[FlowFinding]:
    """Compare with a law that holds at this width; a limit of wide layers is judged at two widths instead."""
    if predicted is None or not predicted.log_exact:
        return
    live = np.all(np.isfinite(trace.gradient), axis=0)
    gradient, steps = trace.gradient[:, live], expected_steps(predicted, len(names))
    at = departure(gradient, steps, predicted.log_error + ROUNDING)
    if at is None:
        return
    seen = over_networks(gradient[at] - gradient[-1])
    yield FlowFinding(
        "FLOW-DEPARTS",
        f"from {names[-1]} to {names[at]} ln ‖g‖² changes by {seen.value:+.4g} ± {seen.error:.2g}, "
        f"the law says {math.fsum(steps[at:]):+.4g}",
        names[at],
    )


def departure(gradient: np.ndarray, steps: tuple[float, ...], error: float = 0.0) -> int | None:
    """Return the layer nearest to the output at which ln ‖g‖² surely leaves a law; None if none does.

    `gradient` is (layers, networks), `steps` the predicted change from layer l + 1 to layer l.
    """
    last = len(gradient) - 1
    expected = 0.0
    for place in range(last - 1, -1, -1):
        expected += steps[place]
        seen = over_networks(gradient[place] - gradient[last])
        if surely_differs(seen, expected, error * (last - place)):
            return place
    return None
