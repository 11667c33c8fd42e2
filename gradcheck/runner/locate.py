"""Where the property files stand, in a wheel and in an editable install alike."""

from __future__ import annotations

from pathlib import Path

import gradcheck
from gradcheck.errors import StorageError


def properties(package: Path | None = None) -> Path:
    """Return the folder of the property files.

    A wheel carries them inside the package; beside the package they count only next to this project's own
    `pyproject.toml`, because a folder called `properties` may be anybody's.
    """
    home = Path(gradcheck.__file__).resolve().parent if package is None else package
    inside, beside = home / "_properties", home.parent / "properties"
    if inside.is_dir():
        return inside
    if beside.is_dir() and (home.parent / "pyproject.toml").is_file():
        return beside
    raise StorageError(
        f"the property files are missing: neither {inside} nor {beside} exists; reinstall gradcheck"
    )


def ini(folder: Path) -> Path:
    """Return the pytest settings that the property files run under."""
    return folder / "pytest.ini"


def known(folder: Path) -> Path | None:
    """Return the list of known findings that travels with the property files, if there is one."""
    path = folder / "known.toml"
    return path if path.is_file() else None
