"""A remote IMAP account as a source, by the standard library's client.

Promises: it is only read: mailboxes are opened by EXAMINE, texts fetched by BODY.PEEK, nothing is marked or removed.
The other server's certificate is verified. A message is known by mailbox, UIDVALIDITY and UID, so one that was brought
before is not fetched again. Large messages come in pieces, and no answer may be larger than a piece allows. Where the
connection is lost it is made anew, a few times with growing pauses, and goes on with what it was at.
Refuses: clear text; mailboxes that only show what others hold (\\All, \\Flagged,
\\Important), unless they are named.
"""

import imaplib
import re
import ssl
import time
from array import array
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final, Literal

from posthouse.message.date import parse_date
from posthouse.terms.inbox import INBOX, at_top
from posthouse.terms.keywords import FROM_IMAP
from posthouse.transfer.source import Flaw, Folder, Item, Known, Path, Seen, SourceError, key_of
from posthouse.wire.imap import names

# Uids that are asked for in one command; messages whose facts are; octets of text that are.
_UIDS: Final = 5000
_FACTS: Final = 200
_TEXT: Final = 2 * 1024 * 1024
_LARGEST_LITERAL: Final = 16 * 1024 * 1024
# All that is said in answer to one command: what was asked for is far less.
_LARGEST_ANSWER: Final = 64 * 1024 * 1024
_SECONDS: Final = 120.0
# Seconds between the attempts to go on with one command after the connection was lost: servers that start anew, or that
# let nobody stay for long, are back within a minute.
_PAUSES: Final = (1.0, 2.0, 5.0, 10.0, 30.0)
_ROLES: Final = {
    "\\sent": "sent",
    "\\drafts": "drafts",
    "\\junk": "junk",
    "\\trash": "trash",
    "\\archive": "archive",
}
_VIEWS: Final = frozenset({"\\all", "\\flagged", "\\important"})
_NOT_THERE: Final = frozenset({"\\noselect", "\\nonexistent"})

_LISTED: Final = re.compile(rb'\(([^)]*)\) (NIL|"(?:[^"\\]|\\.)*") (.*)\Z', re.DOTALL)
_UID: Final = re.compile(rb"\bUID (\d{1,10})\b")
_FLAGS: Final = re.compile(rb"\bFLAGS \(([^)]*)\)")
_DATE: Final = re.compile(rb'\bINTERNALDATE "([^"]{1,40})"')
_SIZE: Final = re.compile(rb"\bRFC822\.SIZE (\d{1,15})\b")
_EMPTY: Final = re.compile(rb'\bBODY\[\](?:<\d+>)? (""|NIL)')

Security = Literal["implicit", "starttls"]


class Refused(SourceError):
    """The other server said no to one command, and can be asked for something else."""


class _Lost(Exception):
    """The connection is."""


class _Careful:
    """Literals of a size that nobody has asked for are not read, nor answers that do not end."""

    # Octets since the last command.
    said = 0

    def read(self, size: int) -> bytes:
        """As imaplib calls it."""
        if size > _LARGEST_LITERAL:
            raise SourceError(f"the server sends {size} octets at once")
        self._count(size)
        octets: bytes = super().read(size)  # type: ignore[misc]  # of the client that this is mixed into
        return octets

    def readline(self) -> bytes:
        """As imaplib calls it."""
        line: bytes = super().readline()  # type: ignore[misc]  # as above
        self._count(len(line))
        return line

    def _count(self, size: int) -> None:
        self.said += size
        if self.said > _LARGEST_ANSWER:
            raise SourceError(f"the server sends more than {_LARGEST_ANSWER} octets in one answer")


class _Plain(_Careful, imaplib.IMAP4):
    """STARTTLS follows at once."""


class _Secured(_Careful, imaplib.IMAP4_SSL):
    """TLS from the first octet."""


@dataclass(frozen=True, slots=True)
class Login:
    """Where the account is, and how to get in."""

    host: str
    port: int
    security: Security
    user: str
    password: str
    authorities: str | None = None


@dataclass(frozen=True, slots=True)
class _Facts:
    """What there is to know of a message but its text."""

    uid: int
    flags: Sequence[str]
    received_at: int | None
    size: int


