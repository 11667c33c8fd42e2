"""Explanations of what concerns a whole call: its memory, its cotangents, its formats, its modes."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch

from benchmarks.oracle import layouts, witness
from benchmarks.oracle.explanation import CONVENTION, DEFECT, UNEXPLAINED, Explanation

_SURE = 16.0


def by_layout(f: Callable[..., Any], tensors: Sequence[Any]) -> Explanation:
    """Explain an answer that depends on the memory that the same numbers lie in."""
    worst: Explanation | None = None
    for layout, laid in layouts.all_of(tensors):
        plain = [t.detach().contiguous().clone().requires_grad_(t.requires_grad) for t in laid]
        try:
            here = witness.flat(f(*[t.detach() for t in laid]))
            there = witness.value(f, plain)
        except RuntimeError:
            continue
        if layouts.apart(here, there):
            worst = Explanation(
                DEFECT,
                f"{layout}: values are {_few(here)}, of the same numbers laid out plainly {_few(there)}",
            )
        else:
            cotangent = torch.ones_like(there)
            got, expected = layouts.gradients(f, laid, cotangent), witness.gradients(f, plain, cotangent)
            for k, (one, two) in enumerate(zip(got, expected, strict=True)):
                if one is not None and two is not None and layouts.apart(one, two):
                    worst = Explanation(DEFECT, _which(f, plain, k, one, two, layout))
        if worst and layouts.addresses_memory(f):
            return Explanation(
                CONVENTION,
                f"{worst.measured}; the operator's schema takes a storage_offset: it addresses memory",
            )
        if worst:
            return worst
    return Explanation(UNEXPLAINED, "no layout changes values or gradients in plain PyTorch")


def _few(x: Any) -> str:
    return (
        "[" + ", ".join(f"{v:.6g}" for v in x.reshape(-1)[:4].tolist()) + (", …]" if x.numel() > 4 else "]")
    )


def _which(f: Callable[..., Any], plain: Sequence[Any], place: int, one: Any, two: Any, layout: str) -> str:
    """Say which of two gradients of the sum of the outputs agrees with differences."""
    column = int((one.reshape(-1) - two.reshape(-1)).abs().nan_to_num(math.inf).argmax())
    slopes = witness.slopes(lambda *t: witness.flat(f(*t)).sum(), plain, place, column, 0)
    laid, plainly = float(one.reshape(-1)[column]), float(two.reshape(-1)[column])
    return (
        f"{layout}: the gradient at [{column}] is {laid!r}, "
        f"of the same numbers laid out plainly {plainly!r}; "
        f"differences say {slopes.central!r} ± {slopes.error:.1e}"
    )


def by_cotangent(f: Callable[..., Any], tensors: Sequence[Any]) -> Explanation:
    """Explain a gradient that does not follow its cotangent: against differences of the weighted outputs."""
    output = witness.value(f, tensors)
    generator = torch.Generator().manual_seed(3)
    signs = torch.randint(0, 2, output.shape, generator=generator, dtype=torch.float64) * 2 - 1
    # Of so few bits that every format holds them, and three times them, exactly.
    weights = signs * torch.randint(8, 17, output.shape, generator=generator, dtype=torch.float64) / 16
    for factor in (1.0, 2.0**-5, 2.0**5, 3.0, *_far(f, tensors)):
        found = witness.gradients(f, tensors, weights * factor)
        for place, gradient in enumerate(found):
            if gradient is None or not gradient.numel():
                continue
            base = witness.gradients(f, tensors, weights)[place]
            off = (gradient / factor - base).abs().reshape(-1).nan_to_num(math.inf)
            column = int(off.argmax())
            slopes = witness.slopes(
                lambda *t: (witness.flat(f(*t)) * weights).sum(), tensors, place, column, 0
            )
            got = float(gradient.reshape(-1)[column]) / factor
            if abs(got - slopes.central) > _SURE * slopes.error + 1e-9 * float(base.abs().max()):
                return Explanation(
                    DEFECT,
                    f"with a cotangent scaled by {factor:g} the gradient over {factor:g} is {got!r}, "
                    f"with the plain one {float(base.reshape(-1)[column])!r}; "
                    f"differences say {slopes.central!r} ± {slopes.error:.1e}",
                )
    return (
        _scaled(f, tensors, weights)
        or _by_output(f, tensors)
        or Explanation(UNEXPLAINED, "gradients follow their cotangents in plain PyTorch")
    )


def _scaled(f: Callable[..., Any], tensors: Sequence[Any], weights: Any) -> Explanation | None:
    """Explain a gradient that a power of two does not scale: nothing is rounded in it, so nothing may differ.

    What the gradient moves by when its inputs do by units in the last place is no such difference.
    """
    base = witness.gradients(f, tensors, weights)
    for factor in _far(f, tensors):
        found = witness.gradients(f, tensors, weights * factor)
        for place, (scaled, plain) in enumerate(zip(found, base, strict=True)):
            if scaled is None or plain is None or not plain.numel():
                continue
            off = (scaled / factor - plain).abs().reshape(-1)
            column = int(off.argmax())
            generator = torch.Generator().manual_seed(8)
            noise = 0.0
            for _ in range(8):
                near = [_nudged(t, 2.0**-53, generator) for t in tensors]
                there = witness.gradients(f, near, weights)[place].reshape(-1)[column]
                noise = max(noise, abs(float(there - plain.reshape(-1)[column])))
            if float(off[column]) > _SURE * noise + 1e-9 * float(plain.abs().max()):
                return Explanation(
                    DEFECT,
                    f"with a cotangent scaled by {factor:g} the gradient of input {place} at [{column}] over "
                    f"{factor:g} is {float(scaled.reshape(-1)[column]) / factor!r}, with the plain one "
                    f"{float(plain.reshape(-1)[column])!r}; rounding moves it by {noise:.1e}",
                )
    return None


def _by_output(f: Callable[..., Any], tensors: Sequence[Any]) -> Explanation | None:
    """Explain a gradient of one output alone, the others without a cotangent, that is not its slope."""
    with torch.no_grad():
        result = f(*(t.detach() for t in tensors))
    count = len(result) if isinstance(result, tuple | list) else 1
    for number in range(count) if count > 1 else ():

        def alone(*given: Any, number: int = number) -> Any:
            return f(*given)[number]

        if not (isinstance(result[number], torch.Tensor) and result[number].is_floating_point()):
            continue
        ones = torch.ones_like(witness.value(alone, tensors))
        for place, gradient in enumerate(witness.gradients(alone, tensors, ones)):
            for column in range(min(8, 0 if gradient is None else gradient.numel())):
                slopes = witness.slopes(lambda *t: witness.flat(alone(*t)).sum(), tensors, place, column, 0)
                got = float(gradient.reshape(-1)[column])
                if abs(got - slopes.central) > _SURE * slopes.error + 1e-7 * abs(slopes.central):
                    return Explanation(
                        DEFECT,
                        f"the gradient of output {number} alone is {got!r}, "
                        f"differences say {slopes.central!r} ± {slopes.error:.1e}",
                    )
    return None


def _far(f: Callable[..., Any], tensors: Sequence[Any]) -> tuple[float, ...]:
    result = f(*(t.detach() for t in tensors))
    parts = result if isinstance(result, tuple | list) else (result,)
    wide = all(torch.finfo(o.dtype).max > 2.0**90 for o in parts if o.is_floating_point())
    return (2.0**-30, 2.0**30) if wide else ()


def by_format(f: Callable[..., Any], narrow: Sequence[Any]) -> Explanation:
    """Explain an answer in a narrow format: against float64 at the same numbers, and its condition there."""
    u = max(torch.finfo(t.dtype).eps / 2 for t in narrow if t.is_floating_point())
    wide = [_as(t, torch.float64) for t in narrow]
    output = witness.value(f, wide)
    cotangent = torch.ones_like(output)
    truths = [output, *witness.gradients(f, wide, cotangent)]
    reach = [None if t is None else torch.zeros_like(t) for t in truths]
    generator = torch.Generator().manual_seed(4)
    for _ in range(16):
        moved = [_nudged(t, u, generator) for t in wide]
        there = [witness.value(f, moved), *witness.gradients(f, moved, cotangent)]
        for k, (x, y) in enumerate(zip(there, truths, strict=True)):
            if x is not None and y is not None:
                reach[k] = torch.maximum(reach[k], (x - y).abs())
    found = [witness.value(f, narrow), *witness.gradients(f, narrow, cotangent)]
    for k, (got, truth, near) in enumerate(zip(found, truths, reach, strict=True)):
        if got is None or truth is None:
            continue
        got, truth, near = got.double().reshape(-1), truth.reshape(-1), near.reshape(-1)
        off = (got - truth).abs().nan_to_num(math.inf)
        allowed = 16 * near + 32 * u * truth[torch.isfinite(truth)].abs().max()
        bad = torch.isfinite(truth) & ~(off <= allowed)
        if bad.any():
            worst = int(torch.where(bad, off / allowed, -1.0).argmax())
            what = "the value" if not k else f"the gradient of input {k - 1}"
            return Explanation(
                DEFECT,
                f"{what} at [{worst}] is {float(got[worst])!r} in {narrow[0].dtype}, "
                f"{float(truth[worst])!r} in float64 at the same numbers, "
                f"which moves by {float(near[worst]):.1e} when they are rounded",
            )
    return Explanation(UNEXPLAINED, "the narrow format is as good as its rounding allows")


def _as(x: Any, dtype: Any) -> Any:
    made = x.detach().to(dtype) if x.is_floating_point() else x.detach().clone()
    return made.requires_grad_(x.requires_grad)


def _nudged(x: Any, u: float, generator: Any) -> Any:
    if not x.requires_grad:
        return x
    signs = torch.randint(-1, 2, x.shape, generator=generator)
    return (x.detach() * (1 + 2 * u * signs)).requires_grad_()


def by_forward(f: Callable[..., Any], tensors: Sequence[Any]) -> Explanation:
    """Explain a forward mode: against differences along a direction of each tensor alone."""
    from torch.autograd import forward_ad

    generator = torch.Generator().manual_seed(5)
    for k, x in enumerate(tensors):
        if not x.requires_grad:
            continue
        direction = 0.5 + torch.rand(x.shape, generator=generator, dtype=torch.float64) / 2
        leaves = [t.detach().clone() for t in tensors]
        with forward_ad.dual_level():
            leaves[k] = forward_ad.make_dual(leaves[k], direction.to(x.dtype))
            result = f(*leaves)
            parts = result if isinstance(result, tuple | list) else (result,)
            duals = [forward_ad.unpack_dual(o) for o in parts if o.is_floating_point()]
            pushed = [torch.zeros_like(d.primal) if d.tangent is None else d.tangent for d in duals]
        got = witness.flat(pushed)
        plain = [t.detach() for t in tensors]

        def along(t: Any, k: int = k, plain: Sequence[Any] = plain, way: Any = direction) -> Any:
            return f(*(x + t * way.to(x.dtype) if j == k else x for j, x in enumerate(plain)))

        start = torch.zeros(1, dtype=torch.float64)
        for row in range(min(len(got), 64)):
            slopes = witness.slopes(along, (start,), 0, 0, row)
            low, high = sorted((slopes.left, slopes.right)) if slopes.kink else (slopes.central,) * 2
            margin = _SURE * slopes.error + 1e-9 * max(abs(low), abs(high))
            if not low - margin <= float(got[row]) <= high + margin and not slopes.jump:
                return Explanation(
                    DEFECT,
                    f"forward mode along input {k} says {float(got[row])!r} at output {row}, differences "
                    f"{slopes.central!r} ± {slopes.error:.1e}",
                )
    return Explanation(UNEXPLAINED, "forward mode agrees with differences")


def by_batch(f: Callable[..., Any], tensors: Sequence[Any]) -> Explanation:
    """Explain batched gradients: against the same cotangents one by one."""
    leaves = [t.detach().clone().requires_grad_(t.requires_grad) for t in tensors]
    wanted = [t for t in leaves if t.requires_grad]
    output = witness.flat(f(*leaves))
    generator = torch.Generator().manual_seed(6)
    cotangents = torch.rand((3, len(output)), generator=generator, dtype=torch.float64)
    same = dict(retain_graph=True, allow_unused=True)
    together = torch.autograd.grad(output, wanted, cotangents, is_grads_batched=True, **same)
    for k, cotangent in enumerate(cotangents):
        for one, two in zip(together, torch.autograd.grad(output, wanted, cotangent, **same), strict=True):
            if one is not None and two is not None and layouts.apart(one[k], two):
                told = f"batched gradients are {_few(one[k])}, one by one {_few(two)}"
                return Explanation(DEFECT, told)
    return Explanation(UNEXPLAINED, "batched gradients are those of a loop")


def written(f: Callable[..., Any], tensors: Sequence[Any]) -> Explanation:
    """Explain an input that is written to: a buffer, if what it held enters neither values nor gradients."""
    given = [t.detach().clone() for t in tensors]
    with torch.no_grad():
        f(*given)
    changed = [
        k for k, (x, t) in enumerate(zip(given, tensors, strict=True)) if not torch.equal(x, t.detach())
    ]
    output = witness.value(f, tensors)
    base = witness.gradients(f, tensors, torch.ones_like(output))
    for k in changed:
        if tensors[k].requires_grad:
            return Explanation(DEFECT, f"input {k}, which is differentiated, is written to")
        other = [t.detach().clone().requires_grad_(t.requires_grad) for t in tensors]
        other[k] = other[k] * 3 + 1
        there = witness.gradients(f, other, torch.ones_like(output))
        pairs = [(witness.value(f, other), output), *zip(there, base, strict=True)]
        if any(x is not None and layouts.apart(x, y) for x, y in pairs):
            return Explanation(DEFECT, f"input {k} is written to, and what it held enters the result")
    if changed:
        told = ", ".join(f"input {k}" for k in changed)
        return Explanation(
            CONVENTION,
            f"{told} is written to; other numbers in it change neither values nor gradients: it is a buffer",
        )
    return Explanation(UNEXPLAINED, "no input is written to")
