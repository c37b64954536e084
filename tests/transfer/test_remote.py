"""A remote account, read over real sockets: our own IMAP, and servers that misbehave."""

import asyncio
import re
import socket
import ssl
import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from posthouse.transfer import remote
from posthouse.transfer.remote import Login, RemoteAccount
from posthouse.transfer.source import Flaw, Folder, Item, Seen, SourceError
from tests.cli.support import Command
from tests.cli.test_import import ALICE as TARGET
from tests.cli.test_import import held
from tests.doors.house import ALICE, PASSWORD, House, in_house, message

NAME = "mail.example.org"


@pytest.fixture(autouse=True)
def names(monkeypatch: pytest.MonkeyPatch) -> None:
    """The certificate's name leads to loopback."""
    real = socket.getaddrinfo

    def resolve(host: Any, *args: Any, **kwargs: Any) -> Any:
        return real("127.0.0.1" if host == NAME else host, *args, **kwargs)

    monkeypatch.setattr(socket, "getaddrinfo", resolve)


async def furnish(house: House) -> None:
    """Folders, flags and dates."""
    await house.file(message(1))
    await house.file(message(2), received_at=1_767_344_400_000)
    client = await house.imap()
    await client.ok(r"STORE 1 +FLAGS (\Seen \Flagged Work $Forwarded)")
    await client.ok(r"STORE 2 +FLAGS (\Deleted)")
    await client.ok('CREATE "Entw&APw-rfe/a.b"')
    await client.ok('COPY 1 "Entw&APw-rfe/a.b"')
    await client.ok("COPY 1 Sent")
    await client.ok("CREATE Empty")


def login(port: int, authorities: Path, *, security: remote.Security = "implicit", password: str = PASSWORD) -> Login:
    return Login(NAME, port, security, ALICE, password, str(authorities))


@pytest.mark.parametrize("security", ["implicit", "starttls"])
def test_folders_and_messages(tmp_path: Path, security: remote.Security) -> None:
    def read(port: int) -> None:
        account = RemoteAccount(login(port, tmp_path / "tls" / "ca.pem", security=security))
        try:
            folders = account.folders()
            assert folders[0] == Folder((), 2)
            assert Folder(("Entwürfe", "a.b"), 1) in folders
            assert Folder(("Sent",), 1, "sent") in folders
            first, second = list(account.items(folders[0], lambda keys: set()))
            assert isinstance(first, Item)
            assert isinstance(second, Item)
            assert first.keywords == {"$seen", "$flagged", "Work", "$Forwarded"}
            assert (first.deleted, second.deleted) == (False, True)
            assert (first.received_at, second.received_at) == (1_767_258_000_000, 1_767_344_400_000)
            assert b"".join(first.pieces) == message(1)
            again = list(account.items(folders[0], lambda keys: {first.key or b""}))
            assert [type(one) for one in again] == [Seen, Item]
            assert list(account.items(Folder(("Empty",), 0), lambda keys: set())) == []
        finally:
            account.close()
            account.close()

    async def test(house: House) -> None:
        await furnish(house)
        port = house.imaps_port if security == "implicit" else house.imap_port
        await asyncio.to_thread(read, port)
        # Nothing was marked.
        assert b"UNSEEN 1" in b"".join(await (await house.imap()).ok("STATUS INBOX (UNSEEN)"))

    in_house(tmp_path, test, clear_text_login=True)


def test_large_messages_come_in_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "_TEXT", 1000)
    large = b"Subject: x\r\n\r\n" + b"".join(b"%d\r\n" % number for number in range(5000))
    exact = b"Subject: y\r\n\r\n" + b"z" * (2000 - 14)

    def read(port: int) -> None:
        account = RemoteAccount(login(port, tmp_path / "tls" / "ca.pem"))
        try:
            found = account.items(account.folders()[0], lambda keys: set())
            texts = [b"".join(one.pieces) for one in found if isinstance(one, Item)]
            assert texts == [large, exact, message(1), message(2), message(3)]
        finally:
            account.close()

    async def test(house: House) -> None:
        for octets in (large, exact, *map(message, (1, 2, 3))):
            await house.file(octets)
        await asyncio.to_thread(read, house.imaps_port)

    in_house(tmp_path, test)


