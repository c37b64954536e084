"""The durable queue: what waits for another attempt, and the one way into it.

Promises: when the transaction that called `accept` has committed, the message survives loss of power until each of its
recipients has met a final outcome. Recipients stand in lanes (destination, sender, priority), made on demand.
Refuses: to know how mail travels. A destination is a word that a courier understands: `domain:example.org`, or `local:`
and `local:junk` for delivery at home.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from posthouse.queue.schedule import LOCAL
from posthouse.store import blobs
from posthouse.store.database import Topic, Tx, Value
from posthouse.terms.address import Address, parse
from posthouse.terms.envelope import NO_WISHES, Body, DeliverBy, Wishes
from posthouse.terms.reply import Reply

DOMAIN: Final = "domain:"
# A mailing list by its id; with HELD behind it what is posted waits for a moderator, whoever wrote it.
LIST: Final = "list:"
HELD: Final = ":held"
# A batch of a list's members (directory/members.py).
MEMBERS: Final = "members:"

# A recipient's id is its blob's with so many bits of a series behind it: what needs the same octets stands together,
# and is found by them without an index. No two that wait have one id unless millions came between them.
_SERIES_BITS: Final = 24
_SERIES: Final = (1 << _SERIES_BITS) - 1
_WRITTEN_ID: Final = re.compile(r"([0-9]{1,11})\.([0-9]{1,8})")


@dataclass(frozen=True, slots=True)
class QueuedMail:
    """A message to be queued: its octets are the row `blob`, inserted in the same transaction, `size` octets long.

    `account` is the submitter's, None for mail of strangers and for bounces; `sender` None is the null reverse-path.
    `expires_at` is when we give up.
    """

    journey: int
    blob: int
    size: int
    sender: Address | None
    queued_at: int
    expires_at: int
    account: int | None = None
    wishes: Wishes = NO_WISHES

    @property
    def lane_sender(self) -> str:
        """Whose share of the road this message uses."""
        if self.account is not None:
            return f"account:{self.account}"
        return self.sender.domain if self.sender else ""


@dataclass(frozen=True, slots=True)
class NewRecipient:
    """A recipient to be queued.

    `destination` None means its domain's MX. `original` is the address as it came in, None where it is `address`.
    `prologue` goes in front of the message for this recipient. `due_at` None means at once. `return_path`: under which
    it travels to him, None where that is the message's sender.
    """

    address: Address
    destination: str | None = None
    original: str | None = None
    notify: frozenset[str] | None = None
    orcpt: str | None = None
    prologue: bytes = b""
    due_at: int | None = None
    return_path: Address | None = None


@dataclass(frozen=True, slots=True)
class QueuedMessage:
    """A message in the queue, as any of its recipients' rows tells it. `id` is that of its first recipient."""

    id: int
    mail: QueuedMail


@dataclass(frozen=True, slots=True)
class QueuedRecipient:
    """A recipient in the queue: `attempts` made so far, and what was said last (`last_remote` None: by us)."""

    id: int
    address: Address
    original: str
    notify: frozenset[str] | None = None
    orcpt: str | None = None
    due_at: int = 0
    attempts: int = 0
    last_reply: Reply | None = None
    last_remote: str | None = None


@dataclass(frozen=True, slots=True)
class Job:
    """What a courier attempts at once: one message and some of its recipients in one lane, all with one prologue and
    one reverse-path (`return_path` None: the message's sender)."""

    lane: int
    destination: str
    message: QueuedMessage
    blob: blobs.BlobRef
    recipients: tuple[QueuedRecipient, ...]
    prologue: bytes = field(default=b"", repr=False)
    return_path: Address | None = None

    @property
    def sender(self) -> Address | None:
        """The reverse-path under which it travels, and which hears what became of it; None is the null one."""
        return self.return_path or self.mail.sender

    @property
    def mail(self) -> QueuedMail:
        return self.message.mail

    @property
    def domain(self) -> str:
        """What stands behind the colon of the destination."""
        return self.destination.partition(":")[2]


def destination_of(tx: Tx, address: Address) -> str | None:
    """Where mail of our own for this address goes: home where its domain is served here; else None, by its MX."""
    return LOCAL if tx.one("domain_find", name=address.domain) else None


def accept(tx: Tx, mail: QueuedMail, recipients: Sequence[NewRecipient]) -> list[int]:
    """Queue `mail` for `recipients` (at least one), inside the transaction that takes responsibility for it.

    Returns the recipients' ids in the queue, in order. Rings the queue's bell.
    """
    first = _new_id(tx, mail.blob)
    return _insert(tx, QueuedMessage(first, mail), first, recipients, mail.queued_at)


def add(tx: Tx, message: QueuedMessage, recipients: Sequence[NewRecipient], now: int) -> list[int]:
    """Queue a message that is in the queue already for more recipients, such as those an alias expands to. Whether its
    sender heard that it is late (RFC 2852 §4.1.4, mode N) holds for them too."""
    by = message.mail.wishes.deliver_by
    told = by is not None and not by.returned and bool(tx.value("queue_by_told", message=message.id))
    return _insert(tx, message, _new_id(tx, message.mail.blob), recipients, now, told)


def _new_id(tx: Tx, blob: int) -> int:
    return blob << _SERIES_BITS | tx.number("queued_recipient") & _SERIES


