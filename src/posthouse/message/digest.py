"""A digest: several messages in one, behind a table of contents (RFC 2046 §5.1.5).

Promises: it is made in pieces, so that nobody need hold all of it; each message is in it octet by octet, or, where it
could not travel inside another as it is, as a file. Refuses: to choose what stands in it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from posthouse.message import build
from posthouse.message.addresses import Mailbox


@dataclass(frozen=True, slots=True)
class Cover:
    """What stands in front of the messages. `at`: UTC milliseconds; `eight_bit`: one of the messages is not ASCII."""

    sender: Mailbox
    to: Mailbox
    reply_to: Mailbox
    subject: str
    text: str
    at: int
    message_id: str
    eight_bit: bool


def beginning(cover: Cover) -> bytes:
    """The header, and the table of contents; `part` for each of the messages and `ending` follow."""
    outer, inner = _boundaries(cover)
    encoding = b"Content-Transfer-Encoding: 8bit\r\n" if cover.eight_bit else b""  # RFC 2045 §6.4
    return b"".join(
        [
            build.address_field("From", [cover.sender]),
            build.address_field("To", [cover.to]),
            build.address_field("Reply-To", [cover.reply_to]),
            build.field("Subject", cover.subject),
            build.date_field(cover.at),
            build.message_id_field(cover.message_id),
            b"Auto-Submitted: auto-generated\r\n",  # RFC 3834 §5.1: nobody wrote it by hand
            b"MIME-Version: 1.0\r\n",
            encoding,
            b'Content-Type: multipart/mixed;\r\n boundary="%b"\r\n\r\n' % outer,
            b"--%b\r\n" % outer,
            *build.text_part(cover.text, outer),
            b"\r\n--%b\r\n" % outer,
            encoding,
            b'Content-Type: multipart/digest;\r\n boundary="%b"\r\n\r\n' % inner,
        ]
    )


def part(cover: Cover, octets: bytes) -> bytes:
    """One of the messages, as it stands in the digest."""
    _, inner = _boundaries(cover)
    return b"".join([b"--%b\r\n" % inner, *build.message_part(octets), b"\r\n"])


def ending(cover: Cover) -> bytes:
    """What stands behind the messages."""
    outer, inner = _boundaries(cover)
    return b"--%b--\r\n\r\n--%b--\r\n" % (inner, outer)


def contents(entries: Sequence[tuple[str, str]]) -> str:
    """A table of contents: of each message its subject and author."""
    return "".join(
        f"{number:>4}. {subject}{f' ({author})' if author else ''}\n"
        for number, (subject, author) in enumerate(entries, 1)
    )


def _boundaries(cover: Cover) -> tuple[bytes, bytes]:
    return build.make_boundary(f"{cover.message_id} outer"), build.make_boundary(f"{cover.message_id} inner")
