"""What PyTorch's machinery can break though a Jacobian is right: layouts, cotangents, modes, state.

Every probe returns how many numbers it compared, and the disagreements as (message, got, expected) with the
worst number of each. What the function does not offer (a forward mode, say) is a note.
"""

from __future__ import annotations

import os
import random
import warnings
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from gradcheck.subjects.function import CallFailed, Point, Vector, raised_by
from gradcheck.subjects.probing import Found, signed
from gradcheck.subjects.torch_function import TorchFunction, joined

if TYPE_CHECKING:
    from torch import Tensor

# Some hundred units in the last place, as what cancels was larger on the way, over the 1e-9 of a scale that
# numbers are compared to.
_CANCELLED = 256 * 2.0**-52 / 1e-9
LAYOUTS = ("transposed", "strided", "offset", "channels-last", "expanded")


def _cotangents(outputs: Sequence[Tensor], flat: Vector) -> list[Tensor]:
    import torch

    made, start = [], 0
    for output in outputs:
        part = torch.from_numpy(np.array(flat[start : start + output.numel()]))
        made.append(part.reshape(output.shape).to(output.dtype))
        start += output.numel()
    return made


def _run(
    function: TorchFunction, leaves: list[Tensor], cotangents: Callable[[list[Tensor]], list[Tensor]]
) -> tuple[Vector, list[Vector]]:
    """Return outputs and gradients of one plain call; missing gradients are zeros."""
    import torch

    with torch.enable_grad():
        wanted = [leaves[p] for p in function.active]
        for leaf in wanted:
            if leaf.is_leaf:
                leaf.requires_grad_()
        outputs = function.outputs(leaves)
        live = [k for k, o in enumerate(outputs) if o.requires_grad]
        if not live:
            return joined(outputs), [np.zeros(x.numel()) for x in wanted]
        given = cotangents(outputs)
        try:
            grads = torch.autograd.grad(
                [outputs[k] for k in live], wanted, [given[k] for k in live], allow_unused=True
            )
        except Exception as error:
            raise CallFailed(str(error)) from error
    return joined(outputs), [
        np.zeros(x.numel()) if g is None else joined([g]) for g, x in zip(grads, wanted, strict=True)
    ]


def _plain(function: TorchFunction, point: Point, flat: Vector) -> tuple[Vector, list[Vector]]:
    return _run(function, function.tensors(point), lambda outputs: _cotangents(outputs, flat))


def cotangents(function: TorchFunction, point: Point, seed: int) -> Found:
    """Zero, expanded, strided, reused, added and accumulated cotangents."""
    import torch

    found = Found()
    names = [axes.name for axes in function.inputs]
    first, second = signed(seed, function.size), signed(seed + 1, function.size)
    values, base = _plain(function, point, first)
    _, other = _plain(function, point, second)
    least = _rounding(values, point, first)
    scale = [np.abs(a) + np.abs(b) + c for a, b, c in zip(base, other, least, strict=True)]

    def against(what: str, got: list[Vector], expected: list[Vector]) -> None:
        for name, one, two, size in zip(names, got, expected, scale, strict=True):
            found.compare(f"gradient of {name} for {what}", one, two, size)

    _, added = _plain(function, point, first + 2 * second)
    against("the sum of two cotangents is not the sum of the gradients", added,
            [a + 2 * b for a, b in zip(base, other, strict=True)])  # fmt: skip
    power = _power(function, point)
    _, small = _plain(function, point, first * 2.0**-power)
    against(f"a cotangent scaled by 2^-{power} is not scaled alike", [g * 2.0**power for g in small], base)
    _, large = _plain(function, point, first * 2.0**power)
    against(f"a cotangent scaled by 2^{power} is not scaled alike", [g * 2.0**-power for g in large], base)
    _, none = _plain(function, point, 0 * first)
    against("a zero cotangent is not zero", none, [0 * g for g in base])

    def strided(outputs: list[Tensor]) -> list[Tensor]:
        return [_strided(c) for c in _cotangents(outputs, first)]

    _, apart = _run(function, function.tensors(point), strided)
    against("a cotangent with strides differs from that of a contiguous one", apart, base)

    def turned(outputs: list[Tensor]) -> list[Tensor]:
        return [_transposed(c) for c in _cotangents(outputs, first)]

    _, across = _run(function, function.tensors(point), turned)
    against("a transposed cotangent differs from that of a contiguous one", across, base)

    def one_number(outputs: list[Tensor]) -> list[Tensor]:
        return [torch.ones((), dtype=o.dtype).expand(o.shape) for o in outputs]

    _, expanded = _run(function, function.tensors(point), one_number)
    _, ones = _plain(function, point, np.ones(function.size))
    against("an expanded cotangent differs from that of a full one", expanded, ones)
    _twice(function, point, first, base, found, names)
    _accumulated(function, point, first, base, found, names)
    return found


