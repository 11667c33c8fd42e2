"""Truth and bounds of a case, computed once for all subjects that meet the same case."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gradcheck.arithmetic.rounded import Model
from gradcheck.oracles.truth import Bounds, Query, Truth, bounds, truths

_KEPT = 160
_MEMORY: OrderedDict[Any, Reference] = OrderedDict()


@dataclass(frozen=True)
class Reference:
    """What every subject is compared with, one truth and one bound per output."""

    truths: tuple[Truth, ...]
    bounds: tuple[Bounds, ...]


def reference(query: Query) -> Reference:
    """Return truth and bounds of a query; the most recent ones are kept."""
    key = _key(query)
    if key in _MEMORY:
        _MEMORY.move_to_end(key)
        return _MEMORY[key]
    found = Reference(truths(query), bounds(query, Model(query.format)))
    _MEMORY[key] = found
    if len(_MEMORY) > _KEPT:
        _MEMORY.popitem(last=False)
    return found


def _key(query: Query) -> Any:
    arrays = [*query.inputs, *query.directions]
    if query.cotangent is not None:
        arrays.append(query.cotangent)
    return (
        query.formula,
        query.order,
        query.format,
        _hashable(query.options),
        tuple((array.shape, array.tobytes()) for array in arrays),
    )


def _hashable(options: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    return tuple(sorted((name, repr(value)) for name, value in options.items()))