def test_the_other_side_is_verified(tmp_path: Path) -> None:
    def refused(port: int) -> None:
        with pytest.raises(SourceError, match="certificate verify failed"):
            RemoteAccount(Login(NAME, port, "implicit", ALICE, PASSWORD))
        with pytest.raises(SourceError, match="certificate verify failed"):
            RemoteAccount(Login("127.0.0.1", port, "implicit", ALICE, PASSWORD, str(tmp_path / "tls" / "ca.pem")))
        with pytest.raises(SourceError, match="AUTHENTICATIONFAILED"):
            RemoteAccount(login(port, tmp_path / "tls" / "ca.pem", password="wrong"))
        with pytest.raises(SourceError):
            RemoteAccount(login(port, tmp_path / "nothing.pem"))

    async def test(house: House) -> None:
        await asyncio.to_thread(refused, house.imaps_port)

    in_house(tmp_path, test)


def test_a_whole_account_by_the_command(tmp_path: Path) -> None:
    command = Command(tmp_path)
    command("init", "--domain", "example.org", "--hostname", "mail.example.org")
    command("account", "add", TARGET, "--password", "long enough for us")
    away = tmp_path / "away"
    away.mkdir()
    (tmp_path / "password").write_text(f"{PASSWORD}\n")

    async def test(house: House) -> None:
        await furnish(house)
        source = f"imaps://{ALICE.replace('@', '%40')}@{NAME}:{house.imaps_port}"
        options = ("--password-file", str(tmp_path / "password"), "--authorities", str(away / "tls" / "ca.pem"))

        def bring() -> str:
            return command("import", TARGET, source, *options)

        assert await asyncio.to_thread(bring) == "4 imported, 0 were there\n"
        await house.file(message(3))
        assert await asyncio.to_thread(bring) == "1 imported, 4 were there\n"

    in_house(away, test)
    found = held(command)
    assert {path: len(rows) for path, rows in found.items()} == {"INBOX": 3, "Sent": 1, "Entwürfe/a.b": 1}
    assert found["INBOX"][0][1:] == ({"$seen", "$flagged", "Work", "$forwarded"}, False, 1_767_258_000_000)
    assert found["INBOX"][1][2]


# --- servers that nobody should be ------------------------------------------------------------------------------------


HANGS = b"!hangs up"


@contextmanager
def scripted(
    tmp_path: Path, answer: Callable[[bytes, bytes], bytes], waited: list[float] | None = None
) -> Iterator[RemoteAccount]:
    """An account at such a server. What is waited between two connections is only noted."""
    waits: list[float] = [] if waited is None else waited
    with serving(tmp_path, answer) as port:
        account = RemoteAccount(login(port, tmp_path / "ca.pem"), sleep=waits.append)
        try:
            yield account
        finally:
            account.close()


@contextmanager
def serving(tmp_path: Path, answer: Callable[[bytes, bytes], bytes]) -> Iterator[int]:
    """The port of a server that answers a tag and a command as it likes; it hangs up behind octets that end in HANGS,
    and then takes the next connection."""
    listening = socket.create_server(("127.0.0.1", 0))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*_pair(tmp_path))

    def serve() -> None:
        while True:
            try:
                plain, _ = listening.accept()
            except OSError:
                return
            with suppress(OSError), context.wrap_socket(plain, server_side=True) as stream:
                _converse(stream, answer)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield listening.getsockname()[1]
    finally:
        # Not every system wakes who accepts when the socket is closed.
        listening.shutdown(socket.SHUT_RDWR)
        listening.close()
        thread.join(60)
        assert not thread.is_alive()


