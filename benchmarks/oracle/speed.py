"""How fast `gradcheck.check` compares a Jacobian, beside `torch.autograd.gradcheck` on the same inputs.

    python -m benchmarks.oracle.speed [--json FILE] [--pairs N] [--seconds S]

Ratios are medians over interleaved pairs of runs (A B A B ...), each with its interquartile range. A run is
as many calls as take a twentieth of a second, one at least. Times are those of the processor, in one thread
(set OMP_NUM_THREADS=1), so that what else the machine does counts for neither; the report has the ratio of
the clock on the wall as well.

Where its error estimates are small enough, ours compares a Jacobian by nine bilinear forms and not entry by
entry. PyTorch's fast mode, one form, is therefore measured too, and so is ours when it compares every entry.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from torch.autograd import Function

from gradcheck.bench.memory import sampled

Inputs = tuple[torch.Tensor, ...]
HERE = Path(__file__).parent
ONLY = ("jacobian",)
# The seconds that a run lasts at least.
_LEAST = 0.05


def draw(*shapes: tuple[int, ...]) -> Inputs:
    generator = torch.Generator().manual_seed(7)
    return tuple(
        torch.randn(shape, generator=generator, dtype=torch.float64).requires_grad_() for shape in shapes
    )


def batch_norm(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    return F.batch_norm(x, None, None, weight, bias, training=True)


def log_softmax(x: torch.Tensor) -> torch.Tensor:
    return torch.log_softmax(x, -1)


def network(x: torch.Tensor, *parameters: torch.Tensor) -> torch.Tensor:
    for weight, bias in zip(parameters[::2], parameters[1::2], strict=True):
        x = torch.tanh(F.linear(x, weight / 6, bias))
    return x


# Name, function, inputs, the speed-up aimed at.
SPEEDS: tuple[tuple[str, Callable[..., Any], Callable[[], Inputs], float], ...] = (
    ("batch norm (32, 16)", batch_norm, lambda: draw((32, 16), (16,), (16,)), 10),
    ("log-softmax (8, 10)", log_softmax, lambda: draw((8, 10)), 10),
    ("network, 4 layers of 32", network, lambda: draw((4, 32), *[(32, 32), (32,)] * 4), 10),
    ("GELU, 256 inputs", F.gelu, lambda: draw((256,)), 10),
    ("conv2d (2, 3, 8, 8)", F.conv2d, lambda: draw((2, 3, 8, 8), (4, 3, 3, 3)), 8),
    ("tanh, 1,024 inputs", torch.tanh, lambda: draw((1024,)), 60),
    ("tanh, 4,096 inputs", torch.tanh, lambda: draw((4096,)), 400),
)


def ours(f: Callable[..., Any], inputs: Inputs) -> Any:
    from gradcheck.blackbox import check

    return check(f, *inputs, checks=ONLY, max_seconds=600)


def seconds(run: Callable[[], Any], calls: int = 1) -> tuple[float, float]:
    """Return the seconds of the processor and of the wall's clock that one of several calls takes."""
    processor, wall = time.process_time(), time.perf_counter()
    for _ in range(calls):
        run()
    return (time.process_time() - processor) / calls, (time.perf_counter() - wall) / calls


def every_entry(f: Callable[..., Any], inputs: Inputs) -> Any:
    """Compare entry by entry, as the check does where bilinear forms do not decide."""
    from gradcheck.blackbox import jacobian
    from gradcheck.blackbox.frameworks import TorchSubject

    function: Any = TorchSubject(f, inputs, {}, True).function
    return jacobian.compare(function, function.point, quick=False)


