"""What an IMAP server says, as octets (RFC 9051 §7; response codes also RFC 5530).

Promises: every function gives whole, well-formed responses or whole, well-formed parts of one; text of strangers cannot
end a line or a string early. Large bodies pass as they are, as one buffer of several: nothing copies them.
Refuses: to know mailboxes. What a FETCH tells of a message comes rendered (`mailbox/summary.py`) and is only joined.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from enum import Enum
from functools import lru_cache
from itertools import chain
from typing import Any, Final

from posthouse.wire.imap import decimals, names, sequence

Buffer = Any  # bytes | memoryview | mmap: whatever a transport writes and len() measures

_ATOM = re.compile(rb"[!#$&'+-\[^-z|}~]+\Z")
_QUOTABLE = re.compile(rb"[ !#-\[\]-~]*\Z")
_QUOTABLE_ESCAPED = re.compile(rb"[ -~]*\Z")
_QUOTABLE_UTF8 = re.compile(rb"[ -~\x80-\xff]*\Z")
_SPECIAL = re.compile(rb'(["\\])')
_TEXT_BREAKS = re.compile(rb"[\x00-\x1f\x7f]+")

# What cannot stand in the text of a response code (RFC 9051 §9 resp-text-code), and how much of a URL is told.
_UNTELLABLE = re.compile(rb"[^ -\[^-~]")
_URL_TOLD: Final = 500
# A longer string goes as a literal: a reader need not hold long lines (RFC 2683 §3.2.1.5 speaks of 1000 octets).
_QUOTED_LIMIT: Final = 900


class Code(bytes, Enum):
    """Response codes without arguments (RFC 9051 §7.1, RFC 5530 §3; RFC 5465 §5.8, RFC 9586 §3.1)."""

    ALREADYEXISTS = b"ALREADYEXISTS"
    AUTHENTICATIONFAILED = b"AUTHENTICATIONFAILED"
    AUTHORIZATIONFAILED = b"AUTHORIZATIONFAILED"
    CANNOT = b"CANNOT"
    CLOSED = b"CLOSED"
    COMPRESSIONACTIVE = b"COMPRESSIONACTIVE"
    CORRUPTION = b"CORRUPTION"
    EXPUNGEISSUED = b"EXPUNGEISSUED"
    HASCHILDREN = b"HASCHILDREN"
    LIMIT = b"LIMIT"
    NONEXISTENT = b"NONEXISTENT"
    NOPERM = b"NOPERM"
    NOTIFICATIONOVERFLOW = b"NOTIFICATIONOVERFLOW"
    OVERQUOTA = b"OVERQUOTA"
    PRIVACYREQUIRED = b"PRIVACYREQUIRED"
    READ_ONLY = b"READ-ONLY"
    READ_WRITE = b"READ-WRITE"
    SERVERBUG = b"SERVERBUG"
    TOOBIG = b"TOOBIG"
    TRYCREATE = b"TRYCREATE"
    UIDREQUIRED = b"UIDREQUIRED"
    UNAVAILABLE = b"UNAVAILABLE"
    UNKNOWN_CTE = b"UNKNOWN-CTE"
    USEATTR = b"USEATTR"


# strings --------------------------------------------------------------------------------------------------------------


def string(value: bytes) -> bytes:
    """quoted where that is possible, else a literal."""
    if len(value) <= _QUOTED_LIMIT:
        if _QUOTABLE.match(value):
            return b'"%b"' % value
        if _QUOTABLE_ESCAPED.match(value):
            return b'"%b"' % _SPECIAL.sub(rb"\\\1", value)
    return b"{%d}\r\n%b" % (len(value), value)


def nstring(value: bytes | None) -> bytes:
    """A string, or NIL for None."""
    return b"NIL" if value is None else string(value)


def astring(value: bytes) -> bytes:
    """An atom where that is possible, else a string."""
    return value if _ATOM.match(value) and value.upper() != b"NIL" else string(value)


def mailbox(name: str, *, utf8: bool) -> bytes:
    """A mailbox name: modified UTF-7, or UTF-8 after ENABLE (RFC 9051 §5.1), quoted or as a literal."""
    octets = names.encode(name, utf8=utf8)
    if utf8 and not octets.isascii() and len(octets) <= _QUOTED_LIMIT and _QUOTABLE_UTF8.match(octets):
        return b'"%b"' % _SPECIAL.sub(rb"\\\1", octets)
    return string(octets)


def parenthesized(words: Iterable[bytes]) -> bytes:
    """A list in parentheses."""
    return b"(" + b" ".join(words) + b")"


# status responses -----------------------------------------------------------------------------------------------------


def status_line(tag: bytes, status: bytes, text: str, code: bytes = b"") -> bytes:
    """`tag` (or `*`), OK, NO, BAD, BYE or PREAUTH, a response code and text for people."""
    if code:
        return b"%b %b [%b] %b\r\n" % (tag, status, code, _words(text))
    return b"%b %b %b\r\n" % (tag, status, _words(text))


@lru_cache(maxsize=256)
def _words(text: str) -> bytes:
    # RFC 9051 §9: text is at least one octet, and no line of ours is broken by what it holds.
    return _TEXT_BREAKS.sub(b" ", text.encode("ascii", "replace")) or b"-"


def ok(text: str, code: bytes = b"") -> bytes:
    """An untagged OK."""
    return status_line(b"*", b"OK", text, code)


def no(text: str, code: bytes = b"") -> bytes:
    """An untagged NO: a warning."""
    return status_line(b"*", b"NO", text, code)


def bye(text: str, code: bytes = b"") -> bytes:
    """The connection is about to be closed (RFC 9051 §7.1.5)."""
    return status_line(b"*", b"BYE", text, code)


def continuation(text: bytes = b"") -> bytes:
    """A continuation request (RFC 9051 §7.6)."""
    return b"+ %b\r\n" % text


# response codes with arguments ----------------------------------------------------------------------------------------


def capability_code(capabilities: Iterable[bytes]) -> bytes:
    """CAPABILITY in brackets, to spare the client a question."""
    return b"CAPABILITY " + b" ".join(capabilities)


def permanent_flags(flags: Iterable[bytes]) -> bytes:
    """PERMANENTFLAGS (...); `\\*` among them says that new keywords may be made."""
    return b"PERMANENTFLAGS " + parenthesized(flags)


def uidnext(uid: int) -> bytes:
    """UIDNEXT."""
    return b"UIDNEXT %d" % uid


def highest_modseq(modseq: int) -> bytes:
    """HIGHESTMODSEQ (RFC 7162 §3.1.2.1)."""
    return b"HIGHESTMODSEQ %d" % modseq


def modified(numbers: Sequence[int]) -> bytes:
    """MODIFIED (RFC 7162 §3.1.3): message numbers or uids that a conditional STORE left alone, ascending."""
    return b"MODIFIED " + sequence.compress(numbers)


def message_limit(most: int, uid: int = 0) -> bytes:
    """MESSAGELIMIT (RFC 9738 §3.1): one command is about so many messages at most; this one went down to `uid`, where
    it did any."""
    return b"MESSAGELIMIT %d %d" % (most, uid) if uid else b"MESSAGELIMIT %d" % most


def bad_event(events: Iterable[bytes]) -> bytes:
    """BADEVENT (RFC 5465 §3.1): the events that there are."""
    return b"BADEVENT " + parenthesized(events)


def mailbox_id(id: bytes) -> bytes:
    """MAILBOXID (RFC 8474 §4.1, §4.2)."""
    return b"MAILBOXID (%b)" % id


def bad_url(url: bytes) -> bytes:
    """BADURL (RFC 4469 §4.1). What cannot stand in a code is written in percent."""
    return b"BADURL " + _UNTELLABLE.sub(lambda found: b"%%%02X" % found.group()[0], url[:_URL_TOLD])


def uidvalidity(value: int) -> bytes:
    """UIDVALIDITY."""
    return b"UIDVALIDITY %d" % value


def unseen(number: int) -> bytes:
    """UNSEEN: the sequence number of the first unseen message (RFC 3501 §7.1)."""
    return b"UNSEEN %d" % number


def appenduid(validity: int, uids: Sequence[int]) -> bytes:
    """APPENDUID (RFC 4315 §3): `uids` ascend."""
    return b"APPENDUID %d %b" % (validity, sequence.compress(uids))


def copyuid(validity: int, source: Sequence[int], target: Sequence[int]) -> bytes:
    """COPYUID (RFC 4315 §3): both ascend, the n-th of one became the n-th of the other."""
    return b"COPYUID %d %b %b" % (validity, sequence.compress(source), sequence.compress(target))


# untagged data --------------------------------------------------------------------------------------------------------


def capability(capabilities: Iterable[bytes]) -> bytes:
    """RFC 9051 §7.2.2."""
    return b"* CAPABILITY " + b" ".join(capabilities) + b"\r\n"


def enabled(capabilities: Iterable[bytes]) -> bytes:
    """RFC 9051 §7.2.1."""
    return b" ".join([b"* ENABLED", *capabilities]) + b"\r\n"


def exists(count: int) -> bytes:
    """How many messages the mailbox holds (RFC 9051 §7.4.1)."""
    return b"* %d EXISTS\r\n" % count


def recent(count: int) -> bytes:
    """RFC 3501 §7.3.2."""
    return b"* %d RECENT\r\n" % count


def expunge(number: int) -> bytes:
    """This message number is gone, and those above it are one less (RFC 9051 §7.5.1)."""
    return b"* %d EXPUNGE\r\n" % number


def expunges(numbers: Sequence[int]) -> bytes:
    """`numbers`, ascending as they were before, are gone: told from the highest down, so that none shifts another."""
    if not numbers:
        return b""
    # A tenth of what writing line by line takes.
    lines = decimals.spaced(numbers[::-1]).replace(b" ", b" EXPUNGE\r\n* ")
    return lines.removeprefix(b" EXPUNGE\r\n") + b" EXPUNGE\r\n"


def vanished(uids: Iterable[sequence.Range]) -> bytes:
    """These messages are gone, said in place of EXPUNGE (RFC 7162 §3.2.10.2): ranges of uids that the client knows."""
    return b"* VANISHED " + sequence.write(uids) + b"\r\n"


def vanished_earlier(uids: Iterable[sequence.Range]) -> bytes:
    """No message has these uids (any more): no message number moves (RFC 7162 §3.2.10.1)."""
    return b"* VANISHED (EARLIER) " + sequence.write(uids) + b"\r\n"


def flags(names_of_flags: Iterable[bytes]) -> bytes:
    """Which flags the mailbox knows (RFC 9051 §7.3.5)."""
    return b"* FLAGS " + parenthesized(names_of_flags) + b"\r\n"


def identity(fields: Mapping[str, str | None]) -> bytes:
    """ID of the server (RFC 2971 §3.2)."""
    if not fields:
        return b"* ID NIL\r\n"
    words = [nstring(None if word is None else word.encode()) for pair in fields.items() for word in pair]
    return b"* ID " + parenthesized(words) + b"\r\n"


def namespace(personal: Sequence[tuple[str, str]], others: Sequence[tuple[str, str]] = (), *, utf8: bool) -> bytes:
    """Prefix and delimiter of each personal namespace and of others'; there are no shared ones (RFC 9051 §7.3.2)."""
    return b"* NAMESPACE %b %b NIL\r\n" % (_spaces(personal, utf8), _spaces(others, utf8))