def _converse(stream: ssl.SSLSocket, answer: Callable[[bytes, bytes], bytes]) -> None:
    with stream.makefile("rb") as lines:
        stream.sendall(b"* OK [CAPABILITY IMAP4rev1 AUTH=PLAIN] hello\r\n")
        for line in lines:
            tag, _, command = line.rstrip(b"\r\n").partition(b" ")
            if command == b"AUTHENTICATE PLAIN":
                stream.sendall(b"+ \r\n")
                lines.readline()
                stream.sendall(tag + b" OK in\r\n")
            elif command == b"CAPABILITY":
                stream.sendall(b"* CAPABILITY IMAP4rev1 AUTH=PLAIN\r\n" + tag + b" OK done\r\n")
            else:
                said = answer(tag, command)
                stream.sendall(said.removesuffix(HANGS))
                if said.endswith(HANGS):
                    return


def _pair(directory: Path) -> tuple[Path, Path]:
    from posthouse.clock import SystemClock
    from posthouse.net.tls import private_pair

    return private_pair(directory, NAME, SystemClock())


LIST = (
    b'* LIST (\\HasNoChildren) "." INBOX\r\n* LIST (\\All) "." "All Mail"\r\n* LIST (\\Noselect) "." x\r\n'
    b'* LIST () NIL {3}\r\na"b\r\n* LIST () "." "INBOX.Sent &bad"\r\n'
)


def test_odd_lists_and_views(tmp_path: Path) -> None:
    def answer(tag: bytes, command: bytes) -> bytes:
        if command.startswith(b"LIST"):
            return LIST + tag + b" OK done\r\n"
        if command.startswith(b"STATUS INBOX") or command == b'STATUS "INBOX" (MESSAGES)':
            return b'* STATUS "INBOX" (MESSAGES 7)\r\n' + tag + b" OK done\r\n"
        return tag + b" NO there is nothing of that kind\r\n"

    with scripted(tmp_path, answer) as account:
        assert account.folders() == [Folder((), 7), Folder(("INBOX", "Sent &bad"), 0), Folder(('a"b',), 0)]
        assert account.left_out == ["All Mail"]
        (flaw,) = account.items(Folder(('a"b',), 0), lambda keys: set())
        assert flaw == Flaw('a"b', "EXAMINE: there is nothing of that kind", 0)


def test_what_a_server_does_not_send(tmp_path: Path) -> None:
    """One message it cannot, one that is gone, one that is empty, and flags behind the text."""

    def answer(tag: bytes, command: bytes) -> bytes:
        if command.startswith(b"LIST"):
            return b'* LIST () "/" INBOX\r\n' + tag + b" OK done\r\n"
        if command.startswith(b"EXAMINE"):
            return b"* 4 EXISTS\r\n* OK [UIDVALIDITY 9] fine\r\n" + tag + b" OK [READ-ONLY] there\r\n"
        if command.startswith(b"FETCH"):
            return b"".join(b"* %d FETCH (UID %d)\r\n" % (n, n * 10) for n in (1, 2, 3, 4)) + tag + b" OK done\r\n"
        if b"RFC822.SIZE" in command:
            facts = b'* %d FETCH (FLAGS (\\Seen) UID %d INTERNALDATE " 1-Jan-2026 04:00:00 -0500" RFC822.SIZE 5)\r\n'
            return b"".join(facts % (n, n * 10) for n in (1, 2, 4)) + tag + b" OK done\r\n"
        if command == b"UID FETCH 10 (UID BODY.PEEK[])":
            return (
                b"* 1 FETCH (BODY[] {5}\r\nA: b\n FLAGS () UID 10)\r\n* 2 FETCH (FLAGS ())\r\n" + tag + b" OK done\r\n"
            )
        if command == b"UID FETCH 40 (UID BODY.PEEK[])":
            return b'* 4 FETCH (UID 40 BODY[] "")\r\n' + tag + b" OK done\r\n"
        if command.startswith(b"UID FETCH"):
            return tag + b" NO one of them is damaged\r\n"
        return tag + b" OK done\r\n"

    with scripted(tmp_path, answer) as account:
        account.folders()
        found = list(account.items(Folder((), 4), lambda keys: set()))
        assert found[0] == Seen(0, 1)
        first, second, third = found[1:]
        assert isinstance(first, Item)
        assert (b"".join(first.pieces), first.received_at) == (b"A: b\n", 1_767_258_000_000)
        assert first.keywords == {"$seen"}
        assert second == Flaw("uid 20", "the server did not send it")
        assert isinstance(third, Item)
        assert b"".join(third.pieces) == b""


