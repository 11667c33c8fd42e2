"""How torch spells a formula; the tables of the families are made of these."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Call:
    """How torch spells a formula: as a function, and as a module if there is one.

    `forms` are further spellings of the value alone, by the name of their check. `fixed` holds the options
    that torch does not take: it computes with these.
    """

    function: str
    module: str = ""
    forms: Mapping[str, str] = field(default_factory=dict)
    fixed: Mapping[str, Any] = field(default_factory=dict)

    def text(self, form: str) -> str:
        """Return the spelling called `form`."""
        return {"function": self.function, "module": self.module, **self.forms}[form]


F = "torch.nn.functional"
