"""PyTorch's initial weights: `torch.nn.init` and what the layers do by themselves.

One text per rule: the text that runs is the text that a reproduction prints.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from functools import cache
from typing import Any

from gradcheck.formats import Format
from gradcheck.formulas.initialization import Initializer, Shape
from gradcheck.records import Array
from gradcheck.subjects.tensors import to_array

Options = Mapping[str, Any]
_W = "torch.empty(shape, dtype=dtype)"
_LINEAR = "torch.nn.Linear(shape[1], shape[0], dtype=dtype)"
_CONV = "torch.nn.Conv2d(shape[1], shape[0], shape[2:], dtype=dtype)"

CALLS: dict[str, str] = {
    "uniform": f"torch.nn.init.uniform_({_W}, low, high)",
    "normal": f"torch.nn.init.normal_({_W}, mean, std)",
    "trunc_normal": f"torch.nn.init.trunc_normal_({_W}, mean, std, low, high)",
    "glorot_uniform": f"torch.nn.init.xavier_uniform_({_W}, gain=gain)",
    "glorot_normal": f"torch.nn.init.xavier_normal_({_W}, gain=gain)",
    "he_uniform": f"torch.nn.init.kaiming_uniform_({_W}, a=slope, mode=mode)",
    "he_normal": f"torch.nn.init.kaiming_normal_({_W}, a=slope, mode=mode)",
    "lecun_uniform": f'torch.nn.init.kaiming_uniform_({_W}, nonlinearity="linear")',
    "lecun_normal": f'torch.nn.init.kaiming_normal_({_W}, nonlinearity="linear")',
    "linear_weight": f"{_LINEAR}.weight",
    "linear_bias": f"{_LINEAR}.bias",
    "conv2d_weight": f"{_CONV}.weight",
    "conv2d_bias": f"{_CONV}.bias",
    "orthogonal": f"torch.nn.init.orthogonal_({_W}, gain=gain)",
    "dirac": f"torch.nn.init.dirac_({_W}, groups=groups)",
}


def draw(initializer: Initializer, fmt: Format, shape: Shape, options: Options, seed: int) -> Array:
    """Return what torch draws after `torch.manual_seed(seed)`; its own generator is left as it was."""
    import torch

    names = {"shape": shape, "dtype": getattr(torch, fmt.name), **initializer.complete(dict(options))}
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        # The same as torch.manual_seed, without a word to devices that may not be there.
        torch.default_generator.manual_seed(seed)
        return to_array(eval(CALLS[initializer.name], {"torch": torch}, names))


def reproduce(initializer: Initializer, fmt: Format, shape: Shape, options: Options, seed: int) -> str:
    """Return a program of plain torch that draws the same weight and prints what it is judged by."""
    given = [f"{name} = {value!r}" for name, value in initializer.complete(dict(options)).items()]
    return "\n".join(
        [
            "import torch",
            f"shape, dtype = {shape!r}, torch.{fmt.name}",
            *given,
            f"torch.manual_seed({seed})",
            f"w = {CALLS[initializer.name]}.detach().double()",
            "print(w.numel(), w.min(), w.max(), w.mean(), w.var(), ((w - w.mean()) ** 4).mean())",
        ]
    )


@cache
def absence(initializer: Initializer, fmt: Format) -> str:
    """Return why torch cannot draw in this format, in its own words; empty if it can."""
    try:
        import torch  # noqa: F401
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
        return "torch is not installed: pip install 'gradcheck[torch]'"
    shape = (6, 2, 3, 3)[: initializer.axes[1]]
    options = {option.name: option.default for option in initializer.options}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            draw(initializer, fmt, shape, options, 0)
    except (RuntimeError, NotImplementedError) as error:
        return str(error).partition("\n")[0]
    return ""
