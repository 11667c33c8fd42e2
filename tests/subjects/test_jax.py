import ast
import builtins
import dataclasses
import math
import subprocess
import sys
from importlib.util import find_spec

import ml_dtypes
import numpy as np
import pytest

from gradcheck.errors import MissingDependencyError, UsageError
from gradcheck.formats import BFLOAT16, FLOAT16, FLOAT32, FLOAT64, FORMATS
from gradcheck.formulas import CATALOGUE, get_formula
from gradcheck.known import KnownList
from gradcheck.records import Option
from gradcheck.runner import locate
from gradcheck.runner.plan import plan, select
from gradcheck.subjects.jax import CALLS, JAX, Call, _trial

needs_jax = pytest.mark.skipif(find_spec("jax") is None, reason="jax is not installed")
ABSENT = 'jax is not installed: pip install "gradcheck[jax]"'
GAUSSIAN = dataclasses.replace(get_formula("relu"), name="gaussian")
KNOWN = [formula for formula in CATALOGUE if formula.name in CALLS]


def described(name, inputs, **options):
    """A formula of which only the names matter; the catalogue's own, where it has it."""
    found = [formula for formula in CATALOGUE if formula.name == name]
    made = [Option(option, default, structural=True) for option, default in options.items()]
    record = dataclasses.replace(
        get_formula("dense"), name=name, inputs=inputs, options=tuple(made), axes=(), variants=()
    )
    return found[0] if found else record


CONVOLUTION = {"stride": 2, "padding": 1, "dilation": 2, "groups": 1, "padding_mode": "zeros"}
CONVOLUTION_2D = {**CONVOLUTION, "stride": (1, 2), "padding": (1, 2), "dilation": (1, 1)}
LATER = {
    "softmax": described("softmax", ("x",), axis=-1),
    "log_softmax": described("log_softmax", ("x",), axis=-1),
    "logsumexp": described("logsumexp", ("x",), axis=-1),
    "layer_norm": described("layer_norm", ("x", "weight", "bias"), eps=1e-5, axes=1),
    "conv1d": described("conv1d", ("x", "weight", "bias"), **CONVOLUTION),
    "conv2d": described("conv2d", ("x", "weight", "bias"), **CONVOLUTION_2D),
}
RECORDS = {**{formula.name: formula for formula in KNOWN}, **LATER}


def test_every_call_is_one_expression_of_the_formulas_own_names():
    assert set(CALLS) == set(RECORDS)
    for name, call in CALLS.items():
        record = RECORDS[name]
        tree = ast.parse(call.text, mode="eval")
        used = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
        bound = {node.id for node in ast.walk(tree) if isinstance(getattr(node, "ctx", None), ast.Store)}
        options = {option.name for option in record.options}
        assert used - bound - {"jax", "jnp"} - set(dir(builtins)) <= {*record.inputs, *options}, name
        assert set(record.inputs) <= used, name
        assert set(call.fixed) <= options, name
        assert used & options == options - set(call.fixed), name


def test_every_activation_and_layer_of_the_first_catalogue_has_a_call():
    named = {*("relu", "leaky_relu", "prelu", "elu", "celu", "selu", "sigmoid", "tanh", "softplus")}
    named |= {*("log_sigmoid", "relu6", "hardtanh", "hardsigmoid", "hardswish", "softsign", "gelu", "silu")}
    named |= {*("gelu_tanh", "mish", "preactivation", "neuron", "dense")}
    assert named <= set(CALLS)


def test_without_jax_every_planned_cell_is_not_run_and_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "jax", None)
    cells = plan(select(subjects=["numpy", "jax-cpu"]))
    absent = [cell for cell in cells if cell.subject == "jax-cpu"]
    assert {cell.formula for cell in absent} == {formula.name for formula in KNOWN}
    assert {cell.check for cell in absent} == {"value", "derivative", "second", "layout", "special", "law"}
    assert {cell.reason for cell in absent} == {ABSENT}
    with pytest.raises(UsageError, match=r"gradcheck\[jax\]"):
        plan(select(subjects=["jax-cpu"]))
    with pytest.raises(MissingDependencyError, match="not installed"):
        JAX.implement(get_formula("relu"), FLOAT32)


