"""What a message says, as text: for search, and as the preview that lists show.

Promises: never raises; time and memory are bounded, whatever the message (SEARCH_TEXT); what is searched is folded by
`fold`, and a query folded by it finds it. Words come out of HTML in linear time, without a tree: parsers that build
one can be made to need seconds (2.7 s for 250 KB of nested <div>).
Refuses: to show HTML; that is for a sanitiser.
"""

import html
import re
import unicodedata
from collections.abc import Iterable, Mapping
from functools import cache
from typing import Final, NamedTuple

import charset_normalizer

from posthouse.limits import SEARCH_TEXT, TEXT_IN_PLACE
from posthouse.message import mime
from posthouse.message.addresses import RawAddress, RawGroup, RawMailbox
from posthouse.message.charset import codec, decode
from posthouse.message.header import Buffer, Header
from posthouse.message.mime import Part
from posthouse.message.octets import Octets, searchable
from posthouse.message.words import decode_words

PREVIEW: Final = 256  # RFC 8621 §4.1.4: characters
_PREVIEW_FROM: Final = 8 * 1024


# UAX #15 §13: no language stacks more marks on a letter.
_MOST_MARKS: Final = 30


@cache
def _marks() -> tuple[frozenset[str], re.Pattern[str]]:
    """The characters that are marks or decompose into nothing else, and a run of too many: normalising takes time by
    its square, 6.5 s for 128 KB.
    """
    characters = [chr(code) for code in range(0x300, 0x20000)]
    marks = [one for one in characters if all(map(unicodedata.combining, unicodedata.normalize("NFKD", one)))]
    one = f"[{''.join(marks)}]"
    return frozenset(marks), re.compile(f"({one}{{{_MOST_MARKS}}}){one}+")


def fold(text: str) -> str:
    """The form in which text is searched: case and compatibility forms folded (as RFC 5051 wants), white space
    collapsed.
    """
    if text.isascii():
        text = text.lower()
        if len(text) < _SHORT and "  " not in text and text.isprintable():
            return text.strip()
    else:
        text = text.casefold()
        marks, run = _marks()
        if not marks.isdisjoint(set(text)):
            text = run.sub(r"\1", text)
        normal = unicodedata.normalize("NFKC", text)
        # Of compatibility forms capitals may come: of U+3392 "MHz".
        text = normal if normal is text else unicodedata.normalize("NFKC", normal.casefold())
    return " ".join(text.replace("\0", "").split())


# Of longer texts it takes as long to see that nothing need be done as to do it.
_SHORT: Final = 100


# The lines of a head, in this order. Folded text holds neither line ends nor tabs.
HEAD_FIELDS: Final = (b"subject", b"from", b"to", b"message-id", b"cc", b"bcc", b"reply-to", b"sender")


def head_text(header: Header, subject: str, addresses: Mapping[bytes, str]) -> str:
    """The searched form of what stands in the header, a line for each of HEAD_FIELDS, as far as the last that there is;
    at most SEARCH_TEXT characters. Several addresses or values of one field are parted by tabs. `addresses`: the
    `address_text` of each field that has some."""
    lines = [fold(subject)]
    for name in HEAD_FIELDS[1:]:
        if name == b"message-id":
            lines.append("\t".join([fold(decode_words(raw)) for raw in header.all(name)]))
        else:
            lines.append(addresses.get(name, ""))
    return "\n".join(lines).rstrip("\n")[:SEARCH_TEXT]


def address_text(addresses: Iterable[RawAddress]) -> str:
    """The searched form of the addresses of one field, each as "name local@domain"; parted by tabs."""
    lines: dict[str, None] = {}
    for item in addresses:
        for mailbox in item.members if isinstance(item, RawGroup) else (item,):
            lines[fold(_address_line(mailbox))] = None
        if isinstance(item, RawGroup):
            lines[fold(decode_words(item.name))] = None
    return "\t".join([line for line in lines if line])


def _address_line(raw: RawMailbox) -> str:
    at = b"@" if raw.domain else b""
    address = (raw.local or b"") + at + (raw.domain or b"")
    return decode_words(raw.name + b" " + address) if raw.name else decode_words(address)


def text_in_place(octets: Buffer, root: Part) -> int | None:
    """Where the body's text begins, if it stands in the octets as it is, to their end: but for the case of letters and
    for white space `body_text` would be the same. None: it has to be taken out."""
    if root.type != "text" or root.subtype == "html" or root.disposition is not None or len(root.parameters) > 1:
        return None
    if root.encoding in (b"base64", b"quoted-printable") or root.end > TEXT_IN_PLACE:
        return None
    if (charset := root.charset) and (known := codec(charset)) and known.startswith(_NOT_ASCII):
        return None
    body = bytes(octets[root.body_start : root.end])
    return root.body_start if body.isascii() and b"\0" not in body else None


