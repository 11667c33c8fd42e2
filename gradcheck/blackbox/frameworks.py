"""What each framework offers to the checks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from gradcheck.blackbox import programs
from gradcheck.blackbox.seen import Problem
from gradcheck.explain import BLACK_BOX
from gradcheck.formats import FLOAT16, Format
from gradcheck.records import Formula
from gradcheck.subjects import Implementation


class TorchSubject:
    """A PyTorch function or module."""

    offers = tuple(BLACK_BOX)
    flushes = False

    def __init__(
        self,
        f: Any,
        inputs: Sequence[Any],
        keywords: Mapping[str, Any],
        parameters: bool,
        watched: bool = True,
    ) -> None:
        from gradcheck.subjects import torch_probes, torch_state
        from gradcheck.subjects.torch_arguments import function_of
        from gradcheck.subjects.torch_process import facts

        self.function = function_of(f, inputs, keywords, parameters)
        self.probes: dict[str, Callable[..., Any]] = dict(torch_probes.PROBES)
        # Taken before the first call, and only if somebody will look at it again.
        around = facts() if watched else {}
        self.state: Callable[..., Any] | None = partial(torch_state.state, around=around)
        self._f = f

    def program(self, problem: Problem) -> str:
        """Return the program that shows a problem."""
        return programs.torch_program(self.function, self._f)(problem)

    def implementation(self, formula: Formula, fmt: Format, options: dict[str, Any]) -> Implementation:
        """Return the function as an implementation of a formula."""
        from gradcheck.subjects.torch import implementation_of

        return implementation_of(self.function.call, formula, fmt, options)

    def notes(self) -> tuple[str, ...]:
        """Return what was found out by trying."""
        return tuple(sorted(self.function.known.notes))


class NumpySubject:
    """A pair of NumPy functions: values, and vector-Jacobian products."""

    offers: tuple[str, ...] = (
        "jacobian",
        "state",
        "cotangents",
        "values",
        "layouts",
        "sizes",
        "formats",
        "reference",
    )
    flushes = False

    def __init__(self, f: Any, inputs: Sequence[Any], keywords: Mapping[str, Any], vjp: Any) -> None:
        from gradcheck.subjects import array_probes
        from gradcheck.subjects.array_pair import numpy_function
        from gradcheck.subjects.process import surroundings

        around = surroundings()
        self.function, self._arguments = numpy_function(f, vjp, inputs, keywords)
        self.probes: dict[str, Callable[..., Any]] = dict(array_probes.PROBES)
        self.state: Callable[..., Any] | None = partial(array_probes.state, around=around)
        self._f: Any = f
        self._vjp: Any = vjp

    def program(self, problem: Problem) -> str:
        """Return the program that shows a problem."""
        return programs.array_program(self._f, self._vjp, self.function, self._arguments)(problem)

    def implementation(self, formula: Formula, fmt: Format, options: dict[str, Any]) -> Implementation:
        """Return the function as an implementation of a formula."""
        return _implementation(self.function, formula, fmt, options, "numpy", flushes=False)

    def notes(self) -> tuple[str, ...]:
        """Return what was found out by trying."""
        return tuple(sorted(self.function.met.notes))


class JaxSubject:
    """A JAX function. Its arrays have no layout that it could depend on."""

    offers: tuple[str, ...] = tuple(name for name in BLACK_BOX if name != "layouts")
    # XLA on the CPU makes subnormal numbers zero, in and out, as JAX documents.
    flushes = True

    def __init__(self, f: Any, inputs: Sequence[Any], keywords: Mapping[str, Any]) -> None:
        from gradcheck.errors import MissingDependencyError

        try:
            from gradcheck.subjects import jax_probes
            from gradcheck.subjects.jax_function import jax_function

            around = jax_probes.surroundings()
        except ImportError as error:
            raise MissingDependencyError('JAX is not installed: pip install "gradcheck[jax]"') from error
        self.function, self._arguments = jax_function(f, inputs, keywords)
        self.probes: dict[str, Callable[..., Any]] = dict(jax_probes.PROBES)
        self.state: Callable[..., Any] | None = partial(jax_probes.state, around=around)
        self._f: Any = f

    def program(self, problem: Problem) -> str:
        """Return the program that shows a problem."""
        return programs.jax_program(self._f, self.function, self._arguments)(problem)

    def implementation(self, formula: Formula, fmt: Format, options: dict[str, Any]) -> Implementation:
        """Return the function as an implementation of a formula; XLA on the CPU flushes subnormal numbers."""
        return _implementation(self.function, formula, fmt, options, "jax", flushes=fmt is not FLOAT16)

    def notes(self) -> tuple[str, ...]:
        """Return what was found out by trying."""
        return tuple(sorted(self.function.met.notes))


def _implementation(
    function: Any, formula: Formula, fmt: Format, options: dict[str, Any], subject: str, flushes: bool
) -> Implementation:
    call, pull = function.call, function.pull

    def forward(inputs: tuple[Any, ...], given: Any) -> Any:
        outputs = tuple(np.asarray(o) for o in call(inputs))
        return outputs[0] if len(outputs) == 1 else outputs

    def vjp(inputs: tuple[Any, ...], cotangent: Any, given: Any) -> tuple[Any, ...]:
        parts = cotangent if isinstance(cotangent, tuple) else (cotangent,)
        gradients = iter(pull(inputs, parts))
        found = [next(gradients, None) if leaf.active else None for leaf in function.leaves]
        return tuple(None if g is None else np.asarray(g) for g in found)

    def second(inputs: tuple[Any, ...], cotangent: Any, directions: Any, given: Any) -> tuple[Any, ...]:
        parts = cotangent if isinstance(cotangent, tuple) else (cotangent,)
        _, again, _, _ = function.gradient(parts)
        along = [directions[place] for place in function.active]
        gradients = iter(again(inputs, along))
        found = [next(gradients, None) if leaf.active else None for leaf in function.leaves]
        return tuple(None if g is None else np.asarray(g) for g in found)

    return Implementation(
        formula=formula.name,
        subject=subject,
        format=fmt,
        forward=forward,
        vjp=vjp if formula.differentiable else None,
        second=second if formula.differentiable and function.gradient is not None else None,
        options=options,
        flushes=flushes,
    )
