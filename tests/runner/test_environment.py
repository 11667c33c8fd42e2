"""Versions and machine are read without importing a framework."""

from __future__ import annotations

import subprocess
import sys

from gradcheck.runner import environment


def test_versions_are_those_of_the_libraries() -> None:
    import numpy

    versions = environment.versions()
    assert versions["numpy"] == numpy.__version__
    assert versions["python"] == ".".join(map(str, sys.version_info[:3]))


def test_the_machine_is_text_throughout() -> None:
    machine = environment.machine()
    assert {"cpu", "isa", "features", "cores", "gpu"} <= set(machine)
    assert all(isinstance(value, str) and value for value in machine.values())


def test_no_framework_is_imported() -> None:
    code = (
        "import sys; from gradcheck.runner import environment as e; e.versions(); e.machine();"
        "sys.exit(bool({'torch', 'jax'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_features_are_named_alike_by_the_kernel_and_by_pytorch() -> None:
    code = "from gradcheck.runner import environment as e; print(e.features())"
    said = [
        subprocess.run([sys.executable, "-c", before + code], check=True, capture_output=True, text=True)
        for before in ("", "import torch; ")
    ]
    kernel, torch = (set(each.stdout.split()) for each in said)
    # PyTorch names fewer units, and "fma" after the number of its operands.
    assert torch - {"fma3", "avx101", "avx102"} <= kernel | {"unknown"}
    assert not any("_" in name for name in kernel)
