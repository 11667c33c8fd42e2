"""Arrays in nested containers: taken out by their paths, and put back into the same structure.

Containers are mappings, lists, tuples, named tuples and dataclasses; what a framework adds to them, JAX's
registered nodes say, is opened by a function that the caller gives. All else is kept as it is.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gradcheck.errors import UsageError

# Deeper than any argument is meant to be: a container that holds itself.
_DEEPEST = 64


@dataclass(frozen=True)
class Opened:
    """The parts of a container, each with how it is reached, and what builds one from other parts.

    `source` writes the program text of a container from that of its parts.
    """

    parts: tuple[tuple[str, Any], ...]
    build: Callable[[Sequence[Any]], Any]
    source: Callable[[Sequence[str]], str]


@dataclass(frozen=True)
class Slot:
    """Where an array stood."""

    place: int


@dataclass(frozen=True)
class Node:
    """A container of which the arrays were taken out."""

    container: Any
    opened: Opened
    children: tuple[Any, ...]


@dataclass(frozen=True)
class Constant:
    """What is no array."""

    value: Any


Template = Slot | Node | Constant
Open = Callable[[Any], Opened | None]


def parts_of(item: Any) -> Opened | None:
    """Return the parts of a container of Python, None for anything else."""
    if isinstance(item, Mapping):
        keys = tuple(item)
        return Opened(
            tuple((f".{key}", item[key]) for key in keys),
            lambda values: _mapping(item, dict(zip(keys, values, strict=True))),
            lambda texts: "{" + ", ".join(f"{k!r}: {t}" for k, t in zip(keys, texts, strict=True)) + "}",
        )
    if isinstance(item, tuple) and hasattr(item, "_fields"):
        kind, names = type(item), item._fields
        return Opened(
            tuple((f".{name}", value) for name, value in zip(names, item, strict=True)),
            lambda values: kind(*values),
            lambda texts: f"{kind.__name__}({', '.join(texts)})",
        )
    if isinstance(item, list | tuple):
        inside = tuple((f"[{k}]", value) for k, value in enumerate(item))
        return Opened(inside, type(item), lambda texts: _sequence(type(item), texts))
    if dataclasses.is_dataclass(item) and not isinstance(item, type):
        fields = [f.name for f in dataclasses.fields(item) if hasattr(item, f.name)]
        return Opened(
            tuple((f".{name}", getattr(item, name)) for name in fields),
            lambda values: _replaced(item, dict(zip(fields, values, strict=True))),
            lambda texts: _constructed(type(item).__name__, fields, texts),
        )
    return None


def _mapping(like: Mapping[Any, Any], made: dict[Any, Any]) -> Any:
    if type(like) is dict or not isinstance(like, dict):
        return made
    # Subclasses take other arguments than a dict does.
    other = copy.copy(like)
    for key, value in made.items():
        other[key] = value
    return other


def _sequence(kind: type, texts: Sequence[str]) -> str:
    if issubclass(kind, list):
        return f"[{', '.join(texts)}]"
    return f"({texts[0]},)" if len(texts) == 1 else f"({', '.join(texts)})"


def _replaced(like: Any, values: dict[str, Any]) -> Any:
    # Neither frozen ones nor what `__post_init__` demands shall be in the way.
    other = copy.copy(like)
    for name, value in values.items():
        object.__setattr__(other, name, value)
    return other


def _constructed(kind: str, names: Sequence[str], texts: Sequence[str]) -> str:
    return f"{kind}({', '.join(f'{name}={text}' for name, text in zip(names, texts, strict=True))})"


def taken_apart(
    item: Any,
    path: str,
    is_array: Callable[[Any], bool],
    found: list[tuple[str, Any]],
    opener: Open = parts_of,
    depth: int = 0,
) -> Template:
    """Return an item with slots in place of its arrays; these are added to `found`, each with its path."""
    if depth > _DEEPEST:
        raise UsageError(
            f"{path[:60]}: containers are nested more than {_DEEPEST} deep; does one hold itself?"
        )
    if is_array(item):
        found.append((path, item))
        return Slot(len(found) - 1)
    opened = opener(item)
    if opened is None:
        return Constant(item)
    children = tuple(
        taken_apart(value, path + suffix, is_array, found, opener, depth + 1)
        for suffix, value in opened.parts
    )
    return Node(item, opened, children)


def put_together(template: Template, arrays: Sequence[Any]) -> Any:
    """Return the item with these arrays in its slots."""
    if isinstance(template, Slot):
        return arrays[template.place]
    if isinstance(template, Constant):
        return template.value
    return template.opened.build([put_together(child, arrays) for child in template.children])


def slots(template: Template) -> Iterator[int]:
    """Yield the places of the slots."""
    if isinstance(template, Slot):
        yield template.place
    elif isinstance(template, Node):
        for child in template.children:
            yield from slots(child)


def leaves(item: Any, opener: Open = parts_of, depth: int = 0) -> Iterator[Any]:
    """Yield everything that is no container, in order."""
    if depth > _DEEPEST:
        raise UsageError(f"containers are nested more than {_DEEPEST} deep; does one hold itself?")
    opened = opener(item)
    if opened is None:
        yield item
    else:
        for _, value in opened.parts:
            yield from leaves(value, opener, depth + 1)


def source(template: Template, names: Sequence[str]) -> str:
    """Return the program text of the item, the arrays by their names."""
    if isinstance(template, Slot):
        return names[template.place]
    if isinstance(template, Constant):
        plain = isinstance(template.value, int | float | str | bool | None)
        return repr(template.value) if plain else "..."
    return template.opened.source([source(child, names) for child in template.children])


@dataclass(frozen=True)
class Arguments:
    """Positional and keyword arguments, their arrays taken out."""

    positional: tuple[Template, ...]
    named: dict[str, Template]
    arrays: tuple[tuple[str, Any], ...]

    def filled(self, arrays: Sequence[Any]) -> tuple[list[Any], dict[str, Any]]:
        """Return the arguments with these arrays."""
        named = {name: put_together(template, arrays) for name, template in self.named.items()}
        return [put_together(template, arrays) for template in self.positional], named

    def source(self, names: Sequence[str]) -> str:
        """Return the arguments of a call as program text."""
        texts = [source(template, names) for template in self.positional]
        return ", ".join(texts + [f"{name}={source(t, names)}" for name, t in self.named.items()])


def arguments(
    args: Sequence[Any],
    keywords: Mapping[str, Any],
    is_array: Callable[[Any], bool],
    opener: Open = parts_of,
) -> Arguments:
    """Return arguments with their arrays taken out; positional ones are called `input 0`, `input 1`, ..."""
    found: list[tuple[str, Any]] = []
    positional = tuple(
        taken_apart(item, f"input {k}", is_array, found, opener) for k, item in enumerate(args)
    )
    named = {name: taken_apart(item, name, is_array, found, opener) for name, item in keywords.items()}
    return Arguments(positional, named, tuple(found))
