"""Why a verdict is no pass: an explanation is a measurement, made without the checker and without names.

Each finding is put to the function again, in plain PyTorch, at the numbers that its program prints. What it
claims is measured by other means: slopes from 42 halvings of the step, `torch.autograd.gradcheck` at the very
point, the same numbers in other memory, the calls alone. Nothing here knows an operator by name.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import chain, islice, product
from typing import Any

import torch

from benchmarks.oracle import explaining_calls, layouts, witness
from benchmarks.oracle.explanation import (
    CONVENTION,
    DEFECT,
    JUMP,
    REFUSAL,
    ROUNDING,
    UNEXPLAINED,
    Call,
    Explanation,
    call_of,
)

_SURE = 16.0
_NARROW = (torch.float16, torch.bfloat16)
_SEEDS = 8
_ENTRIES = 64


def explain(
    f: Callable[..., Any], sample: Sequence[Any], check: str, message: str, program: str
) -> Explanation:
    """Return what explains one finding on a sample."""
    try:
        return _explain(f, sample, check, message, program)
    except Exception as error:
        return Explanation(UNEXPLAINED, f"the explanation raised {_said(error)}")


def _explain(
    f: Callable[..., Any], sample: Sequence[Any], check: str, message: str, program: str
) -> Explanation:
    call = call_of(program)
    if call is None:
        return collided(f, sample) or Explanation(UNEXPLAINED, "its program does not hold all tensors")
    if "the gradient fails" in message or "raises" in message or "Error: " in message:
        return refused(f, call.tensors)
    if failed := reported(f, sample, call.tensors):
        return Explanation(CONVENTION, failed)
    found = _measured(f, call, check, message)
    if found.kind == UNEXPLAINED:
        lost = any_overwritten(f, call.tensors)
        found = Explanation(CONVENTION, lost) if lost else collided(f, sample) or found
    return found


def _measured(f: Callable[..., Any], call: Call, check: str, message: str) -> Explanation:
    if check == "second-order" and call.row >= 0:
        places = [k for k, t in enumerate(call.tensors) if t.requires_grad]
        # What goes wrong by rounding does so along some cotangents, and not along others.
        first = wrong_entry(second(f, places), call)
        others = (wrong_entry(second(f, places, seed), call) for seed in range(1, _SEEDS))
        return next((each for each in chain([first], others) if each.kind != UNEXPLAINED), first)
    if call.row >= 0:
        return wrong_entry(f, call)
    if "writes into" in message:
        return explaining_calls.written(f, call.tensors)
    ways = {
        "layouts": explaining_calls.by_layout,
        "formats": explaining_calls.by_format,
        "forward": explaining_calls.by_forward,
        "batched": explaining_calls.by_batch,
    }
    found = ways.get(check, explaining_calls.by_cotangent)(f, call.tensors)
    if found.kind == UNEXPLAINED and check in ("forward", "batched"):
        # What was compared is right; what it was compared with may be wrong.
        return explaining_calls.by_cotangent(f, call.tensors)
    return found


def undecided(f: Callable[..., Any], sample: Sequence[Any], check: str) -> Explanation:
    """Explain a check that could tell of too few entries at a sample: no slopes are to be known there."""
    places = [k for k, t in enumerate(sample) if t.requires_grad]
    g = second(f, places) if check == "second-order" else f
    try:
        with torch.enable_grad():
            result = g(*sample)
        parts = result if isinstance(result, tuple | list) else (result,)
        narrow = {str(o.dtype) for o in parts if torch.is_tensor(o) and o.dtype in _NARROW}
        numbers = [(p, k) for p in places for k in range(sample[p].numel())]
        rows = range(witness.value(g, sample).numel())
        for (place, column), row in islice(product(numbers, rows), _ENTRIES):
            slopes = witness.slopes(g, sample, place, column, row)
            told = (
                f"of output {row} along element {column} of input {place} the slopes are {slopes.left!r} and "
                f"{slopes.right!r} on the sides, {slopes.central!r} ± {slopes.error:.1e} between"
            )
            if narrow and slopes.error > 1e-3 * abs(slopes.central):
                return Explanation(ROUNDING, f"outputs are {', '.join(sorted(narrow))}; {told}")
            if slopes.jump or slopes.kink or not math.isfinite(slopes.central):
                return Explanation(JUMP, told)
    except Exception as error:
        return Explanation(UNEXPLAINED, f"the explanation raised {_said(error)}")
    return Explanation(UNEXPLAINED, "plain differences know the slopes")


def any_overwritten(f: Callable[..., Any], tensors: Sequence[Any]) -> str:
    """Say whether any output holds one of several elements that are written to it."""
    if all(t.is_floating_point() for t in tensors):
        return ""
    output = witness.value(f, tensors)
    rows = torch.nonzero(output).reshape(-1).tolist()
    return next((lost for row in rows[:200] if (lost := overwritten(f, tensors, row))), "")


def _said(error: BaseException) -> str:
    return f"{type(error).__name__}: {str(error).partition(chr(10))[0][:200]}"


def second(f: Callable[..., Any], places: Sequence[int], seed: int = 0) -> Callable[..., Any]:
    """Return the gradient with respect to the tensors at `places`, along a fixed cotangent, as a function."""

    def gradient(*tensors: Any) -> Any:
        with torch.enable_grad():
            leaves = list(tensors)
            for k in places:
                leaves[k] = leaves[k] if leaves[k].requires_grad else leaves[k].detach().requires_grad_()
            output = witness.flat(f(*leaves))
            generator = torch.Generator().manual_seed(seed)
            cotangent = 0.5 + torch.rand(output.shape, generator=generator, dtype=torch.float64) / 2
            wanted = [leaves[k] for k in places]
            found = torch.autograd.grad(output, wanted, cotangent, create_graph=True, allow_unused=True)
        return tuple(torch.zeros_like(x) if g is None else g for g, x in zip(found, wanted, strict=True))

    return gradient


def wrong_entry(f: Callable[..., Any], call: Call) -> Explanation:
    """Explain an entry of the Jacobian that was found to be wrong."""
    where = call.place, call.column, call.row
    got = witness.entry(f, call.tensors, *where)
    slopes = witness.slopes(f, call.tensors, *where)
    told = (
        f"the gradient is {got!r}; slopes are {slopes.left!r} and {slopes.right!r} on the sides, "
        f"{slopes.central!r} ± {slopes.error:.1e} between"
    )
    if slopes.jump or (not math.isfinite(got) and broken(f, call)):
        return Explanation(JUMP, f"{told}; an output jumps at the point")
    low, high = sorted((slopes.left, slopes.right)) if slopes.kink else (slopes.central, slopes.central)
    margin = _SURE * slopes.error + 1e-9 * max(abs(low), abs(high))
    if low - margin <= got <= high + margin:
        return Explanation(UNEXPLAINED, f"{told}: the gradient is right")
    near = witness.nearby(f, call.tensors, *where)
    spread = near[1] - near[0]
    if spread > 1e-3 * max(abs(near[0]), abs(near[1])) and near[0] - margin <= got <= near[1] + margin:
        return Explanation(
            UNEXPLAINED, f"{told}; slopes beside the point reach from {near[0]!r} to {near[1]!r}"
        )
    if lost := overwritten(f, call.tensors, call.row):
        return Explanation(CONVENTION, f"{told}; {lost}")
    if chosen := tied(f, call):
        return Explanation(CONVENTION, f"{told}; {chosen}")
    rounding = witness.noise(f, call.tensors, *where) if math.isfinite(got) else 0.0
    off = max(low - got, got - high) if math.isfinite(got) else math.inf
    if off <= _SURE * rounding:
        return Explanation(ROUNDING, f"{told}; rounding alone moves the gradient by {rounding:.1e}")
    agrees = witness.torch_agrees(f, call.tensors)
    peer = {True: "passes", False: "fails as well", None: "cannot say"}[agrees]
    return Explanation(
        DEFECT, f"{told}; rounding moves it by {rounding:.1e}; torch.autograd.gradcheck there {peer}"
    )


def reported(f: Callable[..., Any], sample: Sequence[Any], tensors: Sequence[Any]) -> str:
    """Say whether the call reports that it failed: a status of whole numbers, 0 at the sample, is not 0."""
    status = [_status(f, given) for given in (sample, tensors)]
    for there, here in zip(*status, strict=False):
        if not there.any() and here.any():
            worst = int(here.reshape(-1)[int(here.reshape(-1).abs().argmax())])
            return f"the call reports its own failure: a status that is 0 at the sample is {worst} there"
    return ""


def _status(f: Callable[..., Any], tensors: Sequence[Any]) -> list[Any]:
    raw = getattr(f, "raw", f)
    with torch.no_grad():
        result = raw(*(t.detach().clone() for t in tensors))
    parts = result if isinstance(result, tuple | list) else (result,)
    return [o for o in parts if isinstance(o, torch.Tensor) and o.dtype in (torch.int32, torch.int64)]


def tied(f: Callable[..., Any], call: Call) -> str:
    """Say whether the gradient chooses among equal elements, and is right along all of them together."""
    x = call.tensors[call.place].detach().contiguous()
    equal = torch.nonzero(x.reshape(-1) == x.reshape(-1)[call.column]).reshape(-1)
    if len(equal) < 2:
        return ""

    def along(t: Any) -> Any:
        given = [each.detach().clone() for each in call.tensors]
        given[call.place] = x.clone()
        given[call.place].view(-1)[equal] += t
        return f(*given)

    zero = torch.zeros(1, dtype=torch.float64)
    slopes = witness.slopes(along, (zero,), 0, 0, call.row)
    cotangent = witness.hot(f, call.tensors, call.row)
    total = float(witness.gradients(f, call.tensors, cotangent)[call.place].reshape(-1)[equal].sum())
    low, high = sorted((slopes.left, slopes.right))
    margin = _SURE * slopes.error + 1e-9 * max(abs(low), abs(high))
    if not low - margin <= total <= high + margin:
        return ""
    return (
        f"{len(equal)} elements are equal; along all of them together the slopes are {slopes.left!r} and "
        f"{slopes.right!r} on the sides and the gradient {total!r}: it chooses among them"
    )


def broken(f: Callable[..., Any], call: Call) -> bool:
    """Whether any output jumps, or has no number, along the element."""
    base = witness.value(f, call.tensors)
    if not bool(torch.isfinite(base).all()):
        return True
    contiguous = [t.detach().contiguous() for t in call.tensors]
    size = max(abs(float(contiguous[call.place].view(-1)[call.column])), 2.0**-20)
    for sign in (1, -1):
        there = [
            witness.value(f, witness.moved(contiguous, call.place, call.column, sign * size * 2.0**-k))
            for k in (20, 28, 36, 44)
        ]
        moved = torch.stack([(x - base).abs() for x in there])
        usual = base.abs().max().clamp_min(1e-300)
        if not bool(torch.isfinite(moved).all()):
            return True
        if bool(
            ((moved.min(0).values > 0.9 * moved.max(0).values) & (moved.min(0).values > 1e-9 * usual)).any()
        ):
            return True
        # A slope that doubles whenever the step halves is none.
        if bool((moved[-1] > 2.0**-12 * usual).any()):
            return True
    return False


def overwritten(f: Callable[..., Any], tensors: Sequence[Any], row: int) -> str:
    """Say whether several elements are written to one output, which holds one of them: indices repeat.

    It is one of them, digit by digit, and the gradient goes to all of them; which one is kept is not defined
    where indices repeat, as the documentation of such operators says.
    """
    if not any(not t.is_floating_point() for t in tensors):
        return ""
    output = float(witness.value(f, tensors)[row])
    found = witness.gradients(f, tensors, witness.hot(f, tensors, row))
    for place, gradient in enumerate(found):
        if gradient is None:
            continue
        claims = torch.nonzero(gradient.reshape(-1)).reshape(-1).tolist()
        numbers = tensors[place].detach().reshape(-1)
        kept = [k for k in claims if float(numbers[k]) == output]
        ones = bool((gradient.reshape(-1)[claims] == 1).all())
        moving = [k for k in claims[:64] if witness.slopes(f, tensors, place, k, row).central != 0]
        if len(claims) > 1 and ones and kept and len(moving) == 1 and moving[0] in kept:
            return (
                f"{len(claims)} elements are written to output {row}, which holds the one at {moving[0]} "
                "digit by digit: indices repeat"
            )
    return ""


def collided(f: Callable[..., Any], sample: Sequence[Any]) -> Explanation | None:
    """Explain a finding at other whole numbers than the sample's: repeated ones may overwrite each other."""
    places = [k for k, t in enumerate(sample) if t.dtype in (torch.int64, torch.int32) and t.numel() > 1]
    if not places:
        return None
    generator = torch.Generator().manual_seed(0)
    for attempt in range(20):
        tensors = [t.detach().clone().requires_grad_(t.requires_grad) for t in sample]
        for k in places:
            most = int(sample[k].max()) + 1
            tensors[k] = torch.randint(0, max(most, 1), sample[k].shape, generator=generator).to(
                sample[k].dtype
            )
        try:
            lost = any_overwritten(f, tensors)
        except Exception:
            continue
        if lost:
            return Explanation(CONVENTION, f"at other whole numbers (draw {attempt}) {lost}")
    return None


