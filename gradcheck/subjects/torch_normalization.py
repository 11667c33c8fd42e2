"""How torch spells the normalisations.

A module computes with the given parameters instead of its own: it is made without memory, and called with
them in place.
"""

from __future__ import annotations

from gradcheck.subjects.torch_calls import Call, F

_PARAMETERS = '{"weight": weight, "bias": bias}'


def _called(module: str, parameters: str = _PARAMETERS) -> str:
    return f"torch.func.functional_call({module}, {parameters}, x)"


_BATCH = "(torch.nn.BatchNorm1d if x.ndim < 4 else torch.nn.BatchNorm2d)"
_INSTANCE = "(torch.nn.InstanceNorm1d if x.ndim < 4 else torch.nn.InstanceNorm2d)"
_IF_AFFINE = "weight if affine else None, bias if affine else None"

# Running statistics are written in place, so copies are handed in and returned.
_SHARE = "1 / (count + 1) if cumulative else momentum if momentum_of == 'batch' else 1 - momentum"
_RUNNING = (
    f"(lambda x, m, v, p: ({F}.batch_norm(x, m, v, training=True, momentum=p), m, v)[1:])"
    f"(x, mean.clone(), variance.clone(), {_SHARE})"
)
_MOMENTUM = "None if cumulative else momentum if momentum_of == 'batch' else 1 - momentum"
_TRACKED = '{"running_mean": m, "running_var": v, "num_batches_tracked": n}'
_RUNNING_MODULE = (
    f"(lambda module, x, m, v, n: (torch.func.functional_call(module, {_TRACKED}, x), m, v)[1:])"
    f"({_BATCH}(x.shape[1], affine=False, momentum={_MOMENTUM}, device='meta'), "
    "x, mean.clone(), variance.clone(), torch.tensor(count))"
)
_STATISTICS = '"running_mean": mean, "running_var": variance'

CALLS: dict[str, Call] = {
    "batch_norm": Call(
        f"{F}.batch_norm(x, None, None, {_IF_AFFINE}, training=True, eps=eps)",
        _called(
            f"{_BATCH}(x.shape[1], eps=eps, affine=affine, track_running_stats=False, device='meta')",
            f"({_PARAMETERS} if affine else {{}})",
        ),
    ),
    "layer_norm": Call(
        f"{F}.layer_norm(x, x.shape[x.ndim - axes:], weight, bias, eps=eps)",
        _called("torch.nn.LayerNorm(x.shape[x.ndim - axes:], eps=eps, device='meta')"),
    ),
    "group_norm": Call(
        f"{F}.group_norm(x, groups, weight, bias, eps=eps)",
        _called("torch.nn.GroupNorm(groups, x.shape[1], eps=eps, device='meta')"),
    ),
    "instance_norm": Call(
        f"{F}.instance_norm(x, weight=weight, bias=bias, eps=eps)",
        _called(f"{_INSTANCE}(x.shape[1], eps=eps, affine=True, device='meta')"),
    ),
    "batch_norm_eval": Call(
        f"{F}.batch_norm(x, mean, variance, {_IF_AFFINE}, training=False, eps=eps)",
        _called(
            f"{_BATCH}(x.shape[1], eps=eps, affine=affine, device='meta').eval()",
            f"{{{_STATISTICS}, **({_PARAMETERS} if affine else {{}})}}",
        ),
    ),
    "batch_norm_running": Call(_RUNNING, _RUNNING_MODULE),
    "rms_norm": Call(
        f"{F}.rms_norm(x, x.shape[x.ndim - axes:], weight, eps=eps)",
        _called("torch.nn.RMSNorm(x.shape[x.ndim - axes:], eps=eps, device='meta')", '{"weight": weight}'),
    ),
}
