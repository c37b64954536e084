"""CONDSTORE and QRESYNC (RFC 7162) as clients live by them: what they keep while they are away is mended when they come
back, whatever happened meanwhile and wherever the connection broke."""

import asyncio
import re
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random
from typing import Any
from unittest import mock

import pytest

from posthouse.imapd import resync
from posthouse.mailbox import changes, flagging, mailboxes, placing, recent, retention
from posthouse.mailbox.model import DELETED
from posthouse.mailbox.snapshot import load
from posthouse.mailbox.view import Entries, View
from posthouse.store.database import Tx
from posthouse.terms.keywords import FLAGGED, SEEN
from posthouse.wire.imap import sequence
from tests.doors.house import ALICE, BOB, House, ImapClient, having, in_house, message

_FETCH = re.compile(rb"\* [0-9]+ FETCH \(UID ([0-9]+)(?: FLAGS \(([^)]*)\))?(?: MODSEQ \(([0-9]+)\))?\)\Z")
_UIDFETCH = re.compile(rb"\A\* ([0-9]+) UIDFETCH \(")
_VANISHED = re.compile(rb"\* VANISHED( \(EARLIER\))? ([0-9:,]+)\Z")
_HIGHEST = re.compile(rb"\[HIGHESTMODSEQ ([0-9]+)\]")
_MODIFIED = re.compile(rb"\[MODIFIED ([0-9:,]+)\]")
_STORABLE = (rb"\Seen", rb"\Flagged", rb"\Deleted")
_ALL_TIME = 1 << 50
# How many messages there are when the clients come, and may be in the end.
_AT_FIRST, _MESSAGES = 8, 48


async def _away(house: House, *commands: str) -> None:
    """Another client says these."""
    other = await house.imap()
    for command in commands:
        await other.ok(command)
    await other.close()


async def _modseq(client: ImapClient) -> tuple[int, int]:
    """UIDVALIDITY and HIGHESTMODSEQ, as STATUS tells them."""
    (line,) = having(await client.ok("STATUS INBOX (UIDVALIDITY HIGHESTMODSEQ)"), b"* STATUS")
    numbers = re.findall(rb"[0-9]+", line)
    return int(numbers[0]), int(numbers[1])


async def _reopened(house: House, parameter: str) -> list[bytes]:
    """What SELECT with this parameter tells of what was missed."""
    client = await house.imap(mailbox=None)
    await client.ok("ENABLE QRESYNC")
    told = await client.ok(f"SELECT INBOX (QRESYNC ({parameter}))")
    assert having(told, b"VANISHED") in ([], told[-1 - len(having(told, b" FETCH ")) :][:1]), "VANISHED comes first"
    await client.close()
    return [line for line in told if b"VANISHED" in line or b" FETCH " in line]


