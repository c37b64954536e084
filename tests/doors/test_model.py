"""The doors against the reference (reference.py): three IMAP sessions, POP3 and SMTP, in any order, on one account.

After each command the session that gave it must believe what the reference says that it has been told, flags included;
what SEARCH, FETCH and POP3 answer must be what the reference has.
"""

import re
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from tests.doors.house import ImapClient, Pop3Client
from tests.doors.reference import DELETED, Store, View
from tests.harness import PASSWORD, running
from tests.stress.picture import Common, Picture

BOB = "bob@home.example"
NAMES = ("INBOX", "Archive", "Work")
LISTENERS = {"smtp": "none", "imap": "none", "pop3": "none"}
FLAGS = (rb"\Seen", rb"\Flagged", rb"\Answered", DELETED, b"red")
_UIDS = re.compile(rb"[0-9]+")
_SUBJECT = re.compile(rb"Subject: ([0-9]+)\r\n")

sessions = st.integers(0, 2)
# Which of the messages that a session sees: as places in its list, whatever its length.
places = st.lists(st.integers(0, 50), min_size=1, max_size=3)
flags = st.frozensets(st.sampled_from(FLAGS), min_size=1, max_size=2)
names = st.sampled_from(NAMES)


def octets_of(serial: int) -> bytes:
    return f"From: eve@far.example\r\nSubject: {serial}\r\nMessage-ID: <{serial}@far.example>\r\n\r\nHello\r\n".encode()


class Unkept(Picture):
    """Here everything may be removed."""

    def _gone(self, uid: int | None) -> None:
        if uid is not None:
            self.flags.pop(uid, None)


