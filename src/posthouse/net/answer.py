"""A DNS message that answers one of our questions, read from octets (RFC 1035 §4).

Promises: `read` raises nothing but Malformed, whatever the octets are, and takes time in proportion to them.
Refuses: what is no answer to the very question: another id, another name or type (RFC 5452 §9.1).
"""

import ipaddress
import re
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

A: Final = 1
CNAME: Final = 5
SOA: Final = 6
PTR: Final = 12
MX: Final = 15
TXT: Final = 16
AAAA: Final = 28
OPT: Final = 41
TLSA: Final = 52

SUCCESS: Final = 0
SERVFAIL: Final = 2
NXDOMAIN: Final = 3

_INTERNET: Final = 1
# RFC 1035 §4.1: the sections behind the question.
_ANSWER, _AUTHORITY, _ADDITIONAL = range(3)
# RFC 1034 §3.6.2 sets no limit to a chain of aliases; resolvers stop at 8 to 16.
_LONGEST_CHAIN: Final = 16
# A name has 127 labels at most; more pointers than that serve nobody honest.
_MOST_HOPS: Final = 127
# The labels that stand at places where pointers of this message lead to, and how many octets they take there: each is
# read once, however many names end there.
_Known = dict[int, tuple[list[str], int]]
# A bracket would make an address literal of a name (RFC 5321 §4.1.3).
_PLAIN_LABEL: Final = re.compile(r"[!-\-/-Z^-~]+\Z")


class Malformed(ValueError):
    """The octets are no answer to the question."""


class TooManyAliases(ValueError):
    """They lead in a circle, or too far, so that nobody can say what is at their end."""


class Mx(NamedTuple):
    """One mail exchanger: the lower the preference, the better; host in lower case without the last dot."""

    preference: int
    host: str


class Tlsa(NamedTuple):
    """One TLSA record (RFC 6698 §2.1)."""

    usage: int
    selector: int
    matching: int
    data: bytes


Record = str | bytes | Mx | Tlsa


@dataclass(frozen=True, slots=True)
class Message:
    """An answer. `found` holds (name, type, ttl, record) of the answer section, `name` what was asked for."""

    code: int
    truncated: bool
    authentic: bool
    name: str
    found: tuple[tuple[str, int, int, Record], ...]
    negative_ttl: int
    extended_codes: frozenset[int]

    def follow(self, kind: int) -> tuple[str, tuple[Record, ...], int]:
        """Where the records of this type are after aliases, the records, and how many seconds all of it holds. Raises
        TooManyAliases.
        """
        name, ttl = self.name, 2**31
        for _ in range(_LONGEST_CHAIN):
            here = [
                (seconds, record) for owner, type_, seconds, record in self.found if owner == name and type_ == kind
            ]
            if here:
                return name, tuple(record for _, record in here), min(ttl, *(seconds for seconds, _ in here))
            alias = next((one for one in self.found if one[0] == name and one[1] == CNAME), None)
            if alias is None:
                return name, (), ttl
            name, ttl = str(alias[3]), min(ttl, alias[2])
        raise TooManyAliases


def read(octets: bytes, id: int, encoded: bytes, kind: int) -> Message:
    """The answer to the question for the name `encoded` and the type `kind` that was asked with `id`.

    Raises Malformed.
    """
    try:
        return _read(octets, id, encoded, kind)
    except (struct.error, IndexError, UnicodeDecodeError) as error:
        raise Malformed("the message ends too early") from error


def _read(octets: bytes, id: int, encoded: bytes, kind: int) -> Message:
    their_id, flags, questions, answers, authorities, additional = struct.unpack_from("!6H", octets)
    if their_id != id or not flags & 0x8000 or flags & 0x7800 or questions != 1:
        raise Malformed("no reply to our question")
    at = 12 + len(encoded)
    if octets[12:at].lower() != encoded.lower() or struct.unpack_from("!HH", octets, at) != (kind, _INTERNET):
        raise Malformed("a reply to another question")
    known: _Known = {}
    name, _ = _read_name(octets, 12, known)
    at += 4
    truncated = bool(flags & 0x0200)
    found: list[tuple[str, int, int, Record]] = []
    code, negative_ttl, extended = flags & 15, 0, frozenset[int]()
    for one in () if truncated else _read_sections(octets, at, (answers, authorities, additional), known):
        if one.section == _ANSWER and one.class_ == _INTERNET and one.type in (kind, CNAME):
            record = _read_record(octets, one.type, one.start, one.end, known)
            found.append((one.owner, one.type, one.seconds, record))
        elif one.section == _AUTHORITY and one.type == SOA:
            # RFC 2308 §5: the lesser of the SOA's own TTL and its MINIMUM.
            negative_ttl = min(one.seconds, _read_minimum(octets, one.start, one.end, known))
        elif one.section == _ADDITIONAL and one.type == OPT:
            # RFC 6891 §6.1.3: the upper eight bits of the code stand where a TTL would.
            code |= one.ttl >> 24 << 4
            extended = _read_extended_codes(octets, one.start, one.end)
    return Message(code, truncated, bool(flags & 0x0020), name, tuple(found), negative_ttl, extended)


