"""What a sender wishes with MAIL, as it holds here: times made absolute, priorities that may be had. Pure.

Promises: BY and HOLDFOR count from now; a message that would be late before it leaves, or is to be held for too long,
is refused while its sender is there (RFC 2852, RFC 4865).
Refuses: to let whoever is not known to us push others aside (RFC 6710 §5).
"""

from dataclasses import replace
from typing import Final

from posthouse.terms.envelope import NO_WISHES, DeliverBy, Wishes
from posthouse.terms.reply import Refusal, Reply
from posthouse.wire.smtp.command import Mail

SENDER_OK: Final = Reply(250, "2.1.0", "Sender ok")
# Milliseconds that a client's clock may be behind ours.
_CLOCKS_DIFFER: Final = 60_000
_DAY: Final = 86_400


def need_settling(event: Mail) -> bool:
    """Does its sender wish for something that depends on the time, on us, or on who he is?"""
    wishes = event.envelope.wishes
    if wishes is NO_WISHES:
        return False
    timed = event.by is not None or event.hold_for is not None or wishes.hold_until is not None
    return timed or wishes.priority > 0 or wishes.body == "BINARYMIME"


def settled(event: Mail, now: int, longest_hold: float, *, known: bool) -> tuple[Wishes, Reply]:
    """The wishes as they hold, and what MAIL is answered. `now` in UTC milliseconds, `longest_hold` in seconds.

    `known`: the sender is one whom we trust to say how urgent it is. Raises Refusal.
    """
    wishes = event.envelope.wishes
    hold_until = wishes.hold_until if event.hold_for is None else now + event.hold_for * 1000
    if hold_until is not None:
        hold_until = _held(hold_until, now, longest_hold)
    by = None if event.by is None else DeliverBy(now + event.by.seconds * 1000, event.by.returned, event.by.trace)
    if by is not None and by.returned and by.at <= (hold_until or now):
        raise Refusal(501, "5.5.4", "The message would be late before it leaves")
    done, priority = SENDER_OK, wishes.priority
    if priority > 0 and not known:
        # RFC 6710 §5; X.3.6 tells the new priority.
        priority, done = 0, Reply(250, "2.3.6", "0 is the priority here, for you are not known to us")
    return replace(wishes, hold_until=hold_until, deliver_by=by, priority=priority), done


def _held(until: int, now: int, longest: float) -> int | None:
    """A time that has just gone is no wish any more; one further off is a mistake."""
    if now < until <= now + int(longest * 1000):
        return until
    if now - _CLOCKS_DIFFER < until <= now:
        return None
    if until <= now:
        raise Refusal(501, "5.5.4", "That time is past")
    raise Refusal(501, "5.5.4", f"A message is held for {longest / _DAY:g} days at most")
