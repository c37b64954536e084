"""APPEND when something is in the way; what it says is in the transcripts."""

from pathlib import Path

import pytest

from posthouse import limits
from posthouse.directory import accounts
from posthouse.store.blobs import Blobs
from posthouse.store.database import StoreUnavailable
from tests.doors.house import ALICE, MESSAGE, PASSWORD, House, having, in_house, message


def test_over_quota_nothing_is_filed(tmp_path: Path) -> None:
    """Also not the messages of the same command that would have fitted."""

    async def test(house: House) -> None:
        await house.store.write(accounts.set_quota, house.alice.id, 2 * len(MESSAGE), None)
        client = await house.imap()
        one = b"{%d+}\r\n%b" % (len(MESSAGE), MESSAGE)
        await client.send(b"a APPEND INBOX " + one + b" " + one + b" " + one + b"\r\n")
        assert (await client.until(b"a "))[-1].startswith(b"a NO [OVERQUOTA] ")
        assert await client.ok("STATUS INBOX (MESSAGES)") == [b'* STATUS "INBOX" (MESSAGES 0)']
        assert (await client.append(MESSAGE)).startswith(b"OK [APPENDUID ")

    in_house(tmp_path, test)


def test_no_room_for_what_is_unfinished(tmp_path: Path) -> None:
    async def test(house: House) -> None:
        client = await house.imap()
        assert (await client.append(b"x" * 5000)).startswith(b"NO [UNAVAILABLE] No room")
        assert (await client.append(MESSAGE)).startswith(b"OK")

    in_house(tmp_path, test, blobs=Blobs(tmp_path / "small", memory_budget=1000, disk_budget=1000))


def test_more_messages_than_the_writer_should_hold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "IMAP_APPENDS", 3)

    async def test(house: House) -> None:
        client = await house.imap()
        one = b" {%d+}\r\n%b" % (len(MESSAGE), MESSAGE)
        await client.send(b"a APPEND INBOX" + one * 4 + b"\r\nb APPEND INBOX" + one * 3 + b"\r\n")
        assert (await client.until(b"a "))[-1] == b"a NO [LIMIT] At most 3 messages at once"
        assert b"b OK [APPENDUID " in (await client.until(b"b "))[-1]

    in_house(tmp_path, test)


def test_a_mailbox_that_goes_while_the_message_comes(tmp_path: Path) -> None:
    async def test(house: House) -> None:
        client, other = await house.imap(), await house.imap()
        await other.ok("CREATE x")
        await client.send(b"a APPEND x {%d}\r\n" % len(MESSAGE))
        await client.until(b"+")
        await other.ok("DELETE x")
        await client.send(MESSAGE + b"\r\n")
        assert (await client.until(b"a "))[-1].startswith(b"a NO [TRYCREATE] ")

    in_house(tmp_path, test)


def test_the_open_mailbox_goes_while_a_message_comes_to_another(tmp_path: Path) -> None:
    """The message is filed, and said to be."""

    async def test(house: House) -> None:
        other = await house.imap()
        await other.ok("CREATE x")
        client = await house.imap(mailbox="x")
        await client.send(b"a APPEND INBOX {%d}\r\n" % len(MESSAGE))
        await client.until(b"+")
        await other.ok("DELETE x")
        await client.send(MESSAGE + b"\r\n")
        assert b"a OK [APPENDUID " in (await client.until(b"a "))[-1]
        assert (await client.response()).startswith(b"* BYE ")

    in_house(tmp_path, test)


def test_hanging_up_in_the_middle_files_nothing(tmp_path: Path) -> None:
    async def test(house: House) -> None:
        client = await house.imap()
        await client.send(b"a APPEND INBOX {100+}\r\nhalf of it")
        await client.close()
        await house.left()
        other = await house.imap()
        assert await other.ok("STATUS INBOX (MESSAGES)") == [b'* STATUS "INBOX" (MESSAGES 0)']

    in_house(tmp_path, test)


