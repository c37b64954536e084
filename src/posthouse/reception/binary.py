"""BODY=BINARYMIME (RFC 3030 §3): any octets are taken, and what is no text is made text before it is stored.

Promises: what readers decode from the stored message is what was sent, part for part; parts that are no text come in
base64, the others stay octet for octet. From here on the message is an 8BITMIME one: IMAP, POP3 and every other server
can carry it. Refuses: messages that cannot be so changed without breaking them (signed or encrypted parts, octets that
are no text outside of parts).
"""

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from typing import Final

from posthouse import limits
from posthouse.message.convert import NotConvertible, convert, is_binary
from posthouse.reception.intake import NO_ROOM, Intake, owner_of
from posthouse.store.blobs import Blobs, Buffer, SpoolFull
from posthouse.terms.reply import Refusal

# How much larger base64 makes a message: 78 octets for 57.
GROWTH: Final = 78 / 57
_BATCH: Final = limits.MB


async def as_text(blobs: Blobs, intake: Intake) -> None:
    """Make the message of the intake one that 8BITMIME carries. Raises Refusal."""
    pieces = await asyncio.to_thread(_converted, intake.spool.buffer())
    if pieces is not None:
        try:
            spool = blobs.spool(owner_of(intake.facts))
        except SpoolFull:
            raise Refusal(NO_ROOM.code, NO_ROOM.enhanced, NO_ROOM.text) from None
        try:
            while batch := await asyncio.to_thread(_some, pieces):
                spool.write(batch)
        except SpoolFull:
            spool.discard()
            raise Refusal(NO_ROOM.code, NO_ROOM.enhanced, NO_ROOM.text) from None
        except BaseException:
            spool.discard()
            raise
        intake.spool.discard()
        intake.spool = spool
    intake.envelope = replace(intake.envelope, wishes=replace(intake.envelope.wishes, body="8BITMIME"))


def _converted(octets: Buffer) -> Iterator[bytes] | None:
    """The message in pieces; None: it is text as it is. Raises Refusal."""
    if not is_binary(octets):
        return None
    try:
        # Whoever verified its signatures has done so: the message came as it was signed.
        return convert(octets, eight_bit=True, signed=True)
    except NotConvertible as error:
        # RFC 3463 §3.7
        enhanced = "5.6.2" if error.prohibited else "5.6.3"
        raise Refusal(554, enhanced, f"This binary message cannot be made text: {error}") from None


def _some(pieces: Iterator[bytes]) -> bytes:
    """The next pieces together; b"" behind the last one."""
    gathered: list[bytes] = []
    size = 0
    for piece in pieces:
        gathered.append(piece)
        size += len(piece)
        if size >= _BATCH:
            break
    return b"".join(gathered)
