"""Who is on a mailing list: members, moderators and owners, and who is asked whether he wants to be.

Promises: an address is on a list once. A member whose mail came back on several days is disabled, not removed: he is
still there, gets nothing, and is told apart. A token is known to whom it was sent, serves once and for TOKEN_DAYS.
Refuses: to write mail.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from posthouse.directory import digests
from posthouse.directory.digests import Form
from posthouse.directory.model import AlreadyMember, NoSuchMember
from posthouse.store.database import Row, Tx
from posthouse.terms.address import Address, parse

Role = Literal["member", "moderator", "owner"]
Delivery = Literal["each", "digest", "none"]
What = Literal["join", "leave", "admit", "deliver"]

TOKEN_DAYS: Final = 7
# A member is disabled when mail came back on so many days within so many.
BOUNCE_DAYS: Final = 5
BOUNCE_MEMORY_DAYS: Final = 30
_DAY_MS: Final = 86_400_000
# Behind all keys.
_LAST: Final = "\U0010ffff"
# Letters that mail from one address may call for within a day, and mail to one list: whoever writes may name a victim.
MOST_ANSWERS: Final = 5
MOST_ANSWERS_OF_LIST: Final = 1000
# Requests of one list that wait.
MOST_REQUESTS: Final = 2 * TOKEN_DAYS * MOST_ANSWERS_OF_LIST


@dataclass(frozen=True, slots=True)
class Member:
    """One on a list. `delivery`: each message, a digest, or none. `disabled_at`: his mail came back; None: all is well.

    `number` is what his tags are made of (verp.py): nobody else ever has it, nor he, once he has left.
    """

    address: Address
    name: str
    role: Role
    delivery: Delivery
    joined_at: int
    bounces: int = 0
    bounced_at: int | None = None
    disabled_at: int | None = None
    number: int = 0


@dataclass(frozen=True, slots=True)
class Request:
    """Somebody wants to join or leave, to be admitted by an owner, or to get what is posted in another way (`delivery`,
    which goes with joining, too), and has to confirm it."""

    list: int
    address: Address
    name: str
    what: What
    delivery: Delivery = "each"


def add(
    tx: Tx,
    list: int,
    address: Address,
    now: int,
    *,
    name: str = "",
    role: Role = "member",
    delivery: Delivery = "each",
) -> Member:
    """Put somebody on the list. Raises AlreadyMember."""
    number = tx.number("list_member")
    row = tx.one(
        "member_insert",
        list=list,
        key=address.key,
        written=str(address),
        name=name,
        role=role,
        delivery=delivery,
        joined_at=now,
        number=number,
    )
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
    """Change what is given. `enabled` True forgets that mail came back. Raises NoSuchMember.

    Between single messages and digests he changes when what is gathered has been sent (digests.py).
    """
    found = get(tx, list, address)
    if delivery is not None and delivery != found.delivery:
        wanted = None if found.delivery == "none" else found.delivery
        digests.turn(tx, list, found.number, wanted and digests.form(tx, list, found.number, wanted))
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


def numbered(tx: Tx, list: int, number: int | None) -> Member | None:
    """The member of that number, if he is on this list."""
    row = None if number is None else tx.one("member_numbered", list=list, number=number)
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


def ranges(tx: Tx, list: int, size: int, form: Form, period: int) -> Sequence[tuple[str, str]]:
    """Those who take what is posted in this period in that form, in batches of `size`: each (behind this key, up to
    this one)."""
    bounds = [key for (key,) in tx.all("member_bounds", list=list, size=size, form=form, period=period)]
    # Whoever joins while the message is under way gets it too.
    return [*zip(["", *bounds[:-1]], [*bounds[:-1], _LAST], strict=True)] if bounds else []


def between(tx: Tx, list: int, after: str, upto: str, form: Form, period: int) -> Sequence[Member]:
    """Those of a batch who are reached now."""
    rows = tx.all("member_between", list=list, after=after, upto=upto, form=form, period=period)
    return [_member(row) for row in rows]


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


# --- answers to strangers ---------------------------------------------------------------------------------------------


def may_answer(tx: Tx, list: int, address: Address, now: int) -> bool:
    """Whether mail that names this address as its author may call for a letter to it; noted where it may.

    The author may be forged, so that the letter goes to somebody who asked for nothing.
    """
    after = now - _DAY_MS
    key = Address(address.local.partition("+")[0] or address.local, address.domain).key
    tx.run("list_answer_forget", list=list, before=after)
    counts = tx.one("list_answer_counts", key=key, list=list, after=after)
    assert counts is not None, "counts are always there"
    if counts[0] >= MOST_ANSWERS or counts[1] >= MOST_ANSWERS_OF_LIST:
        return False
    tx.put("list_answer_insert", list=list, key=key, at=now)
    return True


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
        delivery=request.delivery,
        made_at=now,
    )
    return True


def confirmed(tx: Tx, list: int, token: str, now: int) -> Request | None:
    """The request of that token, which is gone with this; None: there is none any more."""
    row = tx.one("list_request_take", list=list, token=token, after=now - TOKEN_DAYS * _DAY_MS)
    if row is None:
        return None
    found = Request(list, parse(row[0]), *row[1:])
    # Of several owners who were asked one is enough: another's token shall not put back who has left since.
    tx.run("list_request_settled", list=list, written=row[0], what=found.what)
    return found


def _member(row: Row) -> Member:
    written, *rest = row
    return Member(parse(written), *rest)
