"""Forwarded mail that comes back: seen by the mark that forwarding leaves.

Promises: a message that an address of ours has forwarded already is not forwarded by it again (5.4.6). Refuses: to
count hops (limits.Loops does), and to look at mail that stays here.
"""

from collections.abc import Mapping
from typing import ClassVar

from posthouse.message.charset import undeclared
from posthouse.policy.check import Check, Facts, Verdict, refuse


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
        marks = {undeclared(value).strip().casefold() for value in facts.header.all(b"delivered-to")}
        return {
            index: refuse(self.name, 554, "5.4.6", f"{address} has forwarded this message before", "Delivered-To")
            for index, address in forwards
            if str(address).casefold() in marks
        }
