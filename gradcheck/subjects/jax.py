"""JAX's own functions on the CPU.

One text per call: the text that runs is the text that a reproduction prints, so the two cannot part. The
calls are not wrapped in `jax.jit`: what a user types is what runs. Most functions of `jax.nn` are compiled
programs of their own; compiling a whole model fuses them further, and is another program than this one.

JAX makes float32 of float64 unless it is told not to. Every call here allows float64 and computes on the CPU
for its own duration, by contexts of JAX that end with it; no setting of the caller's is changed.

XLA computes on the CPU with subnormal numbers flushed to zero, in and out, as JAX documents ("sharp bits"),
so that is declared here. Those of float16 are normal numbers of the float32 that it is computed in.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache, partial
from types import CodeType
from typing import Any

import numpy as np

from gradcheck.cases import smallest
from gradcheck.errors import MissingDependencyError, UsageError, unknown_name
from gradcheck.formats import FLOAT16, Format
from gradcheck.records import DERIVATIVE, SECOND, VALUE, Array, Formula, Options
from gradcheck.subjects.implementation import Implementation, bind, plain_options
from gradcheck.subjects.snippet import assignments, numbers

Function = Callable[..., Any]


@dataclass(frozen=True)
class Call:
    """How JAX spells a formula, and the options that this spelling has at one value only."""

    text: str
    fixed: Options = field(default_factory=dict)


_ROW = "jnp.matmul(x, w) + b"
_MODES = '{"zeros": "constant", "reflect": "reflect", "replicate": "edge", "circular": "wrap"}[padding_mode]'


def _sides(dilation: str, kernel: str, padding: str) -> str:
    """The text of what is added before and after one axis."""
    total = f"{dilation} * ({kernel} - 1)"
    same = f'({total} // 2, {total} - {total} // 2) if padding == "same"'
    return f'({same} else (0, 0) if padding == "valid" else ({padding}, {padding}))'


def _convolution(axes: int) -> str:
    """The text of a convolution of what was padded before, as every padding mode allows it."""
    places = [""] if axes == 1 else [f"[{axis}]" for axis in range(axes)]
    sides = [_sides(f"dilation{at}", f"weight.shape[{k + 2}]", f"padding{at}") for k, at in enumerate(places)]
    strides, dilations = (f"({', '.join(name + at for at in places)},)" for name in ("stride", "dilation"))
    padded = f"jnp.pad(x, [(0, 0), (0, 0), {', '.join(sides)}], mode={_MODES})"
    product = (
        f'jax.lax.conv_general_dilated({padded}, weight, {strides}, "VALID", rhs_dilation={dilations}, '
        "feature_group_count=groups)"
    )
    return f"{product} + bias[:, {', '.join('None' for _ in places)}]"


CALLS: dict[str, Call] = {
    "relu": Call("jax.nn.relu(x)"),
    "leaky_relu": Call("jax.nn.leaky_relu(x, negative_slope=negative_slope)"),
    "prelu": Call("jax.nn.leaky_relu(x, negative_slope=weight)"),
    "sigmoid": Call("jax.nn.sigmoid(x)"),
    "tanh": Call("jnp.tanh(x)"),
    "hardtanh": Call("jax.nn.hard_tanh(x)", {"min_val": -1.0, "max_val": 1.0}),
    "relu6": Call("jax.nn.relu6(x)"),
    "elu": Call("jax.nn.elu(x, alpha=alpha)"),
    "celu": Call("jax.nn.celu(x, alpha=alpha)"),
    "selu": Call("jax.nn.selu(x)"),
    "gelu": Call("jax.nn.gelu(x, approximate=False)"),
    "gelu_tanh": Call("jax.nn.gelu(x, approximate=True)"),
    "silu": Call("jax.nn.silu(x)"),
    "softplus": Call("jax.nn.softplus(x)", {"beta": 1.0, "threshold": np.inf}),
    "log_sigmoid": Call("jax.nn.log_sigmoid(x)"),
    "mish": Call("jax.nn.mish(x)"),
    "hardsigmoid": Call("jax.nn.hard_sigmoid(x)"),
    "hardswish": Call("jax.nn.hard_swish(x)"),
    "softsign": Call("jax.nn.soft_sign(x)"),
    "preactivation": Call(_ROW),
    "neuron": Call(f"jax.nn.sigmoid({_ROW})"),
    "dense": Call("jnp.matmul(x, weight.T) + bias"),
    "softmax": Call("jax.nn.softmax(x, axis=axis)"),
    "log_softmax": Call("jax.nn.log_softmax(x, axis=axis)"),
    "logsumexp": Call("jax.nn.logsumexp(x, axis=axis)"),
    "layer_norm": Call("jax.nn.standardize(x, axis=tuple(range(-axes, 0)), epsilon=eps) * weight + bias"),
    "conv1d": Call(_convolution(1)),
    "conv2d": Call(_convolution(2)),
}
# The highest derivative that each check takes.
_ORDERS = {
    "value": VALUE,
    "derivative": DERIVATIVE,
    "second": SECOND,
    "layout": DERIVATIVE,
    "special": DERIVATIVE,
}


@dataclass(frozen=True)
class JaxSubject:
    """JAX on the CPU."""

    name: str = "jax-cpu"

    def checks(self, formula: Formula) -> tuple[str, ...]:
        """Return every check but that of a module form: JAX has functions only."""
        if formula.name not in CALLS:
            return ()
        orders = ("derivative", "second") if formula.differentiable else ()
        return ("value", *orders, "layout", "special")

    def reason(self, formula: Formula, fmt: Format, check: str) -> str:
        """Return why the check cannot run: JAX's own words, after it traced the call once."""
        if formula.name not in CALLS:
            return f"{self.name} does not provide {formula.name}"
        if check not in self.checks(formula):
            return f"{self.name} has no {check} of {formula.name}"
        return _absence() or _trial(formula, fmt, _ORDERS[check])

    def implement(self, formula: Formula, fmt: Format, form: str = "function") -> Implementation:
        """Return the function of JAX for this formula."""
        if form != "function":
            raise unknown_name("form", form, ("function",))
        if formula.name not in CALLS:
            raise UsageError(f"{self.name} does not provide {formula.name}")
        absence = _absence()
        if absence:
            raise MissingDependencyError(absence)
        return _implement(self.name, formula, fmt)