def _rounding(values: Vector, point: Point, flat: Vector) -> list[float]:
    """Return, for each input, the scale at which a gradient that cancels to nothing is compared.

    Values of size y that change over distances of size x have slopes of the order of y/x; where all of them
    cancel, some rounding errors of that size are left. Scales are multiplied by 1e-9 where they are used.
    """
    finite = np.where(np.isfinite(values), values, 0.0)
    weight = float(np.abs(finite * flat).sum())
    typical = [float(np.abs(x[np.isfinite(x)]).max(initial=0.0)) for x in point]
    return [_CANCELLED * weight / size if size > 0 else 0.0 for size in typical]


def _power(function: TorchFunction, point: Point) -> int:
    """Return the power of two that a cotangent is scaled by, far inside of the range of all outputs."""
    import torch

    with torch.no_grad():
        ranges = [torch.finfo(o.dtype) for o in function.outputs(function.tensors(point))]
    return 30 if all(each.max > 2.0**90 for each in ranges) else 5


def _twice(
    function: TorchFunction, point: Point, flat: Vector, base: list[Vector], found: Found, names: list[str]
) -> None:
    """Use one cotangent twice on one graph; it must not be written to, and the answer must be the same."""
    import torch

    with torch.enable_grad():
        leaves = function.tensors(point)
        wanted = [leaves[p].requires_grad_() for p in function.active]
        outputs = function.outputs(leaves)
        live = [k for k, o in enumerate(outputs) if o.requires_grad]
        if not live:
            return
        given = _cotangents(outputs, flat)
        before = [c.clone() for c in given]
        results = [outputs[k] for k in live]
        for attempt in ("first", "second"):
            grads = torch.autograd.grad(
                results, wanted, [given[k] for k in live], retain_graph=True, allow_unused=True
            )
            if any(not torch.equal(a, b) for a, b in zip(given, before, strict=True)):
                found.fault("the backward pass writes into the cotangent", "mutation")
                return
            for name, g, x, expected in zip(names, grads, wanted, base, strict=True):
                got = np.zeros(x.numel()) if g is None else joined([g])
                found.compare(
                    f"gradient of {name} in the {attempt} backward pass of one graph", got, expected
                )


def _accumulated(
    function: TorchFunction, point: Point, flat: Vector, base: list[Vector], found: Found, names: list[str]
) -> None:
    """Two calls of backward add up in `.grad`, and what is there is not overwritten."""
    import torch

    with torch.enable_grad():
        leaves = function.tensors(point)
        wanted = [leaves[p].requires_grad_() for p in function.active]
        for _ in range(2):
            outputs = function.outputs(leaves)
            live = [k for k, o in enumerate(outputs) if o.requires_grad]
            if not live:
                return
            given = _cotangents(outputs, flat)
            try:
                torch.autograd.backward([outputs[k] for k in live], [given[k] for k in live], inputs=wanted)
            except Exception as error:
                found.fault(f"gradients cannot be added up in `.grad`: {raised_by(error)}", "raised")
                return
        for name, x, expected in zip(names, wanted, base, strict=True):
            got = np.zeros(x.numel()) if x.grad is None else joined([x.grad])
            found.compare(f"gradient of {name} after two backward passes, halved", got / 2, expected)


