"""Who may post to a mailing list, told at the door, where he can still be told.

Promises: nobody who may not post learns it from a bounce, and nothing that the list would drop is taken. What cannot be
refused any more, since somebody else took the message by the same reply, waits for a moderator (delivery/lists.py).
Refuses: to look at mail for other addresses.
"""

from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from posthouse.directory import lists, members
from posthouse.directory.addresses import ListReached
from posthouse.directory.lists import MailingList
from posthouse.message.header import Header
from posthouse.message.listed import list_id, list_ids
from posthouse.message.marks import is_automatic, senders_on
from posthouse.message.people import address_of, author
from posthouse.policy.check import Check, Facts, Verdict, defer, refuse
from posthouse.store.database import Store, Tx
from posthouse.terms.address import Address

# To send to whom a list is. Its -owner takes everything but what went through it before.
_JUDGED = ("", "owner")


@dataclass(frozen=True, slots=True)
class _Known:
    """A list, the author's role on it (None: he is not), and whether no more posts can wait for its moderators."""

    list: MailingList
    role: str | None
    full: bool


class Posting(Check):
    """RFC 3463 §3.8: 5.7.2, mailing list expansion prohibited."""

    name: ClassVar[str] = "posting"
    exemptible: ClassVar[bool] = False

    def __init__(self, store: Store) -> None:
        self._store = store

    def data(self, facts: Facts) -> Awaitable[Mapping[int, Verdict]] | None:
        """Judge the message for each recipient that is a list."""
        wanted = [
            (index, reached)
            for index, one in enumerate(facts.recipients)
            for reached in one.expansion.lists
            if reached.purpose in _JUDGED and not one.expansion.local and not one.expansion.remote
        ]
        return self._judged(facts, facts.header, wanted) if wanted and facts.header is not None else None

    async def _judged(
        self, facts: Facts, header: Header, wanted: Sequence[tuple[int, ListReached]]
    ) -> Mapping[int, Verdict]:
        writer = author(header)
        address = None if writer is None else address_of(writer)
        found = await self._store.read(_look, [reached for _, reached in wanted], address)
        verdicts: dict[int, Verdict] = {}
        for (index, reached), known in zip(wanted, found, strict=True):
            verdict = self._of_loop(header, known.list, reached.purpose)
            if verdict is None and not reached.purpose:
                verdict = self._judge(facts, header, known)
            if verdict is not None:
                verdicts[index] = verdict
        return verdicts

    def _of_loop(self, header: Header, mailing_list: MailingList, purpose: str) -> Verdict | None:
        """It came by this list before, perhaps by others since."""
        address = mailing_list.beside(purpose) if purpose else mailing_list.address
        own = not purpose and list_id(mailing_list.address) in list_ids(header)
        if not own and str(address).casefold() not in senders_on(header):
            return None
        return refuse(
            self.name, 554, "5.4.6", f"This message came from {address}", "List-Id" if own else "Delivered-To"
        )

    def _judge(self, facts: Facts, header: Header, known: _Known) -> Verdict | None:
        mailing_list, address = known.list, known.list.address
        if facts.sender is None or is_automatic(header):
            why = "null sender" if facts.sender is None else "Auto-Submitted"
            return refuse(self.name, 550, "5.7.2", f"{address} takes no reports and no automatic mail", why)
        if facts.size > mailing_list.message_size:
            text = f"{address} takes messages of up to {mailing_list.message_size} octets"
            return refuse(self.name, 552, "5.2.3", text, f"{facts.size} octets")
        if not mailing_list.takes(known.role):
            return refuse(self.name, 550, "5.7.2", f"You may not post to {address}", f"posting: {mailing_list.posting}")
        if known.full and not mailing_list.goes_out(known.role):
            # RFC 3463 §3.3: X.2.4, a problem with the expansion of a mailing list.
            text = f"Too many messages wait for the moderators of {address}; try again later"
            return defer(self.name, 450, "4.2.4", text)
        return None


def _look(tx: Tx, wanted: Sequence[ListReached], writer: Address | None) -> list[_Known]:
    found: list[_Known] = []
    for reached in wanted:
        member = None if writer is None else members.find(tx, reached.id, writer)
        full = lists.held(tx, reached.id) >= lists.MOST_HELD
        found.append(_Known(lists.get(tx, reached.id), None if member is None else member.role, full))
    return found
