"""The same elements in other sizes and memory layouts.

Vector code treats the last elements of an array, a single element and strided memory by other paths. Every
layout is held to the bound; results that differ in their last bits alone are counted and noted.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from gradcheck.cases import SIZES, laid_out, laid_out_axes, layouts
from gradcheck.checks.examine import examine, factors
from gradcheck.compare import relative, with_context
from gradcheck.records import DERIVATIVE, ORDER_NAMES, VALUE, Array, Case, Evidence, Formula
from gradcheck.subjects.implementation import Implementation

# Of arrays with axes; those of images, (N, C, H, W), exist with the channels last as well.
_LAYOUTS = ("contiguous", "strided", "offset", "transposed", "read-only")


def layout(implementation: Implementation, formula: Formula, case: Case) -> Evidence:
    """Examine value and gradient of the case's leading elements in every size and layout."""
    if not formula.elementwise:
        return _several(implementation, formula, case)
    total, differing, seen = Evidence(), 0, 0
    bases = {order: examine(implementation, formula, _copy(case), order) for order in _orders(implementation)}
    for size in SIZES:
        first: bytes | None = None
        for name in layouts(size, implementation.negative_strides):
            part = _part(case, size, name)
            for order in _orders(implementation):
                where = f"size {size}, {name}"
                found = relative(examine(implementation, formula, part, order), bases[order], "contiguous")
                total = total.merge(with_context(found, f"{ORDER_NAMES[order]}, {where}"))
            output = _output(implementation, part)
            if output is not None:
                seen += 1
                differing += first is not None and output != first
                first = first or output
    note = (
        (f"{differing} of {seen} results differ in the last bits from another layout",) if differing else ()
    )
    return _as_one(total, case, note)


def _copy(case: Case) -> Case:
    """Return the case with arrays of its own: an implementation that writes to them spoils no other part."""
    return replace(case, inputs=tuple(array.copy() for array in case.inputs))


def _as_one(total: Evidence, case: Case, notes: tuple[str, ...]) -> Evidence:
    """Count the case once: a size-0 part is no vacuous draw of its own."""
    vacuous = int(total.compared == 0)
    families = {case.family: total.compared}
    return replace(total, cases=1, vacuous_cases=vacuous, families=families, notes=(*total.notes, *notes))


def _orders(implementation: Implementation) -> tuple[int, ...]:
    return (VALUE,) if implementation.vjp is None else (VALUE, DERIVATIVE)


def _part(case: Case, size: int, name: str) -> Case:
    flat = case.inputs[0].ravel()[:size]
    assert case.cotangent is not None
    cotangent = laid_out(case.cotangent.ravel()[:size], name)
    return replace(case, inputs=(laid_out(flat, name),), cotangent=cotangent, layout=name, specials=0)


def _output(implementation: Implementation, case: Case) -> bytes | None:
    try:
        return np.ascontiguousarray(implementation.forward(case.inputs, case.options)).tobytes()
    except Exception:
        return None  # examine has reported it


def _several(implementation: Implementation, formula: Formula, case: Case) -> Evidence:
    total = Evidence()
    bases = {order: examine(implementation, formula, _copy(case), order) for order in _orders(implementation)}
    images = any(array.ndim == 4 for array in case.inputs)
    for name in (*_LAYOUTS, "channels-last") if images else _LAYOUTS:
        inputs: tuple[Array, ...] = tuple(laid_out_axes(array, name) for array in case.inputs)
        part = replace(case, inputs=inputs, layout=name, detail=f"{case.detail}, {name}")
        if implementation.vjp is not None:
            part = replace(part, cotangent=laid_out_axes(factors(formula, case, DERIVATIVE)[0], name))
        for order in _orders(implementation):
            found = relative(examine(implementation, formula, part, order), bases[order], "contiguous")
            total = total.merge(found)
    return _as_one(total, case, ())