def subsets(function: TorchFunction, point: Point, seed: int) -> Found:
    """Each input alone requires a gradient; its gradient is the one that it has together with the others."""
    import torch

    found = Found()
    flat = signed(seed, function.size)
    _, base = _plain(function, point, flat)
    if len(base) < 2:
        found.note("one input: there is no subset to try")
        return found
    masks: list[tuple[int, ...]] = [(k,) for k in range(len(base))]
    masks += [tuple(j for j in range(len(base)) if j != k) for k in range(len(base))] if len(base) > 2 else []
    for mask in masks[:24]:
        names = ", ".join(function.inputs[k].name for k in mask)
        try:
            with torch.enable_grad():
                leaves = function.tensors(point)
                wanted = [leaves[function.active[k]].requires_grad_() for k in mask]
                outputs = function.outputs(leaves)
                live = [k for k, o in enumerate(outputs) if o.requires_grad]
                given = _cotangents(outputs, flat)
                grads: Sequence[Any] = (None,) * len(wanted)
                if live:
                    grads = torch.autograd.grad(
                        [outputs[k] for k in live], wanted, [given[k] for k in live], allow_unused=True
                    )
        except Exception as error:
            cause = error.__cause__ or error
            found.fault(f"where only {names} requires a gradient: {raised_by(cause)}", "raised")
            continue
        for k, g, x in zip(mask, grads, wanted, strict=True):
            got = np.zeros(x.numel()) if g is None else joined([g])
            name = function.inputs[k].name
            found.compare(f"gradient of {name} where only {names} requires a gradient", got, base[k])
    return found


def forward_mode(function: TorchFunction, point: Point, seed: int) -> Found:
    """Forward mode and reverse mode are adjoint: v·(J d) = (v·J)·d for each input and each output."""
    import torch
    from torch.autograd import forward_ad

    found = Found()
    flat = signed(seed, function.size)
    values, base = _plain(function, point, flat)
    least = _rounding(values, point, flat)
    for k, place in enumerate(function.active):
        leaves = function.tensors(point)
        direction = signed(seed + 3 + k, leaves[place].numel())
        tangent = torch.from_numpy(direction).reshape(leaves[place].shape).to(leaves[place].dtype)
        try:
            with forward_ad.dual_level():
                leaves[place] = forward_ad.make_dual(leaves[place], tangent)
                outputs = function.outputs(leaves)
                duals = [forward_ad.unpack_dual(o) for o in outputs]
                parts = [
                    torch.zeros_like(d.primal) if d.tangent is None else d.tangent.clone() for d in duals
                ]
                lost = all(d.tangent is None for d in duals)
        except Exception as error:
            cause = error.__cause__ or error
            if isinstance(cause, NotImplementedError | RuntimeError):
                found.note(f"no forward mode: {raised_by(cause)}")
            else:
                found.fault(f"forward mode: {raised_by(cause)}", "raised")
            return found
        if lost and np.abs(base[k]).max(initial=0.0) > 0:
            found.note(f"no forward mode with respect to {function.inputs[k].name}: the tangent is dropped")
            continue
        pushed = joined(parts)
        got, expected = np.array([pushed @ flat]), np.array([base[k] @ direction])
        scale = np.array([np.abs(base[k]).sum() + np.abs(pushed).sum() + least[k] * direction.size])
        found.compare(
            f"forward mode along {function.inputs[k].name}: v·(J d) against (v·J)·d", got, expected, scale
        )
    return found


def batched(function: TorchFunction, point: Point, seed: int) -> Found:
    """Gradients of a batch of cotangents under vmap are those of a loop."""
    import torch

    found = Found()
    flats = [signed(seed + k, function.size) for k in range(3)]
    with torch.enable_grad():
        leaves = function.tensors(point)
        wanted = [leaves[p].requires_grad_() for p in function.active]
        outputs = function.outputs(leaves)
        live = [k for k, o in enumerate(outputs) if o.requires_grad]
        if not live:
            return found
        results = [outputs[k] for k in live]
        each = [_cotangents(outputs, flat) for flat in flats]
        stacked = [torch.stack([given[k] for given in each]) for k in live]
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                together = torch.autograd.grad(
                    results, wanted, stacked, is_grads_batched=True, retain_graph=True, allow_unused=True
                )
        except Exception as error:
            found.note(f"no batched gradients: {raised_by(error)}")
            return found
        for k, given in enumerate(each):
            alone = torch.autograd.grad(
                results, wanted, [given[j] for j in live], retain_graph=True, allow_unused=True
            )
            for axes, g, single, x in zip(function.inputs, together, alone, wanted, strict=True):
                got = np.zeros(x.numel()) if g is None else joined([g[k]])
                expected = np.zeros(x.numel()) if single is None else joined([single])
                found.compare(f"gradient of {axes.name} under vmap, cotangent {k}", got, expected)
    return found


