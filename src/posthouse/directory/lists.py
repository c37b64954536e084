"""Mailing lists: what each is called, who may post, who may join.

Promises: a list's address is served like any other; NAME-owner, NAME-request and the others of addresses.PURPOSES
lead to the same list, unless such an address exists by itself. Refuses: to carry mail (delivery/lists.py does).
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Final, Literal, get_args

from posthouse.directory import addresses, identities, members
from posthouse.directory.digests import Bounds
from posthouse.directory.model import BadList, MembersHidden, NoSuchList, changed
from posthouse.limits import KB, MB
from posthouse.store import blobs
from posthouse.store.database import Row, Tx
from posthouse.terms.address import Address, parse

Posting = Literal["anyone", "members", "moderated", "owners"]
Others = Literal["hold", "refuse"]
Joining = Literal["open", "approved", "closed"]
ReplyTo = Literal["author", "list"]
Rewriting = Literal["auto", "always", "never"]

LONGEST_TITLE: Final = 200
LONGEST_FOOTER: Final = 2000
# NAME-confirm+TOKEN and NAME-bounces+TAG must fit a local part (RFC 5321 §4.5.3.1.1), and NAME is a part of List-Id:
# RFC 2919 §2 wants dot-atom-text there.
LONGEST_NAME: Final = 38
_NAME: Final = re.compile(r"[A-Za-z0-9!#$%&'*/=?^_`{|}~-]+(?:\.[A-Za-z0-9!#$%&'*/=?^_`{|}~-]+)*\Z")
# Digests: a day's posts, in what the servers of all members take. Mailman's defaults are daily, or 30 KB.
DIGEST_EVERY: Final = 86_400
DIGEST_POSTS: Final = 50
DIGEST_SIZE: Final = 256 * KB
# The least and the most of each.
_DIGESTS: Final = {
    "digest_every": (3600, 31 * 86_400),
    "digest_posts": (1, 500),
    "digest_size": (10 * KB, 10 * MB),
}
# Members that are told to who asks for them.
MOST_TOLD: Final = 1000
# Posts of one list that wait for a moderator: strangers write them.
MOST_HELD: Final = 1000
# By who may post: the roles on the list of those whose messages go out at once; none: everybody's do.
_ROLES: Final[Mapping[str, tuple[str, ...]]] = {
    "anyone": (),
    "members": ("member", "moderator", "owner"),
    "moderated": ("moderator", "owner"),
    "owners": ("owner",),
}


@dataclass(frozen=True, slots=True)
class MailingList:
    """One list.

    `posting`: whose messages go out at once; what others write is held for a moderator or refused, as `others` says.
    `joining`: by confirmation, by approval of an owner besides, or only by an owner's hand. `reply_to`: where answers
    go by themselves. `rewrite_from`: put the list in the author's place, "auto" only where his domain's DMARC policy
    would have members' servers refuse the message. `subject_tag` and `footer` change what he wrote, "" does not.
    `digest_every`: seconds from the first post of a digest until that is sent; `digest_posts` and `digest_size`
    (octets): when it is full before. `notices`: owners hear who joins and leaves by mail.
    `visible`: its members may see who is on it.
    """

    id: int
    address: Address
    title: str
    posting: Posting = "members"
    others: Others = "hold"
    joining: Joining = "open"
    reply_to: ReplyTo = "author"
    rewrite_from: Rewriting = "auto"
    subject_tag: str = ""
    footer: str = ""
    message_size: int = 10 * MB
    digest_every: int = DIGEST_EVERY
    digest_posts: int = DIGEST_POSTS
    digest_size: int = DIGEST_SIZE
    notices: bool = False
    visible: bool = False

    @property
    def bounds(self) -> Bounds:
        """When a digest is full."""
        return Bounds(self.digest_posts, self.digest_size)

    def beside(self, purpose: str) -> Address:
        """The address of the list for that purpose: "owner", "confirm+TOKEN"."""
        return Address(f"{self.address.local}-{purpose}", self.address.domain)

    def goes_out(self, role: str | None) -> bool:
        """What an author with this role on the list (None: he is not on it) writes needs no moderator."""
        allowed = _ROLES[self.posting]
        return not allowed or role in allowed

    def takes(self, role: str | None) -> bool:
        """What such an author writes is taken, if only to be held; else it is refused at the door."""
        return self.others == "hold" or self.goes_out(role) or (self.posting == "moderated" and role is not None)


SETTINGS: Final = tuple(one.name for one in fields(MailingList) if one.name not in ("id", "address"))
CHOICES: Final[dict[str, tuple[str, ...]]] = {
    "posting": get_args(Posting),
    "others": get_args(Others),
    "joining": get_args(Joining),
    "reply_to": get_args(ReplyTo),
    "rewrite_from": get_args(Rewriting),
}


def add(tx: Tx, address: Address, title: str, now: int, **settings: Any) -> MailingList:
    """Make a list. Raises NoSuchDomain, AddressTaken, BadList."""
    wanted = MailingList(0, address, title or str(address), **settings)
    _check(wanted)
    addresses.claim(tx, address, None)
    id = tx.value("list_insert", key=address.key, created_at=now, **_row(wanted))
    tx.run("address_of_list", key=address.key, list=id)
    changed(tx)
    return get(tx, id)


def change(tx: Tx, address: Address, **settings: Any) -> MailingList:
    """Change some settings of a list. Raises NoSuchList, BadList."""
    found = find(tx, address)
    wanted = MailingList(**{**{one.name: getattr(found, one.name) for one in fields(found)}, **settings})
    _check(wanted)
    tx.run("list_update", id=found.id, **_row(wanted))
    changed(tx)
    return wanted


def remove(tx: Tx, address: Address, now: int) -> None:
    """Remove a list, its members, what is held and what was gathered for a digest; of a post under way those members
    get it whose rows are queued.

    Raises NoSuchList; AddressInUse where an alias points to it.
    """
    found = find(tx, address)
    addresses.require_unused(tx, address)
    for kept in ("list_held_blobs", "list_digest_blobs"):
        blobs.suspect(tx, [blob for (blob,) in tx.all(kept, list=found.id)], now)
    tx.run("list_batch_forget", list=found.id)
    tx.run("list_delete", id=found.id)
    tx.run("address_delete", key=address.key)
    changed(tx)


def members_for(tx: Tx, address: Address, account: int) -> tuple[str, ...]:
    """Who is on the list, for this account: its owners and moderators may know, and where it is visible its members.

    Raises NoSuchList, MembersHidden.
    """
    found = find(tx, address)
    names = identities.addresses_of(tx, account)
    own = [one for name in names if (one := members.find(tx, found.id, parse(name))) is not None]
    page = members.listed(tx, found.id, limit=MOST_TOLD + 1)
    allowed = bool(own) if found.visible else any(one.role != "member" for one in own)
    if not allowed or len(page) > MOST_TOLD:
        raise MembersHidden(str(address))
    return tuple(str(one.address) for one in page)


def held(tx: Tx, id: int) -> int:
    """How many posts wait for a moderator of the list."""
    count: int = tx.value("list_held_count", list=id)
    return count


def address_of(tx: Tx, reached: addresses.ListReached) -> Address:
    """The address that leads there."""
    found = get(tx, reached.id)
    if not reached.purpose:
        return found.address
    return found.beside(f"{reached.purpose}+{reached.token}" if reached.token else reached.purpose)


def find(tx: Tx, address: Address) -> MailingList:
    """The list of that address. Raises NoSuchList."""
    row = tx.one("list_by_key", key=address.key)
    if row is None:
        raise NoSuchList(str(address))
    return _list(row)


def get(tx: Tx, id: int) -> MailingList:
    """The list of that id. Raises NoSuchList."""
    row = tx.one("list_get", id=id)
    if row is None:
        raise NoSuchList(str(id))
    return _list(row)


def listed(tx: Tx, after: str = "", limit: int = 500) -> Sequence[MailingList]:
    """Up to `limit` lists in the order of their addresses' keys, those behind `after`."""
    return [_list(row) for row in tx.all("list_list", after=after, limit=limit)]


