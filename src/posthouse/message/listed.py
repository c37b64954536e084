"""What a mailing list makes of a message before its members get it (RFC 2369, 2919; RFC 6377 on DKIM).

Promises: the body is left octet by octet as its writer signed it, unless a footer is asked for; of the header only the
fields of other lists go, and those change that are asked to. Refuses: to decide what is asked for.
"""

import re
from dataclasses import dataclass
from typing import Final

from posthouse.message import build, mime
from posthouse.message.addresses import Mailbox
from posthouse.message.header import Header, decode_words
from posthouse.terms.address import Address

# Of another list, or of this one on an earlier round.
_OTHERS: Final = (
    b"list-id", b"list-post", b"list-help", b"list-subscribe", b"list-unsubscribe", b"list-unsubscribe-post",
    b"list-owner", b"list-archive", b"precedence",
)  # fmt: skip
# What `fields` and `way_out` write; Delivered-To stands in front of it.
_WRITTEN: Final = (
    b"delivered-to", b"list-id", b"list-post", b"list-help", b"list-subscribe", b"list-unsubscribe", b"list-owner",
    b"precedence",
)  # fmt: skip
_PLAIN: Final = ("us-ascii", "utf-8")


@dataclass(frozen=True, slots=True)
class Edit:
    """What the list asks for. `author` stands in From in the writer's place; None: the writer stays there.

    `reply_to`: where answers go; () leaves that to the writer. `subject_tag` and `footer`: "" for nothing.
    """

    title: str
    post: Address
    owner: Address
    request: Address
    author: Mailbox | None = None
    reply_to: tuple[Mailbox, ...] = ()
    subject_tag: str = ""
    footer: str = ""

    def touches(self, present: frozenset[bytes]) -> frozenset[bytes]:
        """The fields that a message with those `present` comes to differ in: a signature that names one of them does
        not hold (RFC 6376 §5.4: a field that is named and not there must stay away)."""
        changed = {*_WRITTEN, *present.intersection(_OTHERS)}
        changed |= {b"reply-to"} if self.reply_to else set()
        changed |= {b"subject"} if self.subject_tag else set()
        changed |= {b"from"} if self.author is not None else set()
        return frozenset(changed)


def list_id(address: Address) -> str:
    """What a list is known by for ever (RFC 2919 §2): "team.example.org"."""
    return f"{address.local}.{address.domain}".lower()


def list_ids(header: Header) -> tuple[str, ...]:
    """The lists that a message came by: what stands between the last brackets of each List-Id (RFC 2919 §3)."""
    values = [decode_words(value) for value in header.all(b"list-id")]
    return tuple([value.rpartition("<")[2].partition(">")[0].strip().lower() for value in values])


def for_members(octets: bytes, edit: Edit) -> bytes:
    """The message as the members get it; the list's own fields go in front of it (`fields`)."""
    header = Header.parse(octets)
    head, body = octets[: header.end], octets[header.end :]
    removed = [*_OTHERS]
    added: list[bytes] = []
    if edit.author is not None:
        removed.append(b"from")
        added.append(build.address_field("From", [edit.author]))
    if edit.reply_to:
        removed.append(b"reply-to")
        added.append(build.address_field("Reply-To", edit.reply_to))
    if edit.subject_tag and (subject := _tagged(header, edit.subject_tag)) is not None:
        removed.append(b"subject")
        added.append(build.field("Subject", subject))
    if edit.footer and head.endswith(_ENDS):
        body += _footer(octets, edit.footer)
    return build.edit_header(head, remove=removed, add=added) + body


def fields(edit: Edit, *, closed: bool = False) -> bytes:
    """What stands in front of each copy beside the `way_out`: the list's name and addresses. `closed`: members do not
    post."""
    # What looks like an encoded word would have all of the field encoded, the list's name with it.
    title = re.sub(r"=+(?=\?)", "", re.sub(r'[^ -~]|[<>"\\]', "", edit.title)).strip()
    phrase = f'"{title}" ' if title else ""
    request = _in_uri(edit.request)
    return b"".join(
        [
            build.field("List-Id", f"{phrase}<{list_id(edit.post)}>"),
            # RFC 2369 §3.4
            build.field("List-Post", "NO" if closed else f"<mailto:{_in_uri(edit.post)}>"),
            build.field("List-Help", f"<mailto:{request}?subject=help>"),
            build.field("List-Subscribe", f"<mailto:{request}?subject=subscribe>"),
            build.field("List-Owner", f"<mailto:{_in_uri(edit.owner)}>"),
            # RFC 3834 §5 and much software take this for a reason not to answer.
            b"Precedence: list\r\n",
        ]
    )


def way_out(unsubscribe: Address, https: str | None = None) -> bytes:
    """How a member leaves: his own address for that; and with `https`, where one click takes him off the list, RFC 8058
    §3.1 besides."""
    out = f"<mailto:{_in_uri(unsubscribe)}>"
    click = b"List-Unsubscribe-Post: List-Unsubscribe=One-Click\r\n" if https else b""
    return build.field("List-Unsubscribe", f"<{https}>, {out}" if https else out) + click


def _in_uri(address: Address) -> str:
    """RFC 6068 §2."""
    return re.sub(r"[^A-Za-z0-9!$'*+,.:;@_~=-]", _percent, str(address))


def _percent(match: re.Match[str]) -> str:
    return "".join([f"%{octet:02X}" for octet in match[0].encode()])


def _tagged(header: Header, tag: str) -> str | None:
    """The subject with the tag in front; None where it stands there already."""
    subject = decode_words(header.first(b"subject") or b"")
    return None if tag.casefold() in subject.casefold() else f"{tag} {subject}".strip()


def _footer(octets: bytes, footer: str) -> bytes:
    """What goes below the text; b"" where the message is no plain text that anything can be put below."""
    root = mime.scan(octets)
    charset = (root.charset or "us-ascii").lower()
    if (root.type, root.subtype) != ("text", "plain") or charset not in _PLAIN or root.encoding not in _UNENCODED:
        return b""
    text = re.sub(r"\r\n|\r|\n", "\r\n", footer.rstrip())
    if not text.isascii() and (charset == "us-ascii" or root.encoding == b"7bit"):
        return b""
    ending = b"" if octets.endswith(b"\r\n") else b"\r\n"
    return ending + f"-- \r\n{text}\r\n".encode()


_UNENCODED: Final = (b"7bit", b"8bit")
# How a header ends that a body can follow.
_ENDS: Final = (b"\n\r\n", b"\n\n")
