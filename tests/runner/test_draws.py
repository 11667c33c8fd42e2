"""What a derandomised run draws does not depend on which modules happen to be loaded."""

from __future__ import annotations

import importlib.util
import random
import sys
from pathlib import Path

import hypothesis
from hypothesis import strategies as st

from gradcheck.runner.session import get_profile


def drawn(settings: hypothesis.settings) -> list[tuple[int, float]]:
    """Two hundred draws under these settings."""
    found: list[tuple[int, float]] = []

    @hypothesis.settings(settings, max_examples=200)
    @hypothesis.given(st.integers(0, 2**32 - 1), st.floats(0, 1e6))
    def keep(number: int, other: float) -> None:
        found.append((number, other))

    keep()
    return found


def load_constants(folder: Path, name: str) -> None:
    """Import a new module that holds many numbers."""
    numbers = random.Random(name).sample(range(10**6, 10**9), 500)
    path = folder / f"{name}.py"
    path.write_text("NUMBERS = [" + ", ".join(f"{n}, {n / 1000}" for n in numbers) + "]\n", "utf-8")
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)


def test_loaded_modules_do_not_move_the_draws(tmp_path: Path) -> None:
    settled = get_profile("ci").settings()
    first = drawn(settled)
    assert len({number for number, _ in first}) > 100
    load_constants(tmp_path, "constants_that_nobody_needs")
    assert drawn(settled) == first


def test_hypothesis_alone_would_move_them(tmp_path: Path) -> None:
    usual = hypothesis.settings(get_profile("ci").settings(), backend="hypothesis")
    first = drawn(usual)
    load_constants(tmp_path, "more_constants_that_nobody_needs")
    assert drawn(usual) != first
