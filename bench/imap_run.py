"""One run of `python -m bench imap` over one server: what a client does, and what it took.

The order matters: what is done for the first time ever comes first, what takes the messages away comes last.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from random import Random
from time import perf_counter
from typing import Final

from bench.corpus import COMMON, RARE, RARE_MESSAGES, RARE_SUBJECT, Sample
from bench.imap_client import Client, Pop3, log_in_many
from bench.imap_servers import ADDRESS, Server
from bench.report import median

SUMMARIES: Final = b"FETCH 1:* (FLAGS INTERNALDATE RFC822.SIZE ENVELOPE BODYSTRUCTURE)"
# What Thunderbird asks of each message that it has not seen yet, about.
FIELDS: Final = (
    b"FETCH 1:* (UID FLAGS BODY.PEEK[HEADER.FIELDS (From To Cc Bcc Subject Date Message-ID Priority X-Priority "
    b"References In-Reply-To Content-Type Reply-To List-Id)])"
)
# Messages in one APPEND: the most that posthouse takes.
TOGETHER: Final = 500
_CHANGES: Final = 100
_SAMPLE: Final = 100


@dataclass(frozen=True, slots=True)
class Taken:
    """What something took: seconds by the clock, and of the server's CPU."""

    wall: float
    cpu: float


