"""The conversation: logins, limits, and how it ends."""

import asyncio
import imaplib
import socket
import ssl
from collections.abc import Sequence
from pathlib import Path

import pytest

from posthouse.clock import SetClock
from posthouse.directory import accounts
from posthouse.mailbox import reading
from posthouse.mailbox.reading import Wholes
from posthouse.policy.limits import Limits
from posthouse.store.database import Tx
from posthouse.written import Rate
from tests.doors.house import ALICE, MESSAGE, PASSWORD, House, having, in_house, message


def trusting() -> ssl.SSLContext:
    """TLS that does not ask who it is talking to."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def test_imaplib_over_tls(tmp_path: Path) -> None:
    """A client nobody here wrote: over implicit TLS, and by STARTTLS."""

    def use(client: imaplib.IMAP4) -> None:
        client.login(ALICE, PASSWORD)
        assert client.append("INBOX", r"(\Flagged)", None, MESSAGE)[0] == "OK"
        assert client.select("INBOX")[0] == "OK"
        assert (b"1 (BODY[] {%d}" % len(MESSAGE), MESSAGE) in client.fetch("1", "(BODY.PEEK[])")[1]
        assert client.search(None, "FLAGGED")[1] == [b"1"]
        assert client.store("1", "+FLAGS", r"(\Deleted)")[0] == "OK"
        assert client.expunge()[1] == [b"1"]
        assert client.close()[0] == "OK"
        assert client.logout()[0] == "BYE"

    def implicit(port: int) -> None:
        use(imaplib.IMAP4_SSL("127.0.0.1", port, ssl_context=trusting(), timeout=20))

    def upgraded(port: int) -> None:
        client = imaplib.IMAP4("127.0.0.1", port, timeout=20)
        assert "LOGINDISABLED" in client.capabilities
        client.starttls(trusting())
        assert "LOGINDISABLED" not in client.capabilities
        use(client)

    async def test(house: House) -> None:
        await asyncio.to_thread(implicit, house.imaps_port)
        await asyncio.to_thread(upgraded, house.imap_port)

    in_house(tmp_path, test, clear_text_login=False)


def test_octets_sent_ahead_of_tls_end_the_connection(tmp_path: Path) -> None:
    """CVE-2011-0411"""

    async def test(house: House) -> None:
        client = await house.imap(None)
        await client.send(b"a STARTTLS\r\nb NOOP\r\n")
        assert (await client.response()).startswith(b"* BYE ")
        assert await client.closed()

    in_house(tmp_path, test)


def test_too_many_guesses_are_told_so(tmp_path: Path) -> None:
    async def test(house: House) -> None:
        client = await house.imap(None)
        answers = [await client.tagged(f"LOGIN {ALICE} wrong{n}") for n in range(3)]
        assert [answer.split()[1] for answer in answers[:2]] == [b"[AUTHENTICATIONFAILED]"] * 2
        assert answers[2] == b"NO [UNAVAILABLE] Too many failed logins; try again later"

    in_house(tmp_path, test, failures=Rate(2, 600), clock=SetClock())


def test_a_disabled_account_lets_nobody_in_and_shows_everybody_out(tmp_path: Path) -> None:
    async def test(house: House) -> None:
        inside, idle_one = await house.imap(), await house.imap(mailbox=None)
        await house.store.write(accounts.set_enabled, house.alice.id, False)
        for client in (inside, idle_one):
            assert await client.response() == b"* BYE [UNAVAILABLE] This account is closed"
            assert await client.closed()
        late = await house.imap(None)
        assert (await late.tagged(f'LOGIN {ALICE} "{PASSWORD}"')).startswith(b"NO [AUTHORIZATIONFAILED]")
        await house.store.write(accounts.set_enabled, house.alice.id, True)
        await house.imap()

    in_house(tmp_path, test)


def test_a_removed_account_shows_everybody_out(tmp_path: Path) -> None:
    async def test(house: House) -> None:
        inside = await house.imap()
        bob = await house.imap("bob@example.org")
        await house.store.write(accounts.remove, house.alice.id, 0)
        assert (await inside.response()).startswith(b"* BYE ")
        assert await bob.ok("NOOP") == []

    in_house(tmp_path, test)


def test_who_does_not_log_in_is_let_go(tmp_path: Path) -> None:
    async def test(house: House) -> None:
        client = await house.imap(None)
        assert await client.response() == b"* BYE You took too long"
        assert await client.closed()

    in_house(tmp_path, test, login_timeout=0.1)


@pytest.mark.parametrize(("times", "pause"), [(1, 0.01), (1000, 0.0)], ids=["a word now and then", "a flood"])
def test_words_buy_no_time(tmp_path: Path, times: int, pause: float) -> None:
    async def test(house: House) -> None:
        client = await house.imap(None)
        await client.flood(b"a NOOP\r\n" * times, pause)

    in_house(tmp_path, test, login_timeout=0.1)


def test_a_silent_client_is_let_go(tmp_path: Path) -> None:
    async def test(house: House) -> None:
        # It says nothing behind its login, from which on it has this time.
        client = await house.imap(mailbox=None)
        assert await client.response() == b"* BYE You took too long"
        assert await client.closed()

    in_house(tmp_path, test, idle_timeout=0.1)


def test_too_many_connections_are_sent_away(tmp_path: Path) -> None:
    async def test(house: House) -> None:
        first = await house.imap()
        second = await house.imap(None)
        assert second.greeting == b"* BYE [UNAVAILABLE] Too many connections; try again later"
        assert await second.closed()
        await first.ok("LOGOUT")
        assert await first.closed()
        await house.imap()

    in_house(tmp_path, test, limits=Limits(connections=1))


def test_a_stopping_server_says_goodbye(tmp_path: Path) -> None:
    async def test(house: House) -> None:
        client, idling = await house.imap(), await house.imap()
        await idling.idle()
        await asyncio.gather(*(server.stop(30) for server in house.servers))
        for one in (client, idling):
            assert await one.response() == b"* BYE [UNAVAILABLE] This server is stopping; try again soon"
            assert await one.closed()

    in_house(tmp_path, test)


def test_a_flood_of_commands_is_answered_in_order_and_lets_others_live(tmp_path: Path) -> None:
    async def test(house: House) -> None:
        await house.file()
        flood, other = await house.imap(), await house.imap()
        commands = b"".join(b"f%d %b\r\n" % (n, (b"NOOP", b"FETCH 1 FLAGS", b'LIST "" *')[n % 3]) for n in range(3000))
        flood.writer.write(commands)
        reading = asyncio.create_task(flood.until(b"f2999 "))
        assert await other.ok("FETCH 1 UID")
        assert not reading.done()
        tags = [line.split()[0] for line in await reading if line.startswith(b"f")]
        assert tags == [b"f%d" % n for n in range(3000)]

    in_house(tmp_path, test)


def test_a_client_that_does_not_read_costs_no_more_than_its_buffer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def test(house: House) -> None:
        await house.file(MESSAGE + b"x" * 1_000_000)
        loads: list[Sequence[int]] = []
        load = reading.wholes

        def count(tx: Tx, account: int, emails: Sequence[int]) -> Wholes | None:
            loads.append(emails)
            return load(tx, account, emails)

        monkeypatch.setattr(reading, "wholes", count)
        loop = asyncio.get_running_loop()
        with socket.socket() as slow:
            slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 16)
            slow.setblocking(False)
            await loop.sock_connect(slow, ("127.0.0.1", house.imap_port))
            commands = b"".join(b"s%d FETCH 1 BODY.PEEK[]\r\n" % n for n in range(100))
            await loop.sock_sendall(slow, f'l LOGIN {ALICE} "{PASSWORD}"\r\ni SELECT INBOX\r\n'.encode() + commands)
            other = await house.imap()
            before = -1
            # Until it goes no further.
            while not before == len(loads) > 0:
                before = len(loads)
                for _ in range(100):
                    await other.ok("NOOP")
            assert len(loads) < 30  # what the kernel's buffers hold, and one more
            got = b""
            while b"\r\ns99 OK" not in got:
                got = got[-20:] + await loop.sock_recv(slow, 1 << 20)
        assert len(loads) == 100

    in_house(tmp_path, test)


def test_an_error_of_ours_is_told_and_ends_the_session(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    async def test(house: House) -> None:
        await house.file()
        client = await house.imap()
        monkeypatch.setattr("posthouse.imapd.portions._look", None)
        await client.send(b"a FETCH 1 RFC822.SIZE\r\n")
        assert (await client.response()).startswith(b"* BYE [SERVERBUG] ")
        assert await client.closed()

    in_house(tmp_path, test)


def test_many_messages_are_fetched_in_pieces(tmp_path: Path) -> None:
    async def test(house: House) -> None:
        await asyncio.gather(*(house.file(message(number)) for number in range(1500)))
        client = await house.imap()
        found = await client.ok("FETCH 1:* (UID FLAGS RFC822.SIZE ENVELOPE)")
        assert [line.split()[1] for line in found] == [b"%d" % n for n in range(1, 1501)]
        assert len(await client.ok("FETCH 1:* BODY.PEEK[]")) == 1500
        assert len(having(await client.ok("FETCH 1:* BODY[TEXT]"), rb"FLAGS (\Seen)")) == 1500
        assert having(await client.ok("FETCH 1:* BODY[TEXT]"), b"FLAGS") == []

    in_house(tmp_path, test)
