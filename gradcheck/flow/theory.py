"""The theory of gradients in deep random networks, row by row."""

from __future__ import annotations

from gradcheck.errors import unknown_name
from gradcheck.flow.row import QUANTITIES, Recipe, Row
from gradcheck.flow.rows_beyond import BEYOND
from gradcheck.flow.rows_normalised import NORMALISED
from gradcheck.flow.rows_plain import FINITE, WIDE

THEORY: tuple[Row, ...] = (*WIDE, *FINITE, *NORMALISED, *BEYOND)


def get_row(name: str) -> Row:
    """Return the row called `name`; an unknown name is a `UsageError` that offers the closest ones."""
    for row in THEORY:
        if row.name == name:
            return row
    raise unknown_name("row", name, (row.name for row in THEORY))


__all__ = ["QUANTITIES", "THEORY", "Recipe", "Row", "get_row"]
