"""The chapter of verdicts: healthy networks are never called sick, sick ones never healthy."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace

from gradcheck.flow.document import Chapter, Row, Table, judged
from gradcheck.flow.format_depth import format_depth
from gradcheck.flow.measuring import Measurement, measure_network
from gradcheck.flow.network import Network
from gradcheck.flow.prediction import Prediction
from gradcheck.flow.study.plans import seed_of
from gradcheck.flow.verdict import FlowVerdict, step_factors

HEALTHY, WATCH = FlowVerdict.HEALTHY, FlowVerdict.WATCH
SICK = (FlowVerdict.VANISHING, FlowVerdict.EXPLODING)
SCALES = (1e-8, 1.0, 1e8)
REPEATS, SEEDS = 12, 8


@dataclass(frozen=True)
class Case:
    """A network, what it must not be called, and how the loss is scaled."""

    name: str
    network: Network
    never: tuple[FlowVerdict, ...]
    scale: float = 1.0


def cases() -> tuple[Case, ...]:
    """Return the acceptance table."""
    he = Network(activation="relu", init="kaiming", depth=30)
    healthy = tuple(
        Case(f"He ReLU, depth 30, width {width}, loss × {scale:g}", replace(he, width=width), SICK, scale)
        for width in (64, 128, 256)
        for scale in SCALES
    )
    sick = (
        ("default ReLU without bias, depth 12", Network("relu", 12, 128, init="torch", bias=False)),
        ("He ReLU with batch norm, depth 20", Network("relu", 20, 128, norm="batch", batch=32)),
        ("He GELU, depth 30", Network("gelu", 30, 128)),
        ("tanh with gain 5/3, depth 50", Network("tanh", 50, 128, init="xavier", gain=5 / 3)),
    )
    return (*healthy, *(Case(name, network, (HEALTHY,)) for name, network in sick))


def acceptance_chapter(seed: int, repeats: int = REPEATS) -> Chapter:
    """Return the chapter: every case is measured several times, every time on other networks."""
    lines, rows = [], []
    for place, case in enumerate(cases()):
        found = _measured(case, place, seed, repeats)
        rows.append(_row(case, found))
        lines.append(_line(case, found))
    heads = ("network", "factor", "exact", "span, decades", "verdicts", "float16 fails at depth")
    table = Table("Verdicts", heads, tuple(lines))
    said = (
        f"Every case is measured {repeats} times on {SEEDS} other networks; the loss is scaled before the "
        "backward pass. Spans below 1 decade are healthy, from 3 on vanishing or exploding, between watched.",
        "He ReLU with batch norm gains 1.7 decades over 20 layers: watched, by its factor of π/(π - 1) and "
        "more.",
    )
    return Chapter("health", "Healthy and sick", said, tuple(rows), tables=(table,))


def _measured(case: Case, place: int, seed: int, repeats: int) -> list[Measurement]:
    # The three scales of one network meet the same networks: nothing but the scale differs.
    roots = [seed_of(seed, 5, case.network.width, case.network.depth, k) for k in range(repeats)]
    return [measure_network(case.network, SEEDS, root, loss_scale=case.scale) for root in roots]


def _row(case: Case, found: list[Measurement]) -> Row:
    wrong = sum(m.verdict in case.never for m in found) / len(found)
    never = " or ".join(verdict.value for verdict in case.never)
    note = f"share of {len(found)} measurements called {never}"
    count = sum(m.seeds for m in found)
    return judged(
        case.name, wrong, 0.0, 0.0, seeds=count, source="span of ‖g‖, decades", note=note, normal=False
    )


def _line(case: Case, found: list[Measurement]) -> tuple[str, ...]:
    p = found[0].predicted
    assert p is not None
    exact = [_over(m, p) for m in found]
    factors, spans = [m.factor for m in found], [m.statistics.span.value for m in found]
    tally = Counter(m.verdict.value for m in found)
    fails = format_depth(p, "float16").limit
    return (
        case.name,
        f"{sum(factors) / len(factors):.4g}",
        f"{sum(exact) / len(exact):.4g}",
        f"{sum(spans) / len(spans):+.2f} ({min(spans):+.2f} to {max(spans):+.2f})",
        ", ".join(f"{word} {number}" for word, number in tally.items()),
        "never" if fails == float("inf") else f"{fails + 1:.0f}",
    )


def _over(m: Measurement, p: Prediction) -> float:
    """Return the predicted factor over the layers that were measured."""
    factors = step_factors(p, len(m.layers))[m.statistics.first : m.statistics.last]
    return sum(factors) / len(factors)
