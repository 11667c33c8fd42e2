"""How torch spells gradient clipping.

Its utilities work in place on `.grad`. Here they get copies, so that a form that writes to its inputs shows.
"""

from __future__ import annotations

from gradcheck.subjects.torch_calls import Call

_UTILS = "torch.nn.utils"
_ONE = 'leaf := torch.empty_like(g), setattr(leaf, "grad", g.clone())'
_MANY = (
    "leaves := [torch.empty_like(t) for t in (a, b, c)], "
    '[setattr(leaf, "grad", t.clone()) for leaf, t in zip(leaves, (a, b, c))]'
)
_GRADS = "(*(leaf.grad for leaf in leaves), norm)"
# The constant that torch adds to the norm, whatever it is asked for.
_FIXED = {"epsilon": 1e-6}


def _by_value(foreach: bool) -> str:
    return f"({_ONE}, {_UTILS}.clip_grad_value_([leaf], threshold, foreach={foreach}), leaf.grad)[-1]"


def _by_norm(foreach: bool) -> str:
    return f"({_ONE}, {_UTILS}.clip_grad_norm_([leaf], max_norm, p, foreach={foreach}), leaf.grad)[-1]"


def _by_global_norm(foreach: bool) -> str:
    clip = f"norm := {_UTILS}.clip_grad_norm_(leaves, max_norm, p, foreach={foreach})"
    return f"({_MANY}, {clip}, {_GRADS})[-1]"


_TOTAL = f"norm := {_UTILS}.get_total_norm((a, b, c), p)"
_WITH_NORM = f"{_UTILS}.clip_grads_with_norm_(leaves, max_norm, norm)"
_ROWS = "torch.linalg.vector_norm({}, dim=1, keepdim=True)"
_LIMIT = f"limit := {_ROWS.format('w')}.clamp(min=eps) * clipping"

CALLS: dict[str, Call] = {
    "clip_by_value": Call(
        "torch.clamp(g, -threshold, threshold)",
        forms={"loop": _by_value(False), "foreach": _by_value(True)},
    ),
    "clip_by_norm": Call(
        f"({_ONE}, {_UTILS}.clip_grad_norm_(leaf, max_norm, p), leaf.grad)[-1]",
        forms={"loop": _by_norm(False), "foreach": _by_norm(True)},
        fixed=_FIXED,
    ),
    "clip_by_global_norm": Call(
        f"({_MANY}, {_TOTAL}, {_WITH_NORM}, {_GRADS})[-1]",
        forms={"loop": _by_global_norm(False), "foreach": _by_global_norm(True)},
        fixed=_FIXED,
    ),
    "adaptive_clip": Call(
        f"({_LIMIT}, norm := {_ROWS.format('g')}, torch.where(norm <= limit, g, g * (limit / norm)))[-1]"
    ),
}
