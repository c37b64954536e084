"""COPY and MOVE between mailboxes of different accounts (RFC 4314 §4).

Promises: what arrives is a message of the other account's, whole, with those of its flags that the client may set
there. What is moved goes in the commit in which it arrives.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from posthouse import limits
from posthouse.imapd.places import Place
from posthouse.imapd.refusal import Refused
from posthouse.imapd.session import Session
from posthouse.mailbox import append as filing
from posthouse.mailbox import changes, emails, placing, shares
from posthouse.mailbox.model import DELETED, MailboxError, NoPermission, NoSuchEmail, lock_account
from posthouse.mailbox.summary import Rendered, render
from posthouse.mailbox.view import Entry
from posthouse.store.blobs import BlobLost, SpoolFull, Staged
from posthouse.store.database import StoreUnavailable, Tx
from posthouse.wire.imap.response import Code
from posthouse.wire.imap.sequence import ranges_of

# Messages that are filed in one transaction, and are ready for it at once.
BATCH: Final = 50
# Rendering more than this takes longer than the loop should stand still.
_IN_THREAD: Final = 128 * limits.KB
_SEEN: Final = "$seen"


@dataclass(frozen=True, slots=True)
class _Arriving:
    """A message as it goes into the transaction; its keywords by name."""

    uid: int
    staged: Staged
    rendered: Rendered
    received_at: int
    keywords: Sequence[str]
    deleted: bool


async def carry(
    session: Session, chunk: Sequence[Entry], target: Place, placed: list[tuple[int, int]], *, moves: bool, some: bool
) -> None:
    """Pairs of uid here and there go to `placed` as soon as they are so. What others have expunged is passed over where
    `some` are enough (RFC 9051 §6.4.9).

    Raises Refused, MailboxError, StoreUnavailable.
    """
    opened = session.open
    found = await session.look(changes.placements, opened.mailbox, ranges_of([entry.uid for entry in chunk]))
    there = {one.uid for one in found}
    if len(there) < len(chunk) and not some:
        raise NoSuchEmail(f"some messages of mailbox {opened.mailbox} of account {opened.account} are gone")
    chunk = [entry for entry in chunk if entry.uid in there]
    source = (opened.account, opened.mailbox) if moves else None
    for start in range(0, len(chunk), BATCH):
        arriving: list[_Arriving] = []
        try:
            await _prepare(session, chunk[start : start + BATCH], arriving)
            # The instant at which they are there: when this has returned. Where nobody waits for it, they may be.
            placed += await session.write_to(
                target.account,
                _arrive,
                target.mailbox.id,
                session.owner,
                arriving,
                source,
                session.around.clock.now(),
                session.around.secret,
            )
        except (Refused, MailboxError, StoreUnavailable):
            for one in arriving:
                await session.around.blobs.abandon(one.staged)
            raise
        await session.pause()


async def _prepare(session: Session, entries: Sequence[Entry], arriving: list[_Arriving]) -> None:
    """All that can be done before the transaction. Raises NoSuchEmail, Refused."""
    ids = [entry.email for entry in entries]
    contents = await session.look(emails.contents, ids)
    rows = await session.look(emails.rows, ids)
    names = await session.look(emails.keyword_spellings)
    for entry in entries:
        if entry.email not in contents or entry.email not in rows:
            raise NoSuchEmail(f"email {entry.email} of account {session.open.account} is not kept any more")
        staged, rendered = await _stage(session, contents[entry.email])
        flags = [name for bit, name in names.items() if entry.flags & bit]
        received_at = rows[entry.email].received_at
        arriving.append(_Arriving(entry.uid, staged, rendered, received_at, flags, bool(entry.flags & DELETED)))


async def _stage(session: Session, content: emails.Content) -> tuple[Staged, Rendered]:
    """Octets of the message, ready to be filed. Raises Refused."""
    blobs = session.around.blobs
    try:
        octets = content.prologue + bytes(await blobs.load(content.blob))
        spool = blobs.spool()
    except BlobLost as error:
        raise Refused("The store has lost the content of a message", Code.CORRUPTION) from error
    except SpoolFull as error:
        raise Refused("No room for more mail just now; try again later", Code.UNAVAILABLE) from error
    try:
        spool.write(octets)
        rendered = render(octets) if len(octets) <= _IN_THREAD else await asyncio.to_thread(render, octets)
        return await blobs.stage(spool), rendered
    except SpoolFull as error:
        raise Refused("No room for more mail just now; try again later", Code.UNAVAILABLE) from error
    finally:
        spool.discard()


def _arrive(
    tx: Tx,
    account: int,
    mailbox: int,
    viewer: int,
    arriving: Sequence[_Arriving],
    source: tuple[int, int] | None,
    now: int,
    secret: bytes,
) -> list[tuple[int, int]]:
    """Raises NoPermission, NoSuchMailbox, OverQuota, TooManyKeywords, NoSuchEmail."""
    for locked in sorted({account, source[0] if source else account}):
        lock_account(tx, locked)
    rights = shares.rights_of(tx, account, mailbox, viewer)
    if "i" not in rights:
        raise NoPermission(f"account {viewer} may not put anything into mailbox {mailbox} of account {account}")
    placed: list[tuple[int, int]] = []
    for one in arriving:
        names = permitted(one.keywords, rights)
        filed = filing.file_email(
            tx,
            account,
            filing.store_message(tx, one.staged, one.rendered),
            one.rendered,
            mailboxes=(mailbox,),
            received_at=one.received_at,
            thread_secret=secret,
            now=now,
            keywords=emails.learn_keywords(tx, account, names) if names else 0,
            deleted=one.deleted and "t" in rights,
        )
        placed.append((one.uid, filed.uids[mailbox]))
    if source is not None:
        if not set("te") <= set(shares.rights_of(tx, source[0], source[1], viewer)):
            raise NoPermission(f"account {viewer} may take nothing out of mailbox {source[1]} of account {source[0]}")
        uids = [one.uid for one in arriving]
        if len(placing.expunge(tx, source[0], source[1], uids, now)) < len(uids):
            raise NoSuchEmail("some of what was to be moved is gone")
    return placed


def needed(names: Sequence[str]) -> str:
    """The rights that it takes to set these keywords."""
    return "".join(sorted({"s" if name == _SEEN else "w" for name in names}))


def permitted(names: Sequence[str], rights: str) -> list[str]:
    """Those of these keywords that may be set (RFC 4314 §4)."""
    return [name for name in names if ("s" if name == _SEEN else "w") in rights]
