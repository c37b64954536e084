"""Forwarded mail that comes back: in a loop, seen by the mark that forwarding leaves; or as a bounce.

Promises: a message that an address of ours has forwarded already is not forwarded by it again (5.4.6). The reverse-path
of forwarded mail (directory/srs.py) takes bounces and nothing else, so that nobody writes through us to whoever it
stands for. Refuses: to count hops (limits.Loops does), and to look at mail that stays here.
"""

from collections.abc import Mapping
from typing import ClassVar, Final

from posthouse.message.marks import senders_on
from posthouse.policy.check import Check, Facts, RecipientFacts, Verdict, refuse

_OF_FORWARDED: Final = ("srs0=", "srs1=")


class BouncesOnly(Check):
    """RFC 5321 §4.5.5: what comes to a reverse-path is a report, and has none itself."""

    name: ClassVar[str] = "forwarding"
    exemptible: ClassVar[bool] = False

    def __init__(self) -> None:
        self._refusal = refuse(
            self.name, 550, "5.7.1", "Only reports about mail are taken back this way", "not from <>"
        )

    def rcpt(self, facts: Facts, recipient: RecipientFacts) -> Verdict | None:
        """Look at the sender where the recipient is such a reverse-path of ours."""
        if facts.sender is None or recipient.recipient.address.local[:5].casefold() not in _OF_FORWARDED:
            return None
        ours = recipient.recipient.address not in recipient.expansion.remote
        return self._refusal if ours and recipient.expansion.reaches else None


class ForwardingLoops(Check):
    """RFC 9228 §4: a Delivered-To field with the address that is about to forward says that it has done so before."""

    name: ClassVar[str] = "forwarding-loop"
    exemptible: ClassVar[bool] = False

    def data(self, facts: Facts) -> Mapping[int, Verdict] | None:
        """Compare the marks with those recipients that lead elsewhere."""
        forwards = [
            (index, one.recipient.address)
            for index, one in enumerate(facts.recipients)
            if one.expansion.remote and one.recipient.address not in one.expansion.remote
        ]
        if not forwards or facts.header is None:
            return None
        marks = senders_on(facts.header)
        return {
            index: refuse(self.name, 554, "5.4.6", f"{address} has forwarded this message before", "Delivered-To")
            for index, address in forwards
            if str(address).casefold() in marks
        }
