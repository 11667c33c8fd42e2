"""Saved runs, in pytest-benchmark's own format and folders: `pytest-benchmark compare` reads them, too.

A run is `.benchmarks/<system>/NNNN_NAME.json`. What pytest-benchmark has no field for (the ratio, the
interval, the memory) is in `extra_info`, and what tells one machine from another in `machine_info`.
"""

from __future__ import annotations

import json
import math
import platform
import re
import statistics
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from gradcheck.bench.document import BenchDocument, Change, Comparison, Measurement
from gradcheck.bench.timing import REPRODUCES, estimate
from gradcheck.encoding import plain
from gradcheck.errors import StorageError, UsageError, unknown_name
from gradcheck.files import write_atomically

FOLDER = Path(".benchmarks")
# The version of pytest-benchmark whose files these are like.
_VERSION = "5.3.1"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_FILE = re.compile(r"(?P<number>\d{4})_(?P<name>.+)\.json")
# What makes two machines, or two settings of one, different for a time.
_OWN = ("cpu", "isa", "cores", "architecture", "gpu")


def checked_name(name: str) -> str:
    """Return a name that can be part of a file's; `UsageError` for any other."""
    if not _NAME.fullmatch(name):
        raise UsageError(
            f"--save {name!r}: expected letters, digits, dots, dashes and underscores, such as before"
        )
    return name


def save(document: BenchDocument, name: str, folder: Path = FOLDER) -> Path:
    """Write a run under the next number and return its path."""
    home = folder / _system()
    numbers = [int(found["number"]) for path in _files(folder) if (found := _FILE.fullmatch(path.name))]
    path = home / f"{max(numbers, default=0) + 1:04}_{checked_name(name)}.json"
    text = json.dumps(plain(to_pytest_benchmark(document)), indent=1, ensure_ascii=True)
    write_atomically(path, text.encode())
    return path


def to_pytest_benchmark(document: BenchDocument) -> dict[str, Any]:
    """Return a run as pytest-benchmark writes one."""
    return {
        "machine_info": {
            "node": platform.node(),
            "processor": platform.processor(),
            "machine": platform.machine(),
            "python_compiler": platform.python_compiler(),
            "python_implementation": platform.python_implementation(),
            "python_implementation_version": platform.python_version(),
            "python_version": platform.python_version(),
            "python_build": list(platform.python_build()),
            "release": platform.release(),
            "system": platform.system(),
            "cpu": {"brand_raw": document.machine.get("cpu", ""), "count": document.machine.get("cores", "")},
            "gradcheck": {**document.machine, "versions": dict(document.versions)},
        },
        "commit_info": {},
        "benchmarks": [_benchmark(each) for each in document.measurements],
        "datetime": document.started,
        "version": _VERSION,
    }


def _benchmark(found: Measurement) -> dict[str, Any]:
    task, lane = found.task, found.lane
    params = {
        "implementation": lane.label,
        "format": task.format,
        "size": task.size,
        "direction": task.direction,
    }
    return {
        "group": f"{task.formula} {task.format} {task.size} {task.direction}",
        "name": found.name,
        "fullname": f"gradcheck bench::{found.name}",
        "params": params,
        "param": "-".join(str(value) for value in params.values()),
        "extra_info": {
            "elements": found.elements,
            "low": found.seconds.low,
            "high": found.seconds.high,
            "ratio": found.ratio.median,
            "ratio_low": found.ratio.low,
            "ratio_high": found.ratio.high,
            "traffic": found.traffic,
            "share_of_copy": found.share,
            "peak": found.peak,
            "noisy": found.noisy,
        },
        "options": {"disable_gc": True, "timer": "perf_counter", "min_rounds": found.rounds, "warmup": True},
        "stats": statistics_of(found.data, found.loops),
    }


def statistics_of(data: Sequence[float], loops: int) -> dict[str, Any]:
    """Return the figures that pytest-benchmark has of a list of times."""
    ordered = sorted(data)
    n, mean = len(ordered), statistics.fmean(ordered)
    deviation = statistics.stdev(ordered) if n > 1 else 0.0
    q1, _, q3 = statistics.quantiles(ordered, n=4) if n > 1 else ordered * 3
    reach = 1.5 * (q3 - q1)
    inner = [value for value in ordered if q1 - reach <= value <= q3 + reach] or ordered
    beyond = sum(abs(value - mean) > deviation for value in ordered)
    return {
        "min": ordered[0],
        "max": ordered[-1],
        "mean": mean,
        "stddev": deviation,
        "rounds": n,
        "median": statistics.median(ordered),
        "iqr": q3 - q1,
        "q1": q1,
        "q3": q3,
        "iqr_outliers": n - len(inner),
        "stddev_outliers": beyond,
        "outliers": f"{beyond};{n - len(inner)}",
        "ld15iqr": inner[0],
        "hd15iqr": inner[-1],
        "ops": 1 / mean,
        "total": math.fsum(ordered),
        "data": list(data),
        "iterations": loops,
    }


