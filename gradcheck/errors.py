"""Errors that a user can act on: what was expected, what came, what to do now."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class GradcheckError(Exception):
    """Base of every error that this package raises on purpose."""


class UsageError(GradcheckError, ValueError):
    """An argument, a name or a file that cannot be used as given (exit code 2)."""


class StorageError(GradcheckError, OSError):
    """A run file or a report folder that cannot be read or written (exit code 5)."""


class LockedError(GradcheckError):
    """Another run holds the folder (exit code 4)."""


class MissingDependencyError(GradcheckError, ImportError):
    """A library that a requested part needs is not installed."""


class UntrustworthyError(GradcheckError):
    """The truth engine is missing or the self-test misjudged an answer (exit code 6)."""


class Undecided(GradcheckError, ArithmeticError):
    """A comparison of enclosures that the precision at hand does not decide."""


class UnsupportedType(GradcheckError, TypeError):
    """An input of a formula of a type that it does not compute in; the message says how to convert it."""


class Unsupported(GradcheckError, TypeError):
    """A NumPy call that an arithmetic does not know; never answered by a guess."""


def unknown_name(kind: str, name: str, known: Iterable[str]) -> UsageError:
    """Return the error for a name that is not in a closed list, with the closest known names."""
    return UsageError(f"unknown {kind} {name!r}: {closest(name, known)}")


def closest(name: str, known: Iterable[str]) -> str:
    """Return the question after the known names that are closest, or all of them."""
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
    return f"did you mean {', '.join(map(repr, close))}?" if close else f"known: {', '.join(names)}"
