"""When to stop."""

from __future__ import annotations

import time
from dataclasses import dataclass


class OutOfTime(BaseException):
    """The time that was given is over.

    No `Exception`: what a user's function raises is caught in many places, and this is not.
    """


@dataclass(frozen=True)
class Clock:
    """A moment to stop at, in seconds of `time.monotonic`."""

    end: float

    def left(self) -> float:
        """Return the seconds left."""
        return self.end - time.monotonic()

    def require(self) -> None:
        """Raise `OutOfTime` if nothing is left."""
        if self.left() <= 0:
            raise OutOfTime

    def part(self, share: float) -> Clock:
        """Return a clock that stops after a share of what is left."""
        return Clock(time.monotonic() + share * max(0.0, self.left()))

    def within(self, seconds: float) -> Clock:
        """Return a clock that stops after so many seconds, or with this one."""
        return Clock(min(self.end, time.monotonic() + seconds))