def find(name: str, folder: Path = FOLDER) -> Path:
    """Return the latest run of a name, or that of a number; an unknown one is a `UsageError`."""
    files = _files(folder)
    named = {found["name"]: path for path in files if (found := _FILE.fullmatch(path.name))}
    numbered = {path.name[:4]: path for path in files}
    if name in named or name in numbered:
        return named.get(name) or numbered[name]
    if not named:
        raise UsageError(
            f"unknown saved run {name!r}: none is saved in {str(folder)!r}; save one with --save NAME"
        )
    raise unknown_name("saved run", name, named)


def _files(folder: Path) -> list[Path]:
    """Return the saved runs, the oldest first."""
    return sorted((p for p in folder.glob("*/*.json") if _FILE.fullmatch(p.name)), key=lambda path: path.name)


def load(path: Path) -> dict[str, Any]:
    """Return a saved run; `StorageError` where the file is none."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        _ = [(each["name"], each["stats"]["median"], each["extra_info"]) for each in data["benchmarks"]]
        return dict(data)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StorageError(
            f"cannot read {str(path)!r}: expected a run saved by --save, got {type(error).__name__}: "
            f"{error}; save one again or name another"
        ) from error


def differences(saved: Mapping[str, Any], machine: Mapping[str, str]) -> tuple[str, ...]:
    """Return what tells the saved run's machine from this one, in words."""
    then = saved.get("machine_info", {}).get("gradcheck", {})
    return _differing(_OWN, then, machine)


def _differing(names: Iterable[str], then: Mapping[str, Any], now: Mapping[str, Any]) -> tuple[str, ...]:
    pairs = [(what, str(then.get(what, "unknown")), str(now.get(what, "unknown"))) for what in names]
    return tuple(f"{what}: {before} then, {after} now" for what, before, after in pairs if before != after)


def refuse_foreign(saved: Mapping[str, Any], name: str, machine: Mapping[str, str], force: bool) -> None:
    """Raise `UsageError` for a run of another machine, unless it is forced."""
    differs = differences(saved, machine)
    if differs and not force:
        raise UsageError(
            f"--compare {name}: it was saved on another machine ({'; '.join(differs)}): times of two "
            "machines say nothing of a change; compare with a run of this machine, or mark the comparison "
            "with --force"
        )


def compare(document: BenchDocument, saved: Mapping[str, Any], name: str, path: Path) -> Comparison:
    """Return what changed since a saved run.

    Faster and slower need both: intervals apart, and medians that differ by more than two runs of the same
    code may.
    """
    before = {each["name"]: each for each in saved["benchmarks"]}
    changes = [_change(found, before.get(found.name)) for found in document.measurements]
    here = {found.name for found in document.measurements}
    gone = [
        Change(missing, float(each["stats"]["median"]), math.nan, "gone")
        for missing, each in before.items()
        if missing not in here
    ]
    then = saved.get("machine_info", {}).get("gradcheck", {}).get("versions", {})
    versions = _differing(document.versions, then, document.versions)
    return Comparison(name, str(path), (*changes, *gone), differences(saved, document.machine), versions)


def _change(found: Measurement, then: Mapping[str, Any] | None) -> Change:
    now = found.seconds
    if then is None:
        return Change(found.name, math.nan, now.median, "new")
    old = estimate([float(value) for value in then["stats"].get("data") or [then["stats"]["median"]]])
    if found.noisy or then["extra_info"].get("noisy"):
        verdict = "noisy"
    elif now.median > (1 + REPRODUCES) * old.median and now.low > old.high:
        verdict = "slower"
    elif (1 + REPRODUCES) * now.median < old.median and now.high < old.low:
        verdict = "faster"
    else:
        verdict = "the same"
    return Change(found.name, old.median, now.median, verdict)


def _system() -> str:
    """Return the folder's name, which is pytest-benchmark's for this interpreter."""
    version = ".".join(platform.python_version_tuple()[:2])
    parts = (platform.system(), platform.python_implementation(), version, platform.architecture()[0])
    return "-".join(parts)
