"""Systematic mutants of the reference texts: one small change of the source each, apart from the checker.

Whether a mutant computes another function at all is decided here by plain float64 on a fixed grid: one that
stays within 1e-9 of the original everywhere is *equivalent*, counted, and not used.
"""

from __future__ import annotations

import ast
import copy
import hashlib
import inspect
import textwrap
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from gradcheck.arithmetic.exact import Exact
from gradcheck.formats import Format
from gradcheck.formulas import CATALOGUE
from gradcheck.records import Formula, Text
from gradcheck.subjects.implementation import Implementation
from tests.honest import Real, elementwise
from tests.lying import BF16, F16, F32, F64, Liar
from tests.probes import grid

EQUIVALENT_BELOW = 1e-9
NEAR = 30.0  # what differs only beyond it, and by overflow, is another form of the same function
CLEAR = (
    (F64, 0.0),
    (F32, 1e-3),
    (F16, 0.3),
    (BF16, 1.0),
)  # formats in which so large a difference must be seen
ORDERS = ("value", "derivative", "second")
NEIGHBOURS = {
    "exp": "expm1",
    "expm1": "exp",
    "log1p": "log",
    "log": "log1p",
    "maximum": "minimum",
    "minimum": "maximum",
    "tanh": "sin",
    "square": "absolute",
    "erfc": "erf",
    "logistic": "logistic_slope",
    "logistic_slope": "logistic",
}
Edit = tuple[str, str, Callable[[ast.AST], ast.AST]]


@dataclass(frozen=True)
class Mutant:
    """One changed text, and its largest difference from the original, relative to the original f.

    `clear` is relative to max(|f|, 1/1000), `near` is the difference for |x| <= 30 alone; `place` numbers the
    changed expression.
    """

    formula: str
    order: int
    kind: str
    description: str
    place: int
    function: Text
    difference: float
    clear: float
    near: float

    @property
    def name(self) -> str:
        """The name that is the same in every run."""
        return f"{self.formula}-{ORDERS[self.order]}-{self.place}: {self.description}"

    @property
    def expected(self) -> str:
        """What a checker must find: a form that differs by overflow alone may be known to it as unstable."""
        return "wrong" if self.near >= EQUIVALENT_BELOW else "unstable"


def _of_constant(node: ast.Constant) -> Iterator[Edit]:
    value = node.value
    text = ast.unparse(node)
    last = 1 if isinstance(value, int) else 10.0 ** -len(repr(value).partition(".")[2])
    yield (
        "constant 1e-8",
        f"{text} off by 1e-8",
        lambda _: ast.Constant(value * (1 + 1e-8) if value else 1e-8),
    )
    yield "constant digit", f"{text} off by {last:g}", lambda _: ast.Constant(value + last)
    if value:
        yield "constant sign", f"{text} negated", lambda _: ast.UnaryOp(ast.USub(), ast.Constant(value))


def _of_exact(node: ast.Name) -> Iterator[Edit]:
    factor = ast.Constant(1 + 1e-8)
    yield "constant 1e-8", f"{node.id} off by 1e-8", lambda n: ast.BinOp(n, ast.Mult(), factor)
    yield "constant sign", f"{node.id} negated", lambda n: ast.UnaryOp(ast.USub(), n)


_SWAPPED: dict[type[ast.operator], ast.operator] = {
    ast.Add: ast.Sub(),
    ast.Sub: ast.Add(),
    ast.Mult: ast.Div(),
    ast.Div: ast.Mult(),
}


def _of_operation(node: ast.BinOp) -> Iterator[Edit]:
    text = ast.unparse(node)
    other = _SWAPPED.get(type(node.op))
    if other is not None:
        yield (
            "operator",
            f"{text}: {type(node.op).__name__} to {type(other).__name__}",
            lambda n: ast.BinOp(n.left, other, n.right),
        )
    if isinstance(node.op, ast.Mult | ast.Div):
        yield "factor dropped", f"{text} without its right side", lambda n: n.left
    if isinstance(node.op, ast.Mult):
        yield "factor dropped", f"{text} without its left side", lambda n: n.right
    if isinstance(node.op, ast.Add | ast.Sub):
        yield "term dropped", f"{text} without its left side", lambda n: n.right
        yield "term dropped", f"{text} without its right side", lambda n: n.left


def _of_comparison(node: ast.Compare) -> Iterator[Edit]:
    text = ast.unparse(node)
    flips: dict[type[ast.cmpop], tuple[ast.cmpop, ast.cmpop]] = {
        ast.Gt: (ast.Lt(), ast.GtE()),
        ast.GtE: (ast.LtE(), ast.Gt()),
        ast.Lt: (ast.Gt(), ast.LtE()),
        ast.LtE: (ast.GtE(), ast.Lt()),
    }
    for flip in flips.get(type(node.ops[0]), ()):
        yield (
            "comparison",
            f"{text}: {type(flip).__name__}",
            lambda n, op=flip: ast.Compare(n.left, [op], n.comparators),
        )


