"""The public surface is one list, and importing it costs nothing."""

from __future__ import annotations

import resource
import subprocess
import sys
from types import ModuleType

import pytest

import gradcheck
from gradcheck import flow

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


def test_the_list_of_the_study_of_gradients_and_its_homes_agree() -> None:
    assert flow.__all__ == sorted(set(flow.__all__))
    assert set(flow.__all__) == set(flow._HOMES)


@pytest.mark.parametrize("name", flow.__all__)
def test_every_public_name_of_the_study_of_gradients_exists_and_is_kept(name: str) -> None:
    assert getattr(flow, name).__name__ == name
    assert vars(flow)[name] is getattr(flow, name)


@pytest.mark.parametrize("package", [gradcheck, flow], ids=lambda package: package.__name__)
def test_an_unknown_name_is_an_attribute_error(package: ModuleType) -> None:
    with pytest.raises(AttributeError, match=f"module '{package.__name__}' has no attribute 'gelu'"):
        package.gelu  # noqa: B018


@pytest.mark.parametrize("name", ["gradcheck", "gradcheck.flow"])
def test_importing_loads_nothing_heavy(name: str) -> None:
    assert loaded_after(f"import {name}").isdisjoint(HEAVY)


def test_the_version_is_that_of_the_metadata() -> None:
    from importlib.metadata import version

    assert gradcheck.__version__ == version("gradcheck")


def test_importing_takes_a_fifth_of_a_second() -> None:
    def seconds(code: str) -> float:
        begun = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, "-c", code], check=True)
        ended = resource.getrusage(resource.RUSAGE_CHILDREN)
        return ended.ru_utime - begun.ru_utime + ended.ru_stime - begun.ru_stime

    assert min(seconds("import gradcheck") for _ in range(5)) < 0.2
