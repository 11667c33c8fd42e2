"""An oracle for anyone's code: gradients of a function that nothing is known about."""

from gradcheck.blackbox.api import CHECKS, assert_correct, check
from gradcheck.blackbox.result import Result

__all__ = ["CHECKS", "Result", "assert_correct", "check"]
