"""Filing what comes from a source, in batches.

Promises: each batch is filed whole, with the note that its messages were brought, in one transaction; so a run that was
broken off goes on where it ended, and one that is repeated brings nothing twice, also where people have moved or
removed what came. Memory does not grow with the source. A message that cannot be read is told of and passed over.
Refuses: to go on where the account is full, or removed meanwhile.
"""

import asyncio
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Final

from posthouse.clock import Clock
from posthouse.mailbox import append, emails, mailboxes
from posthouse.mailbox.emails import check_keyword
from posthouse.mailbox.model import BadKeyword, BadName, NoSuchAccount, NoSuchMailbox, TooManyKeywords, lock_account
from posthouse.mailbox.summary import Rendered, render
from posthouse.store.blobs import Blobs, Spool, Staged
from posthouse.store.database import Store, Tx
from posthouse.terms.inbox import INBOX
from posthouse.transfer.source import Flaw, Folder, Item, Path, Seen, Source, key_of

# Of one transaction: some tens of milliseconds of the only writer.
BATCH: Final = 200
BATCH_OCTETS: Final = 8 * 1024 * 1024
# As it can be said in IMAP: from 1970 on, with four digits of the year.
_LATEST: Final = 253_402_300_799_000
_MOST_KEYS: Final = 500
_MOST_TOLD: Final = 1000
# Of one message: more than an account can have at all. Whoever wrote it may have written a megabyte of them.
_MOST_KEYWORDS: Final = 100


@dataclass(slots=True)
class Tally:
    """What became of it: messages filed, there already, and passed over; keywords that could not be kept."""

    filed: int = 0
    known: int = 0
    flawed: int = 0
    keywords: set[str] = field(default_factory=set)


@dataclass(frozen=True, slots=True)
class Listener:
    """Who is told how it goes: how far it has come, and of what cannot be read."""

    progress: Callable[[int], None]
    flaw: Callable[[str, str], None]


@dataclass(frozen=True, slots=True)
class _Ready:
    """A message as it goes into the transaction."""

    key: bytes
    staged: Staged
    rendered: Rendered
    item: Item


@dataclass(slots=True)
class _Read:
    """What a look into the source gave; `ended`: there is no more."""

    spooled: list[tuple[Item, Spool, Rendered]] = field(default_factory=list)
    told: list[Seen | Flaw] = field(default_factory=list)
    ended: bool = False


class Intake:
    """Brings mail into an account. `below`: the path that everything comes under. `again`: also what was brought
    before."""

    def __init__(
        self,
        store: Store,
        blobs: Blobs,
        clock: Clock,
        account: int,
        secret: bytes,
        *,
        below: Path = (),
        again: bool = False,
    ) -> None:
        self._store = store
        self._blobs = blobs
        self._clock = clock
        self._account = account
        self._secret = secret
        self._below = below
        self._again = again
        self.tally = Tally()

    async def bring(self, source: Source, folder: Folder, listener: Listener) -> None:
        """All of a folder. Raises SourceError, NoSuchAccount, OverQuota, TooManyMailboxes, SpoolFull,
        StoreUnavailable."""
        path = fit((*self._below, *folder.path))
        role = None if self._below else folder.role
        loop = asyncio.get_running_loop()

        def known(keys: Collection[bytes]) -> set[bytes]:
            """Asked in the thread that reads; the loop waits for that thread, and is free for this."""
            if self._again:
                return set()
            ours = {_ours(path, key): key for key in keys}
            looked = asyncio.run_coroutine_threadsafe(self._store.read(_brought, self._account, list(ours)), loop)
            return {ours[key] for key in looked.result()}

        items = source.items(folder, known)
        while True:
            read = await asyncio.to_thread(_gather, items, self._blobs, listener)
            try:
                await self._file(path, role, read, listener)
            finally:
                for _, spool, _ in read.spooled:
                    spool.discard()
            if read.ended:
                return

    async def _file(self, path: str, role: str | None, read: _Read, listener: Listener) -> None:
        for told in read.told:
            if isinstance(told, Flaw):
                self.tally.flawed += 1
                listener.flaw(told.name, told.why)
            else:
                self.tally.known += told.count
            listener.progress(told.size)
        if not read.spooled:
            return
        ready: list[_Ready] = []
        for item, spool, rendered in read.spooled:
            key = _ours(path, item.key or spool.sha256())
            kept = frozenset(sorted(item.keywords)[:_MOST_KEYWORDS])
            self._tell_dropped(item.keywords - kept)
            ready.append(_Ready(key, await self._blobs.stage(spool), rendered, replace(item, keywords=kept)))
        try:
            filed, dropped = await self._store.write(
                _file_batch, self._account, path, role, ready, self._again, self._clock.now(), self._secret
            )
        except Exception:
            # Not where we are cancelled: the write goes on, and may commit.
            await self._abandon(ready)
            raise
        await self._abandon([one for at, one in enumerate(ready) if at not in filed])
        self._tell_dropped(dropped)
        self.tally.filed += len(filed)
        self.tally.known += len(ready) - len(filed)
        listener.progress(sum(one.item.size for one in ready))

    def _tell_dropped(self, words: Collection[str]) -> None:
        self.tally.keywords.update(sorted(words)[: _MOST_TOLD - len(self.tally.keywords)])

    async def _abandon(self, ready: Sequence[_Ready]) -> None:
        for one in ready:
            await self._blobs.abandon(one.staged)


