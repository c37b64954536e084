"""Annotations: what is refused, and who sees whose."""

from pathlib import Path

import pytest

from posthouse import limits
from posthouse.imapd.refusal import WORDS
from posthouse.mailbox.model import AnnotationTooLong
from tests.doors.house import BOB, House, in_house


def test_too_long_or_too_many_is_said_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """RFC 5464 §4.3: MAXSIZE with what there may be, TOOMANY; nothing else of the command is done."""

    async def test(house: House) -> None:
        client = await house.imap()
        long = b"x" * (limits.METADATA_VALUE + 1)
        await client.send(b"a SETMETADATA INBOX (/private/b {1+}\r\n1 /private/a {%d+}\r\n%b)\r\n" % (len(long), long))
        assert (await client.until(b"a "))[-1].startswith(b"a NO [METADATA MAXSIZE 65536] ")
        assert await client.ok("GETMETADATA INBOX (DEPTH 1) /private") == [b'* METADATA "INBOX" (/private NIL)']
        monkeypatch.setattr(limits, "METADATA_ENTRIES", 1)
        await client.ok('SETMETADATA INBOX (/private/a "1")')
        said = await client.tagged('SETMETADATA INBOX (/private/a "2" /private/b "2")')
        assert said.startswith(b"NO [METADATA TOOMANY] ")
        assert await client.ok("GETMETADATA INBOX /private/a") == [b'* METADATA "INBOX" (/private/a "1")']

    in_house(tmp_path, test)
    assert WORDS[AnnotationTooLong][1] == b"METADATA MAXSIZE %d" % limits.METADATA_VALUE


def test_others_see_nothing_of_it(tmp_path: Path) -> None:
    """RFC 5464 §3.2: private entries are one's own, and so are one's mailboxes."""

    async def test(house: House) -> None:
        alice, bob = await house.imap(), await house.imap(BOB)
        await alice.ok('SETMETADATA INBOX (/shared/comment "1")')
        await alice.ok('SETMETADATA "" (/private/comment "2")')
        assert await bob.ok("GETMETADATA INBOX /shared/comment") == [b'* METADATA "INBOX" (/shared/comment NIL)']
        assert await bob.ok('GETMETADATA "" /private/comment') == [b'* METADATA "" (/private/comment NIL)']

    in_house(tmp_path, test)
