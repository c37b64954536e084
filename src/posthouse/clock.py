"""Time as an argument.

Promises: every room that needs the time is handed a Clock, so that a test or a simulated world decides what time it is.
Points in time are UTC milliseconds since 1970 (an int); durations are seconds (a float) unless a name says otherwise.
"""

import time
from typing import Protocol


class Clock(Protocol):
    """Where a room learns the time."""

    def now(self) -> int:
        """UTC milliseconds since 1970."""
        ...

    def monotonic(self) -> float:
        """Seconds that never run backwards; only differences mean anything."""
        ...


class SystemClock:
    """The machine's own clock."""

    def now(self) -> int:
        return time.time_ns() // 1_000_000

    def monotonic(self) -> float:
        return time.monotonic()


class SetClock:
    """A clock that stands still until it is moved: for simulations and tests."""

    def __init__(self, now: int = 1_767_225_600_000) -> None:
        self._now = now

    def now(self) -> int:
        return self._now

    def monotonic(self) -> float:
        return self._now / 1000

    def advance(self, seconds: float) -> None:
        """Move on by `seconds`."""
        self._now += int(seconds * 1000)