def test_what_jax_does_not_have():
    assert JAX.checks(GAUSSIAN) == ()
    assert "does not provide" in JAX.reason(GAUSSIAN, FLOAT32, "value")
    assert JAX.reason(get_formula("relu"), FLOAT32, "module") == "jax-cpu has no module of relu"
    with pytest.raises(UsageError, match="does not provide gaussian"):
        JAX.implement(GAUSSIAN, FLOAT32)
    with pytest.raises(UsageError, match=r"unknown form 'module'.*function"):
        JAX.implement(get_formula("relu"), FLOAT32, "module")


def test_known_findings_of_jax_are_not_stale_where_jax_is_absent():
    path = locate.known(locate.properties())
    listed = KnownList.load(path)
    present = [entry.check for entry in listed.entries if entry.subject != "jax-cpu"]
    stale = listed.stale((), present, {"torch": "2.13.0", "numpy": "2.4.6"})
    assert not [entry for entry in stale if entry.subject == "jax-cpu"]


def draw(name, fmt, seed=0):
    generator = np.random.default_rng(seed)
    shapes = {
        "prelu": ((5, 3), (3,)),
        "preactivation": ((5, 3), (3,), ()),
        "neuron": ((5, 3), (3,), ()),
        "dense": ((5, 3), (2, 3), (2,)),
    }.get(name, ((17,),))
    return tuple(np.asarray(2 * generator.standard_normal(shape)).astype(fmt.dtype) for shape in shapes)


CHOSEN = {"leaky_relu": {"negative_slope": 0.2}, "elu": {"alpha": 1.5}, "celu": {"alpha": 1.5}}


def direct(name):
    """The same call written a second time, by hand: the table under test holds texts."""
    import jax
    from jax import nn

    calls = {
        "leaky_relu": lambda x: nn.leaky_relu(x, 0.2),
        "prelu": lambda x, weight: nn.leaky_relu(x, weight),
        "tanh": jax.numpy.tanh,
        "hardtanh": nn.hard_tanh,
        "elu": lambda x: nn.elu(x, 1.5),
        "celu": lambda x: nn.celu(x, 1.5),
        "gelu": lambda x: nn.gelu(x, False),
        "gelu_tanh": lambda x: nn.gelu(x, True),
        "hardsigmoid": nn.hard_sigmoid,
        "hardswish": nn.hard_swish,
        "softsign": nn.soft_sign,
        "preactivation": lambda x, w, b: x @ w + b,
        "neuron": lambda x, w, b: nn.sigmoid(x @ w + b),
        "dense": lambda x, weight, bias: x @ weight.T + bias,
    }
    return calls.get(name) or getattr(nn, name)


CASES = [
    *((formula.name, FLOAT32) for formula in KNOWN if formula.name not in LATER),
    *(("gelu", fmt) for fmt in FORMATS if fmt is not FLOAT32),
    *(("dense", fmt) for fmt in FORMATS if fmt is not FLOAT32),
]


@needs_jax
@pytest.mark.parametrize(("name", "fmt"), CASES, ids=lambda part: getattr(part, "name", part))
def test_value_and_gradient_are_jaxs_own_to_the_bit(name, fmt):
    import jax

    inputs, options, made = draw(name, fmt), CHOSEN.get(name, {}), JAX.implement(get_formula(name), fmt)
    value = made.forward(inputs, options)
    cotangent = np.random.default_rng(1).standard_normal(value.shape).astype(fmt.dtype)
    got = made.vjp(inputs, cotangent, options)
    with jax.enable_x64(True):
        arrays = [jax.numpy.array(array) for array in inputs]
        # Not the value that comes with the gradient: it is fused otherwise, and differs in its last bit.
        expected = direct(name)(*arrays)
        gradients = jax.vjp(direct(name), *arrays)[1](jax.numpy.array(cotangent))
    assert len(got) == len(inputs)
    for mine, theirs in zip((value, *got), (expected, *gradients), strict=True):
        assert mine.dtype == fmt.dtype
        np.testing.assert_array_equal(mine, np.asarray(theirs))