def _insert(
    tx: Tx,
    message: QueuedMessage,
    first: int,
    recipients: Sequence[NewRecipient],
    now: int,
    told_late: bool = False,
) -> list[int]:
    mail = message.mail
    envelope = {"message": message.id, **_write_envelope(mail)}
    if told_late:
        envelope["by_told"] = 1
    lanes: dict[str, int] = {}
    ids: list[int] = []
    for recipient in recipients:
        destination = recipient.destination or DOMAIN + recipient.address.domain
        due_at = recipient.due_at or now
        if destination not in lanes:
            lanes[destination] = open_lane(tx, destination, mail, due_at)
        ids.append(_new_id(tx, mail.blob) if ids else first)
        address = str(recipient.address)
        tx.put(
            "queue_recipient_insert",
            id=ids[-1],
            lane=lanes[destination],
            address=address,
            original=recipient.original or address,
            notify=None if recipient.notify is None else ",".join(sorted(recipient.notify)),
            orcpt=recipient.orcpt,
            prologue=recipient.prologue,
            return_path=str(recipient.return_path) if recipient.return_path else None,
            due_at=due_at,
            waits_since=max(due_at, now) if _wants_to_hear(mail, recipient.notify) else None,
            **envelope,
        )
    tx.ring(Topic.QUEUE)
    return ids


def open_lane(tx: Tx, destination: str, mail: QueuedMail, due_at: int) -> int:
    """The lane of such mail to this destination, made where it is not there; due at that time at the latest, unless it
    backs off."""
    key: dict[str, Value] = {
        "destination": destination,
        "sender": mail.lane_sender,
        "priority": mail.wishes.priority,
        "due_at": due_at,
    }
    lane: int = tx.value("queue_lane_find", **key) or tx.value("queue_lane_open", **key)
    return lane


def _wants_to_hear(mail: QueuedMail, notify: frozenset[str] | None) -> bool:
    """RFC 3461 §4.1: of a delay where NOTIFY says nothing, or DELAY; there must be somebody to tell."""
    return mail.sender is not None and (notify is None or "DELAY" in notify)


def find_message(tx: Tx, recipient: int) -> QueuedMessage | None:
    """The message that this recipient waits for, if he does."""
    return find_messages(tx, [recipient]).get(recipient)


def find_messages(tx: Tx, recipients: Iterable[int]) -> dict[int, QueuedMessage]:
    """The message of each of these recipients that is in the queue. Whoever asks bounds their number."""
    rows = tx.all("queue_messages", ids=as_list(recipients))
    return {id: read_message(id, message, envelope) for id, message, *envelope in rows}


def as_list(numbers: Iterable[int]) -> str:
    """Numbers as a statement takes several: a JSON list."""
    return f"[{','.join(map(str, numbers))}]"


def read_message(recipient: int, message: int, envelope: Sequence[Any]) -> QueuedMessage:
    """The message of a recipient, from the envelope's columns in his row."""
    journey, size, sender, account, queued_at, expires_at, *wishes = envelope
    mail = QueuedMail(
        journey,
        recipient >> _SERIES_BITS,
        size,
        parse(sender) if sender else None,
        queued_at,
        expires_at,
        account,
        _read_wishes(*wishes),
    )
    return QueuedMessage(message, mail)


def _write_envelope(mail: QueuedMail) -> Mapping[str, Value]:
    wishes = mail.wishes
    by = wishes.deliver_by
    return {
        "journey": mail.journey,
        "size": mail.size,
        "sender": str(mail.sender) if mail.sender else None,
        "account": mail.account,
        "queued_at": mail.queued_at,
        "expires_at": mail.expires_at,
        "body": wishes.body,
        "smtputf8": int(wishes.smtputf8),
        "envid": wishes.envid,
        "ret": wishes.ret,
        "requiretls": int(wishes.requiretls),
        "priority": wishes.priority,
        "by_at": by.at if by else None,
        "by_mode": f"{'R' if by.returned else 'N'}{'T' if by.trace else ''}" if by else None,
        "by_told": int(by is None or by.returned),
    }


def _read_wishes(
    body: Body,
    smtputf8: int,
    envid: str | None,
    ret: str | None,
    requiretls: int,
    priority: int,
    by_at: int | None,
    by_mode: str | None,
) -> Wishes:
    by = None if by_at is None or by_mode is None else DeliverBy(by_at, by_mode[0] == "R", by_mode.endswith("T"))
    return Wishes(body, bool(smtputf8), envid, ret, bool(requiretls), priority, by)


def end(tx: Tx, recipients: Sequence[int], now: int) -> None:
    """These leave the queue; octets that nobody else waits for become suspects of the sweep."""
    ids = as_list(recipients)
    tx.run("queue_settle_final", ids=ids)
    tx.run("queue_settle_blobs", ids=ids, now=now)


def write_id(recipient: int) -> str:
    """A recipient's id as people see it: 17.4."""
    return f"{recipient >> _SERIES_BITS}.{recipient & _SERIES}"


def read_id(text: str) -> int | None:
    """The id that `write_id` wrote; None where it wrote no such text."""
    found = _WRITTEN_ID.fullmatch(text)
    if found is None or (number := int(found[2])) > _SERIES:
        return None
    return int(found[1]) << _SERIES_BITS | number


def write_reply(reply: Reply) -> str:
    """A reply as a column keeps it; `read_reply` reads it back."""
    return f"{reply.code} {reply.enhanced or '-'} {reply.text}"


def read_reply(text: str) -> Reply:
    """The reply that `write_reply` wrote."""
    code, enhanced, words = text.split(" ", 2)
    return Reply(int(code), None if enhanced == "-" else enhanced, words)
