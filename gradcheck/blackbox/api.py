"""`gradcheck.check`: an oracle for a user's own function."""

from __future__ import annotations

import contextlib
import inspect
import io
import math
import sys
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from gradcheck.blackbox import programs
from gradcheck.blackbox.clock import Clock
from gradcheck.blackbox.domains import limited
from gradcheck.blackbox.oracle import Oracle
from gradcheck.blackbox.result import Checked, Result
from gradcheck.blackbox.running import Run, again, share_of
from gradcheck.blackbox.steps import steps_of
from gradcheck.errors import UsageError, unknown_name
from gradcheck.explain import BLACK_BOX
from gradcheck.records import Cell
from gradcheck.subjects.function import CallFailed, Resizable, raised_by
from gradcheck.subjects.nested import leaves

CHECKS = tuple(BLACK_BOX)
# Beyond, a few copies in float64 are more than the memory of most machines.
_MOST_NUMBERS = 10**8
# What holds no arrays of JAX.
_PLAIN = (int, float, str, bytes, type(None))


def check(
    f: Callable[..., Any],
    *inputs: Any,
    vjp: Callable[..., Any] | None = None,
    reference: str | Callable[..., Any] | None = None,
    options: Mapping[str, Any] | None = None,
    domain: Any = None,
    model: str | None = None,
    parameters: bool = True,
    framework: str | None = None,
    checks: Iterable[str] | None = None,
    max_seconds: float = 10.0,
    seed: int = 0,
    isolate: bool = False,
    **keywords: Any,
) -> Result:
    """Check the gradients of a function, and its values where there is a reference.

    `f` is a PyTorch function, `torch.autograd.Function.apply`, an `nn.Module`, a JAX function, or a NumPy
    function with `vjp(inputs, cotangent) -> gradients`. `inputs` are examples of what it takes: the values,
    sizes, layouts, formats and cotangents are varied from there. Where some tensors require gradients, those
    are differentiated, else all floating ones; other keywords are handed to `f`.

    `reference` is the name of a formula of the catalogue (its options in `options`) or a NumPy callable.
    `model` is the arithmetic that the reference is held to: "gradual-underflow", "flush-to-zero", or None
    for what the framework documents.

    `domain` says what numbers an input takes: "positive", "unit", "spd", "index(10)" for whole numbers below
    10, a pair (low, high) of which one may be infinite, or a Hypothesis strategy of numbers or of arrays of
    the example's shape; a list has one entry per input, a dict goes by names of inputs or parameters.
    `checks` chooses among `gradcheck.blackbox.CHECKS`; `("jacobian",)` is the classical gradient check.
    `max_seconds` is a ceiling: what it does not allow is unfinished and inconclusive. `isolate` runs
    everything in a process of its own, where a crash is a finding, and the function in a second one, whose
    answers have to be the same.

    Nothing of the caller is changed: tensors, seeds, flags and graph are as they were. Raises `UsageError`
    for what cannot be checked at all, with what to do.
    """
    started = time.monotonic()
    chosen = _chosen(checks, reference)
    _valid(f, max_seconds, model, reference)
    if isolate:
        from gradcheck.blackbox.isolation import isolated

        return isolated(
            f,
            inputs,
            dict(
                vjp=vjp,
                reference=reference,
                options=options,
                domain=domain,
                model=model,
                parameters=parameters,
                framework=framework,
                checks=tuple(chosen),
                max_seconds=max_seconds,
                seed=seed,
                **keywords,
            ),
        )
    items = list(_items((inputs, keywords)))
    kind = framework or _framework(f, inputs, items, vjp)
    _affordable(items)
    # A classical gradient check is no place to pay for a copy of the environment.
    with _as_before(kind, environment="state" in chosen):
        subject = _subject(kind, f, inputs, keywords, vjp, parameters, "state" in chosen)
        subject.function, limits = limited(subject.function, domain, f, seed)
        function: Resizable = subject.function
        _callable(function)
        oracle = Oracle(
            function=function,
            limits=limits,
            seed=seed,
            clock=Clock(started + max_seconds),
            probes=subject.probes,
            state=subject.state,
        )
        names = [name for name in chosen if name in subject.offers or name == "reference"]
        flat = _run(
            oracle,
            names,
            Cell(programs.name_of(f), kind, "float64", ""),
            partial(_against, oracle, subject, reference, options or {}, model),
            subject.program,
        )
    skipped = [name for name in chosen if name not in subject.offers and name != "reference"]
    notes = [f"{name}: not for {kind}" for name in skipped] if checks is not None else []
    # What the function does not offer, a forward mode say, was not run: it is told, and is no verdict.
    notes += [f"{c.cell.check}: {note}" for c in flat if _idle(c) for note in c.evidence.notes[:1]]
    kept = tuple(each for each in flat if not _idle(each))
    return Result(programs.name_of(f), kind, kept, time.monotonic() - started, (*notes, *subject.notes()))


