"""Emails and their placements: reading rows and contents, keywords' bits. (`reading.py`: for FETCH.)

Promises: reading goes by email ids, which a session has from its snapshot, so that it finds an email also after another
session has expunged it.
Refuses: to change flags (`flagging.py`) and places (`placing.py`).
"""

from collections.abc import Collection, Iterable
from typing import Final, NamedTuple

from posthouse.mailbox import ranges
from posthouse.mailbox.model import (
    BadKeyword,
    NoSuchEmail,
    TooManyKeywords,
    lock_account,
)
from posthouse.store import blobs
from posthouse.store.blobs import BlobRef
from posthouse.store.database import Row, Tx
from posthouse.terms.keywords import BITS, FIRST_OWN_BIT, LAST_OWN_BIT

# Emails a door reads in one transaction, and changes in one: a few milliseconds of reader, some tens of writer.
CHUNK: Final = 1000
BATCH: Final = 5000

# RFC 8621 §4.1.1 allows 255; nobody types one that long.
MAX_KEYWORD: Final = 100
_NO_KEYWORD: Final = frozenset('(){]%*"\\')


class EmailRow(NamedTuple):
    """An email's own row. `received_at`: UTC milliseconds; `size`: octets, prologue included; `keywords`: bits."""

    id: int
    message: int
    thread: int
    received_at: int
    size: int
    keywords: int


class Content(NamedTuple):
    """Where an email's octets are: `prologue` and then the blob. Offsets in `parts` (packed) count from the blob."""

    email: int
    prologue: bytes
    blob: BlobRef
    parts: bytes

    @property
    def size(self) -> int:
        """Octets of the whole."""
        return len(self.prologue) + self.blob.size


# reading --------------------------------------------------------------------------------------------------------------


def rows(tx: Tx, account: int, emails: Collection[int]) -> dict[int, EmailRow]:
    """The rows of these emails, the expunged ones that are still kept among them. Missing ones are left out."""
    found = {row[0]: EmailRow._make(row) for row in tx.all("emails_rows", account=account, emails=ranges.pack(emails))}
    if len(found) < len(emails):
        missing = ranges.pack(set(emails) - found.keys())
        found.update((row[0], EmailRow._make(row)) for row in tx.all("expunged_rows", account=account, emails=missing))
    return found


def contents(tx: Tx, account: int, emails: Collection[int], *, parts: bool = True) -> dict[int, Content]:
    """Where the octets of these emails are; without `parts` those are empty. Whoever asks bounds the number: small
    blobs come with their octets."""
    packed = ranges.pack(emails)
    places: list[Row] = tx.all("emails_prologues", account=account, emails=packed)
    if len(places) < len(emails):
        missing = ranges.pack(set(emails).difference([row[0] for row in places]))
        places += tx.all("expunged_prologues", account=account, emails=missing)
    messages = {row[1] for row in places}
    refs = blobs.find_many(tx, sorted(messages))
    if not parts:
        return {email: Content(email, prologue, refs[message], b"") for email, message, prologue in places}
    trees: dict[int, bytes] = dict(tx.all("messages_contents", messages=ranges.pack(messages)))
    return {email: Content(email, prologue, refs[message], trees[message]) for email, message, prologue in places}


def at(tx: Tx, account: int, mailbox: int, uid: int) -> int | None:
    """The email that is placed there."""
    row = tx.one("placements_seen", account=account, mailbox=mailbox, uids=ranges.pack([uid]))
    return None if row is None else int(row[1])


def content(tx: Tx, account: int, email: int) -> Content:
    """Where one email's octets are. Raises NoSuchEmail."""
    found = contents(tx, account, [email])
    if email not in found:
        raise NoSuchEmail(f"account {account} has no email {email}")
    return found[email]


def deleted_uids(tx: Tx, account: int, mailbox: int) -> list[int]:
    """The uids that are marked \\Deleted, in order."""
    return [row[0] for row in tx.all("placements_deleted", account=account, mailbox=mailbox)]


def placements(tx: Tx, account: int, email: int) -> list[tuple[int, int, bool]]:
    """Where an email is: mailbox, uid, \\Deleted."""
    found = tx.all("emails_placements", account=account, emails=ranges.pack([email]))
    return [(row[0], row[1], bool(row[3])) for row in found]


# keywords -------------------------------------------------------------------------------------------------------------


def keyword_names(tx: Tx, account: int) -> dict[int, str]:
    """The account's keywords by bit (1 << n), those of terms/keywords.py among them."""
    names = {bit: name for name, bit in BITS.items()}
    names.update((1 << row[0], row[1]) for row in tx.all("keyword_names", account=account))
    return names


def keyword_spellings(tx: Tx, account: int) -> dict[int, str]:
    """The same, the account's own as they were first written."""
    names = {bit: name for name, bit in BITS.items()}
    names.update((1 << row[0], row[2]) for row in tx.all("keyword_names", account=account))
    return names


def known_keywords(tx: Tx, account: int, names: Iterable[str]) -> int:
    """The bits of those of these keywords that the account has met: for reading and searching."""
    bits = {name: bit for bit, name in keyword_names(tx, account).items()}
    return sum({bits.get(name.lower(), 0) for name in names})


def learn_keywords(tx: Tx, account: int, names: Iterable[str]) -> int:
    """The bits of these keywords, given to those that the account has not met, which keep their spelling. Locks the
    account.

    Raises BadKeyword, TooManyKeywords, NoSuchAccount.
    """
    wanted: dict[str, str] = {}
    for written in names:
        wanted.setdefault(check_keyword(written), written)
    lock_account(tx, account)
    bits = {name: bit for bit, name in keyword_names(tx, account).items()}
    free = (n for n in range(FIRST_OWN_BIT, LAST_OWN_BIT + 1) if 1 << n not in bits.values())
    for name in sorted(wanted.keys() - bits.keys()):
        number = next(free, None)
        if number is None:
            raise TooManyKeywords(f"an account has {LAST_OWN_BIT - FIRST_OWN_BIT + 1} keywords of its own at most")
        tx.run("keyword_insert", account=account, bit=number, name=name, written=wanted[name])
        bits[name] = 1 << number
    return sum(bits[name] for name in wanted)


def check_keyword(name: str) -> str:
    """A keyword in its normal form, lower case (RFC 8621 §4.1.1). Raises BadKeyword."""
    lowered = name.lower()
    if not 0 < len(lowered) <= MAX_KEYWORD or not all("!" <= c <= "~" and c not in _NO_KEYWORD for c in lowered):
        raise BadKeyword('a keyword is printable ASCII without ( ) { ] % * " \\')
    return lowered