@pytest.mark.parametrize(
    "said", [HANGS, b"nonsense\r\n", b"* BYE\r\n", b'* LIST () "/'], ids=["gone", "no", "bye", "half"]
)
def test_a_connection_that_is_lost_for_good(tmp_path: Path, said: bytes) -> None:
    waited: list[float] = []
    answer = said.removesuffix(HANGS) + HANGS
    with (
        scripted(tmp_path, lambda tag, command: answer, waited) as account,
        pytest.raises(SourceError, match="LIST"),
    ):
        account.folders()
    assert waited == [1.0, 2.0, 5.0, 10.0, 30.0]


def test_no_more_is_read_than_was_asked_for(tmp_path: Path) -> None:
    waited: list[float] = []
    with (
        scripted(tmp_path, lambda tag, command: b'* LIST () "/" {99999999999}\r\n', waited) as account,
        pytest.raises(SourceError, match="99999999999 octets at once"),
    ):
        account.folders()
    assert waited == []


class Forgetful:
    """A server with messages of uids 10, 20 … that hangs up the first times that something is said to it, where
    `hangs` says, behind so many octets of its answer. `validity` is told by turns."""

    def __init__(self, messages: list[bytes], hangs: dict[bytes, list[int]], validity: Sequence[int] = (9,)) -> None:
        self.messages = messages
        self.hangs = hangs
        self.validity = list(validity)
        self.asked: list[bytes] = []

    def __call__(self, tag: bytes, command: bytes) -> bytes:
        self.asked.append(command)
        said = self.answer(command) + tag + b" OK done\r\n"
        for start, times in self.hangs.items():
            if command.startswith(start) and times:
                return said[: times.pop(0)] + HANGS
        return said

    def answer(self, command: bytes) -> bytes:
        if command.startswith(b"LIST"):
            return b'* LIST () "/" INBOX\r\n'
        if command.startswith(b"EXAMINE"):
            validity = self.validity.pop(0) if len(self.validity) > 1 else self.validity[0]
            return b"* %d EXISTS\r\n* OK [UIDVALIDITY %d] fine\r\n" % (len(self.messages), validity)
        told = b""
        for number, octets in enumerate(self.messages, 1):
            uid = number * 10
            if command.startswith(b"FETCH"):
                told += b"* %d FETCH (UID %d)\r\n" % (number, uid)
            elif b"RFC822.SIZE" in command:
                told += b"* %d FETCH (FLAGS () UID %d RFC822.SIZE %d)\r\n" % (number, uid, len(octets))
            elif command.startswith(b"UID FETCH %d (" % uid) or b"PEEK[])" in command:
                piece = octets
                if found := re.search(rb"<(\d+)\.(\d+)>", command):
                    piece = octets[int(found[1]) : int(found[1]) + int(found[2])]
                told += b"* %d FETCH (UID %d BODY[] {%d}\r\n%b)\r\n" % (number, uid, len(piece), piece)
        return told


