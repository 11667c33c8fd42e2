"""torch's dropout, as function and as module: each call draws its mask from a seed and restores the state."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from gradcheck.errors import UsageError
from gradcheck.formats import Format
from gradcheck.records import Array, Options
from gradcheck.subjects.implementation import Implementation
from gradcheck.subjects.snippet import numbers
from gradcheck.subjects.tensors import Tensor, lent, to_array
from gradcheck.subjects.torch_calls import F

TEXTS = {
    "function": f"{F}.dropout(x, p=p, training=training)",
    "module": "torch.nn.Dropout(p).train(training)(x)",
}


def implement(subject: str, device: str, fmt: Format) -> Implementation:
    """Return dropout of x alone, with the options `p`, `training`, `seed` and `form`."""
    return Implementation(
        formula="dropout",
        subject=subject,
        format=fmt,
        forward=partial(_forward, device),
        vjp=partial(_vjp, device),
        reproduce=partial(_reproduce, device),
        negative_strides=False,
    )


@contextmanager
def _seeded(seed: int, device: str) -> Iterator[None]:
    """Draw from `seed` inside, and leave every generator as it was."""
    import torch

    with torch.random.fork_rng(devices=range(torch.cuda.device_count()) if device == "cuda" else []):
        torch.manual_seed(seed)
        yield


def _called(x: Tensor, options: Options) -> Tensor:
    import torch

    text = TEXTS[options.get("form", "function")]
    return eval(text, {"torch": torch}, {"x": x, "p": options["p"], "training": options["training"]})


def _forward(device: str, inputs: tuple[Array, ...], options: Options) -> Array:
    import torch

    with torch.no_grad(), lent(inputs[:1], device) as (x,), _seeded(options["seed"], device):
        return to_array(_called(x, options))


def _vjp(
    device: str, inputs: tuple[Array, ...], cotangent: Array, options: Options
) -> tuple[Array | None, ...]:
    import torch

    with (
        torch.inference_mode(False),
        torch.enable_grad(),
        lent(inputs[:1], device) as (x,),
        lent((cotangent,), device) as (c,),
        _seeded(options["seed"], device),
    ):
        x.requires_grad_()
        (gradient,) = torch.autograd.grad(_called(x, options), (x,), c)
        return (to_array(gradient),)


def _reproduce(
    device: str,
    what: str,
    inputs: tuple[Array, ...],
    cotangent: Array | None,
    options: Options,
    directions: tuple[Array, ...] = (),
) -> str:
    """Return a program of plain torch that prints the value, or the gradient, of one seeded call."""
    at = f', device="{device}"' if device != "cpu" else ""
    x = inputs[0]

    def source(name: str, array: Array) -> str:
        made = f"torch.tensor({numbers(array)}, dtype=torch.{array.dtype.name}{at})"
        return f"{name} = {made}.reshape({array.shape})"

    lines = [
        "import torch",
        f"p, training = {options.get('p', 0.5)!r}, {options.get('training', True)!r}",
        source("x", x) + ".requires_grad_()",
        f"torch.manual_seed({options.get('seed', 0)})",
        f"y = {TEXTS[options.get('form', 'function')]}",
    ]
    shown = "y"
    if what == "derivative" and cotangent is not None:
        lines += [source("cotangent", cotangent), "(g,) = torch.autograd.grad(y, (x,), cotangent)"]
        shown = "g"
    elif what != "value":
        raise UsageError(f"what={what!r} with cotangent={cotangent!r}: expected value or derivative")
    return "\n".join([*lines, f"print([v.hex() for v in {shown}.detach().double().flatten().tolist()])"])


def trial(subject: str, device: str, fmt: Format) -> str:
    """Return why torch refuses dropout in this format, in its own words; empty if it does not."""
    import numpy as np

    made: Any = implement(subject, device, fmt)
    ones, options = np.ones((2, 2), fmt.dtype), {"p": 0.5, "training": True, "seed": 0}
    try:
        made.forward((ones,), options)
        made.vjp((ones,), ones, options)
    except RuntimeError as error:
        return str(error).partition("\n")[0]
    return ""
