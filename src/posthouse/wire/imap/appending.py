"""What follows the mailbox of an APPEND or REPLACE (RFC 9051 §9, RFC 3502, RFC 4469, RFC 8508, RFC 9755 §4).

Promises: the arguments are read up to one message's octets after the other, each of which ends what is read at once.
What is announced without octets to follow (a part by its URL, the end of a message) comes in its place in the order.
Refuses: to frame, and to know how large a message may be.
"""

import re

from posthouse.wire.imap.event import AppendEnd, MessageEnd
from posthouse.wire.imap.grammar import Parser
from posthouse.wire.imap.request import AppendMessage, AppendText, AppendUrl, CatenatedMessage

# RFC 9051 §9: literal, and literal8 with its tilde, at the end of what has come.
_ANNOUNCED = re.compile(rb"(~?)\{([0-9]{1,19})\+?\}\Z")
# A URL is an astring (RFC 4469 §5), so it may come as a literal: that one belongs to the arguments.
_CATENATE = re.compile(rb" CATENATE \(", re.IGNORECASE)
_URL_LITERAL = re.compile(rb"[ (]URL \{[0-9]{1,19}\+?\}\Z", re.IGNORECASE)

Announced = AppendMessage | CatenatedMessage | AppendText | AppendUrl | MessageEnd | AppendEnd


def announces_url(line: bytes) -> bool:
    """Does the literal at the end of this line hold a URL, if the line stands within CATENATE?"""
    return _URL_LITERAL.search(line) is not None


def begins_catenate(octets: bytes) -> bool:
    """Does a message that is made of parts begin in these arguments?"""
    return _CATENATE.search(octets) is not None


class Arguments:
    """Reads them, as they come. `several`: more than one message may be named (MULTIAPPEND)."""

    __slots__ = ("_begun", "_closes", "_several", "catenating")

    def __init__(self, *, several: bool) -> None:
        self._several = several
        self._begun = False
        # What has to stand behind the octets that came last.
        self._closes = b""
        # Inside the parentheses of CATENATE.
        self.catenating = False

    def read(self, parser: Parser) -> list[Announced]:
        """What stands between the cursor and the end of what has come. Octets are to follow where the last of it is an
        AppendMessage or AppendText. Raises ParseError.
        """
        parser.expect(self._closes, "a closing parenthesis")
        self._closes = b""
        found: list[Announced] = []
        while True:
            if self.catenating and not _opens(found) and parser.accept(b")"):
                self.catenating = False
                found.append(MessageEnd())
            elif self.catenating:
                if not _opens(found):
                    parser.space()
                found.append(self._part(parser))
            elif self._begun and parser.at == len(parser.octets):
                return [*found, AppendEnd()]
            else:
                if self._begun and not self._several:
                    parser.end()
                found.append(self._message(parser))
            if isinstance(found[-1], AppendMessage | AppendText):
                return found

    def _message(self, parser: Parser) -> AppendMessage | CatenatedMessage:
        if not self._begun and parser.at == len(parser.octets):
            parser.fail("a message as a literal")
        parser.space()
        if self._begun:
            parser.accept(b" ")  # Python's IMAPClient (4.1) writes two spaces between the messages of a MULTIAPPEND
        self._begun = True
        flags: tuple[str, ...] = ()
        if parser.sees(b"("):
            flags = parser.flag_list()
            parser.space()
        received_at = None
        if parser.sees(b'"'):
            received_at = parser.date_time()
            parser.space()
        if parser.octets[parser.at : parser.at + 10].upper() == b"CATENATE (":
            parser.at += 10
            self.catenating = True
            return CatenatedMessage(flags, received_at)
        utf8 = self._opens_utf8(parser)
        size, binary = _literal(parser)
        return AppendMessage(flags, received_at, size, binary, utf8)

    def _part(self, parser: Parser) -> AppendText | AppendUrl:
        # RFC 4469 §5 cat-part, with RFC 9755 §4's.
        if self._opens_utf8(parser):
            return AppendText(*_literal(parser))
        start = parser.at
        word = parser.keyword()
        if word not in (b"TEXT", b"URL"):
            parser.at = start
            parser.fail("TEXT or URL")
        parser.space()
        return AppendText(*_literal(parser)) if word == b"TEXT" else AppendUrl(parser.astring())

    def _opens_utf8(self, parser: Parser) -> bool:
        # RFC 9755 §4: only after ENABLE.
        if not parser.utf8 or parser.octets[parser.at : parser.at + 6].upper() != b"UTF8 (":
            return False
        parser.at += 6
        self._closes = b")"
        return True


def _opens(found: list[Announced]) -> bool:
    """Has CATENATE's parenthesis just been opened?"""
    return bool(found) and isinstance(found[-1], CatenatedMessage)


def _literal(parser: Parser) -> tuple[int, bool]:
    """Size, and whether it is a literal8. Raises ParseError."""
    literal = parser.match(_ANNOUNCED, "a message as a literal")
    return int(literal.group(2)), bool(literal.group(1))
