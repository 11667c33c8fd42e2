"""Property-based numerical verification of the formulas that neural networks are trained with.

Every public name is loaded when it is first used, so that importing this package costs nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gradcheck.lazy import load as _load

if TYPE_CHECKING:
    from gradcheck import article, checks, flow, formulas
    from gradcheck.arithmetic.dual import derivative
    from gradcheck.article.claims import claim
    from gradcheck.blackbox.api import assert_correct, check
    from gradcheck.blackbox.optimizer import check_optimizer
    from gradcheck.blackbox.result import Result
    from gradcheck.errors import (
        GradcheckError,
        LockedError,
        MissingDependencyError,
        StorageError,
        Undecided,
        Unsupported,
        UntrustworthyError,
        UsageError,
    )
    from gradcheck.records import Verdict

__version__ = "0.1.0"

__all__ = [
    "GradcheckError",
    "LockedError",
    "MissingDependencyError",
    "Result",
    "StorageError",
    "Undecided",
    "Unsupported",
    "UntrustworthyError",
    "UsageError",
    "Verdict",
    "__version__",
    "article",
    "assert_correct",
    "check",
    "check_optimizer",
    "checks",
    "claim",
    "derivative",
    "flow",
    "formulas",
]

_ERRORS = "gradcheck.errors"
_HOMES = {
    "GradcheckError": _ERRORS,
    "LockedError": _ERRORS,
    "MissingDependencyError": _ERRORS,
    "StorageError": _ERRORS,
    "Undecided": _ERRORS,
    "Unsupported": _ERRORS,
    "UntrustworthyError": _ERRORS,
    "UsageError": _ERRORS,
    "Verdict": "gradcheck.records",
    "Result": "gradcheck.blackbox.result",
    "article": "gradcheck.article",
    "assert_correct": "gradcheck.blackbox.api",
    "check": "gradcheck.blackbox.api",
    "check_optimizer": "gradcheck.blackbox.optimizer",
    "checks": "gradcheck.checks",
    "claim": "gradcheck.article.claims",
    "derivative": "gradcheck.arithmetic.dual",
    "flow": "gradcheck.flow",
    "formulas": "gradcheck.formulas",
}


def __getattr__(name: str) -> Any:
    return _load(name, _HOMES, globals())


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