@needs_jax
def test_second_derivatives_along_directions():
    x = np.linspace(-3, 3, 61)
    cotangent, direction = np.cos(5 * x), np.sin(3 * x)
    (got,) = JAX.implement(get_formula("tanh"), FLOAT64).second((x,), cotangent, (direction,), {})
    t = np.tanh(x)
    np.testing.assert_allclose(got, cotangent * direction * -2 * t * (1 - t * t), rtol=0, atol=1e-15)
    # sum_k <D_k, vjp_k> = <D_x, c W> + <D_W, c^T x> + <D_b, sum c>, so d/dx = c D_W, d/dW = c^T D_x, d/db = 0
    inputs, along = draw("dense", FLOAT64), draw("dense", FLOAT64, seed=1)
    cotangent = np.random.default_rng(2).standard_normal((5, 2))
    got = JAX.implement(get_formula("dense"), FLOAT64).second(inputs, cotangent, along, {})
    np.testing.assert_allclose(got[0], cotangent @ along[1], rtol=0, atol=1e-14)
    np.testing.assert_allclose(got[1], cotangent.T @ along[0], rtol=0, atol=1e-14)
    assert not got[2].any()


@needs_jax
def test_an_input_that_is_not_differentiated_has_no_gradient(monkeypatch):
    monkeypatch.setitem(CALLS, "scaled", Call("x * x * jnp.take(weight, index)"))
    record = dataclasses.replace(
        get_formula("dense"), name="scaled", inputs=("x", "weight", "index"), constants=("weight", "index")
    )
    inputs = np.array([2.0, 3.0]), np.array([0.5, 4.0]), np.array([1, 0])
    made = JAX.implement(record, FLOAT64)
    first = made.vjp(inputs, np.array([1.0, -1.0]), {})
    assert first[0].tolist() == [16.0, -3.0]
    directions = (np.array([1.0, 10.0]), np.ones(2), np.ones(2))
    second = made.second(inputs, np.array([1.0, -1.0]), directions, {})
    assert second[0].tolist() == [8.0, -10.0]
    assert first[1:] == second[1:] == (None, None)


@needs_jax
@pytest.mark.parametrize("fmt", [FLOAT64, BFLOAT16], ids=lambda fmt: fmt.name)
@pytest.mark.parametrize("shape", [(), (0,), (1,), (2, 0, 3)])
def test_scalars_and_nothing_at_all(shape, fmt):
    x = np.full(shape, 0.3).astype(fmt.dtype)
    made = JAX.implement(get_formula("elu"), fmt)
    (gradient,) = made.vjp((x,), np.ones_like(x), {})
    for result in (made.forward((x,), {}), gradient):
        assert result.shape == shape
        assert result.dtype == fmt.dtype


@needs_jax
def test_arrays_are_copied_in_and_the_callers_jax_is_left_as_it_was():
    import jax

    names = ("jax_enable_x64", "jax_default_device", "jax_platforms", "jax_default_matmul_precision")
    before = [getattr(jax.config, name) for name in names]
    wide = np.linspace(-1, 1, 64)
    wide.flags.writeable = False
    made = JAX.implement(get_formula("relu"), FLOAT64)
    results = [
        made.forward((wide,), {}),
        *made.vjp((wide,), wide, {}),
        *made.second((wide,), wide, (wide,), {}),
    ]
    assert all(array.dtype == np.float64 and not np.shares_memory(array, wide) for array in results)
    reversed_view = wide[::-1]
    np.testing.assert_array_equal(made.forward((reversed_view,), {}), np.maximum(reversed_view, 0))
    JAX.reason(get_formula("tanh"), FLOAT64, "second")
    assert before == [getattr(jax.config, name) for name in names]
    assert jax.numpy.array(wide).dtype == (np.float64 if before[0] else np.float32)