def _gather(items: Iterator[Item | Seen | Flaw], blobs: Blobs, listener: Listener) -> _Read:
    """So many messages as make a batch, each spooled and rendered. Runs in a thread. Raises SourceError, SpoolFull."""
    read = _Read()
    size = 0
    try:
        while len(read.spooled) < BATCH and len(read.told) < _MOST_TOLD and size < BATCH_OCTETS:
            item = next(items, None)
            if item is None:
                read.ended = True
                break
            if not isinstance(item, Item):
                read.told.append(item)
                continue
            spool = blobs.spool()
            try:
                for piece in item.pieces:
                    spool.write(piece)
            except OSError as error:
                spool.discard()
                read.told.append(Flaw(item.name, (error.strerror or str(error)).lower(), item.size))
                continue
            except BaseException:
                spool.discard()
                raise
            if not spool.size:
                spool.discard()
                read.told.append(Flaw(item.name, "it is empty", item.size))
                continue
            read.spooled.append((item, spool, render(spool.buffer())))
            size += spool.size
    except BaseException:
        for _, spool, _ in read.spooled:
            spool.discard()
        raise
    return read


def _ours(path: str, key: bytes) -> bytes:
    """Where it came to is part of it: who imports a file into two mailboxes wants it in both."""
    return key_of(path, key)


def _brought(tx: Tx, account: int, keys: Sequence[bytes]) -> set[bytes]:
    found: set[bytes] = set()
    for start in range(0, len(keys), _MOST_KEYS):
        asked = ",".join(f'"{key.hex()}"' for key in keys[start : start + _MOST_KEYS])
        found |= {row[0] for row in tx.all("imported_find", account=account, keys=f"[{asked}]")}
    return found


def _file_batch(
    tx: Tx, account: int, path: str, role: str | None, ready: Sequence[_Ready], again: bool, now: int, secret: bytes
) -> tuple[set[int], set[str]]:
    """File what was not brought before; which of them, and the keywords that could not be kept."""
    lock_account(tx, account)
    if tx.one("account_find", account=account) is None:
        # Its mail is still being swept, and what is filed now would be, too.
        raise NoSuchAccount("the account is removed")
    mailbox = _mailbox(tx, account, path, role, now)
    before = set() if again else _brought(tx, account, [one.key for one in ready])
    bits, dropped = _keywords(tx, account, {word for one in ready for word in one.item.keywords})
    filed: set[int] = set()
    for at, one in enumerate(ready):
        if one.key in before:
            continue
        received_at = now if one.item.received_at is None else one.item.received_at
        append.file_email(
            tx,
            account,
            append.store_message(tx, one.staged, one.rendered),
            one.rendered,
            mailboxes=(mailbox,),
            received_at=min(max(received_at, 0), _LATEST),
            thread_secret=secret,
            now=now,
            keywords=sum({bits[word.lower()] for word in one.item.keywords if word.lower() in bits}),
            deleted=one.item.deleted,
        )
        if not again:
            before.add(one.key)
        tx.run("imported_note", account=account, key=one.key, at=now)
        filed.add(at)
    return filed, dropped


def _mailbox(tx: Tx, account: int, path: str, role: str | None, now: int) -> int:
    """The mailbox of the role, or the one at the path, made (and subscribed) where it is missing."""
    if role is not None:
        with suppress(NoSuchMailbox):
            return mailboxes.by_role(tx, account, role)
    try:
        return mailboxes.find(tx, account, path)
    except NoSuchMailbox:
        made = mailboxes.create(tx, account, path, now)
        mailboxes.subscribe(tx, account, made, True, now)
        return made


def _keywords(tx: Tx, account: int, words: Collection[str]) -> tuple[dict[str, int], set[str]]:
    """The bits of those that an account can have, by their names in lower case; the others."""
    bits = {name: bit for bit, name in emails.keyword_names(tx, account).items()}
    dropped: set[str] = set()
    full = False
    for word in sorted(words):
        try:
            name = check_keyword(word)
            if name not in bits:
                if full:
                    raise TooManyKeywords
                bits[name] = emails.learn_keywords(tx, account, [word])
        except BadKeyword:
            dropped.add(word)
        except TooManyKeywords:
            full = True
            dropped.add(word)
    return bits, dropped


def fit(path: Path) -> str:
    """The path of a mailbox for a folder of these levels; () is the Inbox. What no mailbox can be called is made to
    fit."""
    if not path:
        return INBOX
    levels = [_fit_level(level) for level in path]
    if len(levels) > mailboxes.MAX_DEPTH:
        levels = [*levels[: mailboxes.MAX_DEPTH - 1], _fit_level("-".join(levels[mailboxes.MAX_DEPTH - 1 :]))]
    if levels[0].startswith("#"):
        levels[0] = _fit_level(f"_{levels[0]}")
    return mailboxes.SEPARATOR.join(levels)


def _fit_level(level: str) -> str:
    try:
        return mailboxes.check_name(level)
    except BadName:
        plain = "".join(one if one.isprintable() and one != mailboxes.SEPARATOR else "_" for one in level[:1000])
        short = plain.encode("utf-8", "replace")[:150].decode("utf-8", "ignore").strip()
        return mailboxes.check_name(short or "_")
