"""Every field of every record is there, and every text keeps to what all arithmetics can evaluate."""

from __future__ import annotations

import ast
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gradcheck import formulas
from gradcheck.errors import UsageError
from gradcheck.formats import BFLOAT16
from gradcheck.formulas import CATALOGUE, QUANTITIES, get_formula
from gradcheck.records import DERIVATIVE, SECOND, VALUE, Formula, Standing
from tests.formulas.points import ELEMENTWISE, settings

SOURCES = sorted(Path(formulas.__file__).parent.glob("*.py"))
NAMES = {
    *("relu", "leaky_relu", "prelu", "elu", "celu", "selu", "sigmoid", "tanh", "softplus", "log_sigmoid"),
    *("relu6", "hardtanh", "hardsigmoid", "hardswish", "softsign", "gelu", "gelu_tanh", "silu", "mish"),
    *("preactivation", "neuron", "dense", "residual", "conv1d", "conv2d", "dropout"),
    *("max_pool1d", "max_pool2d", "avg_pool1d", "avg_pool2d"),
    *("batch_norm", "batch_norm_eval", "batch_norm_running", "layer_norm", "rms_norm", "group_norm"),
    *("instance_norm", "softmax", "log_softmax", "logsumexp", "cross_entropy", "cross_entropy_probabilities"),
    *("nll_loss", "binary_cross_entropy", "binary_cross_entropy_with_logits", "mse_loss", "l1_loss"),
    *("huber_loss", "smooth_l1_loss", "l2_penalty", "l1_penalty", "decoupled_decay", "gradient_norm_penalty"),
    *("kronecker_penalty", "clip_by_value", "clip_by_norm", "clip_by_global_norm", "adaptive_clip"),
    *("sgd", "adagrad", "rmsprop", "adadelta", "adam", "adamw", "nadam", "radam", "adamax", "printed_adam"),
    *("step_lr", "multi_step_lr", "exponential_lr", "cosine_annealing_lr", "cosine_warm_restarts"),
    *("linear_lr", "one_cycle_lr", "warm_up_chain"),
}


def test_the_catalogue_holds_the_agreed_names_once_each() -> None:
    assert [formula.name for formula in CATALOGUE] == list(dict.fromkeys(f.name for f in CATALOGUE))
    assert {formula.name for formula in CATALOGUE} == NAMES


@pytest.mark.parametrize("formula", CATALOGUE, ids=lambda f: f.name)
def test_every_record_is_complete(formula: Formula) -> None:
    assert formula.title and formula.equation and any(c.isdigit() for c in formula.source)
    assert formula.value.__doc__ and getattr(formulas, formula.name) is formula is get_formula(formula.name)
    if formula.elementwise:
        assert formula.second is not None and formula.vjp is None and formula.limits is not None
        assert len(formula.inputs) == 1
    else:
        assert formula.second is None and formula.inputs
        assert bool(formula.axes) != (formula.arrange is not None), "cases come from axes or from arrange"
        assert not formula.kinds or len(formula.kinds) == len(formula.inputs)
        assert set(formula.constants) < set(formula.inputs)
    for option in formula.options:
        if option.choices:
            assert option.default in option.choices
        elif option.low is not None:
            assert option.high is not None
            assert option.low <= option.default <= option.high
    names = [(variant.order, variant.name) for variant in formula.variants]
    assert len(names) == len(set(names))
    assert all(variant.order in (VALUE, DERIVATIVE, SECOND) for variant in formula.variants)
    assert all(isinstance(variant.standing, Standing) for variant in formula.variants)


@pytest.mark.parametrize("formula", ELEMENTWISE, ids=lambda f: f.name)
def test_kinks_and_limits_are_plain_floats(formula: Formula) -> None:
    for options in settings(formula):
        complete = formula.complete(options)
        assert formula.limits is not None
        ends = formula.limits(**complete)
        assert [len(pair) for pair in ends] == [2, 2, 2]
        assert all(type(end) is float and not math.isnan(end) for pair in ends for end in pair)
        if formula.kinks is not None:
            kinks = formula.kinks(**complete)
            assert kinks and all(type(kink) is float and math.isfinite(kink) for kink in kinks)


def test_a_softplus_without_threshold_has_no_kink() -> None:
    assert formulas.softplus.kinks is not None
    assert formulas.softplus.kinks(beta=1.0, threshold=math.inf) == ()
    assert float(formulas.softplus(np.float64(1000.0), threshold=math.inf)) == 1000.0


