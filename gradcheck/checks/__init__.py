"""What is checked: each check takes an implementation, its formula and a case, and returns evidence."""

from __future__ import annotations

from gradcheck.checks.dropout import dropout
from gradcheck.checks.examine import derivative, module, second, value
from gradcheck.checks.laws import law
from gradcheck.checks.layout import layout
from gradcheck.checks.machine import machine
from gradcheck.checks.proof import proof
from gradcheck.checks.special import special
from gradcheck.checks.trajectory import trajectory
from gradcheck.checks.witness import witness

__all__ = [
    "derivative",
    "dropout",
    "law",
    "layout",
    "machine",
    "module",
    "proof",
    "second",
    "special",
    "trajectory",
    "value",
    "witness",
]
