"""The POP3 door over a real store and real sockets."""

import asyncio
import base64
import poplib
import ssl
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import cast

import pytest

from posthouse import pop3d
from posthouse.clock import SetClock
from posthouse.directory import accounts
from posthouse.mailbox import maildrop
from posthouse.mailbox.maildrop import Drops, Found
from posthouse.message.downgrade import for_ascii
from posthouse.message.octets import Buffer
from posthouse.net.stream import Stream
from posthouse.policy.limits import Limits
from posthouse.store.blobs import INLINE_LIMIT
from posthouse.store.database import StoreUnavailable, Tx
from posthouse.wire import multiline
from posthouse.written import Rate
from tests.doors.house import ALICE, BOB, MESSAGE, PASSWORD, House, Pop3Client, in_house, message, opened
from tests.message.corpus import NAMES, load
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
        assert {b"TOP", b"UIDL", b"RESP-CODES", b"AUTH-RESP-CODE", b"PIPELINING", b"USER", b"STLS"} <= set(found)
        assert {b"UTF8 USER", b"LANG"} <= set(found)
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

        async def after_login(word: bytes) -> tuple[Pop3Client, bytes]:
            """All in one go, so that there is no waiting but behind it."""
            client = await house.pop3(None)
            await client.send(f"USER {ALICE}\r\nPASS {PASSWORD}\r\n".encode() + word + b"\r\n")
            answers = [await client.line() for _ in range(3)]
            return client, answers[-1]

        late, answer = await after_login(b"DELE 1")
        assert answer.startswith(b"+OK")
        assert await late.line() == b"-ERR You took too long"
        broken, answer = await after_login(b"DELE 1")
        assert answer.startswith(b"+OK")
        await broken.close()
        await house.left()
        _, answer = await after_login(b"STAT")
        assert answer.startswith(b"+OK 3 ")

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


def test_uidl_stays_with_an_email_that_is_moved_away_and_back(tmp_path: Path) -> None:
    """RFC 1939 §7: nobody fetches again what somebody sorted twice."""

    async def test(house: House) -> None:
        await fill(house)
        client, other = await house.pop3(), await house.imap()
        before = [line.split()[1] for line in await client.lines("UIDL")]
        await other.ok("MOVE 2 Archive")
        away = await (await house.pop3()).lines("UIDL")
        assert [line.split()[1] for line in away] == [before[0], before[2]]
        await other.ok("SELECT Archive")
        await other.ok("MOVE 1 INBOX")
        back = await (await house.pop3()).lines("UIDL")
        assert [line.split()[1] for line in back] == [before[0], before[2], before[1]]
        # The session that saw it where it was removes it where it is now.
        assert (await client.say("DELE 2")).startswith(b"+OK")
        assert await client.say("QUIT") == b"+OK Goodbye"
        left = await (await house.pop3()).lines("UIDL")
        assert [line.split()[1] for line in left] == [before[0], before[2]]

    in_house(tmp_path, test)


def test_an_email_that_is_placed_twice_is_one_message(tmp_path: Path) -> None:
    async def test(house: House) -> None:
        await fill(house, 2)
        other = await house.imap()
        await other.ok("COPY 1 INBOX")
        await other.ok("COPY 1 Archive")
        client = await house.pop3()
        assert (await client.say("STAT")).startswith(b"+OK 2 ")
        found = [line.split()[1] for line in await client.lines("UIDL")]
        assert len(set(found)) == 2
        assert (await client.say("DELE 1")).startswith(b"+OK")
        assert await client.say("QUIT") == b"+OK Goodbye"
        assert [line.split()[1] for line in await (await house.pop3()).lines("UIDL")] == found[1:]
        # Only the Inbox is POP3's to empty.
        assert b"MESSAGES 1" in b"".join(await other.ok("STATUS Archive (MESSAGES)"))

    in_house(tmp_path, test)