class RemoteAccount:
    """One connection at a time. Blocks. `wanted`: the folders to be read, by their paths; none: all but the views.
    `tell` says that the connection is lost, to people."""

    def __init__(
        self,
        login: Login,
        wanted: Collection[str] = (),
        *,
        tell: Callable[[str], object] = lambda text: None,
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        """Raises SourceError; a server that cannot be reached is not waited for here."""
        self._login = login
        self._wanted = frozenset(wanted)
        self._tell = tell
        self._sleep = sleep
        # The folder that is open, and its UIDVALIDITY.
        self._opened: tuple[bytes, bytes] | None = None
        self._lost = False
        self._names: dict[Path, bytes] = {}
        self.left_out: list[str] = []
        self._closed = False
        self._client = self._connect()

    def _connect(self) -> _Plain | _Secured:
        login = self._login
        try:
            context = ssl.create_default_context(cafile=login.authorities)
            if login.security == "implicit":
                client: _Plain | _Secured = _Secured(login.host, login.port, ssl_context=context, timeout=_SECONDS)
            else:
                client = _Plain(login.host, login.port, timeout=_SECONDS)
        except (imaplib.IMAP4.error, OSError) as error:
            raise SourceError(f"{login.host}: {_words(error)}") from error
        try:
            if login.security == "starttls":
                client.starttls(context)
            self._authenticate(client)
        except (imaplib.IMAP4.error, OSError) as error:
            client.shutdown()
            raise SourceError(f"{login.host}: {_words(error)}") from error
        return client

    def _authenticate(self, client: imaplib.IMAP4) -> None:
        user, password = self._login.user, self._login.password
        if "AUTH=PLAIN" in client.capabilities:
            client.authenticate("PLAIN", lambda _: f"\0{user}\0{password}".encode())
        elif user.isascii() and password.isascii():
            client.login(_quoted(user.encode()).decode("ascii"), password)
        else:
            raise client.error("it offers no way to log in with letters that are not ASCII")

    def folders(self) -> list[Folder]:
        """All that hold mail, with the number of messages. Raises SourceError."""
        found: list[Folder] = []
        for answer in self._ask("LIST", "list", '""', "*"):
            listed = _listed(answer)
            if listed is None:
                continue
            attributes, path, name = listed
            if attributes & _NOT_THERE or not self._is_wanted(path, attributes):
                continue
            role = next((_ROLES[one] for one in sorted(attributes) if one in _ROLES), None)
            self._names[path] = name
            found.append(Folder(path, self._count(name), role))
        return sorted(found, key=lambda folder: (folder.path != (), folder.path))

    def _is_wanted(self, path: Path, attributes: Collection[str]) -> bool:
        shown = "/".join(path) or INBOX
        if self._wanted:
            return shown in self._wanted
        if _VIEWS.intersection(attributes):
            self.left_out.append(shown)
            return False
        return True

    def _count(self, name: bytes) -> int:
        try:
            status = b" ".join(map(_octets, self._ask("STATUS", "status", _quoted(name), "(MESSAGES)")))
        except Refused:
            return 0  # told of when its messages are asked for
        found = re.search(rb"MESSAGES (\d{1,10})", status)
        return int(found[1]) if found else 0

    def items(self, folder: Folder, known: Known) -> Iterator[Item | Seen | Flaw]:
        """The messages by uid. Raises SourceError."""
        name, self._opened = self._names[folder.path], None
        try:
            self._ask("EXAMINE", "select", _quoted(name), True)
        except Refused as error:
            yield Flaw("/".join(folder.path) or INBOX, str(error), folder.size)
            return
        validity = self._validity()
        self._opened = name, validity
        mark: list[str | bytes] = [self._login.host.lower(), self._login.user, *folder.path, "", validity]
        try:
            uids = self._uids()
        except Refused as error:
            yield Flaw("/".join(folder.path) or INBOX, str(error), folder.size)
            return
        for start in range(0, len(uids), _FACTS):
            keys = {key_of(*mark, str(uid)): uid for uid in uids[start : start + _FACTS]}
            before = known(keys)
            if before:
                yield Seen(len(before), len(before))
            wanted = {uid: key for key, uid in keys.items() if key not in before}
            if wanted:
                yield from self._messages(wanted)

    def close(self) -> None:
        """Say goodbye, if there is anybody to hear it."""
        if not self._closed:
            self._closed = True
            try:
                if not self._lost:
                    self._client.logout()
            except (imaplib.IMAP4.error, OSError, SourceError):
                with suppress(OSError):
                    self._client.shutdown()

    def _validity(self) -> bytes:
        _, told = self._client.response("UIDVALIDITY")
        return (told or [b""])[0] or b""

    def _uids(self) -> "array[int]":
        """Every uid, in order."""
        for _ in range(len(_PAUSES) + 1):
            client = self._client
            found = self._numbered()
            if self._client is client:
                return found
        raise SourceError(f"{self._login.host}: the connection is lost again and again")

    def _numbered(self) -> "array[int]":
        """The same, as long as the connection lasts: meanwhile no number can shift, for the server may not tell of
        removals (RFC 9051 §7.5.1)."""
        _, exists = self._client.response("EXISTS")
        told = (exists or [None])[-1] or b"0"
        # RFC 9051 §9: a number has 32 bits.
        if not re.fullmatch(rb"[0-9]{1,10}", told):
            raise SourceError(f"{self._login.host}: the server does not say how many messages there are")
        count = int(told)
        found = array("Q")
        for low in range(1, count + 1, _UIDS):
            for answer in self._ask("FETCH", "fetch", f"{low}:{min(low + _UIDS - 1, count)}", "(UID)"):
                if uid := _UID.search(_octets(answer)):
                    found.append(int(uid[1]))
        return array("Q", sorted(set(found)))

    def _messages(self, wanted: dict[int, bytes]) -> Iterator[Item | Seen | Flaw]:
        try:
            facts = self._facts(wanted)
        except Refused as error:
            # One of them is what the server cannot tell of.
            if len(wanted) > 1:
                for uid, key in wanted.items():
                    yield from self._messages({uid: key})
            else:
                yield from [Flaw(f"uid {uid}", str(error)) for uid in wanted]
            return
        gone = len(wanted) - len(facts)
        if gone:
            yield Seen(0, gone)
        together: list[_Facts] = []
        size = 0
        for one in facts:
            if together and size + one.size > _TEXT:
                yield from self._together(together, wanted)
                together, size = [], 0
            if one.size > _TEXT:
                yield _item(one, wanted[one.uid], self._in_pieces(one))
            else:
                together.append(one)
                size += one.size
        if together:
            yield from self._together(together, wanted)

    def _facts(self, uids: Collection[int]) -> list[_Facts]:
        found: dict[int, _Facts] = {}
        for answer in self._ask("FETCH", "uid", "FETCH", _set(uids), "(UID FLAGS INTERNALDATE RFC822.SIZE)"):
            octets = _octets(answer)
            uid, size, date, flags = (one.search(octets) for one in (_UID, _SIZE, _DATE, _FLAGS))
            if uid and size and int(uid[1]) in uids:
                words = flags[1].decode("ascii", "replace").split() if flags else []
                at = parse_date(date[1].strip().replace(b"-", b" ", 2)) if date else None
                found[int(uid[1])] = _Facts(int(uid[1]), words, at, int(size[1]))
        return [found[uid] for uid in sorted(found)]

    def _together(self, some: Sequence[_Facts], wanted: dict[int, bytes]) -> Iterator[Item | Seen | Flaw]:
        try:
            answers = self._ask("FETCH", "uid", "FETCH", _set([one.uid for one in some]), "(UID BODY.PEEK[])")
        except Refused:
            # One of them is what the server cannot send.
            if len(some) > 1:
                for each in some:
                    yield from self._together([each], wanted)
                return
            answers = []
        texts = dict(_texts(answers))
        for one in some:
            if one.uid in texts:
                yield _item(one, wanted[one.uid], iter([texts[one.uid]]))
            else:
                yield Flaw(f"uid {one.uid}", "the server did not send it")

    def _in_pieces(self, one: _Facts) -> Iterator[bytes]:
        """A large message. Sizes that servers tell are not always right: it ends where nothing comes any more."""
        start = 0
        while True:
            try:
                answers = self._ask("FETCH", "uid", "FETCH", str(one.uid), f"(UID BODY.PEEK[]<{start}.{_TEXT}>)")
            except Refused as error:
                raise OSError(str(error)) from error
            text = dict(_texts(answers)).get(one.uid)
            if text is None:
                raise OSError("the server did not send it")
            if text:
                yield text
            start += len(text)
            if len(text) < _TEXT:
                return

    def _ask(self, name: str, method: str, *arguments: Any) -> list[Any]:
        """Let the client do it, on a new connection where the last one is lost; the untagged answers. All that is asked
        here may be asked twice. Raises SourceError."""
        pauses = iter(_PAUSES)
        while True:
            try:
                if self._lost:
                    self._resume()
                return self._once(name, method, *arguments)
            except _Lost as error:
                self._lost = True
                with suppress(OSError):
                    self._client.shutdown()
                pause = next(pauses, None)
                if pause is None:
                    raise SourceError(str(error)) from error
                self._tell(f"{error}; again in {pause:g} s")
                self._sleep(pause)

    def _resume(self) -> None:
        """Connect once more, and open what was open. Raises _Lost, SourceError."""
        try:
            self._client = self._connect()
        except SourceError as error:
            raise _Lost(str(error)) from error
        self._lost = False
        if self._opened is None:
            return
        name, validity = self._opened
        try:
            self._once("EXAMINE", "select", _quoted(name), True)
        except Refused as error:
            raise SourceError(str(error)) from error
        if self._validity() != validity:
            # RFC 9051 §2.3.1.1: none of the uids means what it did.
            raise SourceError(f"{self._login.host}: the folder has been made anew meanwhile")

    def _once(self, name: str, method: str, *arguments: Any) -> list[Any]:
        """Raises _Lost, Refused."""
        self._client.said = 0
        try:
            status, answers = getattr(self._client, method)(*arguments)
        except (imaplib.IMAP4.abort, OSError) as error:
            raise _Lost(f"{self._login.host}: {name}: {_words(error)}") from error
        except imaplib.IMAP4.error as error:
            raise Refused(f"{name}: {_words(error)}") from error
        if status != "OK":
            raise Refused(f"{name}: {_octets(answers[0]).decode('utf-8', 'replace')}")
        return [one for one in answers if one is not None]


def _item(one: _Facts, key: bytes, pieces: Iterator[bytes]) -> Item:
    flags = [flag.lower() for flag in one.flags]
    words = [FROM_IMAP.get(flag.lower(), flag) for flag in one.flags if flag.lower() in FROM_IMAP or flag[:1] != "\\"]
    return Item(f"uid {one.uid}", key, frozenset(words), "\\deleted" in flags, one.received_at, pieces)


def _texts(answers: Sequence[Any]) -> Iterator[tuple[int, bytes]]:
    """By uid, what BODY[] holds: imaplib gives the text of a literal beside what stood in front of it, and what stood
    behind as the next answer."""
    for at, answer in enumerate(answers):
        if isinstance(answer, tuple):
            behind = answers[at + 1] if at + 1 < len(answers) and isinstance(answers[at + 1], bytes) else b""
            uid = _UID.search(answer[0]) or _UID.search(behind)
            if uid and b"BODY[" in answer[0]:
                yield int(uid[1]), answer[1]
        elif (empty := _EMPTY.search(answer)) and empty[1] != b"NIL" and (uid := _UID.search(answer)):
            yield int(uid[1]), b""


def _listed(answer: Any) -> tuple[frozenset[str], Path, bytes] | None:
    """Attributes in lower case, the path, and the name as the server spells it."""
    head = answer[0] if isinstance(answer, tuple) else answer
    found = _LISTED.match(head)
    if not found:
        return None
    if isinstance(answer, tuple):
        name = answer[1]
    else:
        name = _unquoted(found[3])
    separator = b"" if found[2] == b"NIL" else _unquoted(found[2])
    levels = name.split(separator) if separator else [name]
    path = tuple(map(_decoded, levels))
    attributes = frozenset(found[1].decode("ascii", "replace").lower().split())
    return attributes, () if len(path) == 1 and at_top(path[0]) == INBOX else path, name


def _decoded(level: bytes) -> str:
    try:
        return names.decode(level, utf8=False)
    except ValueError:
        return level.decode("utf-8", "replace")


def _unquoted(octets: bytes) -> bytes:
    if octets[:1] != b'"':
        return octets
    return re.sub(rb"\\(.)", rb"\1", octets[1:-1], flags=re.DOTALL)


def _quoted(name: bytes) -> bytes:
    """A name as an argument, as the server spells it: imaplib quotes nothing, and does not know what is not ASCII."""
    return b'"' + name.replace(b"\\", b"\\\\").replace(b'"', b'\\"') + b'"'


def _set(uids: Collection[int]) -> str:
    """RFC 9051 §9: a sequence-set; runs are told as one."""
    runs: list[list[int]] = []
    for uid in sorted(uids):
        if runs and runs[-1][1] == uid - 1:
            runs[-1][1] = uid
        else:
            runs.append([uid, uid])
    return ",".join(str(low) if low == high else f"{low}:{high}" for low, high in runs)


def _octets(answer: Any) -> bytes:
    return b"".join(answer) if isinstance(answer, tuple) else bytes(answer)


def _words(error: Exception) -> str:
    if isinstance(error, imaplib.IMAP4.error) and error.args and isinstance(error.args[0], bytes):
        return error.args[0].decode("utf-8", "replace")
    return str(error) or type(error).__name__