@contextmanager
def _looks(house: House) -> Iterator[list[str]]:
    """The names of the functions that look into the store, while it lasts."""
    looks: list[str] = []
    read = house.store.read

    async def heard(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        looks.append(function.__name__)
        return await read(function, *args, **kwargs)

    with mock.patch.object(house.store, "read", heard):
        yield looks


def test_who_was_away_hears_what_changed_and_what_went(tmp_path: Path) -> None:
    async def test(house: House) -> None:
        for number in range(1, 9):
            await house.file(message(number))
        client = await house.imap()
        validity, modseq = await _modseq(client)
        await _away(house, r"STORE 2,5:6 +FLAGS (\Deleted)", "EXPUNGE", r"STORE 3:4 +FLAGS (\Seen)")
        await house.file(message(9))
        changed = [
            rb"* 3 FETCH (UID 4 FLAGS (\Seen) MODSEQ (12))",
            rb"* 4 FETCH (UID 7 FLAGS (\Seen) MODSEQ (12))",
        ]
        new = rb"* 6 FETCH (UID 9 FLAGS () MODSEQ (13))"
        here = f"{validity} {modseq}"
        assert await _reopened(house, here) == [b"* VANISHED (EARLIER) 2,5:6", *changed, new]
        assert await _reopened(house, f"{here} 1:4") == [b"* VANISHED (EARLIER) 2", changed[0]]
        assert await _reopened(house, f"{here} 3,8") == []
        # What the client shows to know changes nothing where the changes are known.
        assert await _reopened(house, f"{here} 1:8 (1,5 1,8)") == [b"* VANISHED (EARLIER) 2,5:6", *changed]
        assert await _reopened(house, f"{validity} 12") == [new]
        assert await _reopened(house, f"{validity} 13") == []
        assert await _reopened(house, f"{validity} 99999") == []
        assert await _reopened(house, f"{validity + 1} {modseq}") == [], "another mailbox of that name"

    in_house(tmp_path, test)


def test_below_the_floor_uids_are_compared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """RFC 7162 §3.2.5.2, §3.2.6: then all that is not there is told, but for what the client shows to know."""
    monkeypatch.setattr(recent, "_MOST", 0)

    async def test(house: House) -> None:
        for number in range(1, 9):
            await house.file(message(number))
        client = await house.imap()
        validity, modseq = await _modseq(client)
        await _away(house, r"STORE 2,5:6 +FLAGS (\Deleted)", "EXPUNGE", r"STORE 3 +FLAGS (\Seen)")
        assert await house.store.write(retention.expire_changes, house.alice.id, _ALL_TIME) == 12
        changed = rb"* 3 FETCH (UID 4 FLAGS (\Seen) MODSEQ (12))"
        here = f"{validity} {modseq}"
        assert await _reopened(house, here) == [b"* VANISHED (EARLIER) 2,5:6", changed]
        assert await _reopened(house, f"{here} 5:9") == [b"* VANISHED (EARLIER) 5:6"]
        assert await _reopened(house, f"{here} 1:9 (1,3 1,4)") == [b"* VANISHED (EARLIER) 5:6", changed]
        assert await _reopened(house, f"{here} 1:9 (1,5 1,8)") == [changed]
        assert await _reopened(house, f"{here} 1:9 (1,3 1,3)") == [b"* VANISHED (EARLIER) 2,5:6", changed]
        assert having(await client.ok("ENABLE QRESYNC"), b"VANISHED") == [b"* VANISHED 2,5:6"]
        await _away(house, r"STORE 1 +FLAGS (\Deleted)", "EXPUNGE")
        told = await client.ok("UID FETCH 1:* (FLAGS) (CHANGEDSINCE 3 VANISHED)")
        # What the client has open still is told once, without EARLIER.
        assert having(told, b"VANISHED") == [b"* VANISHED (EARLIER) 2,5:6", b"* VANISHED 1"]

    in_house(tmp_path, test)


def test_what_is_far_behind_is_compared_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recent, "_MOST", 0)
    monkeypatch.setattr(resync, "_FAR", 2)
    monkeypatch.setattr(resync, "_STRIDE", 2)

    async def test(house: House) -> None:
        for number in range(1, 8):
            await house.file(message(number))
        client = await house.imap()
        validity, modseq = await _modseq(client)
        await _away(house, r"STORE 2 +FLAGS (\Deleted)", "EXPUNGE", r"STORE 2,6 +FLAGS (\Seen)")
        assert await _reopened(house, f"{validity} {modseq}") == [
            b"* VANISHED (EARLIER) 2",
            rb"* 2 FETCH (UID 3 FLAGS (\Seen) MODSEQ (11))",
            rb"* 6 FETCH (UID 7 FLAGS (\Seen) MODSEQ (11))",
        ]
        # A ghost among them: messages that others have expunged keep their numbers.
        told = await client.ok("FETCH 1:* (UID FLAGS) (CHANGEDSINCE 8)")
        assert having(told, b" FETCH ")[:3] == [
            rb"* 2 FETCH (UID 2 FLAGS (\Deleted) MODSEQ (9))",
            rb"* 3 FETCH (UID 3 FLAGS (\Seen) MODSEQ (11))",
            rb"* 7 FETCH (UID 7 FLAGS (\Seen) MODSEQ (11))",
        ]

    in_house(tmp_path, test)


