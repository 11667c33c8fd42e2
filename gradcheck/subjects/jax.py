"""JAX's own functions on the CPU.

One text per call: the text that runs is the text that a reproduction prints, so the two cannot part. The
calls are not wrapped in `jax.jit`: what a user types is what runs. Most functions of `jax.nn` are compiled
programs of their own; compiling a whole model fuses them further, and is another program than this one.

JAX makes float32 of float64 unless it is told not to. Every call here allows float64 and computes on the CPU
for its own duration, by contexts of JAX that end with it; no setting of the caller's is changed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache, partial
from types import CodeType
from typing import Any

import numpy as np

from gradcheck.errors import MissingDependencyError, UsageError, unknown_name
from gradcheck.formats import Format
from gradcheck.records import DERIVATIVE, SECOND, VALUE, Array, Formula, Options
from gradcheck.subjects.implementation import Implementation, bind, plain_options
from gradcheck.subjects.snippet import assignments, numbers

Function = Callable[..., Any]


@dataclass(frozen=True)
class Call:
    """How JAX spells a formula, the options that this spelling has at one value only, and trial shapes."""

    text: str
    fixed: Options = field(default_factory=dict)
    shapes: tuple[tuple[int, ...], ...] = ((2,),)


_ROW = "jnp.matmul(x, w) + b"

CALLS: dict[str, Call] = {
    "relu": Call("jax.nn.relu(x)"),
    "leaky_relu": Call("jax.nn.leaky_relu(x, negative_slope=negative_slope)"),
    "prelu": Call("jax.nn.leaky_relu(x, negative_slope=weight)", shapes=((2, 2), (2,))),
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
    "preactivation": Call(_ROW, shapes=((2, 3), (3,), ())),
    "neuron": Call(f"jax.nn.sigmoid({_ROW})", shapes=((2, 3), (3,), ())),
    "dense": Call("jnp.matmul(x, weight.T) + bias", shapes=((2, 3), (2, 3), (2,))),
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
        special = ("special",) if formula.elementwise else ()
        return ("value", "derivative", "second", "layout", *special)

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

    call = CALLS[formula.name]
    function = _function(formula, _code(formula), call.fixed, {})
    with _wide():
        inputs = [jax.ShapeDtypeStruct(shape, fmt.dtype) for shape in call.shapes]
        try:
            value = jax.eval_shape(function, *inputs)
            if order >= DERIVATIVE:
                jax.eval_shape(partial(_pulled, function), inputs, value)
            if order >= SECOND:
                jax.eval_shape(partial(_twice_pulled, function), inputs, value, inputs)
        except (TypeError, ValueError, NotImplementedError) as error:
            return str(error).partition("\n")[0]
    return ""


def _implement(subject: str, formula: Formula, fmt: Format) -> Implementation:
    call, code = CALLS[formula.name], _code(formula)

    def forward(inputs: tuple[Array, ...], options: Options) -> Array:
        function = _function(formula, code, call.fixed, options)
        with _placed():
            return np.asarray(function(*_copies(inputs)))

    def vjp(inputs: tuple[Array, ...], cotangent: Array, options: Options) -> tuple[Array | None, ...]:
        function = _function(formula, code, call.fixed, options)
        with _placed():
            return _arrays(_pulled(function, *_copies((inputs, cotangent))))

    def second(
        inputs: tuple[Array, ...], cotangent: Array, directions: tuple[Array, ...], options: Options
    ) -> tuple[Array | None, ...]:
        function = _function(formula, code, call.fixed, options)
        with _placed():
            return _arrays(_twice_pulled(function, *_copies((inputs, cotangent, directions))))

    return Implementation(
        formula=formula.name,
        subject=subject,
        format=fmt,
        forward=forward,
        vjp=vjp,
        second=second,
        options=call.fixed,
        reproduce=partial(_reproduce, formula, call),
    )


def _code(formula: Formula) -> CodeType:
    return compile(CALLS[formula.name].text, f"<jax {formula.name}>", "eval")


def _function(formula: Formula, code: CodeType, fixed: Options, options: Options) -> Function:
    """Return the call as a function of the inputs alone."""
    import jax
    import jax.numpy as jnp

    plain = plain_options(formula, options, fixed)
    return lambda *inputs: eval(code, {"jax": jax, "jnp": jnp}, bind(formula, inputs, plain))


def _pulled(function: Function, inputs: Any, cotangent: Any) -> Any:
    """Return the vector-Jacobian product: one gradient per input."""
    import jax

    return jax.vjp(function, *inputs)[1](cotangent)


def _twice_pulled(function: Function, inputs: Any, cotangent: Any, directions: Any) -> Any:
    """Return the gradient of sum_k <directions_k, vjp_k>: the vjp of the vjp, at these directions."""
    import jax

    first = lambda *inputs: _pulled(function, inputs, cotangent)  # noqa: E731
    return jax.vjp(first, *inputs)[1](tuple(directions))


def _copies(arrays: Any) -> Any:
    """Return JAX's copies of NumPy arrays: memory of their own, so that nothing is shared."""
    import jax
    import jax.numpy as jnp

    return jax.tree.map(lambda array: jnp.array(array, copy=True), arrays)


def _arrays(gradients: tuple[Any, ...]) -> tuple[Array, ...]:
    return tuple(np.asarray(gradient) for gradient in gradients)


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
    arguments = ", ".join(formula.inputs)
    lines = [
        "import os",
        'os.environ["JAX_PLATFORMS"] = "cpu"',
        "import jax",
        "import jax.numpy as jnp",
        "import numpy as np",
        'jax.config.update("jax_enable_x64", True)',
        "def show(a):",
        "    print([v.hex() for v in np.asarray(a).astype(np.float64).ravel().tolist()])",
        *assignments({name: value for name, value in names.items() if name not in call.fixed}),
        *(_source(name, array) for name, array in zip(formula.inputs, inputs, strict=True)),
        f"f = lambda {arguments}: {call.text}",
    ]
    if what == "value":
        return "\n".join([*lines, f"show(f({arguments}))"])
    if cotangent is None or what not in ("derivative", "second"):
        raise UsageError(f"what={what!r} with cotangent={cotangent!r}: expected value, derivative or second")
    lines += [
        _source("cotangent", cotangent),
        f"first = lambda {arguments}: jax.vjp(f, {arguments})[1](cotangent)",
    ]
    if what == "derivative":
        return "\n".join([*lines, f"for g in first({arguments}):\n    show(g)"])
    along = directions or tuple(np.ones(array.shape, array.dtype) for array in inputs)
    lines += [_source(f"direction_{name}", array) for name, array in zip(formula.inputs, along, strict=True)]
    given = ", ".join(f"direction_{name}" for name in formula.inputs)
    lines.append(f"for g in jax.vjp(first, {arguments})[1](({given},)):\n    show(g)")
    return "\n".join(lines)


def _source(name: str, array: Array) -> str:
    """Return the assignment that makes `array` again in JAX."""
    reshape = "" if array.ndim == 1 else f".reshape({array.shape})"
    return f"{name} = jnp.array({numbers(array)}, dtype=jnp.{array.dtype.name}){reshape}"


JAX = JaxSubject()

__all__ = ["CALLS", "JAX", "Call", "JaxSubject"]