def _absence() -> str:
    """Why nothing at all can run; empty if something can."""
    try:
        import jax  # noqa: F401
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in ("jax", "jaxlib"):
            raise
        return 'jax is not installed: pip install "gradcheck[jax]"'
    return ""


@cache
def _trial(formula: Formula, fmt: Format, order: int) -> str:
    """Why JAX refuses a derivative of this order in this format, in its own words; empty if it does not.

    JAX refuses types when it traces a program. Nothing is compiled for that, and no device is touched.
    """
    import jax

    trial = smallest(formula, fmt)
    run = _Run(formula, _code(formula), CALLS[formula.name].fixed, trial.options)
    with _wide():
        try:
            value = jax.eval_shape(run.value, trial.inputs)
            if order >= DERIVATIVE and formula.differentiable:
                jax.eval_shape(run.first, trial.inputs, value)
            if order >= SECOND:
                along = tuple(np.ones(array.shape, fmt.dtype) for array in trial.inputs)
                jax.eval_shape(run.second, trial.inputs, value, along)
        except (TypeError, NotImplementedError) as error:
            return str(error).partition("\n")[0]
    return ""


@dataclass(frozen=True)
class _Run:
    """One call with its options: arrays of JAX in, arrays of JAX out."""

    formula: Formula
    code: CodeType
    fixed: Options
    options: Options

    def value(self, inputs: tuple[Any, ...]) -> Any:
        """Return what the call returns."""
        import jax
        import jax.numpy as jnp

        plain = plain_options(self.formula, self.options, self.fixed)
        return eval(self.code, {"jax": jax, "jnp": jnp}, bind(self.formula, inputs, plain))

    def of_leaves(self, inputs: tuple[Any, ...]) -> Function:
        """Return the call as a function of those inputs alone that are differentiated."""

        def function(*leaves: Any) -> Any:
            given = list(inputs)
            for place, leaf in zip(self.formula.differentiated, leaves, strict=True):
                given[place] = leaf
            return self.value(tuple(given))

        return function

    def first(self, inputs: tuple[Any, ...], cotangent: Any) -> tuple[Any, ...]:
        """Return the vector-Jacobian product."""
        import jax

        return tuple(jax.vjp(self.of_leaves(inputs), *self.leaves(inputs))[1](cotangent))

    def second(self, inputs: tuple[Any, ...], cotangent: Any, directions: tuple[Any, ...]) -> tuple[Any, ...]:
        """Return the gradient of sum_k <directions_k, vjp_k>: the vjp of the vjp, at these directions."""
        import jax

        function = self.of_leaves(inputs)

        def first(*leaves: Any) -> Any:
            return jax.vjp(function, *leaves)[1](cotangent)

        return tuple(jax.vjp(first, *self.leaves(inputs))[1](self.leaves(directions)))

    def leaves(self, arrays: tuple[Any, ...]) -> tuple[Any, ...]:
        """Return those that belong to differentiated inputs."""
        return tuple(arrays[place] for place in self.formula.differentiated)