def test_a_store_that_cannot_write_now(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(house: House) -> None:
        client = await house.imap()

        async def fails(*args: object, **kwargs: object) -> None:
            raise StoreUnavailable("disk full")

        with monkeypatch.context() as patch:
            patch.setattr(house.store, "write", fails)
            assert (await client.append(MESSAGE)).startswith(b"NO [UNAVAILABLE] ")
            assert (await client.tagged("CREATE x")).startswith(b"NO [UNAVAILABLE] ")
        with monkeypatch.context() as patch:
            patch.setattr(house.store, "read", fails)
            assert (await client.tagged('LIST "" *')).startswith(b"NO [UNAVAILABLE] ")
            assert (await client.tagged("SELECT Drafts")).startswith(b"NO [UNAVAILABLE] ")
            fresh = await house.imap(None)
            assert (await fresh.tagged(f'LOGIN {ALICE} "{PASSWORD} "')).startswith(b"NO [UNAVAILABLE] ")
        assert (await client.append(MESSAGE)).startswith(b"OK")

    in_house(tmp_path, test)


def test_what_one_appends_another_sees(tmp_path: Path) -> None:
    async def test(house: House) -> None:
        client, other = await house.imap(mailbox=None), await house.imap()
        assert (await client.append(message(1), flags=r"\Seen $Forwarded new")).startswith(b"OK")
        told = await other.ok("NOOP")
        assert told == [b"* 1 EXISTS"]
        found = await other.ok("FETCH 1 FLAGS")
        assert having(found, b"* FLAGS") != []
        assert found[-1] == rb"* 1 FETCH (FLAGS (\Seen $Forwarded new))"

    in_house(tmp_path, test)


# --- CATENATE and REPLACE ---------------------------------------------------------------------------------------------


def test_urls_make_no_message_that_is_too_big(tmp_path: Path) -> None:
    # RFC 4469 §4.2
    async def test(house: House) -> None:
        await house.file(message(1, body="x" * 400))
        client = await house.imap()
        whole = ' URL "/INBOX/;UID=1"' * 2
        assert (await client.tagged(f"APPEND INBOX CATENATE ({whole[1:]})")).startswith(b"NO [TOOBIG]")
        small = ' URL "/INBOX/;UID=1/;PARTIAL=0.100"' * 10
        assert (await client.tagged(f"APPEND INBOX CATENATE ({small[1:]})")).startswith(b"OK [APPENDUID")
        # A part that comes as octets counts with those that came before it, and is not asked for.
        assert (await client.tagged(f"APPEND INBOX CATENATE ({small[1:]} TEXT {{1}}")).startswith(b"NO [TOOBIG]")
        assert await client.ok("STATUS INBOX (MESSAGES)") == [b'* STATUS "INBOX" (MESSAGES 2)']

    in_house(tmp_path, test, append_limit=1000)


def test_more_parts_than_anybody_needs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "IMAP_PARTS", 3)

    async def test(house: House) -> None:
        await house.file()
        client = await house.imap()
        url = ' URL ";UID=1"'
        one = f"CATENATE ({url[1:] + url})"
        assert (await client.tagged(f"APPEND INBOX {one} {one}")).startswith(b"NO [LIMIT] At most 3 parts")
        assert (await client.tagged(f"APPEND INBOX {one} CATENATE ({url[1:]})")).startswith(b"OK")

    in_house(tmp_path, test)


def test_a_url_leads_to_what_the_client_still_sees(tmp_path: Path) -> None:
    """RFC 9051 §7.5.1: another has expunged it, and this client has not heard."""

    async def test(house: House) -> None:
        await house.file()
        client, other = await house.imap(), await house.imap()
        await other.ok("STORE 1 +FLAGS.SILENT (\\Deleted)")
        await other.ok("EXPUNGE")
        assert (await other.tagged('APPEND Drafts CATENATE (URL ";UID=1")')).startswith(b"NO [BADURL ;UID=1]")
        assert (await client.tagged('APPEND Drafts CATENATE (URL "/INBOX/;UID=1")')).startswith(b"OK [APPENDUID")

    in_house(tmp_path, test)


