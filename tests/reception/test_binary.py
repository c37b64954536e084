"""Binary messages, which are stored as text."""

from base64 import b64decode
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest

from posthouse.limits import KB, MB
from posthouse.message import mime
from posthouse.terms.envelope import Wishes
from posthouse.terms.reply import Refusal
from tests.reception.support import Desk, desk
from tests.support import run

HEAD = (
    b"Subject: Bits\r\nMIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n"
    b"--b\r\nContent-Type: text/plain\r\n\r\nSee below\r\n"
    b"--b\r\nContent-Type: application/octet-stream\r\nContent-Transfer-Encoding: binary\r\n\r\n"
)
TAIL = b"\r\n--b--\r\n"


async def take(there: Desk, message: bytes) -> list[str]:
    """Take a message that was announced as binary."""
    intake = await there.begin("bob")
    intake.envelope = replace(intake.envelope, wishes=Wishes(body="BINARYMIME"))
    for at in range(0, len(message), 100 * KB):
        intake.write(message[at : at + 100 * KB])
    return [str(reply).split(" Taken")[0] for reply in await there.finish(intake)]


@pytest.mark.parametrize("size", [10, 3000, 3 * MB])
def test_what_is_read_is_what_was_sent(tmp_path: Path, size: int) -> None:
    octets = b"\0\n\r" + Random(size).randbytes(size)

    async def main() -> None:
        async with desk(tmp_path) as there:
            await there.people("bob")
            assert await take(there, HEAD + octets + TAIL) == ["250 2.0.0"]
            (stored,) = await there.mail("bob")
            text, bits = mime.scan(stored).children
            assert bytes(mime.decode_body(stored, bits)) == octets
            assert stored[text.body_start : text.end] == b"See below"
            assert max(map(len, stored.split(b"\r\n"))) < 1000
            assert stored.count(b"\n") == stored.count(b"\r\n")
            assert b64decode(stored[bits.body_start : bits.end]) == octets

    run(main())


def test_text_stays_as_it_came(tmp_path: Path) -> None:
    async def main() -> None:
        async with desk(tmp_path) as there:
            await there.people("bob")
            message = HEAD.replace(b"binary", b"8bit") + "é".encode() + TAIL
            assert await take(there, message) == ["250 2.0.0"]
            (stored,) = await there.mail("bob")
            assert stored.endswith(message)

    run(main())


def test_a_signature_of_its_domain_does_not_keep_a_message_out(tmp_path: Path) -> None:
    async def main() -> None:
        async with desk(tmp_path) as there:
            await there.people("bob")
            assert await take(there, b"DKIM-Signature: v=1\r\n" + HEAD + b"\0" + TAIL) == ["250 2.0.0"]

    run(main())


def test_what_cannot_be_text_is_refused(tmp_path: Path) -> None:
    async def main() -> None:
        async with desk(tmp_path) as there:
            await there.people("bob")
            (reply,) = await take(there, b"X: \0\r\n" + HEAD + b"\0" + TAIL)
            assert reply.startswith("554 5.6.3 ")
            sealed = HEAD.replace(b"multipart/mixed", b"multipart/signed")
            (reply,) = await take(there, sealed + b"\0" + TAIL)
            assert reply.startswith("554 5.6.2 ")
            assert await there.mail("bob") == []

    run(main())


def test_room_is_asked_for_both_forms(tmp_path: Path) -> None:
    async def main() -> None:
        async with desk(tmp_path, memory=100 * KB, disk=100 * KB) as there:
            await there.people("bob")
            there.reception.check_size(60 * KB)
            with pytest.raises(Refusal) as refused:
                there.reception.check_conversion(60 * KB)
            assert (refused.value.reply.code, refused.value.reply.enhanced) == (455, "4.3.1")
            # Whoever did not say how large it is hears it at the end, and nothing is left behind.
            (reply,) = await take(there, HEAD + b"\0" * 60 * KB + TAIL)
            assert reply.startswith("452 4.3.1 ")
            there.reception.check_size(90 * KB)

    run(main())