def _spaces(found: Sequence[tuple[str, str]], utf8: bool) -> bytes:
    pairs = [b"(%b %b)" % (mailbox(prefix, utf8=utf8), string(delimiter.encode())) for prefix, delimiter in found]
    return b"(%b)" % b"".join(pairs) if pairs else b"NIL"


def listed(
    name: str,
    attributes: Iterable[bytes],
    *,
    utf8: bool,
    delimiter: str | None = "/",
    childinfo: Sequence[bytes] = (),
    oldname: str | None = None,
    command: bytes = b"LIST",
) -> bytes:
    """LIST, or LSUB by `command` (RFC 9051 §7.3.1). `childinfo`: by which selection options children match (§6.3.9.6).

    `oldname`: the name under which the client asked (§6.3.9.7).
    """
    line = b"* %b (%b) %b %b" % (
        command,
        b" ".join(attributes),
        nstring(delimiter.encode() if delimiter else None),
        mailbox(name, utf8=utf8),
    )
    extended = []
    if childinfo:
        extended.append(b'"CHILDINFO" ' + parenthesized(string(option) for option in childinfo))
    if oldname is not None:
        extended.append(b'"OLDNAME" (%b)' % mailbox(oldname, utf8=utf8))
    return b"%b %b\r\n" % (line, parenthesized(extended)) if extended else line + b"\r\n"