def test_a_url_of_anothers_mailbox_leads_nowhere(tmp_path: Path) -> None:
    async def test(house: House) -> None:
        await house.file(account=house.bob, mailbox="Archive")
        client = await house.imap()
        url = "/Archive/;UID=1"
        assert (await client.tagged(f'APPEND INBOX CATENATE (URL "{url}")')).startswith(
            b"NO [BADURL %b]" % url.encode()
        )

    in_house(tmp_path, test)


def test_a_large_part_passes(tmp_path: Path) -> None:
    async def test(house: House) -> None:
        large = message(1, body="It leaves at nine.\r\n" * 100_000)
        await house.file(large)
        client = await house.imap()
        await client.ok('APPEND INBOX CATENATE (URL "/INBOX/;UID=1")')
        assert await client.ok("FETCH 2 RFC822.SIZE") == [b"* 2 FETCH (RFC822.SIZE %d)" % len(large)]
        one, two = [(await client.ok(f"FETCH {n} BODY.PEEK[]"))[0].partition(b"}")[2] for n in (1, 2)]
        assert one == two

    in_house(tmp_path, test)


def test_what_is_replaced_makes_room(tmp_path: Path) -> None:
    """RFC 8508 §3.4: only the difference counts; where that does not fit, nothing has happened."""

    async def test(house: House) -> None:
        client = await house.imap()
        await client.append(MESSAGE)
        await house.store.write(accounts.set_quota, house.alice.id, len(MESSAGE), None)
        head = f"UID REPLACE 1 INBOX {{{len(MESSAGE)}}}"
        assert (await client.append(MESSAGE)).startswith(b"NO [OVERQUOTA]")
        *told, done = await client.say(head, MESSAGE + b"\r\n")
        assert done.startswith(b"OK")
        assert [line.split()[-1] for line in told[1:]] == [b"EXPUNGE", b"EXISTS"]
        larger = MESSAGE + b"x"
        refused = await client.tagged(f"UID REPLACE 2 INBOX {{{len(larger)}}}", larger + b"\r\n")
        assert refused.startswith(b"NO [OVERQUOTA]")
        assert await client.ok("FETCH 1:* UID") == [b"* 1 FETCH (UID 2)"]

    in_house(tmp_path, test)


def test_what_is_replaced_stays_where_the_store_fails(tmp_path: Path) -> None:
    async def test(house: House) -> None:
        await house.file()
        client = await house.imap()
        with house.unwritable():
            refused = await client.tagged(f"REPLACE 1 INBOX {{{len(MESSAGE)}}}", MESSAGE + b"\r\n")
            assert refused.startswith(b"NO [UNAVAILABLE]")
        assert await client.ok("FETCH 1:* UID") == [b"* 1 FETCH (UID 1)"]

    in_house(tmp_path, test)


def test_others_hear_what_was_replaced(tmp_path: Path) -> None:
    async def test(house: House) -> None:
        await house.file()
        client, other = await house.imap(), await house.imap()
        await other.idle()
        await client.ok(f"REPLACE 1 INBOX {{{len(MESSAGE)}}}", MESSAGE + b"\r\n")
        assert await other.until(b"* 1 EXISTS") == [b"* 1 EXPUNGE", b"* 1 EXISTS"]
        await other.done()
        pop3 = await house.pop3()
        assert await pop3.say("STAT") == b"+OK 1 %d" % len(MESSAGE)

    in_house(tmp_path, test)


def test_raw_headers_may_be_taken_from_anybody(tmp_path: Path) -> None:
    """RFC 9755 §4 would have them refused: programs that move mail enable nothing."""
    octets = b"Subject: Gr\xfc\xdfe\r\n\r\nHello\r\n"

    async def test(house: House) -> None:
        client = await house.imap()
        assert (await client.append(octets)).startswith(b"OK [APPENDUID ")
        assert octets in (await client.ok("FETCH 1 BODY.PEEK[]"))[0]

    in_house(tmp_path, test, raw_headers=True)


