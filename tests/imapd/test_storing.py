"""STORE, COPY and MOVE of many messages: what the client hears, and what another one does."""

import asyncio
from collections.abc import Awaitable, Callable, Collection
from pathlib import Path
from typing import Any

import pytest

from posthouse.imapd import messages
from posthouse.imapd.finding import Progress
from posthouse.imapd.session import Session
from posthouse.mailbox import emails, flagging
from posthouse.mailbox.flagging import Stored
from posthouse.net.stream import ConnectionLost
from posthouse.store.database import Tx
from tests.doors.house import House, ImapClient, having, in_house, message
from tests.imapd.sending import held

COUNT = 700


async def filled(house: House) -> ImapClient:
    """A client that has them open."""
    client = await house.imap()
    for start in range(0, COUNT, 350):
        some = [message(number) for number in range(start, start + 350)]
        literals = b"".join([b" {%d+}\r\n%b" % (len(one), one) for one in some])
        assert (await client.tagged(b"APPEND INBOX" + literals)).startswith(b"OK ")
    return client


async def flags(client: ImapClient) -> list[bytes]:
    return await client.ok("FETCH 1:* (FLAGS MODSEQ)")


def test_a_silent_store_is_told_to_others(tmp_path: Path) -> None:
    async def test(house: House) -> None:
        client, other = await filled(house), await house.imap()
        await client.ok("ENABLE CONDSTORE")
        await other.ok("ENABLE CONDSTORE")
        await other.ok("STORE 3 +FLAGS (\\Flagged)")
        await other.ok("STORE 5 +FLAGS (\\Seen)")
        told = await client.ok("STORE 1:* +FLAGS.SILENT (\\Flagged)")
        # What another has changed is told with its flags; of its own doing the client hears the modseqs.
        with_flags = [line for line in told if b"FLAGS" in line and b" FETCH " in line]
        assert {line.split(b" ")[1] for line in with_flags} == {b"3", b"5"}
        assert len([line for line in told if b" FETCH " in line]) == COUNT
        news = await other.ok("NOOP")
        assert len([line for line in news if b"\\Flagged" in line]) == COUNT - 1
        mine, theirs = await flags(client), await flags(other)
        assert mine == theirs
        assert all(b"\\Flagged" in line for line in mine)
        # A fresh look at the store says the same.
        await other.ok("UNSELECT")
        await client.ok("STORE 1:300,400:* -FLAGS (\\Flagged)")
        await other.ok("SELECT INBOX")
        mine = await flags(client)
        assert mine == await flags(other)
        assert len([line for line in mine if b"\\Flagged" in line]) == 99

    in_house(tmp_path, test)


def test_copies_change_with_what_they_are_copies_of(tmp_path: Path) -> None:
    async def test(house: House) -> None:
        client, other = await filled(house), await house.imap()
        await client.ok("CREATE Copies")
        await client.ok("CREATE Moved")
        await client.ok("COPY 1:* INBOX")
        copied = await client.tagged("COPY 10:* Copies")
        assert b" 10:%d 1:%d]" % (2 * COUNT, 2 * COUNT - 9) in copied
        await other.ok("SELECT Copies")
        await client.ok("STORE 1:600 +FLAGS.SILENT (\\Flagged)")
        assert len([line for line in await flags(client) if b"\\Flagged" in line]) == 1200
        assert len([line for line in await other.ok("NOOP") if b"\\Flagged" in line]) == 1191
        moved = await client.ok("MOVE 1:* Moved")
        assert b"[COPYUID " in moved[0]
        assert b"1:%d 1:%d]" % (2 * COUNT, 2 * COUNT) in moved[0]
        await other.ok("SELECT Moved")
        assert len([line for line in await flags(other) if b"\\Flagged" in line]) == 1200
        assert await client.ok("STATUS INBOX (MESSAGES)") == [b'* STATUS "INBOX" (MESSAGES 0)']

    in_house(tmp_path, test)


def between_portions(patch: pytest.MonkeyPatch, portion: int, deed: Callable[[], Awaitable[object]]) -> None:
    """Let this be done once, as soon as the first so many messages are changed."""
    patch.setattr(emails, "BATCH", portion)
    patch.setattr(messages, "_FLAGS", portion)
    deeds = [deed]

    async def progress(self: Progress, done: int, goal: int) -> None:
        assert done <= portion or not deeds
        if deeds:
            await deeds.pop()()

    patch.setattr(Progress, "__call__", progress)


