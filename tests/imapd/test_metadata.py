"""Annotations: what is refused, and who sees whose."""

from pathlib import Path

import pytest

from posthouse import limits
from posthouse.imapd.refusal import WORDS
from posthouse.mailbox import metadata
from posthouse.mailbox.metadata import OF_ACCOUNT
from posthouse.mailbox.model import AnnotationTooLong
from posthouse.store.database import Tx
from tests.doors.house import ALICE, BOB, House, in_house
from tests.store.support import open_store


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


def test_what_others_set_is_heard_from_another_process(tmp_path: Path) -> None:
    """RFC 5464 §4.4, RFC 5465 §5.6: at the next answer for whom ENABLE METADATA is enough, at once for whom asks so."""

    async def test(house: House) -> None:
        enabled, watching = await house.imap(), await house.imap()
        await enabled.ok("ENABLE METADATA")
        await watching.ok("NOTIFY SET (personal (MailboxMetadataChange ServerMetadataChange))")
        other = open_store(tmp_path)
        try:
            await other.write(metadata.put, house.alice.id, OF_ACCOUNT, [("/private/x", b"1")], 1)
            assert await watching.response() == b'* METADATA "" /private/x'
            assert await enabled.ok("NOOP") == [b'* METADATA "" /private/x']
            assert await enabled.ok("NOOP") == []
        finally:
            await other.close()

    in_house(tmp_path, test)


def test_who_shares_a_mailbox_is_another(tmp_path: Path) -> None:
    async def test(house: House) -> None:
        alice, bob = await house.imap(), await house.imap(BOB)
        await alice.ok("ENABLE METADATA")
        await bob.ok("ENABLE METADATA")
        await alice.ok(f"SETACL INBOX {BOB} lrw")
        await bob.ok(f'SETMETADATA "Other Users/{ALICE}/INBOX" (/shared/comment "x")')
        assert await alice.ok("NOOP") == [b'* METADATA "INBOX" /shared/comment']
        assert await bob.ok("NOOP") == []

    in_house(tmp_path, test)


def test_too_much_at_once_ends_what_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """RFC 5465 §5.8. Who has enabled METADATA has to come again, and does not go on with half of it."""
    monkeypatch.setattr(limits, "NOTIFY_MAILBOXES", 1)

    async def test(house: House) -> None:
        enabled, watching = await house.imap(), await house.imap()
        await enabled.ok("ENABLE METADATA")
        await watching.ok("NOTIFY SET (personal (MailboxMetadataChange ServerMetadataChange))")
        await house.store.write(_annotate, house.alice.id)
        assert b"[NOTIFICATIONOVERFLOW]" in await watching.response()
        assert await watching.ok("NOOP") == []
        await enabled.ok("NOOP")
        assert await enabled.response() == b"* BYE More has been annotated than can be told"
        assert await enabled.closed()

    in_house(tmp_path, test)


def _annotate(tx: Tx, account: int) -> None:
    for mailbox in (OF_ACCOUNT, 1):
        metadata.put(tx, account, mailbox, [("/private/x", b"1")], 1)


def test_others_see_nothing_of_it(tmp_path: Path) -> None:
    """RFC 5464 §3.2: private entries are one's own, and so are one's mailboxes."""

    async def test(house: House) -> None:
        alice, bob = await house.imap(), await house.imap(BOB)
        await alice.ok('SETMETADATA INBOX (/shared/comment "1")')
        await alice.ok('SETMETADATA "" (/private/comment "2")')
        assert await bob.ok("GETMETADATA INBOX /shared/comment") == [b'* METADATA "INBOX" (/shared/comment NIL)']
        assert await bob.ok('GETMETADATA "" /private/comment') == [b'* METADATA "" (/private/comment NIL)']

    in_house(tmp_path, test)
