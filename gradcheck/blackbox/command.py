"""What `gradcheck check` reads: a function by its address, inputs by their format and shape."""

from __future__ import annotations

import importlib
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np

from gradcheck.blackbox.domains import domain_of
from gradcheck.blackbox.result import Result
from gradcheck.errors import UsageError

_INPUT = re.compile(
    r"(?P<kind>float64|float32|float16|bfloat16|int64|int32|bool)\[(?P<shape>[0-9, ]*)\](?P<rest>.*)"
)
_RANGE = re.compile(r":(?P<low>[-+0-9.e]+)\.\.(?P<high>[-+0-9.e]+)")
_LARGEST = 10**8


@dataclass(frozen=True)
class InputText:
    """One parsed `--input`: format, shape, and what numbers it takes."""

    kind: str
    shape: tuple[int, ...]
    domain: Any = None
    below: int = 0

    @property
    def limit(self) -> Any:
        """The domain as `check` takes it."""
        whole = self.below and not self.kind.startswith("bool")
        return f"index({self.below})" if whole else self.domain


def read_input(text: str) -> InputText:
    """Return what `float64[8,4]`, `float64[3]:positive`, `float64[3]:-1..1` or `int64[8]<10` says."""
    match = _INPUT.fullmatch(text.strip())
    expected = (
        f"--input {text!r}: expected a format and a shape such as float64[8,4], with :positive, :unit, :spd "
        "or :-1..1 behind it if it takes such numbers only, or int64[8]<10 for whole numbers"
    )
    if match is None:
        raise UsageError(expected)
    try:
        shape = tuple(int(part) for part in match["shape"].split(",") if part.strip())
    except ValueError:
        raise UsageError(expected) from None
    if int(np.prod(shape, dtype=np.float64)) > _LARGEST:
        raise UsageError(
            f"--input {text!r}: {shape} is more than {_LARGEST:,} numbers; give a smaller example"
        )
    kind, rest = match["kind"], match["rest"]
    if kind.startswith(("int", "bool")):
        if not rest:
            return InputText(kind, shape, None, 2)
        if rest.startswith("<") and rest[1:].isdigit() and int(rest[1:]) > 0:
            return InputText(kind, shape, None, int(rest[1:]))
        raise UsageError(expected)
    if not rest:
        return InputText(kind, shape)
    found = _RANGE.fullmatch(rest)
    if found is not None:
        try:
            said: Any = (float(found["low"]), float(found["high"]))
        except ValueError:
            raise UsageError(expected) from None
        domain_of(said, text)
        return InputText(kind, shape, said)
    if rest.startswith(":"):
        domain_of(rest[1:], text)
        return InputText(kind, shape, rest[1:])
    raise UsageError(expected)


def example(said: InputText, seed: int) -> Any:
    """Return an array as `said`, of normal numbers within their domain."""
    rng = np.random.default_rng([seed, 101])
    if said.below:
        numbers = rng.integers(0, said.below, said.shape)
        return numbers.astype(bool if said.kind == "bool" else said.kind)
    array = rng.normal(size=said.shape)
    limit = domain_of(said.domain, "--input")
    if limit is not None:
        array = limit.project(array.ravel(), said.shape).reshape(said.shape)
    if said.kind == "bfloat16":
        import ml_dtypes

        return array.astype(ml_dtypes.bfloat16)
    return array.astype(said.kind)


def load(address: str, what: str = "the function") -> Callable[..., Any]:
    """Return the object at `package.module:name`; the current folder is on the path."""
    module_name, colon, name = address.partition(":")
    if not colon or not module_name or not name:
        raise UsageError(f"{what} {address!r}: expected package.module:function, such as mylib.ops:my_gelu")
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        found: Any = importlib.import_module(module_name)
    except Exception as error:
        raise UsageError(
            f"{what} {address!r}: importing {module_name} fails: {type(error).__name__}: {error}"
        ) from error
    for part in name.split("."):
        if not hasattr(found, part):
            names = [n for n in dir(found) if not n.startswith("_")][:12]
            raise UsageError(f"{what} {address!r}: {module_name} has no {name}; it has {', '.join(names)}")
        found = getattr(found, part)
    return _usable(found, address)


def _usable(found: Any, address: str) -> Callable[..., Any]:
    bases = {base.__name__ for base in getattr(found, "__mro__", ())}
    if isinstance(found, type) and "Function" in bases and hasattr(found, "apply"):
        return found.apply  # type: ignore[no-any-return]
    if isinstance(found, type) and "Module" in bases:
        try:
            return found()  # type: ignore[no-any-return]
        except TypeError as error:
            raise UsageError(
                f"{address}: the module needs arguments ({error}); give the address of an instance, or of a "
                "function that builds and calls it"
            ) from error
    if not callable(found):
        raise UsageError(f"{address}: expected something that can be called, got {type(found).__name__}")
    return found  # type: ignore[no-any-return]


def inputs_of(said: Sequence[InputText], framework: str, seed: int) -> list[Any]:
    """Return the examples as the framework has them."""
    arrays = [example(each, seed + k) for k, each in enumerate(said)]
    if framework == "torch":
        from gradcheck.subjects.torch_function import tensor_of

        return [tensor_of(array) for array in arrays]
    if framework == "jax":
        from gradcheck.subjects.jax_function import array_of

        return [array_of(array) for array in arrays]
    return arrays


def write_report(result: Result, folder: Path) -> Path:
    """Write run.sqlite, evidence.json and the page of one result; return the page."""
    from gradcheck import evidence, report
    from gradcheck.document import RunInfo
    from gradcheck.runner import environment
    from gradcheck.runner.folder import EVIDENCE_FILE, RUN_FILE, prepare
    from gradcheck.runner.verify import now

    path = prepare(folder) / RUN_FILE
    info = RunInfo(
        started=(datetime.now(UTC) - timedelta(seconds=result.seconds)).strftime("%Y-%m-%dT%H:%M:%SZ"),
        profile="check",
        seed=0,
        versions=environment.versions(),
        machine=environment.machine(),
    )
    with evidence.Store.create(path, info, [each.cell for each in result.checks]) as store:
        record(result, store)
        store.finish(now())
        document = store.document()
        evidence.export(document, path.parent / EVIDENCE_FILE)
        return report.write(document, path.parent)


def record(result: Result, store: Any) -> None:
    """Write the checks of a result into a run, planning them where they are not planned yet."""
    store.plan_more([each.cell for each in result.checks])
    for each in result.checks:
        own = {finding.code: finding for finding in each.findings if finding.cell.id == each.cell.id}
        store.record(each.cell, each.evidence, own.values(), each.seconds)
