"""The time of every formula by itself, reference and peers; `make bench` runs this, no test does.

Single figures, in one thread, for `pytest-benchmark compare`. `gradcheck bench` has the ratios: it takes the
same calls in turn.
"""

from __future__ import annotations

import numpy as np
import pytest

from gradcheck.bench.contenders import CannotRun, prepare
from gradcheck.bench.document import BACKWARD, FORWARD, FUSED, NUMPY, SCIPY, TORCH, Lane, Task
from gradcheck.bench.plan import OPTIMIZERS, PROFILES, Selection, plan
from gradcheck.bench.problems import problem, traffic
from gradcheck.formats import FLOAT32
from gradcheck.formulas import CATALOGUE, get_formula

# The size of every formula's task in the plan, which is smaller where memory grows faster than it.
SIZES = {group.task.formula: group.task.size for group in reversed(plan(PROFILES["quick"], Selection()))}
CASES = [
    pytest.param(formula.name, implementation, direction, id=f"{formula.name}-{implementation}-{direction}")
    for formula in CATALOGUE
    for direction in ((FORWARD, BACKWARD) if formula.differentiable else (FORWARD,))
    for implementation in (NUMPY, *((FUSED,) if formula.name in OPTIMIZERS else (SCIPY, TORCH)))
]


@pytest.mark.benchmark(max_time=0.3, min_rounds=5, disable_gc=True, warmup=True, warmup_iterations=1)
@pytest.mark.parametrize(("name", "implementation", "direction"), CASES)
def test_formula(benchmark, name, implementation, direction):
    task = Task(name, FLOAT32.name, SIZES[name], direction)
    given = problem(get_formula(name), FLOAT32, task.size, direction)
    with np.errstate(all="ignore"):
        try:
            ready = prepare(Lane(implementation), task, given, None)
        except CannotRun as reason:
            pytest.skip(str(reason))
        benchmark.group = task.label
        benchmark(ready.timed.call)
    benchmark.extra_info["elements_per_second"] = given.elements / benchmark.stats.stats.median
    benchmark.extra_info["peak"] = ready.peak
    # A step changes its arguments and returns nothing to count.
    if ready.outputs:
        benchmark.extra_info["traffic"] = traffic(given, ready.outputs)
