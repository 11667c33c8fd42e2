"""All hand-written liars: implementations that are wrong in one known way each."""

from __future__ import annotations

from tests.liars_derivatives import DERIVATIVE_LIARS
from tests.liars_layout import LAYOUT_LIARS
from tests.liars_several import SEVERAL_LIARS
from tests.liars_values import VALUE_LIARS
from tests.lying import Liar

__all__ = ["LIARS", "Liar"]

LIARS: tuple[Liar, ...] = (*VALUE_LIARS, *DERIVATIVE_LIARS, *LAYOUT_LIARS, *SEVERAL_LIARS)
