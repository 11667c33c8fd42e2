"""How a package loads its public names when they are first used, so that importing it costs nothing."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any


def load(name: str, homes: Mapping[str, str], namespace: dict[str, Any]) -> Any:
    """Import the module that holds a public name, once, and keep the name in the package's `namespace`.

    `homes` gives the full name of that module; one that is called like the name is itself what is meant.
    Raises `AttributeError` for a name that has no home.
    """
    package, home = namespace["__name__"], homes.get(name)
    if home is None:
        raise AttributeError(f"module {package!r} has no attribute {name!r}")
    module = importlib.import_module(home)
    value = module if home == f"{package}.{name}" else getattr(module, name)
    namespace[name] = value
    return value