def layouts(function: TorchFunction, point: Point, seed: int) -> Found:
    """The same numbers in other memory give the same outputs and gradients."""
    found = Found()
    flat = signed(seed, function.size)
    values, base = _plain(function, point, flat)
    for k, place in enumerate(function.active):
        for layout in LAYOUTS:
            leaves = function.tensors(point)
            name = function.inputs[k].name
            laid = laid_out(leaves[place], layout)
            if laid is None:
                continue
            expected_values, expected = values, base
            if layout == "expanded":
                # Equal numbers along one axis: compare with the same numbers written out.
                written = list(point)
                written[k] = joined([laid])
                try:
                    expected_values, expected = _plain(function, tuple(written), flat)
                except CallFailed:
                    # Equal rows are no input of this function: a matrix that is singular, say.
                    continue
                if not all(np.isfinite(x).all() for x in (expected_values, *expected)):
                    continue
            leaves[place] = laid
            try:
                got_values, got = _run(function, leaves, lambda outputs: _cotangents(outputs, flat))
            except Exception as error:
                cause = error.__cause__ or error
                if any(word in str(cause) for word in ("view", "contiguous", "stride", "storage_offset")):
                    found.note(f"refuses a {layout} {name}: {raised_by(cause)}")
                else:
                    found.fault(f"{name} {layout}: {raised_by(cause)}", "raised")
                continue
            usual = np.abs(values[np.isfinite(values)]).max(initial=0.0)
            found.compare(f"values with {name} {layout}", got_values, expected_values, usual)
            for axes, one, two, plain in zip(function.inputs, got, expected, base, strict=True):
                usual = np.abs(plain[np.isfinite(plain)]).max(initial=0.0)
                if layout == "expanded" and axes.name == name and one.shape == two.shape:
                    # Which of equal numbers a sort or a maximum takes may change with the memory.
                    one, two = (np.sort(g.reshape(axes.shape), axis=0).ravel() for g in (one, two))
                found.compare(f"gradient of {axes.name} with {name} {layout}", one, two, usual)
    return found


def laid_out(x: Tensor, layout: str) -> Tensor | None:
    """Return the numbers of x in another memory layout, or None where x has no such layout."""
    import torch

    if layout == "transposed":
        return _transposed(x) if x.dim() > 1 and min(x.shape) > 1 else None
    if layout == "strided":
        return _strided(x) if x.dim() else None
    if layout == "offset":
        buffer = torch.zeros(x.numel() + 3, dtype=x.dtype)
        buffer[3:] = x.reshape(-1)
        return buffer[3:].reshape(x.shape)
    if layout == "channels-last":
        return x.contiguous(memory_format=torch.channels_last) if x.dim() == 4 else None
    if x.dim() == 0 or x.shape[0] < 2:
        return None
    return x[:1].clone().expand(x.shape)


def _strided(x: Tensor) -> Tensor:
    import torch

    if not x.dim():
        return x
    buffer = torch.full((*x.shape[:-1], 2 * x.shape[-1]), 7.0, dtype=x.dtype)
    buffer[..., ::2] = x
    return buffer[..., ::2]


def _transposed(x: Tensor) -> Tensor:
    return x.transpose(0, -1).contiguous().transpose(0, -1) if x.dim() > 1 else x


