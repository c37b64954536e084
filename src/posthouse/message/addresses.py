"""Lists of addresses in header fields: RFC 5322 §3.4, with its obsolete forms (§4.4) and what broken mail makes of
them.

Promises: never raises; what stands in the field comes out, in order: people, groups, names without an address. A
comment becomes the name where there is no other. Groups, brackets, quotes and comments that are not closed end where
the field ends.
Refuses: to judge whether an address can be mailed to; that is terms/address.py.
"""

import re
from dataclasses import dataclass
from typing import Final, NamedTuple, TypeAlias

from posthouse.limits import HEADER_ADDRESSES
from posthouse.message.charset import undeclared
from posthouse.message.words import decode_words


@dataclass(frozen=True, slots=True)
class Mailbox:
    """One person as RFC 5322 §3.4 means it: `name` decoded ("" where there is none); `domain` "" where it is
    missing.
    """

    name: str
    local: str
    domain: str

    @property
    def address(self) -> str:
        """`local@domain`, the local part unquoted; just the local part where there is no domain."""
        return f"{self.local}@{self.domain}" if self.domain else self.local


@dataclass(frozen=True, slots=True)
class Group:
    """A named group (RFC 5322 §3.4), perhaps without members: "undisclosed-recipients:;"."""

    name: str
    members: tuple[Mailbox, ...]


class RawMailbox(NamedTuple):
    """The same as octets, unquoted but not decoded: what IMAP's ENVELOPE shows. None: it is not there."""

    name: bytes | None
    route: bytes | None
    local: bytes | None
    domain: bytes | None


class RawGroup(NamedTuple):
    name: bytes
    members: list[RawMailbox]


RawAddress: TypeAlias = RawMailbox | RawGroup


def parse_addresses(raw: bytes) -> list[Mailbox | Group]:
    """The people and groups in an unfolded value."""
    return [_decoded_group(item) if isinstance(item, RawGroup) else _decoded(item) for item in split_addresses(raw)]


def _decoded_group(group: RawGroup) -> Group:
    return Group(decode_words(group.name), tuple(_decoded(member) for member in group.members))


def _decoded(raw: RawMailbox) -> Mailbox:
    return Mailbox(decode_words(raw.name or b""), undeclared(raw.local or b""), undeclared(raw.domain or b""))


_PLAIN = rb'[^\s"(),:;<>@\[\]\\]++'
# The two forms nearly all mail uses: [name] <local@domain>, and local@domain. Possessive: a stranger's field takes
# linear time (white space in front may be of a phrase too, and 16 KB of it took 3.4 s).
_COMMON = re.compile(
    rb'\s*+(?:(?:"([^"\\]*+)"\s*+|([^"(),:;<>@\[\]\\]*+))<(%b)@(%b)>|(%b)@(%b))\s*+(?:,|\Z)'
    % (_PLAIN, _PLAIN, _PLAIN, _PLAIN)
)


def split_addresses(raw: bytes) -> list[RawAddress]:
    """The people and groups in an unfolded value, not decoded. At most HEADER_ADDRESSES of them."""
    found: list[RawAddress] = []
    at, end, match_at = 0, len(raw), _COMMON.match
    while at < end:
        match = match_at(raw, at)
        if match is None:
            return _Parser(raw).parse()
        quoted, phrase, local, domain, bare, bare_domain = match.groups()
        if bare is not None:
            found.append(RawMailbox(None, None, bare, bare_domain))
        else:
            name = quoted if phrase is None else phrase.strip()
            found.append(RawMailbox(name or None, None, local, domain))
        if len(found) == HEADER_ADDRESSES:
            break
        at = match.end()
    return found


_TOKEN = re.compile(rb'\s+|"((?:[^"\\]|\\.)*)"?|\[[^\]]*\]?|[<>,;:@()]|[^\s"\[<>,;:@()]+', re.DOTALL)
_PARENTHESIS = re.compile(rb"\\.|[()]", re.DOTALL)
_ESCAPE = re.compile(rb"\\(.)", re.DOTALL)
_SPACE: Final = b" "


