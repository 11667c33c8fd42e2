"""What a run stands on: versions of the libraries and facts about the machine, as text."""

from __future__ import annotations

import os
import platform
import sys
from importlib import metadata
from pathlib import Path

LIBRARIES = (
    "gradcheck",
    "numpy",
    "scipy",
    "torch",
    "jax",
    "jaxlib",
    "python-flint",
    "mpmath",
    "ml_dtypes",
    "hypothesis",
    "pytest",
    "pytest-xdist",
)
# How the names of units that numerical kernels are chosen by begin, on x86 and Arm.
_UNITS = ("avx", "amx", "fma", "asimd", "sve", "sme", "bf16")


def versions() -> dict[str, str]:
    """Return the versions of Python and of the libraries that verdicts depend on; none is imported."""
    found = {"python": platform.python_version()}
    for name in LIBRARIES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def machine() -> dict[str, str]:
    """Return processor, instruction set, cores, system and GPU.

    `isa` is what PyTorch's kernels were chosen for, or what NumPy found if PyTorch is not loaded: results
    differ in their last bits from one instruction set to the next. `features` are the vector and matrix units
    that kernels are chosen by, named as the operating system names them, without underscores.
    """
    return {
        "cpu": _processor(),
        "isa": _torch_isa() or _numpy_isa(),
        "isa_numpy": _numpy_isa(),
        "features": features(),
        "cores": str(cores()),
        "system": f"{platform.system()} {platform.release()}",
        "architecture": platform.machine(),
        "gpu": gpu(),
    }


def cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def gpu() -> str:
    """Return the GPU or "none". PyTorch is asked only if already loaded; else the kernel's device files."""
    torch = sys.modules.get("torch")
    if torch is not None:
        return str(torch.cuda.get_device_name(0)) if torch.cuda.is_available() else "none"
    return "nvidia" if any(Path("/dev").glob("nvidia[0-9]*")) else "none"


def features() -> str:
    """Return the vector and matrix units of the processor; PyTorch is asked where it is loaded.

    It sees what it chooses kernels by, also where a virtual machine hides some of it.
    """
    torch = sys.modules.get("torch")
    if torch is not None and hasattr(torch.cpu, "get_capabilities"):
        names = [str(name) for name, present in torch.cpu.get_capabilities().items() if present is True]
    else:
        names = [*_described("flags").split(), *_described("Features").split()]
    plain = {name.replace("_", "").lower() for name in names}
    return " ".join(sorted(name for name in plain if name.startswith(_UNITS))) or "unknown"


def _processor() -> str:
    return _described("model name") or platform.processor() or "unknown"


def _described(what: str) -> str:
    """Return what the kernel says of the first processor, "" where it does not say it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(what)), "")


def _numpy_isa() -> str:
    import numpy as np

    found = np.show_config(mode="dicts").get("SIMD Extensions", {})
    names = found.get("found") or found.get("baseline") or ["unknown"]
    return str(names[-1]).lower()


def _torch_isa() -> str:
    torch = sys.modules.get("torch")
    return "" if torch is None else str(torch.backends.cpu.get_cpu_capability()).lower()