class Words(NamedTuple):
    """One text of a message: the part it stands in (None: the name of an attachment, the subject of what was
    forwarded). `cut`: the part says more.
    """

    part: Part | None
    text: str
    cut: bool = False


def words(octets: Buffer, root: Part) -> list[Words]:
    """The texts of a message in order, about SEARCH_TEXT characters of them."""
    reader = _Reader(searchable(octets))
    if root.type == "text" and root.disposition is None and len(root.parameters) < 2:
        return [reader.text(root)]
    found: list[Words] = []
    for part in mime.walk(root):
        if name := part.filename:
            found.append(Words(None, name[:_LONGEST_NAME]))
        if part.message is not None:
            found.append(Words(None, reader.subject(part.message)))
        elif part.type == "text":
            found.append(reader.text(part))
    return found


# Folded text never ends so.
CUT: Final = "\n"


def body_text(found: list[Words]) -> str:
    """The searched form of the body, at most SEARCH_TEXT characters; where the message says more, CUT is the last."""
    cut = any(piece.cut for piece in found)
    if len(found) == 1:
        whole = fold(found[0].text)
    else:
        # An alternative that says the same as another is kept once.
        folded = dict.fromkeys(fold(piece.text) for piece in found)
        folded.pop("", None)
        whole = "\n".join(folded)
    return whole[: SEARCH_TEXT - 1] + CUT if cut or len(whole) > SEARCH_TEXT else whole


def preview(octets: Buffer, root: Part) -> str:
    """The beginning of what the sender wrote, on one line, at most 256 characters (RFC 8621 §4.1.4): quotations are
    left out where something else is left.
    """
    return preview_text(words(octets, root))


def preview_in_place(octets: Buffer, root: Part, at: int) -> str:
    """The same, of a text that stands in the octets as it is."""
    return preview_text([Words(root, bytes(octets[at : at + _PREVIEW_FROM]).decode("ascii"))])


def preview_text(found: list[Words]) -> str:
    """The same, from words already found: of the part that a reader sees first, plain text before HTML."""
    best: Words | None = None
    for candidate in found:
        part = candidate.part
        if part is None or part.is_attachment or not candidate.text.strip():
            continue
        if part.subtype == "plain":
            best = candidate
            break
        if best is None or best.part is None or (part.subtype == "html" and best.part.subtype != "html"):
            best = candidate
    if best is None or best.part is None:
        return ""
    text = best.text[:_PREVIEW_FROM]
    return _shortened(text if best.part.subtype == "html" else _unquoted(text))


_LONGEST_QUOTED: Final = 200  # lines looked at


def _unquoted(text: str) -> str:
    """Without lines that quote, the line that announces them, and what follows the signature's mark."""
    kept: list[str] = []
    size = 0
    for line in text.split("\n", _LONGEST_QUOTED)[:_LONGEST_QUOTED]:
        if line.startswith(">"):
            if kept and kept[-1].endswith(":"):  # "On Monday Alice wrote:"
                size -= len(kept.pop())
            continue
        line = line.strip()
        if line == "--":
            break
        if line:
            kept.append(line)
            size += len(line)
        if size > 2 * PREVIEW:
            break
    return " ".join(kept) or text


