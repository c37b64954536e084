"""Sites where nothing may stand behind the end of a message, though they announce PIPELINING (RFC 2920 §3.1 allows it).

Promises: what is learnt holds for a while, is bounded in memory, and forgotten, it is learnt again. Which answers speak
of the order in which things were said, and not of the mail, is told here alone.
Refuses: to decide what becomes of a message.
"""

from collections import OrderedDict
from typing import Final

from posthouse.clock import Clock
from posthouse.terms.reply import Reply

# Each time it is forgotten, one message is said twice or waits: seldom enough, and a server is mended one day.
_WHILE_MS: Final = 6 * 3_600_000
# Each costs some 200 octets.
_REMEMBERED: Final = 1000


class Alone:
    """The memory of one process. A site is what the queue calls so, or a host's name."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._until: OrderedDict[str, int] = OrderedDict()

    def learn(self, site: str) -> None:
        """Each message goes alone there from now on."""
        self._until[site] = self._clock.now() + _WHILE_MS
        self._until.move_to_end(site)
        if len(self._until) > _REMEMBERED:
            self._until.popitem(last=False)

    def holds(self, site: str) -> bool:
        """Whether nothing may follow a message there."""
        until = self._until.get(site)
        return until is not None and self._clock.now() < until


def out_of_order(reply: Reply) -> bool:
    """This refusal speaks of the protocol: RFC 5321 §4.2.1, x0z; RFC 3463 §3.6, 5.5.z but too many recipients."""
    if reply.code == 503 or not reply.enhanced:
        return 500 <= reply.code < 510
    return reply.enhanced.startswith("5.5.") and reply.enhanced != "5.5.3"