def _of_call(node: ast.Call) -> Iterator[Edit]:
    text = ast.unparse(node)
    name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
    if name in NEIGHBOURS:
        yield "function", f"{text}: {NEIGHBOURS[name]}", lambda n: _renamed(n, NEIGHBOURS[name])
    if name == "where":
        yield (
            "branches",
            f"{text}: branches swapped",
            lambda n: ast.Call(n.func, [n.args[0], n.args[2], n.args[1]], []),
        )
    if name in ("abs", "magnitude"):
        yield "abs removed", f"{text} without its bars", lambda n: n.args[0]


def _renamed(node: ast.Call, name: str) -> ast.Call:
    result = copy.deepcopy(node)
    if isinstance(result.func, ast.Attribute):
        result.func.attr = name
    elif isinstance(result.func, ast.Name):
        result.func.id = name
    return result


def _edits(node: ast.AST, namespace: dict[str, Any]) -> Iterator[Edit]:
    """Yield every change of this one node."""
    if isinstance(node, ast.Constant) and isinstance(node.value, int | float):
        yield from _of_constant(node)
    elif isinstance(node, ast.Name) and isinstance(namespace.get(node.id), Exact):
        yield from _of_exact(node)
    elif isinstance(node, ast.BinOp):
        yield from _of_operation(node)
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        yield "sign dropped", f"{ast.unparse(node)} without its sign", lambda n: n.operand
    elif isinstance(node, ast.Compare):
        yield from _of_comparison(node)
    elif isinstance(node, ast.Call):
        yield from _of_call(node)


def _statements(text: Text) -> ast.FunctionDef | None:
    """Return the definition of a text without its docstring, None if it has no source of its own."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(text)))
    found = tree.body[0]
    if not isinstance(found, ast.FunctionDef):
        return None
    found.body = [
        s for s in found.body if not (isinstance(s, ast.Expr) and isinstance(s.value, ast.Constant))
    ]
    found.returns, found.decorator_list = None, []
    for argument in (*found.args.args, *found.args.kwonlyargs):
        argument.annotation = None
    if found.args.kwarg is not None:
        found.args.kwarg.annotation = None
    return found


class _Replace(ast.NodeTransformer):
    """Replaces the node that carries the given mark."""

    def __init__(self, mark: int, change: Callable[[ast.AST], ast.AST]) -> None:
        self.mark, self.change = mark, change

    def visit(self, node: ast.AST) -> Any:
        if getattr(node, "mark", None) == self.mark:
            return self.change(node)
        return self.generic_visit(node)


def changed_texts(text: Text) -> Iterator[tuple[str, str, int, Text]]:
    """Yield (kind, description, place, function) for every single change of the source of a text."""
    definition = _statements(text)
    if definition is None:
        return
    namespace = dict(text.__globals__)
    nodes = (n for statement in definition.body for n in ast.walk(statement) if isinstance(n, ast.expr))
    for mark, node in enumerate(nodes):
        node.mark = mark  # type: ignore[attr-defined]
        for kind, description, change in _edits(node, namespace):
            tree = _Replace(mark, change).visit(copy.deepcopy(definition))
            module = ast.fix_missing_locations(ast.Module([tree], []))
            own = dict(namespace)
            exec(compile(module, f"<mutant of {text.__name__}>", "exec"), own)
            yield kind, description, mark, own[definition.name]


OPTION_SETS: dict[str, tuple[dict[str, float], ...]] = {
    "leaky_relu": ({}, {"negative_slope": 0.25}),
    "elu": ({}, {"alpha": 2.0}),
    "celu": ({}, {"alpha": 2.0}),
    "softplus": ({}, {"beta": 2.0, "threshold": 8.0}),
    "hardtanh": ({}, {"min_val": -2.0, "max_val": 0.5}),
}


def evaluated(text: Text, formula: Formula, x: Real, **options: float) -> Real:
    """Return the text in plain float64."""
    with np.errstate(all="ignore"):
        return np.asarray(text(x, **formula.complete(options)), dtype=np.float64)


def _differences(original: Text, mutated: Text, formula: Formula, order: int) -> tuple[float, float, float]:
    """Return the largest difference relative to |f|, to max(|f|, 1/1000), and to |f| near 0.

    At a kink, any slope between the two one-sided ones is the same, and so is any second derivative.
    """
    worst = clear = close = 0.0
    for options in OPTION_SETS.get(formula.name, ({},)):
        kinks = np.array(
            formula.kinks(**formula.complete(options)) if formula.kinks else (), dtype=np.float64
        )
        beside = [np.nextafter(kinks, direction) for direction in (-np.inf, np.inf)]
        x = np.concatenate([grid(), kinks, *beside])
        a, b = (
            np.broadcast_to(evaluated(text, formula, x, **options), x.shape) for text in (original, mutated)
        )
        at_kink = np.isin(x, kinks)
        if order == 1:
            left, right = (evaluated(original, formula, x + s, **options) for s in (-1e-9, 1e-9))
            inside = (b >= np.minimum(left, right) - 1e-6) & (b <= np.maximum(left, right) + 1e-6)
            at_kink &= np.broadcast_to(inside, x.shape)
        keep = ~at_kink if order else np.ones_like(at_kink)
        with np.errstate(all="ignore"):
            error = np.where((a == b) | ~keep, 0.0, np.abs(a - b))
            relative = np.where(error == 0, 0.0, error / np.abs(a))
            above = error / np.maximum(np.abs(a), 1e-3)
        worst, clear = max(worst, _largest(relative)), max(clear, _largest(above))
        close = max(close, _largest(relative[np.abs(x) <= NEAR]))
    return worst, clear, close


def _largest(values: Real) -> float:
    return float(np.max(np.nan_to_num(values, nan=np.inf, posinf=np.inf)))


def _mutants_of(formula: Formula, order: int, text: Text) -> Iterator[Mutant]:
    for kind, description, place, function in changed_texts(text):
        try:
            differences = _differences(text, function, formula, order)
        except (TypeError, NameError, AttributeError):  # the change makes no program
            continue
        yield Mutant(formula.name, order, kind, description, place, function, *differences)


@cache
def all_mutants() -> tuple[Mutant, ...]:
    """Return every mutant of every elementwise formula's three texts, the equivalent ones included."""
    return tuple(
        mutant
        for formula in CATALOGUE
        if formula.elementwise and formula.inputs == ("x",)
        for order, text in enumerate((formula.value, formula.derivative, formula.second))
        if text is not None
        for mutant in _mutants_of(formula, order, text)
    )