def test_one_session_at_a_time_where_that_is_configured(tmp_path: Path) -> None:
    """RFC 1939 §4, RFC 2449 §8.1.2: the lock goes with the session, however that ends."""

    async def test(house: House) -> None:
        await fill(house)
        first, second, bobs = await house.pop3(), await house.pop3(None), await house.pop3(BOB)
        assert (await bobs.say("STAT")).startswith(b"+OK 0 ")
        for _ in range(2):
            assert await second.say(f"USER {ALICE}") == b"+OK Now the password"
            assert await second.say(f"PASS {PASSWORD}") == b"-ERR [IN-USE] Another session has this maildrop open"
        # Who has not shown a password is not told.
        await second.say(f"USER {ALICE}")
        assert (await second.say("PASS wrong")).startswith(b"-ERR [AUTH]")
        assert await first.say("QUIT") == b"+OK Goodbye"
        assert await first.closed()
        third = await house.pop3()
        await third.close()
        while b"[IN-USE]" in await _login(second):
            await asyncio.sleep(0.01)
        assert (await second.say("STAT")).startswith(b"+OK 3 ")

    in_house(tmp_path, test, drops=Drops(exclusive=True))


def test_a_login_that_fails_behind_the_lock_gives_it_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(house: House) -> None:
        client = await house.pop3(None)

        async def fails(*args: object, **kwargs: object) -> None:
            raise StoreUnavailable("disk full")

        assert b"[IN-USE]" not in await _login(client)
        again = await house.pop3(None)
        assert b"[IN-USE]" in await _login(again)
        assert await client.say("QUIT") == b"+OK Goodbye"
        assert await client.closed()
        with monkeypatch.context() as patch:
            patch.setattr(maildrop, "look", _broken)
            assert b"[SYS/TEMP]" in await _login(again)
        assert (await _login(again)).startswith(b"+OK")

    in_house(tmp_path, test, drops=Drops(exclusive=True))


def _broken(tx: object, account: int) -> None:
    raise StoreUnavailable("the disk is gone")


async def _login(client: Pop3Client) -> bytes:
    assert (await client.say(f"USER {ALICE}")).startswith(b"+OK")
    return await client.say(f"PASS {PASSWORD}")


def test_headers_in_utf8_are_for_those_who_say_so(tmp_path: Path) -> None:
    """RFC 6856 §2.1, RFC 6858."""

    async def test(house: House) -> None:
        octets = "Subject: Grüße\r\nFrom: jürgen@example.org\r\n\r\nKürbis\r\n".encode()
        await house.file(octets, prologue=b"Delivered-To: alice@example.org\r\n")
        plain = await house.pop3()
        assert await plain.lines("RETR 1") == [
            b"Delivered-To: alice@example.org",
            b"Subject: =?utf-8?b?R3LDvMOfZQ==?=",
            b"From: invalid@internationalized-address.invalid",
            b"",
            "Kürbis".encode(),
        ]
        assert (await plain.lines("TOP 1 0"))[-1] == b""
        assert (await plain.say("UTF8")).startswith(b"-ERR")
        knowing = await house.pop3(None)
        assert (await knowing.say("UTF8")).startswith(b"+OK")
        assert (await _login(knowing)).startswith(b"+OK")
        assert b"\r\n".join([*(await knowing.lines("RETR 1"))[1:], b""]) == octets

    in_house(tmp_path, test)


@pytest.mark.parametrize("utf8", [False, True])
def test_sizes_are_those_of_what_is_sent(tmp_path: Path, utf8: bool) -> None:
    """RFC 1939 §11, whatever the message: LIST and STAT, and RETR itself, tell the octets that RETR sends."""
    odd = [
        b"Subject: no end",
        b"Subject: a\n\nbare\nlines\n",
        "Subject: Grüße\n\nKürbis\r\n".encode(),
        b".\r\n..\r\n.",
        b"\r",
        *map(load, NAMES),
        *(load(name).replace(b"\r\n", b"\n") for name in NAMES),
        *(load(name).removesuffix(b"\n").removesuffix(b"\r") for name in NAMES),
    ]

    async def test(house: House) -> None:
        for octets in odd:
            await house.file(octets)
        await house.file(message(1), prologue="Return-Path: <jürgen@example.org>\r\n".encode())
        await house.file(message(2), prologue=b"Return-Path: <bob@example.org>\r\n")
        for _ in range(2):
            client = await house.pop3(None)
            if utf8:
                await client.say("UTF8")
            await _login(client)
            numbers = range(1, len(odd) + 3)
            # One that is asked for by itself before all are.
            single = (await client.say("LIST 3")).split()[1:]
            first = int((await client.say("RETR 5")).split()[1])
            while await client.line() != b".":
                pass
            stated = await client.say("STAT")
            told = [int(line.split()[1]) for line in await client.lines("LIST")]
            sent = [sum(len(line) + 2 for line in await client.lines(f"RETR {number}")) for number in numbers]
            assert told == sent
            assert stated.split()[1:] == [b"%d" % len(sent), b"%d" % sum(sent)]
            assert (single, first) == ([b"3", b"%d" % sent[2]], sent[4])
            for number in (1, 2, len(odd)):
                await client.send(b"RETR %d\r\n" % number)
                assert (await client.line()) == b"+OK %d octets" % sent[number - 1]
                while await client.line() != b".":
                    pass
            await client.close()

    in_house(tmp_path, test)