def prepared(f: Any, inputs: Sequence[Any], arguments: Mapping[str, Any]) -> Resizable:
    """Return the function that `check` with these arguments looks at."""
    known = set(inspect.signature(check).parameters)
    keywords = {name: value for name, value in arguments.items() if name not in known}
    vjp = arguments.get("vjp")
    kind = arguments.get("framework") or _framework(f, inputs, list(_items((inputs, keywords))), vjp)
    with _as_before(kind):
        subject = _subject(kind, f, inputs, keywords, vjp, arguments.get("parameters", True), False)
        function: Resizable = subject.function
        return function


def _against(
    oracle: Oracle, subject: Any, reference: Any, options: Mapping[str, Any], model: str | None, cell: Cell
) -> list[Checked]:
    from gradcheck.blackbox.reference import against

    return against(oracle, subject, reference, dict(options), cell, model)


def _idle(each: Checked) -> bool:
    evidence = each.evidence
    return not (evidence.compared or evidence.undecided or each.findings or evidence.unfinished)


def assert_correct(f: Callable[..., Any], *inputs: Any, **same: Any) -> None:
    """Raise `AssertionError` with the text of the result unless `check(f, *inputs, **same)` is ok."""
    __tracebackhide__ = True
    result = check(f, *inputs, **same)
    if not result.ok:
        raise AssertionError(str(result))


def _chosen(checks: Iterable[str] | None, reference: Any) -> list[str]:
    if checks is None:
        return [name for name in CHECKS if name != "reference" or reference is not None]
    named = (checks,) if isinstance(checks, str) else tuple(checks)
    for name in named:
        if name not in CHECKS:
            raise unknown_name("check", name, CHECKS)
    if not named:
        raise UsageError("checks: expected at least one name, got none; leave it out for all of them")
    if "reference" in named and reference is None:
        raise UsageError('checks: "reference" needs the argument reference=, a formula or a NumPy function')
    return [name for name in CHECKS if name in named or (name == "reference" and reference is not None)]


def _valid(f: Any, max_seconds: float, model: str | None, reference: Any) -> None:
    if not callable(f):
        raise UsageError(
            f"f: expected a function to check, got {type(f).__name__}; pass it without calling it"
        )
    if not (isinstance(max_seconds, int | float) and max_seconds > 0):
        raise UsageError(f"max_seconds: expected a positive number of seconds, got {max_seconds!r}")
    if model is not None:
        from gradcheck.blackbox.reference import flush_of

        flush_of(model)
        if reference is None:
            raise UsageError("model: is that of the check against a reference; give reference= as well")


def _framework(f: Any, inputs: Sequence[Any], items: Sequence[Any], vjp: Any) -> str:
    kinds = set(map(_kind, items)) - {""}
    if _is_module(f):
        return "torch"
    if kinds == {"jax", "numpy"} or (kinds == {"numpy"} and vjp is None and _is_of_jax(f)):
        # JAX takes arrays of NumPy as its own.
        return "jax"
    if len(kinds) > 1:
        raise UsageError(f"inputs of several frameworks: {', '.join(sorted(kinds))}; convert them to one")
    if not kinds and vjp is not None and any(isinstance(item, np.generic) for item in items):
        return "numpy"
    if kinds == {"numpy"} and vjp is None:
        raise UsageError(
            "NumPy inputs: expected vjp=, a function (inputs, cotangent) -> gradients, got none; "
            "pass tensors for a PyTorch function, or framework= if the function takes NumPy arrays by itself"
        )
    if not kinds:
        got = ", ".join(type(item).__name__ for item in inputs) or "no inputs"
        raise UsageError(f"expected at least one array or tensor as an example input, got {got}")
    return kinds.pop()


def _affordable(items: Sequence[Any]) -> None:
    """Refuse what no check could hold, before anything is copied."""
    numbers = sum(math.prod(item.shape) for item in items if _kind(item))
    if numbers > _MOST_NUMBERS:
        raise UsageError(
            f"the inputs have {numbers:,} numbers, some {numbers * 80 / 1e9:,.0f} GB in a check; "
            f"give an example of at most {_MOST_NUMBERS:,}, other sizes are tried by themselves"
        )