@needs_jax
def test_the_options_of_softplus_and_hardtanh_are_fixed():
    softplus = JAX.implement(get_formula("softplus"), FLOAT64)
    assert softplus.options == {"beta": 1.0, "threshold": math.inf}
    with pytest.raises(UsageError, match=r"beta=2\.0"):
        softplus.forward((np.zeros(2),), {"beta": 2.0})
    with pytest.raises(UsageError, match="no option 'slope'"):
        JAX.implement(get_formula("leaky_relu"), FLOAT64).forward((np.zeros(2),), {"slope": 1.0})


# Nothing is refused by this version; a refusal that is new is worth a look.
@needs_jax
@pytest.mark.parametrize("fmt", FORMATS, ids=lambda fmt: fmt.name)
def test_jax_refuses_nothing(fmt):
    for formula in KNOWN:
        assert [JAX.reason(formula, fmt, check) for check in JAX.checks(formula)] == [""] * 5


@needs_jax
def test_a_refusal_is_reported_and_a_mistake_of_ours_is_not_swallowed(monkeypatch):
    import jax

    _trial.cache_clear()
    message = "tanh requires ndarray or scalar arguments"
    monkeypatch.setattr(jax.numpy, "tanh", lambda x: (_ for _ in ()).throw(TypeError(message + "\nmore")))
    assert JAX.reason(get_formula("tanh"), FLOAT32, "value") == message
    _trial.cache_clear()
    monkeypatch.setitem(CALLS, "tanh", Call("jnp.tanh(y)"))
    with pytest.raises(NameError):
        JAX.reason(get_formula("tanh"), FLOAT32, "value")
    _trial.cache_clear()


@needs_jax
@pytest.mark.parametrize("mode", ["zeros", "reflect", "replicate", "circular"])
def test_convolutions_are_sums_over_windows(mode):
    generator = np.random.default_rng(3)
    names = {"zeros": "constant", "replicate": "edge", "circular": "wrap", "reflect": "reflect"}
    x, weight, bias = (generator.standard_normal(shape) for shape in ((2, 4, 7), (6, 2, 3), (6,)))
    options = {"stride": 2, "padding": 1, "dilation": 2, "groups": 2, "padding_mode": mode}
    got = JAX.implement(LATER["conv1d"], FLOAT64).forward((x, weight, bias), options)
    padded = np.pad(x, [(0, 0), (0, 0), (1, 1)], mode=names[mode])
    windows = np.lib.stride_tricks.sliding_window_view(padded, 5, axis=2)[:, :, ::2, ::2]
    parts = [
        np.einsum("nclk,ock->nol", windows[:, 2 * g : 2 * g + 2], weight[3 * g : 3 * g + 3]) for g in (0, 1)
    ]
    np.testing.assert_allclose(got, np.concatenate(parts, 1) + bias[:, None], rtol=0, atol=1e-13)
    same = {"stride": 1, "padding": "same", "dilation": 1, "groups": 2, "padding_mode": mode}
    got = JAX.implement(LATER["conv1d"], FLOAT64).forward((x, weight[:, :, :2], bias), same)
    padded = np.pad(x, [(0, 0), (0, 0), (0, 1)], mode=names[mode])
    windows = np.lib.stride_tricks.sliding_window_view(padded, 2, axis=2)
    kernels = weight[:, :, :2].reshape(2, 3, 2, 2)
    expected = np.einsum("ngclk,gock->ngol", windows.reshape(2, 2, 2, 7, 2), kernels).reshape(2, 6, 7)
    np.testing.assert_allclose(got, expected + bias[:, None], rtol=0, atol=1e-13)
    x, weight = generator.standard_normal((2, 2, 5, 6)), generator.standard_normal((6, 2, 3, 2))
    options = {**CONVOLUTION_2D, "padding_mode": mode}
    got = JAX.implement(LATER["conv2d"], FLOAT64).forward((x, weight, bias), options)
    padded = np.pad(x, [(0, 0), (0, 0), (1, 1), (2, 2)], mode=names[mode])
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 2), axis=(2, 3))[:, :, :, ::2]
    expected = np.einsum("nchwij,ocij->nohw", windows, weight) + bias[:, None, None]
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-13)