def status(name: str, items: Iterable[tuple[bytes, bytes]], *, utf8: bool) -> bytes:
    """Totals of a mailbox (RFC 9051 §7.3.3): pairs of item and value."""
    return b"* STATUS %b (%b)\r\n" % (mailbox(name, utf8=utf8), b" ".join([b"%b %b" % item for item in items]))


def numbers_start(command: bytes) -> bytes:
    """Begin SEARCH (RFC 3501 §7.2.5), SORT or THREAD (RFC 5256 §4); what is found follows, a space in front of it, and
    then `numbers_end`."""
    return b"* " + command


def numbers_end(modseq: int = 0) -> bytes:
    """Its end; with the highest modseq of what was found, where the search asked for modseqs (RFC 7162 §3.1.5)."""
    return b" (MODSEQ %d)\r\n" % modseq if modseq else b"\r\n"


def esearch(
    tag: bytes,
    *,
    uid: bool,
    items: Iterable[tuple[bytes, bytes]],
    mailbox_name: bytes = b"",
    validity: int = 0,
) -> bytes:
    """ESEARCH (RFC 9051 §7.3.4, RFC 4731 §3.1): names of data and the data. Which mailbox it is about, written by
    `mailbox`, goes with its uidvalidity (RFC 7377 §2.1)."""
    words = [b"* ESEARCH (TAG %b" % string(tag)]
    if mailbox_name:
        words += [b"MAILBOX", mailbox_name, b"UIDVALIDITY %d" % validity]
    words[-1] += b")"
    if uid:
        words.append(b"UID")
    words += [b"%b %b" % item for item in items]
    return b" ".join(words) + b"\r\n"