def test_what_others_change_between_two_portions_is_left_alone_and_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """RFC 7162 §3.1.3: what another has changed since, also while the STORE was on its way, is named."""

    async def test(house: House) -> None:
        client, other = await filled(house), await house.imap()
        await client.ok("ENABLE CONDSTORE")
        await other.ok("ENABLE CONDSTORE")
        known = max([int(line.split(b"MODSEQ (")[1].rstrip(b")")) for line in await flags(client)])

        async def meanwhile() -> None:
            await other.ok("STORE 50,650 +FLAGS (\\Seen)")
            await other.ok("STORE 660 +FLAGS (\\Deleted)")
            await other.ok("EXPUNGE")

        between_portions(monkeypatch, 550, meanwhile)
        code = await client.say(f"STORE 1:* (UNCHANGEDSINCE {known}) +FLAGS.SILENT (\\Flagged)")
        assert b"[MODIFIED 650]" in code[-1]
        # What was changed before, and then by another, is told with both flags; the other message is not flagged.
        told = {line.split(b" ")[1]: line for line in code[:-1] if b"FLAGS" in line}
        assert told.keys() == {b"50", b"650"}
        assert b"\\Seen \\Flagged" in told[b"50"]
        assert b"\\Flagged" not in told[b"650"]
        await client.ok("NOOP")
        mine = await flags(client)
        await other.ok("NOOP")
        assert mine == await flags(other)
        assert len([line for line in mine if b"\\Flagged" in line]) == COUNT - 2

    in_house(tmp_path, test)


def test_what_others_take_away_between_two_portions_is_not_moved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """RFC 6851 §3.3: each message is moved, or stays, by itself."""

    async def test(house: House) -> None:
        client, other = await filled(house), await house.imap()
        await client.ok("CREATE Moved")

        async def meanwhile() -> None:
            await other.ok("STORE 450 +FLAGS (\\Deleted)")
            await other.ok("EXPUNGE")

        between_portions(monkeypatch, 400, meanwhile)
        moved = await client.ok("MOVE 1:* Moved")
        assert b"1:449,451:700 1:699]" in moved[0]
        assert len([line for line in moved if line.endswith(b" EXPUNGE")]) == COUNT
        await client.ok("SELECT Moved")
        assert len(await client.ok("FETCH 1:* (FLAGS)")) == COUNT - 1

    in_house(tmp_path, test)


def test_a_copy_that_fails_between_two_portions_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """RFC 9051 §6.4.7: the target is as it was before."""

    async def test(house: House) -> None:
        client, other = await filled(house), await house.imap()
        await client.ok("CREATE Copies")
        await client.ok("COPY 1:3 Copies")

        async def meanwhile() -> None:
            await other.ok("STORE 450 +FLAGS (\\Deleted)")
            await other.ok("EXPUNGE")

        between_portions(monkeypatch, 400, meanwhile)
        assert b"NO [EXPUNGEISSUED]" in (await client.say("COPY 1:* Copies"))[-1]
        assert (await client.ok("STATUS Copies (MESSAGES)"))[0] == b'* STATUS "Copies" (MESSAGES 3)'
        assert b"[COPYUID " in await client.tagged("COPY 1:* Copies")
        assert await client.ok("STATUS Copies (MESSAGES)") == [b'* STATUS "Copies" (MESSAGES %d)' % (COUNT + 2)]

    in_house(tmp_path, test)


def test_a_copy_whose_client_goes_between_two_portions_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody was told that it is done, so the client does it again."""

    async def test(house: House) -> None:
        client, other = await filled(house), await house.imap()
        await client.ok("CREATE Copies")
        lost = asyncio.Event()

        async def meanwhile() -> None:
            lost.set()
            raise ConnectionLost

        between_portions(monkeypatch, 400, meanwhile)
        await client.send(b"x COPY 1:* Copies\r\n")
        await lost.wait()
        assert await client.reader.read() == b""
        assert await other.ok("STATUS Copies (MESSAGES)") == [b'* STATUS "Copies" (MESSAGES 0)']

    in_house(tmp_path, test)


def test_a_conditional_store_of_several_portions_does_not_meet_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A copy of what the first portion has changed stands in the second: nobody else has changed it."""

    async def test(house: House) -> None:
        client = await filled(house)
        await client.ok("ENABLE CONDSTORE")
        await client.ok("COPY 1:3 INBOX")
        await client.ok("NOOP")
        known = max([int(line.split(b"MODSEQ (")[1].rstrip(b")")) for line in await flags(client)])
        monkeypatch.setattr(emails, "BATCH", 400)
        said = await client.say(f"STORE 1:* (UNCHANGEDSINCE {known}) +FLAGS (\\Flagged \\Deleted)")
        assert said[-1].endswith(b"OK Stored")
        assert all(b"\\Flagged" in line and b"\\Deleted" in line for line in await flags(client))

    in_house(tmp_path, test)


