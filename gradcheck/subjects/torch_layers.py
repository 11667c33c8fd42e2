"""How torch spells convolution, pooling and the residual connection."""

from __future__ import annotations

from gradcheck.subjects.torch_calls import Call, F


def _sides(dilation: str, kernel: str, padding: str) -> str:
    """What torch's own padding adds before and after one axis, for the modes that only `pad` knows."""
    total = f"{dilation} * ({kernel} - 1)"
    return f'*(({total} // 2, {total} - {total} // 2) if padding == "same" else ({padding}, {padding}))'


_SIDES = {
    1: _sides("dilation", "weight.shape[2]", "padding"),
    2: ", ".join(
        [
            _sides("dilation[1]", "weight.shape[3]", "padding[1]"),
            _sides("dilation[0]", "weight.shape[2]", "padding[0]"),
        ]
    ),
}


def _convolution(axes: int) -> Call:
    """Zeros are the convolution's own padding; any other mode is a call before it, as in the module."""
    name = f"{F}.conv{axes}d"
    plain = f"{name}(x, weight, bias, stride, padding, dilation, groups)"
    around = f"{F}.pad(x, ({_SIDES[axes]},), mode=padding_mode)"
    padded = f"{name}({around}, weight, bias, stride, 0, dilation, groups)"
    module = (
        f"torch.func.functional_call(torch.nn.Conv{axes}d(x.shape[1], weight.shape[0], "
        f"tuple(weight.shape[2:]), stride, padding, dilation, groups, True, padding_mode, "
        f'device="meta"), {{"weight": weight, "bias": bias}}, x)'
    )
    return Call(f'{plain} if padding_mode == "zeros" else {padded}', module)


def _pooling(name: str, kind: str, axes: int, *options: str) -> Call:
    given = ", ".join(f"{option}={option}" for option in options)
    return Call(f"{F}.{name}{axes}d(x, {given})", f"torch.nn.{kind}{axes}d({given})(x)")


_MAX = ("kernel_size", "stride", "padding", "dilation", "ceil_mode")
_AVERAGE = ("kernel_size", "stride", "padding", "ceil_mode", "count_include_pad")

CALLS: dict[str, Call] = {
    "conv1d": _convolution(1),
    "conv2d": _convolution(2),
    "max_pool1d": _pooling("max_pool", "MaxPool", 1, *_MAX),
    "max_pool2d": _pooling("max_pool", "MaxPool", 2, *_MAX),
    "avg_pool1d": _pooling("avg_pool", "AvgPool", 1, *_AVERAGE),
    "avg_pool2d": _pooling("avg_pool", "AvgPool", 2, *_AVERAGE, "divisor_override"),
    "residual": Call("torch.add(x, branch, alpha=scale)"),
}
