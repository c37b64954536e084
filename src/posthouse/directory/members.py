"""Who is on a mailing list: members, moderators and owners, and who is asked whether he wants to be.

Promises: an address is on a list once. A member whose mail came back on several days is disabled, not removed: he is
still there, gets nothing, and is told apart. A token is known to whom it was sent, serves once and for TOKEN_DAYS.
Refuses: to write mail.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from posthouse.directory.model import AlreadyMember, NoSuchMember
from posthouse.store.database import Row, Tx
from posthouse.terms.address import Address, parse

Role = Literal["member", "moderator", "owner"]
Delivery = Literal["each", "none"]
What = Literal["join", "leave", "admit"]

TOKEN_DAYS: Final = 7
# A member is disabled when mail came back on so many days within so many.
BOUNCE_DAYS: Final = 5
BOUNCE_MEMORY_DAYS: Final = 30
_DAY_MS: Final = 86_400_000
# Requests of one list that wait: a stranger writes them.
MOST_REQUESTS: Final = 1000


@dataclass(frozen=True, slots=True)
class Member:
    """One on a list. `delivery`: each message, or none. `disabled_at`: his mail came back; None: all is well."""

    address: Address
    name: str
    role: Role
    delivery: Delivery
    joined_at: int
    bounces: int = 0
    bounced_at: int | None = None
    disabled_at: int | None = None

    @property
    def reached(self) -> bool:
        """He gets what is posted."""
        return self.delivery == "each" and self.disabled_at is None


@dataclass(frozen=True, slots=True)
class Request:
    """Somebody wants to join or leave, or to be admitted by an owner, and has to confirm it."""

    list: int
    address: Address
    name: str
    what: What


def add(tx: Tx, list: int, address: Address, now: int, *, name: str = "", role: Role = "member") -> Member:
    """Put somebody on the list. Raises AlreadyMember."""
    row = tx.one("member_insert", list=list, key=address.key, written=str(address), name=name, role=role, joined_at=now)
    if row is None:
        raise AlreadyMember(str(address))
    return get(tx, list, address)


def change(
    tx: Tx,
    list: int,
    address: Address,
    *,
    name: str | None = None,
    role: Role | None = None,
    delivery: Delivery | None = None,
    enabled: bool | None = None,
) -> Member:
    """Change what is given. `enabled` True forgets that mail came back. Raises NoSuchMember."""
    found = get(tx, list, address)
    tx.run(
        "member_update",
        list=list,
        key=address.key,
        name=found.name if name is None else name,
        role=role or found.role,
        delivery=delivery or found.delivery,
        bounces=0 if enabled else found.bounces,
        bounced_at=None if enabled else found.bounced_at,
        disabled_at=None if enabled else found.disabled_at,
    )
    return get(tx, list, address)


def remove(tx: Tx, list: int, address: Address) -> None:
    """Take somebody off the list. Raises NoSuchMember."""
    if not tx.run("member_delete", list=list, key=address.key):
        raise NoSuchMember(str(address))


def find(tx: Tx, list: int, address: Address) -> Member | None:
    """The member of that address, if there is one."""
    row = tx.one("member_get", list=list, key=address.key)
    return None if row is None else _member(row)


def get(tx: Tx, list: int, address: Address) -> Member:
    """The member of that address. Raises NoSuchMember."""
    found = find(tx, list, address)
    if found is None:
        raise NoSuchMember(str(address))
    return found


def listed(tx: Tx, list: int, after: str = "", limit: int = 500) -> Sequence[Member]:
    """Members in the order of their addresses' keys, those behind `after`."""
    return [_member(row) for row in tx.all("member_list", list=list, after=after, limit=limit)]


def every(tx: Tx, list: int) -> Iterator[Member]:
    """All members, read in pages."""
    after = ""
    while page := listed(tx, list, after):
        yield from page
        after = page[-1].address.key


def staff(tx: Tx, list: int, role: Literal["moderator", "owner"]) -> Sequence[Member]:
    """The owners; or who moderates: moderators, or owners where there are none."""
    found = [_member(row) for row in tx.all("member_staff", list=list)]
    owners = [one for one in found if one.role == "owner"]
    moderators = [one for one in found if one.role == "moderator"]
    return owners if role == "owner" else moderators or owners


def ranges(tx: Tx, list: int, size: int) -> Sequence[tuple[str, str]]:
    """Those who are reached, in batches of `size`: each (behind this key, up to this one)."""
    bounds = [key for (key,) in tx.all("member_bounds", list=list, size=size)]
    return [*zip(["", *bounds[:-1]], bounds, strict=True)]


def between(tx: Tx, list: int, after: str, upto: str) -> Sequence[Member]:
    """Those of a batch who are reached now."""
    return [_member(row) for row in tx.all("member_between", list=list, after=after, upto=upto)]


def bounced(tx: Tx, list: int, address: Address, now: int) -> bool:
    """Mail to a member came back for good; True where that disabled him. Counted once a day."""
    found = find(tx, list, address)
    if found is None or found.disabled_at is not None:
        return False
    last = found.bounced_at
    if last is not None and now - last < _DAY_MS:
        return False
    forgotten = last is None or now - last > BOUNCE_MEMORY_DAYS * _DAY_MS
    bounces = 1 if forgotten else found.bounces + 1
    disabled_at = now if bounces >= BOUNCE_DAYS else None
    tx.run("member_bounced", list=list, key=address.key, bounces=bounces, at=now, disabled_at=disabled_at)
    return disabled_at is not None


# --- requests ---------------------------------------------------------------------------------------------------------


def ask(tx: Tx, token: str, request: Request, now: int) -> bool:
    """Remember a request until it is confirmed by its token; False where too many wait already."""
    tx.run("list_request_expire", before=now - TOKEN_DAYS * _DAY_MS)
    if tx.value("list_request_count", list=request.list) >= MOST_REQUESTS:
        return False
    tx.run(
        "list_request_insert",
        token=token,
        list=request.list,
        written=str(request.address),
        name=request.name,
        what=request.what,
        made_at=now,
    )
    return True


def confirmed(tx: Tx, list: int, token: str, now: int) -> Request | None:
    """The request of that token, which is gone with this; None: there is none any more."""
    row = tx.one("list_request_take", list=list, token=token, after=now - TOKEN_DAYS * _DAY_MS)
    return None if row is None else Request(list, parse(row[0]), row[1], row[2])


def _member(row: Row) -> Member:
    written, name, role, delivery, joined_at, bounces, bounced_at, disabled_at = row
    return Member(parse(written), name, role, delivery, joined_at, bounces, bounced_at, disabled_at)