@pytest.fixture(params=[True, False])
def followed(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Whether the process remembers what happened while it followed a mailbox."""
    if not request.param:
        monkeypatch.setattr(recent, "_MOST", 0)
    return bool(request.param)


def test_a_resync_looks_at_what_changed_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, followed: bool) -> None:
    async def test(house: House) -> None:
        for number in range(1, 101):
            await house.file(message(number))
        client = await house.imap()
        _, modseq = await _modseq(client)
        await _away(house, r"STORE 7,50 +FLAGS (\Seen)")
        looked: list[int] = []
        real = View.lots

        def counted(self: View, numbers: list[tuple[int, int]], size: int) -> Iterator[Entries]:
            looked.extend(high - low + 1 for low, high in numbers)
            return real(self, numbers, size)

        monkeypatch.setattr(View, "lots", counted)
        await client.ok("NOOP")
        with _looks(house) as looks:
            told = await client.ok(f"UID FETCH 1:* (FLAGS) (CHANGEDSINCE {modseq})")
        assert looks == ([] if followed else ["uids_since"])
        assert [line.split()[1] for line in having(told, b"FETCH (UID")][:2] == [b"7", b"50"]
        assert looked == [1, 1]

    in_house(tmp_path, test)


@pytest.mark.usefixtures("followed")
def test_what_went_before_its_change_was_seen_has_not_changed(tmp_path: Path) -> None:
    """The client can read it still, as it was; the feed names it."""

    async def test(house: House) -> None:
        for number in range(1, 4):
            await house.file(message(number))
        client = await house.imap()
        _, modseq = await _modseq(client)

        def change(tx: Tx, account: int) -> None:
            inbox = mailboxes.find(tx, account, "INBOX")
            flagging.store_flags(tx, account, inbox, [2, 3], now=0, add=SEEN)
            placing.expunge(tx, account, inbox, [2], 0)

        await house.store.write(change, house.alice.id)
        assert len(having(await client.ok("FETCH 1:* (FLAGS)"), b" FETCH ")) == 4, "and one beside the answer"
        told = await client.ok(f"FETCH 1:* (FLAGS) (CHANGEDSINCE {modseq})")
        assert [line.split()[1] for line in having(told, b" FETCH ")] == [b"3"]

    in_house(tmp_path, test)


def test_in_anothers_mailbox_each_look_asks_for_the_right(tmp_path: Path) -> None:
    """RFC 4314 §4: also where this process has followed what happened there."""

    async def test(house: House) -> None:
        for number in range(1, 4):
            await house.file(message(number))
        alice, bob = await house.imap(), await house.imap(BOB, mailbox=None)
        _, modseq = await _modseq(alice)
        await alice.ok(f"SETACL INBOX {BOB} lr")
        await bob.ok(f'SELECT "Other Users/{ALICE}/INBOX"')
        await alice.ok(r"STORE 2 +FLAGS (\Seen)")
        await bob.ok("NOOP")
        with _looks(house) as looks:
            told = await bob.ok(f"FETCH 1:* (FLAGS) (CHANGEDSINCE {modseq})")
        assert having(told, b" FETCH ") == [rb"* 2 FETCH (FLAGS (\Seen) MODSEQ (5))"]
        assert looks == ["guarded"]

    in_house(tmp_path, test)


def test_a_modseq_is_not_promised_while_an_expunge_waits(tmp_path: Path) -> None:
    """RFC 7162 §3.2, §6: a client whose connection breaks here would else never hear of it."""

    async def test(house: House) -> None:
        for number in range(1, 5):
            await house.file(message(number))
        client = await house.imap()
        await client.ok("ENABLE QRESYNC")
        await _away(house, r"STORE 2 +FLAGS (\Deleted)", "EXPUNGE")
        *told, tagged = await client.say(r"STORE 3 +FLAGS (\Seen)")
        assert told[0] == rb"* 3 FETCH (UID 3 FLAGS (\Seen) MODSEQ (8))"
        assert tagged == b"OK [HIGHESTMODSEQ 5] Stored"
        *told, tagged = await client.say("FETCH 4,9 (MODSEQ)")
        assert tagged.startswith(b"BAD")
        *told, tagged = await client.say("NOOP")
        assert (told, tagged) == ([b"* VANISHED 2"], b"OK [HIGHESTMODSEQ 8] Still here")

    in_house(tmp_path, test)


class Cache:
    """What a client keeps of a mailbox, and the rules of RFC 7162 §6 by which it does."""

    def __init__(self, house: House, random: Random) -> None:
        self.house = house
        self.random = random
        self.flags: dict[int, frozenset[bytes]] = {}
        self.validity = self.modseq = self.known = 0
        self.client: ImapClient | None = None
        self.exists = 0
        # RFC 9586: a client of uids alone.
        self.uidonly = random.random() < 0.3
        self.log: list[str] = []

    def check(self, holds: object, what: object) -> None:
        assert holds, f"{what!r}\n" + "\n".join(self.log[-40:])

    async def connection(self) -> ImapClient:
        """The connection, made anew where it broke; then what was missed is mended."""
        if self.client is None:
            self.client = await self.house.imap(mailbox=None)
            await self.client.ok("ENABLE QRESYNC UIDONLY" if self.uidonly else "ENABLE QRESYNC")
            known = self._parameter() if self.modseq else ""
            await self.say(f"SELECT INBOX{known}")
            await self.learn_new()
        return self.client

    def _parameter(self) -> str:
        words = f"{self.validity} {self.modseq}"
        uids = sorted(self.flags)
        if uids and self.random.random() < 0.7:
            words += f" {sequence.compress(uids).decode()}"
            if self.random.random() < 0.5 and not self.uidonly:
                some = sorted(self.random.sample(range(len(uids)), min(3, len(uids))))
                words += f" ({','.join(str(at + 1) for at in some)} {','.join(str(uids[at]) for at in some)})"
        return f" (QRESYNC ({words}))"

    async def say(self, text: str) -> list[bytes]:
        """A command; what is told is kept."""
        client = await self.connection()
        self.log.append(f"C: {text}")
        told = [_UIDFETCH.sub(rb"* 0 FETCH (UID \1 ", line) for line in await client.say(text)]
        self.log += [f"S: {line!r}" for line in told]
        self.check(told[-1].startswith(b"OK"), text)
        highest: list[int] = []
        seen = [self.modseq]
        for line in told:
            if found := _HIGHEST.search(line):
                highest.append(int(found[1]))
            self.believe(line, seen)
        self.modseq = highest[-1] if highest else max(seen)
        return told

    def believe(self, line: bytes, seen: list[int]) -> None:
        """One response."""
        if found := re.match(rb"\* OK \[UIDVALIDITY ([0-9]+)\]", line):
            self.validity = int(found[1])
        elif found := re.match(rb"\* ([0-9]+) EXISTS", line):
            self.exists = int(found[1])
        elif found := _VANISHED.match(line):
            uids = [uid for low, high in sequence.parse(found[2]).ranges for uid in range(low, high + 1)]
            for uid in uids:
                self.flags.pop(uid, None)
            self.exists -= 0 if found[1] else len(uids)
        elif found := _FETCH.match(line):
            if found[2] is not None:
                self.flags[int(found[1])] = frozenset(found[2].split())
            if found[3] is not None:
                seen.append(int(found[3]))
        else:
            self.check(b"EXPUNGE" not in line.split()[1:3] and not re.match(rb"\* [0-9]+ FETCH", line), line)

    async def learn_new(self) -> None:
        """New messages are found by their uids; while it asks more may come. Up to `known` it has asked for all."""
        for _ in range(1 + _MESSAGES):
            await self.say(f"UID FETCH {self.known + 1}:* (FLAGS)")
            if len(self.flags) == self.exists:
                self.known = max(self.flags, default=self.known)
                return
        self.check(False, "not as many as EXISTS says")

    # --- what it does

    async def store(self) -> None:
        if not self.flags:
            return
        uids = sorted(self.random.sample(sorted(self.flags), min(len(self.flags), self.random.randint(1, 3))))
        plus, flag = self.random.choice([True, False]), self.random.choice(_STORABLE)
        condition = f" (UNCHANGEDSINCE {self.modseq})" if self.random.random() < 0.5 else ""
        silent = ".SILENT" if self.random.random() < 0.5 else ""
        before = dict(self.flags)
        text = f"UID STORE {','.join(map(str, uids))}{condition} {'+-'[not plus]}FLAGS{silent} ({flag.decode()})"
        told = await self.say(text)
        flagged = {int(found[1]) for line in told if (found := _FETCH.match(line)) and found[2] is not None}
        modified = _MODIFIED.search(told[-1])
        failed = (
            {}
            if modified is None
            else {u for low, high in sequence.parse(modified[1]).ranges for u in range(low, high + 1)}
        )
        for uid in uids:
            if uid in self.flags and uid not in flagged and uid not in failed:
                self.flags[uid] = before[uid] | {flag} if plus else before[uid] - {flag}

    async def expunge(self) -> None:
        await self.say("EXPUNGE")

    async def noop(self) -> None:
        await self.say("NOOP")

    async def search(self) -> None:
        await self.say("UID SEARCH UNSEEN" if self.uidonly else "SEARCH UNSEEN")

    async def catch_up(self) -> None:
        """Without leaving: RFC 7162 §3.2.6."""
        if self.modseq:
            await self.say(f"UID FETCH 1:* (FLAGS) (CHANGEDSINCE {self.modseq} VANISHED)")

    async def hang_up(self) -> None:
        """In the midst of things: what was said is done, or not, and nobody hears what came of it."""
        client = await self.connection()
        if self.random.random() < 0.5:
            await client.send(self.random.choice([b"x UID STORE 1:* +FLAGS (\\Seen)\r\n", b"x EXPUNGE\r\n"]))
        await client.close()
        self.client = None
        self.log.append("C: hangs up")

    async def act(self, times: int) -> None:
        """Do something, so many times."""
        for _ in range(times):
            doing: Callable[[], Awaitable[None]] = self.random.choice(
                [*[self.store] * 5, self.expunge, self.noop, self.search, self.catch_up, self.hang_up, self.learn_new]
            )
            await self.connection()
            await doing()
            await asyncio.sleep(0)


async def _others(house: House, random: Random) -> None:
    """Mail comes, a client that knows nothing of modseqs works, and the feed forgets."""
    client = await house.imap()
    for number in range(_MESSAGES - _AT_FIRST):
        match random.randrange(8):
            case 0 | 1 | 2:
                await house.file(message(number))
            case 3:
                await client.say("EXPUNGE")
            case 4:
                await house.store.write(retention.expire_changes, house.alice.id, _ALL_TIME)
            case _:
                flag = random.choice(_STORABLE).decode()
                await client.say(
                    f"UID STORE {random.randint(1, 12)}:{random.randint(1, 12)} {random.choice('+-')}FLAGS ({flag})"
                )
        await asyncio.sleep(random.random() * 0.005)


def _truth(tx: Tx, account: int) -> dict[int, frozenset[bytes]]:
    snapshot = load(tx, account, mailboxes.find(tx, account, "INBOX"))
    names = {SEEN: rb"\Seen", FLAGGED: rb"\Flagged", DELETED: rb"\Deleted"}
    return {
        uid: frozenset(name for bit, name in names.items() if bits & bit)
        for uid, bits in zip(snapshot.uids, snapshot.flags, strict=True)
    }


@pytest.mark.parametrize("seed", range(6))
def test_what_clients_keep_is_what_there_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    # All that this process has followed is known here, or the last of it, or nothing.
    monkeypatch.setattr(recent, "_MOST", (1000, 12, 0)[seed % 3])

    async def test(house: House) -> None:
        random = Random(seed)
        for number in range(_AT_FIRST):
            await house.file(message(number))
        caches = [Cache(house, Random(random.random())) for _ in range(3)]
        await asyncio.gather(_others(house, random), *(cache.act(40) for cache in caches))
        for cache in caches:
            if random.random() < 0.5:
                await cache.hang_up()
        # What was said last by who hung up is done, or is not.
        await house.left(1 + sum(cache.client is not None for cache in caches))
        for cache in caches:
            await cache.noop()
            await cache.learn_new()
            truth = await house.store.read(_truth, house.alice.id)
            cache.check(cache.flags == truth, f"another mailbox than the store has: {truth}")
            current = await house.store.read(changes.states, house.alice.id)
            cache.check(cache.modseq <= current.modseq, "a modseq that is not yet")

    in_house(tmp_path, test)