def noupdate(tag: bytes) -> bytes:
    """NOUPDATE: the results of this command are not watched (RFC 5267 §4.3.1)."""
    return b"NOUPDATE " + string(tag)


def inprogress(tag: bytes, done: int, goal: int) -> bytes:
    """INPROGRESS: how many of how many messages a command has looked at (RFC 9585 §4). It is more than were."""
    # A tag that would end the code is not told.
    name = b"NIL" if b"]" in tag else string(tag)
    return b"INPROGRESS (%b %d %d)" % (name, done, goal)


def undefined_filter(name: str) -> bytes:
    """UNDEFINED-FILTER: no search is kept under this name (RFC 5466 §3.1)."""
    return b"UNDEFINED-FILTER " + name.encode("ascii")


# FETCH ----------------------------------------------------------------------------------------------------------------


FETCH: Final = b"FETCH"
UIDFETCH: Final = b"UIDFETCH"


def fetch(number: int, items: bytes) -> bytes:
    """One FETCH response of rendered items, `FLAGS (\\Seen) UID 7` (RFC 9051 §7.5.2)."""
    return b"* %d FETCH (%b)\r\n" % (number, items)


# Items of a `fetch_form` that come rendered with their labels.
RENDERED_FORM: Final = b"%b"


def value_form(label: bytes) -> bytes:
    """An item of a `fetch_form` whose value comes rendered: FLAGS, ENVELOPE and BODYSTRUCTURE with their parentheses,
    INTERNALDATE with its quotes."""
    return label.replace(b"%", b"%%") + b" %b"


# The modseq stands in parentheses (RFC 7162 §7, fetch-mod-resp).
MODSEQ_FORM: Final = b"MODSEQ (%d)"


def number_form(label: bytes) -> bytes:
    """An item whose value is a number."""
    return label.replace(b"%", b"%%") + b" %d"


def literal_form(label: bytes) -> bytes:
    """An item with two values: the size of a literal, and its octets."""
    return literal_start_form(label) + b"%b"


def literal_start_form(label: bytes) -> bytes:
    """An item whose value is the size of a literal, the octets of which follow from elsewhere (`fetch_halves`)."""
    return label.replace(b"%", b"%%") + b" {%d}\r\n"


def fetch_form(items: Iterable[bytes], word: bytes = FETCH) -> bytes:
    """A form for `fetch_columns` and `fetch_lines`: the message number, then the values of these items, each made by a
    function above.

    `word` UIDFETCH: the number is the uid (RFC 9586 §3.3).
    """
    return b"* %d " + word + b" (" + b" ".join(items) + b")\r\n"