@needs_jax
def test_reductions_are_what_their_names_say():
    x = np.random.default_rng(4).standard_normal((3, 4, 5))
    total = np.log(np.exp(x).sum(1, keepdims=True))
    for name, expected in {"softmax": np.exp(x - total), "log_softmax": x - total}.items():
        got = JAX.implement(LATER[name], FLOAT64).forward((x,), {"axis": 1})
        np.testing.assert_allclose(got, expected, rtol=0, atol=1e-14)
    got = JAX.implement(LATER["logsumexp"], FLOAT64).forward((x,), {"axis": 1})
    np.testing.assert_allclose(got.ravel(), total.ravel(), rtol=0, atol=1e-14)
    weight, bias = np.linspace(1, 2, 20).reshape(4, 5), np.linspace(-1, 1, 20).reshape(4, 5)
    got = JAX.implement(LATER["layer_norm"], FLOAT64).forward((x, weight, bias), {"eps": 0.5, "axes": 2})
    mean, variance = x.mean((1, 2), keepdims=True), x.var((1, 2), keepdims=True)
    np.testing.assert_allclose(got, (x - mean) / np.sqrt(variance + 0.5) * weight + bias, rtol=0, atol=1e-13)


def execute(*programs):
    """Run programs in one process that has nothing of this package imported, and return what each prints."""
    mark = "----"
    source = f"\nprint({mark!r})\n".join(programs)
    assert "gradcheck" not in source
    done = subprocess.run([sys.executable, "-"], input=source, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return [[line for line in part.split("\n") if line] for part in done.stdout.split(mark)]


def printed(arrays):
    return [str([value.hex() for value in np.asarray(a, np.float64).ravel().tolist()]) for a in arrays]


@needs_jax
def test_reproductions_print_what_was_got():
    programs, expected = [], []
    for name, fmt in (("gelu_tanh", FLOAT32), ("softplus", BFLOAT16), ("elu", FLOAT16), ("dense", FLOAT64)):
        made = JAX.implement(get_formula(name), fmt)
        inputs, directions = draw(name, fmt), draw(name, fmt, seed=2)
        options = {**CHOSEN.get(name, {}), **made.options}
        value = made.forward(inputs, options)
        cotangent = np.random.default_rng(1).standard_normal(value.shape).astype(fmt.dtype)
        programs += [
            made.reproduce("value", inputs, None, options),
            made.reproduce("derivative", inputs, cotangent, options),
            made.reproduce("second", inputs, cotangent, options, directions),
        ]
        expected += [
            printed([value]),
            printed(made.vjp(inputs, cotangent, options)),
            printed(made.second(inputs, cotangent, directions, options)),
        ]
    edges = np.array([0.0, -0.0, math.inf, -math.inf, math.nan, BFLOAT16.largest, BFLOAT16.least_subnormal])
    edges = edges.astype(ml_dtypes.bfloat16)
    tanh = JAX.implement(get_formula("tanh"), BFLOAT16)
    scalar = JAX.implement(get_formula("celu"), FLOAT64)
    options = {"alpha": math.inf}
    programs += [
        tanh.reproduce("value", (edges,), None, {}),
        tanh.reproduce("value", (edges[:0],), None, {}),
        scalar.reproduce("derivative", (np.array(-0.5),), np.array(2.0), options),
    ]
    expected += [
        printed([tanh.forward((edges,), {})]),
        ["[]"],
        printed(scalar.vjp((np.array(-0.5),), np.array(2.0), options)),
    ]
    assert execute(*programs) == expected
    with pytest.raises(UsageError, match="expected value, derivative or second"):
        tanh.reproduce("third", (edges,), edges, {})
