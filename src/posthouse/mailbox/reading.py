"""What a FETCH tells of many emails at once, in columns: a message has no object of its own.

Promises: columns are in the order of the emails asked for, each as often as it is (a mailbox may have an email twice),
without those that are gone for good; emails that were expunged and are still kept are found as the others.
Refuses: to bound what is read; whoever asks does.
"""

from collections.abc import Collection, Iterable, Sequence
from typing import NamedTuple

from posthouse.mailbox import ranges
from posthouse.store.database import Row, Tx, Value


class Values(NamedTuple):
    """What the emails' own rows say; `received`: UTC milliseconds, `sizes`: octets, prologue included."""

    emails: Sequence[int]
    messages: Sequence[int]
    threads: Sequence[int]
    received: Sequence[int]
    sizes: Sequence[int]


class Preview(NamedTuple):
    """What a list of emails shows beside the summary."""

    message: int
    preview: str
    sent_at: int | None
    has_attachment: bool


class Wholes(NamedTuple):
    """The octets of emails: each is its prologue and then its octets."""

    emails: Sequence[int]
    prologues: Sequence[bytes]
    octets: Sequence[bytes]


class Renderings(NamedTuple):
    """What messages answer to a FETCH: IMAP's ENVELOPE and BODYSTRUCTURE, parentheses included."""

    summaries: Sequence[bytes]
    structures: Sequence[bytes]


def values(tx: Tx, account: int, emails: Sequence[int]) -> Values:
    """Of these emails."""
    rows = _in_order(tx, "emails_rows", "expunged_rows", account, emails)
    if not rows:
        return Values((), (), (), (), ())
    ids, messages, threads, received, sizes, _ = zip(*rows, strict=True)
    return Values(ids, messages, threads, received, sizes)


def renderings(tx: Tx, messages: Sequence[int]) -> Renderings:
    """Of these messages, some of them perhaps twice: the second step after `values`. All of them are there."""
    if not messages:
        return Renderings((), ())
    rows = tx.all("messages_summaries", messages=ranges.pack(messages))
    if len(rows) != len(messages) or any(row[0] != message for row, message in zip(rows, messages, strict=True)):
        found = {row[0]: row for row in rows}
        rows = [found[message] for message in messages]
    _, summaries, structures = zip(*rows, strict=True)
    return Renderings(summaries, structures)


def previews(tx: Tx, messages: Iterable[int]) -> dict[int, Preview]:
    """Previews of these messages."""
    packed = ranges.pack(set(messages))
    return {
        row[0]: Preview(row[0], row[1], row[2], bool(row[3])) for row in tx.all("messages_previews", messages=packed)
    }


def save_dates(tx: Tx, account: int, mailbox: int, uids: Collection[int]) -> dict[int, int]:
    """When each of these placements was made, in UTC milliseconds. What is gone is left out."""
    return dict(tx.all("placements_saved", account=account, mailbox=mailbox, uids=ranges.pack(uids)))


def wholes(tx: Tx, account: int, emails: Sequence[int]) -> Wholes | None:
    """The octets of these emails; None where not all of them lie in rows (`emails.contents` tells where they do)."""
    rows = _in_order(tx, "emails_octets", "expunged_octets", account, emails)
    if not rows:
        return Wholes((), (), ())
    ids, prologues, octets = zip(*rows, strict=True)
    return None if None in octets else Wholes(ids, prologues, octets)


def octets(tx: Tx, account: int, emails: Collection[int]) -> list[Row]:
    """Of each of these emails, in no order: its id, its prologue and the octets behind that; None where these do not
    lie in a row."""
    return _found(tx, "emails_octets", "expunged_octets", account, emails)


def beginnings(tx: Tx, account: int, emails: Collection[int], most: int) -> list[Row]:
    """Of each of these emails, in no order: its id, its prologue, and so many of the octets behind that; None where
    these do not lie in a row."""
    return _found(tx, "emails_beginnings", "expunged_beginnings", account, emails, most=most)


def sizes(tx: Tx, account: int, emails: Sequence[int]) -> dict[int, int]:
    """Octets of each of these emails, prologue included. Missing ones are left out."""
    return dict(_found(tx, "emails_sizes", "expunged_sizes", account, emails))


def _found(
    tx: Tx, statement: str, of_expunged: str, account: int, emails: Collection[int], **others: Value
) -> list[Row]:
    rows = tx.all(statement, account=account, emails=ranges.pack(emails), **others)
    if len(rows) < len(emails):
        missing = ranges.pack(set(emails).difference([row[0] for row in rows]))
        rows += tx.all(of_expunged, account=account, emails=missing, **others)
    return rows


def _in_order(tx: Tx, statement: str, of_expunged: str, account: int, emails: Sequence[int]) -> list[Row]:
    """The rows, whose first column is the email, as the emails are asked for."""
    rows = _found(tx, statement, of_expunged, account, emails)
    if [row[0] for row in rows] == list(emails):
        return rows
    found = {row[0]: row for row in rows}
    return [found[email] for email in emails if email in found]
