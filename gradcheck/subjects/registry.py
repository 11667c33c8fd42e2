"""Every subject of the suite, and the way to one by its name."""

from __future__ import annotations

from gradcheck.errors import unknown_name
from gradcheck.subjects.implementation import Subject
from gradcheck.subjects.jax import JAX
from gradcheck.subjects.numpy import NUMPY
from gradcheck.subjects.scipy import SCIPY
from gradcheck.subjects.torch import CPU, CUDA
from gradcheck.subjects.torch_optim import FOREACH, FUSED, LOOP
from gradcheck.subjects.torch_schedules import SCHEDULES

SUBJECTS: tuple[Subject, ...] = (NUMPY, SCIPY, CPU, CUDA, JAX, LOOP, FOREACH, FUSED, SCHEDULES)


def get_subject(name: str) -> Subject:
    """Return the subject called `name`; an unknown name is a `UsageError` that offers the closest ones."""
    for candidate in SUBJECTS:
        if candidate.name == name:
            return candidate
    raise unknown_name("subject", name, (subject.name for subject in SUBJECTS))