@pytest.mark.parametrize(
    ("start", "times", "pauses"),
    [
        (b"LIST", [0], [1.0]),
        (b"EXAMINE", [0, 12], [1.0, 2.0]),
        (b"FETCH", [30], [1.0]),
        (b"UID FETCH 10,20,30 (UID FLAGS", [60, 0, 1], [1.0, 2.0, 5.0]),
        (b"UID FETCH 10,20,30 (UID BODY.PEEK[])", [90, 200], [1.0, 2.0]),
        (b"UID FETCH 10 (UID BODY.PEEK[]<1000.1000>)", [500, 500, 0], [1.0, 2.0, 5.0]),
    ],
)
def test_it_goes_on_where_the_server_hung_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, start: bytes, times: list[int], pauses: list[float]
) -> None:
    """Nothing is lost, nothing comes twice, whatever was cut off in the middle."""
    monkeypatch.setattr(remote, "_TEXT", 1000)
    first = message(1, "x" * 3000) if b"<" in start else message(1)
    server = Forgetful([first, message(2), message(3)], {start: list(times)})
    waited: list[float] = []
    with scripted(tmp_path, server, waited) as account:
        (folder,) = account.folders()
        found = [(one.name, b"".join(one.pieces)) for one in account.items(folder, _nothing) if isinstance(one, Item)]
    assert sorted(found) == [("uid 10", first), ("uid 20", message(2)), ("uid 30", message(3))]
    assert waited == pauses
    assert not server.hangs[start]


def test_a_loss_is_counted_by_the_command(tmp_path: Path) -> None:
    """A server that hangs up after each answer is read to the end all the same."""
    server = Forgetful([message(1)], {})

    def answer(tag: bytes, command: bytes) -> bytes:
        return server(tag, command) + (b"" if command.startswith((b"EXAMINE", b"LIST")) else HANGS)

    with scripted(tmp_path, answer) as account:
        (folder,) = account.folders()
        (item,) = account.items(folder, _nothing)
        assert isinstance(item, Item)
        assert b"".join(item.pieces) == message(1)


def test_a_folder_that_was_made_anew_is_not_gone_on_with(tmp_path: Path) -> None:
    """RFC 9051 §2.3.1.1: another UIDVALIDITY, other messages."""
    server = Forgetful([message(1)], {b"UID FETCH": [0]}, [9, 10])
    with scripted(tmp_path, server) as account:
        (folder,) = account.folders()
        with pytest.raises(SourceError, match="made anew"):
            list(account.items(folder, _nothing))


def _nothing(keys: Collection[bytes]) -> set[bytes]:
    return set()


