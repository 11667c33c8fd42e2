"""Mutations of the text of an autograd function: each site that an operator finds gives one mutant."""

from __future__ import annotations

import ast
import copy
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812

from tests.blackbox.corpus import hand_functions

Mutator = Callable[[ast.AST], Iterator[ast.AST]]

# Names that stand for no tensor.
NAMES = ("torch", "math", "F", "ctx", "staticmethod")

TREES: dict[str, ast.ClassDef] = {
    node.name: node
    for node in ast.parse(Path(hand_functions.__file__).read_text()).body
    if isinstance(node, ast.ClassDef)
}


def binary(node: ast.BinOp, op: ast.operator) -> ast.BinOp:
    return ast.BinOp(node.left, op, node.right)


def drop_term(node: ast.AST) -> Iterator[ast.AST]:
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add | ast.Sub):
        yield node.left
        yield node.right


def drop_factor(node: ast.AST) -> Iterator[ast.AST]:
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mult | ast.Div):
        yield node.left


def swap_sign(node: ast.AST) -> Iterator[ast.AST]:
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        yield binary(node, ast.Sub())
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Sub):
        yield binary(node, ast.Add())
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        yield node.operand


def constant(node: ast.AST) -> Iterator[ast.AST]:
    if isinstance(node, ast.Constant) and type(node.value) in (int, float) and node.value:
        yield ast.Constant(node.value + 1)
        if isinstance(node.value, float):
            yield ast.Constant(node.value * (1 + 1e-5))
            yield ast.Constant(node.value * 10)


def swap_saved(node: ast.AST) -> Iterator[ast.AST]:
    if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Tuple):
        names = node.targets[0].elts
        if len(names) > 1 and isinstance(node.value, ast.Attribute):
            yield ast.Assign([ast.Tuple([names[1], names[0], *names[2:]], ast.Store())], node.value)


def reduction(node: ast.AST) -> Iterator[ast.AST]:
    if (
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr in ("sum", "mean")
    ):
        other = "mean" if node.func.attr == "sum" else "sum"
        yield ast.Call(ast.Attribute(node.func.value, other, ast.Load()), node.args, node.keywords)
        if node.keywords:
            yield node.func.value


def comparison(node: ast.AST) -> Iterator[ast.AST]:
    if isinstance(node, ast.Compare):
        for other in (ast.GtE(), ast.Lt()):
            yield ast.Compare(node.left, [other], node.comparators)
        yield ast.Compare(node.left, node.ops, [ast.Constant(2)])


def transpose(node: ast.AST) -> Iterator[ast.AST]:
    if isinstance(node, ast.Attribute) and node.attr == "mT":
        yield node.value


def drop_call(node: ast.AST) -> Iterator[ast.AST]:
    if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
        return
    if node.func.attr in ("abs", "flip", "cumsum", "clamp_max", "clamp", "clamp_min"):
        yield node.func.value
    if node.func.attr in ("exp", "tanh", "sigmoid", "erf", "rsqrt", "sqrt") and len(node.args) == 1:
        yield node.args[0]


def factor(node: ast.AST) -> Iterator[ast.AST]:
    if isinstance(node, ast.Return):
        parts = node.value.elts if isinstance(node.value, ast.Tuple) else [node.value]
        for k, part in enumerate(parts):
            for times in (2, 1 + 1e-6, -1):
                changed = [*parts]
                changed[k] = ast.BinOp(ast.Constant(times), ast.Mult(), part)
                yield ast.Return(ast.Tuple(changed, ast.Load()) if len(parts) > 1 else changed[0])


def off_by_one(node: ast.AST) -> Iterator[ast.AST]:
    if isinstance(node, ast.Return):
        parts = node.value.elts if isinstance(node.value, ast.Tuple) else [node.value]
        for k, part in enumerate(parts):
            changed = [*parts]
            call = ast.parse("torch.roll(x, 1, -1)", mode="eval").body
            call.args[0] = part
            changed[k] = call
            yield ast.Return(ast.Tuple(changed, ast.Load()) if len(parts) > 1 else changed[0])


def detach(node: ast.AST) -> Iterator[ast.AST]:
    if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load) and node.id not in NAMES:
        yield ast.Call(ast.Attribute(node, "detach", ast.Load()), [], [])


def in_place(node: ast.AST) -> Iterator[ast.AST]:
    if isinstance(node, ast.BinOp) and isinstance(node.left, ast.Name) and node.left.id in ("g", "gs"):
        name = {ast.Mult: "mul_", ast.Sub: "sub_", ast.Div: "div_"}.get(type(node.op))
        if name:
            yield ast.Call(ast.Attribute(node.left, name, ast.Load()), [node.right], [])


OPERATORS: dict[str, Mutator] = {
    "drop-term": drop_term,
    "drop-factor": drop_factor,
    "sign": swap_sign,
    "constant": constant,
    "swap-saved": swap_saved,
    "reduction": reduction,
    "comparison": comparison,
    "transpose": transpose,
    "drop-call": drop_call,
    "factor": factor,
    "off-by-one": off_by_one,
    "detach": detach,
    "in-place": in_place,
}
# A changed forward is a wrong value; only these operators are applied to it.
FORWARD = ("drop-term", "sign", "constant", "drop-call")


class Replace(ast.NodeTransformer):
    """Replaces the node that was visited as the n-th."""

    def __init__(self, place: int, new: ast.AST) -> None:
        self.place, self.new, self.seen = place, new, -1

    def visit(self, node: ast.AST) -> ast.AST:
        self.seen += 1
        return copy.deepcopy(self.new) if self.seen == self.place else self.generic_visit(node)


class Order(ast.NodeVisitor):
    """Lists the nodes in the order in which Replace counts them."""

    def __init__(self) -> None:
        self.nodes: list[ast.AST] = []

    def visit(self, node: ast.AST) -> None:
        self.nodes.append(node)
        self.generic_visit(node)


def mutants(name: str) -> Iterator[tuple[str, str, str]]:
    """Yield the operator, the method ("forward" or "backward") and the text of every mutant."""
    tree = TREES[name]
    for index, method in enumerate(tree.body):
        assert isinstance(method, ast.FunctionDef)
        order = Order()
        order.visit(method)
        for operator, mutate in OPERATORS.items():
            if method.name == "forward" and operator not in FORWARD:
                continue
            for place, node in enumerate(order.nodes):
                for new in mutate(copy.deepcopy(node)):
                    changed = copy.deepcopy(tree)
                    changed.body[index] = Replace(place, new).visit(copy.deepcopy(method))
                    yield operator, method.name, ast.unparse(ast.fix_missing_locations(changed))


def load(text: str) -> Any:
    """Return the class that the text defines."""
    space: dict[str, Any] = {"torch": torch, "F": F, "math": math, "Function": torch.autograd.Function}
    exec(compile(text, "<mutant>", "exec"), space)
    return next(v for k, v in space.items() if isinstance(v, type) and k != "Function")
