"""STORE, COPY and MOVE of many messages: what the client hears, and what another one does."""

from pathlib import Path

from tests.doors.house import House, ImapClient, in_house, message

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
