"""The POP3 door over a real store and real sockets."""

import asyncio
import base64
import poplib
import ssl
from pathlib import Path

import pytest

from posthouse.clock import SetClock
from posthouse.directory import accounts
from posthouse.policy.limits import Limits
from posthouse.store.database import StoreUnavailable
from posthouse.written import Rate
from tests.doors.house import ALICE, MESSAGE, PASSWORD, House, in_house, message, opened
from tests.support import run


async def fill(house: House, count: int = 3) -> None:
    """Messages 1 to `count` in Alice's Inbox."""
    for number in range(1, count + 1):
        await house.file(message(number))


def test_poplib_walks_through_it(tmp_path: Path) -> None:
    """A client nobody here wrote, by STLS and over implicit TLS."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE

    def walk(client: poplib.POP3) -> None:
        client.user(ALICE)
        client.pass_(PASSWORD)
        assert client.stat() == (3, 3 * len(message(1)))
        assert client.list()[1] == [b"%d %d" % (n, len(message(n))) for n in (1, 2, 3)]
        assert b"\r\n".join([*client.retr(2)[1], b""]) == message(2)
        assert client.top(3, 0)[1][-1] == b""
        assert len(client.uidl()[1]) == 3
        client.noop()
        client.dele(1)
        client.rset()
        assert client.stat()[0] == 3
        client.quit()

    def upgraded(port: int) -> None:
        client = poplib.POP3("127.0.0.1", port, timeout=20)
        assert "STLS" in client.capa()
        assert "USER" not in client.capa()
        with pytest.raises(poplib.error_proto):
            client.user(ALICE)
        client.stls(context)
        assert "USER" in client.capa()
        assert "STLS" not in client.capa()
        walk(client)

    async def test(house: House) -> None:
        await fill(house)
        await asyncio.to_thread(upgraded, house.pop3_port)
        secured = await asyncio.to_thread(poplib.POP3_SSL, "127.0.0.1", house.pop3s_port, context=context, timeout=20)
        await asyncio.to_thread(walk, secured)

    in_house(tmp_path, test, clear_text_login=False)


def test_what_it_can_do(tmp_path: Path) -> None:
    async def test(house: House) -> None:
        client = await house.pop3(None)
        found = await client.lines("CAPA")
        for capability in (b"TOP", b"UIDL", b"RESP-CODES", b"AUTH-RESP-CODE", b"PIPELINING", b"USER", b"STLS"):
            assert capability in found
        assert b"SASL SCRAM-SHA-256 PLAIN LOGIN" in found

    in_house(tmp_path, test)


def test_logins(tmp_path: Path) -> None:
    async def test(house: House) -> None:
        client = await house.pop3(None)
        assert await client.say(f"USER {ALICE}") == b"+OK Now the password"
        assert await client.say("PASS wrong") == b"-ERR [AUTH] Wrong login or password"
        assert await client.say("USER nobody@example.org") == b"+OK Now the password"
        assert await client.say("PASS wrong") == b"-ERR [AUTH] Wrong login or password"
        assert await client.say("AUTH PLAIN") == b"+ "
        assert (await client.say("*")).startswith(b"-ERR")
        assert await client.say("AUTH CRAM-MD5") == b"-ERR This mechanism is not offered"
        assert await client.say("AUTH PLAIN AGE=") == b"-ERR This is no such exchange"
        initial = base64.b64encode(f"\0{ALICE}\0{PASSWORD}".encode()).decode()
        assert await client.say(f"AUTH PLAIN {initial}") == b"+OK 0 messages"

    in_house(tmp_path, test)


def test_too_many_guesses_and_a_disabled_account(tmp_path: Path) -> None:
    async def test(house: House) -> None:
        await house.store.write(accounts.set_enabled, house.bob.id, False)
        client = await house.pop3(None)
        await client.say("USER bob@example.org")
        assert await client.say(f"PASS {PASSWORD}") == b"-ERR [AUTH] This account is disabled"
        for n in range(2):
            await client.say(f"USER {ALICE}")
            await client.say(f"PASS wrong{n}")
        await client.say(f"USER {ALICE}")
        assert await client.say("PASS wrong2") == b"-ERR [LOGIN-DELAY] Too many failed logins; try again later"

    in_house(tmp_path, test, failures=Rate(2, 600), clock=SetClock())


def test_messages_are_removed_at_quit_and_not_before(tmp_path: Path) -> None:
    async def test(house: House) -> None:
        await fill(house)
        client = await house.pop3()
        assert await client.say("DELE 2") == b"+OK It will be removed at QUIT"
        assert await client.say("DELE 2") == b"-ERR There is no such message"
        assert await client.say("RETR 2") == b"-ERR There is no such message"
        assert await client.say("LIST 4") == b"-ERR There is no such message"
        assert await client.say("STAT") == b"+OK 2 %d" % (2 * len(message(1)))
        assert [line.split()[0] for line in await client.lines("UIDL")] == [b"1", b"3"]
        before = await house.pop3()
        assert (await before.say("STAT")).startswith(b"+OK 3 ")
        assert await client.say("QUIT") == b"+OK Goodbye"
        assert await client.closed()
        assert (await (await house.pop3()).say("STAT")).startswith(b"+OK 2 ")

    in_house(tmp_path, test)


def test_a_connection_that_breaks_removes_nothing(tmp_path: Path) -> None:
    """RFC 1939 §6: UPDATE is entered by QUIT only; §3: not by a time-out."""

    async def test(house: House) -> None:
        await fill(house)
        broken, late = await house.pop3(), await house.pop3()
        assert (await broken.say("DELE 1")).startswith(b"+OK")
        await broken.close()
        assert (await late.say("DELE 1")).startswith(b"+OK")
        assert await late.line() == b"-ERR You took too long"
        assert (await (await house.pop3()).say("STAT")).startswith(b"+OK 3 ")

    in_house(tmp_path, test, idle_timeout=0.2)


def test_what_is_gone_stays_readable_until_the_session_ends(tmp_path: Path) -> None:
    async def test(house: House) -> None:
        await fill(house)
        client, other = await house.pop3(), await house.imap()
        await other.ok(r"STORE 1:2 +FLAGS.SILENT (\Deleted)")
        await other.ok("EXPUNGE")
        assert b"\r\n".join([*await client.lines("RETR 1"), b""]) == message(1)
        assert (await client.say("DELE 1")).startswith(b"+OK")
        assert (await client.say("DELE 3")).startswith(b"+OK")
        assert await client.say("QUIT") == b"+OK Goodbye"
        assert (await (await house.pop3()).say("STAT")).startswith(b"+OK 0 ")

    in_house(tmp_path, test)


def test_uidl_stays_across_restarts_and_changes(tmp_path: Path) -> None:
    """RFC 1939 §7"""

    async def first() -> list[bytes]:
        async with opened(tmp_path) as house:
            await fill(house)
            return [line.split()[1] for line in await (await house.pop3()).lines("UIDL")]

    async def second() -> list[bytes]:
        async with opened(tmp_path) as house:
            other = await house.imap()
            await other.ok(r"STORE 1 +FLAGS.SILENT (\Deleted)")
            await other.ok("EXPUNGE")
            await other.ok("RENAME Archive Old")
            await house.file(message(4))
            client = await house.pop3()
            found = [line.split()[1] for line in await client.lines("UIDL")]
            assert (await client.say("UIDL 1")).split()[2] == found[0]
            return found

    before, after = run(first()), run(second())
    assert after[:2] == before[1:]
    assert len(set(before + after)) == 4


def test_what_is_marked_deleted_elsewhere_is_not_shown(tmp_path: Path) -> None:
    async def test(house: House) -> None:
        await fill(house)
        await (await house.imap()).ok(r"STORE 2 +FLAGS.SILENT (\Deleted)")
        assert (await (await house.pop3()).say("STAT")).startswith(b"+OK 2 ")

    in_house(tmp_path, test)


def test_dots_large_messages_and_prologues(tmp_path: Path) -> None:
    async def test(house: House) -> None:
        dots = b"Subject: dots\r\n\r\n.\r\n..\r\n.x\r\n"
        await house.file(dots, prologue=b"X-First: 1\r\n")
        large = b"Subject: large\r\n\r\n" + b"".join(b".%d\r\n" % n for n in range(200_000))
        await house.file(large)
        client = await house.pop3()
        assert b"\r\n".join([*await client.lines("RETR 1"), b""]) == b"X-First: 1\r\n" + dots
        assert await client.say("LIST 1") == b"+OK 1 %d" % (len(dots) + 12)
        assert b"\r\n".join([*await client.lines("RETR 2"), b""]) == large
        assert await client.lines("TOP 1 1") == [b"X-First: 1", b"Subject: dots", b"", b"."]

    in_house(tmp_path, test)


def test_pipelined_commands(tmp_path: Path) -> None:
    async def test(house: House) -> None:
        await fill(house)
        client = await house.pop3(None)
        await client.send(f"USER {ALICE}\r\nPASS {PASSWORD}\r\n".encode() + b"STAT\r\nRETR 1\r\n" * 200 + b"QUIT\r\n")
        whole = await client.reader.read(-1)
        assert whole.count(message(1) + b".\r\n") == 200
        assert whole.endswith(b"+OK Goodbye\r\n")

    in_house(tmp_path, test)


def test_an_account_that_is_closed_meanwhile(tmp_path: Path) -> None:
    async def test(house: House) -> None:
        await fill(house)
        client = await house.pop3()
        assert (await client.say("DELE 1")).startswith(b"+OK")
        await house.store.write(accounts.set_enabled, house.alice.id, False)
        assert await client.line() == b"-ERR [SYS/PERM] This account is closed"
        assert await client.closed()
        await house.store.write(accounts.set_enabled, house.alice.id, True)
        assert (await (await house.pop3()).say("STAT")).startswith(b"+OK 3 ")

    in_house(tmp_path, test)


def test_how_it_ends(tmp_path: Path) -> None:
    async def test(house: House) -> None:
        client = await house.pop3()
        crowd = await house.pop3(None)
        assert crowd.greeting == b"-ERR [SYS/TEMP] Too many connections; try again later"
        await asyncio.gather(*(server.stop(1) for server in house.servers))
        assert await client.line() == b"-ERR [SYS/TEMP] This server is stopping; try again soon"
        assert await client.closed()

    in_house(tmp_path, test, limits=Limits(connections=1))


def test_who_does_not_log_in_is_let_go(tmp_path: Path) -> None:
    async def test(house: House) -> None:
        client = await house.pop3(None)
        await client.say("CAPA")
        while (line := await client.line()) != b"-ERR You took too long":
            assert line
        assert await client.closed()

    in_house(tmp_path, test, login_timeout=0.1)


def test_a_flood_of_words_buys_no_time_either(tmp_path: Path) -> None:
    async def test(house: House) -> None:
        client = await house.pop3(None)
        await client.flood(b"CAPA\r\n")

    in_house(tmp_path, test, login_timeout=0.1)


def test_a_store_that_cannot_write_now(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """RFC 1939 §6: the session ends, and the client hears that messages were not removed."""

    async def test(house: House) -> None:
        await fill(house)
        client = await house.pop3()

        async def fails(*args: object, **kwargs: object) -> None:
            raise StoreUnavailable("disk full")

        with monkeypatch.context() as patch:
            patch.setattr(house.store, "read", fails)
            assert (await client.say("RETR 1")).startswith(b"-ERR [SYS/TEMP] ")
        assert (await client.say("DELE 1")).startswith(b"+OK")
        with monkeypatch.context() as patch:
            patch.setattr(house.store, "write", fails)
            assert (await client.say("QUIT")).startswith(b"-ERR [SYS/TEMP] ")
            assert await client.closed()
        assert (await (await house.pop3()).say("STAT")).startswith(b"+OK 3 ")

    in_house(tmp_path, test)


def test_content_that_the_store_has_lost(tmp_path: Path) -> None:
    async def test(house: House) -> None:
        writer = await house.imap()
        assert (await writer.append(MESSAGE + b"x" * 400_000)).startswith(b"OK")
        assert (await writer.append(MESSAGE)).startswith(b"OK")
        for file in (tmp_path / "blobs").rglob("*"):
            if file.is_file():
                file.unlink()
        client = await house.pop3()
        assert await client.say("RETR 1") == b"-ERR [SYS/PERM] The store has lost this message"
        assert len(await client.lines("RETR 2")) > 3

    in_house(tmp_path, test)
