"""The property files are found in a wheel and beside an editable package, and nowhere else."""

from __future__ import annotations

from pathlib import Path

import pytest

from gradcheck.errors import StorageError
from gradcheck.runner import locate


def package(root: Path) -> Path:
    home = root / "gradcheck"
    home.mkdir()
    return home


def test_those_inside_the_package_come_first(tmp_path: Path) -> None:
    home = package(tmp_path)
    (home / "_properties").mkdir()
    (tmp_path / "properties").mkdir()
    (tmp_path / "pyproject.toml").touch()
    assert locate.properties(home) == home / "_properties"


def test_a_sibling_counts_beside_a_pyproject(tmp_path: Path) -> None:
    home = package(tmp_path)
    (tmp_path / "properties").mkdir()
    (tmp_path / "pyproject.toml").touch()
    assert locate.properties(home) == tmp_path / "properties"


def test_anybodys_folder_of_that_name_does_not_count(tmp_path: Path) -> None:
    home = package(tmp_path)
    (tmp_path / "properties").mkdir()
    with pytest.raises(StorageError, match="reinstall"):
        locate.properties(home)


def test_this_installation_has_its_settings() -> None:
    assert locate.ini(locate.properties()).is_file()