class _Parser:
    """The full grammar, one token after the other, for what the common forms do not cover.

    `_words` is what was met since the last comma: texts, with _SPACE between those that white space parts and b"@"
    for the sign; `_angle` the same between brackets. `_signed` and `_angle_signed`: the sign is among them. Each token
    costs the same, however many came before it.
    """

    def __init__(self, raw: bytes) -> None:
        self._raw = raw
        self._found: list[RawAddress] = []
        self._group: RawGroup | None = None
        self._words: list[bytes] = []
        self._angle: list[bytes] | None = None
        self._signed = False
        self._angle_signed = False
        self._open = False
        self._comment: bytes | None = None
        self._count = 0

    def parse(self) -> list[RawAddress]:
        at = 0
        while at < len(self._raw) and self._count < HEADER_ADDRESSES:
            match = _TOKEN.match(self._raw, at)
            if match is None:
                break
            at = match.end()
            token = match[0]
            if match[1] is not None:
                self._add(_ESCAPE.sub(rb"\1", match[1]))
            elif token == b"(":
                at = self._read_comment(at)
            elif token.isspace():
                self._add(_SPACE)
            elif len(token) == 1:
                self._special(token)
            else:
                self._add(token)
        self._finish()
        return self._found

    def _add(self, text: bytes) -> None:
        (self._angle if self._open and self._angle is not None else self._words).append(text)

    def _read_comment(self, at: int) -> int:
        """RFC 5322 §3.2.2: comments nest. Returns where this one ends."""
        depth, start = 1, at
        for match in _PARENTHESIS.finditer(self._raw, at):
            depth += {b"(": 1, b")": -1}.get(match[0], 0)
            at = match.end()
            if not depth:
                break
        else:
            at = len(self._raw)
        self._comment = _ESCAPE.sub(rb"\1", self._raw[start : at - (not depth)]).strip()
        self._add(_SPACE)
        return at

    def _special(self, token: bytes) -> None:
        if token == b"<":
            self._angle, self._open, self._angle_signed = [], True, False
        elif token == b">":
            self._open = False
        elif token == b"@":
            self._add(b"@")
            if self._open:
                self._angle_signed = True
            else:
                self._signed = True
        elif self._open and token in b",:;" and self._angle_signed:
            self._add(token)  # a source route: <@one,@two:local@domain>
        elif token == b",":
            self._finish_mailbox()
        elif token == b";":
            self._finish()
        elif token == b":":
            self._colon()
        else:
            self._add(token)

    def _colon(self) -> None:
        if self._group is None and not self._signed and self._angle is None:
            self._group = RawGroup(_phrase(self._words), [])
            self._words, self._comment = [], None
        else:
            self._add(b":")

    def _finish(self) -> None:
        """The end of a group, or of the field."""
        self._finish_mailbox()
        if self._group is not None:
            self._found.append(self._group)
            self._group = None

    def _finish_mailbox(self) -> None:
        words, angle, comment, signed = self._words, self._angle, self._comment, self._signed
        self._words, self._angle, self._open, self._comment = [], None, False, None
        self._signed = self._angle_signed = False
        if angle is not None:
            mailbox = _in_brackets(_phrase(words) or comment, angle)
        elif signed:
            mailbox = _bare(words, comment)
        else:
            phrase = _phrase(words)
            if not phrase:
                return
            # A local user's name, or a name whose address was lost.
            mailbox = (
                RawMailbox(phrase, None, None, None) if b" " in phrase else RawMailbox(comment, None, phrase, None)
            )
        self._count += 1
        if self._group is not None:
            self._group.members.append(mailbox)
        else:
            self._found.append(mailbox)


def _phrase(words: list[bytes]) -> bytes:
    return b" ".join(b"".join(words).split())


def _in_brackets(name: bytes | None, angle: list[bytes]) -> RawMailbox:
    parts = [part for part in angle if part != _SPACE]
    route = None
    # RFC 5322 §4.4: obs-route, "@one,@two:".
    if parts[:1] == [b"@"] and b":" in parts:
        colon = parts.index(b":")
        route, parts = b"".join(parts[:colon]), parts[colon + 1 :]
    if b"@" not in parts:
        return RawMailbox(name or None, route, b"".join(parts) or None, None)
    sign = len(parts) - 1 - parts[::-1].index(b"@")
    return RawMailbox(name or None, route, b"".join(parts[:sign]) or None, b"".join(parts[sign + 1 :]) or None)


def _bare(words: list[bytes], comment: bytes | None) -> RawMailbox:
    """local@domain without brackets, perhaps with a name that nobody quoted in front of it."""
    sign = len(words) - 1 - words[::-1].index(b"@")
    before, after = words[:sign], words[sign + 1 :]
    while before and before[-1] == _SPACE:
        before.pop()
    first = len(before)
    # RFC 5322 §4.4: white space may stand around the dots of an obsolete local part; elsewhere it ends it.
    while first > 0 and (before[first - 1] != _SPACE or _joins(before, first - 1)):
        first -= 1
    local = b"".join(word for word in before[first:] if word != _SPACE)
    domain: list[bytes] = []
    for index, word in enumerate(after):
        if word != _SPACE:
            domain.append(word)
        elif domain and not _joins(after, index):
            break
    return RawMailbox(_phrase(before[:first]) or comment or None, None, local or None, b"".join(domain) or None)


def _joins(words: list[bytes], space: int) -> bool:
    """Whether the white space at this index stands beside a dot."""
    left = words[space - 1] if space else b""
    right = words[space + 1] if space + 1 < len(words) else b""
    return left.endswith(b".") or right.startswith(b".")
