"""The claims in a user's own file."""

from __future__ import annotations

import importlib.util
import traceback
from pathlib import Path

from gradcheck.article.claims import Claim
from gradcheck.errors import UsageError


def load_claims(path: Path) -> tuple[Claim, ...]:
    """Return the claims that a user's file defines; `UsageError` names file, line and reason."""
    name = f"gradcheck_claims_{abs(hash(str(path)))}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise UsageError(f"claims file {str(path)!r} is not a Python file: its name must end in .py")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except SyntaxError as error:
        raise UsageError(f"claims file {str(path)!r}, line {error.lineno}: {error.msg}") from error
    except Exception as error:
        lines = [f.lineno for f in traceback.extract_tb(error.__traceback__) if f.filename == str(path)]
        where = f", line {lines[-1]}" if lines else ""
        raise UsageError(f"claims file {str(path)!r}{where}: {type(error).__name__}: {error}") from error
    except SystemExit as error:
        raise UsageError(f"claims file {str(path)!r} calls exit({error.code!r}) when it is read") from error
    found = tuple(value for value in vars(module).values() if isinstance(value, Claim))
    if not found:
        raise UsageError(
            f"claims file {str(path)!r} holds no claim: decorate a function with gradcheck.claim"
        )
    ids = [item.id for item in found]
    for repeated in {i for i in ids if ids.count(i) > 1}:
        raise UsageError(f"claims file {str(path)!r} defines the claim id {repeated!r} more than once")
    return found
