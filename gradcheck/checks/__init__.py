"""What is checked: each check takes an implementation, its formula and a case, and returns evidence."""

from __future__ import annotations

from gradcheck.checks.examine import derivative, module, second, value
from gradcheck.checks.layout import layout
from gradcheck.checks.proof import proof
from gradcheck.checks.special import special
from gradcheck.checks.witness import witness

__all__ = ["derivative", "layout", "module", "proof", "second", "special", "value", "witness"]
