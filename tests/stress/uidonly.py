"""A client that has message numbers off (RFC 9586): what it believes is a mapping from uid to flags."""

import asyncio
import re
import time
from random import Random

from tests.doors.house import ImapClient
from tests.stress.picture import is_kept, numbers_of

_TOLD = re.compile(rb"\* ([0-9]+) UIDFETCH \((.*)\)\Z", re.DOTALL)
_FLAGS = re.compile(rb"FLAGS \(([^)]*)\)")
_VANISHED = re.compile(rb"\* VANISHED (\(EARLIER\) )?([0-9:,]+)\Z")
_EXISTS = re.compile(rb"\* ([0-9]+) EXISTS\Z")
_NUMBERED = re.compile(rb"\* [0-9]+ (FETCH|EXPUNGE)\b")


class ByUid:
    """One such client. It hears of what comes by NOTIFY, with uid and flags."""

    def __init__(self, client: ImapClient, random: Random) -> None:
        self.client = client
        self.random = random
        self.flags: dict[int, frozenset[bytes]] = {}
        self.count = 0
        self.heard = 0

    @classmethod
    async def open(cls, port: int, login: str, random: Random) -> "ByUid":
        """Log in and look at the Inbox."""
        one = cls(await ImapClient.connect(port), random)
        await one.client.ok(login)
        await one.client.ok("ENABLE UIDONLY")
        await one.client.ok("NOTIFY SET (SELECTED (MessageNew (FLAGS) MessageExpunge FlagChange))")
        await one.say("SELECT INBOX")
        await one.say("UID FETCH 1:* (FLAGS)")
        return one

    async def say(self, text: str) -> list[bytes]:
        """A command; what is told is believed. Its answer may be NO, never BAD."""
        *untagged, tagged = await self.client.say(text)
        for response in untagged:
            self._believe(response)
        assert not tagged.startswith(b"BAD"), (text, tagged)
        return untagged

    def _believe(self, response: bytes) -> None:
        self.heard += 1
        assert not _NUMBERED.match(response), response
        if told := _TOLD.match(response):
            flags = _FLAGS.search(told[2])
            if flags:
                self.flags[int(told[1])] = frozenset(flags[1].split())
        elif vanished := _VANISHED.match(response):
            for uid in numbers_of(vanished[2]):
                assert not is_kept(uid), f"message {uid} is lost: nobody has removed it"
                self.flags.pop(uid, None)
                self.count -= 0 if vanished[1] else 1
        elif exists := _EXISTS.match(response):
            assert int(exists[1]) >= self.count, response
            self.count = int(exists[1])

    async def act(self, until: float) -> None:
        """Change flags, search, remove, by uid; at its leisure."""
        while time.monotonic() < until:
            some = self.random.sample(sorted(self.flags), min(3, len(self.flags)))
            free = [uid for uid in some if not is_kept(uid)]
            chosen = ",".join(map(str, some))
            match self.random.randrange(5):
                case 0 if some:
                    await self.say(f"UID STORE {chosen} {self.random.choice('+-')}FLAGS (red)")
                case 1 if free:
                    await self.say(f"UID STORE {free[0]} +FLAGS (\\Deleted)")
                    await self.say(f"UID EXPUNGE {free[0]}")
                case 2:
                    await self.say("UID SEARCH RETURN (SAVE) KEYWORD red")
                    await self.say("UID FETCH $ (FLAGS)")
                case 3:
                    found = await self.say("UID FETCH 1:* (FLAGS) (PARTIAL -1:-5)")
                    told = [int(one[1]) for response in found if (one := _TOLD.match(response))]
                    assert told or not self.flags
                case _:
                    await self.say("NOOP")
            await asyncio.sleep(self.random.random() * 0.01)

    async def compare(self, truth: dict[int, frozenset[bytes]]) -> None:
        """All that is there, and nothing else."""
        await self.say("NOOP")
        assert self.flags == truth, {uid: (self.flags.get(uid), truth.get(uid)) for uid in {*self.flags, *truth}}
        assert self.count == len(truth), (self.count, len(truth))
