"""Other gradient checkers, each called as its documentation says, on one call of a corpus.

A peer takes a call and answers "caught", "passed", or says why it is not applicable. What it is given is the
user's function in float64, where every floating input, and every parameter of a module, requires a gradient;
a module's parameters are passed as inputs, so that no peer misses them for lack of an argument. A NumPy
function with its vjp becomes a `torch.autograd.Function`, as PyTorch's tutorial on extensions does it.

An exception counts as caught if it is the verdict of the peer itself; an operation that raises anything else
under a peer is not applicable to it.
"""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.autograd.gradcheck import GradcheckError, gradcheck, gradgradcheck

CAUGHT, PASSED, NOT_APPLICABLE, NOT_RUN = "caught", "passed", "not applicable", "not run"
# `scipy.optimize.check_grad` returns the norm of a difference and judges nothing. Forward differences leave
# about 1e-8 of the size of what is summed; a hundred times that, with the gradient's own size, is allowed.
SCIPY_TOLERANCE = 1e-6
# numdifftools names no tolerance either; its extrapolated differences are good to about 1e-10.
NUMDIFFTOOLS_RTOL = 1e-6
_OF_THE_CHECKER = ("vjp", "reference", "options", "domain", "framework", "parameters")


def peer_names() -> tuple[str, ...]:
    """Return the names of all peers in the order of the tables."""
    return tuple(PEERS)


def missing(name: str) -> str:
    """Return why a peer cannot run here, empty if it can."""
    needed = _NEEDS.get(name, "")
    return f"{NOT_RUN}: {needed} is not installed" if needed and not importlib.util.find_spec(needed) else ""


def ask(name: str, call: Any) -> str:
    """Return what a peer says of a call."""
    if why := missing(name):
        return why
    if name in ("torch gradgradcheck", "jax check_grads, order 2") and "vjp" in call.keywords:
        return f"{NOT_APPLICABLE}: a NumPy pair has no derivative of its gradient"
    return PEERS[name](call)


# The function as the peers see it


@dataclass(frozen=True)
class Prepared:
    """A PyTorch function of its differentiable inputs alone, and the inputs."""

    f: Callable[..., Any]
    leaves: tuple[torch.Tensor, ...]


def prepared(call: Any) -> Prepared:
    """Return the call's function in double precision as a function of everything to be differentiated."""
    f = _paired(call.f, call.keywords["vjp"]) if "vjp" in call.keywords else call.f
    keywords = {k: v for k, v in call.keywords.items() if k not in _OF_THE_CHECKER}
    inputs = [torch.from_numpy(x) if isinstance(x, np.ndarray) else x for x in call.inputs]
    places = [k for k, x in enumerate(inputs) if isinstance(x, torch.Tensor) and x.is_floating_point()]
    module = f.double() if isinstance(f, torch.nn.Module) else None
    parameters = dict(module.named_parameters()) if module is not None else {}
    values = [inputs[k] for k in places] + list(parameters.values())
    leaves = tuple(x.detach().double().requires_grad_() for x in values)

    def function(*given: torch.Tensor) -> Any:
        filled = list(inputs)
        for place, x in zip(places, given, strict=False):
            filled[place] = x
        if module is None:
            return f(*filled, **keywords)
        named = dict(zip(parameters, given[len(places) :], strict=True))
        return torch.func.functional_call(module, named, tuple(filled), keywords)

    return Prepared(function, leaves)