@pytest.mark.parametrize("condition", ["", "(UNCHANGEDSINCE 1000) "])
def test_what_another_changes_while_modseqs_are_told_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, condition: str
) -> None:
    async def test(house: House) -> None:
        client, other = await filled(house), await house.imap()
        await client.ok("ENABLE CONDSTORE")
        real, deeds = Session.pause, [lambda: other.ok("STORE 690 +FLAGS (\\Seen)")]

        async def pause(self: Session) -> None:
            await real(self)
            if self.condstore and deeds:
                await deeds.pop()()

        monkeypatch.setattr(Session, "pause", pause)
        told = await client.ok(f"STORE 1:* {condition}+FLAGS.SILENT (\\Flagged)")
        told += await client.ok("NOOP")
        assert not deeds
        assert b"\\Seen \\Flagged" in having(told, b"* 690 FETCH")[-1]

    in_house(tmp_path, test)


def test_what_is_told_of_many_is_what_is_told_of_each(tmp_path: Path) -> None:
    """Also beyond number 1000, where lines are written otherwise, and with a gap among the uids."""

    async def test(house: House) -> None:
        client = await filled(house)
        await client.ok("COPY 1:* INBOX")
        await client.ok("STORE 5,1100:1110 +FLAGS.SILENT (\\Deleted)")
        await client.ok("UID EXPUNGE 1:1105")
        await client.ok("STORE 3,990:1010,1300 +FLAGS.SILENT (\\Answered own)")
        total = 2 * COUNT - 7
        told = await client.ok("FETCH 1:* (UID FLAGS)")
        assert len(told) == total
        for number in (1, 3, 4, 5, 989, 990, 999, 1000, 1010, 1011, 1092, 1093, 1094, 1300, total):
            assert await client.ok(f"FETCH {number} (UID FLAGS)") == [told[number - 1]]
        stored = await client.ok("STORE 1:* +FLAGS (\\Flagged)")
        assert len(having(stored, b"\\Flagged")) == total
        assert stored == await client.ok("FETCH 1:* (UID FLAGS)")

    in_house(tmp_path, test)


@pytest.mark.parametrize(
    ("change", "most"), [(r"+FLAGS (\Flagged)", 600), (r"-FLAGS (\Seen)", 200), (r"+FLAGS (own \Deleted)", 200)]
)
def test_the_writer_is_held_for_long_by_nothing_that_has_to_be_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: str, most: int
) -> None:
    """What has cost next to nothing so far may be dear behind that."""
    asked: list[int] = []
    store_flags = flagging.store_flags

    def noting(tx: Tx, account: int, mailbox: int, uids: Collection[int], **how: Any) -> Stored:
        asked.append(len(uids))
        return store_flags(tx, account, mailbox, uids, **how)

    async def test(house: House) -> None:
        client = await filled(house)
        for module, name, number in ((emails, "BATCH", 200), (messages, "_FLAGS", 600), (messages, "_FIRST", 100)):
            monkeypatch.setattr(module, name, number)
        # As if nothing took any time.
        monkeypatch.setattr(messages, "_SHARE", 1e6)
        monkeypatch.setattr(flagging, "store_flags", noting)
        await client.ok(f"STORE 1:* {change}")
        assert sum(asked) == COUNT
        assert max(asked) == most

    in_house(tmp_path, test)


def test_long_flags_of_many_do_not_gather(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As many lines as are written at once of short flags would be many megabytes of these."""

    async def test(house: House) -> None:
        client = await filled(house)
        await client.ok("FETCH 1:* (UID FLAGS)")
        words = " ".join("x" * 80 + str(number) for number in range(40))
        waiting = held(monkeypatch)
        for line in (f"STORE 1:* FLAGS ({words})", "FETCH 1:* (UID FLAGS)"):
            assert len(having(await client.ok(line), b"FETCH (UID")) == COUNT
        assert max(waiting) < 1024 * 1024

    in_house(tmp_path, test)
