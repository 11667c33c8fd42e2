"""The HTML report of a run: one self-contained file without scripts. Needs neither NumPy nor torch."""

from __future__ import annotations

from gradcheck.report.page import render, write

__all__ = ["render", "write"]
