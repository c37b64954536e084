"""No message inside a message: the ends of DATA that other servers were fooled by, through the door."""

import asyncio
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.harness import Client, House, house
from tests.support import run

BOB = "bob@home.example"
# RFC 5321 §4.1.1.4: only CRLF . CRLF ends a message. Each of these was taken for it by some server (CVE-2023-51764,
# 51765, 51766 among them), or is near enough to be tried.
ENDS = [
    b"\n.\n", b"\n.\r\n", b"\r\n.\n", b"\r.\r", b"\r.\r\n", b"\r\n.\r", b"\r.\n", b"\n.\r", b"\r\n\0.\r\n",
    b"\r\n.\0\r\n", b"\r\0\n.\r\n", b"\r\n.\r\0\n", b"\r\n.\r\r\n", b"\n\n.\r\n", b"\r\n..\r\n",
    b"\r\n. \r\n", b"\r\n.\x1a\r\n", b"\x85.\x85", b"\xe2\x80\xa8.\xe2\x80\xa8", b"\x0b.\x0b", b"\x0c.\x0c",
]  # fmt: skip
INSIDE = (
    b"MAIL FROM:<admin@home.example>\r\nRCPT TO:<%s>\r\nDATA\r\nSubject: smuggled\r\n\r\nHa!\r\n.\r\n" % BOB.encode()
)
HEAD = b"From: <eve@far.example>\r\nSubject: outer\r\n\r\nHello"


async def send(client: Client, pieces: Sequence[bytes]) -> str:
    """A message in these pieces; all that is said behind it, as far as the answer to NOOP's stranger, HELP."""
    await client.envelope("eve@far.example", [BOB])
    await client.say("DATA")
    for piece in pieces:
        client.write(piece)
        await asyncio.sleep(0)
    client.write(b"QUIT\r\n")
    client.writer.write_eof()
    return (await client.reader.read()).decode()


def cut(octets: bytes, pieces: str) -> list[bytes]:
    """Whole; octet by octet around the trick; or with a pause just before and just behind it."""
    if pieces == "whole":
        return [octets]
    if pieces == "octets":
        return [octets[at : at + 1] for at in range(len(octets))]
    at = len(HEAD)
    return [octets[:at], octets[at : at + 1], octets[at + 1 : at + 3], octets[at + 3 :]]


@pytest.mark.parametrize("pieces", ["whole", "octets", "around"])
def test_nothing_but_crlf_dot_crlf_ends_a_message(tmp_path: Path, pieces: str) -> None:
    async def one(home: House, end: bytes) -> tuple[bytes, list[str]]:
        said = await send(await home.connect("smtp"), cut(HEAD + end + INSIDE, pieces))
        return end, [line[:3] for line in said.splitlines()]

    async def main() -> None:
        async with house(tmp_path) as home:
            await home.people(BOB)
            for end, codes in await asyncio.gather(*(one(home, end) for end in ENDS)):
                # One message: taken with all that is in it, or refused with it; then QUIT.
                assert codes in (["250", "221"], ["554", "221"]), (end, codes)
            for message in await home.mail(BOB):
                assert message.count(b"\r\nReceived: ") == 1
                assert b"Subject: outer" in message.partition(b"\r\n\r\n")[0]
            assert await home.queued() == []

    run(main())


@pytest.mark.parametrize("end", [b"\r\r\n.\r\n", b"\n\r\n.\r\n", b"\0\r\n.\r\n"])
def test_an_end_that_all_see_is_one_whatever_stands_in_front_of_it(tmp_path: Path, end: bytes) -> None:
    """Then nothing is hidden: what follows are commands in the open, behind an answer."""

    async def main() -> None:
        async with house(tmp_path) as home:
            await home.people(BOB)
            said = await send(await home.connect("smtp"), [HEAD + end])
            assert [line[:3] for line in said.splitlines()] == ["250" if b"\0" in end else "554", "221"]

    run(main())


@pytest.mark.parametrize("door", ["lmtp", "submission"])
def test_the_other_doors_are_not_fooled_either(tmp_path: Path, door: str) -> None:
    async def one(home: House, end: bytes) -> str:
        client = await home.connect(door)
        if door == "submission":
            await client.say("EHLO x", "AUTH PLAIN AGJvYkBob21lLmV4YW1wbGUAc2VjcmV0IG9mIG5vYm9keQ==")
            await client.say(f"MAIL FROM:<{BOB}>", f"RCPT TO:<{BOB}>")
        else:
            await client.envelope("eve@far.example", [BOB], hello="LHLO x")
        await client.say("DATA")
        client.write(b"From: <%s>\r\nSubject: outer\r\n\r\nHello" % BOB.encode() + end + INSIDE)
        return (await client.reply())[:3]

    async def main() -> None:
        async with house(tmp_path) as home:
            await home.people(BOB)
            said = await asyncio.gather(*(one(home, end) for end in ENDS))
            assert set(said) <= {"250", "554"}
            for message in await home.mail(BOB):
                assert b"Subject: outer" in message.partition(b"\r\n\r\n")[0]

    run(main())
