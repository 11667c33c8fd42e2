"""Draws that depend on nothing but the run's settings and the version of Hypothesis.

Hypothesis replaces a twentieth of its draws by constants that it reads from the source of the modules loaded
at the time, those of the installed packages left out. So an edited source file, another order of imports, or
an editable install in place of a wheel would move the draws of a derandomised run, and with them what a run
finds only in rare cases. A run that explores keeps those constants: there they help.
"""

from __future__ import annotations

from typing import Any

from hypothesis.internal.conjecture.providers import AVAILABLE_PROVIDERS, HypothesisProvider

BACKEND = "gradcheck"


class SettledProvider(HypothesisProvider):
    """Hypothesis's own provider of choices, without constants from loaded modules."""

    def _maybe_draw_constant(self, *_: Any, **__: Any) -> None:
        return None


def settled() -> str:
    """Make the backend known to Hypothesis and return its name for `hypothesis.settings`."""
    AVAILABLE_PROVIDERS[BACKEND] = SettledProvider
    return BACKEND
