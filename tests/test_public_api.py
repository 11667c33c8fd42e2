"""The public surface is one list, and importing it costs nothing."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest

import gradcheck

HEAVY = ("numpy", "torch", "scipy", "hypothesis", "pytest", "flint", "ml_dtypes", "msgspec", "rich", "jinja2")


def loaded_after(code: str) -> set[str]:
    program = f"{code}\nimport sys\nprint('\\n'.join(sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_the_list_is_sorted_and_without_repetition() -> None:
    assert gradcheck.__all__ == sorted(set(gradcheck.__all__))


def test_the_list_and_the_homes_of_the_names_agree() -> None:
    assert set(gradcheck.__all__) == {*gradcheck._HOMES, "__version__"}


@pytest.mark.parametrize("name", gradcheck.__all__)
def test_every_public_name_exists(name: str) -> None:
    assert getattr(gradcheck, name) is not None


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'gelu'"):
        gradcheck.gelu  # noqa: B018


def test_importing_loads_nothing_heavy() -> None:
    assert loaded_after("import gradcheck").isdisjoint(HEAVY)


def test_the_version_is_that_of_the_metadata() -> None:
    from importlib.metadata import version

    assert gradcheck.__version__ == version("gradcheck")


def test_importing_takes_a_fifth_of_a_second() -> None:
    def seconds(code: str) -> float:
        begun = time.perf_counter()
        subprocess.run([sys.executable, "-c", code], check=True)
        return time.perf_counter() - begun

    assert min(seconds("import gradcheck") for _ in range(5)) < 0.2