def state(
    function: TorchFunction, point: Point, other: Point, seed: int, around: dict[str, Any] | None = None
) -> Found:
    """Calls leave inputs, earlier outputs and the process alone, and repeat themselves.

    `around` is what `surroundings` was before the function was called for the first time.
    """
    import torch

    found = Found()
    around = around or surroundings()
    function.outputs(function.tensors(point))
    _left(around, function, point, found)
    _first_calls(function, point, other, found)
    flat = signed(seed, function.size)
    leaves = function.tensors(point)
    before = [leaf.clone() for leaf in leaves]
    with torch.no_grad():
        kept = function.outputs(leaves)
        first = joined(kept)
        _unchanged(function, leaves, before, found, "the call")
        for _ in range(3):
            again = joined(function.outputs(function.tensors(point)))
            if again.shape != first.shape or not np.array_equal(again, first, equal_nan=True):
                found.compare("the same call again", again, first)
        joined(function.outputs(function.tensors(other)))
        if not np.array_equal(joined(kept), first, equal_nan=True):
            found.fault("an output changes when the function is called again: its memory is reused", "reused")
        found.compare("the same call after another", joined(function.outputs(function.tensors(point))), first)
    _aliases(function, leaves, kept, found)
    _, once = _plain(function, point, flat)
    _plain(function, other, flat)
    _, twice = _plain(function, point, flat)
    for axes, one, two in zip(function.inputs, once, twice, strict=True):
        found.compare(f"gradient of {axes.name} after another call", two, one)
    leaves = function.tensors(point)
    before = [leaf.clone() for leaf in leaves]
    _run(function, leaves, lambda outputs: _cotangents(outputs, flat))
    _unchanged(function, leaves, before, found, "the backward pass")
    interleaved(function, point, other, flat, once, found)
    return found


def _left(around: dict[str, Any], function: TorchFunction, point: Point, found: Found) -> None:
    """Compare the state of the process with what it was; drawing random numbers is no fault of its own."""
    import torch

    now = surroundings()
    changed = [name for name, value in now.items() if value != around[name]]
    torch.set_grad_enabled(bool(around["the gradient mode"]))
    torch.set_default_dtype(around["the default dtype of PyTorch"])
    drawn = [name for name in changed if name.startswith("the random state")]
    if drawn:
        with torch.no_grad():
            again = [joined(function.outputs(function.tensors(point))) for _ in range(2)]
        if not np.array_equal(again[0], again[1], equal_nan=True):
            changed = [name for name in changed if name not in drawn]
    for name in changed:
        found.fault(f"the call changes {name} of the process", "state")


def _first_calls(function: TorchFunction, point: Point, other: Point, found: Found) -> None:
    """What the first call of a fresh copy answers is what every later call answers."""
    import torch

    with torch.no_grad():
        for name, at in (("another input", other), ("the example", point)):
            fresh = function.fresh()
            if fresh is None:
                return
            first = joined(fresh.outputs(fresh.tensors(at)))
            joined(function.outputs(function.tensors(point)))
            later = joined(function.outputs(function.tensors(at)))
            found.compare(f"the first call of a fresh copy, at {name}", later, first)


def interleaved(
    function: TorchFunction, point: Point, other: Point, flat: Vector, expected: list[Vector], found: Found
) -> None:
    """Two graphs at once: the second call must not touch what the first one saved."""
    import torch

    with torch.enable_grad():
        leaves = function.tensors(point)
        wanted = [leaves[p].requires_grad_() for p in function.active]
        outputs = function.outputs(leaves)
        between = function.tensors(other)
        function.outputs([x.requires_grad_(k in function.active) for k, x in enumerate(between)])
        live = [k for k, o in enumerate(outputs) if o.requires_grad]
        if not live:
            return
        given = _cotangents(outputs, flat)
        grads = torch.autograd.grad(
            [outputs[k] for k in live], wanted, [given[k] for k in live], allow_unused=True
        )
    for axes, g, x, two in zip(function.inputs, grads, wanted, expected, strict=True):
        got = np.zeros(x.numel()) if g is None else joined([g])
        found.compare(f"gradient of {axes.name} when another call came before the backward pass", got, two)


def _unchanged(
    function: TorchFunction, leaves: list[Tensor], before: list[Tensor], found: Found, who: str
) -> None:
    import torch

    for leaf, x, old in zip(function.leaves, leaves, before, strict=True):
        same = torch.equal(x.detach(), old) or (
            x.shape == old.shape and bool(((x.detach() == old) | (x.detach() != x.detach())).all())
        )
        if not same:
            found.fault(f"{who} writes into {leaf.name}", "mutation")