class Doors(RuleBasedStateMachine):
    """Random commands, one after the other."""

    def __init__(self) -> None:
        super().__init__()
        self.stack = ExitStack()
        directory = Path(self.stack.enter_context(tempfile.TemporaryDirectory()))
        self.serving = self.stack.enter_context(running(directory, listeners=LISTENERS))
        self.reference = Store(NAMES)
        self.common = {name: Common() for name in NAMES}
        self.pictures: list[Unkept] = []
        self.views: list[View] = []

    def teardown(self) -> None:
        for picture in self.pictures:
            self.serving.run(picture.client.close())
        self.stack.close()

    @initialize()
    def people_come(self) -> None:
        self.serving.run(self._begin())

    async def _begin(self) -> None:
        home = self.serving.home
        await home.people(BOB)
        for number in range(3):
            client = await ImapClient.connect(home.ports["imap"])
            await client.ok(f'LOGIN {BOB} "{PASSWORD}"')
            if number == 0:
                for name in NAMES[1:]:
                    await client.say(f"CREATE {name}")
            picture = Unkept(client, Random(0), f"session {number}", self.common["INBOX"])
            if number == 2:
                await client.ok("ENABLE QRESYNC")
                picture.vanishing = True
            self.pictures.append(picture)
            await picture.say("SELECT INBOX")
            self.views.append(self.reference.open("INBOX"))

    # --- one command of a session, and what it must believe afterwards

    def say(
        self, session: int, text: str, *literals: bytes, does: Callable[[], None] | None = None, expunge: bool = True
    ) -> list[bytes]:
        """`does`: what the reference does, if the answer is OK."""
        return self.serving.run(self._say(session, text, *literals, does=does, expunge=expunge))

    async def _say(
        self, session: int, text: str, *literals: bytes, does: Callable[[], None] | None, expunge: bool
    ) -> list[bytes]:
        picture, view = self.pictures[session], self.views[session]
        answer = await picture.say(text, *literals)
        if answer[-1].startswith(b"NO"):
            # Nothing is done, and nothing is told, where it meant a message that has gone.
            picture.check(b"[EXPUNGEISSUED" in answer[-1], answer[-1])
            there = {one.uid for one in self.reference.mailboxes[view.mailbox].placements}
            picture.check(not set(view.uids) <= there, "all messages are there")
            return answer
        if does is not None:
            does()
        self.reference.tell(view, expunge=expunge)
        picture.check(len(picture.uids) == len(view.uids), f"{len(view.uids)} messages there should be")
        await picture.learn_the_rest()
        self.reference.tell(view, expunge=False)
        self.compare(session)
        return answer

    def compare(self, session: int) -> None:
        picture, view = self.pictures[session], self.views[session]
        picture.check(picture.uids == view.uids, f"these should be told: {view.uids}")
        for one in self.reference.mailboxes[view.mailbox].having(view.uids):
            known = picture.flags[one.uid] - {rb"\Recent"}
            picture.check(known == one.flags, f"{one.uid} should have {sorted(one.flags)}")

    def meant(self, session: int, chosen: list[int]) -> list[int]:
        """The sequence numbers of the messages that are meant, in order."""
        count = len(self.views[session].uids)
        return sorted({place % count + 1 for place in chosen}) if count else []

    def uids(self, session: int, numbers: list[int]) -> list[int]:
        return [self.views[session].uids[number - 1] for number in numbers]

    # --- the rules

    @rule(name=names, chosen=flags, session=sessions)
    def append(self, session: int, name: str, chosen: frozenset[bytes]) -> None:
        octets = octets_of(self.reference.next_serial)
        text = f"APPEND {name} ({b' '.join(sorted(chosen)).decode()}) {{{len(octets)}}}"
        self.reference.new(name, chosen - {DELETED}, deleted=DELETED in chosen)
        self.say(session, text, octets + b"\r\n")

    @rule()
    def deliver(self) -> None:
        async def send() -> str:
            client = await self.serving.home.connect("smtp")
            return await client.send("eve@far.example", [BOB], octets_of(self.reference.next_serial))

        assert self.serving.run(send()).startswith("250")
        self.reference.new("INBOX")

    @rule(
        session=sessions,
        chosen=places,
        what=flags,
        how=st.sampled_from(["FLAGS", "+FLAGS", "-FLAGS"]),
        by_uid=st.booleans(),
    )
    def store(self, session: int, chosen: list[int], what: frozenset[bytes], how: str, by_uid: bool) -> None:
        if not (numbers := self.meant(session, chosen)):
            return
        uids = self.uids(session, numbers)
        words = f"({b' '.join(sorted(what)).decode()})"
        named = ",".join(map(str, uids if by_uid else numbers))
        does = partial(self.reference.store, self.views[session], uids, how, what)
        self.say(session, f"{'UID ' * by_uid}STORE {named} {how} {words}", does=does, expunge=by_uid)

    @rule(session=sessions, chosen=places, other=names, moves=st.booleans())
    def copy_or_move(self, session: int, chosen: list[int], other: str, moves: bool) -> None:
        if not (numbers := self.meant(session, chosen)):
            return
        act = self.reference.move if moves else self.reference.copy
        does = partial(act, self.views[session], self.uids(session, numbers), other)
        self.say(session, f"{'MOVE' if moves else 'COPY'} {','.join(map(str, numbers))} {other}", does=does)

    @rule(session=sessions)
    def expunge(self, session: int) -> None:
        self.reference.expunge(self.views[session].mailbox)
        self.say(session, "EXPUNGE")

    @rule(session=sessions, chosen=places)
    def uid_expunge(self, session: int, chosen: list[int]) -> None:
        if numbers := self.meant(session, chosen):
            uids = self.uids(session, numbers)
            self.reference.expunge(self.views[session].mailbox, uids)
            self.say(session, f"UID EXPUNGE {','.join(map(str, uids))}")

    @rule(session=sessions, name=names, expunges=st.booleans())
    def select(self, session: int, name: str, expunges: bool) -> None:
        picture = self.pictures[session]
        if expunges:
            self.reference.expunge(self.views[session].mailbox)
            self.serving.run(picture.client.ok("CLOSE"))
        picture.forget()
        picture.validity = 0
        picture.common = self.common[name]
        self.views[session] = self.reference.open(name)
        self.say(session, f"SELECT {name}")

    @rule(session=sessions)
    def noop(self, session: int) -> None:
        self.say(session, "NOOP")

    @rule(session=sessions, flag=st.sampled_from(FLAGS), having=st.booleans())
    def search(self, session: int, flag: bytes, having: bool) -> None:
        key = flag.decode().removeprefix("\\").upper() if flag.startswith(b"\\") else f"KEYWORD {flag.decode()}"
        key = f"{'' if having else 'NOT '}{key}"
        # It is told of what came before the search, which is among what the client knows, with the flags of now.
        self.reference.tell(self.views[session], expunge=False)
        expected = self.reference.found(self.views[session], flag, having=having)
        answer = self.say(session, f"UID SEARCH {key}")
        told = [int(n) for line in answer if line.startswith(b"* SEARCH") for n in _UIDS.findall(line.split(b"(")[0])]
        there = {one.uid for one in self.reference.mailboxes[self.views[session].mailbox].placements}
        self.pictures[session].check([uid for uid in told if uid in there] == expected, f"{expected} should be found")

    @rule(session=sessions, chosen=places)
    def read(self, session: int, chosen: list[int]) -> None:
        numbers = self.meant(session, chosen)[:1]
        for uid in self.uids(session, numbers):
            placement = self.reference.mailboxes[self.views[session].mailbox].find(uid)
            answer = self.say(session, f"UID FETCH {uid} (BODY.PEEK[])")
            if placement is not None:
                serials = [int(found[1]) for line in answer if (found := _SUBJECT.search(line))]
                self.pictures[session].check(serials == [placement.email.serial], f"not {placement.email.serial}")

    @precondition(lambda self: len(self.reference.mailboxes["INBOX"].placements) > 0)
    @rule(chosen=places, ends=st.sampled_from(["QUIT", "RSET", ""]))
    def pop(self, chosen: list[int], ends: str) -> None:
        expected = self.reference.drop()
        listed, deleted = self.serving.run(self._pop(chosen, ends))
        assert listed == expected, f"POP3 lists {listed}, not {expected}"
        if ends == "QUIT":
            self.reference.take_out(deleted)

    async def _pop(self, chosen: list[int], ends: str) -> tuple[list[int], set[int]]:
        client = await Pop3Client.connect(self.serving.home.ports["pop3"])
        try:
            await client.say(f"USER {BOB}")
            assert (await client.say(f"PASS {PASSWORD}")).startswith(b"+OK")
            numbers = [int(line.split()[0]) for line in await client.lines("UIDL")]
            listed = [await self._serial(client, number) for number in numbers]
            gone = {place % len(numbers) for place in chosen} if numbers else set()
            for index in gone:
                assert (await client.say(f"DELE {index + 1}")).startswith(b"+OK")
            if ends:
                assert (await client.say(ends)).startswith(b"+OK")
            return listed, {listed[index] for index in gone}
        finally:
            await client.close()

    async def _serial(self, client: Pop3Client, number: int) -> int:
        found = _SUBJECT.search(b"\r\n".join([*await client.lines(f"TOP {number} 0"), b""]))
        assert found is not None
        return int(found[1])


# Twenty conversations with a house each: on a machine that has much else to do they may take a minute.
test_the_doors_show_what_the_reference_has: Any = pytest.mark.timeout(600)(Doors.TestCase)
# Not made smaller where it fails: each try walks through the whole house.
test_the_doors_show_what_the_reference_has.settings = settings(
    max_examples=20,
    stateful_step_count=40,
    deadline=None,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)