class _Placed(NamedTuple):
    """A record as it stands in an answer: its section, and where its data begin and end."""

    section: int
    owner: str
    type: int
    class_: int
    ttl: int
    start: int
    end: int

    @property
    def seconds(self) -> int:
        """RFC 2181 §8: a TTL with the highest bit set is zero."""
        return self.ttl if self.ttl < 2**31 else 0


def _read_sections(octets: bytes, at: int, counts: Sequence[int], known: _Known) -> Iterator[_Placed]:
    for section, count in enumerate(counts):
        for _ in range(count):
            owner, at = _read_name(octets, at, known)
            type_, class_, ttl, length = struct.unpack_from("!HHIH", octets, at)
            start, at = at + 10, at + 10 + length
            if at > len(octets):
                raise Malformed("a record ends behind the message")
            yield _Placed(section, owner, type_, class_, ttl, start, at)


def _read_name(octets: bytes, at: int, known: _Known) -> tuple[str, int]:
    """A name in lower case without the last dot, and where it ends. Pointers only lead back (RFC 1035 §4.1.4)."""
    labels: list[str] = []
    # Where pointers led to, with how many labels and octets in front of it.
    led: list[tuple[int, int, int]] = []
    total = 0
    end = -1
    lowest = at
    while length := octets[at]:
        if length >= 0xC0:
            target = (length & 0x3F) << 8 | octets[at + 1]
            if end < 0:
                end = at + 2
            if target >= lowest or len(led) == _MOST_HOPS:
                raise Malformed("a name that leads forward or in a circle")
            led.append((target, len(labels), total))
            if target in known:
                rest, size = known[target]
                labels += rest
                total += size
                break
            at = lowest = target
            continue
        if length > 63:
            raise Malformed("a label of unknown kind")
        label = octets[at + 1 : at + 1 + length]
        total += length + 1
        if len(label) < length or total > 254:
            raise Malformed("a name that is too long")
        labels.append(_present(label))
        at += length + 1
    if total > 254:
        raise Malformed("a name that is too long")
    for target, count, before in led:
        known[target] = labels[count:], total - before
    return ".".join(labels), (at + 1 if end < 0 else end)


def _present(label: bytes) -> str:
    """A label in lower case; what would read as another name, or steer a terminal, as \\DDD (RFC 1035 §5.1)."""
    text = label.decode("latin-1").lower()
    if _PLAIN_LABEL.match(text):
        return text
    return "".join(chr(octet) if _PLAIN_LABEL.match(chr(octet)) else f"\\{octet:03}" for octet in label.lower())


def _read_record(octets: bytes, kind: int, start: int, end: int, known: _Known) -> Record:
    rdata = octets[start:end]
    if kind in (A, AAAA):
        if len(rdata) != (4 if kind == A else 16):
            raise Malformed("an address of the wrong length")
        return str(ipaddress.ip_address(rdata))
    if kind == MX:
        host, stop = _read_name(octets, start + 2, known)
        record: Record = Mx(int.from_bytes(rdata[:2]), host)
    elif kind in (PTR, CNAME):
        record, stop = _read_name(octets, start, known)
    elif kind == TXT:
        return _read_strings(rdata)
    else:
        if len(rdata) < 3:
            raise Malformed("a TLSA record that is too short")
        return Tlsa(rdata[0], rdata[1], rdata[2], rdata[3:])
    if stop != end:
        raise Malformed("a record of the wrong length")
    return record


def _read_strings(rdata: bytes) -> bytes:
    """The character strings of a TXT record, put together (RFC 1035 §3.3.14)."""
    strings: list[bytes] = []
    at = 0
    while at < len(rdata):
        length = rdata[at]
        string = rdata[at + 1 : at + 1 + length]
        if len(string) < length:
            raise Malformed("a string ends behind its record")
        strings.append(string)
        at += 1 + length
    return b"".join(strings)


def _read_minimum(octets: bytes, start: int, end: int, known: _Known) -> int:
    _, at = _read_name(octets, start, known)
    _, at = _read_name(octets, at, known)
    if at + 20 != end:
        raise Malformed("an SOA record of the wrong length")
    minimum: int = struct.unpack_from("!5I", octets, at)[4]
    return minimum if minimum < 2**31 else 0


def _read_extended_codes(octets: bytes, start: int, end: int) -> frozenset[int]:
    """The info codes of extended DNS errors (RFC 8914 §2)."""
    codes = []
    while start + 4 <= end:
        option, length = struct.unpack_from("!HH", octets, start)
        if option == 15 and length >= 2:
            codes.append(int.from_bytes(octets[start + 4 : start + 6]))
        start += 4 + length
    return frozenset(codes)