def test_only_odd_messages_are_looked_at_for_their_sizes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    measured: list[int] = []
    size = multiline.size

    def counted(buffers: Sequence[Buffer]) -> int:
        measured.append(size(buffers))
        return measured[-1]

    monkeypatch.setattr(multiline, "size", counted)
    monkeypatch.setattr(pop3d, "_LARGE", 100)

    async def test(house: House) -> None:
        await fill(house)
        await house.file(b"Subject: a\n\n" + b"b\n" * 100)
        await (await house.pop3()).say("STAT")
        await (await house.pop3()).lines("LIST")
        assert measured == [14 + 300]

    in_house(tmp_path, test)


def test_a_message_that_is_lost_has_a_size_all_the_same(tmp_path: Path) -> None:
    async def test(house: House) -> None:
        await house.file(b"Subject: a\n\nb\n")
        await house.store.write(lambda tx: tx.query("UPDATE blob SET octets = NULL", ()))
        client = await house.pop3()
        assert await client.lines("LIST") == [b"1 14"]
        assert (await client.say("RETR 1")).startswith(b"-ERR [SYS/PERM]")

    in_house(tmp_path, test)


def test_languages(tmp_path: Path) -> None:
    """RFC 6856 §3.2"""

    async def test(house: House) -> None:
        client = await house.pop3(None)
        assert await client.lines("LANG") == [b"i-default Default language", b"en English"]
        for wanted, answer in (("en", b"+OK en "), ("EN-gb", b"+OK en "), ("*", b"+OK i-default "), ("fr", b"-ERR ")):
            assert (await client.say(f"LANG {wanted}")).startswith(answer)

    in_house(tmp_path, test)


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


ODD = [
    message(1),
    b"Subject: dots\r\n\r\n.\r\n..\r\n.x\r\n",
    b".Subject: x\r\n\r\na\r\n",
    b"Subject: large, in a row\r\n\r\n" + b".0123456789\r\n" * 10_000,
    b"Subject: large, in a place\r\n\r\n" + b".0123456789\r\n" * 40_000,
    message(2),
    b"Subject: it would forge\n\na\n.\n+OK\r.\r\n",
    b"Subject: no end\r\n\r\nb",
    "Subject: \u00fc\r\n\r\n.\r\n".encode(),
    b"Subject: NUL \0\r\n\r\n\0\r\n",
    b"",
    message(3),
]