def test_a_mailbox_that_is_gone_since_the_last_message(tmp_path: Path) -> None:
    async def test(house: House) -> None:
        client, other = await house.imap(), await house.imap()
        await client.ok("CREATE Box")
        assert (await client.append(MESSAGE, "Box")).startswith(b"OK [APPENDUID ")
        await other.ok("DELETE Box")
        await other.append(MESSAGE)
        assert (await client.append(MESSAGE, "Box")).startswith(b"NO [TRYCREATE] ")
        # Now it is looked up before the message comes: no continuation.
        await client.send(b"x APPEND Box {100}\r\n")
        assert (await client.until(b"x "))[-1].startswith(b"x NO [TRYCREATE] ")
        # What others did in the open mailbox is told by an APPEND elsewhere, too.
        await other.append(MESSAGE)
        await client.ok("CREATE Box")
        assert (await client.ok("NOOP")) == []
        await other.append(MESSAGE)
        told = await client.say(b"APPEND Box {%d+}\r\n%b" % (len(MESSAGE), MESSAGE))
        assert b"* 3 EXISTS" in told
        assert told[-1].startswith(b"OK [APPENDUID ")

    in_house(tmp_path, test)


def test_a_name_that_leads_elsewhere_since_the_last_message(tmp_path: Path) -> None:
    """What is known of where it led is looked at again in the transaction that files."""

    async def test(house: House) -> None:
        client, other = await house.imap(), await house.imap()
        await other.ok("CREATE x")
        assert (await client.append(MESSAGE, "x")).startswith(b"OK")
        await other.ok("RENAME x y")
        assert (await client.append(MESSAGE, "x")).startswith(b"NO [TRYCREATE] ")
        assert (await client.append(MESSAGE, "y")).startswith(b"OK")
        await other.ok("RENAME y z/y")
        assert (await client.append(MESSAGE, "y")).startswith(b"NO [TRYCREATE] ")
        assert (await client.append(MESSAGE, "z/y")).startswith(b"OK")
        await other.ok("RENAME z w")
        await other.ok("CREATE z/y")
        assert (await client.append(MESSAGE, "z/y")).startswith(b"OK")
        assert await client.ok("STATUS w/y (MESSAGES)") == [b'* STATUS "w/y" (MESSAGES 3)']
        assert await client.ok("STATUS z/y (MESSAGES)") == [b'* STATUS "z/y" (MESSAGES 1)']

    in_house(tmp_path, test)


@pytest.mark.parametrize("opened", ["x", "INBOX"])
def test_news_of_the_open_mailbox_are_told_before_the_answer(tmp_path: Path, opened: str) -> None:
    """Whether what is appended comes there or elsewhere, what others did there is told."""

    async def test(house: House) -> None:
        other = await house.imap()
        await other.ok("CREATE x")
        client = await house.imap(mailbox=opened)
        there = 0
        for theirs in (0, 1, 0, 1):
            for _ in range(theirs):
                await other.append(MESSAGE, opened)
            await client.send(b"a APPEND x {%d+}\r\n%b\r\n" % (len(MESSAGE), MESSAGE))
            found = await client.until(b"a ")
            assert found[-1].startswith(b"a OK [APPENDUID ")
            came = theirs + (opened == "x")
            there += came
            assert [line for line in found if b"EXISTS" in line] == ([b"* %d EXISTS" % there] if came else [])

    in_house(tmp_path, test)


def test_keywords_of_ones_own_and_of_all(tmp_path: Path) -> None:
    async def test(house: House) -> None:
        client = await house.imap(mailbox="INBOX")
        one = b"{%d+}\r\n%b" % (len(MESSAGE), MESSAGE)
        flags = (b"(\\Seen $Forwarded Own)", b"(\\Deleted \\Flagged)", b"(\\SEEN \\seen)")
        await client.send(b"a APPEND INBOX" + b"".join([b" %b %b" % (some, one) for some in flags]) + b"\r\n")
        assert b"a OK [APPENDUID " in (await client.until(b"a "))[-1]
        found = await client.ok("FETCH 1:3 (FLAGS)")
        assert [line.partition(b"FLAGS ")[2] for line in found if b" FETCH " in line] == [
            b"(\\Seen $Forwarded Own))", b"(\\Flagged \\Deleted))", b"(\\Seen))",
        ]  # fmt: skip

    in_house(tmp_path, test)
