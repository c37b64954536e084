"""How slowly a client may go: those who send an octet now and then shall not hold a connection for ever.

Promises: a command is complete within `line` seconds of its first octet, however the others are strewn; a message
comes at `rate` octets a second, all its chunks together, with `line` seconds to begin with; a session in which no
message begins to arrive for `session` seconds (or nobody logs in) is over. Noticed when the next octet comes; who sends
none at all is noticed by the stream's own timeout.
Refuses: to count the time that we take ourselves.
"""

from posthouse.clock import Clock


class Pace:
    """One client's. Times in seconds, `rate` in octets a second; 0: a message may come as slowly as it likes."""

    __slots__ = ("_began", "_clock", "_line", "_octets", "_rate", "_until")

    _began: float | None

    def __init__(self, clock: Clock, *, line: float, rate: float, session: float) -> None:
        self._clock = clock
        self._line = line
        self._rate = rate
        self._octets = 0
        self._began = None
        self._until = clock.monotonic() + session

    def allow(self, session: float) -> None:
        """There was progress: so long from now on."""
        self._until = self._clock.monotonic() + session

    def begin(self, *, goes_on: bool = False) -> None:
        """It was answered: what comes next, a command or a message, begins anew; a message of which more chunks are to
        come `goes_on`."""
        if not goes_on:
            self._began = None

    def is_late(self, octets: int, *, message: bool) -> bool:
        """So many octets have come, of a message or of a command: is it too slow?"""
        now = self._clock.monotonic()
        if self._began is None:
            self._began, self._octets = now, 0
            if now > self._until:
                return True
        if not message:
            return now - self._began > self._line or now > self._until
        self._octets += octets
        return (now - self._began - self._line) * self._rate > self._octets