class Meter:
    """Takes the time of a server."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.taken: dict[str, Taken] = {}

    def take(
        self, row: str, work: Callable[[], object], *, times: int = 1, each: int = 1, settle: bool = False
    ) -> None:
        """Do it so many times: the median by the clock, and the mean of CPU; divided by `each`.

        With `settle` what the server does behind its answers counts too.
        """
        walls: list[float] = []
        used = self.server.cpu()
        for _ in range(times):
            began = perf_counter()
            work()
            if settle:
                self.server.settle()
            walls.append(perf_counter() - began)
        self.taken[row] = Taken(median(walls) / each, (self.server.cpu() - used) / times / each)


def load(server: Server, user: str, samples: Sequence[Sample]) -> None:
    """Put the messages into the Inbox of a user."""
    with Client(ADDRESS, server.imap).log_in(*server.person(user)) as client:
        for start in range(0, len(samples), TOGETHER):
            client.append("INBOX", samples[start : start + TOGETHER])
    server.settle()


def capabilities(server: Server, user: str) -> frozenset[str]:
    """What it announces after login."""
    with Client(ADDRESS, server.imap).log_in(*server.person(user)) as client:
        return frozenset(client.ask(b"CAPABILITY").decode().partition("\r\n")[0].upper().split())


class Run:
    """All rows over a user's Inbox that nobody has opened yet; `can` is what all servers announce."""

    def __init__(self, server: Server, user: str, samples: Sequence[Sample], can: frozenset[str]) -> None:
        self._server = server
        self._person = server.person(user)
        self._samples = samples
        self._can = can
        self._meter = Meter(server)

    def rows(self) -> dict[str, Taken]:
        """Measure them. AssertionError where an answer is not what it must be."""
        self._open_cold()
        with self._selected() as client:
            self._fetch(client)
            self._search(client)
            self._sort(client)
            self._store(client)
            self._append(client)
        self._resynchronise()
        self._retrieve()
        with self._selected() as client:
            self._transfer(client)
            self._verify(client)
        return self._meter.taken

    def _client(self) -> Client:
        return Client(ADDRESS, self._server.imap).log_in(*self._person)

    def _selected(self) -> Client:
        client = self._client()
        client.command(b"SELECT INBOX")
        return client

    def _open_cold(self) -> None:
        self._server.restart()
        with self._client() as client:
            self._meter.take("SELECT, cold", lambda: client.command(b"SELECT INBOX"))
            client.command(b"UNSELECT")
        with self._client() as client:

            def opened() -> None:
                client.command(b"SELECT INBOX")
                client.command(b"UNSELECT")

            opened()
            self._meter.take("SELECT and UNSELECT, warm", opened, times=20)

    def _fetch(self, client: Client) -> None:
        take = self._meter.take
        take("FETCH summaries, first time ever", lambda: client.command(SUMMARIES))
        take("FETCH summaries, warm", lambda: client.command(SUMMARIES), times=3)
        take("FETCH header fields, first time ever", lambda: client.command(FIELDS))
        take("FETCH header fields, warm", lambda: client.command(FIELDS), times=3)
        take("FETCH flags", lambda: client.command(b"FETCH 1:* (UID FLAGS)"), times=5)
        octets = sum(len(one.octets) for one in self._samples)

        def bodies() -> None:
            got = client.command(b"FETCH 1:* (BODY.PEEK[])")
            assert got > octets, f"{got} octets of {octets}"

        take("FETCH all bodies", bodies, times=3)

    def _search(self, client: Client) -> None:
        found = min(RARE_MESSAGES, len(self._samples))
        for first in (", first time ever", ""):
            for key, word in (("SUBJECT", RARE_SUBJECT), ("BODY", RARE)):
                asked = f"SEARCH {key} {word}".encode()
                assert first or _numbers(client.ask(asked)) == found, f"{key} {word} is not found"
                name = f"SEARCH {key}, a rare word{first}"
                self._meter.take(name, partial(client.command, asked), times=1 if first else 5)
            self._server.settle()
        for key in ("SUBJECT", "BODY"):
            asked = f"SEARCH {key} {COMMON}".encode()
            self._meter.take(f"SEARCH {key}, a common word", partial(client.command, asked), times=5)
        self._meter.take("SEARCH UNSEEN", lambda: client.command(b"SEARCH UNSEEN"), times=5)

    def _sort(self, client: Client) -> None:
        if "SORT" in self._can:
            for name, keys in (("subject", b"SUBJECT"), ("newest first", b"REVERSE DATE")):
                text = b"SORT (%b) UTF-8 ALL" % keys
                self._meter.take(f"SORT by {name}", partial(client.command, text), times=3)
        if "THREAD=REFERENCES" in self._can:
            self._meter.take("THREAD", lambda: client.command(b"THREAD REFERENCES UTF-8 ALL"), times=3)

    def _store(self, client: Client) -> None:
        def both(silent: bytes) -> Callable[[], None]:
            def store() -> None:
                client.command(b"STORE 1:* +FLAGS%b (\\Flagged)" % silent)
                client.command(b"STORE 1:* -FLAGS%b (\\Flagged)" % silent)

            return store

        self._meter.take("STORE on all, silent", both(b".SILENT"), times=3, each=2)
        self._meter.take("STORE on all, answered", both(b""), times=3, each=2)

    def _append(self, client: Client) -> None:
        """Into a mailbox of their own, which is empty: the same messages for all servers."""
        count = min(1000, len(self._samples))
        some = self._samples[:count]

        def singly() -> None:
            for one in some:
                client.append("Appended", [one])

        def together() -> None:
            for start in range(0, count, TOGETHER):
                client.append("Together", some[start : start + TOGETHER])

        client.command(b"CREATE Appended")
        self._meter.take("APPEND one by one", singly, each=count, settle=True)
        client.command(b"CREATE Together")
        self._meter.take(f"MULTIAPPEND of {TOGETHER}", together, each=count, settle=True)

    def _resynchronise(self) -> None:
        if not {"CONDSTORE", "QRESYNC", "ENABLE"} <= self._can:
            return
        with self._client() as client:
            client.command(b"ENABLE QRESYNC")
            opened = client.ask(b"SELECT INBOX")
            validity, modseq = (_number(opened, name) for name in (b"UIDVALIDITY", b"HIGHESTMODSEQ"))
            step = max(1, len(self._samples) // _CHANGES)
            for number in range(1, len(self._samples) + 1, step):
                client.command(b"STORE %d +FLAGS.SILENT (\\Draft)" % number)
            since = b"FETCH 1:* (FLAGS) (CHANGEDSINCE %d)" % modseq
            self._meter.take("CONDSTORE: what has changed", lambda: client.command(since), times=5)
            client.command(b"UNSELECT")
            again = b"SELECT INBOX (QRESYNC (%d %d))" % (validity, modseq)

            def resync() -> None:
                client.command(again)
                client.command(b"UNSELECT")

            self._meter.take("QRESYNC after 100 changes", resync, times=10)

    def _retrieve(self) -> None:
        client = Pop3(ADDRESS, self._server.pop3).log_in(*self._person)
        octets = sum(len(one.octets) for one in self._samples)

        def retrieve() -> None:
            got = client.retrieve(range(1, len(self._samples) + 1))
            assert got > octets, f"{got} octets of {octets}"

        self._meter.take("POP3 RETR of all", retrieve)
        client.close()

    def _transfer(self, client: Client) -> None:
        client.command(b"CREATE Copies")
        client.command(b"CREATE Moved")
        self._meter.take("COPY of all", lambda: client.command(b"COPY 1:* Copies"), settle=True)
        self._meter.take("MOVE of all", lambda: client.command(b"MOVE 1:* Moved"), settle=True)

    def _verify(self, client: Client) -> None:
        """A hundred messages are what was given, after all that."""
        for mailbox in (b"Copies", b"Moved"):
            opened = client.ask(b"EXAMINE " + mailbox)
            assert b"* %d EXISTS" % len(self._samples) in opened, opened
            for number in Random(1).sample(range(len(self._samples)), min(_SAMPLE, len(self._samples)) // 2):
                answer = client.ask(b"FETCH %d (BODY.PEEK[])" % (number + 1))
                assert self._samples[number].octets in answer, f"{self._server.name}: message {number} of {mailbox!r}"


def log_in(server: Server, regular: str, newcomers: Sequence[str], count: int) -> dict[str, Taken]:
    """Logins: of somebody who was here before, and of each newcomer once."""
    meter = Meter(server)
    known = [server.person(regular)] * count
    log_in_many(ADDRESS, server.imap, known[:1], 1)
    meter.take("login and logout", lambda: log_in_many(ADDRESS, server.imap, known, 1), each=count)
    meter.take("login and logout, 8 at once", lambda: log_in_many(ADDRESS, server.imap, known, 8), each=count)
    new = [server.person(user) for user in newcomers]
    meter.take(HASHED, lambda: log_in_many(ADDRESS, server.imap, new, 8), each=len(new))
    return meter.taken


HASHED: Final = "the first login of an account, with the password hash, 8 at once"


def _numbers(answer: bytes) -> int:
    """How many numbers SEARCH has found."""
    line = next(line for line in answer.split(b"\r\n") if line.startswith(b"* SEARCH"))
    return len(line.split()) - 2


def _number(answer: bytes, name: bytes) -> int:
    found = re.search(rb"\[%b (\d+)" % name, answer)
    assert found, answer
    return int(found[1])