def compared(
    f: Callable[..., Any], inputs: Inputs, target: float, pairs: int, budget: float
) -> dict[str, Any]:
    """Return all times and the ratios, over as many rounds as the budget allows, at least one."""
    result = ours(f, inputs)
    runs: dict[str, Callable[[], Any]] = {
        "ours": lambda: ours(f, inputs),
        "torch": lambda: torch.autograd.gradcheck(f, inputs),
        "fast": lambda: torch.autograd.gradcheck(f, inputs, fast_mode=True),
        "every": lambda: every_entry(f, inputs),
    }
    # As `timeit` does: what takes a millisecond is called for as long as what takes many.
    calls = dict.fromkeys(runs, 1)
    for name in ("ours", "torch", "fast"):
        if seconds(runs[name])[0] < _LEAST:
            calls[name] = math.ceil(_LEAST / max(seconds(runs[name])[0], 1e-6))
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in runs}
    started = time.monotonic()
    while not taken["ours"] or (len(taken["ours"]) < pairs and time.monotonic() - started < budget):
        for name, run in runs.items():
            # Entry by entry once, which is enough to tell the size: it can take far longer than the rest.
            if name != "every" or not taken[name]:
                taken[name].append(seconds(run, calls[name]))
    ratios, by_wall = (
        [b[k] / a[k] for a, b in zip(taken["ours"], taken["torch"], strict=True)] for k in range(2)
    )
    to_fast = [b[0] / a[0] for a, b in zip(taken["ours"], taken["fast"], strict=True)]
    middle = {name: statistics.median(cpu for cpu, _ in found) for name, found in taken.items()}
    quartiles = [float(q) for q in np.percentile(ratios, [25, 75])]
    return {
        "pairs": len(ratios),
        "ours, seconds": middle["ours"],
        "ours entry by entry, seconds": middle["every"],
        "torch gradcheck, seconds": middle["torch"],
        "torch gradcheck fast, seconds": middle["fast"],
        "ratio": statistics.median(ratios),
        "quartiles": quartiles,
        "ratio by the wall's clock": statistics.median(by_wall),
        "ratio of fast mode": statistics.median(to_fast),
        "ratio entry by entry": middle["torch"] / middle["every"],
        "target": target,
        "met": statistics.median(ratios) >= target,
        "verdict": result.verdict.value,
        "entries": result.compared,
        "resolution": result.resolution,
    }


# Scaling, each in a process of its own so that its peak memory is its own


def _convolution(x: torch.Tensor) -> torch.Tensor:
    return F.conv1d(x[None, None], torch.tensor([[[0.3, -1.1, 0.7]]], dtype=x.dtype), padding=1)[0, 0]