def fetch_halves(before: Iterable[bytes], after: Iterable[bytes], word: bytes = FETCH) -> tuple[bytes, bytes]:
    """The same in two, for what stands before the octets of one large literal and after them. `before` ends with the
    item that is the literal's (`literal_start_form`)."""
    return b"* %d " + word + b" (" + b" ".join(before), b"".join([b" " + item for item in after]) + b")\r\n"


def fetch_lines(form: bytes, rows: Sequence[tuple[Any, ...]]) -> bytes:
    """Whole FETCH responses, one of each row: message number and values of `form`."""
    # All at once takes half the time of one after the other.
    return (form * len(rows)) % tuple(chain.from_iterable(rows))


# From so many on, lines whose numbers run without a gap are written with the numbers in their form.
_RUN: Final = 100
# Forms of which a thousand lines are kept: some 50 KB each.
_FORMS: Final = 16


def fetch_columns(form: bytes, numbers: Sequence[int], columns: Sequence[Iterable[Any]]) -> bytes:
    """The same of columns, all of one length: message numbers, and values of `form`."""
    if isinstance(numbers, range) and numbers.step == 1 and len(numbers) >= _RUN and numbers[0] >= 1000:
        # A number takes as long to write as all else of a line of flags.
        lines = _numbered(form, numbers)
    else:
        columns = (numbers, *columns)
        lines = form * len(numbers)
    values: list[Any] = [None] * (len(columns) * len(numbers))
    for place, column in enumerate(columns):
        values[place :: len(columns)] = column
    return lines % tuple(values)


def _numbered(form: bytes, numbers: range) -> bytes:
    """`form` with each of these numbers in it, which follow each other and have four digits at least."""
    thousand = _thousand(form)
    width = len(thousand) // 1000
    low, stop = numbers.start, numbers.stop
    parts: list[bytes] = []
    while low < stop:
        thousands, first = divmod(low, 1000)
        last = min(first + stop - low, 1000)
        parts.append(thousand[first * width : last * width].replace(b"\0", b"%d" % thousands))
        low += last - first
    return b"".join(parts)


@lru_cache(maxsize=_FORMS)
def _thousand(form: bytes) -> bytes:
    """`form` a thousand times, numbered by the last three digits; NUL stands for those in front of them, and nowhere
    else: no label has it, as nothing in a command may (RFC 9051 §9, CHAR)."""
    head, rest = form.split(b"%d", 1)
    return b"".join([b"%b\0%03d%b" % (head, number, rest) for number in range(1000)])


def fetch_start(number: int, word: bytes = FETCH) -> bytes:
    """Begin a FETCH response that is sent in pieces: items parted by b" " follow, then FETCH_END."""
    return b"* %d %b (" % (number, word)


FETCH_END: Final = b")\r\n"


def body_start(label: bytes, size: int) -> bytes:
    """Label and literal header; exactly `size` octets follow, from whatever buffers they lie in."""
    return b"%b {%d}\r\n" % (label, size)


def binary_start(label: bytes, size: int, *, nul: bool) -> bytes:
    """Likewise for BINARY; a literal8 where the octets hold NUL (RFC 9051 §9, literal8)."""
    return b"%b %b{%d}\r\n" % (label, b"~" if nul else b"", size)


def body(label: bytes, octets: Buffer) -> list[Buffer]:
    """An item with its octets as a literal, uncopied."""
    return [body_start(label, len(octets)), octets]


_MONTHS = (b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec")
_EPOCH: Final = date(1970, 1, 1).toordinal()


def date_time(at: int) -> bytes:
    """UTC milliseconds as INTERNALDATE has it, quotes included: `"17-Jul-1996 09:44:25 +0000"`."""
    return _hour(at // 3_600_000) + _MINUTES[at // 1000 % 3600]


# A mailbox is read in the order of arrival: an hour is written once and serves many.
@lru_cache(maxsize=1024)
def _hour(hours: int) -> bytes:
    days, hour = divmod(hours, 24)
    day = date.fromordinal(_EPOCH + days)
    return b'"%2d-%b-%04d %02d:' % (day.day, _MONTHS[day.month - 1], day.year, hour)


_MINUTES: Final = tuple(b'%02d:%02d +0000"' % divmod(second, 60) for second in range(3600))