def _paired(forward: Callable[..., Any], vjp: Callable[..., Any]) -> Callable[..., Any]:
    class Paired(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, *inputs: Any) -> Any:
            ctx.inputs = tuple(x.detach().numpy() if isinstance(x, torch.Tensor) else x for x in inputs)
            found = forward(*ctx.inputs)
            several = isinstance(found, tuple | list)
            made = tuple(torch.from_numpy(np.array(y)) for y in (found if several else [found]))
            return made if several else made[0]

        @staticmethod
        @torch.autograd.function.once_differentiable
        def backward(ctx: Any, *cotangents: torch.Tensor) -> Any:
            given = tuple(g.numpy() for g in cotangents)
            found = vjp(ctx.inputs, given if len(given) > 1 else given[0])
            found = found if isinstance(found, tuple | list) else [found]
            return tuple(None if g is None else torch.from_numpy(np.array(g)) for g in found)

    return Paired.apply


class Flat:
    """A prepared function from one vector to one vector, with its vector-Jacobian products."""

    def __init__(self, call: Any) -> None:
        given = prepared(call)
        self._f = given.f
        self._shapes = [tuple(x.shape) for x in given.leaves]
        self.x = self._joined(given.leaves)
        self.size = self.values(self.x).size

    @staticmethod
    def _joined(found: Sequence[torch.Tensor]) -> np.ndarray:
        return np.concatenate([x.detach().numpy().astype(np.float64).ravel() for x in found] or [np.empty(0)])

    def _split(self, x: np.ndarray) -> list[torch.Tensor]:
        ends = np.cumsum([int(np.prod(shape)) for shape in self._shapes])[:-1]
        parts = np.split(np.asarray(x, dtype=np.float64), ends)
        return [
            torch.from_numpy(part.copy()).reshape(shape).requires_grad_()
            for part, shape in zip(parts, self._shapes, strict=True)
        ]

    def _outputs(self, leaves: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        found = self._f(*leaves)
        several = list(found) if isinstance(found, tuple | list) else [found]
        return [y for y in several if y.is_floating_point()]

    def values(self, x: np.ndarray) -> np.ndarray:
        """Return the outputs at x."""
        return self._joined(self._outputs(self._split(x)))

    def product(self, x: np.ndarray, cotangent: np.ndarray) -> np.ndarray:
        """Return the product of a cotangent and the Jacobian at x."""
        leaves = self._split(x)
        return self._joined(self._gradients(leaves, torch.from_numpy(np.array(cotangent)), graph=False))

    def _gradients(
        self, leaves: list[torch.Tensor], cotangent: torch.Tensor, graph: bool
    ) -> list[torch.Tensor]:
        outputs = self._outputs(leaves)
        ends = np.cumsum([0] + [y.numel() for y in outputs])
        # Copies: an operation may write into its cotangent.
        pairs = [
            (y, cotangent[start:end].reshape(y.shape).to(y.dtype).clone())
            for y, start, end in zip(outputs, ends[:-1], ends[1:], strict=True)
            if y.requires_grad
        ]
        if not pairs:
            return [torch.zeros_like(x) for x in leaves]
        given = torch.autograd.grad(
            [y for y, _ in pairs], leaves, [w for _, w in pairs], create_graph=graph, allow_unused=True
        )
        return [torch.zeros_like(x) if g is None else g for g, x in zip(given, leaves, strict=True)]

    def second(
        self, x: np.ndarray, cotangent: np.ndarray, direction: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the product of a direction and the Jacobian of the gradient, by input and by cotangent."""
        leaves, weight = self._split(x), torch.from_numpy(np.array(cotangent)).requires_grad_()
        first = self._gradients(leaves, weight, graph=True)
        along = self._split(direction)
        pairs = [(g, v.detach()) for g, v in zip(first, along, strict=True) if g.requires_grad]
        wanted = [*leaves, weight]
        found: Sequence[torch.Tensor | None] = [None] * len(wanted)
        if pairs:
            found = torch.autograd.grad(
                [g for g, _ in pairs], wanted, [v for _, v in pairs], allow_unused=True
            )
        filled = [torch.zeros_like(w) if g is None else g for g, w in zip(found, wanted, strict=True)]
        return self._joined(filled[:-1]), filled[-1].detach().numpy()


def _judged(run: Callable[[], Any], own: tuple[type[BaseException], ...] = ()) -> str:
    try:
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            good = run()
    except own:
        return CAUGHT
    except Exception as error:
        said = str(error).partition("\n")[0][:200]
        return f"{NOT_APPLICABLE}: {type(error).__name__}: {said}"
    return PASSED if good else CAUGHT


# The peers


def _torch(check: Callable[..., bool], **options: Any) -> Callable[[Any], str]:
    def peer(call: Any) -> str:
        def run() -> bool:
            given = prepared(call)
            return check(given.f, given.leaves, **options)

        return _judged(run, (GradcheckError, AssertionError))

    return peer


def _jax(order: int) -> Callable[[Any], str]:
    def peer(call: Any) -> str:
        import jax
        from jax.test_util import check_grads

        jax.config.update("jax_enable_x64", True)
        jax.config.update("jax_platforms", "cpu")

        def run() -> bool:
            flat = Flat(call)
            check_grads(as_jax(flat), (jax.numpy.asarray(flat.x),), order=order, modes=("rev",))
            return True

        return _judged(run, (AssertionError,))

    return peer


def as_jax(flat: Flat) -> Callable[[Any], Any]:
    """Return the function for JAX; its backward pass, and that one's, are calls back to the original's."""
    import jax

    output = jax.ShapeDtypeStruct((flat.size,), np.float64)
    like_x = jax.ShapeDtypeStruct(flat.x.shape, np.float64)

    def called(f: Callable[..., Any], shape: Any, *arguments: Any) -> Any:
        return jax.pure_callback(lambda *a: f(*map(np.asarray, a)), shape, *arguments)

    @jax.custom_vjp
    def gradient(x: Any, cotangent: Any) -> Any:
        return called(flat.product, like_x, x, cotangent)

    gradient.defvjp(
        lambda x, g: (gradient(x, g), (x, g)),
        lambda kept, direction: called(flat.second, (like_x, output), *kept, direction),
    )

    @jax.custom_vjp
    def function(x: Any) -> Any:
        return called(flat.values, output, x)

    function.defvjp(lambda x: (function(x), x), lambda x, cotangent: (gradient(x, cotangent),))
    return function


def _scipy(call: Any) -> str:
    """Check the gradient of sum(v * f) for one random v, by forward differences."""
    from scipy.optimize import check_grad

    def run() -> bool:
        flat = Flat(call)
        v = np.random.default_rng(0).standard_normal(flat.size)
        gradient = flat.product(flat.x, v)
        off = check_grad(lambda x: float(v @ flat.values(x)), lambda x: flat.product(x, v), flat.x)
        return bool(off <= SCIPY_TOLERANCE * (1 + np.linalg.norm(gradient)))

    return _judged(run)


def _numdifftools(call: Any) -> str:
    """Compare the whole Jacobian of reverse mode with that of adaptive, extrapolated differences."""
    import numdifftools

    def run() -> bool:
        flat = Flat(call)
        given = np.stack([flat.product(flat.x, row) for row in np.eye(flat.size)])
        numerical = numdifftools.Jacobian(flat.values)(flat.x)
        return bool(np.allclose(given, numerical.reshape(given.shape), rtol=NUMDIFFTOOLS_RTOL))

    return _judged(run)


PEERS: dict[str, Callable[[Any], str]] = {
    "torch gradcheck": _torch(gradcheck),
    "torch gradcheck, fast": _torch(gradcheck, fast_mode=True),
    "torch gradgradcheck": _torch(gradgradcheck),
    "jax check_grads, order 1": _jax(1),
    "jax check_grads, order 2": _jax(2),
    "scipy check_grad": _scipy,
    "numdifftools": _numdifftools,
}
_NEEDS = {
    "jax check_grads, order 1": "jax",
    "jax check_grads, order 2": "jax",
    "scipy check_grad": "scipy",
    "numdifftools": "numdifftools",
}