def _aliases(function: TorchFunction, leaves: list[Tensor], outputs: list[Tensor], found: Found) -> None:
    for leaf, x in zip(function.leaves, leaves, strict=True):
        for output in outputs:
            shared = output.untyped_storage().data_ptr() == x.untyped_storage().data_ptr()
            if shared and x.numel() and output.numel():
                found.note(f"an output shares the memory of {leaf.name}")


def surroundings() -> dict[str, Any]:
    """Return the state of the process that a call could change."""
    import torch

    return {
        "the random state of PyTorch": torch.random.get_rng_state().numpy().tobytes(),
        "the random state of NumPy": _numpy_state(),
        "the random state of Python": random.getstate(),
        "the default dtype of PyTorch": torch.get_default_dtype(),
        "the gradient mode": torch.is_grad_enabled(),
        "the number of threads": torch.get_num_threads(),
        "the flag for deterministic algorithms": torch.are_deterministic_algorithms_enabled(),
        "the flag for anomaly detection": torch.is_anomaly_enabled(),
        "the rounding of subnormal numbers": float(torch.tensor(2.0**-1070, dtype=torch.float64) * 1.0),
        "NumPy's error handling": tuple(sorted(np.geterr().items())),
        "the working directory": os.getcwd(),
        "the environment": tuple(sorted(os.environ.items())),
        "the warning filters": len(warnings.filters),
    }


def _numpy_state() -> bytes:
    # The legacy global generator is what a user's function would have touched.
    kind: Any = np.random.get_state(legacy=True)
    return bytes(np.asarray(kind[1]).tobytes()) + str(kind[2]).encode()


def second_cotangent(function: TorchFunction, point: Point, seed: int) -> Found:
    """The gradient is linear in its cotangent and carries a gradient to it: J times a direction."""
    import torch

    found = Found()
    flat = signed(seed, function.size)
    directions = [signed(seed + 7 + k, axes.size) for k, axes in enumerate(function.inputs)]
    with torch.enable_grad():
        leaves = function.tensors(point)
        wanted = [leaves[p].requires_grad_() for p in function.active]
        outputs = function.outputs(leaves)
        live = [k for k, o in enumerate(outputs) if o.requires_grad]
        if not live:
            return found
        given = [c.requires_grad_() for c in _cotangents(outputs, flat)]
        try:
            grads = torch.autograd.grad(
                [outputs[k] for k in live],
                wanted,
                [given[k] for k in live],
                create_graph=True,
                allow_unused=True,
            )
            pairs = [
                (g, d) for g, d in zip(grads, directions, strict=True) if g is not None and g.requires_grad
            ]
            if not pairs:
                found.note("no double backward pass with respect to the cotangent")
                return found
            total = sum((g.reshape(-1) * torch.from_numpy(d)).sum() for g, d in pairs)
            back = torch.autograd.grad(total, [given[k] for k in live], allow_unused=True)
        except Exception as error:
            found.note(f"no double backward pass with respect to the cotangent: {raised_by(error)}")
            return found
    pushed = np.zeros(function.size)
    starts = np.cumsum([0, *(o.numel() for o in outputs)])
    for k, b in zip(live, back, strict=True):
        if b is not None:
            pushed[starts[k] : starts[k + 1]] = joined([b])
    for attempt in range(3):
        other = signed(seed + 17 + attempt, function.size)
        values, base = _plain(function, point, other)
        got, expected = pushed @ other, sum(float(g @ d) for g, d in zip(base, directions, strict=True))
        least = sum(c * d.size for c, d in zip(_rounding(values, point, other), directions, strict=True))
        scale = float(np.abs(pushed).sum() + sum(np.abs(g).sum() for g in base)) + least
        found.compare("gradient of the gradient with respect to the cotangent, times a cotangent",
                      np.array([got]), np.array([expected]), scale)  # fmt: skip
    return found


PROBES: dict[str, Callable[[TorchFunction, Point, int], Found]] = {
    "cotangents": cotangents,
    "layouts": layouts,
    "subsets": subsets,
    "forward": forward_mode,
    "batched": batched,
    "second cotangent": second_cotangent,
}