def _implement(subject: str, formula: Formula, fmt: Format) -> Implementation:
    call, code = CALLS[formula.name], _code(formula)

    def forward(inputs: tuple[Array, ...], options: Options) -> Any:
        with _placed():
            result = _Run(formula, code, call.fixed, options).value(_copies(inputs))
            # Several results come as a tuple, in the order of the formula's outputs.
            return tuple(map(np.asarray, result)) if isinstance(result, tuple) else np.asarray(result)

    def vjp(inputs: tuple[Array, ...], cotangent: Array, options: Options) -> tuple[Array | None, ...]:
        with _placed():
            run = _Run(formula, code, call.fixed, options)
            return _arrays(formula, run.first(_copies(inputs), _copies(cotangent)))

    def second(
        inputs: tuple[Array, ...], cotangent: Array, directions: tuple[Array, ...], options: Options
    ) -> tuple[Array | None, ...]:
        with _placed():
            run = _Run(formula, code, call.fixed, options)
            return _arrays(formula, run.second(*map(_copies, (inputs, cotangent, directions))))

    return Implementation(
        formula=formula.name,
        subject=subject,
        format=fmt,
        forward=forward,
        vjp=vjp if formula.differentiable else None,
        second=second if formula.differentiable else None,
        options=call.fixed,
        flushes=fmt is not FLOAT16,
        reproduce=partial(_reproduce, formula, call),
    )


def _code(formula: Formula) -> CodeType:
    return compile(CALLS[formula.name].text, f"<jax {formula.name}>", "eval")


def _copies(arrays: Any) -> Any:
    """Return JAX's copies of NumPy arrays: memory of their own, so that nothing is shared."""
    import jax.numpy as jnp

    if isinstance(arrays, tuple):
        return tuple(map(_copies, arrays))
    return jnp.array(arrays, copy=True)


def _arrays(formula: Formula, gradients: tuple[Any, ...]) -> tuple[Array | None, ...]:
    """Return one gradient per input; None for those that are not differentiated."""
    found = iter(gradients)
    places = formula.differentiated
    return tuple(np.asarray(next(found)) if k in places else None for k in range(len(formula.inputs)))


@contextmanager
def _wide() -> Iterator[None]:
    """Allow float64, for this thread and this block."""
    import jax

    with jax.enable_x64(True):
        yield


@contextmanager
def _placed() -> Iterator[None]:
    """Compute in the types that were given, on the CPU."""
    import jax

    with _wide(), jax.default_device(jax.local_devices(backend="cpu")[0]):
        yield


def _reproduce(
    formula: Formula,
    call: Call,
    what: str,
    inputs: tuple[Array, ...],
    cotangent: Array | None,
    options: Options,
    directions: tuple[Array, ...] = (),
) -> str:
    """Return a program of plain JAX that prints what was got, every array as a list of hex numbers."""
    names = plain_options(formula, options, call.fixed)
    differentiated = [formula.inputs[place] for place in formula.differentiated]
    leaves = ", ".join(differentiated)
    lines = [
        "import os",
        'os.environ["JAX_PLATFORMS"] = "cpu"',
        "import jax",
        "import jax.numpy as jnp",
        "import numpy as np",
        'jax.config.update("jax_enable_x64", True)',
        "def show(a):",
        "    for p in a if isinstance(a, tuple) else (a,):",
        "        print([v.hex() for v in np.asarray(p).astype(np.float64).ravel().tolist()])",
        *assignments({name: value for name, value in names.items() if name not in call.fixed}),
        *(_source(name, array) for name, array in zip(formula.inputs, inputs, strict=True)),
    ]
    if what == "value":
        return "\n".join([*lines, f"show({call.text})"])
    if cotangent is None or what not in ("derivative", "second"):
        raise UsageError(f"what={what!r} with cotangent={cotangent!r}: expected value, derivative or second")
    lines += [
        _source("cotangent", cotangent),
        f"f = lambda {leaves}: {call.text}",
        f"first = lambda {leaves}: jax.vjp(f, {leaves})[1](cotangent)",
    ]
    if what == "derivative":
        return "\n".join([*lines, f"show(first({leaves}))"])
    along = directions or tuple(np.ones(array.shape, cotangent.dtype) for array in inputs)
    lines += [_source(f"direction_{formula.inputs[place]}", along[place]) for place in formula.differentiated]
    given = ", ".join(f"direction_{name}" for name in differentiated)
    return "\n".join([*lines, f"show(jax.vjp(first, {leaves})[1](({given},)))"])


def _source(name: str, array: Array) -> str:
    """Return the assignment that makes `array` again in JAX."""
    reshape = "" if array.ndim == 1 else f".reshape({array.shape})"
    listed = str(array.ravel().tolist()) if array.dtype.kind in "iub" else numbers(array)
    return f"{name} = jnp.array({listed}, dtype=jnp.{array.dtype.name}){reshape}"


JAX = JaxSubject()

__all__ = ["CALLS", "JAX", "Call", "JaxSubject"]
