"""What each framework offers to the checks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from gradcheck.blackbox import programs
from gradcheck.blackbox.seen import Problem
from gradcheck.explain import BLACK_BOX
from gradcheck.formats import Format
from gradcheck.records import Formula
from gradcheck.subjects import Implementation


class TorchSubject:
    """A PyTorch function or module."""

    offers = tuple(BLACK_BOX)

    def __init__(self, f: Any, inputs: Sequence[Any], keywords: Mapping[str, Any], parameters: bool) -> None:
        from gradcheck.subjects import torch_probes
        from gradcheck.subjects.torch_function import function_of

        self.function = function_of(f, inputs, keywords, parameters)
        self.probes: dict[str, Callable[..., Any]] = dict(torch_probes.PROBES)
        self.state: Callable[..., Any] | None = partial(
            torch_probes.state, around=torch_probes.surroundings()
        )
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

    def __init__(self, f: Any, inputs: Sequence[Any], keywords: Mapping[str, Any], vjp: Any) -> None:
        from gradcheck.subjects import array_probes
        from gradcheck.subjects.array_function import numpy_function

        self.function = numpy_function(f, vjp, inputs, keywords)
        self.probes: dict[str, Callable[..., Any]] = dict(array_probes.PROBES)
        self.state: Callable[..., Any] | None = array_probes.state
        self._f: Any = f
        self._vjp: Any = vjp

    def program(self, problem: Problem) -> str:
        """Return the program that shows a problem."""
        return programs.array_program(self._f, self._vjp, self.function.leaf_names)(problem)

    def implementation(self, formula: Formula, fmt: Format, options: dict[str, Any]) -> Implementation:
        """Return the function as an implementation of a formula."""
        call, pull = self.function.call, self.function.pull

        def vjp(inputs: tuple[Any, ...], cotangent: Any, given: Any) -> tuple[Any, ...]:
            found = tuple(pull(inputs, cotangent))
            return found + (None,) * (len(inputs) - len(found))

        return Implementation(
            formula=formula.name,
            subject="numpy",
            format=fmt,
            forward=lambda inputs, given: call(inputs),
            vjp=vjp if formula.differentiable else None,
            options=options,
        )

    def notes(self) -> tuple[str, ...]:
        """Return what was found out by trying."""
        return tuple(sorted(self.function.met.notes))


class JaxSubject(NumpySubject):
    """A JAX function."""

    offers = (*NumpySubject.offers, "second-order")

    def __init__(self, f: Any, inputs: Sequence[Any], keywords: Mapping[str, Any]) -> None:
        from gradcheck.errors import MissingDependencyError
        from gradcheck.subjects import array_probes

        try:
            from gradcheck.subjects.jax_function import jax_function

            self.function = jax_function(f, inputs, keywords)
        except ImportError as error:
            raise MissingDependencyError('JAX is not installed: pip install "gradcheck[jax]"') from error
        self.probes: dict[str, Callable[..., Any]] = {"cotangents": array_probes.cotangents}
        self.state: Callable[..., Any] | None = array_probes.state
        self._f: Any = f

    def program(self, problem: Problem) -> str:
        """Return the program that shows a problem."""
        return programs.jax_program(self._f, self.function.leaf_names)(problem)
