"""A folder that cannot be written is found out before a run starts."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from gradcheck.errors import StorageError
from gradcheck.runner.folder import prepare


def test_a_missing_folder_is_made_and_left_empty(tmp_path: Path) -> None:
    assert list(prepare(tmp_path / "a" / "b").iterdir()) == []


@pytest.mark.parametrize("name", ["file", "file/below", "x" * 300, "nul\0nul"])
def test_what_is_no_folder_is_refused_with_the_way_out(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match="--out"):
        prepare(tmp_path / name)


def test_a_folder_that_takes_no_files_is_refused() -> None:
    if not os.path.isdir("/proc/self"):
        pytest.skip("needs a file system that takes no files")
    with pytest.raises(StorageError, match="--out"):
        prepare(Path("/proc/self"))