KINDS: dict[str, tuple[Callable[..., Any], Callable[[int], Inputs]]] = {
    "elementwise (tanh)": (torch.tanh, lambda n: draw((n,))),
    "rows of 10 (softmax)": (lambda x: torch.softmax(x, -1), lambda n: draw((n // 10, 10))),
    "windows of 3 (conv1d)": (_convolution, lambda n: draw((n,))),
}


def scaled(kind: str, count: int) -> dict[str, Any]:
    """Check one Jacobian; the peak is what it adds to the process with its inputs and everything loaded."""
    f, make = KINDS[kind]
    ours(f, make(100))
    inputs = make(count)
    with torch.no_grad():
        own = sum(x.numel() * x.element_size() for x in (*inputs, f(*inputs)))
    result = None

    def run() -> None:
        nonlocal result
        result = ours(f, inputs)

    # `getrusage` remembers the import of PyTorch, which is larger than what is looked for.
    with sampled() as sizes:
        taken, _ = seconds(run)
    assert result is not None
    return {
        "kind": kind,
        "inputs": count,
        "seconds": taken,
        "peak over inputs and outputs": (max(sizes) - sizes[0]) / own,
        "verdict": result.verdict.value,
        "entries": result.compared,
        "unfinished": list(result.unfinished),
    }


def apart(kind: str, count: int, limit: float) -> dict[str, Any]:
    """Run `scaled` in a fresh process."""
    command = [sys.executable, "-W", "ignore", "-m", "benchmarks.oracle.speed", "--one", kind, str(count)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=limit, check=False)
    except subprocess.TimeoutExpired:
        return {"kind": kind, "inputs": count, "failed": f"over {limit:.0f} s"}
    if done.returncode:
        said = (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]
        return {"kind": kind, "inputs": count, "failed": said[:300]}
    return dict(json.loads(done.stdout))


# Sensitivity


class Off(Function):
    """Tanh with an error of a part of the largest entry of the Jacobian, in one entry or in all."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, error: float, place: int) -> torch.Tensor:
        """Return tanh."""
        y = torch.tanh(x)
        ctx.save_for_backward(y)
        ctx.error, ctx.place = error, place
        return y

    @staticmethod
    def backward(ctx: Any, g: torch.Tensor) -> Any:
        """Return the gradient with its error."""
        (y,) = ctx.saved_tensors
        slope = 1 - y * y
        off = torch.zeros_like(slope)
        flat = off.view(-1)
        flat[slice(None) if ctx.place < 0 else ctx.place] = ctx.error * slope.max()
        return g * (slope + off), None, None


def caught(error: float, everywhere: bool, seeds: int, peers: bool) -> dict[str, Any]:
    """Return how often ours, and PyTorch's two modes at their defaults, catch an error in 1,024 entries."""
    from gradcheck.blackbox import check

    found: dict[str, int] = {"ours": 0} | (
        {"torch gradcheck": 0, "torch gradcheck, fast": 0} if peers else {}
    )
    for seed in range(seeds):
        x = torch.randn(1024, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        x.requires_grad_()
        place = -1 if everywhere else int(np.random.default_rng(seed).integers(1024))

        def f(x: torch.Tensor, place: int = place) -> torch.Tensor:
            return Off.apply(x, error, place)

        found["ours"] += bool(check(f, x, checks=ONLY, seed=seed, max_seconds=60).findings)
        for name in list(found)[1:]:
            torch.manual_seed(seed)
            found[name] += not torch.autograd.gradcheck(
                f, (x,), fast_mode="fast" in name, raise_exception=False
            )
    where = "all entries" if everywhere else "one entry of 1,024"
    return {"error": error, "where": where, "seeds": seeds, **found}


# The cold path

_COLD = {
    "python -c pass": "pass",
    "import gradcheck": "import gradcheck",
    "import torch": "import torch",
    "import torch and the first check": (
        "import torch; from gradcheck.blackbox import check; "
        "check(torch.tanh, torch.ones(3, 4, dtype=torch.float64), checks=('jacobian',))"
    ),
    "import torch and the first check, all of it": (
        "import torch; from gradcheck.blackbox import check; "
        "check(torch.tanh, torch.ones(3, 4, dtype=torch.float64))"
    ),
}


def cold(repeats: int) -> dict[str, float]:
    """Return the median seconds of the processor that new processes take, in turn."""
    taken: dict[str, list[float]] = {name: [] for name in _COLD}
    for _ in range(repeats):
        for name, program in _COLD.items():
            before = resource.getrusage(resource.RUSAGE_CHILDREN)
            subprocess.run([sys.executable, "-W", "ignore", "-c", program], check=True)
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            taken[name].append(after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime)
    return {name: statistics.median(found) for name, found in taken.items()}


def main() -> None:
    """Measure everything and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--json", type=Path, default=HERE / "speed.json", help="where the report goes")
    parser.add_argument("--pairs", type=int, default=15, help="pairs of runs, at most")
    parser.add_argument("--seconds", type=float, default=20.0, help="budget of one row; one pair at least")
    parser.add_argument("--limit", type=float, default=120.0, help="seconds for one size of the scaling")
    parser.add_argument("--one", nargs=2, metavar=("KIND", "COUNT"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    torch.set_num_threads(1)
    if given.one:
        print(json.dumps(scaled(given.one[0], int(given.one[1]))))
        return
    report: dict[str, Any] = {
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "numpy": np.__version__,
        },
        "cores": os.cpu_count(),
        "jacobian": {},
    }
    print(
        f"{'Jacobian':<26}{'ours, s':>9}{'torch, s':>9}{'ratio':>8}  quartiles       target pairs"
        "  verdict     fast mode / ours  torch / ours entry by entry"
    )
    for name, f, make, target in SPEEDS:
        row = compared(f, make(), target, given.pairs, given.seconds)
        report["jacobian"][name] = row
        low, high = row["quartiles"]
        print(
            f"{name:<26}{row['ours, seconds']:>9.4f}{row['torch gradcheck, seconds']:>9.4f}"
            f"{row['ratio']:>8.1f}  {low:>6.1f}-{high:<6.1f}{'ok' if row['met'] else 'not':>5} {target:>4}"
            f"{row['pairs']:>6}  {row['verdict']:<12}{row['ratio of fast mode']:>16.2f}"
            f"{row['ratio entry by entry']:>10.1f}",
            flush=True,
        )
    print(f"\n{'scaling of ours':<26}{'inputs':>10}{'seconds':>10}  peak / (inputs + outputs)")
    report["scaling"] = []
    for kind in KINDS:
        for count in (10_000, 100_000, 1_000_000):
            row = apart(kind, count, given.limit)
            report["scaling"].append(row)
            told = row.get("failed") or (
                f"{row['seconds']:>10.2f}  {row['peak over inputs and outputs']:.1f}  {row['verdict']}"
            )
            print(f"{kind:<26}{count:>10,}{told:>10}", flush=True)
    report["sensitivity"] = [
        caught(error, everywhere, seeds, peers)
        for error, seeds, peers in ((1e-7, 20, True), (1e-7, 200, False), (0.0, 200, False))
        for everywhere in (False, True)
    ]
    print("\nsensitivity")
    for row in report["sensitivity"]:
        print("  " + ", ".join(f"{k} {v}" for k, v in row.items()))
    report["cold"] = cold(5)
    print("\ncold path, seconds")
    for name, taken in report["cold"].items():
        print(f"  {name}: {taken:.2f}")
    given.json.write_text(json.dumps(report, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