def refused(f: Callable[..., Any], tensors: Sequence[Any]) -> Explanation:
    """Explain a call that raised: forward alone, with a graph, backward, backward twice."""
    try:
        output = witness.value(f, tensors)
    except Exception as error:
        return Explanation(UNEXPLAINED, f"the forward pass itself raises {_said(error)}")
    try:
        for _ in range(2):
            witness.gradients(f, tensors, torch.ones_like(output))
        leaves = [t.detach().clone().requires_grad_(t.requires_grad) for t in tensors]
        for _ in range(2):
            witness.flat(f(*leaves)).sum().backward()
    except Exception as error:
        return Explanation(
            REFUSAL, f"forward without a graph answers, with one or backward raises {_said(error)}"
        )
    for name, alone in alone_of(tensors):
        try:
            witness.gradients(f, alone, torch.ones_like(output))
        except Exception as error:
            return Explanation(
                REFUSAL, f"where only {name} requires a gradient PyTorch raises {_said(error)}"
            )
    for layout, laid in layouts.all_of(tensors):
        try:
            witness.flat(f(*laid))
        except Exception as error:
            return Explanation(REFUSAL, f"a {layout} input is refused: {_said(error)}")
    return Explanation(UNEXPLAINED, "plain PyTorch raises nothing")


def alone_of(tensors: Sequence[Any]) -> list[tuple[str, list[Any]]]:
    """Return the tensors with each alone requiring a gradient."""
    active = [k for k, t in enumerate(tensors) if t.requires_grad]
    return [
        (f"input {k}", [t.detach().clone().requires_grad_(j == k) for j, t in enumerate(tensors)])
        for k in active
    ]
