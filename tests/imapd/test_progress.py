"""INPROGRESS (RFC 9585) of commands that change many messages; of searches test_search.py tells."""

from pathlib import Path

import pytest

from posthouse.imapd import finding, messages
from posthouse.mailbox import emails
from tests.doors.house import House, having, in_house, message


def test_whoever_waits_long_hears_how_far_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(finding, "TELL_SECONDS", 0.0)
    monkeypatch.setattr(emails, "BATCH", 2)
    monkeypatch.setattr(messages, "_FLAGS", 2)

    async def test(house: House) -> None:
        for number in range(5):
            await house.file(message(number))
        client = await house.imap()
        for line, doing in (
            ("STORE 1:5 +FLAGS.SILENT (\\Deleted)", "Storing"),
            ("COPY 1:5 Archive", "Copying"),
            ("UID MOVE 1:5 Archive", "Moving"),
        ):
            told = having(await client.ok(line), b"INPROGRESS")
            tag = client.tags
            assert told == [b'* OK [INPROGRESS ("t%d" %d 5)] %b' % (tag, done, doing.encode()) for done in (2, 4)]
        await client.ok("SELECT Archive")
        await client.ok("STORE 1:10 +FLAGS.SILENT (\\Deleted)")
        told = having(await client.ok("EXPUNGE"), b"INPROGRESS")
        assert told == [b'* OK [INPROGRESS ("t%d" %d 10)] Expunging' % (client.tags, done) for done in (2, 4, 6, 8)]

    in_house(tmp_path, test)


def test_nobody_hears_of_what_is_quick(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(emails, "BATCH", 2)

    async def test(house: House) -> None:
        for number in range(5):
            await house.file(message(number))
        client = await house.imap()
        assert not having(await client.ok("MOVE 1:5 Archive"), b"INPROGRESS")

    in_house(tmp_path, test)
