"""The tables of the README, from what `detect`, `speed` and `operators` wrote.

python -m benchmarks.oracle.tables
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
SHORT = {
    "torch gradcheck": "torch slow",
    "torch gradcheck, fast": "torch fast",
    "torch gradgradcheck": "torch gradgrad",
    "jax check_grads, order 1": "JAX, order 1",
    "jax check_grads, order 2": "JAX, order 2",
    "scipy check_grad": "SciPy",
}


def rows_of(head: list[str], rows: list[list[str]]) -> str:
    """Return a table in Markdown, numbers to the right."""
    widths = [max(len(row[k]) for row in [head, *rows]) for k in range(len(head))]
    lines = [[*head], ["-" * widths[0], *("-" * (w - 1) + ":" for w in widths[1:])], *rows]
    return "\n".join(
        "| "
        + " | ".join(
            cell.ljust(width) if k == 0 else cell.rjust(width)
            for k, (cell, width) in enumerate(zip(line, widths, strict=True))
        )
        + " |"
        for line in lines
    )


def detection(report: dict[str, Any]) -> str:
    """Return how many wrong operations of each cause everybody caught."""
    causes = report["wrong by cause"]
    names = [key for key, value in causes[-1].items() if isinstance(value, dict)]
    head = ["cause", "operations", "gradcheck.check", *(SHORT.get(name, name) for name in names)]
    rows = [
        [
            row["cause"],
            str(row["number"]),
            str(row["gradcheck.check"]),
            *("–" if row[name]["caught"] is None else str(row[name]["caught"]) for name in names),
        ]
        for row in causes
    ]
    return rows_of(head, rows)


def speeds(report: dict[str, Any]) -> str:
    """Return how many times faster a whole Jacobian is compared than by torch's slow mode."""
    rows = []
    for name, row in report["jacobian"].items():
        low, high = row["quartiles"]
        rows.append(
            [
                name,
                f"{1e3 * row['ours, seconds']:.1f} ms",
                f"{1e3 * row['torch gradcheck, seconds']:,.0f} ms",
                f"{row['ratio']:.0f}",
                f"{low:.0f}–{high:.0f}",
                f"{row['ratio of fast mode']:.2f}",
            ]
        )
    return rows_of(["Jacobian", "ours", "torch slow", "ratio", "quartiles", "torch fast / ours"], rows)


def scaling(report: dict[str, Any]) -> str:
    """Return seconds and memory of large Jacobians."""
    rows = [
        [
            row["kind"],
            f"{row['inputs']:,}",
            row.get("failed") or f"{row['seconds']:.2f} s",
            f"{row['peak over inputs and outputs']:.0f}" if "seconds" in row else "",
        ]
        for row in report["scaling"]
    ]
    return rows_of(["operation", "inputs", "processor", "peak / (inputs + outputs)"], rows)


def main() -> None:
    """Print every table whose file is there."""
    for name, makers in (("detection.json", (detection,)), ("speed.json", (speeds, scaling))):
        path = HERE / name
        if not path.exists():
            print(f"{name}: not there; run benchmarks.oracle.{name.partition('.')[0]} first\n")
            continue
        report = json.loads(path.read_text(encoding="utf-8"))
        for make in makers:
            print(make(report), end="\n\n")


if __name__ == "__main__":
    main()