# White space, and the invisible letters that newsletters put behind their first words to push the rest out of the
# preview.
_FILLER = re.compile(r"[\s\u00ad\u034f\u200b-\u200f\u2060\u2800\u3164\ufeff]{2,}")
_PRINTABLE_FILLER: Final = ("\u034f", "\u2800", "\u3164")  # all others are not printable
# Control characters, and those that turn the direction of the text around them.
_CONTROL = re.compile(r"[\x00-\x08\x0e-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


def _shortened(text: str) -> str:
    text = " ".join(text[: 8 * PREVIEW].split())[: 4 * PREVIEW]
    shown = text[: PREVIEW + 2]
    if shown.isascii() and shown.isprintable():
        # Whatever comes behind, so much of it stays.
        return shown if len(shown) <= PREVIEW else shown[: PREVIEW - 1] + "…"
    if not text.isprintable() or any(letter in text for letter in _PRINTABLE_FILLER):
        text = _FILLER.sub(" ", _CONTROL.sub("", text)).strip()
    return text if len(text) <= PREVIEW else text[: PREVIEW - 1] + "…"


# Charsets in which octets below 128 may mean something else.
_NOT_ASCII: Final = (
    "utf_7",
    "utf_16",
    "utf_32",
    "iso2022",
    "hz",
    "johab",
    "cp037",
    "cp500",
    "cp875",
    "cp1026",
    "cp1140",
)
_LONGEST_NAME: Final = 1000
_ASCII: Final = bytes(range(128))
_GUESSED_FROM: Final = 2048
_GUESSED_LEAST: Final = 10  # octets that are not ASCII; fewer tell nothing
# What undeclared text is taken for; the guesser knows more, and takes short texts for EBCDIC.
_GUESSED: Final = [
    "cp1250",
    "cp1251",
    "cp1252",
    "cp1253",
    "cp1254",
    "cp1255",
    "cp1256",
    "cp874",
    "koi8_r",
    "cp932",
    "euc_jp",
    "gb18030",
    "big5",
    "cp949",
]


class _Reader:
    """Takes the texts out of one message.

    Octets are read as far as all of them together stay within bounds; a charset is guessed once, because that costs
    milliseconds and a message has one sender.
    """

    __slots__ = ("_guess", "_left", "_source")

    def __init__(self, source: Octets) -> None:
        self._source = source
        self._left = 4 * SEARCH_TEXT  # HTML and base64 have more octets than text
        self._guess: str | None = None

    def subject(self, message: Part) -> str:
        header = Header.parse(self._source, message.header_start, message.body_start)
        return decode_words(header.first(b"subject") or b"")

    def text(self, part: Part) -> Words:
        """The text of a text part, HTML without its tags."""
        limit = min(SEARCH_TEXT, self._left)
        octets = self._prefix(part, limit)
        self._left -= len(octets)
        text = self._decoded(part, octets)
        # Where the limit was met exactly, it may have been the end; whoever searches looks then.
        return Words(part, from_html(text) if part.subtype == "html" else text, len(octets) >= limit)

    def _decoded(self, part: Part, octets: bytes) -> str:
        charset = part.charset
        known = codec(charset) if charset else "ascii"
        if known is None or known == "ascii":
            return octets.decode() if octets.isascii() else self._undeclared(octets)
        if octets.isascii() and not known.startswith(_NOT_ASCII):
            return octets.decode()
        return decode(octets, charset)

    def _prefix(self, part: Part, limit: int) -> bytes:
        if part.encoding not in (b"base64", b"quoted-printable"):
            return self._source[part.body_start : min(part.end, part.body_start + limit)]
        held = b""
        for piece in mime.decode_pieces(self._source, part):
            held = held + piece if held else piece
            if len(held) >= limit:
                return held[:limit]
        return held

    def _undeclared(self, octets: bytes) -> str:
        try:
            return octets.decode()
        except UnicodeDecodeError as error:
            if error.end == len(octets) >= SEARCH_TEXT:  # a character that our limit has cut
                return octets[: error.start].decode()
        if self._guess is None:
            self._guess = _guessed(octets[:_GUESSED_FROM])
        return decode(octets, self._guess)


def _guessed(octets: bytes) -> str:
    if len(octets.translate(None, _ASCII)) < _GUESSED_LEAST:
        return "cp1252"
    best = charset_normalizer.from_bytes(octets, cp_isolation=list(_GUESSED)).best()
    return best.encoding if best is not None else "cp1252"


# What is between these is not shown. One that is not closed hides the rest, as it does in a browser.
_HIDDEN = re.compile(rb"<(?:!--|(style|script|title)\b)")
# A tag, with ">" inside quotes; or what begins like one. Possessive: a stranger's HTML takes linear time.
_IN_TAG = rb"""(?:[^<>"']++|"[^"]*+"|'[^']*+')*+"""
_TAG = re.compile(rb"</?[A-Za-z]%b>|<[/!?A-Za-z][^<>]*+>?" % _IN_TAG)
# Elements that do not part the letters of a word; all others do.
_INLINE = re.compile(rb"</?(?:[abiusABIUS]|em|EM|span|SPAN|font|FONT|strong|STRONG)(?:\s%b)?>" % _IN_TAG)
_ENDLESS_NUMBER = re.compile(r"&#[xX]?[0-9a-fA-F]{9,};?")


def from_html(markup: str) -> str:
    """The words of an HTML document, in the order they stand."""
    octets = _without_hidden(markup.encode("utf-8", "replace"))
    shown = _TAG.sub(b" ", _INLINE.sub(b"", octets)).decode()
    if "&" in shown:
        shown = html.unescape(_ENDLESS_NUMBER.sub("", shown))
    return shown


def _without_hidden(octets: bytes) -> bytes:
    """Without comments, styles, scripts and the title."""
    lowered = octets.lower()
    kept: list[bytes] = []
    at = 0
    for match in _HIDDEN.finditer(lowered):
        if match.start() < at:
            continue
        kept.append(octets[at : match.start()])
        closing = b"-->" if match[1] is None else b"</" + match[1]
        end = lowered.find(closing, match.end())
        if end < 0:
            return b" ".join(kept)
        at = end if match[1] is not None else end + 3  # the closing tag is taken out with all others
    if not kept:
        return octets
    kept.append(octets[at:])
    return b" ".join(kept)
