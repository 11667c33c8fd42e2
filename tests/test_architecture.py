"""Imports point down, heavy libraries stay where they belong, and the wheel holds what the tree holds."""

from __future__ import annotations

import ast
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "gradcheck"
FILES = sorted(path for path in PACKAGE.rglob("*.py"))
PROPERTIES = sorted((ROOT / "properties").glob("*.py"))

# Lowest first. A module may import from its own layer and from those before it.
LAYERS = (
    ("formats", "records", "errors", "inputs", "document", "explain", "lazy"),
    ("arithmetic",),
    ("formulas",),
    ("oracles", "article", "laws"),
    ("subjects", "cases", "families", "compare"),
    ("checks", "runner", "blackbox", "evidence", "known", "encoding", "files"),
    ("flow",),
    ("bench",),
    ("report",),
    ("cli", "cli_bench", "catalogue", "terminal", "pytest_plugin", "__main__"),
)
# Each exception to the order, with its reason.
DESPITE = {
    ("records", "arithmetic"): "completing a formula's options makes them exact; imported when first called",
    ("runner", "report"): "a run ends with its report",
    ("blackbox", "report"): "so does a check from the command line that is asked for one",
}
FRAMEWORKS = {"torch", "jax"}
# How the names of the only files begin that import each, inside their functions.
ADAPTERS = {"torch": ("torch", "tensors"), "jax": ("jax",)}
LIGHT = ("cli", "cli_bench", "catalogue", "terminal", "pytest_plugin", "evidence", "known", "encoding",
         "files", "report", "document", "records", "errors", "explain", "lazy", "__init__",
         "__main__")  # fmt: skip


def layer_of(name: str) -> int:
    for level, names in enumerate(LAYERS):
        if name in names:
            return level
    pytest.fail(f"gradcheck.{name} stands in no layer; give it one in LAYERS")


def part(path: Path) -> str:
    """The first name below the package: `checks` for gradcheck/checks/value.py."""
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


def is_module(name: str) -> bool:
    return (PACKAGE / name).is_dir() or (PACKAGE / f"{name}.py").is_file()


def imports(tree: ast.AST) -> Iterator[str]:
    """Every module that is imported, by its full name; `from gradcheck import x` gives gradcheck.x."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports hide which layer is meant"
            for alias in node.names:
                yield f"{node.module}.{alias.name}" if node.module == "gradcheck" else str(node.module)


def at_import_time(tree: ast.Module) -> ast.Module:
    """What runs on import: neither the bodies of functions nor what only a type checker sees."""

    class Strip(ast.NodeTransformer):
        def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
            return None

        def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> None:
            return None

        def visit_If(self, node: ast.If) -> ast.AST | list[ast.stmt]:
            if isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
                return node.orelse
            return self.generic_visit(node)

    return Strip().visit(tree)


def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_down(path: Path) -> None:
    here = part(path)
    if here == "__init__":
        return
    wrong = [
        name
        for name in imports(parsed(path))
        if name.startswith("gradcheck.")
        and is_module(there := name.split(".")[1])
        and layer_of(there) > layer_of(here)
        and (here, there) not in DESPITE
    ]
    assert not wrong


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_only_subjects_import_a_framework(path: Path) -> None:
    tree = parsed(path)
    found = {name.partition(".")[0] for name in imports(tree)} & FRAMEWORKS
    assert not found or part(path) == "subjects"
    assert all(path.stem.startswith(ADAPTERS[framework]) for framework in found)
    assert not {name.partition(".")[0] for name in imports(at_import_time(tree))} & FRAMEWORKS


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_light_modules_import_no_numerics(path: Path) -> None:
    if part(path) in LIGHT:
        heavy = {"numpy", "scipy", "flint", "ml_dtypes", "mpmath", "hypothesis", *FRAMEWORKS}
        found = {name.partition(".")[0] for name in imports(at_import_time(parsed(path)))}
        assert not found & heavy


@pytest.mark.parametrize("path", PROPERTIES, ids=lambda path: path.name)
def test_properties_use_public_names_only(path: Path) -> None:
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.ImportFrom) and str(node.module).partition(".")[0] == "gradcheck":
            names = [*str(node.module).split("."), *(alias.name for alias in node.names)]
            assert not [name for name in names if name.startswith("_")]
        if isinstance(node, ast.Attribute):
            assert not node.attr.startswith("_") or node.attr.startswith("__")


def test_properties_are_no_package() -> None:
    assert not (ROOT / "properties" / "__init__.py").exists()


def test_the_wheel_holds_every_package() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]
    tree = {".".join(path.parent.relative_to(ROOT).parts) for path in FILES}
    assert set(settings["packages"]) == tree | {"gradcheck._properties"}


def test_the_wheel_holds_every_data_file() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]
    homes = {name: settings["package-dir"].get(name, name.replace(".", "/")) for name in settings["packages"]}
    carried = {
        path
        for name, patterns in settings["package-data"].items()
        for pattern in patterns
        for path in (ROOT / homes[name]).glob(pattern)
    }
    present = {
        path
        for folder in (PACKAGE, ROOT / "properties")
        for path in folder.rglob("*")
        if path.is_file()
        and path.suffix not in {".pyc"}
        and not (path.suffix == ".py" and PACKAGE in path.parents)
    }
    assert present <= carried


def test_every_exception_to_the_order_is_still_needed() -> None:
    used = {
        (part(path), name.split(".")[1])
        for path in FILES
        for name in imports(parsed(path))
        if name.startswith("gradcheck.")
    }
    assert set(DESPITE) <= used