def equivalent() -> tuple[Mutant, ...]:
    """Return the mutants that compute the same function within 1e-9, with their largest difference."""
    return tuple(mutant for mutant in all_mutants() if mutant.difference < EQUIVALENT_BELOW)


def different() -> tuple[Mutant, ...]:
    """Return the mutants that compute another function."""
    return tuple(mutant for mutant in all_mutants() if mutant.difference >= EQUIVALENT_BELOW)


def counts(mutants: tuple[Mutant, ...]) -> dict[str, int]:
    """Return how many mutants there are of each kind."""
    return dict(sorted(Counter(mutant.kind for mutant in mutants).items()))


def sample(count: int = 66) -> tuple[Mutant, ...]:
    """Return different mutants, the same in every run, evenly over kinds and, within a kind, formulas."""
    queues: dict[str, list[Mutant]] = {}
    taken: Counter[str] = Counter()
    for mutant in sorted(different(), key=lambda m: hashlib.sha256(m.name.encode()).hexdigest()):
        queues.setdefault(mutant.kind, []).append(mutant)
    chosen: list[Mutant] = []
    while len(chosen) < count and any(queues.values()):
        for kind in sorted(queues):
            if queues[kind] and len(chosen) < count:
                mutant = min(queues[kind], key=lambda m: taken[m.formula])
                queues[kind].remove(mutant)
                taken[mutant.formula] += 1
                chosen.append(mutant)
    return tuple(chosen)


def as_liar(mutant: Mutant) -> Liar:
    """Return the mutant as a liar: its text in float64, rounded once; the other orders keep the reference."""
    formula = next(each for each in CATALOGUE if each.name == mutant.formula)
    texts = [formula.value, formula.derivative, formula.second]
    texts[mutant.order] = mutant.function

    def implement(fmt: Format) -> Implementation:
        parts = [None if text is None else _plain(text, formula) for text in texts]
        assert parts[0] is not None
        return elementwise(formula.name, fmt, parts[0], parts[1], parts[2])

    formats = tuple(name for name, least in CLEAR if mutant.clear >= least)
    cause = f"{mutant.kind}: {mutant.description}"
    where = ORDERS[mutant.order]
    return Liar(mutant.name, mutant.formula, cause, mutant.expected, implement, where, formats)


def _plain(text: Text, formula: Formula) -> Callable[..., Real]:
    return lambda x, **options: np.broadcast_to(evaluated(text, formula, x, **options), x.shape)
