"""Several clients at once on one mailbox, doing at random what clients do.

Each keeps its own picture of the mailbox from what it is told, and checks every untagged response against what the
protocol allows (RFC 9051 §7.4.1, §7.5.1, §7.5.2); in the end all pictures and the store are the same.
"""

import asyncio
import re
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from random import Random

import pytest

from posthouse.mailbox import mailboxes
from posthouse.mailbox.model import DELETED
from posthouse.mailbox.snapshot import load
from posthouse.store.database import Tx
from posthouse.terms.keywords import SEEN
from tests.doors.house import House, ImapClient, in_house, message, opened

_NUMBERED = re.compile(rb"\* ([0-9]+) (EXISTS|EXPUNGE|FETCH)(?: \((.*)\))?\Z", re.DOTALL)
_FLAGS = re.compile(rb"FLAGS \(([^)]*)\)")
_UID = re.compile(rb"UID ([0-9]+)")
_EXPUNGE_FORBIDDEN = ("FETCH", "STORE", "SEARCH")
_STORABLE = (rb"\Seen", rb"\Flagged", rb"\Answered", rb"\Deleted", b"red", b"blue")


class Picture:
    """What one client believes: the uid of each message (None: not told yet), and the flags it has been told."""

    def __init__(self, client: ImapClient, random: Random, name: str) -> None:
        self.client = client
        self.random = random
        self.name = name
        self.uids: list[int | None] = []
        self.flags: dict[int, frozenset[bytes]] = {}
        self.log: list[str] = []

    async def say(self, text: str, *literals: bytes) -> list[bytes]:
        """A command; its untagged responses are believed. Its answer may be NO, never BAD."""
        self.log.append(f"C: {text}")
        *untagged, tagged = await self.client.say(text, *literals)
        for response in untagged:
            self.believe(response, text.split()[0])
        self.log.append(f"S: {tagged!r}")
        self.check(not tagged.startswith(b"BAD"), tagged)
        return [*untagged, tagged]

    def check(self, holds: object, what: object) -> None:
        """Fail with the end of the conversation."""
        assert holds, f"{self.name}: {what!r}\n" + "\n".join(self.log[-40:])

    def believe(self, response: bytes, command: str) -> None:
        """One untagged response, checked against what is believed so far."""
        self.log.append(f"S: {response!r}")
        found = _NUMBERED.match(response)
        if found is None:
            return
        number, kind, items = int(found[1]), found[2], found[3]
        if kind == b"EXISTS":
            self.check(number >= len(self.uids), "EXISTS makes the mailbox smaller")
            self.uids += [None] * (number - len(self.uids))
            return
        self.check(1 <= number <= len(self.uids), "a number that is none")
        if kind == b"EXPUNGE":
            self.check(command not in _EXPUNGE_FORBIDDEN, f"EXPUNGE during {command}")
            gone = self.uids.pop(number - 1)
            if gone is not None:
                self.flags.pop(gone, None)
            return
        self.learn(number, items)

    def learn(self, number: int, items: bytes) -> None:
        """A FETCH response."""
        if uid := _UID.search(items):
            known = self.uids[number - 1]
            self.check(known in (None, int(uid[1])), f"message {number} had uid {known}")
            self.uids[number - 1] = int(uid[1])
            told = [one for one in self.uids if one is not None]
            self.check(told == sorted(set(told)), "uids do not ascend")
        if flags := _FLAGS.search(items):
            learnt = self.uids[number - 1]
            self.check(learnt is not None, "flags of a message whose uid is not known")
            assert learnt is not None
            self.flags[learnt] = frozenset(flags[1].split())

    # --- what clients do

    def some(self) -> list[int]:
        """A few of the sequence numbers."""
        count = self.random.randint(1, min(4, len(self.uids)))
        return sorted(self.random.sample(range(1, len(self.uids) + 1), count))

    async def store(self) -> None:
        numbers = self.some()
        how = self.random.choice(["FLAGS", "+FLAGS", "-FLAGS"])
        chosen = self.random.sample(_STORABLE, self.random.randint(1, 2))
        silent = self.random.random() < 0.5
        before = {uid: self.flags.get(uid) for number in numbers if (uid := self.uids[number - 1])}
        words = b" ".join(chosen).decode()
        *untagged, _ = await self.say(
            f"STORE {','.join(map(str, numbers))} {how}{'.SILENT' if silent else ''} ({words})"
        )
        if silent:
            told = {int(found[1]) for response in untagged if (found := _UID.search(response))}
            self.assume({uid: flags for uid, flags in before.items() if uid not in told}, how, frozenset(chosen))

    def assume(self, before: dict[int, frozenset[bytes] | None], how: str, chosen: frozenset[bytes]) -> None:
        """RFC 9051 §6.4.6: whoever asks not to be told knows what comes of it."""
        for uid, flags in before.items():
            if uid in self.flags and (flags is not None or how == "FLAGS"):
                known = flags or frozenset()
                self.flags[uid] = chosen if how == "FLAGS" else known | chosen if how == "+FLAGS" else known - chosen

    async def look(self) -> None:
        await self.say(f"FETCH {','.join(map(str, self.some()))} (UID FLAGS)")

    async def read(self) -> None:
        number = self.random.choice(self.some())
        responses = await self.say(f"FETCH {number} (UID BODY[])")
        self.check(any(b"BODY[] {" in response for response in responses), "content that is known is not to be had")

    async def look_by_uid(self) -> None:
        await self.say("UID FETCH 1:* (FLAGS)")

    async def copy(self) -> None:
        await self.say(f"COPY {self.random.choice(self.some())} {self.random.choice(['INBOX', 'Archive'])}")

    async def move(self) -> None:
        await self.say(f"MOVE {self.random.choice(self.some())} {self.random.choice(['INBOX', 'Archive'])}")

    async def expunge(self) -> None:
        await self.say("EXPUNGE")

    async def search(self) -> None:
        found = await self.say(f"SEARCH {self.random.choice(['ALL', 'SEEN', 'UNDELETED', 'KEYWORD red'])}")
        numbers = [int(n) for line in found if line.startswith(b"* SEARCH") for n in line.split()[2:]]
        self.check(all(1 <= number <= len(self.uids) for number in numbers), "found what is not there")

    async def append(self) -> None:
        octets = message(self.random.randrange(1000))
        await self.say(f"APPEND INBOX {{{len(octets)}}}", octets + b"\r\n")

    async def noop(self) -> None:
        await self.say("NOOP")

    async def idle(self) -> None:
        for response in await self.client.idle():
            self.believe(response, "IDLE")
        await asyncio.sleep(self.random.random() * 0.01)
        for response in await self.client.done():
            self.believe(response, "IDLE")

    async def learn_the_rest(self) -> None:
        """Ask for what was never told: new messages. What was told before is not asked for again."""
        unknown = [n for n, uid in enumerate(self.uids, 1) if uid is None or uid not in self.flags]
        if unknown:
            await self.say(f"FETCH {','.join(map(str, unknown))} (UID FLAGS)")

    async def act(self, times: int) -> None:
        """Do something, so many times."""
        with_messages = [self.store] * 12 + [self.look] * 3 + [self.read, self.copy, self.move, self.look_by_uid]
        always: list[Callable[[], Awaitable[None]]] = [self.append, self.noop, self.expunge, self.search, self.idle]
        for _ in range(times):
            await self.random.choice([*with_messages, *always] if self.uids else always)()


