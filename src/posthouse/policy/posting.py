"""Who may post to a mailing list, told at the door, where he can still be told.

Promises: nobody who may not post learns it from a bounce. What cannot be refused any more, since somebody else took the
message by the same reply, waits for a moderator (delivery/lists.py). Refuses: to look at mail for other addresses.
"""

from collections.abc import Mapping, Sequence
from typing import ClassVar

from posthouse.directory import lists, members
from posthouse.directory.addresses import ListReached
from posthouse.directory.lists import MailingList
from posthouse.directory.members import Member
from posthouse.message.header import Group, Header, parse_addresses
from posthouse.message.listed import list_id
from posthouse.policy.check import Check, Facts, Verdict, refuse
from posthouse.store.database import Store, Tx
from posthouse.terms.address import Address, BadAddress, parse

_ALLOWED: Mapping[str, tuple[str, ...]] = {
    "members": ("member", "moderator", "owner"),
    "moderated": ("member", "moderator", "owner"),
    "owners": ("owner",),
}


class Posting(Check):
    """RFC 3463 §3.8: 5.7.2, mailing list expansion prohibited."""

    name: ClassVar[str] = "posting"
    exemptible: ClassVar[bool] = False

    def __init__(self, store: Store) -> None:
        self._store = store

    async def data(self, facts: Facts) -> Mapping[int, Verdict] | None:
        """Judge the message for each recipient that is a list."""
        wanted = [
            (index, reached)
            for index, one in enumerate(facts.recipients)
            for reached in one.expansion.lists
            if not reached.purpose and not one.expansion.local and not one.expansion.remote
        ]
        if not wanted or facts.header is None:
            return None
        author = _author(facts.header)
        found = await self._store.read(_look, [reached for _, reached in wanted], author)
        verdicts: dict[int, Verdict] = {}
        for (index, _), (mailing_list, member) in zip(wanted, found, strict=True):
            verdict = self._judge(facts, facts.header, mailing_list, member)
            if verdict is not None:
                verdicts[index] = verdict
        return verdicts

    def _judge(self, facts: Facts, header: Header, mailing_list: MailingList, author: Member | None) -> Verdict | None:
        address = mailing_list.address
        known = list_id(address).encode()
        if any(known in value.lower() for value in header.all(b"list-id")):
            return refuse(self.name, 554, "5.4.6", f"This message came from {address}", "List-Id")
        if facts.sender is None:
            return refuse(self.name, 550, "5.7.2", f"{address} takes no reports and no automatic mail", "null sender")
        if facts.size > mailing_list.message_size:
            text = f"{address} takes messages of up to {mailing_list.message_size} octets"
            return refuse(self.name, 552, "5.2.3", text, f"{facts.size} octets")
        allowed = _ALLOWED.get(mailing_list.posting)
        if mailing_list.others != "refuse" or allowed is None or (author is not None and author.role in allowed):
            return None
        return refuse(self.name, 550, "5.7.2", f"You may not post to {address}", f"posting: {mailing_list.posting}")


def _author(header: Header) -> Address | None:
    """Who is in From, where it is one."""
    people = [
        person
        for value in header.all(b"from")
        for one in parse_addresses(value)
        for person in (one.members if isinstance(one, Group) else (one,))
    ]
    if len(people) != 1:
        return None
    try:
        return parse(str(Address(people[0].local, people[0].domain)))
    except BadAddress:
        return None


def _look(tx: Tx, wanted: Sequence[ListReached], author: Address | None) -> list[tuple[MailingList, Member | None]]:
    return [
        (lists.get(tx, reached.id), None if author is None else members.find(tx, reached.id, author))
        for reached in wanted
    ]