@pytest.mark.parametrize("prologue", [b"", b"X-Way: 1\r\n", b".\r\n"])
def test_messages_that_are_asked_for_together(tmp_path: Path, prologue: bytes) -> None:
    """Whatever they are, and whatever is asked for in between: octet by octet what they are one by one."""

    async def test(house: House) -> None:
        writer = await house.imap()
        for one in ODD:
            if len(one) > INLINE_LIMIT:
                # Delivered by hand it would lie in a row.
                assert (await writer.append(prologue + one)).startswith(b"OK")
            else:
                await house.file(one, prologue=prologue)
        buffers = [for_ascii(prologue, one) for one in ODD]
        answers = [b"+OK %d octets\r\n%b" % (multiline.size(some), b"".join(multiline.whole(some))) for some in buffers]
        missing = b"-ERR There is no such message\r\n"
        places = [*range(12), 4, 5, 6, 0, 11, 10, 1, 2, 2, 3, 5, 6, *range(12)]
        said = [b"RETR %d\r\n" % (place + 1) for place in places]
        told = [answers[place] for place in places]
        others = ("NOOP", "RETR 99", "RETR 1", "TOP 2 1", "DELE 3", "RETR 3", "RETR 4")
        said += [f"{one}\r\n".encode() for one in others]
        told += [b"+OK Still here\r\n", missing, answers[0], answers[1][: answers[1].index(b"\r\n") + 2]]
        told += [b"".join(multiline.top(buffers[1], 1)), b"+OK It will be removed at QUIT\r\n", missing, answers[3]]
        client = await house.pop3()
        await client.send(b"".join(said))
        for expected in told:
            assert await client.reader.readexactly(len(expected)) == expected
        for place, expected in enumerate(answers):
            await client.send(b"RETR %d\r\n" % (place + 1) if place != 2 else b"RSET\r\n")
            expected = expected if place != 2 else b"+OK Nothing will be removed\r\n"
            assert await client.reader.readexactly(len(expected)) == expected

    in_house(tmp_path, test)


def test_a_client_that_reads_nothing_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Small messages, of which it has asked for more than any socket takes."""
    asked: list[int] = []
    waited = asyncio.Event()
    read, drain = maildrop.octets, Stream.drain

    def counted(tx: Tx, account: int, chosen: Sequence[int]) -> Mapping[int, Found]:
        asked.extend(chosen)
        return read(tx, account, chosen)

    async def drained(stream: Stream) -> None:
        if stream.blocked:
            waited.set()
        await drain(stream)

    monkeypatch.setattr(maildrop, "octets", counted)
    monkeypatch.setattr(Stream, "drain", drained)

    async def test(house: House) -> None:
        one = b"Subject: a\r\n\r\n" + b"0123456789abcd\r\n" * 3000
        for _ in range(20):
            await house.file(one)
        client = await house.pop3()
        transport = cast("asyncio.Transport", client.writer.transport)
        transport.pause_reading()
        rounds = 20
        await client.send(b"".join(b"RETR %d\r\n" % number for number in range(1, 21)) * rounds)
        await waited.wait()
        assert len(asked) < 20 * rounds
        transport.resume_reading()
        answer = b"+OK %d octets\r\n%b.\r\n" % (len(one), one)
        for _ in range(20 * rounds):
            assert await client.reader.readexactly(len(answer)) == answer
        assert len(asked) == 20 * rounds

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
        await asyncio.gather(*(server.stop(30) for server in house.servers))
        assert await client.line() == b"-ERR [SYS/TEMP] This server is stopping; try again soon"
        assert await client.closed()

    in_house(tmp_path, test, limits=Limits(connections=1))


def test_who_does_not_log_in_is_let_go(tmp_path: Path) -> None:
    async def test(house: House) -> None:
        client = await house.pop3(None)
        assert await client.line() == b"-ERR You took too long"
        assert await client.closed()

    in_house(tmp_path, test, login_timeout=0.1)


@pytest.mark.parametrize(("times", "pause"), [(1, 0.01), (1000, 0.0)], ids=["a word now and then", "a flood"])
def test_words_buy_no_time(tmp_path: Path, times: int, pause: float) -> None:
    async def test(house: House) -> None:
        client = await house.pop3(None)
        await client.flood(b"CAPA\r\n" * times, pause)

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


def test_what_is_lost_among_others(tmp_path: Path) -> None:
    async def test(house: House) -> None:
        await fill(house)
        await house.store.write(lambda tx: tx.query("UPDATE blob SET octets = NULL WHERE id = 2", ()))
        client = await house.pop3()
        await client.send(b"RETR 1\r\nRETR 2\r\nRETR 3\r\nRETR 2\r\n")
        gone = b"-ERR [SYS/PERM] The store has lost this message\r\n"
        for expected in (_retrieved(1), gone, _retrieved(3), gone):
            assert await client.reader.readexactly(len(expected)) == expected

    in_house(tmp_path, test)


def _retrieved(number: int) -> bytes:
    return b"+OK %d octets\r\n%b.\r\n" % (len(message(number)), message(number))


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