def _items(item: Any) -> Iterator[Any]:
    for leaf in leaves(item):
        if "jax" in sys.modules and _kind(leaf) == "" and not isinstance(leaf, _PLAIN):
            from gradcheck.subjects.jax_function import arrays_in

            yield from arrays_in(leaf)
        yield leaf


def _kind(item: Any) -> str:
    kind = type(item)
    if kind not in _KINDS:
        _KINDS[kind] = _kind_of(kind)
    return _KINDS[kind]


_KINDS: dict[type, str] = {}


def _kind_of(kind: type) -> str:
    for owner in kind.__mro__:
        root = owner.__module__.partition(".")[0]
        if root == "torch" and owner.__name__ == "Tensor":
            return "torch"
        if root in ("jax", "jaxlib") and "Array" in owner.__name__:
            return "jax"
        if root == "numpy" and owner.__name__ == "ndarray":
            return "numpy"
    return ""


def _is_of_jax(f: Any) -> bool:
    owners = (getattr(f, "__module__", None) or "", type(f).__module__)
    return any(name.partition(".")[0] in ("jax", "jaxlib") for name in owners)


def _is_module(f: Any) -> bool:
    return any(
        owner.__module__.startswith("torch.nn") and owner.__name__ == "Module" for owner in type(f).__mro__
    )


def _subject(
    kind: str,
    f: Any,
    inputs: Sequence[Any],
    keywords: Mapping[str, Any],
    vjp: Any,
    parameters: bool,
    watched: bool,
) -> Any:
    if vjp is not None and kind in ("torch", "jax"):
        raise UsageError(f"vjp: is for NumPy functions; the gradients of {kind} come from {kind} itself")
    if kind == "torch":
        from gradcheck.blackbox.frameworks import TorchSubject

        return TorchSubject(f, inputs, keywords, parameters, watched)
    if kind == "numpy":
        from gradcheck.blackbox.frameworks import NumpySubject

        return NumpySubject(f, inputs, keywords, vjp)
    if kind == "jax":
        from gradcheck.blackbox.frameworks import JaxSubject

        return JaxSubject(f, inputs, keywords)
    raise unknown_name("framework", kind, ("torch", "numpy", "jax"))


def _callable(function: Resizable) -> None:
    """Call once; what cannot be called at the example is refused with what it said."""
    try:
        _ = function.size
    except CallFailed as error:
        cause = error.__cause__ or error
        raise UsageError(f"the function fails at the example inputs: {raised_by(cause)}") from cause


@contextlib.contextmanager
def _as_before(kind: str, environment: bool = True) -> Iterator[None]:
    """Leave seeds, modes and warnings as they were, and the environment of the process."""
    from gradcheck.subjects.process import as_before

    # A function that prints does so thousands of times.
    with (
        warnings.catch_warnings(),
        np.errstate(all="ignore"),
        contextlib.redirect_stdout(_Silent()),
        as_before(environment),
        _settings_as_before(kind),
    ):
        warnings.simplefilter("ignore")
        yield


def _settings_as_before(kind: str) -> AbstractContextManager[None]:
    if kind == "torch":
        from gradcheck.subjects.torch_process import as_before

        return as_before()
    if kind == "jax" and "jax" in sys.modules:
        from gradcheck.subjects.jax_function import settings_as_before

        return settings_as_before()
    return contextlib.nullcontext()


class _Silent(io.TextIOBase):
    """A text stream that keeps nothing."""

    def write(self, text: str) -> int:
        """Take a text and forget it."""
        return len(text)


def _run(
    oracle: Oracle, names: Sequence[str], cell: Cell, against: Callable[[Cell], list[Checked]], program: Any
) -> list[Checked]:
    """Run the checks, then those again that were short of time; the reference is a check of its own."""
    begun: list[Run | list[Checked]] = []
    for name in names:
        own = replace(cell, check=name)
        clock = share_of(oracle, name)
        if name == "reference":
            with oracle.within(clock):
                begun.append(against(own))
            continue
        run = Run(oracle, own, steps_of(oracle, name))
        run.go(clock)
        run.shrink()
        begun.append(run)
    again(oracle, [each for each in begun if isinstance(each, Run)])
    groups = [[each.checked(program)] if isinstance(each, Run) else each for each in begun]
    return [each for group in groups for each in group]
