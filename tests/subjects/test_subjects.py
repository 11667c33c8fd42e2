import subprocess
import sys

import pytest

from gradcheck.errors import UsageError
from gradcheck.subjects import SUBJECTS, Subject, get_subject


def test_names():
    optimizers = ["torch-optim", "torch-optim-foreach", "torch-optim-fused", "torch-schedules"]
    names = ["numpy", "scipy", "torch-cpu", "torch-cuda", "jax-cpu", *optimizers]
    assert [subject.name for subject in SUBJECTS] == names


def test_a_subject_is_found_by_its_name():
    for subject in SUBJECTS:
        found: Subject = get_subject(subject.name)
        assert found is subject


def test_an_unknown_name_offers_the_closest():
    with pytest.raises(UsageError, match=r"unknown subject 'torch-gpu'.*'torch-c"):
        get_subject("torch-gpu")


def test_importing_the_subjects_imports_no_framework():
    program = "import sys, gradcheck.subjects; print(sorted({'torch', 'jax', 'scipy'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
