"""Implementations under test, each behind one small adapter. Importing this imports no framework.

The list of all subjects, with the formulas and strategies that it needs, is loaded when it is first asked
for: a check of a user's function needs none of it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gradcheck.subjects.implementation import Implementation, Subject

if TYPE_CHECKING:
    from gradcheck.subjects.registry import SUBJECTS, get_subject


def __getattr__(name: str) -> Any:
    """Load the list of subjects."""
    if name not in ("SUBJECTS", "get_subject"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from gradcheck.subjects import registry

    return getattr(registry, name)


__all__ = ["SUBJECTS", "Implementation", "Subject", "get_subject"]