def test_an_unknown_name_offers_the_closest() -> None:
    with pytest.raises(UsageError, match="sigmoid"):
        get_formula("sigmoyd")


def test_quantities_cover_the_catalogue_and_the_neuron() -> None:
    names = [quantity.name for quantity in QUANTITIES]
    assert len(names) == len(set(names))
    for formula in CATALOGUE:
        several = {f"{formula.name}: {output}" for output in formula.outputs}
        own = {formula.name} if len(formula.outputs) == 1 else several
        orders = {f"{formula.name}'", f"{formula.name}''"} if formula.elementwise else set()
        assert own | orders <= set(names)
    assert {"neuron: df/dz", "neuron: df/dx", "neuron: df/dw", "neuron: df/db"} <= set(names)


def texts() -> Iterator[tuple[Path, Any]]:
    """Every function of the formula files that is a text: it takes `x`, `inputs` or `y` first.

    What marks the elements on a kink reads plain float64 numbers, and is none.
    """
    marking = {getattr(formula.touching, "__name__", "") for formula in CATALOGUE}
    for path in SOURCES:
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            first = node.args.args[:1] if isinstance(node, ast.FunctionDef) else []
            if first and first[0].arg in ("x", "y", "inputs") and node.name not in marking:
                yield path, node


FORBIDDEN = {"float", "int", "bool", "array", "asarray", "item", "tolist", "prod"}


def names_of_values(test: ast.AST) -> set[str]:
    """The names that a condition reads as numbers: not what it asks of a shape, nor whether there is one."""
    structural: set[ast.AST] = set()
    for node in ast.walk(test):
        shape = isinstance(node, ast.Attribute) and node.attr in ("ndim", "shape", "size")
        absent = isinstance(node, ast.Compare) and isinstance(node.ops[0], ast.Is | ast.IsNot)
        if shape or absent:
            structural |= set(ast.walk(node))
    return {node.id for node in ast.walk(test) if isinstance(node, ast.Name) and node not in structural}


def test_texts_are_straight_lines_that_no_arithmetic_refuses() -> None:
    found = 0
    for path, function in texts():
        found += 1
        where = f"{path.name}:{function.lineno} {function.name}"
        # Options come by keyword, or as booleans and structure: a branch on the arrays is one on values.
        arrays = {"x", "y", "z", "inputs", "cotangent", "target", "gradient"}
        for node in ast.walk(function):
            assert not isinstance(node, ast.While | ast.AugAssign | ast.Try), where
            if isinstance(node, ast.If | ast.IfExp):
                assert not names_of_values(node.test) & arrays, f"{where}: a branch on values"
            if isinstance(node, ast.Call):
                called = (
                    node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
                )
                # math.prod of a shape is a Python int, where np.prod gives one that widens float32.
                on_shape = ast.unparse(node.func) == "math.prod"
                assert called not in FORBIDDEN or on_shape, f"{where} calls {called}"
                assert not any(k.arg in ("out", "dtype", "where") for k in node.keywords), where
            if isinstance(node, ast.Assign):
                assert not any(isinstance(target, ast.Subscript) for target in node.targets), where
    assert found > 100


def drawn_literals(tree: ast.AST) -> set[ast.AST]:
    """What stands in tables of drawn options, and in functions that arrange cases: no text reads it."""
    inside: set[ast.AST] = set()
    for node in ast.walk(tree):
        arranges = isinstance(node, ast.FunctionDef) and any(a.arg == "choose" for a in node.args.args)
        table = isinstance(node, ast.Assign) and isinstance(node.value, ast.Tuple | ast.Dict)
        if arranges or table:
            inside |= set(ast.walk(node))
    return inside


def test_every_float_literal_is_a_number_of_every_format() -> None:
    seen = 0
    for path in SOURCES:
        tree = ast.parse(path.read_text(encoding="utf-8"))
        drawn = drawn_literals(tree)
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, int | float) and node not in drawn:
                if "Option(" in path.read_text(encoding="utf-8").splitlines()[node.lineno - 1]:
                    continue
                seen += 1
                assert float(BFLOAT16.round(node.value)) == node.value, (
                    f"{path.name}:{node.lineno} {node.value}"
                )
    assert seen > 100