def _list(row: Row) -> MailingList:
    id, written, *settings = row
    *settings, notices, visible = settings
    return MailingList(
        id, parse(written), **dict(zip(SETTINGS, [*settings, bool(notices), bool(visible)], strict=True))
    )


def _row(wanted: MailingList) -> dict[str, Any]:
    switches = {"notices": int(wanted.notices), "visible": int(wanted.visible)}
    return {name: getattr(wanted, name) for name in SETTINGS} | switches


def _check(wanted: MailingList) -> None:
    for name, choices in CHOICES.items():
        if getattr(wanted, name) not in choices:
            raise BadList(f"{name} of {wanted.address} is one of {', '.join(choices)}")
    for name, most in (("title", LONGEST_TITLE), ("subject_tag", LONGEST_TITLE), ("footer", LONGEST_FOOTER)):
        text = getattr(wanted, name)
        if len(text) > most or (name != "footer" and not text.isprintable()):
            raise BadList(f"{name} of {wanted.address} is one line of at most {most} characters")
    if wanted.message_size < 1:
        raise BadList(f"message_size of {wanted.address} is at least 1 octet")
    for name, (least, greatest) in _DIGESTS.items():
        if not least <= getattr(wanted, name) <= greatest:
            raise BadList(f"{name} of {wanted.address} is {least} to {greatest}")
    if not _NAME.match(wanted.address.local) or len(wanted.address.local) > LONGEST_NAME:
        raise BadList(
            f"{wanted.address}: a list's name is ASCII, without quotes or +, of at most {LONGEST_NAME} letters"
        )
    for purpose in addresses.PURPOSES:
        if wanted.address.local.casefold().endswith(f"-{purpose.rstrip('+')}"):
            raise BadList(f"{wanted.address} ends like an address beside a list ({purpose.rstrip('+')})")