def test_the_command_goes_on_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was brought before the loss is there once."""
    monkeypatch.setattr(remote, "_PAUSES", (0.0, 0.0))
    command = Command(tmp_path)
    command("init", "--domain", "example.org", "--hostname", "mail.example.org")
    command("account", "add", TARGET, "--password", "long enough for us")
    server = Forgetful([message(n) for n in (1, 2, 3)], {b"UID FETCH 10,20,30 (UID BODY": [400]})
    with serving(tmp_path, server) as port:
        url = f"imaps://alice%40example.org@{NAME}:{port}"
        password, trusted = tmp_path / "password", str(tmp_path / "ca.pem")
        password.write_text("x")
        said = command.result("import", TARGET, url, "--password-file", str(password), "--authorities", trusted)
    assert (said.exit_code, said.stdout) == (0, "3 imported, 0 were there\n")
    assert f"{NAME}: FETCH: " in said.stderr
    assert [len(rows) for rows in held(command).values()] == [3]


def test_one_message_that_the_server_cannot_tell_of_holds_up_no_other(tmp_path: Path) -> None:
    """Servers may answer NO for a whole set where one of its messages is damaged."""
    server = Forgetful([message(1), message(2), message(3)], {})

    def answer(tag: bytes, command: bytes) -> bytes:
        if b"RFC822.SIZE" in command and re.search(rb"UID FETCH [\d,:]*\b20\b", command):
            return tag + b" NO it is damaged\r\n"
        if found := re.match(rb"UID FETCH (\d+) \(UID FLAGS", command):
            uid = int(found[1])
            size = len(message(uid // 10))
            return b"* %d FETCH (FLAGS () UID %d RFC822.SIZE %d)\r\n" % (uid // 10, uid, size) + tag + b" OK done\r\n"
        return server(tag, command)

    with scripted(tmp_path, answer) as account:
        (folder,) = account.folders()
        first, second, third = account.items(folder, _nothing)
    assert second == Flaw("uid 20", "FETCH: it is damaged")
    assert isinstance(first, Item)
    assert isinstance(third, Item)
    assert (first.name, third.name) == ("uid 10", "uid 30")


@pytest.mark.parametrize("said", [b"", b"NO it is damaged"], ids=["gone", "no"])
def test_a_large_message_that_does_not_come_is_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: bytes
) -> None:
    """Removed since it was listed, or unreadable: the others come, and the run does not end."""
    monkeypatch.setattr(remote, "_TEXT", 1000)
    server = Forgetful([message(1, "x" * 3000), message(2)], {})

    def answer(tag: bytes, command: bytes) -> bytes:
        if b"<1000.1000>" in command:
            return tag + b" " + (said or b"OK done") + b"\r\n"
        return server(tag, command)

    command = Command(tmp_path)
    command("init", "--domain", "example.org", "--hostname", "mail.example.org")
    command("account", "add", TARGET, "--password", "long enough for us")
    with serving(tmp_path, answer) as port:
        url = f"imaps://alice%40example.org@{NAME}:{port}"
        password, trusted = tmp_path / "password", str(tmp_path / "ca.pem")
        password.write_text("x")
        result = command.result("import", TARGET, url, "--password-file", str(password), "--authorities", trusted)
    assert (result.exit_code, result.stdout) == (1, "1 imported, 0 were there, 1 passed over\n")
    assert "passed over uid 10: " in result.stderr


def test_a_folder_whose_uids_are_not_told_is_passed_over(tmp_path: Path) -> None:
    server = Forgetful([message(1)], {})

    def answer(tag: bytes, command: bytes) -> bytes:
        return tag + b" NO not now\r\n" if command.startswith(b"FETCH") else server(tag, command)

    with scripted(tmp_path, answer) as account:
        (folder,) = account.folders()
        assert list(account.items(folder, _nothing)) == [Flaw("INBOX", "FETCH: not now", folder.size)]


@pytest.mark.parametrize("exists", [b"* EXISTS many", b"* " + b"9" * 5000 + b" EXISTS"])
def test_a_number_of_messages_that_is_none(tmp_path: Path, exists: bytes) -> None:
    server = Forgetful([message(1)], {})

    def answer(tag: bytes, command: bytes) -> bytes:
        return exists + b"\r\n" + tag + b" OK done\r\n" if command.startswith(b"EXAMINE") else server(tag, command)

    with scripted(tmp_path, answer) as account:
        (folder,) = account.folders()
        with pytest.raises(SourceError, match="how many messages"):
            list(account.items(folder, _nothing))


def test_names_that_are_not_ascii_are_asked_for_as_they_were_told(tmp_path: Path) -> None:
    asked: list[bytes] = []

    def answer(tag: bytes, command: bytes) -> bytes:
        asked.append(command)
        told = '* LIST () "/" "Entwürfe"\r\n'.encode() if command.startswith(b"LIST") else b""
        return told + tag + b" OK done\r\n"

    with scripted(tmp_path, answer) as account:
        (folder,) = account.folders()
        assert folder == Folder(("Entwürfe",), 0)
        assert list(account.items(folder, _nothing)) == []
    assert 'EXAMINE "Entwürfe"'.encode() in asked


def test_an_answer_without_end_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A thousand literals, each of a size that might be."""
    monkeypatch.setattr(remote, "_LARGEST_ANSWER", 100_000)
    literal = b'* LIST () "/" {1000}\r\n' + b"x" * 1000 + b"\r\n"
    with (
        scripted(tmp_path, lambda tag, command: literal * 1000 + tag + b" OK done\r\n") as account,
        pytest.raises(SourceError, match="more than 100000 octets in one answer"),
    ):
        account.folders()
