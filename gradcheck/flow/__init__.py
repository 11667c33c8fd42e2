"""Where gradients vanish or explode: predicted, measured, found and explained.

Every public name is loaded when it is first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gradcheck.flow.prediction import Prediction, predict

__all__ = ["Prediction", "predict"]

_HOMES = {
    "Prediction": "gradcheck.flow.prediction",
    "predict": "gradcheck.flow.prediction",
}


def __getattr__(name: str) -> Any:
    """Import the module that holds a public name, once, and keep the name."""
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'gradcheck.flow' has no attribute {name!r}")
    value = getattr(importlib.import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
