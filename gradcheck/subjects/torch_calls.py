"""How torch spells a formula; the tables of the families are made of these."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Call:
    """How torch spells a formula: as a function, and as a module if there is one."""

    function: str
    module: str = ""


F = "torch.nn.functional"
