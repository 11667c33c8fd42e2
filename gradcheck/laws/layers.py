"""Laws of layers that are linear in their input, and of max pooling, which is homogeneous."""

from __future__ import annotations

from typing import Any

import numpy as np

from gradcheck.laws.law import Law, Speaker, on_grid

# A matrix with more columns than this is not written out.
_COLUMNS = 64


def _without_bias(f: Speaker, inputs: Any) -> Any:
    return (*inputs[:-1], np.zeros_like(inputs[-1])) if f.formula.inputs[-1] == "bias" else inputs


def _pairing(f: Speaker, inputs: Any, options: Any, place: int) -> Any:
    """Return <c, f(x)> and <x, dx>, with the sum of the first one's magnitudes as the scale."""
    inputs = _without_bias(f, inputs)
    y = f.value(*inputs, **options)
    cotangent = f.numbers(y.shape)
    gradient = f.vjp(inputs, cotangent, **options)[place]
    product = y * f.lift(cotangent)
    return np.sum(product), np.sum(gradient * f.lift(inputs[place])), np.sum(np.abs(product))


def the_backward_pass_is_the_adjoint_of_the_forward_pass(f: Speaker, inputs: Any, options: Any) -> Any:
    """<c, f(x)> = <x, dx> for what is linear, or homogeneous of degree 1, in x."""
    return _pairing(f, inputs, options, 0)


def the_gradient_of_the_weight_is_the_adjoint_in_the_weight(f: Speaker, inputs: Any, options: Any) -> Any:
    """<c, f(W)> = <W, dW>."""
    return _pairing(f, inputs, options, 1)


def a_convolution_is_a_matrix(f: Speaker, inputs: Any, options: Any) -> Any:
    """The columns are what unit inputs give: f(x) = Σ xₖ f(eₖ), every unit a sample of one batch."""
    x, *rest = _without_bias(f, inputs)
    shape = x.shape[1:]
    size = int(np.prod(shape))
    if size > _COLUMNS or not x.size:
        return None
    units = np.reshape(np.eye(size), (size, *shape))
    columns = f.value(units, *rest, **options)
    flat = np.reshape(columns, (size, -1))
    rows = np.matmul(f.lift(np.reshape(x, (x.shape[0], size))), flat)
    return f.value(x, *rest, **options), np.reshape(rows, (x.shape[0], *columns.shape[1:]))


def a_sum_of_inputs_gives_the_sum_of_results(f: Speaker, inputs: Any, options: Any) -> Any:
    """f(x + z) = f(x) + f(z) without the bias."""
    x, *rest = _without_bias(f, inputs)
    x, z = on_grid(x), f.numbers(x.shape, 1)
    whole = f.value(x + z, *rest, **options)
    parts = f.value(x, *rest, **options), f.value(z, *rest, **options)
    return whole, parts[0] + parts[1], np.abs(parts[0])


def the_gradient_of_a_window_goes_to_its_elements_whole(f: Speaker, inputs: Any, options: Any) -> Any:
    """Σ dx = Σ c: every window hands on all of its gradient, once, also at ties."""
    if f.formula.name.startswith("avg"):
        # Padding takes its share of an average, and a window over the edge divides by less.
        pad = 0 if f.formula.name.endswith("1d") else (0, 0)
        options = {**options, "padding": pad, "ceil_mode": False}
        kernel = options["kernel_size"]
        kernels = kernel if isinstance(kernel, tuple) else (kernel,)
        if any(k > n for k, n in zip(kernels, inputs[0].shape[2:], strict=True)):
            return None
        options |= {"divisor_override": None} if "divisor_override" in options else {}
    y = f.value(*inputs, **options)
    cotangent = f.numbers(y.shape)
    (gradient,) = f.vjp(inputs, cotangent, **options)
    c = f.lift(cotangent)
    return np.sum(gradient), np.sum(c), np.sum(np.abs(c))


def the_gradient_at_ties_is_handed_on_whole(f: Speaker, inputs: Any, options: Any) -> Any:
    """Σ dx = Σ c where most windows hold equal elements: whoever gets it, nothing is lost or doubled."""
    x = np.abs(f.numbers(inputs[0].shape, 1)) > 1
    return the_gradient_of_a_window_goes_to_its_elements_whole(f, (x.astype(np.float64),), options)


def the_backward_pass_drops_by_the_same_mask(f: Speaker, inputs: Any, options: Any) -> Any:
    """The gradient is dropout of the cotangent, by the mask of the forward pass."""
    x, mask = inputs
    cotangent = f.numbers(x.shape)
    gradient, _ = f.vjp(inputs, cotangent, **options)
    return gradient, f.value(cotangent, mask, **options)


def a_mask_and_its_opposite_average_to_the_input(f: Speaker, inputs: Any, options: Any) -> Any:
    """At p = 1/2 every element is kept by one of both masks, at twice its size: the mean is x."""
    x, mask = inputs
    options = {**options, "p": 0.5}
    total = f.value(x, mask, **options) + f.value(x, 1 - mask, **options)
    return total, 2 * f.lift(x)


_CONVOLUTIONS = ("conv1d", "conv2d")
_AVERAGES = ("avg_pool1d", "avg_pool2d")
_MAXIMA = ("max_pool1d", "max_pool2d")
LAWS = (
    Law(
        ("dense", *_CONVOLUTIONS, *_AVERAGES, *_MAXIMA, "dropout"),
        the_backward_pass_is_the_adjoint_of_the_forward_pass,
        gradient=True,
    ),
    Law(("dense", *_CONVOLUTIONS), the_gradient_of_the_weight_is_the_adjoint_in_the_weight, gradient=True),
    Law(_CONVOLUTIONS, a_convolution_is_a_matrix),
    Law(("dense", *_CONVOLUTIONS, *_AVERAGES), a_sum_of_inputs_gives_the_sum_of_results),
    Law((*_MAXIMA, *_AVERAGES), the_gradient_of_a_window_goes_to_its_elements_whole, gradient=True),
    Law(_MAXIMA, the_gradient_at_ties_is_handed_on_whole, gradient=True),
    Law(("dropout",), the_backward_pass_drops_by_the_same_mask, gradient=True),
    Law(("dropout",), a_mask_and_its_opposite_average_to_the_input),
)