def _truth(tx: Tx, account: int) -> list[tuple[int, int]]:
    snapshot = load(tx, account, mailboxes.find(tx, account, "INBOX"))
    return list(zip(snapshot.uids, snapshot.flags, strict=True))


@pytest.mark.parametrize("seed", range(6))
def test_all_pictures_agree_in_the_end(tmp_path: Path, seed: int) -> None:
    """Two clients at each of two servers on one store, while mail is delivered."""

    async def test(house: House) -> None:
        random = Random(seed)
        for number in range(6):
            await house.file(message(number))
        async with opened(tmp_path) as other:
            pictures = []
            for name, server in enumerate((house, house, other, other)):
                client = await server.imap(mailbox=None)
                picture = Picture(client, Random(random.random()), f"client {name} of seed {seed}")
                await picture.say("SELECT INBOX")
                pictures.append(picture)
            await asyncio.gather(_deliver(other, random), *(picture.act(60) for picture in pictures))
            # The bell between processes may be a moment behind the answer.
            await asyncio.sleep(0.05)
            for picture in pictures:
                await picture.say("NOOP")
                await picture.learn_the_rest()
            _compare(pictures, await house.store.read(_truth, house.alice.id))

    in_house(tmp_path, test)


async def _deliver(house: House, random: Random) -> None:
    for number in range(5):
        await house.file(message(5000 + number))
        await asyncio.sleep(random.random() * 0.02)


def _compare(pictures: Sequence[Picture], truth: Sequence[tuple[int, int]]) -> None:
    for picture in pictures:
        picture.check(picture.uids == [uid for uid, _ in truth], "other messages than the store has")
        for uid, bits in truth:
            flags = picture.flags[uid]
            picture.check((rb"\Deleted" in flags) is bool(bits & DELETED), f"\\Deleted of {uid}")
            picture.check((rb"\Seen" in flags) is bool(bits & SEEN), f"\\Seen of {uid}")
            picture.check(flags == pictures[0].flags[uid], f"other flags of {uid} than another client knows")
