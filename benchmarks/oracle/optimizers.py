"""What `gradcheck.check_optimizer` finds of wrong optimizers, and whom it accuses of the right ones.

    python -m benchmarks.oracle.optimizers [--max-seconds S]

All are checked by the documented call, the right ones that have a reference without it, too.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Iterator
from typing import Any


def checked(cases: Any, max_seconds: float) -> Iterator[tuple[Any, str | None, Any, float]]:
    """Yield every case with its reference, its result, and the seconds that it took."""
    from gradcheck import check_optimizer

    for case in cases:
        options = getattr(case, "options", None)
        for reference in dict.fromkeys((case.reference, *((None,) if options is not None else ()))):
            started = time.perf_counter()
            given = options if reference is not None else None
            result = check_optimizer(case.make, reference, given, max_seconds=max_seconds)
            yield case, reference, result, time.perf_counter() - started


def main() -> None:
    """Print every case, then the rates."""
    import torch

    from tests.blackbox.corpus.right_optimizers import RIGHT_OPTIMIZERS
    from tests.blackbox.corpus.wrong_optimizers import WRONG_OPTIMIZERS

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--max-seconds", type=float, default=10.0)
    most = parser.parse_args().max_seconds
    torch.set_num_threads(1)
    caught, alarms, defects, peace, unfinished = 0, 0, 0, 0, 0
    took: dict[bool, list[float]] = {True: [], False: []}
    for case, reference, result, seconds in checked(WRONG_OPTIMIZERS, most):
        caught += bool(result.findings)
        codes = ", ".join(finding.code for finding in result.findings) or "MISSED"
        print(f"wrong  {case.name:<40} {reference or '-':<9} {seconds:6.2f} s  {codes}", flush=True)
    for case, reference, result, seconds in checked(RIGHT_OPTIMIZERS, most):
        found = {finding.code for finding in result.findings}
        took[reference is not None].append(seconds)
        unfinished += bool(result.unfinished)
        defects += bool(found) and found <= case.codes
        alarms += not found <= case.codes
        peace += not found
        told = ", ".join(sorted(found)) or result.verdict.value
        print(f"right  {case.name:<40} {reference or '-':<9} {seconds:6.2f} s  {told}", flush=True)
    total = sum(map(len, took.values()))
    print(f"caught {caught} of {len(WRONG_OPTIMIZERS)} wrong optimizers")
    print(f"{alarms} false alarms in {total} checks of {len(RIGHT_OPTIMIZERS)} right ones: {peace} without a")
    print(f"finding, {defects} with one that PyTorch itself earns; {unfinished} unfinished")
    for named, seconds in took.items():
        how = "with" if named else "without"
        print(f"median {statistics.median(seconds):.2f} s {how} a reference, at most {max(seconds):.2f} s")


if __name__ == "__main__":
    main()
