"""Small runs with every kind of record, for tests of the store and of what it publishes."""

from __future__ import annotations

import math
from pathlib import Path

from gradcheck.document import ClaimRecord, RunInfo
from gradcheck.evidence import Store
from gradcheck.records import Cell, Evidence, Finding, Worst

RUN = RunInfo(
    started="2026-01-01T00:00:00Z",
    profile="ci",
    seed=7,
    versions={"torch": "2.13.0", "numpy": "2.4.6"},
    machine={"isa": "avx512"},
    self_test={"good": 30, "bad": 30},
)
WORST = Worst(
    (-5.5, 0.1), got=math.nan, expected=-0.0, error=math.nan, bound=5e-324, ulp=math.inf, index=3, size=8
)
ACCURATE = Evidence(compared=65536, cases=4, ulp=0.5, resolution=3.1e-7, families={"plain": 4}, specials=9)
AGREES = Evidence(compared=10, cases=1, outside_stable=2, ulp=2.5, resolution=1e-7, label="exhaustive")
UNSTABLE = Evidence(
    compared=10, cases=1, outside_stable=3, outside_accepted=3, explained_by=("rebuilt",), worst=WORST
)
WRONG = Evidence(
    compared=10,
    cases=1,
    outside_stable=3,
    outside_accepted=3,
    outside_unstable=3,
    breaches={"nan": 1},
    ulp=math.inf,
    resolution=math.nan,
    worst=WORST,
    options={"alpha": 0.5, "mode": "tanh"},
    binades={"-3": 5},
    notes=("seen twice",),
)
RAISED = Evidence(compared=1, cases=1, breaches={"raised": 1})
VACUOUS = Evidence(compared=0, cases=2, vacuous_cases=2)
INCONCLUSIVE = Evidence(compared=9, cases=1, undecided=1)
CLAIM = ClaimRecord("F09", "leaky ReLU", "refuted", 3000, math.inf, {"x": "-1.0"}, equals="relu")


def cell(formula: str, check: str = "value", reason: str = "") -> Cell:
    return Cell(formula, "torch-cpu", "float32", check, reason)


def finding(of: Cell, evidence: Evidence, code: str = "VALUE-WRONG") -> Finding:
    return Finding(code, of, evidence, f"{of.formula} is off", "import torch\nprint(torch.nan)")


def plan(count: int) -> list[Cell]:
    return [cell(f"f{number:05}") for number in range(count)]


def full(path: Path) -> Store:
    """Return a finished run with every kind of record."""
    cells = [
        *map(cell, ("gelu", "silu", "relu", "tanh", "mish", "elu", "celu")),
        cell("selu", reason="no GPU"),
    ]
    gelu, silu, relu, tanh, mish, elu, celu, _ = cells
    store = Store.create(path, RUN, cells)
    confirmation = {"VALUE-WRONG": {"mpmath": "-0.0"}}
    store.record(gelu, WRONG, [finding(gelu, WRONG)], 1.25, confirmation)
    store.record(silu, UNSTABLE, [finding(silu, UNSTABLE, "VALUE-UNSTABLE")])
    store.record(relu, ACCURATE)
    store.record(tanh, RAISED, [finding(tanh, RAISED, "SUBJECT-RAISED")])
    store.record(mish, VACUOUS)
    store.record(elu, INCONCLUSIVE)
    store.record(celu, AGREES)
    store.claim(CLAIM)
    store.artifact("step", "gelu", {"x": 1.0, "series": {"central": [[0.5, math.inf, math.nan]]}})
    store.finish("2026-01-01T00:01:00Z")
    return store
